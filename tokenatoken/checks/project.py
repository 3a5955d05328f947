"""Corrección del proyecto final: un archivo, tres niveles y una medalla.

    python -m tokenatoken.checks.project labs/mi_generador.py [--velocidad]

O, desde un cuaderno: `from tokenatoken.checks.project import grade;
grade("mi_generador.py")`. Cada prueba (están en `acceptance`) dice ✔, ✘ con
una pista, o Pendiente si falta alguna pieza que necesita. Con --velocidad mide
además el bucle del alumno frente a `model.generate`, con el modelo del curso.
"""

import argparse
import ast
import html
import importlib.util
import itertools
import signal
import statistics
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch

from .. import number
from .acceptance import LEVELS, TESTS, Endless
from .kit import MARKS, Hint, Pending, _own_error, framed

SECONDS = 30  # una prueba que tarda más no acaba
OURS = {"model", "constrained", "grammar", "schema"}
# De lo permitido cuelgan piezas que no lo están.
BANNED = {
    *("Sampler", "generate_steps", "warp_logits", "sample_token"),
    *("text_pieces", "chat_ids", "Conversation", "next_logits"),
    *("TextStreamer", "TextIteratorStreamer", "LogitsProcessor"),
    *("LogitsProcessorList", "GenerationConfig", "GenerationMixin"),
}
TYPES = {"DynamicCache", "Cache", "PreTrainedModel", "PreTrainedTokenizerBase"}
DYNAMIC = {"__import__", "exec", "eval"}
PENDING = "Pendiente."
_numbers = itertools.count()


@dataclass(frozen=True)
class Result:
    """De una prueba: `ok` es True, False, o None si está pendiente."""

    id: str
    ok: bool | None
    message: str

    def __repr__(self) -> str:
        return f"{MARKS[self.ok][0]} {self.id} · {self._text()}"

    def _text(self) -> str:
        return f"{TESTS[self.id].name}. {self.message}".rstrip()


@dataclass
class Card:
    """La cartilla de un proyecto. Se enseña sola."""

    file: str
    results: list[Result] = field(default_factory=list)
    trouble: str = ""

    def level(self, name: str) -> list[Result]:
        return [r for r in self.results if TESTS[r.id].level == name]

    @property
    def passed(self) -> int:
        return sum(r.ok is True for r in self.results)

    @property
    def medal(self) -> str:
        """El nivel más alto con todo ✔, él y los de debajo; o «»."""
        won = ""
        for name in LEVELS:
            level = self.level(name)
            if not level or not all(r.ok for r in level):
                break
            won = name
        return won

    def __repr__(self) -> str:
        lines = [f"{self.file}: {self._summary()}"]
        for name in LEVELS if self.results else ():
            level = self.level(name)
            marks = "".join(MARKS[r.ok][0] for r in level)
            count = sum(r.ok is True for r in level)
            lines.append(
                f"\n{name.upper():8}{count:2} de {len(level)}  {marks}"
            )
            lines += [f"  {r!r}" for r in level if not r.ok]
        return "\n".join(lines)

    def _summary(self) -> str:
        if self.trouble:
            return self.trouble
        medal = f"medalla de {self.medal}" if self.medal else "sin medalla aún"
        return f"{self.passed} de {len(self.results)} pruebas, {medal}."

    def _repr_html_(self) -> str:
        text = html.escape(repr(self)).replace("\n", "<br>")
        return framed(bool(self.medal) or None, text)


# Leer el archivo


class Piece:
    """El archivo del alumno, ya importado. `foreign`: lo que no es suyo."""

    def __init__(self, module: ModuleType, foreign: list[str]):
        self.module, self.foreign = module, foreign

    def __getattr__(self, name: str):
        if not hasattr(self.module, name):
            raise Hint(
                f"Tu archivo no define {name}, y tiene que llamarse así."
            )
        return getattr(self.module, name)


def foreign(source: str) -> list[str]:
    """Lo que el archivo usa y tenía que escribir, por orden de aparición."""
    found, tree = [], ast.parse(source)
    mine, brought = methods(tree), imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if not _allowed(a.name)]
        elif isinstance(node, ast.ImportFrom):
            found += _from(node)
        elif isinstance(node, ast.Attribute) and _method(node, mine, brought):
            found.append(node.attr)
        elif isinstance(node, ast.Name) and node.id in DYNAMIC:
            found.append(node.id)
    return [*dict.fromkeys(found)]


def methods(tree: ast.Module) -> set[str]:
    """Los métodos de las clases del archivo."""
    classes = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef))
    inside = (node for one in classes for node in one.body)
    return {n.name for n in inside if isinstance(n, ast.FunctionDef)}


def imported(tree: ast.Module) -> set[str]:
    """Los nombres que el archivo ha importado."""
    kinds = ast.Import | ast.ImportFrom
    names = (n.names for n in ast.walk(tree) if isinstance(n, kinds))
    return {(a.asname or a.name).split(".")[0] for some in names for a in some}


def _allowed(module: str, name: str = "") -> bool:
    home, _, rest = module.partition(".")
    if home == "transformers":
        return name in TYPES or not name and not rest
    if home != "tokenatoken":
        return home != "importlib"
    part = rest or name
    return part.split(".")[0] in OURS | {"number", "CourseError", ""}


def _from(node: ast.ImportFrom) -> list[str]:
    module = node.module or ""
    return [
        f"{module}.{a.name}"
        for a in node.names
        if not _allowed(module, a.name) or a.name in BANNED
    ]


def _method(node: ast.Attribute, mine: set, brought: set) -> bool:
    """Si es `algo.generate` o algo prohibido, y no un método suyo."""
    if node.attr not in BANNED | {"generate"}:
        return False
    owner = ast.unparse(node.value)
    if owner == "self" and node.attr == "generate":
        return False
    model = owner.rpartition(".")[2] == "model"
    own = node.attr in mine and owner.split(".")[0] not in brought
    return model or not own


def load(path: Path) -> Piece:
    """Importa el archivo con un nombre propio, o lanza `Hint`."""
    name = f"mi_generador_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # las dataclass lo buscan ahí
    try:
        theirs = foreign(path.read_text(encoding="utf-8"))
        with within(SECONDS):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise Hint(
            f"no se puede leer: error de sintaxis en la línea {error.lineno}."
        ) from error
    except UnicodeDecodeError as error:
        raise Hint("no se puede leer: guárdalo en UTF-8.") from error
    except (Exception, SystemExit, Endless) as error:
        raise Hint(f"no se puede importar. {_own_error(error)}") from error
    finally:
        del sys.modules[name]
    sys.modules[name] = module
    return Piece(module, theirs)


@contextmanager
def within(seconds: float):
    """Lanza `Endless` si pasa ese tiempo, donde el sistema lo permite."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_):
        raise Endless(f"En {seconds} segundos no ha terminado.")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Corregir


def run(piece: Piece, number: str, seconds: float = SECONDS) -> Result:
    """Una prueba, que nunca lanza nada (salvo que pulses ■ tú)."""
    test = TESTS[number]
    try:
        with torch.no_grad(), warnings.catch_warnings(), within(seconds):
            warnings.simplefilter("ignore")
            test.run(piece)
    except Pending:
        return Result(number, None, PENDING)
    except Hint as hint:
        return Result(number, False, f"{hint} {test.hint}")
    except Endless as error:
        return Result(number, False, f"{error} {test.hint}")
    except (Exception, SystemExit) as error:
        if _touches_gap(error):
            return Result(number, None, PENDING)
        return Result(number, False, f"{_own_error(error)} {test.hint}")
    return Result(number, True, "")


def _touches_gap(error: BaseException) -> bool:
    """Si el error viene de usar una pieza que aún devuelve `...`."""
    return isinstance(error, TypeError | AttributeError) and (
        "ellipsis" in str(error).lower()
    )


def grade(path, only=None, told=None) -> Card:
    """La cartilla de ese archivo. `only`: los ids de algunas pruebas;
    `told(resultado)` se llama con cada una según acaba."""
    path = Path(path)
    card = Card(path.name)
    if not path.is_file():
        card.trouble = f"no existe {path}. ¿Está en otra carpeta?"
        return card
    try:
        piece = load(path)
    except Hint as hint:
        card.trouble = str(hint)
        return card
    for name in TESTS if only is None else only:
        card.results.append(run(piece, name))
        if told:
            told(card.results[-1])
    return card


# Medir, solo si se pide


def speed(piece: Piece, repeats: int = 7, new: int = 40) -> list[float]:
    """Segundos de `model.generate` entre los del alumno, por vueltas
    intercaladas con el modelo del curso. Por encima de 1, gana él."""
    from ..model import load_model
    from .acceptance import library

    model, _ = load_model(dtype=torch.float32)
    ids = torch.arange(100, 155, device=model.device)[None]  # [1, 55]
    chosen = piece.Settings(temperature=0, max_new_tokens=new)

    def ours():
        return [int(i) for i in piece.generate(model, ids, chosen, ends={-1})]

    def theirs():
        return library(model, ids, new, ends=-1)

    if ours() != theirs():  # y calientan
        raise Hint("No da los mismos ids que model.generate: no se compara.")
    ratios = []
    for lap in range(repeats):
        times = {}
        for way in (theirs, ours)[:: 1 if lap % 2 else -1]:  # por turnos
            start = time.perf_counter()
            way()
            times[way] = time.perf_counter() - start
        ratios.append(times[theirs] / times[ours])
    return ratios


def speed_line(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    verdict = "✔" if middle >= 0.97 else "✘"
    return (
        f"{verdict} Velocidad frente a model.generate: {number(middle)} × "
        f"(cuartiles {number(low)} y {number(high)}, {len(ratios)} vueltas; "
        f"objetivo, 0,97)."
    )


def main(order=None) -> int:
    parser = argparse.ArgumentParser(description="Corrige el proyecto final.")
    parser.add_argument("archivo", help="tu mi_generador.py")
    text = "mídelo también frente a model.generate (con el modelo del curso)"
    parser.add_argument("--velocidad", action="store_true", help=text)
    given = parser.parse_args(order)
    card = grade(given.archivo)
    print(card)
    if not Path(given.archivo).is_file():
        return 1
    if given.velocidad and card.results:
        try:
            print("\n" + speed_line(speed(load(Path(given.archivo)))))
        except Exception as error:
            print(f"\n✘ No se ha podido medir. {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
