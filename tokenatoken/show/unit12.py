"""Los dibujos de la unidad 12: quién calcula cuándo, de quién es cada página,
y un servidor para mover."""

import html

import ipywidgets as widgets

from .. import CourseError, number
from .boxes import BLUE, ORANGE, PALE, SKY, legend, stack
from .canvas import WIDE, Canvas
from .explorer import explorer
from .picture import TOKEN_COLORS, Picture

COLORS = {"espera": PALE, "lee su prompt": ORANGE, "escribe": SKY}
LEFT, RIGHT, STEP = 150, WIDE - 40, 34


def spans(log: list[tuple], name: str) -> list[list]:
    """`[empieza, acaba, qué hace]` de una petición; lo seguido, junto."""
    found = []
    for begin, end, m, names in log:
        if name not in names:
            continue
        kind = "lee su prompt" if m > 1 else "escribe"
        if found and found[-1][2] == kind and begin - found[-1][1] < 1e-3:
            found[-1][1] = end
        else:
            found.append([begin, end, kind])
    return found


def timeline(log: list[tuple], arrivals: dict, title: str) -> Picture:
    """Una fila por petición y el tiempo hacia la derecha. `log`: `(empieza,
    acaba, tokens por fila, nombres)`; `arrivals`: nombre → cuándo llega."""
    rows = {
        name: [arrival, *spans(log, name)]
        for name, arrival in arrivals.items()
    }
    return gantt(rows, title).picture()


def gantt(rows: dict, title: str) -> Canvas:
    """`rows`: nombre → `[llegada, [empieza, acaba, qué hace], …]`."""
    ends = [span[1] for _, *parts in rows.values() for span in parts]
    longest = max(ends, default=0.0) or 1.0
    unit = (RIGHT - LEFT) / longest
    canvas, said = Canvas(60), []
    canvas.title(title)
    for name, (arrival, *parts) in rows.items():
        y, last = canvas.height, parts[-1][1] if parts else arrival
        canvas.text(LEFT - 12, y + STEP / 2, name, 18, "end")
        wide = unit * (last - arrival)
        canvas.box(LEFT + unit * arrival, y + 4, wide, STEP - 8, PALE, "#999")
        for begin, end, kind in parts:
            wide = max(1.0, unit * (end - begin))
            x = LEFT + unit * begin
            canvas.box(x, y + 4, wide, STEP - 8, COLORS[kind])
        canvas.height += STEP
        written = [span for span in parts if span[2] == "escribe"]
        first = written[0][0] if written else last
        said.append(
            f"{name}: llega en {number(arrival, 1)}, escribe desde "
            f"{number(first, 1)} y acaba en {number(last, 1)}"
        )
    for tick in range(5):
        x = LEFT + (RIGHT - LEFT) * tick / 4
        words = number(longest * tick / 4, 1) + " s" * (tick == 4)
        canvas.text(x, canvas.height + 14, words, 18)
    canvas.height += 34
    legend(canvas, COLORS)
    canvas.about = f"{title}. En segundos: " + "; ".join(said)
    return canvas


def page_map(tables: dict, count: int, title: str) -> Picture:
    """Las páginas por orden, con el color de quien las usa; las compartidas,
    con el nombre de todos. `tables`: nombre → números de página."""
    side, columns = 66, 15
    canvas, said = Canvas(60), []
    canvas.title(title)
    for page in range(count):
        users = [name for name, table in tables.items() if page in table]
        x = 20 + side * (page % columns)
        y = canvas.height + side * (page // columns)
        color = PALE
        if users:
            order = list(tables).index(users[0])
            color = TOKEN_COLORS[order % len(TOKEN_COLORS)]
        edge = "#000" if len(users) > 1 else "none"
        canvas.box(x, y, side - 6, side - 6, color, edge, line=4)
        middle = x + side / 2 - 3
        canvas.text(middle, y + 20, "".join(users) or "·", 20, bold=True)
        canvas.text(middle, y + 46, str(page), 16, color="#444")
        if users:
            said.append(f"{page}: {', '.join(users)}")
    canvas.height += side * (-(-count // columns)) + 6
    free = count - len(said)
    canvas.about = f"{title}. {'; '.join(said)}; libres, {free}"
    return canvas.picture()


def server_explorer(runs: list[dict]) -> widgets.VBox:
    """Cómo llegan, cuántas caben a la vez, cómo se lee el prompt y cuántas
    páginas hay: quién calcula cuándo, la memoria y lo que espera cada una.

    `runs`: los valores de los mandos (`llegan`, `a la vez`, `turno`,
    `páginas`), `log` y `arrivals` (los de `timeline`), `used` (`[empieza,
    acaba, páginas ocupadas]`) y `facts` (qué se midió → número).
    """
    if not runs:
        raise CourseError("Hace falta al menos una serie de peticiones.")
    names = "llegan", "a la vez", "turno", "páginas"
    states = [_state(run, names) for run in runs]
    found = {tuple(run[name] for name in names): run for run in states}
    keys = dict(zip(("arrive", "most", "turn", "pages"), names))

    def draw(arrive, most, turn, pages):
        run = found[arrive, most, turn, pages]
        title = f"{most} a la vez; llegan {arrive} (tiempos simulados)"
        return _facts(run), stack(
            gantt(run["rows"], title), _memory(run["used"], pages)
        )

    knobs = {
        key: widgets.Dropdown(
            options=list(dict.fromkeys(run[name] for run in runs)),
            description=name.capitalize(),
        )
        for key, name in keys.items()
    }
    data = {"kind": "server", "states": states}
    most = max(run["a la vez"] for run in runs)
    return explorer(draw, states=data, still={"most": most}, **knobs)


def _state(run: dict, names: tuple) -> dict:
    """Lo que hace falta para dibujar una serie, en milésimas de segundo."""
    rows = {
        name: [when, *spans(run["log"], name)]
        for name, when in run["arrivals"].items()
    }
    for _, *parts in rows.values():
        for part in parts:
            part[:2] = [round(time, 3) for time in part[:2]]
    used = []
    for begin, end, count in run["used"]:
        if used and used[-1][2] == count:
            used[-1][1] = round(end, 3)
        else:
            used.append([round(begin, 3), round(end, 3), count])
    knobs = {name: run[name] for name in names}
    return knobs | {"rows": rows, "used": used, "facts": run["facts"]}


def _facts(run: dict) -> str:
    words = (
        f"{html.escape(name)}: <b>{number(value, 0)}</b>"
        for name, value in run["facts"].items()
    )
    return " · ".join(words)


def _memory(used: list, pages: int) -> Canvas:
    """Cuántas páginas hay ocupadas en cada momento."""
    canvas, high = Canvas(120), 70
    longest = max(end for _, end, _ in used) or 1.0
    unit = (RIGHT - LEFT) / longest
    canvas.text(LEFT - 12, 50, "páginas", 18, "end")
    for begin, end, count in used:
        tall = high * count / pages
        color = BLUE if count < pages else ORANGE
        wide = max(1.0, unit * (end - begin))
        canvas.box(LEFT + unit * begin, 12 + high - tall, wide, tall, color)
    canvas.box(LEFT, 12, RIGHT - LEFT, high, edge="#999")
    top = max(count for _, _, count in used)
    words = f"como mucho, {top} de {pages} ocupadas"
    canvas.text(LEFT, 12 + high + 18, words, 18, "start")
    canvas.about = words
    return canvas
