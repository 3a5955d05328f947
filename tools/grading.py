"""El proceso aparte en el que se corrige una entrega. Lo lanza tools.corregir.

    python -m tools.grading encargo.json

Se encierra (memoria, red, escritura), ejecuta el trabajo y apunta cada
veredicto en un archivo según sale: si lo matan, queda lo ya corregido.
"""

import ast
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

GIGA = 2**30
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree"}
CHANGES |= {"os.truncate", "os.chmod", "os.link", "os.symlink"}
NETWORK = {"socket.connect", "socket.bind", "socket.getaddrinfo"}
NETWORK |= {"socket.gethostbyname", "socket.sendto", "socket.sendmsg"}


def limit_memory(gigabytes: float) -> None:
    """Que el proceso no pueda pedir más, ni llenar el disco."""
    try:
        import resource
    except ImportError:  # Windows: tools.corregir lo dice
        return
    most = int(gigabytes * GIGA)
    with suppress(ValueError, OSError):  # macOS no deja
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (GIGA, GIGA))


def close_doors(folder: Path) -> None:
    """Sin red, y sin escribir fuera de `folder`: un gancho de auditoría, que
    ya no se puede quitar."""
    inside = str(folder.resolve()) + os.sep

    def outside(path) -> bool:
        if isinstance(path, int) or path is None:
            return False
        path = os.path.realpath(os.fsdecode(path))
        return not path.startswith((inside, "/dev/"))

    def look(event: str, args) -> None:
        if event in NETWORK:
            raise PermissionError("La corrección no tiene red.")
        writes = event == "open" and args[2] & WRITES
        if (writes or event in CHANGES) and outside(args[0]):
            raise PermissionError(f"La corrección no deja tocar {args[0]}.")

    sys.addaudithook(look)


class Tape:
    """Los veredictos, según salen, una línea de JSON cada uno."""

    def __init__(self, path: Path):
        self.file = path.open("w", encoding="utf-8")

    def say(self, number: str, ok: bool | None | str) -> None:
        self.file.write(json.dumps([number, ok]) + "\n")
        self.file.flush()


def use_model(folder: str | None) -> None:
    """Que `load_model` use esa carpeta, ya preparada, sin comprobar si en ella
    se puede escribir: aquí no se puede."""
    from tokenatoken.model import load

    if folder:
        load.fetch_weights = lambda *_: Path(folder)


# Un laboratorio


def number_of(source: str) -> str | None:
    """El ejercicio de una celda de corrección: «12.3»; de otra, None."""
    with suppress(SyntaxError):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", "")
                first = getattr(node.args[0], "value", None)
                if name == "check" and isinstance(first, str):
                    return first
    return None


def without_checks(code: str) -> str:
    """El código de una celda sin sus `check(…)`: el resto es del alumno."""
    tree = ast.parse(code)
    tree.body = [
        node
        for node in tree.body
        if not isinstance(node, ast.Expr)
        or number_of(ast.unparse(node)) is None
    ]
    return ast.unparse(tree)


def plan(theirs: list[dict], ours: list[dict]) -> list[tuple[str, str]]:
    """Qué se ejecuta y en qué orden: pares («celda», código) del alumno y
    («corrección», código) del laboratorio.

    Una corrección va donde el alumno tiene la suya, diga lo que diga; si la ha
    borrado, detrás de la celda que la precede en el laboratorio, y si tampoco
    está, al final.
    """
    steps = [
        [cell.get("id"), number_of(code), "celda", code]
        for cell, code in theirs
        if "preparacion" not in cell["metadata"].get("tags", [])
    ]
    before = None
    for cell, code in ours:
        number = number_of(code)
        if number is None:
            before = cell.get("id")
            continue
        places = [i for i, s in enumerate(steps) if s[1] == number] or [
            i + 0.5 for i, s in enumerate(steps) if before and s[0] == before
        ]
        place = places[-1] if places else len(steps)
        steps.insert(int(place + 1), [before, None, "corrección", code])
    return [
        (kind, code if number is None else without_checks(code))
        for _, number, kind, code in steps
    ]


def code_cells(path: Path) -> list[tuple[dict, str]]:
    """Las celdas de código. ValueError si no es un cuaderno."""
    book = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(book, dict) or not isinstance(book.get("cells"), list):
        raise ValueError("No es un cuaderno.")
    cells = book["cells"]
    return [
        ({"metadata": {}, **cell}, "".join(cell["source"]))
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def grade_lab(job: dict, tape: Tape) -> None:
    """Ejecuta el cuaderno con las correcciones del laboratorio."""
    from IPython.core.interactiveshell import InteractiveShell

    from tokenatoken.checks import check, load_unit
    from tokenatoken.checks.project import within

    ours = code_cells(Path(job["lab"]))
    load_unit(number_of_unit(ours))
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    use_model(job["model"])
    close_doors(Path(job["folder"]))
    patience = max(job["seconds"] / 3, 1)
    for kind, code in plan(code_cells(Path(job["file"])), ours):
        if kind == "celda":
            with suppress(BaseException), within(patience):
                shell.run_cell(code)
            continue
        number = number_of(code)
        try:
            with within(patience):
                answers = [
                    eval(compile(ast.Expression(node), "respuesta", "eval"), shell.user_ns)
                    for node in ast.parse(code).body[0].value.args[1:]
                ]  # fmt: skip
                tape.say(number, check(number, *answers).ok)
        except BaseException:  # la celda falló, o no acaba
            tape.say(number, "no se pudo")


def number_of_unit(cells) -> str:
    return next(filter(None, (number_of(code) for _, code in cells)))[:2]


def grade_project(job: dict, tape: Tape) -> None:
    """Pasa la batería del proyecto."""
    from tokenatoken.checks.project import grade

    use_model(job["model"])
    close_doors(Path(job["folder"]))
    card = grade(job["file"], told=lambda r: tape.say(r.id, r.ok))
    if card.trouble:
        tape.say("problema", card.trouble)
    tape.say("medalla", card.medal)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    limit_memory(job["memory"])
    tape = Tape(Path(job["tape"]))
    os.chdir(job["folder"])
    tempfile.tempdir = job["folder"]
    (grade_project if job["lab"] is None else grade_lab)(job, tape)
    tape.say("fin", True)
    os._exit(0)  # sin esperar a los hilos que haya dejado


if __name__ == "__main__":
    main()
