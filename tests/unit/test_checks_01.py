"""Mutantes de la unidad 01: respuestas equivocadas que hay que rechazar."""

import unicodedata
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tokenatoken.checks import check
from tokenatoken.checks.bench import LOGS, PARAGRAPH
from tokenatoken.model import load_tokenizer
from tokenatoken.tokens import encode, token_bytes

from .verdicts import accepted, enough_mutants, rejected

TOKENIZER = load_tokenizer()


def n(text):
    return len(encode(TOKENIZER, text))


def chatml(message):
    return f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"


def back(text):
    return TOKENIZER.decode(encode(TOKENIZER, text))


def cost(path, price):
    count = n(Path(path).read_text(encoding="utf-8"))
    return count, count * price / 1e6


def spaced(words):
    return [w for w in words if n(w) != n(" " + w)]


def merge(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        out.append(new_id if found else ids[i])
        i += 2 if found else 1
    return out


def bpe_encode(text, merges):
    ids = list(text.encode())
    for new_id, pair in enumerate(merges, 256):
        ids = merge(ids, pair, new_id)
    return ids


def table(merges):
    pieces = [bytes([b]) for b in range(256)]
    for a, b in merges:
        pieces.append(pieces[a] + pieces[b])
    return pieces


def bpe_decode(ids, merges):
    return b"".join(table(merges)[i] for i in ids).decode()


CORRECT = {
    "01.1": (chatml, back),
    "01.2": (cost,),
    "01.3": ("mate", "otorrinolaringólogo"),
    "01.4": (spaced,),
    "01.5": (bpe_encode, bpe_decode),
    "01.6": (LOGS,),
}


@pytest.mark.parametrize("number", CORRECT)
def test_reference_is_accepted(number):
    accepted(number, *CORRECT[number])


def two_levels(ids, merges):
    for _ in range(2):
        ids = [j for i in ids for j in ([i] if i < 256 else merges[i - 256])]
    return bytes(ids).decode()


def by_words(text, merges):
    words = [bpe_encode(word, merges) for word in text.split(" ")]
    return [i for word in words for i in (*word, 32)][:-1]


def empties_merges(text, merges):
    ids, new_id = list(text.encode()), 256
    while merges:
        ids = merge(ids, merges.pop(0), new_id)
        new_id += 1
    return ids


def first_id_is(start):
    def encode_from(text, merges):
        ids = list(text.encode())
        for new_id, pair in enumerate(merges, start):
            ids = merge(ids, pair, new_id)
        return ids

    return encode_from


def by_lines(path, price):
    with open(path, encoding="utf-8") as file:
        count = sum(n(line) for line in file)
    return count, count * price / 1e6


def by_chunks(path, price):
    text = path.read_text(encoding="utf-8")
    count = sum(n(text[i : i + 1000]) for i in range(0, len(text), 1000))
    return count, count * price / 1e6


def stripped(path, price):
    count = n(path.read_text(encoding="utf-8").rstrip("\n"))
    return count, count * price / 1e6


def with_system(message):
    system = "<|im_start|>system\nEres útil.<|im_end|>\n"
    return system + chatml(message)


def greedy_longest(text, merges):
    pieces = {piece: i for i, piece in enumerate(table(merges))}
    raw, ids = text.encode(), []
    while raw:
        size = max(k for k in range(1, len(raw) + 1) if raw[:k] in pieces)
        ids.append(pieces[raw[:size]])
        raw = raw[size:]
    return ids


def merge_once(text, merges):
    ids = list(text.encode())
    for new_id, pair in enumerate(merges, 256):
        for i in range(len(ids) - 1):
            if (ids[i], ids[i + 1]) == pair:
                ids[i : i + 2] = [new_id]
                break
    return ids


def backwards(text, merges):
    ids = list(text.encode())
    for new_id, pair in reversed(list(enumerate(merges, 256))):
        ids = merge(ids, pair, new_id)
    return ids


def from_the_right(text, merges):
    ids = list(text.encode())
    for new_id, (a, b) in enumerate(merges, 256):
        ids = merge(ids[::-1], (b, a), new_id)[::-1]
    return ids


def only_first_merge(text, merges):
    return merge(list(text.encode()), merges[0], 256)


def by_codepoint(text, merges):
    ids = [ord(c) for c in text]
    for new_id, pair in enumerate(merges, 256):
        ids = merge(ids, pair, new_id)
    return ids


def in_latin1(text, merges):
    ids = list(text.encode("latin-1", "replace"))
    for new_id, pair in enumerate(merges, 256):
        ids = merge(ids, pair, new_id)
    return ids


def decode_one_by_one(ids, merges):
    return "".join(table(merges)[i].decode(errors="replace") for i in ids)


def decode_chr(ids, merges):
    return "".join(chr(b) for i in ids for b in table(merges)[i])


def decode_one_level(ids, merges):
    flat = []
    for i in ids:
        flat += [i] if i < 256 else merges[i - 256]
    return bytes(b for b in flat if b < 256).decode(errors="replace")


MUTANTS = {
    "mensaje sin bordes": ("01.1", (lambda m: chatml(m.strip()), back)),
    "se salta los especiales": (
        "01.1",
        (
            chatml,
            lambda t: TOKENIZER.decode(
                encode(TOKENIZER, t), skip_special_tokens=True
            ),
        ),
    ),
    "vuelta que devuelve ids": (
        "01.1",
        (chatml, lambda t: encode(TOKENIZER, t)),
    ),
    "vuelta que devuelve un array": (
        "01.1",
        (chatml, lambda t: np.array(encode(TOKENIZER, t))),
    ),
    "papel en español": (
        "01.1",
        (lambda m: chatml(m).replace("user", "usuario"), back),
    ),
    "línea a línea con saltos": ("01.2", (by_lines,)),
    "a trozos": ("01.2", (by_chunks,)),
    "sin el salto final": ("01.2", (stripped,)),
    "precio fijo": (
        "01.2",
        (lambda p, x: (cost(p, x)[0], cost(p, 2.5)[1]),),
    ),
    "coste redondeado": (
        "01.2",
        (lambda p, x: (cost(p, x)[0], round(cost(p, x)[1], 4)),),
    ),
    "coste sin dividir": (
        "01.2",
        (lambda p, x: (cost(p, x)[0], cost(p, x)[0] * x),),
    ),
    "coste en texto": (
        "01.2",
        (lambda p, x: (cost(p, x)[0], f"{cost(p, x)[1]} €"),),
    ),
    "ids en vez de cuántos": (
        "01.2",
        (lambda p, x: (encode(TOKENIZER, p.read_text()), cost(p, x)[1]),),
    ),
    "bajan y luego suben": (
        "01.4",
        (
            lambda ws: (
                [w for w in ws if n(w) > n(" " + w)]
                + [w for w in ws if n(w) < n(" " + w)]
            ),
        ),
    ),
    "sin repetidas": ("01.4", (lambda ws: list(dict.fromkeys(spaced(ws))),)),
    "tuplas": ("01.4", (lambda ws: [(w, n(w)) for w in spaced(ws)],)),
    "arrays": ("01.4", (lambda ws: [np.array([1, 2])],)),
    "dos niveles": ("01.5", (bpe_encode, two_levels)),
    "palabra a palabra": ("01.5", (by_words, bpe_decode)),
    "vacía las fusiones": ("01.5", (empties_merges, bpe_decode)),
    "ids desde 257": ("01.5", (first_id_is(257), bpe_decode)),
    "ids desde 0": ("01.5", (first_id_is(0), bpe_decode)),
    "ids como texto": (
        "01.5",
        (lambda t, m: [str(i) for i in bpe_encode(t, m)], bpe_decode),
    ),
    "en minúsculas": (
        "01.5",
        (lambda t, m: bpe_encode(t.lower(), m), bpe_decode),
    ),
    "sin bordes": (
        "01.5",
        (lambda t, m: bpe_encode(t.strip(), m), bpe_decode),
    ),
    "en latin-1": ("01.5", (in_latin1, bpe_decode)),
    "decodifica a bytearray": (
        "01.5",
        (bpe_encode, lambda i, m: bytearray(bpe_decode(i, m).encode())),
    ),
    "tokenizadores enteros": (
        "01.6",
        ({log: load_tokenizer(name) for log, name in LOGS.items()},),
    ),
    "nombres en un array": (
        "01.6",
        ({k: np.array([v]) for k, v in LOGS.items()},),
    ),
    "plantilla sin salto final": ("01.1", (lambda m: chatml(m)[:-1], back)),
    "turno del modelo cerrado": (
        "01.1",
        (lambda m: chatml(m) + "<|im_end|>", back),
    ),
    "turno de la persona abierto": (
        "01.1",
        (lambda m: chatml(m).replace("<|im_end|>", ""), back),
    ),
    "espacios en vez de saltos": (
        "01.1",
        (lambda m: chatml(m).replace("\n", " "), back),
    ),
    "con system": ("01.1", (with_system, back)),
    "mensaje fijo": ("01.1", (lambda m: chatml("Hola"), back)),
    "mensaje recortado": ("01.1", (lambda m: chatml(m.split("\n")[0]), back)),
    "mensaje sin espacios": ("01.1", (lambda m: chatml(m.strip("¿")), back)),
    "plantilla sin asistente": (
        "01.1",
        (lambda m: f"<|im_start|>user\n{m}<|im_end|>\n", back),
    ),
    "devuelve ids": ("01.1", (lambda m: encode(TOKENIZER, chatml(m)), back)),
    "vuelta sin pasar por ids": ("01.1", (chatml, lambda t: t)),
    "vuelta en NFD": (
        "01.1",
        (chatml, lambda t: unicodedata.normalize("NFD", t)),
    ),
    "vuelta con strip": ("01.1", (chatml, lambda t: back(t).strip())),
    "vuelta token a token": (
        "01.1",
        (
            chatml,
            lambda t: "".join(
                TOKENIZER.decode([i]) for i in encode(TOKENIZER, t)
            ),
        ),
    ),
    "vuelta con otro tokenizador": (
        "01.1",
        (
            chatml,
            lambda t: load_tokenizer("minilm").decode(encode(TOKENIZER, t)),
        ),
    ),
    "cuenta palabras": (
        "01.2",
        (
            lambda p, x: (
                len(p.read_text().split()),
                len(p.read_text().split()) * x / 1e6,
            ),
        ),
    ),
    "cuenta caracteres": (
        "01.2",
        (lambda p, x: (len(p.read_text()), len(p.read_text()) * x / 1e6),),
    ),
    "caracteres entre cuatro": (
        "01.2",
        (
            lambda p, x: (
                len(p.read_text()) // 4,
                len(p.read_text()) // 4 * x / 1e6,
            ),
        ),
    ),
    "precio por mil": (
        "01.2",
        (lambda p, x: (cost(p, x)[0], cost(p, x * 1000)[1]),),
    ),
    "precio ignorado": (
        "01.2",
        (lambda p, x: (cost(p, x)[0], cost(p, 1)[1]),),
    ),
    "coste antes que tokens": ("01.2", (lambda p, x: cost(p, x)[::-1],)),
    "solo el coste": ("01.2", (lambda p, x: cost(p, x)[1],)),
    "lee en latin-1": (
        "01.2",
        (
            lambda p, x: (
                n(p.read_text(encoding="latin-1")),
                n(p.read_text(encoding="latin-1")) * x / 1e6,
            ),
        ),
    ),
    "línea a línea sin saltos": (
        "01.2",
        (
            lambda p, x: (
                sum(map(n, p.read_text().splitlines())),
                sum(map(n, p.read_text().splitlines())) * x / 1e6,
            ),
        ),
    ),
    "otro tokenizador": (
        "01.2",
        (
            lambda p, x: (
                len(load_tokenizer("smollm2").encode(p.read_text())),
                len(load_tokenizer("smollm2").encode(p.read_text())) * x / 1e6,
            ),
        ),
    ),
    "cuenta la ruta": (
        "01.2",
        (lambda p, x: (n(str(p)), n(str(p)) * x / 1e6),),
    ),
    "palabras cambiadas": ("01.3", ("otorrinolaringólogo", "mate")),
    "fuera del párrafo": ("01.3", ("casa", "otorrinolaringólogo")),
    "inglés": ("01.3", ("the", "otorrinolaringólogo")),
    "con espacio": ("01.3", (" mate", "otorrinolaringólogo")),
    "cuatro tokens": ("01.3", ("mate", "murciélago")),
    "dos palabras": ("01.3", ("mate", "desayunaba mate")),
    "todo el párrafo": ("01.3", ("mate", PARAGRAPH)),
    "sin tilde": ("01.3", ("mate", "otorrinolaringologo")),
    "números": ("01.3", (1, 5)),
    "solo las que bajan": (
        "01.4",
        (lambda ws: [w for w in ws if n(w) > n(" " + w)],),
    ),
    "solo las que suben": (
        "01.4",
        (lambda ws: [w for w in ws if n(w) < n(" " + w)],),
    ),
    "compara ids": (
        "01.4",
        (
            lambda ws: [
                w
                for w in ws
                if encode(TOKENIZER, w) != encode(TOKENIZER, " " + w)
            ],
        ),
    ),
    "espacio detrás": (
        "01.4",
        (lambda ws: [w for w in ws if n(w) != n(w + " ")],),
    ),
    "las que no cambian": (
        "01.4",
        (lambda ws: [w for w in ws if n(w) == n(" " + w)],),
    ),
    "con el espacio puesto": (
        "01.4",
        (lambda ws: [" " + w for w in spaced(ws)],),
    ),
    "desordenadas": ("01.4", (lambda ws: spaced(ws)[::-1],)),
    "repetidas": ("01.4", (lambda ws: spaced(ws) * 2,)),
    "conjunto": ("01.4", (lambda ws: set(spaced(ws)),)),
    "todas": ("01.4", (lambda ws: ws,)),
    "sin fusiones": ("01.5", (lambda t, m: list(t.encode()), bpe_decode)),
    "solo la primera fusión": ("01.5", (only_first_merge, bpe_decode)),
    "una vez cada fusión": ("01.5", (merge_once, bpe_decode)),
    "fusiones al revés": ("01.5", (backwards, bpe_decode)),
    "de derecha a izquierda": ("01.5", (from_the_right, bpe_decode)),
    "la pieza más larga": ("01.5", (greedy_longest, bpe_decode)),
    "por carácter": ("01.5", (by_codepoint, bpe_decode)),
    "codifica en bytes": ("01.5", (lambda t, m: t.encode(), bpe_decode)),
    "codifica texto": ("01.5", (lambda t, m: t, bpe_decode)),
    "decodifica uno a uno": ("01.5", (bpe_encode, decode_one_by_one)),
    "decodifica con chr": ("01.5", (bpe_encode, decode_chr)),
    "decodifica un nivel": ("01.5", (bpe_encode, decode_one_level)),
    "decodifica en bytes": (
        "01.5",
        (bpe_encode, lambda i, m: b"".join(table(m)[k] for k in i)),
    ),
    "decodifica e ignora": (
        "01.5",
        (
            bpe_encode,
            lambda i, m: b"".join(table(m)[k] for k in i).decode(
                "ascii", "ignore"
            ),
        ),
    ),
    "ids de tres en tres": ("01.6", ({"A": "minilm"},)),
    "nombre inventado": ("01.6", (dict.fromkeys("ABC", "gpt2"),)),
    "lista": ("01.6", (["smollm2", "qwen2.5-coder-0.5b", "minilm"],)),
}
for i, order in enumerate(permutations(LOGS.values())):
    if list(order) != list(LOGS.values()):
        MUTANTS[f"reparto {i}"] = ("01.6", (dict(zip("ABC", order)),))


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected_with_a_hint(name):
    number, answers = MUTANTS[name]
    rejected(name, number, *answers)


def test_partial_answers_are_pending():
    assert check("01.1", chatml, lambda t: ...).ok is None
    assert check("01.3", "mate", ...).ok is None
    assert check("01.6", {"A": ..., "B": ..., "C": ...}).ok is None
    assert check("01.2", lambda path, price: (..., ...)).ok is None


OTHER_RIGHT_ANSWERS = {
    "recuento de numpy y lista": (
        "01.2",
        (lambda p, x: [np.int64(cost(p, x)[0]), cost(p, x)[1]],),
    ),
    "lee con newline": (
        "01.2",
        (
            lambda p, x: (
                n(p.read_bytes().decode()),
                n(p.read_bytes().decode()) * x / 1e6,
            ),
        ),
    ),
    "ids en un array": (
        "01.5",
        (lambda t, m: np.array(bpe_encode(t, m), int), bpe_decode),
    ),
    "ids en un generador": (
        "01.5",
        (lambda t, m: (i for i in bpe_encode(t, m)), bpe_decode),
    ),
    "otra palabra": ("01.3", ("qué", "desentrañaba")),
    "vuelta por bytes": (
        "01.1",
        (
            chatml,
            lambda t: b"".join(
                token_bytes(TOKENIZER, i) for i in encode(TOKENIZER, t)
            ).decode(),
        ),
    ),
}


@pytest.mark.parametrize("name", OTHER_RIGHT_ANSWERS)
def test_other_right_answers_are_accepted(name):
    number, answers = OTHER_RIGHT_ANSWERS[name]
    verdict = check(number, *answers)
    assert verdict.ok is True, verdict


@pytest.mark.parametrize(
    "name, words",
    [
        ("en latin-1", "bytes UTF-8"),
        ("por carácter", "bytes UTF-8"),
        ("ids desde 257", "256 + i"),
        ("sin fusiones", "guardas el resultado"),
        ("fusiones al revés", "en el orden de la lista"),
        ("la pieza más larga", "pieza más larga"),
        ("precio por mil", "por cada mil"),
        ("coste sin dividir", "dividido por el millón"),
        ("cuenta palabras", "palabras"),
        ("papel en español", "papel de la persona"),
        ("tuplas", "tal como llegan"),
        ("bajan y luego suben", "orden"),
    ],
)
def test_hint_names_the_mechanism(name, words):
    number, answers = MUTANTS[name]
    assert words in check(number, *answers).message


def test_every_check_has_mutants():
    enough_mutants(MUTANTS, CORRECT)
