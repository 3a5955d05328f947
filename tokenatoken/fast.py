"""El forward de un Llama, un Qwen2 o un Qwen3, con operaciones de PyTorch.

Los productos vienen de fuera, `product(weight, bias) → función`, porque ahí
está casi todo el tiempo. Se usa donde un modelo de transformers, y guarda K y V
en las mismas cachés. No sabe nada de tokenizadores ni de bucles.
"""

import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from transformers.modeling_outputs import CausalLMOutputWithPast

from . import CourseError

KNOWN = "llama", "qwen2", "qwen3"


def plain(weight, bias=None) -> Callable:
    """x `[..., K]` → x @ weight.T `[..., N]`, como `nn.Linear`."""
    return partial(F.linear, weight=weight, bias=bias)


def transposed(weight, bias=None) -> Callable:
    """Lo mismo, con los pesos escritos por columnas: otra copia."""
    columns = weight.T.contiguous()  # [K, N]
    if bias is None:
        return lambda x: x @ columns
    return lambda x: x @ columns + bias


def packed(weight, bias=None) -> Callable:
    """Lo mismo, con los pesos en el orden que prefiere oneDNN: otra copia. Si
    este torch o este dispositivo no lo ofrece, avisa y usa `transposed`."""
    try:
        matrix = torch.ops.mkldnn._reorder_linear_weight(weight)
        product = torch.ops.mkldnn._linear_pointwise
    except (AttributeError, RuntimeError, NotImplementedError):
        warnings.warn(
            "aquí no se pueden reordenar los pesos para oneDNN (es de CPU "
            "x86): packed usa transposed, algo más lento.",
            stacklevel=2,
        )
        return transposed(weight, bias)
    return lambda x: product(x, matrix, bias, "none", [], "")


def rms_norm(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], None, eps) * weight


def rotate(x, cos, sin):
    """RoPE: gira cada pareja (i, i + d/2) un ángulo que depende del lugar."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def angles(turns, start, end):
    """Coseno y seno (con su signo) de cada lugar: dos tensores `[m, d]`."""
    places = torch.arange(start, end, device=turns.device)
    angle = torch.outer(places, turns)  # [m, d/2]
    sin = torch.cat([-angle.sin(), angle.sin()], -1)
    return angle.cos().repeat(1, 2), sin


def attention(layer, index, x, turn, cache):
    b, m, _ = x.shape
    h, g = layer.heads  # de query y de key-value
    qkv = layer.qkv(x).view(b, m, h + 2 * g, -1).transpose(1, 2)
    qk, v = qkv.split([h + g, g], 1)
    if layer.norm_qk is not None:  # Qwen3
        qk = rms_norm(qk, layer.norm_qk, layer.eps)
    q, k = rotate(qk, *turn).split([h, g], 1)
    if cache is not None:
        k, v = cache.update(k, v, index)  # [B, G, n, d]
    q = q.reshape(b, g, h // g * m, -1)  # cada grupo, con su K
    seen, n = None, k.shape[2]
    if m > 1:
        whole = torch.ones(m, n, dtype=torch.bool, device=x.device)
        seen = whole.tril(n - m).repeat(h // g, 1)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return layer.out(mixed.reshape(b, h, m, -1).transpose(1, 2).flatten(2))


def feed_forward(layer, x):
    gate, up = layer.gate_up(x).chunk(2, -1)
    return layer.down(F.silu(gate) * up)


@torch.inference_mode(False)  # que sean pesos como los demás
def joined(*modules):
    """Las matrices que leen lo mismo, en una. Los módulos se quedan con vistas
    de ella, así que no ocupa más."""
    weight = torch.cat([m.weight.data for m in modules])
    parts = weight.split([m.out_features for m in modules])
    for module, part in zip(modules, parts):
        module.weight.data = part
    if modules[0].bias is None:
        return weight, None
    return weight, torch.cat([m.bias.data for m in modules])


def open_layer(layer, product):
    """Lo que hace falta de una capa de transformers."""
    own, mlp = layer.self_attn, layer.mlp
    h, g = (p.out_features // own.head_dim for p in (own.q_proj, own.k_proj))
    norm_qk = None
    if hasattr(own, "q_norm"):
        weights = [own.q_norm.weight] * h + [own.k_norm.weight] * g
        norm_qk = torch.stack(weights)[:, None].detach()  # [H + G, 1, d]
    return SimpleNamespace(
        heads=(h, g),
        norm_qk=norm_qk,
        eps=own.config.rms_norm_eps,
        before=layer.input_layernorm.weight.detach(),
        between=layer.post_attention_layernorm.weight.detach(),
        qkv=product(*joined(own.q_proj, own.k_proj, own.v_proj)),
        out=product(*joined(own.o_proj)),
        gate_up=product(*joined(mlp.gate_proj, mlp.up_proj)),
        down=product(*joined(mlp.down_proj)),
    )


class FastModel:
    """`FastModel(model, product)`: el mismo modelo, con esos productos.

    Se llama como a él, `(ids [B, m], past_key_values=caché)`, y da `.logits`
    `[B, m, V]`, o las últimas `logits_to_keep`. Sin relleno. Lanza `ValueError`
    si la arquitectura es otra.
    """

    def __init__(self, model, product=plain):
        check_model(model)
        self.config, self.device = model.config, model.device
        self.generation_config = model.generation_config
        self.dtype = model.dtype
        core = model.model
        self.table = core.embed_tokens.weight.detach()  # [V, D]
        self.turns = core.rotary_emb.inv_freq  # [d/2]
        self.layers = [open_layer(layer, product) for layer in core.layers]
        self.last = core.norm.weight.detach()
        self.head = product(model.lm_head.weight.detach())

    def __call__(self, ids, past_key_values=None, logits_to_keep=0, **others):
        if others.get("attention_mask") is not None:
            raise CourseError(
                "FastModel no admite relleno: un texto por lote."
            )
        cache, eps = past_key_values, self.config.rms_norm_eps
        start = 0 if cache is None else int(cache.get_seq_length())
        x = self.table[ids]  # [B, m, D]
        turn = angles(self.turns, start, start + ids.shape[1])
        turn = [part.to(x.dtype) for part in turn]
        for i, layer in enumerate(self.layers):
            y = rms_norm(x, layer.before, eps)
            x = x + attention(layer, i, y, turn, cache)
            x = x + feed_forward(layer, rms_norm(x, layer.between, eps))
        x = rms_norm(x[:, -logits_to_keep:], self.last, eps)
        return CausalLMOutputWithPast(logits=self.head(x))


def check_model(model) -> None:
    """Lanza `ValueError` si `FastModel` no sabe hacer lo que hace el modelo."""
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if kind not in KNOWN:
        raise CourseError(
            f"FastModel sabe hacer {', '.join(KNOWN)}, y esto es «{kind}»: sus "
            "capas son otras. Usa el modelo del curso, load_model()."
        )
    rope = getattr(model.model.rotary_emb, "rope_type", "default")
    windows = "sliding_attention" in (getattr(config, "layer_types", 0) or ())
    if config.hidden_act != "silu" or rope != "default" or windows:
        raise CourseError(
            f"Este «{kind}» usa activación {config.hidden_act}, RoPE {rope} o "
            "ventana deslizante: FastModel solo sabe silu, RoPE corriente y "
            "atención completa."
        )
