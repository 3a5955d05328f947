"""Mutantes de la unidad 07: mediciones tramposas que hay que rechazar."""

import math
import random
import statistics

import numpy as np
import pytest
import torch

from tokenatoken.cache import kv_cache_bytes
from tokenatoken.checks import check
from tokenatoken.checks.bench import FakeGPU
from tokenatoken.measure import bytes_per_token

from .verdicts import accepted, enough_mutants, rejected


def stopwatch(
    warm=1, before=True, after=True, summary=statistics.median, more=0
):
    """Un cronómetro con las piezas que se le digan."""

    def median_seconds(run, wait, clock, repeats):
        for _ in range(warm):
            run()
        times = []
        for _ in range(repeats + more):
            if before:
                wait()
            start = clock()
            run()
            if after:
                wait()
            times.append(clock() - start)
        return summary(times)

    return median_seconds


def counts_warm_up(run, wait, clock, repeats):
    return stopwatch(warm=0, more=1)(run, wait, clock, repeats)


def as_a_block(run, wait, clock, repeats):
    run()
    wait()
    start = clock()
    for _ in range(repeats):
        run()
    wait()
    return (clock() - start) / repeats


def waits_once(run, wait, clock, repeats):
    wait()
    return stopwatch(before=False)(run, wait, clock, repeats)


def own_clock(run, wait, clock, repeats):
    import time

    return stopwatch()(run, wait, time.perf_counter, repeats)


def speed(start="before", count=lambda k: k, flip=False, only=False):
    def speedometer(steps, clock):
        begin = clock() if start == "before" else None
        for k, step in enumerate(steps, 1):
            if begin is None:
                begin = clock()
            spent = clock() - begin
            rate = count(k) / spent if spent else 0.0
            rate = 1 / rate if flip and rate else rate
            yield rate if only else (step, rate)

    return speedometer


def all_at_once(steps, clock):
    begin = clock()
    for k, step in enumerate(list(steps), 1):
        yield step, k / (clock() - begin)


def each_step(steps, clock):
    last = clock()
    for step in steps:
        now = clock()
        yield step, 1 / (now - last)
        last = now


def a_list(steps, clock):
    return list(speed()(steps, clock))


def one_late(steps, clock):
    begin, held = clock(), None
    for k, step in enumerate(steps, 1):
        if held is not None:
            yield held
        held = step, k / (clock() - begin)
    yield held


def loses_last(steps, clock):
    shown = list(speed()(steps, clock))
    yield from shown[:-1]


def not_the_step(steps, clock):
    for k, (_, rate) in enumerate(speed()(steps, clock)):
        yield k, rate


def gain(P, n, plain, cached):
    without = sum(plain(P + i) for i in range(n))
    return without / (plain(P) + sum(cached(P + i) for i in range(1, n)))


def gains(without, with_cache):
    def speedup(P, n, plain, cached):
        return without(P, n, plain) / with_cache(P, n, plain, cached)

    return speedup


def whole(P, n, plain):
    return sum(plain(P + i) for i in range(n))


def cached_right(P, n, plain, cached):
    return plain(P) + sum(cached(P + i) for i in range(1, n))


def predict(n1, t1, n2, t2, n):
    b = (t2 / n2 - t1 / n1) / (n2 - n1)
    return (t1 / n1 - b * n1) * n + b * n * n


def power_law(n1, t1, n2, t2, n):
    k = math.log(t2 / t1) / math.log(n2 / n1)
    return t2 * (n / n2) ** k


def constant_and_square(n1, t1, n2, t2, n):
    b = (t2 - t1) / (n2**2 - n1**2)
    return t1 - b * n1**2 + b * n**2


def cubic(n1, t1, n2, t2, n):
    b = (t2 / n2 - t1 / n1) / (n2**2 - n1**2)
    return (t1 / n1 - b * n1**2) * n + b * n**3


def floor(model, context, band):
    return bytes_per_token(model, context) / (band * 1e9)


def table_bytes(model):
    table = model.get_input_embeddings().weight
    return table.numel() * table.element_size()


def all_weights(model, context, band):
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    total += kv_cache_bytes(model.config, context, 1, model.dtype)
    return total / (band * 1e9)


def never_the_table(model, context, band):
    return all_weights(model, context, band) - table_bytes(model) / (
        band * 1e9
    )


def once(wait_after=True, wait_before=True, runs=1):
    def seconds(run, wait, clock):
        if wait_before:
            wait()
        start = clock()
        for _ in range(runs):
            run()
        if wait_after:
            wait()
        return clock() - start

    return seconds


def generate(**options):
    def write(model, ids, n):
        extra = {k: v(n) if callable(v) else v for k, v in options.items()}
        return model.generate(
            ids, **{"do_sample": False, "max_new_tokens": n} | extra
        )

    return write


def right_padded(fill):
    def write(model, ids, n):
        out = generate()(model, ids, n)
        more = ids.shape[1] + n - out.shape[1]
        return torch.cat([out, out.new_full((1, more), fill)], -1)

    return write


def repeated(model, ids, n):
    out = generate()(model, ids, n)
    return out.repeat(1, 9)[:, : ids.shape[1] + n]


def never_ends(steps, clock):
    begin, k = clock(), 0
    while True:
        for step in steps:
            k += 1
            yield step, k / (clock() - begin)


def never_ends_either(steps, clock):
    begin, k = clock(), 0
    while True:
        step = next(steps, None)
        if step:
            k += 1
            yield step, k / (clock() - begin)


def by_next(steps, clock):
    begin, k = clock(), 0
    while True:
        step = next(steps)
        k += 1
        yield step, k / (clock() - begin)


def printed(steps, clock):
    for step, rate in speed()(steps, clock):
        assert step and rate


def restarted(steps, clock):
    begin = clock()
    for k, step in enumerate(steps, 1):
        yield step, k / (clock() - begin)
        begin = clock()


def fixed_start(steps, clock):
    clock()
    for k, step in enumerate(steps, 1):
        yield step, k / (clock() - 50)


def trimmed(times):
    return statistics.mean(sorted(times)[1:-1] or times)


def shuffled(names, k):
    order = names * k
    random.Random(3).shuffle(order)
    return order


def halves_the_model(model, context, band):
    model.half()
    return floor(model, context, band)


def other_cache_type(model, context, band):
    kept = kv_cache_bytes(model.config, context, 1, model.dtype)
    return floor(model, 0, band) + kept / 2 / (band * 1e9)


def no_head(model, context, band):
    head = model.get_output_embeddings().weight
    size = head.numel() * head.element_size()
    return floor(model, context, band) - size / (band * 1e9)


def forced(model, ids, n):
    """Otra solución: quitar el token de fin."""
    return model.generate(
        ids, do_sample=False, max_new_tokens=n, eos_token_id=-1
    )


def padded(model, ids, n):
    out = generate()(model, ids, n)
    fill = ids.new_zeros(1, ids.shape[1] + n - out.shape[1])
    return torch.cat([fill, out], -1)


CORRECT = {
    "07.1": (stopwatch(),),
    "07.2": (speed(),),
    "07.3": (gain,),
    "07.4": (predict,),
    "07.5": (floor,),
    "07.6": ("a", once()),
}
BUGS = {
    "a": once(wait_after=False),
    "b": lambda names, k: [name for name in names for _ in range(k)],
    "c": lambda prompt, new, seconds: (prompt + new) / seconds,
    "d": lambda arrivals: arrivals[-1] / len(arrivals),
    "e": generate(min_new_tokens=1),
    "f": lambda slow, fast: 100 * (slow - fast) / fast,
}
FIXED = {
    "a": once(),
    "b": lambda names, k: [name for _ in range(k) for name in names],
    "c": lambda prompt, new, seconds: new / seconds,
    "d": lambda a: (a[-1] - a[0]) / (len(a) - 1),
    "e": generate(min_new_tokens=lambda n: n),
    "f": lambda slow, fast: 100 * (slow - fast) / slow,
}
MUTANTS = {
    "sin calentar": ("07.1", stopwatch(warm=0)),
    "calienta dos veces": ("07.1", stopwatch(warm=2)),
    "cuenta el calentamiento": ("07.1", counts_warm_up),
    "sin esperar al final": ("07.1", stopwatch(after=False)),
    "sin esperar nunca": ("07.1", stopwatch(before=False, after=False)),
    "sin esperar antes": ("07.1", stopwatch(before=False)),
    "espera antes de calentar": ("07.1", waits_once),
    "media": ("07.1", stopwatch(summary=statistics.mean)),
    "mínimo": ("07.1", stopwatch(summary=min)),
    "máximo": ("07.1", stopwatch(summary=max)),
    "mediana baja": ("07.1", stopwatch(summary=statistics.median_low)),
    "suma": ("07.1", stopwatch(summary=sum)),
    "lista": ("07.1", stopwatch(summary=list)),
    "una de menos": ("07.1", stopwatch(more=-1, summary=lambda t: t and 2.0)),
    "todo de una vez": ("07.1", as_a_block),
    "otro reloj": ("07.1", own_clock),
    "media recortada": ("07.1", stopwatch(summary=trimmed)),
    "la de en medio": ("07.1", stopwatch(summary=lambda t: t[len(t) // 2])),
    "mediana alta": ("07.1", stopwatch(summary=statistics.median_high)),
    "negativa": ("07.1", lambda *a: -stopwatch()(*a)),
    "no termina": ("07.2", never_ends),
    "no termina tampoco": ("07.2", never_ends_either),
    "con next": ("07.2", by_next),
    "sin yield": ("07.2", printed),
    "reinicia": ("07.2", restarted),
    "reloj fijo": ("07.2", fixed_start),
    "cambia el modelo": ("07.5", halves_the_model),
    "media caché": ("07.5", other_cache_type),
    "sin cabeza": ("07.5", no_head),
    "a sumar cuatro": (
        "07.6",
        "a",
        lambda run, wait, clock: once(wait_after=False)(run, wait, clock) + 4,
    ),
    "b barajado": ("07.6", "b", shuffled),
    "d medio rango": (
        "07.6",
        "d",
        lambda a: (
            (
                max(y - x for x, y in zip(a, a[1:]))
                + min(y - x for x, y in zip(a, a[1:]))
            )
            / 2
        ),
    ),
    "e relleno detrás": ("07.6", "e", right_padded(0)),
    "e repite": ("07.6", "e", repeated),
    "e haz": (
        "07.6",
        "e",
        generate(min_new_tokens=lambda n: n, repetition_penalty=1.5),
    ),
    "e fijo": ("07.6", "e", generate(min_new_tokens=12)),
    "junta todo": ("07.2", all_at_once),
    "una lista": ("07.2", a_list),
    "la de cada paso": ("07.2", each_step),
    "sin el prefill": ("07.2", speed(start="after")),
    "al revés": ("07.2", speed(flip=True)),
    "uno menos": ("07.2", speed(count=lambda k: k - 1)),
    "uno más": ("07.2", speed(count=lambda k: k + 1)),
    "solo la velocidad": ("07.2", speed(only=True)),
    "va uno tarde": ("07.2", one_late),
    "pierde el último": ("07.2", loses_last),
    "no da el paso": ("07.2", not_the_step),
    "razón invertida": ("07.3", lambda *a: 1 / gain(*a)),
    "sin prefill": (
        "07.3",
        gains(whole, lambda P, n, f, g: sum(g(P + i) for i in range(n))),
    ),
    "prefill de más": (
        "07.3",
        gains(whole, lambda P, n, f, g: cached_right(P, n, f, g) + g(P)),
    ),
    "solo decode": (
        "07.3",
        gains(
            whole,
            lambda P, n, f, g: sum(g(P + i) for i in range(1, n)) or 1e-9,
        ),
    ),
    "último paso": (
        "07.3",
        lambda P, n, f, g: f(P + n - 1) / g(P + n - 1),
    ),
    "media de razones": (
        "07.3",
        lambda P, n, f, g: (
            (1 + sum(f(P + i) / g(P + i) for i in range(1, n))) / n
        ),
    ),
    "longitud fija": (
        "07.3",
        gains(lambda P, n, f: n * f(P), cached_right),
    ),
    "desde uno": (
        "07.3",
        gains(lambda P, n, f: whole(P + 1, n, f), cached_right),
    ),
    "un token de más": (
        "07.3",
        gains(lambda P, n, f: whole(P, n + 1, f), cached_right),
    ),
    "desfase en la caché": (
        "07.3",
        gains(
            whole,
            lambda P, n, f, g: f(P) + sum(g(P + i) for i in range(n - 1)),
        ),
    ),
    "tokens, no segundos": (
        "07.3",
        lambda P, n, f, g: sum(range(P, P + n)) / (P + n - 1),
    ),
    "recta": ("07.4", lambda a, s, b, t, n: t + (t - s) / (b - a) * (n - b)),
    "regla de tres": ("07.4", lambda a, s, b, t, n: t * n / b),
    "regla de tres del primero": ("07.4", lambda a, s, b, t, n: s * n / a),
    "solo cuadrado": ("07.4", lambda a, s, b, t, n: t * (n / b) ** 2),
    "potencia": ("07.4", power_law),
    "constante y cuadrado": ("07.4", constant_and_square),
    "cubo": ("07.4", cubic),
    "por token": ("07.4", lambda *a: predict(*a) / a[-1]),
    "lo que falta": ("07.4", lambda *a: predict(*a) - a[3]),
    "del revés": ("07.4", lambda a, s, b, t, n: predict(a, t, b, s, n)),
    "tabla contada": ("07.5", all_weights),
    "tabla nunca": ("07.5", never_the_table),
    "sin caché": ("07.5", lambda m, c, b: floor(m, 0, b)),
    "cuatro bytes": (
        "07.5",
        lambda m, c, b: floor(m, c, b) * 4 / m.dtype.itemsize,
    ),
    "números": ("07.5", lambda m, c, b: floor(m, c, b) / m.dtype.itemsize),
    "bits": ("07.5", lambda m, c, b: 8 * floor(m, c, b)),
    "milisegundos": ("07.5", lambda m, c, b: 1e3 * floor(m, c, b)),
    "gibibytes": ("07.5", lambda m, c, b: floor(m, c, b) * 1e9 / 2**30),
    "sin los mil millones": ("07.5", lambda m, c, b: 1e9 * floor(m, c, b)),
    "inversa": ("07.5", lambda m, c, b: 1 / floor(m, c, b)),
    "por el contexto": (
        "07.5",
        lambda m, c, b: floor(m, 0, b) * max(1, c),
    ),
    **{f"{letter} bug": ("07.6", letter, BUGS[letter]) for letter in BUGS},
    "a sin esperar antes": ("07.6", "a", once(wait_before=False)),
    "a dos veces": ("07.6", "a", once(runs=2)),
    "a fijo": ("07.6", "a", lambda run, wait, clock: 4.25),
    "b una vez": ("07.6", "b", lambda names, k: names),
    "b invertido": (
        "07.6",
        "b",
        lambda names, k: [n for n in names[::-1] for _ in range(k)],
    ),
    "c solo el prompt": ("07.6", "c", lambda p, n, s: p / s),
    "c segundos": ("07.6", "c", lambda p, n, s: s / n),
    "c uno menos": ("07.6", "c", lambda p, n, s: (n - 1) / s),
    "d entre n": ("07.6", "d", lambda a: (a[-1] - a[0]) / len(a)),
    "d menos uno": ("07.6", "d", lambda a: a[-1] / (len(a) - 1)),
    "d el primero": ("07.6", "d", lambda a: a[0]),
    "e más largo": ("07.6", "e", generate(max_new_tokens=lambda n: 3 * n)),
    "e muestreo": (
        "07.6",
        "e",
        generate(min_new_tokens=lambda n: n, do_sample=True),
    ),
    "e relleno": ("07.6", "e", padded),
    "e solo lo nuevo": (
        "07.6",
        "e",
        lambda m, i, n: FIXED["e"](m, i, n)[:, i.shape[1] :],
    ),
    "f de más": ("07.6", "f", lambda a, b: 100 * a / b),
    "f fracción": ("07.6", "f", lambda a, b: (a - b) / a),
    "f lo que queda": ("07.6", "f", lambda a, b: 100 * b / a),
}


@pytest.mark.parametrize("number", CORRECT)
def test_correct_answer_is_accepted(number):
    accepted(number, *CORRECT[number])


@pytest.mark.parametrize("letter", FIXED)
def test_each_hunt_can_be_won(letter):
    accepted("07.6", letter, FIXED[letter])


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected_with_a_hint(name):
    number, *answers = MUTANTS[name]
    rejected(name, number, *answers)


@pytest.mark.parametrize(
    "name, words",
    [
        ("sin calentar", "calentamiento"),
        ("cuenta el calentamiento", "colado"),
        ("sin esperar al final", "quién espera"),
        ("sin esperar nunca", "encargar"),
        ("media", "media"),
        ("mediana baja", "centrales"),
        ("todo de una vez", "media"),
        ("otro reloj", "clock()"),
        ("mediana alta", "centrales"),
        ("no termina", "no termina nunca"),
        ("con next", "con un for"),
        ("sin yield", "yield"),
        ("reinicia", "no lo reinicies"),
        ("media caché", "K y V"),
        ("sin cabeza", "los logits"),
        ("junta todo", "ya has pedido"),
        ("una lista", "generador"),
        ("la de cada paso", "de este paso"),
        ("sin el prefill", "prefill"),
        ("razón invertida", "al revés"),
        ("sin prefill", "prefill"),
        ("último paso", "último paso"),
        ("recta", "recta"),
        ("regla de tres", "regla de tres"),
        ("tabla contada", "una fila"),
        ("tabla nunca", "también la de salida"),
        ("sin caché", "la caché"),
        ("cuatro bytes", "no 4"),
        ("bits", "bits"),
        ("a bug", "encargarlo"),
        ("b bug", "quién lo paga"),
        ("c bug", "escrito"),
        ("d bug", "prefill"),
        ("e bug", "mínimo"),
        ("f bug", "100 %"),
    ],
)
def test_hint_names_the_mechanism(name, words):
    number, *answers = MUTANTS[name]
    assert words in check(number, *answers).message


def test_every_check_has_mutants():
    flat = {name: (m[0], m[-1]) for name, m in MUTANTS.items()}
    enough_mutants(flat, CORRECT)
    assert {m[1] for m in MUTANTS.values() if m[0] == "07.6"} >= set(BUGS)


def test_other_right_answers_are_accepted():
    accepted("07.6", "e", forced)
    accepted(
        "07.6",
        "d",
        lambda a: statistics.median(y - x for x, y in zip(a, a[1:])),
    )
    accepted("07.5", lambda *a: torch.tensor(floor(*a)))
    accepted("07.5", lambda *a: np.array([floor(*a)]))
    accepted("07.6", "f", lambda a, b: round(100 * (a - b) / a))
    accepted("07.2", lambda steps, clock: iter(speed()(steps, clock)))

    def vectors(P, n, plain, cached):
        L = P + np.arange(n)
        return plain(L).sum() / (plain(P) + cached(L[1:]).sum())

    accepted("07.3", vectors)

    def warms_and_waits(run, wait, clock, repeats):
        run()
        wait()
        return stopwatch(warm=0)(run, wait, clock, repeats)

    accepted("07.1", warms_and_waits)


def test_untouched_answers_are_pending():
    for number in ("07.1", "07.2", "07.3", "07.4", "07.5"):
        assert check(number, lambda *_: ...).ok is None


def test_fake_gpu_only_works_when_waited_for():
    gpu = FakeGPU([2.0])
    gpu.wait()
    start = gpu.clock()
    gpu.run()
    assert gpu.clock() - start == gpu.launch
    gpu.wait()
    assert gpu.clock() - start == gpu.launch + 2
