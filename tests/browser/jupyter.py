"""Manejar JupyterLab desde las pruebas: abrir, ejecutar celdas, mirar.

Se le habla por `window.jupyterapp` (`LabApp.expose_app_in_browser`), así que
da igual el idioma de los menús, y se espera a que cada orden acabe: lo que
tarde el equipo, sin plazos.
"""

CODE = "[...panel.content.widgets.keys()].filter(\
    i => panel.content.widgets[i].model.type === 'code')"
START = """async (path) => {
  const app = window.jupyterapp;
  await app.restored;
  window.panel = await app.commands.execute('docmanager:open', {path});
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""
RUN = """async (chosen) => {
  const code = CODE, app = window.jupyterapp;
  for (const i of chosen ?? code.keys()) {
    panel.content.activeCellIndex = code[i];
    await app.commands.execute('notebook:run-cell');
  }
}""".replace("CODE", CODE)
SETTLE = """async () => {
  for (let i = 0; i < 3; i++) {
    await panel.sessionContext.session.kernel.requestKernelInfo();
    await new Promise(done => setTimeout(done, 150));
  }
}"""


def open_notebook(page, lab: str, path: str) -> None:
    """Abre `path` con su kernel en marcha."""
    page.goto(f"{lab}/doc/workspaces/auto-z/?reset")
    page.wait_for_function("window.jupyterapp")
    page.evaluate(START, path)
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def run_cells(page, chosen: list[int] | None = None) -> None:
    """Ejecuta esas celdas de código, o todas, y espera a que acaben."""
    page.evaluate(RUN, chosen)
    page.wait_for_timeout(500)  # las vistas de los mandos, que llegan después


def settle(page) -> None:
    """Espera a que el kernel haya atendido lo que le ha pedido la página."""
    page.evaluate(SETTLE)


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
