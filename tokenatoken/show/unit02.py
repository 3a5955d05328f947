"""Lo que dibuja la unidad 02: la atención, RoPE y la lente."""

import html
from collections.abc import Callable

import ipywidgets as widgets

from .. import number
from .boxes import BLUE, PALE, SKY, heat
from .canvas import WIDE, Canvas
from .explorer import explorer
from .picture import PALETTE, Picture, drawing


def attention_explorer(
    attentions, labels: list[str], layer: int = 0, head: int = 0
) -> widgets.VBox:
    """Mapa de atención; al abrir, el de la capa y la cabeza que digas.

    `attentions`: `[capas, cabezas, n, n]`, cada fila suma 1. `labels`: los n
    tokens. En cada casilla, tanto por ciento de atención de la fila a la
    columna.
    """
    maps = attentions.tolist()

    def draw(layer, head):
        title = f"Atención en la capa {layer}, cabeza {head} (en %)"
        return "", heat(maps[layer][head], labels, title)

    percent = [[_triangle(one) for one in heads] for heads in maps]
    return explorer(
        draw,
        states={"kind": "attention", "labels": labels, "percent": percent},
        layer=_slider("Capa", layer, len(maps)),
        head=_slider("Cabeza", head, len(maps[0])),
    )


def _slider(name: str, value: int, many: int) -> widgets.IntSlider:
    return widgets.IntSlider(value, 0, many - 1, description=name)


def _triangle(rows) -> list[int]:
    """Lo que no está en el futuro, fila a fila, en tanto por ciento."""
    return [round(100 * v) for y, row in enumerate(rows) for v in row[: y + 1]]


def attention_steps(
    labels: list[str], keys, scores, weights, values, mixed, title: str
) -> Picture:
    """Una fila de atención, paso a paso: puntuación, peso, value y mezcla.

    `labels`: los n tokens que se ven. `keys` y `values`: `[n, 2]`; `scores` y
    `weights`: `[n]`; `mixed`: `[2]`.
    """
    canvas = Canvas(190 + 62 * len(labels))
    canvas.title(title)
    heads = "token", "k", "q·k / √2", "peso", "v", "peso × v"
    places = 90, 240, 400, 590, 800, 980
    for x, words in zip(places, heads):
        canvas.text(x, 72, words, 19, color="#555555")
    rows = zip(labels, keys, scores, weights, values)
    for i, (label, key, score, weight, value) in enumerate(rows):
        y = 112 + 62 * i
        canvas.box(20, y - 22, 140, 44, "#E3E3E3")
        canvas.box(500, y - 15, 150 * weight, 30, SKY)
        part = [weight * x for x in value]
        texts = label, _pair(key), number(score), "", _pair(value), _pair(part)
        for x, words in zip(places, texts):
            canvas.text(x, y, words, 20, mono=True)
        canvas.text(665, y, number(weight), 20, "start", mono=True)
    y = 122 + 62 * len(labels)
    canvas.text(800, y, "suma", 20, color="#555555")
    canvas.box(880, y - 24, 200, 46, "none", BLUE, line=3)
    canvas.text(980, y, _pair(mixed), 22, mono=True, bold=True)
    listing = "; ".join(
        f"{label}: puntuación {number(s)}, peso {number(w)}"
        for label, s, w in zip(labels, scores, weights)
    )
    canvas.about = f"{title}. {listing}. Mezcla: {_pair(mixed)}"
    return canvas.picture()


def _pair(values) -> str:
    return "[" + "; ".join(number(v, 1) for v in values) + "]"


def rope_dials(speeds: dict, positions: int = 8) -> Picture:
    """Hacia dónde apunta una pareja de números en cada posición.

    `speeds`: rótulo → radianes que gira por posición; una esfera cada una.
    """
    options = dict(columns=len(speeds), subplot_kw={"projection": "polar"})
    title = "RoPE: el mismo vector en ocho posiciones"
    with drawing(title, 4.2, **options) as d:
        d.axes.figure.get_layout_engine().set(wspace=0.1)
        for axes, (name, speed) in zip(d.all, speeds.items()):
            for i in range(positions):
                look = dict(color=PALETTE[0], lw=3, alpha=0.3 + 0.09 * i)
                axes.plot([i * speed] * 2, [0, 1], **look)
                if speed > 0.1:  # si no, un rótulo encima de otro
                    axes.text(i * speed, 1.13, i, ha="center", va="center")
            if speed <= 0.1:
                last = positions - 1
                axes.text(last * speed / 2, 1.22, f"0–{last}", ha="center")
            axes.set(yticks=[], ylim=(0, 1))
            axes.set_xticks([0, 1.5708, 3.1416, 4.7124], [""] * 4)
            axes.set_title(name, fontsize=15, pad=22)
            degrees = number(57.29578 * speed, 1 if speed > 0.01 else 4)
            d.lines.append(f"{name}: {degrees} grados por posición")
    return d.picture


Reading = tuple[list[str], list[list[str]], list[list[float]]]


def lens_explorer(
    read: Callable[[str], Reading], prompts: list[str], first: int = 12
) -> widgets.VBox:
    """Qué token gana en cada capa y posición, según la lente.

    `read(texto)` da los n tokens del texto y, de cada capa y posición, el
    token que gana y su probabilidad: `[capas + 1][n]`. Se dibujan las capas
    desde `first` y las ocho últimas posiciones.
    """
    known = {text: _cut(read(text), first) for text in prompts}

    def draw(example, own):
        text = own.strip() or example
        if text not in known:
            known[text] = _cut(read(text), first)
        return html.escape(text), lens_canvas(*known[text], first)

    states = [
        {"labels": labels, "tokens": tokens, "percent": _percent(shares)}
        for labels, tokens, shares in known.values()
    ]
    wide = widgets.Layout(width="420px")
    names = [(text.replace("\n", "⏎"), text) for text in prompts]
    example = widgets.Dropdown(
        options=names, description="Ejemplo", layout=wide
    )
    own = widgets.Text(
        description="O el tuyo", continuous_update=False, layout=wide
    )
    # elegir un ejemplo borra lo escrito: manda lo último que se toca
    example.observe(lambda _: setattr(own, "value", ""), names="value")
    return explorer(
        draw,
        states={"kind": "lens", "first": first, "prompts": states},
        example=example,
        own=own,
    )


def _percent(shares) -> list[list[int]]:
    return [[round(100 * p) for p in row] for row in shares]


def _cut(reading: Reading, first: int, columns: int = 8) -> Reading:
    labels, tokens, shares = reading
    return (
        labels[-columns:],
        [row[-columns:] for row in tokens[first:]],
        [row[-columns:] for row in shares[first:]],
    )


def lens_canvas(labels, tokens, shares, first: int) -> Canvas:
    """Una casilla por capa y posición: más azul, más probable."""
    left, high = 90, 38
    wide = (WIDE - left - 8) / len(labels)
    fits = max(3, int(wide / 11.5))
    canvas = Canvas(100 + high * len(tokens))
    canvas.title("Qué token gana en cada capa")
    canvas.text(left / 2, 70, "capa", 17, color="#555555")
    for x, label in enumerate(labels):
        middle = left + wide * (x + 0.5)
        canvas.text(middle, 70, _short(label, fits), 18, mono=True, bold=True)
    for y, (row, probabilities) in enumerate(zip(tokens, shares)):
        top = 90 + high * y
        canvas.text(left / 2, top + high / 2, str(first + y), 18)
        for x, (token, p) in enumerate(zip(row, probabilities)):
            place = left + wide * x + 2, top + 2, wide - 4, high - 4
            canvas.box(*place, PALE)
            canvas.box(*place, SKY, opacity=p)
            middle = left + wide * (x + 0.5), top + high / 2
            words = _short(token, fits)
            canvas.text(*middle, words, 18, mono=True, still="otra letra")
    last = ", ".join(
        f"{first + y} {row[-1]} ({number(100 * p[-1], 0)} %)"
        for y, (row, p) in enumerate(zip(tokens, shares))
    )
    canvas.about = f"Tras {''.join(labels)}, gana en cada capa: {last}"
    return canvas


def _short(label: str, fits: int) -> str:
    return label if len(label) <= fits else label[: fits - 1] + "…"
