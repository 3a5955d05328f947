"""Los exploradores de la unidad 05: el bucle, paso a paso y en directo."""

import html

import ipywidgets as widgets
from IPython.display import display

from .. import number
from ..generation import GenerationStep
from ..text import stream
from ..tokens import token_label
from .boxes import steps_strip
from .explorer import explorer, view


def candidates(tokenizer, step: GenerationStep, k: int) -> list[list]:
    """Los k mejores de un paso: `[etiqueta, probabilidad]`, con T = 1."""
    shares, ids = step.logits.softmax(-1).topk(k)
    labels = [token_label(tokenizer, i) for i in ids.tolist()]
    return [[a, round(p, 4)] for a, p in zip(labels, shares.tolist())]


def generation_explorer(
    tokenizer, prompt: str, steps: list[GenerationStep], k: int = 4
) -> widgets.VBox:
    """Recorre una generación ya hecha: en cada paso, el texto hasta ahí, los
    k candidatos del modelo y cuál se eligió."""
    ids = [step.token_id for step in steps]
    rows = [
        (token_label(tokenizer, step.token_id), candidates(tokenizer, step, k))
        for step in steps
    ]
    texts = [tokenizer.decode(ids[:i]) for i in range(len(ids))]

    def draw(step):
        now = steps[step - 1]
        chosen = html.escape(rows[step - 1][0])
        words = (
            '<div style="font-size:18px;white-space:pre-wrap">'
            f'<span style="color:#666">{html.escape(prompt)}</span>'
            f"{html.escape(texts[step - 1])}"
            f'<b style="background:#FBE3B0;color:#000">{chosen}</b></div>'
            f"Entran {now.processed} tokens, sale uno. "
            f"{f'Fin: {now.stop}.' if now.stop else ''}"
        )
        return words, steps_strip(rows, f"«{prompt}», paso a paso", step - 1)

    states = [
        dict(text=text, chosen=chosen, candidates=best, processed=s.processed)
        for text, (chosen, best), s in zip(texts, rows, steps)
    ]
    slider = widgets.IntSlider(1, 1, len(steps), description="Paso")
    return explorer(
        draw,
        states={"kind": "steps", "prompt": prompt, "states": states},
        step=slider,
    )


def live(tokenizer, steps) -> list[GenerationStep]:
    """Escribe el texto según sale, con los tokens por segundo, y devuelve los
    pasos. Interrumpir el kernel (■) conserva lo generado."""
    box = widgets.HTML()
    note = "(Texto en directo: se mueve con el kernel en marcha.)"
    display({"text/plain": note} | view(box), raw=True)
    done, text = [], []

    def watched():
        for step in steps:
            done.append(step)
            yield step

    def write(piece):
        text.append(piece)
        rate = len(done) / done[-1].seconds
        box.value = (
            '<div style="font-size:18px;white-space:pre-wrap">'
            f"{html.escape(''.join(text))}</div><b>{len(done)} tokens · "
            f"{number(rate, 1)} tokens/s</b>"
        )

    return stream(tokenizer, watched(), write)
