"""Corrección del laboratorio 07 · Con y sin caché: cronometrar.

Los tiempos no salen de este equipo: los da `FakeGPU`, un dispositivo de
mentira con su propio reloj, o la aritmética.
"""

import statistics
from copy import deepcopy
from itertools import accumulate, pairwise

import numpy as np
import torch

from ..cache import kv_cache_bytes
from ..measure import bytes_per_token
from .bench import FakeGPU, random_model, tiny_config, tiny_model
from .kit import Part, call, exercise, expect, number, say

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


def _timed(median_seconds, seconds, repeats):
    gpu = FakeGPU(seconds)
    ours = call(median_seconds, gpu.run, gpu.wait, gpu.clock, repeats)
    ours = number(ours, "La mediana")
    expect(
        gpu.reads > 0,
        "No has mirado el reloj: usa clock(), el que recibes. El del equipo no "
        "sabe nada de este dispositivo.",
    )
    expect(
        gpu.runs == repeats + 1,
        f"Con repeats={repeats} llamas a run() {gpu.runs} veces y tienen que "
        f"ser {repeats + 1}: una de calentamiento y las que se miden.",
    )
    return ours


exercise(
    "07.1",
    Part(
        [
            ([32.0, 2.5, 16.0, 4.0, 1.5, 2.0, 8.0], 5),
            ([32.0, 4.0, 1.0, 2.0, 16.0, 1.0], 3),
            ([8.0, 3.0, 64.0], 1),
            ([32.0, 1.0, 2.0, 9.0, 3.0, 1.0], 4),
        ],
        truth=lambda seconds, repeats: MEDIAN(
            s + FakeGPU.launch for s in seconds[1 : repeats + 1]
        ),
        observe=_timed,
        said="Te salen {ours:.2f} s y son {right:.2f}.",
        traps={
            "Es lo que cuesta encargar el trabajo, no hacerlo. run() vuelve "
            "antes de que acabe: ¿quién espera?": [
                stopwatch(after=False),
                stopwatch(before=False, after=False),
            ],
            "Cuentas también trabajo que ya estaba encargado: justo antes de "
            "arrancar el reloj, ¿quedaba algo por hacer?": [
                stopwatch(before=False),
                _waits_once,
            ],
            "Eso es la media: un solo valor raro la arrastra. Prueba con 1, "
            "1, 1 y 100.": [stopwatch(summary=MEAN), _block],
            "Eso es el mínimo: tu mejor día.": stopwatch(summary=min),
            "Eso es el máximo, y se pide la de en medio.": stopwatch(
                summary=max
            ),
            "Con un número par, la mediana es la media de las dos centrales.": [
                stopwatch(summary=statistics.median_low),
                stopwatch(summary=statistics.median_high),
            ],
            "Es la de en medio, pero sin haberlas ordenado.": stopwatch(
                summary=lambda times: times[len(times) // 2]
            ),
            "El calentamiento se ha colado entre los medidos.": [
                stopwatch(warm=0, more=1),
                stopwatch(
                    warm=0, more=1, summary=lambda times: MEDIAN(times[:-1])
                ),
            ],
            "Arrancas el reloj después de encargar: eso también se espera.": (
                _late_start
            ),
            "Son milisegundos, y se piden segundos.": stopwatch(
                summary=lambda times: 1e3 * MEDIAN(times)
            ),
            "Es la suma de todas, y se pide lo que dura una.": stopwatch(
                summary=sum
            ),
        },
        otherwise="Justo antes de mirar la hora, al empezar y al acabar, "
        "¿queda algo encargado? Haz la cuenta con FakeGPU y un papel.",
        rights=[
            stopwatch(),
            _warms_and_waits,
            stopwatch(summary=lambda times: float(np.median(times))),
        ],
    ),
    success="¡Correcto! Ni el arranque ni la cola se cuelan.",
)


# 07.2


class _Slow:
    """Pasos que tardan, y cuántos se han pedido ya."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 50.0 + len(seconds)
        self.asked = self.over = self.reads = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.asked >= len(self.seconds):
            self.over += 1
            expect(
                self.over < 10,
                "Los pasos se han acabado y sigues pidiendo: tu generador no "
                "termina nunca.",
            )
            raise StopIteration
        self.asked += 1
        self.now += self.seconds[self.asked - 1]
        return f"paso {self.asked - 1}"

    def clock(self) -> float:
        self.reads += 1
        return self.now


ORDER = "Los pasos no salen tal como entran, en orden y una vez."
_END = object()


def _live(speedometer, seconds) -> list[float]:
    """Las velocidades que enseña, si enseña lo que debe y cuando debe."""
    slow = _Slow(seconds)
    shown = call(speedometer, iter(slow), slow.clock)
    expect(
        hasattr(shown, "__next__"),
        "No es un generador: usa yield, para enseñar cada token cuando llega.",
    )
    expect(
        slow.asked == 0,
        "Pides pasos antes de que nadie te los pida a ti: no los juntes en "
        "una lista.",
    )
    rates = []
    for seen in range(1, len(seconds) + 1):
        item = call(lambda: next(shown, _END) or ())
        expect(
            item is not _END,
            f"Entran {len(seconds)} pasos y salen {seen - 1}.",
        )
        rates.append(_shown(item, slow, seen))
    expect(call(lambda: next(shown, _END) or ()) is _END, ORDER)
    return rates


def _shown(item, slow: _Slow, seen: int) -> float:
    expect(slow.reads > 0, "No has mirado el reloj: usa clock().")
    expect(
        isinstance(item, tuple | list) and len(item) == 2,
        "Cada yield da dos cosas: (paso, tokens por segundo).",
    )
    expect(
        item[1] != f"paso {seen - 1}",
        "Primero va el paso, y luego la velocidad.",
    )
    expect(item[0] == f"paso {seen - 1}", ORDER)
    expect(
        slow.asked == seen,
        f"Al enseñar el paso {seen} ya has pedido {slow.asked}: hay que "
        "enseñar cada uno antes de pedir el siguiente.",
    )
    return number(item[1], "La velocidad")


def speed(rate=lambda k, spent, last: k / spent, start="before"):
    """Un velocímetro: `rate(tokens, desde el principio, este paso)`."""

    def speedometer(steps, clock):
        begin = last = clock() if start == "before" else None
        for k, step in enumerate(steps, 1):
            now = clock()
            begin = now if begin is None else begin
            spent = now - begin
            yield step, rate(k, spent, now - last if last else spent)
            last = now

    return speedometer


def _by_next(steps, clock):
    begin, k = clock(), 0
    while True:
        step = next(steps)
        k += 1
        yield step, k / (clock() - begin)


def _printed(steps, clock):
    for step, rate in speed()(steps, clock):
        assert step and rate


exercise(
    "07.2",
    Part(
        [([4.0, 1.0, 1.0, 2.0],), ([0.5],), ([2.0, 0.25, 0.25, 4.0, 1.0],)],
        truth=lambda seconds: [
            k / total for k, total in enumerate(accumulate(seconds), 1)
        ],
        observe=_live,
        said=lambda ours, right, seconds: say(
            "Con pasos de {0} s las velocidades salen {1} y son {2}.",
            *(
                "; ".join(say("{0:.2f}", x) for x in row)
                for row in (seconds, ours, right)
            ),
        ),
        traps={
            "No devuelve nada: enseña cada paso con yield.": _printed,
            "Divides entre cero segundos: el reloj ha arrancado tarde. El "
            "prefill también se espera.": speed(start="after"),
            "El primer token no cuenta el prefill: el reloj arranca al "
            "empezar, no cuando llega.": speed(
                lambda k, spent, last: k / spent if spent else 0.0, "after"
            ),
            "Cuando los pasos se acaban, next() no tiene qué dar: recorre los "
            "pasos con un for.": _by_next,
            "Son segundos por token: dale la vuelta.": speed(
                lambda k, spent, last: spent / k
            ),
            "Es la velocidad de este paso; se pide la de todo lo que llevas.": (
                speed(lambda k, spent, last: 1 / last)
            ),
            "El reloj arranca una sola vez, antes del primer paso: no lo "
            "reinicies.": speed(lambda k, spent, last: k / last),
            "Falta contar el token que acaba de llegar.": speed(
                lambda k, spent, last: (k - 1) / spent
            ),
            "Redondeas, y se pide sin redondear.": speed(
                lambda k, spent, last: round(k / spent, 1)
            ),
            "Cuentas un token de más: el primero es el 1.": speed(
                lambda k, spent, last: (k + 1) / spent
            ),
        },
        otherwise="Divide los tokens que llevas entre el tiempo desde el "
        "principio, sin redondear.",
        rights=[
            speed(),
            lambda steps, clock: iter(speed()(steps, clock)),
            lambda steps, clock: (
                (step, k / (clock() - begin))
                for begin in [clock()]
                for k, step in enumerate(steps, 1)
            ),
        ],
    ),
    success="¡Correcto! En vivo, y acaba en el total.",
)


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


def _vectors(P, n, plain, cached):
    L = P + np.arange(n)
    return plain(L).sum() / (plain(P) + cached(L[1:]).sum())


_CURVES = (
    (lambda L: 2.0 + 0.5 * L, lambda L: 3.0 + 0.01 * L),
    (lambda L: 1.0 + 0.1 * L + 0.002 * L * L, lambda L: 2.0 + 0.1 * L),
    # GPU: plana hasta el codo, y luego proporcional
    (lambda L: np.maximum(3.0, L / 64), lambda L: 3.0 + L / 1000),
)

exercise(
    "07.3",
    Part(
        [
            (P, n, *pair)
            for pair in _CURVES
            for P, n in ((55, 100), (16, 1), (1, 3), (300, 2), (7, 20))
        ],
        truth=lambda *case: float(gain(*case)),
        what="La aceleración",
        said="Con P = {0} y n = {1} te sale {ours:.3f} y es {right:.3f}.",
        traps={
            "Está al revés: sin caché entre con caché.": (
                lambda *case: 1 / gain(*case)
            ),
            "Con caché, el primer paso también es un prefill: pasa todo el "
            "prompt.": _ratio(
                later=lambda P, n, f, g: sum(g(P + i) for i in range(n))
            ),
            "Cuentas un paso de más con caché: el prefill ya da el primer "
            "token.": _ratio(
                later=lambda P, n, f, g: _with_cache(P, n, f, g) + g(P)
            ),
            "Cuentas un paso de más al final: el último token no hay que "
            "volver a pasarlo.": [
                _ratio(
                    later=lambda P, n, f, g: _with_cache(P, n, f, g) + g(P + n)
                ),
                _ratio(lambda P, n, f: _without(P, n + 1, f)),
            ],
            "Falta el prefill en el total con caché.": _ratio(
                later=lambda P, n, f, g: _with_cache(P, n, f, g) - f(P) or 1e-9
            ),
            "Los pasos con caché van uno corridos: L cuenta también el token "
            "que acaba de entrar.": _ratio(
                later=lambda P, n, f, g: (
                    f(P) + sum(g(P + i) for i in range(n - 1))
                )
            ),
            "Es la razón del último paso, no la del total.": (
                lambda P, n, f, g: f(P + n - 1) / g(P + n - 1)
            ),
            "Es la media de las razones de cada paso; se pide la razón de los "
            "totales.": (
                lambda P, n, f, g: (
                    (1 + sum(f(P + i) / g(P + i) for i in range(1, n))) / n
                )
            ),
            "Sin caché, cada paso pasa un token más que el anterior: no son n "
            "pasos iguales.": _ratio(lambda P, n, f: n * f(P)),
            "El primer paso sin caché pasa los P del prompt, no P + 1.": (
                _ratio(lambda P, n, f: _without(P + 1, n, f))
            ),
            "Es eso, pero redondeado: devuélvelo sin redondear.": [
                lambda *case: round(gain(*case), 1),
                lambda *case: round(gain(*case), 2),
                lambda *case: round(gain(*case), 3),
            ],
            "Eso son tokens procesados, y se piden segundos: las curvas dicen "
            "cuánto tarda cada paso.": (
                lambda P, n, f, g: sum(range(P, P + n)) / (P + n - 1)
            ),
        },
        otherwise="Escribe cuántos tokens lleva delante cada paso: el primero, "
        "P; el último, P + n − 1.",
        rights=[gain, _vectors],
    ),
    success="¡Correcto! No hay un «×N»: depende de P y de n.",
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
