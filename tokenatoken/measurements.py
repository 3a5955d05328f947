"""Guardar mediciones, leerlas y compararlas entre equipos.

No mide nada: recibe lo que da `measure_generation`. No sabe nada de figuras.
"""

import csv
import datetime
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from . import CourseError
from .measure import COLUMNS, GenerationTiming

FORMAT = 1  # cambia si cambian las columnas
SAMPLES = Path(__file__).parent / "data" / "mediciones"  # las del curso
ANSWERS = SAMPLES.parent / "respuestas"  # textos ya escritos (unidad 08)


def conditions(model) -> dict:
    """Con qué se ha medido: modelo, precisión, dispositivo, versiones, día."""
    device = model.device
    cuda = device.type == "cuda"
    return {
        "format": FORMAT,
        "model": model.config.model_type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "date": datetime.date.today().isoformat(),
    }


def save_measurement(
    model, results: list[GenerationTiming], path: Path | str, label: str
) -> Path:
    """Guarda `path`.json (todo, con las condiciones) y `path`.csv (una fila
    por variante). `label`: cómo se llamará en las figuras."""
    path = Path(path).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "label": label,
        "conditions": conditions(model),
        "results": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as f:
        table = csv.DictWriter(f, COLUMNS)
        table.writeheader()
        table.writerows(result.row() for result in results)
    return path


def load_measurement(path: Path | str) -> dict:
    """Lo guardado por `save_measurement`: `label`, `conditions` y `results`.

    Lanza `ValueError` si el archivo está roto o es de otro formato.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["conditions"]["format"]
        if found != FORMAT:
            raise CourseError(
                f"{path.name} está en el formato {found} y esta versión lee el "
                f"{FORMAT}. Vuelve a medir con esta versión del curso."
            )
        content["results"] = [
            GenerationTiming(**result) for result in content["results"]
        ]
        content["label"] = str(content["label"])
    except (KeyError, TypeError, json.JSONDecodeError, OSError) as error:
        raise CourseError(
            f"No se puede leer {path.name} ({type(error).__name__}): no es una "
            "medición de save_measurement, o está cortada. Pide otra copia."
        ) from error
    return content


def compare_measurements(contents: list[dict]) -> pd.DataFrame:
    """Milisegundos por token (TPOT) de varias mediciones leídas: una fila por
    `label`, una columna por variante.

    Se compara el mismo caso (prompt y tokens nuevos): el más largo que tengan
    todas. Lanza `ValueError` si no tienen ninguno en común.
    """
    cases = [
        {(r.prompt_tokens, r.new_tokens) for r in c["results"] if not r.error}
        for c in contents
    ]
    common = set.intersection(*cases) if cases else set()
    if not common:
        raise CourseError(
            "Estas mediciones no tienen ningún caso en común (mismo prompt y "
            "mismos tokens nuevos), así que no se pueden comparar. Midan todas "
            "lo mismo: la sección 2 de la unidad 07 ya lo hace."
        )
    case = max(common, key=lambda pair: (pair[1], pair[0]))
    rows = {}
    for content in contents:
        label, again = content["label"], 1
        while label in rows:  # dos con el mismo nombre no se tapan
            again += 1
            label = f"{content['label']} ({again})"
        rows[label] = {
            r.variant: 1e3 * r.tpot
            for r in content["results"]
            if (r.prompt_tokens, r.new_tokens) == case and not r.error
        }
    return pd.DataFrame(rows).T


class Recorded:
    """Respuestas de un modelo ya escritas, para no esperar a las series
    largas; al usarlas escribe el comienzo de la primera y lo compara.

    `path`: un JSON con `answers`, nombre → textos. `write(prompts, n)` da lo
    que escribe el modelo tras cada prompt. Con `full`, las escribe todas y las
    guarda en `resultados/`, junto al original sin tocarlo.
    """

    def __init__(self, path: Path, model, write, full: bool = False):
        self.content = json.loads(path.read_text(encoding="utf-8"))
        self.model, self.write, self.full = model, write, full
        self.path = Path("resultados") / path.name
        self.checked: list[bool] = []

    def __call__(self, name: str, prompts: list, n: int) -> list[str]:
        """Los textos de la serie `name`, uno por prompt, de hasta `n` tokens."""
        answers = self.content["answers"]
        if self.full:
            answers[name] = self.write(prompts, n)
            self._save()
        elif name not in answers or len(answers[name]) != len(prompts):
            raise CourseError(
                f"No hay {len(prompts)} respuestas guardadas de «{name}»: "
                "has cambiado la serie. Escríbelas con full=True."
            )
        else:
            here = self.write(prompts[:1], min(n, 4))[0].rstrip("�")
            self.checked.append(answers[name][0].startswith(here))
        return answers[name]

    def _save(self) -> None:
        self.content["conditions"] = conditions(self.model)
        self.path.parent.mkdir(exist_ok=True)
        text = json.dumps(self.content, ensure_ascii=False, indent=1)
        self.path.write_text(text + "\n", encoding="utf-8")
