"""Enlaza el glosario: cada término con su unidad, y el índice en español.

    python -m tools.glossary

En docs/glosario.md se escribe una fila por término (`| término | en español |
qué es | 05 |`). Esta orden convierte el número en un enlace a su cuaderno,
pone un ancla en cada fila y rehace el índice del final, del español al inglés.
"""

import re
import unicodedata

from . import ROOT, notebooks, parser

PAGE = ROOT / "docs" / "glosario.md"
INDEX = "\n## Del español al inglés\n"
ROW = re.compile(
    r"^\| (?:<a id=\"[^\"]*\"></a>)?(?P<term>.+?) \| (?P<spanish>.+?) \| "
    r"(?P<about>.+) \| \[?(?P<unit>\d\d)(?:\]\([^)]*\))? \|$"
)


def slug(text: str) -> str:
    """Un ancla: letras sin tilde, números y guiones."""
    plain = unicodedata.normalize("NFD", re.sub(r"[`*\\<>|]", "", text))
    plain = plain.encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def linked(text: str) -> str:
    """La página, con sus enlaces y su índice."""
    homes = {path.name[:2]: path.name for path in notebooks("notebooks")}
    lines, index = [], []
    for line in text.split(INDEX)[0].rstrip("\n").split("\n"):
        found = ROW.match(line)
        if found:
            anchor = slug(found["term"])
            home = f"[{found['unit']}](../notebooks/{homes[found['unit']]})"
            line = (
                f'| <a id="{anchor}"></a>{found["term"]} | '
                f"{found['spanish']} | {found['about']} | {home} |"
            )
            index.append((found["spanish"], found["term"], anchor))
        lines.append(line)
    index.sort(key=lambda row: slug(row[0]))  # sin contar tildes
    lines += [INDEX, "| en español | término |", "|---|---|"]
    lines += [f"| {es} | [{term}](#{anchor}) |" for es, term, anchor in index]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser(__doc__).parse_args()
    PAGE.write_text(linked(PAGE.read_text("utf-8")), encoding="utf-8")
    print(f"enlazado {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
