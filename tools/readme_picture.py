#!/usr/bin/env python3
"""Saca de los cuadernos las imágenes que enseña el README.

Son salidas guardadas, así que nunca enseñan algo que el curso no produce.
"""

import argparse
import base64
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
# archivo de docs/img → (cuaderno, principio del código de la celda)
PICTURES = {
    "01_tokens.png": (
        "01_tokens.ipynb",
        "plots.token_strip(tokenizer, prompt",
    ),
    "01_coste.png": ("01_tokens.ipynb", "per_word = tokens.div"),
}


def picture(notebook: str, start: str) -> bytes:
    """El PNG de la celda cuyo código contiene `start`."""
    cells = nbformat.read(ROOT / "notebooks" / notebook, as_version=4).cells
    cell = next(
        c for c in cells if c.cell_type == "code" and start in c.source
    )
    data = next(
        o.data for o in cell.outputs if "image/png" in o.get("data", {})
    )
    return base64.b64decode(data["image/png"])


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = ROOT / "docs" / "img"
    folder.mkdir(exist_ok=True)
    for name, (notebook, start) in PICTURES.items():
        (folder / name).write_bytes(picture(notebook, start))
        print("escrita", f"docs/img/{name}")


if __name__ == "__main__":
    main()
