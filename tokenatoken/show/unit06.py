"""El explorador de la unidad 06: la caché, paso a paso."""

import ipywidgets as widgets

from .. import number
from ..tokens import token_label
from .boxes import cache_growth
from .explorer import explorer


def cache_explorer(
    tokenizer, ids: list[int], prompt: int, bytes_per_token: int
) -> widgets.VBox:
    """La caché, paso a paso: qué tokens guarda, cuál pasa ahora por la red y
    cuánto ocupa.

    `ids`: los del prompt (`prompt` de ellos) y los nuevos.
    """
    labels = [token_label(tokenizer, i) for i in ids]
    steps = len(ids) - prompt

    def draw(step):
        have = prompt + step - 1  # tokens en la caché al acabar el paso
        fresh = prompt if step == 1 else 1
        without = step * prompt + step * (step - 1) // 2
        words = (
            f"Paso {step}: por la red, {fresh}; ya guardados, {have - fresh}. "
            "La caché ocupa "
            f"{number(have * bytes_per_token / 1024, 0)} KiB.<br>Tokens "
            f"procesados hasta aquí: {have} con caché, {without} sin ella."
        )
        title = "Lo que pasa por la red"
        return words, cache_growth(labels, prompt, title, step)

    return explorer(
        draw,
        states={
            "kind": "cache",
            "labels": labels,
            "prompt": prompt,
            "bytes_per_token": bytes_per_token,
        },
        still=dict(step=steps),
        step=widgets.IntSlider(1, 1, steps, description="Paso"),
    )
