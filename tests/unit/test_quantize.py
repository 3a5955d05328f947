"""Cuantizar: media escala como mucho, y productos que se parecen."""

import pytest
import torch

from tokenatoken import CourseError
from tokenatoken import quantize as module
from tokenatoken.fast import FastModel
from tokenatoken.forward import all_logits
from tokenatoken.quantize import (
    dequantize,
    fitted,
    int4,
    int8,
    quantize,
    sixteen,
)

from .tiny import random_ids, tiny_model


def numbers(seed: int, *shape, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) + shift


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [None, 32, 8, 1])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_half_a_step_at_most(bits, group, symmetric, shift):
    x = numbers(bits, 6, 64, shift=shift)
    q, scale, zero = quantize(x, bits, group, symmetric)
    assert q.shape == (6, 64 // (group or 64), group or 64)
    low, high = (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)
    if not symmetric:
        low, high = 0, 2**bits - 1
    assert low <= q.min() <= q.max() <= high
    assert torch.equal(q, q.round())
    error = (dequantize(q, scale, zero) - x).abs().view_as(q)
    assert (error <= scale * (0.5 + 1e-4)).all()


def test_zero_stays_zero_and_constants_do_not_break():
    x = torch.tensor([[0.0, 3.0, 7.0, 9.5], [0, 0, 0, 0], [2, 2, 2, 2]])
    for symmetric in (True, False):
        back = dequantize(*quantize(x, 8, None, symmetric))
        assert back[0, 0] == 0 and (back[1] == 0).all()
        torch.testing.assert_close(back[2], x[2])


@pytest.mark.parametrize("least", [-1.3, -0.7, -20.0])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zero_is_a_whole_number(bits, least):
    x = torch.tensor([[least, 0.0, 2.0, 7.1]])
    q, scale, zero = quantize(x, bits)
    assert torch.equal(zero, zero.round())
    assert dequantize(q, scale, zero)[0, 1] == 0


def test_smaller_groups_lose_less():
    x = numbers(0, 16, 128) ** 3
    errors = [
        (dequantize(*quantize(x, 4, group)) - x).norm()
        for group in (128, 64, 32, 16)
    ]
    assert errors == sorted(errors, reverse=True)


def test_fitted_is_never_worse():
    x = numbers(1, 16, 128) ** 3
    plain = dequantize(*quantize(x, 4, 32))
    error = (fitted(x, 4, 32) - x).view(16, 4, 32).square().sum(-1)
    worst = (plain - x).view(16, 4, 32).square().sum(-1)
    assert (error <= worst + 1e-6).all() and error.sum() < worst.sum()


@pytest.mark.parametrize("product", [int8, sixteen])
@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("bias", [None, numbers(3, 48)])
def test_products(product, rows, bias):
    weight, x = numbers(1, 48, 64), numbers(2, 1, rows, 64)
    truth = torch.nn.functional.linear(x, weight, bias)
    found = product(weight, bias)(x)
    assert found.shape == truth.shape and found.dtype == truth.dtype
    assert (found - truth).norm() < 0.02 * truth.norm()


def test_int4():
    weight, x = numbers(1, 64, 64), numbers(2, 1, 3, 64)
    near = dequantize(*quantize(weight, 4, 32))
    found, truth = int4(weight)(x), x @ near.T
    assert (found - truth).norm() < 0.02 * truth.norm()
    assert (truth - x @ weight.T).norm() > 0.02 * truth.norm()


def test_each_token_keeps_its_own_scale():
    weight, x = numbers(1, 32, 64), numbers(2, 3, 64)
    x[0] *= 1000  # el primer token no estropea a los demás
    found, truth = int8(weight)(x), x @ weight.T
    for row, right in zip(found, truth):
        assert (row - right).norm() < 0.03 * right.norm()


@pytest.mark.parametrize("seed", range(5))
def test_whole_numbers_do_not_care_for_company(seed):
    weight, x = numbers(seed, 32, 64), numbers(seed + 9, 7, 64)
    product = int8(weight)
    assert torch.equal(product(x)[:3], product(x[:3]))


def test_without_the_operator(monkeypatch):
    def missing(*arguments):
        raise RuntimeError("no existe")

    place = torch.ops.quantized
    monkeypatch.setattr(place, "linear_prepack", missing, raising=False)
    weight, x = numbers(1, 16, 32), numbers(2, 1, 32)
    with pytest.warns(UserWarning, match="_int_mm"):
        found = int8(weight)(x)
    assert (found - x @ weight.T).norm() < 0.03 * (x @ weight.T).norm()


def test_where_whole_numbers_overflow(monkeypatch):
    monkeypatch.setattr(module, "widest", lambda: 63)
    weight, x = numbers(1, 16, 32), numbers(2, 4, 32)
    assert (int8(weight)(x) - x @ weight.T).norm() < 0.06 * x.norm() * 6


def test_in_a_model():
    model, ids = tiny_model("qwen2"), random_ids(8)
    with torch.inference_mode():
        truth = all_logits(model, ids)
        found = all_logits(FastModel(model, int8), ids)
    assert 0 < (found - truth).norm() < 0.1 * truth.norm()


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(bits=1), "de 2 a 8"),
        (dict(bits=9), "de 2 a 8"),
        (dict(bits=True), "de 2 a 8"),
        (dict(group=5), "dividir a los 64"),
        (dict(group=0), "dividir a los 64"),
        (dict(group=2.0), "dividir a los 64"),
    ],
)
def test_bad_input(given, words):
    with pytest.raises(CourseError, match=words):
        quantize(numbers(0, 2, 64), **given)


def test_whole_numbers_and_other_devices():
    with pytest.raises(CourseError, match="con decimales"):
        quantize(torch.ones(2, 4, dtype=torch.long))
    with pytest.raises(CourseError, match="cpu"):
        int8(torch.empty(4, 4, device="meta"))
    with pytest.raises(CourseError, match="dividir a los 64"):
        int4(numbers(0, 16, 64), group=48)
