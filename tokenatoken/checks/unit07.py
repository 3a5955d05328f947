"""Correcciones de la unidad 07: cronometrar con y sin caché.

Los tiempos no salen de este equipo: los da `FakeGPU`, un dispositivo de
mentira con su propio reloj, o la aritmética.
"""

import math
import statistics
from copy import deepcopy
from itertools import accumulate

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from ..measure import SAMPLES, bytes_per_token, load_measurement
from . import Hint, call, exercise, expect
from .bench import FakeGPU, tiny_config, tiny_model

CLOSE = dict(rel_tol=1e-6, abs_tol=1e-9)


def as_number(value, what: str) -> float:
    """El valor como `float`, o la pista."""
    if hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1:
        value = value.item()
    try:
        number = float(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise Hint(f"{what} es un número, no {kind}.") from None
    expect(not isinstance(value, str), f"{what} es un número, no un texto.")
    return number


@exercise("07.1", success="¡Correcto! Ni el arranque ni la cola se cuelan.")
def stopwatch(median_seconds):
    """`median_seconds(run, wait, clock, repeats) -> float`."""
    for seconds, repeats in (
        ([32.0, 2.5, 16.0, 4.0, 1.5, 2.0, 8.0], 5),
        ([32.0, 4.0, 1.0, 2.0, 16.0, 1.0], 3),
        ([8.0, 3.0, 64.0], 1),
        ([32.0, 1.0, 2.0, 9.0, 3.0, 1.0], 4),
    ):
        gpu = FakeGPU(seconds)
        ours = call(median_seconds, gpu.run, gpu.wait, gpu.clock, repeats)
        ours = as_number(ours, "La mediana")
        counted = [s + gpu.launch for s in seconds[1 : repeats + 1]]
        right = statistics.median(counted)
        if math.isclose(ours, right, **CLOSE) and gpu.runs == repeats + 1:
            continue
        expect(
            gpu.reads > 0,
            "No has mirado el reloj: usa clock(), el que recibes. El del "
            "equipo no sabe nada de este dispositivo.",
        )
        expect(
            gpu.runs == repeats + 1,
            f"Con repeats={repeats} llamas a run() {gpu.runs} veces y tienen "
            f"que ser {repeats + 1}: una de calentamiento y las que se miden.",
        )
        expect(
            not 0 <= ours <= 2 * gpu.launch,
            f"Te salen {ours:.2f} s: lo que cuesta encargar el trabajo, no "
            "hacerlo. run() vuelve antes de que acabe: ¿quién espera?",
        )
        for wrong, hint in (
            (
                statistics.mean(counted),
                "Eso es la media: un solo valor raro la arrastra. Prueba con "
                "1, 1, 1 y 100.",
            ),
            (min(counted), "Eso es el mínimo: tu mejor día."),
            (max(counted), "Eso es el máximo."),
            (
                statistics.median_low(counted),
                "Con un número par, la mediana es la media de las dos "
                "centrales.",
            ),
            (
                statistics.median_high(counted),
                "Con un número par, la mediana es la media de las dos "
                "centrales.",
            ),
            (
                counted[len(counted) // 2],
                "Es la de en medio, pero sin haberlas ordenado.",
            ),
            (
                statistics.median(
                    [s + gpu.launch for s in seconds[: repeats + 1]]
                ),
                "El calentamiento se ha colado entre los medidos.",
            ),
        ):
            expect(
                not math.isclose(ours, wrong, **CLOSE),
                f"Te salen {ours:.2f} s. {hint}",
            )
        raise Hint(
            f"Te salen {ours:.2f} s y son {right:.2f}. Justo antes de mirar "
            "la hora, al empezar y al acabar, ¿queda algo encargado? Haz la "
            "cuenta con FakeGPU y un papel."
        )


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


_END = object()


def _next_item(shown, slow):
    """Lo siguiente que enseña el generador del alumno, o `_END`."""
    try:
        item = call(lambda: next(shown, _END) or ())
    except Hint as hint:
        text = str(hint)
        if "ZeroDivisionError" in text:
            text = (
                "Divides entre cero segundos: el reloj ha arrancado tarde. El "
                "prefill también se espera."
            )
        elif "StopIteration" in text:
            text = (
                "Cuando los pasos se acaban, next() no tiene qué dar: recorre "
                "los pasos con un for."
            )
        raise Hint(text) from None
    expect(
        item is _END or slow.reads > 0,
        "No has mirado el reloj: usa clock(), el que recibes.",
    )
    return item


@exercise("07.2", success="¡Correcto! En vivo, y acaba en el total.")
def live_speed(speedometer):
    """`speedometer(steps, clock)` da `(paso, tokens/s)` según llegan."""
    for seconds in ([4.0, 1.0, 1.0, 2.0], [0.5], [2.0, 0.25, 0.25, 4.0, 1.0]):
        slow = _Slow(seconds)
        try:
            shown = call(speedometer, iter(slow), slow.clock)
        except Hint as hint:
            text = str(hint)
            if "devuelve None" in text:
                text = "No devuelve nada: enseña cada paso con yield."
            raise Hint(text) from None
        expect(
            hasattr(shown, "__next__"),
            "No es un generador: usa yield, para enseñar cada token cuando "
            "llega.",
        )
        expect(
            slow.asked == 0,
            "Pides pasos antes de que nadie te los pida a ti: no los juntes "
            "en una lista.",
        )
        times = list(accumulate(seconds))
        seen = 0
        while True:
            item = _next_item(shown, slow)
            if item is _END:
                break
            expect(
                isinstance(item, tuple | list) and len(item) == 2,
                "Cada yield da dos cosas: (paso, tokens por segundo).",
            )
            step, rate = item
            expect(
                seen < len(seconds) and step == f"paso {seen}",
                "Los pasos no salen tal como entran, en orden y una vez.",
            )
            rate = as_number(rate, "La velocidad")
            right = (seen + 1) / times[seen]
            expect(
                slow.asked == seen + 1,
                f"Al enseñar el paso {seen + 1} ya has pedido {slow.asked}: "
                "hay que enseñar cada uno antes de pedir el siguiente.",
            )
            for wrong, hint in (
                (1 / right, "Son segundos por token: dale la vuelta."),
                (
                    1 / seconds[seen],
                    "Es la velocidad de este paso; se pide la de todo lo que "
                    "llevas.",
                ),
                (
                    seen / times[seen],
                    "Falta contar el token que acaba de llegar, o el "
                    "reloj arranca tarde: el prefill también se espera.",
                ),
                (
                    (seen + 1) / seconds[seen],
                    "El reloj arranca una sola vez, antes del primer paso: no "
                    "lo reinicies.",
                ),
            ):
                expect(
                    math.isclose(rate, right, **CLOSE)
                    or not math.isclose(rate, wrong, **CLOSE),
                    f"Tras {seen + 1} token(s) dices {rate:.2f} tokens/s. "
                    + hint,
                )
            expect(
                math.isclose(rate, right, **CLOSE),
                f"Tras {seen + 1} token(s) y {times[seen]:.2f} s dices "
                f"{rate:.2f} tokens/s: divide lo que llevas entre el tiempo "
                "desde el principio, sin redondear.",
            )
            seen += 1
        expect(
            seen == len(seconds),
            f"Entran {len(seconds)} pasos y salen {seen}.",
        )


def _gpu(L: int) -> float:  # plano hasta el codo, y luego proporcional
    return np.maximum(3.0, L / 64)


_CURVES = (
    (lambda L: 2.0 + 0.5 * L, lambda L: 3.0 + 0.01 * L),
    (lambda L: 1.0 + 0.1 * L + 0.002 * L * L, lambda L: 2.0 + 0.1 * L),
    (_gpu, lambda L: 3.0 + L / 1000),
)


@exercise("07.3", success="¡Correcto! No hay un «×N»: depende de P y de n.")
def gain(speedup):
    """`speedup(P, n, plain, cached) -> veces`."""
    for plain, cached in _CURVES:
        for P, n in ((55, 100), (16, 1), (1, 3), (300, 2), (7, 20)):
            ours = as_number(
                call(speedup, P, n, plain, cached), "La aceleración"
            )
            steps = [P + i for i in range(n)]
            without = sum(map(plain, steps))
            later = sum(map(cached, steps[1:]))
            right = without / (plain(P) + later)
            if math.isclose(ours, right, **CLOSE):
                continue
            for wrong, hint in (
                (1 / right, "Está al revés: sin caché entre con caché."),
                (
                    without / (cached(P) + later),
                    "Con caché, el primer paso también es un prefill: pasa "
                    "todo el prompt.",
                ),
                (
                    without / (plain(P) + sum(map(cached, steps))),
                    "Cuentas un paso de más con caché: el prefill ya da el "
                    "primer token.",
                ),
                (
                    without / later if later else right + 1,
                    "Falta el prefill en el total con caché.",
                ),
                (
                    without / (plain(P) + sum(map(cached, steps[:-1]))),
                    "Los pasos con caché van uno corridos: L cuenta también "
                    "el token que acaba de entrar.",
                ),
                (
                    plain(steps[-1]) / cached(steps[-1]),
                    "Es la razón del último paso, no la del total.",
                ),
            ):
                expect(
                    not math.isclose(ours, wrong, **CLOSE),
                    f"Con P = {P} y n = {n} te sale {ours:.3f}. {hint}",
                )
            raise Hint(
                f"Con P = {P} y n = {n} te sale {ours:.3f} y es {right:.3f}. "
                "Escribe cuántos tokens lleva delante cada paso: el primero "
                f"{P}, el último {P + n - 1}."
            )


@exercise("07.4", success="¡Correcto! Y acierta con una medición de verdad.")
def forecast(predict):
    """`predict(n1, t1, n2, t2, n) -> segundos` sin caché."""
    for a, b in ((0.2, 0.004), (1.5, 0.0), (0.01, 0.5)):

        def total(n, a=a, b=b):
            return a * n + b * n * n

        for n1, n2, n in ((32, 64, 256), (10, 40, 90), (64, 32, 128)):
            known = n1, total(n1), n2, total(n2)
            ours = as_number(call(predict, *known, n), "La predicción")
            right = total(n)
            if math.isclose(ours, right, rel_tol=1e-3):
                continue
            slope = (known[3] - known[1]) / (n2 - n1)
            expect(
                not math.isclose(
                    ours, known[3] + slope * (n - n2), rel_tol=1e-4
                ),
                f"Para {n} predices {ours:.1f} s y son {right:.1f}. Es una "
                "recta, y sin caché cada token cuesta más que el anterior.",
            )
            expect(
                not math.isclose(ours, known[3] * n / n2, rel_tol=1e-4)
                and not math.isclose(ours, known[1] * n / n1, rel_tol=1e-4),
                f"Para {n} predices {ours:.1f} s y son {right:.1f}. Eso es una "
                "regla de tres: sin caché, el doble de tokens es más del "
                "doble.",
            )
            raise Hint(
                f"Con {n1} tokens en {known[1]:.1f} s y {n2} en "
                f"{known[3]:.1f} s, para {n} predices {ours:.1f} s y son "
                f"{right:.1f}. Dos medidas, dos incógnitas: a y b en "
                "a·n + b·n²."
            )
    real = load_measurement(SAMPLES / "float32.json")["results"]
    run = next(
        r for r in real if r.variant == "sin caché" and r.new_tokens == 100
    )
    steps = [statistics.median(row) for row in zip(*run.step_seconds)]  # [99]
    times = list(accumulate([statistics.median(run.ttft), *steps]))
    ours = call(predict, 32, times[31], 64, times[63], 100)
    expect(
        abs(ours - times[99]) < 0.25 * times[99],
        f"En una medición de verdad predices {ours:.1f} s y fueron "
        f"{times[99]:.1f}.",
    )


@exercise("07.5", success="¡Correcto! Nadie baja de ahí.")
def roof(floor_seconds):
    """`floor_seconds(model, context, gb_per_second) -> segundos`."""
    for tied, dtype, context, band in (
        (False, torch.float32, 0, 10.0),
        (False, torch.float16, 0, 10.0),
        (True, torch.float32, 0, 2.0),
        (False, torch.float32, 300, 10.0),
        (True, torch.bfloat16, 700, 50.0),
    ):
        config = tiny_config(tie_word_embeddings=tied, vocab_size=400)
        with torch.random.fork_rng():
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        right = bytes_per_token(model, context) / (band * 1e9)
        ours = as_number(call(floor_seconds, model, context, band), "El suelo")
        if math.isclose(ours, right, rel_tol=0.02):
            continue
        size, table = dtype.itemsize, model.get_input_embeddings().weight
        whole = right * band * 1e9
        kept = whole - bytes_per_token(model)
        for wrong, hint in (
            (
                whole + table.numel() * size,
                "La tabla de embeddings de entrada no se lee entera: de ella "
                "se usa una fila por token.",
            ),
            (
                whole - table.numel() * size,
                "Aquí la tabla de entrada es también la de salida, y para dar "
                "los logits hay que leerla entera."
                if tied
                else "Falta la matriz que da los logits.",
            ),
            (
                whole - kept / 2,
                "De la caché se leen K y V, las dos, y en la precisión del "
                "modelo.",
            ),
            (
                (whole - kept) * 2 / size + kept,
                f"Cada número ocupa {size} bytes, no 2.",
            ),
            (whole - kept, "Falta leer la caché: con contexto, también pesa."),
            (whole * 4 / size, f"Cada número ocupa {size} bytes, no 4."),
            (
                (whole - kept) * 4 / size + kept,
                f"Cada número ocupa {size} bytes, no 4.",
            ),
            (whole / size, "Eso son números, y la banda se da en bytes."),
            (whole * 8, "Eso son bits, y la banda se da en bytes."),
            (whole * 1e3, "Eso son milisegundos; se piden segundos."),
            (whole * 1e9, "Un GB son mil millones de bytes."),
            (whole * 1e9 / 2**30, "Un GB son 10⁹ bytes; 2³⁰ es un GiB."),
        ):
            expect(
                not math.isclose(ours, wrong / (band * 1e9), rel_tol=0.02)
                or math.isclose(wrong, whole, rel_tol=0.02),
                f"Te salen {ours:.3g} s y son {right:.3g}. {hint}",
            )
        expect(
            not math.isclose(ours * right, 1, rel_tol=0.02),
            "Está del revés: bytes entre bytes por segundo.",
        )
        raise Hint(
            f"Con {'la misma tabla' if tied else 'dos tablas'}, {dtype} y "
            f"{context} tokens de contexto te salen {ours:.3g} s y son "
            f"{right:.3g}. Suma lo que se lee en un paso con caché: cada "
            "matriz una vez, y K y V de lo anterior."
        )


@exercise("07.6", success="¡Cazado!")
def bugs(letter, fixed):
    """Las seis cacerías: `letter` de la «a» a la «f»."""
    cases = dict(
        a=_bug_wait,
        b=_bug_order,
        c=_bug_prompt,
        d=_bug_tpot,
        e=_bug_length,
        f=_bug_percent,
    )
    expect(letter in cases, f"Las cacerías son {', '.join(cases)}.")
    cases[letter](fixed)


def _bug_wait(once):
    gpu = FakeGPU([4.0, 7.0])
    ours = [
        as_number(call(once, gpu.run, gpu.wait, gpu.clock), "El tiempo")
        for _ in range(2)
    ]
    expect(gpu.runs == 2, "Tiene que llamar a run() una sola vez.")
    for seconds, right in zip(ours, (4.25, 7.25)):
        expect(
            seconds > 1,
            f"Da {seconds:.2f} s y el trabajo dura {right - 0.25:.0f}. Es lo "
            "que tarda en encargarlo, no en hacerlo. ¿Qué falta antes de mirar "
            "la hora final?",
        )
        expect(
            seconds >= right,
            f"Da {seconds:.2f} s y son {right}: te dejas fuera algo, quizá lo "
            "que cuesta encargarlo.",
        )
        expect(
            seconds == right,
            f"Da {seconds:.2f} s y son {right}: cuenta también trabajo que ya "
            "estaba encargado antes de empezar.",
        )


def _bug_order(order):
    for names, repeats in ((["con", "sin"], 8), (["a", "b", "c"], 6)):
        ours = call(order, list(names), repeats)
        expect(
            isinstance(ours, list) and len(ours) == len(names) * repeats,
            "Tiene que seguir devolviendo una lista con todos los turnos.",
        )
        expect(
            sorted(ours) == sorted(names * repeats),
            "Cada variante se mide las mismas veces.",
        )
        rounds = zip(*[iter(ours)] * len(names))
        expect(
            all(set(turn) == set(names) for turn in rounds),
            f"El orden es {ours}. Si el equipo se calienta a mitad, ¿quién lo "
            "paga? Cada vuelta tiene que medirlas a todas.",
        )


def _bug_prompt(rate):
    for prompt, new, seconds in ((55, 100, 7.0), (1000, 10, 3.0)):
        ours = as_number(call(rate, prompt, new, seconds), "La velocidad")
        expect(
            not math.isclose(ours, (prompt + new) / seconds, **CLOSE),
            f"Con {prompt} tokens de prompt y {new} nuevos en {seconds} s "
            f"presume de {ours:.1f} tokens/s. ¿Cuántos ha «escrito»?",
        )
        expect(
            math.isclose(ours, new / seconds, **CLOSE),
            f"Da {ours:.1f} tokens/s y son {new / seconds:.1f}.",
        )


def _bug_tpot(tpot):
    for arrivals in (
        [9.0, 10.0, 11.0, 12.0],
        [3.0, 3.5],
        [20.0, 21.0, 24.0, 25.0],
    ):
        ours = as_number(call(tpot, list(arrivals)), "El TPOT")
        right = (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1)
        steps = [b - a for a, b in zip(arrivals, arrivals[1:])]
        median = statistics.median(steps)
        expect(
            any(math.isclose(ours, x, **CLOSE) for x in (right, median)),
            f"Los tokens llegan a los {arrivals} s y el TPOT sale {ours:.2f}. "
            "El primero trae consigo el prefill: ¿cuántos pasos hay «entre» "
            "tokens, y cuánto duran?",
        )


def _bug_length(write):
    model = deepcopy(tiny_model())  # la otra es de todos
    ids = torch.tensor([[5, 17, 2, 40]])
    free = model.generate(ids, do_sample=False, max_new_tokens=12)
    end = free[0, 5].item()
    model.generation_config.eos_token_id = model.config.eos_token_id = end
    judge = deepcopy(model)
    for n in (12, 5, 30):
        ours = call(write, model, ids.clone(), n)
        expect(
            isinstance(ours, torch.Tensor) and ours.dim() == 2,
            "Tiene que seguir devolviendo los ids, [1, prompt + nuevos].",
        )
        expect(
            torch.equal(ours[:, :4], ids),
            "El prompt ya no va delante.",
        )
        expect(
            ours.shape[1] >= 4 + n,
            f"Pides {n} tokens y escribe {ours.shape[1] - 4}: se ha topado con "
            "el de fin. ¿Cómo se le pide a generate un mínimo?",
        )
        expect(
            ours.shape[1] == 4 + n,
            f"Pides {n} tokens y escribe {ours.shape[1] - 4}: de más.",
        )
        with torch.no_grad():
            logits = judge(ours).logits[0, 3:-1]  # [n, V]
        best = logits.argmax(-1)
        logits[:, end] = -torch.inf
        other = logits.argmax(-1)  # con el de fin prohibido
        expect(
            bool(((ours[0, 4:] == best) | (ours[0, 4:] == other)).all()),
            "Ahora escribe otra cosa: tiene que seguir siendo greedy, token a "
            "token, sin relleno.",
        )


def _bug_percent(less):
    for slow, fast in ((38.8, 9.53), (10.0, 5.0), (3.0, 2.7)):
        ours = as_number(call(less, slow, fast), "El tanto por ciento")
        right = 100 * (slow - fast) / slow
        expect(
            math.isclose(ours, right, abs_tol=0.5),
            f"De {slow} s a {fast} s dice un {ours:.0f} % menos. Nadie puede "
            "ahorrar más del 100 %: ¿de qué total es ese tanto por ciento?"
            if ours > 100
            else f"De {slow} s a {fast} s dice un {ours:.0f} % menos, y es un "
            f"{right:.0f} %. ¿De qué total es ese tanto por ciento?",
        )
