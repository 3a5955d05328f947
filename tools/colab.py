"""Un entorno con las versiones de Colab, para probar el curso en ellas.

    python -m tools.colab .venv-colab             lo crea (o lo completa)
    python -m tools.colab --renew pip-freeze.txt  renueva el extracto guardado

El extracto (tests/colab/pip-freeze.txt) dice su fecha y su fuente. Con un
CPython como el de Colab (de pyenv, uv o el sistema) se instala todo tal cual,
también su torch, que en Linux trae CUDA: unos 5 GB. Sin él, con el Python que
haya y el torch de constraints.txt, y se avisa. gguf no se instala: lo pone la
celda de preparación, como en Colab.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import ROOT, parser

PINS = ROOT / "tests" / "colab" / "pip-freeze.txt"
TESTING = "nbval>=0.11,<1", "hypothesis>=6.100,<7", "PyYAML>=6,<7"
TESTING += ("pytest-xdist>=3.6,<4",)
# «torch @ https://…/torch-2.11.0%2Bcu128-cp313-…whl», en la lista de CPU.
WHEEL = re.compile(r"^([\w.-]+) @ \S*/[\w.]+-(\d[\w.]*)(?:%2B|\+|-)", re.M)
PLAIN = re.compile(r"^([\w.-]+)==([^\s+;]+)", re.M)


def pins(text: str | None = None) -> dict[str, str]:
    """Paquete → versión, en el orden de una lista de pip freeze."""
    text = PINS.read_text("utf-8") if text is None else text
    return dict(WHEEL.findall(text)) | dict(PLAIN.findall(text))


def key(name: str) -> str:
    """El nombre de un paquete, escrito de una sola manera."""
    return name.lower().replace("-", "_")


def date(path: Path) -> str:
    """El día en que se publicó la lista, si está en un clon de su repositorio."""
    order = ["git", "-C", str(path.parent), "log", "-1", "--format=%cs", "--"]
    run = subprocess.run([*order, path.name], capture_output=True, text=True)
    if not run.stdout.strip():
        raise SystemExit(
            f"No sé de qué día es {path}: clona googlecolab/backend-info y usa "
            "su archivo, o dilo con --date AAAA-MM-DD."
        )
    return run.stdout.strip()


def renew(path: Path, day: str | None) -> None:
    """Las versiones de `path` para los paquetes del extracto, con su fecha."""
    if not path.exists():
        raise SystemExit(f"No existe {path}.")
    new = {key(k): v for k, v in pins(path.read_text("utf-8")).items()}
    missing = [name for name in pins() if key(name) not in new]
    if missing:
        raise SystemExit(
            f"A {path.name} le faltan {', '.join(missing)}: ¿es una lista "
            "completa (pip-freeze*.txt) de googlecolab/backend-info?"
        )
    head = "".join(re.findall(r"^#.*\n", PINS.read_text("utf-8"), re.M))
    head = re.sub(r"Fecha: [\d-]+", f"Fecha: {day or date(path)}", head)
    rows = [f"{name}=={new[key(name)]}\n" for name in pins()]
    PINS.write_text(head + "".join(rows), encoding="utf-8")
    print(f"Renovado {PINS.relative_to(ROOT)}: repite make test-colab.")


def colab_python() -> str | None:
    """Un CPython de la versión de Colab que funcione aquí, o None."""
    wanted = re.search(
        r"Python de Colab: (\d+\.\d+)", PINS.read_text("utf-8")
    )[1]
    pyenv = Path.home().glob(f".pyenv/versions/{wanted}.*/bin/python")
    uv = Path.home().glob(
        f".local/share/uv/python/cpython-{wanted}*/bin/python"
    )
    for python in (shutil.which(f"python{wanted}"), *pyenv, *uv):
        order = [
            python,
            "-c",
            "import sys; print('%d.%d' % sys.version_info[:2])",
        ]
        if python and subprocess.run(order, capture_output=True).stdout:
            return str(python)
    return None


def build(venv: Path) -> None:
    """Crea el entorno, o instala lo que le falte."""
    found, wanted = colab_python(), pins()
    python = venv / "bin" / "python"
    if not python.exists():
        order = [found or sys.executable, "-m", "venv", str(venv)]
        subprocess.run(order, check=True)
    if found is None:
        text = (ROOT / "constraints.txt").read_text("utf-8")
        wanted["torch"] = pins(text)["torch"]
        print(
            "Aquí no hay un CPython como el de Colab: se usa Python "
            f"{sys.version.split()[0]} con torch {wanted['torch']} para CPU, "
            "que se le parecen."
        )
    print("Instalando las versiones de Colab (unos minutos)…", flush=True)
    listed = [f"{name}=={version}" for name, version in wanted.items()]
    pip = [str(python), "-m", "pip", "install", "-q"]
    pip.append("--disable-pip-version-check")
    for group in ([f"torch=={wanted['torch']}"], [*listed, *TESTING]):
        if subprocess.run([*pip, *group]).returncode:
            raise SystemExit(
                "pip no ha podido instalar las versiones de Colab (su mensaje "
                "está arriba). Comprueba la conexión y repite la orden."
            )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("venv", nargs="?", type=Path)
    options.add_argument("--renew", type=Path, metavar="LISTA")
    options.add_argument(
        "--date", help="el día de la lista, si no lo dice git"
    )
    chosen = options.parse_args()
    if chosen.renew:
        renew(chosen.renew, chosen.date)
    elif chosen.venv:
        build(chosen.venv)
    else:
        options.error("di dónde crear el entorno, o --renew con una lista")


if __name__ == "__main__":
    main()
