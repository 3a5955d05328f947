"""Corrección del laboratorio 04 · Elegir el siguiente token."""

import torch
from transformers import (
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from . import Hint, as_int, call, exercise, expect
from .bench import random_logits

INF = float("inf")


def _filtered(function, logits, *settings) -> torch.Tensor:
    """Lo que devuelve el filtro del alumno, si tiene forma de logits."""
    given = logits.clone()
    ours = call(function, given, *settings)
    expect(
        isinstance(ours, torch.Tensor),
        f"Devuelves {type(ours).__name__} y se pide un tensor de PyTorch.",
    )
    expect(
        ours.shape == logits.shape,
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
        not (ours == INF).any(),
        "Los descartados llevan +∞, y el softmax se los daría todo.",
    )
    return ours.detach().float()


def _expect_discarded(ours, wanted, logits) -> None:
    """Que lo descartado no lleve un número corriente en vez de −∞."""
    changed = ours.isfinite().all() and (ours != logits).any()
    expect(
        not (changed and not wanted.all()),
        "Los descartados llevan un número corriente, y aún podrían salir "
        "elegidos. Lo que nunca sale es −∞.",
    )


def _compare(ours, right, logits, hint: str, kept_hint: str = "") -> None:
    """`hint` si no quedan los mismos tokens; y los que quedan, intactos."""
    kept, wanted = ours.isfinite(), right.isfinite()
    _expect_discarded(ours, wanted, logits)
    expect(
        torch.equal(kept, wanted),
        f"De {len(logits)} tokens, {int(wanted.sum())} deberían seguir; en tu "
        f"respuesta siguen {int(kept.sum())}"
        + ", pero otros" * bool(kept.sum() == wanted.sum())
        + f". {hint}",
    )
    expect(
        torch.allclose(ours[kept], right[kept], atol=1e-4),
        kept_hint
        or "Quedan los tokens que deben, pero con otros valores. Los "
        "conservados no se tocan: el softmax ya reparte.",
    )


def _on_the_edge(logits, p: float) -> bool:
    """Si alguna suma acumulada cae tan cerca de p que el redondeo decide."""
    ordered = logits.double().softmax(-1).sort(descending=True).values
    return bool(((ordered.cumsum(0) - p).abs() < 1e-5).any())


def _check_nucleus(ours, logits, p: float, moved: str) -> None:
    """Que lo que queda sea el menor conjunto que alcanza p."""
    shares = logits.double().softmax(-1)
    kept = ours.isfinite()
    right = TopPLogitsWarper(p)(None, logits[None])[0]
    expect(
        bool(kept.any()),
        f"Con p = {p:.2f} no queda ningún token: nadie podría salir elegido. "
        "¿Qué pasa cuando el primero, él solo, ya es bastante?",
    )
    if kept.sum() == right.isfinite().sum():
        _compare(ours, right, logits, moved)
    _expect_discarded(ours, right.isfinite(), logits)
    expect(
        bool(kept[logits.argmax()]),
        "Descartas el mejor y dejas otros peores. ¿Ordenas de mayor a menor? "
        "Al aplicar la máscara, ¿está en el orden de los logits o en el de "
        "las probabilidades ordenadas?",
    )
    mass, least = float(shares[kept].sum()), float(shares[kept].min())
    expect(
        mass >= p,
        f"Pides p = {p:.2f} y lo que conservas suma {mass:.2f}: no llega. "
        "El token que cruza p, ¿entra o sale?",
    )
    expect(
        mass - least < p,
        f"Pides p = {p:.2f} y conservas {mass:.2f}; sin el menos probable "
        f"aún quedarían {mass - least:.2f}, así que sobra. "
        + "¿Ordenas de mayor a menor? " * bool(kept[logits.argmin()])
        + "¿Qué suma miras: la de antes de llegar al token o la de después?",
    )
    _compare(ours, right, logits, "Hay un conjunto más pequeño que llega.")


@exercise("04.1", success="¡Correcto! También con empates.")
def best_k(top_k):
    """`top_k(logits [V], k) -> [V]`, con −∞ en los descartados."""
    tied = (
        "Hay tres empatados en el segundo puesto y ninguno está por debajo "
        "de él. ¿Descartas por posición o por valor?"
    )
    for logits, k, hint in (
        (
            random_logits(0, 40),
            1,
            "Con k = 1 solo queda el mejor: es greedy. ¿Comparas con el "
            "k-ésimo, y él se queda?",
        ),
        (
            random_logits(1, 40),
            7,
            "¿Comparas con el k-ésimo, o con el siguiente?",
        ),
        (random_logits(2, 40), 40, "Con k = V no se quita nada."),
        (torch.tensor([1.0, 4.0, 5.0, 4.0, 4.0, -2.0]), 2, tied),
        (
            torch.tensor([5.0, 1.0, 5.0, 4.0, 4.0, -2.0]),
            2,
            "Los dos primeros puestos ya los ocupan los dos 5. ¿Cuentas "
            "tokens, o valores distintos?",
        ),
        (
            torch.tensor([200.0, 0.0, 50.0, 10.0]),
            3,
            "Con logits muy separados, las probabilidades pequeñas se quedan "
            "en 0 y empatan. Compara logits, no probabilidades.",
        ),
        (
            torch.tensor([-INF, 1.0, 3.0, 2.0]),
            3,
            "Un token ya prohibido (−∞) tiene que seguir prohibido.",
        ),
        (
            -5 - random_logits(3, 40).abs(),
            5,
            "¿Qué haces si todos son negativos?",
        ),
    ):
        right = TopKLogitsWarper(k)(None, logits[None])[0]
        _compare(_filtered(top_k, logits, k), right, logits, hint)


@exercise("04.2", success="¡Correcto! El conjunto más pequeño que alcanza p.")
def best_p(top_p):
    """`top_p(logits [V], p) -> [V]`, con −∞ en los descartados."""
    cases = [(torch.tensor([0.03, 0.95, 0.02]).log(), 0.9)]
    cases += [(torch.tensor([0.05, 0.3, 0.15, 0.5]).log(), 0.9)]
    cases += [(random_logits(i, 40), 0.05 + 0.9 * i / 99) for i in range(100)]
    cases += [(torch.tensor([2.0, -INF, 1.0, 0.0]), 0.95)]
    for logits, p in cases:
        if not _on_the_edge(logits, p):
            ours = _filtered(top_p, logits, p)
            moved = "¿Devuelves cada cosa a su sitio después de ordenar?"
            _check_nucleus(ours, logits, p, moved)
    tied = torch.tensor([0.1, 0.3, 0.3, 0.3]).log()
    kept = int(_filtered(top_p, tied, 0.5).isfinite().sum())
    expect(
        kept == 2,
        f"Con [0.1, 0.3, 0.3, 0.3] y p = 0.5 bastan dos y dejas {kept}. Hay "
        "empatados: ¿cortas por valor o por puesto?",
    )


@exercise(
    "04.3", success="¡Correcto! Justa, repetible y sin azar cuando T = 0."
)
def fair(choose):
    """`choose(logits [V], T, generator) -> id`."""
    logits = torch.tensor([0.05, 0.5, 0.3, 0.15]).log() + 7
    dice = torch.Generator().manual_seed(0)

    def ask(scores, T):
        given = scores.clone()
        value = call(choose, given, T, dice)
        expect(
            torch.equal(given, scores),
            "Tu función cambia los logits que recibe. Divide sin tocarlos.",
        )
        hint = f"Tiene que devolver un id: un entero de 0 a {len(scores) - 1}."
        expect(not isinstance(value, bool), hint)
        value = as_int(value, hint)
        expect(0 <= value < len(scores), hint)
        return value

    zero = "Con T = 0 no se divide: es otra rama."
    try:
        first = {ask(torch.tensor([1.0, 3.0, 2.0]), 0) for _ in range(20)}
        tied = {ask(torch.tensor([1.0, 3.0, 3.0]), 0) for _ in range(20)}
    except Hint as hint:
        divides = "RuntimeError" in str(hint) or "ZeroDivision" in str(hint)
        raise Hint(f"{hint} {zero * divides}".strip()) from None
    expect(first == {1}, f"Con T = 0 sale siempre el de mayor logit. {zero}")
    expect(
        len(tied) == 1,
        f"Con T = 0 y dos empatados sale unas veces uno y otras, otro. {zero}",
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
    for T in (1.0, 0.3, 2.0):
        wanted = (logits / T).softmax(-1)
        drawn = torch.tensor([ask(logits, T) for _ in range(5000)])
        seen = torch.bincount(drawn, minlength=4) / 5000
        worst = int((seen - wanted).abs().argmax())
        expect(
            bool((seen - wanted).abs().max() < 0.03),
            f"Con T = {T}, el token {worst} sale el {seen[worst]:.0%} de las "
            f"veces y debería salir el {wanted[worst]:.0%}. "
            + (
                "¿Devuelves el id, o el puesto? ¿Sorteas con el softmax?"
                if T == 1
                else "¿Divides los logits por T antes del softmax?"
            ),
        )
    expect(
        {ask(logits, 0.05) for _ in range(40)} <= {1, 2},
        "Con T = 0.05 sale un token que no tiene casi probabilidad.",
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


@exercise("04.4", success="¡Correcto! El mismo orden que generate.")
def chain(warp):
    """`warp(logits [V], T, k, p) -> [V]` en el orden de transformers."""
    cases, given = [], []
    for i in range(60):
        logits = random_logits(100 + i, 30)
        if i % 10 == 9:
            logits = logits.round()  # con empates
        T = (0.4, 0.8, 1.0, 1.7, 3.0)[i % 5]
        k, p = 2 + i % 13, 0.3 + 0.65 * i / 59
        cut = TopKLogitsWarper(k)(None, logits[None] / T)
        if not _on_the_edge(cut[0], p):
            cases.append((logits, T, k, p))
            given.append(_filtered(warp, logits, T, k, p))
    kept = [x.isfinite() for x in given]
    rights = [_kept("T k p", *case) for case in cases]
    if not all(map(torch.equal, kept, rights)):
        for order, hint in _ORDERS.items():
            masks = [_kept(order, *case) for case in cases]
            expect(not all(map(torch.equal, kept, masks)), hint)
    for (logits, T, k, p), ours in zip(cases, given):
        right = logits[None] / T
        for step in (TopKLogitsWarper(k), TopPLogitsWarper(p)):
            right = step(None, right)
        hint = (
            f"Con T = {T}, k = {k}, p = {p:.2f}. Comprueba cada filtro por "
            "separado (ejercicios 1 y 2) y luego el orden."
        )
        if logits.equal(logits.round()):  # de los empatados, sirve cualquiera
            same = ours.isfinite().sum() == right.isfinite().sum()
            expect(bool(same), f"Hay empates en el k-ésimo. {hint}")
            continue
        values = "Los que quedan deben valer logit / T, ni más ni menos."
        _compare(ours, right[0], logits, hint, values)


_ORDERS = {
    "T kp": "Top-p ha mirado todo el vocabulario, antes que top-k o a la vez "
    "(el orden de Candle). En transformers ve lo que deja top-k, ya repartido.",
    "k p T": "La temperatura va al final (el orden de llama.cpp) o falta. En "
    "transformers va la primera.",
    "T p": "Lo que conservas es lo que daría la cadena sin top-k.",
    "T k": "Lo que conservas es lo que daría la cadena sin top-p.",
}


def _kept(order: str, logits, T, k, p) -> torch.Tensor:
    """Qué tokens dejan los pasos de `order`; «kp» es hacerlos a la vez."""
    keep = torch.ones_like(logits, dtype=torch.bool)
    for step in order.split():
        scores = logits.double().masked_fill(~keep, -INF)
        shares, ranks = scores.softmax(-1).sort(descending=True)
        inside = shares.cumsum(0) - shares < p
        nucleus = torch.zeros_like(keep).scatter(0, ranks, inside)
        top = scores >= scores.topk(k).values[-1]
        if step == "T":
            logits = logits / T
        if "k" in step:
            keep = keep & top
        if "p" in step:
            keep = keep & nucleus
    return keep


@exercise("04.5", success="¡Correcto! El orden ha cambiado quién puede salir.")
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
        f"Tus probabilidades suman {float(shares.sum()):.6f}, y no 1.",
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
    result = (
        f"Con T antes quedan {first} y con T después, {last}; se pide que con "
        "T antes queden al menos 3 menos. "
    )
    expect(float(T) < 1, result + "¿Qué T concentra: mayor o menor que 1?")
    expect(
        last >= 4,
        result
        + "Con T después el núcleo es pequeño: ¿qué distribución, y qué "
        "p, lo tienen grande?",
    )
    best = shares.max()
    expect(
        int((shares == best).sum()) == 1,
        result + "Hay empate en cabeza, y ninguna T separa a dos iguales.",
    )
    expect(last - first >= 3, result + "Ve más lejos con T.")


@exercise("04.6", success="¡Cazado! Ordenar desordena: hay que volver.")
def bug(nucleus):
    """`nucleus(logits [V], p) -> [V]`."""
    for i in range(40):
        logits = random_logits(200 + i, 12)
        if i % 2 == 0:  # ya ordenados: aquí el bug no se ve
            logits = logits.sort(descending=True).values
        p = 0.2 + 0.75 * i / 39
        if _on_the_edge(logits, p):
            continue
        ours = _filtered(nucleus, logits, p)
        moved = (
            "El número coincide y los tokens no: la máscara, al aplicarse, "
            "¿está en el orden de los logits o en el de las probabilidades "
            "ordenadas?"
        )
        _check_nucleus(ours, logits, p, moved)
