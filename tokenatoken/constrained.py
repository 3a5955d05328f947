"""Elegir solo entre los tokens que llevan a un texto válido, y acabar a tiempo.

De una expresión de bytes (`grammar`) sale, para cada estado, qué tokens se
permiten y adónde llevan; `choose` tapa los demás logits antes de sortear. No
sabe nada de modelos.
"""

import dataclasses
from functools import cache

import numpy as np
import torch

from . import CourseError
from .grammar import (
    MOST,
    NEVER,
    Expression,
    derive,
    first_bytes,
    nullable,
    regex,
    shortest,
    size,
)
from .sampling import Sampler, is_whole
from .schema import json_schema
from .tokens import byte_alphabet, is_byte_level

DEAD = -1  # de aquí no sale ningún texto válido
FAR = 1 << 30  # a más tokens del final de los que caben
LONGEST = 4096  # bytes: un cierre más largo no cabe en ningún presupuesto
GROWTH = 30  # veces que puede crecer una expresión al leerla
WALK = 64  # pasos que se dan al empezar para ver si crece


class Vocabulary:
    """Los bytes de cada token de un tokenizador, en una tabla.

    `ids` `[N]`: los tokens que escriben texto, ordenados por su primer byte.
    `bytes` `[L, N]`: sus bytes, columna a columna. `sizes` `[N]`. `end`: el id
    que termina. Los especiales no están: nunca son texto.
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
            if i not in special
        }
        ordered = sorted(texts)
        self.ids = np.array([texts[t] for t in ordered])  # [N]
        self.sizes = np.array([len(t) for t in ordered])  # [N]
        self.bytes = np.zeros((self.sizes.max(), len(ordered)), np.uint8)
        for place, token in enumerate(ordered):
            self.bytes[: len(token), place] = list(token)
        firsts = np.searchsorted(self.bytes[0], np.arange(257))
        self.starts = [slice(*firsts[b : b + 2]) for b in range(256)]
        self.texts, self.end = texts, tokenizer.eos_token_id


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
            return self.rows[state]
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
            byte = words.bytes[column, places[longer]]
            states[longer] = self.table[states[longer], byte]
        good = states >= 0
        places, states = places[good], states[good].astype(np.int64)
        seen, which = np.unique(states, return_inverse=True)
        far = np.array([self.closing(int(s)) for s in seen], int)
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
        rest = shortest(self.expressions[state])
        if rest is None or len(rest) > LONGEST:
            return FAR
        return self._tokens(rest)

    def _tokens(self, rest: bytes) -> int:
        """Los menos tokens que escriben `rest`, que es suma de finales."""
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
        self.sampler = sampler
        self.seen: torch.Tensor | None = None  # [B, n], lo leído hasta ahora

    def __call__(self, logits: torch.Tensor, ids: torch.Tensor):
        """Logits `[B, V]` y lo escrito `[B, n]` → un id por fila, `[B]`."""
        self._follow(ids)
        left = self.limit - (ids.shape[1] - self.begun)
        masked = torch.full_like(logits, -torch.inf)
        for row, state in enumerate(self.states):
            good = self.allowed(state, left).to(logits.device)
            masked[row, good] = logits[row, good]
        return self.sampler(masked, ids)

    def allowed(self, state: int, left: int) -> torch.Tensor:
        """Los ids permitidos desde `state` si quedan `left` tokens, `[k]`."""
        automaton, end = self.automaton, self.automaton.vocabulary.end
        if state == DEAD:  # ya ha terminado
            return torch.tensor([end])
        row = automaton.row(state)
        ids = row.ids
        if row.worst > left - 1:
            ids = ids[torch.from_numpy(row.closing <= left - 1)]
        if automaton.done(state):
            ids = torch.cat([ids, torch.tensor([end])])
        return ids

    def _follow(self, ids: torch.Tensor) -> None:
        """Lee el token nuevo de cada fila. Si `ids` no es lo ya leído con un
        token más, es otro texto, y todo lo que trae es su prompt."""
        old, ids = self.seen, ids.cpu()
        n = 0 if old is None else old.shape[1]
        same = n and len(ids) == len(old) and torch.equal(ids[:, :n], old)
        if not same or ids.shape[1] > n + 1:
            self.begun = ids.shape[1]
            self.states = [self.automaton.start] * len(ids)
        elif ids.shape[1] > n:
            self.states = list(
                map(self._read, self.states, ids[:, n].tolist())
            )
        self.seen = ids.clone()

    def _read(self, state: int, token: int) -> int:
        if token == self.automaton.vocabulary.end or state == DEAD:
            return DEAD
        after = self.automaton.read(state, token)
        if after == DEAD:
            raise CourseError(
                f"El token {token} no estaba permitido y alguien lo ha "
                "escrito: entre choose y el texto no puede haber otra mano."
            )
        return after


@cache
def vocabulary(tokenizer) -> Vocabulary:
    """La tabla de bytes de un tokenizador: un segundo la primera vez."""
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
    forward, si algo no vale o si ni el texto más corto cabe.
    """
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
    for _ in range(WALK):  # hacia donde más crece
        ways = {int(s) for s in automaton._next(state)} - {DEAD}
        if not ways:
            break
        state = max(ways, key=lambda s: size(automaton.expressions[s]))
