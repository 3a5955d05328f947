"""Los mismos bits, vaya la fila como vaya."""

from contextlib import contextmanager
from functools import cache

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import LlamaConfig

from tokenatoken.batch_invariant import (
    Groups,
    _by_pieces,
    attend,
    batch_invariant,
)
from tokenatoken.cache import make_cache
from tokenatoken.checks.bench import random_model
from tokenatoken.forward import all_logits, next_logits

from .tiny import random_ids, tiny_model

NAMES = "llama", "qwen2", "qwen3", "phi3", "gemma3", "mistral"
# Sin encoger el ejemplo que falla: con un modelo, tarda minutos.
PHASES = Phase.explicit, Phase.reuse, Phase.generate
few = settings(max_examples=12, deadline=None, phases=PHASES)


def in_pieces(model, ids, size):
    cache, n = make_cache(model), ids.shape[1]
    for end in [*range(size, n, size), n]:
        logits = next_logits(model, ids[:, :end], cache)
    return logits


def accompanied(model, ids, rows, place, cached):
    """La misma fila en el lugar `place` de un lote de `rows`."""
    batch = random_ids(ids.shape[1], seed=7, rows=rows)
    batch[place] = ids[0]
    cache = make_cache(model) if cached else None
    if cached and ids.shape[1] > 1:
        next_logits(model, batch[:, :-1], cache)
    return next_logits(model, batch, cache)[place : place + 1]


def padded(model, ids, n):
    batch = random_ids(ids.shape[1] + n, seed=8, rows=2)
    batch[1, n:] = ids[0]
    mask = torch.ones_like(batch)
    mask[1, :n] = 0
    return next_logits(model, batch, attention_mask=mask)[1:]


def first_logits(model, ids, tile, chunk):
    """None si en esta máquina no se puede con esas medidas, y lo dice."""
    try:
        return next_logits(model, ids)
    except ValueError as error:
        assert "el lugar de la fila" in str(error)
        assert (tile, chunk) != (4, 64)
        return None


@pytest.mark.parametrize("name", NAMES)
@few
@given(st.data())
def test_every_route_gives_the_same_bits(name, data):
    model = tiny_model(name)
    number = data.draw
    n = number(st.integers(1, 40))
    ids = random_ids(n, seed=number(st.integers(0, 99)))
    rows = number(st.integers(1, 17))
    place = number(st.integers(0, rows - 1))
    tile = number(st.sampled_from([4, 6, 8, 16]))
    chunk = number(st.sampled_from([16, 32, 64]))
    with batch_invariant(model, tile=tile, chunk=chunk):
        base = first_logits(model, ids, tile, chunk)
        if base is None:
            return
        routes = {
            "trozos": in_pieces(model, ids, number(st.integers(1, n))),
            "lote": accompanied(model, ids, rows, place, False),
            "lote, caché": accompanied(model, ids, rows, place, True),
            "relleno": padded(model, ids, number(st.integers(1, 20))),
            "todas las posiciones": all_logits(model, ids)[:, -1],
        }
        wrong = [k for k, v in routes.items() if not torch.equal(v, base)]
    assert not wrong
    assert torch.allclose(base, next_logits(model, ids), atol=1e-3)


@contextmanager
def threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_two_threads_at_most_and_back():
    with threads(3):
        with batch_invariant(tiny_model("llama")):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("many", [1, 3])
def test_half_precision_too_or_it_says_so(name, dtype, many):
    model = tiny_model(name).to(dtype)
    try:
        with threads(many), batch_invariant(model):
            for n in (21, 64, 65):
                ids = random_ids(n)
                base = next_logits(model, ids)
                assert torch.equal(base, in_pieces(model, ids, 7))
                assert torch.equal(base, accompanied(model, ids, 9, 8, False))
                assert torch.equal(base, padded(model, ids, 5))
    except ValueError as error:
        assert "fp32" in str(error)
    finally:
        model.float()


@cache
def odd_model():
    """Un Llama en el que nada es múltiplo de 16."""
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=36,
        intermediate_size=50,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=18,
        attention_bias=True,
    )
    return random_model(config, spread=0.4)


@pytest.mark.parametrize("packed", [False, True])
def test_odd_sizes_and_any_threads(packed):
    model = odd_model()
    if packed and not reorders():
        pytest.skip("este torch no reordena pesos")
    for n in (5, 65):
        ids, found = random_ids(n), []
        usual = next_logits(model, ids)
        for many in (1, 2, 3, 4, 6, 8):
            with threads(many), batch_invariant(model, packed=packed):
                found.append(next_logits(model, ids))
                found.append(in_pieces(model, ids, 1 if n < 9 else 30))
                found.append(accompanied(model, ids, 20, 19, True))
        assert all(torch.equal(found[0], logits) for logits in found)
        assert torch.allclose(found[0], usual, atol=1e-3)


def reorders() -> bool:
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.ones(16, 16))
    except (AttributeError, RuntimeError):
        return False
    return True


def test_activations_have_no_leftovers():
    """Con tres hilos o más, torch parte una activación larga por donde caiga,
    y lo que sobra de una instrucción va por otra rutina."""
    module = torch.nn.SiLU()
    x = 3 * torch.randn(82_688, generator=torch.Generator().manual_seed(0))
    fixed, results = _by_pieces(module), []
    for many in (1, 2, 3, 5):
        with threads(many):
            results.append(fixed(x))
    assert all(torch.equal(results[0], r) for r in results)
    for n in (1, 24, 54, 100, 16_411):
        assert torch.equal(fixed(x[:n]), results[0][:n])
    assert torch.allclose(results[0], module(x), atol=1e-6)


def test_threads_do_not_matter():
    model, results = tiny_model("qwen3"), []
    for n in (30, 100):
        ids, results = random_ids(n), []
        with batch_invariant(model):
            for many in (1, 2, 3, 4, 8):
                with threads(many):
                    results.append(next_logits(model, ids))
                    results.append(in_pieces(model, ids, 17))
        assert all(torch.equal(results[0], r) for r in results)


def test_reordered_weights_are_as_invariant():
    model, ids = tiny_model("qwen2"), random_ids(30)
    usual = next_logits(model, ids)
    if not reorders():
        pytest.skip("este torch no reordena pesos")
    with batch_invariant(model, packed=True):
        base = next_logits(model, ids)
        assert torch.allclose(base, usual, atol=1e-3)
        for rows in (1, 2, 3, 5, 16):
            assert torch.equal(
                base, accompanied(model, ids, rows, rows - 1, True)
            )


def test_the_library_may_generate_inside():
    model, ids = tiny_model("llama"), random_ids(9)
    given = dict(max_new_tokens=12, do_sample=False)
    with batch_invariant(model):
        alone = model.generate(ids, **given)
        many = model.generate(ids.repeat(5, 1), **given)
    assert (many == alone).all()


def forwards(model):
    return [vars(module).get("forward") for module in model.modules()]


def test_contexts_nest_and_leave_no_trace():
    model, ids = tiny_model("qwen2"), random_ids(70)
    before = forwards(model), model.config._attn_implementation
    usual = next_logits(model, ids)
    with batch_invariant(model, tile=8, chunk=16):
        outer = next_logits(model, ids)
        with batch_invariant(model, tile=4, chunk=32):
            inner = next_logits(model, ids)
            assert torch.equal(inner, in_pieces(model, ids, 1))
        assert torch.equal(outer, next_logits(model, ids))
    assert (forwards(model), model.config._attn_implementation) == before
    assert torch.equal(usual, next_logits(model, ids))


def test_two_models_at_once_keep_their_own():
    one, two, ids = tiny_model("qwen2"), tiny_model("llama"), random_ids(11)
    with batch_invariant(one, chunk=32):
        alone = next_logits(one, ids)
        with batch_invariant(two, chunk=16):
            assert torch.equal(alone, next_logits(one, ids))


@pytest.mark.parametrize("where", ["dentro", "al entrar"])
def test_a_failure_leaves_the_model_as_it_was(where, monkeypatch):
    model = tiny_model("phi3")
    before = forwards(model), model.config._attn_implementation
    if where == "al entrar":
        monkeypatch.setattr(
            type(model), "set_attn_implementation", lambda *_: 1 / 0
        )
    with pytest.raises(ZeroDivisionError), batch_invariant(model):
        1 / 0  # noqa: B018
    monkeypatch.undo()
    assert (forwards(model), model.config._attn_implementation) == before


def test_somebody_elses_forward_comes_back():
    model = tiny_model("qwen3")
    module = model.lm_head
    theirs = module.forward = module.forward
    try:
        with batch_invariant(model):
            assert module.forward is not theirs
        assert vars(module)["forward"] is theirs
    finally:
        del module.forward


@pytest.mark.parametrize("name", ["tile", "chunk"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "4", None])
def test_sizes_that_are_not(name, value):
    with (
        pytest.raises(ValueError, match=f"{name}=.*entero, 1 o más"),
        batch_invariant(tiny_model("llama"), **{name: value}),
    ):
        pass


def test_a_chunk_out_of_line():
    with (
        pytest.raises(ValueError, match="múltiplo de 16"),
        batch_invariant(tiny_model("llama"), chunk=24),
    ):
        pass


def test_models_that_it_cannot_fix():
    with (
        pytest.raises(ValueError, match="Esperaba un modelo"),
        batch_invariant((tiny_model("llama"), None)),
    ):
        pass
    for name in ("deepseek3", "gemma3n", "falcon", "qwen3-next"):
        with (
            pytest.raises(ValueError, match="Usa un Llama"),
            batch_invariant(tiny_model(name)),
        ):
            pass


def test_weights_elsewhere_and_dropout():
    model = tiny_model("llama")
    head = model.lm_head
    try:
        model.lm_head = torch.nn.Linear(32, 96, device="meta")
        with (
            pytest.raises(ValueError, match="un solo dispositivo"),
            batch_invariant(model),
        ):
            pass
        model.lm_head = head
        model.train()
        with (
            pytest.raises(ValueError, match=r"model\.eval"),
            batch_invariant(model),
        ):
            pass
    finally:
        model.lm_head = head
        model.eval()


def test_packing_says_when_it_cannot():
    model = tiny_model("llama").double()
    try:
        with (
            pytest.raises(ValueError, match="packed=False"),
            batch_invariant(model, packed=True),
        ):
            pass
    finally:
        model.float()


class Product:
    """Un producto que suma en tantas partes como diga `parts(m)`, y apunta
    con cuántas filas lo llaman."""

    def __init__(self, parts):
        self.parts, self.calls = parts, []
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.randn(64, 32, generator=generator)

    def __call__(self, rows):
        self.calls.append(len(rows))
        total = 0
        size = -(-64 // self.parts(len(rows)))
        for x, w in zip(rows.split(size, 1), self.weight.split(size)):
            total = total + (x[:, :, None] * w).double().sum(1).float()
        return total


@few
@given(m=st.integers(1, 70), seed=st.integers(0, 9))
def test_groups_use_only_sizes_that_agree(m, seed):
    product = Product(lambda m: 1 if m == 1 else 2 if m < 4 else 5)
    generator = torch.Generator().manual_seed(seed)
    rows, groups = torch.randn(m, 64, generator=generator), Groups(4)
    whole = groups(product, rows, ("producto",))
    product.calls.clear()
    again = torch.cat([groups(product, row[None], ("x",)) for row in rows])
    assert torch.equal(whole, again)
    groups(product, rows, ("producto",))
    assert product.calls[-1] >= 4


def test_groups_fall_back_to_the_tile():
    product = Product(lambda m: m)  # cada tamaño, a su manera
    rows = torch.randn(21, 64, generator=torch.Generator().manual_seed(0))
    groups = Groups(6)
    groups(product, rows, ("producto",))
    product.calls.clear()
    groups(product, rows, ("producto",))
    assert product.calls == [6, 6, 6, 6]


def test_zeros_prove_nothing():
    """Con una matriz de ceros todos los órdenes dan lo mismo: la prueba se
    hace con otra."""
    product = Product(lambda m: 1 if m < 4 else 5)
    blank = Product(product.parts)
    blank.weight = torch.zeros_like(blank.weight)
    groups, rows = Groups(4), torch.ones(1, 64)
    groups(blank, rows, ("producto",), trial=product)
    blank.calls.clear()
    groups(blank, rows, ("producto",), trial=product)
    assert blank.calls == [4]


def test_a_verdict_serves_other_weights():
    """Lo que se recuerda es si el tamaño vale, no lo que dio una matriz."""
    product = Product(lambda m: 5)
    other = Product(lambda m: 5)
    other.weight = other.weight.flip(0)
    rows, groups = torch.ones(9, 64), Groups(4)
    groups(product, rows[:1], ("producto",))
    other.calls.clear()
    groups(other, rows, ("producto",))
    assert other.calls[-1] == 16


def test_a_place_that_matters_is_refused():
    def first_row_apart(rows):
        out = rows.clone()
        out[0] += 1e-3
        return out

    rows = torch.ones(3, 8, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="producto en torch.bfloat16"):
        Groups(4)(first_row_apart, rows, ("producto",))


@few
@given(n=st.integers(1, 50), chunk=st.sampled_from([16, 32, 64]))
def test_attention_ignores_how_it_was_cut(n, chunk):
    generator = torch.Generator().manual_seed(n)
    q, k, v = torch.randn(3, n, 8, generator=generator)
    groups = Groups(4)

    def product(a, b):
        def trial(rows):
            other = torch.Generator().manual_seed(1)
            return linear(rows, torch.randn(b.shape, generator=other))

        return groups(lambda rows: linear(rows, b), a, ("p", b.shape), trial)

    def rows(start, end, seen):  # las de start a end, con `seen` guardadas
        room = -(-seen // chunk) * chunk
        keys, values = torch.zeros(2, room, 8)
        keys[:seen], values[:seen] = k[:seen], v[:seen]
        mask = torch.arange(room) <= torch.arange(start, end)[:, None]
        return attend(q[start:end], keys, values, mask, chunk, product)

    whole = rows(0, n, n)
    usual = scaled_dot_product_attention(
        q[None], k[None], v[None], is_causal=True, scale=1.0
    )[0]
    assert torch.allclose(whole, usual, atol=1e-5)
    one_by_one = torch.cat([rows(i, i + 1, i + 1) for i in range(n)])
    assert torch.equal(whole, one_by_one)
