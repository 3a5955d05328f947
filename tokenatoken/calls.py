"""Leer la llamada a función que escribe un modelo.

Lo que llega es texto de un extraño: se lee, se compara con la firma de la
función y no se ejecuta nada que no esté en la lista. No sabe nada de modelos.
"""

import inspect
import json
import math
import re
from collections.abc import Callable

from transformers.utils import (
    DocstringParsingException,
    TypeHintParsingException,
    get_json_schema,
)

from . import CourseError
from .chat import split_thought

LONGEST = 300  # cifras de un entero
_TAGGED = re.compile(r"^\s*<tool_call>(.*?)(?:</tool_call>|\Z)", re.M | re.S)
_KINDS = {
    "string": (str, "un texto"),
    "integer": (int, "un entero"),
    "number": (int | float, "un número"),
    "boolean": (bool, "true o false"),
}


def read_call(text: str, functions: list[Callable]) -> tuple[Callable, dict]:
    """La función que pide `text` y sus argumentos, ya comprobados.

    `text` es una llamada en JSON, sola o entre `<tool_call>` y `</tool_call>`;
    lo que haya en el pensamiento no cuenta. La función sale de la lista, y los
    argumentos se comparan con su firma (`get_json_schema`). No ejecuta nada.
    Lanza `ValueError` diciendo qué falla, en palabras que puede leer también
    el modelo.
    """
    schemas = {f.__name__: _schema(f) for f in _checked(functions)}
    call = _parsed(text)
    name, given = call["name"], call["arguments"]
    if not isinstance(name, str) or name not in schemas:
        raise CourseError(
            f"No hay ninguna función {_short(name)}: hay "
            f"{', '.join(schemas) or 'ninguna'}."
        )
    if not isinstance(given, dict):
        raise CourseError(
            f"Los argumentos van en un objeto, no {_short(given)}."
        )
    _check_arguments(name, schemas[name], given)
    return next(f for f in functions if f.__name__ == name), given


def _checked(functions) -> list[Callable]:
    good = isinstance(functions, list | tuple) and all(
        inspect.isfunction(f) for f in functions
    )
    if not good:
        raise CourseError(
            "Las funciones van en una lista, sin llamarlas: [multiplica]."
        )
    return functions


def _schema(function: Callable) -> dict:
    """Los argumentos de la función, como se los enseña la plantilla."""
    kinds = {p.kind for p in inspect.signature(function).parameters.values()}
    if kinds - {inspect.Parameter.POSITIONAL_OR_KEYWORD}:
        raise CourseError(
            f"{function.__name__} lleva *, ** o / en sus argumentos: escríbela "
            "con argumentos corrientes."
        )
    try:
        schema = get_json_schema(function)["function"]["parameters"]
    except (DocstringParsingException, TypeHintParsingException) as error:
        raise CourseError(
            f"{function.__name__} necesita un tipo en cada argumento y un "
            "docstring con «Args:», que es lo que lee el modelo."
        ) from error
    for name, rule in schema["properties"].items():
        kind = rule.get("type")
        if not isinstance(kind, str) or kind not in _KINDS:
            raise CourseError(
                f"{function.__name__} pide {name} de un tipo que no sé "
                "comprobar: usa str, int, float, bool o Literal."
            )
    return schema


def _parsed(text: str) -> dict:
    """El JSON de la llamada: `{"name": …, "arguments": …}`."""
    if not isinstance(text, str):
        raise CourseError(f"La llamada es un texto, no {_short(text)}.")
    text = split_thought(text)[1].strip().removesuffix("<|im_end|>")
    bodies = _TAGGED.findall(text)
    if len(bodies) > 1:
        raise CourseError("Hay varias llamadas: escribe una sola cada vez.")
    body = bodies[0] if bodies else text.strip()
    body = re.sub(r"^```\w*|```$", "", body)
    rules = dict(
        parse_constant=_no_number,
        parse_float=_finite,
        parse_int=_whole,
        object_pairs_hook=_once,
    )
    try:
        call = json.loads(body, **rules)
        json.dumps(call, ensure_ascii=False).encode()  # sin medios caracteres
    except CourseError:
        raise
    except (ValueError, RecursionError) as error:
        raise CourseError(f"La llamada no es JSON ({error}).") from error
    if not isinstance(call, dict) or {*call} != {"name", "arguments"}:
        raise CourseError(
            'Una llamada es {"name": …, "arguments": {…}}, y nada más.'
        )
    return call


def _no_number(digits: str):
    raise CourseError(f"{digits:.20} no es un número de JSON que valga.")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits)


def _whole(digits: str) -> int:
    return int(digits) if len(digits) < LONGEST else _no_number(digits)


def _once(pairs: list) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise CourseError("Hay una clave repetida: cada una va una vez.")
    return result


def _check_arguments(function: str, schema: dict, given: dict) -> None:
    known, needed = schema["properties"], schema.get("required", [])
    wrong = [a for a in given if a not in known]
    wrong += [a for a in needed if a not in given]
    if wrong:
        raise CourseError(
            f"{function} lleva {', '.join(known) or 'nada'}; sobra o falta "
            f"{', '.join(wrong):.60}."
        )
    for name, value in given.items():
        rule = known[name]
        if value is None and rule.get("nullable"):
            continue
        kind, words = _KINDS[rule["type"]]
        is_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or is_bool:
            raise CourseError(
                f"{name} tiene que ser {words}, no {_short(value)}."
            )
        if "enum" in rule and value not in rule["enum"]:
            raise CourseError(
                f"{name} tiene que ser uno de "
                f"{', '.join(map(str, rule['enum']))}, no {_short(value)}."
            )


def _short(value) -> str:
    return f"{value!r:.60}"
