#!/usr/bin/env python3
"""Deja el modelo del curso descargado, comprobado y listo para cargar.

La primera vez baja 491 MB y escribe 2,5 GB; después solo mira que siga ahí.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tokenatoken.model.download import WeightsError, fetch_weights  # noqa: E402


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        print(f"Modelo listo en {fetch_weights()}")
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
