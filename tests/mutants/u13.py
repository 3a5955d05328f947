"""Unidad 13."""

from functools import partial

import torch

from tokenatoken.checks.unit13 import (
    PAIRS,
    closest,
    dpo,
    fair,
    merge,
    one_token,
    run_query,
    surprise,
    test_judge,
    trained,
)

from . import wrong


def adds_in_place(W0, A, B, alpha):
    W0 += alpha / A.shape[0] * B @ A
    return W0


def waits(path, sql, rows=20):
    return run_query(path, sql, rows, steps=0)


def by_hand(judge):
    assert judge("¿Qué hora es?", "La una.", "Azul.") == "A"


def some_right(judge):
    hits = [judge(q, a, b) == "A" for q, a, b in PAIRS]
    hits += [judge(q, b, a) == "B" for q, a, b in PAIRS]
    assert sum(hits) >= 10


def enough(judge):
    test_judge(judge, pairs=PAIRS[:1])


def swapped(*case):
    first, second, *rest = surprise(*case)
    return [second, first, *rest]


def almost(*case):
    return dpo(*case) * (1 + 5e-4)


MUTANTS = {
    "13.1": {
        "dos": wrong(lambda c, n: one_token(c, n)[:2], says="tres números"),
        "al revés": wrong(lambda c, n: one_token(c, n)[::-1], says="y n = "),
        "texto": wrong(lambda c, n: ["a", 1, 2], says="un número"),
        "tres de más": wrong(
            partial(one_token, matrices=4), says="bytes de pesos"
        ),
    },
    "13.2": {
        "en el sitio": wrong(adds_in_place, trained, says="una copia"),
        "una fila": wrong(
            lambda *a: merge(*a)[0], trained, says="tiene forma [4]"
        ),
        "lista": wrong(
            lambda *a: merge(*a).tolist(), trained, says="un tensor"
        ),
        "los números": wrong(
            merge, lambda s, r: sum(r * (o + i) for o, i in s), says="dices"
        ),
        "las dos": wrong(
            merge, lambda s, r: (trained(s, r), 1), says="un número"
        ),
    },
    "13.3": {
        "NaN": wrong(lambda *a: float("nan"), says="NaN"),
        "por token": wrong(lambda *a: torch.ones(3), says="un solo número"),
        "margen": wrong(partial(dpo, loss=lambda x: x), says="das"),
        "casi": wrong(almost, says="das 0,6213, y es 0,6210"),
        "bits": wrong(partial(dpo, outside=lambda loss, b: loss / 0.6931)),
    },
    "13.4": {
        "sin filas": wrong(lambda path, sql, rows=20: [], says="tenía que"),
        "todo no": wrong(
            partial(run_query, filtered=lambda sql: False), says="devolver"
        ),
        "una fila": wrong(
            partial(run_query, cut=lambda c, rows: c.fetchone()),
            says="lista de tuplas",
        ),
        "sueltas": wrong(
            partial(run_query, cut=lambda c, rows: [r[0] for r in c]),
            says="lista de tuplas",
        ),
        "avisa con un texto": wrong(
            lambda *a: "rechaza", says="lista de tuplas"
        ),
        "textos": wrong(
            partial(
                run_query,
                cut=lambda c, rows: [
                    tuple(map(repr, r)) for r in c.fetchmany(rows)
                ],
            ),
            says="""tu fila 1 es ("'Ficha 0'", '1900')""",
        ),
        "espera": wrong(waits, says="no acaba"),
    },
    "13.5": {
        "otras parejas": wrong(by_hand, says="PAIRS"),
        "sin llamar": wrong(lambda judge: 1, says="sin llamar"),
        "casi todas": wrong(some_right, says="Deja pasar"),
        "una pareja": wrong(enough, says="Deja pasar"),
        "sin assert": wrong(
            lambda judge: [fair(*p) and judge(*p) for p in PAIRS] and 1,
            says="Deja pasar",
        ),
        "cuatro seguidas": wrong(
            lambda judge: test_judge(judge, orders=(1, 0, 1, 0)),
            says="alternando",
        ),
    },
    "13.6": {
        "tres": wrong(
            lambda *a: closest(*a)[:3], surprise, says="cuatro cosas"
        ),
        "texto": wrong(
            lambda *a: ("a", *closest(*a)[1:]), surprise, says="enteros"
        ),
        "número": wrong(
            closest, lambda *a: sum(surprise(*a)), says="una lista"
        ),
        "de menos": wrong(
            closest, lambda *a: surprise(*a)[1:], says="números, y son"
        ),
        "el doble": wrong(
            closest, lambda *a: [2 * x for x in surprise(*a)], says="labels"
        ),
        "dos cambiados": wrong(closest, swapped, says="al token 1, «"),
        "generador roto": wrong(
            closest, lambda *a: (x.no for x in surprise(*a)), says="Attribute"
        ),
    },
}
