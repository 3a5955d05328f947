"""Modelos diminutos de pesos al azar, de seis arquitecturas reales."""

from functools import cache

import torch
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from tokenatoken.checks.bench import random_model

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
EXTRA = {
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
    config = CONFIGS[name](
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        **EXTRA.get(name, {}),
    )
    model = random_model(config, spread=0.4)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def random_ids(n: int, seed: int = 0, rows: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (rows, n), generator=generator)
