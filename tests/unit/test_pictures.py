"""Figuras y explorador: imagen, texto y reacción, sin navegador."""

import html
import io
import itertools
import warnings

import ipywidgets
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from tokenatoken import number, plots, widgets
from tokenatoken.checks.unit02 import tiny_config
from tokenatoken.forward import prompt_ids
from tokenatoken.generation import generate_steps
from tokenatoken.model import load_tokenizer

SMOLLM2 = load_tokenizer("smollm2")
TOKENIZERS = {"SmolLM2": SMOLLM2, "MiniLM": load_tokenizer("minilm")}
TABLE = pd.DataFrame({"a": [1.5, 2.0], "b": [0.25, 4.0]}, index=["uno", "dos"])


@pytest.mark.parametrize(
    "draw, words",
    [
        (
            lambda: plots.token_strip(SMOLLM2, "Hola 🤖\n" * 30, "T"),
            ["tokens", "H "],
        ),
        (lambda: plots.token_strip(SMOLLM2, ""), ["0 tokens"]),
        (
            lambda: plots.grouped_bars(TABLE, "T", "X"),
            ["uno: a 1,50", "b 4,00"],
        ),
        (lambda: plots.line([1, 2], [5, 6], "T", "X", "Y"), ["1: 5, 2: 6"]),
        (
            lambda: plots.heatmap(
                [[1, float("nan")], [0.5, 2]], "ab", "cd", "T"
            ),
            ["a: c 1,00\n", "b: c 0,50, d 2,00"],
        ),
        (
            lambda: plots.flow([("a", "[1]", "x"), ("b", "[2]", "y")], "T"),
            ["a [1]: x", "b [2]: y"],
        ),
        (
            lambda: plots.curves(
                [1, 10], {"a": [0, 1], "b": [2, 3]}, *"TXY", log=True
            ),
            ["a: 1 → 0,00, 10 → 1,00", "b: 1 → 2,00"],
        ),
        (
            lambda: plots.before_after(
                ["a", "b"], [0.6, 0.4], {"k = 1": [1.0, 0.0]}, "T"
            ),
            ["k = 1: a 0,60 → 1,00, b 0,40 → fuera"],
        ),
        (
            lambda: plots.roulette(["a", "b"], [0.6, 0.4], [0.59, 0.61], "T"),
            ["a hasta 0,60", "0,59 → a, 0,61 → b"],
        ),
        (
            lambda: plots.scatter([1, 90], [1000, 2], "ab", *"TXY", [0, 1]),
            ["a: 1,0; 1\u202f000", "b: 90,0; 2"],
        ),
        (
            lambda: plots.diagram(
                {"a\nb": (1, 0, 0), "c": (5, 1, 1)}, [("a\nb", "c", "x")], "T"
            ),
            ["a b → c (x)"],
        ),
        (
            lambda: plots.cache_growth(["a", "b", "🤖", "d"], 2, "T"),
            ["Sin caché: pasan 5 tokens", "Con caché: pasan 3 tokens"],
        ),
        (
            lambda: plots.roofline(
                {"T4": 320},
                [("a", 2.0, 3, 4, "T4"), ("b", 2.0, 9, 9, "T4")],
                "T",
            ),
            ["T4: 320 GB/s", "a (2,0 GB): 3,0 a 4,0 ms; suelo 6,2 ms"],
        ),
        (
            lambda: plots.steps_strip(
                [("·a", [("·a", 0.5), ("🤖", 0.1)])], "T"
            ),
            ["1. ·a: ·a 50 %, 🤖 10 %"],
        ),
        (
            lambda: plots.surprise_strip(["·a", "🤖"], [0.04, 30.0], "T"),
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
    one, two = (plots.grouped_bars(TABLE, "T", "X").png for _ in range(2))
    assert one == two


def test_picture_shows_its_text_folded(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "IPython.display.display", lambda *a, **k: shown.append((a, k))
    )
    plots.line([1, 2], [5, 6], "T <b>", "X", "Y")._ipython_display_()
    (bundle,), options = shown[0]
    assert bundle["text/plain"] == options["metadata"]["image/png"]["alt"]
    assert (
        "<details>" in shown[1][0][0].data
        and "&lt;b&gt;" in shown[1][0][0].data
    )


@pytest.fixture
def explorer(monkeypatch):
    monkeypatch.setattr(widgets, "display", lambda *a, **k: None)
    box = widgets.token_explorer(TOKENIZERS, "Hola mundo")
    area, controls, pieces, counts = box.children
    return area, *controls.children, pieces, counts


def test_explorer_reacts_to_text_vocabulary_and_price(explorer):
    area, which, price, pieces, counts = explorer
    assert pieces.value.count("<span") == 4 and "2 palabras" in counts.value
    area.value = "peluche"
    assert pieces.value.count("<span") == 3 and "1 palabras" in counts.value
    which.value = "MiniLM"
    assert "##che" in pieces.value
    before = counts.value
    price.value = 9.0
    assert counts.value != before and "0,000027" in counts.value


@pytest.mark.parametrize(
    "text", ["", "   ", "<script>alert(1)</script>", "🤖" * 5]
)
def test_explorer_survives_odd_texts(explorer, text):
    area, _, _, pieces, _ = explorer
    area.value = text
    assert "<script" not in pieces.value


def test_explorer_counts_everything_but_draws_a_part(explorer):
    area, _, _, pieces, counts = explorer
    area.value = "a " * 3000
    assert pieces.value.count("<span") == 2000 and "tokens más" in pieces.value
    assert "3\u202f000 palabras" in counts.value


def test_widget_and_still_share_one_output(monkeypatch):
    shown = []
    monkeypatch.setattr(
        widgets, "display", lambda data, **k: shown.append(data)
    )
    widgets.token_explorer(TOKENIZERS, "Hola")
    assert set(shown[0]) == {
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/plain",
    }


def test_attention_explorer_follows_its_sliders(monkeypatch):
    shown = []
    monkeypatch.setattr(
        widgets, "display", lambda data, **k: shown.append(data)
    )
    maps = torch.rand(3, 2, 4, 4).tril()
    maps = maps / maps.sum(-1, keepdim=True)
    box = widgets.attention_explorer(maps, list("abcd"), layer=2, head=1)
    sliders, picture = box.children
    layer, head = sliders.children
    assert "Capa 2, cabeza 1" in picture.value
    assert "capa 2, cabeza 1" in shown[0]["text/plain"]
    layer.value, head.value = 0, 0
    assert 'aria-label="Capa 0, cabeza 0.' in picture.value
    assert picture.value.count("<rect") == 10, "solo el triángulo"
    assert (layer.max, head.max) == (2, 1)


def test_temperature_explorer_follows_its_slider(monkeypatch):
    shown = []
    monkeypatch.setattr(
        widgets, "display", lambda data, **k: shown.append(data)
    )
    logits = torch.linspace(-3, 3, len(SMOLLM2))
    box = widgets.temperature_explorer(logits, SMOLLM2, k=4)
    slider, facts, picture = box.children
    assert picture.value.count("<rect") == 4 and "T=1,0" in picture.value
    before = facts.value
    slider.value = 2.5
    assert "T=2,5" in picture.value and facts.value != before
    slider.value = 0.0
    assert (
        "núcleo de 0,9: 1 tokens" in facts.value and "100,0 %" in picture.value
    )
    assert "image/png" in shown[0]


@pytest.fixture
def tiny(monkeypatch):
    """Modelo diminuto con el vocabulario de SmolLM2, sin publicar nada."""
    monkeypatch.setattr(widgets, "display", lambda *a, **k: None)
    config = tiny_config(vocab_size=len(SMOLLM2))
    return AutoModelForCausalLM.from_config(config).eval()


def test_sampling_explorer_follows_prompt_and_sliders(tiny):
    box = widgets.sampling_explorer(tiny, SMOLLM2, "Hola")
    prompt, first, second, facts, picture = box.children
    assert f"Quedan {number(len(SMOLLM2), 0)} tokens" in facts.value
    seen = {picture.value}
    for control, value in (
        (first.children[0], 0.0),
        (first.children[0], 2.0),
        (first.children[1], 5),
        (second.children[0], 0.3),
        (second.children[1], 0.5),
    ):
        control.value = value
        seen.add(facts.value + picture.value)
        if control is first.children[1]:
            assert "Quedan 5 tokens" in facts.value
    assert len(seen) >= 5
    before = picture.value
    prompt.value = "Otra cosa"
    assert picture.value != before
    prompt.value = ""
    assert "vacío" in facts.value
    second.children[1].value = 0.1  # el último prompt bueno sigue vivo
    assert "Quedan" in facts.value


def test_generation_explorer_walks_through_the_steps(tiny):
    ids = prompt_ids(tiny, SMOLLM2, "Hola")
    steps = list(generate_steps(tiny, ids, max_new_tokens=4, stop_ids=()))
    box = widgets.generation_explorer(SMOLLM2, "Hola", steps)
    slider, text, picture = box.children
    assert slider.max == 4 and "← elegido" in picture.value
    first = text.value, picture.value
    slider.value = 4
    assert text.value != first[0] and picture.value != first[1]
    assert "máximo de tokens" in text.value
    written = SMOLLM2.decode([s.token_id for s in steps[:3]])
    assert html.escape(written) in text.value


def test_cache_explorer_counts_what_passes(monkeypatch):
    monkeypatch.setattr(widgets, "display", lambda *a, **k: None)
    ids = SMOLLM2.encode("uno dos tres cuatro cinco")
    box = widgets.cache_explorer(SMOLLM2, ids, 3, 1024)
    slider, strip, facts = box.children
    assert slider.max == len(ids) - 3
    assert "3 con caché, 3 sin ella" in facts.value
    slider.value = 2
    assert "4 con caché, 7 sin ella" in facts.value
    assert (
        "ocupa 4 KiB" in facts.value and "Paso 2: 1 por la red" in strip.value
    )


def test_cost_explorer_separates_input_and_output(monkeypatch):
    monkeypatch.setattr(widgets, "display", lambda *a, **k: None)
    box = widgets.cost_explorer(0.01, 0.2)
    tokens_in, tokens_out, price_in, price_out, result = box.children
    tokens_in.value, tokens_out.value = 2000, 101
    price_in.value, price_out.value = 5, 20
    for text in ("1,000", "20,0", "0,202", "1,202", "40,0"):
        assert f"<td>{text}</td>" in result.value or (
            f"<th>{text}</th>" in result.value
        ), (text, result.value)
    before = result.value
    price_out.value = 10
    assert result.value != before and "0,101" in result.value


def test_live_shows_the_text_and_keeps_it_when_interrupted(tiny, monkeypatch):
    made = []
    real = ipywidgets.HTML
    monkeypatch.setattr(
        widgets.widgets, "HTML", lambda *a: made.append(real(*a)) or made[-1]
    )
    ids = prompt_ids(tiny, SMOLLM2, "Hola")

    def interrupted():
        yield from itertools.islice(
            generate_steps(tiny, ids, max_new_tokens=9, stop_ids=()), 3
        )
        raise KeyboardInterrupt

    steps = widgets.live(SMOLLM2, interrupted())
    assert len(steps) == 3
    text = html.escape(SMOLLM2.decode([s.token_id for s in steps]))
    assert text in made[0].value and "tokens/s" in made[0].value


def test_only_what_ipywidgets_7_and_8_share():
    used = {
        "Textarea",
        "IntSlider",
        "FloatSlider",
        "Dropdown",
        "BoundedFloatText",
        "HTML",
        "VBox",
        "HBox",
        "Layout",
    }
    assert all(hasattr(ipywidgets, name) for name in used)
