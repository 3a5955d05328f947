#!/usr/bin/env python3
"""Un entorno con las versiones de Colab, para probar el curso en ellas.

    python tools/colab.py .venv-colab               lo crea (o lo completa)
    python tools/colab.py --renovar pip-freeze.txt  renueva el extracto guardado

El extracto (tests/colab/pip-freeze.txt) dice su fecha y su fuente. Colab trae
torch para CUDA; aquí se instala el de constraints.txt, para CPU. gguf no se
instala: lo pone la celda de preparación, como en Colab.
"""

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "tests" / "colab" / "pip-freeze.txt"
TESTING = ["nbval>=0.11,<1", "hypothesis>=6.100,<7", "PyYAML>=6,<7"]


def pins(path: Path = PINS) -> dict[str, str]:
    """Paquete → versión, en el orden del archivo."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==", 1) for line in lines if "==" in line)
    return {name.strip(): re.sub(r"\+.*", "", v).strip() for name, v in pairs}


def refresh(path: Path) -> None:
    """Las versiones de `path` para los paquetes del extracto, con la fecha."""
    if not path.exists():
        raise SystemExit(f"No existe {path}.")
    new = {k.lower(): v for k, v in pins(path).items()}
    missing = [name for name in pins() if name.lower() not in new]
    if missing:
        raise SystemExit(
            f"A {path.name} le faltan {', '.join(missing)}: ¿es el "
            "pip-freeze.txt completo de googlecolab/backend-info?"
        )
    head = [
        line
        for line in PINS.read_text("utf-8").splitlines()
        if line.startswith("#")
    ]
    today = datetime.date.today().isoformat()
    text = re.sub(r"Fecha: [\d-]+", f"Fecha: {today}", "\n".join(head))
    rows = [f"{name}=={new[name.lower()]}" for name in pins()]
    PINS.write_text(text + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    print(f"Renovado {PINS.relative_to(ROOT)}: repite make test-colab.")


def build(venv: Path) -> None:
    """Crea el entorno, o instala lo que le falte."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    wanted = pins()
    ours = re.search(
        r"^torch==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.M
    )[1]
    print(f"torch {wanted['torch']} de Colab → {ours}, para CPU.", flush=True)
    wanted["torch"] = ours
    listed = [f"{name}=={version}" for name, version in wanted.items()]
    pip = [str(python), "-m", "pip", "install", "-q"]
    pip.append("--disable-pip-version-check")
    print("Instalando las versiones de Colab (unos minutos)…", flush=True)
    for group in ([f"torch=={ours}"], [*listed, *TESTING]):
        if subprocess.run([*pip, *group]).returncode:
            raise SystemExit(
                "pip no ha podido instalar las versiones de Colab (su mensaje "
                "está arriba). Comprueba la conexión y repite la orden."
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("entorno", nargs="?", type=Path)
    parser.add_argument("--renovar", type=Path, metavar="ARCHIVO")
    options = parser.parse_args()
    if options.renovar:
        refresh(options.renovar)
    elif options.entorno:
        build(options.entorno)
    else:
        parser.error("di dónde crear el entorno, o --renovar con un archivo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
