"""Un laboratorio: Pendiente sin tocar, ✘ con pista, ✔ al arreglarlo."""

import time

from .conftest import PATIENCE
from .jupyter import open_notebook, problems, run_cells

COST = (
    "def estimate_cost(path, price_per_million):\n"
    "    n = len(encode(tokenizer, path.read_text('utf-8')))\n"
    "    return n, n * price_per_million / %s"
)


def answer(page, code: str) -> str:
    """Escribe `code` en la celda del ejercicio y devuelve el veredicto."""
    cell = page.locator(".jp-CodeCell", has_text="def estimate_cost").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(code)
    old = verdict(page)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    end = time.monotonic() + PATIENCE
    while verdict(page) == old and time.monotonic() < end:
        time.sleep(0.1)
    return verdict(page)


def verdict(page) -> str:
    shown = page.locator("[role=status]", has_text="Ejercicio 01.1")
    return shown.first.inner_text()


def test_a_lab_says_pending_wrong_and_right(page, lab):
    open_notebook(page, lab, "labs/01_tokens.ipynb")
    run_cells(page)
    assert not problems(page)
    assert "Pendiente" in verdict(page)
    wrong = answer(page, COST % "1e3")
    assert wrong.startswith("✘") and len(wrong) > 60
    assert answer(page, COST % "1e6").startswith("✔")
