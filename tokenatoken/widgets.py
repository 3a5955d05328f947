"""Exploradores: un control, un resultado que cambia y una imagen fija.

Solo usan lo que funciona igual en ipywidgets 7.7.1 (Colab) y 8. Sin kernel
(GitHub, diapositivas, papel) se ve la imagen. No saben nada de ejercicios.
"""

import html

import ipywidgets as widgets
from IPython.display import display

from . import number
from .plots import TOKEN_COLORS, Picture, token_strip
from .tokens import encode, token_label

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_MAX_SHOWN = (
    2000  # tokens dibujados; los recuentos son siempre del texto entero
)


def show(control: widgets.Widget, still: Picture) -> None:
    """Publica el control vivo y la imagen fija en una misma salida."""
    data = still.bundle()
    data[_WIDGET_VIEW] = {
        "version_major": 2,
        "version_minor": 0,
        "model_id": control.model_id,
    }
    display(data, raw=True, metadata={"image/png": {"alt": still.text}})


def tokens_html(tokenizer, ids: list[int]) -> str:
    """Los tokens como piezas de color; el id aparece al pasar el ratón."""
    spans = []
    for i, token_id in enumerate(ids[:_MAX_SHOWN]):
        label = html.escape(token_label(tokenizer, token_id))
        color = TOKEN_COLORS[i % len(TOKEN_COLORS)]
        spans.append(
            f'<span title="id {token_id}" style="background:{color};'
            "color:#000;padding:2px 3px;margin:1px;border-radius:3px;"
            f'display:inline-block">{label}</span>'
        )
    rest = len(ids) - _MAX_SHOWN
    if rest > 0:
        spans.append(f" … y {number(rest, 0)} tokens más, que sí se cuentan.")
    return (
        f'<div role="img" aria-label="{len(ids)} tokens" style="font:16px/1.9 '
        f'monospace;white-space:pre-wrap">{"".join(spans)}</div>'
    )


def counts_html(tokenizers: dict, text: str, price: float) -> str:
    """Tabla de recuentos y coste: una fila por vocabulario."""
    words, characters = len(text.split()), len(text)
    head = "".join(
        f'<th scope="col" style="padding:2px 10px;text-align:right">{title}</th>'
        for title in ("", "tokens", "tokens/palabra", "car./token", "coste")
    )
    rows = ""
    for name, tokenizer in tokenizers.items():
        n = len(encode(tokenizer, text))
        values = (
            number(n, 0),
            number(n / words) if words else "–",
            number(characters / n) if n else "–",
            number(n * price / 1e6, 6),
        )
        cells = "".join(
            f'<td style="padding:2px 10px;text-align:right">{v}</td>'
            for v in values
        )
        rows += f'<tr><th scope="row" style="text-align:left">{name}</th>{cells}</tr>'
    return (
        f'<div style="font-size:16px">{number(words, 0)} palabras, '
        f"{number(characters, 0)} caracteres"
        f"<table><tr>{head}</tr>{rows}</table></div>"
    )


def token_explorer(
    tokenizers: dict, text: str, price: float = 1.0
) -> widgets.VBox:
    """Escribe un texto y mira sus tokens, recuentos y coste al momento.

    `tokenizers`: nombre → tokenizador; el primero es el que se colorea al
    abrir. `price`: precio de un millón de tokens, en la moneda que quieras.
    Publica el explorador y lo devuelve (sus hijos: texto, controles, piezas y
    recuentos).
    """
    layout = widgets.Layout(width="100%")
    area = widgets.Textarea(
        value=text, rows=3, layout=layout, description="Texto"
    )
    which = widgets.Dropdown(
        options=tuple(tokenizers), description="Vocabulario"
    )
    cost = widgets.BoundedFloatText(
        value=price,
        min=0,
        max=1e6,
        step=0.1,
        description="Precio del millón",
        style={"description_width": "initial"},
    )
    pieces, counts = widgets.HTML(), widgets.HTML()

    def refresh(_=None):
        tokenizer = tokenizers[which.value]
        pieces.value = tokens_html(tokenizer, encode(tokenizer, area.value))
        counts.value = counts_html(tokenizers, area.value, cost.value)

    for control in (area, which, cost):
        control.observe(refresh, names="value")
    refresh()
    box = widgets.VBox([area, widgets.HBox([which, cost]), pieces, counts])
    show(box, token_strip(tokenizers[which.value], text))
    return box
