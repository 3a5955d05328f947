"""Unidad 07."""

import random
import time

import torch

from tokenatoken.cache import kv_cache_bytes
from tokenatoken.checks.bench import FakeGPU
from tokenatoken.checks.unit07 import (
    compare,
    first_n,
    floor,
    forecast,
    generate,
    once,
    verdict,
)

from . import wrong


def one_run(median_seconds):
    gpu = FakeGPU([9.0, 4.0])
    assert median_seconds(gpu.run, gpu.wait, gpu.clock, 1) == 4.25


def refuse(median_seconds):
    gpu = FakeGPU([9.0, 4.0])
    raise AssertionError(median_seconds(gpu.run, gpu.wait, gpu.clock, 1))


def halves_the_model(model, context, band):
    model.half()
    return floor(model, context, band)


def half_cache(model, context, band):
    kept = kv_cache_bytes(model.config, context, 1, model.dtype)
    return floor(model, 0, band) + kept / 3 / (band * 1e9)


def cubic(n1, t1, n2, t2, n):
    b = (t2 / n2 - t1 / n1) / (n2**2 - n1**2)
    return (t1 / n1 - b * n1**2) * n + b * n**3


def shuffled(names, k):
    order = names * k
    random.Random(3).shuffle(order)
    return order


def repeated(model, ids, n):
    out = generate()(model, ids, n)
    return out.repeat(1, 9)[:, : ids.shape[1] + n]


def padded_in_front(model, ids, n):
    out = generate()(model, ids, n)
    fill = ids.new_zeros(1, ids.shape[1] + n - out.shape[1])
    return torch.cat([fill, out], -1)


MUTANTS = {
    "07.1": {
        "no llama": wrong(lambda f: None, says="no prueba nada"),
        "rechaza todo": wrong(refuse, says="Rechaza uno bueno"),
        "una repetición": wrong(one_run, says="media"),
        "no es función": wrong(4.25, says="función"),
    },
    "07.2": {
        "su reloj": wrong(
            lambda a, b, n, clock: compare(a, b, n, time.perf_counter),
            verdict,
            says="En la vuelta 1",
        ),
        "otras palabras": wrong(
            compare, lambda pairs: verdict(pairs).upper(), says="«A»"
        ),
        "siempre igual": wrong(compare, lambda pairs: "a", says="dices «a»"),
        "milisegundos": wrong(
            lambda *x: [(1e3 * a, 1e3 * b) for a, b in compare(*x)],
            verdict,
            says="En la vuelta 1",
        ),
    },
    "07.3": {
        "siempre": wrong(lambda *case: 1, says="te salen 1"),
        "texto": wrong(lambda *case: str(first_n(*case)), says="número"),
    },
    "07.4": {
        "cubo": wrong(cubic, says="a·n + b·n²"),
        "texto": wrong(lambda *a: f"{forecast(*a)} s", says="número"),
    },
    "07.5": {
        "cambia el modelo": wrong(halves_the_model),
        "un tercio de caché": wrong(half_cache, says="K y V"),
        "por el contexto": wrong(lambda m, c, b: floor(m, 0, b) * max(1, c)),
        "bytes": wrong(lambda m, c, b: floor(m, c, b) * b * 1e9),
    },
    "07.6": {
        "dos veces": wrong(once(runs=2), says="una sola vez"),
        "fijo": wrong(lambda run, wait, clock: 4.25),
        "ninguna": wrong(lambda run, wait, clock: 4.0, says="run()"),
        "al revés": wrong(lambda *a: -once()(*a)),
        "texto": wrong(lambda *a: f"{once()(*a)} s", says="número"),
    },
    "07.7": {
        "barajado": wrong(shuffled, says="vueltas"),
        "una vez": wrong(lambda names, k: [*names], says="16 turnos"),
        "tupla": wrong(lambda names, k: tuple(names * k), says="Una lista"),
        "otra variante": wrong(lambda names, k: ["x"] * k, says="turnos"),
        "por parejas": wrong(lambda names, k: [names] * k),
    },
    "07.8": {
        "entera": wrong(lambda p, n, s: n // s),
        "texto": wrong(lambda p, n, s: f"{n / s}", says="número"),
        "uno de más": wrong(lambda p, n, s: (n + 1) / s),
    },
    "07.9": {"la suma": wrong(lambda a: a[-1] - a[0])},
    "07.10": {
        "relleno delante": wrong(padded_in_front, says="el prompt delante"),
        "repite": wrong(repeated, says="otra cosa"),
        "fijo": wrong(generate(min_new_tokens=12)),
        "muestreo": wrong(
            generate(
                min_new_tokens=lambda n: n, do_sample=True, temperature=9.0
            ),
            says="greedy",
        ),
        "texto": wrong(lambda m, i, n: "hola", says="los ids"),
    },
    "07.11": {
        "sin signo": wrong(lambda a, b: 100 * (b - a) / a),
        "texto": wrong(lambda a, b: f"{100 * (a - b) / a} %", says="número"),
        "entre la media": wrong(lambda a, b: 200 * (a - b) / (a + b)),
    },
}
