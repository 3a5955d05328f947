"""La celda de preparación, de verdad: clonar una etiqueta, instalar gguf.

Se ejecuta con el Python del entorno que imita a Colab (`make test-colab`), en
procesos nuevos, con un módulo `google.colab` de mentira y un repositorio local
en el sitio de GitHub. Lo único que se cambia de la celda es /content.
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools import ROOT, colab, stamp

FAKE = """
import importlib.machinery, sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
spec = importlib.machinery.ModuleSpec("google.colab", None)
sys.modules["google.colab"].__spec__ = spec
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """Un repositorio con lo que hay confirmado, y la etiqueta del curso."""
    folder = tmp_path_factory.mktemp("origen") / "curso.git"
    clone = ["git", "clone", "-q", "--bare", str(ROOT), str(folder)]
    subprocess.run(clone, check=True)
    tag = ["git", "-C", str(folder), "tag", "-f", stamp.tag(), "HEAD"]
    subprocess.run(tag, check=True, capture_output=True)
    return folder


@pytest.fixture
def content(tmp_path) -> Path:
    return tmp_path / "content" / "token-a-token"


def setup_source(content: Path) -> str:
    notebook = nbformat.read(ROOT / "notebooks" / "01_tokens.ipynb", 4)
    cell = next(c for c in notebook.cells if c.cell_type == "code")
    assert "preparacion" in cell.metadata.tags
    assert cell.source.count("/content/token-a-token") == 1
    return cell.source.replace("/content/token-a-token", str(content))


def execute(source, content, origin, before="", after="", **env):
    """Ejecuta la celda en un proceso nuevo, con git y pip de verdad."""
    rule = dict(
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.{Path(origin).as_uri()}.insteadOf",
        GIT_CONFIG_VALUE_0=f"https://github.com/{stamp.repository()}",
        GIT_TERMINAL_PROMPT="0",
    )
    content.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", f"{FAKE}{before}\n{source}\n{after}"],
        cwd=content.parent,
        env=os.environ | rule | env,
        capture_output=True,
        text=True,
    )


def packages() -> set[str]:
    freeze = [sys.executable, "-m", "pip", "freeze", "--all"]
    run = subprocess.run(freeze, capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n"))


def remove_gguf() -> None:
    pip = [sys.executable, "-m", "pip", "uninstall", "-q", "-y", "gguf"]
    subprocess.run(pip, check=True, capture_output=True)


def test_it_clones_the_tag_and_installs_only_gguf(content, origin):
    remove_gguf()
    before = packages()
    after = "import gguf, tokenatoken; print(tokenatoken.__file__)"
    run = execute(setup_source(content), content, origin, after=after)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.split()
    assert run.stdout.startswith("Entorno preparado.")
    assert lines[-1] == str(content / "tokenatoken" / "__init__.py")
    assert "rror" not in run.stderr  # pip puede avisar de su configuración
    new = packages() - before
    assert len(new) == 1 and new.pop().startswith("gguf==")
    head = ["git", "-C", str(content), "describe", "--tags"]
    found = subprocess.run(head, capture_output=True, text=True).stdout
    assert found.strip() == stamp.tag()
    again = execute(setup_source(content), content, origin)
    assert again.stdout == "Entorno preparado.\n" and not again.stderr


def test_also_after_importing_transformers(content, origin):
    remove_gguf()
    after = (
        "from tokenatoken.model import load_tokenizer\n"
        "print(load_tokenizer('smollm2').encode('hola'))\n"
        "import tokenatoken.model.convert, gguf"
    )
    source = setup_source(content)
    before = "import transformers"
    run = execute(source, content, origin, before=before, after=after)
    assert run.returncode == 0, run.stderr
    assert "[" in run.stdout.splitlines()[-1]


@pytest.mark.parametrize("reason", ["sin red", "otra etiqueta"])
def test_a_failed_clone_says_so_and_leaves_nothing(
    content, origin, tmp_path, reason
):
    source, place = setup_source(content), origin
    if reason == "sin red":
        place = tmp_path / "no-existe.git"
    else:
        source = source.replace(f'"{stamp.tag()}"', '"v9.9.9"')
    run = execute(source, content, place)
    assert run.returncode and "RuntimeError: No pude copiar" in run.stderr
    assert not content.exists()
    if reason != "sin red":
        assert "v9.9.9" in run.stderr


@pytest.mark.parametrize("old", ["5.13.1", "5.0.0", "4.57.1"])
def test_an_old_colab_says_which_one_to_choose(content, origin, old):
    before = f"import importlib.metadata as m; m.version = lambda _: {old!r}"
    run = execute(setup_source(content), content, origin, before=before)
    assert run.returncode
    last = run.stderr.strip().splitlines()[-1]
    assert f"transformers {old} y el curso necesita {stamp.minimum()}" in last


def test_no_network_for_gguf_says_so(content, origin):
    remove_gguf()
    env = dict(PIP_INDEX_URL="http://127.0.0.1:9", PIP_RETRIES="0")
    env |= dict(PIP_CONFIG_FILE="/dev/null", PIP_NO_CACHE_DIR="1")
    env |= dict(PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="")
    run = execute(setup_source(content), content, origin, **env)
    assert run.returncode
    assert "RuntimeError: No pude instalar gguf" in run.stderr
    again = execute(setup_source(content), content, origin)
    assert again.returncode == 0, again.stderr


def test_this_is_colab():
    """Las versiones de este entorno son las del extracto; sin un CPython como
    el de Colab, menos la de torch."""
    have = {
        colab.key(k): v for k, v in colab.pins("\n".join(packages())).items()
    }
    for name, version in colab.pins().items():
        if name != "torch" or colab.colab_python():
            assert have[colab.key(name)] == version, name


def test_reads_a_list_of_colab(tmp_path, monkeypatch):
    """También la que trae torch de una dirección, y guarda su fecha."""
    wheel = "https://download.pytorch.org/whl/cpu/torch-9.9.9%2Bcpu-cp313.whl"
    rows = [
        f"{n.replace('_', '-')}==1.2.3" for n in colab.pins() if n != "torch"
    ]
    listed, pins = tmp_path / "pip-freeze.txt", tmp_path / "pins.txt"
    listed.write_text(
        "\n".join(["# lista", *rows, f"torch @ {wheel}#sha256=a"])
    )
    pins.write_text(colab.PINS.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(colab, "PINS", pins)
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="No sé de qué día"):
        colab.renew(listed, None)
    colab.renew(listed, "2020-01-02")
    assert colab.pins()["torch"] == "9.9.9"
    assert colab.pins()["numpy"] == "1.2.3"
    assert "Fecha: 2020-01-02." in pins.read_text("utf-8")
    listed.write_text("numpy==1")
    with pytest.raises(SystemExit, match="le faltan"):
        colab.renew(listed, "2020-01-02")
