"""Leer la llamada a función que escribe un modelo.

Lo que llega es texto de un extraño: se lee, se compara con la firma de la
función y no se ejecuta nada que no esté en la lista. No sabe nada de modelos.
"""

import json
import math
import re
from collections.abc import Callable

from transformers.utils import get_json_schema

from . import CourseError


def read_call(text: str, functions: list[Callable]) -> tuple[Callable, dict]:
    """La función que pide `text` y sus argumentos, ya comprobados.

    `text` es de un extraño: no se ejecuta nada suyo. La función sale de la
    lista, y los argumentos se comparan con su firma (`get_json_schema`).
    Lanza `ValueError` diciendo qué falla, en palabras que puede leer también
    el modelo.
    """
    tagged = re.search(r"<tool_call>(.*?)(</tool_call>|$)", text, re.DOTALL)
    body = tagged[1] if tagged else re.sub(r"^\s*```\w*|```\s*$", "", text)
    body = body.removesuffix("<|im_end|>")
    try:
        call = json.loads(
            body, parse_constant=_no_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise CourseError(f"La llamada no es JSON ({error}).") from error
    if not isinstance(call, dict) or {*call} != {"name", "arguments"}:
        raise CourseError(
            'Una llamada es {"name": …, "arguments": {…}}, y nada más.'
        )
    known = {f.__name__: f for f in functions}
    if not isinstance(call["name"], str) or call["name"] not in known:
        raise CourseError(
            f"No hay ninguna función {call['name']!r}: hay "
            f"{', '.join(known) or 'ninguna'}."
        )
    function = known[call["name"]]
    _check_arguments(function, call["arguments"])
    return function, call["arguments"]


def _no_constant(name: str):
    raise CourseError(f"{name} no es un número de JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_constant(digits)


_KINDS = {
    "string": (str, "un texto"),
    "integer": (int, "un entero"),
    "number": (int | float, "un número"),
    "boolean": (bool, "true o false"),
}


def _check_arguments(function: Callable, given) -> None:
    wanted = get_json_schema(function)["function"]["parameters"]
    if not isinstance(given, dict):
        raise CourseError(f"Los argumentos van en un objeto, no {given!r}.")
    wrong = [a for a in given if a not in wanted["properties"]]
    wrong += [a for a in wanted.get("required", []) if a not in given]
    if wrong:
        raise CourseError(
            f"{function.__name__} lleva {', '.join(wanted['properties'])}; "
            f"sobra o falta {', '.join(wrong)}."
        )
    for name, value in given.items():
        rule = wanted["properties"][name]
        if rule.get("type") not in _KINDS:
            raise CourseError(
                f"{function.__name__} pide {name} de un tipo que no sé "
                "comprobar: usa str, int, float, bool o Literal."
            )
        kind, words = _KINDS[rule["type"]]
        is_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or is_bool:
            raise CourseError(f"{name} tiene que ser {words}, no {value!r}.")
        if "enum" in rule and value not in rule["enum"]:
            raise CourseError(
                f"{name} tiene que ser uno de {', '.join(rule['enum'])}, no "
                f"{value!r}."
            )
