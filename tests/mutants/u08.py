"""Unidad 08."""

from functools import partial

from tokenatoken.chat import plain_ids
from tokenatoken.checks.unit08 import (
    MISTRAL,
    TALK,
    deepseek,
    needs_thought,
    next_prompt,
    report,
    split_open,
    starts,
    test_prefix,
)
from tokenatoken.tokens import encode

from . import wrong

# Se llama test_…, y pytest la tomaría por una prueba de aquí.
right_test = test_prefix
del test_prefix

MUTANTS = {
    "08.1": {
        "sin fin": wrong(partial(deepseek, end="")),
    },
    "08.2": {}, "08.3": {}, "08.4": {}, "08.5": {}, "08.6": {},
}
