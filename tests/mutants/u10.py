"""Unidad 10."""

import math
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from tokenatoken.checks.answers10 import (
    FIRST,
    attention,
    each_row,
    flips,
    is_invariant,
    online,
    ours,
    smallest,
    sum_rows,
    variants,
)

from . import wrong


def backwards(x, size):
    """Del último trozo al primero, sin completar."""
    return sum(each_row(piece) for piece in x.split(size, -1)[::-1])


def overlapping(x, size):
    """Suma dos veces la columna de cada borde."""
    starts = range(0, x.shape[1], size)
    return sum(each_row(x[:, s : s + size + 1]) for s in starts)


def by_batch(ops, rows):
    """Lote entero contra fila a fila."""
    return [
        name
        for name, op in ops.items()
        if not torch.equal(op(rows), torch.cat([op(r) for r in rows.split(1)]))
    ]


def cross(ops, rows):
    """Todos los tamaños y todos los lugares, pero no a la vez."""
    full = partial(variants, sizes=[1, len(rows)])
    return {*FIRST(ops, rows), *full(ops, rows)}


def asserting(product, weight):
    """Con assert, como en otros laboratorios."""
    assert is_invariant(product, weight)


def only_shapes(product, weight):
    return product(ours(len(weight)), weight).shape == (32, weight.shape[1])


def halves(product, weight):
    rows = ours(len(weight))
    parts = [product(half, weight) for half in rows.chunk(2)]
    return torch.equal(product(rows, weight), torch.cat(parts))


def library(q, k, v, first, chunk):
    return scaled_dot_product_attention(q[None], k[None], v[None])[0]


def strict(q, k, v, first, chunk):
    """Tampoco se ve a sí misma."""
    return attention(q, k, v, first, chunk, start=first - 1)


def early(q, k, v, first, chunk):
    """Solo los trozos enteros ya pasados, y el último."""
    n = len(k) - len(k) % chunk or len(k)
    return attention(q, k[:n], v[:n], first, chunk)


MUTANTS = {
    "10.1": {
        "tres": wrong((0.1, 0.2, 0.3), says="cuatro números"),
        "uno": wrong(0.1, says="cuatro números"),
        "textos": wrong(tuple("abcd"), says="64 bits"),
        "complejos": wrong((1j, 1.0, 1.0, 1.0), says="64 bits"),
        "de 32 bits": wrong(
            torch.tensor([1.0, 2**24, 1.0, -(2**24)]), says="dos maneras"
        ),
        "conjunto": wrong({1.0, 2.0, 3.0, 4.0}, says="en este orden"),
    },
    "10.2": {
        "solo el margen": wrong(
            lambda *a: smallest(*a)[1], flips, says="dos cosas"
        ),
        "al revés": wrong(lambda *a: smallest(*a)[::-1], flips, says="entero"),
        "negativo": wrong(lambda *a: (smallest(*a)[0], -1.0), flips),
        "primera": wrong(partial(smallest, pick=lambda g: g[0] * 0), flips),
        "sin texto": wrong(
            lambda m, ids: smallest(m, ids[:, :1]), flips, says="Ordena"
        ),
        "lista": wrong(smallest, lambda z, e: [0, 1], says="un número"),
        "ninguna": wrong(smallest, lambda z, e: 0),
        "todas": wrong(smallest, lambda z, e: len(z)),
        "cuatro veces": wrong(smallest, partial(flips, times=4)),
    },
    "10.3": {
        "todo": wrong(lambda x, size: x.sum(), says="forma"),
        "columna": wrong(lambda x, size: x.sum(-1, True), says="forma"),
        "lista": wrong(lambda x, size: x.sum(-1).tolist(), says="tensor"),
        "cumsum": wrong(lambda x, size: x.cumsum(-1)[:, -1], says="cumsum"),
        "media": wrong(lambda x, size: x.mean(-1), says="¿Sumas todas"),
        "del revés": wrong(backwards),
        "bordes": wrong(overlapping, says="una vez"),
        "producto": wrong(lambda x, size: x @ torch.ones(x.shape[1])),
        "trozos de n": wrong(
            partial(sum_rows, cut=lambda x, size: x.split(x.shape[1] // 2, -1))
        ),
        "NaN": wrong(lambda x, size: x.sum(-1) * math.nan, says="NaN"),
        "numpy": wrong(
            lambda x, size: torch.tensor(x.double().numpy().sum(1)),
            says="no tiene numpy",
        ),
    },
    "10.4": {
        "ninguna": wrong(lambda ops, rows: [], says="Se te escapa"),
        "todas": wrong(lambda ops, rows: [*ops], says="Acusas"),
        "una": wrong(lambda ops, rows: "producto", says="una lista"),
        "números": wrong(lambda ops, rows: [4], says="una lista"),
        "otra": wrong(lambda ops, rows: ["linear"], says="No hay"),
        "lote entero": wrong(by_batch, says="Se te escapa"),
        "pares": wrong(partial(variants, sizes=range(1, 18, 2))),
        "en cruz": wrong(cross, says="un rincón"),
        "hasta cuatro": wrong(partial(FIRST, sizes=range(1, 5))),
        "diccionario": wrong(
            lambda ops, rows: dict.fromkeys(ops, False), says="una lista"
        ),
    },
    "10.5": {
        "sí": wrong(lambda p, w: True, says="sin llamar"),
        "no": wrong(
            lambda p, w: p(ours(len(w)), w).isnan().any(), says="Rechaza"
        ),
        "con assert": wrong(asserting, says="True o False"),
        "formas": wrong(only_shapes, says="Deja pasar"),
        "mitades": wrong(halves, says="Deja pasar"),
        "sin once": wrong(
            partial(is_invariant, sizes=[*range(1, 11), *range(12, 33)])
        ),
        "hasta tres": wrong(
            partial(is_invariant, sizes=[1, 2, 3, 32]), says="los tamaños"
        ),
        "hasta 8": wrong(partial(is_invariant, sizes=range(1, 9))),
        "texto": wrong(lambda p, w: "sí", says="True o False"),
        "al revés": wrong(lambda *a: not is_invariant(*a)),
    },
    "10.6": {
        "de biblioteca": wrong(library, says="no tiene"),
        "con einsum": wrong(
            lambda q, k, v, *_: torch.einsum("md,nd->mn", q, k), says="einsum"
        ),
        "con linalg": wrong(
            lambda q, k, v, *_: torch.linalg.matmul(q, k.T).softmax(-1) @ v,
            says="de una vez",
        ),
        "una fila": wrong(lambda *a: attention(*a)[0], says="forma"),
        "estricta": wrong(strict, says="NaN"),
        "sin el final": wrong(early),
        "otra raíz": wrong(
            lambda q, *rest: attention(q / q.shape[1] ** 0.5, *rest)
        ),
        "valores": wrong(lambda q, k, v, *_: v[-len(q) :], says="a mano"),
        "del revés": wrong(lambda *a: attention(*a).flip(0)),
        "trozo de m": wrong(
            lambda q, k, v, first, chunk: online(q, k, v, first, len(q))
        ),
        "grupos de m": wrong(
            partial(attention, groups=lambda op, rows: op(rows[:99]))
        ),
    },
}
