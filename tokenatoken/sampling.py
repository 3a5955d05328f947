"""De logits a otra distribución: lo que hace el sistema, no el modelo.

Cada función recibe logits `[V]` o `[B, V]` y devuelve otros de igual forma, en
fp32. No sabe nada de modelos ni de tokenizadores.
"""

import torch


def apply_temperature(
    logits: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Logits divididos por la temperatura (Hinton y otros, 2015), en fp32.

    `logits`: `[V]` o `[B, V]`. Con T < 1 la distribución se concentra, con
    T > 1 se aplana, y T = 0 es una rama aparte: el mejor logit se queda en 0
    y los demás en −∞ (si hay empate, gana el de menor id, como `argmax`).
    Lanza `ValueError` si la temperatura es negativa o no es un número, o si
    los logits no sirven (`check_logits`).
    """
    check_logits(logits)
    number = isinstance(temperature, int | float)
    if not number or not 0 <= temperature < float("inf"):
        raise ValueError(
            f"temperature={temperature!r} no vale: tiene que ser un número "
            "mayor o igual que 0 (0 es elegir siempre el mejor token)."
        )
    logits = logits.float()  # [.., V]
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)  # [.., 1]
        only = torch.full_like(logits, float("-inf"))
        return only.scatter(-1, best, 0.0)
    return logits / temperature


def check_logits(logits: torch.Tensor) -> None:
    """Lanza `ValueError` si no son logits utilizables: forma `[V]` o `[B, V]`,
    tipo real, sin NaN ni +∞, y con algún valor finito en cada fila."""
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        raise ValueError(
            "Esperaba un tensor de logits en coma flotante y he recibido "
            f"{getattr(logits, 'dtype', type(logits).__name__)}."
        )
    if logits.dim() not in (1, 2) or logits.shape[-1] == 0:
        raise ValueError(
            f"Los logits tienen forma {list(logits.shape)} y hace falta [V] o "
            "[B, V]. Si vienen del modelo, quédate con la última posición: "
            "logits[:, -1]."
        )
    if logits.isnan().any():
        raise ValueError(
            "Hay NaN entre los logits. Suele venir de dividir por un número "
            "minúsculo en 16 bits: haz la cuenta en fp32."
        )
    if (logits == float("inf")).any() or not logits.isfinite().any(-1).all():
        raise ValueError(
            "Hay un logit +∞, o una fila en la que todos son −∞: no queda "
            "ningún token que se pueda elegir."
        )
