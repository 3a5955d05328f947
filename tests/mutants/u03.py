"""Unidad 03."""

import math

import torch

from tokenatoken.checks.unit03 import (
    _guess,
    _search,
    _shares,
    entropy,
)

from . import wrong


def softmax(x):
    return _shares((x - x.max()).exp())


def in_place(x):
    x -= x.max()
    return _shares(x.exp())


MUTANTS = {
    "03.1": {
        "lista": wrong(lambda x: softmax(x).tolist(), says="un tensor"),
        "en el sitio": wrong(in_place, says="copia"),
        "el de PyTorch": wrong(lambda x: x.softmax(-1), says="a mano"),
        "su logaritmo": wrong(
            lambda x: torch.log_softmax(x, 0).exp(), says="log_softmax"
        ),
        "el de nn": wrong(lambda x: torch.nn.Softmax(dim=0)(x), says="a mano"),
        "de categórica": wrong(
            lambda x: torch.distributions.Categorical(logits=x).probs,
            says="a mano",
        ),
        "con lote": wrong(lambda x: softmax(x)[None], says="forma"),
        "el mejor a 1": wrong(lambda x: (x == x.max()) * 1.0, says="razón"),
        "redondeado": wrong(lambda x: softmax(x).round(decimals=3)),
    },
    "03.2": {
        "divide en el sitio": wrong(
            lambda x, T: entropy(x.div_(T), 1), says="copia"
        ),
        "por token": wrong(
            lambda x, T: torch.special.entr((x / T).softmax(-1)),
            says="un solo número",
        ),
        "texto": wrong(lambda x, T: f"{entropy(x, T)} nats", says="número"),
        "normalizada": wrong(
            lambda x, T: entropy(x, T) / math.log(len(x)), says="ln 2"
        ),
    },
    "03.3": {
        "pocas vueltas": wrong(lambda x, t: _search(x, t, rounds=5)),
        "casi": wrong(lambda x, t: _search(x, t, rounds=9), says="vueltas"),
        "corto": wrong(lambda x, t: _search(x, t, 0.5, 2), says="ancho"),
        "de 0 a 10": wrong(lambda x, t: _search(x, t, 1e-3, 10)),
        "cero": wrong(lambda x, t: 0, says="mayor que 0"),
        "negativa": wrong(lambda x, t: -_search(x, t), says="mayor que 0"),
        "infinita": wrong(lambda x, t: math.inf, says="∞"),
        "dos números": wrong(lambda x, t: torch.ones(2), says="un solo"),
    },
    "03.4": {
        "texto": wrong(lambda x, i: "12", says="número"),
        "una por token": wrong(
            lambda x, i: x[:-1].softmax(-1).gather(1, i[1:, None]),
            says="un solo número",
        ),
        "desplaza en el sitio": wrong(lambda x, i: x.zero_(), says="copia"),
    },
    "03.5": {
        "otro nombre": wrong(lambda p, top: "bf16", says="bfloat16"),
        "dtype": wrong(lambda p, top: torch.float16, says="textos"),
        "mira porcentajes": wrong(
            lambda p, top: "bfloat16" if p[0] % 0.25 < 0.1 else "float16",
            says="dices",
        ),
        "al revés": wrong(
            lambda p, top: {"bfloat16": "float16", "float16": "bfloat16"}.get(
                _guess(p, top), "float32"
            )
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
