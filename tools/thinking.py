"""Mide si «pensar en voz alta» ayuda al modelo del curso (unidad 08).

    python -m tools.thinking --machine "2 núcleos x86-64, sin GPU"

Rehace tokenatoken/data/respuestas/pensar.json: 60 problemas, cada uno pedido
de siete maneras, con greedy. En dos núcleos tarda un cuarto de hora.
"""

import json

import torch
from tqdm.auto import tqdm

from tokenatoken.measurements import ANSWERS, conditions
from tokenatoken.model import load_model

from . import parser, save_json

SHORT = " Responde solo con el número."
END = " Termina con «Respuesta:» y el número."
STEPS = " Piensa paso a paso y termina con «Respuesta:» y el número."
WAYS = {  # nombre: (lo que se añade a la pregunta, turno prellenado, tope)
    "directo": (SHORT, "", 12),
    "la pregunta sola": ("", "", 256),
    "con «Respuesta:»": (END, "", 256),
    "paso a paso": (STEPS, "", 256),
    "«Pensemos paso a paso.» prellenado": (
        "",
        "Pensemos paso a paso.\n",
        256,
    ),
    "dentro de <think>": (SHORT, "<think>\n", 256),
    "paso a paso, <think> vacío": (STEPS, "<think>\n\n</think>\n\n", 256),
}
ROWS = 20  # problemas a la vez


def multiplica(a: int, b: int) -> int:
    """Multiplica dos enteros, sin equivocarse.

    Args:
        a: el primer número.
        b: el segundo número.
    """
    return a * b


def answers(model, tokenizer, chats, prefill, limit, **options) -> list[str]:
    """Lo que escribe tras cada charla, con la plantilla tal como viene."""
    texts = tokenizer.apply_chat_template(
        chats, tokenize=False, add_generation_prompt=True, **options
    )
    batch = tokenizer(
        [text + prefill for text in texts],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    ).to(model.device)
    out = model.generate(**batch, do_sample=False, max_new_tokens=limit)
    new = out[:, batch.input_ids.shape[1] :]
    return tokenizer.batch_decode(new, skip_special_tokens=True)


def by_parts(model, tokenizer, chats, *rest, **options) -> list[str]:
    """`answers`, de `ROWS` en `ROWS` y con su barra de progreso."""
    parts = range(0, len(chats), ROWS)
    several = (
        answers(model, tokenizer, chats[i : i + ROWS], *rest, **options)
        for i in tqdm(parts)
    )
    return [text for texts in several for text in texts]


def with_a_function(model, tokenizer, problems) -> dict:
    """Las multiplicaciones, con `multiplica` a mano: lo que pide el modelo, y
    lo que escribe al recibir el resultado, sin prellenar y prellenando."""
    pick = [i for i, p in enumerate(problems) if p["kind"] != "problema"]
    chats = [
        [{"role": "user", "content": problems[i]["question"]}] for i in pick
    ]
    tools = {"tools": [multiplica]}
    calls = by_parts(model, tokenizer, chats, "", 48, **tools)
    for i, chat, call in zip(pick, chats, calls):
        asked = {"type": "function", "function": json.loads(call)}
        chat.append(
            {"role": "assistant", "content": "", "tool_calls": [asked]}
        )
        result = str(problems[i]["answer"])
        chat.append({"role": "tool", "content": result})
    again = by_parts(model, tokenizer, chats, "", 24, **tools)
    final = by_parts(model, tokenizer, chats, "El resultado es", 24, **tools)
    return {"problems": pick, "calls": calls, "again": again, "final": final}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--machine", required=True, help="para la etiqueta")
    machine = options.parse_args().machine
    path = ANSWERS / "pensar.json"
    problems = json.loads(path.read_text(encoding="utf-8"))["problems"]
    model, tokenizer = load_model(dtype=torch.float32)
    runs = {}
    for name, (ask, prefill, limit) in WAYS.items():
        runs[name] = {"ask": ask, "prefill": prefill, "limit": limit}
        chats = [
            [{"role": "user", "content": p["question"] + ask}]
            for p in problems
        ]
        texts = by_parts(model, tokenizer, chats, prefill, limit)
        runs[name]["texts"] = texts
    content = {
        "label": machine,
        "conditions": conditions(model),
        "problems": problems,
        "runs": runs,
        "with_a_function": with_a_function(model, tokenizer, problems),
    }
    save_json(path, content)


if __name__ == "__main__":
    main()
