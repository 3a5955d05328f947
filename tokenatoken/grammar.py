"""Qué textos valen, byte a byte: expresiones regulares y su derivada.

Una expresión es una tupla: `("byte", conjunto)`, `("seq", a, b, …)`,
`("alt", a, b, …)` o `("many", a, mínimo, máximo)`. `derive(a, byte)` es lo que
queda por leer después de ese byte (Brzozowski, 1964): cada expresión que sale
es un estado del autómata. No sabe nada de tokens.
"""

import math
import re
import re._constants as ops
import re._parser as parser  # el lector de `re`, para no escribir otro
import reprlib

from . import CourseError

Expression = tuple
EMPTY = ("seq",)  # no queda nada por leer
NEVER = ("alt",)  # de aquí no sale ningún texto que valga
LAST = 0x10FFFF  # el último carácter de Unicode
SURROGATES = (0xD800, 0xDFFF)  # no son caracteres: no existen en UTF-8
DIGITS, SPACES = [(48, 57)], [(9, 13), (32, 32)]
MOST = 100_000  # piezas de una expresión
LONGEST = 4096  # letras de un patrón, y bytes del texto más corto que vale
WORDS = [(48, 57), (65, 90), (95, 95), (97, 122)]


def shown(value) -> str:
    """Cualquier valor, en pocas letras, para un mensaje."""
    try:
        return reprlib.repr(value)
    except Exception:  # enteros enormes, objetos que no se dejan escribir
        return type(value).__name__


def seq(*parts: Expression) -> Expression:
    """Una expresión detrás de otra."""
    flat = []
    for part in parts:
        if part == NEVER:
            return NEVER
        flat += part[1:] if part[0] == "seq" else [part]
    return flat[0] if len(flat) == 1 else ("seq", *flat)


def alt(*parts: Expression) -> Expression:
    """Cualquiera de varias expresiones."""
    flat = {}
    for part in parts:
        flat |= dict.fromkeys(part[1:] if part[0] == "alt" else [part])
    return next(iter(flat)) if len(flat) == 1 else ("alt", *flat)


def many(part: Expression, low: int = 0, high: int | None = None):
    """Entre `low` y `high` veces lo mismo; sin `high`, las que sean."""
    if high == 0 or part == EMPTY or part == NEVER and not low:
        return EMPTY
    if part == NEVER or low == high == 1:
        return part
    return ("many", part, low, high)


def text(value: str) -> Expression:
    """Ese texto, exactamente."""
    return seq(*(("byte", frozenset([b])) for b in value.encode()))


def size(a: Expression) -> int:
    """Cuántas piezas tiene; a partir de `MOST`, deja de contar."""
    count, left = 0, [a]
    while left and count < MOST:
        piece = left.pop()
        count += 1
        if piece[0] != "byte":
            left += [part for part in piece[1:] if isinstance(part, tuple)]
    return count


def nullable(a: Expression) -> bool:
    """Si el texto puede acabar aquí."""
    if a[0] == "many":
        return a[2] == 0 or nullable(a[1])
    if a[0] == "seq":
        return all(map(nullable, a[1:]))
    return a[0] == "alt" and any(map(nullable, a[1:]))


def derive(a: Expression, byte: int) -> Expression:
    """Lo que queda por leer de `a` después de `byte`, o `NEVER`."""
    if a[0] == "byte":
        return EMPTY if byte in a[1] else NEVER
    if a[0] == "alt":
        return alt(*(derive(part, byte) for part in a[1:]))
    if a[0] == "many":
        _, part, low, high = a
        rest = many(part, max(low - 1, 0), high and high - 1)
        return seq(derive(part, byte), rest)
    ways = []
    for i, part in enumerate(a[1:], 2):
        ways.append(seq(derive(part, byte), *a[i:]))
        if not nullable(part):
            break
    return alt(*ways)


def shortest_length(a: Expression) -> float:
    """Cuántos bytes tiene el texto más corto que vale; infinito, si ninguno."""
    if a[0] == "byte":
        return 1 if a[1] else math.inf
    if a[0] == "many":
        return a[2] * shortest_length(a[1]) if a[2] else 0
    found = map(shortest_length, a[1:])
    return sum(found) if a[0] == "seq" else min(found, default=math.inf)


def shortest(a: Expression) -> bytes | None:
    """El texto más corto que vale y, entre los más cortos, el primero en orden
    alfabético: por eso el de `derive(a, b)`, si `b` es su primer byte, es el
    mismo sin ese byte. `None` si no hay ninguno."""
    if a[0] == "byte":
        return bytes([min(a[1])]) if a[1] else None
    if a[0] == "many":
        one = shortest(a[1]) if a[2] else b""
        return None if one is None else one * a[2]
    found = [shortest(part) for part in a[1:]]
    if a[0] == "alt":
        found = [way for way in found if way is not None]
        return min(found, key=lambda way: (len(way), way), default=None)
    return None if None in found else b"".join(found)


def first_bytes(a: Expression) -> list[frozenset[int]]:
    """Los conjuntos de bytes con los que puede empezar: dos bytes que están en
    los mismos tienen la misma derivada."""
    if a[0] == "byte":
        return [a[1]]
    if a[0] == "many":
        return first_bytes(a[1])
    sets = {}
    for part in a[1:]:
        sets |= dict.fromkeys(first_bytes(part))
        if a[0] == "seq" and not nullable(part):
            break
    return list(sets)


def characters(ranges: list[tuple[int, int]]) -> Expression:
    """Un carácter de esos intervalos de Unicode, en UTF-8: nunca a medias."""
    pieces, plain = [], set()
    borders = [0x80, 0x800, SURROGATES[0], SURROGATES[1] + 1, 0x10000]
    for low, high in ranges:
        cuts = [b for b in borders if low < b <= high]
        for start, end in zip([low, *cuts], [*(c - 1 for c in cuts), high]):
            if end < 0x80:
                plain |= set(range(start, end + 1))
            elif not SURROGATES[0] <= start <= SURROGATES[1]:
                pieces.append(between(chr(start).encode(), chr(end).encode()))
    return alt(*([("byte", frozenset(plain))] if plain else []), *pieces)


def between(low: bytes, high: bytes, digits: bytes = b"\x80\xbf"):
    """Las secuencias de igual longitud entre dos, ambas incluidas, si detrás
    del primer byte van `digits`: los de continuación de UTF-8, o `b"09"`."""

    def start(first, last):
        return ("byte", frozenset(range(first, last + 1)))

    if len(low) == 1:
        return start(low[0], high[0])
    least, most = digits[:1] * (len(low) - 1), digits[1:] * (len(low) - 1)
    first, last, ways = low[0], high[0], []
    if first == last:
        return seq(start(first, first), between(low[1:], high[1:], digits))
    if low[1:] != least:
        ways.append(seq(start(first, first), between(low[1:], most, digits)))
        first += 1
    if high[1:] != most:
        ways.append(seq(start(last, last), between(least, high[1:], digits)))
        last -= 1
    if first <= last:
        ways.append(seq(start(first, last), between(least, most, digits)))
    return alt(*ways)


def others(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Los caracteres que no están en esos intervalos."""
    gaps, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            gaps.append((start, low - 1))
        start = max(start, high + 1)
    return [*gaps, (start, LAST)] if start <= LAST else gaps


def regex(pattern: str) -> Expression:
    """La expresión de un patrón de Python, que tiene que casar entero.

    Vale lo regular: literales, `.`, clases (`\\d`, `\\w`, `\\s` solo ASCII),
    grupos, `|` y repeticiones. Lanza `ValueError` con el nombre de lo que no:
    miradas alrededor, referencias, `\\b`, anclas en medio.
    """
    if not isinstance(pattern, str) or len(pattern) > LONGEST:
        raise CourseError(
            f"El patrón tiene que ser un texto de hasta {LONGEST} letras, no "
            f"{shown(pattern)}: regex(r'[0-9]{{4}}')."
        )
    try:
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise CourseError(
            f"El patrón {shown(pattern)} no es una expresión regular que se "
            f"pueda leer ({error}). Pruébalo antes con re.compile."
        ) from error
    if tree.state.flags & ~re.UNICODE:
        raise CourseError(
            "El patrón lleva banderas, como (?i), que aquí no valen: escribe "
            "las dos formas, [aA]."
        )
    read = list(tree)
    edges = (ops.AT, ops.AT_BEGINNING), (ops.AT, ops.AT_BEGINNING_STRING)
    while read and read[0] in edges:
        read.pop(0)
    edges = (ops.AT, ops.AT_END), (ops.AT, ops.AT_END_STRING)
    while read and read[-1] in edges:
        read.pop()
    return seq(*map(_piece, read))


def _piece(item) -> Expression:
    """Una pieza de lo que lee `re`, como expresión."""
    kind, value = item
    if kind is ops.BRANCH:
        return alt(*(seq(*map(_piece, way)) for way in value[1]))
    if kind is ops.SUBPATTERN and not value[1] and not value[2]:
        return seq(*map(_piece, value[3]))
    if kind in (ops.MAX_REPEAT, ops.MIN_REPEAT):
        low, high, part = value
        high = None if high is ops.MAXREPEAT else high
        return many(seq(*map(_piece, part)), low, high)
    if kind is ops.IN:
        negated = value[0][0] is ops.NEGATE
        ranges = [r for part in value[negated:] for r in _ranges(*part)]
        return characters(others(ranges) if negated else ranges)
    return characters(_ranges(kind, value))


def _ranges(kind, value) -> list[tuple[int, int]]:
    """Los caracteres de una pieza que solo lee uno."""
    classes = {
        ops.CATEGORY_DIGIT: DIGITS,
        ops.CATEGORY_SPACE: SPACES,
        ops.CATEGORY_WORD: WORDS,
        ops.CATEGORY_NOT_DIGIT: others(DIGITS),
        ops.CATEGORY_NOT_SPACE: others(SPACES),
        ops.CATEGORY_NOT_WORD: others(WORDS),
    }
    if kind is ops.LITERAL:
        return [(value, value)]
    if kind is ops.NOT_LITERAL:
        return others([(value, value)])
    if kind is ops.RANGE:
        return [value]
    if kind is ops.ANY:
        return others([(10, 10)])
    if kind is ops.CATEGORY:
        return classes[value]
    raise CourseError(
        f"El patrón usa {str(kind).lower()}, que no se puede comprobar byte a "
        "byte. Valen literales, clases [a-z], grupos, | y repeticiones."
    )
