"""Corrección del laboratorio 09 · Control.

La verdad sale de los bytes de los tokens, de la derivada de `grammar` y de
enumerar: los días del año, las matrículas, los cortes de una etiqueta.
"""

import random
from collections.abc import Set, ValuesView
from functools import partial

import numpy as np
import torch

from .. import CourseError, grammar
from ..grammar import NEVER, derive, nullable, regex
from ..tokens import token_bytes
from . import answers09 as given
from .answers09 import DATE, DIGITS, END, LETTERS, after, plate, safe
from .bench import odd_tokenizer, random_ids, tiny_model, tokenizer
from .kit import (
    Hint,
    Part,
    as_int,
    call,
    exercise,
    expect,
    put_to_test,
    say,
)


def id_set(value, *_) -> list[int]:
    """Los ids de un conjunto, una lista o un tensor, en orden."""
    if isinstance(value, torch.Tensor | np.ndarray):
        value = value.flatten().tolist()
    expect(
        isinstance(value, Set | ValuesView | list | tuple)
        and not any(isinstance(i, bool) for i in value),
        "Devuelve un conjunto (o una lista) con los ids permitidos.",
    )
    return sorted({as_int(i, "Los ids son números enteros.") for i in value})


def first_id(ours, right) -> tuple[str, int]:
    """El primer id que sobra o que falta, y cuál de las dos cosas."""
    more, less = {*ours} - {*right}, {*right} - {*ours}
    return ("dejas pasar" if more else "falta", min(more or less))


# 09.1


def _digits_said(ours, right, t) -> str:
    verb, i = first_id(ours, right)
    return (
        f"El id {i}, {t.decode([i]) if 0 <= i < len(t) else '¿?'!r}: {verb}."
    )


exercise(
    "09.1",
    Part(
        lambda: [(odd_tokenizer(),), (tokenizer("smollm2"),)],
        truth=lambda t: sorted(given.in_bytes(t)),
        read=id_set,
        said=_digits_said,
        traps=given.DIGIT_TRAPS,
        otherwise="Imprime los bytes de ese token con token_bytes.",
        rights=[
            given.in_bytes,
            lambda t: dict.fromkeys(given.in_bytes(t)).keys(),
            lambda t: torch.tensor(given.by_text(given.is_digits)(t)),
        ],
    ),
    success="¡Correcto! Y vale para un tokenizador que no conocías.",
)


# 09.2

PIECES = [
    *(b"no", b"No", b" NO", b"n", b"N", b"o", b"O", b"asesino", b"nada"),
    *(b"n o", b"ni", b"NI", b" ", b"x", b"\xc3", b"\xb1", b"\x91o", b"\xff"),
    *map(str.encode, ("ño", "ÑO", "ñ", "Ñ", "sino", "o?", "niÑO", "A")),
]


def _walks():
    """Casos raros, y textos que crecen por un camino permitido."""
    for written in (b"", b"Digo n", b"Digo N", b"n\xff", b"n "):
        yield from ((written, PIECES, word) for word in ("no", "No"))
    for written in (b"ni", b"NI", b"ni\xc3", b"Ni\xc3", "niñ".encode()):
        yield written, PIECES, "niño"
    yield from ((b"", PIECES, word) for word in ("x", "o?", "."))
    yield "Mi ñoñerí".encode(), PIECES, "Ñoñería"
    for seed, word in enumerate(("niño", "Anana", "aa", "¿QUÉ", "y no")):
        draw, written, tokens = random.Random(seed), b"", [b" "]
        for _ in range(16):
            raw = "".join(draw.choices(word.lower() + word.upper(), k=4))
            cut = draw.randrange(1, len(raw.encode()))
            tokens += [raw.encode()[:cut], raw.encode()[cut:]]
        for _ in range(20):
            yield written, tokens, word
            good = safe(written, tokens, word)
            written += draw.choice([t for t, g in zip(tokens, good) if g])


def _flag(value) -> bool:
    try:
        return value in (True, False)
    except (RuntimeError, ValueError):  # varios de una vez
        return False


def _mask(value, written, tokens, word) -> list[bool]:
    value = value.tolist() if hasattr(value, "tolist") else value
    expect(
        isinstance(value, list | tuple)
        and len(value) == len(tokens)
        and all(map(_flag, value)),
        "Devuelve una lista con un True (se puede) o un False (no) por "
        f"token, en su orden: aquí, {len(tokens)}.",
    )
    return [bool(v) for v in value]


def _ban_said(ours, right, written, tokens, word) -> str:
    i = [a == b for a, b in zip(ours, right)].index(False)
    verb = "dejas pasar" if ours[i] else "prohíbes"
    return f"Prohibida {word!r} y escrito {written!r}, {verb} {tokens[i]!r}."


exercise(
    "09.2",
    Part(
        _walks,
        truth=safe,
        read=_mask,
        said=_ban_said,
        traps=given.BAN_TRAPS,
        otherwise="Junta los bytes de lo escrito y los del token: ¿está ahí "
        "la palabra?",
        rights=[safe, given.by_pattern],
    ),
    success="¡Correcto! No se escapa por ningún corte, ni prohíbes de más.",
)


# 09.3

LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DAYS = [
    f"{d:02}/{m:02}" for m, n in enumerate(LENGTHS, 1) for d in range(1, n + 1)
]
MOST = 120  # caracteres
FORGOTTEN = "Ese día existe: busca la rama que tendría que llevarlo."
BAR = "Entre las dos cifras del día y las del mes va una barra, y nada más."
NOT_DAYS = {  # pista → textos que no valen y patrones que la merecen
    "La barra | parte el patrón entero: agrupa con paréntesis.": (
        "01 10 31 12 /01 /12 01/ 31/",
        ["0[1-9]|[12][0-9]|3[01]/0[1-9]|1[0-2]", DATE + "|10"],
    ),
    "Día y mes llevan siempre dos cifras, también del 1 al 9.": (
        "1/1 1/01 01/1 9/12",
        [DATE.replace("0[", "0?["), "[1-9]/[1-9]|" + DATE],
    ),
    "Ni el día ni el mes son 00: mira qué puede seguir a un 0.": (
        "00/01 01/00 00/00",
        [DATE.replace("0[1-9]", "0[0-9]", 1), r"\d\d/\d\d"],
    ),
    "No hay más de doce meses: mira qué sigue al 1.": (
        "01/13 01/19 28/20 01/99",
        [f"{given.D28}/[01][1-9]|" + DATE, DATE + "|01/1[0-9]"],
    ),
    "Ningún mes pasa del día 31: mira qué sigue al 3.": (
        "32/01 39/12 40/01 99/01",
        [f"(0[1-9]|[1-3][0-9])/{given.MONTH}", DATE + "|3[12]/01"],
    ),
    "El año no es bisiesto: febrero acaba el 28.": (
        "29/02 30/02 31/02",
        [
            f"(0[1-9]|[12][0-9]|3[01])/{given.MONTH}",
            DATE.replace("[13-", "[1-"),
        ],
    ),
    "Hay cuatro meses de 30 días: mira cuáles.": (
        "31/04 31/06 31/09 31/11",
        [f"{given.D28}/{given.MONTH}|(29|3[01])/(0[13-9]|1[0-2])"],
    ),
}


def accepted(rule):
    """Los textos que valen; de los de más de 5 bytes, los 6 primeros."""
    stack = [(b"", rule)]
    while stack:
        raw, rest = stack.pop()
        if len(raw) > 5 or nullable(rest):
            yield raw
        if len(raw) > 5:
            continue
        first = frozenset().union(*grammar.first_bytes(rest))
        for byte in sorted(first, reverse=True):
            left = derive(rest, byte)
            stack += [(raw + bytes([byte]), left)] if left != NEVER else []


@exercise(
    "09.3",
    success="¡Correcto! Exactamente los 365 días.",
    traps={
        **{hint: wrong for hint, (_, wrong) in NOT_DAYS.items()},
        FORGOTTEN: [DATE.split("|31")[0], "hola"],
        BAR: [DATE.replace("/", "[/-]"), f"({DATE})?", f"({DATE})+"],
    },
    rights=[
        f"^({DATE})$",
        r"(0[1-9]|1\d|2[0-8])/(0[1-9]|1[0-2])|(29|30)/(01|0[3-9]|1[0-2])"
        "|31/(0[13578]|10|12)",
    ],
)
def _dates(pattern):
    expect(isinstance(pattern, str), "DATES tiene que ser un texto.")
    expect(
        len(pattern) <= MOST,
        f"Tu patrón tiene {len(pattern)} caracteres y el tope es {MOST}: "
        "junta los meses que acaban igual.",
    )
    try:
        rule = regex(pattern)
    except CourseError as error:
        raise Hint(str(error)) from None

    def fits(text):
        return nullable(after(rule, text.encode()))

    for hint, (texts, _) in NOT_DAYS.items():
        for text in filter(fits, texts.split(" ")):
            raise Hint(f"Acepta «{text}». {hint}")
    for day in DAYS:
        expect(fits(day), f"No acepta «{day}». {FORGOTTEN}")
    for raw in accepted(rule):
        text = raw.decode("utf-8", "replace")
        what = "un texto que empieza por " if len(raw) > 5 else ""
        expect(text in DAYS, f"Acepta {what}{text!r}. {BAR}")


# 09.4


def _check_table(table) -> None:
    rows = table.values() if isinstance(table, dict) else [None]
    good = all(isinstance(row, dict) for row in rows) and 0 in table
    try:
        pairs = {pair for row in rows if good for pair in row.items()}
    except TypeError:  # un estado que no puede ser clave
        good, pairs = False, []
    expect(
        good and all(isinstance(c, str) and len(c) == 1 for c, _ in pairs),
        "TABLE va de estado a fila, y una fila, de un carácter (un texto) a "
        "un estado. La de 0 tiene que estar.",
    )
    right, seen, queue = plate(), {(0, 0)}, [("", 0, 0)]
    for text, ours, theirs in queue:  # del más corto al más largo
        verb = "Acepta" if ours == END else "No acepta"
        hint = given.VALID if theirs == END else given.SHAPE
        if {*text} - {*DIGITS, *LETTERS, " "}:
            hint = given.STRANGE
        expect((ours == END) == (theirs == END), f"{verb} «{text}». {hint}")
        for c in sorted({*table.get(ours, {}), *right.get(theirs, {})}):
            pair = (
                given.advance(table, ours, c),
                given.advance(right, theirs, c),
            )
            if pair not in seen:
                seen.add(pair)
                queue.append((text + c, *pair))


class State:
    """Un estado que cuenta cuántas veces se buscan, entre todos."""

    looks = 0

    def __hash__(self):
        State.looks += 1
        expect(
            State.looks < 100_000,
            f"Buscas un estado más de 100 000 veces. {given.EACH}",
        )
        return super().__hash__()


class Number(State, int):
    pass


class Name(State, str):
    pass


def _counted(function, table) -> int:
    State.looks = 0
    names = {s: Name(s) if isinstance(s, str) else Number(s) for s in table}
    names |= {s: Name(s) for s in (END, "callejón")}
    copy = {
        names[state]: {c: names[s] for c, s in row.items()}
        for state, row in table.items()
    }
    value = call(function, copy)
    return as_int(value, "Se pide cuántos textos hay: un entero.")


def _graph(seed: int) -> dict:
    """Una tabla sin vueltas: varias letras al mismo estado, y callejones."""
    draw, order = random.Random(seed), [0, *"abcd", END, "callejón"]
    return {
        state: {c: draw.choice(order[i + 1 :]) for c in draw.sample("xyzw", 3)}
        for i, state in enumerate(order[:-2])
    }


def _state(value, *_) -> list:
    hint = "advance() devuelve un estado de esa tabla, o -1."
    return [value if isinstance(value, str) else as_int(value, hint)]


def _state_said(ours, right, table, state, text) -> str:
    start = "Desde" if table == plate() else f"Con la tabla {table}, desde"
    end = f"das {ours[0]!r} y es {right[0]!r}."
    return f"{start} {state!r}, con {text!r}, {end}"


ADVANCE = Part(
    [
        (table, state, text)
        for table, state, texts in given.WALKS
        for text in texts.split("|")
    ],
    truth=lambda *case: [given.advance(*case)],
    read=_state,
    said=_state_said,
    traps=given.ADVANCE_TRAPS,
    otherwise="Sigue la tabla con el dedo: ¿en qué carácter te separas?",
)
COUNT = Part(
    [*((_graph(seed),) for seed in range(6)), ({0: {"a": END}},), (plate(),)],
    truth=lambda table: (
        160_000_000 if table == plate() else given.one_by_one(table)
    ),
    observe=_counted,
    said=lambda ours, right, table: (
        f"Con una tabla de {len(table)} filas dices {ours} y son {right}."
    ),
    traps=given.COUNT_TRAPS,
    otherwise="Prueba con una tabla de tres estados y cuéntalos a mano.",
)


@exercise(
    "09.4",
    success="¡Correcto! Caben 160 millones: con espacio y sin él.",
    traps={
        **{
            hint: [
                (table, given.advance, given.count_texts) for table in several
            ]
            for hint, several in given.TABLES.items()
        },
        **{
            h: (plate(), w, given.count_texts)
            for h, w in ADVANCE.traps.items()
        },
        **{h: (plate(), given.advance, w) for h, w in COUNT.traps.items()},
    },
    rights=[
        (plate(), given.advance, given.count_texts),
        (plate() | {9: {}}, given.advance_numpy, given.count_texts),
    ],
)
def _plates(table, function, count):
    _check_table(table)
    ADVANCE.grade(function)
    COUNT.grade(count)


# 09.5

LONG = random_ids(50, 7)[0].tolist()
LABELLED = [
    [[3], [5], [9]],
    [[3, 4], [3, 4, 5], [7]],
    [[8, 1, 6], [8, 2], [8], [30, 31, 32, 33]],
    [[11, 12]],
    [LONG[:25], LONG[25:], LONG[10:40]],
    [[0, 0], [0], [0, 0, 0]],
]
ENDS = given.STOP, 9, 40, 0, 7, 1  # ninguno está en sus etiquetas


def _read_shares(value, model, ids, labels, end):
    try:
        value = torch.as_tensor(value).detach().double()
    except (TypeError, ValueError, RuntimeError):
        raise Hint("Devuelve un tensor o una lista de números.") from None
    expect(
        list(value.shape) == [len(labels)],
        f"Hay {len(labels)} etiquetas y devuelves forma {list(value.shape)}: "
        "una probabilidad de cada una.",
    )
    return value.nan_to_num(-1)


exercise(
    "09.5",
    Part(
        lambda: [
            (
                tiny_model(i % 2),
                random_ids((4, 1, 9)[i % 3], i),
                labels,
                end,
            )
            for i, (labels, end) in enumerate(zip(LABELLED, ENDS))
        ],
        truth=given.exact,
        read=_read_shares,
        near=5e-6,
        said=lambda ours, right, model, ids, labels, end: say(
            f"Con etiquetas de {', '.join(str(len(x)) for x in labels)} "
            "tokens, la variación total respecto a la exacta es {0:.5f}.",
            (ours - right).abs().sum().item() / 2,
        ),
        traps=given.SHARE_TRAPS,
        otherwise="Puntúa a mano una etiqueta de un token, con su fin. Si "
        "sale NaN, ¿multiplicas en vez de sumar logaritmos?",
        rights=[given.distribution, given.exact],
    ),
    success="¡Correcto! La distribución exacta, sin sortear nada.",
)


# 09.6


MASKS = {"buena": given.mask} | {
    name: partial(given.mask, **change)
    for name, (_, change) in given.BAD.items()
}


def _tested(answer, name) -> str:
    """«acepta», «rechaza» o «devuelve»: lo que hace con esa máscara."""

    def mask(tokens, written, left):
        return MASKS[name](tokens, written, left)

    return put_to_test(answer, mask)


def _tested_said(ours, right, name) -> str:
    if name == "buena":
        return "No acepta la máscara buena."
    return f"Deja pasar una máscara que {name}."


def _tested_hint(ours, right, name) -> str:
    return (
        given.RETURNS
        if ours == "devuelve"
        else given.BAD.get(name, [given.STRICT])[0]
    )


exercise(
    "09.6",
    Part(
        [(name,) for name in MASKS],
        truth=lambda name: "acepta" if name == "buena" else "rechaza",
        observe=_tested,
        said=_tested_said,
        otherwise=_tested_hint,
        traps=given.TEST_TRAPS,
        rights=[given.test_mask, given.test_raising, given.test_far],
    ),
    success="¡Correcto! Tu prueba acepta la buena y caza las nueve malas.",
)


# 09.7


LABELS = ["Pos", "Positiva", "Positivo"], ["ni", "niño", "niña", "no"]


def _tables():
    """Etiquetas, tokens al azar o de verdad, y el id del fin."""
    for seed in range(12):
        draw, labels = random.Random(seed), LABELS[seed % 2]
        raws = [label.encode() for label in labels]
        cuts = [(i, j) for j in range(1, 9) for i in range(j)]
        pieces = sorted({raw[i:j] for raw in raws for i, j in cuts} - {b""})
        pieces = draw.sample(pieces, len(pieces) // 2) + [b"Positivos", b"nox"]
        ids = draw.sample(range(100), len(pieces) + 1)
        yield labels, dict(zip(pieces, ids)), ids[-1]
    for label, pieces in given.HARD:  # hay que buscar hasta el final
        raws = dict.fromkeys(map(str.encode, [*pieces, label]))
        yield [label], {raw: i for i, raw in enumerate(raws)}, 99
    t = tokenizer("smollm2")
    ids = {*range(len(t))} - {*t.added_tokens_decoder}
    yield LABELS[0], {token_bytes(t, i): i for i in ids}, 0


def _allowed_said(ours, right, written, texts, labels, end) -> str:
    verb, i = first_id(ours, right)
    names = {i: raw for raw, i in texts.items()} | {end: "el fin"}
    return (
        f"Con {labels} y {written!r} escrito, {verb} {names.get(i, i)!r}, "
        f"el id {i}."
    )


exercise(
    "09.7",
    Part(
        lambda: [
            (written, texts, labels, end)
            for labels, texts, end in _tables()
            for written in given.paths(labels, texts, end)
        ],
        truth=lambda written, texts, labels, end: sorted(
            given.paths(labels, texts, end)[written]
        ),
        read=id_set,
        said=_allowed_said,
        traps=given.CUT_TRAPS,
        otherwise="Escribe a mano los cortes de la etiqueta más corta.",
        rights=[
            given.allowed,
            lambda w, texts, labels, end: [
                *given.allowed(w, texts, labels, end)
            ],
            lambda *case: dict.fromkeys(given.allowed(*case)).keys(),
        ],
    ),
    success="¡Correcto! Todos los cortes, y ninguno sin salida.",
)
