"""Instala un archivo de requisitos con las versiones de constraints.txt.

    python -m tools.install requirements.txt
    python -m tools.install --freeze    rehace constraints.txt desde este entorno

En Linux sin tarjeta NVIDIA pide la compilación de PyTorch para CPU: la normal
trae varios GB de CUDA que ahí no sirven.
"""

import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from . import ROOT, parser

CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
HEADER = (
    "# Versiones exactas con las que se hicieron las salidas guardadas.\n"
    "# Se rehace con: make constraints\n"
)


def cpu_index() -> list[str]:
    """Lo que pide a pip el PyTorch para CPU, si ese índice responde."""
    try:
        urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=5).close()
        return ["--extra-index-url", CPU_INDEX]
    except OSError:
        return []


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if not sys.stdout.isatty():
        command.append("--quiet")
    if subprocess.run([*command, *arguments]).returncode:
        raise SystemExit(
            "pip no ha podido instalar los paquetes (su mensaje está arriba).\n"
            "Qué hacer: comprueba la conexión y el espacio en disco, y repite la "
            "misma orden: seguirá donde se quedó. Más ayuda: docs/problemas.md"
        )


def install(requirements: Path) -> None:
    name = requirements.name
    print(f"Instalando {name} (la primera vez, unos minutos)…", flush=True)
    no_card = platform.system() == "Linux" and not shutil.which("nvidia-smi")
    if find_spec("torch") is None and no_card:
        pip("install", "torch", "-c", str(CONSTRAINTS), *cpu_index())
    pip("install", "-r", str(requirements), "-c", str(CONSTRAINTS))


def freeze() -> None:
    """Las versiones instaladas, sin las etiquetas locales (+cpu)."""
    order = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    run = subprocess.run(order, capture_output=True, text=True, check=True)
    lines = [re.sub(r"\+\w+$", "", line) for line in run.stdout.splitlines()]
    CONSTRAINTS.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("requirements", nargs="?", type=Path)
    options.add_argument("--freeze", action="store_true")
    chosen = options.parse_args()
    if chosen.freeze:
        freeze()
    elif chosen.requirements:
        install(ROOT / chosen.requirements)
    else:
        options.error("di qué archivo de requisitos instalar")


if __name__ == "__main__":
    main()
