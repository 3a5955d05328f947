"""El explorador de la unidad 03: la temperatura."""

import ipywidgets as widgets

from .. import number
from ..sampling import apply_temperature
from ..tokens import token_label
from .boxes import bars
from .explorer import explorer

GRID = [round(0.1 * i, 1) for i in range(26)]  # de 0 a 2,5


def temperature_explorer(logits, tokenizer, k: int = 10) -> widgets.VBox:
    """Las k mejores probabilidades, la entropía y el núcleo según T.

    `logits`: `[V]`. Los ordena una sola vez: la temperatura no cambia el
    orden. El núcleo es cuántos tokens hacen falta para juntar 0,9.
    """
    values, ids = logits.float().sort(descending=True)  # [V], [V]
    labels = [token_label(tokenizer, i) for i in ids[:k].tolist()]

    def state(T: float) -> dict:
        shares = apply_temperature(values, T).softmax(-1)
        entropy = float(-(shares * shares.clamp_min(1e-30).log()).sum())
        return {
            "T": T,
            "entropy": abs(round(entropy, 3)),
            "nucleus": int((shares.cumsum(0) < 0.9).sum()) + 1,
            "p": [round(p, 4) for p in shares[:k].tolist()],
        }

    def draw(T):
        now = state(T)
        title = f"Los {k} mejores candidatos, con T = {number(T, 1)}"
        return (
            f"Entropía: {number(now['entropy'])} nats · núcleo de 0,9: "
            f"{number(now['nucleus'], 0)} tokens"
        ), bars(labels, now["p"], title)

    return explorer(
        draw,
        states={
            "kind": "temperature",
            "labels": labels,
            "states": [state(T) for T in GRID],
        },
        T=widgets.FloatSlider(1.0, min=0, max=GRID[-1], description="T"),
    )
