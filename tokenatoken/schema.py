"""Un JSON Schema como expresión: qué JSON vale, byte a byte.

Vale un subconjunto, dicho abajo en `KEYWORDS`; lo demás se rechaza por su
nombre. Los objetos son cerrados: solo las claves declaradas, en su orden. No
sabe nada de tokens ni de modelos.
"""

import dataclasses
import json
import math
import types
import typing

from . import CourseError
from .grammar import (
    EMPTY,
    MOST,
    Expression,
    alt,
    between,
    characters,
    many,
    others,
    regex,
    seq,
    shown,
    size,
    text,
)

KEYWORDS = {  # tipo → lo que se puede pedir de él
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum"},
    "number": set(),
    "boolean": set(),
    "null": set(),
}
NOTES = {"title", "description", "default", "examples", "example"}  # anotan
NOTES |= {"$schema", "$id", "id", "$comment", "deprecated"}
DEPTH, DIGITS, WIDTH, PARTS = 16, 40, 4_000, 20_000
CONTROL = [(0, 31), (34, 34), (92, 92)]  # dentro de un texto van con escape
CHARACTER = alt(
    characters(others(CONTROL)),
    regex(r'\\["\\bfnrt]'),
    regex(r"\\u00[01][0-9a-f]"),
)
# Con exponente, en forma científica y por debajo de 1e308: nunca infinito.
NUMBER = regex(
    r"-?(0|[1-9][0-9]{0,299})(\.[0-9]+)?"
    r"|-?[1-9](\.[0-9]+)?[eE](-[0-9]{1,3}"
    r"|\+?([0-9]{1,2}|[12][0-9]{2}|30[0-7]))"
)
SIMPLE = {
    "number": NUMBER,
    "boolean": alt(text("true"), text("false")),
    "null": text("null"),
}
YEAR = r"([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
LEAP = (
    r"([0-9]{2}(0[48]|[2468][048]|[13579][26])"
    r"|(0[48]|[2468][048]|[13579][26])00)"
)
DATE = (
    rf"({YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    r"|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    rf"|02-(0[1-9]|1[0-9]|2[0-8]))|{LEAP}-02-29)"
)
CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
TIME = rf"{CLOCK}:[0-5][0-9](\.[0-9]+)?(Z|[+-]{CLOCK})"
NAME = r"[A-Za-z0-9]+([_+-][A-Za-z0-9]+)*"
FORMATS = {  # RFC 3339; del correo, los de letras, cifras y signos corrientes
    "date": regex(DATE),
    "time": regex(TIME),
    "date-time": regex(f"{DATE}T{TIME}"),
    "email": regex(rf"{NAME}(\.{NAME})*@{NAME}(\.{NAME})+"),
}
COMMA, COLON = regex(", ?"), regex(": ?")
PYTHON = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
}


def json_schema(schema: dict | type) -> Expression:
    """La expresión de los JSON que cumplen `schema`, con espacio o sin él tras
    cada coma y cada dos puntos.

    `schema`: un JSON Schema o una dataclass. Lanza `ValueError` con el nombre
    de lo que no cabe en el subconjunto, o de lo que se contradice.
    """
    if dataclasses.is_dataclass(schema):
        schema = schema_of(schema)
    _check_size(schema)
    return _value(schema, "el esquema", 0)


def _check_size(schema) -> None:
    """Ni enorme ni infinito: un trozo repetido cuenta cada vez."""
    count, left = 0, [schema]
    while left:
        part, count = left.pop(), count + 1
        if count > PARTS:
            _refuse("el esquema", f"hay más de {PARTS} piezas")
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part


def _value(schema, where: str, depth: int) -> Expression:
    """La expresión de un valor; `where` es su sitio, para los mensajes."""
    if depth > DEPTH:
        _refuse(where, f"hay más de {DEPTH} niveles, uno dentro de otro")
    if not isinstance(schema, dict):
        _refuse(where, f"va un objeto de JSON Schema, no {shown(schema)}")
    if not all(isinstance(key, str) for key in schema):
        _refuse(where, "hay una clave que no es un texto")
    asked = set(schema) - NOTES
    if asked == {"anyOf"} and isinstance(schema["anyOf"], list):
        return _any_of(schema["anyOf"], where, depth)
    known = {"type", "enum", "const"}.union(*KEYWORDS.values())
    _only(asked, known, where)
    kinds = _kinds(schema, where)
    if asked & {"enum", "const"}:
        _only(asked, {"enum", "const", "type"}, where)
        return _enum(schema, kinds, where)
    if not kinds:
        _refuse(where, "falta «type», y sin él vale cualquier JSON")
    allowed = {"type"}.union(*(KEYWORDS[kind] for kind in kinds))
    _only(asked, allowed, where)
    if "number" in kinds and asked & KEYWORDS["integer"]:
        _refuse(where, "los límites valen en «integer», no en «number»")
    makers = {
        "object": _object,
        "array": _array,
        "string": _string,
        "integer": _integer,
    }
    return alt(
        *(
            SIMPLE.get(kind) or makers[kind](schema, where, depth)
            for kind in kinds
        )
    )


def _any_of(choices: list, where: str, depth: int) -> Expression:
    if not choices:
        _refuse(where, "«anyOf» está vacío: no vale nada")
    return alt(*(_value(choice, where, depth + 1) for choice in choices))


def _object(schema: dict, where: str, depth: int) -> Expression:
    """Las claves en su orden; las que no están en `required`, o no."""
    fields, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(fields, dict):
        _refuse(where, "falta «properties», y sin ellas vale cualquier clave")
    if not all(isinstance(key, str) for key in fields):
        _refuse(where, "una clave de «properties» no es un texto")
    if schema.get("additionalProperties", False) is not False:
        _refuse(where, "«additionalProperties» solo puede ser false")
    known = isinstance(required, list) and all(
        isinstance(key, str) and key in fields for key in required
    )
    if not known:
        _refuse(where, "«required» pide una clave que no está en «properties»")
    pairs = [
        seq(_literal(key), COLON, _value(field, f"«{key}»", depth + 1))
        for key, field in fields.items()
    ]
    rest = [  # lo que puede venir detrás de otra clave
        seq(COMMA, pair) if key in required else many(seq(COMMA, pair), 0, 1)
        for key, pair in zip(fields, pairs)
    ]
    first = [key in required for key in fields]  # quién puede ir la primera
    last = first.index(True) + 1 if True in first else len(first)
    if sum(map(size, pairs)) * max(last, 1) > MOST:
        _refuse(where, "es demasiado grande; con claves optativas, más")
    ways = [seq(pair, *rest[i:]) for i, pair in enumerate(pairs[:last], 1)]
    if True not in first:
        ways.append(EMPTY)
    return seq(text("{"), alt(*ways), text("}"))


def _array(schema: dict, where: str, depth: int) -> Expression:
    if "items" not in schema:
        _refuse(where, "falta «items», y sin él vale cualquier elemento")
    low, high = _limits(schema, "minItems", "maxItems", where)
    item = _value(schema["items"], f"{where}, elemento", depth + 1)
    if high == 0:
        return text("[]")
    rest = many(seq(COMMA, item), max(low - 1, 0), high and high - 1)
    full = seq(item, rest)
    return seq(text("["), full if low else alt(EMPTY, full), text("]"))


def _string(schema: dict, where: str, depth: int) -> Expression:
    low, high = _limits(schema, "minLength", "maxLength", where)
    if "format" in schema:
        _only(set(schema) - NOTES, {"type", "format"}, where)
        shape = FORMATS.get(str(schema["format"]))
        if shape is None:
            _refuse(where, f"el formato {shown(schema['format'])} no está")
        return seq(text('"'), shape, text('"'))
    return seq(text('"'), many(CHARACTER, low, high), text('"'))


def _integer(schema: dict, where: str, depth: int) -> Expression:
    low, high = schema.get("minimum"), schema.get("maximum")
    for limit in (low, high):
        number = isinstance(limit, int | float) and limit is not True
        if limit is not None and (
            not number or not abs(limit) < 10**DIGITS or limit is False
        ):
            _refuse(where, f"el límite {shown(limit)} no es un número usable")
    low = None if low is None else math.ceil(low)
    high = None if high is None else math.floor(high)
    if low is not None and high is not None and low > high:
        _refuse(where, f"no hay ningún entero entre {low} y {high}")
    ways = []
    if high is None or high >= 0:
        ways.append(_naturals(max(low or 0, 0), high))
    if low is None or low < 0:
        top = None if low is None else -low
        least = 1 if high is None else max(1, -high)
        ways.append(seq(text("-"), _naturals(least, top)))
    return alt(*ways)


def _naturals(low: int, high: int | None) -> Expression:
    """Los enteros de `low` a `high` sin ceros a la izquierda; sin `high`, los
    que sean."""
    size = len(str(low))
    last = size if high is None else len(str(high))
    ways = []
    for n in range(size, last + 1):  # n cifras
        least, most = 10 ** (n - 1) if n > 1 else 0, 10**n - 1
        start, end = max(low, least), most if high is None else min(high, most)
        ways.append(between(b"%d" % start, b"%d" % end, b"09"))
    if high is None:
        ways.append(seq(regex("[1-9]"), many(regex("[0-9]"), size)))
    return alt(*ways)


def _enum(schema: dict, kinds: list, where: str) -> Expression:
    values = schema.get("enum", [schema.get("const")])
    if not isinstance(values, list):
        _refuse(where, "«enum» tiene que ser una lista")
    if "const" in schema:
        const = schema["const"]
        values = [
            value
            for value in values
            if value == const
            and isinstance(value, bool) == isinstance(const, bool)
        ]
    if not all(isinstance(v, str | int | float | None) for v in values):
        _refuse(where, "«enum» solo puede tener textos, números, true y null")
    values = [v for v in values if not kinds or any(_is(v, k) for k in kinds)]
    if not values:
        _refuse(where, "«enum» no deja ningún valor")
    return alt(*map(_literal, values))


def _is(value, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, PYTHON.get(kind, ()))


def _literal(value) -> Expression:
    """Un valor concreto, como lo escribe `json.dumps`."""
    try:
        return text(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CourseError(
            f"{shown(value)} no se puede escribir en JSON ({error}). Quítalo "
            "del esquema."
        ) from error


def _kinds(schema: dict, where: str) -> list[str]:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    known = isinstance(kinds, list) and all(
        isinstance(kind, str) and kind in KEYWORDS for kind in kinds
    )
    if not known:
        _refuse(where, f"no hay ningún tipo {shown(schema['type'])}")
    return kinds


def _limits(schema: dict, least: str, most: str, where: str):
    low, high = schema.get(least, 0), schema.get(most)
    for limit in (low, 0 if high is None else high):
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            _refuse(
                where, f"el límite {shown(limit)} no es un entero positivo"
            )
    if low > WIDTH:
        _refuse(where, f"«{least}» pasa de {WIDTH}")
    if high is not None and low > high:
        _refuse(where, f"«{least}» es {low} y «{most}», {high}")
    return low, high


def _only(asked: set, allowed: set, where: str) -> None:
    unknown = sorted(asked - allowed)
    if unknown:
        _refuse(where, f"«{unknown[0]}» no está en el subconjunto del curso")


def _refuse(where: str, why: str) -> typing.NoReturn:
    raise CourseError(
        f"Este JSON Schema no vale aquí. En {where}: {why}. Qué se puede pedir "
        "está en tokenatoken/schema.py, KEYWORDS."
    )


def schema_of(kind: type, depth: int = 0) -> dict:
    """El JSON Schema de una dataclass: una propiedad por campo, obligatoria si
    no tiene valor por defecto. Los límites van en `field(metadata=…)`.

    Lanza `ValueError` si un campo es de un tipo sin traducción.
    """
    names = {str: "string", int: "integer", float: "number"}
    names |= {bool: "boolean", type(None): "null"}
    if depth > DEPTH:
        _refuse("la dataclass", f"hay más de {DEPTH} niveles")
    if isinstance(kind, type) and kind in names:
        return {"type": names[kind]}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _of_fields(kind, depth)
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return {"enum": list(inside)}
    if origin is list and inside:
        return {"type": "array", "items": schema_of(inside[0], depth + 1)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(part, depth + 1) for part in inside]}
    raise CourseError(
        f"El tipo {shown(kind)} no se puede pedir en JSON. Usa str, int, "
        "float, bool, None, Literal, list[…], «a | b» u otra dataclass."
    )


def _of_fields(kind: type, depth: int) -> dict:
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, SyntaxError, TypeError) as error:
        raise CourseError(
            f"Los tipos de {kind.__name__} no se puede saber cuáles son "
            f"({error}): define esa clase fuera de cualquier función."
        ) from error
    fields, nothing = dataclasses.fields(kind), dataclasses.MISSING
    return {
        "type": "object",
        "properties": {
            f.name: _limited(schema_of(hints[f.name], depth + 1), f.metadata)
            for f in fields
        },
        "required": [
            f.name
            for f in fields
            if f.default is nothing and f.default_factory is nothing
        ],
        "additionalProperties": False,
    }


def _limited(schema: dict, limits) -> dict:
    """El esquema con esos límites; en «a | None», los límites son de `a`."""
    if "anyOf" in schema:
        null = {"type": "null"}
        ways = [w if w == null else w | dict(limits) for w in schema["anyOf"]]
        return {"anyOf": ways}
    return schema | dict(limits)
