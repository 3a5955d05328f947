#!/usr/bin/env python3
"""Mide lo que el curso promete sobre velocidad y memoria.

    make bench          (o python tools/bench.py [--solo generacion] [--json f])

Las comparaciones van intercaladas y se dan como razones dentro de la misma
ejecución, medianas de cinco vueltas; las cargas, cada una en un proceso nuevo.
Ninguna prueba depende de estas cifras: son de esta máquina y de hoy. En dos
núcleos, la parte de generación tarda casi media hora: genera de verdad 100
tokens sin caché, diez veces.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WARM = """
import sys, time; sys.path.insert(0, {root!r})
import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer
from tokenatoken.model import load_model
start = time.perf_counter()
model, tokenizer = load_model(device="cpu")
print(time.perf_counter() - start)
"""
STOCK = """
import sys, time; sys.path.insert(0, {root!r})
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer
transformers.utils.logging.disable_progress_bar()
start = time.perf_counter()
AutoTokenizer.from_pretrained({folder!r}, gguf_file={name!r})
model = AutoModelForCausalLM.from_pretrained(
    {folder!r}, gguf_file={name!r}, dtype=torch.float32)
print(time.perf_counter() - start)
"""
EQUAL = (
    STOCK
    + """
from tokenatoken.model import load_model
theirs, ours = model.state_dict(), load_model(device="cpu")[0].state_dict()
same = theirs.keys() == ours.keys()
print(same and all(torch.equal(ours[k], theirs[k]) for k in ours))
"""
)
MEMORY = """
import re, sys, threading, time; sys.path.insert(0, {root!r})
import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer
from tokenatoken.model import load_model
def memory():  # propia y total (con las páginas del archivo), en bytes
    text = open("/proc/self/status").read()
    find = lambda key: 1024 * int(re.search(key + r":\\s+(\\d+)", text)[1])
    return find("RssAnon"), find("VmRSS")
start, peak, done = memory(), [0, 0], False
def watch():
    while not done:
        peak[:] = map(max, peak, memory())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
model, tokenizer = load_model(device="cpu", dtype=torch.{dtype})
total = sum(float(p.sum(dtype=torch.float32)) for p in model.parameters())
done = True
thread.join()
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print(*((p - s) / weights for p, s in zip(peak, start)))
"""
CONVERT = """
import sys, time; sys.path.insert(0, {root!r})
from pathlib import Path
import transformers, safetensors.numpy
from transformers import Qwen2Config, Qwen2Tokenizer
from tokenatoken.model.convert import convert
import tempfile
with tempfile.TemporaryDirectory(dir={cache!r}) as folder:
    start = time.perf_counter()
    convert(Path({gguf!r}), Path(folder))
    print(time.perf_counter() - start)
"""
EXPLORER = """
import sys, time, statistics; sys.path.insert(0, {root!r})
from tokenatoken import widgets
from tokenatoken.model import load_tokenizer
widgets.display = lambda *a, **k: None
names = ("qwen2.5-coder-0.5b", "smollm2", "minilm")
text = ("El pingüino pidió un café — ¡doble! 🤖 Y se fue. " * 20)[:499]
box = widgets.token_explorer({{n: load_tokenizer(n) for n in names}}, text)
area, times = box.children[0], []
for i in range(60):
    start = time.perf_counter()
    area.value = text + chr(97 + i % 26)
    times.append(time.perf_counter() - start)
print(statistics.median(times), max(times))
"""
SLIDER = """
import sys, time, statistics; sys.path.insert(0, {root!r})
import torch
from tokenatoken import widgets
from tokenatoken.model import load_tokenizer
widgets.display = lambda *a, **k: None
tokenizer = load_tokenizer()
logits = 3 * torch.randn(len(tokenizer))
slider = widgets.temperature_explorer(logits, tokenizer).children[0]
times = []
for i in range(60):
    start = time.perf_counter()
    slider.value = 0.1 + 0.1 * (i % 24)
    times.append(time.perf_counter() - start)
print(statistics.median(times), max(times))
"""


def run(code: str, **values) -> list[str]:
    """Ejecuta el código en un proceso nuevo; devuelve lo que imprime."""
    done = subprocess.run(
        [sys.executable, "-c", code.format(root=str(ROOT), **values)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout.split()


def course_gguf() -> Path:
    from tokenatoken.model.download import (
        COURSE_WEIGHTS,
        cache_dir,
        fetch_weights,
        find_gguf,
    )

    fetch_weights()
    local = os.environ.get("CURSO_LLM_MODELO")
    return find_gguf(
        COURSE_WEIGHTS, cache_dir(), Path(local) if local else None
    )


def notebook_seconds(path: Path) -> float:
    import nbformat

    sys.path.insert(0, str(ROOT / "tools"))
    import execute

    start = time.perf_counter()
    execute.run(nbformat.read(path, as_version=4), path.parent)
    return time.perf_counter() - start


def nbval_overhead(repeats: int) -> float:
    """Segundos que cuesta comparar un cuaderno de una celda vacía."""
    from nbformat.v4 import new_code_cell, new_notebook, writes

    with tempfile.TemporaryDirectory() as folder:
        cell = new_code_cell("pass", execution_count=1)
        for i in range(2):
            Path(folder, f"n{i}.ipynb").write_text(
                writes(new_notebook(cells=[cell]))
            )
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.nbval_tolerance",
        ]
        command += ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
        times = {1: [], 2: []}
        for _ in range(repeats):
            for n in (1, 2):
                start = time.perf_counter()
                files = [str(Path(folder, f"n{i}.ipynb")) for i in range(n)]
                subprocess.run(
                    [*command, *files], cwd=ROOT, capture_output=True
                )
                times[n].append(time.perf_counter() - start)
    return statistics.median(times[2]) - statistics.median(times[1])


def generation(repeats: int, bar) -> tuple[list, dict]:
    """El bucle a mano con cada capa frente a `generate`, y con y sin caché.

    Los tres generan 60 tokens tras 55, en fp32 y sin fin; la razón es la
    mediana, vuelta a vuelta, de segundos de `generate` entre los del bucle.
    """
    import torch

    from tokenatoken.cache import ConcatLayer, PreallocatedLayer, make_cache
    from tokenatoken.generation import generate_steps
    from tokenatoken.measure import (
        bytes_per_token,
        conditions,
        measure_generation,
        read_bandwidth,
    )
    from tokenatoken.model import load_model

    model, _ = load_model(dtype=torch.float32)
    ids = torch.arange(256, device=model.device)[None]  # [1, 256]
    prompt, new = ids[:, :55], 60
    mask = torch.ones_like(prompt)  # sin ella, generate la adivina
    ends = dict(eos_token_id=-1, pad_token_id=0, attention_mask=mask)

    def library(n):
        options = dict(do_sample=False, max_new_tokens=n, **ends)
        return model.generate(prompt, **options)[0, 55:].tolist()

    def by_hand(n, layer):
        cache = make_cache(model, layer)
        options = dict(max_new_tokens=n, stop_ids=(), cache=cache)
        return [s.token_id for s in generate_steps(model, prompt, **options)]

    ways = {
        "generate": library,
        "ConcatLayer": lambda n: by_hand(n, ConcatLayer),
        "PreallocatedLayer": lambda n: by_hand(n, PreallocatedLayer),
    }
    times = {name: [] for name in ways}
    texts = {name: way(2) and [] for name, way in ways.items()}  # calentar
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            texts[name] = way(new)
            times[name].append(time.perf_counter() - start)
            bar.update()
    rows, data = [], dict(conditions=conditions(model), loops=times)
    for name in list(ways)[1:]:
        pairs = zip(times["generate"], times[name])
        value = statistics.median(a / b for a, b in pairs)
        rows.append((f"generate / bucle con {name}", f"{value:.2f}", "≥ 1.0"))
        equal = texts[name] == texts["generate"]
        rows.append(("  mismos ids", str(equal), "True"))
    band = read_bandwidth(model.device)
    data["bandwidth"] = band
    for length, goal in ((55, "≥ 3.5 ×"), (256, "")):
        cached, plain = measure_generation(
            model, ids[:, :length], 100, repeats=repeats
        )
        bar.update()
        pairs = zip(plain.totals, cached.totals)
        value = statistics.median(a / b for a, b in pairs)
        name = f"sin caché / con caché, {length} + 100"
        rows.append((name, f"{value:.2f} ×", goal))
        data[name] = dict(con=cached.totals, sin=plain.totals)
        floor = bytes_per_token(model, length + 50) / band / 1e9
        share = floor / cached.tpot
        rows.append(("  parte de la banda, con caché", f"{share:.0%}", ""))
    rows.append(("ancho de banda de lectura", f"{band:.0f} GB/s", ""))
    return rows, data


def loads(repeats: int, bar) -> tuple[list, dict]:
    """Cargas, conversión, memoria y exploradores."""
    gguf = course_gguf()
    where = dict(folder=str(gguf.parent), name=gguf.name)
    times = {"load_model": [], "GGUF con transformers": [], "conversión": []}
    whole = {name: [] for name in times}
    for _ in range(repeats):
        for name, code, values in (
            ("load_model", WARM, {}),
            ("GGUF con transformers", STOCK, where),
            (
                "conversión",
                CONVERT,
                dict(gguf=str(gguf), cache=str(gguf.parent)),
            ),
        ):
            start = time.perf_counter()
            times[name].append(float(run(code, **values)[-1]))
            whole[name].append(time.perf_counter() - start)
            bar.update()
    equal = run(EQUAL, **where)[-1]
    memory = {
        dtype: [float(x) for x in run(MEMORY, dtype=dtype)[-2:]]
        for dtype in ("float32", "float16")
    }
    bar.update()
    explorer, worst = (float(x) for x in run(EXPLORER)[-2:])
    slider = float(run(SLIDER)[-2])
    bar.update()
    median = {name: statistics.median(times[name]) for name in times}
    cold = {name: statistics.median(whole[name]) for name in whole}
    stock = median["GGUF con transformers"]

    def ratio(name):
        return f"{stock / median[name]:.1f} ×"

    from_start = cold["GGUF con transformers"] / cold["load_model"]
    rows = [
        ("load_model en caliente", f"{median['load_model']:.2f} s", ""),
        ("  frente al GGUF con transformers", ratio("load_model"), "≥ 15 ×"),
        ("  ídem, contando las importaciones", f"{from_start:.1f} ×", ""),
        ("  pesos iguales bit a bit", equal, "True"),
        ("conversión inicial", f"{median['conversión']:.1f} s", ""),
        ("  frente al GGUF con transformers", ratio("conversión"), ""),
    ]
    for dtype, (own, everything) in memory.items():
        goal = "≤ 1.3" if dtype == "float32" else ""
        rows.append((f"pico al cargar / pesos ({dtype})", f"{own:.2f}", goal))
        name = "  con las páginas del archivo"
        rows.append((name, f"{everything:.2f}", ""))
    for name, seconds, goal in (
        ("tecla en el explorador (500 car.)", explorer, "< 50 ms"),
        ("  la más lenta de 60", worst, ""),
        ("un paso del mando de temperatura", slider, "< 50 ms"),
    ):
        rows.append((name, f"{seconds * 1e3:.1f} ms", goal))
    return rows, dict(times=times, memory=memory, explorer=explorer)


def walls(repeats: int, bar) -> tuple[list, dict]:
    """De kernel limpio a última celda, cada cuaderno una vez."""
    rows, data = [], {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        data[path.name] = notebook_seconds(path)
        goal = "≈ 120 s" if path.name[:2] == "07" else "≈ 60 s"
        rows.append(
            (f"cuaderno {path.name}", f"{data[path.name]:.0f} s", goal)
        )
        bar.update()
    data["nbval"] = nbval_overhead(3)
    bar.update()
    rows.append(("nbval, por cada cuaderno más", f"{data['nbval']:.1f} s", ""))
    return rows, data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = dict(carga=loads, generacion=generation, cuadernos=walls)
    parser.add_argument("--solo", choices=parts, help="una de las tres partes")
    parser.add_argument("--repeticiones", type=int, default=5)
    parser.add_argument("--json", type=Path, help="guarda también los datos")
    options = parser.parse_args()
    if options.repeticiones < 1:
        parser.error("--repeticiones tiene que ser 1 o más.")
    chosen = [options.solo] if options.solo else list(parts)
    steps = dict(
        carga=3 * options.repeticiones + 2,
        generacion=3 * options.repeticiones + 2,
        cuadernos=len(list((ROOT / "notebooks").glob("*.ipynb"))) + 1,
    )
    rows, data = [], {}
    with tqdm(total=sum(steps[c] for c in chosen), desc="Midiendo") as bar:
        for name in chosen:
            more, data[name] = parts[name](options.repeticiones, bar)
            rows += more
    print(f"\n{'qué':42}{'medido':>12}  objetivo")
    for what, value, goal in rows:
        print(f"{what:42}{value:>12}  {goal}")
    if options.json:
        options.json.write_text(json.dumps(data, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
