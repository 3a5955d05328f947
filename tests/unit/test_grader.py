"""Corregir una clase: cada entrega en su proceso, y ninguna molesta a otra."""

import contextlib
import csv
import http.server
import io
import json
import threading
import time
from pathlib import Path

import pytest

from tools import ROOT, corregir, grading

SOLUTION = json.loads((ROOT / "solutions" / "01_tokens.ipynb").read_text())
NUMBERS = [f"01.{k}" for k in range(1, 7)]


def cell(source: str, name: str = "nueva", kind: str = "code", **metadata):
    return dict(cell_type=kind, id=name, source=source, metadata=metadata)


def notebook(change=None, extra=()) -> str:
    """La solución de la unidad 01; `change` recibe y da cada celda."""
    content = json.loads(json.dumps(SOLUTION))
    for one in content["cells"]:
        one["source"] = "".join(one["source"])
    cells = map(change or (lambda one: one), content["cells"])
    content["cells"] = [*extra, *(one for one in cells if one)]
    return json.dumps(content)


def instead(words: str, source: str):
    """Cambia por `source` la celda de código con esas palabras."""

    def change(one):
        if one["cell_type"] == "code" and words in one["source"]:
            return one | {"source": source}
        return one

    return change


def limits(seconds=60, memory=6, jail=()):
    model = corregir.prepared_model()
    return corregir.Limits(seconds, memory, [*jail], model)


def graded(tmp_path, text: str, **given) -> tuple[dict, corregir.Row]:
    path = tmp_path / "eva_01_tokens.ipynb"
    path.write_text(text, "utf-8")
    work, row = corregir.Work("eva", path, "01"), corregir.Row()
    corregir.record(row, work, *corregir.run(work, limits(**given)))
    return row.marks, row


# Procesos de verdad


@pytest.fixture(scope="module")
def class_folder(tmp_path_factory):
    """Tres alumnos: uno bien, otro mal y con trampas, y otro sin empezar."""
    folder = tmp_path_factory.mktemp("clase")
    (folder / "Ana Peña").mkdir()
    (folder / "Ana Peña" / "lo mío.ipynb").write_text(notebook(), "utf-8")

    def spoiled(one):
        source = one["source"]
        if one["cell_type"] != "code":
            return one
        if 'check("01.1"' in source:  # borrada
            return None
        if "def cut" in source:
            wrong = "def cut(text, n):\n    return text"
            return one | {"source": wrong + '\ncheck("01.3", 1)'}
        if "def another_way" in source:
            return one | {"source": "1 / 0\n" + source}
        if 'check("01.6"' in source:
            return one | {"source": 'check = print; check("01.6", ...)'}
        return one

    blas = folder / "blas_01_tokens.ipynb"
    blas.write_text(notebook(spoiled), "utf-8")
    (folder / "blas_mi_generador.py").write_text("1 / 0\n", "utf-8")
    (folder / "raro.ipynb").write_text("{", "utf-8")
    (folder / "apuntes.txt").write_text("hola", "utf-8")
    return folder


@pytest.fixture(scope="module")
def whole(class_folder, tmp_path_factory):
    """La clase, corregida: la tabla, lo que se dijo y segundos por entrega."""
    notes = tmp_path_factory.mktemp("tabla") / "notas.csv"
    start, said = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert corregir.main([str(class_folder), "--csv", str(notes)]) == 0
    pace = (time.perf_counter() - start) / 3
    return notes, said.getvalue(), pace


def test_a_class_becomes_a_table(class_folder, whole):
    notes, said, _ = whole
    assert "raro.ipynb: no sé de qué es." in said
    assert "[1/3] Ana Peña · unidad 01: 6 de 6" in said
    assert notes.read_bytes().startswith("\ufeffalumno;".encode())
    with notes.open(encoding="utf-8-sig", newline="") as file:
        rows = {r["alumno"]: r for r in csv.DictReader(file, delimiter=";")}
    ana, blas = rows["Ana Peña"], rows["blas"]
    assert [ana[f"ej. {n}"] for n in NUMBERS] == ["✔"] * 6
    assert (ana["aciertos"], ana["pruebas"]) == ("6", "")
    marks = [blas[f"ej. {n}"] for n in NUMBERS]
    assert marks == ["✔", "no se pudo", "✘", "✔", "✔", "✔"]
    assert (blas["medalla"], blas["pruebas"]) == ("ninguna", "0")
    assert "ZeroDivisionError" in blas["avisos"]
    handed = class_folder / "Ana Peña" / "lo mío.ipynb"
    assert handed.read_text("utf-8") == notebook()


def test_a_loop_costs_one_exercise(tmp_path, whole):
    """Que se puede interrumpir: los demás se corrigen."""
    forever = "def cut(text, n):\n    while True:\n        pass"
    text = notebook(instead("def cut", forever))
    marks, row = graded(tmp_path, text, seconds=4 * whole[2])
    assert marks.pop("01.3") == "no se pudo"
    assert {*marks.values()} == {"✔"} and not row.notes


def test_a_stubborn_loop_keeps_what_was_graded(tmp_path, whole):
    """Que no: se mata el proceso, y queda lo ya corregido."""
    stubborn = (
        "while True:\n    try:\n        sum(range(9))\n"
        "    except BaseException:\n        sum(range(9))"
    )
    text = notebook(instead("def cut", stubborn))
    marks, row = graded(tmp_path, text, seconds=2.5 * whole[2])
    found = [marks[n] for n in NUMBERS]
    assert found == ["✔"] * 2 + ["no se pudo"] * 4
    assert "se acabaron los" in row.notes[0]


@pytest.fixture
def server():
    """Un servidor local que apunta quién llama."""
    calls = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            calls.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    local = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=local.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{local.server_port}/", calls
    local.shutdown()
    local.server_close()


def test_no_network_no_memory_no_foreign_files(tmp_path, server):
    """Lo que se intenta, se apunta en un archivo de la carpeta temporal que
    una respuesta buena necesita que diga «no» tres veces."""
    url, calls = server
    victim = tmp_path / "ajeno.txt"
    victim.write_text("intacto", "utf-8")
    attempts = (
        "denied = []\n"
        "def attempt(action):\n"
        "    try:\n        action()\n"
        "    except (OSError, MemoryError) as error:\n"
        "        denied.append(type(error).__name__)\n"
        "import urllib.request\n"
        f"attempt(lambda: urllib.request.urlopen({url!r}))\n"
        "attempt(lambda: bytearray(7 * 2**30))\n"
        f"attempt(lambda: open({str(victim)!r}, 'w').write('roto'))\n"
        "open('aquí sí.txt', 'w').write('bien')\n"
    )
    proof = (
        "def cut(text, n, good=cut):\n"
        "    return good(text, n) if len(denied) == 3 else text\n"
        'check("01.3", cut)'
    )
    change = instead('check("01.3"', proof)
    text = notebook(change, extra=[cell(attempts)])
    marks, _ = graded(tmp_path, text, memory=6)
    assert {*marks.values()} == {"✔"}
    assert calls == [] and victim.read_text("utf-8") == "intacto"


# Sin procesos


def sources(steps):
    return [code for _, code in steps]


def plan(theirs: list[str], ours: list[str]):
    def cells(sources):
        return [(cell(s, name=s[:3]), s) for s in sources]

    return grading.plan(cells(theirs), cells(ours))


def test_our_checks_run_where_theirs_were():
    ours = ["a=1", 'check("01.1", a)', "b=1", 'check("01.2", b)']
    theirs = ["a=2", 'check("01.1", 5)', "b=2", "c=3", 'check("01.2")']
    assert sources(plan(theirs, ours)) == [
        *("a=2", "", 'check("01.1", a)', "b=2", "c=3", ""),
        'check("01.2", b)',
    ]


def test_a_deleted_check_follows_its_cell():
    ours = ["a=1", 'check("01.1", a)', "b=1", 'check("01.2", b)']
    assert sources(plan(["a=1", "x=0", "b=1"], ours)) == [
        *("a=1", 'check("01.1", a)', "x=0", "b=1", 'check("01.2", b)')
    ]
    assert sources(plan(["nada"], ours)) == [
        *("nada", 'check("01.1", a)', 'check("01.2", b)')
    ]


def test_code_beside_a_check_is_kept():
    ours = ["a=1", 'check("01.1", a)']
    steps = plan(['def a(): pass\ncheck("01.1", 7)'], ours)
    assert sources(steps) == ["def a():\n    pass", 'check("01.1", a)']


def test_the_preparation_is_ours():
    prepared = cell("1/0", tags=["preparacion"])
    assert grading.plan([(prepared, "1/0")], []) == []


@pytest.mark.parametrize(
    "path, student",
    [
        ("perez_12_muchas_a_la_vez.ipynb", "perez"),
        ("de_la_o_01_tokens.ipynb", "de_la_o"),
        ("perez_mi_generador.py", "perez"),
        ("Ana/lab.ipynb", "Ana"),
        ("Ana/dentro/lab.ipynb", "Ana"),
        ("suelto.ipynb", "suelto"),
    ],
)
def test_whose_it_is(path, student):
    assert corregir.student_of(Path("/c") / path, Path("/c")) == student


def test_the_unit_is_in_the_checks_or_in_the_name(tmp_path):
    path = tmp_path / "eva_03_softmax.ipynb"
    path.write_text(json.dumps({"cells": [cell("x = 1")]}), "utf-8")
    assert corregir.unit_of(path) == "03"
    path.write_text(json.dumps({"cells": [cell('check("12.3", x)')]}), "utf-8")
    assert corregir.unit_of(path) == "12"
    path.write_text("[1]", "utf-8")
    assert corregir.unit_of(path) == "03"
    other = tmp_path / "lista.ipynb"
    other.write_text("no es JSON", "utf-8")
    assert corregir.unit_of(other) is None


def book(*sources: str) -> str:
    return json.dumps({"cells": [cell(s) for s in sources]})


@pytest.mark.parametrize(
    "text, words",
    [
        ("no es JSON", "no es un cuaderno"),
        ("[1]", "no es un cuaderno"),
        (book('check("01.1", 5)', "def f(:"), "la celda 2 falla: SyntaxError"),
        (book('check("3.1", 5)'), "no existen: 3.1"),
        (book("%time x = 1", "!ls", "x?"), ""),
        ("\ufeff" + book('check("01.1", 5)'), ""),
    ],
)
def test_what_is_wrong_in_a_notebook_is_told(tmp_path, text, words):
    path = tmp_path / "eva_01_tokens.ipynb"
    path.write_text(text, "utf-8")
    said = "; ".join(corregir.trouble_in(path))
    assert words in said if words else not said
    row, work = corregir.Row(), corregir.Work("eva", path, "01")
    if "cuaderno" in words:
        corregir.grade_one(row, work, None)
        assert words in row.notes[0] and len(row.notes) == 1
        assert {*row.marks.values()} == {"no se pudo"}


def test_a_notebook_of_another_course_has_no_unit(tmp_path):
    path = tmp_path / "otro.ipynb"
    for source in ('check("3.1", 5)', 'check("13.99", 5)'):
        path.write_text(book(source), "utf-8")
        assert corregir.unit_of(path) is None
    found, unknown = corregir.works(tmp_path)
    assert not found and "no existen: 13.99" in unknown[0]


def test_a_marked_notebook_is_read(tmp_path):
    path = tmp_path / "otro.ipynb"
    path.write_text(book('check("12.3", x)'), "utf-8-sig")
    assert corregir.unit_of(path) == "12"


def test_empty_folders_and_repeated_works_are_told(tmp_path, monkeypatch):
    (tmp_path / "Ana").mkdir()
    (tmp_path / "Luis").mkdir()
    for name in ("01_a.ipynb", "01_b.ipynb"):
        (tmp_path / "Ana" / name).write_text(book('check("01.1", 5)'), "utf-8")
    assert corregir.empty_folders(tmp_path) == ["Luis"]
    monkeypatch.setattr(corregir, "run", lambda *_: ([["01.1", True]], ""))
    rows = corregir.grade_class(corregir.works(tmp_path)[0], None)
    assert rows["Ana"].marks["01.1"] == "✔"
    assert rows["Ana"].notes == [
        "01_a.ipynb: hay otro de la unidad 01: cuenta 01_b.ipynb"
    ]


def test_the_table_sorts_by_number_and_defuses_formulas(tmp_path):
    rows = {
        "=1+1": corregir.Row({"12.10": "✔", "12.2": "✘"}, notes=["a", "b"]),
        "zoe": corregir.Row(medal="plata", tests="36"),
    }
    lines = corregir.table(rows)
    assert lines[0][:3] == ["alumno", "ej. 12.2", "ej. 12.10"]
    assert lines[0][-3:] == ["medalla", "pruebas", "avisos"]
    assert lines[1] == ["=1+1", "✘", "✔", "1", "1", "0", "0", "", "", "a; b"]
    path = tmp_path / "n.csv"
    corregir.save(lines, path)
    assert "'=1+1;✘;✔" in path.read_text("utf-8-sig")


def test_a_half_written_line_is_dropped():
    assert corregir.read_tape('["01.1", true]\n["01.') == [["01.1", True]]
    assert corregir.read_tape("") == []


@pytest.mark.parametrize(
    "order, words",
    [
        (["no/existe"], "no es una carpeta"),
        ([".", "--segundos", "0"], "mayores que 0"),
        ([".", "--csv", "no/existe/n.csv"], "No existe la carpeta"),
        (["tests/slow"], "ningún laboratorio"),
    ],
)
def test_bad_orders_are_told_at_once(order, words, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert corregir.main(order) == 2
    assert words in capsys.readouterr().err
