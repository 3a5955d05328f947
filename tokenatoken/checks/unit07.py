"""Corrección del laboratorio 07 · Con y sin caché: cronometrar.

Los tiempos que se juzgan no salen de este equipo: los da `FakeGPU`, un
dispositivo de mentira con su propio reloj, o la aritmética. El 07.2, además,
cuenta lo que sale con el reloj de verdad.
"""

import statistics
import time
from copy import deepcopy
from itertools import accumulate, pairwise

import numpy as np
import torch

from ..cache import kv_cache_bytes
from ..measure import bytes_per_token
from .bench import FakeGPU, random_model, tiny_config, tiny_model
from .kit import (
    ASSERTS,
    Part,
    call,
    exercise,
    expect,
    jury,
    number,
    plain,
    put_to_test,
    returning,
    say,
    second_answer,
)

MEAN, MEDIAN = statistics.mean, statistics.median


# 07.1


def stopwatch(warm=1, before=True, after=True, summary=MEDIAN, more=0):
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


def _waits_once(run, wait, clock, repeats):
    wait()
    return stopwatch(before=False)(run, wait, clock, repeats)


def _block(run, wait, clock, repeats):
    run()
    wait()
    start = clock()
    for _ in range(repeats):
        run()
    wait()
    return (clock() - start) / repeats


def _late_start(run, wait, clock, repeats):
    run()
    times = []
    for _ in range(repeats):
        wait()
        run()
        start = clock()
        wait()
        times.append(clock() - start)
    return MEDIAN(times)


def _warms_and_waits(run, wait, clock, repeats):
    run()
    wait()
    return stopwatch(warm=0)(run, wait, clock, repeats)


def _own_clock(run, wait, clock, repeats):
    return stopwatch()(run, wait, time.perf_counter, repeats)


GOOD = {
    "espera antes y después": stopwatch(),
    "calienta, espera y luego mide": _warms_and_waits,
    "usa numpy": stopwatch(summary=lambda times: float(np.median(times))),
}
BAD = {
    "no espera a que acabe": (
        "run() vuelve antes de que acabe el trabajo: que tu prueba sepa cuánto "
        "dura y lo compare.",
        stopwatch(after=False),
    ),
    "cuenta lo que ya estaba encargado": (
        "Este dispositivo ya tenía trabajo al empezar. ¿Cuánto tendría que "
        "salir si ese no cuenta?",
        stopwatch(before=False),
    ),
    "da la media": (
        "Con trabajos que duran todos lo mismo, media y mediana no se "
        "distinguen: pon uno raro.",
        stopwatch(summary=MEAN),
    ),
    "da el mínimo": (
        "Con tus duraciones, el mínimo y la mediana coinciden: que sean "
        "distintas.",
        stopwatch(summary=min),
    ),
    "da la de en medio sin ordenar": (
        "Tus duraciones vienen ordenadas, o la central ya está en medio: "
        "desordénalas.",
        stopwatch(summary=lambda times: times[len(times) // 2]),
    ),
    "con un número par se queda con la central de abajo": (
        "Prueba también con un número par de repeticiones: la mediana es la "
        "media de las dos centrales.",
        stopwatch(summary=statistics.median_low),
    ),
    "no calienta": (
        "Cuenta cuántas veces llama a run(): una más que las que se miden. Lo "
        "sabe `gpu.runs`.",
        stopwatch(warm=0),
    ),
    "mide también el calentamiento": (
        "La primera ejecución suele ser la más lenta: que en tu prueba lo sea, "
        "y mucho.",
        stopwatch(warm=0, more=1),
    ),
    "arranca el reloj después de encargar": (
        "Encargar también cuesta (`FakeGPU.launch`): tu prueba lo deja pasar.",
        _late_start,
    ),
    "mira el reloj del equipo": (
        "Este da los segundos de otro reloj. ¿Tu prueba mira el valor, o solo "
        "que sea un número?",
        _own_clock,
    ),
    "divide el total entre las vueltas": (
        "Eso es una media, de todas juntas: un trabajo raro la delata.",
        _block,
    ),
}
ANY_GOOD = (
    "Vale cualquier cronómetro que caliente una vez, espere antes y después y "
    "dé la mediana."
)
JUDGED = GOOD | {name: bad for name, (_, bad) in BAD.items()}


WORDS = ("Rechaza uno bueno, que", "Deja pasar uno que")


def _judged(answer, name: str) -> str:
    def median_seconds(run, wait, clock, repeats):
        return JUDGED[name](run, wait, clock, repeats)

    return put_to_test(answer, median_seconds)


JOBS = [32.0, 2.5, 16.0, 4.0, 1.5, 2.0, 8.0]


def _test(cases=((JOBS, 5), (JOBS, 4)), near=1e-9, runs=True, launch=True):
    """Una respuesta de 07.1; sus opciones la hacen ciega."""

    def test_stopwatch(median_seconds):
        for jobs, repeats in cases:
            gpu = FakeGPU(jobs)
            ours = median_seconds(gpu.run, gpu.wait, gpu.clock, repeats)
            right = MEDIAN(jobs[1 : repeats + 1]) + launch * FakeGPU.launch
            assert abs(ours - right) <= near
            assert gpu.runs == repeats + 1 or not runs

    return test_stopwatch


def _odd_and_even(median_seconds):
    for repeats, right in ((3, 4.25), (4, 3.25)):
        gpu = FakeGPU([90, 4, 1, 30, 2.0])
        assert median_seconds(gpu.run, gpu.wait, gpu.clock, repeats) == right
        assert gpu.runs == 1 + repeats


exercise(
    "07.1",
    Part(
        [()],
        **jury(GOOD, BAD, ANY_GOOD, _judged, WORDS),
        traps={
            BAD["no espera a que acabe"][0]: [
                _test(near=1e9),
                _test(near=100.0),
            ],
            BAD["da la media"][0]: [
                _test((([4.0] * 8, 5), ([4.0] * 8, 4))),
            ],
            BAD["da el mínimo"][0]: _test((([9.0, 2, 2, 2, 20, 7], 5),)),
            BAD["da la de en medio sin ordenar"][0]: _test(
                (([32.0, 9.0, 1.0, 3.0, 2.0, 30.0], 5),)
            ),
            BAD["con un número par se queda con la central de abajo"][0]: (
                _test(((JOBS, 5), (JOBS, 3)))
            ),
            BAD["no calienta"][0]: _test(
                (
                    ([4.0, 1.0, 9.0, 4.0, 4.0, 30.0, 2], 5),
                    ([9, 4, 2, 5, 90], 4),
                ),
                runs=False,
            ),
            ANY_GOOD: [_test(launch=False), _test(near=-1)],
            ASSERTS: returning(_test()),
        },
        rights=[_test(), _odd_and_even],
    ),
    success="¡Correcto! Tu prueba acepta tres cronómetros y caza once.",
)


# 07.2


class _Race:
    """Dos tareas de mentira que adelantan el reloj y apuntan quién corre."""

    times = {"a": [50.0, 2, 3, 5, 2, 4, 9], "b": [50.0, 4, 3.5, 6, 1, 9, 1]}

    def __init__(self):
        self.log, self.now = [], 100.0

    def run(self, name: str):
        def task():
            past = self.log.count(name)
            self.log.append(name)
            self.now += self.times[name][min(past, 6)]

        return task

    def clock(self) -> float:
        return self.now


def compare(a, b, repeats, clock, warm=True, first=None, pair=None):
    """La respuesta de 07.2; sus opciones la estropean."""
    for task in (a, b) if warm else ():
        task()
    pairs = []
    for turn in range(repeats):
        order = [(0, a), (1, b)]
        seconds = [0.0, 0.0]
        for i, task in (
            order[::-1] if (first or (lambda t: t % 2))(turn) else order
        ):
            start = clock()
            task()
            seconds[i] = clock() - start
        pairs.append((pair or tuple)(seconds))
    return pairs


def _in_blocks(a, b, repeats, clock):
    a(), b()
    times = []
    for task in (a, b):
        times.append([])
        for _ in range(repeats):
            start = clock()
            task()
            times[-1].append(clock() - start)
    return [*zip(*times)]


def _from_the_start(a, b, repeats, clock):
    """Una sola hora de salida por vuelta: la segunda carga con la primera."""
    a(), b()
    pairs = []
    for turn in range(repeats):
        start, seconds = clock(), {}
        for name, task in [("a", a), ("b", b)][:: -1 if turn % 2 else 1]:
            task()
            seconds[name] = clock() - start
        pairs.append((seconds["a"], seconds["b"]))
    return pairs


PAIRS = "Hacen falta todas las vueltas: una lista de parejas (segundos de a, de b)."
SWAPPED = "Las parejas están al revés: primero los segundos de a, siempre."
WARM = "La primera vez siempre es más lenta: una de cada, fuera del reloj."
MANY = "Son una de calentamiento y `repeats` medidas de cada una, ni más ni menos."
BLOCKS = "Primero todo a y luego todo b: si el equipo se calienta, lo paga b."
ALWAYS = (
    "Siempre va primero la misma, y quien va detrás se encuentra la memoria "
    "como la otra la dejó: una vuelta cada una."
)
EACH = "Cada tarea, con su propia salida: la segunda carga con la primera."


def _ran(answer) -> None:
    """Cómo corre las tareas, con el reloj de mentira."""
    race = _Race()
    value = call(answer, race.run("a"), race.run("b"), 5, race.clock)
    log = "".join(race.log)
    said = f"El orden ha sido {' '.join(log)}. "
    expect(len(log) != 10, said + WARM)
    expect(len(log) == 12 and log.count("a") == 6, said + MANY)
    turns = [log[i : i + 2] for i in range(2, 12, 2)]
    expect(all(len(set(turn)) == 2 for turn in turns), said + BLOCKS)
    expect(len(set(turns)) == 2 and "abab" not in log[2:], said + ALWAYS)
    _pairs_of(value)


def _pairs_of(value) -> None:
    value = plain(value)
    expect(isinstance(value, list | tuple) and len(value) == 5, PAIRS)
    for i, pair in enumerate(value, 1):
        expect(isinstance(pair, list | tuple) and len(pair) == 2, PAIRS)
        ours = [number(x, "Los segundos") for x in pair]
        right = [_Race.times[name][i] for name in "ab"]
        told = say("En la vuelta {0} das {1} y fue {2}. ", i, ours, right)
        expect(ours != right[::-1], told + SWAPPED)
        expect(ours == right, told + EACH)


def verdict(pairs):
    faster = [a < b for a, b in pairs]
    if all(faster):
        return "a"
    return "no se distingue" if any(a <= b for a, b in pairs) else "b"


def _by(summary):
    """Un veredicto que mira un resumen, y no todas las vueltas."""

    def judge(pairs):
        a, b = (summary([pair[i] for pair in pairs]) for i in (0, 1))
        return "no se distingue" if a == b else "a" if a < b else "b"

    return judge


VERDICTS = Part(
    [
        ([(1.0, 2.0), (1.1, 1.9), (1.0, 1.2)],),
        ([(2.0, 1.0), (1.9, 1.1), (1.2, 1.0)],),
        ([(1.0, 2.0), (1.0, 2.0), (1.0, 2.0), (3.0, 2.0), (1.0, 2.0)],),
        ([(2.0, 1.0), (2.0, 1.0), (2.0, 1.0), (2.0, 3.0), (2.0, 1.0)],),
        ([(1.0, 1.0), (1.0, 2.0)],),
        ([(1.0, 1.1), (5.0, 5.1), (0.5, 0.6)],),
        ([(2.0, 1.0), (1.0, 1.0)],),
    ],
    truth=verdict,
    said="Con las parejas {0} dices «{ours}» y es «{right}».",
    otherwise="Gana quien tardó menos en todas las vueltas; si no la hay, «no "
    "se distingue».",
    traps={
        "Miras un resumen, y ahí se esconde la vuelta que lo contradice: tiene "
        "que ganar en todas.": [_by(MEDIAN), _by(MEAN), _by(sum)],
        "Está al revés: gana quien tarda menos.": (
            lambda pairs: {"a": "b", "b": "a"}.get(
                verdict(pairs), verdict(pairs)
            )
        ),
        "Comparas el peor de una con el mejor de la otra, de vueltas distintas: "
        "se compara dentro de cada vuelta.": (
            lambda pairs: (
                "a"
                if max(a for a, _ in pairs) < min(b for _, b in pairs)
                else "b"
                if max(b for _, b in pairs) < min(a for a, _ in pairs)
                else "no se distingue"
            )
        ),
        "Un empate no es ganar: con una vuelta igual ya no se distingue.": (
            lambda pairs: (
                "a"
                if all(a <= b for a, b in pairs)
                else "b"
                if all(b <= a for a, b in pairs)
                else "no se distingue"
            )
        ),
    },
)


def _real(compare, verdict) -> None:
    """Lo que sale en este equipo: se cuenta, y no se juzga."""
    small, big = (torch.rand(n, n) for n in (64, 512))

    def multiply(matrix):
        return lambda: matrix @ matrix

    runs = {
        "lo mismo contra lo mismo": (multiply(small), multiply(small)),
        "64 × 64 contra 512 × 512": (multiply(small), multiply(big)),
    }
    for name, tasks in runs.items():
        pairs = call(lambda pair=tasks: compare(*pair, 5, time.perf_counter))
        print(f"En este equipo, {name}: {verdict(pairs)}")
        expect(all(x > 0 for pair in pairs for x in pair), EACH)


@exercise(
    "07.2",
    success="¡Correcto! Y arriba, lo que sale con el reloj de verdad.",
    traps={
        hint: [(wrong, verdict) for wrong in several]
        for hint, several in {
            WARM: [lambda *x: compare(*x, warm=False)],
            MANY: [
                lambda a, b, n, clock: compare(a, b, n + 1, clock)[1:],
                lambda a, b, n, clock: compare(a, b, n + 2, clock)[:5],
            ],
            BLOCKS: [_in_blocks],
            ALWAYS: [
                lambda *x: compare(*x, first=lambda t: False),
                lambda *x: compare(*x, first=lambda t: True),
            ],
            EACH: [_from_the_start],
            SWAPPED: [lambda *x: compare(*x, pair=lambda s: tuple(s[::-1]))],
            PAIRS: [
                lambda *x: tuple(map(MEDIAN, zip(*compare(*x)))),
                lambda *x: [a / b for a, b in compare(*x)],
            ],
        }.items()
    }
    | {
        hint: [
            (compare, wrong)
            for wrong in (several if isinstance(several, list) else [several])
        ]
        for hint, several in VERDICTS.traps.items()
    },
    rights=[
        (compare, verdict),
        (
            lambda *x: [list(pair) for pair in compare(*x)],
            lambda pairs: (
                "a"
                if max(a / b for a, b in pairs) < 1
                else "b"
                if min(a / b for a, b in pairs) > 1
                else "no se distingue"
            ),
        ),
        (
            lambda *x: np.array(compare(*x, first=lambda t: t % 2 == 0)),
            verdict,
        ),
    ],
)
def duel(compare, verdict):
    """`compare(a, b, repeats, clock)` y `verdict(parejas)`."""
    _ran(compare)
    second_answer(verdict, VERDICTS)
    _real(compare, verdict)


# 07.3


def gain(P, n, plain, cached):
    """Cuántas veces más rápido es con caché."""
    return _without(P, n, plain) / _with_cache(P, n, plain, cached)


def _without(P, n, plain):
    return sum(plain(P + i) for i in range(n))


def _with_cache(P, n, plain, cached):
    return plain(P) + sum(cached(P + i) for i in range(1, n))


def _ratio(without=None, later=None):
    """`gain` con otra cuenta de lo de arriba o de lo de abajo."""

    def speedup(P, n, plain, cached):
        above = (without or _without)(P, n, plain)
        return above / (later or _with_cache)(P, n, plain, cached)

    return speedup


_CURVES = (
    (lambda L: 2.0 + 0.5 * L, lambda L: 3.0 + 0.01 * L),
    (lambda L: 1.0 + 0.1 * L + 0.002 * L * L, lambda L: 2.0 + 0.1 * L),
    # GPU: plana hasta el codo, y luego proporcional
    (lambda L: np.maximum(3.0, L / 64), lambda L: 3.0 + L / 1000),
)
MOST = 300  # tokens nuevos, como mucho


def first_n(P, times, plain, cached, by=gain, reaches=float.__ge__):
    """El primer n que llega a `times` veces, o None."""
    for n in range(1, MOST + 1):
        if reaches(float(by(P, n, plain, cached)), float(times)):
            return n
    return 0


def _first(by):
    return lambda *case: first_n(*case, by=by)


def _running(P, times, plain, cached):
    """Con las sumas acumuladas: un solo recorrido."""
    L = P + np.arange(MOST)
    slow = np.cumsum([plain(x) for x in L])
    fast = np.cumsum([plain(P), *(cached(x) for x in L[1:])])
    hits = np.flatnonzero(slow / fast >= times)
    return int(hits[0]) + 1 if len(hits) else 0


exercise(
    "07.3",
    Part(
        [
            (P, times, *pair)
            for pair in _CURVES
            for P, times in ((55, 3), (55, 1.05), (7, 1.5), (300, 4), (16, 90))
        ],
        truth=first_n,
        what="El número de tokens",
        said="Con un prompt de {0}, para ganar {1} veces te salen {ours} "
        "tokens y son {right}.",
        traps={
            "Con caché, el primer paso también es un prefill: pasa todo el "
            "prompt.": _first(
                _ratio(
                    later=lambda P, n, f, g: sum(g(P + i) for i in range(n))
                )
            ),
            "Cuentas un paso de más con caché: el prefill ya da el primer "
            "token.": _first(
                _ratio(later=lambda P, n, f, g: _with_cache(P, n, f, g) + g(P))
            ),
            "Los pasos con caché van uno corridos: L cuenta también el token "
            "que acaba de entrar.": _first(
                _ratio(
                    later=lambda P, n, f, g: (
                        f(P) + sum(g(P + i) for i in range(n - 1))
                    )
                )
            ),
            "Falta el prefill en el total con caché.": _first(
                _ratio(
                    later=lambda P, n, f, g: (
                        _with_cache(P, n, f, g) - f(P) or 1e9
                    )
                )
            ),
            "Eso es lo que gana el último paso, y se pide el total.": _first(
                lambda P, n, f, g: f(P + n - 1) / g(P + n - 1)
            ),
            "Es la media de lo que gana cada paso; se piden los totales.": (
                _first(
                    lambda P, n, f, g: (
                        (1 + sum(f(P + i) / g(P + i) for i in range(1, n))) / n
                    )
                )
            ),
            "Sin caché, cada paso pasa un token más que el anterior: no son n "
            "pasos iguales.": _first(_ratio(lambda P, n, f: n * f(P))),
            "Eso son tokens procesados, y se piden segundos: las curvas dicen "
            "cuánto tarda cada paso.": _first(
                lambda P, n, f, g: sum(range(P, P + n)) / (P + n - 1)
            ),
            "Cuentas desde 0: con n tokens, el primero es n = 1.": (
                lambda *case: max(0, first_n(*case) - 1)
            ),
            "Es el último que aún no llega; se pide el primero que llega.": (
                lambda *case: (first_n(*case) or MOST + 1) - 1
            ),
            "Si no llega en 300 tokens, la respuesta es 0: nunca.": (
                lambda *case: first_n(*case) or MOST
            ),
        },
        otherwise="Escribe las dos sumas para n = 1, 2 y 3, y mira cuándo la "
        "razón pasa de lo que se pide.",
        rights=[first_n, _running],
    ),
    success="¡Correcto! Y hay «×N» que no llegan nunca.",
)


# 07.4


def forecast(n1, t1, n2, t2, n):
    """Segundos de n tokens, con a·n + b·n²."""
    b = (t2 / n2 - t1 / n1) / (n2 - n1)
    return (t1 / n1 - b * n1) * n + b * n * n


def _by_matrix(n1, t1, n2, t2, n):
    A = np.array([[n1, n1**2], [n2, n2**2]], dtype=float)
    return np.linalg.solve(A, [t1, t2]) @ [n, n**2]


def _two_measures():
    for a, b in ((0.2, 0.004), (1.5, 0.0), (0.01, 0.5)):
        for n1, n2, n in ((32, 64, 256), (10, 40, 90), (64, 32, 128)):
            yield n1, a * n1 + b * n1**2, n2, a * n2 + b * n2**2, n


_forecasts = Part(
    _two_measures,
    truth=forecast,
    near=1e-3,
    what="La predicción",
    said="Con {0} tokens en {1:.1f} s y {2} en {3:.1f} s, para {4} predices "
    "{ours:.1f} s y son {right:.1f}.",
    traps={
        "Es una recta, y sin caché cada token cuesta más que el anterior.": (
            lambda a, s, b, t, n: t + (t - s) / (b - a) * (n - b)
        ),
        "Eso es una regla de tres: sin caché, el doble de tokens es más del "
        "doble.": [
            lambda a, s, b, t, n: t * n / b,
            lambda a, s, b, t, n: s * n / a,
        ],
        "Eso es solo el cuadrado: también hay una parte que crece en línea "
        "recta.": [
            lambda a, s, b, t, n: t * (n / b) ** 2,
            lambda a, s, b, t, n: s * (n / a) ** 2,
        ],
        "Ajustas una potencia, y el total es una suma: a·n + b·n².": (
            lambda a, s, b, t, n: (
                t * (n / b) ** (np.log(t / s) / np.log(b / a))
            )
        ),
        "Pones una constante en vez de a·n: con 0 tokens se tarda 0.": (
            lambda a, s, b, t, n: s + (t - s) / (b**2 - a**2) * (n**2 - a**2)
        ),
        "Eso es lo que falta desde la segunda medida; se pide el total.": (
            lambda a, s, b, t, n: forecast(a, s, b, t, n) - t
        ),
        "Eso es por token: multiplica por n.": (
            lambda *case: forecast(*case) / case[-1]
        ),
        "Has cruzado los tiempos: t1 va con n1.": (
            lambda a, s, b, t, n: forecast(a, t, b, s, n)
        ),
    },
    otherwise="Dos medidas, dos incógnitas: a y b en a·n + b·n².",
    rights=[forecast, _by_matrix],
)


@exercise(
    "07.4",
    success="¡Correcto! Y acierta con una medición de verdad.",
    traps=_forecasts.traps,
    rights=_forecasts.rights,
)
def prediction(predict):
    """`predict(n1, t1, n2, t2, n) -> segundos` sin caché."""
    _forecasts.grade(predict)
    times = _real_times()
    ours = call(predict, 32, times[31], 64, times[63], 100)
    expect(
        abs(ours - times[99]) < 0.25 * times[99],
        say(
            "En una medición de verdad predices {0:.1f} s y fueron {1:.1f}.",
            float(ours),
            times[99],
        ),
    )


def _real_times() -> list[float]:
    """Segundos de 1, 2… 100 tokens sin caché, en la muestra del curso."""
    from ..measurements import SAMPLES, load_measurement

    results = load_measurement(SAMPLES / "float32.json")["results"]
    run = next(
        r for r in results if r.variant == "sin caché" and r.new_tokens == 100
    )
    steps = [MEDIAN(row) for row in zip(*run.step_seconds)]  # [99]
    return list(accumulate([MEDIAN(run.ttft), *steps]))


# 07.5


def floor(model, context, band):
    """Segundos de un token con caché, como mínimo."""
    return bytes_per_token(model, context) / (band * 1e9)


def _table(model) -> int:
    weight = model.get_input_embeddings().weight
    return weight.numel() * weight.element_size()


def _head(model) -> int:
    weight = model.get_output_embeddings().weight
    return weight.numel() * weight.element_size()


def _all_weights(model, context, band):
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    total += kv_cache_bytes(model.config, context, 1, model.dtype)
    return total / (band * 1e9)


def _less(what, only=None):
    """`floor` sin esos bytes; `only`: si la tabla tiene que ser una sola."""

    def wrong(model, context, band):
        tied = model.config.tie_word_embeddings
        skip = only is not None and tied is not only
        return floor(model, context, band) - (
            0 if skip else what(model, context) / (band * 1e9)
        )

    return wrong


def _by_hand(model, context, band):
    table = model.get_input_embeddings().weight
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    if model.get_output_embeddings().weight is not table:
        total -= table.numel() * table.element_size()
    c = model.config
    size = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim
    return (total + size * context * model.dtype.itemsize) / band / 1e9


def _models():
    for tied, dtype, context, band in (
        (False, torch.float32, 0, 10.0),
        (False, torch.float16, 0, 10.0),
        (True, torch.float32, 0, 2.0),
        (False, torch.float32, 300, 10.0),
        (True, torch.bfloat16, 700, 50.0),
    ):
        changes = dict(tie_word_embeddings=tied, head_dim=4)
        config = tiny_config(vocab_size=400, **changes)
        yield random_model(config, dtype=dtype), context, band


def _kept(model, context) -> int:
    return kv_cache_bytes(model.config, context, 1, model.dtype)


def _said(ours, right, model, context, band) -> str:
    tables = "la misma tabla" if model.config.tie_word_embeddings else "dos"
    return say(
        "Con {0} de embeddings, {1} y {2} tokens de contexto te salen "
        "{3:.3f} µs y son {4:.3f}.",
        tables,
        str(model.dtype).removeprefix("torch."),
        context,
        1e6 * ours,
        1e6 * right,
    )


exercise(
    "07.5",
    Part(
        _models,
        truth=floor,
        near=0.02,
        what="El suelo",
        said=_said,
        traps={
            "La tabla de embeddings de entrada no se lee entera: de ella se "
            "usa una fila por token.": _all_weights,
            "A veces la tabla de entrada es también la de salida, y para dar "
            "los logits hay que leerla entera.": _less(
                lambda m, c: _table(m), only=True
            ),
            "Falta la matriz que da los logits: esa se lee entera en cada "
            "token.": _less(lambda m, c: _head(m)),
            "Falta leer la caché: con contexto, también pesa.": (
                lambda m, c, b: floor(m, 0, b)
            ),
            "De la caché se leen K y V, las dos, y en la precisión del "
            "modelo.": _less(lambda m, c: _kept(m, c) / 2),
            "Los pesos no siempre ocupan 4 bytes cada uno: depende de la "
            "precisión del modelo.": (
                lambda m, c, b: floor(m, c, b) * 4 / m.dtype.itemsize
            ),
            "Los números no siempre ocupan 2 bytes: depende de la precisión "
            "del modelo.": (
                lambda m, c, b: floor(m, c, b) * 2 / m.dtype.itemsize
            ),
            "Eso son números, y la banda se da en bytes.": (
                lambda m, c, b: floor(m, c, b) / m.dtype.itemsize
            ),
            "Eso son bits, y la banda se da en bytes.": (
                lambda m, c, b: 8 * floor(m, c, b)
            ),
            "Eso son milisegundos; se piden segundos.": (
                lambda m, c, b: 1e3 * floor(m, c, b)
            ),
            "Un GB son mil millones de bytes: la banda no está en bytes por "
            "segundo.": lambda m, c, b: 1e9 * floor(m, c, b),
            "Un GB son 10⁹ bytes; 2³⁰ es un GiB.": (
                lambda m, c, b: floor(m, c, b) * 1e9 / 2**30
            ),
            "Está del revés: bytes entre bytes por segundo.": (
                lambda m, c, b: 1 / floor(m, c, b)
            ),
        },
        otherwise="Suma lo que se lee en un paso con caché: cada matriz una "
        "vez, y K y V de lo anterior.",
        rights=[
            floor,
            _by_hand,
            lambda *case: torch.tensor(floor(*case)),
            lambda *case: np.array([floor(*case)]),
        ],
    ),
    success="¡Correcto! Nadie baja de ahí.",
)


# 07.6 a 07.11: las cacerías


def once(wait_after=True, wait_before=True, runs=1, more=0.0):
    """Un cronómetro de una sola vez."""

    def seconds(run, wait, clock):
        if wait_before:
            wait()
        start = clock()
        for _ in range(runs):
            run()
        if wait_after:
            wait()
        return clock() - start + more

    return seconds


def _twice(function, seconds) -> list[float]:
    gpu, times = FakeGPU(seconds), []
    for turn in (1, 2):
        value = call(function, gpu.run, gpu.wait, gpu.clock)
        times.append(number(value, "El tiempo"))
        expect(gpu.runs == turn, "Tiene que llamar a run() una sola vez.")
    return times


def _by_steps(run, wait, clock):
    wait()
    times = [clock()]
    for step in (run, wait):
        step()
        times.append(clock())
    return sum(b - a for a, b in pairwise(times))


def _waits_inside(run, wait, clock):
    start = clock()
    wait()
    run()
    return clock() - start


def _one_wait(run, wait, clock):
    wait()
    start = clock()
    run()
    result = clock() - start
    wait()
    return result


exercise(
    "07.6",
    Part(
        [([4.0, 7.0],), ([2.0, 9.0],)],
        truth=lambda seconds: [s + FakeGPU.launch for s in seconds],
        observe=_twice,
        said=lambda ours, right, seconds: say(
            "Da {0:.2f} y {1:.2f} s, y son {2:.2f} y {3:.2f}.", *ours, *right
        ),
        traps={
            "Es lo que tarda en encargarlo, no en hacerlo. ¿Qué falta antes "
            "de mirar la hora final?": [once(wait_after=False), _one_wait],
            "Cuenta también trabajo que ya estaba encargado antes de "
            "empezar.": once(wait_before=False),
            "Esperas con el reloj en marcha y antes de encargar: mides lo de "
            "otro, y no lo tuyo.": _waits_inside,
            "Sumar segundos a mano solo acierta con este trabajo: ¿quién "
            "espera a que acabe?": once(wait_after=False, more=4.0),
        },
        otherwise="Te dejas fuera algo, quizá lo que cuesta encargarlo.",
        rights=[
            once(),
            _by_steps,
        ],
    ),
    success="¡Cazado!",
)


def _turns(value, names, repeats):
    expect(
        isinstance(value, list),
        f"Una lista con todos los turnos, y es {type(value).__name__}.",
    )
    expect(
        sorted(map(str, value)) == sorted(names * repeats),
        f"Son {len(names) * repeats} turnos: todas las variantes, las mismas "
        "veces.",
    )
    rounds = zip(*[iter(value)] * len(names))
    return [sorted(turn) for turn in rounds]


exercise(
    "07.7",
    Part(
        [(["con", "sin"], 8), (["a", "b", "c"], 6)],
        truth=lambda names, repeats: [sorted(names)] * repeats,
        read=_turns,
        said="No todas las vueltas miden todas las variantes.",
        traps={
            "Si el equipo se calienta a mitad, ¿quién lo paga? Cada vuelta "
            "tiene que medirlas a todas.": [
                lambda names, k: [n for n in names for _ in range(k)],
                lambda names, k: [n for n in names[::-1] for _ in range(k)],
            ],
            "Cada variante va dos veces seguidas: la segunda siempre llega "
            "con el equipo recién usado por ella.": (
                lambda names, k: [
                    n for _ in range(k // 2) for n in names for _ in (0, 1)
                ]
            ),
            "La mitad de cada una por delante tampoco vale: el calor no "
            "espera a que acabes.": (
                lambda names, k: [
                    n for _ in (0, 1) for n in names for _ in range(k // 2)
                ]
            ),
        },
        otherwise="Escribe el orden y córtalo en vueltas: en cada una tienen "
        "que estar todas.",
        rights=[
            lambda names, k: [n for _ in range(k) for n in names],
            lambda names, k: names * k,
            lambda names, k: [
                names[i % len(names)] for i in range(k * len(names))
            ],
            lambda names, k: (names + names[::-1]) * (k // 2),
        ],
    ),
    success="¡Cazado!",
)

exercise(
    "07.8",
    Part(
        [(55, 100, 7.0), (1000, 10, 3.0), (20, 20, 4.0)],
        truth=lambda prompt, new, seconds: new / seconds,
        what="La velocidad",
        said="Con {0} tokens de prompt y {1} nuevos en {2} s presume de "
        "{ours:.1f} tokens/s y son {right:.1f}.",
        traps={
            "¿Cuántos ha «escrito»? Los del prompt ya estaban.": (
                lambda p, n, s: (p + n) / s
            ),
            "Esos son los que ha leído, no los que ha escrito.": (
                lambda p, n, s: p / s
            ),
            "Son segundos por token: dale la vuelta.": lambda p, n, s: s / n,
            "El primer token también se escribe.": lambda p, n, s: (n - 1) / s,
            "Es eso, pero redondeado: devuélvelo sin redondear.": [
                lambda p, n, s: round(n / s, 1),
                lambda p, n, s: round(n / s, 2),
            ],
            "Restas el prompt de lo que ha escrito, y no estaba ahí.": (
                lambda p, n, s: (n - p) / s
            ),
        },
        otherwise="Tokens nuevos entre segundos.",
        rights=[
            lambda p, n, s: n / s,
            lambda p, n, s: 1 / (s / n),
            lambda p, n, s: np.float64(n) / s,
        ],
    ),
    success="¡Cazado!",
)


def _gaps(arrivals) -> list[float]:
    return [b - a for a, b in pairwise(arrivals)]


def _pace(value, arrivals) -> float:
    """La media o la mediana de los huecos valen las dos."""
    ours = number(value, "El TPOT")
    good = MEAN(_gaps(arrivals)), MEDIAN(_gaps(arrivals))
    return good[0] if min(abs(ours - x) for x in good) < 1e-9 else ours


exercise(
    "07.9",
    Part(
        [
            ([9.0, 10.0, 11.0, 12.0],),
            ([3.0, 3.5],),
            ([20, 21, 24, 25.0],),
            ([5.0, 6.0, 10.0, 17.0],),
            ([2.0, 3.0, 4.0, 9.0],),
            ([1.0, 4.0, 5.0, 9.5],),
        ],
        truth=lambda arrivals: MEAN(_gaps(arrivals)),
        read=_pace,
        said="Con llegadas a los {0} s, el TPOT sale {ours:.2f} y es "
        "{right:.2f}.",
        traps={
            "El primero trae consigo el prefill, y eso no es un paso «entre» "
            "tokens.": [
                lambda a: a[-1] / len(a),
                lambda a: a[-1] / (len(a) - 1),
            ],
            "Entre n tokens hay n − 1 pasos.": (
                lambda a: (a[-1] - a[0]) / len(a)
            ),
            "Eso es el TTFT: lo que tarda el primero.": lambda a: a[0],
            "Es el último hueco, y uno solo puede ser raro: cuentan todos.": (
                lambda a: a[-1] - a[-2]
            ),
            "Es el primer hueco, y uno solo puede ser raro: cuentan todos.": (
                lambda a: a[1] - a[0]
            ),
            "Es eso, pero redondeado: devuélvelo sin redondear.": (
                lambda a: round(MEAN(_gaps(a)), 2)
            ),
            "Es el hueco menor, tu mejor día; se pide el de siempre.": (
                lambda a: min(_gaps(a))
            ),
            "Es el hueco mayor; se pide el de siempre.": (
                lambda a: max(_gaps(a))
            ),
            "Es el punto medio entre el hueco mayor y el menor: los demás no "
            "cuentan ahí.": lambda a: (max(_gaps(a)) + min(_gaps(a))) / 2,
        },
        otherwise="¿Cuántos pasos hay entre el primer token y el último, y "
        "cuánto duran juntos?",
        rights=[
            lambda a: (a[-1] - a[0]) / (len(a) - 1),
            lambda a: MEDIAN(_gaps(a)),
            lambda a: float(np.diff(a).mean()),
        ],
    ),
    success="¡Cazado!",
)


def generate(**options):
    """`write`, con esas opciones de `generate` (o funciones de n)."""

    def write(model, ids, n):
        extra = {k: v(n) if callable(v) else v for k, v in options.items()}
        return model.generate(
            ids, **{"do_sample": False, "max_new_tokens": n} | extra
        )

    return write


SHORT = (
    "Se ha topado con el token de fin. ¿Cómo se le pide a generate un mínimo?"
)
LONG = "Son de más: para cronometrar hacen falta justo n."
OTHER = (
    "Ahora escribe otra cosa: tiene que seguir siendo greedy, token a token, "
    "sin relleno."
)
SHAPE = (
    "Tiene que seguir devolviendo los ids, [1, prompt + nuevos], con el "
    "prompt delante."
)


def _padded(model, ids, n):
    out = generate()(model, ids, n)
    return torch.nn.functional.pad(out, (0, ids.shape[1] + n - out.shape[1]))


@exercise(
    "07.10",
    success="¡Cazado!",
    traps={
        SHORT: [generate(min_new_tokens=1), generate()],
        LONG: [
            generate(
                max_new_tokens=lambda n: 3 * n, min_new_tokens=lambda n: 3 * n
            ),
            generate(min_new_tokens=31, max_new_tokens=31),
        ],
        OTHER: [
            _padded,
            generate(min_new_tokens=lambda n: n, repetition_penalty=1.5),
        ],
        SHAPE: lambda model, ids, n: generate(min_new_tokens=n)(model, ids, n)[
            :, ids.shape[1] :
        ],
    },
    rights=[
        generate(min_new_tokens=lambda n: n),
        generate(eos_token_id=-1),
        generate(min_length=lambda n: n + 4),
    ],
)
def exact_length(write):
    """`write(model, ids, n)` da justo n tokens nuevos, greedy."""
    model = deepcopy(tiny_model())  # la otra es de todos
    ids = torch.tensor([[5, 17, 2, 40]])
    free = model.generate(ids, do_sample=False, max_new_tokens=12)
    end = free[0, 5].item()
    model.generation_config.eos_token_id = model.config.eos_token_id = end
    judge = deepcopy(model)
    for n in (12, 5, 30):
        ours = call(write, model, ids, n)
        same = isinstance(ours, torch.Tensor) and ours.dim() == 2
        expect(same and torch.equal(ours[:, :4], ids), SHAPE)
        wrote = ours.shape[1] - 4
        told = f"Pides {n} tokens y escribe {wrote}. "
        expect(wrote >= n, told + SHORT)
        expect(wrote == n, told + LONG)
        expect(_greedy(judge, ours, end), OTHER)


def _greedy(judge, ids, end: int) -> bool:
    """Si cada token es el mejor, o el mejor de los que no son el de fin."""
    with torch.no_grad():
        logits = judge(ids).logits[0, 3:-1]  # [n, V]
    best = logits.argmax(-1)
    logits[:, end] = -torch.inf
    other = logits.argmax(-1)
    return bool(((ids[0, 4:] == best) | (ids[0, 4:] == other)).all())


def _percent(value, slow, fast) -> float:
    """Redondear a enteros vale."""
    ours, right = number(value, "El tanto por ciento"), _saved(slow, fast)
    return right if abs(ours - right) <= 0.5 else ours


def _saved(slow, fast) -> float:
    return 100 * (slow - fast) / slow


exercise(
    "07.11",
    Part(
        [(38.8, 9.53), (10.0, 5.0), (3.0, 2.7), (8.0, 1.0)],
        truth=_saved,
        read=_percent,
        said="De {0} s a {1} s dice un {ours:.0f} % menos y es un "
        "{right:.0f} %.",
        traps={
            "Nadie ahorra más del 100 %: ¿de qué total es ese tanto por "
            "ciento?": lambda slow, fast: 100 * (slow - fast) / fast,
            "Eso es cuántas veces más rápido, en tanto por ciento; se pide "
            "cuánto se ahorra.": lambda slow, fast: 100 * slow / fast,
            "Eso es lo que queda, no lo que se ahorra.": (
                lambda slow, fast: 100 * fast / slow
            ),
            "Es la fracción: pásala a tanto por ciento.": (
                lambda slow, fast: (slow - fast) / slow
            ),
            "Esos son los segundos que se ahorran; se pide qué parte del "
            "total son.": lambda slow, fast: slow - fast,
        },
        otherwise="Lo ahorrado, entre lo que tardaba antes, por cien.",
        rights=[
            _saved,
            lambda slow, fast: round(_saved(slow, fast)),
            lambda slow, fast: 100 - 100 * fast / slow,
        ],
    ),
    success="¡Cazado!",
)
