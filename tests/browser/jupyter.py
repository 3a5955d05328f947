"""Manejar JupyterLab desde las pruebas: abrir, ejecutar todo, esperar."""

import time

IDLE = "(ipykernel) | Idle"


def open_notebook(page, lab: str, path: str) -> None:
    """Abre `path` solo, en modo de un documento, con su kernel en marcha."""
    page.goto(f"{lab}/doc/tree/{path}?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.get_by_text(IDLE).wait_for()


def run_all(page, seconds: int = 420) -> None:
    """Ejecutar todas las celdas, y esperar a que acaben."""
    page.click('.lm-MenuBar-itemLabel:has-text("Run")')
    page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        prompts = page.locator(
            ".jp-CodeCell .jp-InputPrompt"
        ).all_inner_texts()
        waiting = [
            text for text in prompts if text.strip() in ("[ ]:", "[*]:")
        ]
        if prompts and not waiting:
            page.get_by_text(IDLE).wait_for()
            time.sleep(0.5)  # las vistas de los controles, que llegan después
            return
        time.sleep(0.5)
    raise AssertionError(f"a los {seconds} s quedan celdas: {waiting}")


def problems(page) -> list[str]:
    """Errores y avisos a la vista en las salidas."""
    found = page.locator(
        '[data-mime-type="application/vnd.jupyter.stderr"],'
        '[data-mime-type="application/vnd.jupyter.error"]'
    )
    return [text[:300] for text in found.all_inner_texts()]


def pictures(page) -> list[int]:
    """El ancho real de cada imagen de las salidas; 0 es una rota."""
    return page.eval_on_selector_all(
        ".jp-OutputArea-output img", "all => all.map(i => i.naturalWidth)"
    )
