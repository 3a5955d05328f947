"""Cronometrar generaciones sin hacerse trampas.

Calentamiento aparte, tokens fijos, repeticiones intercaladas, mismos ids en
todas las variantes, y mediana con cuartiles. No sabe nada de figuras.
"""

import csv
import datetime
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from . import CourseError
from .cache import kv_cache_bytes, make_cache
from .forward import check_ids
from .generation import generate_steps

FORMAT = 1  # cambia si cambian las columnas
SAMPLES = Path(__file__).parent / "data" / "mediciones"  # las del curso
COLUMNS = (
    "variant",
    "prompt_tokens",
    "new_tokens",
    "repeats",
    "ttft",
    "tpot",
    "total",
    "total_q1",
    "total_q3",
    "error",
)


@dataclass
class GenerationTiming:
    """Lo medido de una variante con un prompt.

    `ttft`: segundos hasta el primer token, uno por repetición.
    `step_seconds`: los de cada token siguiente, `[repetición][token]`.
    `peak_bytes`: pico de memoria en CUDA, o None. `error`: qué impidió
    medirla, si algo lo hizo.
    """

    variant: str
    prompt_tokens: int
    new_tokens: int
    ttft: list[float] = field(default_factory=list)
    step_seconds: list[list[float]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    peak_bytes: int | None = None
    error: str | None = None

    @property
    def totals(self) -> list[float]:
        """Segundos de cada repetición, de principio a fin."""
        return [a + sum(b) for a, b in zip(self.ttft, self.step_seconds)]

    @property
    def tpot(self) -> float:
        """Mediana de los segundos por token, sin contar el primero."""
        steps = [s for row in self.step_seconds for s in row]
        return statistics.median(steps) if steps else float("nan")

    def row(self) -> dict:
        """Una fila de resultados: medianas, y cuartiles del total."""
        known = bool(self.ttft)
        low, middle, high = quartiles(self.totals) if known else [None] * 3
        values = (
            self.variant,
            self.prompt_tokens,
            self.new_tokens,
            len(self.ttft),
            statistics.median(self.ttft) if known else None,
            self.tpot if known else None,
            middle,
            low,
            high,
            self.error,
        )
        return dict(zip(COLUMNS, values))


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Primer cuartil, mediana y tercer cuartil."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def measure_generation(
    model,
    ids: torch.Tensor,
    new_tokens: int,
    variants: dict[str, Callable] | None = None,
    repeats: int = 5,
) -> list[GenerationTiming]:
    """Genera `new_tokens` tras `ids` (`[1, n]`) con cada variante, `repeats`
    veces, y devuelve un `GenerationTiming` por variante.

    `variants`: nombre → función que da una caché nueva, o None para ir sin
    ella; por defecto, con caché y sin ella. Antes de medir, cada variante
    hace una generación corta que no cuenta; las repeticiones van
    intercaladas (A B A B…), y los tokens de fin se ignoran. Lanza
    `ValueError` si `repeats` no es 1 o más, o si en fp32 dos variantes no
    dan los mismos ids. Si falta memoria, la variante queda con su `error`.
    """
    if (
        isinstance(repeats, bool)
        or not isinstance(repeats, int)
        or repeats < 1
    ):
        raise CourseError(
            f"repeats={repeats!r} no vale: para medir hace falta repetir 1 vez "
            "o más, y para fiarse, 5 o más."
        )
    check_ids(model, ids)
    variants = variants or {
        "con caché": lambda: make_cache(model),
        "sin caché": lambda: None,
    }
    results = {
        name: GenerationTiming(name, ids.shape[1], new_tokens)
        for name in variants
    }
    for name, new_cache in variants.items():
        _attempt(results[name], model, ids, min(2, new_tokens), new_cache)
    for _ in range(repeats):
        for name, new_cache in variants.items():
            if results[name].error is None:
                run = _attempt(
                    results[name], model, ids, new_tokens, new_cache
                )
                if run:
                    _record(results[name], run)
    _same_ids(model, list(results.values()))
    return list(results.values())


def sweep_lengths(
    model,
    lengths: Iterable[int],
    new_tokens: int,
    variants: dict[str, Callable] | None = None,
    repeats: int = 5,
) -> list[GenerationTiming]:
    """Lo mismo con prompts de varias longitudes (ids repetidos: el tiempo no
    depende de cuáles sean). Si interrumpes el kernel, devuelve lo medido."""
    results = []
    try:
        for length in tqdm(list(lengths), desc="Longitudes", leave=False):
            ids = torch.arange(length, device=model.device)[None] % 1000
            results += measure_generation(
                model, ids, new_tokens, variants, repeats
            )
    except KeyboardInterrupt:
        print(f"[Interrumpido: conservas {len(results)} mediciones.]")
    return results


def conditions(model) -> dict:
    """Con qué se ha medido: modelo, precisión, dispositivo, versiones, día."""
    device = model.device
    cuda = device.type == "cuda"
    return {
        "format": FORMAT,
        "model": model.config.model_type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "date": datetime.date.today().isoformat(),
    }


def save_measurement(
    model, results: list[GenerationTiming], path: Path | str, label: str
) -> Path:
    """Guarda `path`.json (todo, con las condiciones) y `path`.csv (una fila
    por variante). `label`: cómo se llamará en las figuras."""
    path = Path(path).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "label": label,
        "conditions": conditions(model),
        "results": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as f:
        table = csv.DictWriter(f, COLUMNS)
        table.writeheader()
        table.writerows(result.row() for result in results)
    return path


def load_measurement(path: Path | str) -> dict:
    """Lo guardado por `save_measurement`: `label`, `conditions` y `results`.

    Lanza `ValueError` si el archivo está roto o es de otro formato.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["conditions"]["format"]
        if found != FORMAT:
            raise CourseError(
                f"{path.name} está en el formato {found} y esta versión lee el "
                f"{FORMAT}. Vuelve a medir con esta versión del curso."
            )
        content["results"] = [
            GenerationTiming(**result) for result in content["results"]
        ]
        content["label"] = str(content["label"])
    except (KeyError, TypeError, json.JSONDecodeError, OSError) as error:
        raise CourseError(
            f"No se puede leer {path.name} ({type(error).__name__}): no es una "
            "medición de save_measurement, o está cortada. Pide otra copia."
        ) from error
    return content


def compare_measurements(contents: list[dict]) -> pd.DataFrame:
    """Milisegundos por token (TPOT) de varias mediciones leídas: una fila por
    `label`, una columna por variante.

    Se compara el mismo caso (prompt y tokens nuevos): el más largo que tengan
    todas. Lanza `ValueError` si no tienen ninguno en común.
    """
    cases = [
        {(r.prompt_tokens, r.new_tokens) for r in c["results"] if not r.error}
        for c in contents
    ]
    common = set.intersection(*cases) if cases else set()
    if not common:
        raise CourseError(
            "Estas mediciones no tienen ningún caso en común (mismo prompt y "
            "mismos tokens nuevos), así que no se pueden comparar. Midan todas "
            "lo mismo: la sección 2 de la unidad 07 ya lo hace."
        )
    case = max(common, key=lambda pair: (pair[1], pair[0]))
    rows = {}
    for content in contents:
        label, again = content["label"], 1
        while label in rows:  # dos con el mismo nombre no se tapan
            again += 1
            label = f"{content['label']} ({again})"
        rows[label] = {
            r.variant: 1e3 * r.tpot
            for r in content["results"]
            if (r.prompt_tokens, r.new_tokens) == case and not r.error
        }
    return pd.DataFrame(rows).T


def bytes_per_token(model, context: int = 0) -> int:
    """Bytes que hay que leer para generar un token con `context` tokens en la
    caché: cada matriz de pesos una vez, y la caché entera.

    De la tabla de embeddings de entrada se lee una fila, y no se cuenta,
    salvo si es la misma matriz que da los logits.
    """
    table = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is table
    weights = sum(
        p.numel() * p.element_size()
        for p in model.parameters()
        if tied or p is not table
    )
    return weights + kv_cache_bytes(model.config, context, 1, model.dtype)


def read_bandwidth(device: torch.device, repeats: int = 8) -> float:
    """GB/s a los que se lee memoria, sumando un tensor grande.

    Es un techo, así que vale la mejor de las vueltas, como en STREAM
    (J. McCalpin, 1995).
    """
    size = 2**28 if device.type == "cuda" else 2**26  # 1 GiB o 256 MiB
    data = torch.ones(size, device=device)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        data.sum().item()  # .item() espera a que acabe
        times.append(time.perf_counter() - start)
    return 4 * size / min(times) / 1e9


def _attempt(result, model, ids, new_tokens, new_cache):
    """Una generación: sus pasos, o None si faltó memoria (y queda dicho)."""
    cuda = model.device.type == "cuda"
    if model.device.type != "cpu":
        torch.accelerator.synchronize()
    if cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    try:
        start = time.perf_counter()
        run = [
            (step.token_id, time.perf_counter() - start)
            for step in generate_steps(
                model,
                ids,
                max_new_tokens=new_tokens,
                stop_ids=(),
                cache=new_cache(),
            )
        ]
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        result.error = "sin memoria"
        return None
    if cuda:
        peak = torch.cuda.max_memory_allocated(model.device)
        result.peak_bytes = max(peak, result.peak_bytes or 0)
    return run


def _out_of_memory(error: Exception) -> bool:
    words = "out of memory", "can't allocate memory", "not enough memory"
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error) for word in words)


def _record(result: GenerationTiming, run: list[tuple[int, float]]) -> None:
    times = [seconds for _, seconds in run]
    result.ids = [token for token, _ in run]
    result.ttft.append(times[0])
    result.step_seconds.append([b - a for a, b in zip(times, times[1:])])


def _same_ids(model, results: list[GenerationTiming]) -> None:
    """En fp32, todas las variantes medidas dan los mismos ids."""
    done = [result for result in results if result.ids]
    different = [r.variant for r in done if r.ids != done[0].ids]
    if different and model.dtype == torch.float32:
        raise CourseError(
            f"«{done[0].variant}» y «{different[0]}» no escriben lo mismo: no "
            "se puede comparar el tiempo de dos cosas distintas. Revisa la "
            "caché."
        )
