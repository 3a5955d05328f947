"""Respuestas equivocadas que no caben en una pista: las que se comportan mal.

Cada `uNN.py` es solo datos: `MUTANTS[ejercicio][nombre] = wrong(respuesta)`.
Las prueba `tests/unit/test_exercises.py`.
"""

from dataclasses import dataclass


@dataclass
class Wrong:
    answers: tuple
    says: str


def wrong(*answers, says: str = "") -> Wrong:
    """Lo que se pasa a `check`, y unas palabras de la pista que merece."""
    return Wrong(answers, says)
