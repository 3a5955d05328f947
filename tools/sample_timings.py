#!/usr/bin/env python3
"""Mide este equipo y guarda las muestras que trae el curso (unidad 07).

    python tools/sample_timings.py --equipo "2 núcleos x86-64, sin GPU"

Guarda en tokenatoken/data/mediciones un archivo por precisión, con el caso
que miden todos (55 + 8 tokens) y, en fp32, también el largo (55 + 100). En
dos núcleos tarda unos diez minutos.
"""

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tokenatoken.measure import (  # noqa: E402
    SAMPLES,
    measure_generation,
    save_measurement,
)
from tokenatoken.model import load_model  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--equipo", required=True, help="para la etiqueta")
    options = parser.parse_args()
    for name in ("float32", "bfloat16", "float16"):
        model, _ = load_model(dtype=getattr(torch, name))
        ids = torch.arange(55, device=model.device)[None]
        results = []
        for new in (8, 100) if name == "float32" else (8,):
            print(f"{name}: 55 + {new} tokens…", flush=True)
            results += measure_generation(model, ids, new)
        label = f"{options.equipo}, {name}"
        path = save_measurement(model, results, SAMPLES / name, label)
        print(f"guardado {path.relative_to(ROOT)}")
        del model


if __name__ == "__main__":
    main()
