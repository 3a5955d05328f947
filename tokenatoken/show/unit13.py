"""Los dibujos de la unidad 13: el curso en una página, la hoja de fórmulas y
el pasaporte de un token."""

import html

import ipywidgets as widgets

from .. import CourseError
from .boxes import BLUE, GREEN, ORANGE, PALE, stack, strip
from .canvas import WIDE, Canvas
from .explorer import FIGURE, explorer
from .picture import TOKEN_COLORS, publish

WIDTH, HIGH, GAP = 138, 88, 19


def course_map(
    stations: list[tuple], around: list[tuple], controls: dict, title: str
) -> None:
    """Enseña el camino de un prompt a su respuesta y, debajo, lo que lo rodea.
    De cada estación, `(unidad, qué pasa, qué da)`. `controls`: unidad → nombre
    de su punto de control."""
    canvas = map_canvas(stations, around, controls, title)
    data = {"kind": "map", "title": title, "stations": stations}
    data |= {
        "around": around,
        "controls": [[*pair] for pair in controls.items()],
    }  # en orden
    publish(canvas.picture(), **{FIGURE: data})


def map_canvas(stations, around, controls: dict, title: str) -> Canvas:
    canvas = Canvas(60)
    canvas.title(title)
    order = {unit: i for i, unit in enumerate(controls, 1)}
    _row(canvas, stations, order)
    for i in range(1, len(stations)):
        x = 10 + (WIDTH + GAP) * i - GAP / 2
        canvas.text(x, 60 + HIGH / 2, "→", 20)
    _way_back(canvas, [unit for unit, *_ in stations])
    canvas.text(10, canvas.height + 14, "Alrededor", 19, "start", bold=True)
    canvas.height += 34
    _row(canvas, around, order)
    names = "; ".join(f"{i} {n}" for i, n in enumerate(controls.values(), 1))
    canvas.text(10, canvas.height + 12, f"Control: {names}", 18, "start")
    canvas.height += 34
    path, rest = (
        "; ".join(f"{unit} {does}, da {gives}" for unit, does, gives in part)
        for part in (stations, around)
    )
    canvas.about = f"{title}. Camino: {path}; y otra vez al forward. "
    canvas.about += f"Alrededor: {rest}. Puntos de control: {names}"
    return canvas


def _row(canvas: Canvas, stations: list[tuple], order: dict) -> None:
    for i, station in enumerate(stations):
        x = 10 + (WIDTH + GAP) * i
        _station(canvas, x, canvas.height, station, order)
    canvas.height += HIGH + 34


def _way_back(canvas: Canvas, units: list[str]) -> None:
    """La flecha del bucle al forward: el token nuevo, otra vez a la red."""
    if not {"02", "05"} <= set(units):
        return
    start, end = (
        10 + (WIDTH + GAP) * units.index(unit) + WIDTH / 2
        for unit in ("05", "02")
    )
    y = canvas.height + 10
    canvas.box(end, y, start - end, 2, "#444")
    for x in start, end:
        canvas.box(x - 1, y - 12, 2, 12, "#444")
    canvas.text(end, y - 14, "▲", 12, color="#444")
    words = "otra vuelta: solo el token nuevo, si hay caché"
    canvas.text((start + end) / 2, y + 16, words, 16, color="#444")
    canvas.height += 44


def _station(canvas: Canvas, x, y, station: tuple, order: dict) -> None:
    unit, does, gives = station
    color = ORANGE if unit in order else TOKEN_COLORS[0]
    canvas.box(x, y, WIDTH, HIGH, color, opacity=0.45)
    canvas.text(x + 7, y + 18, unit, 16, "start", "#444", bold=True)
    if unit in order:
        mark = f"control {order[unit]}"
        canvas.text(x + WIDTH - 8, y + 18, mark, 14, "end", "#444")
    for j, line in enumerate(_lines(does, 14)):
        canvas.text(x + WIDTH / 2, y + 44 + 22 * j, line, 16)
    canvas.text(x + WIDTH / 2, y + HIGH + 15, gives, 15, color="#444")


def _lines(words: str, most: int) -> list[str]:
    """El texto, en renglones de `most` caracteres."""
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def formula_sheet(rows: list[tuple], title: str) -> None:
    """Enseña la hoja de fórmulas. `rows`: `(unidad, nombre, fórmula, con
    números, resultado)`."""
    data = {"kind": "sheet", "title": title, "rows": rows}
    publish(sheet_canvas(rows, title).picture(), **{FIGURE: data})


def sheet_canvas(rows: list[tuple], title: str) -> Canvas:
    canvas, said = Canvas(56), []
    canvas.title(title)
    for i, (unit, name, formula, numbers, result) in enumerate(rows):
        y = canvas.height
        if i % 2 == 0:
            canvas.box(0, y, WIDE, 62, PALE)
        canvas.text(12, y + 20, unit, 17, "start", "#444", bold=True)
        canvas.text(50, y + 20, name, 18, "start", bold=True)
        canvas.text(330, y + 20, formula, 18, "start")
        canvas.text(50, y + 45, numbers, 17, "start", "#444")
        canvas.text(WIDE - 12, y + 45, result, 18, "end", BLUE, bold=True)
        canvas.height += 62
        said.append(f"{name} ({unit}): {formula}; {numbers}: {result}")
    canvas.height += 8
    canvas.about = f"{title}. {'. '.join(said)}"
    return canvas


def passport_explorer(tokens: list[str], rows: list[dict]) -> widgets.VBox:
    """Todo lo que el curso sabe decir de un token, para cada uno de los de
    una respuesta. `tokens`: sus textos; `rows`: de cada uno, «qué» → `(valor,
    unidad que lo explica)`."""
    if not tokens or len(tokens) != len(rows):
        raise CourseError(
            "Hace falta al menos un token, y un pasaporte para cada uno."
        )
    still = min(4, len(tokens))

    def draw(step):
        row = rows[step - 1]
        words = " · ".join(
            f"{html.escape(name)}: <b>{html.escape(value)}</b>"
            for name, (value, _) in list(row.items())[:3]
        )
        return words, stack(_answer(tokens, step), _passport(row, step))

    knob = widgets.IntSlider(
        value=1, min=1, max=len(tokens), description="Token"
    )
    plain = [{name: [*pair] for name, pair in row.items()} for row in rows]
    data = {"kind": "passport", "tokens": tokens, "rows": plain}
    return explorer(draw, states=data, still={"step": still}, step=knob)


def _answer(tokens: list[str], step: int) -> Canvas:
    """La respuesta, con el token elegido en naranja."""
    colors = [ORANGE if i == step else PALE for i, _ in enumerate(tokens, 1)]
    pieces = [(token, str(i)) for i, token in enumerate(tokens, 1)]
    return strip(pieces, colors, "El pasaporte de un token")


def _passport(row: dict, step: int) -> Canvas:
    canvas, said = Canvas(10), []
    half = -(-len(row) // 2)
    for i, (name, (value, unit)) in enumerate(row.items()):
        x, y = WIDE / 2 * (i // half), 10 + 44 * (i % half)
        if i % half % 2 == 0:
            canvas.box(x, y, WIDE / 2 - 8, 42, PALE)
        canvas.text(x + 10, y + 21, unit, 16, "start", GREEN, bold=True)
        canvas.text(x + 48, y + 21, name, 18, "start")
        canvas.text(x + WIDE / 2 - 20, y + 21, value, 19, "end", bold=True)
        said.append(f"{name}, {value} (unidad {unit})")
    canvas.height = 20 + 44 * half
    canvas.about = f"Token {step}: {'; '.join(said)}"
    return canvas
