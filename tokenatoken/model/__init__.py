"""Del archivo al modelo cargado, en una sola dirección.

`gguf` sabe leer el archivo, `download` lo consigue, `convert` lo deja en una
carpeta y `load` la carga. Ninguno importa a otro que venga después. Es un
servicio: la unidad 02 abre el archivo una vez, y desde ahí se usa hecho.
"""

from .convert import fetch_gguf, fetch_weights
from .download import WeightsError
from .load import (
    MODELS,
    MemoryShortage,
    environment_report,
    free_memory,
    load_config,
    load_model,
    load_tokenizer,
    memory_card,
)

__all__ = [
    "MODELS",
    "MemoryShortage",
    "WeightsError",
    "environment_report",
    "fetch_gguf",
    "fetch_weights",
    "free_memory",
    "load_config",
    "load_model",
    "load_tokenizer",
    "memory_card",
]
