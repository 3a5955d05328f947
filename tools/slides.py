#!/usr/bin/env python3
"""Convierte cada cuaderno en diapositivas que se abren sin red.

    make slides                 (o python tools/slides.py [--pdf] [cuaderno…])

Deja en diapositivas/ un HTML por unidad (reveal.js, hecho por nbconvert) y
reveal.js al lado: se copia la carpeta a un USB y se abre con doble clic. S
enseña las notas de quien da la clase. Con --pdf, además, un PDF por unidad.
"""

import argparse
import base64
import re
import shutil
import struct
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from tqdm.auto import tqdm
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "tools" / "slides"
OUT = ROOT / "diapositivas"
# Píxeles, a 1280 × 720: alto útil, y de un renglón de texto, de código y de
# código con la letra menor que se admite.
PAGE_HEIGHT, TEXT, CODE, SMALL = 660, 38, 26, 21.6
# Lo que en pantalla sobra: la insignia, las fuentes, el emoji (no todas las
# computadoras lo tienen) y los pliegues de las notas.
UNWANTED = (
    (re.compile(r"^\[!\[Abrir en Colab\].*$", re.M), ""),
    (re.compile(r"<details><summary>Fuentes.*?</details>", re.S), ""),
    (re.compile("🔮 ?"), ""),
    (re.compile("❌"), "✘"),
    (re.compile("✅"), "✔"),
    (re.compile(r"<details><summary>Para quien da la clase</summary>"), ""),
    (re.compile(r"(\*\*\d+ minutos?\.\*\*.*?)</details>\s*$", re.S), r"\1"),
)
PAGE = """<!DOCTYPE html><html lang="es"><meta charset="utf-8">
<title>Token a token: diapositivas</title>
<body style="font:24px/1.7 sans-serif;margin:3em"><h1>Token a token</h1><ol>
{}
</ol></body></html>
"""


def reveal() -> Path:
    """La carpeta de reveal.js; la instala con npm la primera vez."""
    folder = PARTS / "node_modules" / "reveal.js"
    if not folder.exists():
        if shutil.which("npm") is None:
            raise SystemExit(
                "Las diapositivas usan reveal.js, que se instala con npm, y "
                "aquí no hay npm.\nQué hacer: instala Node.js (en Debian y "
                "Ubuntu, sudo apt install npm) y repite la orden."
            )
        order = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        run = subprocess.run(order, cwd=PARTS, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"npm no ha podido instalar:\n{run.stderr}")
    return folder


def piece(cell, source=None, outputs=None, hidden=False):
    """Una copia de la celda con solo esa parte."""
    copy = deepcopy(cell)
    if source is not None:
        copy.source = source
    if cell.cell_type == "code":
        copy.outputs = outputs or []
        copy.metadata["tags"] = ["ocultar-codigo"] if hidden else []
    return copy


def blocks(source: str, most: int) -> list[str]:
    """El código, partido entre definiciones en trozos de `most` renglones."""
    result = []
    for part in re.split(r"\n\n+(?=\S)", source):
        joined = f"{result[-1]}\n\n{part}" if result else part
        if result and joined.count("\n") < most:
            result[-1] = joined
        else:
            result.append(part)
    return result


def shown(output) -> bool:
    """Lo que se proyecta: la figura sí; su alternativa plegada, no."""
    html = output.get("data", {}).get("text/html", "")
    return not html.startswith("<details><summary>La figura, en texto")


def figure_height(png: str) -> float:
    """Lo que mide de alto una figura a todo el ancho, hasta una página."""
    wide, tall = struct.unpack(">II", base64.b64decode(png[:64])[16:24])
    return min(1184 * tall / wide, PAGE_HEIGHT)


def output_height(outputs) -> float:
    """Píxeles que ocupan unas salidas, a ojo."""
    total = 0.0
    for output in outputs:
        data = output.get("data", {})
        html = data.get("text/html", "")
        if "image/png" in data:
            total += figure_height(data["image/png"])
        elif html:
            total += 34 * max(2, html.count("<tr")) + 12
        else:
            text = output.get("text", "") or data.get("text/plain", "")
            rows = sum(1 + len(line) // 98 for line in text.splitlines())
            total += CODE * rows + 14
    return total


def code_pieces(cell) -> list[tuple]:
    """`(celda, píxeles)` de una celda de código. Con figura, solo la figura;
    si no, código y salida juntos, o partidos si no caben."""
    outputs = [o for o in cell.get("outputs", []) if shown(o)]
    below = output_height(outputs)
    if any("image/png" in o.get("data", {}) for o in outputs):
        return [(piece(cell, None, outputs, hidden=True), below)]
    cell.source = cell.source.replace("\n\n\n", "\n\n")
    lines = cell.source.count("\n") + 1
    if SMALL * lines + 0.85 * below + 40 <= PAGE_HEIGHT:
        height = CODE * lines + below + 24
        return [(piece(cell, None, outputs), min(height, PAGE_HEIGHT))]
    most = int((PAGE_HEIGHT - 40) / SMALL)
    parts = blocks(cell.source, most)
    result = [(piece(cell, part), PAGE_HEIGHT) for part in parts]
    if below:
        last = parts[-1].count("\n") + 1
        if SMALL * last + 0.85 * below + 40 <= PAGE_HEIGHT:
            result[-1] = (piece(cell, parts[-1], outputs), PAGE_HEIGHT)
        else:
            result.append((piece(cell, None, outputs, hidden=True), below))
    return result


def text_height(paragraph: str) -> float:
    """Píxeles que ocupa un párrafo de Markdown, a ojo."""
    if paragraph.startswith("#"):
        return 62.0
    if paragraph.startswith("|"):
        rows = [r for r in paragraph.splitlines() if "---" not in r]
        return sum(36 + 28 * (len(row) // 125) for row in rows) + 16
    if paragraph.startswith("<details"):
        inside = paragraph.partition("</summary>")[2]
        return 60 + TEXT * (1 + len(inside) // 95)
    items = re.split(r"\n(?=\s*(?:[-*]|\d+\.) )", paragraph)
    return sum(TEXT * (1 + len(" ".join(i.split())) // 95) for i in items) + 14


def paragraphs(source: str) -> list[str]:
    """Los párrafos; un bloque plegado o de código, o una lista, es uno."""
    kept = re.sub(
        r"(?s)<details>.*?</details>|```.*?```",
        lambda m: m[0].replace("\n\n", "\n\v\n"),
        source,
    )
    parts = [p.replace("\v\n", "\n") for p in re.split(r"\n\n+", kept)]
    return [part.strip() for part in parts if part.strip()]


def text_pieces(cell) -> list[tuple]:
    """`(celda, píxeles)` por párrafo; un título va con lo que le sigue."""
    result = []
    for part in paragraphs(cell.source):
        height = text_height(part)
        if result and result[-1][0].source.startswith("#"):
            before, tall = result.pop()
            part, height = f"{before.source}\n\n{part}", tall + height
        result.append((piece(cell, part), height))
    return result


def presentation(notebook):
    """El cuaderno repartido en diapositivas que caben en la pantalla."""
    cells, used = [], 0.0
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind == "skip":
            continue
        for unwanted, instead in UNWANTED:
            cell.source = unwanted.sub(instead, cell.source)
        if kind == "notes":
            cells.append((piece(cell), "notes"))
            continue
        code = cell.cell_type == "code"
        pieces = code_pieces(cell) if code else text_pieces(cell)
        for i, (part, height) in enumerate(pieces):
            opens = kind == "slide" and i == 0
            if opens or used + height > PAGE_HEIGHT:
                used = 0.0
            place = "slide" if opens else "-" if used else "subslide"
            cells.append((part, place))
            used += height
    result = deepcopy(notebook)
    result.cells = [cell for cell, _ in cells]
    for i, (cell, place) in enumerate(cells):
        cell["id"] = f"d{i:03}"
        cell.metadata["slideshow"] = {"slide_type": place}
    return result


def convert(path: Path) -> Path:
    """Escribe diapositivas/NN_tema.html."""
    config = Config()
    config.SlidesExporter.template_name = "plantilla"
    config.SlidesExporter.extra_template_basedirs = [str(PARTS)]
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = ["ocultar-codigo"]
    config.SlidesExporter.reveal_url_prefix = "reveal.js"
    config.SlidesExporter.reveal_theme = "white"
    config.SlidesExporter.language_code = "es"
    notebook = presentation(nbformat.read(path, as_version=4))
    resources = {
        "course_css": (PARTS / "diapositivas.css").read_text("utf-8"),
        "course_js": (PARTS / "diapositivas.js").read_text("utf-8"),
        "metadata": {"name": path.stem},
    }
    html, _ = SlidesExporter(config=config).from_notebook_node(
        notebook, resources
    )
    result = OUT / f"{path.stem}.html"
    result.write_text(html, encoding="utf-8")
    return result


def print_pdf(html: Path) -> None:
    """El PDF de una presentación, con Chromium."""
    from chromium import FLAGS, find_chromium
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        raise SystemExit(
            "El PDF se imprime con Chromium y no lo encuentro.\nQué hacer: "
            "python tools/chromium.py --instalar"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{html.as_uri()}?print-pdf")
        page.wait_for_selector(".pdf-page")
        page.wait_for_timeout(500)
        page.pdf(
            path=html.with_suffix(".pdf"),
            prefer_css_page_size=True,
            print_background=True,
        )
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cuadernos", nargs="*", type=Path)
    parser.add_argument("--pdf", action="store_true")
    options = parser.parse_args()
    paths = options.cuadernos or sorted((ROOT / "notebooks").glob("*.ipynb"))
    source = reveal()
    OUT.mkdir(exist_ok=True)
    for part in ("dist", "plugin/notes"):
        shutil.copytree(
            source / part, OUT / "reveal.js" / part, dirs_exist_ok=True
        )
    links = []
    for path in tqdm(paths, desc="Diapositivas"):
        html = convert(path)
        if options.pdf:
            print_pdf(html)
        name = nbformat.read(path, 4).cells[0].source.splitlines()[0]
        links.append(f'<li><a href="{html.name}">{name.strip("# ")}</a></li>')
    (OUT / "index.html").write_text(
        PAGE.format("\n".join(links)), encoding="utf-8"
    )
    print(f"Ábrelas desde {OUT.relative_to(ROOT)}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
