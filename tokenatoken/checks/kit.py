"""Piezas para escribir correcciones: leer una respuesta, compararla y, si no
es, dar la pista del error que de verdad se ha cometido.

`Part` corrige una función: la prueba en unos casos, la compara con la verdad
y, si falla, busca entre los errores conocidos (`traps`: pista → función
equivocada) el que da lo mismo que ella. La pista es la de ese error.
"""

import math
import operator
import string
import sys
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from .. import number as spanish

_NOT_YOURS = (
    sysconfig.get_path("stdlib"),
    "site-packages",
    "tokenatoken",
    "<frozen",
)
_LIBRARIES = ("torch", "transformers", "tokenatoken")
COPY = "Trabaja sobre una copia."
MARKS = {
    True: ("✔", "#00735C"),
    False: ("✘", "#A33B00"),
    None: ("…", "#555555"),
}


def framed(ok: bool | None, content: str) -> str:
    """Un veredicto en HTML: `content`, con el color de lo que dice `ok`."""
    return (
        f'<div role="status" style="border-left:5px solid {MARKS[ok][1]};'
        f'padding:6px 10px">{content}</div>'
    )


# Qué quiere decir cada error de Python: el resto del mensaje está en inglés.
MEANS = {
    "AttributeError": "«ese objeto no tiene eso»",
    "IndexError": "«pides un elemento que no está»",
    "KeyError": "«esa clave no está»",
    "NameError": "«ese nombre no existe ahí»",
    "RuntimeError": "«las formas o los tipos no encajan»",
    "StopIteration": "«no queda nada que pedir»",
    "TypeError": "«algo no es del tipo que se espera»",
    "UnicodeDecodeError": "«esos bytes, solos, no son un texto en UTF-8»",
    "ValueError": "«ese valor no sirve ahí»",
    "ZeroDivisionError": "«divides entre cero»",
}


class Pending(Exception):
    """El hueco sigue sin rellenar. El texto, si lo hay, dice cuál."""


class Hint(Exception):
    """La respuesta falla; el texto es la pista. `kind` dice qué ha pasado
    aunque el texto cambie (de un error del alumno, su tipo)."""

    def __init__(self, text: str, kind: str = ""):
        super().__init__(text)
        self.kind = kind or text


def expect(condition: bool, hint: str) -> None:
    """Lanza `Hint(hint)` si la condición no se cumple."""
    if not condition:
        raise Hint(hint)


# Llamar al alumno


def call(function, *arguments, without=()):
    """Llama a la función del alumno con copias de los datos.

    Un hueco sin rellenar es `Pending`. Un `return` olvidado, una excepción,
    cambiar los datos recibidos o usar una función de `without`, una `Hint`.
    """
    expect(
        callable(function),
        f"Esperaba una función y he recibido {type(function).__name__}: pasa "
        "su nombre, sin paréntesis.",
    )
    given = [_copied(a) for a in arguments]
    try:
        with watched(without) as used:
            result = function(*given)
    except (Hint, Pending):  # una pista que el propio ejercicio da a medias
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, TypeError) and "ellipsis" in str(error):
            raise Pending from None  # el hueco está en algo que ella usa
        raise Hint(_own_error(error), type(error).__name__) from error
    if result is ...:
        raise Pending
    name = getattr(function, "__name__", "tu función")
    expect(result is not None, f"{name} devuelve None. ¿Le falta el return?")
    expect(
        not used,
        "Aquí se escribe a mano, y tu código llama a "
        f"{' y a '.join(map(_short, used))}.",
    )
    for before, after in zip(arguments, given):
        _untouched(before, after)
    return result


def put_to_test(answer, subject) -> str:
    """«acepta», «rechaza» o «devuelve» (False): lo que hace con `subject` la
    prueba que ha escrito quien estudia, que tiene que llamarlo."""
    expect(callable(answer), "Esperaba una función: pasa su nombre.")
    calls = []

    def tried(*given, **named):
        calls.append(1)
        return subject(*given, **named)

    def verdict():
        try:
            value = answer(tried)
        except AssertionError:
            return "rechaza"
        if plain(value) is False:
            return "devuelve"
        return value if value is ... else "acepta"

    said = call(verdict)
    expect(
        bool(calls) or said == "rechaza",
        "Tu prueba acaba (¿con None?) sin llamar a "
        f"{subject.__name__}: no prueba nada.",
    )
    return said


def returning(test: Callable) -> Callable:
    """La misma prueba, mal dada: devuelve sí o no en lugar de lanzar."""

    def answer(subject):
        try:
            test(subject)
        except AssertionError:
            return False
        return True

    return answer


ASSERTS = "El veredicto es un assert: lanza AssertionError, o acaba sin más."


def verdicts(good, hints: dict, other: str) -> dict:
    """Lo común a los «escribe tú la prueba»: qué hay que decir de cada sujeto
    y, si no se dice, la pista. `good`: los nombres de los buenos; `hints`, de
    cada malo, la suya; `other`, la de rechazar uno bueno."""
    return {
        "truth": lambda name: "acepta" if name in good else "rechaza",
        "otherwise": lambda ours, right, name: (
            ASSERTS if ours == "devuelve" else hints.get(name, other)
        ),
    }


def jury(good: dict, bad: dict, other: str, one: Callable, words: tuple):
    """Lo que pide `Part` de un «escribe tú la prueba» que se juzga entero: la
    prueba, ante todos los sujetos; de lo que falla, se dice el primero.

    `good`: nombres de los buenos; `bad`: nombre → (pista, sujeto); `other`, la
    pista de rechazar uno bueno. `one(prueba, nombre)` da lo que dice
    `put_to_test`, y `words`, cómo empieza lo dicho al rechazar uno bueno y al
    dejar pasar uno malo.
    """
    hints = {name: hint for name, (hint, _) in bad.items()}
    said = verdicts(good, hints, other)
    names = [*good, *bad]

    def first(ours, right):
        pairs = zip(names, ours, right)
        return next((n, mine) for n, mine, wanted in pairs if mine != wanted)

    def told(ours, right) -> str:
        name, mine = first(ours, right)
        if mine == "devuelve":
            return "Tu prueba devuelve False."
        return f"{words[name not in good]} {name}."

    def hint(ours, right) -> str:
        name, mine = first(ours, right)
        return said["otherwise"](mine, None, name)

    return {
        "truth": lambda: [said["truth"](name) for name in names],
        "observe": lambda answer: [one(answer, name) for name in names],
        "said": told,
        "otherwise": hint,
    }


def second_answer(answer, part) -> None:
    """Corrige la segunda de dos respuestas, si ya está."""
    try:
        if answer in (..., None):
            raise Pending
        part.grade(answer)
    except Pending:
        text = "Pendiente: falta la respuesta 2 de 2; hasta ahí, bien."
        raise Pending(text) from None


@contextmanager
def watched(names):
    """Apunta qué funciones de biblioteca de `names` se usan dentro.

    Se mira cada llamada de Python o de C, así que da igual con qué nombre se
    hayan importado. En `names` va su `__qualname__` (de C, también el final).
    """
    used, before = [], sys.getprofile()

    def look(frame, event, function):
        home = frame.f_globals.get("__name__") or ""
        if event == "c_call":
            whole = getattr(function, "__qualname__", "")
            name = whole if whole in names else whole.split(".")[-1]
        elif event == "call" and home.split(".")[0] in _LIBRARIES:
            name = "" if ".checks." in home else frame.f_code.co_qualname
        else:
            return
        if name in names and name not in used:
            used.append(name)

    if names:
        sys.setprofile(look)
    try:
        yield used
    finally:
        if names:
            sys.setprofile(before)


def _short(name: str) -> str:
    first, _, last = name.rpartition(".")
    return first if last in ("__init__", "__call__", "forward") else last


def _copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if type(value) in (list, dict, set, np.ndarray):
        return deepcopy(value)
    return value


def _untouched(before, after) -> None:
    kinds = {torch.Tensor: "el tensor", dict: "el diccionario"}
    kinds |= {list: "la lista", set: "el conjunto", np.ndarray: "el array"}
    what = kinds.get(type(before))
    expect(
        what is None or alike(before, after, 0),
        f"Tu función cambia {what} que recibe, y quien la llama no se lo "
        f"espera. {COPY}",
    )


def _own_error(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    yours = [f for f in frames if not any(p in f.filename for p in _NOT_YOURS)]
    where = f" (línea {yours[-1].lineno}: {yours[-1].line})" if yours else ""
    kind = type(error).__name__
    means = f", {MEANS[kind]}" if kind in MEANS else ""
    text = f": {error}" if str(error) else ""
    return (
        f"Tu código lanza {kind}{means}{text}{where}. Ejecútalo con una "
        "entrada corta y mira en qué línea se detiene."
    )


# Leer lo que devuelve


def plain(value):
    """Un tensor o un array, como listas."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    return value


def as_int(value, hint: str) -> int:
    """El valor como entero (también de numpy o torch), o la pista."""
    try:
        return operator.index(value)
    except TypeError:
        raise Hint(hint) from None


def number(value, what: str = "Lo que devuelves") -> float:
    """El valor como `float` (también de numpy o torch), o la pista."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        expect(
            math.prod(value.shape) == 1,
            f"{what} tiene que ser un solo número, y son "
            f"{math.prod(value.shape)}.",
        )
        value = value.item()
    if isinstance(value, Decimal | Fraction):
        value = float(value)
    expect(
        isinstance(value, int | float) and not isinstance(value, bool),
        f"{what} tiene que ser un número, y es {type(value).__name__}.",
    )
    expect(value == value, f"{what} sale NaN. ¿Hay 0 · ln 0, ∞ − ∞ o ∞ / ∞?")
    return float(value)


def tensor(value, shape, what: str = "Lo que devuelves") -> torch.Tensor:
    """El valor, si es un tensor de esa forma y sin NaN; si no, la pista."""
    expect(
        isinstance(value, torch.Tensor),
        f"{what} tiene que ser un tensor, y es {type(value).__name__}.",
    )
    expect(
        list(value.shape) == list(shape),
        f"{what} tiene forma {list(value.shape)} y hacía falta {list(shape)}.",
    )
    expect(
        not value.isnan().any(),
        f"{what} tiene NaN. Imprime los pasos y busca el primero con ∞.",
    )
    return value.detach().double().cpu()


def like(value, right, what: str):
    """El valor leído como lo que es `right`: número, tensor, texto o lista."""
    if isinstance(right, int | float) and not isinstance(right, bool):
        return number(value, what)
    if isinstance(right, torch.Tensor):
        return tensor(value, right.shape, what)
    names = {str: "un texto", list: "una lista"}
    expect(
        isinstance(value, type(right)),
        f"{what} tiene que ser {names.get(type(right), 'otra cosa')}, y es "
        f"{type(value).__name__}.",
    )
    return value


# Comparar y explicar


def close(a, b, near: float = 1e-6) -> bool:
    """Si dos números son el mismo, salvo redondeo."""
    return math.isclose(a, b, rel_tol=near, abs_tol=min(near, 1e-9))


def alike(a, b, near: float = 1e-6) -> bool:
    """Si dos respuestas son la misma: números, tensores, listas, pistas…"""
    if isinstance(a, Hint) or isinstance(b, Hint):
        return getattr(a, "kind", a) == getattr(b, "kind", b)
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        limits = dict(rtol=near, atol=near, equal_nan=True)
        if a.shape != b.shape:
            return False
        return torch.allclose(a.double().cpu(), b.double().cpu(), **limits)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        pairs = zip(a, b)
        return len(a) == len(b) and all(alike(x, y, near) for x, y in pairs)
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and close(a, b, near)
    return a == b


def diagnose(ours, right, traps: dict, said: str, otherwise: str, near=1e-6):
    """Nada si acierta. Si da lo que daría un error conocido (`traps`: pista →
    valor), su pista; si no, `otherwise`. `said` va delante de cualquiera."""
    if alike(ours, right, near):
        return
    known = (h for h, wrong in traps.items() if alike(ours, wrong, near))
    raise Hint(f"{said} {next(known, otherwise)}".strip())


class _Spanish(string.Formatter):
    def format_field(self, value, spec):
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, float) and math.isinf(value):
            return "−∞" if value < 0 else "∞"
        if isinstance(value, list) and all(
            type(x) in (int, float) for x in value
        ):
            return "; ".join(self.format_field(x, spec) for x in value)
        if not isinstance(value, float):
            return super().format_field(value, spec)
        if spec[:1] == "." and spec[-1:] == "f":
            text = spanish(value, int(spec[1:-1]))
        else:
            text = super().format_field(value, spec).replace(".", ",")
        return text.replace("-", "−")


def say(text: str, *values, **named) -> str:
    """`text.format(…)` con coma decimal: `say("T = {0}", 0.5)`."""
    return _Spanish().format(text, *values, **named)


# Corregir


def _several(wrong) -> list:
    return wrong if isinstance(wrong, list) else [wrong]


@dataclass
class Part:
    """Lo que se pide de una función y cómo se corrige.

    `cases`: tuplas de argumentos (o una función que las da). `truth`: lo que
    hay que dar en cada una, de la biblioteca o de la aritmética. `said`: lo
    que se cuenta antes de la pista, un texto para `say` (con `{0}`, `{1}`… los
    argumentos, `{ours}` y `{right}`) o una función `(ours, right, *caso)`.
    `traps`: pista → función equivocada (o lista de ellas). `otherwise`: la
    pista de los demás fallos, texto o función. `rights`: respuestas buenas.

    `what` nombra lo que se devuelve y `read(valor, *caso)` lo convierte en
    algo comparable. `observe(función, *caso)` sustituye a todo lo anterior
    cuando lo que importa es lo que la función *hace* (reloj, azar, llamadas).
    """

    cases: Any
    truth: Callable
    _: KW_ONLY
    rights: list = field(default_factory=list)
    traps: dict = field(default_factory=dict)
    said: Any = ""
    otherwise: Any = ""
    near: float = 1e-6
    what: str = "Lo que devuelves"
    read: Callable | None = None
    observe: Callable | None = None
    without: tuple = ()

    def grade(self, function) -> None:
        """Lanza `Hint` con la pista de lo que falla, o nada."""
        seen = []  # (caso, lo suyo, lo bueno)
        for case in self.cases() if callable(self.cases) else self.cases:
            right = self.truth(*case)
            seen.append((case, self._run(function, case, right), right))
            if isinstance(seen[-1][1], Hint):
                break
        wrong = [s for s in seen if not alike(s[1], s[2], self.near)]
        if wrong:
            raise self._explain(wrong, seen)

    def _run(self, function, case, right):
        """Lo que se ve al probar la función en un caso, aunque falle."""
        try:
            if self.observe:
                return self.observe(function, *case)
            value = call(function, *case, without=self.without)
            if self.read:
                return self.read(value, *case)
            return like(value, right, self.what)
        except Hint as hint:
            return hint

    def _explain(self, wrong, seen) -> Hint:
        case, ours, right = wrong[0]
        known = self._known(seen) or self._known(wrong)
        if isinstance(ours, Hint):
            if known in str(ours):  # o no hay ninguna
                return ours
            return Hint(f"{ours} {known}")
        hint = known or _filled(self.otherwise, ours, right, case)
        return Hint(f"{_filled(self.said, ours, right, case)} {hint}".strip())

    def _known(self, seen) -> str:
        """La pista del error que da lo mismo que el alumno en todo `seen`."""
        for hint, wrongs in self.traps.items():
            for wrong in _several(wrongs):
                if all(
                    alike(self._run(wrong, case, right), ours, self.near)
                    for case, ours, right in seen
                ):
                    return hint
        return ""


def _filled(text, ours, right, case) -> str:
    if callable(text):
        return text(ours, right, *case)
    return say(text, *case, ours=ours, right=right)


@dataclass
class Exercise:
    """Un ejercicio: cómo se corrige, y con qué se prueba que corrige bien.

    `traps`: pista → lista de respuestas (tuplas); `rights`: tuplas.
    """

    number: str
    success: str
    grade: Callable
    answers: int
    traps: dict
    rights: list
    by_parts: bool = False  # cada respuesta se corrige sin esperar a las demás


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, *parts, success="¡Correcto!", traps=None, rights=()):
    """Registra un ejercicio.

    Con `parts` (una `Part` por función), y ya está. Sin ellas decora una
    función que recibe las respuestas y lanza `Hint`; `traps` da, para cada
    pista suya, una respuesta que la merece (o una lista), y `rights`, las
    buenas; si se piden varias respuestas, tuplas.
    """
    if parts:
        _register_parts(number, parts, success)
        return None

    def register(function):
        answers = function.__code__.co_argcount

        def whole(answer):
            return answer if answers > 1 else (answer,)

        EXERCISES[number] = Exercise(
            number,
            success,
            function,
            answers,
            {h: [*map(whole, _several(w))] for h, w in (traps or {}).items()},
            [whole(answer) for answer in rights],
        )
        return function

    return register


def _register_parts(number: str, parts, success: str) -> None:
    def grade(*answers):
        for i, (part, answer) in enumerate(zip(parts, answers), 1):
            try:
                if answer is ... or answer is None:
                    raise Pending
                part.grade(answer)
            except Pending:
                place = f"falta la respuesta {i} de {len(parts)}"
                text = f"Pendiente: {place}; hasta ahí, bien."
                raise Pending(text if i > 1 else "") from None

    good = [part.rights[0] for part in parts]
    traps, rights = {}, []
    for i, part in enumerate(parts):

        def among(answer, i=i):
            return (*good[:i], answer, *good[i + 1 :])

        for hint, wrongs in part.traps.items():
            traps[hint] = [among(wrong) for wrong in _several(wrongs)]
        rights += [among(right) for right in part.rights]
    EXERCISES[number] = Exercise(
        number, success, grade, len(parts), traps, rights, by_parts=True
    )
