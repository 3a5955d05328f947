"""Unidad 01."""

from functools import partial

import numpy as np

from tokenatoken.checks.bench import LOGS, count_tokens, tokenizer
from tokenatoken.checks.unit01 import (
    BAD,
    _decode,
    _same,
    byte_by_byte,
    cut,
    learn,
    test_lossless,
)
from tokenatoken.tokens import encode

from . import wrong

TWINS = "café", "cafe\u0301"
bpe_decode = _decode(lambda pieces: b"".join(pieces).decode())


def cost(path, price):
    n = count_tokens(path.read_text(encoding="utf-8"))
    return n, n * price / 1e6


def twice(round_trip):
    """Compara dos vueltas entre sí, y no con el texto."""
    for text, _ in BAD.values():
        assert round_trip(text) == round_trip(text)


MUTANTS = {
    "01.1": {
        "coste en texto": wrong(
            lambda p, x: (cost(p, x)[0], f"{cost(p, x)[1]} €"), says="número"
        ),
        "ids en vez de cuántos": wrong(
            lambda p, x: (encode(tokenizer(), p.read_text()), cost(p, x)[1]),
            says="cuántos tokens",
        ),
        "solo el coste": wrong(lambda p, x: cost(p, x)[1], says="dos valores"),
        "en minúsculas": wrong(
            lambda p, x: (
                n := count_tokens(p.read_text().lower()),
                n * x / 1e6,
            ),
            says="son",
        ),
        "uno de más": wrong(
            lambda p, x: (cost(p, x)[0] + 1, cost(p, x)[1]), says="son"
        ),
    },
    "01.2": {
        "el mismo, dos veces": wrong(
            ("cafe\u0301",) * 2, byte_by_byte, says="mismo texto"
        ),
        "los tokens": wrong(
            TWINS,
            lambda text: tokenizer().convert_ids_to_tokens(byte_by_byte(text)),
            says="enteros",
        ),
        "otro texto": wrong(
            TWINS, lambda text: byte_by_byte(text.lower()), says="decodifica"
        ),
        "sin decir cuál": wrong(TWINS, lambda text: text, says="lista de ids"),
    },
    "01.3": {
        "el final del texto": wrong(
            lambda text, n: cut(text[::-1], n)[::-1], says="comienzo"
        ),
        "dónde": wrong(lambda text, n: len(cut(text, n)), says="un texto"),
        "todo": wrong(lambda text, n: text, says="Cuesta"),
        "nada": wrong(lambda text, n: "", says="Cabe más"),
    },
    "01.4": {
        "diccionario": wrong(
            lambda words, k: dict.fromkeys(learn(words, k)),
            bpe_decode,
            says="lista de parejas",
        ),
        "con las veces": wrong(
            lambda words, k: [(pair, 1) for pair in learn(words, k)],
            bpe_decode,
            says="parejas",
        ),
        "del último al primero": wrong(
            lambda words, k: learn(words, k)[::-1], bpe_decode, says="a mano"
        ),
        "en minúsculas": wrong(
            partial(learn, raw=lambda word: word.lower().encode()), bpe_decode
        ),
        "devuelve minúsculas": wrong(
            learn, lambda *given: bpe_decode(*given).lower(), says="te sale"
        ),
        "la menos vista": wrong(
            partial(learn, best=lambda c: min(c, key=c.get)), bpe_decode
        ),
        "decodifica en bytes": wrong(
            learn, _decode(b"".join), says="un texto"
        ),
    },
    "01.5": {
        "sin textos": wrong(lambda round_trip: True, says="sin llamar"),
        "rechaza todo": wrong(
            lambda round_trip: test_lossless(lambda text: ""), says="bueno"
        ),
        "en minúsculas": wrong(
            partial(
                test_lossless, same=lambda a, b: _same(a.lower(), b.lower())
            ),
            says="minúsculas",
        ),
        "compara dos vueltas": wrong(twice, says="Deja pasar"),
        "solo una frase": wrong(
            lambda round_trip: test_lossless(
                lambda text: round_trip("Hola.") and text
            ),
            says="Deja pasar",
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
