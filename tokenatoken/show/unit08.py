"""El explorador de la unidad 08: lo que recibe el modelo, marca a marca."""

import html
import re
from functools import cache

import ipywidgets as widgets

from ..cache import make_cache
from ..forward import prompt_ids
from ..generation import end_ids, generate_steps
from ..tokens import token_label
from .boxes import bars, stack, strip
from .canvas import Canvas
from .explorer import explorer
from .picture import TOKEN_COLORS
from .unit05 import candidates

COLORS = {
    "": "#D9D9D9",  # las marcas, que no son de nadie
    "sistema": TOKEN_COLORS[1],
    "usuario": TOKEN_COLORS[0],
    "respuesta": TOKEN_COLORS[2],
    "marca ajena": "#F2A7A7",
}
WRITTEN = 10  # tokens de respuesta
BETWEEN = " / "  # separa los turnos que se teclean
PLAIN = {  # sin plantilla
    "alone": "{user}",
    "with_system": "{system}\n\n{user}",
    "next": "\n{assistant}\n{user}",
}


def envelope(formats: dict, name: str, system: str, turns: list[str]) -> list:
    """El prompt como `(trozo, de quién es)`; las marcas son de nadie, «».

    `turns`: pregunta, respuesta, pregunta… Si acaba en respuesta, es la que
    se deja abierta.
    """
    first, *rest = turns
    said = {"{system}": (system, "sistema"), "{user}": (first, "usuario")}
    form = formats.get(name, PLAIN)
    pieces = _filled(form["with_system" if system else "alone"], said)
    for answer, question in zip(rest[::2], rest[1::2]):
        said = {"{assistant}": (answer, "respuesta")}
        said["{user}"] = question, "usuario"
        pieces += _filled(form["next"], said)
    return pieces + [
        (text, "respuesta") for text in rest[len(rest) // 2 * 2 :]
    ]


def _filled(text: str, said: dict) -> list:
    pieces = re.split(r"(\{system\}|\{user\}|\{assistant\})", text)
    return [said.get(piece, (piece, "")) for piece in pieces if piece]


def owners(tokenizer, pieces: list) -> list[tuple[int, str]]:
    """`(id, de quién es)` de cada token del prompt entero. Un token añadido
    dentro de lo que escribe el usuario es una marca ajena."""
    text = "".join(piece for piece, _ in pieces)
    by_letter = [who for piece, who in pieces for _ in piece]
    coded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True
    )
    added = tokenizer.added_tokens_decoder
    result = []
    for token, (start, _) in zip(coded.input_ids, coded.offset_mapping):
        who = by_letter[min(start, len(by_letter) - 1)]
        smuggled = who == "usuario" and token in added
        result.append((token, "marca ajena" if smuggled else who))
    return result


def chat_explorer(
    model, tokenizer, formats: dict, systems: dict, question: str
) -> widgets.VBox:
    """Escribe una conversación (turnos separados por « / ») y elige plantilla,
    sistema y comienzo de la respuesta: los ids exactos, de quién es cada uno,
    los candidatos al primer token y lo que escribe (greedy).

    `formats`: nombre → plantilla (`data/formatos.json`). `systems`: nombre →
    mensaje de sistema. Una combinación nueva cuesta un par de segundos.
    """

    @cache
    def look(template, system, prefill, user):
        turns = user.split(BETWEEN)
        pieces = envelope(formats, template, systems[system], turns)
        if prefill:
            pieces.append((prefill, "respuesta"))
        known = owners(tokenizer, pieces)
        text = "".join(piece for piece, _ in pieces)
        steps = list(
            generate_steps(
                model,
                prompt_ids(model, tokenizer, text),
                max_new_tokens=WRITTEN,
                cache=make_cache(model),
            )
        )
        closed = steps[-1].token_id in end_ids(model)
        written = [step.token_id for step in steps][: len(steps) - closed]
        best = candidates(tokenizer, steps[0], 4)
        return known, best, tokenizer.decode(written), closed

    def draw(template, system, prefill, user):
        known, best, text, closed = look(template, system, prefill, user)
        words = (
            f"{len(known)} tokens. Escribe: <b>{html.escape(text)}</b>"
            f"{' y cierra su turno.' if closed else '…'}"
        )
        return words, _picture(tokenizer, template, known, best, text, closed)

    wide = dict(layout=widgets.Layout(width="100%"), continuous_update=False)
    knobs = dict(
        template=widgets.Dropdown(
            options=[*formats, "sin plantilla"], description="Plantilla"
        ),
        system=widgets.Dropdown(options=[*systems], description="Sistema"),
        prefill=widgets.Text("", description="Prellenado", **wide),
        user=widgets.Text(question, description="Turnos", **wide),
    )
    states = [
        _state(
            tokenizer, template, system, *look(template, system, "", question)
        )
        for template in knobs["template"].options
        for system in systems
    ]
    return explorer(
        draw,
        states={"kind": "chat", "question": question, "states": states},
        still=dict(system=[*systems][-1]),
        **knobs,
    )


def _picture(tokenizer, template, known, best, text, closed) -> Canvas:
    pieces = [(token_label(tokenizer, i), str(i)) for i, _ in known]
    colors = [COLORS[who] for _, who in known]
    title = f"{template}: lo que recibe el modelo, {len(known)} tokens"
    above = strip(pieces, colors, title, 88)
    above.about = f"{title}: " + " | ".join(
        f"{label} {i} ({who or 'plantilla'})"
        for (label, i), (_, who) in zip(pieces, known)
    )
    legend, x = Canvas(40), 11
    for who, color in COLORS.items():
        legend.box(x, 8, 30, 24, color)
        legend.text(x + 38, 20, who or "plantilla", 18, "start")
        x += 215
    labels, shares = zip(*best)
    below = bars(list(labels), list(shares), "El primer token de la respuesta")
    words = f"Escribe: {text}{' ■' if closed else '…'}"
    foot = Canvas(44, words)
    foot.text(11, 20, words.replace("\n", " ⏎ "), 20, "start", bold=True)
    return stack(stack(above, legend), stack(below, foot))


def _state(tokenizer, template, system, known, best, text, closed) -> dict:
    return {
        "template": template,
        "system": system,
        "tokens": [[token_label(tokenizer, i), i, who] for i, who in known],
        "candidates": best,
        "text": text,
        "closed": closed,
    }
