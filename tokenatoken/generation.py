"""El bucle autorregresivo, un paso cada vez, con caché o sin ella.

`generate_steps` entrega un `GenerationStep` por token; quien lo recorre decide
qué hacer con él: escribirlo, dibujarlo, medirlo o guardarlo. La posición sale
solo de la caché. No sabe nada de figuras ni de controles.
"""

import operator
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from transformers.cache_utils import Cache

from . import CourseError
from .cache import kv_cache_bytes
from .forward import check_ids, next_logits
from .sampling import (
    check_settings,
    is_number,
    repetition_penalty,
    sample_token,
)


@dataclass(frozen=True, eq=False)
class GenerationStep:
    """Un token recién elegido y de dónde salió.

    `index`: 0 para el primero. `logits`: los del modelo, `[V]`, antes de
    penalizar o filtrar. `processed`: tokens que pasaron por la red en este
    paso. `seconds`: desde que empezó la generación. `stop`: por qué se acaba
    aquí, o None si sigue.
    """

    index: int
    token_id: int
    logits: torch.Tensor
    processed: int
    seconds: float
    stop: str | None = None

    @property
    def probability(self) -> float:
        """La que daba el modelo (T = 1, sin filtros) al token elegido."""
        return float(self.logits.double().softmax(-1)[self.token_id])


StopRule = Callable[[GenerationStep, list[int]], str | None]


def generate_steps(
    model,
    ids: torch.Tensor,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    penalty: float = 1.0,
    generator: torch.Generator | None = None,
    stop_ids: Iterable[int] | None = None,
    stop_rules: StopRule | Iterable[StopRule] = (),
    cache: Cache | None = None,
) -> Iterator[GenerationStep]:
    """Genera a continuación de `ids` (`[1, n]`) y entrega cada paso.

    Con `cache` (una de `make_cache` o cualquiera de transformers), cada paso
    solo pasa por la red los tokens que la caché aún no guarda; si ya guarda
    el comienzo de `ids`, lo aprovecha. Sin ella, los pasa todos. Por defecto elige siempre el mejor token (`temperature=0`). Termina en
    cualquiera de los `stop_ids` (si no se dicen, los del modelo), cuando una
    regla da un motivo o con `max_new_tokens`; el token que para es el último
    paso. No hace ningún forward después de él. Comprueba todo al llamarla,
    antes del primer forward, y lanza `ValueError` si algo no vale.
    """
    check_ids(model, ids)
    if ids.shape[0] != 1:
        raise CourseError(
            f"generate_steps sigue un solo texto y le has dado {ids.shape[0]}"
            ": pásale una fila, ids[:1]."
        )
    settings = dict(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    size = model.config.vocab_size
    check_settings(size, **settings, repetition_penalty=penalty)
    _check_length(model, ids.shape[1], max_new_tokens)
    ends = end_ids(model) if stop_ids is None else _check_ends(size, stop_ids)
    rules = [stop_rules] if callable(stop_rules) else list(stop_rules)
    for rule in rules:
        if not callable(rule) or rule in (stop_text, stop_time, stop_unsure):
            raise CourseError(
                f"{rule!r} no es una regla de parada. Se crean así: "
                "stop_text(tokenizer, texto), stop_time(segundos) o "
                "stop_unsure(probabilidad)."
            )
    if not isinstance(generator, torch.Generator | None):
        raise CourseError(
            f"generator={generator!r} no vale: tiene que ser un "
            "torch.Generator(), por ejemplo con .manual_seed(0)."
        )
    if cache is not None:
        check_cache(model, cache, ids)

    def choose(logits, ids):  # [1, V], [1, n] → [1]
        if penalty != 1:
            logits = repetition_penalty(logits, ids, penalty)
        return sample_token(logits, **settings, generator=generator)

    def score(ids):  # [1, n] → [1, V] y cuántos tokens han pasado
        if cache is None:
            return next_logits(model, ids), ids.shape[1]
        known = cache.get_seq_length()
        return prefill(model, ids, cache), ids.shape[1] - int(known)

    return _steps(ids, max_new_tokens, score, choose, ends, rules)


@torch.inference_mode()
def _steps(ids, limit, score, choose, ends, rules):
    start = time.perf_counter()
    new = []
    for index in range(limit):
        logits, processed = score(ids)  # [1, V]
        token = choose(logits, ids)  # [1]
        step = GenerationStep(
            index=index,
            token_id=token.item(),
            logits=logits[0],
            processed=processed,
            seconds=time.perf_counter() - start,
        )
        new.append(step.token_id)
        ids = torch.cat([ids, token[:, None]], -1)  # [1, n + 1]
        reasons = ["token de fin"] if step.token_id in ends else []
        reasons += filter(None, (rule(step, new) for rule in rules))
        reasons += ["máximo de tokens"] if index + 1 == limit else []
        if reasons:
            yield replace(step, stop=reasons[0])
            return
        yield step


@torch.inference_mode()
def prefill(
    model,
    ids: torch.Tensor,
    cache: Cache,
    attention_mask: torch.Tensor | None = None,
    chunk: int | None = None,
) -> torch.Tensor:
    """Pasa por la red lo que la caché aún no guarda de `ids` (`[B, n]`) y
    devuelve los logits del siguiente token, `[B, V]`, en fp32.

    `attention_mask`: `[B, n]`, 0 en el relleno (que va a la izquierda).
    `chunk`: de cuántos en cuántos tokens, para gastar menos memoria; el
    resultado es el mismo. Lanza `ValueError` si no queda nada por procesar.
    """
    check_cache(model, cache, ids)
    _check_mask(attention_mask, list(ids.shape))
    if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
        raise CourseError(f"chunk={chunk!r} no vale: trozos de 1 token o más.")
    start = int(cache.get_seq_length())
    for part in ids[:, start:].split(chunk or ids.shape[1], dim=1):
        start += part.shape[1]
        mask = None if attention_mask is None else attention_mask[:, :start]
        logits = _forward(model, part, cache, mask)
    _remember(cache, ids, attention_mask is not None)
    return logits


@torch.inference_mode()
def decode_one(
    model,
    token: torch.Tensor,
    cache: Cache,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pasa por la red un token por fila (`[B]`), que se añade a la caché, y
    devuelve los logits del siguiente, `[B, V]`.

    `attention_mask`: `[B, guardados + 1]`, si hubo relleno.
    """
    if not isinstance(token, torch.Tensor) or token.dim() != 1:
        raise CourseError(
            "decode_one recibe un id por fila, un tensor [B], y no "
            f"{getattr(token, 'shape', token)!r}."
        )
    kept = _kept(cache)
    if kept + 1 > model.config.max_position_embeddings:
        raise CourseError(
            f"La caché guarda {kept} tokens y en el contexto no cabe otro."
        )
    if attention_mask is None and getattr(cache, "padded", False):
        raise CourseError(
            "El prefill llevaba relleno: pasa también aquí la máscara, [B, "
            f"{kept + 1}], o el modelo lo leerá como texto."
        )
    _check_mask(attention_mask, [len(token), kept + 1])
    seen = getattr(cache, "seen_ids", None)
    logits = _forward(model, token[:, None], cache, attention_mask)
    if seen is not None:
        ids = torch.cat([seen[:, :kept], token[:, None]], -1)
        _remember(cache, ids, attention_mask is not None)
    return logits


def _forward(model, part, cache, mask) -> torch.Tensor:
    options = {}
    if mask is not None:
        # con relleno, la posición cuenta solo lo que no lo es
        positions = (mask.long().cumsum(-1) - 1).clamp_min(0)  # [B, n]
        options = dict(
            attention_mask=mask, position_ids=positions[:, -part.shape[1] :]
        )
    output = model(
        input_ids=part,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **options,
    )
    return output.logits[:, -1].float()


def check_cache(model, cache: Cache, ids: torch.Tensor) -> None:
    """Lanza `ValueError` si esa caché no sirve para seguir `ids` (`[B, n]`)
    con ese modelo: otras capas o formas, otro lote, otro texto, o una caché
    que se quedó a medias al interrumpir un forward."""
    check_ids(model, ids)
    if not isinstance(cache, Cache):
        raise CourseError(
            f"Esperaba una caché y he recibido {type(cache).__name__}. Se crea "
            "así: make_cache(model)."
        )
    config = model.config.get_text_config(decoder=True)
    layers = cache.layers
    if layers and len(layers) != config.num_hidden_layers:
        raise CourseError(
            f"La caché tiene {len(layers)} capas y el modelo, "
            f"{config.num_hidden_layers}: es de otro modelo. Crea una para "
            "este con make_cache(model)."
        )
    start = _kept(cache)
    if start == 0:
        return
    if start >= ids.shape[1]:
        raise CourseError(_nothing_new(start, ids.shape[1]))
    rows, heads, _, size = layers[0].keys.shape
    one = kv_cache_bytes(config, 1, dtype=torch.int8)  # números por token
    if 2 * len(layers) * heads * size != one or rows != ids.shape[0]:
        raise CourseError(
            f"La caché guarda {rows} fila(s) de {heads} cabezas de {size}, que "
            "no son las de este modelo o este lote. Crea otra con "
            "make_cache(model)."
        )
    shared = _shared_prefix(cache, ids[:, :start])
    if shared < start:
        raise CourseError(
            f"La caché guarda otro texto: solo coinciden los {shared} primeros "
            f"tokens de {start}. Crea otra con make_cache(model), o quítale "
            f"los que sobran con cache.crop({shared - start})."
        )


def _kept(cache: Cache) -> int:
    """Cuántos tokens guarda; todas las capas tienen que decir lo mismo."""
    lengths = {int(layer.get_seq_length()) for layer in cache.layers} or {0}
    if len(lengths) > 1:
        raise CourseError(
            "La caché se quedó a medias: unas capas guardan más tokens que "
            "otras, quizá porque interrumpiste un forward. Crea otra con "
            "make_cache(model)."
        )
    return lengths.pop()


def _remember(cache: Cache, ids: torch.Tensor, padded: bool) -> None:
    """Apunta en la caché qué texto guarda, para comprobarlo después."""
    cache.seen_ids = ids.clone()
    cache.seen_mark, cache.padded = _mark(cache), padded


def _mark(cache: Cache) -> torch.Tensor | None:
    """Un número por token, `[B, n]`: cambia si otro escribe en la caché. En
    la primera capa, K solo depende del token y de su posición."""
    keys = cache.layers[0].keys
    whole = keys.shape[-2] == int(cache.get_seq_length())
    return keys[:, 0].float().sum(-1) if whole else None


def _shared_prefix(cache: Cache, ids: torch.Tensor) -> int:
    """Cuántos tokens del comienzo de `ids` guarda de verdad la caché, hasta
    donde se sabe."""
    seen = getattr(cache, "seen_ids", ids)[:, : ids.shape[1]].to(ids.device)
    n = seen.shape[1]
    same = seen == ids[:, :n]  # [B, n]
    old, new = getattr(cache, "seen_mark", None), _mark(cache)
    if old is not None and new is not None:
        untouched = torch.isclose(old[:, :n], new[:, :n], rtol=1e-3, atol=1e-3)
        same = same == untouched  # escrito por otro: no es lo apuntado
    shared = int(same.all(0).long().cumprod(0).sum())
    return ids.shape[1] if shared == n else shared


def _check_mask(mask, shape: list[int]) -> None:
    if mask is None:
        return
    if list(mask.shape) != shape:
        raise CourseError(
            f"La máscara tiene forma {list(mask.shape)} y hace falta {shape}: "
            "un 1 por token y un 0 por relleno, contando lo ya guardado."
        )
    if not mask[:, -1].all():
        raise CourseError(
            "Hay relleno al final de una fila. Para generar, el relleno va a "
            "la izquierda: el último token tiene que ser de verdad."
        )


def _nothing_new(kept: int, n: int) -> str:
    return (
        f"La caché ya guarda {kept} tokens y el prompt tiene {n}: no queda "
        "ninguno que dé los logits del siguiente. Usa una caché nueva, o deja "
        f"fuera el último con cache.crop({n - 1 - kept})."
    )


def end_ids(model) -> set[int]:
    """Los ids con los que el modelo da por terminado un texto (suelen ser
    varios), según su `generation_config`."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        return set()
    return {ends} if isinstance(ends, int) else set(ends)


def stop_text(tokenizer, text: str) -> StopRule:
    """Regla: para cuando lo generado contiene `text` (que puede ir repartido
    entre varios tokens)."""
    if not isinstance(text, str):
        raise CourseError(
            f"El texto de parada tiene que ser un texto, no {text!r}: "
            "stop_text(tokenizer, texto)."
        )
    if not text:
        raise CourseError(
            "El texto de parada está vacío: todo texto lo contiene, así que "
            "pararía antes de empezar. Escribe al menos un carácter."
        )
    return lambda step, new: (
        f"texto {text!r}" if text in tokenizer.decode(new) else None
    )


def stop_time(seconds: float) -> StopRule:
    """Regla: para en el primer token que llega pasado ese tiempo."""
    if not is_number(seconds) or not seconds > 0:
        raise CourseError(
            f"seconds={seconds!r} no vale: tiene que ser un número mayor que 0."
        )
    return lambda step, new: "tiempo" if step.seconds >= seconds else None


def stop_unsure(probability: float) -> StopRule:
    """Regla: para si el mejor candidato no llega a esa probabilidad."""
    if not is_number(probability) or not 0 < probability < 1:
        raise CourseError(
            f"probability={probability!r} no vale: tiene que ser un número "
            "entre 0 y 1."
        )

    def rule(step, new):
        best = step.logits.softmax(-1).max()
        return "poca confianza" if best < probability else None

    return rule


def text_pieces(tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """El texto de los ids, a trozos y según llegan, sin partir un carácter.

    Un trozo se retiene mientras acabe en «�»: puede que al siguiente token le
    falten bytes por traer. Unidos, los trozos dan `decode` de todos los ids.
    La ventana (el trozo anterior y el actual) es la de TGI y vLLM.
    """
    seen, start, done = [], 0, 0
    for token_id in ids:
        seen.append(token_id)
        before = tokenizer.decode(seen[start:done])
        now = tokenizer.decode(seen[start:])
        if len(now) > len(before) and not now.endswith("�"):
            yield now[len(before) :]
            start, done = done, len(seen)
    before = tokenizer.decode(seen[start:done])
    if rest := tokenizer.decode(seen[start:])[len(before) :]:
        yield rest


def stream(
    tokenizer,
    steps: Iterable[GenerationStep],
    write: Callable[[str], None] | None = None,
) -> list[GenerationStep]:
    """Escribe el texto según se genera y devuelve los pasos dados.

    `write` recibe cada trozo; sin él, se imprime. Si interrumpes el kernel
    (■), devuelve lo generado hasta ahí en vez de perderlo.
    """
    write = write or (lambda piece: print(piece, end="", flush=True))
    done = []

    def ids():
        for step in steps:
            done.append(step)
            yield step.token_id

    try:
        for piece in text_pieces(tokenizer, ids()):
            write(piece)
    except KeyboardInterrupt:
        print(f"\n[Interrumpido: conservas {len(done)} tokens.]")
    return done


def _check_length(model, n: int, max_new_tokens: int) -> None:
    whole = isinstance(max_new_tokens, int) and max_new_tokens >= 1
    if not whole or isinstance(max_new_tokens, bool):
        raise CourseError(
            f"max_new_tokens={max_new_tokens!r} no vale: pide al menos un "
            "token nuevo, con un número entero."
        )
    longest = model.config.max_position_embeddings
    if n + max_new_tokens > longest:
        lower = f"Baja max_new_tokens a {longest - n} o recorta" * (
            n < longest
        )
        raise CourseError(
            f"El prompt ({n} tokens) y los {max_new_tokens} nuevos suman más "
            f"que los {longest} del contexto. {lower or 'Recorta'} el prompt."
        )


def _check_ends(size: int, stop_ids: Iterable[int]) -> set[int]:
    if isinstance(stop_ids, torch.Tensor):
        stop_ids = stop_ids.flatten().tolist()
    ends = set()
    for end in [stop_ids] if not isinstance(stop_ids, Iterable) else stop_ids:
        try:
            known = not isinstance(end, bool) and operator.index(end)
        except TypeError:
            known = -1
        if known is False or not 0 <= known < size:
            raise CourseError(
                f"El id de parada {end!r} no está en el vocabulario (del 0 al "
                f"{size - 1}): el bucle no pararía nunca en él. ¿Has escrito "
                "bien el nombre del token?"
            )
        ends.add(known)
    return ends
