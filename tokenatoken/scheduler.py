"""Quién pasa por la red en cada paso: admitir, dar páginas, avanzar, retirar.

Planificar paso a paso, y no lote a lote, es la idea de G.-I. Yu y otros,
«Orca» (2022). Aquí no hay ni un tensor: solo listas, números de página y un
reloj.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from . import CourseError
from .generation import greedy
from .pages import Pages, keys_of
from .sampling import is_number, is_whole


@dataclass(eq=False)
class Request:
    """Una petición: `ids` es el prompt y, detrás, lo que se va escribiendo."""

    name: str
    ids: list[int]
    limit: int  # tokens nuevos, como mucho
    arrival: float = 0.0  # segundos desde que arranca el servidor
    choose: Callable = greedy
    table: list[int] = field(default_factory=list)  # sus páginas, por orden
    stored: int = 0  # tokens con K y V guardados
    times: list[float] = field(default_factory=list)  # de cada token nuevo
    stop: str = ""  # por qué acabó

    def __post_init__(self):
        self.ids = list(self.ids or [])
        self.prompt = len(self.ids)

    @property
    def pending(self) -> int:
        return len(self.ids) - self.stored

    @property
    def new(self) -> list[int]:
        return self.ids[self.prompt :]


def prefill_first(running: list[Request], step: int) -> list[Request]:
    """La primera con prompt pendiente; si no hay, todas."""
    return [r for r in running if r.pending > 1][:1] or running


def in_turns(running: list[Request], step: int) -> list[Request]:
    """Un trozo de un prompt y un token de las demás, por turnos."""
    ready = [r for r in running if r.pending == 1]
    return ready if ready and step % 2 else prefill_first(running, step)


class Scheduler:
    """Reparte `pages` páginas de `size` tokens entre peticiones.

    Cada `step()` admite las que caben (`most` a la vez); `policy(running,
    step)` elige cuáles pasan por la red, con hasta `chunk` tokens cada una; y
    retira las que acaban. Si faltan páginas, la última en entrar devuelve las
    suyas y volverá a empezar. `reuse`: aprovechar páginas ya escritas con el
    mismo comienzo. Qué se escribe y cuánto tarda lo dice `compute`.
    """

    ends = frozenset()

    def __init__(
        self,
        *,
        pages: int = 64,
        size: int = 16,
        chunk: int = 64,
        most: int = 8,
        policy: Callable = in_turns,
        reuse: bool = True,
    ):
        for name, value in {"chunk": chunk, "most": most}.items():
            if not is_whole(value) or value < 1:
                raise CourseError(f"{name}={value!r} no vale: 1 o más.")
        self.pages, self.reuse = Pages(pages, size), reuse
        self.chunk, self.most, self.policy = chunk, most, policy
        self.waiting, self.running, self.done = [], [], []
        self.names, self.log = set(), []

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // self.pages.size)

    def submit(self, request: Request) -> None:
        """La pone a la cola, o `ValueError` si no podría acabar nunca."""
        self.check(request)
        self.names.add(request.name)
        self.waiting.append(request)

    def check(self, request: Request, others=()) -> None:
        limit, most = request.limit, len(request.ids)
        if request.name in self.names.union(r.name for r in others):
            raise CourseError(f"Ya hay una petición «{request.name}».")
        if request.stop or request.times or request.table:
            raise CourseError(
                f"«{request.name}» ya pasó por un servidor: crea otra."
            )
        whole = all(is_whole(token) for token in request.ids)
        if not whole or not is_number(request.arrival):
            raise CourseError(
                f"«{request.name}»: ids es una lista de enteros, y arrival, "
                "los segundos hasta que llega."
            )
        if not request.ids:
            raise CourseError(f"«{request.name}» no trae ningún token.")
        if not is_whole(limit) or limit < 1:
            raise CourseError(f"limit={limit!r} no vale: 1 token o más.")
        need, there = self.pages_for(most + limit), len(self.pages.users)
        if need > there:
            raise CourseError(
                f"«{request.name}» puede llegar a {most + limit} tokens, "
                f"{need} páginas, y en total hay {there}. Pide menos tokens o "
                "crea el servidor con más páginas."
            )

    def admit(self) -> None:
        """Entran por orden, mientras quepa lo que traen escrito y quede una
        página para cada una de las que ya están."""
        while self.waiting and len(self.running) < self.most:
            request, pages = self.waiting[0], self.pages
            found = pages.find(request.ids) if self.reuse else []
            need = self.pages_for(len(request.ids)) - len(found)
            kept = sum(not pages.users[page] for page in found)
            if need + kept + len(self.running) > len(pages.free):
                return
            request.table = [pages.share(page) for page in found]
            request.table += [pages.take() for _ in range(need)]
            request.stored = len(found) * pages.size
            self.running.append(self.waiting.pop(0))

    def step(self) -> None:
        """Un forward: quién pasa, qué escribe y quién acaba."""
        self.admit()
        work = self.chosen()
        for request in work:
            if self.reuse and request.pending > 1:
                self.adopt(request)
        work = self.make_room(work)
        if not work:
            return
        m = min(self.chunk, *(r.pending for r in work))
        begin, tokens = self.clock(), self.compute(work, m)
        now = self.clock()
        self.log.append((begin, now, m, [r.name for r in work]))
        for request, token in zip(work, tokens):
            if not request.stop:  # su choose ha fallado
                self.advance(request, m, token, now)

    def chosen(self) -> list[Request]:
        work = self.policy(list(self.running), len(self.log))
        strange = [r for r in work or [None] if r not in self.running]
        if strange or len(set(work)) < len(work):
            raise CourseError(
                "policy tiene que devolver una o más de las peticiones en "
                "marcha que recibe, sin repetir: si no, nadie avanza."
            )
        return work

    def adopt(self, request: Request) -> None:
        """Lo que otra ya ha escrito de su prompt, compartido."""
        found, size = self.pages.find(request.ids), self.pages.size
        for place in range(request.stored // size, len(found)):
            self.pages.share(found[place])
            self.pages.release(request.table[place])
            request.table[place] = found[place]
        request.stored = max(request.stored, len(found) * size)

    def make_room(self, work: list[Request]) -> list[Request]:
        """Página propia para cada una; si faltan, sale la última en entrar."""
        for request in work:
            place = request.stored // self.pages.size
            while request in self.running:
                if self.pages.own(request.table, place, self.copy):
                    break
                self.waiting.insert(0, self.leave(self.running[-1]))
        return [request for request in work if request in self.running]

    def advance(self, request, m: int, token: int, now: float) -> None:
        """Apunta lo guardado; si ya no debe nada, escribe `token`."""
        before, size = request.stored // self.pages.size, self.pages.size
        request.stored += m
        if request.stored // size > before:  # ha llenado una página
            keys = keys_of(request.ids[: request.stored], size)
            for page, key in zip(request.table, keys):
                self.pages.remember(page, key)
        if request.pending:
            return
        request.ids.append(token)
        request.times.append(now)
        if token in self.ends:
            self.finish(request, "token de fin")
        elif len(request.new) >= request.limit:
            self.finish(request, "máximo de tokens")

    def leave(self, request: Request) -> Request:
        """Devuelve sus páginas; lo escrito se queda en `ids`."""
        self.pages.drop(request.table)
        request.stored = 0
        group = self.running if request in self.running else self.waiting
        group.remove(request)
        return request

    def finish(self, request: Request, why: str) -> None:
        request.stop = why
        self.done.append(self.leave(request))

    def cancel(self, name: str) -> None:
        """La retira, esté en la cola o a medias; lo escrito no se pierde."""
        self.finish(self.named(name, self.waiting + self.running), "cancelada")

    def fork(self, name: str, new: str, choose: Callable = greedy) -> None:
        """Otra, `new`, que sigue por su cuenta desde donde va `name`. Comparten
        las páginas; quien vaya a escribir en una compartida la copia antes."""
        ready = [r for r in self.running if r.pending == 1]
        old = self.named(name, ready)
        if new in self.names or len(self.running) >= self.most:
            raise CourseError(
                f"«{new}» no puede entrar: o ya hay una petición con ese "
                f"nombre, o ya van {self.most} a la vez."
            )
        other = Request(new, old.ids, old.limit, old.arrival, choose)
        other.prompt, other.stored = old.prompt, old.stored
        other.times = list(old.times)
        other.table = [self.pages.share(page) for page in old.table]
        self.names.add(new)
        self.running.append(other)

    def named(self, name: str, group: list[Request]) -> Request:
        for request in group:
            if request.name == name:
                return request
        raise CourseError(
            f"Ahora no hay ninguna petición «{name}» a la que hacerle eso: no "
            "se ha pedido, ha acabado, se canceló o aún lee su prompt."
        )

    def run(self, requests=()) -> list[Request]:
        """Cada una llega a su hora; hasta acabar con todas, que devuelve."""
        late = list(requests)
        for i, request in enumerate(late):  # antes de empezar
            self.check(request, late[:i])
        late.sort(key=lambda request: request.arrival)
        while late or self.waiting or self.running:
            while late and late[0].arrival <= self.clock():
                self.submit(late.pop(0))
            if self.waiting or self.running:
                self.step()
            elif late:
                self.wait(late[0].arrival)
        return self.done
