"""La memoria de K y V en páginas que se reparten, se comparten y se devuelven.

Una petición no guarda K y V: guarda una lista de números de página. Es la idea
de W. Kwon y otros, «PagedAttention» (2023). No sabe nada de planificar.
"""

from hashlib import sha256

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

from . import CourseError
from .sampling import is_whole


class Pages:
    """Qué páginas están libres, cuántos usan cada una y qué texto guarda. Sin
    tensores: solo números. `size`: tokens por página."""

    def __init__(self, count: int, size: int):
        for name, value in {"count": count, "size": size}.items():
            if not is_whole(value) or value < 1:
                raise CourseError(
                    f"{name}={value!r} no vale: hace falta al menos 1 página "
                    "de 1 token."
                )
        self.size, self.users = size, [0] * count
        self.free = dict.fromkeys(range(count))  # la más vieja, primero
        self.known, self.keys = {}, {}  # clave → página, y al revés

    def take(self) -> int:
        """Una página libre; lo que guardara se olvida."""
        if not self.free:
            raise CourseError("No queda ninguna página libre.")
        page = next(iter(self.free))
        del self.free[page]
        self.known.pop(self.keys.pop(page, None), None)
        self.users[page] = 1
        return page

    def share(self, page: int) -> int:
        """Uno más la usa; puede estar libre, si conserva su texto."""
        self.free.pop(page, None)
        self.users[page] += 1
        return page

    def release(self, page: int) -> None:
        """Uno menos; sin nadie queda libre, y conserva su texto."""
        if not self.users[page]:
            raise CourseError(f"La página {page} ya estaba libre.")
        self.users[page] -= 1
        if not self.users[page]:
            self.free[page] = None

    def drop(self, table: list[int]) -> None:
        """Deja todas las de una petición, y su tabla, vacía."""
        for page in table:
            self.release(page)
        table.clear()

    def own(self, table: list[int], place: int, copy) -> bool:
        """Que la página `place` de la tabla sea solo suya, para escribir: si
        falta, una nueva; si es compartida, otra, con `copy(vieja, nueva)`.
        False si no queda ninguna libre."""
        missing = place == len(table)
        if not missing and self.users[table[place]] == 1:
            return True
        if not self.free:
            return False
        page = self.take()
        if missing:
            table.append(page)
            return True
        copy(table[place], page)
        self.release(table[place])
        table[place] = page
        return True

    def remember(self, page: int, key: bytes) -> None:
        """Apunta qué comienzo de texto guarda una página llena."""
        if key not in self.known:
            self.known[key], self.keys[page] = page, key

    def find(self, ids: list[int]) -> list[int]:
        """Las páginas que ya guardan el comienzo de `ids`. Nunca todo: sin
        pasar un token por la red no hay logits."""
        found = []
        for key in keys_of(ids[:-1], self.size):
            if key not in self.known:
                break
            found.append(self.known[key])
        return found


def keys_of(ids: list[int], size: int) -> list[bytes]:
    """La clave de cada página llena: sus tokens y la clave de la anterior."""
    keys = [b""]
    for end in range(size, len(ids) + 1, size):
        block = repr(ids[end - size : end]).encode()
        keys.append(sha256(keys[-1] + block).digest())
    return keys[1:]


class PagedLayer(DynamicLayer):
    """K y V de todas las peticiones en un tensor `[G, huecos, d]`. `aim` le
    dice antes de cada forward qué huecos se leen y cuáles se escriben."""

    read = write = None  # [B, n], [B, m]

    def __init__(self, room: int):
        super().__init__()
        self.room = room

    def update(self, key_states, value_states, *args, **kwargs):
        """Escribe `[B, G, m, d]` y da lo de cada fila, `[B, G, n, d]`."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            with torch.inference_mode(False):  # para poder escribir siempre
                self.keys, self.values = (
                    new.new_zeros(new.shape[1], self.room, new.shape[3])
                    for new in (key_states, value_states)
                )
        self.keys[:, self.write] = key_states.transpose(0, 1)
        self.values[:, self.write] = value_states.transpose(0, 1)
        keys, values = self.keys[:, self.read], self.values[:, self.read]
        return keys.transpose(0, 1), values.transpose(0, 1)

    def get_seq_length(self) -> int:
        """Lo que había antes de escribir, con el relleno."""
        return self.read.shape[1] - self.write.shape[1]


def slots(table: list[int], size: int, n: int) -> torch.Tensor:
    """El hueco de cada uno de los `n` primeros tokens, `[n]`: página × size +
    lugar en la página."""
    starts = size * torch.tensor(table, dtype=torch.long)
    return (starts[:, None] + torch.arange(size)).flatten()[:n]


def aim(cache: Cache, rows: list[torch.Tensor], m: int, device="cpu"):
    """Apunta la caché a los huecos de cada fila (`slots`), de los que los `m`
    últimos son nuevos. Da la máscara, `[B, n]`: el relleno, a la izquierda."""
    n = max(len(row) for row in rows)
    read = torch.stack([pad(row, (n - len(row), 0), value=-1) for row in rows])
    mask = (read >= 0).long().to(device)
    read = read.clamp_min(0).to(device)
    for layer in cache.layers:
        layer.read, layer.write = read, read[:, -m:]
    return mask


def copy_page(cache: Cache, old: int, new: int, size: int) -> None:
    """Lo que guarda la página `old`, también en `new`."""
    a, b = (slice(page * size, (page + 1) * size) for page in (old, new))
    for layer in cache.layers:
        layer.keys[:, b] = layer.keys[:, a]
        layer.values[:, b] = layer.values[:, a]
