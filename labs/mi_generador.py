"""Mi generador: de una pregunta a su respuesta, token a token.

    python labs/mi_generador.py "Hola"       (o --help)
    python -m tokenatoken.checks.project labs/mi_generador.py

Lo que escribiste en las unidades 01 a 12, junto en un archivo. La segunda
orden, desde la carpeta del curso, lo corrige y da una medalla: cada pieza por
separado, así que puedes empezar por cualquiera.

BRONCE · elegir y repetir
    warp(logits, settings)               logits [B, V] → [B, V], en fp32
    choose(logits, settings, generator)  logits [B, V] → ids [B]
    end_ids(model)                       el conjunto de ids que terminan
    generate(model, ids, settings, …)    ids [1, n] → va entregando ids (int)
    template_ids(tokenizer, messages)    la conversación → lista de ids
PLATA · caché y texto
    forward(model, ids, cache)           ids [1, m] → logits [1, V]
    generate, con su caché               cada token pasa una vez por la red
    pieces(tokenizer, ids)               ids → va entregando trozos de texto
    until(pieces, stops)                 lo mismo, hasta un texto de parada
ORO · una conversación
    check(settings)                      ValueError si algún ajuste no vale
    reuse(cache, held, ids)              recorta la caché al comienzo común
    Chat(model, tokenizer, system)       .ask(…) → trozos; .messages, .stats y
                                         .cache

Puedes importar torch, transformers.DynamicCache, `tokenatoken.model` y, para
el JSON, `tokenatoken.constrained` (con `grammar` y `schema`); y, para anotar
tipos, Cache, PreTrainedModel y PreTrainedTokenizerBase, de transformers. El
resto del ayudante y `model.generate`, no: son lo que estás escribiendo. Puedes
añadir lo que quieras; los nombres y argumentos de arriba no cambian.
"""

import argparse
import json
import math
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import DynamicCache

sys.path.append(str(Path(__file__).resolve().parents[1]))  # el curso
from tokenatoken import number  # noqa: E402
from tokenatoken.constrained import choose as json_mask  # noqa: E402
from tokenatoken.schema import json_schema  # noqa: E402


@dataclass(frozen=True)
class Settings:
    """Cómo se elige y cuándo se para; `None` es no aplicar ese filtro."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    max_new_tokens: int = 200
    stop: tuple[str, ...] = ()  # textos de parada


@dataclass
class Stats:
    """Lo que costó una respuesta. `reason`: fin, máximo, parada o
    interrumpido. Los segundos, desde que empieza `generate`."""

    prompt_tokens: int = 0
    reused_tokens: int = 0  # del prompt, los que ya estaban en la caché
    new_tokens: int = 0  # con el de fin, si lo hubo
    forwards: int = 0
    processed_tokens: int = 0  # los que han pasado por la red
    first_seconds: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        speed = number(self.new_tokens / max(self.seconds, 1e-9), 1)
        return (
            f"{self.prompt_tokens} tokens de prompt ({self.reused_tokens} en "
            f"caché) + {self.new_tokens} · {self.processed_tokens} tokens en "
            f"{self.forwards} forwards · el primero en "
            f"{number(self.first_seconds)} s · {speed}/s · {self.reason}"
        )


# BRONCE · elegir y repetir


def warp(logits, settings: Settings):
    """Temperatura, top-k, top-p y min-p, en este orden: `[B, V]`, con −∞ en
    lo que se quita y los bordes de la biblioteca. Aquí T > 0."""
    # TU CÓDIGO AQUÍ
    return ...


def choose(logits, settings: Settings, generator: torch.Generator):
    """Un id por fila: logits `[B, V]` → `[B]`. Con T = 0, el mejor."""
    # TU CÓDIGO AQUÍ
    return ...


def end_ids(model) -> set[int]:
    """Los ids que terminan un texto, según `model.generation_config`: ahí
    puede haber un número, una lista o None."""
    # TU CÓDIGO AQUÍ
    return ...


def template_ids(tokenizer, messages: list[dict]) -> list[int]:
    """Los ids de la conversación, con el turno de la respuesta abierto: los
    de `tokenizer.apply_chat_template`. Para el oro, además, las marcas que
    alguien escriba dentro de un mensaje son texto y nada más."""
    # TU CÓDIGO AQUÍ
    return ...


@torch.inference_mode()
def generate(
    model, ids, settings, *, pick=None, ends=None, cache=None, stats=None
):
    """Entrega los ids que siguen a `ids` `[1, n]`, uno a uno y según salen; el
    que termina también, y es el último.

    `pick(logits, ids)` elige, `[1]` (si no se da, `choose` con un generador
    propio y la semilla de `settings`). `ends`: si no se dan, los de `end_ids`.
    `cache`: una DynamicCache que ya guarda el comienzo de `ids`, o nada. En
    `stats` se apunta lo que cuesta. ValueError, antes de ningún forward, si
    `ids` está vacío o no cabe en el contexto con los nuevos.
    """
    # TU CÓDIGO AQUÍ
    return ...


# PLATA · caché y texto


def forward(model, ids, cache: DynamicCache):
    """Pasa `ids` `[1, m]` por la red, detrás de lo que guarda `cache`: logits
    del siguiente, `[1, V]`, en fp32. La posición sale de la caché. Para el
    oro: si se interrumpe a medias, la caché queda como estaba."""
    # TU CÓDIGO AQUÍ
    return ...


def pieces(tokenizer, ids):
    """El texto de los ids, a trozos y según llegan, sin partir un carácter.
    Unidos, dan `decode` de todos los ids."""
    # TU CÓDIGO AQUÍ
    return ...


def until(pieces, stops):
    """Los trozos hasta el primer texto de parada, que no se enseña, ni un
    pedazo suyo: lo que puede ser su comienzo se retiene hasta saberlo."""
    # TU CÓDIGO AQUÍ
    return ...


# ORO · una conversación


def check(settings: Settings) -> None:
    """ValueError, en español y con el nombre del ajuste, si alguno no vale."""
    # TU CÓDIGO AQUÍ
    return ...


def reuse(cache: DynamicCache, held: list[int], ids: list[int]) -> None:
    """Recorta `cache`, que guarda `held`, al comienzo común con `ids`, y que
    quede al menos un token por pasar."""
    # TU CÓDIGO AQUÍ
    return ...


class Chat:
    """Una conversación con su caché. `messages`, sus mensajes, que se pueden
    editar; `stats`, lo que costó la última respuesta; `cache`, la caché."""

    def __init__(self, model, tokenizer, system: str | None = None):
        self.model, self.tokenizer, self.stats = model, tokenizer, None
        self.messages = [{"role": "system", "content": system}][: bool(system)]
        self.cache, self.held = DynamicCache(), []  # los ids que guarda
        self.open = None  # la respuesta en marcha

    def ask(self, text: str, settings=None, schema=None):
        """Va entregando el texto de la respuesta. Con `schema` (un JSON
        Schema), un JSON que lo cumple. En `messages` quedan la pregunta y lo
        enseñado, aunque se interrumpa; preguntar otra vez cierra la que esté a
        medias. ValueError, antes de ningún forward y sin tocar nada, si algo
        no vale."""
        # TU CÓDIGO AQUÍ
        return ...


# La orden de terminal: esto ya está


def read_order(order=None):
    """Lo escrito en la terminal."""
    parser = argparse.ArgumentParser(description="Pregunta al modelo.")
    bad = "No entiendo la orden: {}. Con --help, cómo se escribe.\n"
    parser.error = lambda message: parser.exit(2, bad.format(message))
    add = parser.add_argument
    add("pregunta", help="lo que se pregunta, entre comillas")
    add("--sistema", help="mensaje de sistema")
    add("--temperature", type=float, default=0.7, help="0: siempre el mejor")
    add("--top-k", type=int, help="los k mejores")
    add("--top-p", type=float, help="los que suman p")
    add("--min-p", type=float, help="los que llegan a p veces el mejor")
    add("--seed", type=int, help="semilla: con la misma, lo mismo")
    add("--max", type=int, default=200, help="tokens nuevos, como mucho")
    add("--parar", action="append", default=[], help="texto de parada")
    add("--json", type=Path, help="archivo con un JSON Schema")
    return parser.parse_args(order)


def read_schema(path: Path):
    """El JSON Schema de ese archivo, si se puede cumplir."""
    try:
        schema = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"No sé leer {path} como JSON ({error}).") from error
    json_schema(schema)  # rechaza, por su nombre, lo que no sabemos cumplir
    return schema


def answer_to(given):
    """El Chat y su respuesta, o nada si faltan piezas. Lo rápido, primero."""
    chosen = given.temperature, given.top_k, given.top_p, given.min_p
    ends = given.seed, given.max, tuple(given.parar)
    settings = Settings(*chosen, *ends)
    if check(settings) is ...:
        return None, ...
    schema = given.json and read_schema(given.json)
    from tokenatoken.model import load_model  # tarda

    chat = Chat(*load_model(), given.sistema)
    return chat, chat.ask(given.pregunta, settings, schema)


def main(order=None) -> int:
    """La orden: 0 si todo va bien, 2 si algo no vale."""
    try:
        chat, answer = answer_to(read_order(order))
        if answer is ...:
            print("Pendiente: faltan piezas por escribir.")
            return 0
        for piece in answer:
            print(piece, end="", flush=True)
    except ValueError as error:
        print(f"No puedo seguir: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(" [interrumpido]", end="")
    print(f"\n\n{chat.stats}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
