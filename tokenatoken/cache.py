"""Capas de caché K/V escritas a mano, y lo que ocupan.

Cada una es una subclase de la `DynamicLayer` de transformers que solo cambia
cómo se guarda: sirve igual en el bucle del curso y en `generate`. No sabe nada
de tokenizadores ni de muestreo.
"""

import torch
from transformers.cache_utils import Cache, DynamicLayer

from . import CourseError


class _OurLayer(DynamicLayer):
    def _receive(self, keys, values) -> None:
        """Prepara la capa para lo nuevo, o dice por qué no le va."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        elif self.get_seq_length() and _kind(self.keys) != _kind(keys):
            raise CourseError(
                f"La caché guarda K de {_kind(self.keys)} y llega de "
                f"{_kind(keys)} (filas, cabezas, head_dim, precisión, "
                "dispositivo): nada de eso puede cambiar a medias. Crea otra "
                "con make_cache(model)."
            )

    def crop(self, tokens_to_remove: int) -> None:
        """Quita los últimos. Una capa que aún no guarda nada (las de Gemma 3n
        que usan K y V de otra) no tiene qué quitar, y en 5.15 fallaría."""
        if self.is_initialized:
            super().crop(tokens_to_remove)

    def reset(self) -> None:
        """Olvida lo guardado. En transformers 5.15 el de la biblioteca solo
        pone ceros, y la longitud se queda."""
        self.keys = self.values = None
        self.is_initialized = False


def _kind(keys: torch.Tensor) -> tuple:
    rows, heads, _, size = keys.shape
    return rows, heads, size, str(keys.dtype), str(keys.device)


class ConcatLayer(_OurLayer):
    """Guarda K y V pegando lo nuevo detrás: claro, y copia todo cada vez."""

    def update(self, key_states, value_states, *args, **kwargs):
        """Añade `[B, kv_heads, n, head_dim]` y devuelve todo lo guardado."""
        self._receive(key_states, value_states)
        self.keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = torch.cat([self.values, value_states], dim=-2)
        return self.keys, self.values


class PreallocatedLayer(_OurLayer):
    """Reserva sitio de una vez y escribe en su hueco, sin copiar lo anterior.

    `room`: tokens reservados al empezar. Si se llena, reserva el doble y
    copia una vez: así no se pierde una generación a medias, y el sitio de
    sobra nunca pasa de lo ocupado. `keys` y `values` son vistas de la reserva
    con lo escrito hasta ahora, de modo que la posición sale solo de ellas, y
    `crop` y lo demás son los de la biblioteca.
    """

    def __init__(self, room: int = 256):
        if not isinstance(room, int) or isinstance(room, bool) or room < 1:
            raise CourseError(
                f"room={room!r} no vale: reserva sitio para 1 token o más."
            )
        super().__init__()
        self.room = room
        self._store = None

    def update(self, key_states, value_states, *args, **kwargs):
        """Escribe `[B, kv_heads, n, head_dim]` y devuelve todo lo guardado."""
        self._receive(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self._fits(key_states, start, end):
            self._reserve(key_states, value_states, start, end)
        keys, values = self._store
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def _fits(self, new, start: int, end: int) -> bool:
        """Si la reserva tiene sitio y lo guardado sigue siendo su comienzo
        (deja de serlo si otro reordena o copia las filas)."""
        if self._store is None or self._store[0].shape[2] < end:
            return False
        if start and self.keys.data_ptr() != self._store[0].data_ptr():
            return False
        return self._store[0].shape[0] == new.shape[0]

    def _reserve(self, keys, values, start: int, end: int) -> None:
        """Reserva sitio de sobra y copia en él lo ya guardado."""
        self.room = max(self.room, 2 * end if start else end)
        with torch.inference_mode(False):  # para poder escribir siempre
            store = [
                like.new_empty(*like.shape[:2], self.room, like.shape[3])
                for like in (keys, values)  # V puede no medir lo que K
            ]
        for place, kept in zip(store, (self.keys, self.values)):
            if start:
                place[:, :, :start] = kept
        self._store = store


def make_cache(model, layer_class=PreallocatedLayer, **options) -> Cache:
    """Una caché vacía para ese modelo, con una capa `layer_class(**options)`
    por capa del modelo. Vive fuera de él: tirarla es dejar de usarla.

    Guarda todos los tokens, también en las capas de ventana deslizante, que
    solo miran los últimos: el resultado es el mismo y ocupa más.
    """
    if not isinstance(layer_class, type):
        raise CourseError(
            f"{layer_class!r} no es una clase de capa. El sitio se pide por su "
            "nombre: make_cache(model, room=512)."
        )
    _need_keys_and_values(model)
    layers = range(_decoder(model).num_hidden_layers)
    return Cache(layers=[layer_class(**options) for _ in layers])


def missing(ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """Lo que la caché aún no guarda de `ids` (`[B, n]`): `[B, m]`."""
    return ids if cache is None else ids[:, int(cache.get_seq_length()) :]


def remember(cache: Cache, ids: torch.Tensor, mask=None) -> None:
    """Apunta en la caché qué ids guarda, y si llevaban relleno. Los ids son
    ya de la caché: si pueden cambiar después, se le da una copia."""
    cache.held_ids, cache.padded = ids, mask is not None


def check_cache(model, cache: Cache, ids: torch.Tensor, mask=None) -> None:
    """Lanza `ValueError` si esa caché no sirve para seguir `ids` (`[B, n]`)
    con ese modelo: de otro modelo, de otro lote, con otro texto, sin nada
    nuevo que procesar, o a medias por haber interrumpido un forward.

    El texto que guarda se sabe si lo escribió el curso (`remember`).
    """
    if not isinstance(cache, Cache):
        raise CourseError(
            f"Esperaba una caché y he recibido {type(cache).__name__}. Se crea "
            "así: make_cache(model)."
        )
    _need_keys_and_values(model)
    kept = _kept(model, cache)
    if kept == 0:
        return
    if kept >= ids.shape[1]:
        raise CourseError(
            f"La caché ya guarda {kept} tokens y el prompt tiene "
            f"{ids.shape[1]}: no queda ninguno que dé los logits del "
            "siguiente. Usa una caché nueva, o deja fuera el último con "
            f"cache.crop({ids.shape[1] - 1 - kept})."
        )
    rows = cache.layers[0].keys.shape[0]
    if rows != ids.shape[0]:
        raise CourseError(
            f"La caché guarda {rows} fila(s) y los ids traen {ids.shape[0]}: "
            "es de otro lote. Crea otra con make_cache(model)."
        )
    if mask is None and getattr(cache, "padded", False):
        raise CourseError(
            "El prefill llevaba relleno: pasa también aquí la máscara, "
            f"{list(ids.shape)}, o el modelo lo leerá como texto."
        )
    _check_text(cache, ids, kept)


def _check_text(cache: Cache, ids: torch.Tensor, kept: int) -> None:
    held = getattr(cache, "held_ids", ids)[:, :kept].to(ids.device)
    same = (held == ids[:, : held.shape[1]]).all(0)  # [kept]
    shared = int(same.long().cumprod(0).sum())
    if shared < held.shape[1]:
        cut = f", o quítale los que sobran con cache.crop({shared - kept})"
        raise CourseError(
            f"La caché guarda otro texto: solo coinciden los {shared} primeros "
            f"tokens de {kept}. Crea otra con make_cache(model)"
            f"{cut if shared else ''}."
        )


def _kept(model, cache: Cache) -> int:
    """Cuántos tokens guarda; todas las capas tienen que decir lo mismo, menos
    las que usan K y V de otra (Gemma 3n), que no guardan nada."""
    config = _decoder(model)
    total = config.num_hidden_layers
    filled = total - (getattr(config, "num_kv_shared_layers", 0) or 0)
    if len(cache.layers) not in (0, filled, total):
        raise CourseError(
            f"La caché tiene {len(cache.layers)} capas y el modelo, {total}: "
            "es de otro modelo. Crea una para este con make_cache(model)."
        )
    own = cache.layers[:filled]
    lengths = {int(layer.get_seq_length()) for layer in own} or {0}
    if len(lengths) > 1:
        raise CourseError(
            "La caché se quedó a medias: unas capas guardan más tokens que "
            "otras, quizá porque interrumpiste un forward. Crea otra con "
            "make_cache(model)."
        )
    return lengths.pop()


def _need_keys_and_values(model) -> None:
    if getattr(model, "_is_stateful", False):
        raise CourseError(
            f"{type(model).__name__} no guarda solo K y V: lleva un estado "
            "recurrente, y las cachés del curso no lo tienen. Úsalo sin caché "
            "(cache=None)."
        )


def _decoder(model):
    return model.config.get_text_config(decoder=True)


def kv_cache_bytes(
    config, length: int, batch: int = 1, dtype: torch.dtype = torch.float16
) -> int:
    """Bytes de la caché de `length` tokens: 2 (K y V) × capas × cabezas K/V ×
    head_dim × tokens × filas × bytes por número.

    Las cabezas que cuentan son las de K/V, y `head_dim` es el de la
    configuración si lo trae (no siempre es hidden_size / cabezas). Una capa
    de ventana deslizante deja de crecer al llenarla. (La caché del curso las
    guarda enteras, y la de la biblioteca, un token menos que la ventana.)
    """
    whole = isinstance(length, int) and isinstance(batch, int)
    if not whole or length < 0 or batch < 1:
        raise CourseError(
            f"length={length} y batch={batch}: hacen falta 0 tokens o más y "
            "1 fila o más."
        )
    config = config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None)
    head_dim = head_dim or config.hidden_size // heads
    tokens = sum(_tokens_per_layer(config, length))
    return 2 * kv_heads * head_dim * tokens * batch * dtype.itemsize


def _tokens_per_layer(config, length: int) -> list[int]:
    window = getattr(config, "sliding_window", None) or length
    usual = "sliding_attention" if window < length else "full_attention"
    kinds = getattr(config, "layer_types", None)
    kinds = kinds or [usual] * config.num_hidden_layers
    short = min(length, window)
    return [short if k == "sliding_attention" else length for k in kinds]


def held_bytes(cache: Cache) -> int:
    """Bytes de lo que la caché guarda ahora mismo (no de lo reservado)."""
    filled = [layer for layer in cache.layers if layer.is_initialized]
    return sum(
        tensor.numel() * tensor.element_size()
        for layer in filled
        for tensor in (layer.keys, layer.values)
    )
