"""Un lienzo de cajas y rótulos que se dibuja una vez y sale de dos formas.

`svg()` es lo que cambia al mover un control (menos de un milisegundo);
`picture()`, la imagen fija de lo mismo. No sabe nada de tokens ni de modelos.
"""

import html
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from .picture import DPI, STYLE, Picture, png_of

WIDE = 1100  # píxeles: el ancho de todas las figuras
_MONO = "DejaVu Sans Mono"
_ALIGN = {"start": "left", "middle": "center", "end": "right"}


@dataclass
class Canvas:
    """Cajas y rótulos en píxeles, con el origen arriba a la izquierda.

    `about`: lo que se ve, dicho en texto.
    """

    height: float
    about: str = ""
    boxes: list[dict] = field(default_factory=list)
    labels: list[dict] = field(default_factory=list)

    def box(
        self, x, y, wide, high, fill="none", edge="none", opacity=1.0, line=2
    ) -> None:
        """Un rectángulo, desde su esquina de arriba a la izquierda."""
        self.boxes.append(
            dict(x=x, y=y, wide=wide, high=high, fill=fill, edge=edge)
            | dict(opacity=opacity, line=line)
        )

    def text(
        self, x, y, words, size=20, anchor="middle", color="#000", **style
    ) -> None:
        """Un rótulo con su centro a la altura `y`. `style`: `mono`, `bold`,
        `turn` (grados en el sentido de las agujas del reloj) o `still` (qué
        poner en la imagen si su fuente no tiene los caracteres)."""
        self.labels.append(
            dict(x=x, y=y, words=words, size=size, anchor=anchor, color=color)
            | style
        )

    def title(self, words: str) -> None:
        """El título, arriba a la izquierda."""
        self.text(8, 26, words, 25, "start", bold=True)

    def svg(self) -> str:
        """El dibujo como SVG, con su descripción para lectores de pantalla."""
        inside = [_svg_box(**box) for box in self.boxes]
        inside += [_svg_text(**label) for label in self.labels]
        return (
            f'<svg role="img" aria-label="{html.escape(self.about)}" '
            f'viewBox="0 0 {WIDE} {self.height:.0f}" style="max-width:860px;'
            f'width:100%;background:#fff">{"".join(inside)}</svg>'
        )

    def picture(self) -> Picture:
        """El mismo dibujo como imagen."""
        with plt.rc_context(STYLE):
            size = WIDE / DPI, self.height / DPI
            figure = plt.figure(figsize=size)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.axis("off")
            self.paint(axes)
            png = png_of(figure)
            plt.close(figure)
        return Picture(png, self.about)

    def paint(self, axes, scale: float = 1.0) -> None:
        """Lo dibuja en unos ejes; `scale`: cuánto encogen letras y líneas."""
        axes.set(xlim=(0, WIDE), ylim=(self.height, 0))
        for box in self.boxes:
            axes.add_patch(_patch(**box | {"line": scale * box["line"]}))
        for label in self.labels:
            _write(axes, **label | {"size": scale * label["size"]})


def _svg_box(x, y, wide, high, fill, edge, opacity, line) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
        f'height="{high:.1f}" fill="{fill}" fill-opacity="{opacity:.3f}" '
        f'stroke="{edge}" stroke-width="{line}"/>'
    )


def _svg_text(
    x, y, words, size, anchor, color, mono=False, bold=False, turn=0, still=""
) -> str:
    place = f'x="{x:.1f}" y="{y + 0.35 * size:.1f}"'
    if turn:
        place = f'transform="translate({x:.1f},{y:.1f}) rotate({turn})"'
    family = "monospace" if mono else "sans-serif"
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text {place} text-anchor="{anchor}" font-size="{size}" fill="'
        f'{color}" font-family="{family}"{weight}>{html.escape(words)}</text>'
    )


def _patch(x, y, wide, high, fill, edge, opacity, line):
    style = dict(facecolor="none") if fill == "none" else dict(facecolor=fill)
    back = plt.Rectangle((x, y), wide, high, lw=line * 0.72, **style)
    back.set_edgecolor(edge)
    if fill != "none" and opacity < 1:
        back.set_facecolor((*plt.matplotlib.colors.to_rgb(fill), opacity))
    return back


def _write(
    axes,
    x,
    y,
    words,
    size,
    anchor,
    color,
    mono=False,
    bold=False,
    turn=0,
    still="",
) -> None:
    plain = drawable(words) if mono else words
    axes.text(
        x,
        y,
        still if still and plain != words else plain,
        size=0.72 * size,  # píxeles a puntos, a 100 por pulgada
        ha=_ALIGN[anchor],
        va="baseline" if turn else "center_baseline",
        color=color,
        rotation=-turn,
        rotation_mode="anchor",
        weight="bold" if bold else "normal",
        family=_MONO if mono else STYLE["font.family"],
        parse_math=False,
    )


def drawable(label: str) -> str:
    """La etiqueta con «U+1F916» donde la fuente no tiene el carácter."""
    font = FT2Font(findfont(FontProperties(family=_MONO)))
    return "".join(
        c if font.get_char_index(ord(c)) else f"U+{ord(c):04X}" for c in label
    )
