"""Figuras de cajas y rótulos: tokens, barras, pasos, caché, diagramas.

Las que cambian al mover un control devuelven un `Canvas`; las demás, una
`Picture`. No saben nada de modelos: reciben textos, números o un tokenizador.
"""

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex

from .. import number
from ..tokens import encode, token_label
from .canvas import WIDE, Canvas, drawable
from .picture import (
    PALETTE,
    STYLE,
    TOKEN_COLORS,
    Picture,
    comma,
    png_of,
)

BLUE, ORANGE, GREEN, _, SKY, RED = PALETTE
PALE = "#F2F2F2"


def token_strip(
    tokenizer, text: str, title: str = "", width: int = 64
) -> Picture:
    """Franja de tokens en colores, con su id debajo y los espacios a la vista.

    `width`: caracteres por renglón. Los caracteres que la fuente no tiene
    (emoji) se escriben con su código Unicode.
    """
    return token_canvas(
        tokenizer, encode(tokenizer, text), title, width
    ).picture()


def token_canvas(
    tokenizer, ids: list[int], title: str = "", width: int = 64
) -> Canvas:
    """Lo mismo, de unos ids ya hechos."""
    pieces = [(token_label(tokenizer, i), str(i)) for i in ids]
    many = len(TOKEN_COLORS)
    colors = [TOKEN_COLORS[i % many] for i in range(len(pieces))]
    listing = " | ".join(f"{label} {below}" for label, below in pieces)
    canvas = strip(pieces, colors, title, width)
    canvas.about = f"{len(ids)} tokens: {listing}"
    return canvas


def surprise_strip(
    labels: list[str], nats: list[float], title: str, width: int = 64
) -> Picture:
    """Franja de tokens, más oscuros cuanto más sorprenden; debajo, la
    sorpresa −ln p, en nats, con un decimal."""
    pieces = [(label, number(x, 1)) for label, x in zip(labels, nats)]
    shades = plt.get_cmap("Oranges")
    colors = [to_hex(shades(0.05 + 0.6 * min(x, 12) / 12)) for x in nats]
    canvas = strip(pieces, colors, title, width)
    listing = " | ".join(f"{label} {value}" for label, value in pieces)
    canvas.about = f"{title}: {listing}"
    return canvas.picture()


def strip(
    pieces: list[tuple[str, str]], colors, title: str = "", width: int = 64
) -> Canvas:
    """Cajas de color en renglones, con un texto dentro y otro debajo.

    `pieces`: `(dentro, debajo)`; `width`: caracteres por renglón (si son más
    de 64, la letra encoge).
    """
    unit, top = (WIDE - 22) / width, 50 if title else 10
    scale = min(1.0, 64 / width)
    canvas = Canvas(0)
    row, used = 0, 0.0
    for (label, below), color in zip(pieces, colors):
        inside = drawable(label)
        cells = max(len(inside), 0.85 * len(below)) + 1
        if used + cells > width and used:
            row, used = row + 1, 0.0
        x, y, wide = (
            11 + unit * used,
            top + 85 * scale * row,
            unit * (cells - 0.15),
        )
        canvas.box(x, y, wide, 47 * scale, color)
        middle = x + wide / 2
        canvas.text(middle, y + 24 * scale, label, 22 * scale, mono=True)
        canvas.text(middle, y + 63 * scale, below, 18 * scale, mono=True)
        used += cells
    canvas.height = top + 85 * scale * (row + 1)
    if title:
        canvas.title(title)
    return canvas


def legend(canvas: Canvas, names: dict) -> None:
    """Qué significa cada color (nombre → color), en un renglón al pie."""
    for i, (name, color) in enumerate(names.items()):
        x, y = 11 + 300 * i, canvas.height
        canvas.box(x, y + 6, 30, 24, color)
        canvas.text(x + 38, y + 18, name, 18, "start")
    canvas.height += 40


def stack(above: Canvas, below: Canvas) -> Canvas:
    """Dos lienzos, uno encima de otro."""
    whole = Canvas(above.height + below.height)
    whole.about = ".\n".join(filter(None, (above.about, below.about)))
    for canvas, down in ((above, 0), (below, above.height)):
        whole.boxes += [box | {"y": box["y"] + down} for box in canvas.boxes]
        whole.labels += [x | {"y": x["y"] + down} for x in canvas.labels]
    return whole


def bars(
    labels: list[str],
    shares: list[float],
    title: str = "",
    before: list[float] | None = None,
    chosen: int | None = None,
) -> Canvas:
    """Barras horizontales con su tanto por ciento; `shares`, entre 0 y 1.

    `before`: cómo eran antes (contorno); un 0 después es un token que queda
    fuera. `chosen`: qué barra se destaca.
    """
    step, left, wide, top = 44, 220, 640, 52 if title else 8
    canvas = Canvas(top + step * len(labels) + 8)
    if title:
        canvas.title(title)
    said = []
    for i, (label, share) in enumerate(zip(labels, shares)):
        y, old = top + step * i, before[i] if before else 0.0
        words = f"{number(100 * share, 1)} %"
        if before and share == 0:
            words = "fuera"
        said.append(f"{label} {words}")
        words += " ← elegido" if i == chosen else ""
        canvas.text(left - 10, y + 22, label, 22, "end", mono=True)
        color = RED if i == chosen else BLUE
        canvas.box(left, y + 5, wide * share, step - 10, color)
        if before:
            canvas.box(left, y + 5, wide * old, step - 10, edge="#000")
        end = left + wide * max(share, old) + 10
        canvas.text(end, y + 22, words, 20, "start")
    canvas.about = f"{title}: " + "; ".join(said)
    return canvas


def heat(values, labels: list[str], title: str) -> Canvas:
    """Mapa triangular: qué parte (0 a 1) de cada fila va a cada columna, en
    tanto por ciento. `values`: `[n, n]`; la parte de arriba no se dibuja."""
    n, left, top = len(labels), 220, 190
    side = min(60, (WIDE - left - 90) / n)
    canvas = Canvas(top + side * n + 10)
    canvas.title(title)
    notes = []
    for y, row in enumerate(values):
        best = max(range(n), key=lambda x: row[x])
        notes.append(f"{labels[y]} atiende sobre todo a {labels[best]}")
        for x in range(y + 1):
            share, at = float(row[x]), (left + side * x, top + side * y)
            canvas.box(*at, side - 2, side - 2, BLUE, "#ccc", share, 1)
            color = "#fff" if share > 0.45 else "#000"
            center = at[0] + side / 2 - 1, at[1] + side / 2 - 1
            words = str(round(100 * share))
            canvas.text(*center, words, 0.36 * side, color=color)
    for i, label in enumerate(labels):
        middle = side * (i + 0.5)
        canvas.text(left - 10, top + middle, label, 20, "end", mono=True)
        canvas.text(
            left + middle, top - 10, label, 20, "start", mono=True, turn=-40
        )
    canvas.about = f"{title}. " + "; ".join(notes)
    return canvas


def steps_strip(
    steps: list[tuple[str, list]], title: str, current: int | None = None
) -> Canvas:
    """Una columna por paso: arriba el token elegido y debajo los candidatos
    con su tanto por ciento, más oscuros cuanto más probables.

    `steps`: `(elegido, [(candidato, probabilidad), …])`. Se dibujan diez como
    mucho, alrededor de `current` (desde 0), que va marcado.
    """
    first = max(0, min((current or 0) - 6, len(steps) - 10))
    shown = steps[first : first + 10]
    rows = max(len(candidates) for _, candidates in shown)
    side, top = (WIDE - 20) / len(shown), 56
    canvas = Canvas(top + 46 + 72 * rows)
    canvas.title(title)
    shades, lines = plt.get_cmap("Blues"), []
    for i, (chosen, candidates) in enumerate(shown):
        x = 10 + side * i
        if first + i == current:
            canvas.box(x, top - 8, side, 46 + 72 * rows, "#FFF3DC", ORANGE)
        middle = x + side / 2
        canvas.text(middle, top + 14, chosen, 22, mono=True, bold=True)
        for row, (label, share) in enumerate(candidates):
            y = top + 40 + 72 * row
            color = to_hex(shades(0.08 + 0.5 * share))
            edge = RED if label == chosen else "none"
            canvas.box(x + 4, y, side - 8, 62, color, edge, line=4)
            canvas.text(middle, y + 20, label, 19, mono=True)
            canvas.text(middle, y + 46, f"{round(100 * share)} %", 19)
        percents = (f"{name} {round(100 * p)} %" for name, p in candidates)
        lines.append(f"{first + i + 1}. {chosen}: " + ", ".join(percents))
    canvas.about = f"{title}.\n" + "\n".join(lines)
    return canvas


def cache_growth(
    labels: list[str], prompt: int, title: str, upto: int | None = None
) -> Canvas:
    """Qué pasa por la red en cada paso, sin caché y con ella: una fila por
    paso, una columna por token.

    `labels`: los tokens del prompt (`prompt` de ellos) y los nuevos. `upto`:
    hasta qué paso se dibuja (1 es el primero); los demás quedan en gris.
    """
    columns = len(labels) - 1  # el último token no se llega a procesar
    steps = len(labels) - prompt
    upto = steps if upto is None else upto
    side = min(40, 470 / columns)
    top = 110
    canvas = Canvas(top + 40 * steps + 190)
    canvas.title(title)
    counts = []
    for left, name in ((60, "Sin caché"), (590, "Con caché")):
        done = 0
        for y in range(steps):
            canvas.text(left - 12, top + 40 * y + 18, str(y + 1), 18, "end")
            for x in range(columns):
                color = _cell(x, y, prompt, name == "Con caché", y < upto)
                done += color == ORANGE
                at = left + side * x, top + 40 * y
                canvas.box(*at, side - 3, 36, color)
        canvas.text(left, 80, f"{name}: {done} tokens", 22, "start", bold=True)
        for x, label in enumerate(labels[:-1]):
            at = left + side * (x + 0.5), top + 40 * steps + 16
            canvas.text(*at, label, 17, "end", mono=True, turn=-60)
        counts.append(f"{name}: pasan {done} tokens en {upto} pasos")
    _legend(canvas, {"pasa por la red": ORANGE, "se lee de la caché": SKY})
    canvas.about = f"{title}.\n" + "; ".join(counts)
    return canvas


def _cell(x: int, y: int, prompt: int, cached: bool, shown: bool) -> str:
    if not shown or x >= prompt + y:
        return PALE
    return SKY if cached and y and x < prompt + y - 1 else ORANGE


def _legend(canvas: Canvas, names: dict) -> None:
    x, y = 300, canvas.height - 28
    for name, color in names.items():
        canvas.box(x, y - 13, 36, 26, color)
        canvas.text(x + 46, y, name, 20, "start")
        x += 290


def diagram(
    boxes: dict, arrows: list[tuple[str, str, str]], title: str, wide: int = 11
) -> Picture:
    """Cajas con texto, unidas por flechas con su rótulo.

    `boxes`: nombre → `(x, y, color)`, con x de 0 a `wide` (un carácter ocupa
    unas 0,13 unidades), y hacia arriba y color el índice de una paleta clara;
    un nombre puede llevar saltos de línea. `arrows`: `(de, a, rótulo)`.
    """
    tops = [y for _, y, _ in boxes.values()]
    low, high = min(tops) - 0.6, max(tops) + 0.6
    height = high - low + 0.5
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(11, height))
        axes = figure.add_axes((0.01, 0, 0.98, 1 - 0.5 / height))
        axes.set(xlim=(0, wide), ylim=(low, high))
        axes.axis("off")
        place = dict(x=0.01, y=1 - 0.1 / height, va="top")
        figure.text(s=title, size=18, weight="bold", **place)
        drawn = {
            name: _bubble(axes, x, y, name, TOKEN_COLORS[color], 15)
            for name, (x, y, color) in boxes.items()
        }
        for start, end, label in arrows:
            ends = boxes[start][:2], boxes[end][:2]
            _arrow(axes, *ends, drawn[start], drawn[end])
            middle = [(a + b) / 2 for a, b in zip(*ends)]
            if label:
                _bubble(axes, *middle, label, "white", 14, pad=0.1)
        png = png_of(figure)
        plt.close(figure)
    flat = (
        f"{' '.join(a.split())} → {' '.join(b.split())}"
        + (f" ({label})" if label else "")
        for a, b, label in arrows
    )
    return Picture(png, comma(f"{title}. " + "; ".join(flat)))


def _bubble(axes, x, y, words, color, size, pad=0.4):
    shape = dict(boxstyle=f"round,pad={pad}", fc=color, ec="none")
    style = dict(ha="center", va="center", fontsize=size, bbox=shape)
    return axes.text(x, y, comma(words), **style)


def _arrow(axes, start, end, a, b) -> None:
    style = dict(arrowstyle="-|>", lw=2.2, color="#444444")
    style |= dict(patchA=a.get_bbox_patch(), patchB=b.get_bbox_patch())
    style |= dict(shrinkA=2, shrinkB=2)
    axes.annotate("", end, start, arrowprops=style)
