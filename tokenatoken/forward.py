"""Un forward pass, bien pedido: del texto a los logits que hacen falta.

No sabe nada de muestreo ni de bucles: da los logits y se retira.
"""

import pandas as pd
import torch

from . import CourseError
from .tokens import encode


def prompt_ids(model, tokenizer, text: str) -> torch.Tensor:
    """Ids del texto como tensor `[1, n]`, en el dispositivo del modelo.

    Lanza `ValueError` si el texto está vacío o no cabe en el contexto.
    """
    if not isinstance(text, str):
        raise CourseError(
            f"El prompt tiene que ser un texto, no {type(text).__name__}."
        )
    ids = encode(tokenizer, text)
    if not ids:
        raise CourseError(
            "El prompt está vacío: el modelo necesita al menos un token para "
            "predecir el siguiente."
        )
    return check_ids(model, torch.tensor([ids], device=model.device))


def check_ids(model, ids: torch.Tensor) -> torch.Tensor:
    """Devuelve `ids` si el modelo puede leerlos; si no, `ValueError`.

    `ids`: enteros `[B, n]`, con 1 ≤ n ≤ contexto y 0 ≤ id < filas del
    embedding.
    """
    if not isinstance(ids, torch.Tensor):
        raise CourseError(
            f"Los ids tienen que ser un tensor de forma [B, n], no "
            f"{type(ids).__name__}. De un texto: prompt_ids(model, tokenizer, "
            "texto)."
        )
    if ids.dtype != torch.long or ids.dim() != 2 or not ids.numel():
        raise CourseError(
            f"Los ids tienen forma {list(ids.shape)} y tipo {ids.dtype}; hace "
            "falta un tensor de enteros (torch.long) de forma [B, n]."
        )
    longest = model.config.max_position_embeddings
    if ids.shape[1] > longest:
        raise CourseError(
            f"El prompt tiene {ids.shape[1]} tokens y en el contexto del "
            f"modelo caben {longest}. Recórtalo."
        )
    rows = model.config.vocab_size
    if ids.min() < 0 or ids.max() >= rows:
        wrong = ids[(ids < 0) | (ids >= rows)][0].item()
        raise CourseError(
            f"El id {wrong} no existe: este modelo tiene ids del 0 al "
            f"{rows - 1}. ¿Viene de otro tokenizador?"
        )
    return ids


@torch.inference_mode()
def all_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """Logits de todas las posiciones, `[B, n, V]`, en fp32."""
    return model(check_ids(model, ids), use_cache=False).logits.float()


@torch.inference_mode()
def next_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """Logits del token que sigue a cada fila, `[B, V]`, en fp32.

    Pide al modelo solo la última posición (`logits_to_keep=1`): las demás
    filas por `lm_head` serían trabajo tirado.
    """
    output = model(check_ids(model, ids), use_cache=False, logits_to_keep=1)
    return output.logits[:, -1].float()


def top_tokens(logits: torch.Tensor, tokenizer, k: int = 5) -> pd.DataFrame:
    """Los k mejores candidatos de unos logits `[V]`: token (con `repr`, para
    que se vea el espacio), id, logit y probabilidad en tanto por ciento."""
    if not 1 <= k <= logits.shape[-1]:
        raise CourseError(
            f"k={k} no vale: pide entre 1 y {logits.shape[-1]} candidatos."
        )
    values, ids = logits.float().topk(k)  # [k], [k]
    shares = 100 * logits.float().softmax(-1)[ids]  # [k]
    return pd.DataFrame(
        {
            "token": [repr(tokenizer.decode([i])) for i in ids.tolist()],
            "id": ids.tolist(),
            "logit": [round(v, 1) for v in values.tolist()],
            "prob. %": [round(p, 1) for p in shares.tolist()],
        },
        index=range(1, k + 1),
    )
