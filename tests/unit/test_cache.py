"""Las dos capas contra `generate` y contra el bucle sin caché."""

import copy
from functools import partial

import pytest
import torch
from transformers import DynamicCache

from tokenatoken.cache import (
    ConcatLayer,
    PreallocatedLayer,
    check_cache,
    held_bytes,
    kv_cache_bytes,
    make_cache,
)
from tokenatoken.forward import all_logits, forward, next_logits
from tokenatoken.generation import generate_steps
from tokenatoken.model import load_config

from .tiny import (
    CONFIGS,
    RECURRENT,
    UNUSUAL,
    VOCABULARY,
    random_ids,
    tiny_model,
)

MAKERS = {
    "concatenar": partial(make_cache, layer_class=ConcatLayer),
    "reservar": make_cache,
    "reservar poco": partial(make_cache, room=3),
    "biblioteca": lambda model: DynamicCache(config=model.config),
}
OURS = ["concatenar", "reservar", "reservar poco"]
every_model = pytest.mark.parametrize("name", CONFIGS | UNUSUAL)
every_cache = pytest.mark.parametrize("kind", MAKERS)
our_cache = pytest.mark.parametrize("kind", OURS)


def run(model, ids, n=14, **options):
    steps = generate_steps(model, ids, max_new_tokens=n, **options)
    return list(steps)


def tokens(steps) -> list[int]:
    return [step.token_id for step in steps]


@every_model
@every_cache
@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_cache_changes_nothing(name, kind, n):
    """Mismos ids y mismos logits que sin caché, y que `generate`."""
    model, ids = tiny_model(name), random_ids(n)
    cache = MAKERS[kind](model)
    plain, cached = run(model, ids), run(model, ids, cache=cache)
    assert tokens(cached) == tokens(plain)
    for a, b in zip(plain, cached):
        torch.testing.assert_close(a.logits, b.logits, atol=1e-4, rtol=1e-4)
    assert [s.processed for s in cached] == [n] + [1] * 13
    assert cache.get_seq_length() == n + 13  # el último no hizo falta pasarlo
    library = model.generate(ids, do_sample=False, max_new_tokens=14)
    assert library[0, n:].tolist() == tokens(plain)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_model_is_refused_with_a_cache_and_works_without(name):
    model, ids = tiny_model(name), random_ids(9)
    with pytest.raises(ValueError, match="estado recurrente"):
        make_cache(model)
    for cache in (DynamicCache(config=model.config), DynamicCache()):
        with pytest.raises(ValueError, match="estado recurrente"):
            generate_steps(model, ids, max_new_tokens=2, cache=cache)
    library = model.generate(ids, do_sample=False, max_new_tokens=8)
    assert library[0, 9:].tolist() == tokens(run(model, ids, 8))


@every_model
@our_cache
def test_our_layers_work_inside_generate(name, kind):
    model = tiny_model(name)
    options = dict(do_sample=False, max_new_tokens=12, pad_token_id=0)
    for ids in (random_ids(1), random_ids(9), random_ids(6, rows=3)):
        mask = torch.ones_like(ids)
        theirs = model.generate(ids, attention_mask=mask, **options)
        ours = model.generate(
            ids,
            attention_mask=mask,
            past_key_values=MAKERS[kind](model),
            **options,
        )
        assert torch.equal(ours, theirs)


def padded(name: str):
    """Dos filas, la segunda con relleno a la izquierda, y su máscara."""
    long, short = random_ids(9, 1), random_ids(5, 2)
    pad = torch.zeros(1, 4, dtype=torch.long)
    ids = torch.cat([long, torch.cat([pad, short], -1)])
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    return ids, mask, (long, short)


@every_model
@every_cache
def test_padded_batch_is_each_row_alone(name, kind):
    model = tiny_model(name)
    ids, mask, rows = padded(name)
    cache = MAKERS[kind](model)
    prompt = ids.shape[1]
    for _ in range(6):
        token = next_logits(model, ids, cache, mask).argmax(-1)
        ids = torch.cat([ids, token[:, None]], -1)
        mask = torch.cat([mask, torch.ones_like(token)[:, None]], -1)
    ours = ids[:, prompt:].tolist()
    assert cache.get_seq_length() == prompt + 5
    assert ours == [tokens(run(model, row, 6)) for row in rows]


@our_cache
def test_padding_without_its_mask_is_wrong(kind):
    """La prueba anterior puede fallar: sin máscara cambian los logits."""
    model = tiny_model("llama")
    ids, mask, rows = padded("llama")
    right = next_logits(model, rows[1])[0]
    with_mask = next_logits(model, ids, MAKERS[kind](model), mask)[1]
    without = next_logits(model, ids, MAKERS[kind](model))[1]
    torch.testing.assert_close(with_mask, right, atol=1e-4, rtol=1e-4)
    assert (without - right).abs().max() > 0.1


@every_model
@every_cache
@pytest.mark.parametrize("size", [1, 4, 50])
def test_a_prompt_in_chunks(name, kind, size):
    model, ids = tiny_model(name), random_ids(17)
    cache = MAKERS[kind](model)
    with torch.inference_mode():
        for part in ids.split(size, dim=1):
            logits = forward(model, part, cache)
    torch.testing.assert_close(
        logits, next_logits(model, ids), atol=1e-4, rtol=1e-4
    )
    assert cache.get_seq_length() == 17


@every_model
@our_cache
def test_crop_and_continue_elsewhere(name, kind):
    model, ids = tiny_model(name), random_ids(12)
    cache = MAKERS[kind](model)
    run(model, ids, cache=cache)
    cache.crop(9 - cache.get_seq_length())  # negativo: los que sobran
    assert cache.get_seq_length() == 9
    other = torch.cat([ids[:, :9], random_ids(5, 77)], -1)
    again = run(model, other, cache=cache)
    assert again[0].processed == 5
    assert tokens(again) == tokens(run(model, other))


@every_model
@our_cache
def test_prefix_is_reused_between_turns(name, kind):
    model, first = tiny_model(name), random_ids(8)
    cache = MAKERS[kind](model)
    answer = run(model, first, 6, cache=cache)
    history = torch.cat(
        [first, torch.tensor([tokens(answer)]), random_ids(4, 5)], -1
    )
    second = run(model, history, 6, cache=cache)
    assert tokens(second) == tokens(run(model, history, 6))
    assert second[0].processed == 18 - 13  # 13 ya estaban: 8 + 6 − 1
    assert cache.get_seq_length() == 18 + 5


@our_cache
def test_beam_search_reorders_our_layers(kind):
    model, ids = tiny_model("qwen2"), random_ids(6)
    options = dict(do_sample=False, num_beams=3, max_new_tokens=8)
    theirs = model.generate(ids, **options)
    cache = MAKERS[kind](model)
    ours = model.generate(ids, past_key_values=cache, **options)
    assert torch.equal(ours, theirs)


@every_cache
def test_two_caches_do_not_touch_each_other(kind):
    model = tiny_model("llama")
    one, two = MAKERS[kind](model), MAKERS[kind](model)
    a, b = random_ids(5, 1), random_ids(7, 2)
    first = generate_steps(model, a, max_new_tokens=6, cache=one)
    second = generate_steps(model, b, max_new_tokens=6, cache=two)
    pairs = list(zip(first, second))
    assert [x.token_id for x, _ in pairs] == tokens(run(model, a, 6))
    assert [y.token_id for _, y in pairs] == tokens(run(model, b, 6))


@our_cache
def test_a_copy_can_take_another_way(kind):
    model, ids = tiny_model("qwen3"), random_ids(6)
    cache = MAKERS[kind](model)
    next_logits(model, ids, cache)
    twin = copy.deepcopy(cache)
    left = torch.cat([ids, torch.tensor([[7]])], -1)
    right = torch.cat([ids, torch.tensor([[9]])], -1)
    ours = run(model, left, 5, cache=cache), run(model, right, 5, cache=twin)
    assert tokens(ours[0]) == tokens(run(model, left, 5))
    assert tokens(ours[1]) == tokens(run(model, right, 5))


@our_cache
def test_reset_forgets_everything(kind):
    """En transformers 5.15, `reset` pone ceros pero no olvida cuántos había;
    por eso nuestras capas traen el suyo."""
    model, ids = tiny_model("llama"), random_ids(6)
    cache = MAKERS[kind](model)
    run(model, ids, cache=cache)
    cache.reset()
    assert cache.get_seq_length() == 0
    other = random_ids(4, 9)
    ours = tokens(run(model, other, cache=cache))
    assert ours == tokens(run(model, other))


def test_preallocated_does_not_copy_while_there_is_room():
    model, ids = tiny_model("llama"), random_ids(6)
    cache = make_cache(model, room=32)
    next_logits(model, ids, cache)
    place = cache.layers[0].keys.data_ptr()
    for token in (3, 4, 5):
        forward(model, torch.tensor([[token]]), cache)
        assert cache.layers[0].keys.data_ptr() == place
    assert cache.layers[0].room == 32
    run_on = torch.arange(1, 41)[None]
    cache = make_cache(model, room=32)
    next_logits(model, run_on, cache)
    assert cache.layers[0].room == 40  # un prompt mayor que la reserva
    forward(model, torch.tensor([[3]]), cache)
    assert cache.layers[0].room == 82  # y al llenarse, el doble


def test_cache_made_in_inference_mode_can_grow_outside_it():
    model, ids = tiny_model("llama"), random_ids(6)
    cache = make_cache(model)
    next_logits(model, ids, cache)  # dentro lleva inference_mode
    with torch.no_grad():
        model(torch.tensor([[3]]), past_key_values=cache)
    assert cache.get_seq_length() == 7


@pytest.mark.parametrize("name", CONFIGS)
@every_cache
def test_bytes_of_the_formula_are_the_bytes_held(name, kind):
    model = tiny_model(name)
    ids = random_ids(6, rows=2)  # menos que la ventana deslizante
    cache = MAKERS[kind](model)
    next_logits(model, ids, cache)
    expected = kv_cache_bytes(model.config, 6, 2, torch.float32)
    assert held_bytes(cache) == expected == 2 * 4 * 2 * 8 * 6 * 2 * 4


def test_a_window_stops_growing_in_bytes():
    """Los mismos bytes que la biblioteca, que guarda un token menos."""
    for name in ("gemma3", "mistral"):
        model = tiny_model(name)
        config = model.config
        window = config.sliding_window
        cache, ids = DynamicCache(config=config), random_ids(window + 9)
        with torch.no_grad():
            model(ids, past_key_values=cache)
        full = kv_cache_bytes(config, 1, dtype=torch.float32)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
        share = kinds.count("sliding_attention") / len(kinds)
        ours = kv_cache_bytes(config, window + 9, dtype=torch.float32)
        assert ours - held_bytes(cache) == share * full
        assert ours < (window + 9) * full


@pytest.mark.parametrize(
    "name, per_token",
    [("phi-3-mini", 393_216), ("qwen3-4b", 147_456)],
)
def test_bytes_of_published_models(name, per_token):
    assert kv_cache_bytes(load_config(name), 1) == per_token
    assert kv_cache_bytes(load_config(name), 1000) == 1000 * per_token


def test_bad_lengths():
    config = tiny_model("llama").config
    for arguments in ((-1,), (5, 0)):
        with pytest.raises(ValueError, match="hacen falta"):
            kv_cache_bytes(config, *arguments)
    with pytest.raises(ValueError, match="1 token o más"):
        PreallocatedLayer(0)


@every_cache
def test_a_cache_of_another_text(kind):
    model, ids = tiny_model("llama"), random_ids(8)
    cache = MAKERS[kind](model)
    run(model, ids, 4, cache=cache)  # guarda 11
    other = torch.cat([ids[:, :5], random_ids(9, 3)], -1)
    with pytest.raises(ValueError, match=r"5 primeros.*crop\(-6\)"):
        generate_steps(model, other, max_new_tokens=2, cache=cache)
    cache.crop(-6)  # lo que dice el mensaje
    ours = tokens(run(model, other, 4, cache=cache))
    assert ours == tokens(run(model, other, 4))


@every_cache
def test_editing_the_prompt_afterwards_is_noticed(kind):
    model, ids = tiny_model("llama"), random_ids(8)
    cache = MAKERS[kind](model)
    next_logits(model, ids, cache)
    ids[0, 2] += 1  # en el mismo tensor
    longer = torch.cat([ids, random_ids(2, 5)], -1)
    with pytest.raises(ValueError, match="2 primeros"):
        next_logits(model, longer, cache)


@every_cache
def test_a_cache_that_already_has_it_all(kind):
    model, ids = tiny_model("llama"), random_ids(8)
    cache = MAKERS[kind](model)
    first = tokens(run(model, ids, 4, cache=cache))
    with pytest.raises(ValueError, match=r"crop\(-4\)"):
        generate_steps(model, ids, max_new_tokens=2, cache=cache)
    with pytest.raises(ValueError, match=r"crop\(-4\)"):
        next_logits(model, ids, cache)
    cache.crop(-4)
    assert tokens(run(model, ids, 4, cache=cache)) == first


@our_cache
def test_a_cache_of_another_model(kind):
    llama, ids = tiny_model("llama"), random_ids(5)
    cache = MAKERS[kind](llama)
    cache.layers.pop()
    with pytest.raises(ValueError, match="3 capas y el modelo, 4"):
        generate_steps(llama, ids, max_new_tokens=2, cache=cache)
    cache = MAKERS[kind](llama)
    for layer in cache.layers:
        layer.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match="puede cambiar a medias"):
        list(generate_steps(llama, ids, max_new_tokens=2, cache=cache))


@our_cache
def test_the_batch_may_not_change_midway(kind):
    model = tiny_model("llama")
    cache = MAKERS[kind](model)
    next_logits(model, random_ids(5, rows=2), cache)
    with pytest.raises(ValueError, match="puede cambiar a medias"):
        model(random_ids(1, rows=3), past_key_values=cache)
    with pytest.raises(ValueError, match="es de otro lote"):
        check_cache(model, cache, random_ids(8))


def test_dtype_may_not_change_midway():
    layer = PreallocatedLayer()
    half = torch.zeros(1, 2, 3, 8, dtype=torch.float16)
    layer.update(half, half)
    with pytest.raises(ValueError, match="float16"):
        layer.update(half.float(), half.float())


@our_cache
def test_a_forward_interrupted_halfway_is_noticed(kind):
    model, ids = tiny_model("llama"), random_ids(6)
    cache = MAKERS[kind](model)
    hook = model.model.layers[2].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        next_logits(model, ids, cache)
    hook.remove()
    longer = torch.cat([ids, random_ids(3, 4)], -1)
    for use in (
        lambda: next_logits(model, longer, cache),
        lambda: generate_steps(model, longer, max_new_tokens=2, cache=cache),
    ):
        with pytest.raises(ValueError, match="a medias"):
            use()


def interrupt(*_):
    raise KeyboardInterrupt


def test_two_loops_may_not_share_a_cache():
    model, cache = tiny_model("llama"), make_cache(tiny_model("llama"))
    one = generate_steps(
        model, random_ids(5, 1), max_new_tokens=3, cache=cache
    )
    two = generate_steps(
        model, random_ids(9, 2), max_new_tokens=3, cache=cache
    )
    next(one)
    with pytest.raises(ValueError, match="otro texto"):
        next(two)
    list(one)
    with pytest.raises(ValueError, match="otro texto"):
        list(
            generate_steps(
                model, random_ids(9, 2), max_new_tokens=3, cache=cache
            )
        )


def test_masks_that_do_not_fit():
    model = tiny_model("llama")
    ids, mask, _ = padded("llama")
    for wrong, words in (
        (mask[:, 1:], "hace falta \\[2, 9\\]"),
        (mask.flip(1), "relleno al final"),
    ):
        with pytest.raises(ValueError, match=words):
            next_logits(model, ids, make_cache(model), wrong)
    cache = make_cache(model)
    next_logits(model, ids, cache, mask)
    longer = torch.cat([ids, torch.tensor([[1], [2]])], -1)
    with pytest.raises(ValueError, match="llevaba relleno"):
        next_logits(model, longer, cache)


@pytest.mark.parametrize(
    "use, words",
    [
        (
            lambda m, c: next_logits(m, random_ids(3), "x"),
            "Esperaba una caché",
        ),
        (lambda m, c: next_logits(m, random_ids(3)[0], c), "forma"),
        (lambda m, c: next_logits(m, torch.tensor([[999]]), c), "no existe"),
        (lambda m, c: next_logits(m, random_ids(129), c), "contexto"),
        (
            lambda m, c: generate_steps(
                m, random_ids(3), max_new_tokens=2, cache=make_cache
            ),
            "Esperaba una caché",
        ),
        (lambda m, c: kv_cache_bytes(m.config, 2.5), "hacen falta"),
        (lambda m, c: PreallocatedLayer(True), "1 token o más"),
        (lambda m, c: make_cache(m, 512), "room=512"),
        (lambda m, c: next_logits((m, 0), random_ids(3)), "load_model"),
    ],
)
def test_bad_arguments(use, words):
    model = tiny_model("llama")
    with pytest.raises(ValueError, match=words):
        use(model, make_cache(model))


def test_nothing_beyond_the_context():
    model = tiny_model("llama")
    full = make_cache(model)
    next_logits(model, random_ids(128), full)
    with pytest.raises(ValueError, match="caben 128"):
        next_logits(model, random_ids(129), full)
    with pytest.raises(ValueError, match="128 del contexto"):
        generate_steps(
            model, random_ids(120), max_new_tokens=9, cache=make_cache(model)
        )


@pytest.mark.parametrize("kind", OURS)
def test_an_off_by_one_would_be_seen(kind):
    """La igualdad con la versión sin caché detecta el salto de posición."""
    model, ids = tiny_model("qwen2"), random_ids(9)
    cache = MAKERS[kind](model)
    next_logits(model, ids, cache)
    with torch.inference_mode():
        shifted = model(
            torch.tensor([[5]]),
            past_key_values=cache,
            position_ids=torch.tensor([[10]]),
        ).logits[0, -1]
    longer = torch.cat([ids, torch.tensor([[5]])], -1)
    right = all_logits(model, longer)[0, -1]
    assert (shifted - right).abs().max() > 0.01
    assert right.shape == (VOCABULARY,)
