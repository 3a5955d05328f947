"""Ortografía de lo que se lee, con aspell en español y un diccionario propio.

    python -m tools.spelling [--new]

Mira los textos de cuadernos, soluciones, README y docs, y los mensajes y
pistas del ayudante (las cadenas en español de tokenatoken/); salta código,
enlaces, HTML y palabras en cursiva (las que van en inglés). Sale con 1 si hay
palabras desconocidas y con 3 si no hay aspell. Las admitidas:
tests/ortografia.txt; con --new, imprime solo las palabras, una por línea,
para añadirlas.
"""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from . import ROOT, notebooks, parser

ALLOWED = ROOT / "tests" / "ortografia.txt"
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|<[^>]+>|\]\([^)]*\)|https?://\S+|\[!\[.*?\]\(.*?\)"
    r"|(?<![*\w])\*[^*\n]+\*(?![*\w])|\S*[\d_@/=\\^]\S*",
    re.S,
)
# Lo que un mensaje nombra tal como se escribe en Python.
CODE = re.compile(
    r"\{[^}]*\}|\w*[A-Z]\w*[A-Z]\w*|[\w.]+\([^()]*\)|\w+(?:\.\w+)+|\[[^]]*\]"
)


def messages(path: Path) -> str:
    """Las frases de un módulo: sus cadenas de veinte letras o más, menos
    docstrings. De una f-string, lo fijo, junto."""
    tree = ast.parse(path.read_text("utf-8"))
    skip = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    found = []
    for node in ast.walk(tree):  # una f-string llega antes que sus trozos
        pieces = getattr(node, "values", [node])
        if isinstance(node, ast.JoinedStr | ast.Constant):
            fixed = [p.value for p in pieces if isinstance(p, ast.Constant)]
            if id(node) not in skip and all(type(x) is str for x in fixed):
                found.append(" ".join(fixed))
            skip |= {id(piece) for piece in pieces}
    phrases = (s for s in found if re.search(r"\w \w", s) and len(s) > 19)
    return "\n".join(CODE.sub(" ", s) for s in phrases)


def prose() -> dict[str, str]:
    """Dónde → el texto en español que hay ahí."""
    texts = {}
    for path in notebooks("notebooks", "solutions"):
        cells = nbformat.read(path, as_version=4).cells
        texts[f"{path.parent.name}/{path.name}"] = "\n".join(
            cell.source for cell in cells if cell.cell_type == "markdown"
        )
    readme = (ROOT / "README.md").read_text("utf-8")
    texts["README.md"] = readme.partition("`make lab`.*")[2]  # tras el inglés
    for path in sorted((ROOT / "docs").glob("*.md")):
        texts[f"docs/{path.name}"] = path.read_text("utf-8")
    for path in sorted((ROOT / "tokenatoken").rglob("*.py")):
        if path.parent.name == "show":  # HTML y SVG: no hay frases
            continue
        texts[str(path.relative_to(ROOT))] = messages(path)
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


def mistakes() -> dict[str, str]:
    """Palabra desconocida → el primer sitio en que aparece."""
    allowed = set(ALLOWED.read_text("utf-8").lower().split())
    wrong = {}
    for place, text in prose().items():
        for word in unknown(text, allowed):
            wrong.setdefault(word, place)
    return wrong


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--new", action="store_true")
    only_words = options.parse_args().new
    if shutil.which("aspell") is None:
        print("Sin aspell: en Debian y Ubuntu, apt install aspell aspell-es.")
        return 3
    wrong = mistakes()
    if only_words:
        print("\n".join(sorted({w.lower() for w in wrong})))
        return 0
    for word, place in wrong.items():
        print(f"{place}: {word}")
    print(f"{len(wrong)} palabra(s) desconocida(s).")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
