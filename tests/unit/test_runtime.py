"""Cargar modelos: qué se elige solo y qué se rechaza, antes de trabajar."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tokenatoken.model import load as runtime
from tokenatoken.model.load import (
    DEFAULT_MODEL,
    MODELS,
    MemoryShortage,
    load_model,
    load_tokenizer,
    memory_card,
    pick_device,
    pick_dtype,
)

from .local_hub import LocalHub

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_work(monkeypatch):
    """Falla si se empieza a cargar algo."""
    stop = pytest.fail
    monkeypatch.setattr(
        runtime, "fetch_weights", lambda *a: stop("busca pesos")
    )
    monkeypatch.setattr(
        runtime, "_from_hub", lambda *a, **k: stop("va al hub")
    )


def test_unknown_model_lists_the_known_ones(no_work):
    with pytest.raises(ValueError) as error:
        load_model("gpt-5")
    assert all(name in str(error.value) for name in MODELS)


def test_unknown_tokenizer_lists_the_known_ones(no_work):
    with pytest.raises(ValueError, match="smollm2"):
        load_tokenizer("gpt-5")


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:1"])
def test_absent_accelerator(no_work, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="aquí no hay ninguno"):
        load_model(device=device)


@pytest.mark.parametrize("device", ["gpu", "xpu", 3.5])
def test_device_that_is_not_one(no_work, device):
    with pytest.raises(ValueError, match="«cpu», «cuda» o «mps»"):
        load_model(device=device)


@pytest.mark.parametrize("dtype", ["float16", torch.int8, 16])
def test_dtype_that_is_not_one(no_work, dtype):
    with pytest.raises(ValueError, match="torch.float16"):
        load_model(device="cpu", dtype=dtype)


def test_too_little_memory_says_what_fits(no_work, monkeypatch):
    monkeypatch.setattr(runtime, "free_memory", lambda device: 10**9)
    with pytest.raises(MemoryShortage) as error:
        load_model(device="cpu")
    text = str(error.value)
    assert "hacen falta 2,9 GB" in text and "libres 1,0 GB" in text
    assert "Qué hacer" in text


def test_memory_card_counts_bytes(monkeypatch):
    monkeypatch.setattr(runtime, "free_memory", lambda device: 16 * 10**9)
    assert memory_card("qwen3-4b", "cpu").endswith("no cabe.")
    card = memory_card("qwen3-4b", "cpu", torch.float16)
    assert card.endswith(": cabe.") and "9,3 GB" in card


def test_dtype_by_card_and_model(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for capability, expected in (
        ((7, 5), torch.float16),
        ((9, 0), torch.bfloat16),
    ):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda d, c=capability: c
        )
        assert pick_dtype("phi-3-mini", gpu) == expected
        assert pick_dtype(DEFAULT_MODEL, gpu) == torch.float32
    assert pick_dtype("phi-3-mini", cpu) == torch.float32
    assert pick_dtype("phi-3-mini", torch.device("mps")) == torch.float16
    assert pick_dtype(DEFAULT_MODEL, cpu, torch.bfloat16) == torch.bfloat16


def test_cuda_is_chosen_alone_only_if_present(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device().type == "cuda"


def test_models_are_pinned():
    for name, spec in MODELS.items():
        assert spec.parameters > 10**8, name
        assert spec.repo is None or len(spec.revision) == 40


def test_environment_report_is_one_line():
    report = runtime.environment_report()
    assert report.startswith("Entorno: ") and "\n" not in report
    assert torch.__version__ in report


def test_tiny_model_loads_quietly_and_in_eval(
    spec, clean_machine, monkeypatch, capfd
):
    from tokenatoken.model.download import fetch_weights

    folder = fetch_weights(spec)
    capfd.readouterr()
    monkeypatch.setattr(runtime, "fetch_weights", lambda: folder)
    model, tokenizer = load_model(device="cpu")
    assert not model.training and model.dtype == torch.float32
    half, _ = load_model(device="cpu", dtype=torch.float16)
    assert half.dtype == torch.float16
    assert capfd.readouterr().err == ""
    ids = torch.tensor([tokenizer.encode("abc")])  # [1, n]
    assert model(ids).logits.shape == (1, ids.shape[1], 288)


@pytest.fixture(scope="module")
def tiny_qwen3(tmp_path_factory, tiny_gguf):
    """Carpeta con un Qwen3 diminuto, como la del hub."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from tokenatoken.model.convert import build_tokenizer
    from tokenatoken.model.gguf import read_gguf

    folder = tmp_path_factory.mktemp("qwen3")
    config = Qwen3Config(
        vocab_size=288,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    build_tokenizer(read_gguf(tiny_gguf)[0]).save_pretrained(folder)
    return folder


def load_elsewhere(cache: Path, **environment):
    code = (
        "from tokenatoken.model import load_model; "
        "m, t = load_model('qwen3-0.6b', device='cpu'); "
        "print(type(m).__name__, m.training, len(t))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(cache), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_large_model_comes_from_the_hub_at_its_revision(tiny_qwen3, tmp_path):
    spec = MODELS["qwen3-0.6b"]
    with LocalHub({spec.repo: tiny_qwen3}, spec.revision) as hub:
        done = load_elsewhere(tmp_path, HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Qwen3ForCausalLM", "False", "263"]
    asked = [path for _, path, _ in hub.requests if "safetensors" in path]
    assert asked and all(spec.revision in path for path in asked)


def test_config_comes_from_the_hub_when_it_answers(tiny_qwen3, tmp_path):
    spec = MODELS["qwen3-0.6b"]
    code = (
        "from tokenatoken.model import load_config; "
        "print(load_config('qwen3-0.6b').num_hidden_layers)"
    )
    with LocalHub({spec.repo: tiny_qwen3}, spec.revision) as hub:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "HF_HOME": str(tmp_path),
                "HF_ENDPOINT": hub.url,
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.stdout.split() == ["2"], done.stderr


def test_large_model_without_network_is_an_error_in_spanish(tmp_path):
    done = load_elsewhere(tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    last = json.dumps(done.stderr[-900:])
    assert "No se ha podido descargar Qwen/Qwen3-0.6B" in last
    assert "necesita red" in last.encode().decode("unicode_escape")
