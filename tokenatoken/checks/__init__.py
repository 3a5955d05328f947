"""Corrección de los laboratorios: un veredicto en español, nunca una excepción.

`check("01.2", respuesta, …)` dice ✔, ✘ con una pista, o «Pendiente» si el
hueco sigue sin rellenar. La pista nombra el mecanismo que falla y propone el
siguiente experimento; nunca da la solución. La verdad sale de la biblioteca o
de la aritmética, jamás de la función del alumno. Cada unidad registra sus
ejercicios en un módulo propio (`unit01`, …).
"""

import html
import importlib
import pkgutil
import traceback
from dataclasses import dataclass

_EXERCISES = {}
_MARKS = {
    True: ("✔", "#00735C"),
    False: ("✘", "#A33B00"),
    None: ("…", "#555555"),
}


class Pendiente(Exception):
    """El hueco sigue sin rellenar."""


class Hint(Exception):
    """La respuesta falla; el texto es la pista."""


@dataclass
class Verdict:
    """`ok`: True, False, o None si está pendiente. Se enseña solo."""

    exercise: str
    ok: bool | None
    message: str

    def __repr__(self) -> str:
        return (
            f"{_MARKS[self.ok][0]} Ejercicio {self.exercise}. {self.message}"
        )

    def _repr_html_(self) -> str:
        mark, color = _MARKS[self.ok]
        text = html.escape(self.message).replace("\n", "<br>")
        return (
            f'<div role="status" style="border-left:5px solid {color};'
            f'padding:6px 10px"><b>{mark} Ejercicio {self.exercise}.</b> {text}</div>'
        )


def exercise(number: str, success: str = "¡Correcto!"):
    """Registra la función que corrige un ejercicio (lanza `Hint` si falla)."""

    def register(function):
        _EXERCISES[number] = (function, success)
        return function

    return register


def check(number: str, *answers) -> Verdict:
    """Corrige el ejercicio `number` («unidad.ejercicio») y nunca lanza.

    `answers`: lo que has escrito (valores o funciones). Devuelve un
    `Verdict`; con un número desconocido lo dice y enumera los que hay.
    """
    _load_units()
    if number not in _EXERCISES:
        known = ", ".join(sorted(_EXERCISES))
        return Verdict(
            str(number), False, f"No existe ese ejercicio. Hay: {known}."
        )
    function, success = _EXERCISES[number]
    try:
        if any(a is ... or a is None for a in answers):
            raise Pendiente
        function(*answers)
    except Pendiente:
        return Verdict(
            number, None, "Pendiente: rellena el hueco de la celda anterior."
        )
    except Hint as hint:
        return Verdict(number, False, str(hint))
    except Exception as error:
        return Verdict(number, False, _own_error(error))
    return Verdict(number, True, success)


def call(function, *arguments):
    """Llama a la función del alumno; un hueco sin rellenar es `Pendiente`."""
    if not callable(function):
        raise Hint(
            f"Esperaba una función y he recibido {type(function).__name__}: pasa "
            "su nombre, sin paréntesis."
        )
    result = function(*arguments)
    if result is ...:
        raise Pendiente
    expect(
        result is not None,
        f"{function.__name__} devuelve None. ¿Le falta el return?",
    )
    return result


def expect(condition: bool, hint: str) -> None:
    """Lanza `Hint(hint)` si la condición no se cumple."""
    if not condition:
        raise Hint(hint)


def _own_error(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "tokenatoken" not in f.filename]
    where = f" (línea {ours[-1].lineno}: {ours[-1].line})" if ours else ""
    return (
        f"Tu código lanza {type(error).__name__}: {error}{where}. Ejecútalo tú "
        "con una entrada corta y mira en qué línea se detiene."
    )


def _load_units() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
