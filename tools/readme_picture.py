"""Saca de los cuadernos las imágenes que enseña el README.

Son salidas guardadas, así que nunca enseñan algo que el curso no produce.
"""

import base64

import nbformat

from . import ROOT

# archivo de docs/img → (cuaderno, lo que dice el código de la celda)
PICTURES = {
    "01_tokens.png": (
        "01_tokens.ipynb",
        "token_strip(tokenizer, prompt",
    ),
    "01_coste.png": ("01_tokens.ipynb", "per_token = pd.DataFrame"),
}


def picture(notebook: str, code: str) -> bytes:
    """El PNG de la celda de código que contiene `code`."""
    cells = nbformat.read(ROOT / "notebooks" / notebook, as_version=4).cells
    outputs = next(
        c.outputs for c in cells if c.cell_type == "code" and code in c.source
    )
    data = next(o.data for o in outputs if "image/png" in o.get("data", {}))
    return base64.b64decode(data["image/png"])


def main() -> None:
    folder = ROOT / "docs" / "img"
    folder.mkdir(exist_ok=True)
    for name, place in PICTURES.items():
        (folder / name).write_bytes(picture(*place))
        print("escrita", f"docs/img/{name}")


if __name__ == "__main__":
    main()
