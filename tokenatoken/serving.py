"""El planificador, con un modelo: muchas peticiones a la vez, y cada una
escribe lo que escribiría sola.

Es una lección: no sabe nada de tokenizadores ni de HTTP.
"""

import time
from collections.abc import Callable

import torch

from .cache import make_cache
from .forward import check_ids, forward
from .generation import check_length, end_ids
from .pages import PagedLayer, aim, copy_page, slots
from .scheduler import Request, Scheduler


class Server(Scheduler):
    """`Server(model, pages=64, size=16, chunk=64, most=8, policy=in_turns,
    reuse=True)`: lo mismo que `Scheduler`, y además escribe.

    La memoria se reserva al empezar: páginas × size tokens de K y V.
    """

    def __init__(self, model, **options):
        super().__init__(**options)
        self.model, self.ends = model, end_ids(model)
        room = len(self.pages.users) * self.pages.size
        self.cache = make_cache(model, PagedLayer, room=room)
        self.begin = time.perf_counter()

    def clock(self) -> float:
        return time.perf_counter() - self.begin

    def wait(self, until: float) -> None:
        time.sleep(max(0.0, until - self.clock()))

    def check(self, request: Request, others=()) -> None:
        super().check(request, others)
        check_ids(self.model, torch.tensor([request.ids]))
        check_length(self.model, len(request.ids), request.limit)

    def copy(self, old: int, new: int) -> None:
        copy_page(self.cache, old, new, self.pages.size)

    @torch.inference_mode()
    def compute(self, work: list[Request], m: int) -> list[int]:
        """Pasa por la red `m` tokens de cada una; el siguiente de cada una, o
        None si aún le queda prompt."""
        size, device = self.pages.size, self.model.device
        rows = [slots(r.table, size, r.stored + m) for r in work]
        mask = aim(self.cache, rows, m, device)
        ids = [r.ids[r.stored : r.stored + m] for r in work]
        ids = torch.tensor(ids, device=device)  # [B, m]
        logits = forward(self.model, ids, self.cache, mask)  # [B, V]
        return [
            self.pick(r, row) if r.pending == m else None
            for r, row in zip(work, logits.split(1))
        ]

    def pick(self, request: Request, logits: torch.Tensor) -> int | None:
        """El token que elige; si falla, la petición acaba diciendo por qué, y
        las demás siguen."""
        written = torch.tensor([request.ids], device=logits.device)
        try:
            token = int(request.choose(logits, written))
            if 0 <= token < logits.shape[-1]:
                return token
            why = f"choose ha elegido el id {token}, que no existe"
        except Exception as error:
            why = f"choose ha fallado: {error}"
        return self.finish(request, why)


class Rehearsal(Scheduler):
    """Un ensayo sin modelo: un forward de `m` tokens de `rows` peticiones dura
    `cost(rows, m)` segundos, y lo que se escribe es siempre el id 0."""

    def __init__(self, cost: Callable, **options):
        super().__init__(**options)
        self.cost, self.now = cost, 0.0

    def clock(self) -> float:
        return self.now

    def wait(self, until: float) -> None:
        self.now = until

    def copy(self, old: int, new: int) -> None:
        pass

    def compute(self, work: list[Request], m: int) -> list[int]:
        self.now += self.cost(len(work), m)
        return [0] * len(work)
