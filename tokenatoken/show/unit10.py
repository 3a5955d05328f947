"""El explorador de la unidad 10, qué escribe la misma pregunta sola y en un
lote; y el dibujo de dos maneras de partir una suma."""

import html

import ipywidgets as widgets

from .. import CourseError, number
from ..tokens import token_label
from .boxes import GREEN, ORANGE, PALE, SKY, legend, stack, strip
from .canvas import WIDE, Canvas
from .explorer import explorer
from .picture import Picture

AROUND = 5  # tokens que se ven antes y después de donde se separan
NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
TIGHT = 0.1  # un margen pequeño
COLORS = {"iguales": PALE, "margen menor que 0,1": SKY, "distintos": ORANGE}


def company_explorer(tokenizer, content: dict, prompts) -> widgets.VBox:
    """Elige la pregunta, la precisión y el lote: lo que escribe sola y en
    compañía, y bajo cada token su margen (el mejor logit menos el segundo).

    `content`: lo que guarda `tools.company`. `prompts`: los números de las
    preguntas.
    """
    texts, runs = content["prompts"], content["runs"]
    if not set(prompts) <= set(range(len(texts))):
        raise CourseError(
            f"Hay {len(texts)} preguntas, de la 0 a la {len(texts) - 1}: elige "
            "entre esos números."
        )

    def both(prompt, precision, batch) -> list[dict]:
        row = runs[precision][prompt]
        return [row["1"], row[str(batch)]]

    def draw(prompt, precision, batch):
        alone, company = both(prompt, precision, batch)
        apart = first_difference(alone["ids"], company["ids"])
        words = _words(tokenizer, alone["ids"], company["ids"], apart, batch)
        title = f"{texts[prompt]} ({NAMES[precision]})"
        return words, _picture(tokenizer, title, alone, company, apart, batch)

    states = []
    for prompt in prompts:
        for precision in runs:
            for batch in (2, 8):
                alone, company = both(prompt, precision, batch)
                apart = first_difference(alone["ids"], company["ids"])
                place = dict(prompt=prompt, precision=precision, batch=batch)
                pair = [
                    _pieces(tokenizer, run, apart) for run in (alone, company)
                ]
                states.append(place | {"apart": apart, "rows": pair})
    knobs = dict(
        prompt=widgets.Dropdown(
            options=[(texts[i], i) for i in prompts], description="Pregunta"
        ),
        precision=widgets.Dropdown(
            options=[(NAMES[name], name) for name in runs],
            value="bfloat16",
            description="Precisión",
        ),
        batch=widgets.Dropdown(options=[2, 8], description="Lote"),
    )
    return explorer(
        draw, states={"kind": "company", "states": states}, **knobs
    )


def first_difference(a: list, b: list) -> int | None:
    """Dónde dejan de ser iguales, o None."""
    pairs = enumerate(zip(a, b))
    return next((i for i, (x, y) in pairs if x != y), None)


def _pieces(tokenizer, run: dict, apart: int | None) -> list[list]:
    """`[lugar, texto, margen]` de los tokens que se ven: alrededor de donde se
    separan o, si no, del menor margen."""
    margins = run["margins"]
    center = margins.index(min(margins)) if apart is None else apart
    start = min(max(0, center - AROUND), len(margins) - 2 * AROUND - 1)
    return [
        [i, token_label(tokenizer, run["ids"][i]), margins[i]]
        for i in range(start, start + 2 * AROUND + 1)
    ]


def _words(tokenizer, alone, company, apart, batch) -> str:
    def text(ids):
        return html.escape(tokenizer.decode(ids))

    if apart is None:
        same = f"Los {len(alone)} tokens, iguales sola y en un lote de {batch}"
        return f"{same}: {text(alone)}"
    return (
        f"{text(alone[:apart])}<br><b>Sola:</b> {text(alone[apart:])}<br>"
        f"<b>Lote de {batch}:</b> {text(company[apart:])}"
    )


def _picture(tokenizer, title, alone, company, apart, batch) -> Canvas:
    end = f"se separan en el token {(apart or 0) + 1}"
    if apart is None:
        end = "no se separan; alrededor del menor margen"
    canvases = []
    for name, run in {"sola": alone, f"lote de {batch}": company}.items():
        rows = _pieces(tokenizer, run, apart)
        pieces = [(label, number(m, 4)) for _, label, m in rows]
        colors = [_color(i, m, apart) for i, _, m in rows]
        canvas = strip(pieces, colors, f"{name}, con el margen debajo", 78)
        listing = " | ".join(f"{label} {below}" for label, below in pieces)
        canvas.about = f"{name}: {listing}"
        canvases.append(canvas)
    head = Canvas(46)
    head.title(f"{title}: {end}")
    head.about = f"{title}: {end}"
    canvas = stack(head, stack(*canvases))
    legend(canvas, COLORS)
    return canvas


def _color(place: int, margin: float, apart: int | None) -> str:
    if apart is not None and place >= apart:
        return ORANGE
    return SKY if margin < TIGHT else PALE


def split_drawing(lengths, parts: int, size: int, title: str) -> Picture:
    """Una suma de cada largo, partida en un número fijo de trozos y en trozos
    de tamaño fijo; el mismo color, el mismo trozo."""
    canvas = Canvas(56)
    canvas.title(title)
    said = []
    scale = (WIDE - 190) / max(lengths)
    for name, cuts in {
        f"{parts} trozos": lambda n: _cuts(n, -(-n // parts)),
        f"trozos de {size}": lambda n: _cuts(n, size),
    }.items():
        canvas.text(11, canvas.height + 14, name, 20, "start")
        canvas.height += 34
        known = set()  # los trozos de los largos anteriores
        for n in lengths:
            row, start = cuts(n), 0
            canvas.text(150, canvas.height + 22, f"n = {n}", 18, "end")
            for cut in row:
                color = GREEN if (start, cut) in known else PALE
                left, wide = 165 + scale * start, scale * cut
                canvas.box(left, canvas.height, wide - 3, 44, color, "#666")
                middle = left + wide / 2
                canvas.text(middle, canvas.height + 22, str(cut), 17)
                known.add((start, cut))
                start += cut
            said.append(f"{name}, n = {n}: " + " · ".join(map(str, row)))
            canvas.height += 54
        canvas.height += 14
    canvas.about = f"{title}. " + "; ".join(said)
    return canvas.picture()


def _cuts(n: int, size: int) -> list[int]:
    return [min(size, n - start) for start in range(0, n, size)]
