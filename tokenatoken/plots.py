"""Figuras del curso: siempre con su alternativa en texto.

Cada función devuelve una `Picture`, que al final de una celda se enseña como
imagen y, debajo, como texto plegado. No sabe nada de modelos: recibe números,
tablas o un tokenizador ya cargado.
"""

import base64
import html
import io
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from . import number
from .tokens import encode, token_label

# Okabe e Ito (2008): distinguibles con cualquier tipo de daltonismo.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]
# Los mismos tonos, aclarados, para poner texto negro encima.
TOKEN_COLORS = ["#BFE0F5", "#FBE3B0", "#BDE8DA", "#F3D3E4", "#E3E3E3"]
STYLE = {
    "font.family": "DejaVu Sans",  # viene con matplotlib: igual en todas partes
    "font.size": 15,
    "axes.titlesize": 18,
    "axes.titleweight": "bold",
    "axes.labelsize": 15,
    "xtick.labelsize": 14,
    "ytick.labelsize": 14,
    "legend.fontsize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.dpi": 100,
}
_MONO = "DejaVu Sans Mono"


@dataclass
class Picture:
    """Una figura ya dibujada (`png`) y lo mismo dicho en `text`."""

    png: bytes
    text: str

    def bundle(self) -> dict:
        """Las dos caras, en el formato de las salidas de un cuaderno."""
        image = base64.b64encode(self.png).decode()
        return {"image/png": image, "text/plain": self.text}

    def _ipython_display_(self):
        from IPython.display import HTML, display

        display(
            self.bundle(), raw=True, metadata={"image/png": {"alt": self.text}}
        )
        lines = html.escape(self.text).replace("\n", "<br>")
        display(
            HTML(
                "<details><summary>La figura, en texto</summary>"
                f"<p>{lines}</p></details>"
            )
        )


def finish(figure, text: str) -> Picture:
    """Convierte una figura de matplotlib en `Picture` y la cierra."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format="png",
        facecolor="white",
        metadata={"Software": None},
    )
    plt.close(figure)
    return Picture(buffer.getvalue(), text)


def token_strip(
    tokenizer, text: str, title: str = "", width: int = 64
) -> Picture:
    """Franja de tokens en colores, con su id debajo y los espacios a la vista.

    `width`: caracteres por renglón. Los caracteres que la fuente no tiene
    (emoji) se escriben con su código Unicode.
    """
    ids = encode(tokenizer, text)
    pieces = [(token_label(tokenizer, i), str(i)) for i in ids]
    many = len(TOKEN_COLORS)
    colors = [TOKEN_COLORS[i % many] for i in range(len(pieces))]
    listing = " | ".join(f"{label} {number}" for label, number in pieces)
    about = f"{len(ids)} tokens: {listing}"
    return _strip(pieces, colors, title, width, about)


def surprise_strip(
    labels: list[str], nats: list[float], title: str, width: int = 64
) -> Picture:
    """Franja de tokens, más oscuros cuanto más sorprenden; debajo, la
    sorpresa −ln p, en nats, con un decimal."""
    pieces = [(label, number(x, 1)) for label, x in zip(labels, nats)]
    shades = plt.get_cmap("Oranges")
    colors = [shades(0.05 + 0.6 * min(x, 12) / 12) for x in nats]
    listing = " | ".join(f"{label} {value}" for label, value in pieces)
    return _strip(pieces, colors, title, width, f"{title}: {listing}")


def _strip(pieces, colors, title: str, width: int, about: str) -> Picture:
    """Cajas de color con un texto dentro y otro debajo, en renglones."""
    rows, used = [[]], 0
    for (label, below), color in zip(pieces, colors):
        shown = _drawable(label)
        cells = max(len(shown), 0.85 * len(below)) + 1
        if used + cells > width and rows[-1]:
            rows.append([])
            used = 0
        rows[-1].append((used, cells, shown, below, color))
        used += cells
    with plt.rc_context(STYLE):
        top = 0.5 if title else 0.1  # pulgadas
        height = 0.85 * len(rows) + top
        figure = plt.figure(figsize=(11, height))
        axes = figure.add_axes((0.01, 0, 0.98, 1 - top / height))
        for y, row in enumerate(rows):
            for x, cells, shown, below, color in row:
                box = plt.Rectangle((x, -y), cells - 0.15, 0.55, color=color)
                axes.add_patch(box)
                center = x + (cells - 0.15) / 2
                style = dict(ha="center", va="center", family=_MONO)
                axes.text(center, -y + 0.27, shown, size=16, **style)
                axes.text(center, -y - 0.18, below, size=13, **style)
        axes.set_xlim(0, width)
        axes.set_ylim(-len(rows) + 0.65, 0.65)
        axes.axis("off")
        _title(figure, title, height)
        return finish(figure, about)


def grouped_bars(table, title: str, xlabel: str, decimals: int = 2) -> Picture:
    """Barras horizontales: una fila de `table` por grupo, una columna por
    color. `table`: DataFrame de números; los valores se escriben al lado."""
    names, groups = list(table.columns), list(table.index)
    thick = 0.8 / len(names)
    with plt.rc_context(STYLE):
        tall = 1.3 + 0.36 * len(names) * len(groups)
        figure, axes = plt.subplots(figsize=(11, tall), layout="constrained")
        for j, name in enumerate(names):
            places = [
                i + (j - (len(names) - 1) / 2) * thick
                for i in range(len(groups))
            ]
            bars = axes.barh(
                places, table[name], thick * 0.92, color=PALETTE[j], label=name
            )
            labels = [number(v, decimals) for v in table[name]]
            axes.bar_label(bars, labels, padding=4, fontsize=14)
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel(xlabel)
        axes.set_title(title, loc="left")
        axes.grid(axis="x", alpha=0.3)
        if len(names) > 1:
            place = dict(loc="outside lower right", ncols=len(names))
            figure.legend(**place, frameon=False)
        rows = (
            f"{group}: "
            + ", ".join(
                f"{n} {number(table[n][group], decimals)}" for n in names
            )
            for group in groups
        )
        return finish(figure, f"{title} ({xlabel}).\n" + "\n".join(rows))


def line(
    x, y, title: str, xlabel: str, ylabel: str, decimals: int = 0
) -> Picture:
    """Una curva con sus puntos; el primero y el último llevan su valor."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 4.2), layout="constrained")
        axes.plot(x, y, "o-", color=PALETTE[0], lw=2.5, ms=8)
        for i in (0, -1):
            axes.annotate(
                number(y[i], decimals),
                (x[i], y[i]),
                xytext=(0, 12),
                textcoords="offset points",
                ha="center",
                fontsize=15,
            )
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(0, max(y) * 1.2)
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
        pairs = ", ".join(
            f"{number(a, 1) if isinstance(a, float) else a}: "
            f"{number(b, decimals)}"
            for a, b in zip(x, y)
        )
        return finish(
            figure, f"{title}. {ylabel} según {xlabel.lower()}: {pairs}"
        )


def _title(figure, title: str, height: float) -> None:
    """Título de una figura sin ejes, a un décimo de pulgada del borde."""
    size = STYLE["axes.titlesize"]
    place = dict(x=0.01, y=1 - 0.1 / height, va="top")
    figure.text(s=title, size=size, weight="bold", **place)


def _drawable(label: str) -> str:
    """La etiqueta con «U+1F916» donde la fuente no tiene el carácter."""
    font = FT2Font(findfont(FontProperties(family=_MONO)))
    return "".join(
        c if font.get_char_index(ord(c)) else f"U+{ord(c):04X}" for c in label
    )


def curves(
    x,
    series: dict,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    decimals: int = 2,
) -> Picture:
    """Varias curvas sobre las mismas abscisas, con su nombre al final.

    `log`: eje x logarítmico. El texto da el valor en como mucho seis puntos.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 4.8), layout="constrained")
        styles = ["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))]
        few = len(x) < 8 and not log  # pocos puntos: que se vea cuáles
        for i, (name, y) in enumerate(series.items()):
            style = dict(color=PALETTE[i], lw=3, ls=styles[i], label=name)
            axes.plot(x, y, marker="o" if few else None, ms=9, **style)
        if log:
            axes.set_xscale("log")
        elif all(isinstance(value, int) for value in x):
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, handlelength=3)
        shown = 7 if few else 6
        marks = sorted(
            {round(k * (len(x) - 1) / (shown - 1)) for k in range(shown)}
        )
        whole = log or (few and all(isinstance(v, int) for v in x))
        lines = (
            f"{name}: "
            + ", ".join(
                f"{number(x[i], 0 if whole else 1)} → {number(y[i], decimals)}"
                for i in marks
            )
            for name, y in series.items()
        )
        about = f"{title}. {ylabel} según {xlabel.lower()}.\n"
        return finish(figure, about + "\n".join(lines))


def heatmap(
    matrix,
    rows: list[str],
    columns: list[str],
    title: str,
    decimals: int = 2,
    log: bool = False,
) -> Picture:
    """Mapa de calor con el valor escrito en cada casilla.

    `matrix`: `[filas, columnas]`; una casilla NaN se deja en blanco. `log`:
    escala de color logarítmica, para valores de distinto orden.
    """
    height = 1.4 + 0.52 * len(rows)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, height), layout="constrained")
        values = [[float(v) for v in row] for row in matrix]
        known = [v for row in values for v in row if v == v]
        low, high = min(known), max(known)
        scale = "log" if log else "linear"
        axes.imshow(
            values,
            cmap="cividis",
            aspect="auto",
            norm=scale,
            vmin=low,
            vmax=high,
        )
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                if value != value:
                    continue
                middle = (low * high) ** 0.5 if log else (low + high) / 2
                dark = value < middle
                axes.text(
                    x,
                    y,
                    number(value, decimals),
                    ha="center",
                    va="center",
                    color="white" if dark else "black",
                    fontsize=13,
                )
        turn = dict(rotation=40, ha="right", rotation_mode="anchor")
        axes.set_xticks(range(len(columns)), columns, **turn)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(title, loc="left")
        lines = (
            f"{name}: "
            + ", ".join(
                f"{c} {number(v, decimals)}"
                for c, v in zip(columns, row)
                if v == v
            )
            for name, row in zip(rows, values)
        )
        return finish(figure, f"{title}.\n" + "\n".join(lines))


def flow(steps: list[tuple[str, str, str]], title: str) -> Picture:
    """Diagrama de un recorrido, de arriba abajo: una caja por paso.

    `steps`: `(nombre, forma, detalle)`. La forma va a la izquierda, junto a
    la flecha que entra; el detalle, dentro de la caja.
    """
    with plt.rc_context(STYLE):
        height = 0.6 + 0.92 * len(steps)
        figure = plt.figure(figsize=(11, height))
        axes = figure.add_axes((0.01, 0, 0.98, 1 - 0.5 / height))
        for i, (name, shape, detail) in enumerate(steps):
            color = TOKEN_COLORS[i % len(TOKEN_COLORS)]
            box = plt.Rectangle((3.1, -i - 0.31), 7.8, 0.62, color=color)
            axes.add_patch(box)
            axes.text(3.3, -i, name, va="center", size=16, weight="bold")
            axes.text(10.7, -i, detail, va="center", ha="right", size=14)
            place = dict(va="center", ha="right", size=15, family=_MONO)
            axes.text(2.85, -i, shape, **place)
            if i + 1 < len(steps):
                axes.annotate(
                    "",
                    (7, -i - 0.69),
                    (7, -i - 0.31),
                    arrowprops=dict(arrowstyle="->", lw=2, color="#555555"),
                )
        axes.set_xlim(0, 11)
        axes.set_ylim(-len(steps) + 0.55, 0.45)
        axes.axis("off")
        _title(figure, title, height)
        lines = (f"{n} {s}: {d}".strip(": ") for n, s, d in steps)
        return finish(figure, f"{title}.\n" + "\n".join(lines))


def before_after(
    labels: list[str], before, panels: dict, title: str
) -> Picture:
    """Una distribución antes de filtrar (contorno) y después (relleno), en
    los mismos ejes; la línea marca dónde corta.

    `before` y cada valor de `panels` (nombre → después): probabilidades, de
    mejor a peor; un 0 después de filtrar es un token descartado.
    """
    rows = len(panels)
    places = range(len(labels))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            rows,
            figsize=(11, 1.6 + 2.3 * rows),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        lines = []
        for axes, (name, after) in zip(grid[:, 0], panels.items()):
            kept = [x > 0 for x in after]
            axes.bar(places, after, color=PALETTE[0], label="después")
            axes.bar(
                places,
                before,
                fill=False,
                edgecolor="black",
                lw=1.6,
                label="antes",
            )
            if not all(kept):
                cut = kept.index(False) - 0.5
                axes.axvline(cut, color=PALETTE[5], lw=3, ls="--")
            axes.set_ylabel("Probabilidad")
            axes.yaxis.set_major_formatter(lambda x, _: number(x, 1))
            axes.set_title(name, loc="left", fontsize=16)
            axes.grid(axis="y", alpha=0.3)
            pairs = (
                f"{label} {number(b)} → {number(a) if a > 0 else 'fuera'}"
                for label, b, a in zip(labels, before, after)
            )
            lines.append(f"{name}: " + ", ".join(pairs))
        turn = dict(rotation=35, ha="right", rotation_mode="anchor")
        grid[-1, 0].set_xticks(list(places), labels, **turn)
        grid[0, 0].legend(frameon=False, loc="upper right", ncols=2)
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=18)
        return finish(figure, f"{title}.\n" + "\n".join(lines))


def roulette(labels: list[str], shares, marks: list[float], title: str):
    """La probabilidad acumulada como una barra de 0 a 1, un tramo por token,
    y en `marks` dónde cayeron las tiradas. Devuelve una `Picture`."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 3), layout="constrained")
        left, ends = 0.0, []
        for i, (label, share) in enumerate(zip(labels, shares)):
            color = TOKEN_COLORS[i % len(TOKEN_COLORS)]
            axes.barh(0, share, left=left, color=color, edgecolor="white")
            if share >= 0.045:
                place = dict(ha="center", va="center", fontsize=14)
                turn = 0 if share > 0.075 else 90
                axes.text(left + share / 2, 0, label, rotation=turn, **place)
            left += share
            ends.append(left)
        for i, mark in enumerate(marks):
            axes.annotate(
                f"{i + 1}",
                (mark, 0.4),
                (mark, 0.72),
                ha="center",
                fontsize=15,
                color=PALETTE[5],
                weight="bold",
                arrowprops=dict(arrowstyle="-|>", color=PALETTE[5], lw=2),
            )
        axes.set(xlim=(0, 1), ylim=(-0.45, 0.95), yticks=[])
        axes.set_xticks([k / 10 for k in range(11)])
        axes.xaxis.set_major_formatter(lambda x, _: number(x, 1))
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Probabilidad acumulada")
        axes.set_title(title, loc="left")
        spans = ", ".join(
            f"{label} hasta {number(end)}" for label, end in zip(labels, ends)
        )
        drawn = ", ".join(
            f"{number(mark)} → {labels[sum(end <= mark for end in ends)]}"
            for mark in marks
        )
        return finish(figure, f"{title}.\n{spans}.\nTiradas: {drawn}")


def scatter(
    x, y, names: list[str], title: str, xlabel: str, ylabel: str, marked=()
) -> Picture:
    """Una nube de puntos con eje y logarítmico; los de `marked` (posiciones)
    llevan su nombre. El texto los enumera todos."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 5.6), layout="constrained")
        axes.scatter(x, y, s=90, color=PALETTE[0], alpha=0.75, lw=0)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda v, _: number(v, 0))
        for i in marked:
            right = x[i] > (min(x) + 2 * max(x)) / 3
            axes.annotate(
                names[i],
                (x[i], y[i]),
                xytext=(-9 if right else 9, 6),
                textcoords="offset points",
                ha="right" if right else "left",
                fontsize=14,
            )
        axes.margins(x=0.12)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
        lines = (
            f"{name}: {number(a, 1)}; {number(b, 0)}"
            for name, a, b in zip(names, x, y)
        )
        about = f"{title}. {xlabel}; {ylabel.lower()}.\n"
        return finish(figure, about + "\n".join(lines))


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
    with plt.rc_context(STYLE):
        height = high - low + 0.5
        figure = plt.figure(figsize=(11, height))
        axes = figure.add_axes((0.01, 0, 0.98, 1 - 0.5 / height))
        drawn = {}
        for name, (x, y, color) in boxes.items():
            drawn[name] = axes.text(
                x,
                y,
                name,
                ha="center",
                va="center",
                fontsize=15,
                bbox=dict(
                    boxstyle="round,pad=0.4", fc=TOKEN_COLORS[color], ec="none"
                ),
            )
        for start, end, label in arrows:
            (x0, y0, _), (x1, y1, _) = boxes[start], boxes[end]
            axes.annotate(
                "",
                (x1, y1),
                (x0, y0),
                arrowprops=dict(
                    arrowstyle="-|>",
                    lw=2.2,
                    color="#444444",
                    patchA=drawn[start].get_bbox_patch(),
                    patchB=drawn[end].get_bbox_patch(),
                    shrinkA=2,
                    shrinkB=2,
                ),
            )
            axes.text(
                (x0 + x1) / 2,
                (y0 + y1) / 2,
                label,
                ha="center",
                va="center",
                fontsize=14,
                bbox=dict(fc="white", ec="none", pad=1.5),
            )
        axes.set(xlim=(0, wide), ylim=(low, high))
        axes.axis("off")
        _title(figure, title, height)
        flat = (
            f"{' '.join(a.split())} → {' '.join(b.split())}"
            + (f" ({label})" if label else "")
            for a, b, label in arrows
        )
        return finish(figure, f"{title}. " + "; ".join(flat))


def steps_strip(steps: list[tuple[str, list]], title: str) -> Picture:
    """Una columna por paso: arriba el token elegido y debajo los candidatos
    con su tanto por ciento, más oscuros cuanto más probables.

    `steps`: `(elegido, [(candidato, probabilidad), …])`, unos diez como mucho.
    """
    rows = 1 + max(len(candidates) for _, candidates in steps)
    with plt.rc_context(STYLE):
        height = 0.7 + 0.72 * rows
        figure = plt.figure(figsize=(11, height))
        axes = figure.add_axes((0.01, 0, 0.98, 1 - 0.55 / height))
        shades = plt.get_cmap("Blues")
        for x, (chosen, candidates) in enumerate(steps):
            axes.text(
                x,
                0,
                _drawable(chosen),
                ha="center",
                va="center",
                fontsize=16,
                family=_MONO,
                weight="bold",
            )
            for y, (label, share) in enumerate(candidates, 1):
                box = plt.Rectangle(
                    (x - 0.47, -y - 0.42),
                    0.94,
                    0.84,
                    fc=shades(0.08 + 0.5 * share),
                    ec=PALETTE[5] if label == chosen else "none",
                    lw=3,
                )
                axes.add_patch(box)
                style = dict(ha="center", va="center", fontsize=14)
                axes.text(
                    x, -y + 0.16, _drawable(label), family=_MONO, **style
                )
                axes.text(x, -y - 0.22, f"{round(100 * share)} %", **style)
        axes.set_xlim(-0.55, len(steps) - 0.45)
        axes.set_ylim(-rows + 0.5, 0.5)
        axes.axis("off")
        _title(figure, title, height)
        lines = (
            f"{i}. {chosen}: "
            + ", ".join(f"{name} {round(100 * p)} %" for name, p in candidates)
            for i, (chosen, candidates) in enumerate(steps, 1)
        )
        return finish(figure, f"{title}.\n" + "\n".join(lines))


def cache_growth(labels: list[str], prompt: int, title: str) -> Picture:
    """Qué pasa por la red en cada paso, sin caché y con ella: una fila por
    paso, una columna por token.

    `labels`: los tokens del prompt (`prompt` de ellos) y los nuevos.
    """
    total = len(labels)
    steps = total - prompt  # el último token nuevo no se llega a procesar
    fresh, kept, later = PALETTE[1], PALETTE[4], "#F2F2F2"
    with plt.rc_context(STYLE):
        figure, pair = plt.subplots(
            1,
            2,
            figsize=(11, 1.9 + 0.42 * steps),
            sharey=True,
            layout="constrained",
        )
        names = "Sin caché", "Con caché"
        lines = []
        for axes, name in zip(pair, names):
            cached = name == names[1]
            done = 0
            for y in range(steps):
                for x in range(total - 1):
                    color = fresh if x < prompt + y else later
                    if cached and y and x < prompt + y - 1:
                        color = kept
                    done += color == fresh
                    box = plt.Rectangle((x - 0.46, y - 0.42), 0.92, 0.84)
                    box.set_facecolor(color)
                    axes.add_patch(box)
            axes.set(xlim=(-0.6, total - 1.4), ylim=(steps - 0.4, -0.6))
            axes.set_title(f"{name}: {done} tokens", loc="left", fontsize=16)
            turn = dict(rotation=60, ha="right", rotation_mode="anchor")
            shown = [_drawable(label) for label in labels[:-1]]
            axes.set_xticks(range(total - 1), shown, fontsize=12, **turn)
            axes.set_yticks(range(steps), range(1, steps + 1))
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            lines.append(f"{name}: pasan {done} tokens en {steps} pasos")
        pair[0].set_ylabel("Paso")
        marks = [
            plt.Rectangle((0, 0), 1, 1, fc=color) for color in (fresh, kept)
        ]
        words = ["pasa por la red", "se lee de la caché"]
        place = dict(loc="outside lower center", ncols=2, frameon=False)
        figure.legend(marks, words, **place)
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=18)
        return finish(figure, f"{title}.\n" + "; ".join(lines))


def roofline(bands: dict, points: list[tuple], title: str) -> Picture:
    """Lo mínimo que tarda un token según lo que hay que leer, y lo dicho.

    `bands`: nombre → GB/s; cada una es una recta de ejes logarítmicos.
    `points`: `(nombre, GB por token, de ms, a ms, banda)`; por debajo de la
    recta de su banda, una cifra es imposible.
    """
    colors = dict(zip(bands, PALETTE))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 6.4), layout="constrained")
        ends = 0.4, 14
        for name, speed in bands.items():
            floor = [1e3 * size / speed for size in ends]
            axes.plot(ends, floor, color=colors[name], lw=2.5)
            axes.annotate(
                f"{name}, {number(speed, 0)} GB/s",
                (ends[1], floor[1]),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=14,
                color=colors[name],
                annotation_clip=False,
            )
        lines = [
            f"{name}: {number(speed, 0)} GB/s" for name, speed in bands.items()
        ]
        for name, size, low, high, band in points:
            top = high if high > low else low * 1.06
            style = dict(color=colors[band], solid_capstyle="butt")
            axes.plot([size, size], [low, top], lw=12, zorder=3, **style)
            last = size == max(point[1] for point in points)
            axes.annotate(
                name,
                (size, (low * top) ** 0.5),
                xytext=(0, -12) if last else (-11, 0),
                textcoords="offset points",
                ha="center" if last else "right",
                va="top" if last else "center",
                fontsize=14,
                bbox=dict(fc="white", ec="none", pad=1.5, alpha=0.85),
            )
            span = number(low, 1)
            span += f" a {number(high, 1)}" if high > low else ""
            floor = number(1e3 * size / bands[band], 1)
            lines.append(
                f"{name} ({number(size, 1)} GB): {span} ms; suelo {floor} ms"
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*ends)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(
                lambda v, _: number(v, 0 if v >= 1 else 1)
            )
            axis.set_minor_formatter(lambda v, _: "")
        axes.set_xticks([0.5, 1, 2, 5, 10])
        axes.set_xlabel("GB que se leen por token")
        axes.set_ylabel("Milisegundos por token")
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
        return finish(figure, f"{title}.\n" + "\n".join(lines))
