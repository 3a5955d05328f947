"""Capas de caché K/V escritas a mano, y lo que ocupan.

Cada una es una subclase de la `DynamicLayer` de transformers que solo cambia
cómo se guarda: sirve igual en el bucle del curso y en `generate`. No sabe nada
de tokenizadores ni de muestreo.
"""

import torch
from transformers.cache_utils import Cache, DynamicLayer

from . import CourseError


class _OurLayer(DynamicLayer):
    def _receive(self, key_states, value_states) -> None:
        """Prepara la capa para lo nuevo, o dice por qué no le va."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        _check_fit(self.keys, key_states)

    def reset(self) -> None:
        """Olvida lo guardado. En transformers 5.15 el de la biblioteca solo
        pone ceros, y la longitud se queda."""
        self.keys = self.values = None
        self.is_initialized = False


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

    def __init__(self, room: int = 256, **kwargs):
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
        keys, values = self._stores(key_states, start, end)
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def _stores(self, like, start: int, end: int):
        """Las dos reservas, con sitio para `end` y lo ya guardado dentro."""
        fits = self._store is not None and self._store[0].shape[2] >= end
        mine = fits and (start == 0 or _shares(self.keys, self._store[0]))
        if not mine or self._store[0].shape[0] != like.shape[0]:
            self.room = max(self.room, end if start == 0 else 2 * end)
            shape = (*like.shape[:2], self.room, like.shape[3])
            with torch.inference_mode(False):  # para poder escribir siempre
                store = [like.new_empty(shape) for _ in range(2)]
            if start:
                store[0][:, :, :start] = self.keys
                store[1][:, :, :start] = self.values
            self._store = store
        return self._store


def make_cache(model, layer_class=PreallocatedLayer, **options) -> Cache:
    """Una caché vacía para ese modelo, con una capa `layer_class(**options)`
    por capa del modelo. Vive fuera de él: tirarla es dejar de usarla."""
    config = model.config.get_text_config(decoder=True)
    layers = range(config.num_hidden_layers)
    return Cache(layers=[layer_class(**options) for _ in layers])


def kv_cache_bytes(
    config, length: int, batch: int = 1, dtype: torch.dtype = torch.float16
) -> int:
    """Bytes de la caché de `length` tokens: 2 (K y V) × capas × cabezas K/V ×
    head_dim × tokens × filas × bytes por número.

    Las cabezas que cuentan son las de K/V, y `head_dim` es el de la
    configuración si lo trae (no siempre es hidden_size / cabezas). No
    descuenta ventanas deslizantes.
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
    numbers = 2 * config.num_hidden_layers * kv_heads * head_dim
    return numbers * length * batch * dtype.itemsize


def held_bytes(cache: Cache) -> int:
    """Bytes de lo que la caché guarda ahora mismo (no de lo reservado)."""
    filled = [layer for layer in cache.layers if layer.is_initialized]
    return sum(
        tensor.numel() * tensor.element_size()
        for layer in filled
        for tensor in (layer.keys, layer.values)
    )


def _shares(view: torch.Tensor, store: torch.Tensor) -> bool:
    """Si la vista sigue siendo el comienzo de la reserva."""
    return view.data_ptr() == store.data_ptr()


def _check_fit(kept: torch.Tensor, new: torch.Tensor) -> None:
    """Lanza `ValueError` si lo nuevo no puede ir detrás de lo guardado."""
    if not kept.numel():
        return
    if kept.shape[0] != new.shape[0]:
        raise CourseError(
            f"La caché guarda un lote de {kept.shape[0]} y llegan "
            f"{new.shape[0]} filas. El lote no puede cambiar a medias: crea "
            "otra caché con make_cache."
        )
    if kept.shape[1] != new.shape[1] or kept.shape[3] != new.shape[3]:
        raise CourseError(
            f"La caché guarda {kept.shape[1]} cabezas de {kept.shape[3]} y "
            f"llegan {new.shape[1]} de {new.shape[3]}: es de otro modelo. "
            "Crea una para este con make_cache(model)."
        )
    if kept.dtype != new.dtype or kept.device != new.device:
        raise CourseError(
            f"La caché está en {kept.dtype} y {kept.device}, y llegan datos en "
            f"{new.dtype} y {new.device}. Crea otra con make_cache."
        )
