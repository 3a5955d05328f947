"""Cada unidad, como la usa quien estudia: abrir, ejecutar, tocar los mandos.

Solo se ejecutan las celdas que un mando necesita: que todas den lo guardado ya
lo comprueba `make test`.
"""

import time

import nbformat
import pytest

from tools import ROOT, notebooks

from .conftest import PATIENCE
from .jupyter import open_notebook, pictures, problems, run_cells, settle
from .needs import needed

NOTEBOOKS = [path.name for path in reversed(notebooks("notebooks"))]
# Los mandos de cada unidad: cuántos deslizadores, textos y desplegables.
CONTROLS = {
    "01_tokens.ipynb": dict(text=1, select=1),
    "02_forward.ipynb": dict(slider=2, text=1, select=1),
    "03_softmax.ipynb": dict(slider=1),
    "04_muestreo.ipynb": dict(slider=4, text=1),
    "05_bucle.ipynb": dict(slider=1),
    "06_kv_cache.ipynb": dict(slider=1),
    "07_cronometro.ipynb": dict(slider=4),
    "08_chat.ipynb": dict(text=2, select=2),
    "09_control.ipynb": dict(slider=2, select=1),
    "10_determinismo.ipynb": dict(select=3),
    "11_mas_deprisa.ipynb": dict(select=3),
    "12_muchas_a_la_vez.ipynb": dict(select=4),
    "13_en_la_pizarra.ipynb": dict(slider=1),
}
OPPOSITE = {"Home": "End", "End": "Home"}
SELECTORS = {
    "slider": ".noUi-handle",
    "text": "textarea, input[type=text]:not(.widget-readout)",
    "select": "select",
}


def code_cells(name: str) -> list:
    cells = nbformat.read(ROOT / "notebooks" / name, 4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def stored_pictures(name: str) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in code_cells(name)
        for output in cell.outputs
    )


def control_cells(name: str) -> list[int]:
    """Las celdas que hay que ejecutar para que su explorador responda."""
    return needed([cell.source for cell in code_cells(name)], "explorer")


def drawn(box) -> str:
    """Lo que enseñan los controles HTML de una caja (el mando, no)."""
    return box.evaluate(
        "b => [...b.querySelectorAll('.widget-html')]"
        ".map(h => h.innerHTML).join('')"
    )


def touch(kind: str, control, key: str) -> None:
    control.scroll_into_view_if_needed()
    if kind == "slider":
        control.focus()
        control.press(key)
    elif kind == "text":
        control.fill("El murciélago come 2026 higos y")
        control.press("Tab")
    else:
        values = control.locator("option").all_inner_texts()
        control.select_option(values[-1])


def changes(box, before: str, seconds: float = PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if drawn(box) != before:
            return True
        time.sleep(0.1)
    return False


def moves(page, kind: str, control, box) -> bool:
    """¿Cambia la figura al tocar el mando? Un paso puede no notarse (de k =
    50 a 51); ir a un extremo, sí."""
    before = drawn(box)
    for key in ("ArrowRight", "Home", "End") if kind == "slider" else ("",):
        touch(kind, control, key)
        settle(page)
        if changes(box, before, 2):
            if key in OPPOSITE:  # donde estaba: los mandos se tapan
                touch(kind, control, OPPOSITE[key])
                settle(page)
            return True
    return False


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_controls_of_a_unit_move_its_picture(page, lab, name):
    open_notebook(page, lab, f"notebooks/{name}")
    widths = pictures(page)  # aún sin ejecutar: lo que vería quien solo lee
    assert len(widths) == stored_pictures(name) and all(widths)
    run_cells(page, control_cells(name))
    assert not problems(page)
    assert all(pictures(page))
    count = {kind: 0 for kind in SELECTORS}
    boxes = page.locator(".jp-OutputArea-output .widget-vbox")
    for i in range(boxes.count()):
        box = boxes.nth(i)
        for kind, selector in SELECTORS.items():
            controls = box.locator(selector)
            for k in range(controls.count()):
                moved = moves(page, kind, controls.nth(k), box)
                assert moved, f"{kind} {k} de la caja {i}"
                count[kind] += 1
    found = {kind: n for kind, n in count.items() if n}
    assert found == CONTROLS[name]
    asked = [url for url in page.blocked if "colab-badge" not in url]
    assert not asked, "algo ha pedido la red"
