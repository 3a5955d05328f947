"""Complemento de pytest: nbval que compara de verdad y no falla por ruido.

nbval 0.11, tal cual, deja pasar una celda sin ejecutar y no mira las
imágenes; y falla por la última cifra de un decimal. No tiene ganchos para
cambiarlo y heredar de sus clases rompe su `super()`, así que se sustituyen dos
métodos. Se carga con `-p tests.nbval_tolerance`. Lo que sigue sin admitir, como
`clear_output` o un widget Output, el curso no lo usa.
"""

import base64
import io
import re
from importlib.metadata import version
from pathlib import Path

from nbval.plugin import IPyNbCell
from PIL import Image, ImageChops, ImageStat

RELATIVE = 2e-3  # tolerancia de los números con decimales
# Distancia media (0..255) en una rejilla gris de 48 × 48. Con el matplotlib de
# las salidas guardadas la misma figura da 0; con otro, el texto cambia un poco
# (medido entre 3.10 y 3.11: hasta 2,5); otra figura pasa de 20.
PINNED = Path(__file__).parents[1] / "constraints.txt"
SAME_VERSION = f"matplotlib=={version('matplotlib')}\n" in PINNED.read_text()
IMAGE_LIMIT = 1.2 if SAME_VERSION else 4.0
PICTURES = {"image/png", "image/jpeg"}
STATES = "application/vnd.tokenatoken.explorador+json"
# Enteros que vienen de redondear o de contar hasta un umbral.
LOOSE = {"percent": 1, "counts": 3, "nucleus": 1}
# Un número con punto o coma decimal; los enteros se comparan exactos.
NUMBER = re.compile(
    r"(?<![\w.,])[-+−]?(?:\d+[.,]\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w])"
)
# Una cifra cualquiera, con sus separadores; la etiqueta de quien la ignora.
DIGITS = re.compile(r"\d+(?:[.,\u202f]\d+)*")
RANGES = re.compile(r"# a #|# o más|ninguno|nunca hasta #")
# Los puntos de una curva.
POINTS = re.compile(r"# → #(?:, # → #)+")
TIMING_TAG = "cronometro"
PATIENCE = 120  # segundos que se espera al kernel tras acabar una celda


def same_text(reference: str, current: str) -> bool:
    """Iguales, salvo el redondeo de los números con decimales.

    Dos decimales coinciden si difieren menos de un 0,2 %, o en una unidad de
    la última cifra cuando hay al menos tres.
    """
    ours, theirs = NUMBER.findall(reference), NUMBER.findall(current)
    skeleton = NUMBER.sub("#", reference).split()
    if (
        len(ours) != len(theirs)
        or skeleton != NUMBER.sub("#", current).split()
    ):
        return False
    return all(_same_number(a, b) for a, b in zip(ours, theirs))


def _same_number(a: str, b: str) -> bool:
    if a == b:
        return True
    x, y = (n.lower().replace(",", ".").replace("−", "-") for n in (a, b))
    if not all("." in n or "e" in n for n in (x, y)):
        return False
    digits = max(len(n.partition(".")[2]) for n in (x, y))
    with_exponent = "e" in x + y
    last_place = (
        1.01 * 10.0**-digits if digits >= 3 and not with_exponent else 0
    )
    return abs(float(x) - float(y)) <= max(
        RELATIVE * abs(float(x)), last_place
    )


def same_data(a, b, name: str = "") -> bool:
    """Iguales dos JSON, con la tolerancia de siempre en los decimales; de los
    enteros de `LOOSE`, unas unidades."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(
            same_data(a[k], b[k], k) for k in a
        )
    if isinstance(a, list) and isinstance(b, list):
        pairs = zip(a, b)
        return len(a) == len(b) and all(same_data(*p, name) for p in pairs)
    if type(a) is type(b) is float:
        return abs(a - b) <= max(RELATIVE * abs(a), 1.01e-3)
    if name in LOOSE and type(a) is type(b) is int:
        return abs(a - b) <= max(LOOSE[name], RELATIVE * abs(a))
    return a == b


def picture_distance(a: str, b: str) -> float | None:
    """Distancia entre dos PNG en base64; None si alguno no se puede leer."""

    def grid(text):
        image = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        return paper.convert("L").resize((48, 48))

    try:
        return ImageStat.Stat(ImageChops.difference(grid(a), grid(b))).mean[0]
    except Exception:  # PIL lanza de todo con un archivo roto
        return None


_compare = IPyNbCell.compare_outputs
_runtest = IPyNbCell.runtest


def shape(text: str) -> list[list[str]]:
    """Los renglones de una medición: palabras y signos; cada cifra, «#».

    Un intervalo («4 a 5»), o decir que no hay ninguno, cuenta como una cifra.
    Las filas que empiezan por una cifra y dicen lo mismo cuentan como una, y
    los puntos de una curva, como uno: cuántos dé tiempo a medir es cosa del
    equipo. De las que no han dado tiempo no se exige ni que se diga.
    """
    rows: list[list[str]] = []
    text = POINTS.sub("# → #", RANGES.sub("#", DIGITS.sub("#", text)))
    for line in text.splitlines():
        words = line.split()
        again = words[:1] == ["#"] and rows[-1:] == [words]
        if not again:
            rows.append(words)
    return rows


def same_shape(a: str, b: str, table: bool = False) -> bool:
    """¿Dicen lo mismo dos mediciones, sin contar las cifras?

    El texto de una `table` de pandas se parte por donde cabe, según lo anchas
    que sean las cifras: ahí valen las mismas palabras.
    """
    if table:
        words = ({w for row in shape(text) for w in row} for text in (a, b))
        return next(words) ^ next(words) <= {"\\"}
    return shape(a) == shape(b)


def _forgive(sanitize, now: dict, stored: dict, timing: bool) -> None:
    """Copia de lo guardado los textos que difieren en lo que se admite."""
    table = 'class="dataframe"' in str(now.get("text/html"))
    if STATES in now and STATES in stored:
        theirs = stored[STATES]
        if (
            timing
            and now[STATES]["kind"] == theirs["kind"]
            or same_data(theirs, now[STATES])
        ):
            now[STATES] = theirs
    for key in set(now) & set(stored) - PICTURES:
        if isinstance(now[key], str) and isinstance(stored[key], str):
            plain = table and key == "text/plain"
            texts = sanitize(stored[key]), sanitize(now[key])
            if timing and not same_shape(stored[key], now[key], plain):
                now[key] += "\n(otra forma)"  # también si es la unidad
            elif timing or same_text(*texts):
                now[key] = stored[key]


def compare_outputs(self, test, ref, skip_compare=None):
    """Como nbval, con tolerancia numérica y mirando también las imágenes.

    En una celda `cronometro` se compara la forma: columnas, palabras,
    unidades y signos, y que haya las mismas imágenes; las cifras, y cuántas
    filas ha dado tiempo a medir, no.
    """
    timing = TIMING_TAG in self.cell.metadata.get("tags", [])
    for now, stored in zip(test, ref):
        data = now.get("data", {}), stored.get("data", {})
        _forgive(self.sanitize, now, stored, timing)
        _forgive(self.sanitize, *data, timing)
    if not _compare(self, test, ref, skip_compare):
        return False
    reason = _wrong_picture(_pictures(ref), _pictures(test), timing)
    if reason:
        self.comparison_traceback = [reason]
    return not reason


def _pictures(outputs) -> list[str]:
    """Los PNG de unas salidas, en base64."""
    found = (o.get("data", {}).get("image/png") for o in outputs)
    return [png for png in found if png]


def _wrong_picture(stored: list, now: list, timing: bool) -> str:
    """Qué imagen no es la guardada, en palabras; «» si todas lo son."""
    if len(now) != len(stored):
        return f"imágenes: {len(stored)} → {len(now)}"
    for i, (a, b) in enumerate(zip(stored, now)):
        distance = picture_distance(a, b)
        if distance is None or (distance > IMAGE_LIMIT and not timing):
            return f"la imagen {i} no es la guardada (distancia {distance})"
    return ""


def runtest(self):
    """Una celda con código y sin ejecutar es un fallo, no un aprobado."""
    self.output_timeout = PATIENCE
    unrun = self.cell.execution_count is None and self.cell.source.strip()
    if unrun and not self.options["skip"]:
        self.raise_cell_error("celda sin ejecutar: make run")
    _runtest(self)


IPyNbCell.compare_outputs = compare_outputs
IPyNbCell.runtest = runtest
