"""«Dicho y medido»: la tabla sale de los cuadernos y está al día."""

import pytest

from tools import claims

CELL = "**«Una frase».** Y luego.\n\n**Veredicto: verdad si** llueve. Hoy, 3."


def test_the_table_is_what_the_notebooks_say():
    assert not claims.drift(), "ejecuta python -m tools.claims"


def test_every_unit_has_its_claims():
    rows = claims.every_claim()
    assert {row["unit"] for row in rows} >= {f"{n:02}" for n in range(1, 13)}
    assert all(len(row["measured"]) > 15 for row in rows)
    assert all(row["verdict"] in claims.VERDICTS for row in rows)


def test_both_ways_of_writing_it():
    assert list(claims.judged([CELL])) == [
        ("«Una frase»", "verdad si", " llueve. Hoy, 3.")
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
