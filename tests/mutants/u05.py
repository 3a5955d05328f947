"""Unidad 05."""

import json

import torch

from tokenatoken.checks.unit05 import (
    beam,
    best,
    first_apart,
    join,
    loop,
    pieces,
    record,
    talk,
    until,
    write,
)

from . import wrong


def endless(model, ids, limit, ends):
    while True:
        token = best(model, ids)
        ids = join(ids, token)
        if token.item() in ends:
            return ids


def by_hand(t, steps):
    rows = (
        f'{{"id": {s.token_id}, "token": "{t.decode([s.token_id])}", '
        f'"segundos": {s.seconds}}}'
        for s in steps
    )
    return "[" + ", ".join(rows) + "]"


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


MUTANTS = {
    "05.1": {
        "con generate": wrong(
            lambda m, i, n, e: m.generate(i, max_new_tokens=n),
            says="lo escribes tú",
        ),
        "no acaba": wrong(endless, says="no paras"),
        "lista": wrong(
            lambda m, i, n, e: write(m, i, n, e).tolist(), says="un tensor"
        ),
        "solo lo nuevo": wrong(
            lambda m, i, n, e: write(m, i, n, e)[:, i.shape[1] :],
            says="los ids del prompt",
        ),
        "ventana de 4": wrong(loop(lambda m, i: best(m, i[:, -4:]))),
        "un solo token": wrong(lambda m, i, n, e: join(i, best(m, i))),
    },
    "05.2": {
        "texto": wrong(
            lambda t, i, s: t.decode(until(t, i, s)), says="una lista"
        ),
        "nada": wrong(lambda t, i, s: []),
        "tupla": wrong(lambda t, i, s: tuple(until(t, i, s)), says="lista"),
        "del revés": wrong(lambda t, i, s: until(t, i, s)[::-1]),
    },
    "05.3": {
        "comillas cambiadas": wrong(
            lambda t, s: str(json.loads(record(t, s))).replace("'", '"')
        ),
        "montado a mano": wrong(by_hand, says="json.dumps"),
        "sin texto": wrong(
            lambda t, s: json.loads(record(t, s)), says="Devuelve un texto"
        ),
        "recorre dos veces": wrong(
            lambda t, s: record(t, s) if len(list(s)) else "[]",
            says="salen todos",
        ),
        "otras claves": wrong(
            lambda t, s: record(t, s).replace("segundos", "s"), says="claves"
        ),
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
        "tensor": wrong(
            lambda m, i, n, e: torch.tensor(talk(m, i, n, e)), says="lista"
        ),
        "vacía si el primero": wrong(
            lambda m, i, n, e: (
                [] if talk(m, i, 1, e)[0] in e else talk(m, i, n, e)
            )
        ),
        "repite el primero": wrong(
            lambda m, i, n, e: talk(m, i, 1, e) + talk(m, i, n, e)
        ),
        "con generate": wrong(
            lambda m, i, n, e: m.generate(i)[0].tolist(), says="lo escribes tú"
        ),
        "el bug y un máximo": wrong(
            lambda m, i, n, e: first_apart(m, i, min(n, 2), e)
        ),
    },
}
