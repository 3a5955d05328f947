"""Unidad 04."""

import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from tokenatoken.checks.unit04 import (
    _top_k,
    choose,
    top_p,
)
from tokenatoken.sampling import top_p_filter, warp_logits

from . import wrong

INF = float("inf")


def in_place(logits, k):
    return logits.masked_fill_(logits < logits.topk(k).values[-1], -INF)


def warp(x, T, k, p):
    return top_p(_top_k(x / T, k), p)


MUTANTS = {
    "04.1": {
        "solo los mejores": wrong(
            lambda x, k: x.topk(k).values, says="fuera de la lista"
        ),
        "índices": wrong(
            lambda x, k: x.topk(k).indices.tolist(), says="tensor"
        ),
        "en el sitio": wrong(in_place, says="copia"),
        "la de la biblioteca": wrong(
            lambda x, k: TopKLogitsWarper(k)(None, x[None])[0], says="a mano"
        ),
        "0 · ∞": wrong(
            lambda x, k: x + (x < x.topk(k).values[-1]) * -INF, says="NaN"
        ),
        "suma uno a los que quedan": wrong(
            lambda x, k: _top_k(x, k) + 1, says="Imprime"
        ),
    },
    "04.2": {
        "la de la biblioteca": wrong(
            lambda x, p: TopPLogitsWarper(p)(None, x[None])[0], says="a mano"
        ),
        "la del curso": wrong(top_p_filter, says="top_p_filter"),
        "solo el núcleo": wrong(
            lambda x, p: top_p(x, p)[top_p(x, p) > -INF],
            says="fuera de la lista",
        ),
        "nada": wrong(lambda x, p: torch.full_like(x, -INF), says="ninguno"),
        "uno de menos si puede": wrong(
            lambda x, p: _top_k(
                top_p(x, p), max(1, int((top_p(x, p) > -INF).sum()) - 1)
            ),
            says="cruza p",
        ),
    },
    "04.3": {
        "con coma": wrong(
            lambda x, T, g: float(choose(x, T, g)), says="entero"
        ),
        "como texto": wrong(
            lambda x, T, g: str(choose(x, T, g)), says="entero"
        ),
        "divide en el sitio": wrong(
            lambda x, T, g: choose(x.div_(T or 2), T, g), says="copia"
        ),
        "no es un id": wrong(lambda x, T, g: 99, says="entero de 0"),
        "desde uno": wrong(lambda x, T, g: choose(x, T, g) + 1),
        "uno fijo con T = 0": wrong(
            lambda x, T, g: 1 if T == 0 else choose(x, T, g), says="T = 0"
        ),
        "la probabilidad": wrong(
            lambda x, T, g: x.softmax(-1).max(), says="entero"
        ),
        "T al cuadrado": wrong(
            lambda x, T, g: choose(x, T * T, g), says="mejor"
        ),
    },
    "04.4": {
        "la de la biblioteca": wrong(
            lambda x, T, k, p: warp_logits(x, temperature=T, top_k=k, top_p=p),
            says="a mano",
        ),
        "otra forma": wrong(
            lambda x, T, k, p: warp(x, T, k, p)[None], says="forma"
        ),
        "al revés": wrong(
            lambda x, T, k, p: -warp(-x, T, k, p), says="separado"
        ),
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
