"""Corrección de los laboratorios: un veredicto en español, nunca una excepción.

`check("01.2", respuesta, …)` dice ✔, ✘ con una pista, o «Pendiente» si el
hueco sigue sin rellenar. La pista nombra el mecanismo que falla y propone el
siguiente experimento; nunca da la solución. La verdad sale de la biblioteca o
de la aritmética, jamás de la función del alumno. Cada unidad registra sus
ejercicios en un módulo propio (`unit01`, …), que solo se importa al corregir
el primero de los suyos; `kit` son las piezas, y `bench`, el material.
"""

import html
import importlib
import pkgutil
from dataclasses import dataclass

from .kit import (
    EXERCISES,
    MARKS,
    Hint,
    Part,
    Pending,
    as_int,
    call,
    exercise,
    expect,
    framed,
)
from .progress import progress, record
from .quiz import quiz

__all__ = [
    "EXERCISES",
    "Hint",
    "Part",
    "Pending",
    "Verdict",
    "as_int",
    "call",
    "check",
    "exercise",
    "expect",
    "load_unit",
    "progress",
    "quiz",
    "units",
]


@dataclass
class Verdict:
    """`ok`: True, False, o None si está pendiente. Se enseña solo."""

    exercise: str
    ok: bool | None
    message: str

    def __repr__(self) -> str:
        mark = MARKS[self.ok][0]
        return f"{mark} Ejercicio {self.exercise}. {self.message}"

    def _repr_html_(self) -> str:
        head = f"{MARKS[self.ok][0]} Ejercicio {self.exercise}."
        text = html.escape(self.message).replace("\n", "<br>")
        return framed(self.ok, f"<b>{head}</b> {text}")


def units() -> list[str]:
    """Las unidades con ejercicios: «01», «02»…"""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(n.removeprefix("unit") for n in names if n[:4] == "unit")


def load_unit(unit: str) -> list[str]:
    """Importa los ejercicios de la unidad «03» y devuelve sus números."""
    if unit in units():
        importlib.import_module(f"{__name__}.unit{unit}")
    return sorted(n for n in EXERCISES if n.startswith(f"{unit}."))


def check(number: str, *answers) -> Verdict:
    """Corrige el ejercicio `number` («unidad.ejercicio») y nunca lanza.

    `answers`: lo que has escrito (valores o funciones). Devuelve un
    `Verdict`, que queda apuntado en `progress`; con un número desconocido lo
    dice y enumera los que hay.
    """
    verdict = _verdict(str(number), answers)
    if verdict.ok is not None and verdict.exercise in EXERCISES:
        record(verdict.exercise, verdict.ok)
    return verdict


def _verdict(number: str, answers: tuple) -> Verdict:
    known = load_unit(number.split(".")[0])
    if number not in known:
        return Verdict(number, False, _unknown(known))
    try:
        _grade(EXERCISES[number], answers)
    except Pending as gap:
        text = "Pendiente: rellena el hueco de la celda anterior."
        return Verdict(number, None, str(gap) or text)
    except Hint as hint:
        return Verdict(number, False, str(hint))
    except Exception as error:  # la respuesta no es de un tipo comparable
        text = (
            f"No sé leer tu respuesta ({type(error).__name__}: {error}). "
            "Comprueba con type() que devuelves lo que pide el enunciado."
        )
        return Verdict(number, False, text)
    return Verdict(number, True, EXERCISES[number].success)


def _unknown(known: list[str]) -> str:
    if known:
        return (
            f"No existe ese ejercicio. Los de su unidad: {', '.join(known)}."
        )
    text = ", ".join(units())
    return f"No existe ese ejercicio. Hay unidades {text}: prueba con «01.1»."


def _grade(exercise, answers) -> None:
    gap = any(answer is ... or answer is None for answer in answers)
    if gap and not exercise.by_parts:
        raise Pending
    expect(
        len(answers) == exercise.answers,
        f"Se corrige con {exercise.answers} respuesta(s) y has pasado "
        f"{len(answers)}: usa la celda de corrección tal como está.",
    )
    exercise.grade(*answers)
