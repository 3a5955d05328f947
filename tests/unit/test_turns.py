"""El reparto de las pruebas, y qué celdas necesita un mando."""

import pytest

from tests.browser.needs import needed
from tests.turns import group


def test_a_notebook_is_not_split():
    cells = {group(f"notebooks/06_x.ipynb::Cell {i}") for i in range(9)}
    assert cells == {"notebooks/06_x.ipynb"}


def test_each_lab_goes_on_its_own():
    name = "tests/notebooks/test_labs.py::test_untouched_lab_runs[{}]"
    assert group(name.format(1)) != group(name.format(2))
    assert group("tests/unit/a.py::b") == group("tests/unit/a.py::c")


@pytest.mark.parametrize(
    "cells, wanted",
    [
        (["a = 1", "b = 2", "explorer = f(a)"], [0, 1, 2, 4]),
        (["a = 1", "a = a + 1", "explorer = f(a)"], [0, 1, 2, 3, 4]),
        (["d = {}", "for i in x: d[i] = 1", "explorer = d"], [0, 1, 2, 3, 4]),
        (["a = 1", "def g(a): return a", "explorer = g"], [0, 1, 3, 4]),
        (["n = 1", "[n for n in x]", "explorer = [n for n in x]"], [0, 1, 4]),
        (["import a", "from b import c", "explorer = c.d"], [0, 1, 3, 4]),
    ],
)
def test_only_what_a_control_needs(cells, wanted):
    assert needed(["setup = 1", "import x", *cells], "explorer") == wanted
