"""Modelos diminutos de pesos al azar, de seis arquitecturas reales."""

import copy
from functools import cache

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    FalconConfig,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
)

from tokenatoken.checks.bench import random_model
from tokenatoken.model import load_tokenizer

VOCABULARY = 96
WINDOW = 8  # ventana deslizante de Mistral y Gemma 3: menor que los prompts
CONFIGS = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "phi3": Phi3Config,
    "mistral": MistralConfig,
    "gemma3": Gemma3TextConfig,
}
# Distintas, y valen: una sola cabeza K/V, V de otro tamaño que K, capas que
# usan K y V de otra.
UNUSUAL = {
    "falcon": FalconConfig,
    "deepseek3": DeepseekV3Config,
    "gemma3n": Gemma3nTextConfig,
}
# Con estado recurrente: sin caché, o nada.
RECURRENT = {
    "qwen3-next": Qwen3NextConfig,
    "recurrent-gemma": RecurrentGemmaConfig,
}
EXTRA = {
    "falcon": dict(multi_query=True, alibi=False),
    "deepseek3": dict(
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=16,
        q_lora_rank=16,
        kv_lora_rank=12,
        qk_rope_head_dim=4,
        head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=6,
        num_key_value_heads=4,
    ),
    "gemma3n": dict(
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=WINDOW,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=8,
        laurel_rank=4,
        activation_sparsity_pattern=[0.0] * 4,
        altup_num_inputs=2,
        pad_token_id=0,
    ),
    "qwen3-next": dict(
        layer_types=["linear_attention", "full_attention"] * 2,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
    "recurrent-gemma": dict(lru_width=32, attention_window_size=WINDOW),
    "mistral": dict(sliding_window=WINDOW),
    "gemma3": dict(
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "phi3": dict(pad_token_id=0),
}


@cache
def tiny_model(name: str):
    """El modelo de esa arquitectura: 4 capas, 4 cabezas de query y 2 de
    key-value, 96 tokens, contexto de 128 y sin token de fin."""
    shape = dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
    )
    kinds = CONFIGS | UNUSUAL | RECURRENT
    if name == "falcon":
        del shape["head_dim"]  # lo calcula ella
    config = kinds[name](**shape | EXTRA.get(name, {}))
    model = random_model(config, spread=0.4)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def random_ids(n: int, seed: int = 0, rows: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (rows, n), generator=generator)


@cache
def wide_model(vocabulary: int):
    """Un Qwen2 diminuto con un vocabulario de verdad."""
    shape = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2)
    config = Qwen2Config(vocab_size=vocabulary, **shape, **heads)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        model.lm_head.weight.data *= 60  # que unos tokens destaquen
    return model


@cache
def ended_tokenizer():
    """SmolLM2 con token de fin, que el que trae el curso no dice cuál es."""
    tokenizer = copy.deepcopy(load_tokenizer("smollm2"))
    tokenizer.eos_token = "<|im_end|>"
    return tokenizer
