#!/usr/bin/env python3
"""Ortografía de la prosa, con aspell en español y un diccionario propio.

    python tools/spelling.py [--nuevas]

Mira los textos de cuadernos, soluciones, README y docs; salta código, enlaces,
HTML y palabras en cursiva (las que van en inglés). Sale con 1 si hay palabras
desconocidas y con 3 si no hay aspell. Las admitidas: tests/ortografia.txt; con
--nuevas, imprime solo las palabras, una por línea, para añadirlas.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ROOT / "tests" / "ortografia.txt"
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|<[^>]+>|\]\([^)]*\)|https?://\S+|\[!\[.*?\]\(.*?\)"
    r"|(?<![*\w])\*[^*\n]+\*(?![*\w])|\S*[\d_@/=\\^]\S*",
    re.S,
)


def prose() -> dict[str, str]:
    """Dónde → el texto en español que hay ahí."""
    texts = {}
    for folder in ("notebooks", "solutions"):
        for path in sorted((ROOT / folder).glob("*.ipynb")):
            cells = nbformat.read(path, as_version=4).cells
            texts[f"{folder}/{path.name}"] = "\n".join(
                cell.source for cell in cells if cell.cell_type == "markdown"
            )
    readme = (ROOT / "README.md").read_text("utf-8")
    texts["README.md"] = readme.partition("`make lab`.*")[2]  # tras el inglés
    for path in sorted((ROOT / "docs").glob("*.md")):
        texts[f"docs/{path.name}"] = path.read_text("utf-8")
    return texts


def unknown(text: str, allowed: set[str]) -> list[str]:
    """Palabras que aspell no conoce, en orden y sin repetir."""
    words = subprocess.run(
        ["aspell", "list", "--lang=es", "--encoding=utf-8"],
        input=NOT_PROSE.sub(" ", text),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    found = dict.fromkeys(
        w for w in words if w.lower() not in allowed and not w.isupper()
    )
    return list(found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nuevas", action="store_true")
    options = parser.parse_args()
    if shutil.which("aspell") is None:
        print("Sin aspell: en Debian y Ubuntu, apt install aspell aspell-es.")
        return 3
    allowed = set()
    if ALLOWED.exists():
        allowed = set(ALLOWED.read_text("utf-8").lower().split())
    wrong = {}
    for place, text in prose().items():
        for word in unknown(text, allowed):
            wrong.setdefault(word, place)
    if options.nuevas:
        print("\n".join(sorted({w.lower() for w in wrong})))
        return 0
    for word, place in wrong.items():
        print(f"{place}: {word}")
    print(f"{len(wrong)} palabra(s) desconocida(s).")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
