"""El bucle contra `generate`, sus paradas, su flujo de texto y sus errores."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenatoken import generation
from tokenatoken.generation import (
    end_ids,
    generate_steps,
    stop_text,
    stop_time,
    stop_unsure,
    stream,
    text_pieces,
)
from tokenatoken.model import load_tokenizer

from .tiny import CONFIGS, VOCABULARY, random_ids, tiny_model

TOKENIZER = load_tokenizer("smollm2")


def tokens(model, ids, n=20, **options) -> list[int]:
    steps = generate_steps(model, ids, max_new_tokens=n, **options)
    return [step.token_id for step in steps]


def library(model, ids, n=20, **options) -> list[int]:
    options = {"do_sample": False, **options}
    out = model.generate(ids, max_new_tokens=n, **options)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("n", [1, 5, 21])
def test_greedy_is_generate(name, n):
    model, ids = tiny_model(name), random_ids(n)
    assert tokens(model, ids) == library(model, ids)


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_penalty_is_that_of_generate(name):
    model, ids = tiny_model(name), random_ids(9)
    ours = tokens(model, ids, penalty=1.8)
    assert ours == library(model, ids, repetition_penalty=1.8)
    assert ours != library(model, ids)


def test_sampling_is_generate_with_the_same_noise():
    model, ids = tiny_model("llama"), random_ids(7)
    settings = dict(temperature=1.3, top_k=20, top_p=0.9, min_p=0.01)
    torch.manual_seed(5)
    theirs = library(model, ids, do_sample=True, **settings)
    torch.manual_seed(5)
    assert tokens(model, ids, **settings) == theirs
    generator = torch.Generator().manual_seed(5)
    ours = tokens(model, ids, **settings, generator=generator)
    assert ours == theirs


def test_each_step_tells_what_happened():
    model, ids = tiny_model("qwen2"), random_ids(4)
    steps = list(generate_steps(model, ids, max_new_tokens=5))
    assert [s.index for s in steps] == [0, 1, 2, 3, 4]
    assert [s.processed for s in steps] == [4, 5, 6, 7, 8]
    assert [s.stop for s in steps] == [None] * 4 + ["máximo de tokens"]
    times = [s.seconds for s in steps]
    assert times == sorted(times) and times[0] > 0
    for step in steps:
        assert step.logits.shape == (VOCABULARY,)
        assert step.token_id == step.logits.argmax()
        best = step.logits.double().softmax(-1).max().item()
        assert step.probability == best


@pytest.fixture
def forwards(monkeypatch):
    """Cuántos forwards se han hecho."""
    count = []
    real = generation.next_logits
    monkeypatch.setattr(
        generation,
        "next_logits",
        lambda *a: count.append(1) or real(*a),
    )
    return count


def test_no_forward_after_the_last_token(forwards):
    model, ids = tiny_model("llama"), random_ids(3)
    assert len(tokens(model, ids, 6)) == 6 == len(forwards)


def test_any_end_id_stops_and_is_the_last(forwards):
    model, ids = tiny_model("llama"), random_ids(3)
    free = tokens(model, ids, 12)
    end = next(t for t in free[3:] if free.index(t) == free[3:].index(t) + 3)
    where = free.index(end)
    unused = next(t for t in range(VOCABULARY) if t not in free)
    forwards.clear()
    steps = list(
        generate_steps(model, ids, max_new_tokens=12, stop_ids=[unused, end])
    )
    assert [s.token_id for s in steps] == free[: where + 1]
    assert steps[-1].stop == "token de fin"
    assert len(forwards) == where + 1
    for same in (end, np.int64(end), [np.int64(end)], torch.tensor([end])):
        assert tokens(model, ids, 12, stop_ids=same) == free[: where + 1]
    assert tokens(model, ids, 12, stop_ids=()) == free


def test_end_ids_of_a_model():
    model = tiny_model("llama")
    settings = model.generation_config
    try:
        for given_, expected in ((None, set()), (3, {3}), ([3, 5], {3, 5})):
            settings.eos_token_id = given_
            assert end_ids(model) == expected
    finally:
        settings.eos_token_id = None


def test_stop_rules():
    model, ids = tiny_model("llama"), random_ids(3)
    free = tokens(model, ids, 12)
    text = TOKENIZER.decode(free)
    word = text[len(TOKENIZER.decode(free[:3])) :][:2]
    steps = list(
        generate_steps(
            model,
            ids,
            max_new_tokens=12,
            stop_rules=[stop_text(TOKENIZER, word)],
        )
    )
    ours = TOKENIZER.decode([s.token_id for s in steps])
    assert word in ours
    assert word not in TOKENIZER.decode([s.token_id for s in steps[:-1]])
    assert steps[-1].stop == f"texto {word!r}"

    assert len(tokens(model, ids, 12, stop_rules=stop_time(1e-9))) == 1
    assert len(tokens(model, ids, 12, stop_rules=[stop_time(900)])) == 12

    all_steps = list(generate_steps(model, ids, max_new_tokens=12))
    tops = [s.logits.softmax(-1).max().item() for s in all_steps]
    limit = sorted(tops)[3]
    expected = next(i for i, p in enumerate(tops) if p < limit)
    cut = tokens(model, ids, 12, stop_rules=[stop_unsure(limit)])
    assert len(cut) == expected + 1


INF = float("inf")
BAD = {
    "top_k=0": (dict(top_k=0), "entero entre 1 y 96"),
    "top_k mayor que V": (dict(top_k=97), "entero entre 1 y 96"),
    "top_p=0": (dict(top_p=0), "mayor que 0"),
    "top_p=1.5": (dict(top_p=1.5), "como mucho 1"),
    "min_p": (dict(min_p=3), "entre 0 y 1"),
    "temperatura": (dict(temperature=-0.5), "mayor o igual que 0"),
    "penalización": (dict(penalty=0), "mayor que 0"),
    "sin tokens": (dict(max_new_tokens=0), "al menos un"),
    "tokens con coma": (dict(max_new_tokens=2.5), "al menos un"),
    "no cabe": (dict(max_new_tokens=126), "Baja max_new_tokens a 125"),
    "fin fuera": (dict(stop_ids=[96]), "no está en el vocabulario"),
    "fin negativo": (dict(stop_ids=[-1]), "no está en el vocabulario"),
    "fin None": (dict(stop_ids=[None]), "no está en el vocabulario"),
    "fin True": (dict(stop_ids=[True]), "no está en el vocabulario"),
    "fin con coma": (dict(stop_ids=3.0), "no está en el vocabulario"),
    "fin en lista": (dict(stop_ids=[[3]]), "no está en el vocabulario"),
    "regla sin crear": (dict(stop_rules=[stop_text]), "Se crean así"),
    "regla None": (dict(stop_rules=[None]), "Se crean así"),
    "semilla suelta": (dict(generator=5), "manual_seed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_fail_before_any_forward(name, forwards):
    options, words = BAD[name]
    options = {"max_new_tokens": 4, **options}
    with pytest.raises(ValueError, match=words):
        generate_steps(tiny_model("llama"), random_ids(3), **options)
    assert not forwards


def test_bad_ids_fail_before_any_forward(forwards):
    for ids, words in (
        (random_ids(3, rows=2), "un solo texto"),
        (torch.tensor([[1, 96]]), "otro tokenizador"),
        (torch.empty(1, 0, dtype=torch.long), "forma"),
        (torch.empty(0, 3, dtype=torch.long), "forma"),
        ([[1, 2]], "tensor"),
        ("hola", "prompt_ids"),
        (random_ids(128), "Recorta el prompt"),
    ):
        with pytest.raises(ValueError, match=words):
            generate_steps(tiny_model("llama"), ids, max_new_tokens=2)
    assert not forwards


@pytest.mark.parametrize(
    "logits, words",
    [(float("nan"), "NaN"), (-INF, "ningún token"), (INF, "ningún token")],
)
def test_broken_logits_stop_with_an_explanation(logits, words, monkeypatch):
    broken = torch.full((1, VOCABULARY), logits)
    monkeypatch.setattr(generation, "next_logits", lambda *a: broken)
    for T in (0, 0.7):
        with pytest.raises(ValueError, match=words):
            tokens(tiny_model("llama"), random_ids(3), temperature=T)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: stop_text(TOKENIZER, ""), "vacío"),
        (lambda: stop_text(TOKENIZER, None), "tiene que ser un texto"),
        (lambda: stop_text("\n", TOKENIZER), "tiene que ser un texto"),
        (lambda: stop_time(0), "mayor que 0"),
        (lambda: stop_time("1"), "mayor que 0"),
        (lambda: stop_time(True), "mayor que 0"),
        (lambda: stop_unsure("x"), "entre 0 y 1"),
        (lambda: stop_unsure(1.5), "entre 0 y 1"),
    ],
)
def test_bad_rules(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(
    "text", ["¡Feliz cumpleaños, ñandú! 🎉🤖", "日本語 y ¿qué?", "", "abc"]
)
def test_pieces_never_split_a_character(text):
    ids = TOKENIZER.encode(text)
    pieces = list(text_pieces(TOKENIZER, ids))
    assert "".join(pieces) == TOKENIZER.decode(ids) == text
    assert not any("�" in piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 49_151), max_size=30))
def test_pieces_add_up_for_any_ids(ids):
    """Aunque sean bytes sueltos que no forman texto."""
    pieces = list(text_pieces(TOKENIZER, ids))
    assert "".join(pieces) == TOKENIZER.decode(ids)
    assert all(pieces)


def test_pieces_come_as_soon_as_they_can():
    ids = TOKENIZER.encode("Hola, mundo")
    waiting = iter(ids)
    pieces = text_pieces(TOKENIZER, waiting)
    next(pieces)
    assert len(list(waiting)) == len(ids) - 1


def test_an_interruption_keeps_what_was_made(capsys):
    model, ids = tiny_model("llama"), random_ids(3)

    def interrupted():
        steps = generate_steps(model, ids, max_new_tokens=9)
        yield from itertools.islice(steps, 4)
        raise KeyboardInterrupt

    pieces = []
    kept = stream(TOKENIZER, interrupted(), pieces.append)
    assert [s.token_id for s in kept] == tokens(model, ids, 4)
    whole = TOKENIZER.decode(tokens(model, ids, 4))
    assert whole.startswith("".join(pieces)) and len(pieces) >= 3
    assert "conservas 4 tokens" in capsys.readouterr().out


def test_an_interruption_while_writing_keeps_it_too():
    model, ids = tiny_model("llama"), random_ids(3)

    def write(piece):
        raise KeyboardInterrupt

    steps = generate_steps(model, ids, max_new_tokens=9)
    assert stream(TOKENIZER, steps, write)


def test_stream_prints_and_returns_the_steps(capsys):
    model, ids = tiny_model("llama"), random_ids(3)
    steps = stream(TOKENIZER, generate_steps(model, ids, max_new_tokens=5))
    text = TOKENIZER.decode([s.token_id for s in steps])
    assert capsys.readouterr().out == text and len(steps) == 5
