"""Leer un archivo GGUF: metadatos y pesos descuantizados a fp32.

No sabe nada de redes, de descargas ni de tokenizadores: abre un archivo y
entrega números. El formato está descrito en
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. La cabecera se lee
aquí, y no con `gguf.GGUFReader`, porque ese lector crea varios objetos de
numpy por cada entrada del vocabulario: con 151.936 entradas tarda treinta
veces más que estas líneas, y en Colab se pagaría en cada sesión. Los pesos
sí los descuantiza la biblioteca `gguf`.
"""

import struct
from pathlib import Path

import numpy as np

from .. import CourseError

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
LONGEST_LIST = 2**22  # el vocabulario mayor no llega a la décima parte


class _Header:
    """Cursor sobre los bytes de la cabecera: cada método avanza lo que lee."""

    def __init__(self, data: memoryview):
        self.data, self.position = data, 0

    def number(self, fmt: str):
        (value,) = struct.unpack_from(fmt, self.data, self.position)
        self.position += struct.calcsize(fmt)
        return value

    def text(self) -> str:
        length = self.number("<Q")
        raw = bytes(self.data[self.position : self.position + length])
        if len(raw) < length:
            raise struct.error("cadena cortada")
        self.position += length
        return raw.decode("utf-8")

    def value(self, kind: int):
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            item, count = self.number("<I"), self.number("<Q")
            left = len(self.data) - self.position
            if count > min(left, LONGEST_LIST):
                raise struct.error(f"una lista de {count} elementos")
            return [self.value(item) for _ in range(count)]
        return self.number(_SCALARS[kind])


def is_gguf(path: str | Path) -> bool:
    """True si los cuatro primeros bytes del archivo son «GGUF»."""
    with open(path, "rb") as file:
        return file.read(4) == b"GGUF"


def read_gguf(path: str | Path) -> tuple[dict, dict]:
    """Devuelve `(metadata, tensors)` sin descuantizar nada todavía.

    `metadata`: nombre → valor de Python. `tensors`: nombre → `(tipo, forma,
    bytes)`, con la forma en el orden de PyTorch (`[filas, columnas]`) y los
    bytes como vista `uint8` del archivo (`[filas, bytes_por_fila]`), sin
    copiarlos a memoria. Lanza `ValueError` si no es un GGUF entero.
    """
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if not is_gguf(path):
        raise CourseError(f"{path} no es un archivo GGUF")
    buffer = np.memmap(path, mode="r")
    head = _Header(memoryview(buffer))
    try:
        metadata, infos = _read_header(head)
        align = metadata.get("general.alignment", 32)
        start = -(-head.position // align) * align
        tensors = {}
        for name, shape, kind, offset in infos:
            kind = GGMLQuantizationType(kind)
            block, size = GGML_QUANT_SIZES[kind]
            n_bytes = int(np.prod(shape)) // block * size
            raw = buffer[start + offset :][:n_bytes]
            if raw.nbytes < n_bytes:
                raise CourseError(f"faltan pesos de {name}")
            tensors[name] = (kind, shape, raw.reshape(*shape[:-1], -1))
    except (struct.error, ValueError, KeyError) as error:
        raise CourseError(
            f"{path} está incompleto o dañado: {error}"
        ) from error
    return metadata, tensors


def _read_header(head: _Header) -> tuple[dict, list]:
    """Los metadatos, y de cada tensor su nombre, forma, tipo y lugar."""
    head.number("<I"), head.number("<I")  # «GGUF» y versión
    n_tensors, n_fields = head.number("<Q"), head.number("<Q")
    metadata = {}
    for _ in range(n_fields):
        name = head.text()
        metadata[name] = head.value(head.number("<I"))
    infos = []
    for _ in range(n_tensors):
        name, n_dims = head.text(), head.number("<I")
        shape = [head.number("<Q") for _ in range(n_dims)][::-1]
        infos.append((name, shape, head.number("<I"), head.number("<Q")))
    return metadata, infos


def dequantize(kind, shape: list[int], raw: np.ndarray, rows: int = 4096):
    """Pesos en fp32 con la forma dada; por bloques de filas, para que el pico
    de memoria no pase de unas decenas de MB sobre el resultado."""
    from gguf.quants import dequantize as dequantize_blocks

    out = np.empty(shape, np.float32)
    if len(shape) == 1:
        out[:] = dequantize_blocks(raw, kind)
        return out
    for i in range(0, shape[0], rows):
        out[i : i + rows] = dequantize_blocks(raw[i : i + rows], kind)
    return out
