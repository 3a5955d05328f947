"""Corrección del laboratorio 03 · Softmax y temperatura."""

import math

import torch
import torch.nn.functional as F

from . import Hint, call, exercise, expect
from .bench import random_logits

INF = float("inf")


def _number(value, what: str) -> float:
    expect(
        not isinstance(value, str | bytes | bool),
        f"{what} tiene que ser un número.",
    )
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise Hint(f"{what} tiene que ser un solo número.") from None
    expect(not math.isnan(value), f"{what} sale NaN. ¿Hay un 0 · ln 0?")
    return value


def _shares(value, size: int) -> torch.Tensor:
    expect(
        isinstance(value, torch.Tensor) and list(value.shape) == [size],
        f"Devuelve un tensor de forma [{size}], una probabilidad por logit.",
    )
    return value.detach().double()


@exercise("03.1", success="¡Correcto! Ni se desborda ni se queda corto.")
def stable_softmax(softmax):
    """`softmax(logits [V]) -> [V]`, sin desbordar."""
    cases = (
        (random_logits(0), "normales"),
        (torch.tensor([1000.0, 999.0, 0.0]), "enormes"),
        (torch.tensor([0.0, 999.0, 1000.0]), "enormes al final"),
        (torch.tensor([-INF, 2.0, 1.0]), "que empiezan por −∞"),
        (torch.tensor([-1000.0, -1001.0]), "muy negativos"),
        (torch.tensor([2.0, -INF, 1.0]), "con un −∞"),
        (torch.tensor([5.0]), "de un solo token"),
        (random_logits(1, 4000, 8.0), "de un vocabulario de 4000"),
    )
    for logits, name in cases:
        given = logits.clone()
        ours = _shares(call(softmax, logits), len(given))
        expect(
            torch.equal(logits, given),
            "Tu función cambia los logits que recibe. Trabaja sobre una copia.",
        )
        expect(
            bool(ours.isfinite().all()),
            f"Con logits {name} salen NaN o infinitos. Resta a todos el mismo "
            "número antes de la exponencial: ¿cuál?",
        )
        expect(
            abs(ours.sum().item() - 1) < 1e-4,
            f"Con logits {name} la suma da {ours.sum().item():.4f}. ¿Divides "
            "por la suma de las exponenciales?",
        )
        expect(
            # con logits de 1000, en 32 bits no hay más cifras que estas
            torch.allclose(ours, given.double().softmax(-1), atol=1e-4),
            f"Con logits {name} suma 1, pero no reparte como el softmax. "
            "Comprueba la razón entre dos tokens: e elevado a su diferencia.",
        )


@exercise("03.2", success="¡Correcto! Y crece con T, como debe.")
def doubt(entropy):
    """`entropy(logits [V], T) -> float`, en nats."""
    flat = torch.zeros(8)
    value = _number(call(entropy, flat, 1.0), "La entropía")
    expect(
        abs(value - math.log(8)) < 1e-4,
        f"Ocho tokens iguales tienen entropía ln 8 = {math.log(8):.3f} nats y "
        f"tú das {value:.3f}. ¿Usas logaritmo natural, el signo menos y sumas "
        "(no promedias)?",
    )
    for seed in range(6):
        logits = random_logits(seed, 150_000 if seed == 5 else 40)
        if seed == 3:
            logits += 1000
        if seed == 4:
            logits[:20] = -INF
        before = -INF
        for T in (0.2, 0.7, 1.0, 1.5, 3.0):
            given = logits.clone()
            value = _number(call(entropy, given, T), "La entropía")
            expect(
                torch.equal(given, logits),
                "Tu función cambia los logits que recibe. Divide sin tocarlos.",
            )
            p = (logits.double() / T).softmax(-1)
            right = torch.special.entr(p).sum().item()
            expect(
                abs(value - right) < 1e-3,
                f"Con T = {T} sale {value:.3f} y debería ser {right:.3f}. "
                "¿Divides los logits por T antes del softmax?",
            )
            expect(value > before, "La entropía tiene que crecer con T.")
            before = value


@exercise("03.3", success="¡Correcto! Has encontrado el punto exacto.")
def find_temperature(temperature_for):
    """`temperature_for(logits [V], target) -> T`."""
    for seed, target, scale in (
        (0, 0.6, 3.0),
        (1, 0.3, 3.0),
        (2, 0.99, 0.3),
        (3, 0.05, 30.0),
        (0, 0.1, 3.0),
    ):
        logits = random_logits(seed, scale=scale)
        T = _number(call(temperature_for, logits.clone(), target), "T")
        expect(0 < T < INF, f"T = {T} no es una temperatura válida.")
        best = (logits.double() / T).softmax(-1).max().item()
        expect(
            not 1e-3 <= abs(best - target) < 1e-2,
            f"Casi: con tu T = {T:.4f} el mejor tiene {best:.4f} y se pedía "
            f"{target}. ¿Faltan vueltas, o el extremo del intervalo corta?",
        )
        expect(
            abs(best - target) < 1e-3,
            f"Con tu T = {T:.4f} el mejor tiene {best:.3f} y se pedía "
            f"{target}. ¿Buscas en un intervalo bastante ancho, y hacia el "
            "lado correcto? Más T, menos probabilidad para el mejor.",
        )


@exercise(
    "03.4", success="¡Correcto! La misma que exp(loss) de la biblioteca."
)
def text_perplexity(perplexity):
    """`perplexity(logits [n, V], ids [n]) -> float`."""
    for seed, n in ((0, 6), (1, 2), (2, 30)):
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(n, 20, generator=generator)
        ids = torch.randint(0, 20, (n,), generator=generator)
        value = call(perplexity, logits.clone(), ids.clone())
        value = _number(value, "La perplejidad")
        loss = F.cross_entropy(logits[:-1], ids[1:]).item()
        if abs(value - math.exp(loss)) < 1e-3 * math.exp(loss):
            continue
        same = F.cross_entropy(logits, ids).item()
        total = F.cross_entropy(logits[:-1], ids[1:], reduction="sum").item()
        for wrong, hint in (
            (
                math.exp(same),
                "Comparas cada posición con su propio token. Los logits de la "
                "posición i predicen el token i + 1.",
            ),
            (loss, "Eso es la sorpresa media: falta elevar e a ese número."),
            (
                math.exp(-loss),
                "Tienes el signo cambiado: la sorpresa es −ln p.",
            ),
            (2**loss, "Mezclas bases: con logaritmo natural, se eleva e."),
            (
                math.exp(min(total, 700)),
                "Sumas las sorpresas; la perplejidad usa su media.",
            ),
        ):
            expect(abs(value - wrong) > 1e-3 * max(1, abs(wrong)), hint)
        expect(
            value < INF,
            "Sale infinito: el producto de muchas probabilidades llega a 0. "
            "Suma logaritmos en lugar de multiplicar.",
        )
        raise Hint(
            f"Con {n} tokens sale {value:.3f} y debería ser "
            f"{math.exp(loss):.3f}. Hay n − 1 predicciones: ¿cuáles comparas, "
            "y con logprobs (log_softmax) o con logits?"
        )


@exercise("03.5", success="¡Correcto! Las cifras delatan al dtype.")
def forensic(guess_dtype):
    """`guess_dtype(percentages, top_logit) -> str`."""
    names = ("bfloat16", "float16", "float32")
    for seed in range(12):
        dtype = getattr(torch, names[seed % 3])
        percentages, top = _published(dtype, seed)
        answer = call(guess_dtype, list(percentages), top)
        expect(
            isinstance(answer, str) and answer in names,
            f"Devuelve uno de estos textos: {', '.join(names)}.",
        )
        right = names[seed % 3]
        expect(
            answer == right,
            f"Con {percentages} y primer logit {top:.4f} dices {answer} y se "
            f"calculó en {right}. Recupera los logits y mira a qué distancia "
            "quedan del múltiplo del paso más cercano. Todo lo que encaja en "
            "el paso grande encaja también en el pequeño: ¿por cuál empiezas?",
        )


def _published(dtype, seed: int) -> tuple[list[float], float]:
    """Cinco probabilidades con tres decimales, de logits redondeados."""
    generator = torch.Generator().manual_seed(seed)
    logits = 40 + 3 * torch.rand(5, generator=generator)
    logits = (logits + 0.0131).to(dtype).double().sort(descending=True).values
    shares = 90 * (logits - logits[0]).exp()
    shares = shares / (logits - logits[0]).exp().sum()
    return [round(p, 3) for p in shares.tolist()], logits[0].item()


@exercise("03.6", success="¡Cazado! Elevar a 1/T es dividir los logits por T.")
def bug(with_temperature):
    """`with_temperature(probabilities [V], T) -> [V]`."""
    for seed in range(3):
        logits = random_logits(seed, 12, 2.0).double()
        for T in (1.0, 0.5, 2.0, 3.0):
            p = logits.softmax(-1)
            ours = _shares(call(with_temperature, p.clone(), T), 12)
            right = (logits / T).softmax(-1)
            if torch.allclose(ours, right, atol=1e-6):
                continue
            expect(
                abs(ours.sum().item() - 1) < 1e-4,
                f"Con T = {T} las probabilidades ya no suman 1.",
            )
            expect(
                T != 1,
                "Con T = 1 las probabilidades tienen que quedarse igual.",
            )
            expect(
                (ours.max() > p.max()) == (right.max() > p.max()),
                f"Con T = {T} el mejor token va de {p.max():.2f} a "
                f"{ours.max():.2f}, justo al revés de lo que debe. Escribe "
                "e^(logit / T) como una potencia de e^logit.",
            )
            raise Hint(
                f"Con T = {T} va hacia el lado correcto, pero no llega al "
                "valor exacto. Escribe e^(logit / T) como una potencia de "
                "e^logit: ¿qué exponente queda?"
            )
