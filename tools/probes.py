"""Lo que `make bench` mide en un proceso nuevo: python -m tools.probes NOMBRE."""

import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

EXPLORED = ("El pingüino pidió un café — ¡doble! 🤖 Y se fue. " * 20)[:499]


def warm() -> None:
    """Segundos de `load_model` con el modelo preparado."""
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer  # noqa: F401

    from tokenatoken.model import load_model

    start = time.perf_counter()
    load_model(device="cpu")
    print(time.perf_counter() - start)


def stock(folder: str, name: str):
    """Segundos que tarda transformers en leer el GGUF; devuelve el modelo."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    start = time.perf_counter()
    AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32
    )
    print(time.perf_counter() - start)
    return model


def equal(folder: str, name: str) -> None:
    """¿Son los nuestros, bit a bit, los pesos que lee transformers?"""
    import torch

    from tokenatoken.model import load_model

    theirs = stock(folder, name).state_dict()
    ours = load_model(device="cpu")[0].state_dict()
    same = theirs.keys() == ours.keys()
    print(same and all(torch.equal(ours[k], theirs[k]) for k in ours))


def resident() -> list[int]:
    """Memoria propia y total (con las páginas del archivo), en bytes."""
    text = Path("/proc/self/status").read_text()
    keys = "RssAnon", "VmRSS"
    return [1024 * int(re.search(rf"{k}:\s+(\d+)", text)[1]) for k in keys]


def memory(dtype: str) -> None:
    """Pico de memoria al cargar, en veces lo que ocupan los pesos."""
    import torch
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer  # noqa: F401

    from tokenatoken.model import load_model

    start, peak, done = resident(), [0, 0], threading.Event()

    def watch():
        while not done.wait(0.002):
            peak[:] = map(max, peak, resident())

    thread = threading.Thread(target=watch)
    thread.start()
    model, _ = load_model(device="cpu", dtype=getattr(torch, dtype))
    sum(p.sum(dtype=torch.float32).item() for p in model.parameters())
    done.set()
    thread.join()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    print(*((p - s) / weights for p, s in zip(peak, start)))


def conversion(gguf: str) -> None:
    """Segundos de convertir el GGUF en el modelo preparado."""
    import safetensors.numpy  # noqa: F401
    from transformers import Qwen2Config, Qwen2Tokenizer  # noqa: F401

    from tokenatoken.model.convert import convert

    with tempfile.TemporaryDirectory(dir=Path(gguf).parent) as folder:
        start = time.perf_counter()
        convert(Path(gguf), Path(folder))
        print(time.perf_counter() - start)


def moves(control, values) -> None:
    """Mediana de los segundos de 60 cambios de un mando."""
    seconds = []
    for i in range(60):
        start = time.perf_counter()
        control.value = values(i)
        seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds))


def typing() -> None:
    """Lo que tarda en responder a una tecla el explorador de tokens."""
    from tokenatoken import show
    from tokenatoken.model import load_tokenizer

    names = ("qwen2.5-coder-0.5b", "smollm2", "minilm")
    known = {name: load_tokenizer(name) for name in names}
    box = show.token_explorer(known, EXPLORED)
    moves(box.children[0].children[0], lambda i: EXPLORED + chr(97 + i % 26))


def slider() -> None:
    """Lo que tarda en responder un paso del mando de temperatura."""
    import torch

    from tokenatoken import show
    from tokenatoken.model import load_tokenizer

    tokenizer = load_tokenizer()
    logits = 3 * torch.randn(len(tokenizer))
    box = show.temperature_explorer(logits, tokenizer)
    moves(box.children[0].children[0], lambda i: 0.1 + 0.1 * (i % 24))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
