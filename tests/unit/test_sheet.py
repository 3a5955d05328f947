"""La hoja A4: está al día y cabe en una página."""

import re

import pytest

from tokenatoken.show.canvas import Canvas
from tools import sheet


def test_the_sheet_shows_what_the_notebook_published():
    data = sheet.published()
    assert {"map", "sheet"} <= set(data)
    assert len(data["sheet"]["rows"]) == 8
    assert len(data["map"]["stations"] + data["map"]["around"]) == 12
    assert [unit for unit, _ in sheet.questions()] == [
        f"{n:02}" for n in range(1, 14)
    ]


def test_the_pdf_is_up_to_date_and_one_page():
    pdf = sheet.PDF.read_bytes()
    assert pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page\n") == 1
    assert sheet.digest().encode() in pdf, "python -m tools.sheet"
    width, height = map(
        float, re.search(rb"0 0 ([\d.]+) ([\d.]+)", pdf).groups()
    )
    assert (round(width), round(height)) == (595, 842)  # A4, en puntos


def test_a_sheet_that_does_not_fit_is_refused():
    with pytest.raises(SystemExit, match="No cabe"):
        sheet.draw(Canvas(3000))
