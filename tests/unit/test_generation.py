"""El bucle contra `generate`, sus paradas, su flujo de texto y sus errores."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tokenatoken import generation
from tokenatoken.cache import make_cache
from tokenatoken.generation import (
    end_ids,
    generate_steps,
    stop_text,
    stop_time,
    stop_unsure,
)
from tokenatoken.model import load_tokenizer
from tokenatoken.sampling import Sampler
from tokenatoken.text import stream, text_pieces

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
    choose = Sampler(temperature=0, penalty=1.8)
    ours = tokens(model, ids, choose=choose)
    assert ours == library(model, ids, repetition_penalty=1.8)
    assert ours != library(model, ids)


def test_sampling_is_generate_with_the_same_noise():
    model, ids = tiny_model("llama"), random_ids(7)
    settings = dict(temperature=1.3, top_k=20, top_p=0.9, min_p=0.01)
    torch.manual_seed(5)
    theirs = library(model, ids, do_sample=True, **settings)
    torch.manual_seed(5)
    assert tokens(model, ids, choose=Sampler(**settings)) == theirs
    dice = torch.Generator().manual_seed(5)
    choose = Sampler(**settings, generator=dice)
    assert tokens(model, ids, choose=choose) == theirs


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
    real = generation.forward
    monkeypatch.setattr(
        generation, "forward", lambda *a: count.append(1) or real(*a)
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
    "choose suelto": (dict(choose=0.7), "Sampler"),
    "como en generate": (dict(temperature=0.7), "no tiene temperature"),
    "choose sin crear": (dict(choose=Sampler), "ya creado"),
    "fin como lista de textos": (dict(stop_ids=["</s>"]), "stop_text"),
    "sin tokens": (dict(max_new_tokens=0), "al menos un"),
    "tokens con coma": (dict(max_new_tokens=2.5), "al menos un"),
    "no cabe": (dict(max_new_tokens=126), "Baja max_new_tokens a 125"),
    "fin fuera": (dict(stop_ids=[96]), "no está en el vocabulario"),
    "fin negativo": (dict(stop_ids=[-1]), "no está en el vocabulario"),
    "fin None": (dict(stop_ids=[None]), "no está en el vocabulario"),
    "fin True": (dict(stop_ids=[True]), "no está en el vocabulario"),
    "fin con coma": (dict(stop_ids=3.0), "no está en el vocabulario"),
    "fin en lista": (dict(stop_ids=[[3]]), "no está en el vocabulario"),
    "fin como texto": (dict(stop_ids="</s>"), "stop_text"),
    "regla sin crear": (dict(stop_rules=[stop_text]), "Se crean así"),
    "regla None": (dict(stop_rules=[None]), "Se crean así"),
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
        (torch.empty(1, 0, dtype=torch.long), "No hay ningún token"),
        (torch.empty(1, 0), "No hay ningún token"),
        (torch.empty(0, 3, dtype=torch.long), "No hay ningún token"),
        ([[1, 2]], "tensor"),
        ("hola", "prompt_ids"),
        (random_ids(128), "Recorta el prompt"),
    ):
        with pytest.raises(ValueError, match=words):
            generate_steps(tiny_model("llama"), ids, max_new_tokens=2)
    assert not forwards


@pytest.mark.parametrize(
    "logits, words",
    [(float("nan"), "NaN"), (-INF, "todos son −∞"), (INF, r"\+∞")],
)
def test_broken_logits_stop_with_an_explanation(logits, words, monkeypatch):
    broken = torch.randn(1, VOCABULARY)
    broken[0, 7] = logits
    if logits == -INF:
        broken[:] = logits
    monkeypatch.setattr(generation, "forward", lambda *a: broken)
    with pytest.raises(ValueError, match=words):
        tokens(tiny_model("llama"), random_ids(3))
    if logits != -INF:  # esto solo lo puede hacer una máscara de `choose`
        with pytest.raises(ValueError, match=words):
            tokens(tiny_model("llama"), random_ids(3), choose=Sampler(0.7))


class Reads(TorchDispatchMode):
    """Cuenta las veces que alguien espera un valor del dispositivo."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = "_local_scalar_dense", "nonzero", "unique"
        self.count += any(name in str(func) for name in waits)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch):
    counter = Reads()
    real = torch.Tensor.tolist  # no pasa por el despachador

    def tolist(tensor):
        counter.count += 1
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)
    return counter


@pytest.mark.parametrize(
    "choose",
    [generation.greedy, Sampler(0.9, 40, 0.95, 0.01, 1.2)],
    ids=["greedy", "cuatro filtros y penalización"],
)
@pytest.mark.parametrize("cached", [False, True])
def test_one_read_per_token(choose, cached, reads):
    """En una GPU, cada lectura es una espera. Las que haga el modelo por
    dentro (sin caché, una en transformers 5.23) no son nuestras."""
    model, ids = tiny_model("qwen2"), random_ids(5)
    counts, fresh = [], ids[:, :1] if cached else ids
    with reads, torch.inference_mode():
        cache = make_cache(model) if cached else None
        generation.forward(model, fresh, cache)
        theirs, reads.count = reads.count, 0
    for n in (4, 12):
        cache = make_cache(model) if cached else None
        with reads:
            before = reads.count
            tokens(model, ids, n, choose=choose, cache=cache)
            counts.append(reads.count - before)
    assert counts[1] - counts[0] == (12 - 4) * (1 + theirs)


@pytest.mark.parametrize("give", [int, np.int64, torch.tensor, lambda i: [i]])
def test_choose_may_give_any_single_id(give):
    model, ids = tiny_model("llama"), random_ids(3)
    ours = tokens(model, ids, choose=lambda x, _: give(int(x.argmax())))
    assert ours == tokens(model, ids)


@pytest.mark.parametrize(
    "answer, words",
    [
        (None, "un solo id"),
        (3.99, "un solo id"),
        (True, "un solo id"),
        (torch.tensor([7.5]), "un solo id"),
        ([1, 2], "un solo id"),
        ("hola", "un solo id"),
        (VOCABULARY, "ha elegido el id 96"),
        (-1, "ha elegido el id -1"),
    ],
)
def test_what_choose_may_not_give(answer, words):
    with pytest.raises(ValueError, match=words):
        tokens(tiny_model("llama"), random_ids(3), choose=lambda *_: answer)


def test_choose_sees_the_logits_and_what_is_written():
    model, ids, seen = tiny_model("llama"), random_ids(3), []

    def choose(logits, written):
        seen.append((logits.clone(), written.clone()))
        return logits.argmin(-1)

    steps = list(generate_steps(model, ids, max_new_tokens=4, choose=choose))
    new = [s.token_id for s in steps]
    for i, (logits, written) in enumerate(seen):
        assert torch.equal(logits[0], steps[i].logits)
        assert written[0].tolist() == ids[0].tolist() + new[:i]


def test_choose_may_scribble_on_what_it_gets():
    model, ids = tiny_model("llama"), random_ids(3)
    before = ids.clone()

    def choose(logits, written):
        best = logits.argmax(-1)
        logits.zero_(), written.zero_()
        return best

    assert tokens(model, ids, choose=choose) == tokens(model, ids)
    assert torch.equal(ids, before)


def test_a_mask_that_leaves_nothing():
    def choose(logits, written):
        return Sampler(0.7)(torch.full_like(logits, -INF))

    with pytest.raises(ValueError, match="todos son −∞"):
        tokens(tiny_model("llama"), random_ids(3), choose=choose)


def test_stream_wants_steps():
    with pytest.raises(ValueError, match="no ids"):
        stream(TOKENIZER, [1, 2, 3])


def test_cropping_between_steps_is_noticed_by_the_position():
    model, ids = tiny_model("qwen2"), random_ids(9)
    cache, steps = make_cache(model), []
    for step in generate_steps(model, ids, max_new_tokens=6, cache=cache):
        steps.append(step)
        cache.crop(-2)
    assert [s.token_id for s in steps] == tokens(model, ids, 6)
    assert [s.processed for s in steps] == [9, 3, 3, 3, 3, 3]


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


def test_an_interruption_midway_through_an_emoji_writes_what_there_is():
    ids = TOKENIZER.encode("hola 🤖")[:-1]

    def interrupted():
        for i in ids:
            yield type("Step", (), {"token_id": i})
        raise KeyboardInterrupt

    pieces = []
    stream(TOKENIZER, interrupted(), pieces.append)
    assert "".join(pieces) == TOKENIZER.decode(ids)
    assert pieces[-1].endswith("�")


def test_half_an_emoji_is_not_yet_a_text():
    whole = TOKENIZER.encode("🤖")
    rule = stop_text(TOKENIZER, "�")
    for n in range(1, len(whole) + 1):
        assert rule(None, whole[:n]) is None


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
