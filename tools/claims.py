"""La tabla «Dicho y medido» de todo el curso, sacada de los cuadernos.

    python -m tools.claims

Rehace tokenatoken/data/dicho.json y docs/dicho-y-medido.md. En un cuaderno,
un veredicto se escribe de una de dos maneras: una cita que empieza por
«**Dicho y medido.**» y lleva su veredicto en negrita, o, en la sección «Dicho
y medido», la frase «entre comillas» en negrita (o como título) y después
«**Veredicto: …**». Los veredictos son cuatro: `VERDICTS`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from . import ROOT, as_json, notebooks, parser, save_json

VERDICTS = ("no se puede saber aquí", "verdad si", "verdad", "falso")
SAID = re.compile(
    r"^### («.+)$|^\*\*(«(?:[^*]|(?<!\*)\*[^*]+\*(?!\*))+»)\.?\*\*", re.M
)
JUDGED = re.compile(r"\*\*Veredicto:\s+(.+?)\*\*(.*?)(?=\n\n|\Z)", re.S)
QUOTED = re.compile(r"^> \*\*Dicho y medido\.\*\* (.+)$", re.M)
WORDS = "|".join(f"{w[0].upper()}{w[1:]}" for w in VERDICTS)
BOLD = re.compile(rf"\*\*({WORDS})\*\*")
DATA = ROOT / "tokenatoken" / "data" / "dicho.json"
PAGE = ROOT / "docs" / "dicho-y-medido.md"
HEAD = """# Dicho y medido

Lo que se dice, el veredicto y lo que se midió, de todo el curso. Esta página
sale de los cuadernos con `python -m tools.claims`: no se toca a mano. Cada
unidad es un enlace a su cuaderno, donde están la celda y las condiciones.
"""


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def kind_of(words: str) -> str:
    """El veredicto con que empieza un texto; `ValueError` si no es ninguno."""
    words = one_line(words).lower()
    for verdict in VERDICTS:
        if words.startswith(verdict):
            return verdict
    raise ValueError(f"«{words}» no es un veredicto: {', '.join(VERDICTS)}")


def quoted(text: str) -> Iterator[tuple[str, str, str]]:
    """`(dicho, veredicto, medido)` de cada cita de una celda."""
    for found in QUOTED.findall(text):
        said, verdict, rest = BOLD.split(found, maxsplit=1)
        yield said, kind_of(verdict), rest


def judged(cells: list[str]) -> Iterator[tuple[str, str, str]]:
    """Lo mismo, de la sección «Dicho y medido»: cada veredicto es de la última
    frase citada antes que él; una frase sin el suyo es un error."""
    text = "\n\n".join(cells)
    marks = [(m.start(), m) for p in (SAID, JUDGED) for m in p.finditer(text)]
    said = None
    for _, found in sorted(marks, key=lambda pair: pair[0]):
        if found.re is SAID:
            if said:
                raise ValueError(f"sin veredicto: {said}")
            said = found[1] or found[2]
        elif said:
            verdict = kind_of(found[1])
            tail = one_line(found[1])[len(verdict) :] + found[2]
            yield said, verdict, tail
            said = None
    if said:
        raise ValueError(f"sin veredicto: {said}")


def claims_of(path: Path) -> list[dict]:
    """Las afirmaciones de un cuaderno, en orden."""
    section, rows, inside = "", [], []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "markdown":
            continue
        for heading in re.findall(r"^## (.+)$", cell.source, re.M):
            section = heading
        if section == "Dicho y medido":
            inside.append(cell.source)
        rows += [(section, *row) for row in quoted(cell.source)]
    try:
        rows += [("Dicho y medido", *row) for row in judged(inside)]
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return [
        {
            "unit": path.name[:2],
            "notebook": path.name,
            "section": section,
            "said": one_line(said).rstrip(". "),
            "verdict": verdict,
            **dict(zip(("whole", "measured"), cut(verdict, rest))),
        }
        for section, said, verdict, rest in rows
    ]


def cut(verdict: str, rest: str) -> tuple[str, str]:
    """El veredicto con su condición («falso como constante») y lo medido."""
    rest = one_line(rest)
    more, measured = "", rest
    if rest[:1] not in ".,:;":  # la frase del veredicto sigue
        more, *tail = re.split(r"[.:] ", rest, maxsplit=1)
        measured = "".join(tail)
    measured = measured.strip(".,:; ") + "."
    whole = f"{verdict} {more}".strip(" .")
    return whole, measured[:1].upper() + measured[1:]


def every_claim() -> list[dict]:
    return [row for path in notebooks("notebooks") for row in claims_of(path)]


def page(rows: list[dict]) -> str:
    lines = [HEAD, "| unidad | dicho | veredicto | medido |"]
    lines.append("|---|---|---|---|")
    for row in rows:
        said, measured = (
            row[k].replace("|", "\\|") for k in ("said", "measured")
        )
        link = f"[{row['unit']}](../notebooks/{row['notebook']})"
        lines.append(f"| {link} | {said} | {row['whole']} | {measured} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser(__doc__).parse_args()
    rows = every_claim()
    save_json(DATA, rows)
    PAGE.write_text(page(rows), encoding="utf-8")
    print(f"{len(rows)} afirmaciones")


def drift() -> list[Path]:
    """Lo que ya no es lo que sale de los cuadernos."""
    rows = every_claim()
    pairs = {DATA: as_json(rows), PAGE: page(rows)}
    return [p for p, t in pairs.items() if p.read_text("utf-8") != t]


if __name__ == "__main__":
    main()
