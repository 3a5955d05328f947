"""Cargar un modelo en el dispositivo que haya y decir con qué se trabaja.

No sabe nada de muestreo ni de bucles de generación.
"""

import json
import lzma
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from .. import CourseError, Helpful, __version__, number
from .convert import fetch_weights
from .download import HUB_ERRORS, WeightsError

DEFAULT_MODEL = "qwen2.5-coder-0.5b"
_DATA = Path(__file__).parents[1] / "data"


class MemoryShortage(Helpful, RuntimeError):
    """El modelo pedido no cabe en la memoria libre del dispositivo."""


@dataclass(frozen=True)
class ModelSpec:
    """Un modelo del curso. `parameters`: cuántos pesos se cargan;
    `repo=None`: es el modelo del curso, que entrega `convert.py`."""

    parameters: int
    repo: str | None = None
    revision: str | None = None
    licence: str = "Apache-2.0"


MODELS = {
    DEFAULT_MODEL: ModelSpec(630_167_424),
    "qwen3-0.6b": ModelSpec(
        596_049_920,
        "Qwen/Qwen3-0.6B",
        "c1899de289a04d12100db370d81485cdf75e47ca",
    ),
    "qwen3-4b": ModelSpec(
        4_022_468_096,
        "Qwen/Qwen3-4B",
        "1cfa9a7208912126459214e8b04321603b3df60c",
    ),
    "phi-3-mini": ModelSpec(
        3_821_079_552,
        "microsoft/Phi-3-mini-4k-instruct",
        "f39ac1d28e925b323eae81227eaba4464caced4e",
        "MIT",
    ),
}

# Tokenizadores que vienen con el curso, solo para comparar, con los tokens
# especiales que su archivo no declara.
TOKENIZERS = {
    "smollm2": {},  # BPE de bytes
    "minilm": {"pad_token": "[PAD]", "unk_token": "[UNK]"},  # WordPiece (BERT)
    "o200k": {},  # BPE de bytes, muchos idiomas (GPT-4o, gpt-oss)
}


def load_model(name: str = DEFAULT_MODEL, device=None, dtype=None):
    """Devuelve `(model, tokenizer)`, en modo `eval()` y listos para usar.

    `device`: «cpu», «cuda» o «mps»; si no se dice, CUDA si la hay y si no CPU.
    `dtype`: por defecto fp32 para el modelo del curso y para cualquier CPU (es
    lo que hace comparables los ids entre máquinas); para los modelos grandes
    en GPU, bf16, o fp16 si la tarjeta no tiene bf16 (una T4).

    Lanza `ValueError` (nombre, dispositivo o dtype desconocidos),
    `MemoryShortage` o `WeightsError`, siempre antes de cargar nada.
    """
    spec = _known(name, MODELS, "modelo")
    device = pick_device(device)
    dtype = pick_dtype(name, device, dtype)
    _need_memory(name, device, dtype)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    tokenizer = load_tokenizer(name)
    options = {} if device.type == "cpu" else {"device_map": device}
    options["dtype"] = dtype
    if spec.repo is None:
        folder = fetch_weights()
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
    else:
        transformers_logging.enable_progress_bar()  # son varios GB
        model = _from_hub(AutoModelForCausalLM, spec, **options)
        transformers_logging.disable_progress_bar()
    return model.eval(), tokenizer


def load_tokenizer(name: str = DEFAULT_MODEL):
    """Solo el tokenizador: el de un modelo de `MODELS` o uno de `TOKENIZERS`
    («smollm2», «minilm», «o200k»), que vienen con el curso para comparar."""
    if name in TOKENIZERS:
        core = Tokenizer.from_buffer(_tokenizer_json(name))
        return PreTrainedTokenizerFast(
            tokenizer_object=core, **TOKENIZERS[name]
        )
    spec = _known(name, {**MODELS, **TOKENIZERS}, "tokenizador")
    if spec.repo is None:
        return AutoTokenizer.from_pretrained(fetch_weights())
    return _from_hub(AutoTokenizer, spec)


def _tokenizer_json(name: str) -> bytes:
    """El `tokenizer.json` de uno de `TOKENIZERS`, entero: sus tablas."""
    packed = _DATA / name / "tokenizer.json.xz"
    if packed.exists():
        return lzma.decompress(packed.read_bytes())
    return packed.with_suffix("").read_bytes()


def load_config(name: str):
    """Configuración de un modelo de `MODELS`, sin descargar sus pesos.

    La de «qwen3-4b» y «phi-3-mini» se pide al hub, en su revisión fijada; si
    no hay red, sale de `data/configs.json`, un extracto de esa misma
    revisión. La del modelo del curso está en su carpeta.
    """
    spec = _known(name, MODELS, "modelo")
    if spec.repo is None:
        return AutoConfig.from_pretrained(fetch_weights())
    where = dict(repo_id=spec.repo, filename="config.json")
    try:  # un sondeo corto: sin red, el hub reintenta más de veinte segundos
        url = hf_hub_url(**where, revision=spec.revision)
        get_hf_file_metadata(url, timeout=5)
        return AutoConfig.from_pretrained(spec.repo, revision=spec.revision)
    except HUB_ERRORS:
        stored = json.loads((_DATA / "configs.json").read_text("utf-8"))
    if name not in stored:
        raise WeightsError(
            f"No se ha podido leer la configuración de {spec.repo} y el curso "
            "no trae una copia. Qué hacer: comprueba la conexión."
        )
    values = {k: v for k, v in stored[name].items() if k != "revision"}
    return AutoConfig.for_model(**values)


def pick_device(device=None) -> torch.device:
    """El dispositivo pedido, o CUDA si la hay y si no CPU."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise CourseError(
            f"No conozco el dispositivo {device!r}. Usa «cpu», «cuda» o «mps»."
        ) from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device.type not in present:
        raise CourseError(
            f"El curso no usa «{device.type}». Usa «cpu», «cuda» o «mps»."
        )
    if not present[device.type]:
        raise CourseError(
            f"Has pedido «{device}» y aquí no hay ninguno. En Colab: Entorno "
            'de ejecución → Cambiar tipo → GPU T4. Si no, usa device="cpu".'
        )
    return device


def pick_dtype(name: str, device: torch.device, dtype=None) -> torch.dtype:
    """El dtype pedido, o el que corresponde según `load_model`."""
    if dtype is not None:
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise CourseError(
                f"dtype={dtype!r} no vale: pasa torch.float32, torch.float16 "
                "o torch.bfloat16."
            )
        return dtype
    if name == DEFAULT_MODEL or device.type == "cpu":
        return torch.float32
    return _half(device)


def _half(device: torch.device) -> torch.dtype:
    """La precisión de 16 bits de ese dispositivo: una T4 no tiene bf16."""
    if device.type == "cpu":
        return torch.bfloat16
    new = device.type == "cuda" and torch.cuda.get_device_capability(device)
    return torch.bfloat16 if new and new >= (8, 0) else torch.float16


def free_memory(device: torch.device) -> int:
    """Bytes libres en el dispositivo (RAM disponible para CPU y MPS)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def memory_card(name: str = DEFAULT_MODEL, device=None, dtype=None) -> str:
    """Una línea: cuánto ocupan los pesos, cuánto hay libre y si caben.

    La cuenta es parámetros × bytes por parámetro, con un 15 % de margen para
    lo que se necesita mientras se carga; la caché K/V va aparte.
    """
    spec = _known(name, MODELS, "modelo")
    device = pick_device(device)
    dtype = pick_dtype(name, device, dtype)
    needed, free = _needed(spec, dtype), free_memory(device)
    verdict = "cabe" if needed <= free else "no cabe"
    return (
        f"{name}: {number(spec.parameters / 1e6, 0)} M de pesos en "
        f"{str(dtype).removeprefix('torch.')} → hacen falta "
        f"{number(needed / 1e9, 1)} GB en {device.type}; libres "
        f"{number(free / 1e9, 1)} GB: {verdict}."
    )


def environment_report() -> str:
    """Una línea con versiones y dispositivo, para copiarla en una duda."""
    device = pick_device()
    hardware = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()}, {os.cpu_count()} núcleos"
    )
    return (
        f"Entorno: tokenatoken {__version__} · Python "
        f"{platform.python_version()} · torch {torch.__version__} · "
        f"transformers {version('transformers')} · {device.type} ({hardware})"
    )


def _needed(spec: ModelSpec, dtype: torch.dtype) -> int:
    return int(spec.parameters * dtype.itemsize * 1.15)


def _need_memory(name: str, device: torch.device, dtype: torch.dtype) -> None:
    if _needed(MODELS[name], dtype) > free_memory(device):
        raise MemoryShortage(
            memory_card(name, device, dtype)
            + "\nQué hacer: cierra otros cuadernos (Kernel → Shut Down All "
            f"Kernels…), usa 16 bits (dtype={_half(device)}) o un modelo "
            f"menor: {', '.join(MODELS)}."
        )


def _known(name: str, table: dict, what: str):
    if name not in table:
        raise CourseError(
            f"No conozco el {what} {name!r}. Los del curso son: "
            + ", ".join(table)
            + "."
        )
    return table[name]


def _from_hub(auto_class, spec: ModelSpec, **kwargs):
    try:
        return auto_class.from_pretrained(
            spec.repo,
            revision=spec.revision,
            trust_remote_code=False,
            **kwargs,
        )
    except OSError as error:
        raise WeightsError(
            f"No se ha podido descargar {spec.repo} de Hugging Face "
            f"({str(error).splitlines()[0][:160]}).\n"
            "Qué hacer: este modelo necesita red la primera vez. Comprueba la "
            f"conexión, o sigue con el modelo del curso, {DEFAULT_MODEL}."
        ) from error
