#!/usr/bin/env python3
"""Pone el repositorio y la versión en insignias y celdas de preparación.

    python tools/stamp.py [--repo dueño/nombre]   escribe
    python tools/stamp.py --check                 solo mira; sale con 1 si algo difiere

El repositorio está escrito en un solo sitio, `[project.urls]` de
pyproject.toml, y la versión en otro, `tokenatoken/__init__.py`; la etiqueta
es «v» + versión. De ahí salen la celda de preparación (esta plantilla, igual
en todos los cuadernos) y todas las insignias de Colab.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("notebooks", "solutions")  # labs/ sale de solutions/
SETUP = """\
# Preparación: ejecuta esta celda primero. En tu equipo solo busca el curso.
import importlib.util
import subprocess
import sys
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
if importlib.util.find_spec("gguf") is None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    if subprocess.run([*pip, "gguf>=0.17,<1"]).returncode:
        raise RuntimeError("No pude instalar gguf. ¿Hay red?")
print("Entorno preparado.")"""
BADGE = (
    "[![Abrir en Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repo}/blob/{tag}/{path})"
)
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


def stamp_notebook(text: str, path: str, repo: str, version: str) -> str:
    """El cuaderno con su insignia y su celda de preparación al día."""
    notebook = nbformat.reads(text, as_version=4)
    badge = BADGE.format(repo=repo, tag=version, path=path)
    first = notebook.cells[0]
    first.source = ANY_BADGE.sub(lambda _: badge, first.source)
    for cell in notebook.cells:
        if "preparacion" in cell.metadata.get("tags", []):
            cell.source = SETUP.format(repo=repo, tag=version)
            cell.metadata["cellView"] = "form"  # plegada en Colab
    return nbformat.writes(notebook) + "\n"


def stamped() -> dict[Path, str]:
    """Cada archivo con sello y el contenido que debería tener."""
    repo, version = repository(), tag()
    result = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.ipynb")):
            text = path.read_text(encoding="utf-8")
            name = f"{folder}/{path.name}"
            result[path] = stamp_notebook(text, name, repo, version)
    readme = ROOT / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        text = ANY_TARGET.sub(rf"\g<1>{repo}/blob/{version}/", text)
        clone = (
            f"git clone https://github.com/{repo} && cd {repo.split('/')[1]}"
        )
        result[readme] = ANY_CLONE.sub(clone, text)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repo", help="dueño/nombre en GitHub")
    parser.add_argument("--check", action="store_true", help="no escribe nada")
    options = parser.parse_args()
    if options.repo and not options.check:
        set_repository(options.repo)
    changed = [
        (path, text)
        for path, text in stamped().items()
        if path.read_text(encoding="utf-8") != text
    ]
    for path, text in changed:
        if not options.check:
            path.write_text(text, encoding="utf-8")
        print(
            "difiere" if options.check else "sellado", path.relative_to(ROOT)
        )
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
