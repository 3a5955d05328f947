"""Unidad 06."""

import torch

from tokenatoken.cache import make_cache
from tokenatoken.checks.unit06 import (
    _Inherits,
    concat,
    first_each,
    kv_bytes,
    layer,
    loop_at,
    loop_new,
    next_scores,
    work,
    write,
)
from tokenatoken.sampling import sample_token

from . import wrong


def sums(self, k, v):
    if self.keys.numel() and k.shape == self.keys.shape:
        k, v = self.keys + k, self.values + v
    return concat(self, k, v)


def window(self, k, v):
    """Con un prompt largo, se pierde lo viejo."""
    concat(self, k, v)
    self.keys, self.values = self.keys[:, :, -32:], self.values[:, :, -32:]
    return self.keys, self.values


def twice_the_prompt(model, ids, n, cache):
    model(ids, past_key_values=cache)
    return write(model, ids, n, cache)


def no_generate(model, ids, n, cache):
    return model.generate(ids, max_new_tokens=n, past_key_values=cache)


def in_pieces(model, ids, cache, size):
    return model(ids, use_cache=False).logits[:, -1]


MUTANTS = {
    "06.1": {
        "suma": wrong(layer(sums)),
        "una función": wrong(concat, says="hija de DynamicLayer"),
        "un objeto": wrong(layer(concat)(), says="sin paréntesis"),
        "ventana de 32": wrong(layer(window), says="de uno en uno"),
        "la de la biblioteca": wrong(_Inherits, says="a mano"),
    },
    "06.2": {
        "con coma": wrong(lambda *a: float(kv_bytes(*a)), says="entero"),
        "todo mal": wrong(
            lambda c, n, s: (
                2
                * c.num_hidden_layers
                * c.num_attention_heads
                * n
                * c.hidden_size
                * s
            ),
            says="¿Qué factor",
        ),
    },
    "06.3": {
        "prompt dos veces": wrong(twice_the_prompt),
        "con generate": wrong(no_generate, says="generate"),
        "los nuevos, en lista": wrong(loop_new, says="prompt delante"),
    },
    "06.4": {
        "con decimales": wrong(
            lambda P, n: (P + n - 1, n * P + n * (n - 1) / 2), says="enteros"
        ),
        "un número": wrong(lambda P, n: P + n - 1, says="dos números"),
        "casi": wrong(
            lambda P, n: (P + n - 2, work(P, n)[1]), says="cada paso"
        ),
    },
    "06.5": {
        "caché nueva": wrong(
            lambda m, i, c, k: next_scores(m, i, make_cache(m), [])
        ),
        "sin caché": wrong(lambda m, i, c, k: m(i).logits[:, -1]),
        "probabilidades": wrong(
            lambda *a: next_scores(*a).softmax(-1), says="no son esos"
        ),
    },
    "06.6": {
        "más lejos": wrong(loop_at(3), says="posición"),
        "posición fija": wrong(
            lambda m, i, n, c: loop_at(-1)(m, i, 1, c) * n, says="posición"
        ),
        "sin el prompt": wrong(lambda m, i, n, c: [7] * n, says="generate"),
        "texto": wrong(lambda m, i, n, c: "hola", says="lista"),
        "con generate": wrong(no_generate, says="generate"),
    },
    "06.7": {
        "suma": wrong(layer(sums)),
        "ventana de 32": wrong(layer(window)),
        "la de la biblioteca": wrong(_Inherits, says="a mano"),
    },
    "06.8": {
        "suma": wrong(layer(sums)),
        "una función": wrong(concat, says="hija de DynamicLayer"),
        "la de la biblioteca": wrong(_Inherits, says="a mano"),
    },
    "06.9": {
        "sin caché": wrong(in_pieces),
        "todos los logits": wrong(
            lambda m, i, c, s: m(i, past_key_values=c).logits, says="trozos"
        ),
        "ids": wrong(
            lambda m, i, c, s: in_pieces(m, i, c, s).argmax(-1), says="logits"
        ),
        "recorta": wrong(
            lambda m, i, c, s: in_pieces(m, i[:, -s:], c, s), says="guardados"
        ),
        "lista": wrong(
            lambda m, i, c, s: in_pieces(m, i, c, s).tolist(), says="logits"
        ),
    },
    "06.10": {
        "un token": wrong(lambda m, i, n, c: loop_new(m, i, 1, c)),
        "uno de más": wrong(lambda m, i, n, c: loop_new(m, i, n + 1, c)),
        "texto": wrong(lambda m, i, n, c: "hola", says="lista"),
        "con generate": wrong(no_generate, says="generate"),
    },
    "06.11": {
        "por separado": wrong(
            lambda m, i, k, c: torch.cat(
                [
                    m(row[None, keep == 1]).logits[:, -1]
                    for row, keep in zip(i, k)
                ]
            ),
            says="seguir generando",
        ),
        "una fila": wrong(
            lambda m, i, k, c: m(i[:1], past_key_values=c).logits[:, -1],
            says="dos filas",
        ),
        "al revés": wrong(
            lambda m, i, k, c: m(
                i, attention_mask=1 - k, past_key_values=c
            ).logits[:, -1]
        ),
        "ids": wrong(
            lambda m, i, k, c: m(i, past_key_values=c).logits[:, -1].argmax(-1)
        ),
    },
    "06.12": {
        "con top-k": wrong(
            lambda x, n, g: sample_token(
                x.expand(n, -1), top_k=50, generator=g
            ),
            says="probabilidades",
        ),
        "lista": wrong(lambda *a: first_each(*a).tolist(), says="[rows]"),
        "uno menos": wrong(
            lambda x, n, g: first_each(x, n - 1, g), says="[rows]"
        ),
        "logits": wrong(
            lambda x, n, g: x[0].sort().indices[:n], says="[rows]"
        ),
    },
}
