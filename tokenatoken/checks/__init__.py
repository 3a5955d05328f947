"""Corrección de los laboratorios: un veredicto en español, nunca una excepción.

`check("01.2", respuesta, …)` dice ✔, ✘ con una pista, o «Pendiente» si el
hueco sigue sin rellenar. La pista nombra el mecanismo que falla y propone el
siguiente experimento; nunca da la solución. La verdad sale de la biblioteca o
de la aritmética, jamás de la función del alumno. Cada unidad registra sus
ejercicios en un módulo propio (`unit01`, …).
"""

import html
import importlib
import inspect
import operator
import pkgutil
import sysconfig
import traceback
from dataclasses import dataclass

_EXERCISES = {}
_MARKS = {
    True: ("✔", "#00735C"),
    False: ("✘", "#A33B00"),
    None: ("…", "#555555"),
}
_NOT_YOURS = (
    sysconfig.get_path("stdlib"),
    "site-packages",
    "tokenatoken",
    "<frozen",
)


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
        mark = _MARKS[self.ok][0]
        return f"{mark} Ejercicio {self.exercise}. {self.message}"

    def _repr_html_(self) -> str:
        mark, color = _MARKS[self.ok]
        text = html.escape(self.message).replace("\n", "<br>")
        return (
            f'<div role="status" style="border-left:5px solid {color};'
            f'padding:6px 10px"><b>{mark} Ejercicio {self.exercise}.</b> '
            f"{text}</div>"
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
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    number = str(number)
    if number not in _EXERCISES:
        known = ", ".join(sorted(_EXERCISES))
        text = f"No existe ese ejercicio. Hay: {known}."
        return Verdict(number, False, text)
    function, success = _EXERCISES[number]
    wanted = len(inspect.signature(function).parameters)
    try:
        if any(a is ... or a is None for a in answers):
            raise Pendiente
        expect(
            len(answers) == wanted,
            f"Se corrige con {wanted} respuesta(s) y has pasado "
            f"{len(answers)}: usa la celda de corrección tal como está.",
        )
        function(*answers)
    except Pendiente:
        text = "Pendiente: rellena el hueco de la celda anterior."
        return Verdict(number, None, text)
    except Hint as hint:
        return Verdict(number, False, str(hint))
    except Exception as error:  # la respuesta no es de un tipo comparable
        text = (
            f"No sé leer tu respuesta ({type(error).__name__}: {error}). "
            "Comprueba con type() que devuelves lo que pide el enunciado."
        )
        return Verdict(number, False, text)
    return Verdict(number, True, success)


def call(function, *arguments):
    """Llama a la función del alumno. Un hueco sin rellenar es `Pendiente`;
    un `return` olvidado o una excepción suya, una `Hint`."""
    expect(
        callable(function),
        f"Esperaba una función y he recibido {type(function).__name__}: pasa "
        "su nombre, sin paréntesis.",
    )
    name = getattr(function, "__name__", "tu función")
    try:
        result = function(*arguments)
    except (Hint, Pendiente):  # una pista que el propio ejercicio da a medias
        raise
    except (Exception, SystemExit) as error:
        raise Hint(_own_error(error)) from error
    if result is ...:
        raise Pendiente
    expect(result is not None, f"{name} devuelve None. ¿Le falta el return?")
    return result


def expect(condition: bool, hint: str) -> None:
    """Lanza `Hint(hint)` si la condición no se cumple."""
    if not condition:
        raise Hint(hint)


def as_int(value, hint: str) -> int:
    """El valor como entero (también de numpy o torch), o la pista."""
    try:
        return operator.index(value)
    except TypeError:
        raise Hint(hint) from None


def _own_error(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    yours = [f for f in frames if not any(p in f.filename for p in _NOT_YOURS)]
    where = f" (línea {yours[-1].lineno}: {yours[-1].line})" if yours else ""
    return (
        f"Tu código lanza {type(error).__name__}: {error}{where}. Ejecútalo "
        "con una entrada corta y mira en qué línea se detiene."
    )
