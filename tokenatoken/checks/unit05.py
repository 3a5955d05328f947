"""Corrección del laboratorio 05 · El bucle autorregresivo."""

import json
import math

import torch

from ..generation import GenerationStep
from ..model import load_tokenizer
from . import Hint, call, exercise, expect
from .bench import CallCounter, library, prompts, tiny_model


def _ids(value, like: torch.Tensor) -> list[int]:
    expect(
        isinstance(value, torch.Tensor) and value.dim() == 2,
        "Devuelve un tensor de ids de forma [1, n], con el prompt delante.",
    )
    expect(
        value.shape[1] >= like.shape[1]
        and torch.equal(value[:, : like.shape[1]], like),
        "El resultado tiene que empezar por los ids del prompt.",
    )
    return value[0].tolist()


@exercise(
    "05.1",
    success="¡Correcto! Los mismos ids que generate, sin un forward de más.",
)
def loop(write):
    """`write(model, ids [1, n], max_new_tokens, ends) -> [1, n + nuevos]`."""
    for ids in prompts():
        free = library(ids, 12)[0, ids.shape[1] :].tolist()
        later = next((t for t in free[1:] if t != free[0]), 96)
        for limit, ends in (
            (12, ()),
            (1, ()),
            (12, (later, 95)),
            (12, (1, later)),
            (12, (free[0],)),
            (12, (ids[0, -1].item(),)),
        ):
            right = library(ids, limit, ends)[0].tolist()
            given = ids.clone()
            with CallCounter() as counter:
                value = call(write, counter.model, given, limit, set(ends))
            expect(
                torch.equal(given, ids),
                "Tu función cambia los ids que recibe. Haz otro tensor.",
            )
            ours = _ids(value, ids)
            new, wanted = len(ours) - ids.shape[1], len(right) - ids.shape[1]
            if ends:
                expect(
                    new <= wanted,
                    f"Con ends = {set(ends)} había que parar tras {wanted} "
                    f"token(s) y sigues hasta {new}. ¿Compruebas cualquiera "
                    "de los fines, y también en el primer token?",
                )
            expect(
                new == wanted,
                f"Pedí {limit} tokens nuevos y generas {new}; lo correcto son "
                f"{wanted} (el token de fin se incluye).",
            )
            expect(
                ours == right,
                f"A partir del token nuevo {_split(ours, right, ids)} te "
                "separas de generate. ¿Eliges con los logits de la última "
                "posición, y con todo el texto delante?",
            )
            expect(
                len(counter.lengths) == wanted,
                f"Para {wanted} token(s) haces {len(counter.lengths)} "
                "forwards. Después del último token no hace falta ninguno.",
            )


def _split(ours, right, ids) -> int:
    start = ids.shape[1]
    pairs = zip(ours[start:], right[start:])
    return next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 0)


@exercise("05.2", success="¡Correcto! Ni un token de más.")
def until_text(until):
    """`until(tokenizer, ids, stop) -> list[int]`; `ids` es un iterador."""
    tokenizer = load_tokenizer("smollm2")
    letters = [i for c in "international" for i in tokenizer.encode(c)]
    zero = tokenizer.encode("Uno") + [0] + tokenizer.encode("dos fin más")
    for given, stop in (
        ("Primera línea.\n\nSegunda línea.\n\nTercera.", "\n\n"),
        ("uno, dos, tres, cuatro", "tres"),
        ("uno, dos, tres, cuatro", "dos, tres"),
        ("Hola, ¿qué tal? Bien.", "¿"),
        ("abcdefghijklmnop", "hij"),
        ("The international trade", "nation"),
        ("The international trade", "in"),
        ("Una respuesta sin final", "###"),
        ("Fin.", "."),
        ("el fin es FIN. Y más", "FIN"),
        ("Vale: 🤖 sí", ": "),
        ("La ñ y el 🤖 juntos: FIN. Y más", "🤖"),
        (letters, "nation"),
        (zero, "fin"),
    ):
        ids = tokenizer.encode(given) if isinstance(given, str) else given
        text = tokenizer.decode(ids)
        right = next(
            (
                n
                for n in range(1, len(ids) + 1)
                if stop in tokenizer.decode(ids[:n])
            ),
            len(ids),
        )
        waiting = iter(ids)
        ours = call(until, tokenizer, waiting, stop)
        expect(
            isinstance(ours, list),
            f"Devuelve una lista de ids, no {type(ours).__name__}.",
        )
        left = len(list(waiting))
        shown = f"Con {text!r} y la parada {stop!r}"
        expect(
            ours == ids[: len(ours)],
            f"{shown} devuelves otros ids. Son los que llegan, en su orden.",
        )
        expect(
            len(ours) <= right,
            f"{shown} hay que parar tras {right} tokens y devuelves "
            f"{len(ours)}. ¿Miras el texto entero, o solo el último token? La "
            "parada puede llegar repartida entre varios.",
        )
        expect(
            len(ours) == right,
            f"{shown} devuelves {len(ours)} tokens y son {right}. ¿Incluyes el "
            "que completa la parada, y todos si no aparece?",
        )
        expect(
            left == len(ids) - right,
            f"{shown} pides tokens de más: cada uno cuesta un forward. "
            "Comprueba después de cada token, no al final.",
        )


def _steps(n: int, seed: int = 0) -> list[GenerationStep]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 49_000, (n,), generator=generator).tolist()
    return [
        GenerationStep(i, t, torch.zeros(3), 4 + i, 0.125 * (i + 1) + 0.001)
        for i, t in enumerate(ids)
    ]


@exercise("05.3", success="¡Correcto! Se puede volver a leer tal cual.")
def to_json(record):
    """`record(tokenizer, steps) -> str` con JSON; `steps` es un generador."""
    tokenizer = load_tokenizer("smollm2")
    spanish = tokenizer.encode("¡Qué ñandú más rápido!")
    odd = tokenizer.encode('Él dijo: "¿Qué?"\n\tC:\\nube')
    for steps in (
        _steps(7),
        _steps(1),
        *(
            [
                GenerationStep(i, t, torch.zeros(3), 4, 0.5 * i + 0.5)
                for i, t in enumerate(ids)
            ]
            for ids in (spanish, odd)
        ),
    ):
        text = call(record, tokenizer, iter(steps))
        expect(
            isinstance(text, str),
            f"Devuelve un texto (json.dumps), no {type(text).__name__}.",
        )
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise Hint(
                f"json.loads no lo entiende: {error}. ¿Lo escribe json.dumps, o "
                "es el repr de Python, con comillas simples?"
            ) from None
        expect(
            isinstance(rows, list) and len(rows) == len(steps),
            f"Tiene que ser una lista de {len(steps)} elementos, uno por paso. "
            "Ojo: un generador solo se recorre una vez.",
        )
        for row, step in zip(rows, steps):
            expect(
                isinstance(row, dict)
                and {"id", "token", "segundos"} <= set(row),
                "Cada elemento lleva las claves id, token y segundos.",
            )
            expect(
                row["id"] == step.token_id and not isinstance(row["id"], str),
                f"El id {step.token_id} se ha guardado como {row['id']!r}.",
            )
            expect(
                row["token"] == tokenizer.decode([step.token_id]),
                f"El token {tokenizer.decode([step.token_id])!r} se ha "
                f"guardado como {row['token']!r}.",
            )
            seconds = row["segundos"]
            expect(
                isinstance(seconds, int | float)
                and math.isclose(seconds, step.seconds, abs_tol=0.0011),
                f"Los segundos del paso {step.index} son {step.seconds} y has "
                f"guardado {seconds!r}. ¿Es el tiempo desde el principio, con "
                "tres decimales al menos?",
            )
        if steps[0].token_id == spanish[0]:
            expect(
                "á" in text,
                "Las letras con tilde salen como \\u00e1. json.dumps tiene una "
                "opción para dejarlas.",
            )


@exercise("05.4", success="¡Correcto! Ni un carácter roto, ni uno perdido.")
def whole_characters(pieces):
    """`pieces(tokenizer, ids)`: generador o lista de trozos de texto."""
    tokenizer = load_tokenizer("smollm2")
    for text in (
        "Hola, mundo",
        "¡Feliz día, ñandú! 🤖🎉",
        "日本語 y 한국어",
        "🇪🇸 👩‍💻 fin",
        "a",
        "𐍈 y 𓀀",
        tokenizer.encode("Adiós 🤖")[:-1] + tokenizer.encode(" y sigo así"),
        tokenizer.encode("Adiós 🤖")[:-1],  # se para a medio robot
    ):
        ids = tokenizer.encode(text) if isinstance(text, str) else text
        whole = tokenizer.decode(ids)
        value = call(pieces, tokenizer, list(ids))
        expect(
            not isinstance(value, str),
            "Devuelve los trozos por separado (una lista, o con yield), no el "
            "texto ya unido.",
        )
        ours = call(list, value)  # si es un generador, aquí se ejecuta
        expect(
            all(isinstance(piece, str) for piece in ours),
            "Cada trozo tiene que ser un texto.",
        )
        broken = [p for p in ours if "\ufffd" in p]
        expect(
            not broken or "\ufffd" in whole,
            f"Con {whole!r} sale un trozo roto: {broken[:1]}. Un carácter puede "
            "ocupar varios tokens: espera a que esté entero.",
        )
        joined = "".join(ours)
        expect(
            joined == whole,
            f"Unidos, los trozos dan {joined!r} y el texto es {whole!r}. "
            + "Lo pendiente también se entrega al final, aunque el carácter "
            "no llegara a completarse." * (len(joined) < len(whole)),
        )
        prefixes = [tokenizer.decode(ids[:n]) for n in range(1, len(ids) + 1)]
        clean = {len(p) for p in prefixes if not p.endswith("\ufffd")}
        also = {len(p.rstrip("\ufffd")) for p in prefixes} | {0, len(whole)}
        ends = {len("".join(ours[:n])) for n in range(len(ours) + 1)}
        expect(
            clean <= ends,
            f"Con {whole!r} hay trozos que llegan tarde: en cuanto el texto "
            "está entero, se enseña.",
        )
        expect(
            ends <= clean | also,
            f"Con {whole!r} cortas por donde no acaba ningún token. Los trozos "
            "salen según llegan los tokens.",
        )


def _toy(ids: list[int]) -> torch.Tensor:
    """Un «modelo» de cuatro tokens en el que greedy pierde."""
    table = {
        (): [0.05, 0.5, 0.4, 0.05],
        (1,): [0.3, 0.25, 0.25, 0.2],
        (2,): [0.01, 0.01, 0.03, 0.95],
    }
    after = tuple(ids[1:3]) if len(ids) < 3 else None
    shares = table.get(after, [0.7, 0.1, 0.1, 0.1])
    return torch.tensor(shares).log()


def _tiny_logprobs(ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        output = tiny_model()(torch.tensor([ids]))
    return output.logits[0, -1].float().log_softmax(-1)


@exercise("05.5", success="¡Correcto! Ve más lejos que greedy.")
def beams(beam):
    """`beam(logprobs, ids, width, n) -> (total, ids)`, con listas de ids."""
    cases = [(_toy, [0], w, n) for w in (1, 2, 3) for n in (1, 2, 4)]
    cases += [
        (_tiny_logprobs, prompt[0].tolist(), width, 6)
        for prompt in prompts()[:4]
        for width in (1, 2, 4)
    ]
    for logprobs, ids, width, n in cases:
        asked = []

        def score(x, logprobs=logprobs, asked=asked):
            asked.append(tuple(int(i) for i in x))
            return logprobs([int(i) for i in x])

        value = call(beam, score, list(ids), width, n)
        expect(
            isinstance(value, tuple | list) and len(value) == 2,
            "Devuelve dos cosas: (log-probabilidad total, lista de ids).",
        )
        total, ours = float(value[0]), [int(i) for i in value[1]]
        expect(
            ours[: len(ids)] == ids and len(ours) == len(ids) + n,
            f"El resultado tiene que empezar por {ids} y llevar {n} tokens "
            f"nuevos; el tuyo es {ours}.",
        )
        again = sum(
            float(logprobs(ours[:i])[ours[i]])
            for i in range(len(ids), len(ours))
        )
        expect(
            abs(total - again) < 1e-3,
            f"Dices que tu texto suma {total:.3f} y, recalculado token a token, "
            f"suma {again:.3f}. ¿Sumas logaritmos (no probabilidades) y "
            "arrastras el total de cada camino?",
        )
        best_total, best = _reference(logprobs, ids, width, n)
        expect(
            again > best_total - 1e-4,
            f"Con un haz de {width} y {n} pasos llegas a {again:.3f} y se puede "
            f"llegar a {best_total:.3f}. ¿Comparas todos los caminos juntos "
            "antes de quedarte con los mejores?",
        )
        different = len({path for path in asked if len(path) < len(ours)})
        limit = 1 + width * (n - 1)
        expect(
            different <= limit,
            f"Miras {different} caminos distintos y en un haz de {width} caben "
            f"{limit}: en cada paso solo se alargan los que sobreviven.",
        )
        expect(
            again < best_total + 1e-4,
            f"Tu texto supera al de un haz de {width}: guardas otros caminos. "
            "En cada paso sobreviven los mejores de todos, ni uno más.",
        )


def _reference(logprobs, ids, width, n):
    kept = [(0.0, ids)]
    for _ in range(n):
        longer = [
            (total + value, [*path, token])
            for total, path in kept
            for token, value in enumerate(logprobs(path).tolist())
        ]
        kept = sorted(longer, key=lambda beam: -beam[0])[:width]
    return kept[0]


@exercise("05.6", success="¡Cazado! El primero también cuenta.")
def bug(write):
    """`write(model, ids, max_new_tokens, ends) -> list[int]` de nuevos."""
    for ids in prompts():
        free = library(ids, 10)[0, ids.shape[1] :].tolist()
        for limit, ends in (
            (10, ()),
            (10, (free[3],)),
            (10, (free[0],)),
            (10, (1, free[0])),
            (10, (ids[0, -1].item(),)),
            (1, ()),
            (1, (free[0],)),
            (3, (free[2],)),
        ):
            right = library(ids, limit, ends)[0, ids.shape[1] :].tolist()
            with CallCounter() as counter:
                ours = call(
                    write, counter.model, ids.clone(), limit, set(ends)
                )
            expect(
                isinstance(ours, list),
                "Devuelve la lista de ids nuevos, como antes.",
            )
            first = bool(ends) and free[0] in ends
            expect(
                ours == right,
                f"Con ends = {set(ends)} y máximo {limit} da {ours} y debería "
                f"dar {right}. "
                + (
                    "El primer token ya es un fin: ¿quién lo mira?"
                    if first
                    else "Ese caso no era el del bug. ¿Miras solo los tokens "
                    "nuevos, y todos los fines?"
                ),
            )
            expect(
                len(counter.lengths) == len(right),
                f"Da el resultado con {len(counter.lengths)} forwards y bastan "
                f"{len(right)}.",
            )
