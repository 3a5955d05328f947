"""Ejecuta una orden como en un equipo lento y ocupado.

    python -m tools.slow [--clock 3] [--busy 2] -- make test

En los kernels el reloj corre `--clock` veces más deprisa que la máquina
(tests/slow/sitecustomize.py), y `--busy` procesos, uno por núcleo si no se
dice, ocupan la CPU mientras dura la orden. Nada debería cambiar de color.
"""

import os
import subprocess
import sys

from . import ROOT, parser

SPIN = "import os\nwhile os.getppid() == {}: sum(range(10**6))"


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--clock", default="3")
    options.add_argument("--busy", type=int, default=os.cpu_count())
    options.add_argument("order", nargs="+")
    chosen = options.parse_args()
    path = os.environ.get("PYTHONPATH")
    places = [str(ROOT / "tests" / "slow"), *([path] if path else [])]
    env = os.environ | {"CLOCK": chosen.clock}
    env["PYTHONPATH"] = os.pathsep.join(places)
    spin = [sys.executable, "-c", SPIN.format(os.getpid())]
    busy = [subprocess.Popen(spin) for _ in range(chosen.busy)]
    try:
        return subprocess.run(chosen.order, env=env).returncode
    finally:
        for process in busy:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
