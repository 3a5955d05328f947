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
    ### BEGIN SOLUTION
    ### STUB: return ...
    logits, out = logits.float() / settings.temperature, -math.inf  # [B, V]
    if settings.top_k is not None:  # con los empatados con el último
        k = min(settings.top_k, logits.shape[-1])
        logits = logits.masked_fill(logits < logits.topk(k)[0][:, -1:], out)
    if settings.top_p is not None:  # se suma desde el peor, y el mejor queda
        ordered, order = logits.sort(-1)  # [B, V]
        worst = ordered.softmax(-1).cumsum(-1) <= 1 - settings.top_p
        worst[:, -1] = False
        logits = logits.masked_fill(worst.scatter(-1, order, worst), out)
    if settings.min_p is not None:
        shares = logits.softmax(-1)  # [B, V]
        least = settings.min_p * shares.amax(-1, keepdim=True)  # [B, 1]
        logits = logits.masked_fill(shares < least, out)
    return logits
    ### END SOLUTION


def choose(logits, settings: Settings, generator: torch.Generator):
    """Un id por fila: logits `[B, V]` → `[B]`. Con T = 0, el mejor."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    if settings.temperature == 0:
        return logits.argmax(-1)  # [B]; si empatan, el de menor id
    shares = warp(logits, settings).softmax(-1)  # [B, V]
    return torch.multinomial(shares, 1, generator=generator)[:, 0]
    ### END SOLUTION


def end_ids(model) -> set[int]:
    """Los ids que terminan un texto, según `model.generation_config`: ahí
    puede haber un número, una lista o None."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    ends = model.generation_config.eos_token_id
    return {ends} if isinstance(ends, int) else set(ends or ())
    ### END SOLUTION


def template_ids(tokenizer, messages: list[dict]) -> list[int]:
    """Los ids de la conversación, con el turno de la respuesta abierto: los
    de `tokenizer.apply_chat_template`. Para el oro, además, las marcas que
    alguien escriba dentro de un mensaje son texto y nada más."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    holes = {chr(0xF0000 + i): m["content"] for i, m in enumerate(messages)}
    empty = [m | {"content": hole} for m, hole in zip(messages, holes)]
    options = dict(tokenize=False, add_generation_prompt=True)
    envelope = tokenizer.apply_chat_template(empty, **options)
    marks, ids = tokenizer.get_added_vocab(), []
    for part in re.split(f"({'|'.join(map(re.escape, marks))})", envelope):
        if part in marks:  # las de la plantilla; las de los mensajes, no
            ids.append(marks[part])
            continue
        part = re.sub(f"[{''.join(holes)}]", lambda m: holes[m[0]], part)
        whole = dict(add_special_tokens=False, split_special_tokens=True)
        ids += tokenizer.encode(part, **whole)
    return ids
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    ### STUB: return ...
    check(settings)
    check_room(model, ids.shape[1], settings.max_new_tokens)
    start, pick = time.perf_counter(), pick or picker(model, settings)
    ends = end_ids(model) if ends is None else ends
    cache = DynamicCache() if cache is None else cache
    stats = stats or Stats()
    stats.prompt_tokens = ids.shape[1]
    stats.reused_tokens = cache.get_seq_length()
    for left in reversed(range(settings.max_new_tokens)):
        fresh = ids[:, cache.get_seq_length() :]  # [1, m]: n, y luego 1
        token = pick(forward(model, fresh, cache), ids)  # [1]
        ids = torch.cat([ids, token[:, None]], -1)  # [1, n + 1]
        note(stats, fresh.shape[1], time.perf_counter() - start)
        ended = int(token) in ends
        stats.reason = "fin" if ended else "" if left else "máximo"
        yield int(token)
        if ended:
            return


def note(stats: Stats, tokens: int, seconds: float) -> None:
    """Un token más, que ha costado un forward de `tokens`."""
    stats.new_tokens += 1
    stats.forwards += 1
    stats.processed_tokens += tokens
    stats.first_seconds = stats.first_seconds or seconds
    stats.seconds = seconds


def picker(model, settings: Settings):
    """El `pick` de esos ajustes, con un generador que no es el global."""
    generator = torch.Generator(model.device)
    generator.seed()
    if settings.seed is not None:
        generator.manual_seed(settings.seed)
    return lambda logits, ids: choose(logits, settings, generator)
    ### END SOLUTION


# PLATA · caché y texto


def forward(model, ids, cache: DynamicCache):
    """Pasa `ids` `[1, m]` por la red, detrás de lo que guarda `cache`: logits
    del siguiente, `[1, V]`, en fp32. La posición sale de la caché. Para el
    oro: si se interrumpe a medias, la caché queda como estaba."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    options = dict(past_key_values=cache, use_cache=True, logits_to_keep=1)
    before = cache.get_seq_length()
    try:
        return model(ids, **options).logits[:, -1].float()  # [1, V]
    except BaseException:  # unas capas ya tienen lo nuevo, y otras no
        for layer in cache.layers:
            layer.crop(before - layer.get_seq_length())
        raise
    ### END SOLUTION


def pieces(tokenizer, ids):
    """El texto de los ids, a trozos y según llegan, sin partir un carácter.
    Unidos, dan `decode` de todos los ids."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    seen, start, done = [], 0, 0  # se vuelve a leer solo desde start
    for token in ids:
        seen.append(token)
        before = tokenizer.decode(seen[start:done])
        now = tokenizer.decode(seen[start:])
        if len(now) > len(before) and not now.endswith("�"):
            yield now[len(before) :]
            start, done = done, len(seen)
    before = tokenizer.decode(seen[start:done])
    if rest := tokenizer.decode(seen[start:])[len(before) :]:
        yield rest
    ### END SOLUTION


def until(pieces, stops):
    """Los trozos hasta el primer texto de parada, que no se enseña, ni un
    pedazo suyo: lo que puede ser su comienzo se retiene hasta saberlo."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    text = ""  # lo que aún no se ha enseñado
    for piece in pieces:
        text += piece
        if found := [text.index(stop) for stop in stops if stop in text]:
            if min(found):
                yield text[: min(found)]
            return
        starts = [stop[:n] for stop in stops for n in range(1, len(stop))]
        doubt = max((len(s) for s in starts if text.endswith(s)), default=0)
        sure = len(text) - doubt
        if sure:
            yield text[:sure]
        text = text[sure:]
    if text:
        yield text
    ### END SOLUTION


# ORO · una conversación


def check(settings: Settings) -> None:
    """ValueError, en español y con el nombre del ajuste, si alguno no vale."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    s, texts = settings, not isinstance(settings.stop, str)
    rules = {
        "temperature": (0 <= s.temperature < math.inf, "0 o mayor"),
        "top_k": (s.top_k is None or s.top_k >= 1, "1 o mayor"),
        "top_p": (
            s.top_p is None or 0 < s.top_p <= 1,
            "entre 0 y 1, sin el 0",
        ),
        "min_p": (s.min_p is None or 0 <= s.min_p <= 1, "entre 0 y 1"),
        "max_new_tokens": (s.max_new_tokens >= 1, "1 o mayor"),
        "stop": (texts and all(s.stop), "una tupla de textos con algo"),
    }
    for name, (fine, rule) in rules.items():
        if not fine:
            raise ValueError(
                f"{name}={getattr(s, name)!r}: tiene que ser {rule}."
            )


def check_room(model, n: int, new: int) -> None:
    room = model.config.max_position_embeddings
    if not n:
        raise ValueError("No hay ningún token: hace falta al menos uno.")
    if n + new > room:
        raise ValueError(f"{n} tokens y {new} nuevos no caben en {room}.")
    ### END SOLUTION


def reuse(cache: DynamicCache, held: list[int], ids: list[int]) -> None:
    """Recorta `cache`, que guarda `held`, al comienzo común con `ids`, y que
    quede al menos un token por pasar."""
    ### BEGIN SOLUTION
    ### STUB: return ...
    same, most = 0, len(ids) - 1
    while same < most and held[same : same + 1] == [ids[same]]:
        same += 1
    cache.crop(same - cache.get_seq_length())  # un negativo: cuántos se quitan
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        ### STUB: return ...
        settings = settings or Settings()
        check(settings)
        if not text.strip():
            raise ValueError("La pregunta está vacía: escribe algo.")
        messages = [*self.messages, {"role": "user", "content": text}]
        ids = template_ids(self.tokenizer, messages)
        check_room(self.model, len(ids), settings.max_new_tokens)
        pick = picker(self.model, settings)
        if schema is not None:
            limit = dict(max_new_tokens=settings.max_new_tokens)
            pick = json_mask(self.tokenizer, schema, sampler=pick, **limit)
        if self.open:
            self.open.close()  # la anterior, si quedó a medias
        self.open = self._answer(messages, ids, settings, pick)
        return self.open

    def _answer(self, messages, ids: list[int], settings, pick):
        reuse(self.cache, self.held, ids)
        stats = self.stats = Stats()
        answer, new = {"role": "assistant", "content": ""}, []
        self.messages = [*messages, answer]
        ends = end_ids(self.model) | {self.tokenizer.eos_token_id}
        row = torch.tensor([ids], device=self.model.device)  # [1, n]
        options = dict(pick=pick, ends=ends, cache=self.cache, stats=stats)
        steps = generate(self.model, row, settings, **options)
        try:
            shown = pieces(self.tokenizer, visible(steps, ends, new))
            for piece in until(shown, settings.stop):
                answer["content"] += piece
                yield piece
            stats.reason = stats.reason or "parada"
        finally:  # también si se cierra o se pulsa ■
            stats.reason = stats.reason or "interrumpido"
            steps.close()
            self.held = [*ids, *new][: self.cache.get_seq_length()]


def visible(steps, ends: set[int], new: list[int]):
    """Los ids que son texto; en `new` se apuntan todos."""
    for token in steps:
        new.append(token)
        if token not in ends:
            yield token
        ### END SOLUTION


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
