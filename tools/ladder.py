"""La escalera de la unidad 11: qué gana cada peldaño, y qué le hace al texto.

    python -m tools.ladder --machine "2 núcleos x86-64, sin GPU" [--only time]

Rehace tokenatoken/data/escalera.json: la calidad de cada forma de cuantizar
(tres textos en español), los tiempos (intercalados, cinco vueltas) y la
especulación (veinte peticiones). Con llama-cpp-python instalado (make
bench-llama), también llama.cpp con el mismo archivo. Un cuarto de hora en dos
núcleos.
"""

import json
import math
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F
from torch._inductor import config as inductor
from tqdm.auto import tqdm
from transformers import StaticCache

from tokenatoken.cache import make_cache
from tokenatoken.chat import chat_ids
from tokenatoken.fast import FastModel, packed, plain, transposed
from tokenatoken.forward import forward
from tokenatoken.generation import generate_steps
from tokenatoken.measure import bytes_per_token, read_bandwidth
from tokenatoken.measurements import conditions
from tokenatoken.model import load_model
from tokenatoken.model.gguf import read_gguf
from tokenatoken.quantize import (
    dequantize,
    fitted,
    int4,
    int8,
    quantize,
    sixteen,
)
from tokenatoken.speculative import DraftModel, lookup, speculate

from . import ROOT, parser, save_json
from .bench import course_gguf

DATA = ROOT / "tokenatoken" / "data"
PATH = DATA / "escalera.json"
CODE = """def media(lista):
    total = 0
    for numero in lista:
        total = total + numero
    return total / len(lista)
"""
LETTER = (
    "Querida Marta: el viernes llego a Sevilla en el tren de las nueve y "
    "media. No hace falta que vengas a la estación, cogeré un taxi. Dile a tu "
    "madre que llevo el libro que me prestó. Un abrazo, Julián."
)
LIST = (
    "- pan: 1,20 euros\n- leche: 0,95 euros\n- huevos: 2,10 euros\n"
    "- queso: 4,75 euros\n- aceite: 8,90 euros"
)
COPY = [
    f"Cambia el nombre de la función a promedio y no toques nada más:\n{CODE}",
    f"Añade un comentario al principio y copia el resto igual:\n{CODE}",
    f"Copia este código dos veces:\n{CODE}",
    f"Traduce los nombres de las variables al inglés:\n{CODE}",
    f"Repite esta carta cambiando viernes por lunes:\n{LETTER}",
    f"Corrige las faltas de esta carta y escríbela entera:\n{LETTER}",
    f"Copia esta carta palabra por palabra:\n{LETTER}",
    f"Copia esta lista y añade mantequilla al final:\n{LIST}",
    f"Escribe la misma lista sin la palabra euros:\n{LIST}",
    f"Pasa esta lista a una tabla de Markdown:\n{LIST}",
]
OPEN = """Háblame de Richard Feynman
Explica qué es un agujero negro
Cuéntame un cuento corto sobre un faro
¿Por qué el cielo es azul?
Resume la Revolución francesa
¿Cómo funciona una bicicleta?
Describe un mercado de pueblo
Escribe una carta a una amiga que se muda
Da tres consejos para dormir mejor
¿Qué diferencia hay entre un virus y una bacteria?""".splitlines()
LENGTH = 60  # tokens nuevos, siga o no
RUNGS = {
    "forward propio": plain,
    "por columnas": transposed,
    "oneDNN": packed,
    "16 bits": sixteen,
    "8 bits": int8,
    "4 bits": int4,
}
GOALS = {"oneDNN": "≥ 1.7 ×", "8 bits": "≥ 5 ×"}  # frente a generate
ROWS = 1, 2, 3, 4, 6, 8, 12, 16


def faked(weight, bias=None, *, rows=lambda w: w, entry=lambda x: x):
    """Un producto en fp32 con los pesos y la entrada ya redondeados."""
    near = rows(weight)
    return lambda x: F.linear(entry(x), near, bias)


def near(x, bits=8, group=None, symmetric=True):
    return dequantize(*quantize(x, bits, group, symmetric))


def whole(x, bits=8):  # una escala para todo
    return near(x.reshape(1, -1), bits).view_as(x)


def once(x):  # lo mismo, para la entrada: con cero, de 0 a 255
    return near(x.reshape(1, -1), 8, symmetric=False).view_as(x)


SCHEMES = {
    "8 bits por fila": dict(rows=near),
    "8 bits por fila · entrada por token": dict(rows=near, entry=near),
    "8 bits por fila · entrada, una escala": dict(rows=near, entry=once),
    "8 bits, una escala · entrada por token": dict(rows=whole, entry=near),
    "8 bits, una escala · entrada, una escala": dict(rows=whole, entry=once),
    "4 bits por fila": dict(rows=partial(near, bits=4)),
    "4 bits, grupos de 128": dict(rows=partial(near, bits=4, group=128)),
    "4 bits, grupos de 32": dict(rows=partial(near, bits=4, group=32)),
    "4 bits, grupos de 32, con cero": dict(
        rows=partial(near, bits=4, group=32, symmetric=False)
    ),
    "4 bits, grupos de 32, recorte": dict(
        rows=partial(fitted, bits=4, group=32)
    ),
}


def texts(tokenizer) -> dict:
    return {
        path.stem: torch.tensor([tokenizer.encode(path.read_text("utf-8"))])
        for path in sorted((DATA / "textos").glob("*.txt"))
    }


def reading(model, ids, by_token: bool = False):
    """Logits `[n, V]` de un texto, de una vez o token a token."""
    if not by_token:
        return model(ids).logits[0]
    cache = make_cache(model)
    return torch.cat([forward(model, t, cache) for t in ids.split(1, 1)])


def quality(model, tokenizer, truth: dict, by_token: bool = False) -> dict:
    """Perplejidad, KL frente a `truth` y cuántas veces gana el mismo."""
    losses, gaps, same = [], [], []
    for name, ids in texts(tokenizer).items():
        q = reading(model, ids, by_token)[:-1].log_softmax(-1)
        p = truth.setdefault(name, q)
        losses.append(-q.gather(1, ids[0, 1:, None])[:, 0])
        gaps.append((p.exp() * (p - q)).sum(-1))
        same.append(p.argmax(-1) == q.argmax(-1))
    mean = torch.cat(losses).mean()
    return {
        "perplexity": mean.exp().item(),
        "kl": torch.cat(gaps).mean().item(),
        "agree": torch.cat(same).float().mean().item(),
    }


def worst_layers(model, tokenizer, truth: dict) -> list[int]:
    """Las capas, de más a menos daño cuando solo ella va en 4 bits; medido en
    las peticiones, no en los textos."""
    prompt = torch.tensor([tokenizer.encode("\n".join(COPY[::3] + OPEN[::2]))])
    exact, damage = FastModel(model), []
    p = exact(prompt).logits[0].log_softmax(-1)
    product = partial(faked, rows=partial(near, bits=4, group=32))
    small = FastModel(model, product)
    for i in tqdm(range(len(exact.layers)), desc="capas"):
        kept, exact.layers[i] = exact.layers[i], small.layers[i]
        q = exact(prompt).logits[0].log_softmax(-1)
        exact.layers[i] = kept
        damage.append((p.exp() * (p - q)).sum(-1).mean().item())
    order = sorted(range(len(damage)), key=lambda i: -damage[i])
    return order, damage


def all_quality(model, tokenizer) -> dict:
    truth, found = {}, {"fp32": None}
    found["fp32"] = quality(FastModel(model), tokenizer, truth)
    for name, scheme in tqdm(SCHEMES.items(), desc="cuantizar"):
        fast = FastModel(model, partial(faked, **scheme))
        found[name] = quality(fast, tokenizer, truth)
        if name == "4 bits, grupos de 32, recorte":
            order, damage = worst_layers(model, tokenizer, truth)
            eight = FastModel(model, partial(faked, rows=near))
            fast.head = eight.head
            found["  y la salida en 8 bits"] = quality(fast, tokenizer, truth)
            for i in order[:6]:
                fast.layers[i] = eight.layers[i]
            name = "  y las 6 peores capas en 8"
            found[name] = quality(fast, tokenizer, truth)
        del fast
    for name in ("oneDNN", "16 bits", "8 bits", "4 bits"):
        fast = FastModel(model, RUNGS[name])
        found[f"de verdad: {name}"] = quality(fast, tokenizer, truth, True)
    fast = FastModel(model, int8)
    found["de verdad: 8 bits, de una vez"] = quality(fast, tokenizer, truth)
    if llama := Llama.find():
        found["llama.cpp"] = quality(llama, tokenizer, truth)
    return {"quality": found, "damage": damage}


class Llama:
    """llama.cpp con el mismo archivo, como modelo de un solo texto."""

    def __init__(self, library):
        options = dict(n_ctx=1024, n_threads=2, n_threads_batch=2)
        self.make = partial(
            library.Llama, str(course_gguf()), verbose=False, **options
        )
        self.quick, self.whole = self.make(), self.make(logits_all=True)

    @classmethod
    def find(cls):
        try:
            import llama_cpp
        except ImportError:
            print("Sin llama-cpp-python: su fila se queda sin medir.")
            return None
        return cls(llama_cpp)

    def __call__(self, ids, **others):
        self.whole.reset()
        self.whole.eval(ids[0].tolist())
        rows = self.whole.scores[: ids.shape[1]]
        return type("Output", (), {"logits": torch.tensor(rows)[None]})

    def write(self, ids, n: int) -> list[int]:
        self.quick.reset()
        steps = self.quick.generate(ids[0].tolist(), temp=0.0)
        return [token for token, _ in zip(steps, range(n))]


def asked(tokenizer, prompt: str):
    turn = [{"role": "user", "content": prompt}]
    return torch.tensor([chat_ids(tokenizer, turn)])


def by_generate(model, ids, n: int) -> list[int]:
    ends = dict(eos_token_id=-1, pad_token_id=0)
    mask = torch.ones_like(ids)
    options = dict(do_sample=False, max_new_tokens=n, attention_mask=mask)
    return model.generate(ids, **options, **ends)[0, ids.shape[1] :].tolist()


def by_steps(model, ids, n: int) -> list[int]:
    given = dict(max_new_tokens=n, stop_ids=(), cache=make_cache(model))
    return [step.token_id for step in generate_steps(model, ids, **given)]


def by_draft(model, draft, k: int, ids, n: int) -> list[int]:
    given = dict(max_new_tokens=n, stop_ids=(), k=k)
    rounds = speculate(model, ids, draft=draft(), **given)
    return [token for round in rounds for token in round.tokens]


def all_times(model, tokenizer, repeats: int = 5) -> dict:
    """Segundos de 1 y de 1 + LENGTH tokens tras una petición, por peldaño."""
    ways = {"generate": partial(by_generate, model)}
    fast = {name: FastModel(model, p) for name, p in RUNGS.items()}
    ways |= {name: partial(by_steps, f) for name, f in fast.items()}
    draft = partial(DraftModel, fast["8 bits"])
    ways["oneDNN + borrador de 8 bits"] = partial(
        by_draft, fast["oneDNN"], draft, 6
    )
    if llama := Llama.find():
        ways["llama.cpp"] = llama.write
    ids = asked(tokenizer, "¿Cómo funciona una bicicleta? " * 5)[:, -55:]
    times = {name: [] for name in ways}
    for turn in tqdm(range(repeats + 1), desc="tiempos"):
        for name, way in ways.items():
            spent = []
            for n in (1, 1 + LENGTH):
                start = time.perf_counter()
                way(ids, n)
                spent.append(time.perf_counter() - start)
            if turn:  # la primera vuelta calienta
                times[name].append(spent)
    return {
        "times": times,
        "bytes": {n: needed(n, model) for n in ways},
        "bandwidth": read_bandwidth(model.device),
        "rows": row_costs({n: fast[n] for n in ("forward propio", "oneDNN")}),
    }


def needed(name: str, model) -> int | None:
    """Bytes de pesos que se leen por token."""
    weights = bytes_per_token(model) // 4
    if name == "llama.cpp":
        tensors = read_gguf(course_gguf())[1]
        names = set(tensors) - {"token_embd.weight"}
        return sum(tensors[n][2].nbytes for n in names)
    if "+" in name:
        return None
    bits = {"16 bits": 16, "8 bits": 8, "4 bits": 5}  # 4 y 1 de escalas
    return weights * bits.get(name, 32) // 8


def row_costs(models: dict, repeats: int = 7) -> dict:
    """Segundos de un paso con 1, 2… tokens de una vez."""
    found = {name: {str(m): [] for m in ROWS} for name in models}
    for _ in range(repeats):
        for name, fast in models.items():
            cache = make_cache(fast)
            forward(fast, torch.arange(55)[None], cache)
            for m in ROWS:
                block = torch.arange(m)[None]
                start = time.perf_counter()
                fast(block, cache).logits[0, 0, 0].item()
                found[name][str(m)].append(time.perf_counter() - start)
                cache.crop(-m)
    return found


def all_speculation(model, tokenizer) -> dict:
    """Veinte peticiones: con greedy y con cada borrador, sobre transformers y
    sobre el forward propio; segundos, vueltas y lo aceptado."""
    own, small = FastModel(model, packed), FastModel(model, int8)
    rows = []
    for prompt in tqdm(COPY + OPEN, desc="especular"):
        ids = asked(tokenizer, prompt)
        row = {"prompt": prompt, "kind": "copy" if prompt in COPY else "open"}
        for name, target in {"transformers": model, "oneDNN": own}.items():
            start = time.perf_counter()
            truth = by_steps(target, ids, LENGTH)
            row[name] = {"seconds": time.perf_counter() - start}
            row.setdefault("ids", truth)
            row[name]["same"] = truth == row["ids"]
        tries = [("transformers", model, "copiar", 10, lambda: lookup)]
        tries += [("oneDNN", own, "copiar", 10, lambda: lookup)]
        draft = partial(DraftModel, small)
        tries += [("oneDNN", own, "8 bits", k, draft) for k in (2, 4, 6, 8)]
        for name, target, kind, k, make in tries:
            given = dict(max_new_tokens=LENGTH, stop_ids=(), k=k, draft=make())
            start = time.perf_counter()
            rounds = list(speculate(target, ids, **given))
            seconds = time.perf_counter() - start
            written = [t for r in rounds for t in r.tokens]
            row[f"{name}, {kind}, {k}"] = {
                "seconds": seconds,
                "same": written == row["ids"],
                "rounds": len(rounds),
                "proposed": sum(r.proposed for r in rounds),
                "accepted": sum(r.accepted for r in rounds),
            }
        row["eight"] = by_steps(small, ids, LENGTH)
        rows.append(row)
    half = FastModel(model, sixteen)
    for row in rows:
        row["sixteen"] = by_steps(
            half, asked(tokenizer, row["prompt"]), LENGTH
        )
    return {
        "speculation": rows,
        "rounds": some_rounds(own, small, tokenizer),
        "gguf": blocks(),
    }


def some_rounds(own, small, tokenizer) -> list[dict]:
    """Vuelta a vuelta, lo que se propone y lo que se acepta, para verlo."""
    found = []
    for prompt in (COPY[4], OPEN[0], COPY[0]):
        ids = asked(tokenizer, prompt)
        for kind, make in {
            "copiar del texto": lambda: lookup,
            "el modelo en 8 bits": lambda: DraftModel(small),
        }.items():
            for k in (2, 4, 8):
                rounds = noted_rounds(own, ids, make(), k)
                name = dict(prompt=prompt, draft=kind, k=k)
                found.append(name | {"rounds": rounds})
    return found


def noted_rounds(model, ids, draft, k: int, n: int = 40) -> list:
    """De cada vuelta: lo propuesto, cuántos se aceptan y lo escrito."""
    proposals = []

    def noted(ids, k):
        proposals.append(draft(ids, k))
        return proposals[-1]

    given = dict(max_new_tokens=n, stop_ids=(), k=k, draft=noted)
    rounds = [(r.accepted, r.tokens) for r in speculate(model, ids, **given)]
    proposals += [[]] * (len(rounds) - len(proposals))
    return [[p, *r] for p, r in zip(proposals, rounds)]


def blocks() -> dict:
    """De qué tipos son los pesos del archivo del curso (`[pesos, bytes]`), y
    un bloque de Q4_K, en hexadecimal."""
    tensors, kinds = read_gguf(course_gguf())[1], {}
    for kind, shape, raw in tensors.values():
        numbers, size = kinds.get(kind.name, (0, 0))
        kinds[kind.name] = numbers + math.prod(shape), size + raw.nbytes
    name = next(n for n, t in tensors.items() if t[0].name == "Q4_K")
    block = tensors[name][2][0, :144].tobytes().hex()
    return {"kinds": kinds, "block": {"name": name, "hex": block}}


def all_static(model, tokenizer, repeats: int = 5) -> dict:
    """Un paso con caché dinámica, con StaticCache y con StaticCache y el
    modelo compilado, intercalados; y lo que tarda en compilarse."""
    ids = asked(tokenizer, "¿Cómo funciona una bicicleta?")
    token, size = ids[:, -1:], ids.shape[1] + 64
    inductor.force_disable_caches = True  # como la primera vez
    step = torch.compile(model.forward)
    caches = {
        "dinámica": make_cache(model),
        "estática": StaticCache(config=model.config, max_cache_len=size),
        "estática y compilado": StaticCache(
            config=model.config, max_cache_len=size
        ),
    }
    for cache in caches.values():
        model(ids, past_key_values=cache, logits_to_keep=1)
    start = time.perf_counter()
    step(token, past_key_values=caches["estática y compilado"])
    found = {"compile": time.perf_counter() - start}
    found |= {name: [] for name in caches}
    for _ in range(repeats + 1):
        for name, cache in caches.items():
            run = step if "compilado" in name else model
            start = time.perf_counter()
            for _ in range(4):
                run(token, past_key_values=cache).logits[0, 0, 0].item()
            found[name].append((time.perf_counter() - start) / 4)
    return {
        "static": {k: v[1:] if k != "compile" else v for k, v in found.items()}
    }


PARTS = {
    "quality": all_quality,
    "time": all_times,
    "speculation": all_speculation,
    "static": all_static,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--machine", required=True, help="dónde se mide")
    options.add_argument("--only", choices=PARTS, help="una de las partes")
    chosen = options.parse_args()
    model, tokenizer = load_model(dtype=torch.float32, device="cpu")
    content = json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}
    for name in [chosen.only] if chosen.only else PARTS:
        content |= PARTS[name](model, tokenizer)
        here = conditions(model) | {"machine": chosen.machine}
        content |= {"conditions": here}
        save_json(PATH, content, indent=None)
    report(content)


def report(content: dict) -> None:
    for name, row in content.get("quality", {}).items():
        print(f"{name:45}", *(f"{v:.4f}" for v in row.values()))
    times = content.get("times", {})
    for name, runs in times.items():
        pairs = zip(times["generate"], runs)
        ratio = statistics.median(a[1] / b[1] for a, b in pairs)
        step = statistics.median((b - a) / LENGTH for a, b in runs)
        first = statistics.median(a for a, _ in runs)
        print(f"{name:30} {ratio:.2f} × {1e3 * step:.1f} {1e3 * first:.0f}")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
