"""Mutantes de la unidad 03: respuestas equivocadas que hay que rechazar."""

import math

import numpy as np
import pytest
import torch

from tokenatoken.checks import check

from .verdicts import accepted, enough_mutants, rejected


def softmax(logits):
    weights = torch.exp(logits - logits.max())
    return weights / weights.sum()


def in_place(logits):
    logits -= logits.max()
    return logits.exp() / logits.exp().sum()


def entropy(logits, T):
    p = (logits / T).softmax(-1)
    return -(p * p.clamp_min(1e-30).log()).sum().item()


def temperature_for(logits, target, low=1e-3, high=1e3, rounds=60):
    for _ in range(rounds):
        middle = math.sqrt(low * high)
        best = (logits / middle).softmax(-1).max().item()
        low, high = (middle, high) if best > target else (low, middle)
    return middle


def perplexity(logits, ids):
    return math.exp(
        torch.nn.functional.cross_entropy(logits[:-1], ids[1:]).item()
    )


def guess(
    percentages, top, dtypes=(torch.bfloat16, torch.float16), margin=0.005
):
    logits = [top + math.log(p / percentages[0]) for p in percentages]
    for dtype in dtypes:
        step = 32 * torch.finfo(dtype).eps
        if all(
            abs(x / step - round(x / step)) * step < margin for x in logits
        ):
            return str(dtype).removeprefix("torch.")
    return "float32"


def power(p, T):
    powered = p ** (1 / T)
    return powered / powered.sum()


CORRECT = {
    "03.1": softmax,
    "03.2": entropy,
    "03.3": temperature_for,
    "03.4": perplexity,
    "03.5": guess,
    "03.6": power,
}
MUTANTS = {
    "ingenuo": ("03.1", lambda x: x.exp() / x.exp().sum()),
    "resta la media": (
        "03.1",
        lambda x: (x - x.mean()).exp() / (x - x.mean()).exp().sum(),
    ),
    "divide por el máximo": (
        "03.1",
        lambda x: (x / x.max()).exp() / (x / x.max()).exp().sum(),
    ),
    "sin dividir": ("03.1", lambda x: (x - x.max()).exp()),
    "con valor absoluto": ("03.1", lambda x: x.abs() / x.abs().sum()),
    "base dos": (
        "03.1",
        lambda x: 2 ** (x - x.max()) / (2 ** (x - x.max())).sum(),
    ),
    "divide por V": ("03.1", lambda x: (x - x.max()).exp() / len(x)),
    "recorta": (
        "03.1",
        lambda x: x.clamp(-50, 50).exp() / x.clamp(-50, 50).exp().sum(),
    ),
    "lista": ("03.1", lambda x: softmax(x).tolist()),
    "cambia lo que recibe": ("03.1", in_place),
    "log_softmax": ("03.1", lambda x: x.log_softmax(-1)),
    "resta el primero": (
        "03.1",
        lambda x: (x - x[0]).exp() / (x - x[0]).exp().sum(),
    ),
    "entropía ingenua": (
        "03.2",
        lambda x, T: (
            -(
                ((x / T).exp() / (x / T).exp().sum())
                * ((x / T).exp() / (x / T).exp().sum()).clamp_min(1e-30).log()
            )
            .sum()
            .item()
        ),
    ),
    "suma un poco": (
        "03.2",
        lambda x, T: (
            -((x / T).softmax(-1) * ((x / T).softmax(-1) + 1e-5).log())
            .sum()
            .item()
        ),
    ),
    "divide en el sitio": ("03.2", lambda x, T: entropy(x.div_(T), 1)),
    "intervalo de 0 a 10": (
        "03.3",
        lambda x, t: temperature_for(x, t, 1e-3, 10),
    ),
    "producto": (
        "03.4",
        lambda x, i: x[:-1].softmax(-1).gather(1, i[1:, None]).prod().item(),
    ),
    "potencia negativa": ("03.6", lambda p, T: p**-T / (p**-T).sum()),
    "en bits": ("03.2", lambda x, T: entropy(x, T) / math.log(2)),
    "sin signo": ("03.2", lambda x, T: -entropy(x, T)),
    "media y no suma": ("03.2", lambda x, T: entropy(x, T) / len(x)),
    "multiplica por T": ("03.2", lambda x, T: entropy(x, 1 / T)),
    "sin T": ("03.2", lambda x, T: entropy(x, 1)),
    "T después": (
        "03.2",
        lambda x, T: entropy((x.softmax(-1) / T), 1),
    ),
    "NaN con ceros": (
        "03.2",
        lambda x, T: (
            -((x / T).softmax(-1) * (x / T).softmax(-1).log()).sum().item()
        ),
    ),
    "perplejidad": ("03.2", lambda x, T: math.exp(entropy(x, T))),
    "fija": ("03.3", lambda x, target: 1.0),
    "al revés": ("03.3", lambda x, target: 1 / temperature_for(x, target)),
    "pocas vueltas": ("03.3", lambda x, t: temperature_for(x, t, rounds=5)),
    "intervalo corto": ("03.3", lambda x, t: temperature_for(x, t, 0.5, 2)),
    "cero": ("03.3", lambda x, target: 0),
    "negativa": ("03.3", lambda x, t: -temperature_for(x, t)),
    "la probabilidad": ("03.3", lambda x, target: target),
    "no es número": ("03.3", lambda x, t: torch.ones(2)),
    "sin desplazar": (
        "03.4",
        lambda x, i: math.exp(torch.nn.functional.cross_entropy(x, i).item()),
    ),
    "sin exponencial": ("03.4", lambda x, i: math.log(perplexity(x, i))),
    "signo": ("03.4", lambda x, i: 1 / perplexity(x, i)),
    "suma": (
        "03.4",
        lambda x, i: perplexity(x, i) ** (len(i) - 1) if len(i) > 2 else 1e9,
    ),
    "dos elevado": ("03.4", lambda x, i: 2 ** math.log(perplexity(x, i))),
    "desplaza al revés": (
        "03.4",
        lambda x, i: math.exp(
            torch.nn.functional.cross_entropy(x[1:], i[:-1]).item()
        ),
    ),
    "divide por n": (
        "03.4",
        lambda x, i: perplexity(x, i) ** ((len(i) - 1) / len(i)),
    ),
    "sin log_softmax": (
        "03.4",
        lambda x, i: math.exp(-x[:-1].gather(1, i[1:, None]).mean().item()),
    ),
    "media de probabilidades": (
        "03.4",
        lambda x, i: (
            1 / x[:-1].softmax(-1).gather(1, i[1:, None]).mean().item()
        ),
    ),
    "siempre bf16": ("03.5", lambda p, top: "bfloat16"),
    "siempre fp32": ("03.5", lambda p, top: "float32"),
    "empieza por el pequeño": (
        "03.5",
        lambda p, top: guess(p, top, (torch.float16, torch.bfloat16)),
    ),
    "sin margen": ("03.5", lambda p, top: guess(p, top, margin=1e-9)),
    "mucho margen": ("03.5", lambda p, top: guess(p, top, margin=0.1)),
    "mira porcentajes": (
        "03.5",
        lambda p, top: "bfloat16" if p[0] % 0.25 < 0.1 else "float16",
    ),
    "otro nombre": ("03.5", lambda p, top: "bf16"),
    "solo el primero": ("03.5", lambda p, top: guess(p[:1], top)),
    "el bug": ("03.6", lambda p, T: p**T / (p**T).sum()),
    "sin repartir": ("03.6", lambda p, T: p ** (1 / T)),
    "no hace nada": ("03.6", lambda p, T: p),
    "divide": ("03.6", lambda p, T: p / T / (p / T).sum()),
    "softmax de p": ("03.6", lambda p, T: (p / T).softmax(-1)),
    "raíz": ("03.6", lambda p, T: p.sqrt() / p.sqrt().sum()),
    "resta T": (
        "03.6",
        lambda p, T: p ** (2 - T) / (p ** (2 - T)).sum(),
    ),
    "lista 6": ("03.6", lambda p, T: power(p, T).tolist()),
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
        ("ingenuo", "Resta a todos"),
        ("en bits", "logaritmo natural"),
        ("NaN con ceros", "0 · ln 0"),
        ("sin desplazar", "token i + 1"),
        ("sin exponencial", "falta elevar"),
        ("signo", "signo cambiado"),
        ("el bug", "al revés"),
        ("empieza por el pequeño", "por cuál empiezas"),
    ],
)
def test_hint_names_the_mechanism(name, words):
    number, answer = MUTANTS[name]
    assert words in check(number, answer).message


def test_every_check_has_mutants():
    enough_mutants(MUTANTS, CORRECT)


def test_other_right_answers_are_accepted():
    assert check("03.2", lambda x, T: np.float64(entropy(x, T))).ok is True
    assert (
        check("03.4", lambda x, i: torch.tensor(perplexity(x, i))).ok is True
    )
    best = check("03.3", lambda x, t: temperature_for(x, t, 1e-4, 1e5, 90))
    assert best.ok is True, best
    assert check("03.1", lambda x: x.softmax(-1)).ok is True
    assert check("03.1", lambda x: (x - x.logsumexp(0)).exp()).ok is True
