"""Los filtros, iguales a los de transformers; y sus errores, en español."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tokenatoken.sampling import (
    apply_temperature,
    check_settings,
    min_p_filter,
    repetition_penalty,
    sample_token,
    top_k_filter,
    top_p_filter,
    warp_logits,
)

INF = float("inf")
MANY = settings(max_examples=150, deadline=None)
ROWS = 24  # por caso: 150 · 24 = 3600 distribuciones por propiedad
SHARE = st.floats(0.01, 1.0)
VALUES = torch.tensor([0.0, 1.0, 1.0, 2.5, -3.0, 100.0, 6e4, -6e4, -INF])


@st.composite
def batches(draw) -> torch.Tensor:
    """Logits `[24, V]`: con empates, −∞, valores extremos y un token que se
    lo lleva todo; en fp32, fp16 o bf16."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    size = draw(st.integers(2, 40))
    shape = (ROWS, size)
    noise = 4 * torch.randn(shape, generator=generator)
    which = torch.randint(0, len(VALUES), shape, generator=generator)
    odd = torch.rand(shape, generator=generator) < torch.linspace(
        0, 1, ROWS
    ).view(-1, 1)
    logits = torch.where(odd, VALUES[which], noise)
    logits[:, draw(st.integers(0, size - 1))] = 1.5  # alguno elegible
    dtype = draw(
        st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
    )
    return logits.to(dtype)


@MANY
@given(batches(), st.floats(0.05, 10))
def test_temperature(logits, T):
    library = TemperatureLogitsWarper(T)(None, logits.float())
    assert torch.equal(apply_temperature(logits, T), library)


@MANY
@given(batches(), st.data())
def test_top_k(logits, data):
    k = data.draw(st.integers(1, logits.shape[-1]))
    library = TopKLogitsWarper(k)(None, logits.float())
    assert torch.equal(top_k_filter(logits, k), library)
    assert torch.equal(top_k_filter(logits[0], k), library[0])


@MANY
@given(batches(), SHARE)
def test_top_p(logits, p):
    library = TopPLogitsWarper(p)(None, logits.float())
    assert torch.equal(top_p_filter(logits, p), library)
    assert torch.equal(top_p_filter(logits[0], p), library[0])


@MANY
@given(batches(), SHARE)
def test_min_p(logits, p):
    library = MinPLogitsWarper(p)(None, logits.float())
    assert torch.equal(min_p_filter(logits, p), library)


@MANY
@given(batches(), st.floats(0.1, 5), st.data())
def test_repetition_penalty(logits, penalty, data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    ids = torch.randint(0, logits.shape[1], (ROWS, 4), generator=generator)
    process = RepetitionPenaltyLogitsProcessor(penalty)
    library = process(ids, logits.float())
    assert torch.equal(repetition_penalty(logits, ids, penalty), library)


@MANY
@given(batches(), st.floats(0.2, 3), SHARE, SHARE, st.data())
def test_the_whole_chain_is_the_order_of_generate(logits, T, p, m, data):
    k = data.draw(st.integers(1, logits.shape[-1]))
    expected = logits.float()
    for warper in (
        TemperatureLogitsWarper(T),
        TopKLogitsWarper(k),
        TopPLogitsWarper(p),
        MinPLogitsWarper(m),
    ):
        expected = warper(None, expected)
    ours = warp_logits(logits, temperature=T, top_k=k, top_p=p, min_p=m)
    assert torch.equal(ours, expected)
    assert ours.isfinite().any(-1).all()  # nunca queda vacío
    drawn = sample_token(logits, temperature=T, top_k=k, top_p=p, min_p=m)
    assert expected.gather(1, drawn[:, None]).isfinite().all()


@MANY
@given(batches(), SHARE)
def test_nucleus_is_the_smallest_that_reaches_p(logits, p):
    shares = logits[0].double().softmax(-1)
    kept = top_p_filter(logits[0], p).isfinite()
    mass = shares[kept].sum()
    assert mass >= p - 1e-5
    assert mass - shares[kept].min() < p + 1e-5


def test_ties_at_k_stay():
    logits = torch.tensor([5.0, 4.0, 4.0, 4.0, 1.0])
    assert top_k_filter(logits, 2).isfinite().tolist() == [1, 1, 1, 1, 0]


def test_inputs_are_left_alone():
    logits = torch.randn(2, 9)
    copy, ids = logits.clone(), torch.tensor([[1], [2]])
    warp_logits(logits, temperature=0.5, top_k=3, top_p=0.5, min_p=0.2)
    repetition_penalty(logits, ids, 2.0)
    assert torch.equal(logits, copy)


def test_same_seed_same_draws_and_zero_is_the_best():
    logits = torch.randn(4, 50)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return [
            sample_token(logits, generator=generator).tolist()
            for _ in range(9)
        ]

    assert draw(1) == draw(1) != draw(2)
    best = logits.argmax(-1).tolist()
    for options in (dict(temperature=0), dict(top_k=1), dict(top_p=1e-6)):
        assert sample_token(logits, **options).tolist() == best
    assert sample_token(logits[0]).shape == ()


def test_draws_follow_the_probabilities():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)
    many = sample_token(logits.expand(5000, 4), top_k=3, generator=generator)
    seen = torch.bincount(many, minlength=4) / 5000
    expected = torch.tensor([0.5, 0.3, 0.15, 0]) / 0.95
    assert (seen - expected).abs().max() < 0.03 and seen[3] == 0


@pytest.mark.parametrize(
    "setting, words",
    [
        (dict(temperature=-1), "mayor o igual que 0"),
        (dict(temperature="0.7"), "mayor o igual que 0"),
        (dict(temperature=True), "mayor o igual que 0"),
        (dict(temperature=float("nan")), "mayor o igual que 0"),
        (dict(temperature=1e-40), "se desbordan"),
        (dict(top_k=0), "un entero, 1 o mayor"),
        (dict(top_k=2.0), "un entero, 1 o mayor"),
        (dict(top_k=True), "un entero, 1 o mayor"),
        (dict(top_p=0), "mayor que 0"),
        (dict(top_p=1.1), "como mucho 1"),
        (dict(top_p=float("nan")), "como mucho 1"),
        (dict(min_p=-0.1), "entre 0 y 1"),
        (dict(min_p=2), "entre 0 y 1"),
    ],
)
def test_bad_settings(setting, words):
    with pytest.raises(ValueError, match=words):
        check_settings(**setting)
    with pytest.raises(ValueError, match=words):
        sample_token(torch.zeros(1, 9), **setting)
    with pytest.raises(ValueError, match=words):
        warp_logits(torch.zeros(1, 9), **setting)


@pytest.mark.parametrize("penalty", [0, -1, "2", float("inf"), float("nan")])
def test_bad_penalty(penalty):
    with pytest.raises(ValueError, match="mayor que 0"):
        repetition_penalty(torch.zeros(9), torch.tensor([1]), penalty)


@pytest.mark.parametrize(
    "logits, words",
    [
        (torch.full((1, 9), -INF), "todos son −∞"),
        (torch.full((1, 9), float("nan")), "NaN"),
        (torch.full((1, 9), INF), r"\+∞"),
        (torch.zeros(1, 9, dtype=torch.long), "coma flotante"),
        (torch.zeros(1, 2, 9), "logits\\[:, -1\\]"),
    ],
)
def test_bad_logits(logits, words):
    for temperature in (0, 1):
        with pytest.raises(ValueError, match=words):
            sample_token(logits, temperature=temperature)


@pytest.mark.parametrize("values", [[20.0, 1.0], [-20.0, -1.0]])
def test_a_temperature_that_overflows(values):
    """También con logits negativos, que se irían todos a −∞ sin avisar."""
    with pytest.raises(ValueError, match="usa 0"):
        apply_temperature(torch.tensor(values), 1e-40)


def test_numbers_of_numpy_are_numbers():
    logits = torch.randn(2, 9)
    ours = warp_logits(
        logits,
        temperature=np.float32(0.5),
        top_k=np.int64(3),
        top_p=np.float64(0.9),
    )
    theirs = warp_logits(logits, temperature=0.5, top_k=3, top_p=0.9)
    assert torch.equal(ours, theirs)


def test_a_k_beyond_the_vocabulary_keeps_everything():
    logits = torch.randn(2, 9)  # como transformers
    assert torch.equal(top_k_filter(logits, 50), logits)


@pytest.mark.parametrize("dice", [42, "0", np.random.default_rng(0)])
def test_a_seed_is_not_a_generator(dice):
    with pytest.raises(ValueError, match="manual_seed"):
        sample_token(torch.zeros(1, 9), generator=dice)


@pytest.mark.parametrize(
    "ids", [[1, 2], torch.tensor(3), torch.ones(3, 1).long()]
)
def test_penalty_with_ids_of_another_shape(ids):
    with pytest.raises(ValueError, match="mismas filas"):
        repetition_penalty(torch.zeros(2, 9), ids, 1.2)


@pytest.mark.parametrize("size", [1000, 50_000, 100_000, 150_000, 151_936])
def test_the_best_stays_even_if_the_sum_falls_short_of_one(size):
    """En fp32 la suma de un vocabulario entero puede no llegar a 1."""
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(1, size, generator=generator)
        kept = top_p_filter(logits, 1e-9).isfinite()
        assert kept[0, logits.argmax()]


def test_a_penalty_over_a_list_says_so():
    with pytest.raises(ValueError, match="tensor de logits"):
        repetition_penalty([1.0, 2.0], torch.tensor([1]), 1.2)
