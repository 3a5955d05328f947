"""Mide lo que un modelo ve, y lo que no, a través de los tokens (unidad 01).

    python -m tools.pieces

Rehace tokenatoken/data/piezas/piezas.json con las palabras de casos.toml:
seis preguntas que se responden con las piezas a la vista y otras seis,
parecidas, para las que hay que abrirlas o juntarlas. 40 casos cada una; greedy, fp32, el
texto tal cual, sin plantilla de chat. Cinco minutos.
"""

import random
import tomllib

import torch
from tqdm.auto import tqdm

from tokenatoken.forward import all_logits, prompt_ids
from tokenatoken.measurements import SAMPLES, conditions
from tokenatoken.model import load_model
from tokenatoken.tokens import encode

from . import parser, save_json

HOME = SAMPLES.parent / "piezas"
CASES = tomllib.loads((HOME / "casos.toml").read_text("utf-8"))
UNITS, TENS, HUNDREDS = (
    CASES[kind].split() for kind in ("unidades", "decenas", "centenas")
)
SHOWN = (112, 235), (431, 146)


def in_words(n: int) -> str:
    """Un número de 0 a 999, escrito: 347 → «trescientos cuarenta y siete»."""
    if n < 30:
        return UNITS[n]
    if n < 100:
        rest = f" y {UNITS[n % 10]}" if n % 10 else ""
        return TENS[n // 10 - 3] + rest
    if n == 100:
        return "cien"
    rest = f" {in_words(n % 100)}" if n % 100 else ""
    return HUNDREDS[n // 100 - 1] + rest


def spelling(words, how: str = "se deletrea", turn=str) -> dict:
    """«s o l» se deletrea s-o-l, con las letras sueltas y juntas."""

    def ask(write, w):
        shown = " ".join(
            f"«{write(x)}» {how} {'-'.join(turn(x))}."
            for x in ("sol", "reloj")
        )
        return f"{shown} «{write(w)}» {how}", f" {'-'.join(turn(w))}"

    return {
        "open": [ask(" ".join, w) for w in words],
        "closed": [ask(str, w) for w in words],
    }


def sums(count: int) -> dict:
    """Sumas de dos números de tres cifras, con cifras y con letras."""
    rng, rows = random.Random(0), {"open": [], "closed": []}
    for _ in range(count):
        a, b = rng.randrange(100, 500), rng.randrange(100, 500)
        for name, write in (("open", str), ("closed", in_words)):
            shown = (f"{write(x)} + {write(y)} = {x + y}" for x, y in SHOWN)
            ask = "\n".join([*shown, f"{write(a)} + {write(b)} ="])
            rows[name].append((ask, f" {a + b}"))
    return rows


def translations(known: dict) -> list:
    shown = "Español: mañana fría. Inglés: cold morning.\nEspañol: "
    return [(f"{shown}{w}. Inglés:", f" {t}") for w, t in known.items()]


def backwards(words) -> dict:
    """«s o l» al revés es l-o-s, con las letras sueltas y juntas."""
    return spelling(words, "al revés es", lambda w: w[::-1])


def names(surnames) -> dict:
    """Copiar un apellido, y deletrearlo."""
    asks = (
        f"Me llamo Ana {w} y vivo en Lima. Mi apellido es" for w in surnames
    )
    return {
        "open": [(ask, f" {w}") for ask, w in zip(asks, surnames)],
        "closed": spelling(surnames)["closed"],
    }


def choices(pairs: dict) -> dict:
    """Elegir, entre dos palabras, la que rima o la que va con otra. La mala es
    la buena de otra pareja."""
    words = list(pairs)
    starts = {
        "open": "«pez» va con «agua». «tren» va con «vía». «{}» va con «",
        "closed": "«pez» rima con «vez». «tren» rima con «sien». «{}» rima con «",
    }
    rows = {}
    for name, column in (("open", 1), ("closed", 0)):
        good = [pairs[w][column] for w in words]
        other = good[7:] + good[:7]
        rows[name] = [
            (starts[name].format(w), f"{g}»", f"{o}»")
            for w, g, o in zip(words, good, other)
        ]
    return rows


def tests() -> dict:
    words, surnames = (CASES[k].split() for k in ("palabras", "apellidos"))
    return {
        "deletrear": spelling(words),
        "darle la vuelta": backwards(words),
        "rimas": choices(CASES["parejas"]),
        "cifras": sums(40),
        "traducir": {
            "open": translations(CASES["frecuentes"]),
            "closed": translations(CASES["raras"]),
        },
        "un apellido": names(surnames),
    }


def written(model, tokenizer, cases: list) -> list[str]:
    """Lo que escribe con greedy tras cada prompt, todos en un lote: tantos
    tokens como la respuesta y dos más."""
    sizes = [len(encode(tokenizer, answer)) + 2 for _, answer in cases]
    batch = tokenizer(
        [prompt for prompt, _ in cases],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    out = model.generate(**batch, max_new_tokens=max(sizes), do_sample=False)
    new = out[:, batch.input_ids.shape[1] :]  # [B, nuevos]
    return [tokenizer.decode(row[:n]) for row, n in zip(new, sizes)]


def preferred(model, tokenizer, prompt: str, *answers: str) -> str:
    """De varias respuestas, la de mayor probabilidad."""
    start = len(encode(tokenizer, prompt))

    def score(answer):
        ids = prompt_ids(model, tokenizer, prompt + answer)
        logprobs = all_logits(model, ids)[0, :-1].log_softmax(-1)
        came = logprobs.gather(1, ids[0, 1:, None])[start - 1 :]
        return came.sum().item()

    return max(answers, key=score)


def right(wrote: str, answer: str) -> bool:
    """Si escribe la respuesta entera, y no otra más larga. Al deletrear, un
    espacio vale como guion: «p-e-r r o» es «perro»."""
    if "-" in answer:
        wrote, answer = (t.replace("-", " ") for t in (wrote, answer))
        rest = wrote[len(answer) :].strip()
    else:
        rest = wrote[len(answer) :]
    return wrote.startswith(answer) and not rest[:1].isalnum()


@torch.inference_mode()
def measure(model, tokenizer, cases: list, size: int = 20) -> list[dict]:
    wrote = []
    for i in tqdm(range(0, len(cases), size)):
        part = cases[i : i + size]
        if len(part[0]) == 3:  # a elegir entre dos
            wrote += [preferred(model, tokenizer, *case) for case in part]
        else:
            wrote += written(model, tokenizer, part)
    return [
        {"prompt": prompt, "answer": answer, "wrote": text}
        | {"ok": right(text, answer)}
        for (prompt, answer, *_), text in zip(cases, wrote)
    ]


def main() -> None:
    parser(__doc__).parse_args()
    model, tokenizer = load_model(dtype=torch.float32, device="cpu")
    content = {"conditions": conditions(model)}
    for name, kinds in tests().items():
        content[name] = {
            kind: measure(model, tokenizer, cases)
            for kind, cases in kinds.items()
        }
        hits = {
            k: sum(r["ok"] for r in rows) for k, rows in content[name].items()
        }
        print(name, hits)
    save_json(HOME / "piezas.json", content)


if __name__ == "__main__":
    main()
