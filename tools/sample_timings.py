"""Mide este equipo y guarda las muestras que trae el curso (unidad 07).

    python -m tools.sample_timings --machine "2 núcleos x86-64, sin GPU"

Guarda en tokenatoken/data/mediciones un archivo por precisión, con el caso
que miden todos (55 + 8 tokens) y, en fp32, también el largo (55 + 100). En
dos núcleos tarda unos diez minutos.
"""

import torch

from tokenatoken.measure import measure_generation
from tokenatoken.measurements import SAMPLES, save_measurement
from tokenatoken.model import load_model

from . import ROOT, parser


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--machine", required=True, help="para la etiqueta")
    machine = options.parse_args().machine
    for name in ("float32", "bfloat16", "float16"):
        model, _ = load_model(dtype=getattr(torch, name))
        ids = torch.arange(55, device=model.device)[None]
        results = []
        for new in (8, 100) if name == "float32" else (8,):
            print(f"{name}: 55 + {new} tokens…", flush=True)
            results += measure_generation(model, ids, new)
        label = f"{machine}, {name}"
        path = save_measurement(model, results, SAMPLES / name, label)
        print(f"guardado {path.relative_to(ROOT)}")
        del model


if __name__ == "__main__":
    main()
