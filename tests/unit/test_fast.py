"""El forward propio: el mismo modelo, con los productos que sean."""

import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from tokenatoken import CourseError, fast
from tokenatoken.cache import make_cache
from tokenatoken.fast import FastModel, packed, plain, transposed
from tokenatoken.forward import all_logits, forward, next_logits
from tokenatoken.generation import generate_steps

from .tiny import random_ids, tiny_model

PRODUCTS = {"plain": plain, "transposed": transposed, "packed": packed}


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", fast.KNOWN)
@pytest.mark.parametrize("product", PRODUCTS)
def test_same_logits_and_ids(name, product):
    model, ids = tiny_model(name), random_ids(7)
    own = FastModel(model, PRODUCTS[product])
    theirs = all_logits(model, ids)
    torch.testing.assert_close(all_logits(own, ids), theirs)
    given = dict(max_new_tokens=12)
    for cache in (lambda m: None, make_cache):
        a, b = (
            [
                step.token_id
                for step in generate_steps(m, ids, cache=cache(m), **given)
            ]
            for m in (model, own)
        )
        assert a == b


@pytest.mark.parametrize("name", fast.KNOWN)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(name, dtype):
    config, ids = tiny_model(name).config, random_ids(7)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    cache = DynamicCache(config=model.config)  # guarda lo que le den
    logits = next_logits(FastModel(model), ids, cache)
    assert cache.layers[0].keys.dtype == cache.layers[0].values.dtype == dtype
    theirs = next_logits(model, ids).float()
    torch.testing.assert_close(logits.float(), theirs, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("name", fast.KNOWN)
def test_the_cache_holds_the_same(name):
    model, ids = tiny_model(name), random_ids(9)
    ours, theirs = make_cache(model), make_cache(model)
    next_logits(FastModel(model), ids, ours)
    next_logits(model, ids, theirs)
    for a, b in zip(ours.layers, theirs.layers):
        torch.testing.assert_close(a.keys, b.keys)
        torch.testing.assert_close(a.values, b.values)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("cut", [1, 4, 6])
def test_pieces_and_batches(rows, cut):
    model, ids = tiny_model("qwen3"), random_ids(7, rows=rows)
    own, cache = FastModel(model), make_cache(model)
    forward(own, ids[:, :cut], cache)
    last = own(ids[:, cut:], past_key_values=cache).logits  # [B, m, V]
    torch.testing.assert_close(last, all_logits(model, ids)[:, cut:])


def test_the_model_stays_as_it_was():
    model, ids = tiny_model("qwen2"), random_ids(6)
    before, size = all_logits(model, ids), sum(1 for _ in model.parameters())
    FastModel(model, transposed)
    FastModel(model)  # otra vez, sobre las vistas
    assert torch.equal(all_logits(model, ids), before)
    assert sum(1 for _ in model.parameters()) == size


def test_joined_shares_memory():
    layer = tiny_model("llama").model.layers[0].self_attn
    weight, bias = fast.joined(layer.q_proj, layer.k_proj)
    assert bias is None
    assert layer.k_proj.weight.untyped_storage().data_ptr() == (
        weight.untyped_storage().data_ptr()
    )


@pytest.mark.parametrize("name", ["phi3", "gemma3", "mistral"])
def test_other_architectures(name):
    with pytest.raises(CourseError, match=f"«{name}|«gemma3_text"):
        FastModel(tiny_model(name))


def test_not_a_model_or_padding():
    with pytest.raises(CourseError, match="load_model"):
        FastModel("qwen2")
    own, ids = FastModel(tiny_model("llama")), random_ids(4)
    with pytest.raises(CourseError, match="relleno"):
        next_logits(own, ids, attention_mask=torch.ones_like(ids))


def test_packed_without_the_operator(monkeypatch):
    def missing(*arguments):
        raise RuntimeError("no existe")

    monkeypatch.setattr(
        torch.ops.mkldnn, "_reorder_linear_weight", missing, raising=False
    )
    weight, x = torch.randn(5, 4), torch.randn(2, 4)
    with pytest.warns(UserWarning, match="transposed"):
        product = packed(weight)
    torch.testing.assert_close(product(x), x @ weight.T)


def test_no_warning_here():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FastModel(tiny_model("llama"), packed)


def test_the_weights_can_still_be_trained():
    model = tiny_model("qwen2")
    with torch.inference_mode():
        FastModel(model)
    with torch.enable_grad():
        ids = random_ids(5)
        model(ids).logits.sum().backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad is not None
    model.zero_grad()
