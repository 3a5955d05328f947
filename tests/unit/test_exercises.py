"""Todos los ejercicios: lo bueno pasa, y cada error recibe su propia pista.

Las respuestas buenas (`rights`) y los errores conocidos (`traps`) están junto
a cada corrección; los que se comportan mal de otro modo, en `tests/mutants`.
"""

import importlib
import re

import numpy as np
import pytest
import torch

from tokenatoken.checks import EXERCISES, check, load_unit, units

UNITS = units()
NUMBERS = [number for unit in UNITS for number in load_unit(unit)]
TRAPS = [
    pytest.param(number, hint, answers, id=f"{number}-{i}: {hint[:40]}")
    for number in NUMBERS
    for hint, several in EXERCISES[number].traps.items()
    for i, answers in enumerate(several)
]
RIGHTS = [
    pytest.param(number, answers, id=f"{number}-{i}")
    for number in NUMBERS
    for i, answers in enumerate(EXERCISES[number].rights)
]
FUNCTIONS = [  # cada hueco que se rellena con una función
    pytest.param(number, i, id=f"{number}-{i}")
    for number in NUMBERS
    for i, answer in enumerate(EXERCISES[number].rights[0])
    if callable(answer) and not isinstance(answer, type)
]
MUTANTS = [
    pytest.param(number, mutant, id=f"{number} {name}")
    for unit in UNITS
    for number, several in importlib.import_module(
        f"tests.mutants.u{unit}"
    ).MUTANTS.items()
    for name, mutant in several.items()
]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def with_answer(number: str, i: int, answer) -> tuple:
    """Una respuesta buena, salvo la parte `i`."""
    good = EXERCISES[number].rights[0]
    return (*good[:i], answer, *good[i + 1 :])


@pytest.mark.parametrize("number, answers", RIGHTS)
def test_right_answers_pass(number, answers):
    verdict = check(number, *answers)
    assert verdict.ok is True, verdict


@pytest.mark.parametrize("number, hint, answers", TRAPS)
def test_each_trap_gets_its_own_hint(number, hint, answers):
    verdict = check(number, *answers)
    assert verdict.ok is False, "pasa por bueno"
    assert verdict.message.endswith(hint), verdict
    others = set(EXERCISES[number].traps) - {hint}
    assert not [other for other in others if other in verdict.message]


@pytest.mark.parametrize("number, mutant", MUTANTS)
def test_mutants_are_rejected(number, mutant):
    verdict = check(number, *mutant.answers)
    assert verdict.ok is False, "pasa por bueno"
    assert "No sé leer" not in verdict.message, verdict
    assert len(verdict.message) > 25 and mutant.says in verdict.message, (
        verdict
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_enough_rights_and_errors(number):
    exercise = EXERCISES[number]
    mutants = [m for m in MUTANTS if m.values[0] == number]
    assert len(exercise.rights) >= 2 and len(exercise.traps) >= 3
    assert len(exercise.traps) + len(mutants) >= 8
    gap = [...] * exercise.answers
    assert check(number, *gap).ok is None
    assert check(number, *gap[1:], 1, 1).ok in (None, False)


@pytest.mark.parametrize("number, i", FUNCTIONS)
def test_gaps_and_broken_functions(number, i):
    def answer(value):
        return check(number, *with_answer(number, i, value))

    def broken(*arguments):
        return {}["falta"]

    assert answer(...).ok is None
    assert answer(lambda *a: ...).ok is None
    for value, words in (
        (broken, "KeyError"),
        (lambda *a: None, "None"),
        (7, "Esperaba una función"),
        ("hola", "Esperaba una función"),
        (lambda: 1, "TypeError"),
    ):
        verdict = answer(value)
        assert verdict.ok is False and words in verdict.message, verdict


@pytest.mark.parametrize("number", ["06.7", "06.8"])
def test_an_untouched_layer_is_pending(number):
    from tokenatoken.checks.unit06 import layer

    unfilled = layer(lambda *_: ...)
    unfilled.room = 4
    assert check(number, unfilled).ok is None
    for value in (7, "hola", print):
        assert "Esperaba" in check(number, value).message


def spoil(value) -> bool:
    """Cambia el valor por dentro, si se puede."""
    if isinstance(value, torch.Tensor) and value.numel():
        value.flatten()[-1:].add_(1)
    elif type(value) is list and value:
        value.pop()
    elif type(value) is dict and value:
        value.popitem()
    elif isinstance(value, np.ndarray) and value.size:
        value[..., -1] += 1
    else:
        return False
    return True


@pytest.mark.parametrize("number, i", FUNCTIONS)
def test_changing_the_input_is_told(number, i):
    spoiled = []

    def clumsy(*arguments):
        result = EXERCISES[number].rights[0][i](*arguments)
        spoiled.extend(a for a in arguments if spoil(a))
        return result

    verdict = check(number, *with_answer(number, i, clumsy))
    assert verdict.ok is not bool(spoiled), verdict
    assert not spoiled or "Trabaja sobre una copia" in verdict.message


@pytest.mark.parametrize("number", NUMBERS)
def test_hints_are_written_for_people(number):
    for hint in EXERCISES[number].traps:
        assert 25 < len(hint) < 330 and hint[-1] in ".?»", hint
        assert not re.search(r"(?<![\w-])\d+\.\d", hint), (
            f"coma decimal: {hint}"
        )
