"""Corrección del laboratorio 10 · Determinismo e invarianza de lote.

La verdad sale de `math.fsum`, de la aritmética en 64 bits y de comparar bits:
cada respuesta, consigo misma. Las sumas se hacen en una máquina de mentira
(`bench.ShapeMachine`), para que el veredicto no dependa de la CPU.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.functional import pad

from . import answers10 as given
from . import bench
from .bench import random_ids, random_logits, tiny_model, uniform
from .kit import (
    Hint,
    Part,
    as_int,
    call,
    exercise,
    expect,
    number,
    put_to_test,
    say,
    tensor,
    verdicts,
)

# 10.1

FLOATS = "Los enteros de Python no redondean: ponles el punto decimal."
FINITE = "Con ∞ y NaN no hay sumas que comparar: números más pequeños."
ZEROS = "Con un cero no hay nada que redondear: que ninguno lo sea."
SAME = (
    "Las dos sumas dan lo mismo: prueba con décimas, o con números de "
    "tamaños muy distintos."
)
EXACT = (
    "La suma corriente de los cuatro ya es exacta: que d deje ver lo que se "
    "perdió por el camino."
)
LOST = (
    "Kahan también falla: guarda lo que pierde un número pequeño al llegar "
    "a una suma grande, y no al revés."
)


@exercise(
    "10.1",
    success="¡Correcto! El orden cambia la suma, y Kahan la recupera.",
    traps={
        FLOATS: [(10**16, 1, 1, -(10**16)), (1, 2, 3, 4)],
        FINITE: [
            (1e308, 1e308, -1e308, 1.0),
            (math.inf, 1.0, -math.inf, 1.0),
            (math.nan, 1.0, 2.0, 3.0),
            (1.0, 1e308, 1e308, -1e308),
        ],
        ZEROS: [(1e16, 1.0, 1.0, 0.0), (0.1, 0.2, 0.3, -0.0)],
        SAME: [(1.0, 2.0, 3.0, 4.0), (0.5, 0.25, 1e16, -1e16)],
        EXACT: (0.1, 0.2, 0.3, 0.4),
        LOST: [(1.0, 1e16, -1e16, 1.0), (1.0, 1e100, -1e100, 1.0)],
    },
    rights=[
        (1e16, 1.0, 1.0, -1e16),
        [np.float64(x) for x in (1e16, 1.0, 1.0, -1e16)],
        torch.tensor([1e16, 3.0, 3.0, -1e16], dtype=torch.float64),
        (2.0**53, 1.0, 1.0, 1.0),
    ],
)
def _numbers(numbers):
    if isinstance(numbers, torch.Tensor | np.ndarray):
        numbers = numbers.tolist()
    expect(
        isinstance(numbers, tuple | list) and len(numbers) == 4,
        "NUMBERS son cuatro números, en este orden: (a, b, c, d).",
    )
    expect(not any(type(x) is int for x in numbers), FLOATS)
    expect(
        all(isinstance(x, float) for x in numbers),
        "Los cuatro tienen que ser números con punto, de 64 bits.",
    )
    a, b, c, d = numbers = [*map(float, numbers)]
    sums = [a + b, b + c, (a + b) + c, a + (b + c), given.plain(numbers)]
    sums.append(given.kahan(numbers))
    expect(all(map(math.isfinite, numbers + sums)), FINITE)
    expect(all(numbers), ZEROS)
    left, right, usual, kahan = sums[2:]
    said = f"De las dos maneras sale {left!r}."
    expect(left != right, f"{said} {SAME}")
    exact = math.fsum(numbers)
    expect(usual != exact, f"De izquierda a derecha sale {usual!r}. {EXACT}")
    expect(kahan == exact, f"Con Kahan sale {kahan!r} y es {exact!r}. {LOST}")


# 10.2


def _pair(value, *_) -> list:
    if isinstance(value, torch.Tensor | np.ndarray):
        value = value.tolist()
    expect(
        isinstance(value, tuple | list) and len(value) == 2,
        "Devuelve dos cosas: la posición y el margen.",
    )
    place = value[0]
    if isinstance(place, float) and place.is_integer():
        place = int(place)
    hint = "La posición es un entero, y va la primera."
    return [as_int(place, hint), number(value[1], "El margen")]


def _rows(seed: int, n: int = 9) -> torch.Tensor:
    """Logits `[n, 50]` con el segundo a distintas distancias."""
    rows = torch.stack([random_logits(60 + seed + i) for i in range(n)])
    for i, row in enumerate(rows):
        first, second = row.topk(2).indices
        row[second] = row[first] - (0.3 + 0.6 * (i % 3)) * 1e-2
    return rows


EIGHTHS = torch.tensor(  # márgenes exactos: 0; 1/8; 1/4; 3/8 y 5
    [
        [2.0, 1.0, 2.0, 0.5],
        [1.0, 1.125, -3.0, 1.125 - 2],
        [0.25, 0.5, 0.125, 0.375 - 0.125],
        [3.0, 2.625, 2.625, 2.625],
        [0.0, 5.0, 0.0, 0.0],
    ]
)
SMALLEST = Part(
    lambda: [
        (tiny_model(seed % 2), random_ids(n, seed))
        for seed, n in ((13, 5), (22, 13), (23, 30), (25, 13), (20, 1))
    ],
    truth=lambda model, ids: [*given.smallest(model, ids)],
    read=_pair,
    near=1e-3,
    said=lambda ours, right, model, ids: say(
        "Con un texto de {0} tokens dices {1} y {2:.4f}.",
        ids.shape[1],
        ours[0],
        ours[1],
    ),
    traps=given.MARGIN_TRAPS,
    otherwise="Ordena los logits de una sola posición y resta a mano los dos "
    "primeros.",
    rights=[given.smallest, given.by_sorting],
)
FLIPS = Part(
    lambda: [
        (_rows(0), 5e-3),
        (_rows(10), 1e-2),
        (_rows(20), 5e-5),
        (EIGHTHS, 0.0625),
        (EIGHTHS, 0.125),
        (EIGHTHS, 0.09375),
    ],
    truth=given.flips,
    said="Con {0.shape[0]} posiciones y un ruido de {1:.5f} cuentas {ours:g}, y "
    "son {right}.",
    traps=given.FLIP_TRAPS,
    otherwise="Haz una fila a mano: al primero le quitas el ruido y al "
    "segundo se lo sumas.",
    rights=[
        given.flips,
        lambda logits, noise: sum(
            bool(a - noise <= b + noise)
            for a, b in (sorted(r)[:-3:-1] for r in logits.tolist())
        ),
    ],
)
exercise(
    "10.2",
    SMALLEST,
    FLIPS,
    success="¡Correcto! Sabes dónde puede cambiar la respuesta.",
)


# Comparar bits


@dataclass(eq=False)
class Trace:
    """Lo que se ve de una respuesta en un caso. Dos buenas son iguales; dos
    malas, si dan los mismos bits."""

    bad: str = ""  # qué falla, en una frase
    hint: str = ""
    bits: list = field(default_factory=list)

    def __eq__(self, other):
        if not isinstance(other, Trace):
            return False
        if self.bad and other.bad:
            return (self.bad, self.bits) == (other.bad, other.bits)
        return not (self.bad or other.bad)


def _trace_said(ours, right, *case) -> str:
    return ours.bad


def _trace_hint(ours, right, *case) -> str:
    return ours.hint


# 10.3


def _sums(function, x, size):
    with bench.ShapeMachine():
        value = call(function, x, size)
    shape = [*x.shape]
    return tensor(value, shape[:1], f"Con x de forma {shape}, lo que das")


def _sum_trace(function, x, size) -> Trace:
    many = _sums(function, x, size)
    exact = [math.fsum(row) for row in x.tolist()]
    bits = many.tolist()
    for ours, right, row in zip(bits, exact, x.tolist()):
        room = 1e-5 * sum(map(abs, row))
        if abs(ours - right) > room:
            text = "Una fila de {0} suma {1:.4f} y das {2:.4f}."
            bad = say(text, len(row), right, ours)
            return Trace(bad, "¿Sumas todas sus columnas, una vez?", bits)
    for count in range(1, len(x)):
        few = _sums(function, x[:count], size)
        if few.tolist() != bits[:count]:
            bad = f"Si van {len(x)} o {count}, una misma fila cambia de bits."
            return Trace(bad, given.TOGETHER, bits + few.tolist())
    for zeros in (1, 2, size, 3 * size + 1):
        longer = _sums(function, pad(x, (0, zeros)), size)
        if longer.tolist() != bits:
            bad = f"Con size = {size}, los bits cambian con ceros detrás: "
            bad += f"aquí, {zeros}."
            hint = (
                "Apunta la forma de cada suma, sin los ceros y con ellos: "
                "¿qué cambia?"
            )
            return Trace(bad, hint, bits + longer.tolist())
    return Trace()


def _hard_rows(n: int, m: int = 3) -> torch.Tensor:
    """Números enormes que se anulan: en 64 bits también cuenta el orden."""
    rows = uniform(m, n, seed=n)
    rows[:, 1::3] *= 2.0**60
    rows[:, 2::3] = -rows[:, 1::3][:, : rows[:, 2::3].shape[1]]
    return rows


exercise(
    "10.3",
    Part(
        lambda: [
            (uniform(6, 90, seed=1), 32),
            (uniform(4, 64, seed=2), 16),
            (uniform(5, 11, seed=3), 24),
            (uniform(3, 200, seed=4), 40),
            (_hard_rows(60), 16),
            (uniform(4, 50, seed=5).tril(20), 8),  # con ceros suyos
        ],
        truth=lambda x, size: Trace(),
        observe=_sum_trace,
        said=_trace_said,
        otherwise=_trace_hint,
        traps=given.SUM_TRAPS,
        rights=[
            given.sum_rows,
            given.by_columns,
            given.folded,
            given.exactly,
            lambda x, size: torch.stack(
                [given.sum_rows(r[None], 2)[0] for r in x]
            ),
        ],
    ),
    success="¡Correcto! Los mismos bits, sola o acompañada, y con ceros.",
)


# 10.4

ROWS = uniform(17, 8, seed=40)
ROWS[16] *= 4  # lo ven las que dependen de los valores


def _shifted(rows):
    """La fila de lugar impar se suma de otra manera."""
    odd = torch.arange(len(rows))[:, None] % 2 > 0
    return torch.where(odd, bench.times(rows, 3), bench.times(rows))


def _from_first(rows):
    first = torch.arange(len(rows))[:, None] == 0
    return torch.where(first, bench.times(rows), bench.times(rows, 3))


def _scaled(rows):
    """Cuantiza con la escala de todo el lote."""
    scale = rows.abs().max() / 127
    return bench.times((rows / scale).round() * scale)


def _scaled_apart(rows):
    scale = rows.abs().amax(-1, keepdim=True) / 127
    return bench.times((rows / scale).round() * scale)


def _by_count(rows):
    return bench.times(rows, 1 + len(rows) % 4)


def _only(m):
    """Cambia con lotes de m filas, y con ningún otro."""
    return lambda rows: bench.times(rows, 3 if len(rows) == m else 1)


def _rotated(rows):
    """Gira las columnas y las devuelve a su sitio."""
    return rows.flip(-1).flip(-1)


def _inside(rows):
    place = torch.arange(len(rows))[:, None]
    inside = (place > 0) & (place < len(rows) - 1)
    return torch.where(inside, bench.times(rows, 3), bench.times(rows))


def _corner(rows):
    """Cambia una fila, con un tamaño de lote y en un lugar."""
    corner = (torch.arange(len(rows)) == 3) & (len(rows) == 5)
    return torch.where(
        corner[:, None], bench.times(rows, 3), bench.times(rows)
    )


GOOD_OPS = {
    "norma": bench.norm,
    "softmax": bench.soft,
    "por fila": _scaled_apart,
    "copia": _rotated,
}
BAD_OPS = {
    "por lote": _scaled,
    "de tres": _only(3),
    "de seis": _only(6),
    "según cuántas": _by_count,
    "impares": _shifted,
    "la primera": _from_first,
    "de 17": _only(17),
    "en medio": _inside,
    "un rincón": _corner,
}
OP_SETS = [
    (bench.suspects(), ["producto"]),
    (GOOD_OPS, []),
    (GOOD_OPS | {"por lote": _scaled}, ["por lote"]),
    (GOOD_OPS | {"de tres": _only(3)}, ["de tres"]),
    (GOOD_OPS | {"de seis": _only(6)}, ["de seis"]),
    ({"la primera": _from_first} | GOOD_OPS, ["la primera"]),
    (GOOD_OPS | {"de 17": _only(17)}, ["de 17"]),
    (GOOD_OPS | {"en medio": _inside}, ["en medio"]),
    (GOOD_OPS | {"un rincón": _corner}, ["un rincón"]),
    (BAD_OPS, [*BAD_OPS]),
    (BAD_OPS | GOOD_OPS, [*BAD_OPS]),
]


def _names(value, ops, rows) -> list[str]:
    expect(
        isinstance(value, list | tuple | set)
        and all(isinstance(name, str) for name in value),
        "Devuelve una lista con los nombres de las que cambian.",
    )
    unknown = sorted({*value} - {*ops})
    expect(not unknown, f"No hay ninguna operación que se llame {unknown}.")
    return sorted({*value})


def _names_said(ours, right, ops, rows) -> str:
    more, less = sorted({*ours} - {*right}), sorted({*right} - {*ours})
    if more:
        return f"Acusas a «{more[0]}», y no cambia un bit."
    return f"Se te escapa «{less[0]}», entre {len(ops)} operaciones."


exercise(
    "10.4",
    Part(
        [(ops, ROWS) for ops, _ in OP_SETS],
        truth=lambda ops, rows: next(
            sorted(bad) for several, bad in OP_SETS if several is ops
        ),
        read=_names,
        said=_names_said,
        traps=given.OP_TRAPS,
        otherwise="Tres cosas pueden cambiar: cuántas van, en qué lugar y qué "
        "valores llevan las otras.",
        rights=[given.variants, given.by_rolling],
    ),
    success="¡Correcto! Ninguna se te escapa, y no acusas a ninguna en falso.",
)


# 10.5

WEIGHT = uniform(6, 5, seed=50)
PRODUCTS = {name: make for name, (_, make) in given.BAD.items()}
PRODUCTS |= {name: (lambda p=p: p) for name, p in given.GOOD.items()}


BOOLEAN = "Devuelve True o False: ni None, ni un AssertionError, ni otra cosa."


def _judged(answer, name) -> str:
    """«acepta» o «rechaza»: lo que dice la prueba de ese producto."""
    expect(callable(answer), "Esperaba una función: pasa su nombre.")

    def judge(product):
        try:
            value = call(answer, product, WEIGHT)
        except Hint as hint:
            expect(hint.kind != "AssertionError", BOOLEAN)
            raise
        expect(
            isinstance(value, bool | np.bool_)
            or isinstance(value, torch.Tensor)
            and value.numel() == 1,
            BOOLEAN,
        )
        assert value

    return put_to_test(judge, PRODUCTS[name]())


def _judged_said(ours, right, name) -> str:
    if name in given.GOOD:
        return f"Rechaza un producto invariante: uno que {name}."
    return f"Deja pasar un producto que {name}."


exercise(
    "10.5",
    Part(
        [(name,) for name in PRODUCTS],
        **verdicts(
            given.GOOD,
            {name: hint for name, (hint, *_) in given.BAD.items()},
            given.OTHER_ORDER,
        ),
        observe=_judged,
        said=_judged_said,
        traps=given.TEST_TRAPS,
        rights=[given.is_invariant, given.by_cutting],
    ),
    success="¡Correcto! Acepta los tres buenos y caza los siete malos.",
)


# 10.6


def _attend(function, q, k, v, first, chunk):
    limit = max(chunk, q.shape[1])
    with bench.ShapeMachine(most=limit):
        value = call(function, q, k, v, first, chunk)
    what = f"Con q {[*q.shape]}, k {[*k.shape]} y first = {first}, lo que das"
    return tensor(value, q.shape, what)


def _exact(q, k, v, first):
    q, k, v = q.double(), k.double(), v.double()
    seen = torch.ones(len(q), len(k)).tril(first) > 0
    scores = (q @ k.T / math.sqrt(q.shape[1])).masked_fill(~seen, -math.inf)
    return scores.softmax(-1) @ v


def _cut_trace(function, n, chunk, cuts, hard=False, big=False) -> Trace:
    d = 16 if big else 8
    q, k, v = (uniform(n, d, seed=n + i, scale=3.0) for i in range(3))
    if big:  # productos de más de 100, sin redondeo
        q, k = (4 * q).round(), (4 * k).round()
    if hard:  # pesos iguales, y valores enormes que se anulan
        k, v = 0 * k, _hard_rows(n, 8).T.contiguous()
    one = _attend(function, q, k, v, 0, chunk)
    for a, b in cuts:
        part = _attend(function, q[a:b], k[:b], v[:b], a, chunk)
        error = (part - _exact(q[a:b], k[:b], v[:b], a)).abs().max().item()
        bits = one.flatten().tolist() + part.flatten().tolist()
        if error > 1e-5 * v.abs().max().clamp_min(3) / 3:
            bad = f"De la {a} a la {b - 1}, lejos del softmax: "
            bad += say("te apartas hasta {0:.5f}.", error)
            return Trace(bad, given.ONE_ROW, bits)
        if not torch.equal(part, one[a:b]):
            bad = f"De las {n} posiciones, de la {a} a la {b - 1} cambian "
            bad += f"de bits si se piden aparte (chunk = {chunk})."
            return Trace(bad, given.SHAPES, bits)
    return Trace()


exercise(
    "10.6",
    Part(
        [
            (
                21,
                8,
                [(0, 21), (7, 21), (20, 21), *zip(range(21), range(1, 22))],
            ),
            (37, 16, [(0, 37), (0, 9), (9, 20), (16, 32), (31, 37), (36, 37)]),
            (5, 8, [(0, 5), (0, 1), (1, 4), (4, 5)]),
            (45, 8, [(0, 45), (0, 44), (3, 4), (40, 45), (44, 45)]),
            (48, 16, [(0, 48), (0, 9), (8, 18), (20, 21), (40, 48)], True),
            (20, 16, [(0, 20), (9, 20), (19, 20)], False, True),
        ],
        truth=lambda *case: Trace(),
        observe=_cut_trace,
        said=_trace_said,
        otherwise=_trace_hint,
        traps=given.ATTENTION_TRAPS,
        rights=[given.attention, given.online, given.one_pair],
    ),
    success="¡Correcto! Los mismos bits, se corte por donde se corte.",
)
