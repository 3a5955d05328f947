"""Mide lo que el curso promete sobre velocidad y memoria.

    make bench         (o python -m tools.bench [--only generation] [--json f])

Las comparaciones van intercaladas y se dan como razones dentro de la misma
ejecución, medianas de cinco vueltas; las cargas, cada una en un proceso nuevo
(tools/probes.py). Ninguna prueba depende de estas cifras: son de esta máquina
y de hoy. En dos núcleos, la parte de generación tarda casi media hora: genera
de verdad 100 tokens sin caché, diez veces.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from . import ROOT, notebooks, parser


def probe(*order: str) -> list[str]:
    """Una medida de tools/probes.py en un proceso nuevo: lo que imprime."""
    command = [sys.executable, "-m", "tools.probes", *order]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout.split()


def course_gguf() -> Path:
    from tokenatoken.model.convert import fetch_weights
    from tokenatoken.model.download import COURSE_WEIGHTS, cache_dir, find_gguf

    fetch_weights()
    local = os.environ.get("CURSO_LLM_MODELO")
    place = Path(local) if local else None
    return find_gguf(COURSE_WEIGHTS, cache_dir(), place)


def medians(a: list, b: list) -> float:
    """La mediana, vuelta a vuelta, de a / b."""
    return statistics.median(x / y for x, y in zip(a, b))


def loops(model, prompt, new: int) -> dict:
    """`generate` y el bucle a mano con cada capa: nombre → ids de n tokens."""
    import torch

    from tokenatoken.cache import ConcatLayer, PreallocatedLayer, make_cache
    from tokenatoken.generation import generate_steps

    mask = torch.ones_like(prompt)  # sin ella, generate la adivina
    ends = dict(eos_token_id=-1, pad_token_id=0, attention_mask=mask)

    def library(n=new):
        options = dict(do_sample=False, max_new_tokens=n, **ends)
        return model.generate(prompt, **options)[0, prompt.shape[1] :].tolist()

    def by_hand(layer):
        def run(n=new):
            options = dict(max_new_tokens=n, stop_ids=())
            cache = make_cache(model, layer)
            steps = generate_steps(model, prompt, cache=cache, **options)
            return [step.token_id for step in steps]

        return run

    layers = {c.__name__: by_hand(c) for c in (ConcatLayer, PreallocatedLayer)}
    return {"generate": library} | layers


def race(ways: dict, repeats: int) -> tuple[list, dict]:
    """Los tres bucles, intercalados, frente a `generate`."""
    times, texts = {name: [] for name in ways}, {}
    for way in ways.values():
        way(2)  # calentar
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            texts[name] = way()
            times[name].append(time.perf_counter() - start)
    rows = []
    for name in list(ways)[1:]:
        value = medians(times["generate"], times[name])
        rows.append((f"generate / bucle con {name}", f"{value:.2f}", "≥ 1.0"))
        equal = texts[name] == texts["generate"]
        rows.append(("  mismos ids", str(equal), "True"))
    return rows, times


def with_and_without(model, ids, goal: str, repeats: int, band: float):
    """100 tokens tras `ids` con caché y sin ella, y la banda que se alcanza."""
    from tokenatoken.measure import bytes_per_token, measure_generation

    length = ids.shape[1]
    cached, plain = measure_generation(model, ids, 100, repeats=repeats)
    value = medians(plain.totals, cached.totals)
    share = bytes_per_token(model, length + 50) / band / 1e9 / cached.tpot
    name = f"sin caché / con caché, {length} + 100"
    rows = [
        (name, f"{value:.2f} ×", goal),
        ("  parte de la banda, con caché", f"{share:.0%}", ""),
    ]
    return rows, {name: dict(con=cached.totals, sin=plain.totals)}


def generation(repeats: int) -> tuple[list, dict]:
    """El bucle a mano con cada capa frente a `generate` (60 tokens tras 55,
    en fp32 y sin fin), y con caché frente a sin ella."""
    import torch

    from tokenatoken.measure import read_bandwidth
    from tokenatoken.measurements import conditions
    from tokenatoken.model import load_model

    model, _ = load_model(dtype=torch.float32)
    ids = torch.arange(256, device=model.device)[None]  # [1, 256]
    rows, times = race(loops(model, ids[:, :55], 60), repeats)
    band = read_bandwidth(model.device)
    data = dict(conditions=conditions(model), loops=times, bandwidth=band)
    for length, goal in ((55, "≥ 3.5 ×"), (256, "")):
        case = model, ids[:, :length], goal, repeats, band
        more, found = with_and_without(*case)
        rows, data = rows + more, data | found
    rows.append(("ancho de banda de lectura", f"{band:.0f} GB/s", ""))
    return rows, data


def builds(tokenizer) -> tuple[float, float]:
    """Lo que tarda cada tabla de tokens: la nuestra y la de llguidance."""
    import llguidance.hf

    from tokenatoken.constrained import Vocabulary

    start = time.perf_counter()
    Vocabulary(tokenizer)
    middle = time.perf_counter()
    llguidance.hf.from_tokenizer(tokenizer)
    return middle - start, time.perf_counter() - middle


def masks(tokenizer, repeats: int) -> tuple[list, list]:
    """Segundos por paso de cada máscara, en los mismos paseos al azar por el
    objeto de tools.masks; van dentro los estados que se pisan por vez primera.
    """
    import random

    from tokenatoken.constrained import Automaton, vocabulary
    from tokenatoken.grammar import regex

    from .masks import PATTERNS, STEPS, LLGuidance

    words, theirs = vocabulary(tokenizer), LLGuidance(tokenizer)
    automaton = Automaton(regex(PATTERNS["objeto"]), words)
    times = [], []
    for seed in range(4 * repeats + 1):
        choice, state = random.Random(seed), automaton.start
        theirs.begin(PATTERNS["objeto"])
        for _ in range(STEPS):
            start = time.perf_counter()
            row = automaton.row(state)
            middle = time.perf_counter()
            theirs.fill()
            end = time.perf_counter()
            times[0].append(middle - start)
            times[1].append(end - middle)
            if not len(row.ids):
                break
            token = int(row.ids[choice.randrange(len(row.ids))])
            state = automaton.read(state, token)
            theirs.read(token)
    return times


def overhead(repeats: int) -> tuple[float, float]:
    """Mediana, en segundos, de un forward con caché y de elegir con máscara
    el mejor, todo incluido."""
    import torch

    from tokenatoken.cache import make_cache
    from tokenatoken.constrained import choose
    from tokenatoken.generation import generate_steps
    from tokenatoken.model import load_model

    from .masks import PATTERNS

    model, tokenizer = load_model(dtype=torch.float32)
    spent, whole = [], []
    for seed in range(repeats + 1):
        pick = choose(tokenizer, PATTERNS["objeto"], max_new_tokens=40)
        last = [time.perf_counter()]

        def timed(logits, ids, pick=pick, last=last):
            start = time.perf_counter()
            token = pick(logits, ids)
            end = time.perf_counter()
            spent.append(end - start)
            whole.append(start - last[0])
            last[0] = end
            return token

        ids = torch.arange(seed, 40 + seed, device=model.device)[None]
        given = dict(max_new_tokens=40, choose=timed, cache=make_cache(model))
        list(generate_steps(model, ids, **given))
    return statistics.median(whole), statistics.median(spent)


def coverage() -> list[tuple]:
    """Cuántos esquemas de la muestra de JSONSchemaBench acepta cada uno."""
    import llguidance
    import llguidance.hf

    from tokenatoken import CourseError
    from tokenatoken.model import load_tokenizer
    from tokenatoken.schema import json_schema

    path = ROOT.parent / "shared" / "data" / "jsonschemabench-sample.json"
    if not path.exists():
        return [("cobertura de JSONSchemaBench", "sin muestra", "")]
    content = json.loads(path.read_text(encoding="utf-8"))
    words = llguidance.hf.from_tokenizer(load_tokenizer())
    found = {}
    for row in content["rows"]:
        kind = "llamadas" if row["name"].startswith("Glaive") else "el resto"
        ours, theirs, total = found.get(kind, (0, 0, 0))
        grammar = llguidance.LLMatcher.grammar_from_json_schema(row["schema"])
        theirs += not llguidance.LLMatcher(words, grammar).get_error()
        try:
            json_schema(row["schema"])
            ours += 1
        except CourseError:
            pass
        found[kind] = ours, theirs, total + 1
    return [
        (
            f"esquemas, {kind}: nuestros y llguidance",
            f"{ours}, {theirs} / {total}",
            "≥ 95 %" if kind == "llamadas" else "",
        )
        for kind, (ours, theirs, total) in found.items()
    ]


def constrained(repeats: int) -> tuple[list, dict]:
    """La máscara frente a la de llguidance, y frente a un forward."""
    from tokenatoken.model import load_tokenizer

    tokenizer = load_tokenizer()
    tables = [builds(tokenizer) for _ in range(repeats)]
    table = medians(*zip(*tables))
    ours, theirs = masks(tokenizer, repeats)
    forward, chosen = overhead(repeats)
    mask = statistics.median(ours) / statistics.median(theirs)
    rows = [
        ("tabla de tokens / la de llguidance", f"{table:.2f} ×", "≤ 1 ×"),
        ("máscara por paso / llguidance", f"{mask:.2f} ×", "≤ 1 ×"),
        ("  en la media, con las primeras veces", _mean(ours, theirs), ""),
        ("elegir con máscara / forward", f"{chosen / forward:.1%}", "≤ 2 %"),
        *coverage(),
    ]
    data = dict(tables=tables, masks=(ours, theirs), step=(forward, chosen))
    return rows, data


def _mean(ours: list, theirs: list) -> str:
    return f"{statistics.mean(ours) / statistics.mean(theirs):.2f} ×"


def invariance(repeats: int) -> tuple[list, dict]:
    """Lo que cuesta que una fila dé los mismos bits sola y acompañada: un paso
    de decode (lotes de 1, 8 y 16) y un prefill de 128, frente a sin tocar."""
    from contextlib import nullcontext

    import torch

    from tokenatoken.batch_invariant import batch_invariant
    from tokenatoken.model import load_model

    model, _ = load_model(dtype=torch.float32)
    ids = torch.arange(128, device=model.device)[None]  # [1, 128]
    ways = {
        "sin tocar": nullcontext,
        "invariante": lambda: batch_invariant(model),
        "  con pesos reordenados": lambda: batch_invariant(model, packed=True),
    }
    times = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            with way():
                times[name].append(steps(model, ids))
    rows = []
    for name in list(ways)[1:]:
        for case in times[name][0]:
            pair = ([t[case] for t in times[n]] for n in (name, "sin tocar"))
            goal = "≤ 1.5 ×" if case == "decode, lote 1" else ""
            what = f"{name}: {case}"
            rows.append((what, f"{medians(*pair):.2f} ×", goal))
    return rows, times


def steps(model, ids) -> dict:
    """Segundos de un paso con cada lote y de un prefill, ya calientes."""
    from tokenatoken.cache import make_cache
    from tokenatoken.forward import next_logits

    found = {}
    for batch in (1, 8, 16):
        rows, cache = ids.repeat(batch, 1)[:, :33], make_cache(model)
        next_logits(model, rows[:, :-1], cache)
        for _ in range(3):  # cuenta el último
            start = time.perf_counter()
            next_logits(model, rows, cache)[0, 0].item()
            found[f"decode, lote {batch}"] = time.perf_counter() - start
            cache.crop(-1)
    for _ in range(2):
        start = time.perf_counter()
        next_logits(model, ids)[0, 0].item()
        found["prefill de 128"] = time.perf_counter() - start
    return found


def ladder(repeats: int) -> tuple[list, dict]:
    """La escalera de la unidad 11, y llama.cpp si está (make bench-llama)."""
    import torch

    from tokenatoken.model import load_model

    from .ladder import GOALS, LENGTH, all_times

    with torch.inference_mode():
        data = all_times(*load_model(dtype=torch.float32), repeats)
    rows = []
    for name, runs in data["times"].items():
        whole = [
            [run[1] for run in data["times"][n]] for n in ("generate", name)
        ]
        step = statistics.median((b - a) / LENGTH for a, b in runs)
        rows.append(
            (
                f"generate / {name}",
                f"{medians(*whole):.2f} ×",
                GOALS.get(name, ""),
            )
        )
        rows.append(("  un token", f"{1e3 * step:.1f} ms", ""))
    if "llama.cpp" in data["times"]:
        ours, theirs = data["times"]["8 bits"], data["times"]["llama.cpp"]
        for i, what in enumerate(("el primer token", "los 61")):
            pair = [[run[i] for run in runs] for runs in (theirs, ours)]
            rows.append(
                (
                    f"llama.cpp / 8 bits, {what}",
                    f"{medians(*pair):.2f} ×",
                    "≥ 1 ×",
                )
            )
    return rows, data


def serving(repeats: int) -> tuple[list, dict]:
    """8 peticiones a la vez (unidad 12): frente a una a una y a
    `generate_batch`, y lo que cuestan las páginas."""
    from tokenatoken.model import load_model

    from .serving import DTYPES, peers

    model, tokenizer = load_model()
    rows, data = [], {}
    for dtype, kind in DTYPES.items():
        found = data[dtype] = peers(model.to(kind), tokenizer, laps=repeats)
        ours, goal = found["seconds"]["páginas"], found["new"]
        goals = {"una a una": "≥ 3 ×" if dtype == "float32" else "≥ 5 ×"}
        goals["generate_batch"] = "≥ 2 ×"
        for name, wanted in goals.items():
            value = medians(found["seconds"][name], ours)
            what = f"{dtype}, 8 × {goal} tokens: {name} / páginas"
            rows.append((what, f"{value:.2f} ×", wanted))
        for n, pair in found["overhead"].items():
            value = statistics.median(pair["páginas"])
            value /= statistics.median(pair["seguida"])
            what = f"  páginas / caché seguida, {n} tokens"
            rows.append((what, f"{value:.3f} ×", "≤ 1.05 ×"))
    return rows, data


def project(repeats: int) -> tuple[list, dict]:
    """El proyecto final, el de la solución, frente a `model.generate`: 40
    tokens tras 55, en fp32, intercalados y con los mismos ids."""
    from tokenatoken.checks.project import load, speed

    piece = load(ROOT / "solutions" / "mi_generador.py")
    ratios = speed(piece, max(repeats, 3))
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    rows = [
        ("generate / mi_generador.py", f"{middle:.2f} ×", "≥ 0.97 ×"),
        ("  cuartiles", f"{low:.2f} y {high:.2f}", ""),
    ]
    return rows, dict(ratios=ratios)


def loading(where: list[str], gguf: Path, repeats: int) -> tuple:
    """Segundos de cada carga, sin importar nada y de principio a fin."""
    orders = {
        "load_model": ["warm"],
        "GGUF con transformers": ["stock", *where],
        "conversión": ["conversion", str(gguf)],
    }
    inside, whole = ({name: [] for name in orders} for _ in range(2))
    for _ in range(repeats):
        for name, order in orders.items():
            start = time.perf_counter()
            inside[name].append(float(probe(*order)[-1]))
            whole[name].append(time.perf_counter() - start)
    return inside, whole


def loads(repeats: int) -> tuple[list, dict]:
    """Cargas, conversión, memoria y exploradores."""
    gguf = course_gguf()
    where = [str(gguf.parent), gguf.name]
    inside, whole = loading(where, gguf, repeats)
    theirs = "GGUF con transformers"
    ratios = {
        k: f"{medians(inside[theirs], v):.1f} ×" for k, v in inside.items()
    }
    cold = medians(whole[theirs], whole["load_model"])
    seconds = {name: statistics.median(v) for name, v in inside.items()}
    against = "  frente al GGUF con transformers"
    rows = [
        ("load_model en caliente", f"{seconds['load_model']:.2f} s", ""),
        (against, ratios["load_model"], "≥ 15 ×"),
        ("  ídem, contando las importaciones", f"{cold:.1f} ×", ""),
        ("  pesos iguales bit a bit", probe("equal", *where)[-1], "True"),
        ("conversión inicial", f"{seconds['conversión']:.1f} s", ""),
        (against, ratios["conversión"], ""),
    ]
    return rows + peaks() + answers(), dict(times=inside, whole=whole)


def peaks() -> list[tuple]:
    """Pico de memoria al cargar el modelo."""
    rows = []
    for dtype, goal in (("float32", "≤ 1.3"), ("float16", "")):
        own, everything = map(float, probe("memory", dtype)[-2:])
        rows.append((f"pico al cargar / pesos ({dtype})", f"{own:.2f}", goal))
        rows.append(("  con las páginas del archivo", f"{everything:.2f}", ""))
    return rows


def answers() -> list[tuple]:
    """Lo que tardan los exploradores en responder: mediana de 60."""
    wanted = {
        "tecla en el explorador (500 car.)": "typing",
        "un paso del mando de temperatura": "slider",
    }
    return [
        (name, f"{1e3 * float(probe(order)[-1]):.1f} ms", "< 50 ms")
        for name, order in wanted.items()
    ]


def walls(repeats: int) -> tuple[list, dict]:
    """De kernel limpio a última celda, cada cuaderno una vez."""
    import nbformat

    from . import execute

    rows, data = [], {}
    for path in notebooks("notebooks"):
        start = time.perf_counter()
        execute.run(nbformat.read(path, as_version=4), path.parent)
        data[path.name] = seconds = time.perf_counter() - start
        goal = "≈ 120 s" if path.name[:2] == "07" else "≈ 60 s"
        rows.append((f"cuaderno {path.name}", f"{seconds:.0f} s", goal))
    return rows, data


def main() -> None:
    options = parser(__doc__)
    parts = dict(
        loads=loads,
        generation=generation,
        constrained=constrained,
        invariance=invariance,
        ladder=ladder,
        serving=serving,
        project=project,
        notebooks=walls,
    )
    options.add_argument("--only", choices=parts, help="una de las partes")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--json", type=Path, help="guarda también los datos")
    chosen = options.parse_args()
    if chosen.repeats < 1:
        options.error("--repeats tiene que ser 1 o más.")
    rows, data = [], {}
    for name in [chosen.only] if chosen.only else parts:
        print(f"Midiendo: {name}…", flush=True)
        more, data[name] = parts[name](chosen.repeats)
        rows += more
    print(f"\n{'qué':42}{'medido':>12}  objetivo")
    for what, value, goal in rows:
        print(f"{what:42}{value:>12}  {goal}")
    if chosen.json:
        chosen.json.write_text(json.dumps(data, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
