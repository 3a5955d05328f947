"""Corrige los laboratorios y proyectos de una clase y los deja en una tabla.

    python -m tools.corregir carpeta/ [--csv notas.csv] [--segundos 120]
                             [--memoria 6]

Una subcarpeta por alumno, o archivos sueltos que empiecen por su nombre:
`perez_12_muchas_a_la_vez.ipynb`, `perez_mi_generador.py`. De qué laboratorio
es cada cuaderno se ve en los números de sus celdas de corrección. En la tabla,
una fila por alumno y una columna por ejercicio; el CSV se abre en una hoja de
cálculo en español. Si el modelo no está preparado, primero se prepara.

De qué no protege. Cada entrega corre en un proceso suyo, en una carpeta
temporal, con tiempo y memoria contados, sin red y sin poder escribir fuera de
ella, y se corrige con las celdas del curso, no con las suyas. Eso basta para
los accidentes y los descuidos, no para quien quiera hacer daño o trampas: el
código corre con tu usuario y puede leer tus archivos, lanzar otros programas
(que sí escriben donde tú, y solo se quedan sin red si `unshare` funciona) y
cambiar, dentro de su proceso, el propio corrector. De clases que no conoces, corrige en un
contenedor o en una cuenta sin nada tuyo, y mira el código de quien te extrañe.
"""

import ast
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from . import ROOT, notebooks, parser
from .grading import code_cells, number_of

MARKS = {True: "✔", False: "✘", None: "pendiente", "no se pudo": "no se pudo"}
KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "XDG_CACHE_HOME",
    "SYSTEMROOT",
    "USERPROFILE",
    "OMP_NUM_THREADS",
)
KEPT += ("CURSO_LLM_MODELO", "CURSO_LLM_CACHE", "LD_LIBRARY_PATH")
PROJECT = "mi_generador"


@dataclass
class Work:
    """Una entrega. `unit`: la del laboratorio, «12»; del proyecto, None."""

    student: str
    file: Path
    unit: str | None


@dataclass
class Row:
    """Lo que se sabe de un alumno: ejercicio → veredicto, y avisos."""

    marks: dict[str, str] = field(default_factory=dict)
    medal: str = ""
    tests: str = ""
    notes: list[str] = field(default_factory=list)


# Qué hay que corregir


def labs() -> dict[str, Path]:
    """Unidad → su laboratorio sin tocar."""
    return {path.name[:2]: path for path in notebooks("labs")}


def exercises(lab: Path) -> list[str]:
    """Los ejercicios de un laboratorio, en orden."""
    numbers = (number_of(code) for _, code in code_cells(lab))
    return [number for number in numbers if number]


@cache
def all_exercises() -> set[str]:
    """Los números de todas las correcciones del curso."""
    return {number for lab in labs().values() for number in exercises(lab)}


def trouble_in(path: Path) -> list[str]:
    """Lo que se ve mal en un cuaderno sin ejecutarlo."""
    try:
        codes = [code for _, code in code_cells(path)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ["no es un cuaderno que se pueda leer."]
    found, known = [], all_exercises()
    for place, code in enumerate(codes, 1):
        if broken(code):
            found.append(f"la celda {place} falla: SyntaxError")
    numbers = dict.fromkeys(filter(None, map(number_of, codes)))
    if strange := [n for n in numbers if n not in known]:
        found.append(
            f"corrige ejercicios que no existen: {', '.join(strange)}"
        )
    return found


def broken(code: str) -> bool:
    """Si no es Python. Las órdenes de IPython (% y !) valen."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        ast.parse(TransformerManager().transform_cell(code))
    except (SyntaxError, ValueError):
        return True
    return False


def unit_of(path: Path) -> str | None:
    """La unidad de un cuaderno: la que dicen sus correcciones o, si no le
    queda ninguna, su nombre. None si no se sabe."""
    try:
        numbers = [number_of(code) for _, code in code_cells(path)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        numbers = []
    known = all_exercises()
    seen = Counter(n[:2] for n in numbers if n in known)
    named = re.search(r"(?:^|_)(\d\d)_", path.stem)
    if seen:
        return seen.most_common(1)[0][0]
    return named[1] if named and named[1] in labs() else None


def student_of(path: Path, folder: Path) -> str:
    """El nombre del alumno: su subcarpeta, o cómo empieza el archivo."""
    inside = path.relative_to(folder).parts
    if len(inside) > 1:
        return inside[0]
    name = re.fullmatch(rf"(.+?)_(?:\d\d_.*|{PROJECT}.*)", path.stem)
    return name[1] if name else path.stem


def works(folder: Path) -> tuple[list[Work], list[str]]:
    """Las entregas de la carpeta, y avisos de lo que no se reconoce."""
    found, unknown = [], []
    for path in sorted(folder.rglob("*")):
        hidden = any(p.startswith(".") for p in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        student = student_of(path, folder)
        project = path.suffix == ".py" and PROJECT in path.stem
        unit = unit_of(path) if path.suffix == ".ipynb" else None
        if project or unit:
            found.append(Work(student, path, unit))
        elif path.suffix in (".ipynb", ".py"):
            notes = trouble_in(path) if path.suffix == ".ipynb" else []
            why = "; ".join(["no sé de qué es.", *notes])
            unknown.append(f"{path.relative_to(folder)}: {why}")
    return found, unknown


def empty_folders(folder: Path) -> list[str]:
    """Los alumnos cuya subcarpeta no tiene nada que corregir."""
    names = [p for p in sorted(folder.iterdir()) if p.is_dir()]
    kinds = (".ipynb", ".py")
    return [
        p.name
        for p in names
        if not p.name.startswith(".")
        and not any(f.suffix in kinds for f in p.rglob("*"))
    ]


def repeated(found: list[Work]) -> dict[Path, str]:
    """Entrega que no cuenta → aviso: el mismo alumno tiene otra igual."""
    last = {(work.student, work.unit): work.file for work in found}
    notes = {}
    for work in found:
        kept = last[work.student, work.unit]
        if work.file != kept:
            what = f"la unidad {work.unit}" if work.unit else "el proyecto"
            notes[work.file] = f"hay otro de {what}: cuenta {kept.name}"
    return notes


# Corregir una


def no_network() -> list[str]:
    """Con qué se quita la red a los procesos: `unshare`, si se puede."""
    order = ["unshare", "-rn"]
    if shutil.which("unshare") is None:
        return []
    done = subprocess.run([*order, "true"], capture_output=True)
    return order if done.returncode == 0 else []


def environment(folder: Path) -> dict[str, str]:
    """Lo imprescindible: ni claves ni ajustes de quien corrige."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    places = ("MPLCONFIGDIR", "IPYTHONDIR", "TMPDIR")
    return kept | dict.fromkeys(places, str(folder)) | {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1",
        "CURSO_LLM_PROGRESO": "no",
    }  # fmt: skip


def prepared_model() -> str | None:
    """La carpeta del modelo, o nada: muchos ejercicios no lo necesitan."""
    from tokenatoken.model import WeightsError, fetch_weights

    try:
        return str(fetch_weights())
    except WeightsError as error:
        print(f"Sin modelo: lo que lo use no se podrá corregir. {error}")
        return None


@dataclass
class Limits:
    """Lo que se le deja a cada entrega."""

    seconds: float
    memory: float  # en GiB
    jail: list[str]
    model: str | None


def run(work: Work, limits: Limits) -> tuple[list, str]:
    """Corrige una entrega: sus veredictos `[[número, valor], …]` y cómo
    acabó, «» si bien."""
    with tempfile.TemporaryDirectory() as desk:
        desk = Path(desk)
        folder = desk / "trabajo"
        folder.mkdir()
        copy = folder / work.file.name
        shutil.copy(work.file, copy)
        job = dict(
            folder=str(folder), file=str(copy), tape=str(desk / "cinta")
        )
        job |= dict(seconds=limits.seconds, memory=limits.memory)
        job["model"] = limits.model
        job["lab"] = work.unit and str(labs()[work.unit])
        order = desk / "encargo.json"
        order.write_text(json.dumps(job), encoding="utf-8")
        child = [sys.executable, "-m", "tools.grading", str(order)]
        trouble = watch([*limits.jail, *child], folder, limits.seconds)
        tape = Path(job["tape"])
        text = tape.read_text("utf-8") if tape.exists() else ""
    said = read_tape(text)
    if ["fin", True] in said:
        trouble = ""
    return said, trouble


def watch(command: list[str], folder: Path, seconds: float) -> str:
    """Lanza el proceso y, si no acaba a tiempo, lo mata con sus hijos."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait(timeout=seconds)
        return f"el proceso acabó antes de tiempo ({code})" if code else ""
    except subprocess.TimeoutExpired:
        return f"se acabaron los {seconds:.0f} segundos"
    finally:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def read_tape(text: str) -> list:
    """Las líneas enteras de la cinta (la última pudo quedar a medias)."""
    lines = (
        text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    )
    return [json.loads(line) for line in lines]


def record(row: Row, work: Work, said: list, trouble: str) -> str:
    """Apunta en la fila lo dicho de una entrega, y lo resume."""
    verdicts = dict(said)
    if work.unit is None:
        return record_project(row, work, verdicts, trouble)
    numbers = exercises(labs()[work.unit])
    for number in numbers:
        row.marks[number] = MARKS[verdicts.get(number, "no se pudo")]
    if trouble:
        row.notes.append(f"{work.file.name}: {trouble}")
    good = sum(row.marks[number] == "✔" for number in numbers)
    return f"unidad {work.unit}: {good} de {len(numbers)}"


def record_project(row: Row, work: Work, verdicts: dict, trouble: str) -> str:
    trouble = trouble or verdicts.get("problema", "")
    tests = {k: v for k, v in verdicts.items() if k[1:].isdigit()}
    row.medal = verdicts.get("medalla", "") or "ninguna"
    row.tests = str(sum(v is True for v in tests.values()))
    if trouble:
        row.notes.append(f"{work.file.name}: {trouble}")
    return f"proyecto: {row.tests} pruebas, medalla: {row.medal}"


# La tabla


def table(rows: dict[str, Row]) -> list[list[str]]:
    """La cabecera y una fila por alumno."""
    key = lambda n: [int(x) for x in n.split(".")]  # noqa: E731
    numbers = sorted({n for row in rows.values() for n in row.marks}, key=key)
    counts = {"✔": "aciertos", "✘": "fallos"}
    counts |= {"pendiente": "pendientes", "no se pudo": "sin corregir"}
    project = any(row.medal for row in rows.values())
    head = ["alumno", *(f"ej. {n}" for n in numbers), *counts.values()]
    lines = [head + ["medalla", "pruebas"] * project + ["avisos"]]
    for name, row in rows.items():
        total = Counter(row.marks.values())
        line = [name, *(row.marks.get(n, "") for n in numbers)]
        line += [str(total[mark]) for mark in counts]
        line += [row.medal, row.tests] * project + ["; ".join(row.notes)]
        lines.append(line)
    return lines


def save(lines: list[list[str]], path: Path) -> None:
    """Con «;» y marca de UTF-8, como lo espera una hoja en español. Un nombre
    que parezca una fórmula se guarda como texto."""
    safe = [
        ["'" + x if x[:1] in "=+-@" and x else x for x in y] for y in lines
    ]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows(safe)


def grade_class(found: list[Work], limits: Limits) -> dict[str, Row]:
    """Corrige todas, de una en una, y va diciendo por dónde va."""
    rows, others = {}, repeated(found)
    for i, work in enumerate(found, 1):
        row = rows.setdefault(work.student, Row())
        if work.file in others:
            row.notes.append(f"{work.file.name}: {others[work.file]}")
            said = "no cuenta"
        else:
            said = grade_one(row, work, limits)
        print(f"[{i}/{len(found)}] {work.student} · {said}", flush=True)
        for note in row.notes:
            if note.startswith(work.file.name):
                print(f"    {note}", flush=True)
    return rows


def grade_one(row: Row, work: Work, limits: Limits) -> str:
    """Corrige una entrega y apunta lo que se ve mal; lo resume."""
    seen = trouble_in(work.file) if work.unit else []
    row.notes += [f"{work.file.name}: {note}" for note in seen]
    if any("no es un cuaderno" in note for note in seen):
        return record(row, work, [], "")
    return record(row, work, *run(work, limits))


def main(order=None) -> int:
    options = parser(__doc__)
    options.add_argument("carpeta", type=Path, help="la de las entregas")
    options.add_argument("--csv", type=Path, default=Path("notas.csv"))
    options.add_argument("--segundos", type=float, default=120)
    options.add_argument("--memoria", type=float, default=6, help="en GiB")
    given = options.parse_args(order)
    if problem := trouble_with(given):
        print(problem, file=sys.stderr)
        return 2
    found, unknown = works(given.carpeta)
    print(*unknown, sep="\n", end="\n" if unknown else "")
    if not found:
        print(
            f"En {given.carpeta} no hay ningún laboratorio ni proyecto: "
            "espero archivos .ipynb o mi_generador.py.",
            file=sys.stderr,
        )
        return 2
    limits = Limits(
        given.segundos, given.memoria, no_network(), prepared_model()
    )
    print(protection(limits.jail, given.memoria))
    rows = grade_class(found, limits)
    for name in empty_folders(given.carpeta):
        rows.setdefault(name, Row()).notes.append("su carpeta está vacía")
    save(table(rows), given.csv)
    print(f"{len(rows)} alumno(s), en {given.csv}")
    return 0


def trouble_with(given) -> str:
    """Qué está mal en la orden, antes de empezar; o «»."""
    if not given.carpeta.is_dir():
        return f"{given.carpeta} no es una carpeta que exista."
    if not given.segundos > 0 or not given.memoria > 0:
        return "--segundos y --memoria tienen que ser mayores que 0."
    if not given.csv.parent.is_dir():
        return f"No existe la carpeta {given.csv.parent}, donde va el CSV."
    return ""


def protection(jail: list[str], memory: float) -> str:
    """Con qué se encierra cada entrega en este equipo."""
    network = "unshare y un gancho" if jail else "un gancho de Python"
    capped = sys.platform.startswith("linux")
    limit = f"{memory:g} GiB" if capped else "sin límite en este sistema"
    return f"Red: cortada con {network}. Memoria: {limit}."


if __name__ == "__main__":
    sys.exit(main())
