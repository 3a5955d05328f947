"""Los repasos: doce preguntas de varias unidades, y por qué cada opción.

Sin red y sin cuentas: las preguntas están en `data/repasos` y lo que aciertas
se apunta en `progress`. Sin kernel (GitHub, papel), las respuestas se pliegan.
"""

import html
import tomllib
from pathlib import Path

import ipywidgets as widgets
from IPython.display import display

from .. import CourseError
from .kit import MARKS, framed
from .progress import record

HOME = Path(__file__).parents[1] / "data" / "repasos"


def questions(name: str) -> list[dict]:
    """Las preguntas del repaso «04», «07» o «13»."""
    name = str(name).zfill(2)
    known = sorted(p.stem for p in HOME.glob("*.toml"))
    if name not in known:
        raise CourseError(
            f"No hay ningún repaso {name!r}: los hay de {', '.join(known)}."
        )
    text = (HOME / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["pregunta"]


def quiz(name: str) -> widgets.VBox:
    """Enseña un repaso: eliges, y te dice por qué. Devuelve sus controles."""
    from ..show.explorer import view  # con matplotlib: corregir no lo necesita

    name = str(name).zfill(2)
    asked = questions(name)
    box = widgets.VBox(
        [_question(name, i, item) for i, item in enumerate(asked, 1)]
    )
    text = f"Repaso {name}: {len(asked)} preguntas."
    still = {"text/plain": text, "text/html": _still(asked)}
    display(still | view(box), raw=True)
    return box


def _question(name: str, i: int, item: dict) -> widgets.VBox:
    """Una pregunta: su texto, una letra por opción y lo que se responde."""
    letters = "abcd"[: len(item["opciones"])]
    buttons = widgets.ToggleButtons(options=list(letters), value=None)
    buttons.style.button_width = "64px"
    said = widgets.HTML()

    def answered(change):
        if change["new"] is None:
            return
        option = item["opciones"][letters.index(change["new"])]
        ok = option.get("buena", False)
        record(f"{name}.p{i}", ok)
        said.value = _verdict(ok, option["porque"], item["unidad"])

    buttons.observe(answered, names="value")
    return widgets.VBox([widgets.HTML(_statement(i, item)), buttons, said])


def _verdict(ok: bool, why: str, unit: str) -> str:
    words = f"<b>{MARKS[ok][0]}</b> {html.escape(why)} (Unidad {unit}.)"
    return framed(ok, words)


def _statement(i: int, item: dict) -> str:
    options = "".join(
        f"<br><b>{letter})</b> {html.escape(option['texto'])}"
        for letter, option in zip("abcd", item["opciones"])
    )
    words = html.escape(item["texto"])
    return (
        '<div style="font-size:17px;line-height:1.5;margin-top:14px">'
        f"<b>{i}.</b> {words}{options}</div>"
    )


def _still(asked: list[dict]) -> str:
    """Las preguntas con sus respuestas plegadas."""
    whys = map(_whys, asked)
    return "".join(
        f"{_statement(i, item)}<details><summary>Respuesta</summary>{why}"
        "</details>"
        for i, (item, why) in enumerate(zip(asked, whys), 1)
    )


def _whys(item: dict) -> str:
    lines = (
        f"<b>{letter}) {'✔' if option.get('buena') else '✘'}</b> "
        f"{html.escape(option['porque'])}<br>"
        for letter, option in zip("abcd", item["opciones"])
    )
    return f"<p>{''.join(lines)}Unidad {item['unidad']}.</p>"
