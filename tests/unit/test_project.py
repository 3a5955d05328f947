"""El proyecto: la referencia pasa, el esqueleto espera, cada error se ve."""

import ast
import re

import pytest

from tests.mutants.project import MUTANTS
from tokenatoken.checks import project
from tokenatoken.checks.acceptance import LEVELS, TESTS
from tools import ROOT, make_labs

REFERENCE = ROOT / "solutions" / "mi_generador.py"
SKELETON = ROOT / "labs" / "mi_generador.py"
SOURCE = REFERENCE.read_text("utf-8")


@pytest.fixture(scope="module")
def card():
    return project.grade(REFERENCE)


def test_the_reference_wins_gold(card):
    assert not [r for r in card.results if r.ok is not True]
    assert (card.medal, card.passed) == ("oro", len(TESTS))
    assert "medalla de oro" in repr(card) and "oro" in card._repr_html_()


def test_the_untouched_skeleton_is_pending():
    untouched = project.grade(SKELETON)
    assert {r.ok for r in untouched.results} == {None}, untouched
    assert untouched.medal == "" and len(untouched.results) == len(TESTS)


def test_the_skeleton_is_what_the_solution_generates(tmp_path):
    assert make_labs.expected()[SKELETON] == SKELETON.read_text("utf-8")
    for folder, text in (("solutions", SOURCE), ("labs", "tocado a mano")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / SKELETON.name).write_text(text, "utf-8")
    (tmp_path / "labs" / "sobra.py").write_text("", "utf-8")
    assert {p.name for p in make_labs.drift(tmp_path)} == {
        SKELETON.name,
        "sobra.py",
    }


def mutant(tmp_path, *changes: str):
    source = SOURCE
    for old, new in zip(changes[::2], changes[1::2]):
        assert source.count(old) == 1, f"{source.count(old)} veces: {old}"
        source = source.replace(old, new)
    path = tmp_path / "mi_generador.py"
    path.write_text(source, "utf-8")
    return path


@pytest.mark.parametrize("name", MUTANTS)
def test_each_error_is_seen(tmp_path, name):
    ids, *changes = MUTANTS[name]
    seen = project.grade(mutant(tmp_path, *changes), only=ids.split())
    assert not seen.trouble
    for result in seen.results:
        assert result.ok is False, result
        assert TESTS[result.id].hint in result.message


def test_every_acceptance_test_sees_some_error():
    seen = {number for ids, *_ in MUTANTS.values() for number in ids.split()}
    assert seen == set(TESTS)


def test_levels_and_hints_are_written_for_people():
    assert {t.level for t in TESTS.values()} == set(LEVELS)
    assert len(TESTS) >= 40
    for test in TESTS.values():
        assert 25 < len(test.hint) < 330 and test.hint[-1] in ".?»", test
        assert not re.search(r"(?<![\w-])\d+\.\d", test.hint), test.hint


def code_lines(source: str) -> list[str]:
    """Las que no están vacías ni son comentarios o docstrings."""
    words, tree = set(), ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0]
            if ast.get_docstring(node):
                words |= {*range(first.lineno, first.end_lineno + 1)}
    lines = enumerate(source.splitlines(), 1)
    return [
        line
        for i, line in lines
        if i not in words and line.strip() and line.strip()[0] != "#"
    ]


def test_the_reference_is_short():
    written, _, order = SOURCE.partition("# La orden de terminal")
    assert order and len(code_lines(written)) <= 250
    assert max(map(len, SOURCE.splitlines())) <= 79
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.FunctionDef):
            lines = code_lines(ast.get_source_segment(SOURCE, node))
            assert len(lines) <= 24, node.name


def saved(tmp_path, source: str):
    path = tmp_path / "mi_generador.py"
    path.write_text(source, "utf-8")
    return path


@pytest.mark.parametrize(
    "source, words",
    [
        ("def f(:\n", "sintaxis en la línea 1"),
        ("x = 1 / 0\n", "ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
        ("import no_existe_nada\n", "no_existe_nada"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, source, words):
    card = project.grade(saved(tmp_path, source))
    assert words in card.trouble and words in repr(card)
    assert card.medal == "" and not card.results


def test_an_empty_file_names_what_is_missing(tmp_path):
    card = project.grade(saved(tmp_path, "x = 1\n"), only=["b14", "p13"])
    assert [r.ok for r in card.results] == [False, False]
    assert "no define end_ids" in card.results[0].message


@pytest.mark.parametrize(
    "body, number, words",
    [
        ("warp = lambda logits, settings: [1 for _ in iter(int, 1)]", "b02", "segundos"),
        ("def generate(*a, **k):\n    while True:\n        yield 1", "b13", "no para"),
        ("def generate(*a, **k):\n    raise SystemExit", "b13", "SystemExit"),
        ("def generate(*a, **k):\n    return 7", "b13", "TypeError"),
        ("def generate(*a, **k):\n    pass", "b13", "yield"),
        ("def generate(*a, **k):\n    yield ...", "b13", None),
        ("end_ids = 3", "b14", "TypeError"),
    ],
)  # fmt: skip
def test_nothing_escapes_and_all_ends(tmp_path, body, number, words):
    piece = project.load(saved(tmp_path, f"{SOURCE}\n\n{body}\n"))
    result = project.run(piece, number, seconds=2)
    assert result.ok is (None if words is None else False)
    assert (words or "Pendiente") in result.message


def test_endless_forwards_are_cut(tmp_path):
    body = SOURCE.replace(
        "    options = dict(past_key_values=cache, use_cache=True",
        "    while len(ids[0]) < 5:\n"
        "        try:\n            model(ids)\n"
        "        except Exception:\n            pass\n"
        "    options = dict(past_key_values=cache, use_cache=True",
    )
    piece = project.load(saved(tmp_path, body))
    result = project.run(piece, "b13")
    assert result.ok is False and "no paras" in result.message


@pytest.mark.parametrize(
    "line, found",
    [
        ("import tokenatoken.sampling", ["tokenatoken.sampling"]),
        ("from tokenatoken.text import stream", ["tokenatoken.text.stream"]),
        (
            "from tokenatoken.constrained import Sampler",
            ["tokenatoken.constrained.Sampler"],
        ),
        ("from tokenatoken import chat, number", ["tokenatoken.chat"]),
        ("from transformers import pipeline", ["transformers.pipeline"]),
        ("model.generate(ids)", ["generate"]),
        ("import importlib", ["importlib"]),
        ("constrained.Sampler()", ["Sampler"]),
        ("from tokenatoken.model import load_model", []),
        ("from tokenatoken import number, CourseError", []),
        ("from transformers import DynamicCache", []),
        ("from transformers import Cache, PreTrainedModel", []),
        ("from transformers import PreTrainedTokenizerBase as T", []),
        ("import transformers as t; t.GenerationMixin", ["GenerationMixin"]),
        ("from transformers.cache_utils import DynamicCache", []),
        ("self.generate(1); generate(2)", []),
        ("import torch.nn.functional as F", []),
        ("model.eval(); stream = Conversation = 1; stream", []),
        ("eval('model.gen' + 'erate')", ["eval"]),
    ],
)
def test_shortcuts_are_seen(line, found):
    assert project.foreign(line) == found


ENGINE = (
    "from transformers import PreTrainedModel\n\n\n"
    "class Engine:\n"
    "    def generate(self, ids):\n        return self.next_logits(ids)\n\n"
    "    def next_logits(self, ids):\n        return ids\n\n\n"
)


@pytest.mark.parametrize(
    "line, found",
    [
        ("Engine().generate(1); engine.next_logits(2)", []),
        ("self.engine.generate(1)", []),
        ("self.model.generate(1)", ["generate"]),
        ("model.generate(1)", ["generate"]),
        ("PreTrainedModel.generate(model, 1)", ["generate"]),
        ("tokenatoken.chat.Conversation()", ["Conversation"]),
    ],
)
def test_own_methods_are_not_shortcuts(line, found):
    assert project.foreign(ENGINE + line) == found


def test_the_order(tmp_path, capsys):
    assert project.main([str(tmp_path / "nada.py")]) == 1
    assert "no existe" in capsys.readouterr().out
    path = saved(tmp_path, "def f(:\n")
    assert project.main([str(path)]) == 0


def test_a_bronze_student_gets_a_score(tmp_path):
    """Con el esqueleto y solo el muestreo escrito, se ve lo que hay."""
    text, start = SKELETON.read_text("utf-8"), "def warp("
    body = SOURCE[SOURCE.index(start) : SOURCE.index("def end_ids")]
    body = re.sub(r" *### .*\n", "", body)
    path = saved(tmp_path, f"{text}\n\n{body}")
    results = project.grade(path).results
    good = {r.id for r in results if r.ok}
    assert good == {f"b{i:02}" for i in (2, 3, 4, 5, 6, 7, 8, 11)}
    assert not [r for r in results if r.ok is False]
