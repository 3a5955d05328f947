"""Mutantes de la unidad 04: respuestas equivocadas que hay que rechazar."""

import numpy as np
import pytest
import torch

from tokenatoken.checks import check

from .verdicts import accepted, enough_mutants, rejected

INF = float("inf")


def top_k(logits, k):
    worst = logits.topk(k).values[-1]
    return logits.masked_fill(logits < worst, -INF)


def exact_k(logits, k):
    kept = logits.topk(k).indices
    return torch.full_like(logits, -INF).scatter(0, kept, logits[kept])


def in_place(logits, k):
    return logits.masked_fill_(logits < logits.topk(k).values[-1], -INF)


def top_p(logits, p, rule=lambda total, share, p: total - share >= p):
    shares, order = logits.softmax(-1).sort(descending=True)
    out = rule(shares.cumsum(0), shares, p)
    out = torch.zeros_like(out).scatter(0, order, out)
    return logits.masked_fill(out, -INF)


def keeps_one(logits, p):
    """La receta mala, remendada para que no quede vacía."""
    wrong = top_p(logits, p, lambda t, s, p: t > p)
    return wrong if wrong.isfinite().any() else top_k(logits, 1)


def unsorted_p(logits, p):
    shares = logits.softmax(-1)
    return logits.masked_fill(shares.cumsum(0) - shares >= p, -INF)


def misplaced(logits, p):
    shares, order = logits.softmax(-1).sort(descending=True)
    return logits.masked_fill(shares.cumsum(0) - shares >= p, -INF)


def gathered(logits, p):
    """Aplica el orden en vez de deshacerlo."""
    shares, order = logits.softmax(-1).sort(descending=True)
    out = shares.cumsum(0) - shares >= p
    return logits.masked_fill(out[order], -INF)


def choose(logits, T, generator):
    if T == 0:
        return int(logits.argmax())
    shares = (logits / T).softmax(-1)
    return int(torch.multinomial(shares, 1, generator=generator))


def draw(shares, generator):
    return int(torch.multinomial(shares, 1, generator=generator))


def global_noise(logits, T, generator):
    if T == 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / T).softmax(-1), 1))


def reseeds(logits, T, generator):
    generator.manual_seed(0)
    return choose(logits, T, generator)


def warp(logits, T, k, p):
    return top_p(top_k(logits / T, k), p)


def candle(logits, T, k, p):
    out = top_p(logits / T, p)
    return out.masked_fill(~top_k(logits / T, k).isfinite(), -INF)


def by_value(logits, p):
    shares = logits.softmax(-1)
    ordered = shares.sort(descending=True).values
    last = ordered[int((ordered.cumsum(0) < p).sum())]
    return logits.masked_fill(shares < last, -INF)


def ascending_order(logits, p):
    shares, order = logits.softmax(-1).sort()
    out = shares.cumsum(0) - shares >= p
    out = torch.zeros_like(out).scatter(0, order, out)
    return logits.masked_fill(out, -INF)


def plus_infinity(logits, p):
    kept = top_p(logits, p)
    return kept.masked_fill(kept == -INF, INF)


def crude(logits, T, generator):
    """Un softmax que se desborda con T pequeña."""
    if T == 0:
        return int(logits.argmax())
    weights = (logits / T).exp()
    return draw(weights / weights.sum(), generator)


CORRECT = {
    "04.1": top_k,
    "04.2": top_p,
    "04.3": choose,
    "04.4": warp,
    "04.5": ([0.4, 0.2, 0.15, 0.15, 0.1], 0.2, 0.88),
    "04.6": top_p,
}
MUTANTS = {
    "k exactos": ("04.1", exact_k),
    "menor o igual": (
        "04.1",
        lambda x, k: x.masked_fill(x <= x.topk(k).values[-1], -INF),
    ),
    "uno más": ("04.1", lambda x, k: top_k(x, min(k + 1, len(x)))),
    "uno menos": ("04.1", lambda x, k: top_k(x, max(k - 1, 1))),
    "los peores": ("04.1", lambda x, k: -top_k(-x, k)),
    "a cero": (
        "04.1",
        lambda x, k: x.masked_fill(x < x.topk(k).values[-1], 0.0),
    ),
    "los primeros": (
        "04.1",
        lambda x, k: x.masked_fill(torch.arange(len(x)) >= k, -INF),
    ),
    "solo los mejores": ("04.1", lambda x, k: x.topk(k).values),
    "probabilidades": ("04.1", lambda x, k: top_k(x, k).softmax(-1)),
    "en el sitio": ("04.1", in_place),
    "multiplica": ("04.1", lambda x, k: x * (x >= x.topk(k).values[-1])),
    "ordenados": (
        "04.1",
        lambda x, k: top_k(x.sort(descending=True).values, k),
    ),
    "más infinito": (
        "04.1",
        lambda x, k: x.masked_fill(x < x.topk(k).values[-1], INF),
    ),
    "valores distintos": (
        "04.1",
        lambda x, k: x.masked_fill(
            x < x.unique()[-min(k, len(x.unique()))], -INF
        ),
    ),
    "por probabilidad": (
        "04.1",
        lambda x, k: x.masked_fill(
            x.softmax(-1) < x.softmax(-1).topk(k).values[-1], -INF
        ),
    ),
    "por valor": ("04.2", by_value),
    "más infinito 2": ("04.2", plus_infinity),
    "menos mil": (
        "04.2",
        lambda x, p: top_p(x, p).clamp_min(-1e3),
    ),
    "de menor a mayor": ("04.2", ascending_order),
    "T mínima": (
        "04.3",
        lambda x, T, g: choose(x, max(T, 1e-6), g),
    ),
    "softmax crudo": ("04.3", crude),
    "argmax con T baja": (
        "04.3",
        lambda x, T, g: choose(x, 0 if T < 0.5 else T, g),
    ),
    "con coma": ("04.3", lambda x, T, g: float(choose(x, T, g))),
    "como texto": ("04.3", lambda x, T, g: str(choose(x, T, g))),
    "divide en el sitio": (
        "04.3",
        lambda x, T, g: choose(x.div_(T or 1), 1, g),
    ),
    "k exactos 4": (
        "04.4",
        lambda x, T, k, p: top_p(exact_k(x / T, k), p),
    ),
    "sin T 4": ("04.4", lambda x, T, k, p: warp(x, 1, k, p)),
    "por valor 6": ("04.6", lambda x, p: by_value(x, p) * 1.01),
    "más infinito 6": ("04.6", plus_infinity),
    "empate en cabeza": ("04.5", ([0.3, 0.3, 0.2, 0.2], 0.05, 0.9)),
    "mientras no pase": (
        "04.2",
        lambda x, p: top_p(x, p, lambda t, s, p: t > p),
    ),
    "remendada": ("04.2", keeps_one),
    "uno de más": (
        "04.2",
        lambda x, p: top_p(x, p, lambda t, s, p: t - 2 * s >= p),
    ),
    "sin ordenar": ("04.2", unsorted_p),
    "máscara movida": ("04.2", misplaced),
    "máscara al revés": ("04.2", gathered),
    "umbral": (
        "04.2",
        lambda x, p: x.masked_fill(x.softmax(-1) < 1 - p, -INF),
    ),
    "min-p": (
        "04.2",
        lambda x, p: x.masked_fill(
            x.softmax(-1) < (1 - p) * x.softmax(-1).max(), -INF
        ),
    ),
    "renormaliza": ("04.2", lambda x, p: top_p(x, p).log_softmax(-1)),
    "p fija": ("04.2", lambda x, p: top_p(x, 0.9)),
    "todo": ("04.2", lambda x, p: x),
    "suma logits": (
        "04.2",
        lambda x, p: x.masked_fill(x.cumsum(0) > p, -INF),
    ),
    "siempre el mejor": ("04.3", lambda x, T, g: int(x.argmax())),
    "azar global": ("04.3", global_noise),
    "reinicia": ("04.3", reseeds),
    "sin T": (
        "04.3",
        lambda x, T, g: int(x.argmax()) if T == 0 else draw(x.softmax(-1), g),
    ),
    "T del revés": (
        "04.3",
        lambda x, T, g: (
            int(x.argmax()) if T == 0 else draw((x * T).softmax(-1), g)
        ),
    ),
    "T al final": (
        "04.3",
        lambda x, T, g: (
            int(x.argmax()) if T == 0 else draw(x.softmax(-1) / T, g)
        ),
    ),
    "divide por cero": (
        "04.3",
        lambda x, T, g: draw((x / T).softmax(-1), g),
    ),
    "uniforme": (
        "04.3",
        lambda x, T, g: int(torch.randint(0, len(x), (1,), generator=g)),
    ),
    "sortea logits": (
        "04.3",
        lambda x, T, g: (
            int(x.argmax()) if T == 0 else draw(x.clamp_min(0) + 0.1, g)
        ),
    ),
    "no es un id": ("04.3", lambda x, T, g: 99),
    "probabilidad": ("04.3", lambda x, T, g: "fruta"),
    "orden de llama": ("04.4", lambda x, T, k, p: top_p(top_k(x, k), p) / T),
    "orden de candle": ("04.4", candle),
    "p antes de k": ("04.4", lambda x, T, k, p: top_k(top_p(x / T, p), k)),
    "sin k": ("04.4", lambda x, T, k, p: top_p(x / T, p)),
    "sin p": ("04.4", lambda x, T, k, p: top_k(x / T, k)),
    "sin temperatura": ("04.4", lambda x, T, k, p: top_p(top_k(x, k), p)),
    "T dos veces": ("04.4", lambda x, T, k, p: warp(x, T, k, p) / T),
    "multiplica T": ("04.4", lambda x, T, k, p: top_p(top_k(x * T, k), p)),
    "sobre probabilidades": (
        "04.4",
        lambda x, T, k, p: top_p(top_k((x / T).softmax(-1), k), p),
    ),
    "T mayor que 1": ("04.5", ([0.4, 0.2, 0.15, 0.15, 0.1], 3.0, 0.88)),
    "T = 1": ("04.5", ([0.4, 0.2, 0.15, 0.15, 0.1], 1.0, 0.88)),
    "solo dos menos": ("04.5", ([0.4, 0.2, 0.15, 0.15, 0.1], 0.5, 0.88)),
    "no suma 1": ("04.5", ([0.4, 0.2, 0.2, 0.3, 0.1], 0.2, 0.88)),
    "demasiadas": ("04.5", ([0.1] * 10, 0.2, 0.88)),
    "con ceros": ("04.5", ([0.6, 0.2, 0.2, 0.0], 0.2, 0.88)),
    "iguales": ("04.5", ([0.25] * 4, 0.2, 0.9)),
    "en el borde": ("04.5", ([0.4, 0.3, 0.2, 0.1], 0.2, 0.9)),
    "T negativa": ("04.5", ([0.4, 0.2, 0.15, 0.15, 0.1], -0.2, 0.88)),
    "p mayor que 1": ("04.5", ([0.4, 0.2, 0.15, 0.15, 0.1], 0.2, 1.2)),
    "faltan": ("04.5", ([0.4, 0.2, 0.4, 0.1], 0.2)),
    "el bug": ("04.6", misplaced),
    "sin orden": ("04.6", unsorted_p),
    "gather": ("04.6", gathered),
    "devuelve ordenado": (
        "04.6",
        lambda x, p: misplaced(x.sort(descending=True).values, p),
    ),
    "además pierde uno": (
        "04.6",
        lambda x, p: top_p(x, p, lambda t, s, p: t >= p),
    ),
    "no filtra": ("04.6", lambda x, p: x),
    "solo el mejor": ("04.6", lambda x, p: top_k(x, 1)),
    "p al revés": ("04.6", lambda x, p: top_p(x, 1 - p)),
}


@pytest.mark.parametrize("number", CORRECT)
def test_reference_is_accepted(number):
    accepted(number, CORRECT[number])


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected_with_a_hint(name):
    number, answer = MUTANTS[name]
    rejected(name, number, answer)


@pytest.mark.parametrize(
    "name, words",
    [
        ("k exactos", "empatados"),
        ("mientras no pase", "no queda ningún token"),
        ("remendada", "cruza p"),
        ("máscara movida", "a su sitio"),
        ("azar global", "azar global"),
        ("reinicia", "Reinicias"),
        ("divide por cero", "otra rama"),
        ("orden de candle", "Candle"),
        ("orden de llama", "llama.cpp"),
        ("T mayor que 1", "menor que 1"),
        ("el bug", "ordenadas"),
        ("más infinito", "+∞"),
        ("menos mil", "−∞"),
        ("sin T 4", "primera"),
        ("sin k", "sin top-k"),
        ("sin p", "sin top-p"),
        ("p antes de k", "antes que top-k"),
        ("T dos veces", "logit / T"),
        ("por valor", "empatados"),
        ("de menor a mayor", "mayor a menor"),
        ("empate en cabeza", "empate en cabeza"),
    ],
)
def test_hint_names_the_mechanism(name, words):
    number, answer = MUTANTS[name]
    assert words in check(number, answer).message


def test_every_check_has_mutants():
    enough_mutants(MUTANTS, CORRECT)


def test_other_right_answers_are_accepted():
    def ascending(logits, p):  # como la biblioteca
        ordered, order = logits.sort()
        out = ordered.softmax(-1).cumsum(-1) <= 1 - p
        return logits.masked_fill(out.scatter(0, order, out), -INF)

    def with_roulette(logits, T, generator):
        if T == 0:
            return logits.argmax()
        ends = (logits / T).softmax(-1).double().cumsum(0)
        u = torch.rand(1, generator=generator, dtype=torch.float64)
        return int(torch.searchsorted(ends / ends[-1], u, right=True))

    def gumbel(logits, T, generator):
        if T == 0:
            return int(logits.argmax())
        u = torch.rand(len(logits), generator=generator)
        return (logits / T - (-u.log()).log()).argmax()

    accepted("04.2", ascending)
    accepted("04.3", with_roulette)
    accepted("04.3", gumbel)
    accepted("04.4", lambda x, T, k, p: ascending(top_k(x / T, k), p))
    accepted("04.5", (np.array([0.3, 0.25, 0.25, 0.2]), 0.05, 0.85))
    accepted("04.5", (torch.tensor([0.3, 0.24, 0.24, 0.22]), 0.01, 0.9))
    accepted("04.6", ascending)
