"""Los controles en el cuaderno clásico 6 con ipywidgets 7.7.1.

Es lo más parecido a la interfaz de Colab que se puede probar aquí. Usa el
entorno de `make test-colab` (COLAB_VENV).
"""

import os
import time

import pytest

from .conftest import ROOT, free_port, serving
from .test_notebooks import changes, control_cells, drawn

PYTHON = ROOT / os.environ.get("COLAB_VENV", ".venv-colab") / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="sin entorno de Colab: make test-colab"
)
BOXES = {
    "01_tokens.ipynb": ["textarea", "select"],
    "02_forward.ipynb": [".ui-slider-handle"],
    "03_softmax.ipynb": [".ui-slider-handle"],
    "06_kv_cache.ipynb": [".ui-slider-handle"],
}


CODE = "Jupyter.notebook.get_cells().filter(c => c.cell_type == 'code')"
RUN = f"""chosen => {{
  const code = {CODE}, all = Jupyter.notebook.get_cells();
  code.forEach(c => c.set_input_prompt());
  Jupyter.notebook.execute_cells(chosen.map(i => all.indexOf(code[i])));
}}"""
DONE = f"""chosen => chosen.every(
  i => /^\\d+$/.test({CODE}[i].input_prompt_number))"""


@pytest.fixture(scope="module")
def classic(course, tmp_path_factory):
    """La dirección de un cuaderno clásico que sirve la copia del curso."""
    port, home = free_port(), tmp_path_factory.mktemp("clasico")
    prefix = PYTHON.parents[1]
    env = os.environ | dict(
        JUPYTER_CONFIG_DIR=str(home),
        JUPYTER_PATH=str(prefix / "share" / "jupyter"),
    )
    command = [str(PYTHON), "-m", "notebook", "--no-browser", "--allow-root"]
    command += [f"--port={port}", "--NotebookApp.token="]
    command += [f"--notebook-dir={course}"]
    with serving(command, env, port) as address:
        yield address


@pytest.mark.parametrize("name", BOXES)
def test_controls_live_in_the_classic_notebook(page, classic, name):
    page.goto(f"{classic}/notebooks/notebooks/{name}")
    page.wait_for_function(
        "window.Jupyter && Jupyter.notebook && Jupyter.notebook.kernel"
        " && Jupyter.notebook.kernel.is_connected()"
    )
    time.sleep(1)
    page.evaluate(RUN, control_cells(name))
    page.wait_for_function(DONE, arg=control_cells(name), timeout=0)
    assert page.locator(".output_error, .output_stderr").count() == 0
    box = page.locator(".widget-vbox").first
    box.wait_for()
    for selector in BOXES[name]:
        before, control = drawn(box), box.locator(selector).first
        control.scroll_into_view_if_needed()
        if selector == "select":
            labels = control.locator("option").all_inner_texts()
            control.select_option(label=labels[-1])
        elif selector == "textarea":
            control.fill("El murciélago come 2026 higos")
        else:
            control.focus()
            control.press("ArrowRight")
        assert changes(box, before), selector
