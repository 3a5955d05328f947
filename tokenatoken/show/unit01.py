"""El explorador de la unidad 01: un texto, sus tokens y lo que cuesta."""

import ipywidgets as widgets

from .. import number
from ..tokens import encode, token_label
from .boxes import token_canvas
from .explorer import explorer

MAX_SHOWN = 500  # tokens dibujados; los recuentos son del texto entero


def token_explorer(
    tokenizers: dict, text: str, price: float = 1.0
) -> widgets.VBox:
    """Escribe un texto y mira sus tokens, recuentos y coste al momento.

    `tokenizers`: nombre → tokenizador; el primero es el que se colorea al
    abrir. `price`: precio de un millón de tokens, en la moneda que quieras.
    """
    wide = dict(rows=3, layout=widgets.Layout(width="100%"))
    style = {"description_width": "initial"}
    limits = dict(min=0, max=1e6, step=0.1)
    names = tuple(tokenizers)

    def draw(text, vocabulary, price):
        tokenizer = tokenizers[vocabulary]
        ids = encode(tokenizer, text)
        words = counts_html(tokenizers, text, price)
        if len(ids) > MAX_SHOWN:
            words += f"Se dibujan los {MAX_SHOWN} primeros."
        return words, token_canvas(tokenizer, ids[:MAX_SHOWN])

    pieces = {
        name: [[token_label(tokenizer, i), i] for i in encode(tokenizer, text)]
        for name, tokenizer in tokenizers.items()
    }
    return explorer(
        draw,
        states={"kind": "tokens", "pieces": pieces},
        text=widgets.Textarea(text, description="Texto", **wide),
        vocabulary=widgets.Dropdown(options=names, description="Vocabulario"),
        price=widgets.BoundedFloatText(
            price, description="Precio del millón", style=style, **limits
        ),
    )


def counts_html(tokenizers: dict, text: str, price: float) -> str:
    """Tabla de recuentos y coste: una fila por vocabulario."""
    words, characters = len(text.split()), len(text)
    titles = "", "tokens", "tokens/palabra", "car./token", "coste"
    cell = 'style="padding:2px 10px;text-align:right"'
    head = "".join(f'<th scope="col" {cell}>{title}</th>' for title in titles)
    rows = ""
    for name, tokenizer in tokenizers.items():
        n = len(encode(tokenizer, text))
        values = (
            number(n, 0),
            number(n / words) if words else "–",
            number(characters / n) if n else "–",
            number(n * price / 1e6, 6),
        )
        cells = "".join(f"<td {cell}>{value}</td>" for value in values)
        rows += f'<tr><th scope="row" {cell}>{name}</th>{cells}</tr>'
    return (
        f"{number(words, 0)} palabras, {number(characters, 0)} caracteres"
        f"<table><tr>{head}</tr>{rows}</table>"
    )
