"""Varios tokens por lectura de los pesos: un borrador propone, el modelo revisa.

El texto es el de greedy o, con temperatura, sigue la misma distribución. De
Leviathan y otros, «Fast Inference from Transformers via Speculative Decoding»
(2023), y Saxena, «Prompt Lookup Decoding» (2023). No sabe de tokenizadores.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from . import CourseError
from .cache import check_cache, make_cache, missing, remember
from .forward import check_ids, forward
from .generation import end_ids
from .sampling import is_number, is_whole


@dataclass(frozen=True)
class Round:
    """Los ids que se escriben en una vuelta, y cuántos se proponían y valían."""

    tokens: list[int]
    proposed: int
    accepted: int


def lookup(ids, k: int, most: int = 3) -> list[int]:
    """Hasta `k` tokens: los que siguieron la última vez que el texto `[1, n]`
    dijo lo mismo que acaba de decir (de `most` tokens a 1)."""
    text = ids[0].tolist()
    for size in range(most, 0, -1):
        tail = text[-size:]
        for start in range(len(text) - size - 1, -1, -1):
            if text[start : start + size] == tail:
                return text[start + size : start + size + k]
    return []


class DraftModel:
    """Propone con un modelo más rápido del mismo vocabulario, y con su propia
    caché. Con `temperature`, sortea, y da de qué probabilidades."""

    def __init__(self, model, temperature: float = 0, generator=None):
        self.model, self.cache = model, make_cache(model)
        self.temperature, self.generator = temperature, generator
        self.held = torch.empty(1, 0, dtype=torch.long)

    def __call__(self, ids, k: int):
        self.rewind(ids)
        tokens, odds = [], []
        for _ in range(k):
            logits = forward(self.model, missing(ids, self.cache), self.cache)
            self.held = ids
            token = logits.argmax(-1, keepdim=True)  # [1, 1]
            if self.temperature:
                p = (logits / self.temperature).softmax(-1)
                token = torch.multinomial(p, 1, generator=self.generator)
                odds.append(p[0])
            ids = torch.cat([ids, token], -1)
            tokens.append(int(token))
        return (tokens, torch.stack(odds)) if odds else tokens

    def rewind(self, ids) -> None:
        """Deja en la caché solo lo que sigue siendo verdad de `ids`."""
        n = min(self.held.shape[1], ids.shape[1] - 1)
        same = (self.held[:, :n].to(ids.device) == ids[:, :n]).all(0)
        keep = int(same.long().cumprod(0).sum())
        if drop := int(self.cache.get_seq_length()) - keep:
            self.cache.crop(-drop)


def agree(logits, tokens: list[int]) -> tuple[list[int], int]:
    """Greedy: de `tokens` (k), los que habría escrito el modelo según sus
    logits `[k + 1, V]`, y el suyo detrás; y cuántos valieron."""
    best = logits.argmax(-1).tolist()
    pairs = enumerate(zip(tokens, best))
    good = next((i for i, (a, b) in pairs if a != b), len(tokens))
    return tokens[:good] + [best[good]], good


def review(p, q, tokens: list[int], generator=None) -> tuple[list[int], int]:
    """Lo que se escribe tras revisar `tokens`, y cuántos valieron.

    `p` `[k + 1, V]`: las probabilidades del modelo en cada lugar; `q` `[k, V]`,
    de las que salió cada propuesta. Se acepta con probabilidad min(1, p/q); si
    no, se sortea de lo que a p le sobra sobre q. Lo escrito sigue p.
    """
    for i, token in enumerate(tokens):
        luck = torch.rand((), generator=generator, device=p.device)
        if luck * q[i, token] >= p[i, token]:
            left = (p[i] - q[i]).clamp_min(0)  # [V]
            other = torch.multinomial(left, 1, generator=generator)
            return tokens[:i] + other.tolist(), i
    last = torch.multinomial(p[len(tokens)], 1, generator=generator)
    return tokens + last.tolist(), len(tokens)


def speculate(
    model,
    ids,
    *,
    max_new_tokens: int,
    draft: Callable = lookup,
    k: int = 4,
    temperature: float = 0,
    generator=None,
    stop_ids: Iterable[int] | None = None,
    cache=None,
) -> Iterator[Round]:
    """Continúa `ids` `[1, n]` y entrega cada vuelta (`Round`).

    `draft(ids, k)` da hasta `k` ids, o `(ids, probabilidades [k, V])`. Lo que
    no vale se quita de la caché. Lanza `ValueError` si algo no sirve.
    """
    check_ids(model, ids)
    _check(model, ids, max_new_tokens, draft, k, temperature)
    ends = end_ids(model) if stop_ids is None else set(stop_ids)
    cache = make_cache(model) if cache is None else cache
    check_cache(model, cache, ids)
    given = draft, k, temperature, generator
    return _rounds(model, ids.clone(), max_new_tokens, given, ends, cache)


@torch.inference_mode()
def _rounds(model, ids, limit, settings, ends, cache):
    draft, k, temperature, generator = settings
    while limit > 0:
        tokens, q = _proposed(model, draft, ids, min(k, limit - 1))
        guess = ids.new_tensor([tokens])  # [1, k]
        fresh = torch.cat([missing(ids, cache), guess], -1)  # [1, m + k]
        remember(cache, torch.cat([ids, guess], -1))  # puede interrumpirse
        options = dict(past_key_values=cache, logits_to_keep=len(tokens) + 1)
        logits = model(fresh, **options).logits[0].float()  # [k + 1, V]
        if temperature == 0:
            new, good = agree(logits, tokens)
        else:
            p = (logits / temperature).softmax(-1)
            if q is None:  # sin sorteo: toda la probabilidad, en lo propuesto
                q = torch.zeros_like(p[:-1]).scatter_(1, guess.T, 1.0)
            new, good = review(p, q, tokens, generator)
        stop = next((i for i, t in enumerate(new, 1) if t in ends), None)
        new, limit = new[:stop], 0 if stop else limit - len(new)
        ids = torch.cat([ids, ids.new_tensor([new])], -1)
        if extra := int(cache.get_seq_length()) - ids.shape[1] + 1:
            cache.crop(-extra)  # lo rechazado, o lo que iba tras el fin
        remember(cache, ids)
        yield Round(new, len(tokens), min(good, len(new)))


def _proposed(model, draft, ids, k: int) -> tuple:
    """`(ids, probabilidades o None)`, ya comprobados."""
    found = draft(ids, k) if k else []
    tokens, q = found if isinstance(found, tuple) else (found, None)
    size = model.config.vocab_size
    known = all(is_whole(token) and 0 <= token < size for token in tokens)
    if len(tokens) > k or not known:
        raise CourseError(
            f"El borrador ha propuesto {tokens}: se le pedían hasta {k} ids, "
            f"enteros del 0 al {size - 1}."
        )
    return tokens, q


def _check(model, ids, max_new_tokens, draft, k, temperature) -> None:
    if ids.shape[0] != 1:
        raise CourseError(f"speculate sigue un texto; hay {ids.shape[0]}.")
    for name, value in {"k": k, "max_new_tokens": max_new_tokens}.items():
        if not is_whole(value) or value < 1:
            raise CourseError(f"{name}={value!r} no vale: un entero, 1 o más.")
    if not is_number(temperature) or temperature < 0:
        raise CourseError(f"temperature={temperature!r} no vale: 0 o más.")
    other = getattr(draft, "model", model).config.vocab_size
    if other != model.config.vocab_size:
        raise CourseError(
            f"El borrador tiene {other} ids y el modelo, "
            f"{model.config.vocab_size}: no es su mismo vocabulario."
        )
    if getattr(draft, "temperature", temperature) != temperature:
        raise CourseError(
            f"El borrador sortea con temperatura {draft.temperature} y "
            f"speculate con {temperature}: dales la misma."
        )
