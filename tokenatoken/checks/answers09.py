"""Respuestas buenas y malas del laboratorio 09, con las que compara `unit09`.

Cada función es la buena, y sus opciones la estropean de una manera.
"""

import math
import re
from functools import cache, partial

import numpy as np
import torch

from ..grammar import NEVER, derive, many, nullable, regex, seq
from ..tokens import token_bytes

DIGITS = "0123456789"


def after(rule, raw: bytes):
    """Lo que queda por leer de `rule` después de esos bytes."""
    for byte in raw:
        rule = derive(rule, byte)
    return rule


# 09.1


def by_text(test, added=False, **how):
    """Una respuesta de 09.1: los ids cuyo texto cumple `test`."""
    return lambda t: [
        i
        for i in range(len(t))
        if (added or i not in t.added_tokens_decoder)
        and test(t.decode([i], **how))
    ]


def either(*tests):
    return [by_text(test, added) for test in tests for added in (False, True)]


def is_digits(text) -> bool:
    return text.isascii() and text.isdigit()


def in_bytes(t):
    ids = {*range(len(t))} - {*t.added_tokens_decoder}
    return {i for i in ids if re.fullmatch(rb"[0-9]+", token_bytes(t, i))}


DIGIT_TRAPS = {
    "isdigit, isdecimal y \\d también aceptan «²» o cifras de otras "
    "escrituras: compara con las diez de siempre.": either(
        str.isdigit, str.isdecimal, re.compile(r"\d+").fullmatch
    ),
    "Un espacio o un salto pegados a la cifra también se escriben: "
    "no los quites antes de mirar.": either(
        lambda s: is_digits(s.strip()),
        re.compile(r"[0-9]+$").match,
    ),
    "Que lleve una cifra no basta: lo tienen que ser todos sus "
    "caracteres.": either(lambda s: {*s} & {*DIGITS}),
    "Un token añadido es una marca aunque su nombre sea de cifras: "
    "mira added_tokens_decoder.": by_text(is_digits, added=True),
    "Hay tokens con varias cifras: recorre el vocabulario entero.": [
        lambda t: t.convert_tokens_to_ids([*DIGITS]),
        by_text(lambda s: s and s in DIGITS),
    ],
}


# 09.2


def lower(raw: bytes, errors="replace") -> str:
    return raw.decode("utf-8", errors).lower()


def safe(written, tokens, word, low=lower, fold=str.lower):
    """Una respuesta de 09.2: ¿está la palabra en lo que quedaría escrito?"""
    return [fold(word) not in low(written + t) for t in tokens]


def overlaps(written, tokens, word):
    """Prohíbe también lo que deja la palabra a medias."""
    starts = tuple(word.lower()[: n + 1] for n in range(len(word)))
    good = safe(written, tokens, word)
    return [g and not lower(t).endswith(starts) for g, t in zip(good, tokens)]


def by_pattern(written, tokens, word):
    way = "".join(f"(?:{c.lower()}|{c.upper()})" for c in map(re.escape, word))
    rule = re.compile(way.encode())
    return np.array([not rule.search(written + t) for t in tokens])


BAN_TRAPS = {
    "Solo miras el token que llega, y la palabra puede haber empezado "
    "en lo ya escrito.": [
        lambda _, ts, word: safe(b"", ts, word),
        lambda _, ts, word: [t.strip() != word.encode() for t in ts],
    ],
    "Las mayúsculas se te escapan: iguala el texto y la palabra.": [
        partial(safe, low=lambda raw: raw.decode("utf-8", "replace")),
        partial(safe, fold=str),
    ],
    "bytes.lower() solo conoce de la A a la Z, y «Ñ» se queda en "
    "«Ñ»: descodifica antes.": lambda w, ts, word: [
        word.lower().encode() not in (w + t).lower() for t in ts
    ],
    'errors="ignore" borra los bytes sueltos y junta lo que no iba '
    "junto: hay otra opción, que deja una marca.": partial(
        safe, low=partial(lower, errors="ignore")
    ),
    "Prohíbes lo que solo empieza la palabra y puede seguir de otra "
    "manera: cae el token que la completa.": overlaps,
    "La palabra cuenta también dentro de otra: «asesino» lleva «no».": [
        lambda w, ts, word: [
            not re.search(rf"\b{re.escape(word)}\b", lower(w + t), re.I)
            for t in ts
        ],
        lambda w, ts, word: [
            word.lower() not in lower(w + t).split() for t in ts
        ],
    ],
}


# 09.3

D28, MONTH = "(0[1-9]|1[0-9]|2[0-8])", "(0[1-9]|1[0-2])"
DATE = f"{D28}/{MONTH}|(29|30)/(0[13-9]|1[0-2])|31/(0[13578]|1[02])"


# 09.4

LETTERS = "BCDFGHJKLMNPRSTVWXYZ"
END, DEAD = "fin", -1


def plate(letters=LETTERS, **rows):
    """La tabla de «1234 BCD»; `rows` cambia filas: `r4={" ": 4}`."""
    table = {i: dict.fromkeys(DIGITS, i + 1) for i in range(4)}
    table |= {i: dict.fromkeys(letters, i + 1) for i in (5, 6)}
    table[4] = {" ": 5} | dict.fromkeys(letters, 6)
    table[7] = dict.fromkeys(letters, END)
    for name, row in rows.items():
        state = END if name == END else int(name[1:])
        table[state] = table.get(state, {}) | row
    return table


def advance(table, state, text, lost=lambda state: DEAD):
    for c in text:
        state = table.get(state, {}).get(c, lost(state))
    return state


def advance_numpy(*case):
    state = advance(*case)
    return state if isinstance(state, str) else np.int64(state)


SMALL = {
    0: {"a": 2, "B": 2},
    2: {"b": "z", "c": DEAD, "d": "sin fila"},
    "z": {"ñ": END},
}
WALKS = [  # tabla, estado, textos
    (plate(), 0, "|1|12|1234 BCD|1234BCD|A1"),
    (plate(), 2, "34 B|34B|3 4B|3|34  B|34 BCDF"),
    (plate(), 4, " "),
    (plate(), 7, "D|DD"),
    (plate(), END, "|B"),
    (plate(), 6, "A"),
    (plate(), 3, "44"),
    (plate(), DEAD, "|1"),
    (SMALL, 0, "a|B|A|ab|abñ|Bbñ|abñb|abn|ac|acb|ad|ada|1|"),
    (SMALL, 2, "b|bñ|c|cb|d|a|B"),
    (SMALL, "z", "ñ|ñ1|Ñ|a"),
    (SMALL, END, "|a"),
    (SMALL, "sin fila", "|a"),
    (SMALL, DEAD, "|a"),
]


def count_texts(table, same=list, leaf=lambda state, table: state == END):
    @cache
    def ways(state):
        following = same(table.get(state, {}).values())
        return sum(map(ways, following)) + leaf(state, table)

    return ways(0)


def one_by_one(table, state=0):
    row = table.get(state, {})
    return (state == END) + sum(one_by_one(table, s) for s in row.values())


EACH = (
    "Recorres los textos uno a uno: apunta cuántos acaban bien desde cada "
    "estado, y no los cuentes dos veces."
)


STRANGE = "Solo valen las veinte consonantes: ni vocales, ni Ñ, ni Q."
SHAPE = "Son cuatro cifras, un espacio como mucho, y tres letras."
VALID = "Es una matrícula: el espacio va o no va, y valen veinte consonantes."
TABLES = {
    STRANGE: [plate(LETTERS + c) for c in ("AEIOU", "Ñ", "Q", "b")],
    SHAPE: [
        *(plate(r4={" ": 4}), plate(r5={" ": 5}), plate(r0={" ": 0})),
        plate(r3=dict.fromkeys(LETTERS, 6)),
        plate(r6=dict.fromkeys(LETTERS, END)),
        plate(fin=dict.fromkeys(LETTERS, END)),
    ],
    VALID: [
        *(
            plate(LETTERS[:-1]),
            plate(r2={"7": DEAD}),
            plate(r4={" ": DEAD}),
        ),
        plate(r4=dict.fromkeys(LETTERS, DEAD)),
    ],
}

ADVANCE_TRAPS = {
    "Miras solo el primer carácter, y un token puede llevar varios.": (
        lambda table, state, text: advance(table, state, text[:1])
    ),
    "Buscas el token entero en la fila, y la fila va de un carácter: "
    "recórrelo.": lambda table, state, text: (
        table.get(state, {}).get(text, DEAD) if text else state
    ),
    "Un carácter que no cabe no se salta: de ahí ya no se sale.": partial(
        advance, lost=lambda state: state
    ),
    "Empiezas siempre en 0, y el token llega a mitad del texto.": (
        lambda table, state, text: advance(table, 0, text)
    ),
    "La tabla es la que recibes, con sus propios estados: no uses la tuya.": (
        lambda table, *rest: advance(plate(), *rest)
    ),
    "La tabla distingue mayúsculas y minúsculas: no cambies el texto.": (
        lambda table, state, text: advance(table, state, text.upper())
    ),
}

COUNT_TRAPS = {
    EACH: one_by_one,
    "Dos caracteres que llevan al mismo estado son dos textos: cuentas "
    "solo uno.": partial(count_texts, same=set),
    "No todo camino que se para vale: solo el que acaba en «fin».": (
        partial(count_texts, leaf=lambda state, table: state not in table)
    ),
}


# 09.5

STOP = 2


def exact(model, ids, labels, end):
    """Token a token, un forward cada vez, en 64 bits."""
    totals = []
    for label in labels:
        text, total = ids, 0.0
        for token in (*label, end):
            logits = model(text).logits[0, -1].double()
            total += logits.log_softmax(-1)[token]
            text = torch.cat([text, torch.tensor([[token]])], -1)
        totals.append(total)
    return torch.stack(totals).softmax(0)


def scored(model, ids, row, shift=1):
    """Los logits con los que se elige cada token de `row`, `[m, V]`."""
    logits = model(torch.cat([ids, torch.tensor([row])], -1)).logits[0]
    return logits[ids.shape[1] - shift :][: len(row)]


def distribution(
    model,
    ids,
    labels,
    end,
    score=torch.sum,
    row=lambda label, end, longest: [*label, end],
    share=lambda totals: totals.softmax(0),
    norm=lambda logits: logits.log_softmax(-1),
    shift=1,
):
    """Una respuesta de 09.5: `score` resume lo que saca cada token."""
    longest, totals = max(map(len, labels)), []
    for label in labels:
        whole = row(label, end, longest)
        logs = norm(scored(model, ids, whole, shift))  # [m, V]
        totals.append(score(logs[range(len(whole)), whole]))
    return share(torch.stack(totals))


def filled(label, end, longest, fill=None):
    fill = end if fill is None else fill
    return [*label, end] + [fill] * (longest - len(label))


def masked(model, ids, labels, end):
    """Repartir en cada paso entre los tokens que alguna etiqueta permite."""
    rows, shares = [(*label, end) for label in labels], []
    for row in rows:
        logits, share = scored(model, ids, row), 1.0
        for i, token in enumerate(row):
            good = [*{r[i] for r in rows if r[:i] == row[:i]}]
            share *= logits[i, good].softmax(0)[good.index(token)].item()
        shares.append(share)
    return shares


SHARE_TRAPS = {
    "Solo miras el primer token, y la etiqueta es entera.": partial(
        distribution, score=lambda logs: logs[0]
    ),
    "Haces la media por token, y la probabilidad de un texto es el "
    "producto: se suman los logaritmos.": [
        partial(distribution, score=torch.mean, row=row)
        for row in (lambda x, end, _: [*x, end], lambda x, *_: x)
    ],
    "Los logits de la posición i predicen el token i + 1: estás "
    "mirando una posición más allá.": partial(distribution, shift=0),
    "Repartes en cada paso entre lo permitido: es lo que sortea la "
    "máscara, no la exacta. Puntúa cada etiqueta entera y reparte "
    "una sola vez.": masked,
    "Falta el token de fin: sin él, una etiqueta que empieza otra se "
    "lleva también la suya.": partial(
        distribution, row=lambda label, *_: label
    ),
    "El fin es el que recibes en `end`, y no siempre el mismo.": (
        lambda model, ids, labels, end: exact(model, ids, labels, STOP)
    ),
    "El relleno también suma: quédate con las posiciones de la "
    "etiqueta y de su fin.": [
        partial(distribution, row=partial(filled, fill=fill))
        for fill in (0, None)
    ],
    "Sumas logits, y cada posición tiene su propia constante: "
    "log_softmax antes de sumar.": partial(
        distribution, norm=lambda logits: logits
    ),
    "No suman 1: falta repartir entre las etiquetas.": partial(
        distribution, share=torch.exp
    ),
}


# 09.6

QUOTED = regex('"[^"]*"')
QUOTE, OTHER = (("byte", frozenset(s)) for s in ({34}, {*range(256)} - {34}))
HALF = seq(QUOTE, many(OTHER), QUOTE)  # bytes sueltos, también


@cache
def away(tokens, state) -> float:
    """Cuántos tokens faltan, como poco, para que el texto valga; o ∞."""
    seen, now, n = {NEVER}, {state} - {NEVER}, 0
    while now and not any(map(nullable, now)):
        seen |= now
        now, n = {after(s, t) for s in now for t in tokens} - seen, n + 1
    return n if now else math.inf


def mask(
    tokens,
    written,
    left,
    rule=QUOTED,
    more=0,
    fits=lambda token: True,
    ends=nullable,
):
    """Una máscara de 09.6, con sus fallos."""
    state, tokens = after(rule, written), frozenset(tokens)
    far = {t: away(tokens, after(state, t)) for t in tokens if fits(t)}
    room = left + more
    good = {t for t, n in far.items() if n < math.inf and n + 1 <= room}
    return good | ({"fin"} if ends(state) else set())


def is_text(raw) -> bool:
    return raw.decode("utf-8", "ignore").encode() == raw


PIECE = (
    "«ñ» son dos bytes, C3 B1: lleva un token con la mitad, y mira si se "
    "permite y qué deja escribir después."
)
CROSS = (
    "Prohibir de más también es un fallo: lleva un token que cruce la "
    'comilla, como a".'
)
ENDING = (
    "El fin se permite cuando el texto ya vale, y solo entonces: mira las "
    "dos cosas, y que después no siga nada."
)
ROOM = "Pruébala con pocos tokens por delante: tiene que caber el cierre."
EXACT = "Prueba en el borde: con los tokens justos, y con uno menos."
RETURNS = "Tu prueba devuelve False en vez de lanzar: escribe assert."
STRICT = "Pides algo que la buena no cumple: repasa lo que afirmas."
BAD = {
    "termina antes de tiempo": (ENDING, {"ends": lambda state: True}),
    "no deja terminar": (ENDING, {"ends": lambda state: False}),
    "sigue tras el cierre": (ENDING, {"rule": regex('"[^"]*"[^"]*')}),
    "olvida el presupuesto": (ROOM, {"more": math.inf}),
    "se pasa del presupuesto en un token": (EXACT, {"more": 1}),
    "deja sin usar el último token": (EXACT, {"more": -1}),
    "prohíbe los tokens con medio carácter": (PIECE, {"fits": is_text}),
    "cierra con un carácter a medias": (
        PIECE,
        {"rule": HALF},
    ),
    "olvida los tokens que cruzan la comilla": (
        CROSS,
        {"fits": lambda t: b'"' not in t or t == b'"'},
    ),
}
SHORT, PARTS = [b'"', b"a", b'a"'], [b'"', b"\xc3", b"\xb1"]
STEPS = [
    (SHORT, b'"a"', 5, {"fin"}),
    (SHORT, b'"a', 2, {*SHORT}),
    (SHORT, b'"a', 1, {b'"', b'a"'}),
    (SHORT, b"", 0, set()),
    (PARTS, b'"', 3, {b'"', b"\xc3"}),
    (PARTS, b'"\xc3', 3, {b"\xb1"}),
]


def test_mask(ours, skip=(), wrong=()):
    for i, (*step, right) in enumerate(STEPS):
        assert i in skip or ours(*step) == right
    assert not wrong


def test_raising(ours):
    if [ours(*step) for *step, _ in STEPS] != [step[-1] for step in STEPS]:
        raise AssertionError


def test_far(ours):
    """Con más sitio del que hace falta, y con muchos tokens."""
    test_mask(ours)
    for left in (10**7, 10**9, math.inf):
        assert ours([b'"', b"a"], b'"a"', left) == {"fin"}
    pairs = [bytes([a, b]) for a in range(97, 123) for b in range(97, 123)]
    assert ours([*pairs, b'"'], b'"', 2) == {*pairs, b'"'}


def returning(ours):
    return all(ours(*step) == right for *step, right in STEPS)


TEST_TRAPS = {
    ENDING: partial(test_mask, skip=[0]),
    ROOM: partial(test_mask, skip=[2, 3]),
    EXACT: partial(test_mask, skip=[2]),
    PIECE: partial(test_mask, skip=[4, 5]),
    CROSS: partial(test_mask, skip=[1, 2]),
    STRICT: partial(test_mask, wrong=[1]),
    RETURNS: returning,
}


# 09.7


def allowed(
    written,
    texts,
    labels,
    end,
    alive=True,
    pick=lambda sizes: sizes,
    fits=lambda piece: True,
    closes=lambda whole, written: whole == written,
    spells=None,
):
    """Una respuesta de 09.7: todo corte que lleva al final de una etiqueta."""

    @cache
    def spelled(rest):
        cuts = range(1, len(rest) + 1)
        found = (rest[:n] in texts and spelled(rest[n:]) for n in cuts)
        return not rest or any(found)

    good = set()
    for whole in map(str.encode, labels):
        if whole.startswith(written):
            rest = whole[len(written) :]
            cuts = [rest[:n] for n in range(1, len(rest) + 1)]
            cuts = [c for c in cuts if c in texts and fits(c)]
            if alive:
                test = partial(spells, texts) if spells else spelled
                cuts = [c for c in cuts if test(rest[len(c) :])]
            good |= {texts[c] for c in pick(cuts)}
            good |= {end} if closes(whole, written) else set()
    return good


def spellings(raw: bytes, texts: dict):
    """Todas las maneras de escribir esos bytes con tokens."""
    if not raw:
        yield []
    for n in range(1, len(raw) + 1):
        if raw[:n] in texts:
            yield from ([raw[:n], *more] for more in spellings(raw[n:], texts))


def paths(labels, texts, end) -> dict:
    """Escrito → ids que le siguen en alguna de todas esas maneras."""
    following = {}
    for label in labels:
        for way in spellings(label.encode(), texts):
            for n in range(len(way) + 1):
                after_it = following.setdefault(b"".join(way[:n]), set())
                after_it.add(texts[way[n]] if n < len(way) else end)
    return following


def only_first(written, texts, labels, end):
    good = [x for x in labels if x.encode().startswith(written)]
    return allowed(written, texts, good[:1], end)


def no_short_end(written, texts, labels, end):
    several = [x for x in labels if x.encode().startswith(written)]
    return allowed(written, texts, labels, end) - {end if several[1:] else -1}


HARD = [  # etiqueta y tokens; el suyo entero va aparte
    ("Alta", "Alt"),
    ("xabcdefgh", ["x", "a", "ab", "abc", "cd", "ef", "fgh", "gh", "h"]),
    ("desoxirribonucleico", "desoxirbnucle"),  # una a una, todas
    ("equilibrista", "equilbrst"),  # una a una, menos la «a»
]


def one_way(texts, rest, pick=max, suffix=False) -> bool:
    """Quita siempre el trozo más largo (o el más corto), sin volver atrás."""
    while rest:
        cuts = range(1, len(rest) + 1)
        cut = rest.removesuffix if suffix else rest.removeprefix
        pieces = [rest[-n:] if suffix else rest[:n] for n in cuts]
        pieces = [piece for piece in pieces if piece in texts]
        if not pieces:
            return False
        rest = cut(pick(pieces, key=len))
    return True


def either_way(*ways):
    return lambda *case: any(way(*case) for way in ways)


def within(texts, rest, most) -> bool:
    """Si el resto cabe en `most` tokens."""
    cuts = range(1, len(rest) + 1)
    return not rest or (
        most > 0
        and any(
            within(texts, rest[n:], most - 1)
            for n in cuts
            if rest[:n] in texts
        )
    )


def lasts(texts, rest, steps) -> bool:
    """Si al resto se le pueden quitar otros `steps` tokens."""
    cuts = range(1, len(rest) + 1)
    return not (rest and steps) or any(
        lasts(texts, rest[n:], steps - 1) for n in cuts if rest[:n] in texts
    )


CUT_TRAPS = {
    "Dejas el trozo más largo de cada etiqueta, y vale cualquier "
    "corte.": partial(allowed, pick=lambda cuts: cuts[-1:]),
    "Ese token deja un resto que ningún token sabe escribir: antes "
    "de permitirlo, mira si se llega al final.": [
        partial(allowed, alive=False),
        *(
            partial(allowed, spells=partial(lasts, steps=n))
            for n in range(1, 5)
        ),
    ],
    "Quitar siempre el trozo más largo, o el más corto, se atasca donde "
    "otro corte llega: prueba todos.": [
        partial(allowed, spells=way)
        for way in (
            one_way,
            either_way(one_way, partial(one_way, pick=min)),
            either_way(one_way, partial(one_way, suffix=True)),
        )
    ],
    "El resto puede llevar muchos tokens: no te quedes en los primeros.": [
        partial(allowed, spells=partial(within, most=n)) for n in range(1, 5)
    ],
    "Falta el fin de la etiqueta corta: que otra siga no le quita "
    "ser etiqueta.": no_short_end,
    "El fin va solo cuando lo escrito es una etiqueta entera.": (
        partial(allowed, closes=lambda whole, written: True)
    ),
    "Hay tokens con medio carácter, y también escriben la etiqueta: "
    "trabaja con bytes.": partial(allowed, fits=is_text),
    "Te quedas en la primera etiqueta que encaja, y son todas.": (only_first),
}
