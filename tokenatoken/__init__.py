"""Token a token: el ayudante pequeño que importan los cuadernos del curso.

Cada módulo hace una cosa y dice qué no sabe hacer. Las importaciones solo
bajan: weights → runtime → (sampling, cache, generation, …) → plots → widgets.
"""

__version__ = "0.1.0"
