"""Corrección del laboratorio 12 · Muchas peticiones a la vez.

La verdad sale de la aritmética, de recorrer los huecos uno a uno, de `Pages`,
de ensayos con reloj de mentira y, en 12.9, de lo que el modelo escribe solo.
"""

import math
import random
from functools import cache, partial
from itertools import count

import numpy as np
import torch

from .. import CourseError
from ..pages import Pages, keys_of
from ..scheduler import Request, in_turns, prefill_first
from ..serving import Rehearsal, Server
from .bench import random_ids, tiny_model
from .kit import (
    ASSERTS,
    Hint,
    Part,
    as_int,
    call,
    exercise,
    expect,
    number,
    plain,
    returning,
    say,
    verdicts,
)


def _numbers(n, what):
    def read(value, *_):
        value = plain(value)
        expect(
            isinstance(value, list | tuple) and len(value) == n,
            f"Devuelve {n} cosas: {what}.",
        )
        return [number(v) for v in value]

    return read


# 12.1


def padding(
    prompts,
    news,
    steps=lambda p, n: max(p) + max(n) - 1,
    need=lambda p, n: p + n - 1,
    share=lambda total, useful: 1 - useful / total,
):
    """Una respuesta de 12.1; sus opciones la estropean."""
    total = len(prompts) * steps(prompts, news)
    useful = sum(need(p, n) for p, n in zip(prompts, news))
    return total, useful, share(total, useful)


def by_grid(prompts, news):
    """Con una casilla por lugar y fila."""
    long, last = max(prompts), max(news) - 1
    grid = np.zeros((len(prompts), long + last), bool)
    for row, p, n in zip(grid, prompts, news):
        row[long - p : long + n - 1] = True
    return np.array([grid.size, grid.sum(), (~grid).mean()])


slip = partial(partial, padding)
exercise(
    "12.1",
    Part(
        [
            ([10, 40, 20], [5, 30, 60]),
            ([7, 7], [3, 3]),
            ([100, 1, 1, 1], [1, 1, 1, 20]),
            ([12], [8]),
            ([30, 50, 5, 9, 80], [40, 2, 2, 10, 1]),
            ([3, 5], [1, 1]),
        ],
        truth=lambda *case: [*map(float, padding(*case))],
        read=_numbers(3, "las que pasan, las útiles y la fracción perdida"),
        said=lambda ours, right, *case: say(
            "Con prompts de {0} y {1} nuevos dices {2:.4g}, y es {3:.4g}.",
            *case,
            ours,
            right,
        ),
        otherwise="Dibuja el lote: una fila por petición, una columna por "
        "lugar, y tacha las casillas de relleno y las de quien ya acabó.",
        traps={
            "El prefill ya da el primer token: quien escribe n hace n − 1 "
            "pasos más.": [
                slip(
                    steps=lambda p, n: max(p) + max(n),
                    need=lambda p, n: p + n,
                ),
                slip(steps=lambda p, n: max(p) + max(n)),
                slip(need=lambda p, n: p + n),
            ],
            "El prompt más largo y el texto más largo pueden ser de filas "
            "distintas: cada máximo va por su lado.": slip(
                steps=lambda p, n: max(map(sum, zip(p, n))) - 1
            ),
            "Falta el decode: una fila acabada sigue pasando hasta que acaba "
            "la última.": slip(steps=lambda p, n: max(p), need=lambda p, n: p),
            "Falta el prefill: el relleno de los prompts también pasa.": slip(
                steps=lambda p, n: max(n) - 1 or 1, need=lambda p, n: n - 1
            ),
            "Esa es la fracción útil; se pide la perdida.": slip(
                share=lambda total, useful: useful / total
            ),
            "Divides lo perdido entre lo útil: divídelo entre todo lo que "
            "pasa.": slip(share=lambda total, useful: total / useful - 1),
        },
        rights=[padding, by_grid],
    ),
    success="¡Correcto! Ya sabes cuánto trabajo tira un lote estático.",
)


# 12.2


def owners(
    tables,
    stored,
    size,
    slot,
    split=divmod,
    place=lambda i, size, rest, slot: i * size + rest,
    written=lambda at, n: at < n,
    most=None,
):
    """Una respuesta de 12.2; sus opciones la estropean."""
    page, rest = split(slot, size)
    found = []
    for name, table in tables.items():
        for i, other in enumerate(table):
            at = place(i, size, rest, slot)
            if other == page and written(at, stored[name]):
                found.append((name, at))
    return found[:most]


def by_every_slot(tables, stored, size, slot):
    """Escribiendo el hueco de cada token de cada una."""
    held = {}
    for name, table in tables.items():
        for at in range(stored[name]):
            here = table[at // size] * size + at % size
            held.setdefault(here, []).append([name, at])
    return held.get(slot, [])[::-1]


TABLES = {"ana": [7, 2], "blas": [7, 0, 5], "cruz": [3], "dora": [7, 2, 4]}
STORED = {"ana": 6, "blas": 11, "cruz": 1, "dora": 9}
EIGHT = (
    {"eva": [3, 1], "feo": [6, 0, 2], "gil": [3, 5]},
    {
        "eva": 16,  # la última, llena
        "feo": 5,  # las otras dos, reservadas
        "gil": 9,
    },
)


def _pairs(value, *_):
    value = plain(value)
    value = [*value.items()] if isinstance(value, dict) else value
    shape = "Devuelve una lista de pares (nombre, posición), o una vacía."
    expect(isinstance(value, list | tuple | set), shape)
    for pair in value:
        expect(isinstance(pair, list | tuple) and len(pair) == 2, shape)
    return sorted(
        [str(name), as_int(at, "La posición en el texto es un entero.")]
        for name, at in value
    )


slip = partial(partial, owners)
exercise(
    "12.2",
    Part(
        [
            (TABLES, STORED, 4, slot)
            for slot in (22, 28, 9, 10, 11, 12, 13, 16, 17, 26, 0, 31, 5)
        ]
        + [(*EIGHT, 8, slot) for slot in (15, 31, 48, 53, 0, 40, 41)],
        truth=lambda *case: sorted(map(list, owners(*case))),
        read=_pairs,
        said=lambda ours, right, tables, stored, size, slot: (
            f"En el hueco {slot}, con páginas de {size}, dices {ours}, y es "
            f"{right}."
        ),
        otherwise="Haz a mano un hueco: qué página es, en qué lugar de cada "
        "tabla está, y si ya se ha escrito.",
        traps={
            "Ese es el hueco: su posición en el texto depende del lugar que "
            "ocupa la página en la tabla.": slip(
                place=lambda i, size, rest, slot: slot
            ),
            "Cuentas desde el comienzo de la página: delante van las "
            "anteriores de su tabla.": slip(
                place=lambda i, size, rest, slot: rest
            ),
            "Una página puede estar en varias tablas: da todas.": slip(most=1),
            "Ese hueco es de la página, pero aún no se ha escrito: mira "
            "stored.": slip(written=lambda at, n: True),
            "Con n guardados, las posiciones van de 0 a n − 1.": [
                slip(written=lambda at, n: at <= n),
                slip(place=lambda i, size, rest, slot: i * size + rest + 1),
            ],
            "La página es el cociente entre size, y el lugar, el resto.": slip(
                split=lambda slot, size: divmod(slot, size)[::-1]
            ),
        },
        rights=[owners, by_every_slot],
    ),
    success="¡Correcto! De un hueco, a todos sus dueños.",
)


# 12.3

HOLD = {"a": [0, 1], "b": [0, 1, 2], "c": [0]}


def leave(
    pages,
    request,
    frees=lambda users: users == 0,
    down=1,
    clear=True,
    again=False,
):
    """Una respuesta de 12.3; sus opciones la estropean."""
    freed = []
    for page in request.table:
        pages.users[page] -= down
        if frees(pages.users[page]):
            freed.append(page)
    if not again:
        pages.free.update(dict.fromkeys(freed))
    if clear:
        request.table.clear()
    return freed


def by_drop(pages, request):
    before = set(pages.free)
    pages.drop(request.table)
    return tuple(set(pages.free) - before)


def _leaving(function, order):
    """Lo que se ve después de que cada una se vaya."""
    pages, seen = Pages(6, 4), []
    requests = {n: Request(n, [1] * 9, 3) for n in HOLD}
    for name, table in HOLD.items():
        requests[name].table = [*table]
        for page in table:
            pages.share(page)
            pages.remember(page, b"%d" % page)
    for name in order:
        freed = plain(call(function, pages, requests[name]))
        expect(
            isinstance(freed, list | tuple | set | dict),
            "Devuelve la lista de las que han quedado libres.",
        )
        seen.append(
            [
                name,
                [*pages.users],
                sorted(pages.free),
                [*requests[name].table],
                sorted(freed),
                [*pages.known.items()],
            ]
        )
    return seen


def _left_said(ours, right, order):
    us, good = next((a, b) for a, b in zip(ours, right) if a != b)
    names = "", "users", "free", "su tabla", "lo que devuelves", "known"
    i = next(i for i in range(6) if us[i] != good[i])
    return (
        f"Tablas: {HOLD}. Cuando se va «{us[0]}», {names[i]} queda en {us[i]}"
        f" y tenía que ser {good[i]}."
    )


slip = partial(partial, leave)
exercise(
    "12.3",
    Part(
        ["abc", "bca", "cab"],
        truth=lambda *order: _leaving(by_drop, order),
        observe=lambda function, *order: _leaving(function, order),
        said=lambda ours, right, *order: _left_said(ours, right, order),
        otherwise="Síguela a mano con dos peticiones que comparten la "
        "página 0.",
        traps={
            "Dejas libre una página que otra petición aún usa: escribirán en "
            "ella.": slip(frees=lambda users: True),
            "Si le queda un usuario, todavía es de alguien.": slip(
                frees=lambda users: users <= 1
            ),
            "La página sin nadie no vuelve a las libres: se pierde.": [
                slip(frees=lambda users: False),
                slip(again=True),
            ],
            "Se va una, y users no baja: nadie sabrá cuándo está libre.": slip(
                down=0, frees=lambda users: users == 1
            ),
            "La petición conserva su tabla, con páginas que ya no son "
            "suyas.": slip(clear=False),
        },
        rights=[leave, by_drop],
    ),
    success="¡Correcto! Se va una, y las demás no lo notan.",
)


# 12.4


def fork(
    pages, request, name, table=list, share=True, stored=True, prompt=True
):
    """Una respuesta de 12.4; sus opciones la estropean."""
    other = Request(name, request.ids, request.limit)
    other.prompt = request.prompt if prompt else other.prompt
    other.stored = request.stored if stored else 0
    other.table = table(request.table)
    for page in other.table if share else ():
        pages.users[page] += 1
    return other


def by_share(pages, request, name):
    other = Request(name, request.ids[: request.prompt], request.limit)
    other.ids.extend(request.new)
    other.stored = request.stored
    other.table += map(pages.share, request.table)
    return other


def _forked(function, n, new):
    pages = Pages(6, 4)
    request = Request("a", range(1, n + 1), 9)
    request.ids += [0] * new
    request.stored = len(request.ids) - 1
    count = -(-request.stored // 4)
    request.table = [pages.take() for _ in range(count)][::-1]
    other = call(function, pages, request, "b")
    expect(
        isinstance(other, Request) and other is not request,
        "Devuelve otra Request, la bifurcada.",
    )
    seen = {
        "el nombre": other.name,
        "los ids": [*other.ids],
        "el prompt": other.prompt,
        "stored": other.stored,
        "la tabla": [*other.table],
        "users": [*pages.users],
        "limit": other.limit,
        "free": sorted(pages.free),
        "la primera": [request.name, request.stored, request.limit],
    }
    other.table.append(5), other.ids.append(7)
    seen["la tabla de la primera al crecer la segunda"] = [*request.table]
    seen["los ids de la primera al crecer la segunda"] = [*request.ids]
    return seen


def _forked_said(ours, right, *case):
    which = next(key for key in right if ours[key] != right[key])
    return f"Queda mal {which}: {ours[which]}, y tenía que ser {right[which]}."


slip = partial(partial, fork)
exercise(
    "12.4",
    Part(
        [(6, 2), (9, 1), (4, 5)],
        truth=partial(_forked, by_share),
        observe=_forked,
        said=_forked_said,
        otherwise="Imprime las dos peticiones y users, antes y después.",
        traps={
            "Las dos tienen la misma lista, no dos iguales: la página que "
            "añade una le aparece a la otra.": slip(table=lambda table: table),
            "Hay uno más en cada página, y users no lo sabe: cuando acabe una, "
            "la otra se queda sin memoria.": slip(share=False),
            "Sin stored, volverá a leer un prompt que ya está guardado.": slip(
                stored=False
            ),
            "Lo que la primera había escrito pasa a ser prompt de la segunda.": (
                slip(prompt=False)
            ),
            "Sin las páginas de la primera, la segunda no tiene K ni V de lo "
            "ya leído.": slip(table=lambda table: []),
        },
        rights=[fork, by_share],
    ),
    success="¡Correcto! Comparten páginas, y cada una lleva su tabla.",
)


# 12.5


def places(stored, m, start=lambda stored: stored, step=1, first=0):
    """Una respuesta de 12.5; sus opciones la estropean."""
    begin = torch.tensor(start(stored)).expand(len(stored))
    return begin[:, None] + first + step * torch.arange(m)


def by_ranges(stored, m):
    return [[*range(n, n + m)] for n in stored]


def _grid(value, stored, m):
    value = plain(value)
    shape = f"Hacen falta {len(stored)} filas de {m} posiciones."
    expect(
        isinstance(value, list | tuple) and len(value) == len(stored), shape
    )
    for row in value:
        expect(isinstance(plain(row), list | tuple) and len(row) == m, shape)
    hint = "Las posiciones son enteros."
    return [[as_int(v, hint) for v in plain(row)] for row in value]


slip = partial(partial, places)
exercise(
    "12.5",
    Part(
        [([9], 1), ([3, 8], 1), ([5, 0, 12], 2), ([4, 4], 3), ([6, 2], 4)],
        truth=by_ranges,
        read=_grid,
        said=lambda ours, right, stored, m: (
            f"Con {stored} guardados y {m} por fila, dices {ours}, y es "
            f"{right}."
        ),
        otherwise="Haz a mano dos filas, una con 3 guardados y otra con 8.",
        traps={
            "Sola acierta y acompañada no: la posición sale de la fila más "
            "larga del lote, y cada petición tiene la suya.": slip(
                start=lambda stored: [max(stored)]
            ),
            "Todas las filas empiezan donde la primera: cada petición tiene "
            "su cuenta.": slip(start=lambda stored: stored[:1]),
            "Empiezas en 0: los tokens nuevos van detrás de lo guardado.": slip(
                start=lambda stored: [0]
            ),
            "Con 3 guardados, las posiciones 0, 1 y 2 están ocupadas: el "
            "siguiente va en la 3.": [slip(first=1), slip(first=-1)],
            "Los tokens de una fila van seguidos: no pueden estar en la misma "
            "posición.": slip(step=0),
        },
        rights=[places, by_ranges],
    ),
    success="¡Correcto! Cada petición lleva su propia cuenta.",
)


# 12.6


def reusable(
    written,
    ids,
    size,
    key=lambda ids, i, size: tuple(ids[: (i + 1) * size]),
    full=lambda n, size: n // size,
    usable=lambda n, size: (n - 1) // size,
    texts=slice(None),
    most=None,
):
    """Una respuesta de 12.6; sus opciones la estropean."""
    known, found = {}, []
    for text, table in written[texts]:
        for i, page in enumerate(table[: full(len(text), size)]):
            known.setdefault(key(text, i, size), page)
    for i in range(usable(len(ids), size)):
        page = known.get(key(ids, i, size))
        if page is None:
            break
        found.append(page)
    return found[:most]


def by_pages(written, ids, size):
    """Con las claves encadenadas de la biblioteca."""
    pages = Pages(64, size)
    for text, table in written:
        for page, k in zip(table, keys_of(text, size)):
            pages.remember(page, k)
    return pages.find(ids)


WRITTEN = [
    ([1, 2, 3, 4, 9, 9, 5], [8, 3, 6, 7]),
    ([7, 7, 3, 4, 9, 9], [5, 1, 2]),
    ([1, 2, 8, 8, 9, 9, 6, 6, 4], [8, 4, 10, 11, 12]),
]


def _pages_read(value, *_):
    value = plain(value)
    expect(
        isinstance(value, list | tuple),
        "Devuelve una lista de páginas, o una vacía.",
    )
    return [
        as_int(plain(v), "Las páginas son números enteros.") for v in value
    ]


slip = partial(partial, reusable)
exercise(
    "12.6",
    Part(
        [
            (WRITTEN, ids, 2)
            for ids in (
                [1, 2, 3, 4, 9, 9, 1],
                [7, 7, 3, 4, 1, 1],
                [3, 4, 9, 9, 1],
                [1, 2, 9, 9, 6, 6, 4],
                [1, 2, 3, 4, 9, 9],
                [1, 2, 3, 4, 9, 9, 5, 5],
                [1, 2, 8, 8, 9, 9, 6, 6, 4, 2, 1],
                [1, 2],
                [5, 6, 7],
                [7, 7, 8, 8, 9, 9, 1],
                [7, 7, 3, 4, 9, 9, 1],
            )
        ]
        + [
            ([([1, 2, 3, 4], [0, 1])], [2, 1, 3, 4, 9], 2),
            ([([1, 23], [0])], [12, 3, 4], 2),
            (
                [([1, 4, 3, 3], [0, 1]), ([2, 3, 5, 5], [2, 3])],
                [2, 3, 3, 3, 9],
                2,
            ),
            ([([1, 2], [0])], [1, 3, 4], 2),
            ([([1, 2, 3, 4, 5, 6], [4, 2])], [1, 2, 9, 4, 5, 6, 7], 3),
        ],
        truth=by_pages,
        read=_pages_read,
        said=lambda ours, right, written, ids, size: (
            f"Para {ids}, con páginas de {size}, das {ours}, y es {right}."
        ),
        otherwise="Compara el comienzo de los dos textos, token a token, "
        "hasta el final de cada página.",
        traps={
            "Aprovechas una página con los mismos tokens y otro comienzo: su "
            "K y su V dependen de todo lo anterior.": slip(
                key=lambda ids, i, size: tuple(ids[i * size :][:size])
            ),
            "El mismo lugar y los mismos tokens no bastan: lo de delante "
            "también cuenta.": slip(
                key=lambda ids, i, size: (i, *ids[i * size :][:size])
            ),
            "El último token tiene que pasar por la red: sin forward no hay "
            "logits.": slip(usable=lambda n, size: n // size),
            "El comienzo común puede ocupar más de una página.": slip(most=1),
            "Buscas en un solo texto, y hay varios escritos.": [
                slip(texts=slice(1)),
                slip(texts=slice(-1, None)),
            ],
        },
        rights=[reusable, by_pages],
    ),
    success="¡Correcto! La clave de una página es todo su comienzo.",
)


# 12.7 y 12.10: políticas


RUNS = count()


class _Queue(list):
    """Una lista que `call` no copia: las peticiones son las de verdad."""


CHANGED = "La política solo elige: no cambies las peticiones."


def _state(r):
    whole = [*r.ids], r.prompt, r.limit, r.arrival, r.name
    return *whole, r.stored, [*r.table], [*r.times], r.stop


def guarded(answer):
    """La política de quien estudia, vigilada."""

    def policy(running, step):
        before = [_state(r) for r in running]
        work = call(answer, _Queue(running), step)
        expect(
            isinstance(work, list | tuple)
            and len(work) > 0
            and all(sum(r is x for x in running) == 1 for r in work)
            and len({*map(id, work)}) == len(work),
            "La política devuelve una lista con una o más de las que recibe, "
            "sin repetir.",
        )
        same = before == [_state(r) for r in running]
        expect(same, f"En el paso {step} cambias algo. {CHANGED}")
        return list(work)

    return policy


def shortest(running, step):
    return [min(running, key=lambda r: r.pending)]


def alone(prompt, limit):
    """Los pasos de una petición sin compañía, con trozos de 64."""
    return -(-prompt // 64) + limit - 1


def _second(rows, m):
    return 1.0


def waits(requests, policy):
    """Cuántas veces su tiempo justo tarda cada una, y el ensayo."""
    server = Rehearsal(
        _second, policy=policy, pages=256, chunk=64, most=12, reuse=False
    )
    run = next(RUNS)  # nombres nuevos, por si la política recuerda
    fresh = [
        Request(f"{run}-{r.name}", [1] * r.prompt, r.limit, r.arrival)
        for r in requests
    ]
    server.run(fresh)
    n = len(fresh)
    return [
        (r.times[-1] - r.arrival) / (n * alone(r.prompt, r.limit))
        for r in fresh
    ], server


ONE = "Esta tarjeta solo puede con una: devuelve una lista con una petición."
FEW = "Hacen falta más: sin otras no hay a quién dejar pasar delante."
APART = (
    "Llegan tan separadas que el servidor se queda sin nada que hacer: que "
    "coincidan."
)
LONG = (
    "La que más espera es de las que más escriben, y su tiempo justo crece "
    "con ella: que a la que espera le falte poco."
)
SOON = "Las que se cuelan acaban pronto: que tengan mucho que escribir."
TURNS = (
    "Una se queda con muchos pasos seguidos mientras otra espera: ¿quién "
    "lleva más tiempo sin pasar?"
)
NEVER = (
    "Hay una que no pasa mientras queden otras por delante: que a todas les "
    "llegue el turno."
)


def crowd(n=11, prompt=100, limit=1, other=60, gap=0.0, short=1):
    """Una respuesta de 12.7: una con poco que hacer, y las que se cuelan."""
    made = [Request("la que espera", [1] * prompt, limit)]
    for i in range(n):
        made.append(Request(str(i), [1] * short, other, gap * i))
    return made


def trace(most):
    return crowd(most - 1)


def by_arrivals(most):
    most = min(9, most - 1)
    first = [Request(f"r{i}", [2] * 8, 64, float(i)) for i in range(most)]
    return [*first, Request("x", [1] * 200, 2, 3.0)]


def longest_wait(running, step):
    """Le toca a quien lleva más sin pasar."""
    chosen = min(running, key=lambda r: getattr(r, "last", -1))
    chosen.last = step
    return [chosen]


def around(running, step):
    return [running[step % len(running)]]


def least_left(running, step):
    """La que antes acaba, con lo que le queda por escribir."""
    left = [alone(r.pending, r.limit - len(r.new)) for r in running]
    return [running[left.index(min(left))]]


MIXED = (  # tokens del prompt, limit y llegada
    [(200, 64, 0), (60, 1, 0), (256, 40, 0), (1, 1, 0)],
    [
        (200, 8, 0),
        (200, 2, 3),
        (200, 40, 0),
        (256, 2, 0),
        (60, 1, 3),
        (1, 64, 0),
        (256, 2, 30),
    ],
    [
        (200, 64, 3),
        (8, 40, 0),
        (200, 8, 0),
        (200, 8, 0),
        (256, 2, 0),
        (1, 64, 0),
        (60, 1, 0),
        (1, 1, 0),
    ],
)
OURS = [
    crowd(),
    [Request("a", [1] * 8, 64), Request("b", [1] * 8, 2, 1.0)],
    [Request("a", [1] * 250, 3)]
    + [Request(f"b{i}", [1] * 20, 40, 5.0 * i) for i in range(8)],
    [Request("a", [1] * 256, 1), Request("b", [1] * 8, 1)],
    *(
        [
            Request(str(i), [1] * n, k, float(t))
            for i, (n, k, t) in enumerate(c)
        ]
        for c in MIXED
    ),
]


def _request(r):
    expect(isinstance(r, Request), "trace devuelve una lista de Request.")
    good = isinstance(r.limit, int | np.integer)
    good = (
        good and 1 <= r.prompt <= 256 and 1 <= r.limit <= 64 and r.arrival >= 0
    )
    expect(
        good and r.arrival < math.inf,
        f"«{r.name}» se sale de lo pedido: prompt, de 1 a 256 tokens; limit, "
        "de 1 a 64, y arrival, 0 o más.",
    )


def _few(requests, most):
    expect(
        isinstance(requests, list | tuple) and len(requests) <= most,
        f"trace({most}) devuelve una lista de {most} peticiones como mucho.",
    )
    return requests


def _starved(requests):
    for r in requests:
        _request(r)
    expect(
        len({r.name for r in requests}) == len(requests),
        "Cada petición lleva su nombre: hay dos iguales.",
    )
    expect(len(requests) > 1, f"Son {len(requests)}. {FEW}")
    times, server = waits(requests, shortest)
    spent = [t * alone(r.prompt, r.limit) for t, r in zip(times, requests)]
    worst = max(times)
    busy = sum(alone(r.prompt, r.limit) for r in requests)
    r = requests[times.index(worst)]
    late = requests[spent.index(max(spent))]
    rest = [x.limit for x in requests if x is not late]
    hint = LONG if late.limit >= sum(rest) / len(rest) else SOON
    hint = APART if server.clock() > busy + 1 else hint
    expect(
        worst > 3,
        say(
            "La que más espera, «{0}», tarda {1:.1f} veces su tiempo justo, y "
            "tienen que ser más de 3. {2}",
            r.name,
            worst,
            hint,
        ),
    )


def _streak(server, n=12):
    names = [row[3] for row in server.log]
    runs = zip(*(names[i:] for i in range(n)))
    return any(all(name == run[0] for name in run) for run in runs)


@exercise(
    "12.7",
    success="¡Correcto! Sabes hacer esperar a alguien, y sabes evitarlo.",
    traps={
        FEW: (lambda most: crowd(0), around),
        APART: (lambda most: crowd(gap=100.0), around),
        LONG: [
            (lambda most: crowd(limit=60, other=20), around),
            (lambda most: crowd(limit=20, other=20), around),
        ],
        SOON: [
            (lambda most: crowd(limit=2, other=3), around),
            (lambda most: crowd(1, 30, 8, 9), around),
        ],
        ONE: (trace, lambda running, step: running),
        CHANGED: (
            trace,
            lambda running, step: running[0].ids.append(3) or running[:1],
        ),
        TURNS: [
            (trace, lambda running, step: running[:1]),
            (trace, lambda running, step: running[-1:]),
            (trace, shortest),
        ],
        NEVER: (
            trace,
            lambda running, step: [min(running, key=lambda r: r.stored)],
        ),
    },
    rights=[
        (trace, longest_wait),
        (by_arrivals, around),
        (by_arrivals, least_left),
    ],
)
def _(trace, fair):
    requests = _few(call(trace, 12), 12)
    _starved(requests)
    policy = guarded(fair)

    def single(running, step):
        work = policy(running, step)
        expect(len(work) == 1, f"Devuelves {len(work)} peticiones. {ONE}")
        return work

    name, most = "tu traza", 3
    for case in (requests, *OURS):
        times, server = waits(case, single)
        expect(
            max(times) <= most,
            say(
                "Con {0}, tu política hace tardar a «{1}» {2:.1f} veces su "
                "tiempo justo, y se admiten {3}. {4}",
                name,
                case[times.index(max(times))].name,
                max(times),
                most,
                TURNS if _streak(server) else NEVER,
            ),
        )
        name, most = "otra traza, de la corrección", 2
    _few(call(trace, 5), 5)


# 12.8


HEAD = [1, 2, 3, 4]


class _Fewer(Pages):
    def drop(self, table):
        super().drop(table[1:])
        table.clear()


class _NotFree(Pages):
    def release(self, page):
        super().release(page)
        if self.users[page] == 0 and page % 2:
            del self.free[page]


class _FreeToo(Pages):
    room = 10  # con sitio, no tiene otra consecuencia

    def release(self, page):
        super().release(page)
        self.free[page] = None

    def take(self):
        last = sorted(self.free, key=lambda page: self.users[page] > 0)
        self.free = dict.fromkeys(last)
        return super().take()


class _Uncounted(Pages):
    def share(self, page):
        was_free = page in self.free
        super().share(page)
        self.users[page] -= not was_free
        return page


class _Kept(Pages):
    def drop(self, table):
        super().drop([*table])


class _Stale(Pages):
    room = 10

    def take(self):
        key = self.keys.get(next(iter(self.free), None))
        page = super().take()
        if key:
            self.known[key] = page
        return page


class _OldText(Pages):
    def take(self):
        key = self.keys.get(next(iter(self.free), None))
        page = super().take()
        if key:
            self.known[key], self.keys[page] = page, key
        return page

    def remember(self, page, key):
        if page not in self.keys:
            super().remember(page, key)


class _Newest(Pages):
    """Bueno: da la página libre más nueva, no la más vieja."""

    def take(self):
        self.free = dict.fromkeys(reversed(self.free))
        page = super().take()
        self.free = dict.fromkeys(reversed(self.free))
        return page


class _NoText(Pages):
    """Bueno: no apunta qué guarda ninguna."""

    def remember(self, page, key):
        pass


GOOD = {
    "es el del curso": Pages,
    "da primero la página libre más nueva": _Newest,
    "no recuerda ningún texto": _NoText,
}
BAD = {
    "pierde una página cada vez que una petición acaba": (
        "Cuenta en cuántas tablas está cada página: no puede tener más "
        "usuarios que tablas.",
        _Fewer,
    ),
    "no devuelve a las libres algunas que nadie usa": (
        "Si una página no tiene a nadie, tiene que estar en free.",
        _NotFree,
    ),
    "da por libre una página que otra petición usa": (
        "Si una página está en free, no puede tener a nadie.",
        _FreeToo,
    ),
    "no cuenta a quien comparte una página": (
        "Cuenta en cuántas tablas está cada página: no puede tener menos "
        "usuarios que tablas.",
        _Uncounted,
    ),
    "deja su tabla a la que ya no la usa": (
        "Mira también las de done y las de waiting: sus tablas tienen que "
        "estar vacías.",
        _Kept,
    ),
    "no olvida la clave de una página que vuelve a usar": (
        "known va de clave a página y keys, al revés: tienen que decir lo "
        "mismo.",
        _Stale,
    ),
    "da por bueno el texto viejo de una página reutilizada": (
        "known y keys pueden estar de acuerdo y mentir: compara la clave de "
        "cada página en uso con keys_of del texto de su petición.",
        _OldText,
    ),
}


def _crossed(pages):
    """Dos entradas de `known`, cambiadas."""
    (a, x), (b, y) = [*pages.known.items()][:2]
    pages.known[a], pages.known[b] = y, x


def _swapped(pages, table):
    """Las claves de dos páginas de una tabla, cambiadas."""
    a, b = table[:2]
    pages.keys[a], pages.keys[b] = pages.keys[b], pages.keys[a]
    pages.known.update({pages.keys[page]: page for page in (a, b)})


def _keyed(pages, page):
    pages.keys[page], pages.known[b"otra"] = b"otra", page


def _moved(pages):
    """Una libre por una en uso."""
    del pages.free[next(iter(pages.free))]
    pages.free[pages.users.index(max(pages.users))] = None


def _recounted(pages):
    """Un usuario, de una página a otra."""
    pages.users[pages.users.index(max(pages.users))] -= 1
    pages.users[pages.users.index(1)] += 1


CHANGES = [
    lambda server: _crossed(server.pages),
    lambda server: _swapped(server.pages, server.running[0].table),
    lambda server: _keyed(server.pages, server.running[0].table[-1]),
    lambda server: _moved(server.pages),
    lambda server: _recounted(server.pages),
    lambda server: server.pages.keys.update(
        {
            next(
                p for p in server.pages.free if p not in server.pages.keys
            ): b"x"
        }
    ),
    lambda server: server.waiting[0].table.append(server.running[0].table[0]),
    lambda server: server.done[0].table.append(server.running[0].table[0]),
]
ONE_FIELD = "es bueno, salvo en un solo dato, que se ha cambiado a mano"
BAD[ONE_FIELD] = (
    "Cada promesa, entera: página a página, en los dos sentidos de known y "
    "keys, y todas las tablas.",
    None,
)


def _middle():
    """Un servidor bueno, con peticiones en marcha, en la cola y acabadas."""
    server = Rehearsal(_second, size=2, chunk=4, most=3, pages=24)
    rows = [*HEAD, 5], [*HEAD, 6, 7, 8], [8, 9, 8], [*HEAD, 5, 5, 5], [3] * 5
    limits = 12, 12, 1, 12, 3
    for i, (ids, limit) in enumerate(zip(rows, limits)):
        server.submit(Request(str(i), ids, limit))
    while not server.done or min(r.pending for r in server.running) > 1:
        server.step()
    for _ in range(5):
        server.step()
    server.submit(Request("cola", [4, 4], 3))
    return server


def _changed(look):
    """Un solo dato cada vez: con que se acepte uno, no ha visto todo."""
    look(_middle())
    for change in CHANGES:
        server = _middle()
        change(server)
        try:
            look(server)
        except _Caught as caught:
            if caught.args[0] != "rechaza":
                raise
        else:
            return
    raise _Caught("rechaza")


SERVERS = GOOD | {name: kind for name, (_, kind) in BAD.items()}


def _play(kind, look):
    """Peticiones que comparten, se bifurcan, se cancelan y no caben."""
    server = Rehearsal(_second, size=2, chunk=4, most=4)
    server.pages = kind(getattr(kind, "room", 8), 2)
    rows = [[*HEAD, 5], [*HEAD, 6, 7], [8, 9, 8], [*HEAD, 5, 5, 5], [3] * 5]
    made = [Request(str(i), ids, 6) for i, ids in enumerate(rows)]
    events = {0: made[:1], 3: made[1:3], 8: made[3:]}
    for step in range(60):
        try:
            for request in events.get(step, ()):
                server.submit(request)
            if step == 5:
                server.fork("0", "0'")
            if step == 7:
                server.cancel("1")
            look(server)
            if server.waiting or server.running:
                server.step()
        except CourseError:  # uno malo se atasca: ya se ha visto bastante
            return
        look(server)


def _fields(server):
    pages = server.pages
    everyone = server.waiting + server.running + server.done
    held = [*pages.free], [*pages.users], {**pages.known}, {**pages.keys}
    return [*map(_state, everyone)], held


class _Caught(Exception):
    """La prueba ya ha dicho lo que hace."""


def _tested(answer, name):
    expect(callable(answer), "Esperaba una función: pasa su nombre.")

    def look(server):
        before = _fields(server)
        try:
            value = answer(server)
        except AssertionError:
            raise _Caught("rechaza") from None
        except CourseError as error:  # suyo, y no del servidor
            raise Hint(f"Tu prueba lanza CourseError: {error}") from error
        expect(before == _fields(server), "Tu prueba cambia el servidor.")
        if value is ... or value is False:
            raise _Caught("devuelve" if value is False else ...)

    def verdict():
        try:
            if name == ONE_FIELD:
                _changed(look)
            else:
                _play(SERVERS[name], look)
        except _Caught as caught:
            return caught.args[0]
        return "acepta"

    return call(verdict)


OTHER_WAY = (
    "Una página se puede compartir, y una libre puede conservar su texto: "
    "exige solo lo que el enunciado promete."
)


def check_pages(
    server,
    more=True,
    fewer=True,
    lost=True,
    used=True,
    empty=True,
    both=True,
    text=True,
    extra=lambda pages: True,
):
    """Una respuesta de 12.8; sus opciones la hacen ciega."""
    pages, counted = server.pages, [0] * len(server.pages.users)
    for r in server.running:
        for page in r.table:
            counted[page] += 1
        keys = keys_of(r.ids[: r.stored], pages.size)
        for i, page in enumerate(r.table if text else ()):
            if page in pages.keys:
                assert [pages.keys[page]] == keys[i : i + 1]
    for page, (users, tables) in enumerate(zip(pages.users, counted)):
        assert users <= tables or not more
        assert users >= tables or not fewer
        assert page in pages.free or tables or users or not lost
        assert page not in pages.free or not users or not used
    for r in server.done + server.waiting if empty else ():
        assert not r.table
    if both:
        assert {page: key for key, page in pages.known.items()} == pages.keys
    assert extra(pages)


def by_sets(server):
    """Con un Counter y conjuntos."""
    from collections import Counter

    pages = server.pages
    held = Counter(p for r in server.running for p in r.table)
    assert [held[p] for p in range(len(pages.users))] == pages.users
    assert {*pages.free} == {*range(len(pages.users))} - {*held}
    assert not any(r.table for r in server.waiting + server.done)
    assert all(pages.keys.get(p) == k for k, p in pages.known.items())
    assert len(pages.keys) == len(pages.known)
    for r in server.running:
        for i, p in enumerate(r.table):
            end = (i + 1) * pages.size
            if p in pages.keys:
                assert end <= r.stored
                assert pages.keys[p] == keys_of(r.ids[:end], pages.size)[-1]


def _tested_said(ours, right, name):
    if ours == "devuelve":
        return "Tu prueba devuelve False."
    accepted = "Deja pasar (¿acaba en None?) el que"
    return f"{'Rechaza uno bueno que' if name in GOOD else accepted} {name}."


def by_totals(server):
    """Una respuesta de 12.8 que solo mira cuentas."""
    pages = server.pages
    check_pages(server, more=False, fewer=False)
    held = [p for r in server.running for p in r.table]
    assert len(held) == sum(pages.users)
    assert all(pages.users[p] for p in held)


HINTS = {name: hint for name, (hint, _) in BAD.items()}
BLIND = ["more", "lost", "used", "fewer", "empty", "both", "text"]
slip = partial(partial, check_pages)
exercise(
    "12.8",
    Part(
        [(name,) for name in SERVERS],
        **verdicts(GOOD, HINTS, OTHER_WAY),
        observe=_tested,
        said=_tested_said,
        traps={
            hint: slip(**{option: False})
            for option, hint in zip(BLIND, HINTS.values())
        }
        | {
            HINTS[ONE_FIELD]: by_totals,
            OTHER_WAY: [
                slip(extra=lambda pages: max(pages.users) <= 1),
                slip(extra=lambda pages: not {*pages.keys} & {*pages.free}),
                slip(extra=lambda pages: all(pages.users)),
            ],
            ASSERTS: returning(check_pages),
        },
        rights=[check_pages, by_sets],
    ),
    success="¡Correcto! Acepta los tres buenos y caza los ocho malos.",
)


# 12.9


def predict(
    lengths,
    news,
    shared,
    size,
    whole=lambda shared, size: shared // size * size,
    first=0,
    less=1,
    cap=1,
    order=1,
):
    """Una respuesta de 12.9; sus opciones la estropean."""
    total = sum(n + new - less for n, new in zip(lengths, news))
    saved = 0
    for i, n in enumerate(lengths):
        if i or first:
            saved += whole(min(shared[i], n - cap), size)
    return (total, total - saved)[::order]


def by_server(lengths, news, shared, size):
    """Con un ensayo."""
    totals = []
    for reuse in (False, True):
        server = Rehearsal(_second, size=size, reuse=reuse, most=8)
        made = [
            Request(str(i), [*range(same), *[900 + i] * n][:n], new)
            for i, (n, new, same) in enumerate(zip(lengths, news, shared))
        ]
        server.run(made)
        totals.append(sum(m * len(names) for _, _, m, names in server.log))
    return totals


def measure(
    server,
    prompts,
    limit,
    count=lambda m, names: m * len(names),
    text=lambda r: r.new,
    order=lambda made, server: made,
):
    """La otra respuesta de 12.9."""
    made = [Request(str(i), ids, limit) for i, ids in enumerate(prompts)]
    server.run(made)
    total = sum(count(m, names) for _, _, m, names in server.log)
    return [text(r) for r in order(made, server)], total


def by_submit(server, prompts, limit):
    made = [Request(f"p{i}", ids, limit) for i, ids in enumerate(prompts)]
    for request in made:
        server.submit(request)
        if request is made[0]:
            while not request.times:  # con la primera leída, ya vale
                server.step()
    while server.waiting or server.running:
        server.step()
    total = 0
    for _, _, m, names in server.log:
        total += m * len(names)
    return tuple(r.ids[r.prompt :] for r in made), total


def one_by_one(server, prompts, limit):
    for i, ids in enumerate(prompts):
        server.run([Request(str(i), ids, limit)])
    rows = sum(m * len(names) for _, _, m, names in server.log)
    return [r.new for r in server.done], rows


def newest(running, step):
    return [r for r in running if r.pending > 1][-1:] or running[::-1]


def _measured(function, tails, reuse, limit=4, policy=in_turns, early=False):
    model = tiny_model()
    head = random_ids(9, 4)[0].tolist()
    prompts = [head + random_ids(n, n)[0].tolist() for n in tails]
    server = Server(model, size=4, reuse=reuse, policy=policy)
    if early:  # que alguna acabe antes de su límite
        texts, _ = measure(Server(model, size=4), prompts, limit)
        server.ends = {texts[0][1]}
    value = call(function, server, prompts, limit)
    expect(
        isinstance(value, list | tuple) and len(value) == 2,
        "measure devuelve dos cosas: los textos y los tokens que pasaron.",
    )
    texts, total = value
    texts = [plain(t) for t in texts]
    together = max((len(row[3]) for row in server.log), default=0)
    return {
        "los textos": [[*t] for t in texts],
        "los tokens": number(total, "Los tokens"),
        "las que van juntas": together > 1,
    }


def _measured_said(ours, right, *_):
    which = next(key for key in right if ours[key] != right[key])
    return f"Fallan {which}: {ours[which]}, y tenían que ser {right[which]}."


slip = partial(partial, predict)
PREDICT = Part(
    [
        ([40, 50, 45], [5, 6, 7], [40, 35, 18], 16),
        ([20, 21, 30], [1, 2, 3], [20, 12, 2], 16),
        ([32, 40, 33, 60], [4, 4, 1, 9], [32, 32, 30, 16], 8),
        ([33, 32, 32], [4, 4, 4], [33, 32, 31], 8),
        ([10], [3], [10], 4),
        ([14, 19], [2, 2], [14, 13], 1),
        ([30, 30], [2, 2], [30, 30], 16),
        ([40, 40], [3, 3], [40, 20], 16),
        ([33, 33], [2, 2], [33, 33], 16),
    ],
    truth=lambda *case: [*map(float, by_server(*case))],
    read=_numbers(2, "los tokens sin reuse y con reuse"),
    said="Con prompts de {0}, {1} nuevos, {2} comunes y páginas de {3}, dices "
    "{ours:.0f}, y son {right:.0f}.",
    otherwise="Haz a mano dos peticiones: qué páginas llenas encuentra "
    "escritas la segunda.",
    traps={
        "Solo se aprovechan páginas llenas, no tokens sueltos.": [
            slip(whole=lambda shared, size: shared),
            slip(whole=lambda shared, size: -(-shared // size) * size),
        ],
        "La primera no encuentra nada escrito: la lee entera.": slip(first=1),
        "El último token que se escribe ya no pasa por la red.": slip(less=0),
        "Si un prompt acaba justo donde lo común, su último token pasa por "
        "la red, y con él su página.": slip(cap=0),
        "Primero, sin reuse; luego, con reuse.": slip(order=-1),
    },
    rights=[predict, by_server],
)
slip = partial(partial, measure)
MEASURE = Part(
    [
        ((5, 3, 4), True),
        ((6, 2, 7, 5), True, 6),
        ((5, 3, 4), False),
        ((5, 3, 4), True, 5, newest),
        ((4, 7, 6), True, 5, in_turns, True),
    ],
    truth=partial(_measured, measure),
    observe=_measured,
    said=_measured_said,
    otherwise="Imprime server.log: cada fila dice cuántos tokens pasan y de "
    "quiénes.",
    traps={
        "Una puede acabar antes del límite: sus tokens nuevos empiezan donde "
        "acaba su prompt.": slip(text=lambda r: r.ids[-r.limit :]),
        "Los textos van por el orden de los prompts, no por el de llegada a "
        "la meta.": slip(order=lambda made, server: server.done),
        "Cuentas tokens por fila, y en un forward hay varias.": slip(
            count=lambda m, names: m
        ),
        "Cuentas forwards o filas: por cada fila pasan m tokens.": [
            slip(count=lambda m, names: 1),
            slip(count=lambda m, names: len(names)),
        ],
        "Los textos son solo los tokens nuevos, sin el prompt.": slip(
            text=lambda r: r.ids
        ),
        "Van juntas, no de una en una.": one_by_one,
    },
    rights=[measure, by_submit],
)
exercise(
    "12.9",
    PREDICT,
    MEASURE,
    success="¡Correcto! Sabes cuánto ahorra un comienzo común.",
)


# 12.10

SEEDS = 1, 2, 3


def cost(rows, m):
    return 0.1 + 0.01 * rows * m


def traffic(seed, n=60, longs=3, gap=1.3):
    """Las llegadas de 12.10: (prompt, nuevos, segundo)."""
    draw, now, rows = random.Random(seed), 0.0, []
    where = {*draw.sample(range(5, n - 12), longs)}
    for i in range(n):
        now += draw.expovariate(1 / gap)
        prompt = draw.randint(*((400, 500) if i in where else (8, 60)))
        rows.append((prompt, draw.randint(6, 20), now))
    return rows


def rehearse(policy, seed, step=1):
    """TTFT de cada una, segundos en total, y el ensayo."""
    server = Rehearsal(
        cost, policy=policy, pages=600, chunk=64, most=16, reuse=False
    )
    run = next(RUNS)
    made = [
        Request(f"{i * step % 61}-{run}", [1] * prompt, new, at)
        for i, (prompt, new, at) in enumerate(traffic(seed))
    ]
    server.run(made)
    return [r.times[0] - r.arrival for r in made], server.clock(), server


def p95(times):
    return sorted(times)[math.ceil(0.95 * len(times)) - 1]


@cache
def _given(seed):
    times, total, _ = rehearse(prefill_first, seed)
    return p95(times), max(times), total


NAMES = (
    "Con otros nombres, tu política hace otra cosa, y el nombre no dice "
    "cuánto trabajo trae."
)
STARVED = (
    "Un percentil no mira a las últimas: dejarlas para el final lo mejora, y "
    "esas no acaban nunca de esperar."
)
SLOW = (
    "Tiras tiempo: un forward de una fila cuesta casi lo mismo que uno de "
    "muchas. Que escriban juntas."
)
WRITING = (
    "Escribes mientras alguna espera su primer token: leer antes lo adelanta."
)
LINE = (
    "Los prompts cortos esperan detrás de uno largo: mira cuánto le queda por "
    "leer a cada una."
)


def reading(running):
    return [r for r in running if r.pending > 1]


def short_first(running, step):
    todo = reading(running)
    return [min(todo, key=lambda r: r.pending)] if todo else running


def two_shortest(running, step):
    return sorted(reading(running), key=lambda r: r.pending)[:2] or running


def short_and_turns(running, step):
    """Los cortos, ya; los largos, a turnos con quien escribe."""
    todo = reading(running)
    ready = [r for r in running if r.pending == 1]
    if short := [r for r in todo if r.pending <= 64]:
        return short[:1]
    return todo[:1] if todo and (step % 2 or not ready) else ready


def everyone(running, step):
    return reading(running) or running


def with_age(running, step):
    """La más corta y, uno de cada cuatro pasos, la más vieja."""
    todo = reading(running)
    return todo[:1] if todo and step % 4 == 0 else short_first(running, step)


def starving(running, step):
    """Las largas, cuando no quede nadie más."""
    short = [r for r in running if r.prompt <= 64]
    return short_first(short, step) if short else running[:1]


def _by_name(running, step):
    todo = sorted(reading(running), key=lambda r: r.name[::-1])
    return todo[:1] or running


def _one_by_one(running, step):
    todo = sorted(reading(running), key=lambda r: r.pending)
    return todo[:1] or running[:1]


def _last_in(running, step):
    return reading(running)[-1:] or running


def _touches(running, step):
    running[-1].limit = 1
    return short_first(running, step)


@exercise(
    "12.10",
    success="¡Correcto! Mucho antes el primer token, y nadie lo paga caro.",
    traps={
        CHANGED: _touches,
        NAMES: _by_name,
        STARVED: starving,
        SLOW: _one_by_one,
        WRITING: in_turns,
        LINE: [prefill_first, _last_in],
    },
    rights=[
        short_first,
        two_shortest,
        short_and_turns,
        everyone,
        with_age,
    ],
)
def _(policy):
    wrapped, writing = guarded(policy), []

    def noted(running, step):
        work = wrapped(running, step)
        idle = reading(running) and not reading(work)
        writing.append(bool(idle))
        return work

    runs = [rehearse(noted, seed) for seed in SEEDS]
    again, renamed, third = (
        rehearse(wrapped, SEEDS[0], step)[0] for step in (1, 37, 1)
    )
    if runs[0][0] == again == third:  # no arrastra nada de otro ensayo
        expect(renamed == again, NAMES)
    for seed, (times, total, _) in zip(SEEDS, runs):
        _, most, whole = _given(seed)
        expect(
            max(times) <= 2 * most,
            say(
                "Una espera {0:.1f} s su primer token, y con prefill_first la "
                "que más, {1:.1f}: se admite el doble. {2}",
                max(times),
                most,
                STARVED if total <= 1.3 * whole else SLOW,
            ),
        )
    ours = sum(p95(times) for times, *_ in runs) / len(SEEDS)
    given = sum(_given(seed)[0] for seed in SEEDS) / len(SEEDS)
    expect(
        ours <= given / 2,
        say(
            "El p95 del TTFT, de media, es {0:.2f} s, y con prefill_first, "
            "{1:.2f}: se pide la mitad. {2}",
            ours,
            given,
            WRITING if sum(writing) > 0.05 * len(writing) else LINE,
        ),
    )
    for seed, (_, total, _) in zip(SEEDS, runs):
        whole = _given(seed)[2]
        expect(
            total <= 1.02 * whole,
            say(
                "Acabas en {0:.1f} s, y con prefill_first, en {1:.1f}: se "
                "admite un 2 % más. {2}",
                total,
                whole,
                SLOW,
            ),
        )
