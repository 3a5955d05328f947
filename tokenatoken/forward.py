"""Un forward pass, bien pedido: del texto a los logits que hacen falta.

`forward` es el único sitio del curso que llama al modelo; lo demás comprueba
una vez lo que le llega. No sabe nada de muestreo ni de bucles.
"""

import pandas as pd
import torch
from transformers.cache_utils import Cache

from . import CourseError
from .cache import check_cache, missing, remember
from .tokens import encode


def prompt_ids(model, tokenizer, text: str) -> torch.Tensor:
    """Ids del texto como tensor `[1, n]`, en el dispositivo del modelo.

    Lanza `ValueError` si el texto está vacío o no cabe en el contexto.
    """
    if not hasattr(model, "device") or not hasattr(tokenizer, "encode"):
        raise CourseError(
            "Primero va el modelo y luego el tokenizador: prompt_ids(model, "
            "tokenizer, texto). load_model devuelve los dos, en ese orden."
        )
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

    `ids`: enteros `[B, n]`, 1 ≤ n ≤ contexto, 0 ≤ id < filas del embedding.
    """
    if not isinstance(ids, torch.Tensor):
        raise CourseError(
            f"Los ids tienen que ser un tensor de forma [B, n], no "
            f"{type(ids).__name__}. De un texto: prompt_ids(model, tokenizer, "
            "texto)."
        )
    if ids.dim() == 2 and not ids.numel():
        raise CourseError(
            f"No hay ningún token: los ids tienen forma {list(ids.shape)}. El "
            "modelo necesita al menos uno para predecir el siguiente."
        )
    if ids.dtype != torch.long or ids.dim() != 2:
        raise CourseError(
            f"Los ids tienen forma {list(ids.shape)} y tipo {ids.dtype}; hace "
            "falta un tensor de enteros (torch.long) de forma [B, n]."
        )
    if not hasattr(model, "config"):
        raise CourseError(
            f"Esperaba un modelo y he recibido {type(model).__name__}. "
            "load_model devuelve dos cosas: model, tokenizer = load_model()."
        )
    longest = model.config.max_position_embeddings
    if ids.shape[1] > longest:
        raise CourseError(
            f"El prompt tiene {ids.shape[1]} tokens y en el contexto del "
            f"modelo caben {longest}. Recórtalo."
        )
    rows = model.config.vocab_size
    if not 0 <= ids.min() <= ids.max() < rows:
        wrong = ids[(ids < 0) | (ids >= rows)][0].item()
        raise CourseError(
            f"El id {wrong} no existe: este modelo tiene ids del 0 al "
            f"{rows - 1}. ¿Viene de otro tokenizador?"
        )
    return ids


def forward(model, ids, cache=None, attention_mask=None) -> torch.Tensor:
    """Pasa `ids` (`[B, m]`) por la red, detrás de lo que guarde `cache`, y
    devuelve los logits del siguiente token, `[B, V]`, en fp32. No comprueba
    nada ni lee nada del dispositivo: lo que cuesta es la red.

    Pide solo la última posición (`logits_to_keep=1`): las demás filas por
    `lm_head` serían trabajo tirado. `attention_mask`: `[B, guardados + m]`, 0
    en el relleno, que va a la izquierda y no cuenta para la posición.
    """
    options = {}
    if attention_mask is not None:
        places = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)
        options["attention_mask"] = attention_mask
        options["position_ids"] = places[:, -ids.shape[1] :]  # [B, m]
    output = model(
        ids,
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=1,
        **options,
    )
    return output.logits[:, -1].float()


@torch.inference_mode()
def next_logits(
    model,
    ids: torch.Tensor,
    cache: Cache | None = None,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logits del token que sigue a cada fila de `ids` (`[B, n]`), `[B, V]`, en
    fp32.

    Con `cache`, solo pasa por la red lo que la caché aún no guarda de `ids`:
    todo el prompt la primera vez (prefill), un token después (decode).
    `attention_mask`: `[B, n]`, 0 en el relleno, que va a la izquierda. Lanza
    `ValueError` si los ids, la máscara o la caché no valen.
    """
    check_ids(model, ids)
    _check_mask(attention_mask, ids)
    if cache is None:
        return forward(model, ids, None, attention_mask)
    check_cache(model, cache, ids, attention_mask)
    fresh = missing(ids, cache)
    remember(cache, ids.clone(), attention_mask)  # antes: puede interrumpirse
    return forward(model, fresh, cache, attention_mask)


@torch.inference_mode()
def all_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """Logits de todas las posiciones, `[B, n, V]`, en fp32."""
    return model(check_ids(model, ids), use_cache=False).logits.float()


def _check_mask(mask: torch.Tensor | None, ids: torch.Tensor) -> None:
    """Lanza `ValueError` si la máscara no es la de esos ids (`[B, n]`)."""
    if mask is None:
        return
    if list(mask.shape) != list(ids.shape):
        raise CourseError(
            f"La máscara tiene forma {list(mask.shape)} y hace falta "
            f"{list(ids.shape)}: un 1 por token y un 0 por relleno, contando "
            "lo ya guardado."
        )
    if not mask[:, -1].all():
        raise CourseError(
            "Hay relleno al final de una fila. Para generar, el relleno va a "
            "la izquierda: el último token tiene que ser de verdad."
        )


def top_tokens(logits: torch.Tensor, tokenizer, k: int = 5) -> pd.DataFrame:
    """Los k mejores candidatos de unos logits `[V]`: token (con `repr`, para
    que se vea el espacio), id, logit y probabilidad en tanto por ciento."""
    if logits.dim() != 1:
        raise CourseError(
            f"Los logits tienen forma {list(logits.shape)} y aquí van los de "
            "una fila, [V]: next_logits(model, ids)[0]."
        )
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
