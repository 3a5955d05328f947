"""Unidad 09."""

import re
from functools import partial

import numpy as np
import torch

from tokenatoken.checks import answers09, unit09
from tokenatoken.checks.answers09 import (
    DATE,
    SHORT,
    advance,
    allowed,
    by_text,
    count_texts,
    distribution,
    mask,
    plate,
    safe,
)

from . import wrong

LETTERS = answers09.LETTERS


def left_filled(model, ids, labels, end):
    """Con ceros delante y sin máscara de atención."""
    longest = max(map(len, labels))
    shares = []
    for label in labels:
        zeros = torch.zeros(1, longest - len(label), dtype=ids.dtype)
        fed = torch.cat([zeros, ids], -1)
        row = [*label, end]
        logs = answers09.scored(model, fed, row).log_softmax(-1)
        shares.append(logs[range(len(row)), row].sum())
    return torch.stack(shares).softmax(0)


def multiplied(model, ids, labels, end):
    """Multiplica en 32 bits y reparte: con etiquetas largas, 0 / 0."""
    return distribution(
        model,
        ids,
        labels,
        end,
        norm=lambda logits: logits.softmax(-1),
        score=torch.prod,
        share=lambda totals: totals / totals.sum(),
    )


def decoded(written, texts, labels, end):
    """Trabaja con letras: lo que no es texto, fuera."""
    good = set()
    for label in labels:
        rest = label.removeprefix(written.decode("utf-8", "ignore"))
        if rest == label and written:
            continue
        good |= {
            i
            for raw, i in texts.items()
            if raw.decode("utf-8", "ignore")
            and rest.startswith(raw.decode("utf-8", "ignore"))
        }
        good |= {end} if not rest else set()
    return good


def too_long(written, texts, labels, end):
    """Deja también los tokens que empiezan por lo que queda."""
    rests = [
        label.encode()[len(written) :]
        for label in labels
        if label.encode().startswith(written)
    ]
    return allowed(written, texts, labels, end) | {
        i
        for raw, i in texts.items()
        for rest in rests
        if rest and raw.startswith(rest)
    }


def one_step(written, texts, labels, end):
    """Mira que al resto se le pueda quitar otro token, y no hasta el final."""
    good = allowed(written, texts, labels, end, alive=False)
    names = {i: raw for raw, i in texts.items()}
    rests = [
        label.encode()[len(written) :]
        for label in labels
        if label.encode().startswith(written)
    ]

    def follows(rest):
        return not rest or any(
            rest[:n] in texts for n in range(1, len(rest) + 1)
        )

    return {
        i
        for i in good
        if i == end
        or any(
            rest.startswith(names[i]) and follows(rest[len(names[i]) :])
            for rest in rests
        )
    }


def by_keys(table, state=0):
    """Uno a uno, letra a letra y preguntando."""
    row = table.get(state, {})
    found = (by_keys(table, row[c]) for c in list(row.keys()) if c in row)
    return (state == "fin") + sum(found)


def fixed(tokens, written, left, right):
    def test(ours):
        assert ours(tokens, written, left) == right

    return test


MUTANTS = {
    "09.1": {
        "nombres": wrong(
            lambda t: [
                i
                for i in {*range(len(t))} - {*t.added_tokens_decoder}
                if t.convert_ids_to_tokens(i).isdigit()
            ]
        ),
        "vacío": wrong(
            by_text(
                lambda s: all(c in "0123456789" for c in s),
                added=True,
                skip_special_tokens=True,
            )
        ),
        "int": wrong(
            by_text(lambda s: s.lstrip("-").isdigit() and int(s) >= 0)
        ),
        "de Qwen": wrong(lambda t: {*range(15, 25)}),
        "máscara": wrong(lambda t: [True] * 10, says="ids permitidos"),
        "textos": wrong(lambda t: {*"0123456789"}, says="enteros"),
        "todos": wrong(lambda t: range(len(t)), says="conjunto"),
        "ninguno": wrong(lambda t: set(), says="falta"),
        "diccionario": wrong(
            lambda t: dict.fromkeys(answers09.in_bytes(t)), says="conjunto"
        ),
        "generador": wrong(lambda t: (i for i in range(9)), says="conjunto"),
        "sin ceros delante": wrong(
            by_text(lambda s: s.isascii() and s.isdigit() and str(int(s)) == s)
        ),
    },
    "09.2": {
        "nada": wrong(lambda w, ts, word: [True] * len(ts)),
        "todo": wrong(lambda w, ts, word: [False] * len(ts)),
        "al revés": wrong(lambda *a: [not g for g in safe(*a)]),
        "ids": wrong(
            lambda *a: [i for i, g in enumerate(safe(*a)) if g], says="token"
        ),
        "arrays": wrong(
            lambda w, ts, word: [np.array([1, 2])] * len(ts), says="token"
        ),
        "tensores": wrong(
            lambda w, ts, word: [torch.ones(2)] * len(ts), says="token"
        ),
        "sin espacios": wrong(
            partial(safe, low=lambda r: answers09.lower(r).replace(" ", ""))
        ),
        "ventana en letras": wrong(
            lambda w, ts, word: safe(w[-(len(word) - 1) :], ts, word)
        ),
        "sin letras suyas": wrong(
            lambda w, ts, word: [
                not {*answers09.lower(t)} & {*word.lower()} for t in ts
            ]
        ),
        "un byte": wrong(lambda w, ts, word: safe(w[-1:], ts, word)),
        "estricto": wrong(
            partial(safe, low=lambda r: r.decode().lower()), says="Unicode"
        ),
        "latin-1": wrong(partial(safe, low=lambda r: r.decode("latin1"))),
        "acaba en": wrong(
            lambda w, ts, word: [
                not answers09.lower(w + t).endswith(word.lower()) for t in ts
            ]
        ),
        "con barras": wrong(
            partial(
                safe,
                low=lambda r: r.decode("utf-8", "backslashreplace").lower(),
            )
        ),
        "sin escapar": wrong(
            lambda w, ts, word: [
                not re.search(word, answers09.lower(w + t), re.I) for t in ts
            ]
        ),
        "ventana de n bytes": wrong(
            lambda w, ts, word: safe(w[-len(word) :], ts, word)
        ),
        "ventana de cuatro": wrong(lambda w, *rest: safe(w[-4:], *rest)),
        "tres formas": wrong(
            lambda w, ts, word: [
                not any(
                    form.encode() in w + t
                    for form in (word.lower(), word.upper(), word.title())
                )
                for t in ts
            ]
        ),
    },
    "09.3": {
        "otro tipo": wrong(365, says="un texto"),
        "compilado": wrong(re.compile(DATE), says="un texto"),
        "los 365": wrong("|".join(unit09.DAYS), says="el tope"),
        "sin cerrar": wrong("(0[1-9]", says="no es una expresión"),
        "mirando atrás": wrong(r"(?!29/02)\d\d/\d\d", says="byte a byte"),
        "vacío": wrong("", says="No acepta"),
        "todo": wrong(".*", says="Acepta"),
        "salto": wrong(DATE + "\n?|\n", says="Acepta"),
        "con año": wrong(f"({DATE})(/2025)?", says="Acepta"),
        "infinito": wrong(DATE + "|a+b", says="Acepta"),
        "larguísimo": wrong(DATE + "|a{2000000000}", says="empieza por"),
        "anidado": wrong(DATE + "|(a{99999}){99999}", says="empieza por"),
        "sin 31/12": wrong(DATE.replace("[02])", "[0])"), says="31/12"),
    },
    "09.4": {
        "lista": wrong([plate()], advance, count_texts, says="TABLE"),
        "cifras": wrong({0: {1: 2}}, advance, count_texts, says="carácter"),
        "vacía": wrong({}, advance, count_texts, says="TABLE"),
        "sin final": wrong({0: {}}, advance, count_texts, says="No acepta"),
        "casi": wrong(
            plate(r6={"C": 99}), advance, count_texts, says="No acepta"
        ),
        "principio": wrong(
            plate(), partial(advance, lost=lambda s: 0), count_texts
        ),
        "si cabe": wrong(
            plate(), lambda *a: advance(*a) != -1, count_texts, says="das"
        ),
        "constante": wrong(plate(), advance, lambda table: 160_000_000),
        "producto": wrong(
            plate(),
            advance,
            lambda table: __import__("math").prod(map(len, table.values())),
        ),
        "flechas": wrong(
            plate(), advance, lambda table: sum(map(len, table.values()))
        ),
        "texto": wrong(plate(), advance, lambda t: "8", says="entero"),
        "sobre una copia": wrong(
            plate(),
            advance,
            lambda t: answers09.one_by_one({s: {**t[s]} for s in t}),
            says="100 000",
        ),
        "minúsculas": wrong(
            plate(),
            lambda t, s, text: advance(t, s, text.lower()),
            count_texts,
        ),
        "por claves": wrong(plate(), advance, by_keys, says="100 000"),
        "estado en tupla": wrong(
            {0: {"1": ([],)}}, advance, count_texts, says="TABLE"
        ),
        "fila suelta": wrong({0: 7}, advance, count_texts, says="TABLE"),
        "listas": wrong({0: {"1": [1]}}, advance, count_texts, says="TABLE"),
        "tensor": wrong(
            plate(), lambda *a: torch.ones(2), count_texts, says="estado"
        ),
    },
    "09.5": {
        "uniforme": wrong(
            lambda m, i, labels, e: [1 / len(labels)] * len(labels)
        ),
        "delante": wrong(left_filled),
        "producto": wrong(multiplied, says="NaN"),
        "el mejor": wrong(
            lambda *a: torch.nn.functional.one_hot(
                distribution(*a).argmax(), len(a[2])
            )
        ),
        "sin log": wrong(
            partial(distribution, norm=lambda logits: logits.softmax(-1))
        ),
        "uno": wrong(lambda *a: distribution(*a)[0], says="forma"),
        "texto": wrong(lambda *a: "sí", says="números"),
        "diccionario": wrong(
            lambda *a: dict(enumerate(distribution(*a))), says="números"
        ),
        "último": wrong(partial(distribution, score=lambda logs: logs[-1])),
        "sin contexto": wrong(
            lambda m, ids, *rest: distribution(m, ids[:, -1:], *rest)
        ),
        "otro fin": wrong(
            lambda m, ids, labels, e: distribution(m, ids, labels, 3)
        ),
        "redondeo": wrong(lambda *a: distribution(*a).round(decimals=3)),
    },
    "09.6": {
        "vacía": wrong(lambda mask: None, says="sin llamar"),
        "una llamada": wrong(
            lambda mask: [].extend(mask(SHORT, b'"', 3)), says="Deja pasar"
        ),
        "rechaza todo": wrong(
            fixed(SHORT, b'"a"', 3, set()), says="No acepta"
        ),
        "un caso": wrong(fixed(SHORT, b'"a"', 3, {"fin"}), says="Deja"),
        "otro caso": wrong(
            fixed(SHORT, b'"a', 1, mask(SHORT, b'"a', 1)), says="Deja"
        ),
        "falla": wrong(lambda mask: mask(SHORT, 3, 3), says="TypeError"),
        "solo lo que sobra": wrong(
            lambda ours: [].extend(
                [][1]
                for *step, right in answers09.STEPS
                if ours(*step) - right
            )
        ),
    },
    "09.7": {
        "en letras": wrong(decoded),
        "más largos": wrong(too_long),
        "un paso": wrong(one_step),
        "cinco pasos": wrong(
            partial(allowed, spells=partial(answers09.lasts, steps=5))
        ),
        "cinco tokens": wrong(
            partial(allowed, spells=partial(answers09.within, most=5))
        ),
        "solo sufijos": wrong(
            partial(allowed, spells=partial(answers09.one_way, suffix=True))
        ),
        "solo el más corto": wrong(
            partial(allowed, spells=partial(answers09.one_way, pick=min))
        ),
        "el más corto": wrong(partial(allowed, pick=lambda cuts: cuts[:1])),
        "sin fin": wrong(partial(allowed, closes=lambda *_: False)),
        "desde el principio": wrong(
            lambda w, texts, labels, end: allowed(b"", texts, labels, end)
        ),
        "bytes": wrong(lambda w, texts, labels, end: {*texts}, says="enteros"),
        "todos": wrong(
            lambda w, texts, labels, end: {*texts.values(), end},
            says="dejas pasar",
        ),
        "ninguno": wrong(lambda *a: set(), says="falta"),
        "de bytes sueltos": wrong(
            partial(allowed, fits=lambda piece: len(piece) == 1)
        ),
    },
}
