"""Python lo importa al arrancar si esta carpeta está en PYTHONPATH.

En los kernels, y solo en ellos, el reloj corre CLOCK veces más deprisa que la
máquina: lo que verían en un equipo CLOCK veces más lento. Lo usa
`make test-slow` (tools/slow.py).
"""

import os
import sys
import time

CLOCKS = "perf_counter", "monotonic", "time"


def faster(clock, times: float, one: int):
    """El mismo reloj, acelerado desde ahora; `one`, sus unidades por segundo."""
    start = clock()
    if one == 1:
        return lambda: start + times * (clock() - start)
    return lambda: start + int(times * (clock() - start))


if "ipykernel" in " ".join(sys.orig_argv) and "CLOCK" in os.environ:
    for name in CLOCKS:
        for full, one in ((name, 1), (f"{name}_ns", 10**9)):
            real = getattr(time, full)
            setattr(time, full, faster(real, float(os.environ["CLOCK"]), one))
