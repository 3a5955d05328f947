"""Token a token: el ayudante pequeño que importan los cuadernos del curso.

Cada módulo hace una cosa y dice qué no sabe hacer. Las importaciones solo
bajan: weights → runtime → (sampling, cache, generation, …) → plots → widgets.
"""

__version__ = "0.1.0"
MORE_HELP = "Más ayuda: docs/problemas.md, en la carpeta del curso."


def number(value: float, decimals: int = 2) -> str:
    """Un número como se escribe en español: 1234.5 → «1\u202f234,50»."""
    text = f"{value:,.{decimals}f}"
    return text.translate(str.maketrans(",.", "\u202f,"))


class Helpful(Exception):
    """Un error cuyo mensaje dice qué hacer, y la nota, dónde hay más."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.add_note(MORE_HELP)


class CourseError(Helpful, ValueError):
    """Una entrada que no vale. Es un `ValueError` como cualquier otro."""
