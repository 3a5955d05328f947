"""El explorador de la unidad 07: lo que cuesta y lo que tarda una llamada."""

import ipywidgets as widgets

from .. import number
from .boxes import bars
from .explorer import explorer


def cost_explorer(ttft_per_token: float, tpot: float) -> widgets.VBox:
    """Calculadora de una llamada a una API: lo que cuesta y lo que tarda.

    `ttft_per_token` y `tpot`: segundos por token de entrada y de salida. Los
    precios, por millón de tokens, los pone quien la usa.
    """

    def draw(tokens_in, tokens_out, price_in, price_out):
        cents = tokens_in * price_in / 1e4, tokens_out * price_out / 1e4
        seconds = tokens_in * ttft_per_token, (tokens_out - 1) * tpot
        shares = [
            x / (sum(pair) or 1) for pair in (cents, seconds) for x in pair
        ]
        names = (
            "coste: entrada",
            "coste: salida",
            "tiempo: entrada",
            "tiempo: salida",
        )
        title = (
            f"{number(tokens_in, 0)} tokens de entrada y "
            f"{number(tokens_out, 0)} de salida: quién paga y quién espera"
        )
        return _table(cents, seconds), bars(list(names), shares, title)

    return explorer(
        draw,
        states={
            "kind": "cost",
            "ttft_per_token": ttft_per_token,
            "tpot": tpot,
        },
        tokens_in=_slider("Tokens de entrada", 1000, 10, 20_000, 10),
        tokens_out=_slider("Tokens de salida", 300, 1, 4000, 1),
        price_in=_slider("Entrada, por millón", 1.0, 0, 10, 0.05),
        price_out=_slider("Salida, por millón", 4.0, 0, 40, 0.05),
    )


def _slider(name: str, value, low, high, step):
    whole = isinstance(value, int)
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    limits = dict(min=low, max=high, step=step)
    style = dict(description_width="150px")
    layout = widgets.Layout(width="520px")
    return kind(value, description=name, style=style, layout=layout, **limits)


def _table(cents: tuple, seconds: tuple) -> str:
    rows = zip(("entrada (prefill)", "salida (decode)"), cents, seconds)
    body = "".join(
        f"<tr><td>{name}</td><td>{number(a, 3)}</td><td>{number(b, 1)}</td></tr>"
        for name, a, b in rows
    )
    return (
        '<table style="line-height:1.8">'
        "<tr><th></th><th>céntimos</th><th>segundos</th></tr>"
        f"{body}<tr><th>total</th><th>{number(sum(cents), 3)}</th>"
        f"<th>{number(sum(seconds), 1)}</th></tr></table>"
    )
