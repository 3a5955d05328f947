"""Genera labs/ a partir de solutions/, la única fuente de los ejercicios.

    python -m tools.make_labs

En una celda de código, lo que hay entre «### BEGIN SOLUTION» y «### END
SOLUTION» se cambia por «# TU CÓDIGO AQUÍ» y las líneas «### STUB: …» que
hubiera dentro («...» si no hay ninguna). Para un «caza el bug», las líneas
«### BUG: …» ocupan el sitio de la solución sin ninguna señal. Las celdas con la etiqueta
«solo-solucion» desaparecen. Los laboratorios se guardan sin salidas. Un archivo
.py (el proyecto, `mi_generador.py`) lleva las mismas marcas.
"""

import re
from pathlib import Path

import nbformat

from . import ROOT

BADGE = re.compile(r"^(\[!\[.*/blob/[^/]+/)solutions/", re.M)
BLOCK = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION[ \t]*\n(.*?)^[ \t]*### END SOLUTION[ \t]*$",
    re.M | re.S,
)
STUB = re.compile(r"^[ \t]*### STUB: ?(.*)$", re.M)
BUG = re.compile(r"^[ \t]*### BUG: ?(.*)$", re.M)


def without_solution(source: str) -> str:
    """El código de una celda con el hueco en lugar de la solución.

    Lanza `ValueError` si una marca se queda sin pareja: mejor parar que
    publicar una solución.
    """

    def gap(match):
        indent, body = match.groups()
        lines = BUG.findall(body)
        if not lines:
            lines = ["# TU CÓDIGO AQUÍ", *(STUB.findall(body) or ["..."])]
        return "\n".join((indent + line).rstrip() for line in lines)

    result = BLOCK.sub(gap, source)
    if any(mark in result for mark in ("SOLUTION", "### STUB", "### BUG")):
        raise ValueError(
            f"marcas de solución sin pareja en la celda:\n{source}"
        )
    return result


def lab_text(notebook) -> str:
    """El laboratorio que sale de un cuaderno de soluciones ya leído."""
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "solo-solucion" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = without_solution(cell.source)
            cell.outputs, cell.execution_count = [], None
        else:  # la insignia de Colab abre el laboratorio
            cell.source = BADGE.sub(r"\1labs/", cell.source)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def expected(root: Path = ROOT) -> dict[Path, str]:
    """Ruta de cada laboratorio → texto que debe tener."""
    texts = {
        path: lab_text(nbformat.read(path, as_version=4))
        for path in sorted((root / "solutions").glob("*.ipynb"))
    }
    for path in sorted((root / "solutions").glob("*.py")):
        texts[path] = without_solution(path.read_text(encoding="utf-8"))
    return {root / "labs" / path.name: text for path, text in texts.items()}


def drift(root: Path = ROOT) -> list[Path]:
    """Laboratorios que faltan, sobran o no son lo que generan las soluciones."""
    good = expected(root)
    wrong = [
        path
        for path, text in good.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    kinds = ("*.ipynb", "*.py")
    there = [p for kind in kinds for p in (root / "labs").glob(kind)]
    return wrong + [path for path in there if path not in good]


def main() -> None:
    for path, text in expected().items():
        path.write_text(text, encoding="utf-8")
        print("escrito", path.relative_to(ROOT))


if __name__ == "__main__":
    main()
