"""Corrección del laboratorio 04 · Elegir el siguiente token."""

import torch
from transformers import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from . import Hint, call, exercise, expect

INF = float("inf")


def _random_logits(seed: int, size: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(size, generator=generator)  # [V], sin ordenar


def _filtered(function, logits, *settings) -> torch.Tensor:
    """Lo que devuelve el filtro del alumno, si tiene forma de logits."""
    given = logits.clone()
    ours = call(function, given, *settings)
    expect(
        isinstance(ours, torch.Tensor) and ours.shape == logits.shape,
        f"Devuelve logits de forma {list(logits.shape)}, uno por token: los "
        "descartados con −∞, no fuera de la lista.",
    )
    expect(
        torch.equal(given, logits),
        "Tu función cambia los logits que recibe. Trabaja sobre una copia "
        "(masked_fill sin guion bajo la hace).",
    )
    expect(not ours.isnan().any(), "Salen NaN. ¿Multiplicas un −∞ por 0?")
    expect(
        bool(ours.isfinite().any()),
        f"Con {settings} no queda ningún token: nadie podría salir elegido. "
        "¿Qué pasa cuando el primero, él solo, ya es bastante?",
    )
    return ours.detach().float()


def _compare(ours, right, logits, hint: str) -> None:
    """`hint` si no quedan los mismos tokens; y los que quedan, intactos."""
    kept, wanted = ours.isfinite(), right.isfinite()
    expect(
        torch.equal(kept, wanted),
        f"Conservas {int(kept.sum())} tokens y son {int(wanted.sum())}"
        + (
            " (los mismos en número, pero otros)"
            * bool(kept.sum() == wanted.sum())
        )
        + f". {hint}",
    )
    expect(
        torch.allclose(ours[kept], logits[kept], atol=1e-4),
        "Quedan los tokens que deben, pero con otros valores. Los "
        "conservados no se tocan: el softmax ya reparte.",
    )


@exercise("04.1", "¡Correcto! También con empates.")
def best_k(top_k):
    """`top_k(logits [V], k) -> [V]`, con −∞ en los descartados."""
    ties = torch.tensor([1.0, 4.0, 5.0, 4.0, 4.0, -2.0])
    for logits, k, hint in (
        (
            _random_logits(0),
            1,
            "Con k = 1 solo queda el mejor: es greedy.",
        ),
        (
            _random_logits(1),
            7,
            "¿Comparas con el k-ésimo, o con el siguiente?",
        ),
        (_random_logits(2), 40, "Con k = V no se quita nada."),
        (
            ties,
            2,
            "Hay tres empatados en el segundo puesto y ninguno está por debajo "
            "de él. ¿Descartas por posición o por valor?",
        ),
        (
            torch.tensor([-INF, 1.0, 3.0, 2.0]),
            3,
            "Un token ya prohibido (−∞) tiene que seguir prohibido.",
        ),
        (
            -5 - _random_logits(3).abs(),
            5,
            "¿Qué haces si todos son negativos?",
        ),
    ):
        right = TopKLogitsWarper(k)(None, logits[None])[0]
        _compare(_filtered(top_k, logits, k), right, logits, hint)


@exercise("04.2", "¡Correcto! El conjunto más pequeño que alcanza p.")
def best_p(top_p):
    """`top_p(logits [V], p) -> [V]`, con −∞ en los descartados."""
    cases = [(torch.tensor([0.03, 0.95, 0.02]).log(), 0.9)]
    cases += [(torch.tensor([0.05, 0.3, 0.15, 0.5]).log(), 0.9)]
    cases += [(_random_logits(i), 0.05 + 0.9 * i / 99) for i in range(100)]
    cases += [(torch.tensor([2.0, -INF, 1.0, 0.0]), 0.95)]
    for logits, p in cases:
        shares = logits.double().softmax(-1)
        ordered = shares.sort(descending=True).values
        if ((ordered.cumsum(0) - p).abs() < 1e-5).any():
            continue  # en el borde, el redondeo decide
        ours = _filtered(top_p, logits, p)
        kept = ours.isfinite()
        right = TopPLogitsWarper(p)(None, logits[None])[0]
        if kept.sum() == right.isfinite().sum():
            hint = "¿Devuelves cada cosa a su sitio después de ordenar?"
            _compare(ours, right, logits, hint)
        mass, least = float(shares[kept].sum()), float(shares[kept].min())
        expect(
            mass >= p,
            f"Pides p = {p:.2f} y lo que conservas suma {mass:.2f}: no llega. "
            "El token que cruza p, ¿entra o sale?",
        )
        expect(
            mass - least < p,
            f"Pides p = {p:.2f} y conservas {mass:.2f}; sin el menos probable "
            f"aún quedarían {mass - least:.2f}, así que sobra. ¿Qué suma miras: "
            "la de antes de llegar al token o la de después?",
        )
        _compare(ours, right, logits, "Hay un conjunto más pequeño que llega.")


@exercise("04.3", "¡Correcto! Justa, repetible y sin azar cuando T = 0.")
def fair(choose):
    """`choose(logits [V], T, generator) -> id`."""
    logits = torch.tensor([0.05, 0.5, 0.3, 0.15]).log() + 7
    dice = torch.Generator().manual_seed(0)

    def ask(scores, T):
        value = call(choose, scores, T, dice)
        try:
            value = int(value)
        except (TypeError, ValueError):
            value = -1
        expect(
            0 <= value < len(scores),
            f"Tiene que devolver un id: un entero entre 0 y {len(scores) - 1}.",
        )
        return value

    try:
        zeros = {ask(torch.tensor([1.0, 3.0, 2.0]), 0) for _ in range(20)}
    except Hint as hint:
        raise Hint(
            f"{hint} Pasa con T = 0, que es otra rama: no se divide por cero."
        ) from None
    expect(
        zeros == {1},
        "Con T = 0 tiene que salir siempre el de mayor logit. Es otra rama: "
        "no se divide por cero.",
    )
    series = []
    for seed in (1, 1, 2):
        dice.manual_seed(seed)
        series.append([ask(logits, 1.0) for _ in range(40)])
    expect(
        series[0] == series[1],
        "Con el generador en la misma semilla sale otra serie. ¿Se lo pasas a "
        "la función que sortea, o usas el azar global?",
    )
    expect(
        series[0] != series[2],
        "Con otra semilla sale la misma serie. ¿Sorteas de verdad? ¿Reinicias "
        "el generador dentro de la función?",
    )
    for T in (1.0, 0.5, 2.0):
        wanted = (logits / T).softmax(-1)
        drawn = torch.tensor([ask(logits, T) for _ in range(5000)])
        seen = torch.bincount(drawn, minlength=4) / 5000
        worst = int((seen - wanted).abs().argmax())
        expect(
            bool((seen - wanted).abs().max() < 0.03),
            f"Con T = {T}, el token {worst} sale el {seen[worst]:.0%} de las "
            f"veces y debería salir el {wanted[worst]:.0%}. ¿Divides los "
            "logits por T antes del softmax, y sorteas con esas "
            "probabilidades?",
        )
    peak = torch.tensor([0.0, -INF, 0.0])
    expect(
        all(ask(peak, 1.0) != 1 for _ in range(200)),
        "Ha salido un token prohibido (logit −∞).",
    )
    before = torch.get_rng_state()
    ask(logits, 1.0)
    expect(
        torch.equal(before, torch.get_rng_state()),
        "Gastas el azar global de PyTorch. Usa solo el generador que recibes.",
    )


@exercise("04.4", "¡Correcto! El mismo orden que generate.")
def chain(warp):
    """`warp(logits [V], T, k, p) -> [V]` en el orden de transformers."""
    for i in range(60):
        logits = _random_logits(100 + i, 30)
        T = (0.4, 0.8, 1.0, 1.7, 3.0)[i % 5]
        k, p = 2 + i % 13, 0.3 + 0.65 * i / 59
        steps = TemperatureLogitsWarper(T), TopKLogitsWarper(k)
        right = logits[None]
        for step in steps:
            right = step(None, right)
        ordered = right.double().softmax(-1).sort(descending=True).values
        if ((ordered.cumsum(-1) - p).abs() < 1e-5).any():
            continue
        right = TopPLogitsWarper(p)(None, right)[0]
        ours = _filtered(warp, logits, T, k, p)
        kept, wanted = ours.isfinite(), right.isfinite()
        if not torch.equal(kept, wanted):
            _explain_order(logits, T, k, p, kept)
        hint = f"Con T = {T}, k = {k}, p = {p:.2f}."
        _compare(ours, right, logits / T, hint)


def _explain_order(logits, T, k, p, kept) -> None:
    """Si lo que queda es lo de otro orden conocido, lo dice."""

    def nucleus(scores, among=None):
        shares = scores.double().softmax(-1)
        ordered, order = shares.sort(descending=True)
        keep = ordered.cumsum(0) - ordered < p
        mask = torch.zeros_like(keep).scatter(0, order, keep)
        return mask if among is None else mask & among

    def top(scores):
        return scores >= scores.topk(k).values[-1]

    expect(
        not torch.equal(kept, nucleus(logits / T, top(logits))),
        "Eso es top-p sobre todo el vocabulario y top-k a la vez (el orden de "
        "Candle). En transformers, top-p ve lo que deja top-k, ya repartido.",
    )
    cut = logits.masked_fill(~top(logits), -INF)
    expect(
        not torch.equal(kept, nucleus(cut)),
        "Eso sale con la temperatura al final (el orden de llama.cpp). En "
        "transformers va la primera.",
    )


@exercise("04.5", "¡Correcto! El orden ha cambiado quién puede salir.")
def order_matters(answer):
    """`(probabilities, T, p)`: con T antes quedan al menos 3 menos."""
    expect(
        isinstance(answer, tuple | list) and len(answer) == 3,
        "Da tres cosas: (probabilidades, T, p).",
    )
    shares, T, p = answer
    shares = torch.as_tensor(shares, dtype=torch.float64)
    expect(
        shares.dim() == 1
        and 4 <= len(shares) <= 6
        and bool((shares > 0).all()),
        "Hacen falta entre 4 y 6 probabilidades, todas mayores que 0.",
    )
    expect(
        abs(float(shares.sum()) - 1) < 1e-6,
        f"Tus probabilidades suman {float(shares.sum()):.3f}, y no 1.",
    )
    expect(float(T) > 0, "T tiene que ser mayor que 0.")
    expect(0 < float(p) < 1, "p tiene que estar entre 0 y 1.")

    def nucleus(scores):
        ordered = scores.softmax(-1).sort(descending=True).values
        totals = ordered.cumsum(0)
        expect(
            bool(((totals - p).abs() > 1e-6).all()),
            "Una de las sumas cae justo en p y el redondeo decidiría. Aleja p.",
        )
        return int((totals - ordered < p).sum())

    first, last = nucleus(shares.log() / float(T)), nucleus(shares.log())
    expect(
        last - first >= 3,
        f"Con T antes quedan {first} y con T después, {last}; se pide que con "
        "T antes queden al menos 3 menos. ¿Qué temperatura concentra: mayor "
        "o menor que 1? ¿Y qué distribución tiene un núcleo grande sin ella?",
    )


@exercise("04.6", "¡Cazado! Ordenar desordena: hay que volver.")
def bug(nucleus):
    """`nucleus(logits [V], p) -> [V]`."""
    for i in range(40):
        logits = _random_logits(200 + i, 12)
        if i % 2 == 0:  # ya ordenados: aquí el bug no se ve
            logits = logits.sort(descending=True).values
        p = 0.2 + 0.75 * i / 39
        ordered = logits.double().softmax(-1).sort(descending=True).values
        if ((ordered.cumsum(0) - p).abs() < 1e-5).any():
            continue
        ours = _filtered(nucleus, logits, p)
        right = TopPLogitsWarper(p)(None, logits[None])[0]
        best = int(logits.argmax())
        expect(
            bool(ours[best].isfinite()),
            f"Con los logits {[round(x, 1) for x in logits[:5].tolist()]}… "
            f"descartas el mejor, el {best}. La máscara, ¿está en el orden de "
            "los logits o en el de las probabilidades ordenadas?",
        )
        _compare(
            ours,
            right,
            logits,
            "El número coincide y los tokens no, o casi: mira en qué orden "
            "está la máscara cuando se aplica.",
        )
