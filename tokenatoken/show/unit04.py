"""El explorador de la unidad 04: la mesa de mezclas del muestreo."""

import html
from functools import cache

import ipywidgets as widgets
import torch

from .. import number
from ..cache import make_cache
from ..forward import next_logits, prompt_ids
from ..generation import generate_steps
from ..sampling import Sampler, sample_token, warp_logits
from ..tokens import token_label
from .boxes import bars
from .explorer import explorer

SIZES = [1, 2, 5, 10, 20, 50, 100, 1000]
NEW = 30  # tokens que escribe el botón
STORED = 1000  # logits que se publican; del resto, cuántos hay en cada tramo


def sampling_explorer(
    model, tokenizer, text: str, k: int = 10
) -> widgets.VBox:
    """Escribe un prompt y mueve T, top-k, top-p y min-p: las k mejores
    probabilidades antes (contorno) y después, qué se pierde y ocho tiradas.

    Un prompt nuevo cuesta un forward (pulsa Intro); mover un control, ninguno;
    el botón escribe `NEW` tokens con lo que marquen los mandos.
    """

    @cache
    def ordered(prompt: str):
        """Los logits `[V]`, de mejor a peor, y sus ids."""
        ids = prompt_ids(model, tokenizer, prompt)
        return next_logits(model, ids)[0].cpu().sort(descending=True)

    def draw(prompt, T, top_k, top_p, min_p):
        values, ids = ordered(prompt)
        settings = dict(temperature=T, top_k=top_k or None)
        after = warp_logits(values, **settings, top_p=top_p, min_p=min_p)
        before, shares = values.softmax(-1), after.softmax(-1)
        labels = [token_label(tokenizer, i) for i in ids[:k].tolist()]
        title = f"«{prompt}», los {k} mejores: antes (contorno) y después"
        words = _facts(before, shares) + _draws(tokenizer, after, ids)
        pair = shares[:k].tolist(), before[:k].tolist()
        return words, bars(labels, pair[0], title, pair[1])

    def write(prompt, T, top_k, top_p, min_p):
        settings = dict(top_k=top_k or None, top_p=top_p, min_p=min_p)
        dice = torch.Generator(model.device).manual_seed(0)
        ids = prompt_ids(model, tokenizer, prompt)
        steps = generate_steps(
            model,
            ids,
            choose=Sampler(T, **settings, generator=dice),
            max_new_tokens=NEW,
            cache=make_cache(model),
        )
        return tokenizer.decode([step.token_id for step in steps])

    values, ids = ordered(text)
    box = explorer(
        draw,
        states=_states(
            values, [token_label(tokenizer, int(i)) for i in ids[:40]]
        ),
        still=dict(top_k=5),
        **(knobs := _knobs(text)),
    )
    _add_button(box, knobs, write)
    return box


def _add_button(box: widgets.VBox, knobs: dict, write) -> None:
    """Bajo los mandos, un botón que escribe y el texto que sale."""
    button = widgets.Button(description=f"escribe {NEW} tokens")
    text = widgets.HTML()

    def press(_):
        button.disabled, text.value = True, "escribiendo…"
        try:
            words = write(**{n: knob.value for n, knob in knobs.items()})
            text.value = f"<p>…{html.escape(words)}</p>"
        except ValueError as error:
            text.value = f"<b>{html.escape(str(error))}</b>"
        finally:
            button.disabled = False

    button.on_click(press)
    box.children = [*box.children, button, text]


def _knobs(text: str) -> dict:
    wide = dict(layout=widgets.Layout(width="100%"), continuous_update=False)
    sizes = [(str(n), n) for n in SIZES] + [("todos", 0)]
    choice = dict(options=sizes, value=0, description="top-k")
    return dict(
        prompt=widgets.Text(text, description="Prompt", **wide),
        T=_slider("T", 1, 0, 2.5, 0.1),
        top_k=widgets.SelectionSlider(**choice),
        top_p=_slider("top-p", 1, 0.05, 1, 0.05),
        min_p=_slider("min-p", 0, 0, 0.5, 0.02),
    )


def _slider(name: str, value, low, high, step) -> widgets.FloatSlider:
    limits = dict(min=low, max=high, step=step)
    return widgets.FloatSlider(value, description=name, **limits)


def _facts(before, shares) -> str:
    kept = shares > 0
    return (
        f"Quedan {number(int(kept.sum()), 0)} tokens de "
        f"{number(len(shares), 0)}; antes de tocar nada juntaban el "
        f"{number(100 * float(before[kept].sum()), 1)} %."
    )


def _draws(tokenizer, after, ids) -> str:
    """Ocho tiradas, siempre con la misma semilla."""
    dice = torch.Generator().manual_seed(0)
    drawn = sample_token(after.expand(8, -1), generator=dice)
    words = " ".join(
        f"<code>{html.escape(token_label(tokenizer, i))}</code>"
        for i in ids[drawn].tolist()
    )
    return f"<br>Ocho tiradas: {words}"


def _states(values, labels: list[str]) -> dict:
    """Los mejores logits, uno a uno, y un histograma de los demás: basta para
    cualquier T, top-k, top-p y min-p."""
    tail = values[STORED:]
    low, high = (float(tail.min()), float(tail.max())) if len(tail) else (0, 0)
    counts = torch.histc(tail, 60, low, high) if len(tail) else []
    return {
        "kind": "sampling",
        "labels": labels,
        "logits": [round(x, 3) for x in values[:STORED].tolist()],
        "tail": {
            "low": round(low, 3),
            "high": round(high, 3),
            "counts": [int(n) for n in counts],
        },
    }
