"""El bucle autorregresivo, un paso cada vez, con caché o sin ella.

`generate_steps` entrega un `GenerationStep` por token; quien lo recorre decide
qué hacer con él: escribirlo, dibujarlo, medirlo o guardarlo. Quién elige el
token también viene de fuera: `choose`. La posición sale solo de la caché. No
sabe nada de muestreo, de figuras ni de controles.
"""

import operator
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from transformers.cache_utils import Cache

from . import CourseError
from .cache import check_cache, missing, remember
from .forward import check_ids, forward
from .sampling import UNUSABLE, is_number, is_whole, usable


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
Choose = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def greedy(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """El mejor token de cada fila: logits `[B, V]` → `[B]`."""
    return logits.argmax(-1)


def generate_steps(
    model,
    ids: torch.Tensor,
    *,
    max_new_tokens: int,
    choose: Choose = greedy,
    stop_ids: Iterable[int] | None = None,
    stop_rules: StopRule | Iterable[StopRule] = (),
    cache: Cache | None = None,
    **others,
) -> Iterator[GenerationStep]:
    """Genera a continuación de `ids` (`[1, n]`) y entrega cada paso.

    `choose(logits, ids)` elige el token: recibe los logits `[1, V]` y lo
    escrito hasta ahora `[1, n]`, y da un id. Por defecto, el mejor; con
    `Sampler(temperature=…, top_p=…)`, al azar. Con `cache` (una de
    `make_cache` o cualquiera de transformers), cada paso solo pasa por la red
    lo que la caché aún no guarda; sin ella, todo.

    Termina en cualquiera de los `stop_ids` (si no se dicen, los del modelo),
    cuando una regla da un motivo o con `max_new_tokens`; el token que para es
    el último paso, y no hay ningún forward después de él. Comprueba todo al
    llamarla, antes del primer forward, y lanza `ValueError` si algo no vale.
    """
    check_ids(model, ids)
    if ids.shape[0] != 1:
        raise CourseError(
            f"generate_steps sigue un solo texto y le has dado {ids.shape[0]}"
            ": pásale una fila, ids[:1]."
        )
    check_length(model, ids.shape[1], max_new_tokens)
    _check_choose(choose, others)
    ends = end_ids(model) if stop_ids is None else _check_ends(model, stop_ids)
    rules = _check_rules(stop_rules)
    if cache is not None:
        check_cache(model, cache, ids)
    return _steps(model, ids, max_new_tokens, choose, ends, rules, cache)


@torch.inference_mode()
def _steps(model, ids, limit, choose, ends, rules, cache):
    start, new, held = time.perf_counter(), [], None
    ids = ids.clone()  # el prompt es de quien llama, y puede cambiarlo
    for index in range(limit):
        if getattr(cache, "held_ids", None) is not held:  # la usó otro
            check_cache(model, cache, ids)
        fresh = missing(ids, cache)  # [1, m]
        if cache is not None:  # antes: puede interrumpirse a medias
            remember(cache, ids)
            held = ids
        logits = forward(model, fresh, cache)  # [1, V]
        token = _chosen(choose, logits, ids)  # [1]
        step = GenerationStep(
            index=index,
            token_id=_read(token, logits),
            logits=logits[0],
            processed=fresh.shape[1],
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


def _chosen(choose: Choose, logits, ids) -> torch.Tensor:
    """Lo que elige `choose`, como `[1]`. Un logit roto se le da como 0, para
    que no pare la GPU antes de que `_read` pueda contarlo."""
    token = choose(logits.nan_to_num(0.0, 0.0, -torch.inf), ids.clone())
    try:
        chosen = torch.as_tensor(token, device=ids.device)
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.empty(0)
    number = chosen.is_floating_point() or chosen.dtype == torch.bool
    if chosen.numel() != 1 or number:  # un logit o una máscara no son un id
        raise CourseError(
            f"choose ha devuelto {token!r} y tiene que devolver un solo id: "
            "un entero o un tensor [1]."
        )
    return chosen.long().reshape(1)


def _read(token: torch.Tensor, logits: torch.Tensor) -> int:
    """El id elegido. Es lo único que se lee del dispositivo en cada paso, y
    con él viene si los logits servían."""
    token_id, fine = torch.stack([token[0], usable(logits)[0]]).tolist()
    if not fine:
        raise CourseError(UNUSABLE)
    if not 0 <= token_id < logits.shape[-1]:
        raise CourseError(
            f"choose ha elegido el id {token_id}, y los hay del 0 al "
            f"{logits.shape[-1] - 1}."
        )
    return token_id


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
            f"El texto de parada tiene que ser un texto, no un "
            f"{type(text).__name__}: "
            "stop_text(tokenizer, texto)."
        )
    if not text:
        raise CourseError(
            "El texto de parada está vacío: todo texto lo contiene, así que "
            "pararía antes de empezar. Escribe al menos un carácter."
        )

    def rule(step, new):
        written = tokenizer.decode(new).rstrip("�")  # un emoji a medias
        return f"texto {text!r}" if text in written else None

    return rule


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


def check_length(model, n: int, max_new_tokens: int) -> None:
    if not is_whole(max_new_tokens) or max_new_tokens < 1:
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


def _check_choose(choose, others: dict) -> None:
    if others:
        raise CourseError(
            f"generate_steps no tiene {', '.join(others)}. Cómo se elige se "
            "dice con choose=Sampler(temperature=0.7, top_p=0.9, penalty=1.1), "
            "y si hay caché, con cache=make_cache(model)."
        )
    if not callable(choose) or isinstance(choose, type):
        raise CourseError(
            f"choose={choose!r} no vale: es la función que elige el token, "
            "choose(logits, ids), por ejemplo Sampler(temperature=0.7), ya "
            "creado."
        )


def _check_rules(stop_rules) -> list[StopRule]:
    rules = [stop_rules] if callable(stop_rules) else list(stop_rules or ())
    for rule in rules:
        if not callable(rule) or rule in (stop_text, stop_time, stop_unsure):
            raise CourseError(
                f"{rule!r} no es una regla de parada. Se crean así: "
                "stop_text(tokenizer, texto), stop_time(segundos) o "
                "stop_unsure(probabilidad)."
            )
    return rules


def _check_ends(model, stop_ids: Iterable[int]) -> set[int]:
    size = model.config.vocab_size
    if isinstance(stop_ids, torch.Tensor):
        stop_ids = stop_ids.flatten().tolist()
    if isinstance(stop_ids, str) or not isinstance(stop_ids, Iterable):
        stop_ids = [stop_ids]
    ends = set()
    for end in stop_ids:
        if isinstance(end, str):
            raise CourseError(
                f"stop_ids={end!r} es un texto, y se para en ids. Para en un "
                "texto con stop_rules=stop_text(tokenizer, texto)."
            )
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
