"""Unidad 04."""

import torch

from tokenatoken.checks.unit04 import (
    MIXED,
    doors,
    draw,
    expected,
    n_sigma,
    nucleus,
)

from . import wrong


def in_place(x, n):
    return x.copy_(n_sigma(x, n))


def one_case(top_p):
    logits = torch.tensor(MIXED)
    assert torch.allclose(top_p(logits, 0.5), nucleus(logits, 0.5))


def refuse(top_p):
    raise AssertionError(top_p(torch.tensor(MIXED), 0.5))


MUTANTS = {
    "04.1": {
        "dos cosas": wrong(lambda x, t: doors(x, t)[:2], says="tres números"),
        "textos": wrong(lambda x, t: ("1", 0.0, 1.0), says="número"),
        "siempre lo mismo": wrong(
            lambda x, t: (1, 0.0, 1.0), says="k tendría"
        ),
        "p en tanto por ciento": wrong(
            lambda x, t: (
                doors(x, t)[0],
                100 * doors(x, t)[1],
                doors(x, t)[2],
            ),
            says="p tendría",
        ),
    },
    "04.2": {
        "una fila": wrong(lambda x, n: n_sigma(x, n)[0], says="forma"),
        "lista": wrong(lambda x, n: n_sigma(x, n).tolist(), says="tensor"),
        "en el sitio": wrong(in_place, says="copia"),
        "sin n": wrong(lambda x, n: n_sigma(x, 1.0), says="umbral"),
        "n al cuadrado": wrong(lambda x, n: n_sigma(x, n * n), says="umbral"),
    },
    "04.3": {
        "con comas": wrong(
            lambda x, T, s: [float(i) for i in draw(x, T, s)],
            expected,
            says="entero",
        ),
        "uno solo": wrong(
            lambda x, T, s: draw(x, T, s)[0], expected, says="ids"
        ),
        "el siguiente": wrong(
            lambda x, T, s: [(i + 1) % x.shape[1] for i in draw(x, T, s)],
            expected,
            says="T = 0",
        ),
        "divide en el sitio": wrong(
            lambda x, T, s: draw(x.div_(T or 2), 1 if T else 0, s),
            expected,
            says="copia",
        ),
        "sorteando": wrong(
            draw,
            lambda p, n: float(
                len(set(torch.multinomial(p, n, replacement=True).tolist()))
            ),
            says="una vez",
        ),
    },
    "04.4": {
        "no llama": wrong(lambda top_p: None, says="no prueba nada"),
        "rechaza todo": wrong(
            refuse,
            says="Rechaza uno bueno",
        ),
        "un solo caso": wrong(one_case, says="Deja pasar uno que"),
        "no es función": wrong(3, says="función"),
    },
    "04.5": {
        "sin la lista": wrong((0.4, 0.2, 0.88), says="entre 4 y 6"),
        "textos": wrong(([0.4, 0.3, 0.2, 0.1], "0.2", 0.88), says="número"),
        "probabilidades en texto": wrong(
            (["0.4"] * 4, 0.2, 0.88), says="entre 4 y 6"
        ),
        "una menos": wrong(
            ([0.4, 0.25, 0.2, 0.15], 0.8, 0.86), says="al menos 3"
        ),
    },
    "04.6": {
        "bytes": wrong(b"a b c d", "a b c d", says="comillas"),
        "vacío": wrong("", "", says="4 a 40"),
        "al revés": wrong(
            "Me gusta mucho el", "Once upon a time there", says="cerrado"
        ),
        "con mayúsculas": wrong(
            "LA CAPITAL DE FRANCIA ES", "Me gusta mucho el", says="cuaderno"
        ),
    },
}
