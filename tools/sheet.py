"""El curso en una página A4: docs/hoja.pdf y docs/img/hoja.png.

    python -m tools.sheet

El mapa y las fórmulas salen de las salidas guardadas del cuaderno 13, y las
preguntas, del principio de cada cuaderno: nada se teclea dos veces.
"""

import json
import re
from hashlib import sha256

import matplotlib.pyplot as plt
import nbformat

from tokenatoken.show.boxes import stack
from tokenatoken.show.canvas import WIDE, Canvas
from tokenatoken.show.explorer import FIGURE
from tokenatoken.show.picture import DPI, STYLE
from tokenatoken.show.unit13 import map_canvas, sheet_canvas

from . import ROOT, notebooks, parser

NOTEBOOK = ROOT / "notebooks" / "13_en_la_pizarra.ipynb"
PDF, PNG = ROOT / "docs" / "hoja.pdf", ROOT / "docs" / "img" / "hoja.png"
A4 = (8.27, 11.69)  # pulgadas


def published() -> dict:
    """Clase → datos, de lo que publican los dibujos del cuaderno."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    outputs = (o for c in cells for o in c.get("outputs", []))
    data = (o.get("data", {}).get(FIGURE) for o in outputs)
    return {d["kind"]: d for d in data if d}


def questions() -> list[tuple[str, str]]:
    """`(unidad, pregunta)`: la primera línea en negrita de cada cuaderno."""
    found = []
    for path in notebooks("notebooks"):
        first = nbformat.read(path, as_version=4).cells[0].source
        text = re.search(r"^\*\*(.+?)\*\*$", first, re.M | re.S)[1]
        found.append((path.name[:2], text.replace("\n", " ")))
    return found


def question_canvas() -> Canvas:
    canvas = Canvas(60)
    canvas.title("Trece preguntas")
    for unit, words in questions():
        canvas.text(12, canvas.height, unit, 17, "start", "#444", bold=True)
        canvas.text(50, canvas.height, words, 18, "start")
        canvas.height += 30
    return canvas


def page() -> Canvas:
    """Las tres partes, una debajo de otra."""
    data = published()
    top, sheet = data["map"], data["sheet"]
    controls = dict(top["controls"])
    parts = top["stations"], top["around"], controls, top["title"]
    whole = stack(
        map_canvas(*parts), sheet_canvas(sheet["rows"], sheet["title"])
    )
    return stack(whole, question_canvas())


def draw(canvas: Canvas):
    """El lienzo, centrado en una hoja A4."""
    wide = 0.9
    high = wide * A4[0] / A4[1] * canvas.height / WIDE
    if high > 0.95:
        raise SystemExit("No cabe en una página: quita alguna fila.")
    figure = plt.figure(figsize=A4)
    scale = wide * A4[0] * DPI / WIDE  # la letra, al mismo tamaño que la caja
    axes = figure.add_axes(((1 - wide) / 2, 0.97 - high, wide, high))
    axes.axis("off")
    canvas.paint(axes, scale)
    figure.text(0.05, 0.015, "Token a token · CC BY 4.0", fontsize=7)
    return figure


def main() -> None:
    parser(__doc__).parse_args()
    with plt.rc_context(STYLE):
        figure = draw(page())
        fixed = {"CreationDate": None, "Title": "Token a token, en una hoja"}
        figure.savefig(PDF, metadata=fixed | {"Keywords": digest()})
        figure.savefig(PNG, dpi=110, metadata={"Software": None})
        plt.close(figure)
    print(f"guardado {PDF.relative_to(ROOT)} y {PNG.relative_to(ROOT)}")


def digest() -> str:
    """Lo dibujado, resumido: así una prueba ve si el PDF se queda viejo."""
    data = published()
    whole = [data["map"], data["sheet"], questions()]
    text = json.dumps(whole, ensure_ascii=False, sort_keys=True)
    return sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
