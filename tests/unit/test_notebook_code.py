"""Lo que definen las celdas y lo que exporta el ayudante dan lo mismo."""

import ast
import json
import math
import random
import re
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from time import perf_counter
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2RotaryEmbedding,
    apply_rotary_pos_emb,
)
from transformers.utils import get_json_schema

from tokenatoken import (
    batch_invariant,
    calls,
    chat,
    constrained,
    fast,
    forward,
    generation,
    grammar,
    number,
    pages,
    quantize,
    sampling,
    scheduler,
    serving,
    speculative,
    tokens,
)
from tokenatoken import text as text_module
from tokenatoken.cache import make_cache
from tokenatoken.grammar import regex
from tokenatoken.model import load_tokenizer

from . import test_cache
from .tiny import (
    CONFIGS,
    ended_tokenizer,
    random_ids,
    tiny_model,
    wide_model,
)

NOTEBOOKS = __file__.rsplit("/tests/", 1)[0] + "/notebooks/"


def definitions(notebook: str, *names: str) -> dict:
    """Ejecuta solo las funciones y clases `names` de un cuaderno."""
    space = dict(
        torch=torch,
        math=math,
        DynamicCache=DynamicCache,
        DynamicLayer=DynamicLayer,
        dataclass=dataclass,
        field=field,
    )
    for helper in (generation, forward, sampling, text_module):
        space |= {k: v for k, v in vars(helper).items() if k[0] != "_"}
    cells = nbformat.read(NOTEBOOKS + notebook, 4).cells
    for cell in cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            kinds = ast.FunctionDef, ast.ClassDef
            if isinstance(node, kinds) and node.name in names:
                exec(ast.unparse(node), space)
    assert set(names) <= set(space), "el cuaderno ya no define eso"
    return space


UNIT3 = definitions("03_softmax.ipynb", "softmax", "apply_temperature")
UNIT4 = definitions("04_muestreo.ipynb", "top_k", "top_p", "min_p", "spin")
UNIT6 = definitions(
    "06_kv_cache.ipynb", "ConcatLayer", "PreallocatedLayer", "write_cached"
)
UNIT5 = definitions(
    "05_bucle.ipynb", "write", "sample", "penalize", "pieces_of", "beam_search"
)


@pytest.mark.parametrize("T", [0, 0.1, 0.7, 1, 1.5, 2, 3])
def test_the_temperature_of_unit_03(T):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, generator=generator)
    logits[[4, 7]] = logits.max() + 1  # empatan: con T = 0, gana el primero
    theirs = sampling.apply_temperature(logits, T)
    ours = UNIT3["apply_temperature"](logits, T)
    assert torch.equal(ours, theirs)
    assert torch.allclose(UNIT3["softmax"](ours), theirs.softmax(-1))


@pytest.mark.parametrize("seed", range(40))
def test_filters_of_unit_04(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(30, generator=generator)
    if seed % 4 == 0:
        logits = logits.round()  # empates
    k = 1 + seed % 30
    theirs = sampling.top_k_filter(logits, k)
    assert torch.equal(UNIT4["top_k"](logits, k), theirs)
    p = 0.05 + 0.9 * seed / 39
    theirs = sampling.min_p_filter(logits, p)
    assert torch.equal(UNIT4["min_p"](logits, p), theirs)
    ordered = logits.sort(descending=True).values
    shares = ordered.double().softmax(-1)
    if ((shares.cumsum(0) - p).abs() > 1e-5).all():
        ours = UNIT4["top_p"](ordered, p)
        assert torch.equal(ours, sampling.top_p_filter(ordered, p))
        if seed % 4:  # sin empates, el orden de llegada da igual
            theirs = sampling.top_p_filter(logits, p)
            assert torch.equal(UNIT4["top_p"](logits, p), theirs)


def test_roulette_and_multinomial_share_their_odds():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    dice = torch.Generator().manual_seed(0)
    drawn, u = UNIT4["spin"](p, dice, 5000)
    seen = torch.bincount(drawn, minlength=4) / 5000
    assert (seen - p).abs().max() < 0.03
    assert drawn[u < 0.5].unique().tolist() == [0]


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_the_loop_of_unit_05(name):
    model, ids = tiny_model(name), random_ids(6)
    steps = generation.generate_steps(model, ids, max_new_tokens=9)
    new = [s.token_id for s in steps]
    with torch.inference_mode():
        assert UNIT5["write"](model, ids, 9)[0, 6:].tolist() == new
        short = UNIT5["write"](model, ids, 9, {new[2]})[0, 6:].tolist()
    assert short == new[: new.index(new[2]) + 1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k, p", [(0, 1.0), (5, 0.9), (40, 0.6)])
def test_the_sampled_loop_of_unit_05_is_that_of_generate(seed, k, p):
    model, ids = tiny_model("qwen2"), random_ids(5, seed).repeat(3, 1)
    dice = torch.Generator().manual_seed(seed)
    knobs = dict(do_sample=True, temperature=0.8, top_k=k, top_p=p)
    knobs |= dict(eos_token_id=-1, attention_mask=torch.ones_like(ids))
    with torch.inference_mode():
        ours = UNIT5["sample"](model, ids, 7, dice, 0.8, k, p)
        torch.manual_seed(seed)
        theirs = model.generate(ids, max_new_tokens=7, **knobs)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("seed", range(6))
def test_the_penalty_of_unit_05(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(30, generator=generator)
    said = torch.randint(30, (12,), generator=generator)
    ours = UNIT5["penalize"](logits, said, 1.3)
    assert torch.equal(ours, sampling.repetition_penalty(logits, said, 1.3))


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_beam_of_unit_05_is_that_of_generate(width, seed):
    model, ids = tiny_model("qwen2"), random_ids(5, seed)
    with torch.inference_mode():
        ours = UNIT5["beam_search"](model, ids, width, 6)[1]
        theirs = model.generate(
            ids, do_sample=False, num_beams=width, max_new_tokens=6
        )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("text", ["¡Feliz día, ñandú! 🤖", "abc", "日本"])
def test_the_pieces_of_unit_05(text):
    tokenizer = load_tokenizer("smollm2")
    ids = tokenizer.encode(text)
    ours = list(UNIT5["pieces_of"](tokenizer, ids))
    assert ours == list(text_module.text_pieces(tokenizer, ids))


def notebook_cache(kind):
    return lambda model: make_cache(model, kind)


def small_room(model):
    class Small(UNIT6["PreallocatedLayer"]):
        room = 3

    return make_cache(model, Small)


LAYERS = {
    "ConcatLayer": notebook_cache(UNIT6["ConcatLayer"]),
    "PreallocatedLayer": notebook_cache(UNIT6["PreallocatedLayer"]),
    "PreallocatedLayer, 3": small_room,
}


@pytest.fixture(params=LAYERS)
def notebook_layer(request, monkeypatch):
    """Las pruebas de test_cache, con la clase escrita en el cuaderno."""
    monkeypatch.setitem(test_cache.MAKERS, "cuaderno", LAYERS[request.param])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("n", [1, 20])
def test_layers_of_unit_06(name, n, notebook_layer):
    test_cache.test_cache_changes_nothing(name, "cuaderno", n)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "test",
    [
        test_cache.test_our_layers_work_inside_generate,
        test_cache.test_padded_batch_is_each_row_alone,
        test_cache.test_crop_and_continue_elsewhere,
        test_cache.test_prefix_is_reused_between_turns,
    ],
    ids=lambda test: test.__name__,
)
def test_layers_of_unit_06_like_ours(name, test, notebook_layer):
    test(name, "cuaderno")


def test_layers_of_unit_06_in_one_model(notebook_layer):
    test_cache.test_beam_search_reorders_our_layers("cuaderno")
    test_cache.test_two_caches_do_not_touch_each_other("cuaderno")
    test_cache.test_a_copy_can_take_another_way("cuaderno")
    test_cache.test_a_prompt_in_chunks("llama", "cuaderno", 4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_cached_loop_of_unit_06(name):
    model, ids = tiny_model(name), random_ids(9)
    steps = generation.generate_steps(model, ids, max_new_tokens=7)
    with torch.inference_mode():
        ours = UNIT6["write_cached"](model, ids, 7, make_cache(model))
    assert ours[0, 9:].tolist() == [s.token_id for s in steps]


def test_blockwise_attention_of_unit_07():
    by_blocks = definitions("07_cronometro.ipynb", "by_blocks")["by_blocks"]
    generator = torch.Generator().manual_seed(7)
    for n, size in ((1, 4), (7, 3), (64, 64), (130, 32)):
        q, K, V = (
            torch.randn(*shape, generator=generator)
            for shape in ((16,), (n, 16), (n, 16))
        )
        q = 30 * q  # puntuaciones grandes: aquí fallaría sin el máximo
        whole = (K @ q / 4).softmax(0) @ V
        ours = by_blocks(q, K, V, size)
        assert torch.allclose(ours, whole, atol=1e-5), (n, size)


def test_stopwatch_of_unit_07_interleaves():
    space = definitions("07_cronometro.ipynb", "clock")
    space |= dict(time=time, statistics=statistics, wait=lambda: None)
    order = []
    result = space["clock"](
        3, a=lambda: order.append("a"), b=lambda: order.append("b")
    )
    assert "".join(order) == "abababab" and set(result) == {"a", "b"}


def test_sum_of_steps_of_unit_07():
    names = "ratio", "at", "total", "speedup", "tokens_for"
    space = definitions("07_cronometro.ipynb", *names)
    turns = range(5)  # en la última vuelta todo tarda el doble sin caché
    plain = {L: [*[s] * 4, 2 * s] for L, s in {10: 1.0, 20: 2.0}.items()}
    cached = {L: [0.5 for _ in turns] for L in plain}
    space |= dict(np=np, statistics=statistics, plain=plain, cached=cached)
    assert space["at"](plain, 15, 0) == 1.5
    assert space["at"](plain, 30, 0) == 3.0  # más allá, la misma recta
    assert space["total"](10, 3, 0) == pytest.approx((3.3, 2.0))
    assert space["speedup"](10, 1) == (1, 1, 1)
    low, middle, high = space["speedup"](10, 3)
    assert low == middle == pytest.approx(1.65) and high == 6.6 / 3
    sizes = {n: space["speedup"](10, n)[1] for n in range(1, 6)}
    assert space["tokens_for"](sizes, 1.5, 1.7) == "3"
    assert space["tokens_for"](sizes, 1.0, 1.7) == "1 a 3"
    assert space["tokens_for"](sizes, 1.41, 1.42) == "ninguno"
    assert "nunca" in space["tokens_for"](sizes, 1e6, 1e7)
    assert space["tokens_for"]({1: 1.0, 500: 3.0}, 2, 4) == "500"
    assert space["tokens_for"]({9: 2.0, 500: 3.0}, 2, 4) == "9 o más"


UNIT8 = definitions(
    "08_chat.ipynb",
    *("chatml", "chat_ids", "ask", "Chat", "split_thought", "thought_pieces"),
    *("multiplica", "read_call"),
)
UNIT8 |= dict(json=json, re=re, get_json_schema=get_json_schema)
UNIT8 |= dict(TABLE={"multiplica": UNIT8["multiplica"]})


def test_the_envelope_of_unit_08():
    qwen = load_tokenizer("qwen2.5-coder-0.5b")
    UNIT8["plain_ids"] = lambda text: chat.plain_ids(qwen, text)
    for n in (1, 3):
        roles = ("system", "user", "assistant")[:n]
        talk = [{"role": r, "content": f"{r}\n<|im_end|>"} for r in roles]
        assert UNIT8["chat_ids"](talk) == chat.chat_ids(qwen, talk)
        assert UNIT8["chatml"](talk) == chat.chatml(talk)
        assert UNIT8["chatml"](talk, False) == chat.chatml(talk, False)


@pytest.mark.parametrize(
    "text",
    ["<think>\na</think>\n<think>b</think> c", "<think>", "x <think>", " "],
)
def test_the_splitter_of_unit_08(text):
    assert UNIT8["split_thought"](text) == chat.split_thought(text)
    for size in (1, 3):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        theirs = list(chat.thought_pieces(pieces))
        assert list(UNIT8["thought_pieces"](pieces)) == theirs


@pytest.mark.parametrize(
    "arguments", ['{"a": 1, "b": 2}', '{"a": true, "b": 2}', '{"a": 1}', "7"]
)
@pytest.mark.parametrize("name", ["multiplica", "eval"])
def test_the_calls_of_unit_08(name, arguments):
    text = f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}'
    ours = UNIT8["read_call"]
    try:
        theirs = calls.read_call(text, [UNIT8["multiplica"]])
    except ValueError:
        with pytest.raises(ValueError):
            ours(text)
    else:
        assert ours(text) == theirs


def test_the_chat_of_unit_08():
    from .tiny import wide_model

    qwen = load_tokenizer("qwen2.5-coder-0.5b")
    UNIT8["plain_ids"] = lambda text: chat.plain_ids(qwen, text)
    model = wide_model(151936)
    UNIT8.update(model=model, tokenizer=qwen, make_cache=make_cache)
    mine, theirs = UNIT8["Chat"](), chat.Conversation(model, qwen)
    for text in ("Hola", "¿Y tú?", "Adiós"):
        steps = mine.say(text, 4)[1]
        assert [s.token_id for s in steps] == [
            s.token_id for s in theirs.ask(text, max_new_tokens=4, stop_ids=())
        ]
        processed = [s.processed for s in steps]
        assert processed[1:] == [1, 1, 1]


UNIT9 = definitions(
    "09_control.ipynb",
    *("seq", "alt", "many", "can_end", "derive", "automaton", "read"),
    *("next_states", "valid", "in_time", "Masked", "nested", "options"),
    *("exact", "stepwise"),
)
UNIT9 |= dict(EMPTY=grammar.EMPTY, NEVER=grammar.NEVER, np=np)
SMALL = ended_tokenizer()
FORMS = {
    "objeto": r'\{"n": ?"([^"\\\\\x00-\x1f]|\\\\n){0,4}", ?"e": ?-?[0-9]+\}',
    "repeticiones": "(ab?){2,3}[ñ€😀]*",
    "fecha": "[0-9]{4}-(0[1-9]|1[0-2])",
}


@pytest.mark.parametrize("pattern", FORMS.values(), ids=FORMS)
def test_the_automaton_of_unit_09(pattern):
    """Mismo lenguaje, mismos tokens en cada estado, misma distancia."""
    states, table = UNIT9["automaton"](regex(pattern))
    words = constrained.vocabulary(SMALL)
    ours = constrained.Automaton(regex(pattern), words)
    size = len(SMALL)
    texts = [b""] * size
    for text, token in words.texts.items():
        texts[token] = text
    sizes = np.array([len(text) for text in texts])
    columns = np.zeros((sizes.max(), size), int)
    for i, text in enumerate(texts):
        columns[: len(text), i] = list(text)
    UNIT9.update(table=table, SIZES=sizes, COLUMNS=columns)
    generator = random.Random(0)
    for _ in range(30):
        here, there = 0, ours.start
        for _ in range(12):
            after = UNIT9["next_states"](here)
            row = ours.row(there)
            assert np.array_equal(
                np.flatnonzero(after >= 0), row.ids.sort().values.numpy()
            )
            assert UNIT9["can_end"](states[here]) == ours.done(there)
            if not len(row.ids):
                break
            token = generator.choice(row.ids.tolist())
            here, there = after[token], ours.read(there, token)


def test_the_mask_of_unit_09_is_that_of_the_helper():
    states, table = UNIT9["automaton"](regex(FORMS["objeto"]))
    test_the_automaton_of_unit_09(FORMS["objeto"])
    NEXT = np.array([UNIT9["next_states"](s) for s in range(len(states))])
    final = np.array([UNIT9["can_end"](a) for a in states])
    far = np.where(final, 0, 10**6)
    for _ in states:
        for s, row in enumerate(NEXT):
            after = row[row >= 0]
            if len(after):
                far[s] = min(far[s], 1 + far[after].min())
    UNIT9.update(NEXT=NEXT, FINAL=final, FAR=far, THE_END=SMALL.eos_token_id)
    for seed in range(6):
        limit = far[0] + seed
        mine, theirs = (
            sampling.Sampler(
                temperature=1.5, generator=torch.Generator().manual_seed(seed)
            )
            for _ in range(2)
        )
        by_hand = UNIT9["Masked"](UNIT9["in_time"], limit, 2, mine)
        helper = constrained.choose(
            SMALL, FORMS["objeto"], max_new_tokens=int(limit), sampler=theirs
        )
        ids = torch.zeros(1, 2, dtype=torch.long)
        for step in range(limit):
            noise = torch.Generator().manual_seed(1000 * seed + step)
            logits = 3 * torch.randn(1, len(SMALL), generator=noise)
            token = by_hand(logits, ids)
            assert token == helper(logits, ids)
            ids = torch.cat([ids, token[:, None]], -1)


def test_the_stack_of_unit_09():
    for seed in range(300):
        for left in (4, 9, 40):
            pieces = UNIT9["nested"](left, random.Random(seed))
            assert len(pieces) <= left
            json.loads("".join(pieces))


def test_labels_of_one_token_are_the_same_both_ways():
    steps = torch.randn(4, 1).log_softmax(0) - 1
    labels = [[3], [1], [4], [2]]
    whole, masked = (
        UNIT9["exact"](steps, labels),
        UNIT9["stepwise"](steps, labels),
    )
    assert torch.allclose(whole, masked)
    labels = [[3, 1], [3, 2], [5]]  # a mano: la mitad del 3 es para cada una
    steps = torch.tensor([[0.5, 0.1], [0.5, 0.3], [0.25, 1.0]]).log()
    masked = UNIT9["stepwise"](steps, labels)
    assert torch.allclose(
        masked, torch.tensor([2 / 3 / 4, 2 / 3 * 3 / 4, 1 / 3])
    )
    whole = UNIT9["exact"](steps, labels)
    assert torch.allclose(whole, torch.tensor([0.05, 0.15, 0.25]) / 0.45)


def test_unit10_groups_and_attention_are_the_helpers():
    space = definitions("10_determinismo.ipynb", "in_groups", "attend")
    F = space["F"] = torch.nn.functional
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 96, generator=random)
    groups = batch_invariant.Groups(4)

    def by_hand(rows, matrix):
        return space["in_groups"](lambda part: F.linear(part, matrix), rows)

    def helper(rows, matrix):
        kind = "producto", matrix.shape
        return groups(lambda part: F.linear(part, matrix), rows, kind)

    for m in (1, 3, 4, 17, 40):
        rows = torch.randn(m, 96, generator=random)
        assert torch.equal(by_hand(rows, weight), helper(rows, weight))
    q, k, v = torch.randn(3, 32, 16, generator=random)
    seen = torch.arange(32) <= torch.arange(20, 32)[:, None]
    case = q[20:], k, v, seen, 16, by_hand
    assert torch.equal(space["attend"](*case), batch_invariant.attend(*case))


UNIT11 = definitions(
    "11_mas_deprisa.ipynb",
    "rms_norm",
    "rotate",
    "angles",
    "attention",
    "feed_forward",
    "joined",
    "open_layer",
    "plain",
    "FastModel",
    "transposed",
    "packed",
    "quantize",
    "dequantize",
    "to_int8",
    "integers",
    "lookup",
    "agree",
    "speculate",
    "DraftModel",
    "review",
)
UNIT11 |= {
    "F": torch.nn.functional,
    "partial": partial,
    "SimpleNamespace": SimpleNamespace,
    "CausalLMOutputWithPast": CausalLMOutputWithPast,
    "make_cache": make_cache,
}


@pytest.mark.parametrize("name", ["llama", "qwen2"])
@pytest.mark.parametrize("product", ["plain", "transposed", "packed"])
def test_unit11_forward_is_the_helpers(name, product):
    model, ids = tiny_model(name), random_ids(9)
    with torch.no_grad():
        ours = UNIT11["FastModel"](model, UNIT11[product])
        theirs = fast.FastModel(model, getattr(fast, product))
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
        steps = [
            forward.next_logits(one, ids, make_cache(model))
            for one in (ours, theirs)
        ]
        assert torch.equal(*steps)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [None, 16])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_unit11_quantizer_is_the_helpers(bits, group, symmetric):
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(bits))
    given = x, bits, group, symmetric
    ours, theirs = UNIT11["quantize"](*given), quantize.quantize(*given)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
    back = UNIT11["dequantize"](*ours)
    assert torch.equal(back, quantize.dequantize(*theirs))


def test_unit11_integers_are_the_helpers(monkeypatch):
    monkeypatch.setattr(quantize, "widest", lambda: 63)
    random = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(32, 64, generator=random), torch.ones(32)
    x = torch.randn(1, 5, 64, generator=random)
    ours, theirs = UNIT11["integers"], quantize.int8
    assert torch.equal(ours(weight, bias)(x), theirs(weight, bias)(x))


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["lookup", "DraftModel"])
def test_unit11_speculation_is_the_helpers(name, seed, kind):
    model, ids = tiny_model(name), random_ids(9, seed)
    other = tiny_model("qwen2")
    drafts = UNIT11[kind], getattr(speculative, kind)
    with torch.inference_mode():
        if kind == "DraftModel":
            drafts = [draft(other) for draft in drafts]
        ours = UNIT11["speculate"](model, ids, 14, drafts[0], 3)
        rounds = speculative.speculate(
            model, ids, max_new_tokens=14, draft=drafts[1], k=3
        )
        assert ours == [turn.tokens for turn in rounds]


@pytest.mark.parametrize("seed", range(6))
def test_unit11_review_is_the_helpers(seed):
    random = torch.Generator().manual_seed(seed)
    p = torch.randn(4, 7, generator=random).softmax(-1)
    q = torch.randn(3, 7, generator=random).softmax(-1)
    found = [
        review(p, q, [1, 2, 3], torch.Generator().manual_seed(seed))
        for review in (UNIT11["review"], speculative.review)
    ]
    assert found[0] == found[1]


UNIT12 = definitions(
    "12_muchas_a_la_vez.ipynb",
    "Pages",
    "slots",
    "PagedLayer",
    "aim",
    "keys_of",
    "find",
    "own_page",
    "Request",
    "prefill_first",
    "in_turns",
    "leave",
    "make_room",
    "adopt",
    "advance",
    "Scheduler",
    "admit",
    "step",
    "Server",
    "compute",
    "copy",
    "Rehearsal",
)
UNIT12 |= {"make_cache": make_cache, "pad": torch.nn.functional.pad}
UNIT12 |= {"sha256": sha256, "perf_counter": perf_counter}
for name in ("admit", "step"):
    setattr(UNIT12["Scheduler"], name, UNIT12[name])
for name in ("compute", "copy"):
    setattr(UNIT12["Server"], name, UNIT12[name])


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("policy", ["prefill_first", "in_turns"])
@pytest.mark.parametrize("room", [7, 30])
def test_unit12_server_is_the_helpers(name, policy, room):
    """Los mismos pasos, con los mismos ids, y hasta con poca memoria."""
    model, made = tiny_model(name), []
    for kind, server in (
        (UNIT12["Request"], UNIT12["Server"]),
        (scheduler.Request, serving.Server),
    ):
        options = dict(pages=room, size=3, chunk=4, most=3)
        chosen = UNIT12[policy] if server is UNIT12["Server"] else None
        chosen = chosen or getattr(scheduler, policy)
        one = server(model, policy=chosen, **options)
        asked = [
            kind(str(i), random_ids(4 + 2 * i)[0].tolist(), 5)
            for i in range(4)
        ]
        with torch.no_grad():
            one.run(asked)
        steps = [(m, names) for _, _, m, names in one.log]
        made.append((steps, [request.new for request in asked]))
    assert made[0] == made[1]


@pytest.mark.parametrize("room", [9, 40])
def test_unit12_rehearsal_is_the_helpers(room):
    made = []
    for kind, rehearsal, policy in (
        (UNIT12["Request"], UNIT12["Rehearsal"], UNIT12["in_turns"]),
        (scheduler.Request, serving.Rehearsal, scheduler.in_turns),
    ):
        options = dict(pages=room, size=4, chunk=5, policy=policy)
        one = rehearsal(lambda rows, m: 0.5 + rows * m, **options)
        one.run(
            [kind(str(i), range(i, 9 + 2 * i), 6, 2.0 * i) for i in range(5)]
        )
        made.append((one.log, one.now))
    assert made[0] == made[1]


def test_unit12_keys_and_pages_are_the_helpers():
    ids = random_ids(21)[0].tolist()
    assert UNIT12["keys_of"](ids, 4) == pages.keys_of(ids, 4)
    ours, theirs = UNIT12["Pages"](9, 4), pages.Pages(9, 4)
    for one in ours, theirs:
        for key in pages.keys_of(ids[:13], 4):
            page = one.take()
            one.known[key], one.keys[page] = page, key
    assert UNIT12["find"](ours, ids) == theirs.find(ids) == [0, 1, 2]
    tables = [0, 1], [0, 1]
    copies = [], []
    for one in ours, theirs:
        one.share(1)
    UNIT12["own_page"](ours, tables[0], 1, lambda *a: copies[0].append(a))
    theirs.own(tables[1], 1, lambda *a: copies[1].append(a))
    assert tables[0] == tables[1] and copies[0] == copies[1] == [(1, 3)]
    assert ours.users == theirs.users


def test_the_bytes_of_unit_01():
    tokenizer = load_tokenizer()
    unit = definitions("01_tokens.ipynb", "token_bytes")
    unit |= {"tokenizer": tokenizer, "letters": tokens.byte_alphabet()}
    for i in range(0, tokenizer.vocab_size, 997):
        assert unit["token_bytes"](i) == tokens.token_bytes(tokenizer, i)


@pytest.fixture(scope="module")
def unit02():
    """Las funciones de la unidad 02, con un modelo diminuto."""
    names = "prompt_ids", "all_logits", "next_logits", "top_tokens", "rms_norm"
    tokenizer = ended_tokenizer()
    model = wide_model(len(tokenizer))
    unit = definitions("02_forward.ipynb", *names, "rotate", "states", "lens")
    unit |= dict(model=model, tokenizer=tokenizer, config=model.config)
    unit |= dict(encode=tokens.encode, number=number)
    return unit


def test_the_forward_of_unit_02(unit02):
    model, tokenizer = unit02["model"], unit02["tokenizer"]
    ids = forward.prompt_ids(model, tokenizer, "uno dos")
    assert torch.equal(unit02["prompt_ids"]("uno dos"), ids)
    with torch.inference_mode():
        for name in ("all_logits", "next_logits"):
            ours, theirs = (
                unit02[name](ids),
                getattr(forward, name)(model, ids),
            )
            assert torch.allclose(ours, theirs, atol=1e-5)
        row = unit02["next_logits"](ids)[0]
        table = forward.top_tokens(row, tokenizer, 4)
        ours = unit02["top_tokens"](row, 4)
    assert [part.rsplit(" ", 2)[0] for part in ours.split(", ")] == [
        *table["token"]
    ]


def test_the_norm_and_the_turn_of_unit_02(unit02):
    model = tiny_model("qwen2")
    config, norm = model.config, model.model.norm
    x = torch.randn(1, 5, config.hidden_size)
    theta = config.rope_parameters["rope_theta"]
    head_dim = config.hidden_size // config.num_attention_heads
    unit02 |= dict(config=config)
    unit02["speed"] = theta ** (-torch.arange(0, head_dim, 2) / head_dim)
    with torch.inference_mode():
        ours = unit02["rms_norm"](x, norm.weight)
        assert torch.allclose(ours, norm(x), atol=1e-5)
        q = torch.randn(1, 2, 5, head_dim)
        rotary = Qwen2RotaryEmbedding(config)  # el del modelo es de todos
        cos, sin = rotary(q, torch.arange(5)[None])
        theirs, _ = apply_rotary_pos_emb(q, q, cos, sin)
        assert torch.allclose(unit02["rotate"](q), theirs, atol=1e-5)


def test_the_lens_of_unit_02_ends_where_the_model_does(unit02):
    model = unit02["model"]
    with torch.inference_mode():
        vectors = unit02["states"]("uno dos", last=2)
        p = unit02["lens"](vectors)
        ids = unit02["prompt_ids"]("uno dos")
        right = unit02["all_logits"](ids).softmax(-1)[0, -2:]
    assert len(p) == model.config.num_hidden_layers + 1
    assert torch.allclose(p[-1], right, atol=1e-5)
    assert not torch.allclose(p[1], right, atol=1e-3)
