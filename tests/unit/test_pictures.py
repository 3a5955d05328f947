"""Figuras y explorador: imagen, texto y reacción, sin navegador."""

import html
import io
import itertools
import json
import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import ipywidgets
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from PIL import Image

from tokenatoken import CourseError, number, show
from tokenatoken.forward import prompt_ids
from tokenatoken.generation import generate_steps
from tokenatoken.model import load_tokenizer
from tokenatoken.scheduler import Request, in_turns, prefill_first
from tokenatoken.serving import Rehearsal
from tokenatoken.show import (
    boxes,
    charts,
    explorer,
    picture,
    unit01,
    unit05,
    unit08,
)
from tokenatoken.show.explorer import FIGURE, STATES

from .tiny import ended_tokenizer, wide_model

SMOLLM2 = load_tokenizer("smollm2")
TOKENIZERS = {"SmolLM2": SMOLLM2, "MiniLM": load_tokenizer("minilm")}
FORMATS = json.loads(
    (Path(show.__file__).parents[1] / "data" / "formatos.json").read_text(
        "utf-8"
    )
)
TABLE = pd.DataFrame({"a": [1.5, 2.0], "b": [0.25, 4.0]}, index=["uno", "dos"])


@pytest.mark.parametrize(
    "draw, words",
    [
        (
            lambda: show.token_strip(SMOLLM2, "Hola 🤖\n" * 30, "T"),
            ["tokens", "H "],
        ),
        (lambda: show.token_strip(SMOLLM2, ""), ["0 tokens"]),
        (
            lambda: show.grouped_bars(TABLE, "T", "X"),
            ["uno: a 1,50", "b 4,00"],
        ),
        (lambda: show.line([1, 2], [5, 6], "T", "X", "Y"), ["1 → 5, 2 → 6"]),
        (
            lambda: show.calibration([0.1, 0.15, 1.0], [True, False, 1], "T"),
            ["de 0,0 a 0,2: acierta 1 de 2", "de 0,8 a 1,0: acierta 1 de 1"],
        ),
        (
            lambda: show.heatmap(
                [[1, float("nan")], [0.5, 2]], "ab", "cd", "T"
            ),
            ["a: c 1,00\n", "b: c 0,50, d 2,00"],
        ),
        (
            lambda: show.attention_steps(
                ["a", "b"],
                *([[1, 0], [0, 1]], [0.0, 1.0], [0.3, 0.7], [[1, 2], [3, 4]]),
                *([2.4, 3.4], "T"),
            ),
            ["b: puntuación 1,00, peso 0,70", "[2,4; 3,4]"],
        ),
        (
            lambda: show.rope_dials({"una": 1.0, "otra": 0.001}),
            ["una: 57,3 grados", "otra: 0,0573 grados"],
        ),
        (
            lambda: show.curves(
                [1, 10], {"a": [0, 1], "b": [2, 3]}, *"TXY", log=True
            ),
            ["a: 1 → 0,00, 10 → 1,00", "b: 1 → 2,00"],
        ),
        (
            lambda: show.before_after(
                ["a", "b"], [0.6, 0.4], {"k = 1": [1.0, 0.0]}, "T"
            ),
            ["k = 1: a 0,60 → 1,00, b 0,40 → fuera"],
        ),
        (
            lambda: show.roulette(["a", "b"], [0.6, 0.4], [0.59, 0.61], "T"),
            ["a hasta 0,60", "0,59 → a, 0,61 → b"],
        ),
        (
            lambda: show.histogram([1.0, 2.0, 4.0], "T", "X", {"raya": 2.5}),
            ["3 valores (X)", "1, 1,5, 2, 3, 4", "raya: 2,5"],
        ),
        (
            lambda: show.histogram([0.0, 0.1, 9.0], "T", "X", {}, log=True),
            ["2 valores", "y 1 cero"],
        ),
        (
            lambda: show.split_drawing((1000, 1001), 8, 256, "T"),
            [
                "8 trozos, n = 1001: 126 · 126 · 126 · 126 · 126 · 126 · 126",
                "trozos de 256, n = 1000: 256 · 256 · 256 · 232",
            ],
        ),
        (
            lambda: show.scatter([1, 90], [1000, 2], "ab", *"TXY", [0, 1]),
            ["a: 1,0; 1\u202f000", "b: 90,0; 2"],
        ),
        (
            lambda: show.diagram(
                {"a\nb": (1, 0, 0), "c": (5, 1, 1)}, [("a\nb", "c", "x")], "T"
            ),
            ["a b → c (x)"],
        ),
        (
            lambda: boxes.cache_growth(
                ["a", "b", "🤖", "d"], 2, "T"
            ).picture(),
            ["Sin caché: pasan 5 tokens", "Con caché: pasan 3 tokens"],
        ),
        (
            lambda: show.roofline(
                {"T4": 320},
                [("a", 2.0, 3, 4, "T4"), ("b", 2.0, 9, 9, "T4")],
                "T",
            ),
            ["T4: 320 GB/s", "a (2,0 GB): 3,0 a 4,0 ms; suelo 6,2 ms"],
        ),
        (
            lambda: boxes.steps_strip(
                [("·a", [("·a", 0.5), ("🤖", 0.1)])], "T"
            ).picture(),
            ["1. ·a: ·a 50 %, 🤖 10 %"],
        ),
        (
            lambda: show.surprise_strip(["·a", "🤖"], [0.04, 30.0], "T"),
            ["T: ·a 0,0 | 🤖 30,0"],
        ),
    ],
)
def test_each_figure_is_an_image_and_a_text(draw, words):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Glyph .* missing", UserWarning)
        picture = draw()
    image = Image.open(io.BytesIO(picture.png))
    assert image.width > 500 and image.width < 1400
    assert all(word in picture.text for word in words), picture.text
    assert not plt.get_fignums(), "la figura se queda abierta"
    assert set(picture.bundle()) == {"image/png", "text/plain"}


def test_figures_are_byte_stable():
    one, two = (show.grouped_bars(TABLE, "T", "X").png for _ in range(2))
    assert one == two


@pytest.fixture
def published(monkeypatch):
    """Lo que se enseña: (argumentos, opciones) de cada `display`."""
    shown = []
    monkeypatch.setattr(
        "IPython.display.display", lambda *a, **k: shown.append((a, k))
    )
    return shown


def test_picture_shows_its_text_folded(published):
    shown = published
    show.line([1, 2], [5, 6], "T <b>", "X", "Y")._ipython_display_()
    (bundle,), options = shown[0]
    assert bundle["text/plain"] == options["metadata"]["image/png"]["alt"]
    assert (
        "<details>" in shown[1][0][0].data
        and "&lt;b&gt;" in shown[1][0][0].data
    )


def numbers_of(axes) -> list[str]:
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    return [label.get_text() for label in labels]


@pytest.mark.parametrize("log", [False, True])
def test_axes_have_a_decimal_comma(monkeypatch, log):
    seen = []
    real = picture.png_of

    def spy(figure):
        figure.canvas.draw()
        seen.extend(numbers_of(figure.axes[0]))
        return real(figure)

    monkeypatch.setattr(picture, "png_of", spy)
    show.curves([0.25, 0.5, 1.5], {"a": [0.1, 0.2, 0.3]}, *"TXY", log=log)
    assert any("," in text for text in seen), seen
    assert not any("." in text for text in seen), seen
    assert not any("$" in text for text in seen), "potencias de diez"


def test_legends_groups_and_titles_have_it_too(monkeypatch):
    seen = []
    real = picture.png_of

    def spy(figure):
        figure.canvas.draw()
        texts = figure.findobj(picture.Text)
        seen.extend(t.get_text() for t in texts if t.get_visible())
        return real(figure)

    monkeypatch.setattr(picture, "png_of", spy)
    table = pd.DataFrame({"T = 0.5": [1], "T = 1.5": [2]}, index=["p = 0.9"])
    shown = show.grouped_bars(table, "De 0.5 a 1.5", "X")
    assert {"T = 0,5", "T = 1,5", "p = 0,9", "De 0,5 a 1,5"} <= set(seen)
    assert not re.search(r"\d\.\d", " ".join(seen) + shown.text)


CANVAS = {
    "barras": boxes.bars(["a<b", "·🤖"], [0.75, 0.0], "T", [0.5, 0.5], 0),
    "pasos": boxes.steps_strip([("·a", [("·a", 0.5)])] * 14, "T", 11),
    "atención": boxes.heat([[1, 0], [0.25, 0.75]], ["a", "b"], "T"),
    "caché": boxes.cache_growth(list("abcd"), 2, "T", 1),
    "tokens": boxes.token_canvas(SMOLLM2, SMOLLM2.encode("Hola 🤖"), "T"),
}


@pytest.mark.parametrize("name", CANVAS)
def test_one_drawing_serves_the_control_and_the_still(name):
    """El SVG y la imagen dicen lo mismo: los mismos rótulos, las mismas
    cajas, en el mismo lienzo."""
    canvas = CANVAS[name]
    root = ElementTree.fromstring(canvas.svg())
    words = [t.text or "" for t in root.iter("text")]
    assert words == [label["words"] for label in canvas.labels]
    assert len(list(root.iter("rect"))) == len(canvas.boxes)
    said = canvas.picture().text
    assert root.get("aria-label").split() == said.split()
    image = Image.open(io.BytesIO(canvas.picture().png))
    wide, high = (float(x) for x in root.get("viewBox").split()[2:])
    assert image.width == wide and abs(image.height - high) <= 1
    for label in canvas.labels:
        assert 0 <= label["x"] <= wide and 0 <= label["y"] <= high, label


def test_steps_are_drawn_around_the_current_one():
    canvas = CANVAS["pasos"]
    assert canvas.about.splitlines()[1].startswith("5. ")
    assert canvas.about.count("\n") == 10


@pytest.fixture
def tiny():
    """Modelo diminuto con el vocabulario de SmolLM2."""
    return wide_model(len(SMOLLM2))


MAPS = torch.softmax(
    torch.ones(3, 2, 4, 4).tril().log() + torch.arange(4), dim=-1
)


def read(text):
    """Una lente de mentira: cuatro capas que ganan cada vez por más."""
    words = text.split()
    rows = [[f"{word}所在地{i}" for word in words] for i in range(4)]
    return words, rows, [[i / 4] * len(words) for i in range(4)]


def test_the_lens_reads_what_you_write(published):
    box = show.lens_explorer(read, ["Hola", "Uno dos"], 1)
    knobs, facts, drawing = box.children
    assert "Hola所在地1" in drawing.value and "capa" in drawing.value
    knobs.children[0].value = "Uno dos"
    assert "dos所在地3 (75 %)" in drawing.value
    knobs.children[1].value = "a <b> c d e f g h i j"
    assert "a &lt;b&gt; c" in facts.value  # entero, y abajo los ocho últimos
    assert "b所在地1" not in drawing.value and "j所在地1" in drawing.value
    knobs.children[0].value = "Hola"  # manda lo último que se toca
    assert "Hola所在地3" in drawing.value and not knobs.children[1].value
    knobs.children[1].value = " "
    assert "Hola所在地3" in drawing.value
    states = published[0][0][0][STATES]
    assert [len(p["labels"]) for p in states["prompts"]] == [1, 2]
    assert states["prompts"][1]["percent"] == [[25, 25], [50, 50], [75, 75]]


def made(name: str, tiny) -> ipywidgets.VBox:
    """Cada explorador, con datos de verdad o casi."""
    ids = prompt_ids(tiny, SMOLLM2, "Hola")
    steps = list(generate_steps(tiny, ids, max_new_tokens=4, stop_ids=()))
    logits = torch.linspace(-3, 3, len(SMOLLM2))
    cached = SMOLLM2.encode("uno dos tres cuatro cinco")
    return {
        "tokens": lambda: show.token_explorer(TOKENIZERS, "Hola mundo"),
        "attention": lambda: show.attention_explorer(MAPS, list("abcd"), 2, 1),
        "lens": lambda: show.lens_explorer(read, ["Hola", "Uno dos"], 1),
        "temperature": lambda: show.temperature_explorer(logits, SMOLLM2, 4),
        "sampling": lambda: show.sampling_explorer(tiny, SMOLLM2, "Hola"),
        "steps": lambda: show.generation_explorer(SMOLLM2, "Hola", steps),
        "cache": lambda: show.cache_explorer(SMOLLM2, cached, 3, 1024),
        "cost": lambda: show.cost_explorer(0.01, 0.2),
        "chat": lambda: show.chat_explorer(
            tiny, SMOLLM2, FORMATS, {"no": "", "sí": "Sé breve."}, "Hola"
        ),
        "control": lambda: show.control_explorer(
            tiny,
            ended_tokenizer(),
            ids,
            {"libre": None, "cifras": "[0-9]{2,9}"},
            8,
        ),
        "company": lambda: show.company_explorer(SMOLLM2, COMPANY, (0, 1)),
        "draft": lambda: show.draft_explorer(SMOLLM2, DRAFTS),
        "server": lambda: show.server_explorer(SERIES),
        "passport": lambda: show.passport_explorer(["·Ho", "la"], PASSPORTS),
    }[name]()


PASSPORTS = [
    {"token": ("·Ho", "01"), "puesto": ("3", "02")},
    {"token": ("<la>", "01"), "puesto": ("1", "02")},
]


def company_row(apart: int) -> dict:
    """Treinta tokens; el lote de 8 se separa en `apart`, y el de 2, no."""
    ids = list(range(100, 130))
    margins = [2.0] * apart + [0.0625] * (30 - apart)
    rows = {"1": ids, "2": ids, "8": ids[:apart] + [99] * (30 - apart)}
    return {k: {"ids": v, "margins": margins} for k, v in rows.items()}


COMPANY = {
    "prompts": ["Una", "Otra"],
    "runs": {
        "float32": [company_row(30), company_row(30)],
        "bfloat16": [company_row(12), company_row(20)],
    },
}


def test_company_says_where_they_part(published):
    with pytest.raises(ValueError, match="de la 0 a la 1"):
        show.company_explorer(SMOLLM2, COMPANY, (0, 2))
    box = show.company_explorer(SMOLLM2, COMPANY, (0, 1))
    knobs, facts, drawing = box.children
    assert "no se separan" in drawing.value and "iguales" in facts.value
    knobs.children[2].value = 8
    assert "se separan en el token 13" in drawing.value
    assert "Sola:" in facts.value and "Lote de 8:" in facts.value
    states = published[0][0][0][STATES]["states"]
    found = {(s["prompt"], s["precision"], s["batch"]): s for s in states}
    assert found[0, "bfloat16", 8]["apart"] == 12
    assert found[0, "bfloat16", 2]["apart"] is None
    alone, company = found[1, "bfloat16", 8]["rows"]
    assert [place for place, *_ in alone] == list(range(15, 26))
    assert alone[:5] == company[:5] and alone[5] != company[5]


DRAFTS = [
    dict(prompt=prompt, draft=draft, k=k, rounds=rounds + more)
    for prompt, more in {
        "Copia: esto": [],
        "Cuenta": [[[8], 0, [105]]],
    }.items()
    for draft in ("copiar", "modelo")
    for k, rounds in {
        2: [[[100, 101], 2, [100, 101, 102]], [[9], 0, [103]]] * 4,
        4: [[[100, 101, 102, 7], 3, [100, 101, 102, 103]], [[], 0, [104]]],
    }.items()
]


def test_draft_says_what_is_accepted(published):
    with pytest.raises(ValueError, match="una escritura"):
        show.draft_explorer(SMOLLM2, [])
    box = show.draft_explorer(SMOLLM2, DRAFTS)
    knobs, facts, drawing = box.children
    assert "16 tokens en 8 lecturas" in facts.value
    assert "8 aceptados de 12 propuestos" in facts.value
    assert "… y 1 más" in drawing.value
    knobs.children[2].value = 4
    assert "5 tokens en 2 lecturas" in facts.value
    assert "rechazado" in drawing.value and "… y" not in drawing.value
    states = published[0][0][0][STATES]["states"]
    kinds = [kind for _, kind in states[1]["rounds"][0]]
    assert kinds == ["aceptado"] * 3 + ["rechazado", "del modelo"]


def series(arrive, most, turn, pages) -> dict:
    """Dos peticiones con un reloj que cuenta filas y tokens."""
    server = Rehearsal(
        lambda rows, m: 0.1 * rows + 0.01 * m,
        pages=pages,
        size=4,
        most=most,
        chunk=turn,
        policy=in_turns if turn == 4 else prefill_first,
        reuse=False,
    )
    made = [Request("a", range(9), 6), Request("b", range(7), 4, arrive)]
    server.run(made)
    ends = [end for _, end, *_ in server.log]
    return {
        "llegan": str(arrive),
        "a la vez": most,
        "turno": "trozos" if turn == 4 else "entero",
        "páginas": pages,
        "log": server.log,
        "arrivals": {r.name: r.arrival for r in made},
        "used": [[0, ends[0], 3], [ends[0], ends[-1], 3], [0, 1, pages]],
        "facts": {"TTFT, ms": 1000 * made[1].times[0] + most},
    }


SERIES = [
    series(arrive, most, turn, pages)
    for arrive in (0.0, 0.3)
    for most in (1, 2)
    for turn in (64, 4)
    for pages in (4, 6)
]


def test_the_server_says_who_waits(published):
    with pytest.raises(ValueError, match="una serie"):
        show.server_explorer([])
    box = show.server_explorer(SERIES)
    knobs, facts, drawing = box.children
    assert "1 a la vez; llegan 0.0" in drawing.value
    assert "como mucho, 4 de 4 ocupadas" in drawing.value
    knobs.children[3].value = 6
    assert "6 de 6 ocupadas" in drawing.value
    states = published[0][0][0][STATES]["states"]
    arrival, *parts = states[0]["rows"]["a"]
    assert arrival == 0.0 and [kind for *_, kind in parts] == [
        "lee su prompt",
        "escribe",
    ]
    assert len(states[0]["used"]) == 2  # lo seguido, junto


def test_a_timeline_and_a_map_of_pages():
    log = [(0.0, 1.0, 5, ["a"]), (1.0, 1.5, 1, ["a", "b"])]
    picture = show.timeline(log, {"a": 0.0, "b": 0.5}, "Título")
    said = "a: llega en 0,0, escribe desde 1,0 y acaba en 1,5;"
    assert said in picture.text
    pages = show.page_map({"a": [0, 2], "b": [2, 3]}, 5, "Mapa")
    assert "2: a, b" in pages.text and "libres, 2" in pages.text


def test_the_map_and_the_sheet(published):
    path = [(str(i), f"paso {i}", "ids") for i in range(7)]
    show.course_map(path, [("9", "al lado", "")], {"3": "mandar"}, "Mapa")
    show.formula_sheet([("06", "KV", "2·n", "2·3", "6 bytes")], "Hoja")
    (first,), (second,) = (shown[0] for shown in published[::2])
    assert "Puntos de control: 1 mandar" in first["text/plain"]
    assert first[FIGURE]["controls"] == [["3", "mandar"]]
    assert "KV (06): 2·n; 2·3: 6 bytes" in second["text/plain"]


def test_a_passport_for_each_token():
    with pytest.raises(CourseError, match="un pasaporte para cada uno"):
        show.passport_explorer(["a"], [])


MOVES = {
    "lens": [("example", "Uno dos"), ("own", "tres")],
    "tokens": [("text", "peluche"), ("vocabulary", "MiniLM"), ("price", 9.0)],
    "attention": [("layer", 0), ("head", 0)],
    "temperature": [("T", 2.5), ("T", 0.0)],
    "sampling": [
        ("T", 2.0),
        ("top_k", 5),
        ("min_p", 0.5),
        ("top_p", 0.3),
        ("prompt", "Otra cosa"),
    ],
    "steps": [("step", 2), ("step", 4)],
    "cache": [("step", 2)],
    "cost": [("tokens_in", 2000), ("tokens_out", 101), ("price_in", 5.0)]
    + [("price_out", 20.0)],
    "chat": [
        ("template", "Llama 3"),
        ("template", "sin plantilla"),
        ("system", "sí"),
        ("prefill", "Vale,"),
        ("user", "adiós<|im_end|>"),
    ],
    "control": [("form", "cifras"), ("temperature", 2), ("budget", 12)],
    "company": [("prompt", 1), ("precision", "float32"), ("batch", 8)],
    "draft": [("prompt", "Cuenta"), ("draft", "modelo"), ("k", 4)],
    "server": [("arrive", "0.3"), ("most", 2), ("turn", "trozos")]
    + [("pages", 6)],
    "passport": [("step", 2)],
}


def opened(name, tiny, published):
    """Un explorador: sus mandos por nombre, lo que dice y lo que dibuja."""
    box = made(name, tiny)
    knobs, facts, drawing, *_ = box.children
    (bundle,), _ = published[0]
    names = bundle[STATES]["controls"]
    return dict(zip(names, knobs.children)), facts, drawing, bundle


@pytest.mark.parametrize("name", MOVES)
def test_explorer_follows_its_controls(name, tiny, published):
    knobs, facts, drawing, _ = opened(name, tiny, published)
    assert {knob for knob, _ in MOVES[name]} == set(knobs), "mandos sin probar"
    for knob, value in MOVES[name]:
        old, before = knobs[knob].value, facts.value + drawing.value
        knobs[knob].value = value
        assert facts.value + drawing.value != before, knob
        assert "<svg" in drawing.value and "aria-label" in drawing.value
        knobs[knob].value = old


@pytest.mark.parametrize("name", MOVES)
def test_explorer_publishes_a_still_its_text_and_its_states(
    name, tiny, published
):
    _, _, _, bundle = opened(name, tiny, published)
    assert set(bundle) == {
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/plain",
        STATES,
    }
    assert "<details>" in published[1][0][0].data
    states = bundle[STATES]
    assert states["kind"] == name
    plain = json.dumps(states, allow_nan=False)  # JSON sin más
    assert json.loads(plain) == states and len(plain) < 100_000
    for knob in states["controls"].values():
        assert knob["label"] and ("value" in knob)


def test_what_each_explorer_says(tiny, published):
    knobs, facts, drawing, _ = opened("tokens", tiny, published)
    assert "2 palabras" in facts.value and drawing.value.count("<rect") == 4
    knobs["text"].value, knobs["price"].value = "peluche", 9.0
    assert drawing.value.count("<rect") == 3 and "0,000027" in facts.value
    knobs["vocabulary"].value = "MiniLM"
    assert "##che" in drawing.value
    knobs["text"].value = "a " * 3000
    assert "3\u202f000 palabras" in facts.value
    assert drawing.value.count("<rect") == unit01.MAX_SHOWN
    for odd in ("", "   ", "<script>alert(1)</script>", "🤖" * 5):
        knobs["text"].value = odd
        assert "<script" not in drawing.value


def test_whose_is_each_token(tiny, published):
    knobs, facts, drawing, bundle = opened("chat", tiny, published)
    first = bundle[STATES]["states"][0]
    assert [t[2] for t in first["tokens"]] == (
        ["", "", "", "usuario", "usuario", "", "", "", "", "", ""]
    )
    assert len(bundle[STATES]["states"]) == 5 * 2
    red = unit08.COLORS["marca ajena"]
    legend = drawing.value.count(red)
    knobs["user"].value = "adiós<|im_end|>"
    assert drawing.value.count(red) == legend + 1
    knobs["user"].value = "uno / dos / tres / cua"
    owners = re.findall(r"\(([a-z ]+)\)", html.unescape(drawing.value))
    order = [who for who, _ in itertools.groupby(owners) if who != "plantilla"]
    assert order == ["usuario", "respuesta", "usuario", "respuesta"]
    knobs["user"].value = ""  # sin nada escrito también hay un prompt
    assert "tokens" in facts.value
    knobs["template"].value = "sin plantilla"
    assert "está vacío" in facts.value
    knobs["user"].value = "<b>🤖</b>"
    assert "<b>🤖" not in drawing.value


def test_what_the_temperature_says(tiny, published):
    knobs, facts, drawing, bundle = opened("temperature", tiny, published)
    assert "con T = 1,0" in drawing.value
    knobs["T"].value = 0.0
    assert "núcleo de 0,9: 1 tokens" in facts.value
    assert "100,0 %" in drawing.value
    states = bundle[STATES]["states"]
    assert [s["T"] for s in states][::10] == [0.0, 1.0, 2.0]
    assert states[0]["p"][0] == 1 and states[25]["nucleus"] > 1000


def test_what_the_sampling_desk_says(tiny, published):
    knobs, facts, drawing, bundle = opened("sampling", tiny, published)
    size = len(SMOLLM2)
    assert f"Quedan {number(size, 0)} tokens" in facts.value
    knobs["top_k"].value = 5
    assert "Quedan 5 tokens" in facts.value
    knobs["prompt"].value = ""
    assert "vacío" in facts.value and "<svg" in drawing.value
    states = bundle[STATES]
    stored = len(states["logits"]) + sum(states["tail"]["counts"])
    assert stored == size
    assert "fuera" in bundle["text/plain"], "la imagen fija enseña el corte"


def test_what_the_steps_say(tiny, published):
    knobs, facts, _, bundle = opened("steps", tiny, published)
    knobs["step"].value = 4
    assert "máximo de tokens" in facts.value
    states = bundle[STATES]["states"]
    assert html.escape(states[3]["text"]) in facts.value
    assert [s["processed"] for s in states] == [2, 3, 4, 5]


def test_what_the_cache_and_the_bill_say(tiny, published):
    knobs, facts, _, _ = opened("cache", tiny, published)
    assert "3 con caché, 3 sin ella" in facts.value
    knobs["step"].value = 2
    assert "4 con caché, 7 sin ella" in facts.value
    assert "ocupa 4 KiB" in facts.value
    published.clear()
    knobs, facts, drawing, _ = opened("cost", tiny, published)
    for knob, value in MOVES["cost"]:
        knobs[knob].value = value
    for text in ("1,000", "20,0", "0,202", "1,202", "40,0"):
        assert f">{text}</t" in facts.value, (text, facts.value)
    assert "83,2 %" in drawing.value  # 1,000 de 1,202


def test_attention_stores_what_it_draws(tiny, published):
    _, _, drawing, bundle = opened("attention", tiny, published)
    assert "capa 2, cabeza 1" in bundle["text/plain"]
    assert drawing.value.count("<rect") == 10, "solo el triángulo"
    stored = bundle[STATES]["percent"][2][1]
    shown = [
        t.text for t in ElementTree.fromstring(drawing.value).iter("text")
    ]
    assert [str(v) for v in stored] == [t for t in shown if t.isdigit()]


def test_live_shows_the_text_and_keeps_it_when_interrupted(tiny, monkeypatch):
    monkeypatch.setattr(unit05, "display", lambda *a, **k: None)
    made = []
    real = ipywidgets.HTML
    monkeypatch.setattr(
        unit05.widgets, "HTML", lambda *a: made.append(real(*a)) or made[-1]
    )
    ids = prompt_ids(tiny, SMOLLM2, "Hola")

    def interrupted():
        yield from itertools.islice(
            generate_steps(tiny, ids, max_new_tokens=9, stop_ids=()), 3
        )
        raise KeyboardInterrupt

    steps = show.live(SMOLLM2, interrupted())
    assert len(steps) == 3
    text = html.escape(SMOLLM2.decode([s.token_id for s in steps]))
    assert text in made[0].value and "tokens/s" in made[0].value


def test_only_what_ipywidgets_7_and_8_share():
    """Los nombres que usa `show`, leídos de su código."""
    folder = Path(explorer.__file__).parent
    code = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    used = set(re.findall(r"widgets\.([A-Z]\w+)", code))
    assert used <= {
        "BoundedFloatText",
        "Button",
        "Dropdown",
        "FloatSlider",
        "HBox",
        "HTML",
        "IntSlider",
        "Layout",
        "SelectionSlider",
        "Text",
        "Textarea",
        "VBox",
        "Widget",
    }
    assert all(hasattr(ipywidgets, name) for name in used)


def test_how_many_tokens_each_mask_leaves(tiny, published):
    knobs, facts, drawing, _ = opened("control", tiny, published)
    assert "49\u202f152" in drawing.value  # sin máscara, todos
    knobs["form"].value = "cifras"
    assert "Texto entero" in facts.value
    assert "49\u202f152" not in drawing.value


def test_rates_carry_their_intervals():
    counts = pd.DataFrame({"a": [0, 40], "b": [20, 33]}, ["uno", "dos"])
    said = show.rates(counts, 40, "Aciertos").text
    assert "uno: a 0 de 40, b 20 de 40" in said
    low, high = charts._wilson(40, 40)
    assert low == pytest.approx(0.912, abs=1e-3) and high == 1
    assert charts._wilson(0, 40)[0] == 0
    low, high = charts._wilson(20, 40)  # simétrico en la mitad
    assert low + high == pytest.approx(1) and low < 0.36


def test_the_desk_writes_with_its_settings(tiny):
    box = show.sampling_explorer(tiny, SMOLLM2, "Hola")
    prompt, heat = box.children[0].children[:2]
    button, text = box.children[-2:]
    heat.value = 0
    button.click()
    ids = prompt_ids(tiny, SMOLLM2, "Hola")
    steps = generate_steps(tiny, ids, max_new_tokens=30)
    written = SMOLLM2.decode([step.token_id for step in steps])
    assert text.value == f"<p>…{html.escape(written)}</p>"
    assert not button.disabled
    prompt.value = ""
    button.click()
    assert text.value.startswith("<b>") and not button.disabled
