"""Lo que se construye alrededor de un modelo: buscar, usar una herramienta y
juzgar.

Nada de esto cambia un peso: todo es prompt, logits y un bucle por fuera. No
sabe nada de figuras.
"""

import ast
import json
import operator

import torch
from torch.nn.functional import normalize

from . import CourseError
from .cache import make_cache
from .chat import chat_ids
from .constrained import choose
from .forward import forward
from .generation import end_ids, generate_steps, greedy
from .tokens import encode

OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
ACTION = (
    r'\{"accion": "(calcular", "entrada": "\d{1,6} [-+*/] \d{1,6}'
    r'|responder", "entrada": "\d{1,8})"\}'
)
RULES = """Resuelves cuentas paso a paso. Cada turno es una acción en JSON:
{"accion": "calcular", "entrada": "12 * 3"} usa la calculadora (+, -, *, /)
{"accion": "responder", "entrada": "36"} cuando ya sabes el resultado"""


@torch.inference_mode()
def states(model, tokenizer, text: str) -> torch.Tensor:
    """Los estados ocultos de un texto, `[capas + 1, n − 1, D]`, sin el primer
    token (su vector es enorme y casi igual en todos los textos)."""
    ids = torch.tensor([encode(tokenizer, text)], device=model.device)
    output = model.model(ids, output_hidden_states=True)
    return torch.stack(output.hidden_states)[:, 0, 1:].float()


def vectors(model, tokenizer, texts: list[str], layer: int) -> torch.Tensor:
    """Un vector por texto, `[N, D]`: la media de los estados ocultos de sus
    tokens a la salida de esa capa, sin el primero."""
    return torch.stack(
        [states(model, tokenizer, text)[layer].mean(0) for text in texts]
    )


def nearest(questions: torch.Tensor, documents: torch.Tensor) -> list[int]:
    """El documento más parecido a cada pregunta, por coseno y tras restar la
    media de los documentos: `[Q, D]` y `[N, D]` → Q números."""
    mean = documents.mean(0)  # lo que tienen todos en común no distingue
    q, d = (normalize(x - mean, dim=-1) for x in (questions, documents))
    return (q @ d.T).argmax(-1).tolist()


def answer(model, tokenizer, messages, limit: int, pattern: str = "") -> str:
    """Lo que contesta con greedy, con la forma de `pattern` si la hay."""
    ids = torch.tensor([chat_ids(tokenizer, messages)], device=model.device)
    pick = greedy
    if pattern:
        pick = choose(tokenizer, pattern, max_new_tokens=limit)
        limit += 1  # el token de fin
    steps = generate_steps(
        model,
        ids,
        max_new_tokens=limit,
        choose=pick,
        cache=make_cache(model),
    )
    ends = end_ids(model)
    return tokenizer.decode(
        [s.token_id for s in steps if s.token_id not in ends]
    )


def calculate(expression: str) -> str:
    """El resultado de una cuenta con + - * /, y nada más: no es `eval`.

    Lanza `ValueError` si hay cualquier otra cosa, o si no tiene resultado.
    """

    def value(node):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
            sides = value(node.left), value(node.right)
            return OPERATIONS[type(node.op)](*sides)
        raise CourseError(
            f"{expression!r:.60} no es una cuenta: solo números enteros y "
            "+ - * /."
        )

    try:
        return f"{value(ast.parse(expression, mode='eval').body):.10g}"
    except (SyntaxError, ZeroDivisionError, OverflowError) as error:
        raise CourseError(
            f"{expression!r:.60} no tiene resultado: revisa los números y "
            "que no divida entre cero."
        ) from error


def agent(model, tokenizer, question: str, steps: int = 4):
    """`(respuesta, lo que pasó)` de un agente con calculadora: escribe una
    acción, se ejecuta, lee el resultado y decide de nuevo (ReAct). La
    respuesta es None si en `steps` turnos no la da."""
    messages = [
        {"role": "system", "content": RULES},
        {"role": "user", "content": question},
    ]
    for _ in range(steps):
        text = answer(model, tokenizer, messages, 40, ACTION)
        messages.append({"role": "assistant", "content": text})
        action = json.loads(text)
        if action["accion"] == "responder":
            return action["entrada"], messages
        try:
            result = f"Resultado: {calculate(action['entrada'])}"
        except CourseError as error:
            result = f"Error: {error}"
        messages.append({"role": "user", "content": result})
    return None, messages


def preference(
    model, tokenizer, question: str, first: str, second: str, labels="AB"
) -> float:
    """Cuánto prefiere el modelo la primera respuesta, de 0 a 1, si se le pide
    que elija una letra: solo se miran los logits de las dos."""
    a, b = labels
    text = (
        f"Pregunta: {question}\n\nRespuesta {a}: {first}\nRespuesta {b}: "
        f"{second}\n\n¿Qué respuesta es mejor? Contesta solo «{a}» o «{b}»."
    )
    ids = chat_ids(tokenizer, [{"role": "user", "content": text}])
    logits = forward(model, torch.tensor([ids], device=model.device))[0]
    pair = [encode(tokenizer, label)[0] for label in labels]
    return logits[pair].softmax(-1)[0].item()
