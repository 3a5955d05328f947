"""Alrededor del modelo: buscar, calcular, actuar y juzgar."""

import ast
import json
import operator
import random
import re

import pytest
import torch
from torch.nn.functional import normalize

from tokenatoken import CourseError, field
from tokenatoken.cache import make_cache
from tokenatoken.chat import chat_ids
from tokenatoken.constrained import choose
from tokenatoken.forward import forward
from tokenatoken.generation import end_ids
from tokenatoken.tokens import encode

from .test_notebook_code import definitions
from .tiny import ended_tokenizer, wide_model

TOKENIZER = ended_tokenizer()
MODEL = wide_model(len(TOKENIZER))
NAMES = "vectors", "nearest", "calculate", "agent", "answer", "preference"
UNIT13 = definitions("13_en_la_pizarra.ipynb", *NAMES)
UNIT13 |= dict(ast=ast, json=json, normalize=normalize, choose=choose)
UNIT13 |= dict(CourseError=CourseError, encode=encode, chat_ids=chat_ids)
UNIT13 |= dict(make_cache=make_cache, end_ids=end_ids)
UNIT13 |= dict(forward=forward, OPERATIONS=field.OPERATIONS)
UNIT13 |= dict(ACTION=field.ACTION, RULES=field.RULES)


@pytest.fixture(autouse=True)
def ended_model(monkeypatch):
    end = TOKENIZER.eos_token_id
    monkeypatch.setattr(MODEL.generation_config, "eos_token_id", end)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("seed", range(30))
def test_calculate_is_arithmetic(seed):
    luck = random.Random(seed)
    a, b, c = (luck.randint(1, 999) for _ in range(3))
    for sign, does in (
        ("+", operator.add),
        ("-", operator.sub),
        ("*", operator.mul),
        ("/", operator.truediv),
    ):
        text = f"{a} {sign} {b}"
        assert field.calculate(text) == f"{does(a, b):.10g}"
        assert UNIT13["calculate"](text) == field.calculate(text)
    assert field.calculate(f"({a} + {b}) * {c}") == f"{(a + b) * c:.10g}"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "a",
        "1 ** 9",
        "'a' * 3",
        "True + 1",
        "1.5 + 1",
        "[1]",
        "-5",
        "1 if 1 else 2",
        "1 +",
        "",
        "1 / 0",
        "1; 2",
        "9" * 400 + " / 3",
    ],
)
def test_calculate_refuses_the_rest(text):
    with pytest.raises(CourseError):
        field.calculate(text)


def test_the_cell_and_the_helper_agree():
    texts = ["El tranvía llega al faro.", "El queso se cura en cuevas."]
    ours = UNIT13["vectors"](MODEL, TOKENIZER, texts, 1)
    theirs = field.vectors(MODEL, TOKENIZER, texts, 1)
    assert ours.shape == (2, 32) and torch.equal(ours, theirs)
    questions = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    documents = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    found = field.nearest(questions, documents)
    assert found == UNIT13["nearest"](questions, documents)
    q, d = (x - documents.mean(0) for x in (questions, documents))
    by_hand = torch.cosine_similarity(q[:, None], d[None], dim=-1).argmax(1)
    assert found == by_hand.tolist()
    alone = [field.nearest(q[None], documents)[0] for q in questions]
    assert alone == found, "una pregunta no depende de las demás"
    args = MODEL, TOKENIZER, "¿Qué?", "uno", "dos"
    assert field.preference(*args) == UNIT13["preference"](*args)


def test_preference_is_a_share_of_two():
    a = field.preference(MODEL, TOKENIZER, "¿Qué?", "uno", "dos", "12")
    assert 0 < a < 1


@pytest.mark.parametrize("question", ["¿Cuánto es 3 × 4?", "Suma 1 y 2"])
def test_an_agent_always_speaks_in_actions(question):
    said, messages = field.agent(MODEL, TOKENIZER, question, steps=3)
    again, same = UNIT13["agent"](MODEL, TOKENIZER, question, steps=3)
    assert said == again
    roles = [m["role"] for m in messages]
    assert roles[:2] == ["system", "user"]
    for message in messages[2:]:
        if message["role"] == "assistant":
            assert re.fullmatch(field.ACTION, message["content"])
        else:
            assert re.match("Resultado: |Error: ", message["content"])
    assert (said is None) == (len(messages) == 8)


def test_the_agent_reads_what_its_tool_says(monkeypatch):
    written = iter(
        [
            '{"accion": "calcular", "entrada": "6 / 0"}',
            '{"accion": "calcular", "entrada": "6 * 7"}',
            '{"accion": "responder", "entrada": "42"}',
        ]
    )
    heard = []

    def answer(model, tokenizer, messages, limit, pattern=""):
        heard.append(messages[-1]["content"])
        return next(written)

    monkeypatch.setattr(field, "answer", answer)
    said, messages = field.agent(None, None, "¿6 × 7?")
    assert said == "42" and heard[2] == "Resultado: 42"
    assert heard[1].startswith("Error: ") and messages[1]["role"] == "user"
    assert messages[3]["role"] == "user"  # el resultado no lo dice el modelo
