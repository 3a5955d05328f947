#!/usr/bin/env python3
"""Instala un archivo de requisitos con las versiones de constraints.txt.

    python tools/install.py requirements.txt
    python tools/install.py --freeze     rehace constraints.txt desde este entorno

En Linux sin tarjeta NVIDIA pide la compilación de PyTorch para CPU: la normal
trae varios GB de CUDA que ahí no sirven.
"""

import argparse
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
HEADER = (
    "# Versiones exactas con las que se hicieron las salidas guardadas.\n"
    "# Se rehace con: make constraints\n"
)


def reachable(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/torch/", timeout=5).close()
        return True
    except OSError:
        return False


def cpu_only_linux() -> bool:
    return platform.system() == "Linux" and shutil.which("nvidia-smi") is None


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if not sys.stdout.isatty():
        command.append("--quiet")
    run = subprocess.run([*command, *arguments])
    if run.returncode:
        raise SystemExit(
            "pip no ha podido instalar los paquetes (su mensaje está arriba).\n"
            "Qué hacer: comprueba la conexión y el espacio en disco, y repite la "
            "misma orden: seguirá donde se quedó. Más ayuda: docs/problemas.md"
        )


def install(requirements: Path) -> None:
    print(
        f"Instalando {requirements.name} (la primera vez, unos minutos)…",
        flush=True,
    )
    if find_spec("torch") is None and cpu_only_linux():
        extra = (
            ["--extra-index-url", CPU_INDEX] if reachable(CPU_INDEX) else []
        )
        pip("install", "torch", "-c", str(CONSTRAINTS), *extra)
    pip("install", "-r", str(requirements), "-c", str(CONSTRAINTS))


def freeze() -> None:
    """Las versiones instaladas, sin las etiquetas locales (+cpu)."""
    run = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [re.sub(r"\+\w+$", "", line) for line in run.stdout.splitlines()]
    CONSTRAINTS.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("requisitos", nargs="?", type=Path)
    parser.add_argument("--freeze", action="store_true")
    options = parser.parse_args()
    if options.freeze:
        freeze()
    elif options.requisitos:
        install(ROOT / options.requisitos)
    else:
        parser.error("di qué archivo de requisitos instalar")


if __name__ == "__main__":
    main()
