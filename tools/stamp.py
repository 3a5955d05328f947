"""Pone al día lo que cada cuaderno lleva generado: insignia, celda de
preparación y enlaces.

    python -m tools.stamp [--repo dueño/nombre]

El repositorio está escrito en un solo sitio, `[project.urls]` de
pyproject.toml, y la versión en otro, `tokenatoken/__init__.py`; la etiqueta
es «v» + versión. De ahí salen la celda de preparación (esta plantilla, igual
en todos los cuadernos), todas las insignias de Colab y los enlaces del final.
"""

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

from . import ROOT, notebooks, parser

FOLDERS = "notebooks", "solutions"  # labs/ sale de solutions/
SETUP = """\
# @title Preparación: ejecuta esta celda primero
import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

REPO, TAG = "{repo}", "{tag}"
COLAB = Path("/content/token-a-token")
if "google.colab" in sys.modules and not COLAB.exists():
    clone = ["git", "clone", "-q", "--depth=1", f"--branch={{TAG}}"]
    clone += ["-c", "advice.detachedHead=false", f"https://github.com/{{REPO}}"]
    if subprocess.run([*clone, str(COLAB)]).returncode:
        raise RuntimeError(f"No pude copiar {{REPO}} ({{TAG}}). ¿Hay red?")
places = [COLAB, Path.cwd(), *Path.cwd().parents]
root = next((p for p in places if (p / "tokenatoken").is_dir()), None)
if root is None:
    raise RuntimeError("Abre el cuaderno dentro de la carpeta del curso.")
sys.path.insert(0, str(root))
there = importlib.util.find_spec("transformers")
have = version("transformers") if there else "0.0"
if tuple(map(int, have.split(".")[:2])) < {needs}:
    raise RuntimeError(
        f"Este entorno trae transformers {{have}} y el curso necesita {wanted} o"
        " posterior: en Colab, Entorno de ejecución → Cambiar tipo de entorno"
        " de ejecución → Versión: la más reciente; en tu equipo, make lab."
    )
if importlib.util.find_spec("gguf") is None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    if subprocess.run([*pip, "gguf>=0.17,<1"]).returncode:
        raise RuntimeError("No pude instalar gguf. ¿Hay red?")
print("Entorno preparado.")"""
COLAB = "https://colab.research.google.com"
OPEN = COLAB + "/github/{repo}/blob/{tag}/{path}"
BADGE = f"[![Abrir en Colab]({COLAB}/assets/colab-badge.svg)]({OPEN})"
LINKS = "enlaces"  # el id de la última celda
ANY_BADGE = re.compile(r"^(?:INSIGNIA|\[!\[Abrir en Colab\].*)$", re.M)
ANY_TARGET = re.compile(
    r"(colab\.research\.google\.com/github/)[^/]+/[^/]+/blob/[^/]+/"
)
ANY_CLONE = re.compile(r"git clone https://github\.com/\S+ && cd \S+")


def repository() -> str:
    """«dueño/nombre», leído de pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(
        r'^Repository = "https://github\.com/([^"]+)"', text, re.M
    )[1]


def tag() -> str:
    """La etiqueta que abren las insignias: «v» + versión del ayudante."""
    text = (ROOT / "tokenatoken" / "__init__.py").read_text(encoding="utf-8")
    return "v" + re.search(r'^__version__ = "([^"]+)"', text, re.M)[1]


def set_repository(repo: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise SystemExit(f"REPO={repo!r} no tiene la forma dueño/nombre.")
    path = ROOT / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    new = f'Repository = "https://github.com/{repo}"'
    path.write_text(
        re.sub(r"^Repository = .*$", new, text, flags=re.M), "utf-8"
    )


def minimum() -> str:
    """La versión de transformers más vieja que admite requirements.txt."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return re.search(r"^transformers>=([\d.]+)", text, re.M)[1]


def setup(repo: str, version: str) -> str:
    """El código de la celda de preparación."""
    wanted = minimum()
    needs = tuple(map(int, wanted.split(".")[:2]))
    return SETUP.format(repo=repo, tag=version, needs=needs, wanted=wanted)


def neighbours(name: str) -> list[tuple[str, str]]:
    """`(cómo se llama, dónde está)` de lo que se abre después de `name`."""
    units = [path.name for path in notebooks("notebooks")]
    place = units.index(name)
    found = [(f"unidad {name[:2]}", f"notebooks/{name}")]
    found += [
        ("laboratorio", f"labs/{name}"),
        ("solución", f"solutions/{name}"),
    ]
    if place:
        before = units[place - 1]
        found.insert(0, (f"← unidad {before[:2]}", f"notebooks/{before}"))
    for after in units[place + 1 : place + 2]:
        found.append((f"unidad {after[:2]} →", f"notebooks/{after}"))
    return found


def links(name: str, repo: str, version: str) -> str:
    """Los enlaces del final, iguales en la unidad, su laboratorio y su
    solución: los del equipo, y los de Colab, donde esos no llevan a nada."""
    rows = []
    for title, address in (("En tu equipo", "../{path}"), ("En Colab", OPEN)):
        each = (
            f"[{label}]({address.format(repo=repo, tag=version, path=path)})"
            for label, path in neighbours(name)
        )
        rows.append(f"**{title}:** {' · '.join(each)}")
    return "  \n".join(rows)


def stamp_notebook(text: str, path: str, repo: str, version: str) -> str:
    """El cuaderno con su insignia, su preparación y sus enlaces al día."""
    notebook = nbformat.reads(text, as_version=4)
    badge = BADGE.format(repo=repo, tag=version, path=path)
    first, last = notebook.cells[0], notebook.cells[-1]
    first.source = ANY_BADGE.sub(lambda _: badge, first.source)
    for cell in notebook.cells:
        if "preparacion" in cell.metadata.get("tags", []):
            cell.source = setup(repo, version)
            cell.metadata["cellView"] = "form"  # plegada en Colab
            cell.metadata["jupyter"] = {"source_hidden": True}  # y aquí
    if last.id != LINKS:
        last = new_markdown_cell(id=LINKS)
        last.metadata["slideshow"] = {"slide_type": "skip"}
        notebook.cells.append(last)
    last.source = links(Path(path).name, repo, version)
    return nbformat.writes(notebook) + "\n"


def stamped() -> dict[Path, str]:
    """Cada archivo con sello y el contenido que debería tener."""
    repo, version = repository(), tag()
    result = {}
    for path in notebooks(*FOLDERS):
        text = path.read_text(encoding="utf-8")
        name = f"{path.parent.name}/{path.name}"
        result[path] = stamp_notebook(text, name, repo, version)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    text = ANY_TARGET.sub(rf"\g<1>{repo}/blob/{version}/", text)
    clone = f"git clone https://github.com/{repo} && cd {repo.split('/')[1]}"
    result[readme] = ANY_CLONE.sub(clone, text)
    return result


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--repo", help="dueño/nombre en GitHub")
    repo = options.parse_args().repo
    if repo:
        set_repository(repo)
    for path, text in stamped().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print("sellado", path.relative_to(ROOT))


if __name__ == "__main__":
    main()
