"""Ejecuta cuadernos de principio a fin y guarda sus salidas sin ruido.

    python -m tools.execute notebooks/01_tokens.ipynb …

Con un kernel limpio y una celda detrás de otra (cuentas 1..n). No guarda
estado de widgets ni marcas de tiempo: ejecutar dos veces deja los mismos
bytes. Si una celda falla, el archivo se queda como estaba.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from . import parser

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def run(notebook, folder: Path, timeout: int = 1800):
    """Ejecuta el cuaderno ya leído, en `folder`, y limpia sus salidas."""
    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if len(data) > 1:  # queda la imagen fija: se ve sin kernel
                data.pop(WIDGET_VIEW, None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def save(notebook, path: Path) -> None:
    """Escribe el cuaderno si es válido, siempre con los mismos bytes."""
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def main() -> int:
    options = parser(__doc__)
    options.add_argument("notebooks", nargs="+", type=Path)
    for path in options.parse_args().notebooks:
        start = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        try:
            run(notebook, path.parent)
        except CellExecutionError as error:
            print(f"✘ {path}: {error}", file=sys.stderr)
            return 1
        save(notebook, path)
        print(f"✔ {path} ({time.perf_counter() - start:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
