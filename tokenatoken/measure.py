"""Cronometrar generaciones sin hacerse trampas.

Calentamiento aparte, tokens fijos, repeticiones intercaladas, mismos ids en
todas las variantes, y mediana con cuartiles. No sabe nada de figuras.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from . import CourseError, Helpful, number
from .cache import kv_cache_bytes, make_cache
from .forward import check_ids
from .generation import generate_steps
from .sampling import is_whole

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
    after: Callable = lambda turn, timing: None,
) -> list[GenerationTiming]:
    """Genera `new_tokens` tras `ids` (`[1, n]`) con cada variante, `repeats`
    veces, y devuelve un `GenerationTiming` por variante.

    `variants`: nombre → función que da una caché nueva, o None para ir sin
    ella; por defecto, con caché y sin ella. Antes de medir, cada variante
    hace una generación corta que no cuenta; las repeticiones van
    intercaladas (A B A B…), y los tokens de fin se ignoran. Lanza
    `ValueError` si `repeats` no es 1 o más. Si a una variante le falta
    memoria, o en fp32 no escribe los mismos ids que la primera, queda con su
    `error`, y lo ya medido se conserva, también si interrumpes el kernel.
    Tras cada repetición se llama a `after(vuelta, timing)`, fuera del reloj.
    """
    _check_case(new_tokens, variants or {}, repeats)
    check_ids(model, ids)
    both = {"con caché": lambda: make_cache(model), "sin caché": lambda: None}
    variants = variants or both
    case = ids.shape[1], new_tokens
    results = {name: GenerationTiming(name, *case) for name in variants}
    for name, new_cache in variants.items():
        _attempt(results[name], model, ids, min(2, new_tokens), new_cache)
    try:
        for turn in range(repeats):
            for name, new_cache in variants.items():
                _repeat(results[name], model, ids, new_cache)
                after(turn + 1, results[name])
    except KeyboardInterrupt:
        counts = ", ".join(str(len(r.ttft)) for r in results.values())
        print(f"[Interrumpido: conservas {counts} repeticiones.]")
    _mark_different(model, list(results.values()))
    return list(results.values())


def measure_and_free(
    load: Callable, ids: torch.Tensor, new_tokens: int, **options
) -> list[GenerationTiming]:
    """`measure_generation` con el modelo que da `load()`, que se suelta al
    acabar, pase lo que pase. Dice por dónde va. Si falta memoria o lo
    interrumpes, lo dice y devuelve una lista vacía: el kernel queda como
    estaba.
    """
    try:
        model = load()
        return measure_generation(
            model, ids, new_tokens, after=_say, **options
        )
    except KeyboardInterrupt:
        why = "Interrumpido."
    except (MemoryError, RuntimeError) as error:
        if not (_out_of_memory(error) or isinstance(error, Helpful)):
            raise
        why = str(error)
    finally:
        model = None  # antes de vaciar la reserva de la GPU
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    print(f"{why}\nNo hay medida; la memoria queda libre.")
    return []


def _say(turn: int, timing: GenerationTiming) -> None:
    took = timing.error or f"{number(timing.totals[-1], 1)} s"
    print(f"vuelta {turn}, {timing.variant}: {took}", flush=True)


def _check_case(new_tokens, variants: dict, repeats) -> None:
    if not is_whole(repeats) or repeats < 1:
        raise CourseError(
            f"repeats={repeats!r} no vale: para medir hace falta repetir 1 vez "
            "o más, y para fiarse, 5 o más."
        )
    if not is_whole(new_tokens) or new_tokens < 1:
        raise CourseError(
            f"new_tokens={new_tokens!r} no vale: un entero, 1 o más."
        )
    for name, new_cache in variants.items():
        if not callable(new_cache):
            raise CourseError(
                f"La variante «{name}» tiene que ser una función que dé una "
                "caché nueva cada vez: lambda: make_cache(model), o "
                "lambda: None para ir sin ella."
            )


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


def _repeat(result: GenerationTiming, model, ids, new_cache) -> None:
    if result.error is None:
        run = _attempt(result, model, ids, result.new_tokens, new_cache)
        if run:
            _record(result, run)


def _attempt(result, model, ids, new_tokens, new_cache):
    """Una generación: sus pasos, o None si faltó memoria (y queda dicho)."""
    cuda = model.device.type == "cuda"
    _wait(model.device)
    if cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    try:
        start = time.perf_counter()
        steps = generate_steps(
            model,
            ids,
            max_new_tokens=new_tokens,
            stop_ids=(),
            cache=new_cache(),
        )
        run = []
        for step in steps:
            _wait(model.device)
            run.append((step.token_id, time.perf_counter() - start))
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        result.error = "sin memoria"
        return None
    if cuda:
        peak = torch.cuda.max_memory_allocated(model.device)
        result.peak_bytes = max(peak, result.peak_bytes or 0)
    return run


def _wait(device: torch.device) -> None:
    """Espera al acelerador: sus llamadas vuelven antes de terminar."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _out_of_memory(error: Exception) -> bool:
    words = "out of memory", "can't allocate memory", "not enough memory"
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(word in str(error) for word in words)


def _record(result: GenerationTiming, run: list[tuple[int, float]]) -> None:
    times = [seconds for _, seconds in run]
    result.ids = [token for token, _ in run]
    result.ttft.append(times[0])
    result.step_seconds.append([b - a for a, b in zip(times, times[1:])])


def _mark_different(model, results: list[GenerationTiming]) -> None:
    """En fp32, la variante que no da los mismos ids queda marcada: no se
    compara el tiempo de dos cosas distintas."""
    done = [result for result in results if result.ids]
    for result in done:
        if model.dtype == torch.float32 and result.ids != done[0].ids:
            result.error = f"no escribe lo mismo que «{done[0].variant}»"
