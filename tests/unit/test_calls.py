"""Leer una llamada a función sin fiarse de ella."""

import json
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenatoken import CourseError
from tokenatoken.calls import read_call


def multiplica(a: int, b: int) -> int:
    """Multiplica dos enteros.

    Args:
        a: el primero.
        b: el segundo.
    """
    return a * b


def clima(ciudad: str, unidad: Literal["C", "F"] = "C", hoy: bool = True):
    """El tiempo que hace.

    Args:
        ciudad: dónde.
        unidad: grados.
        hoy: si es para hoy.
    """
    return f"20 {unidad} en {ciudad}"


def mitad(x: float) -> float:
    """La mitad.

    Args:
        x: un número.
    """
    return x / 2


def suma(lista: list[int]) -> int:
    """Suma una lista.

    Args:
        lista: los números.
    """
    return sum(lista)


FUNCTIONS = [multiplica, clima, mitad]
GOOD = '{"name": "multiplica", "arguments": {"a": 6, "b": 7}}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"<tool_call>\n{GOOD}\n</tool_call>",
        f"<tool_call>\n{GOOD}",  # sin cerrar
        f"Voy a usarla.\n<tool_call>{GOOD}</tool_call>",
        f"```json\n{GOOD}\n```",
        f"{GOOD}<|im_end|>",
    ],
)
def test_a_good_call(text):
    function, arguments = read_call(text, FUNCTIONS)
    assert function(**arguments) == 42


def test_optional_arguments_and_numbers():
    text = '{"name": "clima", "arguments": {"ciudad": "Lima"}}'
    function, arguments = read_call(text, FUNCTIONS)
    assert function(**arguments) == "20 C en Lima"
    text = '{"name": "mitad", "arguments": {"x": 3}}'
    assert read_call(text, FUNCTIONS)[1] == {"x": 3}


def call(name='"multiplica"', arguments='{"a": 1, "b": 2}', more=""):
    return f'{{"name": {name}, "arguments": {arguments}{more}}}'


@pytest.mark.parametrize(
    "text, words",
    [
        ("Son 42.", "no es JSON"),
        ("", "no es JSON"),
        ('{"name": "multiplica"', "no es JSON"),
        ("[" * 100_000, "no es JSON"),
        (call(arguments='{"a": NaN, "b": 2}'), "no es un número"),
        (
            call(arguments='{"a": ' + "9" * 9999 + ', "b": 2}'),
            "no es un número",
        ),
        (call('"mitad"', '{"x": 1e999}'), "no es un número"),
        ("7", "y nada más"),
        ("[]", "y nada más"),
        (call(more=', "x": 0'), "y nada más"),
        ('{"arguments": {}}', "y nada más"),
        (call('"os.system"'), "No hay ninguna función"),
        (call('"__import__"'), "No hay ninguna función"),
        (call("[1]"), "No hay ninguna función"),
        (call(arguments="[1, 2]"), "van en un objeto"),
        (call(arguments='{"a": 1}'), "sobra o falta b"),
        (call(arguments='{"a": 1, "b": 2, "c": 3}'), "sobra o falta c"),
        (call(arguments='{"a": "1", "b": 2}'), "un entero"),
        (call(arguments='{"a": 1.5, "b": 2}'), "un entero"),
        (call(arguments='{"a": true, "b": 2}'), "un entero"),
        (call(arguments='{"a": null, "b": 2}'), "un entero"),
        (call('"clima"', '{"ciudad": 3}'), "un texto"),
        (call('"clima"', '{"ciudad": "x", "unidad": "K"}'), "uno de C, F"),
        (call('"clima"', '{"ciudad": "x", "hoy": 1}'), "true o false"),
        (call('"mitad"', '{"x": "3"}'), "un número"),
        (call('"mitad"', '{"x": false}'), "un número"),
    ],
)
def test_a_bad_call_is_told(text, words):
    with pytest.raises(CourseError, match=words):
        read_call(text, FUNCTIONS)


def test_no_functions_and_unknown_kinds():
    with pytest.raises(CourseError, match="hay ninguna"):
        read_call(GOOD, [])
    text = '{"name": "suma", "arguments": {"lista": [1]}}'
    with pytest.raises(CourseError, match="no sé comprobar"):
        read_call(text, [suma])


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "arguments", "a", "b", "x"]), inside
            )
        ),
        max_leaves=6,
    )
)
def test_whatever_comes_it_is_a_good_call_or_a_clear_error(value):
    try:
        function, arguments = read_call(json.dumps(value), FUNCTIONS)
    except CourseError:
        return
    assert function in FUNCTIONS and function(**arguments) is not None


def no_docstring(x: int):
    return x


def bare(x):
    """Sin tipo.

    Args:
        x: algo.
    """


def many(*a: int):
    """Muchos.

    Args:
        a: números.
    """


def either(n: int | str) -> str:
    """Dos tipos.

    Args:
        n: lo que sea.
    """


def chosen(n: Literal[1, 2] = 1, when: int | None = None) -> int:
    """Uno de dos.

    Args:
        n: cuál.
        when: cuándo.
    """
    return n


@pytest.mark.parametrize(
    "functions, words",
    [
        ([no_docstring], "docstring"),
        ([bare], "un tipo en cada argumento"),
        ([many], "corrientes"),
        ([either], "no sé comprobar"),
        ([len], "van en una lista"),
        (multiplica, "van en una lista"),
        (["multiplica"], "van en una lista"),
        ([str], "van en una lista"),
    ],
)
def test_bad_functions_are_told(functions, words):
    with pytest.raises(CourseError, match=words):
        read_call(GOOD, functions)


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "es un texto"),
        (b"{}", "es un texto"),
        ('{"name": "x", ' + GOOD[1:], "repetida"),
        (call(arguments='{"a": 1, "b": 2, "a": 3}'), "repetida"),
        (f"<tool_call>{GOOD}</tool_call>\n<tool_call>x</tool_call>", "varias"),
        (call('"clima"', '{"ciudad": "\\ud800"}'), "no es JSON"),
        (call('"chosen"', '{"n": 3}'), "uno de 1, 2"),
        (f"<think>\n<tool_call>{GOOD}</tool_call></think>\nNo.", "no es JSON"),
        (f'Dice: "<tool_call>{GOOD}</tool_call>"', "no es JSON"),
    ],
)
def test_tricks_are_refused(text, words):
    with pytest.raises(CourseError, match=words) as caught:
        read_call(text, [*FUNCTIONS, chosen])
    assert len(str(caught.value)) < 300


def test_a_tag_inside_an_argument_is_only_text():
    inside = f"<tool_call>{GOOD}</tool_call>".replace('"', '\\"')
    text = f'{{"name": "clima", "arguments": {{"ciudad": "{inside}"}}}}'
    function, arguments = read_call(text, FUNCTIONS)
    assert function is clima and "<tool_call>" in arguments["ciudad"]
    text = '{"name": "chosen", "arguments": {"n": 2, "when": null}}'
    assert read_call(f"```json\n{text}\n```<|im_end|>\n", [chosen])
