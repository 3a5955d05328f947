"""Figuras de ejes: barras, curvas, mapas, nubes de puntos.

Cada función devuelve una `Picture`. No saben nada de modelos: reciben números
o tablas.
"""

import numpy as np
from matplotlib.ticker import LogLocator

from .. import number
from .picture import (
    PALETTE,
    TOKEN_COLORS,
    Picture,
    drawing,
    plain_log,
    short,
)

_DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))]


def grouped_bars(table, title: str, xlabel: str, decimals: int = 2) -> Picture:
    """Barras horizontales: una fila de `table` por grupo, una columna por
    color. `table`: DataFrame de números; los valores se escriben al lado."""
    names, groups = list(table.columns), list(table.index)
    thick = 0.8 / len(names)
    tall = 1.3 + min(0.36 * len(names) * len(groups), 7.8)  # que se proyecte
    with drawing(title, tall) as d:
        for j, name in enumerate(names):
            shift = (j - (len(names) - 1) / 2) * thick
            places = [i + shift for i in range(len(groups))]
            style = dict(color=PALETTE[j], label=name)
            bars = d.axes.barh(places, table[name], thick * 0.92, **style)
            labels = [number(v, decimals) for v in table[name]]
            d.axes.bar_label(bars, labels, padding=4, fontsize=14)
        d.axes.set_yticks(range(len(groups)), groups)
        d.axes.invert_yaxis()
        d.axes.margins(x=0.12)
        d.axes.grid(visible=False, axis="y")
        d.axes.set_xlabel(xlabel)
        if len(names) > 1:
            place = dict(loc="outside lower right", ncols=len(names))
            d.figure.legend(**place, frameon=False)
        d.lines = [f"({xlabel})"]
        for group in groups:
            values = (
                f"{n} {number(table[n][group], decimals)}" for n in names
            )
            d.lines.append(f"{group}: " + ", ".join(values))
    return d.picture


def rates(counts, total: int, title: str) -> Picture:
    """Cuántos de `total` en cada caso, con su intervalo de Wilson al 95 %.

    `counts`: DataFrame de enteros; una fila por caso, una columna por color.
    """
    groups, names = list(counts.index), list(counts.columns)
    with drawing(title, 1.3 + 0.32 * len(names) * len(groups)) as d:
        for j, name in enumerate(names):
            shift = 0.72 * (j - (len(names) - 1) / 2) / len(names)
            for i, good in enumerate(counts[name]):
                low, high = _wilson(good, total)
                style = dict(color=PALETTE[j], label=name if not i else None)
                d.axes.plot([low, high], [i + shift] * 2, lw=3, **style)
                at = good / total, i + shift
                d.axes.plot(*at, "os^D"[j], ms=9, color=PALETTE[j])
                d.axes.text(1.03, i + shift, str(good), va="center", size=14)
        d.axes.set_yticks(range(len(groups)), groups)
        d.axes.invert_yaxis()
        d.axes.set_xlim(-0.02, 1.09)
        d.axes.set_xticks([0, 0.5, 1], ["0", str(total // 2), str(total)])
        d.axes.set_xlabel(f"de {total}; la raya, intervalo del 95 %")
        place = dict(loc="outside lower right", ncols=len(names))
        d.figure.legend(**place, frameon=False)
        d.lines = [
            f"{group}: "
            + ", ".join(f"{n} {counts[n][group]} de {total}" for n in names)
            for group in groups
        ]
    return d.picture


def calibration(confidence, right, title: str, bins: int = 5) -> Picture:
    """Lo seguro que estaba contra lo que acertó, por tramos de confianza, con
    su intervalo de Wilson al 95 %; en la diagonal serían lo mismo.

    `confidence`: de 0 a 1; `right`: si acertó, en el mismo orden.
    """
    groups = [[] for _ in range(bins)]
    for p, good in zip(confidence, right):
        groups[min(int(p * bins), bins - 1)].append((p, bool(good)))
    with drawing(title, 5.8) as d:
        d.axes.plot([0, 1], [0, 1], "k--", lw=2, label="confianza exacta")
        for i, group in enumerate(groups):
            if group:
                total, good = len(group), sum(g for _, g in group)
                mean = sum(p for p, _ in group) / total
                low, high = _wilson(good, total)
                d.axes.plot([mean] * 2, [low, high], lw=4, color=PALETTE[0])
                d.axes.plot(mean, good / total, "o", ms=12, color=PALETTE[5])
                place = mean + 0.025, good / total
                look = dict(va="center", size=15, backgroundcolor="white")
                d.axes.text(*place, f"{good} de {total}", **look)
                low, high = number(i / bins, 1), number((i + 1) / bins, 1)
                said = f"de {low} a {high}: acierta {good} de {total}"
                d.lines.append(said)
        d.axes.set(xlim=(0, 1.02), ylim=(0, 1.05))
        d.axes.set(xlabel="Confianza media", ylabel="Proporción de aciertos")
        d.axes.legend(frameon=False, loc="lower right", handlelength=3)
    return d.picture


def _wilson(good: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Entre qué proporciones puede estar la de verdad (Wilson, 1927)."""
    middle = (good + z * z / 2) / (total + z * z)
    half = z / (total + z * z)
    half *= (good * (total - good) / total + z * z / 4) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def curves(
    x,
    series: dict,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    decimals: int = 2,
    log_y: bool = False,
) -> Picture:
    """Varias curvas sobre las mismas abscisas; con una sola, el primer valor y
    el último van escritos.

    `log`, `log_y`: ejes logarítmicos. El texto da como mucho siete puntos.
    """
    x, alone = list(x), len(series) == 1
    few = len(x) < 8 and not log or log_y  # pocos: que se vea cuáles
    with drawing(title, 4.2 if alone else 4.8) as d:
        for i, (name, y) in enumerate(series.items()):
            style = dict(color=PALETTE[i], lw=3, ls=_DASHES[i], label=name)
            marker = "o" if few or alone else None
            d.axes.plot(x, y, marker=marker, ms=9, **style)
        if alone:
            _write_ends(d.axes, x, list(y), decimals)
            d.axes.set_ylim(0, max(y) * 1.2)
        else:
            d.axes.legend(frameon=False, handlelength=3)
        if log_y:
            d.axes.set_yscale("log")
            plain_log(d.axes.yaxis)
            d.axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        if log:
            d.axes.set_xscale("log")
            plain_log(d.axes.xaxis)
            if len(x) < 10:
                d.axes.set_xticks(x, map(short, x))
                d.axes.xaxis.minorticks_off()
        elif all(isinstance(value, int) for value in x):
            d.axes.xaxis.get_major_locator().set_params(integer=True)
        d.axes.set(xlabel=xlabel, ylabel=ylabel)
        d.lines = [f"{ylabel} según {xlabel.lower()}."]
        marks = sorted({round(k * (len(x) - 1) / 6) for k in range(7)})
        for name, y in series.items():
            pairs = (f"{_x(x[i])} → {number(y[i], decimals)}" for i in marks)
            d.lines.append(f"{name}: " * (not alone) + ", ".join(pairs))
    return d.picture


def line(
    x, y, title: str, xlabel: str, ylabel: str, decimals: int = 0
) -> Picture:
    """Una curva con sus puntos."""
    return curves(x, {ylabel: y}, title, xlabel, ylabel, decimals=decimals)


def _x(value) -> str:
    return number(value, 0 if isinstance(value, int) else 1)


def _write_ends(axes, x, y, decimals: int) -> None:
    for i in (0, -1):
        axes.annotate(
            number(y[i], decimals),
            (x[i], y[i]),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=15,
        )


def histogram(
    values, title: str, xlabel: str, marks: dict, log: bool = False
) -> Picture:
    """Cuántos valores caen en cada tramo, con rayas en `marks` (nombre →
    lugar). `log`: eje x logarítmico; los ceros no caben en él, y se cuentan
    en el texto. El texto da cuartiles y extremos."""
    positive = sorted(v for v in values if v > 0 or not log)
    low, high = positive[0], positive[-1]
    with drawing(title, 4.6) as d:
        bins = np.linspace(low, high, 41)
        if log:
            bins = np.geomspace(low, high, 41)
            d.axes.set_xscale("log")
            plain_log(d.axes.xaxis)
        d.axes.hist(positive, bins, color=PALETTE[4], edgecolor="white")
        for style, (name, place) in zip(_DASHES, marks.items()):
            look = dict(color=PALETTE[1], lw=3, ls=style)
            d.axes.axvline(place, label=f"{name}: {short(place)}", **look)
        d.axes.set_xlabel(xlabel)
        d.axes.set_ylabel("cuántos")
        d.axes.yaxis.get_major_locator().set_params(integer=True)
        if marks:
            d.axes.legend(frameon=False, loc="upper left")
        cuts = np.quantile(positive, [0, 0.25, 0.5, 0.75, 1])
        d.lines.append(f"{len(positive)} valores ({xlabel})")
        d.lines.append("de menor a mayor: " + ", ".join(map(short, cuts)))
        if len(positive) < len(values):
            zeros = len(values) - len(positive)
            d.lines.append(f"y {zeros} cero" + "s" * (zeros > 1))
        d.lines += [f"{name}: {short(x)}" for name, x in marks.items()]
    return d.picture


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
    values = [[float(v) for v in row] for row in matrix]
    known = [v for row in values for v in row if v == v]
    low, high = min(known), max(known)
    middle = (low * high) ** 0.5 if log else (low + high) / 2
    with drawing(title, 1.4 + 0.52 * len(rows)) as d:
        look = dict(cmap="cividis", aspect="auto", vmin=low, vmax=high)
        d.axes.imshow(values, norm="log" if log else "linear", **look)
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                style = dict(ha="center", va="center", fontsize=13)
                style["color"] = "white" if value < middle else "black"
                if value == value:
                    d.axes.text(x, y, number(value, decimals), **style)
        turn = dict(rotation=40, ha="right", rotation_mode="anchor")
        d.axes.set_xticks(range(len(columns)), columns, **turn)
        d.axes.set_yticks(range(len(rows)), rows)
        d.axes.tick_params(length=0)
        d.axes.grid(visible=False)
        d.axes.spines[:].set_visible(False)
        for name, row in zip(rows, values):
            pairs = (
                f"{column} {number(v, decimals)}"
                for column, v in zip(columns, row)
                if v == v
            )
            d.lines.append(f"{name}: " + ", ".join(pairs))
    return d.picture


def before_after(
    labels: list[str], before, panels: dict, title: str
) -> Picture:
    """Una distribución antes de filtrar (contorno) y después (relleno), en
    los mismos ejes; la línea marca dónde corta.

    `before` y cada valor de `panels` (nombre → después): probabilidades, de
    mejor a peor; un 0 después de filtrar es un token descartado.
    """
    rows, places = len(panels), range(len(labels))
    shared = dict(sharex=True, sharey=True)
    with drawing(title, 1.6 + 2.3 * rows, rows, **shared) as d:
        for axes, (name, after) in zip(d.all, panels.items()):
            after = list(after)
            axes.bar(places, after, color=PALETTE[0], label="después")
            outline = dict(fill=False, edgecolor="black", lw=1.6)
            axes.bar(places, before, label="antes", **outline)
            if 0 in after:
                cut = after.index(0) - 0.5
                axes.axvline(cut, color=PALETTE[5], lw=3, ls="--")
            axes.set_ylabel("Probabilidad")
            axes.grid(visible=False, axis="x")
            _subtitle(axes, title, name, rows)
            pairs = (
                f"{label} {number(b)} → {number(a) if a > 0 else 'fuera'}"
                for label, b, a in zip(labels, before, after)
            )
            d.lines.append(f"{name}: " + ", ".join(pairs))
        turn = dict(rotation=35, ha="right", rotation_mode="anchor")
        d.all[-1].set_xticks(list(places), labels, **turn)
        d.axes.legend(frameon=False, loc="upper right", ncols=2)
    return d.picture


def _subtitle(axes, title: str, name: str, rows: int) -> None:
    if rows == 1:
        axes.set_title(f"{title}: {name}", loc="left")
    else:
        axes.set_title(name, loc="left", fontsize=16)


def roulette(labels: list[str], shares, marks: list[float], title: str):
    """La probabilidad acumulada como una barra de 0 a 1, un tramo por token,
    y en `marks` dónde cayeron las tiradas. Devuelve una `Picture`."""
    with drawing(title, 3) as d:
        left, ends = 0.0, []
        for i, (label, share) in enumerate(zip(labels, shares)):
            color = TOKEN_COLORS[i % len(TOKEN_COLORS)]
            d.axes.barh(0, share, left=left, color=color, edgecolor="white")
            if share >= 0.045:
                place = dict(ha="center", va="center", fontsize=14)
                turn = 0 if share > 0.075 else 90
                center = left + share / 2
                d.axes.text(center, 0, label, rotation=turn, **place)
            left += share
            ends.append(left)
        for i, mark in enumerate(marks):
            arrow = dict(arrowstyle="-|>", color=PALETTE[5], lw=2)
            style = dict(fontsize=15, color=PALETTE[5], weight="bold")
            place = dict(ha="center", arrowprops=arrow)
            d.axes.annotate(
                str(i + 1), (mark, 0.4), (mark, 0.72), **place | style
            )
        d.axes.set(xlim=(0, 1), ylim=(-0.45, 0.95), yticks=[])
        d.axes.set_xticks([k / 10 for k in range(11)])
        d.axes.grid(visible=False)
        d.axes.spines["left"].set_visible(False)
        d.axes.set_xlabel("Probabilidad acumulada")
        spans = (f"{a} hasta {number(b)}" for a, b in zip(labels, ends))
        drawn = (
            f"{number(mark)} → {labels[sum(end <= mark for end in ends)]}"
            for mark in marks
        )
        d.lines = [", ".join(spans) + ".", "Tiradas: " + ", ".join(drawn)]
    return d.picture


def scatter(
    x,
    y,
    names: list[str],
    title: str,
    xlabel: str,
    ylabel: str,
    marked=(),
    log: bool = True,
) -> Picture:
    """Una nube de puntos; los de `marked` (posiciones) llevan su nombre.
    `log`: eje y logarítmico. El texto los enumera todos."""
    with drawing(title, 5.6) as d:
        d.axes.scatter(x, y, s=90, color=PALETTE[0], alpha=0.75, lw=0)
        if log:
            d.axes.set_yscale("log")
            plain_log(d.axes.yaxis)
        d.axes.margins(x=0.12)
        for i in marked:
            _name_dot(d.axes, x, y, i, names[i])
        d.axes.set(xlabel=xlabel, ylabel=ylabel)
        d.lines = [f"{xlabel}; {ylabel.lower()}."]
        for name, a, b in zip(names, x, y):
            d.lines.append(f"{name}: {number(a, 1)}; {number(b, 1 - log)}")
    return d.picture


def roofline(bands: dict, points: list[tuple], title: str) -> Picture:
    """Lo mínimo que tarda un token según lo que hay que leer, y lo dicho.

    `bands`: nombre → GB/s; cada una es una recta de ejes logarítmicos.
    `points`: `(nombre, GB por token, de ms, a ms, banda)`; por debajo de la
    recta de su banda, una cifra es imposible.
    """
    colors, ends = dict(zip(bands, PALETTE)), (0.4, 14)
    widest = max(point[1] for point in points)
    with drawing(title, 6.4) as d:
        d.axes.set_xscale("log")
        d.axes.set_yscale("log")
        heights = _apart({n: 1e3 * ends[1] / s for n, s in bands.items()})
        for name, speed in bands.items():
            _roof(d.axes, name, speed, ends, colors[name], heights[name])
            d.lines.append(f"{name}: {number(speed, 0)} GB/s")
        for name, size, low, high, band in points:
            top = high if high > low else low * 1.06
            style = dict(color=colors[band], solid_capstyle="butt")
            d.axes.plot([size, size], [low, top], lw=12, zorder=3, **style)
            at = size, (low * top) ** 0.5
            _name_point(d.axes, name, at, below=size == widest)
            span = number(low, 1)
            span += f" a {number(high, 1)}" if high > low else ""
            floor = number(1e3 * size / bands[band], 1)
            d.lines.append(
                f"{name} ({number(size, 1)} GB): {span} ms; suelo {floor} ms"
            )
        d.axes.set_xlim(*ends)
        plain_log(d.axes.xaxis)
        plain_log(d.axes.yaxis)
        d.axes.set_xticks([0.5, 1, 2, 5, 10])
        d.axes.set_xlabel("GB que se leen por token")
        d.axes.set_ylabel("Milisegundos por token")
    return d.picture


def _name_dot(axes, x, y, i: int, name: str) -> None:
    """Escribe el nombre de un punto por fuera, sin pisar los demás."""
    left = x[i] > (min(x) + 2 * max(x)) / 3
    axes.get_xlim(), axes.get_ylim()  # que estén al día los ejes
    dots = axes.transData.transform(list(zip(x, y)))
    per_pixel = 72 / axes.figure.dpi  # todo en puntos, como el texto
    room = (dots[i, 1] - axes.bbox.y0) * per_pixel  # hasta el eje
    dots = (dots - dots[i]) * per_pixel
    wide, side = 8.5 * len(name), -1 if left else 1

    def covered(up: int) -> int:
        if room + up < 4:
            return len(dots)
        near = (side * dots[:, 0] > 2) & (side * dots[:, 0] < wide + 9)
        return int((near & (abs(dots[:, 1] - up - 5) < 12)).sum())

    up = min((6, -16, 16, 36), key=covered)
    axes.annotate(
        name,
        (x[i], y[i]),
        xytext=(9 * side, up),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=14,
    )


def _apart(heights: dict, least: float = 1.4) -> dict:
    """Las mismas alturas, subidas lo justo para que ningún rótulo pise a otro:
    cada una, al menos `least` veces la de debajo (eje logarítmico)."""
    placed, below = {}, 0.0
    for name, height in sorted(heights.items(), key=lambda pair: pair[1]):
        placed[name] = below = max(height, least * below)
    return placed


def _roof(axes, name, speed, ends: tuple, color: str, height: float) -> None:
    axes.plot(ends, [1e3 * e / speed for e in ends], color=color, lw=2.5)
    axes.annotate(
        f"{name}, {number(speed, 0)} GB/s",
        (ends[1], height),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=14,
        color=color,
        annotation_clip=False,
    )


def _name_point(axes, name: str, at: tuple, below: bool) -> None:
    axes.annotate(
        name,
        at,
        xytext=(0, -12) if below else (-11, 0),
        textcoords="offset points",
        ha="center" if below else "right",
        va="top" if below else "center",
        fontsize=14,
        bbox=dict(fc="white", ec="none", pad=1.5, alpha=0.85),
    )
