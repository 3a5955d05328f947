"""Una conversación como ids, y lo que vuelve, en partes.

El modelo no recibe mensajes: recibe una sola fila de ids con marcas. Aquí está
ese sobre (ChatML, el de Qwen), de modo que ningún texto ajeno pueda hacerse
pasar por una marca; separar pensamiento y respuesta; y una conversación dueña
de su caché. No sabe nada de figuras.
"""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

import torch
from tokenizers import Tokenizer

from . import CourseError
from .cache import check_cache, make_cache
from .generation import GenerationStep, end_ids, generate_steps
from .tokens import encode

ROLES = ("system", "user", "assistant")
START, END = "<|im_start|>", "<|im_end|>"
OPEN, CLOSE = "<think>", "</think>"


# El sobre


def chatml(messages: list[dict], open_turn: bool = True) -> str:
    """El texto ChatML de esos mensajes, `{"role": …, "content": …}`.

    Con `open_turn`, acaba abriendo el turno de «assistant». No añade ningún
    mensaje de sistema, y **no protege**: si un `content` lleva una marca, la
    marca vale. Para ids sin ese peligro, `chat_ids`.
    """
    text = ""
    for message in messages:
        text += f"{START}{message['role']}\n{message['content']}{END}\n"
    return text + f"{START}assistant\n" * open_turn


def plain_ids(tokenizer, text: str) -> list[int]:
    """Los ids de `text` como texto y nada más: escriba lo que escriba, ninguno
    es de un token añadido (marcas, `<tool_call>`…). Para tokenizadores BPE de
    bytes; sin marcas en el texto, da lo mismo que `encode`."""
    _check_text(text)
    return _without_marks(tokenizer).encode(text, add_special_tokens=False).ids


def _check_text(text) -> None:
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise CourseError(
            f"{text!r:.60} no es un texto que se pueda tokenizar: tiene que "
            "ser un str, y sin medios caracteres (un emoji partido)."
        ) from error


@lru_cache(maxsize=8)
def _without_marks(tokenizer) -> Tokenizer:
    """El mismo tokenizador, sin tokens añadidos: solo el vocabulario BPE.

    `split_special_tokens=True` no basta: deja pasar los añadidos que no son
    «special», y en Qwen2.5 `<tool_call>` es uno.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules["added_tokens"] = []
    rules["padding"] = rules["truncation"] = None  # los de otra llamada
    return Tokenizer.from_str(json.dumps(rules))


def chat_ids(
    tokenizer,
    messages: list[dict],
    *,
    open_turn: bool = True,
    prefill: str = "",
) -> list[int]:
    """Los ids de la conversación, turno a turno: las marcas las pone esta
    función y los textos van por `plain_ids`.

    Si ningún texto lleva marcas, da los mismos ids que la plantilla oficial de
    ChatML. `prefill`: cómo empieza ya escrito el turno de «assistant» (es
    tuyo, así que sus marcas valen). Lanza `ValueError` si falta algo.
    """
    if not isinstance(messages, list) or not messages:
        raise CourseError(
            "La conversación es una lista con al menos un mensaje: "
            "[{'role': 'user', 'content': 'Hola'}]."
        )
    ids = []
    for message in messages:
        ids += turn_ids(tokenizer, *_parts(message))
    return ids + (open_ids(tokenizer, prefill) if open_turn else [])


def turn_ids(tokenizer, role: str, content: str) -> list[int]:
    """Un turno entero y cerrado: `<|im_start|>role⏎content<|im_end|>⏎`."""
    _check_turn(role, content)
    start, end = _marks(tokenizer)
    body = plain_ids(tokenizer, f"{role}\n{content}")
    return [start, *body, end, *encode(tokenizer, "\n")]


def open_ids(tokenizer, prefill: str = "") -> list[int]:
    """El turno de «assistant», abierto y quizá ya empezado."""
    _check_text(prefill)
    start, _ = _marks(tokenizer)
    return [start, *encode(tokenizer, f"assistant\n{prefill}")]


def _marks(tokenizer) -> list[int]:
    known = tokenizer.get_added_vocab()
    if START not in known or END not in known:
        raise CourseError(
            f"Este tokenizador no tiene {START} y {END}: su modelo no habla "
            "ChatML. Usa tokenizer.apply_chat_template con su plantilla."
        )
    return [known[START], known[END]]


def _parts(message) -> tuple[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= {*message}:
        raise CourseError(
            f"Un mensaje es un diccionario con «role» y «content», no "
            f"{message!r}."
        )
    return message["role"], message["content"]


def _check_turn(role, content) -> None:
    if type(role) is not str or role not in ROLES:
        raise CourseError(
            f"No conozco el papel {role!r}: son {', '.join(ROLES)}. La "
            "plantilla lo escribiría sin quejarse, y el modelo nunca lo vio."
        )
    if not isinstance(content, str):
        raise CourseError(
            f"El mensaje de {role} tiene que ser un texto, no "
            f"{type(content).__name__}."
        )
    if not content.strip() and role != "system":
        raise CourseError(
            f"El mensaje de {role} está vacío: no hay nada que responder. "
            "Escribe algo, o quita el mensaje."
        )


# Lo que vuelve: pensamiento y respuesta


def split_thought(text: str) -> tuple[str, str]:
    """`(pensamiento, respuesta)` de lo que escribió el modelo.

    Solo es pensamiento un bloque `<think>…</think>` al principio (o varios
    seguidos): en medio de la respuesta, o de su código, es texto. Sin cerrar,
    todo es pensamiento y la respuesta queda vacía.
    """
    thought = ""
    while text.lstrip().startswith(OPEN):
        text = text.lstrip().removeprefix(OPEN)
        block, _, text = text.partition(CLOSE)
        thought += block
    answer = text if text.strip() else ""
    return thought.strip("\n"), answer.strip("\n")


def thought_pieces(pieces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Lo nuevo de `(pensamiento, respuesta)` con cada trozo que llega.

    Unidos, dan `split_thought` del texto entero. Lo que aún podría ser el
    comienzo de una etiqueta se retiene hasta saberlo.
    """
    text, told = "", ("", "")
    for piece in chain(pieces, [None]):  # None: ya no llega más
        text += piece or ""
        sure = text if piece is None else text[: len(text) - _doubt(text)]
        now = split_thought(sure)
        if now != told:
            yield now[0][len(told[0]) :], now[1][len(told[1]) :]
        told = now


_STARTS = {tag[:n] for tag in (OPEN, CLOSE) for n in range(len(tag))}


def _doubt(text: str) -> int:
    """Cuántos caracteres del final pueden ser el comienzo de una etiqueta."""
    return max(len(start) for start in _STARTS if text.endswith(start))


# Una conversación


class Conversation:
    """Una conversación y su caché: cada turno solo pasa por la red lo nuevo.

    `turns` guarda los **ids** de cada turno, los escritos por el modelo tal
    como los escribió: volver a tokenizar su texto podría dar otros, y la caché
    dejaría de valer. `system`: el mensaje de sistema, si lo hay.
    """

    def __init__(self, model, tokenizer, system: str | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.cache, self.turns, self._written = make_cache(model), [], []
        if system is not None:
            self.turns = [turn_ids(tokenizer, "system", system)]
        self.fixed = len(self.turns)  # lo que nunca se olvida

    @property
    def ids(self) -> torch.Tensor:
        """Todo lo dicho hasta ahora, `[1, n]`."""
        every = [i for turn in self.turns for i in turn]
        place = dict(dtype=torch.long, device=self.model.device)
        return torch.tensor([every], **place)

    @property
    def answer(self) -> str:
        """Lo último que ha escrito el modelo, aunque esté a medias."""
        return self.tokenizer.decode(self._written).strip("\n")

    def ask(
        self, text: str, *, max_new_tokens: int, prefill: str = "", **options
    ) -> Iterator[GenerationStep]:
        """Añade el turno de quien pregunta y entrega los pasos de la respuesta
        (`options`, los de `generate_steps`), que van quedando en `turns`.

        Comprueba todo al llamarla; si algo no vale, o no cabe en el contexto,
        lanza `ValueError` y la conversación sigue como estaba. Si la
        interrumpes, se conserva lo escrito hasta ahí.
        """
        if taken := {"model", "ids", "cache"} & {*options}:
            raise CourseError(
                f"{', '.join(taken)} no se pasa: la conversación ya lo tiene."
            )
        new = [
            turn_ids(self.tokenizer, "user", text),
            open_ids(self.tokenizer, prefill),
        ]
        turns = [*self._closed(), *new]
        ids = [i for turn in turns for i in turn]
        self._check_room(len(ids), max_new_tokens)
        ids = torch.tensor([ids], device=self.model.device)
        steps = generate_steps(
            self.model,
            ids,
            max_new_tokens=max_new_tokens,
            cache=self._cache_for(ids),
            **options,
        )
        self.turns, self._written = turns, encode(self.tokenizer, prefill)
        return self._keep(steps, turns[-1], self._written)

    def _keep(self, steps, turn, written):
        ends = end_ids(self.model) | {_marks(self.tokenizer)[1]}
        for step in steps:
            if not (step.stop and step.token_id in ends):
                turn.append(step.token_id)
                written.append(step.token_id)
            yield step
            if turn is not self.turns[-1]:
                raise CourseError(
                    "Esta respuesta quedó atrás: ya has preguntado otra cosa, "
                    "o la has olvidado."
                )

    def _closed(self) -> list[list[int]]:
        """Los turnos, con el último cerrado (el modelo pudo no hacerlo)."""
        if len(self.turns) == self.fixed:
            return self.turns
        end = [_marks(self.tokenizer)[1], *encode(self.tokenizer, "\n")]
        *before, last = self.turns
        if last[-len(end) :] == end:
            return self.turns
        return [*before, last + (end[1:] if last[-1] == end[0] else end)]

    def _cache_for(self, ids):
        """La caché, o una nueva si lo que guarda ya no es el comienzo de
        `ids` (has olvidado turnos) o se quedó a medias."""
        try:
            check_cache(self.model, self.cache, ids)
        except CourseError:
            self.cache = make_cache(self.model)
        return self.cache

    def _check_room(self, n: int, new: int) -> None:
        room = self.model.config.max_position_embeddings
        if isinstance(new, int) and n + new > room:
            raise CourseError(
                f"La conversación ({n} tokens) y los {new} nuevos no caben en "
                f"los {room} del contexto. Olvida lo más antiguo con "
                "forget(), o pide menos tokens."
            )

    def forget(self) -> None:
        """Olvida la pregunta más antigua y su respuesta, nunca el sistema. La
        caché ya no vale: el turno siguiente vuelve a pasarlo todo."""
        if len(self.turns) == self.fixed:
            raise CourseError("No queda ninguna pregunta que olvidar.")
        self.turns = [*self.turns[: self.fixed], *self.turns[self.fixed + 2 :]]
        self.cache = make_cache(self.model)
        if len(self.turns) == self.fixed:
            self._written = []
