"""docs/fuentes.md: están todas las filas, y lo que dicen existe."""

import re

import nbformat
import pytest

from tokenatoken.checks import load_unit
from tools import ROOT, notebooks

PAGE = (ROOT / "docs" / "fuentes.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| (S\d|R)-\d|\| E\d", line)
]
FACTS = [row for row in ROWS if "-" in row[0]]
ERRORS = [row for row in ROWS if "-" not in row[0]]
STATES = {"se enseña": "se enseñan", "se responde": "se responden"}
WAYS = {"celda", "frase con fuente"}
# Fuente → cuántas filas tiene, y con cuántas cifras se numeran.
SOURCES = {
    "S0": (128, 3),
    "S1": (173, 3),
    "S2": (111, 3),
    "S3": (64, 2),
    "S4": (46, 2),
    "R": (23, 2),
}


def headings() -> dict[str, set[str]]:
    """Unidad → los títulos de sección y de apartado de su cuaderno."""
    found = {}
    for path in notebooks("notebooks"):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        found[path.name[:2]] = set(re.findall(r"^###? (.+)$", text, re.M))
    return found


HEADINGS = headings()


def exists(place: str) -> bool:
    """¿Existe esa sección («05 · 1 · El bucle») o ese «lab 05.3»?"""
    if lab := re.fullmatch(r"lab (\d\d)\.\d+", place):
        return place[4:] in load_unit(lab[1])
    unit, _, title = place.partition(" · ")
    return title in HEADINGS.get(unit, ())


def places(cell: str) -> list[str]:
    """Los sitios de una casilla; un título también puede llevar «;»."""
    return re.split(r"; (?=\d\d · |lab \d)", cell)


def words(text: str) -> int:
    return len(re.findall(r"\S*\w\S*", text))


def test_every_row_is_there_once_and_in_order():
    expected = [
        f"{source}-{n:0{digits}}"
        for source, (count, digits) in SOURCES.items()
        for n in range(1, count + 1)
    ]
    assert len(expected) == 545
    assert [row[0] for row in FACTS] == expected
    assert [row[0] for row in ERRORS] == [f"E{n:03}" for n in range(1, 111)]


def test_every_row_has_its_columns():
    assert all(len(row) == 4 and all(row) for row in FACTS)
    assert all(len(row) == 5 and all(row) for row in ERRORS)


def test_what_it_says_is_short():
    long = [
        row[0]
        for row in ROWS
        if not all(0 < words(cell) <= 12 for cell in row[1:-2])
    ]
    assert not long


def test_the_places_exist():
    missing = [
        (row[0], place)
        for row in ROWS
        if not row[-1].startswith("se deja")
        for place in places(row[-2])
        if not exists(place)
    ]
    assert not missing, "\n".join(map(str, missing))


def test_the_state_is_one_of_three():
    for row in FACTS:
        state, _, reason = row[-1].partition(": ")
        left = state == "se deja"
        assert left or state in STATES, row
        assert bool(reason) == left, row
        assert (row[-2] == "—") == left, "lo que se deja no está en un sitio"
        assert not left or len(reason) >= 20, f"falta la razón: {row}"


def test_an_error_is_corrected_by_a_cell_or_a_sentence():
    assert {row[-1] for row in ERRORS} == WAYS


def test_the_counts_of_the_page():
    counts = [sum(row[-1] == state for row in FACTS) for state in STATES]
    left = len(FACTS) - sum(counts)
    said = ", ".join(f"{n} {s}" for n, s in zip(counts, STATES.values()))
    assert f"{len(FACTS)} filas: {said}, {left} se dejan." in PAGE
    cells = sum(row[-1] == "celda" for row in ERRORS)
    rest = len(ERRORS) - cells
    said = f"{cells} en una celda, {rest} en una frase con fuente."
    assert f"{len(ERRORS)} errores: {said}" in PAGE


def test_places_are_split_where_they_should():
    title = "03 · «softmax(8,5; 2,1; 1,3) = 0,95; 0,03; 0,02»"
    assert places(f"{title}; lab 03.1") == [title, "lab 03.1"]


@pytest.mark.parametrize(
    "place", ["05 · 1 · El bucle", "lab 05.3", "03 · 3 · La temperatura"]
)
def test_a_known_place_exists(place):
    assert exists(place)


@pytest.mark.parametrize(
    "place", ["05 · El bucle", "99 · 1 · El bucle", "lab 05.99", "lab 5.3", ""]
)
def test_an_unknown_place_does_not(place):
    assert not exists(place)
