"""Elegir solo entre los tokens que llevan a un texto válido, y acabar a tiempo.

De una expresión de bytes (`grammar`) sale, para cada estado, qué tokens se
permiten y adónde llevan; `choose` tapa los demás logits antes de sortear. No
sabe nada de modelos.
"""

import dataclasses
from functools import lru_cache

import numpy as np
import torch

from . import CourseError
from .grammar import (
    LONGEST,
    MOST,
    NEVER,
    Expression,
    derive,
    first_bytes,
    nullable,
    regex,
    shortest,
    shortest_length,
    shown,
    size,
)
from .sampling import UNUSABLE, Sampler, is_whole
from .schema import json_schema
from .tokens import byte_alphabet, is_byte_level

DEAD = -1  # de aquí no sale ningún texto válido
FAR = 1 << 30  # a más tokens del final de los que caben
GROWTH = 30  # veces que puede crecer una expresión al leerla
STATES = 3000  # estados nuevos al leer los tokens desde uno
KEPT = 64  # filas que se guardan, a un megabyte por fila
WALK = 64  # pasos que se dan al empezar para ver si crece


class Vocabulary:
    """Los bytes de cada token de un tokenizador, en una tabla.

    `ids` `[N]`: los tokens que escriben texto, ordenados por su primer byte.
    `bytes` `[L, N]`: sus bytes, columna a columna. `sizes` `[N]`. `end`: el id
    que termina. `rows`: los logits que hacen falta. Los especiales no están:
    nunca son texto.
    """

    def __init__(self, tokenizer):
        if not hasattr(tokenizer, "get_vocab"):
            raise CourseError(
                "Esperaba un tokenizador y he recibido "
                f"{type(tokenizer).__name__}: choose(tokenizer, esquema, …)."
            )
        if not is_byte_level(tokenizer):
            raise CourseError(
                "Para restringir hace falta un BPE de bytes, como el de Qwen o "
                "el de SmolLM2: los tokens de este tokenizador no son bytes."
            )
        if tokenizer.eos_token_id is None:
            raise CourseError(
                "Este tokenizador no dice cuál es su token de fin, y sin él el "
                "texto no acaba: pónselo, tokenizer.eos_token = «<|im_end|>»."
            )
        alphabet, special = byte_alphabet(), tokenizer.added_tokens_decoder
        texts = {
            bytes(alphabet[c] for c in token): i
            for token, i in tokenizer.get_vocab().items()
            if i not in special and i != tokenizer.eos_token_id
        }
        ordered = sorted(texts)
        self.ids = np.array([texts[t] for t in ordered], np.int32)  # [N]
        self.sizes = np.array([len(t) for t in ordered])  # [N]
        self.bytes = np.zeros((self.sizes.max(), len(ordered)), np.uint8)
        for place, token in enumerate(ordered):
            self.bytes[: len(token), place] = list(token)
        firsts = np.searchsorted(self.bytes[0], np.arange(257))
        self.starts = [slice(*firsts[b : b + 2]) for b in range(256)]
        self.texts, self.end = texts, tokenizer.eos_token_id
        self.rows = 1 + max(self.end, *texts.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Lo que se puede escribir desde un estado: `ids` `[k]`, adónde llevan
    `[k]`, a cuántos tokens del final quedan `[k]`, como en `closing`, y el
    mayor de esos números."""

    ids: torch.Tensor
    states: np.ndarray
    closing: np.ndarray
    worst: int


class Automaton:
    """Los estados de una expresión, que se calculan cuando se pisan.

    El estado 0 es el principio. Un estado es una expresión: lo que queda por
    escribir.
    """

    def __init__(self, expression: Expression, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self.expressions, self.numbers = [], {}
        self.table = np.empty((0, 256), np.int32)  # [S, 256], por bytes
        self.rows: dict[int, Row] = {}
        self.far: dict[bytes, int] = {b"": 0}
        self.start = self._number(expression)

    def _number(self, expression: Expression) -> int:
        if expression == NEVER:
            return DEAD
        number = self.numbers.setdefault(expression, len(self.expressions))
        if number == len(self.expressions):
            self._check_size(expression)
            self.expressions.append(expression)
        return number

    def _check_size(self, expression: Expression) -> None:
        pieces = size(expression)
        if not self.expressions:
            self.most = min(MOST, GROWTH * pieces + 1000)
        if pieces >= self.most:
            self._too_many()

    def _too_many(self):
        raise CourseError(
            "Esto se puede leer de demasiadas maneras a la vez para "
            "comprobarlo paso a paso: quita repeticiones de dentro de "
            "otras repeticiones, o claves optativas."
        )

    def _next(self, state: int) -> np.ndarray:
        """Adónde lleva cada byte desde `state`, `[256]`."""
        while len(self.table) <= state:
            more = np.full((max(64, len(self.table)), 256), DEAD - 1, np.int32)
            self.table = np.concatenate([self.table, more])
        if self.table[state, 0] < DEAD:  # sin calcular
            expression, found = self.expressions[state], {}
            sets = first_bytes(expression)
            for byte in range(256):
                key = tuple(byte in s for s in sets)
                if key not in found:
                    found[key] = self._number(derive(expression, byte))
                self.table[state, byte] = found[key]
        return self.table[state]

    def row(self, state: int) -> Row:
        """Los tokens permitidos desde `state`: se leen todos a la vez, byte a
        byte, y se van cayendo los que no valen."""
        if state in self.rows:
            self.rows[state] = self.rows.pop(state)  # la última usada
            return self.rows[state]
        if len(self.rows) >= KEPT:
            del self.rows[next(iter(self.rows))]
        before = len(self.expressions)
        words, step = self.vocabulary, self._next(state)
        alive = [words.starts[b] for b in np.flatnonzero(step >= 0)]
        order = np.arange(len(words.ids))
        places = np.concatenate([order[s] for s in alive] or [order[:0]])
        states = step[words.bytes[0, places]]  # [k], tras el primer byte
        longer = np.arange(len(places))
        for column in range(1, len(words.bytes)):
            longer = longer[words.sizes[places[longer]] > column]
            longer = longer[states[longer] >= 0]
            if not len(longer):
                break
            for s in np.unique(states[longer]):
                self._next(int(s))
            if len(self.expressions) > before + STATES:
                self._too_many()
            byte = words.bytes[column, places[longer]]
            states[longer] = self.table[states[longer], byte]
        good = states >= 0
        places, states = places[good], states[good]
        seen, which = np.unique(states, return_inverse=True)
        far = np.array([self.closing(int(s)) for s in seen], np.int32)
        self.rows[state] = Row(
            ids=torch.from_numpy(words.ids[places]),
            states=states,
            closing=far[which],
            worst=max(far, default=0),
        )
        return self.rows[state]

    def closing(self, state: int) -> int:
        """Con cuántos tokens se escribe el final más corto, `FAR` si con
        ninguno: dice hasta dónde llega el presupuesto."""
        if shortest_length(self.expressions[state]) > LONGEST:
            return FAR
        return self._tokens(shortest(self.expressions[state]))

    def _tokens(self, rest: bytes) -> int:
        """Los menos tokens que escriben `rest`, contados desde su final."""
        words, longest = self.vocabulary.texts, len(self.vocabulary.bytes)
        for start in reversed(range(len(rest))):  # del final al principio
            tail = rest[start:]
            if tail not in self.far:
                pieces = range(1, min(longest, len(tail)) + 1)
                self.far[tail] = 1 + min(
                    (self.far[tail[n:]] for n in pieces if tail[:n] in words),
                    default=FAR,
                )
        return min(self.far[rest], FAR)

    def read(self, state: int, token: int) -> int:
        """El estado tras escribir `token`, o `DEAD` si no estaba permitido."""
        row = self.row(state)
        found = (row.ids == token).nonzero()
        return int(row.states[found[0, 0]]) if len(found) else DEAD

    def done(self, state: int) -> bool:
        """Si el texto puede acabar aquí."""
        return nullable(self.expressions[state])


class Constrained:
    """Un «elige» para el bucle que solo escribe textos válidos, y enteros.

    En cada paso quedan los tokens desde los que aún se llega al final con los
    que faltan. Se puede siempre: si quedan r y el final más corto son r o
    menos, su primer token lleva a un estado cuyo final son r − 1 o menos.
    """

    def __init__(self, automaton: Automaton, max_new_tokens: int, sampler):
        self.automaton, self.limit = automaton, max_new_tokens
        self.sampler, self.end = sampler, automaton.vocabulary.end
        self.seen: torch.Tensor | None = None  # [B, n], lo leído hasta ahora
        self.last: list[int] = []  # lo último que eligió, por fila

    def __call__(self, logits: torch.Tensor, ids: torch.Tensor):
        """Logits `[B, V]` y lo escrito `[B, n]` → un id por fila, `[B]`."""
        self._follow(ids)
        left = self.limit - (ids.shape[1] - self.begun)
        if logits.shape[-1] < self.automaton.vocabulary.rows:
            raise CourseError(
                f"El modelo da {logits.shape[-1]} logits y el tokenizador "
                "tiene ids mayores: no son de la misma pareja."
            )
        masked = torch.full_like(logits, -torch.inf)
        for row, state in enumerate(self.states):
            good = self.allowed(state, left).to(logits.device)
            masked[row, good] = logits[row, good]
        if not masked.amax(-1).isfinite().all():
            raise CourseError(UNUSABLE)
        chosen = self.sampler(masked, ids)
        self.last = torch.as_tensor(chosen).flatten().tolist()
        return chosen

    def allowed(self, state: int, left: int) -> torch.Tensor:
        """Los ids permitidos desde `state` si quedan `left` tokens, `[k]`."""
        end = torch.tensor([self.end], dtype=torch.int32)
        if state == DEAD:  # ya ha terminado
            return end
        row = self.automaton.row(state)
        ids = row.ids
        most = min(left - 1, FAR - 1)
        if row.worst > most:
            ids = ids[torch.from_numpy(row.closing <= most)]
        if self.automaton.done(state):
            ids = torch.cat([ids, end])
        return ids

    def _follow(self, ids: torch.Tensor) -> None:
        """Lee el token nuevo de cada fila. Si `ids` no es lo ya leído con un
        token más, o lo leído había acabado, es otro texto: todo es prompt."""
        old, ids = self.seen, ids.cpu()
        n = 0 if old is None else old.shape[1]
        same = n and len(ids) == len(old) and torch.equal(ids[:, :n], old)
        new = ids.shape[1] - n
        if not same or new > 1 or new and self._over(n):
            self.begun = ids.shape[1]
            self.states = [self.automaton.start] * len(ids)
        elif new:
            self.states = [
                self._read(state, token)
                for state, token in zip(self.states, ids[:, n].tolist())
            ]
        self.seen = ids.clone()

    def _over(self, n: int) -> bool:
        """Si lo último que eligió acababa todos los textos."""
        ended = set(self.last) == {self.end}
        return ended or n - self.begun >= self.limit

    def _read(self, state: int, token: int) -> int:
        if token == self.end or state == DEAD:
            return DEAD
        after = self.automaton.read(state, token)
        if after == DEAD:
            raise CourseError(
                f"El token {token} no estaba permitido y alguien lo ha "
                "escrito: entre choose y el texto no puede haber otra mano."
            )
        return after


def vocabulary(tokenizer) -> Vocabulary:
    """La tabla de bytes de un tokenizador: un segundo la primera vez."""
    return _vocabulary(tokenizer, getattr(tokenizer, "eos_token_id", None))


@lru_cache(maxsize=4)
def _vocabulary(tokenizer, end) -> Vocabulary:
    return Vocabulary(tokenizer)


def choose(
    tokenizer,
    schema: dict | type | str,
    *,
    max_new_tokens: int,
    sampler: Sampler | None = None,
) -> Constrained:
    """Un «elige» para `generate_steps` que escribe un JSON de `schema` en
    `max_new_tokens` o menos, y después el token de fin.

    `schema`: un JSON Schema (el subconjunto de `schema.KEYWORDS`), una
    dataclass o un patrón de `regex`. `sampler`: cómo se sortea entre lo
    permitido; por defecto, el mejor. Lanza `ValueError`, antes de ningún
    forward, si algo no vale o si ni el texto más corto cabe. (Un patrón que se
    lee de muchas maneras a la vez puede rechazarse más tarde, al llegar a
    ellas.) Para dos textos a la vez, dos `choose`.
    """
    if sampler is not None and not callable(sampler):
        raise CourseError(
            f"sampler={shown(sampler)} no vale: es cómo se sortea entre lo "
            "permitido, por ejemplo Sampler(temperature=0.7)."
        )
    if not is_whole(max_new_tokens) or max_new_tokens < 1:
        raise CourseError(
            f"max_new_tokens={max_new_tokens!r} no vale: es cuántos tokens "
            "puede ocupar el texto, un entero mayor que 0."
        )
    if isinstance(schema, str):
        expression = regex(schema)
    else:
        expression = json_schema(schema)
    automaton = Automaton(expression, vocabulary(tokenizer))
    _check(automaton, max_new_tokens)
    return Constrained(
        automaton, max_new_tokens, sampler or Sampler(temperature=0)
    )


def _check(automaton: Automaton, limit: int) -> None:
    """Que haya un texto, que quepa y que no se desboque al leerlo."""
    if automaton.start == DEAD:
        raise CourseError("Ningún texto cumple ese patrón: se contradice.")
    needed = automaton.closing(automaton.start)
    if needed == FAR:
        raise CourseError(
            "El texto más corto que vale no se puede escribir con los tokens "
            "de este tokenizador, o es larguísimo."
        )
    if needed > limit:
        raise CourseError(
            f"El texto más corto que vale ocupa {needed} tokens y has dado "
            f"max_new_tokens={limit}: súbelo."
        )
    state = automaton.start
    automaton.row(state)
    for _ in range(WALK):  # hacia donde más crece
        ways = {int(s) for s in automaton._next(state)} - {DEAD}
        if not ways:
            break
        state = max(ways, key=lambda s: size(automaton.expressions[s]))
