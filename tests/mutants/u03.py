"""Unidad 03."""

import math
from functools import partial

import torch

from tokenatoken.checks.unit03 import (
    LETTER,
    ROWS,
    _other,
    _search,
    _shares,
    bias,
    score,
    test_softmax,
)

from . import wrong


def only_sums(softmax):
    """Mira la suma y la forma, y nada más."""
    for row in ROWS.values():
        p = softmax(torch.tensor(row))
        assert p.shape == (len(row),) and abs(p.sum() - 1) < 1e-3


def shifted(softmax):
    """Suma lo mismo a todos, y mira con más cifras de las prometidas."""
    x = torch.tensor([0.3, -1.2, 2.1])
    assert (softmax(x) - softmax(x + 1000)).abs().max() < 1e-6


MUTANTS = {
    "03.1": {
        "sin logits": wrong(lambda softmax: True, says="sin llamar"),
        "rechaza todo": wrong(
            lambda softmax: test_softmax(lambda x: 0 * x), says="bueno"
        ),
        "solo la suma": wrong(only_sums, says="uno malo"),
        "unas cifras de más": wrong(shifted, says="margen"),
        "solo ordenados": wrong(
            partial(test_softmax, rows=["grandes"]), says="uno malo"
        ),
    },
    "03.2": {
        "texto": wrong(lambda *case: f"{bias(*case)}", says="número"),
        "infinito": wrong(lambda *case: math.inf, says="∞"),
        "casi": wrong(lambda *case: bias(*case) + 0.05, says="se pedía"),
        "en el sitio": wrong(
            lambda x, i, target, T: bias(x.div_(T), i, target, 1),
            says="copia",
        ),
    },
    "03.3": {
        "pocas vueltas": wrong(lambda x, t: _search(x, t, rounds=5)),
        "casi": wrong(lambda x, t: _search(x, t, rounds=9), says="vueltas"),
        "corto": wrong(lambda x, t: _search(x, t, 0.5, 2), says="ancho"),
        "negativa": wrong(lambda x, t: -_search(x, t), says="mayor que 0"),
        "infinita": wrong(lambda x, t: math.inf, says="∞"),
        "dos números": wrong(lambda x, t: torch.ones(2), says="un solo"),
    },
    "03.4": {
        "solo la perplejidad": wrong(
            lambda text: score(text)[0], LETTER, says="tres valores"
        ),
        "el id": wrong(_other(1, lambda *_: 358), LETTER, says="texto"),
        "la palabra entera": wrong(
            _other(1, lambda token, *_: f"{token}s"), LETTER, says="dices"
        ),
        "una lista": wrong(score, [LETTER], says="entre comillas"),
        "no acaba": wrong(
            score,
            " ".join([LETTER, *map(chr, range(13312, 13712))]),
            says="300",
        ),
    },
    "03.5": {
        "repite el país": wrong(
            "capital of {}:", "Canada", says="otra ciudad"
        ),
        "capitalismo": wrong(
            "Under capitalism, the main city in {} is",
            "Nigeria",
            says="esa palabra",
        ),
        "la económica": wrong(
            "The economic capital of {} is the city of",
            "Turkey",
            says="tal cual",
        ),
        "la que no es": wrong(
            "Wrong answer: the NOT capital of {} is",
            "Nigeria",
            says="tal cual",
        ),
        "la de antes": wrong(
            "The capital of {} was moved away from the city of",
            "Nigeria",
            says="tal cual",
        ),
        "con la respuesta": wrong(
            "Sydney is in Australia. The capital of {} is the city of",
            "Australia",
            says="la pones tú",
        ),
    },
    "03.6": {
        "lista": wrong(
            lambda p, T: _shares(p ** (1 / T)).tolist(), says="un tensor"
        ),
        "a medias": wrong(
            lambda p, T: _shares(p ** ((1 + 1 / T) / 2)), says="exponente"
        ),
        "exponente al cuadrado": wrong(
            lambda p, T: _shares(p ** (1 / T**2)), says="exponente"
        ),
        "suma dos": wrong(lambda p, T: 2 * _shares(p ** (1 / T))),
    },
}
