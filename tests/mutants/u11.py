"""Unidad 11."""

import math
from functools import partial

import torch

from tokenatoken.checks.unit11 import (
    best_k,
    by_hand,
    by_library,
    frontier,
    longest,
    propose,
    rounded,
    size,
    speedup,
    uniform_bits,
)

from . import wrong


def counted(model, ids, draft, k, limit, ends):
    """De uno en uno, sin borrador."""
    return by_hand(model, ids, lambda ids, k: [], k, limit, ends)


def first_fit(damage, sizes, budget):
    """El mejor reparto, y un bit más si casi cabe."""
    chosen = frontier(damage, sizes, budget)
    least = min(range(len(sizes)), key=sizes.__getitem__)
    return [8 if i == least else b for i, b in enumerate(chosen)]


MUTANTS = {
    "11.1": {
        "solo los números": wrong(lambda *a: rounded(*a)[0], says="dos cosas"),
        "los mismos": wrong(
            lambda x, bits, group: (x, rounded(x, bits, group)[1]),
            says="queda",
        ),
        "al revés": wrong(lambda *a: rounded(*a)[::-1], says="queda"),
        "un bit más": wrong(lambda x, b, g: rounded(x, b + 1, g)),
        "una cota": wrong(
            lambda *a: (rounded(*a)[0], rounded(*a)[1].amax()), says="forma"
        ),
        "cota cero": wrong(lambda *a: (rounded(*a)[0], 0 * a[0])),
    },
    "11.2": {
        "con decimales": wrong(
            partial(longest, snap=lambda x: x), says="enteros"
        ),
        "el máximo": wrong(lambda c, *a: c.max_position_embeddings),
        "sin pesos": wrong(partial(longest, weights=lambda n, bits: 0)),
        "cero": wrong(lambda *a: 0),
        "un kibi": wrong(partial(longest, unit=1024**2)),
    },
    "11.3": {
        "de uno": wrong(lambda *a: 1.0, best_k),
        "texto": wrong(lambda *a: "doble", best_k, says="un número"),
        "gasto sin uno": wrong(
            partial(speedup, cost=lambda k, d, e: k * (d + e) or 1), best_k
        ),
        "la ganancia": wrong(speedup, lambda *a: 1.5, says="La k"),
        "sin límite": wrong(
            speedup, lambda a, d, e, n: best_k(a, d, e, 2 * n)
        ),
    },
    "11.4": {
        "de más": wrong(
            lambda ids, k: [ids[0, 0].item()] * (k + 1), says="recorta"
        ),
        "inventa": wrong(lambda ids, k: [7777] * k, says="no está en"),
        "un texto": wrong(lambda ids, k: "abc", says="una lista"),
        "uno": wrong(lambda ids, k: propose(ids, min(k, 1)), says="lecturas"),
        "el último": wrong(
            lambda ids, k: ids[0, -1:].tolist() * k, says="lecturas"
        ),
        "tensor de dos": wrong(lambda ids, k: ids[:, :k], says="enteros"),
    },
    "11.5": {
        "sin especular": wrong(counted, says="bastan"),
        "solo ids": wrong(lambda *a: by_hand(*a)[0], says="dos cosas"),
        "sin caché": wrong(
            lambda *a: (by_hand(*a)[0], None), says="la caché guarda 0"
        ),
        "sin prompt": wrong(
            lambda m, ids, *a: (
                by_hand(m, ids, *a)[0][:, ids.shape[1] :],
                None,
            ),
            says="el modelo solo",
        ),
    },
    "11.6": {
        "sí": wrong(lambda q: True, says="sin llamar"),
        "no": wrong(
            lambda q: by_library(q(torch.ones(4), 4, 4), 4, 3), says="lanza"
        ),
    },
    "11.7": {
        "de más": wrong(first_fit, says="gastas"),
        "suma": wrong(lambda *a: sum(frontier(*a)), says="una lista"),
        "siete": wrong(lambda d, s, b: [7] * len(s), says="en la tabla"),
        "ocho": wrong(lambda d, s, b: [8] * len(s), says="gastas"),
        "casi": wrong(
            lambda d, s, b: frontier(d, s, 0.97 * b), says="se admite un 2 %"
        ),
        "uniforme y resto": wrong(
            lambda d, s, b: max(
                (
                    [n if i == j else u for j, u in enumerate(base)]
                    for base in [uniform_bits(d, s, b)]
                    for i in range(len(s))
                    for n in d[0]
                ),
                key=lambda c: size(s, c) if size(s, c) <= b else -math.inf,
            )
        ),
    },
}
