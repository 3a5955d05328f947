"""Unidad 01."""

import numpy as np

from tokenatoken.checks.bench import LOGS, count_tokens, tokenizer
from tokenatoken.checks.unit01 import (
    _back,
    _bpe,
    _changed,
    _decode,
    chatml,
    merge,
)
from tokenatoken.tokens import encode

from . import wrong

bpe_encode, bpe_decode = _bpe(), _decode(lambda p: b"".join(p).decode())


def by_library(message):
    turns = [{"role": "user", "content": message}]
    text = tokenizer().apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    return text.split("<|im_end|>\n", 1)[1]


def cost(path, price):
    n = count_tokens(path.read_text(encoding="utf-8"))
    return n, n * price / 1e6


def empties_merges(text, merges):
    ids, new_id = list(text.encode()), 256
    while merges:
        ids = merge(ids, merges.pop(0), new_id)
        new_id += 1
    return ids


MUTANTS = {
    "01.1": {
        "con la plantilla": wrong(by_library, _back, says="a mano"),
        "ids": wrong(
            lambda m: encode(tokenizer(), chatml(m)), _back, says="un texto"
        ),
        "mensajes": wrong(
            lambda m: [{"role": "user", "content": m}], _back, says="un texto"
        ),
        "otra marca": wrong(
            lambda m: chatml(m, start="<|im_star|>"), _back, says="repr()"
        ),
        "vuelta que da ids": wrong(
            chatml, lambda t: encode(tokenizer(), t), says="decodifica"
        ),
        "vuelta que da un array": wrong(
            chatml,
            lambda t: np.array(encode(tokenizer(), t)),
            says="decodifica",
        ),
        "vuelta en minúsculas": wrong(chatml, lambda t: _back(t.lower())),
    },
    "01.2": {
        "coste en texto": wrong(
            lambda p, x: (cost(p, x)[0], f"{cost(p, x)[1]} €"), says="número"
        ),
        "ids en vez de cuántos": wrong(
            lambda p, x: (encode(tokenizer(), p.read_text()), cost(p, x)[1]),
            says="cuántos tokens",
        ),
        "coste antes que tokens": wrong(
            lambda p, x: cost(p, x)[::-1], says="cuántos tokens"
        ),
        "solo el coste": wrong(lambda p, x: cost(p, x)[1], says="dos valores"),
        "uno de más": wrong(
            lambda p, x: (cost(p, x)[0] + 1, cost(p, x)[1]), says="son"
        ),
    },
    "01.3": {
        "números": wrong(1, 5, says="entre comillas"),
        "inglés": wrong("the", "otorrinolaringólogo", says="tal cual"),
        "lista": wrong(["mate"], "otorrinolaringólogo", says="comillas"),
        "la misma": wrong("mate", "mate", says="larga"),
    },
    "01.4": {
        "tuplas": wrong(
            lambda ws: [(w, count_tokens(w)) for w in _changed(ws)],
            says="tal como llegan",
        ),
        "arrays": wrong(lambda ws: [np.array([1, 2])], says="tal como"),
        "conjunto": wrong(lambda ws: set(_changed(ws)), says="lista"),
        "cuántas": wrong(lambda ws: len(_changed(ws)), says="lista"),
        "falta la última": wrong(lambda ws: _changed(ws)[:-1], says="Falta"),
    },
    "01.5": {
        "vacía las fusiones": wrong(empties_merges, bpe_decode, says="copia"),
        "ids como texto": wrong(
            lambda t, m: [str(i) for i in bpe_encode(t, m)],
            bpe_decode,
            says="enteros",
        ),
        "codifica en bytes": wrong(
            lambda t, m: t.encode(), bpe_decode, says="enteros"
        ),
        "codifica texto": wrong(lambda t, m: t, bpe_decode, says="enteros"),
        "decodifica a bytearray": wrong(
            bpe_encode,
            lambda i, m: bytearray(bpe_decode(i, m).encode()),
            says="un texto",
        ),
        "decodifica en bytes": wrong(
            bpe_encode, _decode(b"".join), says="un texto"
        ),
    },
    "01.6": {
        "lista": wrong([*LOGS.values()], says="diccionario"),
        "tokenizadores enteros": wrong(
            {log: tokenizer(name) for log, name in LOGS.items()},
            says="entre comillas",
        ),
        "nombres en un array": wrong(
            {k: np.array([v]) for k, v in LOGS.items()}, says="comillas"
        ),
        "letras en minúscula": wrong(
            {k.lower(): v for k, v in LOGS.items()}, says="tres registros"
        ),
        "uno repetido": wrong({**LOGS, "B": "minilm"}, says="dicen"),
    },
}
