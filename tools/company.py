"""Dónde se separa la misma pregunta según cuántas van en el lote (unidad 10).

    python -m tools.company --machine "2 núcleos x86-64, sin GPU"

Rehace tokenatoken/data/compania.json: 20 preguntas con greedy, solas y en lotes
de 2, 4 y 8 copias, en fp32, bf16 y fp16. En dos núcleos tarda media hora.
"""

import torch
from tqdm.auto import tqdm

from tokenatoken.cache import make_cache
from tokenatoken.chat import chat_ids
from tokenatoken.forward import next_logits
from tokenatoken.measurements import conditions
from tokenatoken.model import load_model

from . import ROOT, parser, save_json

PATH = ROOT / "tokenatoken" / "data" / "compania.json"
PROMPTS = """Háblame de Richard Feynman
Explica qué es un agujero negro
Escribe un haiku sobre programación
¿Qué es una derivada?
Cuéntame un cuento corto sobre un faro
¿Por qué el cielo es azul?
Dame una receta de tortilla de patatas
Resume la Revolución francesa
¿Cómo funciona una bicicleta?
Describe un mercado de pueblo
¿Qué hace un sistema operativo?
Háblame de Ada Lovelace
Explica la fotosíntesis a un niño
¿Para qué sirve una pila en programación?
Escribe una carta a una amiga que se muda
¿Cuáles son los planetas del sistema solar?
Da tres consejos para dormir mejor
¿Qué diferencia hay entre un virus y una bacteria?
Escribe una función que invierta una lista
Describe tu ciudad ideal""".splitlines()
PRECISIONS = "float32", "bfloat16", "float16"
BATCHES = 1, 2, 4, 8
LENGTH = 60  # tokens de respuesta, siga o no


def write(model, ids, batch: int) -> tuple[list[int], list[float]]:
    """Los ids que escribe la primera fila de un lote de copias, y lo que el
    mejor logit le saca al segundo en cada paso."""
    ids, cache, margins = ids.repeat(batch, 1), make_cache(model), []
    start = ids.shape[1]
    for _ in range(LENGTH):
        logits = next_logits(model, ids, cache)  # [B, V]
        best, second = logits[0].topk(2).values.tolist()
        margins.append(round(best - second, 4))
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], -1)
        if (ids != ids[0]).any():
            raise SystemExit("Dos copias del mismo lote no escriben lo mismo.")
    return ids[0, start:].tolist(), margins


def measure(precision: str) -> list[dict]:
    """Por pregunta: lote → sus ids y sus márgenes."""
    model, tokenizer = load_model(dtype=getattr(torch, precision))
    rows = []
    for prompt in tqdm(PROMPTS, desc=precision):
        turn = [{"role": "user", "content": prompt}]
        ids = torch.tensor([chat_ids(tokenizer, turn)], device=model.device)
        row = {}
        for batch in BATCHES:
            written, margins = write(model, ids, batch)
            row[str(batch)] = {"ids": written, "margins": margins}
        rows.append(row)
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--machine", required=True, help="dónde se midió")
    machine = options.parse_args().machine
    model, _ = load_model()
    here = conditions(model) | {"machine": machine}
    del here["dtype"], model
    runs = {precision: measure(precision) for precision in PRECISIONS}
    content = {"conditions": here, "prompts": PROMPTS, "runs": runs}
    save_json(PATH, content, indent=None)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
