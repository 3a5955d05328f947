"""Pedir un forward pass, aplicar temperatura y leer configuraciones."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper

from tokenatoken.checks.bench import tiny_model
from tokenatoken.forward import (
    all_logits,
    check_ids,
    next_logits,
    prompt_ids,
    top_tokens,
)
from tokenatoken.model import MODELS, load_config, load_tokenizer
from tokenatoken.model import load as runtime
from tokenatoken.sampling import apply_temperature, check_logits

TOKENIZER = load_tokenizer("smollm2")


def test_next_logits_are_the_last_of_all():
    model, ids = tiny_model(), torch.tensor([[5, 6, 7], [8, 9, 1]])
    every, last = all_logits(model, ids), next_logits(model, ids)
    assert every.shape == (2, 3, 97) and last.shape == (2, 97)
    assert every.dtype == last.dtype == torch.float32
    assert torch.allclose(every[:, -1], last, atol=1e-4)


@pytest.mark.parametrize(
    "text, message",
    [("", "está vacío"), (None, "tiene que ser un texto"), (7, "un texto")],
)
def test_bad_prompt(text, message):
    with pytest.raises(ValueError, match=message):
        prompt_ids(tiny_model(), TOKENIZER, text)


def test_arguments_in_another_order():
    with pytest.raises(ValueError, match="Primero va el modelo"):
        prompt_ids(TOKENIZER, tiny_model(), "hola")
    with pytest.raises(ValueError, match=r"next_logits\(model, ids\)\[0\]"):
        top_tokens(torch.zeros(1, len(TOKENIZER)), TOKENIZER)


def test_prompt_longer_than_the_context(monkeypatch):
    monkeypatch.setattr(
        tiny_model(), "forward", lambda *a: pytest.fail("corre")
    )
    with pytest.raises(ValueError, match="caben 64"):
        prompt_ids(tiny_model(), TOKENIZER, "hola " * 100)


@pytest.mark.parametrize(
    "ids, message",
    [
        ([[1, 97]], "El id 97 no existe"),
        ([[-1, 3]], "El id -1 no existe"),
        ([1, 2], r"\[B, n\]"),
        ([[1.0, 2.0]], "enteros"),
        ([[]], "No hay ningún token"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        check_ids(tiny_model(), torch.tensor(ids))


def test_top_tokens_shows_the_space():
    logits = torch.zeros(len(TOKENIZER))
    paris = TOKENIZER.encode(" Paris")[0]
    logits[paris] = 20.0
    table = top_tokens(logits, TOKENIZER, 2)
    assert table.loc[1, "token"] == "' Paris'" and table.loc[1, "id"] == paris
    assert table.loc[1, "prob. %"] == 100.0
    for k in (0, len(TOKENIZER) + 1):
        with pytest.raises(ValueError, match="pide entre 1 y"):
            top_tokens(logits, TOKENIZER, k)


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=40),
    st.floats(0.01, 100),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
@settings(deadline=None)
def test_temperature_equals_the_library(values, temperature, dtype):
    logits = torch.tensor([values], dtype=dtype)  # [1, V]
    library = TemperatureLogitsWarper(temperature)(None, logits.float())
    ours = apply_temperature(logits, temperature)
    assert ours.dtype == torch.float32 and torch.equal(ours, library)
    assert torch.equal(apply_temperature(logits[0], temperature), ours[0])


def test_temperature_zero_is_argmax():
    logits = torch.tensor([[1.0, 3.0, 3.0], [5.0, 2.0, float("-inf")]])
    shares = apply_temperature(logits, 0).softmax(-1)
    assert shares.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_tiny_temperature_in_16_bits_does_not_break():
    logits = torch.tensor([20.0, 16.5], dtype=torch.float16)
    assert apply_temperature(logits, 1e-10).softmax(-1).tolist() == [1, 0]


@pytest.mark.parametrize(
    "temperature", [-1, -1e-9, float("nan"), float("inf"), "1", None]
)
def test_bad_temperature(temperature):
    with pytest.raises(ValueError, match="mayor o igual que 0"):
        apply_temperature(torch.zeros(3), temperature)


@pytest.mark.parametrize(
    "logits, message",
    [
        (torch.tensor([1.0, float("nan")]), "NaN"),
        (torch.tensor([1.0, float("inf")]), r"\+∞"),
        (torch.full((2, 3), float("-inf")), "todos son −∞"),
        (torch.zeros(1, 2, 3), r"logits\[:, -1\]"),
        (torch.zeros(0), "hace falta"),
        (torch.tensor(1.0), "hace falta"),
        (torch.tensor([1, 2]), "coma flotante"),
        ([1.0, 2.0], "coma flotante"),
    ],
)
def test_bad_logits(logits, message):
    with pytest.raises(ValueError, match=message):
        check_logits(logits)


def test_stored_configs_give_the_published_sizes(monkeypatch):
    from transformers import AutoModelForCausalLM

    def no_network(*args, **kwargs):
        raise OSError("sin red")

    monkeypatch.setattr(runtime, "get_hf_file_metadata", no_network)
    stored = json.loads((runtime._DATA / "configs.json").read_text("utf-8"))
    for name in ("qwen3-4b", "phi-3-mini"):
        assert stored[name]["revision"] == MODELS[name].revision
        with torch.device("meta"):
            shell = AutoModelForCausalLM.from_config(load_config(name))
        total = sum(p.numel() for p in shell.parameters())
        assert total == MODELS[name].parameters, name
    with pytest.raises(runtime.WeightsError, match="no trae una copia"):
        load_config("qwen3-0.6b")
    with pytest.raises(ValueError, match="phi-3-mini"):
        load_config("gpt-5")
