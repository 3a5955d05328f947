"""Token a token: el ayudante pequeño que importan los cuadernos del curso.

Un archivo de aquí arriba es una idea que el cuaderno escribe antes a mano; una
carpeta es un servicio. De abajo arriba, y cada uno solo importa lo de abajo:

    tokens                  un texto como ids
    sampling · cache        elegir un token · guardar K y V
    forward                 ids → logits: el único sitio que llama al modelo
    generation · text       el bucle, paso a paso · su texto, sin partir letras
    measure · measurements  cronometrar · guardar y comparar
    chat · calls            una conversación como ids · leer una llamada
    grammar · schema        qué textos valen, byte a byte · un JSON Schema
    constrained             elegir solo lo que acaba en un texto válido
    batch_invariant         los mismos bits, solo o en un lote
    fast · quantize         un forward propio · con menos bits por peso
    speculative             varios tokens por lectura de los pesos
    pages · scheduler       K y V en páginas · quién pasa en cada paso
    serving                 muchas peticiones a la vez, cada una la suya
    field                   buscar, usar una herramienta y juzgar
    model/    del archivo al modelo cargado
    show/     figuras y exploradores
    checks/   la corrección de los laboratorios

Quien estudia importa de estos archivos y de lo que exporta cada carpeta.
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
