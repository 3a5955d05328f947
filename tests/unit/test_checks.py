"""La maquinaria de corrección: un veredicto en español, pase lo que pase."""

import functools
import json

import numpy as np
import pytest

from tokenatoken import checks
from tokenatoken.checks import Hint, Pending, call, check, exercise, expect


@pytest.fixture(autouse=True)
def examples():
    @exercise("99.1")
    def double(function):
        expect(call(function, 3) == 6, "No es el doble. ¿Sumas o multiplicas?")

    yield
    del checks.EXERCISES["99.1"]


def test_right_wrong_and_untouched():
    assert check("99.1", lambda x: 2 * x).ok is True
    wrong = check("99.1", lambda x: x)
    assert wrong.ok is False and "doble" in repr(wrong)
    for gap in (..., None, lambda x: ...):
        assert check("99.1", gap).ok is None


def test_each_part_is_graded_without_waiting_for_the_others():
    part = checks.Part([(3,)], truth=lambda x: 2 * x, rights=[lambda x: 2 * x])
    exercise("99.2", part, part)
    good, wrong = part.rights[0], lambda x: x
    assert check("99.2", wrong, ...).ok is False
    assert "respuesta 2 de 2" in check("99.2", good, ...).message
    assert check("99.2", ..., wrong).ok is None
    del checks.EXERCISES["99.2"]


def test_a_gap_in_something_it_uses_is_pending():
    assert check("99.1", lambda x: x * len(...)).ok is None


def test_forgotten_return_is_not_pending():
    verdict = check("99.1", lambda x: None)
    assert verdict.ok is False and "return" in verdict.message


def test_own_exception_is_told_with_its_line():
    def broken(x):
        return x / 0

    verdict = check("99.1", broken)
    assert verdict.ok is False
    assert (
        "ZeroDivisionError" in verdict.message and "x / 0" in verdict.message
    )


@pytest.mark.parametrize("answer", [7, "hola", [1], {}])
def test_value_where_a_function_was_expected(answer):
    assert "Esperaba una función" in check("99.1", answer).message


def test_unknown_exercise_lists_the_known_ones():
    assert "unidades 01, 02" in check("00.0").message
    message = check("03.9").message
    assert "03.1" in message and "04.1" not in message


def test_wrong_number_of_answers_is_told():
    for answers in ((), (len, len)):
        verdict = check("99.1", *answers)
        assert verdict.ok is False and "1 respuesta" in verdict.message


def test_nothing_escapes():
    def leaves(x):
        raise SystemExit("adiós")

    assert check("99.1", leaves).ok is False
    assert check(["99.1"], len).ok is False
    assert check("99.1", functools.partial(lambda x, y: None, 1)).ok is False
    assert check("99.1", lambda x: np.array([6, 6])).ok is False


def test_library_lines_are_not_blamed():
    verdict = check("99.1", lambda x: json.loads("{"))
    assert "json.loads" in verdict.message and "decoder" not in verdict.message


def test_html_is_escaped_and_has_the_mark():
    html = check("99.1", lambda x: "<b>")._repr_html_()
    assert "✘" in html and 'role="status"' in html


def test_hint_and_pending_are_different():
    assert not issubclass(Hint, Pending)
