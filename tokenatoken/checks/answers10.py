"""Respuestas buenas y malas del laboratorio 10, con las que compara `unit10`.

Cada función es la buena, y sus opciones la estropean de una manera.
"""

import math
from functools import partial

import torch
from torch.nn.functional import pad

from ..forward import all_logits
from .bench import TOO_MANY, in_parts

# 10.1


def plain(numbers) -> float:
    total = 0.0
    for x in numbers:
        total += x
    return total


def kahan(numbers) -> float:
    """La suma de izquierda a derecha que arrastra lo que se perdió."""
    total, lost = 0.0, 0.0
    for x in numbers:
        y = x - lost
        bigger = total + y
        lost = (bigger - total) - y
        total = bigger
    return total


# 10.2


def margins(logits, best=lambda z: z.topk(2, -1).values):
    first, second = best(logits).double().unbind(-1)
    return first - second


def smallest(model, ids, read=margins, pick=torch.argmin, start=0, places=...):
    """Una respuesta de 10.2: la posición del menor margen, y el margen."""
    logits = all_logits(model, ids)[0]
    gaps = read(logits[places])
    place = pick(gaps).item()
    return place + start, gaps[place].item()


def by_sorting(model, ids):
    rows = model(ids).logits[0].tolist()
    gaps = [sorted(row)[-1] - sorted(row)[-2] for row in rows]
    return gaps.index(min(gaps)), min(gaps)


def chosen(model, ids):
    """El margen con el token que sigue en el texto."""
    logits = all_logits(model, ids)[0, :-1]
    gaps = logits.amax(-1) - logits.gather(-1, ids[0, 1:, None])[:, 0]
    place = gaps.argmin().item()
    return place, gaps[place].item()


def flips(logits, noise, times=2, read=margins, less=torch.le):
    """Una respuesta de 10.2: en cuántas filas podría cambiar el primero."""
    return less(read(logits), times * noise).sum().item()


MARGIN_TRAPS = {
    "Miras solo la última posición: recorre todas las del texto.": [
        lambda m, ids: (
            ids.shape[1] - 1,
            margins(all_logits(m, ids)[0, -1:]).item(),
        ),
        lambda m, ids: (0, margins(all_logits(m, ids)[0, -1:]).item()),
    ],
    "Ese es el mayor margen: el empate más cerca está en el menor.": partial(
        smallest, pick=torch.argmax
    ),
    "Eso es una diferencia de probabilidades: el margen se mide entre "
    "logits, sin softmax.": partial(
        smallest, read=lambda z: margins(z.softmax(-1))
    ),
    "Cuenta las posiciones desde el 0.": partial(smallest, start=1),
    "El margen va del primero al segundo, y no al token que sigue en el "
    "texto.": chosen,
    "La última posición también elige token: entra en la cuenta.": partial(
        smallest, places=slice(None, -1)
    ),
}
FLIP_TRAPS = {
    "Cada logit se mueve por su cuenta: mientras el primero baja, el segundo "
    "puede subir.": partial(flips, times=1),
    "Con un empate justo, el primero ya puede cambiar: cuéntalo.": partial(
        flips, less=torch.lt
    ),
    "Cuentas las que aguantan: son las otras.": partial(flips, less=torch.gt),
    "Se pide cuántas posiciones, y no qué parte de ellas.": lambda z, noise: (
        flips(z, noise) / len(z)
    ),
    "Basta con que lo alcance el segundo: los demás dan igual.": lambda z, e: (
        (z.amax(-1, keepdim=True) - z <= 2 * e).sum().item() - len(z)
    ),
}


# 10.3


def by_size(full, size):
    return full.split(size, -1)


def one_row(row):
    return row.sum()


def each_row(piece):
    return torch.stack([one_row(row) for row in piece.unbind()])


def in_order(parts):
    return sum(parts)


def sum_rows(x, size, fill=True, cut=by_size, add=each_row, join=in_order):
    """Una respuesta de 10.3: trozos de `size`, y los trozos, en orden."""
    full = pad(x, (0, -x.shape[1] % size)) if fill else x
    return join([add(piece) for piece in cut(full, size)])


def by_columns(x, size):
    return sum(x.unbind(-1))


def exactly(x, size):
    return torch.tensor([math.fsum(row) for row in x.tolist()])


def folded(x, size):
    """Como `sum_rows`, con los trozos hechos filas."""
    full = pad(x, (0, -x.shape[1] % size)).unflatten(-1, (-1, size))
    total = torch.zeros(len(x))
    for place in range(full.shape[1]):
        total += sum(full[:, place].unbind(-1))
    return total


def in_pairs(x, size):
    """De dos en dos, como en un torneo."""
    columns = [*x.unbind(-1)]
    while len(columns) > 1:
        half = len(columns) // 2
        pairs = list(zip(columns[:half], columns[half:]))
        columns = [a + b for a, b in pairs] + columns[2 * half :]
    return columns[0]


TOGETHER = (
    "Sumas varias filas en una llamada, y la forma lleva cuántas son: que "
    "cada suma sea de una sola."
)
SUM_TRAPS = {
    "chunk(size) hace `size` trozos, y su tamaño crece con la fila: lo fijo "
    "tiene que ser el tamaño.": [
        partial(sum_rows, cut=lambda full, size: full.chunk(size, -1)),
        partial(sum_rows, fill=False, cut=lambda x, size: x.chunk(size, -1)),
    ],
    TOGETHER: [
        partial(sum_rows, add=lambda piece: piece.sum(-1)),
        lambda x, size: x.sum(-1),
        partial(sum_rows, fill=False, add=lambda piece: piece.sum(-1)),
    ],
    "El último trozo es más corto, y otra forma es otro orden: complétalo "
    "con ceros.": partial(sum_rows, fill=False),
    "Sumas la fila entera de una vez, y unos ceros detrás cambian su forma.": [
        lambda x, size: each_row(x)
    ],
    "Más bits no fijan el orden: solo hacen más raro el fallo.": [
        lambda x, size: x.double().sum(-1).float(),
        lambda x, size: each_row(x.double()).float(),
    ],
    "También se suman en algún orden los resultados de los trozos, y cuántos "
    "hay depende de la fila.": partial(
        sum_rows, join=lambda parts: each_row(torch.stack(parts, -1))
    ),
    "Si rellenas por delante, los ceros del final mueven los bordes: cuenta "
    "los trozos desde el principio.": lambda x, size: sum_rows(
        pad(x, (-x.shape[1] % size, 0)), size
    ),
    "Falta lo que sobra al cortar: el último trozo también suma.": (
        lambda x, size: sum_rows(
            pad(x[:, : x.shape[1] // size * size], (0, size)), size
        )
    ),
    "El árbol cambia de forma con el largo de la fila.": in_pairs,
    "Cuánto se suma de una fila lo deciden también las otras: que cada una "
    "vaya por su cuenta.": lambda x, size: each_row(x[:, (x != 0).any(0)]),
}


# 10.4


def variants(
    ops, rows, sizes=range(1, 18), spots=None, same=torch.equal, mates=None
):
    """Una respuesta de 10.4. `spots`: en qué lugares; `mates(rows, n)`: los
    acompañantes."""
    row, found = rows[:1], []
    mates = mates or (lambda rows, n: rows[1 : n + 1])
    for name, op in ops.items():
        alone = op(row)[0]
        for m in sizes:
            others = mates(rows, m - 1)
            for place in spots(m) if spots else range(m):
                batch = torch.cat([others[:place], row, others[place:]])
                if name not in found and not same(op(batch)[place], alone):
                    found.append(name)
    return found


def by_rolling(ops, rows):
    """Gira el lote, y lo corta por todas partes."""

    def differs(op):
        many = range(1, len(rows) + 1)
        cuts = ((k, m) for m in many for k in range(m))
        return any(
            (op(rows[:m].roll(k, 0))[k] != op(rows[:1])[0]).any()
            for k, m in cuts
        )

    return {name for name, op in ops.items() if differs(op)}


FIRST = partial(variants, spots=lambda m: [0])
OP_TRAPS = {
    "Puede haber varias: no pares en la primera.": lambda ops, rows: variants(
        ops, rows
    )[:1],
    "Esas son las que no cambian: se piden las otras.": lambda ops, rows: [
        name
        for bad in [variants(ops, rows)]
        for name in ops
        if name not in bad
    ],
    "Pones la fila siempre en el mismo lugar: prueba también los otros.": [
        FIRST,
        partial(variants, spots=lambda m: [m - 1]),
    ],
    "Comparas sola y con todas, y en medio hay otros tamaños: recórrelos.": [
        partial(variants, sizes=[1, 17]),
        partial(variants, sizes=[1, 2, 4, 8, 16, 17]),
    ],
    "No llegas a los lotes grandes: son hasta 16 acompañantes.": [
        partial(variants, sizes=range(1, 9)),
        partial(variants, sizes=range(1, 17)),
    ],
    "allclose perdona justo lo que se busca: compara bits.": partial(
        variants, same=torch.allclose
    ),
    "Acompañas la fila con copias suyas o con ceros: los acompañantes de "
    "verdad traen otros valores.": [
        partial(variants, mates=lambda rows, n: rows[:1].repeat(n, 1)),
        partial(variants, mates=lambda rows, n: 0 * rows[:n]),
    ],
    "Miras un resultado en lugar que no es el de tu fila: comparas filas "
    "distintas.": lambda ops, rows: [
        name
        for name, op in ops.items()
        if not torch.equal(op(rows.roll(1, 0))[0], op(rows)[0])
    ],
}


# 10.5


def base(rows, weight):
    return in_parts(rows[:, None] * weight.T, 1)


def one_by_one(rows, weight):
    return torch.cat([base(row, weight) for row in rows.split(1)])


def in_groups(rows, weight):
    full = pad(rows, (0, 0, 0, -len(rows) % 4))
    done = [in_parts(p[:, None] * weight.T, 3) for p in full.split(4)]
    return torch.cat(done)[: len(rows)]


def in_double(rows, weight):
    return base(rows.double(), weight.double()).float()


def broken(where, factor=1 + 2**-14):
    """Un producto que se aparta en las filas de `where(rows)`."""

    def product(rows, weight):
        good, bad = base(rows, weight), where(rows)
        return torch.where(bad[:, None], good * factor, good)

    return product


def one_bit(rows, weight):
    result = base(rows, weight)
    if len(rows) > 1:
        up = torch.nextafter(result[:, -1], torch.tensor(torch.inf))
        result[:, -1] = up
    return result


def now_and_then():
    """Falla una llamada de cada siete."""
    calls = []

    def product(rows, weight):
        calls.append(1)
        return base(rows, weight) * (1 if len(calls) % 7 else 1 + 2**-14)

    return product


def place(rows):
    return torch.arange(len(rows))


def overshadowed(rows):
    """Las filas con otra mayor en el lote."""
    sizes = rows.abs().amax(-1)
    return sizes < sizes.amax()


BAD = {  # lo que hace → pista y producto, recién hecho
    "cambia los bits con lotes de once filas": (
        "Prueba todos los tamaños, y no solo algunos.",
        lambda: broken(lambda rows: place(rows) < 11 * (len(rows) == 11)),
    ),
    "cambia la última fila del lote": (
        "Mira la fila también cuando va en el último lugar.",
        lambda: broken(
            lambda rows: (place(rows) == len(rows) - 1) & (len(rows) > 1)
        ),
    ),
    "cambia los bits con más de 16 filas": (
        "Hay que llegar a 32 filas.",
        lambda: broken(
            lambda rows: place(rows) < len(rows) * (len(rows) > 16)
        ),
    ),
    "cambia las filas que no van las primeras": (
        "Prueba la misma fila en otros lugares del lote.",
        lambda: broken(lambda rows: place(rows) > 0),
    ),
    "cambia el último bit de una sola salida": (
        "Un bit basta: compara con torch.equal, y la fila entera.",
        lambda: one_bit,
    ),
    "cambia las filas que van con otra mayor": (
        "Prueba con acompañantes de valores distintos, y grandes.",
        lambda: broken(overshadowed),
    ),
    "falla una llamada de cada siete": (
        "Repite la misma llamada varias veces: puede no dar lo mismo.",
        now_and_then,
    ),
}
GOOD = {
    "va fila a fila": one_by_one,
    "va en grupos de cuatro": in_groups,
    "suma en 64 bits": in_double,
}
OTHER_ORDER = (
    "Otro orden, si es fijo, vale: no lo compares con @, sino consigo mismo."
)


def ours(k, seed=0, n=32):
    """32 filas de una prueba, la segunda mucho mayor."""
    rows = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    return rows * torch.tensor([1.0, 9.0] + [1.0] * (n - 2))[:, None]


def is_invariant(
    product,
    weight,
    sizes=range(1, 33),
    spots=range,
    same=torch.equal,
    rows=None,
    truth=None,
    again=9,
):
    """Una respuesta de 10.5: la primera fila, en todos los lugares."""
    rows = ours(len(weight)) if rows is None else rows(len(weight))
    truth = truth or product
    alone = truth(rows[:1], weight)[0]
    for m in sizes:
        for spot in spots(m):
            batch = rows[1:m]
            batch = torch.cat([batch[:spot], rows[:1], batch[spot:]])
            if not same(product(batch, weight)[spot], alone):
                return False
    return all(same(product(rows[:1], weight)[0], alone) for _ in range(again))


def by_cutting(product, weight):
    """Todas las filas, en lotes de todos los tamaños, y del revés."""
    rows = ours(len(weight), seed=3)
    alone = torch.cat([product(row, weight) for row in rows.split(1)])
    for m in range(1, 33):
        pieces = [product(piece, weight) for piece in rows.split(m)]
        back = [product(piece, weight) for piece in rows.flip(0).split(m)]
        if (torch.cat(pieces) != alone).any():
            return False
        if (torch.cat(back).flip(0) != alone).any():
            return False
    return True


def few(m):
    """Pocos lugares: así no hay siete llamadas."""
    return {0, m // 2, m - 1}


TEST_TRAPS = {
    BAD["cambia los bits con lotes de once filas"][0]: partial(
        is_invariant, sizes=[1, 2, 4, 8, 16, 32]
    ),
    BAD["cambia la última fila del lote"][0]: partial(
        is_invariant, spots=lambda m: range(max(m - 1, 1))
    ),
    BAD["cambia los bits con más de 16 filas"][0]: partial(
        is_invariant, sizes=range(1, 17)
    ),
    BAD["cambia las filas que no van las primeras"][0]: partial(
        is_invariant, spots=lambda m: [0]
    ),
    BAD["cambia el último bit de una sola salida"][0]: [
        partial(is_invariant, same=torch.allclose),
        partial(is_invariant, same=lambda a, b: a[0] == b[0]),
    ],
    BAD["cambia las filas que van con otra mayor"][0]: [
        partial(is_invariant, rows=lambda k: ours(k)[:1].repeat(32, 1)),
        partial(is_invariant, rows=lambda k: pad(ours(k)[:1], (0, 0, 0, 31))),
    ],
    OTHER_ORDER: partial(is_invariant, truth=torch.matmul),
    "Contestas al revés: True es que los bits no cambian.": lambda *given: (
        not is_invariant(*given)
    ),
    "Con ceros o NaN no se ve nada: pon valores al azar.": partial(
        is_invariant, rows=lambda k: torch.zeros(32, k)
    ),
}


# 10.6


def by_groups(op, rows, size=4):
    full = pad(rows, (0, 0, 0, -len(rows) % size))
    return torch.cat([op(part) for part in full.split(size)])[: len(rows)]


def together(op, rows):
    return op(rows)


def fixed(x, chunk):
    return [*x.split(chunk)]


def attention(
    q,
    k,
    v,
    first,
    chunk,
    groups=by_groups,
    fill=True,
    front=False,
    cut=fixed,
    mask=True,
    start=None,
    scale=True,
    join=in_order,
    top=lambda scores: scores.amax(-1, keepdim=True),
):
    """Una respuesta de 10.6: todo en trozos desde la posición 0."""
    m, d = q.shape
    n = len(k)
    extra = -n % chunk if fill else 0
    sides = (0, 0, extra, 0) if front else (0, 0, 0, extra)
    places = pad(torch.arange(n), sides[2:], value=n)
    keys, values = cut(pad(k, sides), chunk), cut(pad(v, sides), chunk)
    q = q / math.sqrt(d) if scale else q
    scores = torch.cat([groups(lambda r, x=x: r @ x.T, q) for x in keys], -1)
    start = first if start is None else start
    last = torch.arange(start, start + m)[:, None] if mask else n - 1
    scores = scores.masked_fill(places > last, -math.inf)
    weights = (scores - top(scores)).exp()
    parts = weights.split([len(x) for x in values], -1)
    values = [pad(x, (0, 1), value=1.0) for x in values]
    done = [groups(lambda r, x=x: r @ x, w) for w, x in zip(parts, values)]
    total = join(done)
    return total[:, :-1] / total[:, -1:]


def online(q, k, v, first, chunk, reset=False, local=False):
    """En una pasada: el máximo, la cuenta y la suma, al día en cada trozo."""
    done = []
    for place, row in enumerate(q.split(1), first):
        top, count, total = torch.tensor(-math.inf), 0.0, 0.0
        for start in range(0, len(k), chunk):
            keys, values = k[start : start + chunk], v[start : start + chunk]
            short = chunk - len(keys)
            keys, values = (pad(x, (0, 0, 0, short)) for x in (keys, values))
            scores = (row @ keys.T)[0] * q.shape[1] ** -0.5
            hidden = torch.arange(start, start + chunk) > place
            scores = scores.masked_fill(hidden, -math.inf)
            new = scores.amax() if local else torch.maximum(top, scores.amax())
            weights = (scores - new).exp()
            old = 1.0 if local or reset else (top - new).exp()
            count = count * old + weights.sum()
            total = total * old + weights @ values
            top = new
        done.append(total / count)
    return torch.stack(done)


def in_double_bits(q, k, v, first, chunk):
    q, k, v = q.double(), k.double(), v.double()
    return attention(q, k, v, first, chunk, groups=together).float()


def one_pair(q, k, v, first, chunk):
    """De posición en posición, sin más sumas que +."""
    n, m = len(k), len(q)
    scores = sum((q[:, None] * k).unbind(-1)) / q.shape[1] ** 0.5
    hidden = torch.arange(n) > torch.arange(first, first + m)[:, None]
    scores = scores.masked_fill(hidden, -math.inf)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    count = sum(weights.unbind(-1))
    return sum(w[:, None] * x for w, x in zip(weights.T, v)) / count[:, None]


def whole(q, k, v, first, chunk):
    scores = q @ k.T / q.shape[1] ** 0.5
    seen = torch.ones(len(q), len(k)).tril(first) > 0
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ v


def visible(q, k, v, first, chunk):
    """Cada fila, con lo que ve y nada más."""
    done = []
    for n, row in enumerate(q.split(1), first + 1):
        weights = (row @ k[:n].T / q.shape[1] ** 0.5).softmax(-1)
        done.append(weights @ v[:n])
    return torch.cat(done)


ONE_ROW = "Haz a mano la primera consulta, y luego una con un trozo que no ve."
SHAPES = (
    "Las formas de cada @ y de cada suma no pueden depender de m ni de n, y "
    "el máximo, de lo que la consulta no ve: imprímelos."
)
ATTENTION_TRAPS = {
    "Cada posición ve las de delante: falta la máscara.": [
        partial(attention, mask=False)
    ],
    "La primera consulta es la posición `first`, y no la 0: corre la "
    "máscara.": partial(attention, start=0),
    "Falta dividir los productos entre la raíz de d.": partial(
        attention, scale=False
    ),
    "Un trozo que no se ve da −∞ − (−∞): el máximo no puede ser solo el de "
    "ese trozo.": partial(online, local=True),
    "Cuando sube el máximo, lo ya sumado se queda con el viejo: "
    "corrígelo.": partial(online, reset=True),
    "Exp de un número grande es ∞: resta antes el máximo.": partial(
        attention, top=lambda scores: 0.0
    ),
    SHAPES: partial(attention, top=torch.max),
    TOO_MANY: [whole, visible],
    "Multiplicas todas las consultas juntas, y la forma lleva cuántas son: "
    "ve en grupos de tamaño fijo.": [
        partial(attention, groups=together),
    ],
    "El último trozo es más corto, y otra forma es otro orden: complétalo "
    "con claves que nadie vea.": partial(attention, fill=False),
    "Más bits no fijan el orden: el resultado aún cambia, aunque menos.": [
        in_double_bits,
    ],
    "El número de trozos es fijo y su tamaño crece con n: al revés.": [
        partial(
            attention,
            cut=lambda x, chunk: [*x.chunk(5)],
        ),
    ],
    "Rellenas por delante, y el borde de cada trozo se mueve con n: mide "
    "desde la posición 0.": partial(attention, front=True),
    "También se suman en algún orden los resultados de los trozos: con +, "
    "del primero al último.": partial(
        attention, join=lambda parts: torch.stack(parts).sum(0)
    ),
}
