#!/usr/bin/env python3
"""El experimento central de la unidad 07 en una GPU, sin descargar pesos.

    python tools/gpu_timing.py [--modelo phi-3-mini] [--json salida.json]
    python tools/gpu_timing.py --ensayo        # encogido, para probar en CPU

El tiempo no depende del valor de los pesos: se construye la arquitectura
exacta a partir de su configuración, con pesos al azar en fp16, y se generan
100 tokens tras prompts de 16, 55, 256 y 1024, sin caché, con DynamicCache,
con PreallocatedLayer y con StaticCache compilada. Imprime una tabla y qué
parte del ancho de banda de la tarjeta se alcanza.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tokenatoken.cache import make_cache  # noqa: E402
from tokenatoken.measure import (  # noqa: E402
    bytes_per_token,
    conditions,
    measure_generation,
    read_bandwidth,
)
from tokenatoken.model import load_config  # noqa: E402

# Ancho de banda nominal, en GB/s, según las fichas de NVIDIA.
NOMINAL = {"T4": 320, "A100": 1555, "L4": 300, "H100": 3350, "H200": 4800}


def build(config, device: torch.device):
    """La arquitectura, con pesos al azar, en fp16 (fp32 en CPU)."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


def shrunk(config):
    """La misma arquitectura en miniatura, para ensayar el guion."""
    values = config.to_dict() | dict(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    values.pop("layer_types", None)
    if "head_dim" in values:
        values["head_dim"] = 16
    return type(config)(**values)


@torch.inference_mode()
def static_seconds(model, prompt: int, new: int, repeats: int) -> tuple:
    """Con StaticCache y el modelo compilado: `(ttft, segundos por token)`."""
    cache = StaticCache(config=model.config, max_cache_len=prompt + new)
    step = torch.compile(model.forward, mode="reduce-overhead")
    ids = torch.arange(prompt, device=model.device)[None] % 500
    times = []
    for run in range(repeats + 1):  # la primera compila
        cache.reset()
        begin = time.perf_counter()
        out = model(ids, past_key_values=cache, logits_to_keep=1)
        token = out.logits[:, -1:].argmax(-1)
        token.sum().item()
        start = time.perf_counter()
        for _ in range(new - 1):
            out = step(token, past_key_values=cache)
            token = out.logits[:, -1:].argmax(-1).clone()
        token.sum().item()
        if run:
            pace = (time.perf_counter() - start) / max(1, new - 1)
            times.append((start - begin, pace))
    return tuple(statistics.median(column) for column in zip(*times))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = ["phi-3-mini", "qwen3-4b"]
    parser.add_argument("--modelo", choices=choices, default=choices[0])
    parser.add_argument("--ensayo", action="store_true")
    parser.add_argument("--repeticiones", type=int, default=5)
    parser.add_argument("--json", type=Path, help="guarda también los datos")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.ensayo:
        parser.error("no hay GPU: con --ensayo se prueba en miniatura.")
    config = load_config(options.modelo)
    lengths, new = (
        ([8, 16], 6) if options.ensayo else ([16, 55, 256, 1024], 100)
    )
    model = build(shrunk(config) if options.ensayo else config, device)
    facts = conditions(model)
    read = read_bandwidth(device)
    nominal = next(
        (v for k, v in NOMINAL.items() if k in facts["device"]), None
    )
    print(f"{options.modelo}: {facts}")
    print(f"ancho de banda medido: {read:.0f} GB/s; nominal: {nominal}")
    variants = {
        "sin caché": lambda: None,
        "DynamicCache": lambda: DynamicCache(config=model.config),
        "PreallocatedLayer": lambda: make_cache(model),
    }
    rows = []
    head = "prompt", "variante", "TTFT ms", "ms/token", "total s", "% banda"
    print("{:>7} {:20}{:>9}{:>10}{:>9}{:>9}".format(*head))
    for prompt in lengths:
        ids = torch.arange(prompt, device=device)[None] % 500
        results = measure_generation(
            model, ids, new, variants, options.repeticiones
        )
        found = [
            (r.variant, statistics.median(r.ttft), r.tpot)
            for r in results
            if not r.error
        ]
        try:
            pair = static_seconds(model, prompt, new, options.repeticiones)
            found.append(("StaticCache+compile", *pair))
        except Exception as error:  # sin compilador, por ejemplo
            reason = str(error).strip().splitlines()[:1] or [type(error)]
            print(f"{prompt:7} StaticCache+compile: {reason[0]}")
        needed = bytes_per_token(model, prompt + new // 2)
        for variant, ttft, tpot in found:
            used = needed / tpot / 1e9 / read
            total = ttft + tpot * (new - 1)
            rows.append((prompt, variant, ttft, tpot, total, used))
            print(
                f"{prompt:7} {variant:20}{ttft * 1e3:9.1f}{tpot * 1e3:10.2f}"
                f"{total:9.2f}{used:9.0%}"
            )
    if options.json:
        data = dict(model=options.modelo, conditions=facts, bandwidth=read)
        data["rows"] = [dict(zip(head, row)) for row in rows]
        text = json.dumps(data, ensure_ascii=False, indent=1)
        options.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
