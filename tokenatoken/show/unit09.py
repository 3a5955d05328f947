"""El explorador de la unidad 09: qué escribe con cada máscara, y cuánto deja."""

import html
from functools import cache

import ipywidgets as widgets
import torch

from .. import number
from ..cache import make_cache
from ..constrained import choose
from ..generation import end_ids, generate_steps
from ..sampling import Sampler
from ..tokens import token_label
from .boxes import strip
from .canvas import Canvas
from .explorer import explorer
from .picture import TOKEN_COLORS

FREE, FORCED, STEERED = TOKEN_COLORS[0], "#D9D9D9", TOKEN_COLORS[2]
COLORS = {
    "elige": FREE,
    "un solo token permitido": FORCED,
    "cierra: queda lo justo": STEERED,
}


def control_explorer(
    model, tokenizer, ids, forms: dict, budget: int = 24
) -> widgets.VBox:
    """Elige la forma, la temperatura y el presupuesto: lo que escribe tras
    `ids` (`[1, n]`), y bajo cada token cuántos dejaba la máscara.

    `forms`: nombre → patrón, esquema o None (sin máscara). Una combinación
    nueva cuesta unos segundos.
    """

    @cache
    def write(form, temperature, budget):
        generator = torch.Generator(ids.device).manual_seed(0)
        sampler = Sampler(temperature=temperature, generator=generator)
        pick, masked = sampler, forms[form] is not None
        if masked:
            given = dict(max_new_tokens=budget, sampler=sampler)
            pick = choose(tokenizer, forms[form], **given)
        rows, ends = [], end_ids(model)
        for step in generate_steps(
            model,
            ids,
            max_new_tokens=budget,
            choose=pick,
            cache=make_cache(model),
        ):
            count, who = model.config.vocab_size, "elige"
            if masked:
                count, who = _allowed(pick, budget - step.index)
            if step.token_id in ends:
                return rows, True
            label = token_label(tokenizer, step.token_id)
            rows.append((label, count, who, step.token_id))
        return rows, masked and pick.automaton.done(_state(pick, rows))

    def draw(form, temperature, budget):
        rows, whole = write(form, temperature, budget)
        text = tokenizer.decode([row[3] for row in rows])
        words = (
            f"{'Texto entero' if whole else 'Texto cortado'}, {len(rows)} "
            f"tokens: <b>{html.escape(text)}</b>"
        )
        return words, _picture(form, temperature, rows, text, whole)

    wide = dict(continuous_update=False)
    knobs = dict(
        form=widgets.Dropdown(options=[*forms], description="Forma"),
        temperature=widgets.SelectionSlider(
            options=[("0", 0), ("1", 1), ("1,5", 1.5), ("2", 2)],
            value=1.5,
            description="T",
            **wide,
        ),
        budget=widgets.IntSlider(
            budget, 8, 40, 4, description="Presupuesto", **wide
        ),
    )
    states = []
    for form in forms:
        rows, whole = write(form, 1.5, budget)
        tokens = [list(row[:3]) for row in rows]
        states.append({"form": form, "tokens": tokens, "whole": whole})
    return explorer(
        draw,
        states={"kind": "control", "budget": budget, "states": states},
        still=dict(form=[*forms][-1]),
        **knobs,
    )


def _allowed(pick, left: int) -> tuple[int, str]:
    """Cuántos tokens dejaba la máscara en el paso que se acaba de dar."""
    state = pick.states[0]
    count = len(pick.allowed(state, left))
    if count == 1:
        return count, "un solo token permitido"
    row = pick.automaton.row(state) if state >= 0 else None
    tight = row is not None and row.worst > left - 1
    return count, "cierra: queda lo justo" if tight else "elige"


def _state(pick, rows) -> int:
    """El estado tras el último token, que `pick` aún no ha leído."""
    state = pick.states[0]
    return pick.automaton.read(state, rows[-1][3]) if rows else state


def _picture(form, temperature, rows, text, whole) -> Canvas:
    pieces = [(label, number(count, 0)) for label, count, *_ in rows]
    colors = [COLORS[who] for *_, who, _ in rows]
    title = (
        f"{form}, T = {number(temperature, 1)}: debajo, cuántos se permiten"
    )
    canvas = strip(pieces, colors, title)
    x, y = 11, canvas.height
    for who, color in COLORS.items():
        canvas.box(x, y + 8, 30, 24, color)
        canvas.text(x + 38, y + 20, who, 18, "start")
        x += 300
    end = "entero" if whole else "cortado"
    canvas.about = f"{title}. Texto {end}: {text}. " + " | ".join(
        f"{label} {count}" for label, count in pieces
    )
    canvas.height += 44
    return canvas
