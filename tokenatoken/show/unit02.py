"""El explorador de la unidad 02: a qué atiende cada token."""

import ipywidgets as widgets

from .boxes import heat
from .explorer import explorer


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
