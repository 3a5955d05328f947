"""Token a token: el ayudante pequeño que importan los cuadernos del curso.

Cada módulo hace una cosa y dice qué no sabe hacer. Las importaciones solo
bajan: weights → runtime → (sampling, cache, generation, …) → plots → widgets.
"""

__version__ = "0.1.0"


def number(value: float, decimals: int = 2) -> str:
    """Un número como se escribe en español: 1234.5 → «1\u202f234,50»."""
    text = f"{value:,.{decimals}f}"
    return text.translate(str.maketrans(",.", "\u202f,"))
