"""Cuántas respuestas son un JSON del esquema, según cómo se pida (unidad 09).

    python -m tools.almost --machine "2 núcleos x86-64, sin GPU"

Rehace tokenatoken/data/respuestas/json.json: 40 frases de las que extraer un
dato, de cuatro maneras y a tres temperaturas, y 40 personajes que inventar, de
tres y a dos. En dos núcleos tarda un cuarto de hora.
"""

import json

import torch
from tqdm.auto import tqdm

from tokenatoken.cache import make_cache
from tokenatoken.chat import chat_ids
from tokenatoken.constrained import choose
from tokenatoken.forward import next_logits
from tokenatoken.generation import end_ids
from tokenatoken.measurements import ANSWERS, conditions
from tokenatoken.model import load_model
from tokenatoken.sampling import Sampler

from . import parser, save_json

EXTRACT = [
    (way, t)
    for t in (0, 1, 1.5)
    for way in ("pedir", "con ejemplo", "prellenar", "restringir")
]
INVENT = [
    (way, t)
    for t in (1, 1.5)
    for way in ("inventar", "inventar, restringir", "inventar, con final")
]
LIMIT = 64  # tokens de respuesta
ENDLESS = 10_000  # un presupuesto que nunca aprieta


def prompt(tokenizer, material: dict, way: str, row: int) -> list[int]:
    """Los ids de la petición: un turno de «user», y el otro abierto."""
    if way.startswith("inventar"):
        start, end = material["invent"]
        text = f"{start}{material['themes'][row]}.{end}"
    else:
        ask = material["example" if way == "con ejemplo" else "ask"]
        text = ask + material["phrases"][row]["text"]
    prefill = material["prefill"] if way == "prellenar" else ""
    message = {"role": "user", "content": text}
    return chat_ids(tokenizer, [message], prefill=prefill)


def chooser(tokenizer, schema: dict, way: str, temperature: float, seed: int):
    """Cómo se elige el token de una respuesta, con su propio azar."""
    generator = torch.Generator().manual_seed(seed)
    sampler = Sampler(temperature=temperature, generator=generator)
    if not way.endswith(("restringir", "con final")):
        return sampler
    budget = LIMIT if way.endswith("con final") else ENDLESS
    return choose(tokenizer, schema, max_new_tokens=budget, sampler=sampler)


def write(model, tokenizer, prompts: list, choosers: list, limit: int):
    """Los ids que escribe cada fila, y la parte de la probabilidad que la
    máscara dejó en cada paso."""
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, given in enumerate(prompts):
        ids[row, longest - len(given) :] = torch.tensor(given)
        mask[row, longest - len(given) :] = 1
    cache, ends = make_cache(model), end_ids(model)
    open_rows = set(range(len(prompts)))
    texts, masses = [[] for _ in prompts], [[] for _ in prompts]
    for _ in range(limit):
        logits = next_logits(model, ids, cache, mask)  # [B, V]
        new = torch.full((len(prompts), 1), tokenizer.eos_token_id)
        for row in list(open_rows):
            choose, one = choosers[row], logits[row : row + 1]
            token = int(choose(one, ids[row : row + 1]))
            if hasattr(choose, "allowed"):
                left = choose.limit - len(texts[row])
                good = choose.allowed(choose.states[0], left)
                masses[row].append(float(one[0].softmax(-1)[good].sum()))
            texts[row].append(token)
            new[row] = token
            if token in ends:
                open_rows.discard(row)
        if not open_rows:
            break
        ids = torch.cat([ids, new], -1)
        mask = torch.cat([mask, torch.ones_like(new)], -1)
    return texts, masses


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--machine", required=True, help="para la etiqueta")
    machine = options.parse_args().machine
    path = ANSWERS / "json.json"
    material = json.loads(path.read_text(encoding="utf-8"))["material"]
    model, tokenizer = load_model(dtype=torch.float32)
    schema, rows = material["schema"], range(len(material["phrases"]))
    answers, tokens, masses = {}, {}, {}
    for way, temperature in tqdm(EXTRACT + INVENT):
        name = f"{way}, T = {temperature:g}".replace(".", ",")
        prompts = [prompt(tokenizer, material, way, row) for row in rows]
        choosers = [
            chooser(tokenizer, schema, way, temperature, seed) for seed in rows
        ]
        ids, mass = write(model, tokenizer, prompts, choosers, LIMIT)
        answers[name] = tokenizer.batch_decode(ids)
        tokens[name] = [len(row) for row in ids]
        if any(mass):
            masses[name] = [[float(f"{m:.4g}") for m in one] for one in mass]
    content = {
        "label": machine,
        "conditions": conditions(model),
        "material": material,
        "answers": answers,
        "tokens": tokens,
        "masses": masses,
    }
    save_json(path, content)


if __name__ == "__main__":
    main()
