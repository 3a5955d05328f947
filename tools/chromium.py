"""Encuentra Chromium o, con --install, lo instala con apt (Debian, Ubuntu).

    python -m tools.chromium [--install]

Imprime su ruta. Si no se puede tener, dice por qué y sale con 3. CHROMIUM=ruta
elige uno concreto.
"""

import os
import shutil
import subprocess
import sys

from . import parser

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
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
    found = map(shutil.which, [wanted] if wanted else NAMES)
    return next(filter(None, found), None)


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
    options = parser(__doc__)
    options.add_argument("--install", action="store_true")
    reason = "no hay Chromium ni Chrome (pruébalo con --install)"
    if options.parse_args().install and find_chromium() is None:
        print("Instalando Chromium con apt…", flush=True)
        reason = install()
    path = find_chromium()
    print(path or f"Sin Chromium: {reason}.")
    return 0 if path else 3


if __name__ == "__main__":
    sys.exit(main())
