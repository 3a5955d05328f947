"""Deja el modelo del curso descargado, comprobado y listo para cargar.

La primera vez baja 491 MB y escribe 2,5 GB; después solo mira que siga ahí.
"""

import sys

from tokenatoken.model import WeightsError, fetch_weights


def main() -> int:
    try:
        print(f"Modelo listo en {fetch_weights()}")
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
