"""README, docs y textos: enlaces, imágenes, glosario, mensajes, ortografía."""

import ast
import re
import shutil

import nbformat
import pytest

from tokenatoken import CourseError
from tokenatoken.model import MemoryShortage
from tokenatoken.model.download import WeightsError
from tools import ROOT, glossary, notebooks, report, spelling

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = notebooks("notebooks")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_relative_links_and_pictures(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", text):
        assert (page.parent / link).exists(), f"enlace roto: {link}"
    for alt in re.findall(r"!\[([^\]]*)\]\(", text):
        assert len(alt) > 20, "imagen sin texto alternativo"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_new_terms_are_in_the_glossary(path):
    known = glossary.PAGE.read_text("utf-8").lower()
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    found = re.search(
        r"\*\*Términos nuevos\*\*, en el\s+\[glosario\][^:]*:(.*?)\n\n",
        text,
        re.S,
    )
    assert found, "el cuaderno no enlaza el glosario"
    listed = re.sub(r"[*`]", "", " ".join(found[1].split())).rstrip(".")
    for term in re.split(r",| y (?=\w+$)", listed):
        assert term.strip().lower() in known, term


def test_the_glossary_defines_each_term_once():
    text = glossary.PAGE.read_text("utf-8")
    terms = re.findall(r'^\| <a id="(.+?)">', text, re.M)
    assert len(terms) > 60
    assert len(set(terms)) == len(terms)


def test_the_glossary_is_linked_both_ways():
    text = glossary.PAGE.read_text("utf-8")
    assert glossary.linked(text) == text, "python -m tools.glossary"
    anchors = set(re.findall(r'<a id="(.+?)">', text))
    assert set(re.findall(r"\]\(#(.+?)\)", text)) == anchors
    table = text.split(glossary.INDEX)[0].split("\n")
    rows = [line for line in table if line.startswith("| ")]
    assert len(rows) == len(anchors) + 1  # y la cabecera


# El ayudante, con sus carpetas; las correcciones hablan de otra forma.
HELPER = [
    path
    for path in sorted((ROOT / "tokenatoken").rglob("*.py"))
    if "checks" not in path.parts
]


def messages() -> list[tuple[str, str]]:
    """Los textos de los errores del ayudante: (archivo, principio)."""
    found = []
    for path in HELPER:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            if not isinstance(node.exc, ast.Call) or not node.exc.args:
                continue
            first = node.exc.args[0]
            parts = (
                first.values if isinstance(first, ast.JoinedStr) else [first]
            )
            fixed = [
                p.value
                for p in parts
                if isinstance(p, ast.Constant) and isinstance(p.value, str)
            ]
            if fixed:
                found.append((path.name, fixed))
    return found


def test_every_error_of_ours_is_explained():
    """Algún trozo reconocible de cada mensaje está en docs/problemas.md."""
    page = (ROOT / "docs" / "problemas.md").read_text("utf-8")
    rows = re.findall(r"^\| (.+?) \|", page, re.M)
    known = [
        piece.strip(" .»«:,¿?")
        for row in rows
        for quoted in re.findall(r"`([^`]+)`", row)
        for piece in quoted.split("…")
    ]
    known = [piece for piece in known if len(piece) > 3]
    missing = [
        (name, "…".join(fixed)[:90])
        for name, fixed in messages()
        if not any(piece in "…".join(fixed) for piece in known)
    ]
    assert not missing, "\n".join(map(str, missing))


@pytest.mark.parametrize("error", [CourseError, WeightsError, MemoryShortage])
def test_errors_say_where_there_is_more_help(error):
    with pytest.raises((ValueError, RuntimeError)) as caught:
        raise error("qué pasó")
    assert str(caught.value) == "qué pasó"
    assert "docs/problemas.md" in caught.value.__notes__[0]


def test_no_error_of_ours_goes_without_help():
    for path in HELPER:
        assert "raise ValueError(" not in path.read_text("utf-8"), path.name


def test_spelling():
    if shutil.which("aspell") is None:
        pytest.skip("sin aspell: apt install aspell aspell-es")
    wrong = spelling.mistakes()
    assert not wrong, wrong


def test_spelling_sees_a_mistake():
    if shutil.which("aspell") is None:
        pytest.skip("sin aspell")
    assert spelling.unknown("la cabesa y la boca, *head*", set()) == ["cabesa"]


def test_spelling_reads_what_the_helper_says(tmp_path):
    module = tmp_path / "x.py"
    module.write_text(
        '"""Docstring aparte."""\nx = f"lo que dice la {1} cabesa de ids[0]"'
    )
    found = spelling.unknown(spelling.messages(module), set())
    assert found == ["cabesa", "ids"]


def test_cells_compared_in_part_stay_within_budget():
    counts = report.count()
    assert not report.over_budget(counts)
    assert sum(row["enteras"] for row in counts.values()) > 200
