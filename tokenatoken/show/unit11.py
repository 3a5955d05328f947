"""El explorador de la unidad 11: qué propone un borrador, qué se acepta y
cuánto se escribe en cada vuelta."""

import html

import ipywidgets as widgets

from .. import CourseError
from ..tokens import token_label
from .boxes import GREEN, ORANGE, SKY, legend, stack, strip
from .canvas import Canvas
from .explorer import explorer

SHOWN = 7  # vueltas que se dibujan
COLORS = {"aceptado": GREEN, "rechazado": ORANGE, "del modelo": SKY}


def draft_explorer(tokenizer, runs: list[dict]) -> widgets.VBox:
    """Elige la petición, el borrador y cuántos tokens propone: lo que se
    escribe, vuelta a vuelta.

    `runs`: `prompt`, `draft`, `k` y `rounds`, y de cada vuelta, los ids
    propuestos, cuántos se aceptaron y los escritos (`tools.ladder`).
    """
    found = {(run["prompt"], run["draft"], run["k"]): run for run in runs}
    if not found:
        raise CourseError("Hace falta al menos una escritura guardada.")

    def draw(prompt, draft, k):
        rounds = found[prompt, draft, k]["rounds"]
        title = f"{draft.capitalize()}, k = {k}"
        return _words(tokenizer, rounds), _picture(tokenizer, title, rounds)

    states = [
        run | {"rounds": [_pieces(tokenizer, turn) for turn in run["rounds"]]}
        for run in runs
    ]
    knobs = {
        name: widgets.Dropdown(
            options=list(dict.fromkeys(run[name] for run in runs)),
            description=words,
        )
        for name, words in (
            ("prompt", "Petición"),
            ("draft", "Borrador"),
            ("k", "k"),
        )
    }
    data = {"kind": "draft", "states": states}
    longest = max(run["k"] for run in runs)
    return explorer(draw, states=data, still={"k": longest}, **knobs)


def _pieces(tokenizer, turn) -> list[list[str]]:
    """`[texto, qué le pasó]` de cada token de una vuelta, por orden."""
    proposed, accepted, written = turn
    kinds = [(token, "aceptado") for token in proposed[:accepted]]
    kinds += [(token, "rechazado") for token in proposed[accepted:]]
    kinds += [(token, "del modelo") for token in written[accepted:]]
    return [[token_label(tokenizer, token), kind] for token, kind in kinds]


def _words(tokenizer, rounds) -> str:
    tokens = [token for _, _, written in rounds for token in written]
    text = html.escape(tokenizer.decode(tokens)).replace("\n", "<br>")
    proposed = sum(len(turn[0]) for turn in rounds)
    accepted = sum(turn[1] for turn in rounds)
    return (
        f"{len(tokens)} tokens en {len(rounds)} lecturas de los pesos; "
        f"{accepted} aceptados de {proposed} propuestos<br>{text}"
    )


def _picture(tokenizer, title: str, rounds) -> Canvas:
    written = sum(len(turn[2]) for turn in rounds)
    head = f"{title}: {written} tokens en {len(rounds)} lecturas"
    whole = Canvas(46)
    whole.title(head)
    whole.about = head
    for number, turn in enumerate(rounds[:SHOWN], 1):
        pieces = _pieces(tokenizer, turn)
        boxes = [(label, "") for label, _ in pieces]
        row = strip(boxes, [COLORS[kind] for _, kind in pieces], "", 80)
        row.height -= 20
        listing = " | ".join(f"{label} ({kind})" for label, kind in pieces)
        row.about = f"vuelta {number}: {listing}"
        whole = stack(whole, row)
    if len(rounds) > SHOWN:
        whole.text(11, whole.height + 12, f"… y {len(rounds) - SHOWN} más", 18)
        whole.labels[-1]["anchor"] = "start"
        whole.height += 34
    legend(whole, COLORS)
    return whole
