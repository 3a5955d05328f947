"""Cuántas celdas se comparan de verdad, y cuántas solo en parte.

    python -m tools.report

Por carpeta: comparadas enteras; con algo saneado (tests/nbval_sanitize.cfg:
duraciones, entorno, líneas de «En este equipo»); cronómetros (se compara la
forma y no las cifras), e ignoradas. Sale con 1 si se pasa del presupuesto.
"""

import re
import sys

import nbformat

from . import ROOT, notebooks

# Lo más que se admite, sumando cuadernos y soluciones. Súbelo con un motivo (el
# último, las unidades 06 y 07: lo que cuesta guardar un token, y un forward
# corto, en cifras y en figura).
BUDGET = {"saneadas": 28, "cronómetros": 35, "ignoradas": 0}


def patterns() -> list[re.Pattern]:
    text = (ROOT / "tests" / "nbval_sanitize.cfg").read_text("utf-8")
    found = re.findall(r"^regex: (.+)$", text, re.M)
    return [re.compile(pattern, re.M) for pattern in found]


def kind(cell, rules) -> str:
    """De qué manera se compara la salida de una celda de código."""
    tags = set(cell.metadata.get("tags", []))
    if tags & {"nbval-ignore-output", "nbval-skip"}:
        return "ignoradas"
    if "cronometro" in tags:
        return "cronómetros"
    text = "\n".join(
        str(output.get("text", "")) + str(output.get("data", {}).get(key, ""))
        for output in cell.get("outputs", [])
        for key in ("text/plain", "text/html")
    )
    return "saneadas" if any(r.search(text) for r in rules) else "enteras"


def count() -> dict[str, dict[str, int]]:
    """Carpeta → manera de comparar → número de celdas de código."""
    rules, result = patterns(), {}
    for folder in ("notebooks", "solutions"):
        row = dict.fromkeys(("enteras", *BUDGET), 0)
        for path in notebooks(folder):
            for cell in nbformat.read(path, as_version=4).cells:
                if cell.cell_type == "code":
                    row[kind(cell, rules)] += 1
        result[folder] = row
    return result


def over_budget(counts: dict) -> list[str]:
    """Lo que se pasa, en palabras."""
    total = {k: sum(row[k] for row in counts.values()) for k in BUDGET}
    return [
        f"{name}: {total[name]}, y el presupuesto es {most}"
        for name, most in BUDGET.items()
        if total[name] > most
    ]


def main() -> int:
    counts = count()
    names = ["enteras", *BUDGET]
    print(f"{'celdas comparadas':20}" + "".join(f"{n:>13}" for n in names))
    for folder, row in counts.items():
        print(f"{folder:20}" + "".join(f"{row[n]:>13}" for n in names))
    limits = ["", *(f"≤ {most}" for most in BUDGET.values())]
    print(f"{'presupuesto':20}" + "".join(f"{t:>13}" for t in limits))
    wrong = over_budget(counts)
    print("\n".join(wrong), end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
