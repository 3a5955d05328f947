"""Unidad 07."""

import random
import statistics
import time

import torch

from tokenatoken.cache import kv_cache_bytes
from tokenatoken.checks.unit07 import (
    floor,
    forecast,
    generate,
    once,
    speed,
    stopwatch,
)

from . import wrong


def trimmed(times):
    return statistics.mean(sorted(times)[1:-1] or times)


def own_clock(run, wait, clock, repeats):
    return stopwatch()(run, wait, time.perf_counter, repeats)


def never_ends(steps, clock):
    begin, k = clock(), 0
    while True:
        for step in steps:
            k += 1
            yield step, k / (clock() - begin)


def never_ends_either(steps, clock):
    begin, k = clock(), 0
    while True:
        if step := next(steps, None):
            k += 1
            yield step, k / (clock() - begin)


def all_at_once(steps, clock):
    begin = clock()
    for k, step in enumerate(list(steps), 1):
        yield step, k / (clock() - begin)


def one_late(steps, clock):
    begin, held = clock(), None
    for k, step in enumerate(steps, 1):
        if held is not None:
            yield held
        held = step, k / (clock() - begin)
    yield held


def changed(what):
    """Un velocímetro que enseña otra cosa de cada (paso, velocidad)."""

    def speedometer(steps, clock):
        for k, (step, rate) in enumerate(speed()(steps, clock)):
            yield what(k, step, rate)

    return speedometer


def fixed_start(steps, clock):
    clock()
    for k, step in enumerate(steps, 1):
        yield step, k / (clock() - 50)


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
        "sin calentar": wrong(stopwatch(warm=0), says="calentamiento"),
        "calienta dos veces": wrong(stopwatch(warm=2), says="run()"),
        "una de menos": wrong(
            stopwatch(more=-1, summary=lambda t: t and 2.0), says="run()"
        ),
        "lista": wrong(stopwatch(summary=list), says="número"),
        "otro reloj": wrong(own_clock, says="clock()"),
        "media recortada": wrong(stopwatch(summary=trimmed)),
        "negativa": wrong(lambda *a: -stopwatch()(*a)),
    },
    "07.2": {
        "no termina": wrong(never_ends, says="no termina nunca"),
        "no termina tampoco": wrong(never_ends_either, says="no termina"),
        "junta todo": wrong(all_at_once, says="ya has pedido"),
        "una lista": wrong(
            lambda steps, clock: list(speed()(steps, clock)), says="generador"
        ),
        "va uno tarde": wrong(one_late, says="ya has pedido"),
        "pierde el último": wrong(
            lambda steps, clock: iter(list(speed()(steps, clock))[:-1])
        ),
        "reloj fijo": wrong(fixed_start),
        "solo la velocidad": wrong(
            changed(lambda k, step, rate: rate), says="dos cosas"
        ),
        "no da el paso": wrong(
            changed(lambda k, step, rate: (k, rate)), says="tal como entran"
        ),
        "del revés": wrong(
            changed(lambda k, step, rate: (rate, step)), says="Primero va"
        ),
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
