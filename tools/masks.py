"""Compara la máscara del curso con las de llguidance y outlines-core.

    python -m tools.masks

Recorre al azar siete patrones con el tokenizador del curso y guarda, en
tokenatoken/data/mascaras.json, un resumen del conjunto permitido en cada
estado según cada biblioteca. Las pruebas y la unidad 09 lo comparan con lo
suyo sin tenerlas instaladas.
"""

import hashlib
import random
from importlib.metadata import version

import llguidance
import llguidance.hf
import llguidance.torch
import numpy as np
import outlines_core

from tokenatoken.constrained import Automaton, vocabulary
from tokenatoken.grammar import regex
from tokenatoken.model import load_tokenizer

from . import ROOT, save_json

ROWS = 151_936  # los logits del modelo: más filas que tokens
WALKS, STEPS = 24, 40
CHARACTER = r'([^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00[01][0-9a-f])'
COLOUR = r'"(rojo|rojizo|azul|añil)"'
PATTERNS = {
    "objeto": rf'\{{"nombre": ?"{CHARACTER}*", ?"edad": ?-?(0|[1-9][0-9]*)\}}',
    "texto corto": r'"[^"\\\x00-\x1f]{2,6}"',
    "lista": rf"\[({COLOUR}(, ?{COLOUR}){{0,4}})?\]",
    "matrícula": "[0-9]{4} [BCDFGHJKLMNPRSTVWXYZ]{3}",
    "fecha": "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "griego": r"[α-ωά-ώ]+( [α-ω]+)*\.",
    "frase abierta": r"(Sí|No)(, (pero|y|aunque) .{1,20})?\.",
}


def digest(ids) -> str:
    """Un resumen corto de un conjunto de ids."""
    ordered = np.sort(np.asarray(list(ids), dtype="<i4"))
    return hashlib.sha256(ordered.tobytes()).hexdigest()[:12]


class LLGuidance:
    """El conjunto permitido según llguidance, que sin `no_forcing` deja solo
    el token que él escribiría cuando los bytes que siguen están forzados."""

    def __init__(self, tokenizer):
        self.words = llguidance.hf.from_tokenizer(tokenizer, n_vocab=ROWS)
        self.mask = llguidance.torch.allocate_token_bitmask(1, ROWS)

    def begin(self, pattern: str):
        body = pattern.replace("/", r"\/")
        grammar = llguidance.LLMatcher.grammar_from_lark(
            f'%llguidance {{"no_forcing": true}}\nstart: /{body}/'
        )
        self.matcher = llguidance.LLMatcher(self.words, grammar)
        if self.matcher.get_error():
            raise SystemExit(self.matcher.get_error())

    def fill(self):
        """La máscara, un bit por token, en `self.mask`."""
        llguidance.torch.fill_next_token_bitmask(self.matcher, self.mask, 0)

    def allowed(self) -> np.ndarray:
        self.fill()
        bits = np.unpackbits(
            self.mask.numpy().view(np.uint8), bitorder="little"
        )
        return np.flatnonzero(bits[:ROWS])

    def read(self, token: int):
        self.matcher.consume_token(token)


class Outlines:
    """El conjunto permitido según outlines-core; None si ya no sigue."""

    def __init__(self, words):
        texts = {text: [token] for text, token in words.texts.items()}
        self.words = outlines_core.Vocabulary(words.end, texts)
        self.indexes = {}

    def begin(self, pattern: str):
        if pattern not in self.indexes:
            self.indexes[pattern] = outlines_core.Index(pattern, self.words)
        self.index = self.indexes[pattern]
        self.state = self.index.get_initial_state()

    def allowed(self):
        if self.state is None:
            return None
        return self.index.get_allowed_tokens(self.state)

    def read(self, token: int):
        if self.state is not None:
            self.state = self.index.get_next_state(self.state, token)


def walk(automaton: Automaton, libraries: dict, pattern: str, seed: int):
    """Un paseo al azar: sus ids, y el resumen de cada biblioteca en cada
    estado por el que pasa."""
    choice, state, ids = random.Random(seed), automaton.start, []
    found = {name: [] for name in libraries}
    for library in libraries.values():
        library.begin(pattern)
    for _ in range(STEPS):
        for name, library in libraries.items():
            allowed = library.allowed()
            found[name].append(None if allowed is None else digest(allowed))
        row = automaton.row(state).ids.sort().values
        if not len(row):
            break
        token = int(row[choice.randrange(len(row))])
        ids.append(token)
        state = automaton.read(state, token)
        for library in libraries.values():
            library.read(token)
    return {"ids": ids} | found


def main() -> None:
    tokenizer = load_tokenizer()
    words = vocabulary(tokenizer)
    libraries = {
        "llguidance": LLGuidance(tokenizer),
        "outlines-core": Outlines(words),
    }
    patterns = {}
    for name, pattern in PATTERNS.items():
        automaton = Automaton(regex(pattern), words)
        walks = [
            walk(automaton, libraries, pattern, seed) for seed in range(WALKS)
        ]
        patterns[name] = {"regex": pattern, "walks": walks}
        print(name, sum(len(w["llguidance"]) for w in walks), "pasos")
    content = {
        "versions": {name: version(name) for name in libraries},
        "patterns": patterns,
    }
    save_json(ROOT / "tokenatoken" / "data" / "mascaras.json", content, None)


if __name__ == "__main__":
    main()
