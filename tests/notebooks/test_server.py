"""El cliente del apéndice de la unidad 12, contra `transformers serve`.

Solo donde sus paquetes están instalados: pip install "transformers[serving]".
"""

import contextlib
import io
import os
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from tests.unit.tiny import ended_tokenizer, wide_model
from tools import ROOT

for name in ("fastapi", "uvicorn", "openai"):
    pytest.importorskip(name)
CELLS = nbformat.read(ROOT / "notebooks" / "12_muchas_a_la_vez.ipynb", 4).cells
PATIENCE = 120  # segundos para arrancar


def client() -> str:
    """El bloque de Python del apéndice."""
    (cell,) = (c for c in CELLS if "Un servidor de verdad" in c.source)
    return cell.source.split("```python\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modelo")
    tokenizer = ended_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    wide_model(len(tokenizer)).save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    order = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    order += [str(folder), "--device", "cpu", "--port", str(port)]
    log = folder / "registro.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            order,
            stdout=out,
            stderr=out,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
    try:
        url = f"http://localhost:{port}"
        for _ in range(PATIENCE):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            assert process.poll() is None, log.read_text()[-2000:]
            time.sleep(1)
        yield url, str(folder)
    finally:
        process.kill()


def test_the_client_of_the_appendix(address):
    url, folder = address
    code = client().replace("http://localhost:8000", url)
    code = code.replace("Qwen/Qwen2.5-0.5B-Instruct", folder)
    code = code.replace('"max_tokens": 40', '"max_tokens": 4')
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert printed.getvalue().strip()
