"""Unidad 12."""

from functools import partial

from tokenatoken.checks.unit12 import (
    around,
    by_drop,
    check_pages,
    crowd,
    fork,
    leave,
    longest_wait,
    measure,
    owners,
    padding,
    places,
    predict,
    reusable,
    trace,
)
from tokenatoken.scheduler import Request

from . import wrong


def drops_all(pages, request):
    """La deja dos veces."""
    freed = by_drop(pages, request)
    pages.free.update({0: None})
    return freed


def adds_page(pages, request, name):
    other = fork(pages, request, name)
    other.table.append(5)
    return other


def empties(server):
    check_pages(server)
    server.pages.known.clear()


def some_pages(server):
    assert len(server.pages.free) > 2


def single(running, step):
    return running[0]


def outsider(running, step):
    return [Request("otra", [1], 1)]


MUTANTS = {
    "12.1": {
        "solo uno": wrong(lambda p, n: padding(p, n)[0], says="3 cosas"),
        "texto": wrong(lambda p, n: ["a", 1, 2], says="un número"),
        "tanto por ciento": wrong(
            partial(padding, share=lambda a, b: 100 * (1 - b / a))
        ),
        "al revés": wrong(lambda p, n: padding(p, n)[::-1], says="Dibuja"),
        "un paso al menos": wrong(
            partial(padding, steps=lambda p, n: max(p) + max(max(n) - 1, 1))
        ),
    },
    "12.2": {
        "solo nombres": wrong(
            lambda *a: [name for name, _ in owners(*a)], says="pares"
        ),
        "nadie": wrong(lambda *a: [], says="hueco 22"),
        "texto": wrong(
            lambda *a: [(n, str(i)) for n, i in owners(*a)], says="entero"
        ),
        "de más": wrong(lambda *a: owners(*a) + [("eva", 0)], says="eva"),
    },
    "12.3": {
        "de más": wrong(drops_all, says="free"),
        "un número": wrong(lambda p, r: len(leave(p, r)), says="la lista"),
        "nada": wrong(lambda p, r: [], says="users queda"),
        "uno": wrong(
            lambda p, r: leave(p, r)[:1], says="lo que devuelves queda"
        ),
    },
    "12.4": {
        "la misma": wrong(lambda p, r, name: r, says="otra Request"),
        "sin nombre": wrong(
            lambda p, r, name: fork(p, r, "a"), says="el nombre"
        ),
        "una de más": wrong(adds_page, says="la tabla"),
        "la tabla": wrong(lambda p, r, n: [*r.table], says="otra Request"),
    },
    "12.5": {
        "una fila": wrong(lambda s, m: places(s, m)[0], says="filas"),
        "al revés": wrong(lambda s, m: places(s, m).flip(1), says="dos filas"),
        "decimales": wrong(lambda s, m: places(s, m) + 0.5, says="enteros"),
        "transpuesta": wrong(lambda s, m: places(s, m).T, says="filas"),
    },
    "12.6": {
        "nada": wrong(lambda *a: [], says="es [8, 3, 6]"),
        "cuántas": wrong(lambda *a: len(reusable(*a)), says="una lista"),
        "repetida": wrong(lambda *a: reusable(*a) * 2, says="comienzo"),
        "texto": wrong(lambda *a: ["8"], says="enteros"),
        "ordenada": wrong(
            partial(
                reusable,
                key=lambda ids, i, size: (i, *sorted(ids[: (i + 1) * size])),
            )
        ),
        "las dos últimas": wrong(
            partial(
                reusable,
                key=lambda ids, i, size: (
                    i,
                    *ids[max(0, i - 1) * size : (i + 1) * size],
                ),
            )
        ),
        "pegados": wrong(
            partial(
                reusable,
                key=lambda ids, i, size: "".join(
                    map(str, ids[: (i + 1) * size])
                ),
            )
        ),
        "de dos": wrong(lambda written, ids, size: reusable(written, ids, 2)),
    },
    "12.7": {
        "trece": wrong(lambda most: crowd(12), around, says="12 peticiones"),
        "largo": wrong(lambda most: crowd(prompt=300), around, says="se sale"),
        "iguales": wrong(
            lambda most: [Request("a", [1], 1)] * 3, around, says="dos iguales"
        ),
        "números": wrong(lambda most: [1, 2], around, says="lista de Request"),
        "sin lista": wrong(trace, single, says="una lista"),
        "de fuera": wrong(trace, outsider, says="de las que recibe"),
        "la última": wrong(
            trace, lambda running, step: longest_wait(running, step) * 2
        ),
        "los extremos": wrong(
            trace, lambda running, step: [running[-(step % 2)]]
        ),
        "prompt y turnos": wrong(
            trace,
            lambda running, step: (
                [r for r in running if r.pending > 1][:1]
                or [running[step % len(running)]]
            ),
        ),
        "sin mirar most": wrong(
            lambda most: trace(12), around, says="trace(5)"
        ),
    },
    "12.8": {
        "siempre": wrong(lambda s: s.pages.users[0], says="Deja pasar"),
        "cambia": wrong(empties, says="cambia el servidor"),
        "pocas": wrong(some_pages, says="Rechaza uno bueno"),
        "sin mirar": wrong(lambda s: 1, says="None"),
        "toma": wrong(lambda s: s.pages.release(7), says="ya estaba libre"),
    },
    "12.9": {
        "uno": wrong(lambda *a: predict(*a)[0], measure, says="2 cosas"),
        "iguales": wrong(
            lambda *a: predict(*a)[:1] * 2, measure, says="dices"
        ),
        "sin total": wrong(
            predict, lambda *a: measure(*a)[0][:1], says="dos cosas"
        ),
        "de menos": wrong(
            predict,
            lambda s, p, n: measure(s, p, n - 1),
            says="los textos",
        ),
    },
    "12.10": {
        "sin lista": wrong(single, says="una lista"),
        "de fuera": wrong(outsider, says="de las que recibe"),
        "repite": wrong(lambda r, step: r[:1] * 2, says="sin repetir"),
        "la más larga": wrong(
            lambda r, step: [max(r, key=lambda x: x.pending)]
        ),
        "casi": wrong(
            lambda r, step: (
                sorted(r, key=lambda x: -x.pending)[:1]
                if r[-1].pending > 1
                else r
            )
        ),
    },
}
