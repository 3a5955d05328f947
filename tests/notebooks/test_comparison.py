"""La comparación de salidas, puesta a prueba: cada trampa tiene que dar rojo.

Ejecuta un cuaderno pequeño, lo estropea de varias maneras y pasa nbval por
todas las copias de una vez. Sin esta prueba, un cambio en el complemento
podría dejar pasar cualquier cosa sin que nadie lo notara.
"""

import copy
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.nbval_tolerance import STATES, same_data, same_text
from tools import execute

ROOT = Path(__file__).resolve().parents[2]

CELLS = [
    "import sys; sys.path.insert(0, {root!r})\nfrom tokenatoken import show",
    "print('tokens:', 16)\nprint('masa', 0.123456)",
    "show.line([1, 2, 3], [5, 9, 2], 'Una curva', 'Equis', 'Y griega')",
    "import pandas as pd; pd.DataFrame({{'p': [0.25, 0.75]}})",
    "import time; print(f'{{time.perf_counter() % 7:.2f}} s')",
    "show.line([1, 2], [time.perf_counter() % 7, 3], 'Reloj', 'x', 'y', 2)",
    "for n in (16, 55, 256):\n"
    "    print(f'{{n:4}} delante: {{time.perf_counter() % 7:.1f}} ms')\n"
    "print('Ya está')",
    "show.curves([1, 2, 3], {{'sin': [1, time.perf_counter(), 9], 'uno':"
    " [1, 1, 1]}}, 'Curva', 'x', 'y', decimals=1)",
    "pd.DataFrame({{'ms': [time.perf_counter() % 7]}}, index=['con caché'])",
    "explorer = show.cost_explorer(0.01, 0.2)",
]
CLOCKS = range(5, 9)  # las celdas que llevan la etiqueta «cronometro»


def picture_cell(notebook):
    return next(c for c in notebook.cells if c.source.startswith("show.line"))


def set_text(notebook, old, new):
    cell = next(
        c for c in notebook.cells if c.source.startswith("print('tokens")
    )
    assert old in cell.outputs[0].text
    cell.outputs[0].text = cell.outputs[0].text.replace(old, new)


def other_picture(notebook):
    from tokenatoken import show

    other = show.line([1, 2, 3], [1, 1, 9], "Otra", "Equis", "Y griega")
    cell = picture_cell(notebook)
    cell.outputs[0].data["image/png"] = other.bundle()["image/png"]


def broken_picture(notebook):
    picture_cell(notebook).outputs[0].data["image/png"] = "AAAA"


def figure_number(notebook):
    data = picture_cell(notebook).outputs[0].data
    data["text/plain"] = data["text/plain"].replace("2 → 9", "2 → 8")


def table_number(notebook):
    data = notebook.cells[3].outputs[0].data
    data["text/html"] = data["text/html"].replace("0.75", "0.76")


def clock_cell(notebook):
    return notebook.cells[5].outputs[0].data


def clock_word(notebook):
    data = clock_cell(notebook)
    data["text/plain"] = data["text/plain"].replace("Reloj", "Relojes")


def clock_sign(notebook):
    data = clock_cell(notebook)
    data["text/plain"] = data["text/plain"].replace("1 → ", "1 → -")


def rows(old, new):
    """Cambia los renglones de las filas medidas."""

    def tamper(notebook):
        output = notebook.cells[6].outputs[0]
        changed = re.sub(old, new, output.text)
        assert changed != output.text
        output.text = changed

    return tamper


def points(old, new):
    """Cambia los puntos de la curva medida, en sus dos textos."""

    def tamper(notebook):
        data = notebook.cells[7].outputs[0].data
        for key in ("text/plain", "text/html"):
            if key in data:
                changed = re.sub(old, new, data[key])
                assert changed != data[key]
                data[key] = changed

    return tamper


def clock_table(old, new):
    def tamper(notebook):
        data = notebook.cells[8].outputs[0].data
        for key in ("text/plain", "text/html"):
            assert old in data[key]
            data[key] = data[key].replace(old, new)

    return tamper


def states(name, value):
    """Cambia un dato de los que publica el explorador."""

    def tamper(notebook):
        notebook.cells[9].outputs[0].data[STATES][name] = value

    return tamper


def unrun(notebook):
    notebook.cells[1].outputs, notebook.cells[1].execution_count = [], None


GOOD = {
    "intacto": lambda nb: None,
    "última cifra de un decimal": lambda nb: set_text(
        nb, "0.123456", "0.123457"
    ),
    "otras cifras en un cronómetro": lambda nb: clock_cell(nb).update(
        {"text/plain": re.sub(r"\d+,\d+", "8,8", clock_cell(nb)["text/plain"])}
    ),
    "una fila de menos": rows(" 256 .*\n", ""),
    "una fila de más": rows("Ya", "1024 delante: 9.9 ms\nYa"),
    "un punto de menos": points(", 3 → [\\d,]+", ""),
    "un dato casi igual": states("tpot", 0.2001),
    "un punto de más": points("3 → ([\\d,]+)", r"3 → \1, 4 → 7,0"),
}
BAD = {
    "una cifra entera": lambda nb: set_text(nb, "16", "17"),
    "un decimal": lambda nb: set_text(nb, "0.123456", "0.133456"),
    "una palabra": lambda nb: set_text(nb, "masa", "mesa"),
    "salida borrada": lambda nb: nb.cells[1].update(outputs=[]),
    "celda sin ejecutar": unrun,
    "otra imagen": other_picture,
    "imagen rota": broken_picture,
    "imagen borrada": lambda nb: (
        picture_cell(nb).outputs[0].data.pop("image/png")
    ),
    "cifra de una figura": figure_number,
    "cifra de una tabla": table_number,
    "palabra de un cronómetro": clock_word,
    "signo de un cronómetro": clock_sign,
    "imagen de un cronómetro": lambda nb: clock_cell(nb).pop("image/png"),
    "palabra de una fila medida": rows("256 delante", "256 detrás"),
    "unidad de una fila medida": rows("(256 .*) ms", r"\1 s"),
    "signo de una fila medida": rows("256 delante: ", "256 delante: -"),
    "columna de una fila medida": rows("(256 .*)", r"\1 y 3"),
    "ninguna fila medida": rows("(?s)  16.*(?=Ya)", ""),
    "otra excusa": rows(" 256 .*", " 256 delante: no me apetece"),
    "un renglón sin cifra de menos": rows("Ya está\n", ""),
    "el nombre de una curva": points("sin: ", "con: "),
    "un punto sin flecha": points("3 → ", "3 y "),
    "ningún punto": points("1 → .*3 → [\\d,]+", ""),
    "un dato de un explorador": states("tpot", 0.3),
    "la clase de un explorador": states("kind", "otra"),
    "la fila de una tabla medida": clock_table("con caché", "sin caché"),
    "la columna de una tabla medida": clock_table("ms", "s"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Nombre de cada copia → True si nbval la dio por buena."""
    folder = tmp_path_factory.mktemp("trampas")
    clean = new_notebook(
        cells=[new_code_cell(c.format(root=str(ROOT))) for c in CELLS]
    )
    for i in CLOCKS:
        clean.cells[i].metadata["tags"] = ["cronometro"]
    execute.run(clean, folder)
    names = {}
    for i, (name, tamper) in enumerate({**GOOD, **BAD}.items()):
        notebook = copy.deepcopy(clean)
        tamper(notebook)
        nbformat.write(notebook, folder / f"copia{i:02}.ipynb")
        names[f"copia{i:02}.ipynb"] = name
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.nbval_tolerance",
    ]
    command += ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    command += [
        "--nbval-sanitize-with",
        "tests/nbval_sanitize.cfg",
        str(folder),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "passed" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    failed = set(re.findall(r"FAILED \S*(copia\d\d\.ipynb)", done.stdout))
    return {name: file not in failed for file, name in names.items()}


@pytest.mark.parametrize("name", GOOD)
def test_accepts(results, name):
    assert results[name], f"«{name}» debería pasar"


@pytest.mark.parametrize("name", BAD)
def test_rejects(results, name):
    assert not results[name], f"«{name}» pasa por bueno"


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("p 0.12345679", "p 0.12345681", True),
        ("1,63 tokens", "1,63 tokens", True),
        ("1,630 tokens", "1,631 tokens", True),
        ("1,63 tokens", "1,64 tokens", False),
        ("22,4 %", "22,5 %", False),
        ("6e-07", "6e-07", True),
        ("6e-07", "7e-07", False),
        ("n = 1000001", "n = 1000000", False),
        ("[15, 16]", "[15, 17]", False),
        ("-0.5", "0.5", False),
        ("a 0.5", "b 0.5", False),
        ("0.5 0.5", "0.5", False),
        ("x1", "x2", False),
        ("16", "16.0", False),
    ],
)
def test_tolerance(a, b, same):
    assert same_text(a, b) is same


@pytest.mark.parametrize(
    "a, b, same",
    [
        ({"percent": [[10, 3]]}, {"percent": [[11, 3]]}, True),
        ({"percent": [[10, 3]]}, {"percent": [[12, 3]]}, False),
        ({"counts": [4441]}, {"counts": [4442]}, True),
        ({"counts": [4441]}, {"counts": [4450]}, False),
        ({"nucleus": 20_113}, {"nucleus": 20_120}, True),
        ({"nucleus": 12}, {"nucleus": 15}, False),
        ({"ids": [10, 3]}, {"ids": [11, 3]}, False),
        ({"p": [0.123]}, {"p": [0.124]}, True),
        ({"p": [0.123]}, {"p": [0.129]}, False),
        ({"p": [0.1]}, {"p": [0.1, 0.2]}, False),
        ({"p": 0.1}, {"q": 0.1}, False),
        ({"p": 0.5}, {"p": "0.5"}, False),
        ({"p": 0.5}, {"p": None}, False),
    ],
)
def test_tolerance_of_the_states(a, b, same):
    assert same_data(a, b) is same


def test_executing_twice_writes_the_same_bytes(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("print(1)\nprint(2)")])
    notebook.cells[0].id = "a"
    texts = []
    for _ in range(2):
        execute.save(execute.run(notebook, tmp_path), tmp_path / "x.ipynb")
        texts.append((tmp_path / "x.ipynb").read_bytes())
    assert texts[0] == texts[1]
