"""Mide lo que se construye alrededor del modelo (unidad 13).

    python -m tools.field [--only rag judge known agent]

Rehace tokenatoken/data/campo/campo.json con los textos de casos.toml: buscar
un documento y responder con él, un agente con calculadora y un juez que elige
entre dos respuestas en los dos órdenes. Greedy, fp32. Diez minutos.
"""

import json
import re
import tomllib
from pathlib import Path

import torch
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from tokenatoken.field import (
    agent,
    answer,
    nearest,
    preference,
    states,
)
from tokenatoken.measurements import SAMPLES, conditions
from tokenatoken.model import load_model

from . import parser, save_json

HOME = SAMPLES.parent / "campo"
LAYERS = range(0, 25, 2)
SHORT = " Responde en pocas palabras."


def cases() -> dict:
    return tomllib.loads((HOME / "casos.toml").read_text("utf-8"))


def words(text: str) -> set[str]:
    """Las palabras de cuatro letras o más."""
    return set(re.findall(r"\w{4,}", text.lower()))


def by_tokens(question: torch.Tensor, documents: list[torch.Tensor]) -> int:
    """Cada token de la pregunta, `[m, D]`, busca su mejor pareja en el
    documento, `[n, D]`: gana el que más suma."""
    q = normalize(question, dim=-1)
    scores = [(q @ normalize(d, dim=-1).T).amax(1).sum() for d in documents]
    return int(torch.stack(scores).argmax())


def by_words(question: str, documents: list[str]) -> int | None:
    """El que más palabras comparte; sin ninguna, no encuentra nada."""
    scores = [len(words(question) & words(text)) for text in documents]
    best = max(scores)
    return scores.index(best) if best else None


def search(model, tokenizer, questions, documents, right) -> dict:
    """De cada manera de buscar, cuántas preguntas van a su documento."""

    def hits(found):
        return sum(a == b for a, b in zip(found, right))

    def seen(texts):  # cada texto pasa una vez: salen todas las capas
        return [states(model, tokenizer, text) for text in tqdm(texts)]

    asked, held, mean, tokens = seen(questions), seen(documents), {}, {}
    for layer in LAYERS:
        q, d = ([x[layer] for x in part] for part in (asked, held))
        pair = (torch.stack([x.mean(0) for x in part]) for part in (q, d))
        mean[layer] = hits(nearest(*pair))
        tokens[layer] = hits([by_tokens(x, d) for x in q])
    common = [by_words(question, documents) for question in questions]
    return {"words": hits(common), "mean": mean, "tokens": tokens}


def rag(model, tokenizer) -> dict:
    held = cases()["documentos"]
    documents = [d["texto"] for d in held]
    asked = [(q, a, i) for i, d in enumerate(held) for q, a in d["preguntas"]]
    found = search(
        model,
        tokenizer,
        [q for q, *_ in asked],
        documents,
        [i for *_, i in asked],
    )
    rows = []
    for question, good, i in tqdm(asked):
        row = {"question": question, "good": good, "document": i}
        for name, text in {
            "sin texto": "",
            "con el suyo": documents[i],
            "con otro": documents[(i + 3) % len(documents)],
        }.items():
            given = f"{text}\n\nSegún este texto: " * bool(text)
            content = given + question + SHORT
            said = answer(
                model, tokenizer, [{"role": "user", "content": content}], 16
            )
            fine = bool(re.search(rf"\b({good})", said, re.I))
            row[name] = {"said": said, "right": fine}
        rows.append(row)
    return {"search": found, "answers": rows}


def judge(model, tokenizer) -> dict:
    pairs, filler = cases()["juez"]["parejas"], cases()["juez"]["relleno"]
    result = {}
    for labels in ("AB", "12"):
        rows = []
        for question, good, bad, _ in tqdm(pairs):
            versus = {
                "mala": (good, bad),
                "igual": (good, good),
                "larga": (good, good + filler),
                "mala y larga": (good, bad + filler),
            }
            rows.append(
                {
                    name: [
                        preference(model, tokenizer, question, a, b, labels),
                        1
                        - preference(model, tokenizer, question, b, a, labels),
                    ]
                    for name, (a, b) in versus.items()
                }
            )
        result[labels] = rows
    return result


def sums(model, tokenizer) -> list[dict]:
    rows = []
    for question, good in tqdm(cases()["cuentas"]["preguntas"]):
        alone = [
            {
                "role": "user",
                "content": question + " Responde solo con el número.",
            }
        ]
        direct = answer(model, tokenizer, alone, 9, r"\d{1,8}")
        said, messages = agent(model, tokenizer, question)
        log = [m["content"] for m in messages[2:]]
        rows.append(
            {"question": question, "good": str(good), "direct": direct}
            | {"agent": said, "log": log}
        )
    return rows


def known(model, tokenizer) -> list[dict]:
    """Lo que contesta él mismo a las preguntas del juez."""
    rows = []
    for question, good, _, key in tqdm(cases()["juez"]["parejas"]):
        asked = [{"role": "user", "content": question + SHORT}]
        said = answer(model, tokenizer, asked, 16)
        fine = bool(re.search(rf"\b({key})", said, re.I))
        rows.append({"question": question, "good": good, "said": said})
        rows[-1]["right"] = fine
    return rows


PARTS = {"rag": rag, "judge": judge, "known": known, "agent": sums}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--machine", default="2 núcleos x86-64, sin GPU")
    asked = options.parse_args()
    path = Path(HOME / "campo.json")
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    torch.set_grad_enabled(False)
    model, tokenizer = load_model(dtype=torch.float32, device="cpu")
    kept["conditions"] = conditions(model) | {"machine": asked.machine}
    for name in asked.only:
        kept[name] = PARTS[name](model, tokenizer)
        save_json(path, kept)


if __name__ == "__main__":
    main()
