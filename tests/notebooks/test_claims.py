"""«Dicho y medido»: la tabla sale de los cuadernos y está al día."""

import re

import nbformat
import pytest

from tools import claims, notebooks

CELL = "**«Una *frase* larga».** Y luego.\n\n**Veredicto: verdad si** llueve. Hoy, 3."


def test_the_table_is_what_the_notebooks_say():
    assert not claims.drift(), "ejecuta python -m tools.claims"


def test_every_unit_has_its_claims():
    rows = claims.every_claim()
    assert {row["unit"] for row in rows} >= {f"{n:02}" for n in range(1, 13)}
    assert all(len(row["measured"]) > 15 for row in rows)
    assert all(row["verdict"] in claims.VERDICTS for row in rows)


def test_no_claim_is_left_out():
    for path in notebooks("notebooks"):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        written = len(re.findall(r"\*\*Veredicto:", text))
        written += len(re.findall(r"^> \*\*Dicho y medido", text, re.M))
        assert len(claims.claims_of(path)) == written, path.name


@pytest.mark.parametrize(
    "rest, whole, measured",
    [
        (". Son 3.", "falso", "Son 3."),
        (" como regla. Son 3.", "falso como regla", "Son 3."),
        (" en fp16: da NaN.", "falso en fp16", "Da NaN."),
        (": son 4,5. Y ya.", "falso", "Son 4,5. Y ya."),
    ],
)
def test_a_verdict_and_what_was_measured(rest, whole, measured):
    assert claims.cut("falso", rest) == (whole, measured)


def test_both_ways_of_writing_it():
    assert list(claims.judged([CELL])) == [
        ("«Una *frase* larga»", "verdad si", " llueve. Hoy, 3.")
    ]
    quote = "> **Dicho y medido.** «Otra». **Falso**: son 4."
    assert list(claims.quoted(quote)) == [("«Otra». ", "falso", ": son 4.")]


@pytest.mark.parametrize(
    "cells", [[CELL, "**«Sin nada».**"], ["**«A».**", CELL]]
)
def test_a_claim_without_verdict_is_an_error(cells):
    with pytest.raises(ValueError, match="sin veredicto"):
        list(claims.judged(cells))


def test_an_unknown_verdict_is_an_error():
    with pytest.raises(ValueError, match="no es un veredicto"):
        list(claims.judged([CELL.replace("verdad si", "depende")]))
