"""Corrección del laboratorio 06 · KV cache escrito a mano."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from ..cache import ConcatLayer, PreallocatedLayer, make_cache
from ..forward import next_logits
from ..sampling import sample_token
from .bench import (
    TINY,
    CallCounter,
    library,
    prompts,
    random_ids,
    random_logits,
    tiny_config,
    tiny_model,
)
from .kit import Hint, Part, as_int, call, exercise, expect

CLOSE = dict(atol=1e-3, rtol=1e-3)
BY_HAND = ("DynamicLayer.update",)


def _near(a, b) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, **CLOSE)


# 06.1: una capa


def layer(update):
    """Una capa con ese `update(self, keys, values)` ya inicializada."""

    class Layer(DynamicLayer):
        def update(self, key_states, value_states, *args, **kwargs):
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            return update(self, key_states, value_states)

    return Layer


def both(old, new, dim=-2):
    return torch.cat([old, new], dim=dim)


def concat(self, k, v):
    self.keys, self.values = both(self.keys, k), both(self.values, v)
    return self.keys, self.values


def _swapped(self, k, v):
    self.keys, self.values = both(self.keys, v), both(self.values, k)
    return self.values, self.keys


def _returns_new(self, k, v):
    concat(self, k, v)
    return k, v


def _returns_swapped(self, k, v):
    concat(self, k, v)
    return self.values, self.keys


def _not_kept(self, k, v):
    return both(self.keys, k), both(self.values, v)


def _in_front(self, k, v):
    self.keys, self.values = both(k, self.keys), both(v, self.values)
    return self.keys, self.values


def _only_keys(self, k, v):
    self.keys = both(self.keys, k)
    return self.keys, both(self.values, v)


def _last_only(self, k, v):
    self.keys, self.values = k, v
    return k, v


def loses_last(self, k, v):
    k, v = both(self.keys, k), both(self.values, v)
    self.keys, self.values = k[:, :, :-1], v[:, :, :-1]
    return k, v


def _first_row(self, k, v):
    return concat(self, k[:1], v[:1])


def _other_axis(self, k, v):
    self.keys, self.values = both(self.keys, k, -1), both(self.values, v, -1)
    return self.keys, self.values


def _values_of_keys(self, k, v):
    self.keys, self.values = both(self.keys, k), both(self.values, k)
    return self.keys, self.values


def _own_counter(self, k, v):
    """Cuenta aparte: `crop` no se entera."""
    if not hasattr(self, "store"):
        shape = (*k.shape[:2], 64, k.shape[3])
        self.store, self.used = (k.new_zeros(shape), v.new_zeros(shape)), 0
    end = self.used + k.shape[2]
    self.store[0][:, :, self.used : end] = k
    self.store[1][:, :, self.used : end] = v
    self.used = end
    self.keys, self.values = (s[:, :, :end] for s in self.store)
    return self.keys, self.values


def growing(copy):
    """Una capa que reserva de sobra y, al crecer, copia con `copy`."""

    class Layer(DynamicLayer):
        room = 4

        def update(self, key_states, value_states, *args, **kwargs):
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.stores = [key_states[:, :, :0], value_states[:, :, :0]]
            start = self.get_seq_length()
            end = start + key_states.shape[-2]
            olds = self.keys, self.values
            for i, new in enumerate((key_states, value_states)):
                if end > self.stores[i].shape[2]:
                    size = max(self.room, 2 * end)
                    store = new.new_zeros(*new.shape[:2], size, new.shape[3])
                    if start:
                        copy(store, olds[i], start)
                    self.stores[i] = store
                self.stores[i][:, :, start:end] = new
            self.keys = self.stores[0][:, :, :end]
            self.values = self.stores[1][:, :, :end]
            return self.keys, self.values

    return Layer


def copy_whole(store, old, start):
    store[:, :, :start] = old


def _copy_flat(store, old, start):
    store.view(-1)[: old.numel()] = old.reshape(-1)


def _copy_short(store, old, start):
    store[:, :, : start - 1] = old[:, :, 1:]


def _copy_first_row(store, old, start):
    store[:1, :, :start] = old[:1]


def _copy_first_head(store, old, start):
    store[:, :, :start] = old[:, :1]


class _Empty(DynamicLayer):
    pass


class _Inherits(DynamicLayer):
    def update(self, key_states, value_states, *args, **kwargs):
        return super().update(key_states, value_states)


NO_UPDATE = "Tu clase no trae su propio update: el que actúa es el heredado."
KEEP = "¿Guardas en self.keys y self.values lo que devuelves?"
LAST = "Te quedas solo con lo último: va detrás de lo que ya había."
GROW = (
    "Usa la capa con un prompt de 3 tokens y mira keys.shape tras cada paso: "
    "¿crece de uno en uno desde 3?"
)
ONE = "keys y values tienen que crecer a la vez."
SWAP = "En keys están los V, y en values, los K."
FRONT = "Lo nuevo va detrás, por orden de llegada, y tú lo pones delante."
CONTENT = (
    "Lo guardado no es lo que guarda la biblioteca. Compara keys con las "
    "suyas tras cada paso."
)
RETURN = (
    "Lo guardado está bien y los logits no: ¿qué devuelve update? Tiene que "
    "ser todo lo guardado, primero keys y luego values."
)
AXIS = "¿Pegas por el eje de los tokens, que es el −2?"
BATCH = "Con un lote de 2 filas, dentro de generate, sale otra cosa."
CROP = (
    "Falla después de cache.crop(-6), al seguir por otro camino. ¿Llevas la "
    "cuenta en un sitio que crop no conoce?"
)
PAIR = "update devuelve dos cosas: todo lo guardado de K, y de V."
VALUES = "keys está bien y values no: ¿guardas ahí los V?"
COUNT = "Son n tokens nuevos, ni uno más ni uno menos."
ZEROS = (
    "Al crecer, lo primero queda en ceros: lo que había no está en su sitio."
)
SHIFT = "Al crecer, lo copiado queda corrido una posición."
COPY = (
    "Mientras hay sitio va bien; falla al crecer. Compara keys antes y "
    "después de la copia: ¿está cada número en su cabeza y su posición?"
)


def _forced(model, ids, cache, n: int):
    """Logits de n pasos con esa caché; los tokens son los de la biblioteca,
    para que un fallo se vea donde ocurre y no en lo que arrastra."""
    new = library(ids, n)[:, ids.shape[1] :]
    logits = [model(ids, past_key_values=cache).logits[0, -1].float()]
    for token in new.split(1, 1):
        out = model(token, past_key_values=cache)
        logits.append(out.logits[0, -1].float())
    return torch.stack(logits)  # [n + 1, V]


def _layers(layer_class) -> Cache:
    layers = range(tiny_config().num_hidden_layers)
    return Cache(layers=[call(layer_class) for _ in layers])


def _attempt(run, hint: str):
    """Lo que da `run`; si el código del alumno falla, su error y la pista."""
    try:
        return call(run)
    except Hint as error:
        one = hint is AXIS and "to unpack" in str(error)
        raise Hint(f"{error} {PAIR if one else hint}") from None


def _check_layer(layer_class, content=CONTENT) -> None:
    """Que la capa dé lo mismo que la biblioteca, en el bucle y en generate."""
    expect(
        isinstance(layer_class, type)
        and issubclass(layer_class, DynamicLayer),
        "Esperaba una función o una clase: la tuya, sin paréntesis, hija de "
        "DynamicLayer.",
    )
    expect(layer_class.update is not DynamicLayer.update, NO_UPDATE)
    some = torch.zeros(1, 2, 3, 4)  # con el hueco sin rellenar, Pendiente
    call(call(layer_class).update, some, some, without=BY_HAND)
    one, *more = prompts()
    for ids in (*more, one, random_ids(40, 4)):
        _same_as_library(layer_class, ids, content)
    _in_a_batch(layer_class)
    _after_a_crop(layer_class)


def _same_as_library(layer_class, ids, content: str) -> None:
    model, theirs, cache = tiny_model(), DynamicCache(), _layers(layer_class)
    truth = _forced(model, ids, theirs, 12)
    logits = _attempt(lambda: _forced(model, ids, cache, 12), AXIS)
    kept = as_int(cache.get_seq_length(), "get_seq_length no es entero.")
    wanted = ids.shape[1] + 12
    if kept != wanted:
        known = {0: KEEP, 1: LAST}
        raise Hint(
            f"Tras un prompt de {ids.shape[1]} y 12 tokens más, la capa dice "
            f"que guarda {kept} y deberían ser {wanted}. "
            f"{known.get(kept, GROW)}"
        )
    # solo la primera: lo que guardan las demás depende de lo que devuelve
    hint = _content_hint(cache.layers[0], theirs.layers[0], content)
    expect(not hint, hint)
    expect(torch.allclose(logits, truth, **CLOSE), RETURN)


def _content_hint(mine, other, content: str) -> str:
    """Qué le pasa a lo guardado en una capa, o nada."""
    pairs = (mine.keys, other.keys), (mine.values, other.values)
    if all(_near(a, b) for a, b in pairs):
        return ""
    if mine.keys.shape != mine.values.shape:
        return ONE
    if _near(mine.keys, other.values):
        return SWAP
    if _near(mine.keys, other.keys):
        return VALUES
    if mine.keys.shape != other.keys.shape:
        return content
    if _near(mine.keys[:, :, 0], other.keys[:, :, -1]):
        return FRONT
    shifts = (other.keys[:, :, k] for k in (1, 2, 3))
    late = (mine.keys[:, :, k] for k in (1, 2, 3))
    if any(_near(mine.keys[:, :, 0], shifted) for shifted in shifts) or any(
        _near(other.keys[:, :, 0], shifted) for shifted in late
    ):
        return SHIFT
    if not mine.keys[:, :, 0].any():
        return ZEROS
    return content


def _in_a_batch(layer_class) -> None:
    model = tiny_model()
    ids = torch.cat([prompts()[2], prompts()[2] + 1])  # un lote de 2
    more = torch.cat([random_ids(20, 1), random_ids(20, 2)])  # [2, 20]

    def fed(cache):
        for part in (ids, *more.split(1, 1)):
            out = model(part, past_key_values=cache)
        return out.logits[:, -1]

    theirs = fed(DynamicCache())
    ours = _attempt(lambda: fed(_layers(layer_class)), BATCH)
    expect(_near(ours, theirs), BATCH)
    options = dict(do_sample=False, max_new_tokens=8, pad_token_id=0)
    options["attention_mask"] = torch.ones_like(ids)
    theirs = model.generate(ids, **options)
    cache = _layers(layer_class)
    mine = _attempt(
        lambda: model.generate(ids, past_key_values=cache, **options), BATCH
    )
    expect(torch.equal(mine, theirs), BATCH)


def _after_a_crop(layer_class) -> None:
    model, ids, cache = tiny_model(), prompts()[4], _layers(layer_class)
    rest = prompts()[3]

    def cropped():
        _forced(model, ids, cache, 3)
        cache.crop(-6)  # quedan 10
        return model(rest, past_key_values=cache).logits[0, -1]

    out = _attempt(cropped, CROP)
    right = next_logits(model, torch.cat([ids[:, :10], rest], -1))[0]
    expect(torch.allclose(out, right, **CLOSE), CROP)


@exercise(
    "06.1",
    success="¡Correcto! En tu bucle y dentro de generate.",
    traps={
        NO_UPDATE: _Empty,
        KEEP: layer(_not_kept),
        LAST: layer(_last_only),
        GROW: layer(loses_last),
        PAIR: layer(lambda self, k, v: concat(self, k, v)[0][:1, :1, :1]),
        VALUES: [
            layer(lambda self, k, v: concat(self, k, k)),
            layer(_values_of_keys),
        ],
        ONE: layer(_only_keys),
        SWAP: layer(_swapped),
        FRONT: layer(_in_front),
        RETURN: [layer(_returns_new), layer(_returns_swapped)],
        AXIS: layer(_other_axis),
        BATCH: [layer(_first_row), growing(_copy_first_row)],
        CROP: layer(_own_counter),
    },
    rights=[layer(concat), ConcatLayer, PreallocatedLayer],
)
def own_layer(layer_class):
    """Una subclase de `DynamicLayer` con `update`."""
    _check_layer(layer_class)


# 06.2


def kv_bytes(config, tokens, size):
    """Los bytes de la caché, de la configuración."""
    kv = config.num_key_value_heads
    return (
        2 * config.num_hidden_layers * kv * _head_dim(config) * tokens * size
    )


def _head_dim(config):
    whole = config.hidden_size // config.num_attention_heads
    return getattr(config, "head_dim", None) or whole


def _configs():
    from transformers import LlamaConfig, Phi3Config, Qwen3Config

    shape = dict(hidden_size=48, intermediate_size=32, vocab_size=50)
    shape["num_attention_heads"] = 6
    ends = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    odd = dict(hidden_size=45, num_attention_heads=9, num_hidden_layers=7)

    def kind(make, layers, kv, **more):
        heads = dict(num_hidden_layers=layers, num_key_value_heads=kv)
        return make(**shape, **heads, **more)

    yield tiny_config(**odd, num_key_value_heads=3), 11, 8
    yield tiny_config(), 7, 4
    yield kind(LlamaConfig, 5, 6), 9, 2
    yield kind(Qwen3Config, 2, 2, head_dim=12), 11, 2
    yield kind(Phi3Config, 3, 3, **ends), 1, 4


def _bytes_hint(ours, right, config, tokens, size) -> str:
    return (
        f"Son {config.num_hidden_layers} capas, {config.num_key_value_heads} "
        f"cabezas de K/V de {_head_dim(config)} números, {tokens} tokens y "
        f"{size} bytes por número. ¿Qué factor falta o sobra?"
    )


exercise(
    "06.2",
    Part(
        _configs,
        truth=kv_bytes,
        read=lambda value, *case: as_int(
            value, "Los bytes son un número entero."
        ),
        said="Te salen {ours} bytes y son {right}.",
        traps={
            "Se guardan K y V: son dos.": lambda *c: kv_bytes(*c) // 2,
            "Se guardan las cabezas de K/V, no todas.": lambda c, n, s: (
                kv_bytes(c, n, s)
                * c.num_attention_heads
                // c.num_key_value_heads
            ),
            "head_dim no siempre es hidden_size / cabezas: si la "
            "configuración lo trae, es ese.": lambda c, n, s: (
                kv_bytes(c, n, s)
                // _head_dim(c)
                * (c.hidden_size // c.num_attention_heads)
            ),
            "hidden_size no es cabezas de K/V × head_dim.": lambda c, n, s: (
                2 * c.num_hidden_layers * c.hidden_size * n * s
            ),
            "Faltan los bytes de cada número.": (
                lambda c, n, s: kv_bytes(c, n, 1)
            ),
            "Cada capa guarda lo suyo: falta multiplicar por ellas.": (
                lambda c, n, s: kv_bytes(c, n, s) // c.num_hidden_layers
            ),
            "Eso es lo de un token, y se piden todos.": (
                lambda c, n, s: kv_bytes(c, 1, s)
            ),
        },
        otherwise=_bytes_hint,
        rights=[
            kv_bytes,
            lambda *case: torch.tensor(kv_bytes(*case)),
            lambda c, n, s: sum(
                2 * c.num_key_value_heads * _head_dim(c) * n * s
                for _ in range(c.num_hidden_layers)
            ),
        ],
    ),
    success="¡Correcto! Los bytes que de verdad se guardan.",
)


# 06.3


def write(model, ids, n, cache):
    """Greedy con caché, sin un forward de más."""
    entering = ids
    for _ in range(n):
        out = model(entering, past_key_values=cache)
        entering = out.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, entering], -1)
    return ids


def _write_by_list(model, ids, n, cache):
    out = model(ids, past_key_values=cache, logits_to_keep=1)
    new = [out.logits[0, -1].argmax().item()]
    while len(new) < n:
        token = torch.tensor([[new[-1]]])
        out = model(input_ids=token, past_key_values=cache)
        new.append(int(out.logits[0, -1].argmax()))
    return torch.cat([ids, torch.tensor([new])], -1)


def write_everything(model, ids, n, cache):
    for _ in range(n):
        token = model(ids, use_cache=False).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, token], -1)
    return ids


def write_without(model, ids, n, cache):
    entering = ids
    for _ in range(n):
        entering = model(entering).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, entering], -1)
    return ids


def _write_extra(model, ids, n, cache):
    ids = write(model, ids, n, cache)
    model(ids[:, -1:], past_key_values=cache)
    return ids


def _write_all_in(model, ids, n, cache):
    for _ in range(n):
        out = model(ids, past_key_values=cache)
        ids = torch.cat([ids, out.logits[:, -1:].argmax(-1)], -1)
    return ids


def _write_token_by_token(model, ids, n, cache):
    for token in ids.split(1, 1):
        out = model(token, past_key_values=cache)
    for i in range(n):
        token = out.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, token], -1)
        if i + 1 < n:
            out = model(token, past_key_values=cache)
    return ids


def _write_from_zero(model, ids, n, cache):
    entering, options = ids, {}
    for _ in range(n):
        out = model(entering, past_key_values=cache, **options)
        entering = out.logits[:, -1:].argmax(-1)
        options = dict(position_ids=torch.tensor([[0]]))
        ids = torch.cat([ids, entering], -1)
    return ids


PREFILL = "Prefill es pasar el prompt entero, una vez."
ONLY_NEW = (
    "Después del prefill, cada forward recibe solo el token nuevo: lo "
    "anterior está en la caché."
)
NOT_ALWAYS = (
    "¿Le pasas la caché en todas las llamadas, también en el prefill, dejas "
    "que la posición salga de ella, y eliges con los últimos logits?"
)
LAST_ONE = "Después del último token no hace falta ninguno."
YOURS = "¿Has usado otra caché, y no la que recibes?"
WHOLE = "Devuelve los ids, con el prompt delante."


@exercise(
    "06.3",
    success="¡Correcto! El mismo texto, y cada token pasa una sola vez.",
    traps={
        ONLY_NEW: [write_everything, _write_all_in],
        NOT_ALWAYS: [write_without, _write_from_zero],
        YOURS: lambda m, i, n, c: write(m, i, n, make_cache(m)),
        LAST_ONE: _write_extra,
        PREFILL: _write_token_by_token,
        WHOLE: lambda m, i, n, c: write(m, i, n, c)[:, i.shape[1] :],
        COUNT: [
            lambda m, i, n, c: write(m, i, n + 1, c),
            lambda m, i, n, c: write(m, i, n, c)[:, :-1],
        ],
    },
    rights=[write, _write_by_list],
)
def cached_loop(answer):
    """`write(model, ids, n, cache) -> [1, len + n]`."""
    for ids in prompts():
        for n in (10, 2, 1):
            _one_loop(answer, ids, n)


def _one_loop(answer, ids, n: int) -> None:
    right, start = library(ids, n), ids.shape[1]
    with CallCounter() as counter:
        cache = make_cache(counter.model)
        ours = call(answer, counter.model, ids, n, cache)
    sizes = counter.lengths
    got = list(getattr(ours, "shape", [type(ours).__name__]))
    in_front = len(got) == 2 and torch.equal(ours[:, :start], ids)
    expect(
        got == list(right.shape),
        f"Esperaba un tensor de forma {list(right.shape)} y recibo {got}. "
        f"{COUNT if in_front else WHOLE}",
    )
    expect(
        bool(sizes),
        "No se ve pasar nada por la red. Llama al modelo así: model(ids, …), "
        "y no model.forward(…).",
    )
    expect(
        sizes[0] == start,
        f"El primer forward recibe {sizes[0]} tokens y el prompt tiene "
        f"{start}. {PREFILL}",
    )
    expect(
        len(sizes) <= n,
        f"Para {n} tokens haces {len(sizes)} forwards. {LAST_ONE}",
    )
    expect(
        all(size == 1 for size in sizes[1:]),
        f"Por la red pasan {sizes} tokens. {ONLY_NEW}",
    )
    expect(
        torch.equal(ours, right),
        f"Los ids no son los de generate. {NOT_ALWAYS}",
    )
    expect(
        cache.get_seq_length() == start + n - 1,
        f"La caché que te dieron acaba con {cache.get_seq_length()} tokens y "
        f"deberían ser {start + n - 1}. {YOURS}",
    )


# 06.4


def work(P, n):
    """Tokens que pasan: con caché, sin ella."""
    return P + n - 1, n * P + n * (n - 1) // 2


def _two_counts(value, *case) -> tuple:
    value = value.tolist() if hasattr(value, "tolist") else value
    expect(
        isinstance(value, tuple | list) and len(value) == 2,
        "Devuelve dos números: (con caché, sin caché).",
    )
    return tuple(as_int(x, "Los tokens son números enteros.") for x in value)


exercise(
    "06.4",
    Part(
        [(5, 1), (1, 4), (16, 32), (55, 100), (7, 2)],
        truth=work,
        read=_two_counts,
        said=lambda ours, right, P, n: (
            f"Con P = {P} y n = {n} dices {ours[0]} con caché y {ours[1]} sin "
            f"ella, y son {right[0]} y {right[1]}."
        ),
        traps={
            "Los tienes al revés: primero con caché.": (
                lambda P, n: work(P, n)[::-1]
            ),
            "Esos son los forwards, y son los mismos con caché y sin ella: se "
            "cuentan los tokens que entran en cada uno.": lambda P, n: (n, n),
            "Con caché, el prompt entra una vez y cada token nuevo, otra… "
            "salvo uno: ¿cuál no llega a pasar?": (
                lambda P, n: (P + n, work(P, n)[1])
            ),
            "Con caché también pasa el prompt, una vez.": [
                lambda P, n: (n, work(P, n)[1]),
                lambda P, n: (n - 1, work(P, n)[1]),
            ],
            "Sin caché, en el primer paso entran los P del prompt, y en el "
            "último, P + n − 1.": [
                lambda P, n: (P + n - 1, n * P + n * (n + 1) // 2),
                lambda P, n: (P + n - 1, sum(range(P + 1, P + n + 1))),
            ],
            "Sin caché, cada paso pasa también los tokens que ya ha escrito.": (
                lambda P, n: (P + n - 1, n * P)
            ),
            "Eso son los pares de la atención, que crecen con el cuadrado; "
            "aquí se cuentan tokens.": (
                lambda P, n: (P + n - 1, (P + n) ** 2)
            ),
        },
        otherwise="Escribe cuántos tokens entran en cada paso, con P = 3 y "
        "n = 4, y súmalos.",
        rights=[
            work,
            lambda P, n: torch.tensor(work(P, n)),
            lambda P, n: [P + n - 1, sum(range(P, P + n))],
        ],
    ),
    success="¡Correcto! Los mismos forwards, muchos menos tokens.",
)


# 06.5


def next_scores(model, ids, cache, kept, *, last=1, crop=True):
    """Aprovecha el comienzo común y pasa lo demás."""
    same, wanted = 0, ids[0].tolist()
    for a, b in zip(kept, wanted[: len(wanted) - last]):
        if a != b:
            break
        same += 1
    if crop:
        cache.crop(same - len(kept))
    return model(ids[:, same:], past_key_values=cache).logits[:, -1]


def _scores_by_while(model, ids, cache, kept):
    prompt, n = ids[0].tolist(), len(kept)
    while n and (kept[:n] != prompt[:n] or n == len(prompt)):
        n -= 1
    if n < len(kept):
        cache.crop(n - len(kept))
    out = model(ids[:, n:], past_key_values=cache, logits_to_keep=1)
    return out.logits[:, -1].float()


def _scores_from_zero(model, ids, cache, kept):
    cache.crop(-len(kept))
    return model(ids, past_key_values=cache).logits[:, -1]


def _scores_by_length(model, ids, cache, kept):
    n = min(len(kept), ids.shape[1] - 1)
    cache.crop(n - len(kept))
    return model(ids[:, n:], past_key_values=cache).logits[:, -1]


def _scores_counting(model, ids, cache, kept):
    same = sum(a == b for a, b in zip(kept, ids[0].tolist()[:-1]))
    cache.crop(same - len(kept))
    return model(ids[:, same:], past_key_values=cache).logits[:, -1]


def _crops_the_good(model, ids, cache, kept):
    same = sum(a == b for a, b in zip(kept, ids[0].tolist()[:-1]))
    cache.crop(-same)
    return model(ids[:, same:], past_key_values=cache).logits[:, -1]


def _scores_all(model, ids, cache, kept):
    same = _shared(ids, torch.tensor([kept], dtype=torch.long))
    cache.crop(same - len(kept))
    return model(ids[:, same:], past_key_values=cache).logits


NO_CROP = (
    "Detrás de lo que vale sigue guardado lo que no: recorta la caché justo "
    "donde dejan de coincidir, antes de seguir."
)
NOT_SAME = (
    "Das por bueno un trozo que no coincide: el prefijo acaba en el primer "
    "token distinto."
)
NOTHING = "Si el prompt ya está entero en la caché, su último token tiene que "
NOTHING += "volver a pasar: sin forward no hay logits."
ALL_GOOD = (
    "Todo lo guardado vale: ¿recortas algo que servía, cambias las posiciones "
    "o no miras los últimos logits?"
)
TOO_MUCH = "Lo que coincide no hace falta volver a pasarlo."
READY = "Tiene que quedar lista para seguir: es la que recibes."
ONE_ROW = "Devuelve los logits del siguiente token, con su fila: [1, V]."


@exercise(
    "06.5",
    success="¡Correcto! Aprovecha lo que vale y tira lo que no.",
    traps={
        NO_CROP: [
            lambda m, i, c, k: next_scores(m, i, c, k, crop=False),
            lambda m, i, c, k: m(i, past_key_values=c).logits[:, -1],
        ],
        NOT_SAME: [_scores_by_length, _scores_counting],
        NOTHING: lambda m, i, c, k: next_scores(m, i, c, k, last=0),
        ALL_GOOD: [
            _crops_the_good,
            lambda m, i, c, k: _scores_all(m, i, c, k)[:, 0],
        ],
        TOO_MUCH: [
            _scores_from_zero,
            lambda m, i, c, k: next_scores(m, i, c, k, last=2),
        ],
        READY: lambda m, i, c, k: (
            next_scores(m, i, c, k),
            c.crop(-1),
        )[0],
        ONE_ROW: lambda m, i, c, k: next_scores(m, i, c, k)[0],
    },
    rights=[next_scores, _scores_by_while],
)
def reuse(answer):
    """`next_scores(model, ids, cache, kept) -> [1, V]`."""
    base = random_ids(12, 6)
    changed = base.clone()
    changed[0, 5] = (changed[0, 5] + 1) % TINY
    for ids, kept, name in (
        (torch.cat([base, random_ids(4, 7)], -1), base, "el prompt sigue"),
        (random_ids(9, 8), base[:, :0], "la caché está vacía"),
        (torch.cat([base[:, :7], random_ids(6, 9)], -1), base, "se separan"),
        (random_ids(8, 10), base, "no se parecen en nada"),
        (base[:, :10], base, "el prompt es el comienzo de lo guardado"),
        (base, base, "el prompt es justo lo guardado"),
        (changed, base, "solo cambia un token de en medio"),
    ):
        _one_reuse(answer, ids, kept, f"Cuando {name}, ")


def _shared(ids, kept) -> int:
    """Tokens del comienzo que coinciden, dejando uno por pasar."""
    n = min(kept.shape[1], ids.shape[1] - 1)
    same = (ids[0, :n] == kept[0, :n]).long()
    return int(same.cumprod(0).sum())


def _one_reuse(answer, ids, kept, when: str) -> None:
    model, same, n = tiny_model(), _shared(ids, kept), ids.shape[1]
    right, cache = next_logits(model, ids), make_cache(model)
    if kept.shape[1]:
        model(kept, past_key_values=cache)
    with CallCounter() as counter:
        try:
            ours = call(answer, model, ids, cache, kept[0].tolist())
        except Hint as error:
            empty = same + 1 == n and "lanza" in str(error)
            raise Hint(f"{error} {NOTHING}" if empty else str(error)) from None
    passed, left = sum(counter.lengths), cache.get_seq_length()
    expect(
        isinstance(ours, torch.Tensor) and ours.shape == right.shape, ONE_ROW
    )
    wrong = not torch.allclose(ours.float(), right, **CLOSE)
    if wrong:
        why = NOT_SAME if same < kept.shape[1] else ALL_GOOD
        if left > n:
            why = NOTHING if same + 1 == n else NO_CROP
        raise Hint(f"{when}los logits no son esos. {why}")
    expect(
        passed > 0,
        f"{when}no se ve pasar nada por la red: llama al modelo, model(ids, …).",
    )
    expect(
        passed <= n - same,
        f"{when}pasan {passed} tokens por la red y bastan {n - same}. "
        f"{TOO_MUCH}",
    )
    expect(
        left == n,
        f"{when}al acabar la caché guarda {left} tokens y el prompt tiene "
        f"{n}. {READY}",
    )


# 06.6 a 06.12: las cacerías


def loop_at(shift):
    """Un bucle que da al primer token nuevo la posición P + 1 + shift."""

    def loop(model, ids, n, cache):
        out = model(ids, past_key_values=cache)
        new = [out.logits[0, -1].argmax().item()]
        while len(new) < n:
            place = torch.tensor([[ids.shape[1] + len(new) + shift]])
            token = torch.tensor([[new[-1]]])
            out = model(token, past_key_values=cache, position_ids=place)
            new.append(out.logits[0, -1].argmax().item())
        return new

    return loop


def loop_new(model, ids, n, cache):
    """Los n ids nuevos, en una lista."""
    return write(model, ids, n, cache)[0, ids.shape[1] :].tolist()


def _loop_again(model, ids, n, cache):
    out = write_everything(model, ids, n, cache)
    return out[0, ids.shape[1] :].tolist()


PLACE = (
    "El texto sale fluido, así que el error es sutil: imprime la posición que "
    "se da a cada token. El prompt ocupa de la 0 a la P − 1; ¿cuál le toca al "
    "primero?"
)
AGAIN = (
    "Ahora acierta, pero volviendo a pasar lo ya guardado: el error estaba en "
    "la posición, no en la caché."
)
LIST = "Tiene que seguir devolviendo la lista de ids nuevos."


@exercise(
    "06.6",
    success="¡Cazado!",
    traps={
        PLACE: [loop_at(0), loop_at(-2)],
        AGAIN: _loop_again,
        LIST: write,
        COUNT: lambda m, i, n, c: loop_new(m, i, n + 1, c),
    },
    rights=[loop_at(-1), loop_new],
)
def bug_position(loop):
    """La posición de cada token nuevo."""
    for ids in prompts():
        right = library(ids, 12)[0, ids.shape[1] :].tolist()
        with CallCounter() as counter:
            model = counter.model
            ours = call(loop, model, ids, 12, make_cache(model))
        expect(isinstance(ours, list), LIST)
        expect(len(ours) == 12, f"Pido 12 y das {len(ours)}. {COUNT}")
        expect(ours == right, f"No da los ids de generate. {PLACE}")
        expect(sum(counter.lengths) <= ids.shape[1] + 12, AGAIN)


def _loses_first(self, k, v):
    k, v = both(self.keys, k), both(self.values, v)
    self.keys, self.values = k[:, :, 1:], v[:, :, 1:]
    return k, v


def _half_fixed(self, k, v):
    k, v = both(self.keys, k), both(self.values, v)
    self.keys, self.values = k, v[:, :, :-1]
    return k, v


@exercise(
    "06.7",
    success="¡Cazado!",
    traps={
        GROW: [layer(loses_last), layer(_loses_first)],
        KEEP: layer(_not_kept),
        ONE: layer(_half_fixed),
        LAST: layer(_last_only),
        NO_UPDATE: _Empty,
    },
    rights=[layer(concat), ConcatLayer],
)
def bug_unwritten(layer_class):
    """El token que nunca se escribió."""
    _check_layer(layer_class)


class _Roomy(growing(_copy_flat)):
    room = 512


class _Hidden(growing(_copy_flat)):
    """El mismo error, con el sitio reservado donde no se ve."""

    def __init__(self):
        super().__init__()
        self.room = 300


SMALL = "Deja room = 4: con sitio de sobra el error no se ve, pero sigue ahí."


@exercise(
    "06.8",
    success="¡Cazado!",
    traps={
        COPY: [growing(_copy_flat), growing(_copy_first_head)],
        ZEROS: growing(lambda store, old, start: None),
        SHIFT: growing(_copy_short),
        SMALL: [_Roomy, _Hidden],
        NO_UPDATE: _Empty,
    },
    rights=[growing(copy_whole), ConcatLayer],
)
def bug_growth(layer_class):
    """La caché que crece."""
    expect(getattr(layer_class, "room", 0) <= 8, SMALL)
    _check_layer(layer_class, COPY)
    new = random_logits(0, 600).view(600, 1, 1, 1, 1)  # tokens de uno en uno
    layer_, whole = layer_class(), new[:, 0, 0, 0, 0]
    for k in new.expand(-1, 1, 2, 1, 4):
        keys, _ = call(layer_.update, k, k)
    expect(_near(keys[0, 1, :, 3], whole), SMALL)


def chunked(places):
    """Un prefill por trozos con esas posiciones (de dónde, cuántas)."""

    def run(model, ids, cache, size):
        for part in ids.split(size, dim=1):
            at = places(cache.get_seq_length(), part.shape[1])[None]
            out = model(part, past_key_values=cache, position_ids=at)
        return out.logits[:, -1]

    return run


def straight(start, n):
    return torch.arange(start, start + n)


def _trusting(model, ids, cache, size):
    for part in ids.split(size, dim=1):
        out = model(part, past_key_values=cache)
    return out.logits[:, -1]


PLACES = (
    "Imprime las posiciones de cada trozo: ¿empieza el segundo donde acabó el "
    "primero?"
)
PIECES = "Los logits son los buenos, pero tienen que pasar por trozos."
STORED = "Los logits son los buenos, pero tienen que quedar guardados."


@exercise(
    "06.9",
    success="¡Cazado!",
    traps={
        PLACES: [
            chunked(lambda start, n: start + straight(start, n)),
            chunked(lambda start, n: torch.arange(n)),
            chunked(lambda start, n: 2 * straight(start, n)),
            chunked(lambda start, n: 1 + straight(start, n)),
        ],
        PIECES: lambda m, i, c, s: m(i, past_key_values=c).logits[:, -1],
        STORED: lambda m, i, c, s: _trusting(m, i, make_cache(m), s),
    },
    rights=[chunked(straight), _trusting],
)
def bug_offset(prefill):
    """El prompt por trozos."""
    model = tiny_model()
    for ids in prompts()[2:]:
        for size in (64, 4, 3, 1):
            cache = make_cache(model)
            with CallCounter() as counter:
                ours = call(prefill, model, ids, cache, size)
            expect(
                isinstance(ours, torch.Tensor) and ours.shape[-1] == TINY,
                "Tiene que seguir devolviendo los logits del último token.",
            )
            right = next_logits(model, ids)[0]
            expect(
                torch.allclose(ours.flatten()[-TINY:], right, **CLOSE),
                f"Con trozos de {size}, {ids.shape[1]} tokens no dan los "
                f"logits de pasarlos de una vez. {PLACES}",
            )
            parts = [part.shape[1] for part in ids.split(size, 1)]
            places = counter.places or list(range(ids.shape[1]))
            expect(
                places == list(range(ids.shape[1])),
                f"Las posiciones son {places}, y van de la 0 a la "
                f"{ids.shape[1] - 1}. {PLACES}",
            )
            expect(counter.lengths == parts, PIECES)
            expect(cache.get_seq_length() == ids.shape[1], STORED)


ENTERS = (
    "El texto es correcto, pero pasan tokens de más. ¿Qué recibe el modelo en "
    "cada vuelta? ¿Le llega la caché?"
)
CHANGED = "El texto ya no es el de generate, y antes sí lo era: ¿ve el modelo "
CHANGED += "lo anterior?"
LEFT = "Va deprisa, pero no con la caché que recibe."


@exercise(
    "06.10",
    success="¡Cazado!",
    traps={
        ENTERS: _loop_again,
        CHANGED: lambda m, i, n, c: write_without(m, i, n, c)[
            0, i.shape[1] :
        ].tolist(),
        LEFT: lambda m, i, n, c: loop_new(m, i, n, make_cache(m)),
        LIST: write,
        COUNT: lambda m, i, n, c: loop_new(m, i, n + 1, c),
    },
    rights=[
        loop_new,
        loop_at(-1),
        lambda m, i, n, c: _write_by_list(m, i, n, c)[
            0, i.shape[1] :
        ].tolist(),
    ],
)
def bug_unused(loop):
    """El bucle con caché que no la usa."""
    for ids in prompts():
        right = library(ids, 8)[0, ids.shape[1] :].tolist()
        with CallCounter() as counter:
            cache = make_cache(counter.model)
            ours = call(loop, counter.model, ids, 8, cache)
        expect(isinstance(ours, list), LIST)
        expect(len(ours) == 8, f"Pido 8 y das {len(ours)}. {COUNT}")
        expect(ours == right, CHANGED)
        wanted = ids.shape[1] + 7
        expect(
            sum(counter.lengths) == wanted,
            f"Pasan {sum(counter.lengths)} tokens y bastan {wanted}. {ENTERS}",
        )
        expect(cache.get_seq_length() == wanted, LEFT)


def _padded_by_hand(model, ids, mask, cache):
    places = (mask.cumsum(-1) - 1).clamp_min(0)
    options = dict(attention_mask=mask, position_ids=places)
    return model(ids, past_key_values=cache, **options).logits[:, -1]


def _only_mask(model, ids, mask, cache):
    places = torch.arange(ids.shape[1]).expand_as(ids) * 2
    options = dict(attention_mask=mask, position_ids=places)
    return model(ids, past_key_values=cache, **options).logits[:, -1]


PADDED = (
    "La fila corta no da los logits que da ella sola, y lleva relleno a la "
    "izquierda: ¿quién le dice al modelo qué es relleno y qué no?"
)
REAL_ZERO = (
    "Tomas por relleno un 0 que es un token de verdad: el relleno lo dice la "
    "máscara, no el id."
)
OTHER_ROW = "La fila sin relleno también ha cambiado: mira qué has tocado."
KEPT = "Hay que seguir generando con esa caché, y no guarda el lote."


@exercise(
    "06.11",
    success="¡Cazado!",
    traps={
        PADDED: [
            lambda m, i, k, c: next_logits(m, i, c),
            lambda m, i, k, c: next_logits(m, i, c, torch.ones_like(k)),
        ],
        REAL_ZERO: lambda m, i, k, c: next_logits(m, i, c, (i != 0).long()),
        OTHER_ROW: _only_mask,
        KEPT: lambda m, i, k, c: next_logits(m, i, None, k),
    },
    rights=[lambda m, i, k, c: next_logits(m, i, c, k), _padded_by_hand],
)
def bug_padding(batch):
    """Dos textos de distinta longitud."""
    model, cache = tiny_model(), make_cache(tiny_model())
    long, short = prompts()[4], prompts()[2].clone()
    short[0, 2] = 0  # un 0 de verdad, que no es relleno
    pad = torch.zeros(1, long.shape[1] - short.shape[1], dtype=torch.long)
    ids = torch.cat([long, torch.cat([pad, short], -1)])
    mask = torch.ones_like(ids)
    mask[1, : pad.shape[1]] = 0
    alone = [next_logits(model, row)[0] for row in (long, short)]
    fooled = next_logits(model, ids, None, (ids != 0).long())[1]
    ours = call(batch, model, ids, mask, cache)
    expect(
        isinstance(ours, torch.Tensor) and list(ours.shape) == [2, TINY],
        f"Tiene que seguir devolviendo los logits de las dos filas, [2, {TINY}].",
    )
    expect(cache.get_seq_length() == ids.shape[1], KEPT)
    first, second = ours.float()
    expect(torch.allclose(first, alone[0], **CLOSE), OTHER_ROW)
    expect(
        torch.allclose(second, alone[1], **CLOSE)
        or not torch.allclose(second, fooled, **CLOSE),
        REAL_ZERO,
    )
    expect(torch.allclose(second, alone[1], **CLOSE), PADDED)


def first_each(logits, rows, generator):
    """Un sorteo por texto."""
    return sample_token(logits.expand(rows, -1), generator=generator)


DRAWS = "Todos empiezan igual. ¿Cuántas veces se sortea?"
SEED = (
    "Con la misma semilla tiene que salir lo mismo, y con otra, otra cosa: el "
    "azar es el del generador que recibes."
)
HALVES = "Hay textos que comparten el sorteo: cada uno, el suyo."
ODDS = "Los comienzos ya varían, pero no con las probabilidades del modelo."
ROWS = "Tiene que devolver un id por texto, en un tensor [rows]."


@exercise(
    "06.12",
    success="¡Cazado!",
    traps={
        DRAWS: [
            lambda x, n, g: sample_token(x, generator=g).expand(n),
            lambda x, n, g: x.argmax(-1).expand(n),
        ],
        SEED: lambda x, n, g: sample_token(x.expand(n, -1)),
        HALVES: [
            lambda x, n, g: first_each(x, n // 2, g).repeat(2),
            lambda x, n, g: first_each(x, n // 2, g).repeat_interleave(2),
        ],
        ODDS: [
            lambda x, n, g: torch.randint(0, TINY, (n,), generator=g),
            lambda x, n, g: sample_token(
                x.expand(n, -1), temperature=0.95, generator=g
            ),
            lambda x, n, g: sample_token(
                x.expand(n, -1), top_p=0.95, generator=g
            ),
        ],
        ROWS: lambda x, n, g: first_each(x, n, g)[:, None],
    },
    rights=[
        first_each,
        lambda x, n, g: torch.multinomial(
            x[0].softmax(-1), n, replacement=True, generator=g
        ),
    ],
)
def bug_broadcast(first_tokens):
    """Muchas respuestas de un solo prefill."""
    logits, rows, series = random_logits(1, TINY, 1.0)[None], 100_000, []
    for seed in (3, 3, 4):
        dice = torch.Generator().manual_seed(seed)
        ours = call(first_tokens, logits, rows, dice)
        expect(
            isinstance(ours, torch.Tensor) and list(ours.shape) == [rows], ROWS
        )
        series.append(ours)
    first, again, other = series
    seen = len(first.unique())
    expect(seen > 1, f"{rows} textos y un solo primer token distinto. {DRAWS}")
    repeatable = torch.equal(first, again) and not torch.equal(first, other)
    expect(repeatable, SEED)
    for step in (1, rows // 2):
        shared = (first == first.roll(step)).float().mean()
        expect(shared < 0.3, HALVES)  # por azar, un 3 %
    dice = torch.Generator().manual_seed(3)
    typical = sample_token(logits.expand(rows, -1), generator=dice)
    wanted = logits[0].softmax(-1)
    error, usual = (
        float((torch.bincount(x, minlength=TINY) / rows - wanted).abs().sum())
        for x in (first, typical)
    )
    expect(error < 1.5 * usual, ODDS)
