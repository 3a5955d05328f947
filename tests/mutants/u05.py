"""Unidad 05."""

from tokenatoken.checks.bench import prompts, tiny_model
from tokenatoken.checks.unit05 import (
    STUCK,
    beam,
    diagnose_run,
    pieces,
    spy,
    subtract,
    until,
    why,
)

from . import wrong


def pairs(t, ids):
    """Cada dos trozos."""
    pair = ""
    for piece in pieces(t, ids):
        pair += piece
        if len(pair) > 4:
            yield pair
            pair = ""
    yield pair


def anywhere(t, ids):
    text, n = t.decode(ids), len(list(pieces(t, ids))) - 1
    return [*text[: n - 1], text[n - 1 :]]


def refuse(write):
    raise AssertionError(write(tiny_model(), prompts()[2], 3, set()))


def one_case(write):
    ids = prompts()[2]
    assert write(tiny_model(), ids, 3, set()).shape[1] == ids.shape[1] + 3


MUTANTS = {
    "05.1": {
        "la suma": wrong(
            lambda m, run: sum(spy(m, run)), diagnose_run, says="una lista"
        ),
        "sin el primero": wrong(
            lambda m, run: spy(m, run)[1:], diagnose_run, says="apuntas"
        ),
        "en inglés": wrong(
            spy, lambda n: diagnose_run(n).upper(), says="«CON CACHÉ»"
        ),
    },
    "05.2": {
        "texto": wrong(
            lambda t, i, s: t.decode(until(t, i, s)), why, says="una lista"
        ),
        "nada": wrong(lambda t, i, s: [], why),
        "tupla": wrong(
            lambda t, i, s: tuple(until(t, i, s)), why, says="lista"
        ),
        "siempre sigue": wrong(until, lambda *case: "sigue", says="«sigue»"),
    },
    "05.3": {
        "lista": wrong(
            lambda *case: subtract(*case).tolist(), STUCK, says="un tensor"
        ),
        "en el sitio": wrong(
            lambda x, new, p, f: x.copy_(subtract(x, new, p, f)),
            STUCK,
            says="copia",
        ),
        "larguísimo": wrong(subtract, "la " * 60, says="40 palabras"),
    },
    "05.4": {
        "que no contenga": wrong(
            lambda t, ids: [t.decode(ids).replace("\ufffd", "?")]
        ),
        "a pares": wrong(pairs),
        "por cualquier sitio": wrong(anywhere),
        "ids": wrong(lambda t, ids: ids, says="un texto"),
        "al revés": wrong(lambda t, ids: list(pieces(t, ids))[::-1]),
    },
    "05.5": {
        "solo el total": wrong(lambda *a: beam(*a)[0], says="dos cosas"),
        "al revés": wrong(lambda *a: beam(*a)[::-1], says="Primero va"),
        "resta": wrong(
            lambda f, i, w, n: beam(f, i, w, n, lambda a, b: a - b)
        ),
    },
    "05.6": {
        "no llama": wrong(lambda write: None, says="no prueba nada"),
        "rechaza todo": wrong(refuse, says="Rechaza uno bueno"),
        "solo cuenta": wrong(one_case, says="Deja pasar uno que"),
        "no es función": wrong(3, says="función"),
    },
}
