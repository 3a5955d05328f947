"""Un explorador: mandos, un dibujo que los sigue y una imagen fija.

Solo usa lo que funciona igual en ipywidgets 7.7.1 (Colab) y 8. Sin kernel
(GitHub, diapositivas, papel) se ve la imagen; y en un formato propio de JSON
van los datos con los que una página puede moverlo sola. No sabe qué se dibuja.
"""

import html
from collections.abc import Callable

import ipywidgets as widgets

from .canvas import Canvas
from .picture import publish

STATES = "application/vnd.tokenatoken.explorador+json"
FIGURE = "application/vnd.tokenatoken.figura+json"  # sin mandos
_VIEW = "application/vnd.jupyter.widget-view+json"
_WRAP = widgets.Layout(flex_flow="row wrap", width="100%")
Draw = Callable[..., tuple[str, Canvas]]


def explorer(
    draw: Draw, *, states: dict, still: dict | None = None, **controls
) -> widgets.VBox:
    """Publica los mandos, lo que dibuja `draw` con sus valores y la imagen.

    `draw(**valores)` da `(datos, lienzo)`: unas líneas de HTML y un `Canvas`.
    `controls`: nombre → widget. `still`: los valores de la imagen fija que no
    sean los del principio. `states`: los datos para moverlo sin kernel, JSON
    sin más, con su clase en «kind». Devuelve la caja: mandos, datos y dibujo.
    """
    facts, picture = widgets.HTML(), widgets.HTML()

    def refresh(_=None):
        values = {name: control.value for name, control in controls.items()}
        try:
            words, canvas = draw(**values)
        except ValueError as error:  # lo que haya tecleado no vale
            facts.value = f"<b>{html.escape(str(error))}</b>"
            return
        facts.value = f'<div style="font-size:17px">{words}</div>'
        picture.value = canvas.svg()

    for control in controls.values():
        control.observe(refresh, names="value")
    refresh()
    knobs = widgets.HBox(list(controls.values()), layout=_WRAP)
    box = widgets.VBox([knobs, facts, picture])
    values = {name: control.value for name, control in controls.items()}
    _, canvas = draw(**values | (still or {}))
    data = states | {"controls": {n: knob(c) for n, c in controls.items()}}
    publish(canvas.picture(), **view(box), **{STATES: data})
    return box


def view(control: widgets.Widget) -> dict:
    """El control vivo, en el formato de las salidas de un cuaderno."""
    reference = {"version_major": 2, "version_minor": 0}
    return {_VIEW: reference | {"model_id": control.model_id}}


def knob(control: widgets.Widget) -> dict:
    """Un mando, en JSON: su rótulo, su valor y por dónde se mueve."""
    result = {"label": control.description, "value": control.value}
    for name in ("min", "max", "step"):
        if hasattr(control, name):
            result[name] = getattr(control, name)
    if hasattr(control, "options"):
        result["options"] = [list(pair) for pair in _pairs(control.options)]
    return result


def _pairs(options) -> list[tuple]:
    return [o if isinstance(o, tuple) else (str(o), o) for o in options]
