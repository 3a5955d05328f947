"""Convierte cada cuaderno en diapositivas que se abren sin red.

    make slides                 (o python -m tools.slides [--pdf] [cuaderno…])

Deja en diapositivas/ un HTML por unidad (reveal.js, hecho por nbconvert) y
reveal.js al lado: se copia la carpeta a un USB y se abre con doble clic. S
enseña las notas de quien da la clase. Con --pdf, además, un PDF por unidad.
Aquí cada cuaderno se parte en trozos; cuáles caben juntos, y con qué letra, lo
decide la página, que es quien puede medirlos (tools/slides/deck.js).
"""

import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from tqdm.auto import tqdm
from traitlets.config import Config

from . import ROOT, notebooks, parser

PARTS = ROOT / "tools" / "slides"
OUT = ROOT / "diapositivas"
PARTS_OF_REVEAL = "dist", "plugin/notes"
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


def shown(output) -> bool:
    """Lo que se proyecta: la figura sí; su alternativa plegada, no."""
    html = output.get("data", {}).get("text/html", "")
    return not html.startswith("<details><summary>La figura, en texto")


def code_pieces(cell) -> list:
    """Con figura, solo la figura; si no, cada definición y lo que sale."""
    outputs = [o for o in cell.get("outputs", []) if shown(o)]
    if any("image/png" in o.get("data", {}) for o in outputs):
        return [piece(cell, None, outputs, hidden=True)]
    parts = re.split(r"\n\n+(?=\S)", cell.source)
    result = [piece(cell, part) for part in parts]
    if outputs:
        result.append(piece(cell, None, outputs, hidden=True))
    return result


def text_pieces(cell) -> list:
    """Los párrafos; un bloque plegado o de código es uno, y un título va con
    lo que le sigue."""
    kept = re.sub(
        r"(?s)<details>.*?</details>|```.*?```",
        lambda m: m[0].replace("\n\n", "\n\v\n"),
        cell.source,
    )
    joined = re.sub(r"(?m)^(#+ .*)\n\n+", r"\1\n\v\n", kept)
    parts = (p.replace("\v\n", "\n") for p in re.split(r"\n\n+", joined))
    return [piece(cell, part.strip()) for part in parts if part.strip()]


def presentation(notebook):
    """El cuaderno en trozos. El id de cada uno dice su grupo: los de una celda
    de código van juntos si caben; cada párrafo es un grupo."""
    cells = []
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind == "skip":
            continue
        for unwanted, instead in UNWANTED:
            cell.source = unwanted.sub(instead, cell.source)
        code = cell.cell_type == "code"
        cut = code_pieces if code else text_pieces
        start = len(cells)
        for i, part in enumerate([cell] if kind == "notes" else cut(cell)):
            first = kind == "slide" and i == 0
            place = kind if first or kind == "notes" else "-"
            group = start if code else len(cells)
            part["id"] = f"g{group:03}-{len(cells):03}"
            part.metadata["slideshow"] = {"slide_type": place}
            cells.append(part)
    result = deepcopy(notebook)
    result.cells = cells
    return result


def convert(path: Path) -> Path:
    """Escribe diapositivas/NN_tema.html."""
    config = Config()
    config.SlidesExporter.template_name = "template"
    config.SlidesExporter.extra_template_basedirs = [str(PARTS)]
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = ["ocultar-codigo"]
    config.SlidesExporter.reveal_url_prefix = "reveal.js"
    config.SlidesExporter.reveal_theme = "white"
    config.SlidesExporter.language_code = "es"
    notebook = presentation(nbformat.read(path, as_version=4))
    resources = {
        "course_css": (PARTS / "deck.css").read_text("utf-8"),
        "course_js": (PARTS / "deck.js").read_text("utf-8"),
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
    from playwright.sync_api import sync_playwright

    from .chromium import FLAGS, find_chromium

    path = find_chromium()
    if path is None:
        raise SystemExit(
            "El PDF se imprime con Chromium y no lo encuentro.\nQué hacer: "
            "python -m tools.chromium --install"
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


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("notebooks", nargs="*", type=Path)
    arguments.add_argument("--pdf", action="store_true")
    options = arguments.parse_args()
    source, links = reveal(), []
    for part in PARTS_OF_REVEAL:
        target = OUT / "reveal.js" / part
        shutil.copytree(source / part, target, dirs_exist_ok=True)
    paths = options.notebooks or notebooks("notebooks")
    for path in tqdm(paths, desc="Diapositivas"):
        html = convert(path)
        if options.pdf:
            print_pdf(html)
        name = nbformat.read(path, 4).cells[0].source.splitlines()[0]
        links.append(f'<li><a href="{html.name}">{name.strip("# ")}</a></li>')
    index = PAGE.format("\n".join(links))
    (OUT / "index.html").write_text(index, encoding="utf-8")
    print(f"Ábrelas desde {OUT.relative_to(ROOT)}/index.html")


if __name__ == "__main__":
    main()
