"""Lo que cuesta atender a muchos a la vez (unidad 12).

    python -m tools.serving --machine "2 núcleos x86-64, sin GPU" [--only PARTE]
    python -m tools.serving --machine "…" --gpu salida.json

Rehace tokenatoken/data/servidor.json, o una de sus partes: `steps`, lo que dura
un forward según las peticiones y los tokens; `runs`, las 20 peticiones con tres
modos de llegar; `equal`, si cada una escribe lo que escribiría sola; `peers`,
frente a `generate` y `generate_batch`. En dos núcleos tarda un cuarto de hora.
Con `--gpu`, los pasos en fp16 con la forma de Qwen3-4B (pesos al azar), y si
cada una escribe lo que escribiría sola con el modelo del curso.
"""

import json
import logging
import random
import statistics
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig

from tokenatoken.batch_invariant import batch_invariant
from tokenatoken.cache import make_cache
from tokenatoken.chat import chat_ids
from tokenatoken.forward import forward
from tokenatoken.generation import generate_steps
from tokenatoken.measurements import conditions
from tokenatoken.model import load_config, load_model
from tokenatoken.pages import PagedLayer, aim, slots
from tokenatoken.scheduler import Request, in_turns, prefill_first
from tokenatoken.serving import Server

from . import ROOT, parser, save_json
from .company import PROMPTS
from .gpu_timing import build

PATH = ROOT / "tokenatoken" / "data" / "servidor.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROWS, PIECES = (1, 2, 3, 4, 6, 8, 12, 16), (8, 16, 32, 64, 128, 256, 512)
BEFORE, LAPS = 128, 7  # tokens ya guardados, vueltas
LIMITS = 60, 12, 24, 40, 16, 50, 32, 20, 8, 36  # tokens nuevos, por turnos
PER_SECOND = 2  # llegadas sueltas
NEW = {"float32": 32, "bfloat16": 64}  # tokens de cada rival


def tables(rows: int, tokens: int, size: int = 16) -> list[torch.Tensor]:
    """Huecos de `rows` peticiones de `tokens` tokens, salteados."""
    need = -(-tokens // size)
    return [
        slots([i + j * rows for j in range(need)], size, tokens)
        for i in range(rows)
    ]


@torch.inference_mode()
def step_seconds(model, rows=ROWS, pieces=PIECES) -> dict:
    """Un token de varias peticiones, y un trozo de un prompt: segundos."""
    ids = torch.arange(1024, device=model.device)[None] + 1000
    room = max(max(rows) * (BEFORE + 16), 1024)
    cache = make_cache(model, PagedLayer, room=room)
    found = {"decode": {}, "prefill": {}}
    cases = [("decode", b, b, 1) for b in rows]
    cases += [("prefill", m, 1, m) for m in pieces]
    for _ in tqdm(range(LAPS + 1), desc="pasos"):
        for kind, key, b, m in cases:
            fresh = ids[:, :m].expand(b, m)
            start = time.perf_counter()
            mask = aim(cache, tables(b, BEFORE + m), m, model.device)
            forward(model, fresh, cache, mask)[0, 0].item()  # hasta acabar
            spent = round(time.perf_counter() - start, 5)
            found[kind].setdefault(key, []).append(spent)
    return {
        kind: {key: times[1:] for key, times in part.items()}
        for kind, part in found.items()
    }


def asked(tokenizer, limit=None, arrivals=None) -> list[Request]:
    """Las 20 peticiones, con sus límites y sus llegadas."""
    return [
        Request(
            str(i),
            chat_ids(tokenizer, [{"role": "user", "content": prompt}]),
            limit or LIMITS[i % len(LIMITS)],
            arrivals[i] if arrivals else 0.0,
        )
        for i, prompt in enumerate(PROMPTS)
    ]


def arrivals() -> dict[str, list[float]]:
    """Cuándo llega cada una: todas a la vez, sueltas o en tandas."""
    dice, now, loose = random.Random(0), 0.0, []
    for _ in PROMPTS:
        now += dice.expovariate(PER_SECOND)
        loose.append(round(now, 3))
    bursts = [4.0 * (i // 7) for i in range(len(PROMPTS))]
    return {"a la vez": [0.0] * 20, "sueltas": loose, "en tandas": bursts}


def outcome(server, requests) -> dict:
    """Lo que se cuenta de una serie, por petición."""
    return {
        "seconds": round(server.clock(), 3),
        "new": [r.new for r in requests],
        "log": [
            [round(a, 3), round(b, 3), m, list(map(int, names))]
            for a, b, m, names in server.log
        ],
    }


WAYS = {
    "una a una": dict(most=1),
    "8, prompt primero": dict(most=8, policy=prefill_first, chunk=512),
    "8, por turnos": dict(most=8, policy=in_turns, chunk=32),
}


def series(model, tokenizer) -> dict:
    """Cada modo de llegar con cada modo de atender."""
    found = {}
    for pattern, when in arrivals().items():
        for way, options in WAYS.items():
            print(f"  {pattern}, {way}")
            server = Server(model, pages=160, **options)
            requests = asked(tokenizer, arrivals=when)
            server.run(requests)
            found[f"{pattern} · {way}"] = outcome(server, requests)
    return found


def alone(model, request) -> list[int]:
    """Lo que escribe esa petición sin compañía."""
    steps = generate_steps(
        model,
        torch.tensor([request.ids[: request.prompt]], device=model.device),
        max_new_tokens=request.limit,
        cache=make_cache(model),
    )
    return [step.token_id for step in steps]


def changes(model, requests, solo, **options) -> list[int | None]:
    """Con esa compañía, el primer token de cada una distinto del que escribe
    sola (`solo`), o None."""
    Server(model, **dict(pages=160) | options).run(requests)
    return [
        next((i for i, (x, y) in enumerate(zip(r.new, ids)) if x != y), None)
        for r, ids in zip(requests, solo)
    ]


def equality(model, tokenizer) -> dict:
    """Con y sin compañía: el primer token distinto de cada petición."""
    dtype = str(model.dtype).removeprefix("torch.")
    limit = {"float32": 40, "bfloat16": 60}[dtype]
    solo = [
        alone(model, request)
        for request in tqdm(asked(tokenizer, limit), desc=f"{dtype}, solas")
    ]
    dice = random.Random(1)
    when = [round(dice.uniform(0, 6), 2) for _ in solo]
    found = {"limit": limit}
    for name, options in {
        "pages": dict(chunk=32, most=8),
        "odd pages": dict(chunk=7, most=5, size=5, pages=300),
        "short of memory": dict(chunk=32, most=8, pages=16),
        "one at a time": dict(chunk=512, most=1),
    }.items():
        requests = asked(tokenizer, limit, when)
        found[name] = changes(model, requests, solo, **options)
    if dtype == "bfloat16":
        with batch_invariant(model):
            fixed = [
                alone(model, r)
                for r in tqdm(asked(tokenizer, limit), desc="fijas, solas")
            ]
            requests = asked(tokenizer, limit)
            found["batch_invariant"] = changes(model, requests, fixed)
    return found


def peers(model, tokenizer, laps: int = 5) -> dict:
    """8 peticiones de los mismos tokens: una a una, con `generate_batch`, y
    aquí; y un paso de las 8 con páginas y sin ellas. Segundos por vuelta."""
    new = NEW[str(model.dtype).removeprefix("torch.")]
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    asks = asked(tokenizer, new)[:8]
    prompts = [r.ids for r in asks]
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=0
    )

    def solo():
        return [
            model.generate(torch.tensor([ids]), generation_config=config)[
                0, len(ids) :
            ].tolist()
            for ids in prompts
        ]

    def theirs():
        found = model.generate_batch(inputs=prompts, generation_config=config)
        return [request.generated_tokens for request in found.values()]

    def ours():
        server, requests = Server(model), asked(tokenizer, new)[:8]
        server.ends = set()
        server.run(requests)
        return [request.new for request in requests]

    ways = {"una a una": solo, "generate_batch": theirs, "páginas": ours}
    found, texts = {name: [] for name in ways}, {}
    for _ in tqdm(range(laps), desc="rivales"):
        for name, way in ways.items():
            start = time.perf_counter()
            texts[name] = way()
            found[name].append(round(time.perf_counter() - start, 3))
    same = {
        name: sum(map(list.__eq__, texts[name], texts["una a una"]))
        for name in ways
    }
    return {"seconds": found, "same": same, "new": new} | overhead(model)


@torch.inference_mode()
def overhead(model, rows: int = 8) -> dict:
    """Un token de cada una con la caché seguida y con páginas: segundos."""
    found = {}
    for n in (64, 256, 512):
        ids = torch.arange(rows * n).view(rows, n) % 5000 + 100
        mask, whole = torch.ones_like(ids), make_cache(model)
        cache = make_cache(model, PagedLayer, room=rows * (n + 64))
        forward(model, ids, whole, mask)
        forward(model, ids, cache, aim(cache, tables(rows, n), n))
        pair = {"seguida": [], "páginas": []}
        for step in range(1, 12):
            mask = torch.cat([mask, mask[:, :1]], 1)
            start = time.perf_counter()
            forward(model, ids[:, :1], whole, mask)
            middle = time.perf_counter()
            places = tables(rows, n + step)
            forward(model, ids[:, :1], cache, aim(cache, places, 1))
            pair["seguida"].append(round(middle - start, 5))
            pair["páginas"].append(round(time.perf_counter() - middle, 5))
        found[n] = pair
    return {"overhead": found}


PARTS = dict(
    steps=lambda model, tokenizer: step_seconds(model),
    runs=series,
    equal=equality,
    peers=peers,
)


def on_gpu(path: Path, machine: str) -> None:
    model = build(load_config("qwen3-4b"), torch.device("cuda"))
    steps = step_seconds(model, (*ROWS, 32, 64, 128), (*PIECES, 1024))
    content = conditions(model) | {"machine": machine, "steps": steps}
    content["equal"] = {}
    for kind in torch.float32, torch.float16, torch.bfloat16:
        model, tokenizer = load_model(dtype=kind)
        solo = [alone(model, request) for request in asked(tokenizer, 40)]
        found = changes(model, asked(tokenizer, 40), solo, most=20)
        content["equal"][str(kind).removeprefix("torch.")] = found
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--machine", required=True, help="en una línea")
    options.add_argument("--only", choices=PARTS, help="solo esa parte")
    options.add_argument("--gpu", type=Path, help="dónde guardar los pasos")
    chosen = options.parse_args()
    if chosen.gpu:
        return on_gpu(chosen.gpu, chosen.machine)
    content = json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}
    model, tokenizer = load_model()
    where = conditions(model) | {"machine": chosen.machine}
    content |= {"conditions": where, "prompts": PROMPTS}
    content |= {"arrivals": arrivals(), "limits": LIMITS}
    for dtype, kind in DTYPES.items():
        model = model.to(kind)
        for name in [chosen.only] if chosen.only else PARTS:
            if (name, dtype) == ("runs", "float32"):
                continue  # en 16 bits es lo mismo en la tercera parte
            print(dtype, name)
            part = PARTS[name](model, tokenizer)
            content.setdefault(name, {})[dtype] = part
            save_json(PATH, content, indent=None)
    for dtype, found in content.get("peers", {}).items():
        seconds = {
            name: statistics.median(times)
            for name, times in found["seconds"].items()
        }
        print(dtype, seconds, found["same"])


if __name__ == "__main__":
    main()
