"""Especular: el mismo texto que greedy, la misma distribución que sortear."""

import pytest
import torch

from tokenatoken import CourseError
from tokenatoken.cache import make_cache
from tokenatoken.fast import FastModel
from tokenatoken.forward import next_logits
from tokenatoken.generation import generate_steps
from tokenatoken.speculative import (
    DraftModel,
    agree,
    lookup,
    review,
    speculate,
)

from .tiny import VOCABULARY, random_ids, tiny_model, wide_model

NAMES = "llama", "qwen2", "gemma3", "mistral"


def greedy(model, ids, n, **given):
    cache = make_cache(model)
    steps = generate_steps(model, ids, max_new_tokens=n, cache=cache, **given)
    return [step.token_id for step in steps]


def joined(rounds):
    return [token for turn in rounds for token in turn.tokens]


def parrot(truth, n, wrong):
    """Un borrador que sabe lo que viene, y falla en los lugares `wrong`."""

    def draft(ids, k):
        start = ids.shape[1] - n
        return [
            (token + (start + i in wrong)) % VOCABULARY
            for i, token in enumerate(truth[start : start + k])
        ]

    return draft


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_same_text_as_greedy(name, k, seed):
    model, ids = tiny_model(name), random_ids(9, seed)
    truth = greedy(model, ids, 17)
    drafts = {
        "copia": lookup,
        "modelo": DraftModel(model),
        "otro modelo": DraftModel(tiny_model("qwen3")),
        "nada": lambda ids, k: [],
        "todo mal": lambda ids, k: [0] * k,
    }
    for kind, draft in drafts.items():
        cache = make_cache(model)
        given = dict(max_new_tokens=17, draft=draft, k=k, cache=cache)
        rounds = list(speculate(model, ids, **given))
        assert joined(rounds) == truth, kind
        assert len(rounds) <= 17
        if kind == "modelo":
            assert len(rounds) == -(-17 // (k + 1))
        for turn in rounds:
            assert turn.accepted <= turn.proposed <= k


@pytest.mark.parametrize("wrong", [{0}, {3}, {2, 3, 9}, set(range(16))])
@pytest.mark.parametrize("k", [2, 4, 7])
def test_the_cache_holds_what_is_written(wrong, k):
    """Ids iguales no prueban una caché: se comparan sus K y V, y los logits
    que siguen."""
    model, ids = tiny_model("qwen2"), random_ids(6)
    truth = greedy(model, ids, 16)
    cache = make_cache(model)
    draft = parrot(truth, 6, wrong)
    given = dict(max_new_tokens=16, draft=draft, k=k, cache=cache)
    assert joined(speculate(model, ids, **given)) == truth
    whole = torch.cat([ids, torch.tensor([truth])], -1)
    held = int(cache.get_seq_length())
    assert held == whole.shape[1] - 1
    fresh = make_cache(model)
    next_logits(model, whole[:, :-1], fresh)
    for ours, theirs in zip(cache.layers, fresh.layers):
        torch.testing.assert_close(ours.keys, theirs.keys)
        torch.testing.assert_close(ours.values, theirs.values)
    torch.testing.assert_close(
        next_logits(model, whole, cache), next_logits(model, whole)
    )


@pytest.mark.parametrize("place", range(6))
def test_an_end_inside_a_draft(place):
    model, ids = tiny_model("llama"), random_ids(8, 2)
    truth = greedy(model, ids, 12)
    end = truth[place]
    expected = truth[: truth.index(end) + 1]
    given = dict(max_new_tokens=12, stop_ids=[end], k=5)
    draft = parrot(truth, 8, set())
    cache = make_cache(model)
    rounds = speculate(model, ids, draft=draft, cache=cache, **given)
    assert joined(rounds) == expected
    assert cache.get_seq_length() == 8 + len(expected) - 1


@pytest.mark.parametrize("limit", range(1, 8))
def test_never_more_than_asked(limit):
    model, ids = tiny_model("qwen2"), random_ids(6)
    truth = greedy(model, ids, limit)
    draft = DraftModel(FastModel(model))
    found = speculate(model, ids, max_new_tokens=limit, draft=draft, k=4)
    assert joined(found) == truth


def test_the_prompt_stays_as_it_was():
    model, ids = tiny_model("qwen2"), random_ids(6)
    before = ids.clone()
    draft = parrot(greedy(model, ids, 9), 6, set())
    rounds = list(speculate(model, ids, max_new_tokens=9, draft=draft, k=2))
    assert [len(turn.tokens) for turn in rounds] == [3, 3, 3]
    assert torch.equal(ids, before)


def test_lookup():
    ids = torch.tensor([[5, 6, 7, 8, 9, 5, 6]])
    assert lookup(ids, 3) == [7, 8, 9]
    assert lookup(ids, 10) == [7, 8, 9, 5, 6]
    assert lookup(ids[:, :5], 3) == []
    near = torch.tensor([[1, 2, 3, 4, 2, 3, 9, 1, 2, 3]])
    assert lookup(near, 1) == [4]  # tres iguales ganan a dos más cercanas
    assert lookup(near, 1, most=2) == [9]


def test_agree():
    logits = torch.eye(5)[[2, 4, 1]]  # [3, 5]
    assert agree(logits, [2, 4]) == ([2, 4, 1], 2)
    assert agree(logits, [2, 3]) == ([2, 4], 1)
    assert agree(logits, [0, 4]) == ([2], 0)
    assert agree(logits[:1], []) == ([2], 0)


def chi2(counts, p):
    expected = counts.sum() * p
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("seed", range(4))
def test_review_follows_p(seed):
    """20.000 primeros tokens; con 5 grados de libertad, 25,7 es p = 1e-4."""
    generator = torch.Generator().manual_seed(seed)
    p = (2 * torch.randn(3, 6, generator=generator)).softmax(-1)
    q = (2 * torch.randn(2, 6, generator=generator)).softmax(-1)
    firsts, seconds, good = [], [], 0
    for _ in range(20_000):
        tokens = torch.multinomial(q, 1, generator=generator)[:, 0].tolist()
        new, accepted = review(p, q, tokens, generator)
        firsts.append(new[0])
        seconds += new[1:2]
        good += accepted > 0
    for drawn, truth in ((firsts, p[0]), (seconds, p[1])):
        counts = torch.bincount(torch.tensor(drawn), minlength=6)
        assert chi2(counts, truth) < 25.7
    overlap = torch.minimum(p[0], q[0]).sum().item()
    assert abs(good / 20_000 - overlap) < 0.02


@pytest.mark.parametrize("kind", ["modelo", "copia"])
def test_sampling_follows_the_model(kind):
    model, ids = tiny_model("qwen2"), torch.tensor([[5, 6, 7, 5, 6]])
    generator = torch.Generator().manual_seed(0)
    other = tiny_model("llama")
    drawn = []
    for _ in range(3000):
        draft = lookup
        if kind == "modelo":
            draft = DraftModel(other, 1.3, generator)
        given = dict(k=1, temperature=1.3, generator=generator, draft=draft)
        rounds = speculate(model, ids, max_new_tokens=2, **given)
        drawn.append(next(iter(rounds)).tokens[0])
    p = (next_logits(model, ids)[0] / 1.3).softmax(-1)
    counts = torch.bincount(torch.tensor(drawn), minlength=VOCABULARY)
    big = p > 5 / 3000
    counts = torch.cat([counts[big], counts[~big].sum()[None]])
    p = torch.cat([p[big], p[~big].sum()[None]])
    freedom = len(p) - 1
    assert chi2(counts, p) < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(k=0), "k=0"),
        (dict(k=-1), "k=-1"),
        (dict(k=2.0), "k=2.0"),
        (dict(max_new_tokens=0), "max_new_tokens=0"),
        (dict(temperature=-1), "temperature=-1"),
        (dict(temperature="0"), "temperature='0'"),
    ],
)
def test_bad_input(given, words):
    given = dict(max_new_tokens=4) | given
    with pytest.raises(CourseError, match=words):
        speculate(tiny_model("llama"), random_ids(4), **given)


def test_bad_drafts():
    model, ids = tiny_model("llama"), random_ids(4)
    other = DraftModel(wide_model(200))
    with pytest.raises(CourseError, match="200 ids"):
        speculate(model, ids, max_new_tokens=4, draft=other)
    warm = DraftModel(model, temperature=0.5)
    with pytest.raises(CourseError, match="dales la misma"):
        speculate(model, ids, max_new_tokens=4, draft=warm)
    with pytest.raises(CourseError, match="sigue un texto"):
        speculate(model, random_ids(4, rows=2), max_new_tokens=4)


@pytest.mark.parametrize("wrong", [[96], [-1], [1.0], [1, 2, 3, 4]])
def test_a_draft_that_does_not_give_ids(wrong):
    model, ids = tiny_model("llama"), random_ids(4)
    given = dict(max_new_tokens=9, k=3, draft=lambda ids, k: wrong)
    with pytest.raises(CourseError, match="borrador ha propuesto"):
        list(speculate(model, ids, **given))


def test_a_used_draft_follows_another_text():
    model, draft = tiny_model("llama"), DraftModel(tiny_model("llama"))
    for seed in range(4):
        ids = random_ids(5 + seed % 2, seed)
        given = dict(max_new_tokens=8, draft=draft, k=3)
        rounds = list(speculate(model, ids, **given))
        assert joined(rounds) == greedy(model, ids, 8)
        assert len(rounds) == 2  # y con todo aceptado
