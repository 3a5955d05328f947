"""Mutantes de la unidad 02: respuestas equivocadas que hay que rechazar."""

import pytest
import torch
import torch.nn.functional as F

from tokenatoken.checks import check
from tokenatoken.forward import all_logits, prompt_ids
from tokenatoken.model import load_model

from .verdicts import accepted, enough_mutants, rejected

MODEL, TOKENIZER = load_model(device="cpu")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def shapes_of(text):
    ids = prompt_ids(MODEL, TOKENIZER, text)
    n, d = ids.shape[1], MODEL.config.hidden_size
    return [[1, n], [1, n, d], [1, n, d], [1, n, MODEL.config.vocab_size]]


def count(config, qkv_bias=True, mlp=3, norms=2, final=1, tied=True, kv=None):
    d, rows = config.hidden_size, config.vocab_size
    groups = kv or config.num_key_value_heads
    width = d // config.num_attention_heads * groups
    attention = d * d + 2 * d * width + d * d
    attention += (d + 2 * width) if qkv_bias else 0
    layer = attention + mlp * d * config.intermediate_size + norms * d
    matrices = 1 if tied and config.tie_word_embeddings else 2
    return matrices * rows * d + config.num_hidden_layers * layer + final * d


def changed(model, ids, position, new_id):
    other = ids.clone()
    other[0, position] = new_id
    gap = (model(ids).logits - model(other).logits).abs().amax(-1)[0]
    return (gap > 1e-3).nonzero().flatten().tolist()


def in_place(model, ids, position, new_id):
    before = model(ids).logits.clone()
    ids[0, position] = new_id
    gap = (before - model(ids).logits).abs().amax(-1)[0]
    return (gap > 1e-3).nonzero().flatten().tolist()


def with_itself(model, ids, position, new_id):
    other = ids
    other[0, position] = new_id
    gap = (model(ids).logits - model(other).logits).abs().amax(-1)[0]
    return (gap > 1e-3).nonzero().flatten().tolist()


def attention(
    q, k, v, mask=True, scale=True, dim=-1, turns=False, after=False
):
    repeat, n = q.shape[1] // k.shape[1], q.shape[2]
    if turns:
        k, v = k.repeat(1, repeat, 1, 1), v.repeat(1, repeat, 1, 1)
    else:
        k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
    scores = q @ k.transpose(-1, -2)
    scores = scores / q.shape[-1] ** 0.5 if scale else scores
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    if mask and not after:
        scores = scores.masked_fill(future, float("-inf"))
    weights = scores.softmax(dim)
    if after:
        weights = weights.masked_fill(future, 0)
    return weights @ v


def with_diagonal_masked(q, k, v):
    repeat, n = q.shape[1] // k.shape[1], q.shape[2]
    k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.ones(n, n, dtype=torch.bool).triu(0)
    return scores.masked_fill(future, float("-inf")).softmax(-1) @ v


def soft_mask(q, k, v):
    repeat, n = q.shape[1] // k.shape[1], q.shape[2]
    k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -20.0).softmax(-1) @ v


def _gap(model, ids, position, new_id):
    other = ids.clone()
    other[0, position] = new_id
    return model(other).logits - model(ids).logits


def last(model, ids):
    return model.lm_head(model.model(ids).last_hidden_state[:, -1])


def layer(model, ids, bug=None):
    config, block = model.config, model.model.layers[0]
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    n, s = ids.shape[1], config.hidden_size // heads

    def norm(x, weight):
        if bug == "layernorm":
            x = x - x.mean(-1, keepdim=True)
        square = x.pow(2).mean(-1, keepdim=True)
        return weight * x * (square + config.rms_norm_eps).rsqrt()

    def split(t, many):
        if bug == "view":
            return t.view(1, many, n, s)
        return t.view(1, n, many, s).transpose(1, 2)

    theta = config.rope_parameters["rope_theta"]
    start = 1 if bug == "skips a position" else 0
    angle = torch.arange(n)[:, None] * theta ** (-torch.arange(0, s, 2) / s)
    if bug == "rope by token":
        angle = angle * ids[0, :, None]
    cos, sin = angle.cos(), angle.sin()

    def rotate(t):
        if bug == "no rope":
            return t
        a, b = t.chunk(2, dim=-1)
        sign = 1 if bug == "other way" else -1
        return torch.cat([a * cos + sign * b * sin, b * cos + a * sin], -1)

    x = model.get_input_embeddings()(ids)
    h = x if bug == "no norm" else norm(x, block.input_layernorm.weight)
    attn = block.self_attn
    q = rotate(split(attn.q_proj(h), heads))
    k = split(attn.k_proj(h), groups)
    k = k if bug == "only q" else rotate(k)
    v = split(attn.v_proj(h), groups)
    mixed = F.scaled_dot_product_attention(
        q, k, v, is_causal=bug != "no mask", enable_gqa=True
    )
    mixed = mixed.transpose(1, 2).reshape(1, n, -1)
    x1 = attn.o_proj(mixed) if bug == "no residual" else x + attn.o_proj(mixed)
    other = block.input_layernorm if bug == "wrong norm" else None
    h1 = norm(x1, (other or block.post_attention_layernorm).weight)
    gate, up = block.mlp.gate_proj(h1), block.mlp.up_proj(h1)
    if bug == "gate and up":
        gate, up = up, gate
    act = F.relu(gate) if bug == "relu" else F.silu(gate)
    base = x if bug == "given" else x1
    return base + block.mlp.down_proj(act * up) + 0 * start


CORRECT = {
    "02.1": (shapes_of,),
    "02.2": (count,),
    "02.3": (changed,),
    "02.4": (attention,),
    "02.5": (last,),
    "02.6": (layer,),
}
MUTANTS = {
    "sin lote": ("02.1", lambda t: [s[1:] for s in shapes_of(t)]),
    "solo la última": ("02.1", lambda t: [*shapes_of(t)[:3], [1, 151936]]),
    "tokens y no filas": (
        "02.1",
        lambda t: [*shapes_of(t)[:3], [1, shapes_of(t)[0][1], len(TOKENIZER)]],
    ),
    "en otro orden": ("02.1", lambda t: shapes_of(t)[::-1]),
    "n fija": ("02.1", lambda t: shapes_of("La capital de Argentina es")),
    "caracteres": (
        "02.1",
        lambda t: [[1, len(t), *s[2:]] for s in shapes_of(t)],
    ),
    "tensores": ("02.1", lambda t: [torch.zeros(s[:2]) for s in shapes_of(t)]),
    "tres formas": ("02.1", lambda t: shapes_of(t)[:3]),
    "sin sesgos": ("02.2", lambda c: count(c, qkv_bias=False)),
    "MLP de dos": ("02.2", lambda c: count(c, mlp=2)),
    "una norma": ("02.2", lambda c: count(c, norms=1)),
    "sin norma final": ("02.2", lambda c: count(c, final=0)),
    "siempre lm_head": ("02.2", lambda c: count(c, tied=False)),
    "sin GQA": ("02.2", lambda c: count(c, kv=c.num_attention_heads)),
    "memorizado": ("02.2", lambda c: 630_167_424),
    "en millones": ("02.2", lambda c: count(c) / 1e6),
    "supone la máscara": (
        "02.3",
        lambda m, ids, p, new: list(range(p, ids.shape[1])),
    ),
    "solo esa": ("02.3", lambda m, ids, p, new: [p]),
    "ninguna": ("02.3", lambda m, ids, p, new: []),
    "en el sitio": ("02.3", in_place),
    "consigo mismo": ("02.3", with_itself),
    "las que no cambian": (
        "02.3",
        lambda m, ids, p, new: [
            i for i in range(ids.shape[1]) if i not in changed(m, ids, p, new)
        ],
    ),
    "cuenta": ("02.3", lambda *a: len(changed(*a))),
    "desde uno": ("02.3", lambda *a: [i + 1 for i in changed(*a)]),
    "sin máscara": ("02.4", lambda q, k, v: attention(q, k, v, mask=False)),
    "sin raíz": ("02.4", lambda q, k, v: attention(q, k, v, scale=False)),
    "softmax en columnas": (
        "02.4",
        lambda q, k, v: attention(q, k, v, dim=-2),
    ),
    "cabezas por turnos": (
        "02.4",
        lambda q, k, v: attention(q, k, v, turns=True),
    ),
    "máscara después": (
        "02.4",
        lambda q, k, v: attention(q, k, v, after=True),
    ),
    "diagonal tapada": ("02.4", with_diagonal_masked),
    "devuelve pesos": ("02.4", lambda q, k, v: q @ k[:, :1].transpose(-1, -2)),
    "devuelve v": (
        "02.4",
        lambda q, k, v: v.repeat_interleave(q.shape[1] // v.shape[1], 1),
    ),
    "sin valor absoluto": (
        "02.3",
        lambda m, ids, p, new: (
            (_gap(m, ids, p, new).amax(-1)[0] > 1e-3)
            .nonzero()
            .flatten()
            .tolist()
        ),
    ),
    "solo la columna 0": (
        "02.3",
        lambda m, ids, p, new: (
            (_gap(m, ids, p, new).abs()[0, :, 0] > 1e-3)
            .nonzero()
            .flatten()
            .tolist()
        ),
    ),
    "umbral grande": (
        "02.3",
        lambda m, ids, p, new: (
            (_gap(m, ids, p, new).abs().amax(-1)[0] > 0.1)
            .nonzero()
            .flatten()
            .tolist()
        ),
    ),
    "umbral cero": (
        "02.3",
        lambda m, ids, p, new: (
            (_gap(m, ids, p, new).abs().amax(-1)[0] > 0)
            .nonzero()
            .flatten()
            .tolist()
        ),
    ),
    "media": (
        "02.3",
        lambda m, ids, p, new: (
            (_gap(m, ids, p, new).abs().mean(-1)[0] > 1e-3)
            .nonzero()
            .flatten()
            .tolist()
        ),
    ),
    "booleanos": (
        "02.3",
        lambda m, ids, p, new: [
            i in changed(m, ids, p, new) for i in range(ids.shape[1])
        ],
    ),
    "relleno de −20": ("02.4", soft_mask),
    "una a una": (
        "02.5",
        lambda m, ids: [
            m.lm_head(h) for h in m.model(ids).last_hidden_state.unbind(1)
        ][-1],
    ),
    "sin llamar al módulo": (
        "02.5",
        lambda m, ids: (
            m.model(ids).last_hidden_state[:, -1] @ m.lm_head.weight.T
        ),
    ),
    "doble norma": (
        "02.5",
        lambda m, ids: m.lm_head(
            m.model.norm(m.model(ids).last_hidden_state[:, -1])
        ),
    ),
    "todas y recorta": ("02.5", lambda m, ids: m(ids).logits[:, -1]),
    "la primera": (
        "02.5",
        lambda m, ids: m.lm_head(m.model(ids).last_hidden_state[:, 0]),
    ),
    "sin norma": (
        "02.5",
        lambda m, ids: m.lm_head(
            m.model.layers[-1](
                m.model(ids, output_hidden_states=True).hidden_states[-2],
                position_embeddings=m.model.rotary_emb(
                    m.model.embed_tokens(ids), torch.arange(ids.shape[1])[None]
                ),
            )[:, -1]
        ),
    ),
    "probabilidades": ("02.5", lambda m, ids: last(m, ids).softmax(-1)),
    "con dimensión de más": ("02.5", lambda m, ids: last(m, ids)[:, None]),
    "solo el último token": ("02.5", lambda m, ids: last(m, ids[:, -1:])),
    "sin lote 5": ("02.5", lambda m, ids: last(m, ids)[0]),
    "capa anterior": (
        "02.5",
        lambda m, ids: m.lm_head(
            m.model(ids, output_hidden_states=True).hidden_states[-2][:, -1]
        ),
    ),
}
for name in (
    "given",
    "layernorm",
    "view",
    "rope by token",
    "no rope",
    "other way",
    "no norm",
    "only q",
    "no mask",
    "no residual",
    "wrong norm",
    "gate and up",
    "relu",
):
    MUTANTS[f"capa: {name}"] = ("02.6", lambda m, i, b=name: layer(m, i, b))


@pytest.mark.parametrize("number", CORRECT)
def test_reference_is_accepted(number):
    accepted(number, *CORRECT[number])


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected_with_a_hint(name):
    number, answer = MUTANTS[name]
    rejected(name, number, answer)


@pytest.mark.parametrize(
    "name, words",
    [
        ("sin máscara", "No hay máscara"),
        ("sin raíz", "raíz"),
        ("cabezas por turnos", "Repartes mal las cabezas"),
        ("supone la máscara", "no tiene máscara"),
        ("doble norma", "dos veces"),
        ("solo el último token", "no los ids"),
        ("sin llamar al módulo", "como módulo"),
        ("diagonal tapada", "diagonal"),
        ("booleanos", "índices"),
        ("en el sitio", "copia"),
        ("todas y recorta", "Recorta"),
        ("sin sesgos", "sesgos"),
    ],
)
def test_hint_names_the_mechanism(name, words):
    number, answer = MUTANTS[name]
    assert words in check(number, answer).message


def test_every_check_has_mutants():
    enough_mutants(MUTANTS, CORRECT)


def test_library_ways_are_accepted():
    keep = check("02.5", lambda m, ids: m(ids, logits_to_keep=1).logits[:, -1])
    assert keep.ok is True, keep
    assert check("02.3", lambda *a: tuple(changed(*a))).ok is True
    assert check("02.3", lambda *a: set(changed(*a))).ok is True
    assert all_logits(MODEL, torch.tensor([[1, 2]])).shape == (1, 2, 151936)
