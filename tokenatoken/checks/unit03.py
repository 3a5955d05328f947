"""Corrección del laboratorio 03 · Softmax y temperatura."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from .bench import random_logits
from .kit import Part, call, exercise, expect, number, say

INF = float("inf")
DTYPES = ("bfloat16", "float16", "float32")


def _shares(weights):
    return weights / weights.sum()


# 03.1


def _name(logits) -> str:
    if len(logits) > 4:
        return f"{len(logits)} logits al azar"
    return "[" + "; ".join(say("{0:.0f}", x) for x in logits.tolist()) + "]"


def _softmax_hint(ours, right, logits) -> str:
    total = float(ours.sum())
    if abs(total - 1) > 1e-4:
        return say("La suma da {0:.4f}. ¿Entre qué hay que dividir?", total)
    return (
        "Suma 1, pero no reparte como el softmax. Mide la razón entre dos "
        "tokens: e elevado a la diferencia de sus logits."
    )


def _with_numpy(logits):
    weights = np.exp(logits.numpy() - logits.numpy().max())
    return torch.from_numpy(weights / weights.sum())


def _with_loop(logits):
    top = max(logits.tolist())
    weights = [math.exp(x - top) for x in logits.tolist()]
    return torch.tensor([w / sum(weights) for w in weights])


exercise(
    "03.1",
    Part(
        lambda: [
            (random_logits(0),),
            (torch.tensor([200.0, 199.0, 0.0]),),
            (torch.tensor([500.0, 0.0, 0.0, 0.0]),),
            (torch.tensor([1000.0, 999.0, 0.0]),),
            (torch.tensor([0.0, 999.0, 1000.0]),),
            (torch.tensor([-1000.0, -1001.0]),),
            (torch.tensor([2.0, -INF, 1.0]),),
            (torch.tensor([-INF, 2.0, 1.0]),),
            (torch.tensor([5.0]),),
            (random_logits(1, 4000, 8.0),),
        ],
        truth=lambda x: x.double().softmax(-1),
        near=1e-4,  # con logits de 1000, en 32 bits no hay más cifras
        without=("softmax", "log_softmax", "softmin"),
        said=lambda ours, right, x: f"Con {_name(x)} no sale lo que debe.",
        traps={
            "La exponencial de 200 ya no cabe en 32 bits: antes hay que "
            "restar algo a todos los logits, y el reparto no cambia. Haz "
            "torch.tensor(89).exp() y mira.": [
                lambda x: _shares(x.exp()),
                lambda x: _shares((x - x.min()).exp()),
            ],
            "Restas la media, y si los logits están muy separados el mayor "
            "sigue quedando enorme. ¿Qué hay que restar para que ningún "
            "exponente pase de 0?": lambda x: _shares((x - x.mean()).exp()),
            "Con 64 bits aguantas hasta 700, y 1000 sigue sin caber. No es "
            "cuestión de precisión: hay que restar.": (
                lambda x: _shares(x.double().exp())
            ),
            "Restas el primero, que solo vale cuando el primero es grande. "
            "Dale la vuelta a la lista y mira.": (
                lambda x: _shares((x - x[0]).exp())
            ),
            "Divides los logits por el máximo. Eso cambia las diferencias "
            "entre ellos, y son las que mandan: se resta.": (
                lambda x: _shares((x / x.max()).exp())
            ),
            "Son las exponenciales sin repartir: falta que sumen 1.": (
                lambda x: (x - x.max()).exp()
            ),
            "Divides por cuántos tokens hay, y no por la suma de las "
            "exponenciales.": lambda x: (x - x.max()).exp() / len(x),
            "La base es 2 y tiene que ser e.": (
                lambda x: _shares(2 ** (x - x.max()))
            ),
            "Recortar los logits empata a los que pasan del tope: 999 y 1000 "
            "no pueden acabar igual.": [
                lambda x: _shares(x.clamp(-50, 50).exp()),
                lambda x: _shares(x.clamp(max=80).exp()),
            ],
            "Repartes los propios logits. Falta la exponencial, que hace "
            "positivos hasta a los negativos.": [
                lambda x: _shares(x),
                lambda x: _shares(x.abs()),
            ],
            "Son los logaritmos de las probabilidades; falta la "
            "exponencial.": lambda x: x - x.logsumexp(0),
        },
        otherwise=_softmax_hint,
        rights=[
            lambda x: _shares(torch.exp(x - x.max())),
            lambda x: (x - x.logsumexp(0)).exp(),
            _with_numpy,
            _with_loop,
        ],
    ),
    success="¡Correcto! Ni se desborda ni se queda corto.",
)


# 03.2


def _doubts():
    yield torch.zeros(8), 1.0
    for seed in range(6):
        logits = random_logits(seed, 150_000 if seed == 5 else 40)
        if seed == 3:
            logits += 1000
        if seed == 4:
            logits[:20] = -INF
        for T in (1.0, 0.4, 0.7, 1.5, 3.0):
            yield logits, T


def entropy(logits, T=1.0) -> float:
    """La entropía, en nats, con la función de PyTorch."""
    shares = (logits.double() / T).softmax(-1)
    return torch.special.entr(shares).sum().item()


def _from_shares(formula):
    """Una respuesta de 03.2: `formula` de las probabilidades a esa T."""
    return lambda x, T: float(formula((x / T).softmax(-1)))


def _entropy_loop(logits, T):
    if len(logits) > 99:
        return entropy(logits, T)
    shares = (logits / T).softmax(-1).tolist()
    return -sum(p * math.log(p) for p in shares if p > 0)


exercise(
    "03.2",
    Part(
        _doubts,
        truth=entropy,
        near=1e-3,
        what="La entropía",
        said="Con {0.shape[0]} tokens y T = {1} te sale {ours:.3f} y es "
        "{right:.3f}.",
        traps={
            "Está en bits: el logaritmo tiene que ser el natural.": (
                lambda x, T: entropy(x, T) / math.log(2)
            ),
            "El logaritmo es el de base 10, y se pide en nats.": (
                lambda x, T: entropy(x, T) / math.log(10)
            ),
            "Falta el signo menos: los logaritmos de las probabilidades son "
            "negativos.": lambda x, T: -entropy(x, T),
            "Es la media y se pide la suma: p ya hace de peso.": (
                lambda x, T: entropy(x, T) / len(x)
            ),
            "Con T = 1 aciertas y con las demás das lo mismo que con 1: ¿dónde "
            "entra la T?": lambda x, T: entropy(x),
            "Va al revés: al subir T tendría que subir. ¿Multiplicas los "
            "logits por T?": lambda x, T: entropy(x, 1 / T),
            "Divides por T las probabilidades, y no los logits: la "
            "temperatura va antes del softmax.": [
                lambda x, T: (
                    -(x.softmax(-1) / T * (x.softmax(-1) / T).log())
                    .nansum()
                    .item()
                ),
                lambda x, T: entropy(x.softmax(-1) / T),
            ],
            "La T multiplica o divide a la entropía, y tiene que dividir a "
            "los logits.": [
                lambda x, T: entropy(x) / T,
                lambda x, T: entropy(x) * T,
            ],
            "Una de las dos p lleva la T y la otra no: es la misma en el peso "
            "y en el logaritmo.": [
                lambda x, T: F.cross_entropy(x, (x / T).softmax(-1)),
                lambda x, T: F.cross_entropy(x / T, x.softmax(-1)),
            ],
            "Hay tokens con probabilidad 0, y 0 · ln 0 da NaN. No aportan "
            "nada: que no lleguen al logaritmo.": (
                _from_shares(lambda p: -(p * p.log()).sum())
            ),
            "Sale NaN con logits de más de 1000: el softmax escrito a mano se "
            "desborda.": (
                lambda x, T: torch.special.entr(_shares((x / T).exp())).sum()
            ),
            "Eso es e elevado a la entropía: la perplejidad de este paso.": (
                lambda x, T: math.exp(entropy(x, T))
            ),
            "Sumas las sorpresas, −ln p, sin pesarlas: cada una cuenta según "
            "su probabilidad.": (
                lambda x, T: -(x / T).log_softmax(-1).sum().item()
            ),
            "Es solo la sorpresa del mejor token; la entropía es la media de "
            "todas.": lambda x, T: -(x / T).log_softmax(-1).max().item(),
            "Lo que sumas a cada p para evitar ln 0 pesa demasiado cuando hay "
            "150 000 tokens. Prueba con uno mucho más pequeño.": [
                _from_shares(lambda p: -(p * (p + 1e-5).log()).sum()),
                _from_shares(lambda p: -(p * (p + 1e-6).log()).sum()),
            ],
        },
        otherwise="Calcula a mano el caso de dos tokens iguales: cada uno "
        "tiene 0,5, y la entropía es ln 2 = 0,693.",
        rights=[
            _from_shares(lambda p: -(p * p.clamp_min(1e-30).log()).sum()),
            _from_shares(lambda p: -(p[p > 0] * p[p > 0].log()).sum()),
            lambda x, T: np.float64(entropy(x, T)),
            lambda x, T: (
                torch.distributions.Categorical(logits=x / T).entropy().item()
            ),
            _entropy_loop,
        ],
    ),
    success="¡Correcto! Y crece con T, como debe.",
)


# 03.3


def _best(logits, T) -> float:
    return (logits.double() / T).softmax(-1).max().item()


def _search(logits, target, low=1e-3, high=1e3, rounds=60, up=True):
    for _ in range(rounds):
        middle = math.sqrt(low * high)
        more = (_best(logits, middle) > target) == up
        low, high = (middle, high) if more else (low, middle)
    return middle


def _search_recursive(logits, target, low=1e-4, high=1e5, left=90):
    middle = math.sqrt(low * high)
    if not left:
        return middle
    if _best(logits, middle) > target:
        return _search_recursive(logits, target, middle, high, left - 1)
    return _search_recursive(logits, target, low, middle, left - 1)


def _search_grid(logits, target):
    grid = np.geomspace(1e-3, 1e3, 60_000)
    shares = [_best(logits, T) for T in grid[::600]]
    near = int(np.argmin(np.abs(np.array(shares) - target))) * 600
    fine = grid[max(near - 600, 0) : near + 600 : 2]
    return fine[np.argmin([abs(_best(logits, T) - target) for T in fine])]


def _found(function, logits, target):
    """0 si la temperatura sirve; si no, la temperatura."""
    T = number(call(function, logits, target), "T")
    expect(
        0 < T < INF,
        say("T = {0} no es una temperatura: tiene que ser mayor que 0.", T),
    )
    return 0.0 if abs(_best(logits, T) - target) < 1e-3 else T


def _search_hint(T, right, logits, target) -> str:
    best = _best(logits, T)
    if abs(best - target) < 1e-2:
        return "Casi. ¿Faltan vueltas, o el extremo del intervalo corta?"
    side = "sube" if best > target else "baja"
    return (
        f"Para llegar, T {side}. Imprime tu intervalo en cada vuelta: ¿se "
        "queda con la mitad que debe, y era bastante ancho al empezar?"
    )


exercise(
    "03.3",
    Part(
        lambda: [
            (random_logits(seed, scale=scale), target)
            for seed, target, scale in (
                (0, 0.6, 3.0),
                (1, 0.3, 3.0),
                (2, 0.99, 0.3),
                (3, 0.05, 30.0),
                (0, 0.1, 3.0),
            )
        ],
        truth=lambda logits, target: 0.0,
        observe=_found,
        said=lambda T, right, logits, target: say(
            "Con tu T = {0:.4f} el mejor tiene {1:.4f} y se pedía {2}.",
            T,
            _best(logits, T),
            target,
        ),
        traps={
            "Tu T no depende de los logits ni de lo que se pide: hay que "
            "buscarla cada vez.": lambda x, target: 1.0,
            "Devuelves la probabilidad que se pedía, y se pide la T que la "
            "consigue.": lambda x, target: target,
            "Es justo la inversa de la T buena. ¿Multiplicas donde la unidad "
            "divide?": lambda x, target: 1 / _search(x, target),
            "Vas hacia el lado contrario: si el mejor tiene de más, ¿T tiene "
            "que subir o bajar?": [
                lambda x, target: _search(x, target, up=False),
                lambda x, target: _search(x, target, 0.01, 100, 50, False),
            ],
        },
        otherwise=_search_hint,
        rights=[_search, _search_recursive, _search_grid],
    ),
    success="¡Correcto! Has encontrado el punto exacto.",
)


# 03.4


def _text(seed: int, n: int):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 20, generator=generator)  # [n, V]
    return logits, torch.randint(0, 20, (n,), generator=generator)


def _came(logits, ids):
    """Las probabilidades de los tokens que de verdad vinieron: `[n − 1]`."""
    return logits[:-1].softmax(-1).gather(1, ids[1:, None])[:, 0]


def _perplexity_loop(logits, ids):
    total = 0.0
    for i in range(len(ids) - 1):
        total -= math.log(logits[i].softmax(-1)[ids[i + 1]].item())
    return math.exp(total / (len(ids) - 1))


exercise(
    "03.4",
    Part(
        lambda: [_text(0, 6), _text(1, 2), _text(2, 30), _text(3, 80)],
        truth=lambda x, i: F.cross_entropy(x[:-1], i[1:]).exp().item(),
        near=1e-3,
        what="La perplejidad",
        said="Con {0.shape[0]} tokens te sale {ours:.3f} y es {right:.3f}.",
        traps={
            "Comparas cada posición con su propio token. Los logits de la "
            "posición i predicen el token i + 1.": [
                lambda x, i: F.cross_entropy(x, i).exp().item(),
                lambda x, i: F.cross_entropy(x[:-1], i[:-1]).exp().item(),
            ],
            "Usas la probabilidad del mejor token, y se pide la del que "
            "vino.": lambda x, i: (
                (-x[:-1].log_softmax(-1).amax(-1).mean()).exp().item()
            ),
            "Has desplazado hacia el lado contrario: los logits de la "
            "posición i se comparan con el token i + 1, no con el i − 1.": (
                lambda x, i: F.cross_entropy(x[1:], i[:-1]).exp().item()
            ),
            "Eso es la sorpresa media: falta elevar e a ese número.": (
                lambda x, i: F.cross_entropy(x[:-1], i[1:]).item()
            ),
            "Tienes el signo cambiado: la sorpresa es −ln p.": (
                lambda x, i: (-F.cross_entropy(x[:-1], i[1:])).exp().item()
            ),
            "Mezclas bases: con logaritmo natural, se eleva e.": (
                lambda x, i: 2 ** F.cross_entropy(x[:-1], i[1:]).item()
            ),
            "Sumas las sorpresas; la perplejidad usa su media.": (
                lambda x, i: math.exp(-_came(x, i).double().log().sum())
            ),
            "Divides por n, y con n tokens solo hay n − 1 predicciones.": (
                lambda x, i: math.exp(-_came(x, i).log().sum() / len(i))
            ),
            "Usas los logits como si fueran logaritmos de probabilidades. "
            "Falta el log_softmax: compruébalo sumando sus exponenciales.": (
                lambda x, i: math.exp(
                    -x[:-1].gather(1, i[1:, None]).mean().item()
                )
            ),
            "Haces la media de las probabilidades, y la media es de sus "
            "logaritmos.": lambda x, i: 1 / _came(x, i).mean().item(),
            "Eso es la probabilidad del texto entero; la perplejidad es por "
            "token.": lambda x, i: _came(x, i).prod().item(),
            "El producto de muchas probabilidades llega a 0 y su inversa, a "
            "infinito. Suma logaritmos en lugar de multiplicar.": (
                lambda x, i: (
                    (1 / _came(x, i).prod()) ** (1 / (len(i) - 1))
                ).item()
            ),
        },
        otherwise="Hay n − 1 predicciones. Con n = 2 solo hay una: escribe a "
        "mano qué logits y qué token se comparan.",
        rights=[
            lambda x, i: math.exp(F.cross_entropy(x[:-1], i[1:]).item()),
            lambda x, i: torch.exp(-_came(x, i).log().mean()),
            lambda x, i: np.exp(-np.log(_came(x, i).numpy()).mean()),
            _perplexity_loop,
        ],
    ),
    success="¡Correcto! La misma que exp(loss) de la biblioteca.",
)


# 03.5


def _published(seed: int) -> tuple[list[float], float]:
    """Cinco probabilidades con tres decimales, de logits redondeados."""
    generator = torch.Generator().manual_seed(seed)
    logits = 40 + 3 * torch.rand(5, generator=generator) + 0.0131
    logits = logits.to(getattr(torch, DTYPES[seed % 3])).double()
    logits = logits.sort(descending=True).values
    shares = 90 * _shares((logits - logits[0]).exp())
    return [round(p, 3) for p in shares.tolist()], logits[0].item()


# en la 62, los dos primeros caen en un múltiplo por casualidad
SEEDS = (*range(18), 62)
PUBLISHED = {tuple(_published(seed)[0]): seed for seed in SEEDS}


def _guess(
    percentages,
    top,
    order=("bfloat16", "float16"),
    margin=0.005,
    test=all,
    log=math.log,
    scale=32,
):
    logits = [top + log(p / percentages[0]) for p in percentages]
    for name in order:
        step = scale * torch.finfo(getattr(torch, name)).eps
        gaps = [abs(x / step - round(x / step)) * step for x in logits]
        if test(gap < margin for gap in gaps):
            return name
    return "float32"


def _one_side(percentages, top):
    logits = [top + math.log(p / percentages[0]) for p in percentages]
    for name, step in (("bfloat16", 0.25), ("float16", 1 / 32)):
        if all(x % step < 0.005 for x in logits):
            return name
    return "float32"


def _guess_numpy(percentages, top):
    shares = np.array(percentages)
    logits = top + np.log(shares / shares[0])
    for name, step in (("bfloat16", 0.25), ("float16", 0.03125)):
        if (np.abs(logits - np.rint(logits / step) * step) < 0.005).all():
            return name
    return "float32"


def _dtype_name(answer, *case) -> str:
    expect(
        isinstance(answer, str) and answer in DTYPES,
        f"Devuelve uno de estos textos: {', '.join(DTYPES)}.",
    )
    return answer


exercise(
    "03.5",
    Part(
        lambda: [_published(seed) for seed in SEEDS],
        truth=lambda shares, top: DTYPES[PUBLISHED[tuple(shares)] % 3],
        read=_dtype_name,
        said=lambda ours, right, shares, top: say(
            f"Con {'; '.join(say('{0}', p) for p in shares)} y primer logit "
            "{0:.4f} dices {1} y se calculó en {2}.",
            top,
            ours,
            right,
        ),
        traps={
            "Todo lo que encaja en el paso grande encaja también en el "
            "pequeño: ¿por cuál empiezas?": (
                lambda p, top: _guess(p, top, ("float16", "bfloat16"))
            ),
            "Para ti todo es float32: nada encaja nunca. Imprime a qué "
            "distancia del múltiplo más cercano queda cada logit recuperado: "
            "¿falla el margen, o la fórmula que los recupera?": [
                lambda p, top: "float32",
                lambda p, top: _guess(p, top, margin=1e-9),
                lambda p, top: _guess(p, top, log=math.log10),
            ],
            "Para ti todo es bfloat16: todo encaja siempre. Imprime el paso y "
            "el margen: ¿cuál de los dos es mayor?": [
                lambda p, top: "bfloat16",
                lambda p, top: _guess(p, top, scale=1),
                lambda p, top: _guess(p, top, margin=0.13),
            ],
            "Un logit puede quedar un poco por debajo del múltiplo, y "
            "entonces el resto es casi un paso entero. Mide la distancia al "
            "múltiplo más cercano, por los dos lados.": _one_side,
            "Solo miras los primeros logits, y pueden caer en un múltiplo por "
            "casualidad. Tienen que encajar todos.": [
                lambda p, top: _guess(p[:1], top),
                lambda p, top: _guess(p[:2], top),
            ],
            "Te basta con que encaje uno, y el primero encaja a menudo por "
            "casualidad. Tienen que encajar todos.": (
                lambda p, top: _guess(p, top, test=any)
            ),
            "Con ese margen encaja de más en el paso pequeño: compáralo con "
            "1/32.": lambda p, top: _guess(p, top, margin=0.1),
        },
        otherwise="Recupera los logits e imprime a qué distancia quedan del "
        "múltiplo más cercano de cada paso.",
        rights=[_guess, _guess_numpy],
    ),
    success="¡Correcto! Las cifras delatan al dtype.",
)


# 03.6


def _power_hint(ours, right, p, T) -> str:
    if abs(float(ours.sum()) - 1) > 1e-4:
        return say("Ya no suman 1: suman {0:.3f}.", ours.sum())
    side = "no llega al" if ours.max() < right.max() else "se pasa del"
    return (
        f"El mejor {side} valor exacto. Escribe e^(logit / T) como una "
        "potencia de e^logit: ¿qué exponente queda?"
    )


exercise(
    "03.6",
    Part(
        lambda: [
            (random_logits(seed, 12, 2.0).double().softmax(-1), T)
            for seed in range(3)
            for T in (1.0, 0.5, 2.0, 3.0)
        ],
        truth=lambda p, T: (p.log() / T).softmax(-1),
        said=lambda ours, right, p, T: say(
            "Con T = {0} el mejor va de {1:.3f} a {2:.3f} y tendría que ir a "
            "{3:.3f}.",
            T,
            p.max(),
            ours.max(),
            right.max(),
        ),
        traps={
            "Va al revés: al subir T, el mejor tiene que bajar. Escribe "
            "e^(logit / T) como una potencia de e^logit.": (
                lambda p, T: _shares(p**T)
            ),
            "El exponente es el bueno, pero ya no suman 1: falta volver a "
            "repartir.": lambda p, T: p ** (1 / T),
            "No cambia nada: dividir o multiplicar todas las probabilidades "
            "por lo mismo y volver a repartir las deja igual.": [
                lambda p, T: p,
                lambda p, T: _shares(p / T),
                lambda p, T: _shares(p * T),
            ],
            "Les pasas otro softmax a las probabilidades, como si fueran "
            "logits. ¿Qué función las devuelve a logits?": [
                lambda p, T: (p / T).softmax(-1),
                lambda p, T: (p ** (1 / T)).softmax(-1),
            ],
            "El exponente es negativo: el mejor pasa a ser el peor.": [
                lambda p, T: _shares(p**-T),
                lambda p, T: _shares(p ** (-1 / T)),
            ],
            "Tu exponente no depende de T: arregla un caso y no los demás.": (
                lambda p, T: _shares(p.sqrt())
            ),
            "Con T = 1 aciertas, y el exponente baja al subir T, pero no es "
            "una resta. Escribe e^(logit / T) como una potencia de "
            "e^logit.": lambda p, T: _shares(p ** (2 - T)),
            "Divides por T y no vuelves a repartir: ya no suman 1.": (
                lambda p, T: p / T
            ),
        },
        otherwise=_power_hint,
        rights=[
            lambda p, T: _shares(p ** (1 / T)),
            lambda p, T: (p.log() / T).softmax(-1),
            lambda p, T: _shares((p.log() / T).exp()),
            lambda p, T: (
                torch.tensor([x ** (1 / T) for x in p.tolist()]).double()
                / sum(x ** (1 / T) for x in p.tolist())
            ),
        ],
    ),
    success="¡Cazado! Elevar a 1/T es dividir los logits por T.",
)
