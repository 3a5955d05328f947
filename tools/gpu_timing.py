"""El experimento central de la unidad 07 en una GPU, sin descargar pesos.

    python -m tools.gpu_timing [--model phi-3-mini] [--json salida.json]
    python -m tools.gpu_timing --rehearsal     # encogido, para probar en CPU

El tiempo no depende del valor de los pesos: se construye la arquitectura
exacta a partir de su configuración, con pesos al azar en fp16, y se generan
100 tokens tras prompts de 16, 55, 256 y 1024, sin caché, con DynamicCache,
con PreallocatedLayer, con el forward propio (unidad 11, si sabe hacerlo) y con
StaticCache compilada. Imprime una tabla y qué
parte del ancho de banda de la tarjeta se alcanza.
"""

import json
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

from tokenatoken import CourseError
from tokenatoken.cache import make_cache
from tokenatoken.fast import FastModel
from tokenatoken.measure import (
    bytes_per_token,
    measure_generation,
    read_bandwidth,
)
from tokenatoken.measurements import conditions
from tokenatoken.model import load_config

from . import parser

# Ancho de banda nominal, en GB/s, según las fichas de NVIDIA.
NOMINAL = {"T4": 320, "A100": 1555, "L4": 300, "H100": 3350, "H200": 4800}
HEAD = "prompt", "variante", "TTFT ms", "ms/token", "total s", "% banda"


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


def times(model, prompt: int, new: int, repeats: int) -> list[tuple]:
    """`(variante, ttft, segundos por token)` de cada variante que quepa."""
    variants = {
        "sin caché": lambda: None,
        "DynamicCache": lambda: DynamicCache(config=model.config),
        "PreallocatedLayer": lambda: make_cache(model),
    }
    ids = torch.arange(prompt, device=model.device)[None] % 500
    results = measure_generation(model, ids, new, variants, repeats)
    found = [
        (r.variant, statistics.median(r.ttft), r.tpot)
        for r in results
        if not r.error
    ]
    try:  # unidad 11: menos Python por paso
        own = FastModel(model)
        caches = {"forward propio": lambda: make_cache(own)}
        (result,) = measure_generation(own, ids, new, caches, repeats)
        pace = result.tpot
        found.append((result.variant, statistics.median(result.ttft), pace))
    except CourseError as error:
        print(f"{prompt:7} forward propio: {error}")
    try:
        pair = static_seconds(model, prompt, new, repeats)
        found.append(("StaticCache+compile", *pair))
    except Exception as error:  # sin compilador, por ejemplo
        reason = str(error).strip().splitlines()[:1] or [type(error)]
        print(f"{prompt:7} StaticCache+compile: {reason[0]}")
    return found


def table(model, lengths, new: int, repeats: int, read: float) -> list[dict]:
    """Mide cada longitud e imprime su fila; las devuelve todas."""
    rows = []
    print("{:>7} {:20}{:>9}{:>10}{:>9}{:>9}".format(*HEAD))
    for prompt in lengths:
        needed = bytes_per_token(model, prompt + new // 2)
        for variant, ttft, pace in times(model, prompt, new, repeats):
            used, total = needed / pace / 1e9 / read, ttft + pace * (new - 1)
            row = prompt, variant, ttft, pace, total, used
            rows.append(dict(zip(HEAD, row)))
            print(
                f"{prompt:7} {variant:20}{ttft * 1e3:9.1f}{pace * 1e3:10.2f}"
                f"{total:9.2f}{used:9.0%}"
            )
    return rows


def main() -> None:
    options = parser(__doc__)
    choices = ["phi-3-mini", "qwen3-4b"]
    options.add_argument("--model", choices=choices, default=choices[0])
    options.add_argument("--rehearsal", action="store_true")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--json", type=Path, help="guarda también los datos")
    chosen = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not chosen.rehearsal:
        options.error("no hay GPU: con --rehearsal se prueba en miniatura.")
    config, lengths, new = load_config(chosen.model), [16, 55, 256, 1024], 100
    if chosen.rehearsal:
        config, lengths, new = shrunk(config), [8, 16], 6
    model = build(config, device)
    facts, read = conditions(model), read_bandwidth(device)
    known = (v for k, v in NOMINAL.items() if k in facts["device"])
    print(f"{chosen.model}: {facts}")
    print(f"ancho de banda: {read:.0f} GB/s; nominal: {next(known, None)}")
    rows = table(model, lengths, new, chosen.repeats, read)
    if chosen.json:
        data = dict(model=chosen.model, conditions=facts, bandwidth=read)
        text = json.dumps(data | {"rows": rows}, ensure_ascii=False, indent=1)
        chosen.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
