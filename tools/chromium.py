#!/usr/bin/env python3
"""Encuentra Chromium o, con --instalar, lo instala con apt (Debian, Ubuntu).

    python tools/chromium.py [--instalar]

Imprime su ruta. Si no se puede tener, dice por qué y sale con 3. CHROMIUM=ruta
elige uno concreto.
"""

import argparse
import os
import shutil
import subprocess
import sys

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
# Sin sandbox porque la CI es root; lo demás evita que busque la red al abrirse.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """La ruta de un Chromium instalado, o None."""
    wanted = os.environ.get("CHROMIUM")
    for name in [wanted] if wanted else NAMES:
        path = shutil.which(name)
        if path:
            return path
    return None


def install() -> str:
    """Lo instala con apt; devuelve por qué no se ha podido, o «»."""
    if shutil.which("apt-get") is None:
        return "este sistema no tiene apt-get: instala Chromium a mano"
    order = ["apt-get"] if os.geteuid() == 0 else ["sudo", "-n", "apt-get"]
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update", "-qq"], ["install", "-qq", "-y", "chromium"]):
        run = subprocess.run(
            [*order, *step], env=env, capture_output=True, text=True
        )
        if run.returncode:
            lines = (run.stderr or run.stdout).strip().splitlines()
            return f"apt-get {step[0]} ha fallado: {(lines or ['?'])[-1]}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--instalar", action="store_true")
    options = parser.parse_args()
    reason = "no hay Chromium ni Chrome (pruébalo con --instalar)"
    if find_chromium() is None and options.instalar:
        print("Instalando Chromium con apt…", flush=True)
        reason = install()
    path = find_chromium()
    print(path or f"Sin Chromium: {reason}.")
    return 0 if path else 3


if __name__ == "__main__":
    sys.exit(main())
