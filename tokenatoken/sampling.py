"""De logits al siguiente token: lo que hace el sistema, no el modelo.

Los filtros reciben logits `[V]` o `[B, V]` y devuelven otros de igual forma,
en fp32, con −∞ en lo que quitan: los mismos que los de transformers, bordes
incluidos. `Sampler` los reúne en un «elige» para el bucle. No sabe nada de
modelos ni de tokenizadores.
"""

from dataclasses import dataclass
from numbers import Integral, Real

import torch

from . import CourseError

_TINIEST = 1e-30  # por debajo, dividir los logits se sale de fp32


def apply_temperature(
    logits: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Logits divididos por la temperatura (Hinton y otros, 2015), en fp32.

    `logits`: `[V]` o `[B, V]`. Con T < 1 la distribución se concentra, con
    T > 1 se aplana, y T = 0 es una rama aparte: el mejor logit se queda en 0
    y los demás en −∞ (si hay empate, gana el de menor id, como `argmax`).
    Lanza `ValueError` si la temperatura es negativa o no es un número.
    """
    check_settings(temperature=temperature)
    logits = logits.float()  # [.., V]
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)  # [.., 1]
        only = torch.full_like(logits, float("-inf"))
        return only.scatter(-1, best, 0.0)
    return logits / temperature


def top_k_filter(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Deja los k mejores logits, y los empatados con el k-ésimo (Fan y otros,
    2018; `TopKLogitsWarper` de transformers). Con k mayor que V, todos.

    Lanza `ValueError` si k no es un entero positivo.
    """
    check_settings(top_k=k)
    logits = logits.float()  # [.., V]
    worst = logits.topk(min(k, logits.shape[-1])).values[..., -1:]  # [.., 1]
    return logits.masked_fill(logits < worst, float("-inf"))


def top_p_filter(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Deja el núcleo: el menor conjunto de tokens cuya suma alcanza p
    (Holtzman y otros, 2019; `TopPLogitsWarper` de transformers).

    Se suma desde el menos probable, como la biblioteca: fuera los que juntos
    no pasan de 1 − p. El mejor se queda siempre. Lanza `ValueError` si p no
    está en (0, 1].
    """
    check_settings(top_p=p)
    logits = logits.float()  # [.., V]
    ordered, order = logits.sort(-1)  # de peor a mejor
    out = ordered.softmax(-1).cumsum(-1) <= 1 - p  # [.., V]
    out[..., -1] = False
    return logits.masked_fill(out.scatter(-1, order, out), float("-inf"))


def min_p_filter(logits: torch.Tensor, p: float) -> torch.Tensor:
    """Deja los tokens con al menos p veces la probabilidad del mejor (Nguyen
    y otros, 2024; `MinPLogitsWarper` de transformers).

    Lanza `ValueError` si p no está en [0, 1].
    """
    check_settings(min_p=p)
    logits = logits.float()  # [.., V]
    shares = logits.softmax(-1)
    out = shares < p * shares.amax(-1, keepdim=True)  # [.., V]
    return logits.masked_fill(out, float("-inf"))


def repetition_penalty(
    logits: torch.Tensor, ids: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Rebaja los tokens que ya están en `ids` (`[n]` o `[B, n]`): divide los
    logits positivos por `penalty` y multiplica los negativos (CTRL, Keskar y
    otros, 2019; `RepetitionPenaltyLogitsProcessor` de transformers).

    Cada token se rebaja una vez, salga las que salga. Lanza `ValueError` si
    `penalty` no es positivo o los ids no acompañan a los logits.
    """
    _need_tensor(logits)  # sin leer sus valores: un viaje menos a la GPU
    check_settings(penalty=penalty)
    shape = getattr(ids, "shape", None)
    if shape is None or shape[:-1] != logits.shape[:-1] or not len(shape):
        raise CourseError(
            f"Con logits de forma {list(logits.shape)} los ids ya escritos "
            "son un tensor con las mismas filas, [n] o [B, n], no "
            f"{type(ids).__name__ if shape is None else list(shape)}."
        )
    logits = logits.float()  # [.., V]
    seen = logits.gather(-1, ids)  # [.., n]
    lower = torch.where(seen < 0, seen * penalty, seen / penalty)
    return logits.scatter(-1, ids, lower)


def warp_logits(
    logits: torch.Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> torch.Tensor:
    """Temperatura, top-k, top-p y min-p, en este orden (el de `generate` de
    transformers). `None` es no aplicar ese filtro."""
    logits = apply_temperature(logits, temperature)
    if top_k is not None:
        logits = top_k_filter(logits, top_k)
    if top_p is not None:
        logits = top_p_filter(logits, top_p)
    if min_p is not None:
        logits = min_p_filter(logits, min_p)
    return logits


@dataclass(frozen=True)
class Sampler:
    """Un «elige» para el bucle: los ajustes, comprobados una vez.

    `Sampler(…)(logits, ids)`: logits `[B, V]` y lo escrito hasta ahora
    `[B, n]` → un id por fila, `[B]`. Con `temperature=0` es el mejor, sin
    azar. El azar sale de `generator`, que tiene que estar en el mismo
    dispositivo que los logits; sin él, del generador global de PyTorch. Lanza
    `ValueError` al crearlo si algún ajuste no vale.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    penalty: float = 1.0
    generator: torch.Generator | None = None

    def __post_init__(self):
        settings = dict(vars(self))
        if not isinstance(settings.pop("generator"), torch.Generator | None):
            raise CourseError(
                f"generator={self.generator!r} no vale: tiene que ser un "
                "torch.Generator(), por ejemplo con .manual_seed(0)."
            )
        check_settings(**settings)

    def __call__(self, logits, ids=None) -> torch.Tensor:
        if self.penalty != 1:
            logits = repetition_penalty(logits, ids, self.penalty)
        if self.temperature == 0:
            return logits.argmax(-1)  # [B]
        shares = warp_logits(
            logits,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
        ).softmax(-1)
        try:
            drawn = torch.multinomial(shares, 1, generator=self.generator)
        except RuntimeError as error:
            if usable(logits).all():  # es otra cosa: otro dispositivo…
                raise
            raise CourseError(UNUSABLE) from error
        return drawn[..., 0]


def sample_token(logits: torch.Tensor, **settings) -> torch.Tensor:
    """Elige un id por fila: logits `[B, V]` → ids `[B]` (o `[V]` → `[]`), con
    los ajustes de `Sampler`. Lanza `ValueError` si los logits no sirven."""
    check_logits(logits)
    return Sampler(**settings)(logits)


def check_settings(
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    penalty: float = 1.0,
) -> None:
    """Lanza `ValueError` si algún ajuste no vale."""
    if not is_number(temperature) or not 0 <= temperature < float("inf"):
        raise CourseError(
            f"temperature={temperature!r} no vale: tiene que ser un número "
            "mayor o igual que 0 (0 es elegir siempre el mejor token)."
        )
    if 0 < temperature < _TINIEST:
        raise CourseError(
            f"temperature={temperature!r} es tan pequeña que los logits se "
            "desbordan. Para elegir siempre el mejor token, usa 0."
        )
    if top_k is not None and not (is_whole(top_k) and top_k >= 1):
        raise CourseError(
            f"top_k={top_k!r} no vale: tiene que ser un entero, 1 o mayor. "
            "Para no filtrar, usa None."
        )
    if top_p is not None and not (is_number(top_p) and 0 < top_p <= 1):
        raise CourseError(
            f"top_p={top_p!r} no vale: tiene que ser mayor que 0 y como mucho "
            "1 (0.9 es quedarse con el 90 %). Para no filtrar, usa None."
        )
    if min_p is not None and not (is_number(min_p) and 0 <= min_p <= 1):
        raise CourseError(
            f"min_p={min_p!r} no vale: tiene que estar entre 0 y 1 (0.1 es "
            "pedir la décima parte que el mejor). Para no filtrar, usa None."
        )
    if not is_number(penalty) or not 0 < penalty < float("inf"):
        raise CourseError(
            f"penalty={penalty!r} no vale: tiene que ser un número mayor que "
            "0 (1 no cambia nada, 1.1 rebaja lo ya dicho)."
        )


def is_number(value) -> bool:
    """Si es un número, de Python o de numpy, y no un booleano."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value) -> bool:
    """Si es un entero, de Python o de numpy, y no un booleano."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _need_tensor(logits) -> None:
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        raise CourseError(
            "Esperaba un tensor de logits en coma flotante y he recibido "
            f"{getattr(logits, 'dtype', type(logits).__name__)}."
        )


def check_logits(logits: torch.Tensor) -> None:
    """Lanza `ValueError` si no son logits utilizables: forma `[V]` o `[B, V]`,
    tipo real, sin NaN ni +∞, y con algún valor finito en cada fila."""
    _need_tensor(logits)
    if logits.dim() not in (1, 2) or logits.shape[-1] == 0:
        raise CourseError(
            f"Los logits tienen forma {list(logits.shape)} y hace falta [V] o "
            "[B, V]. Si vienen del modelo, quédate con la última posición: "
            "logits[:, -1]."
        )
    if not usable(logits).all():
        raise CourseError(UNUSABLE)


UNUSABLE = (
    "Hay NaN o +∞ entre los logits, o una fila en la que todos son −∞: no se "
    "puede elegir. El NaN suele venir de 16 bits que se desbordan: haz la "
    "cuenta en fp32. Si es de una máscara tuya, deja algún token permitido."
)


def usable(logits: torch.Tensor) -> torch.Tensor:
    """Si de cada fila de logits `[.., V]` se puede elegir: un booleano `[..]`,
    en su dispositivo (leerlo espera a la GPU). El máximo es finito solo si no
    hay NaN ni +∞ y queda algún logit que no sea −∞."""
    return logits.amax(-1).isfinite()
