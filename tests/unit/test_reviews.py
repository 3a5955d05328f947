"""Los repasos: doce preguntas cada uno, y una razón para cada opción."""

import re
import shutil
import tomllib

import nbformat
import pytest

from tools import ROOT, notebooks, spelling

FOLDER = ROOT / "tokenatoken" / "data" / "repasos"
REVIEWS = {
    path.stem: tomllib.loads(path.read_text("utf-8"))["pregunta"]
    for path in sorted(FOLDER.glob("*.toml"))
}
# Repaso → de qué unidad a cuál, y cuáles pesan más.
COVERED = {
    "04": (range(1, 5), range(1, 5)),
    "07": (range(1, 8), range(5, 8)),
    "13": (range(1, 13), range(1, 13)),
}
QUESTIONS = [
    pytest.param(question, id=f"{name}-{i:02}")
    for name, questions in REVIEWS.items()
    for i, question in enumerate(questions, 1)
]
EACH_REVIEW = pytest.mark.parametrize("name", COVERED)
EACH_QUESTION = pytest.mark.parametrize("question", QUESTIONS)
BANNED = re.compile(
    r"todas las anteriores|ninguna de las anteriores|incorrect|\bE\d{3}\b"
    r"|^(?:correcto|mal|falso|verdad)\b",
    re.I,
)


def right(question) -> int:
    return [o.get("buena", False) for o in question["opciones"]].index(True)


def texts(question) -> list[str]:
    """Todo lo que se lee de una pregunta."""
    options = question["opciones"]
    read = [text for o in options for text in (o["texto"], o["porque"])]
    return [question["texto"], *read]


def test_there_are_three_reviews():
    assert list(REVIEWS) == list(COVERED)


@EACH_REVIEW
def test_twelve_questions_from_its_units(name):
    units = [int(question["unidad"]) for question in REVIEWS[name]]
    every, main = COVERED[name]
    assert len(units) == 12
    assert set(units) <= set(every) and set(main) <= set(units)
    assert sum(unit in main for unit in units) >= 8
    assert units == sorted(units), "van en el orden del curso"


@EACH_QUESTION
def test_its_shape(question):
    assert question.keys() == {"texto", "unidad", "errores", "opciones"}
    assert re.fullmatch(r"\d\d", question["unidad"])
    assert 3 <= len(question["opciones"]) <= 4
    for option in question["opciones"]:
        assert option.keys() - {"buena"} == {"texto", "porque"}
    marks = [o["buena"] for o in question["opciones"] if "buena" in o]
    assert marks == [True], "una buena, y solo una"


@EACH_QUESTION
def test_every_option_says_why(question):
    reasons = [option["porque"] for option in question["opciones"]]
    assert all(20 <= len(reason) <= 200 for reason in reasons)
    assert len({option["texto"] for option in question["opciones"]}) == len(
        set(reasons)
    )
    assert not [text for text in texts(question) if BANNED.search(text)]


@EACH_QUESTION
def test_its_spelling_of_numbers_and_quotes(question):
    for text in texts(question):
        assert text == text.strip() and "  " not in text
        assert not re.search(r"\d\.\d(?!\d\d)", text), "la coma es decimal"
        assert '"' not in text and "“" not in text
        assert text.count("«") == text.count("»")
    assert question["texto"].endswith("?") and "¿" in question["texto"]


@EACH_REVIEW
def test_the_right_one_cannot_be_guessed(name):
    longest, shortest, places = 0, 0, [0, 0, 0, 0]
    for question in REVIEWS[name]:
        sizes = [len(option["texto"]) for option in question["opciones"]]
        place = right(question)
        places[place] += 1
        longest += sizes[place] == max(sizes)
        shortest += sizes[place] == min(sizes)
    assert longest <= 4, "la buena es demasiadas veces la más larga"
    assert shortest <= 4, "y demasiadas, la más corta"
    assert all(2 <= count <= 5 for count in places), places


def test_no_question_is_asked_twice():
    asked = [q["texto"] for questions in REVIEWS.values() for q in questions]
    assert len(set(asked)) == len(asked)
    cells = (
        cell
        for path in notebooks("notebooks")
        for cell in nbformat.read(path, as_version=4).cells
    )
    told = "\n".join(cell.source for cell in cells)
    assert not [text for text in asked if text in told]


def test_the_errors_are_in_the_table_of_sources():
    page = (ROOT / "docs" / "fuentes.md").read_text("utf-8")
    known = set(re.findall(r"^\| (E\d{3}) \|", page, re.M))
    for questions in REVIEWS.values():
        for question in questions:
            assert question["errores"]
            assert set(question["errores"]) <= known


def test_their_spelling():
    if shutil.which("aspell") is None:
        pytest.skip("sin aspell: apt install aspell aspell-es")
    allowed = set(spelling.ALLOWED.read_text("utf-8").lower().split())
    read = "\n".join(
        text
        for questions in REVIEWS.values()
        for question in questions
        for text in texts(question)
    )
    assert not spelling.unknown(read, allowed)
