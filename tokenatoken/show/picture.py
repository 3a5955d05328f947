"""Una figura: su imagen y lo mismo dicho en texto.

`drawing` prepara y cierra las de ejes (`charts`); `Canvas`, en `canvas`, las
de cajas y rótulos. No sabe nada de lo que se dibuja.
"""

import base64
import html
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from .. import number

# Okabe e Ito (2008): distinguibles con cualquier tipo de daltonismo.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]
# Los mismos tonos, aclarados, para poner texto negro encima.
TOKEN_COLORS = ["#BFE0F5", "#FBE3B0", "#BDE8DA", "#F3D3E4", "#E3E3E3"]
DPI = 100
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
    "figure.dpi": DPI,
}


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
        publish(self)


def publish(picture: Picture, **more) -> None:
    """Enseña la figura y, debajo, su texto plegado: JupyterLab 4 y nbconvert
    no leen la alternativa que va en los metadatos. `more`: otros formatos de
    la misma salida."""
    from IPython.display import HTML, display

    alt = {"image/png": {"alt": picture.text}}
    display(picture.bundle() | more, raw=True, metadata=alt)
    lines = html.escape(picture.text).replace("\n", "<br>")
    display(
        HTML(
            "<details><summary>La figura, en texto</summary>"
            f"<p>{lines}</p></details>"
        )
    )


class Drawing:
    """Los ejes donde se dibuja; al terminar, `picture`."""

    picture: Picture

    def __init__(self, height: float, rows: int, columns: int, **options):
        self.figure, grid = plt.subplots(
            rows,
            columns,
            figsize=(11, height),
            squeeze=False,
            layout="constrained",
            **options,
        )
        self.all = list(grid.flat)
        self.axes = self.all[0]
        self.lines = []  # lo que dirá el texto, línea a línea

    def finish(self, title: str) -> None:
        for words in self.figure.findobj(Text):  # leyendas, notas, título
            words.set_text(comma(words.get_text()))
        for axis in (axis for axes in self.all for axis in _both(axes)):
            marks = axis.get_major_formatter()
            axis.set_major_formatter(FuncFormatter(_commas(marks)))
        text = comma(f"{title}.\n" + "\n".join(self.lines))
        self.picture = Picture(png_of(self.figure), text)


@contextmanager
def drawing(
    title: str, height: float, rows: int = 1, columns: int = 1, **options
) -> Iterator[Drawing]:
    """Unos ejes con el estilo del curso, el título y la coma decimal.

    `height`: pulgadas (el ancho son 11). `lines`, del `Drawing`, es el texto;
    la figura, al salir, queda en `picture`.
    """
    with plt.rc_context(STYLE):
        result = Drawing(height, rows, columns, **options)
        for axes in result.all:
            axes.grid(alpha=0.3)
        if len(result.all) == 1:
            result.axes.set_title(title, loc="left")
        else:
            style = dict(x=0.01, ha="left", weight="bold", fontsize=18)
            result.figure.suptitle(title, **style)
        try:
            yield result
            result.finish(title)
        finally:
            plt.close(result.figure)


def _both(axes) -> tuple:
    return axes.xaxis, axes.yaxis


def _commas(marks: Callable) -> Callable:
    """El mismo rótulo de cada marca, con coma."""

    def label(value, place=None) -> str:
        marks.set_locs(marks.axis.get_majorticklocs())
        return comma(marks(value, place))

    return label


def comma(text: str) -> str:
    """El texto con la coma decimal: «T = 0.7» → «T = 0,7». Un nombre como
    «Qwen2.5» se queda igual."""
    return re.sub(r"(?<![\w.])(\d+)\.(?=\d)", r"\1,", str(text))


def plain_log(axis) -> None:
    """Un eje logarítmico con números que se leen («0,1», «1 000»)."""
    axis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
    axis.set_minor_formatter(FuncFormatter(lambda v, _: ""))


def short(value: float) -> str:
    """Un número con los decimales justos: «0,05», «2,5», «1 000»."""
    for decimals in range(4):
        if abs(round(value, decimals) - value) < 1e-9 * abs(value):
            return number(value, decimals)
    return f"{value:.2g}".replace(".", ",")


def png_of(figure) -> bytes:
    """La figura de matplotlib como PNG: los mismos bytes cada vez."""
    buffer = io.BytesIO()
    meta = {"Software": None}
    figure.savefig(buffer, format="png", facecolor="white", metadata=meta)
    return buffer.getvalue()
