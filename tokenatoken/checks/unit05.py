"""Corrección del laboratorio 05 · El bucle autorregresivo."""

import json
import math
from functools import cache

import torch

from ..forward import next_logits
from ..generation import GenerationStep
from ..text import text_pieces
from .bench import CallCounter, library, prompts, tiny_model, tokenizer
from .kit import Hint, Part, call, exercise, expect, say

ROBOT = "\ufffd"  # medio carácter


def _words(name="smollm2"):
    return tokenizer(name)


# 05.1 y 05.6: el bucle


def best(model, ids):
    return model(ids).logits[:, -1].argmax(-1)


def join(ids, token):
    return torch.cat([ids, token.view(1, 1)], -1)


def loop(choose=best, look=lambda token, ends: token in ends, first=True):
    """Un bucle con las piezas que se le digan. `first`: si el primer token
    también puede ser el último."""

    def write(model, ids, limit, ends):
        for i in range(limit):
            token = choose(model, ids)
            ids = join(ids, token)
            if look(token.item(), ends) and (first or i):
                break
        return ids

    return write


write = loop()


def _by_helper(model, ids, limit, ends):
    while limit:
        token = next_logits(model, ids).argmax(-1, keepdim=True)
        ids, limit = torch.hstack([ids, token]), limit - 1
        if int(token) in ends:
            return ids
    return ids


def _one_more_forward(model, ids, limit, ends):
    token = best(model, ids)
    for _ in range(limit):
        ids = join(ids, token)
        last = token
        token = best(model, ids)
        if last.item() in ends:
            break
    return ids


def _drops_the_end(model, ids, limit, ends):
    for _ in range(limit):
        token = best(model, ids)
        if token.item() in ends:
            break
        ids = join(ids, token)
    return ids


def _looks_at_the_prompt(model, ids, limit, ends):
    if ids[0, -1].item() in ends:
        return ids
    return write(model, ids, limit, ends)


PREFIX = "El resultado tiene que empezar por los ids del prompt."
TENSOR = "Devuelve un tensor de ids (enteros) de forma [1, n], con el prompt "
TENSOR += "delante."


def _written(answer, ids, limit, ends) -> list:
    """Los ids nuevos y cuántos forwards han costado."""
    with CallCounter() as counter:
        value = call(answer, counter.model, ids, limit, set(ends))
    n = ids.shape[1]
    whole = isinstance(value, torch.Tensor) and value.dtype == torch.long
    expect(whole and value.dim() == 2, TENSOR)
    same = value.shape[1] >= n and torch.equal(value[:, :n], ids)
    expect(same, PREFIX)
    return [value[0, n:].tolist(), len(counter.lengths)]


def _right_loop(ids, limit, ends) -> list:
    new = _library(tuple(ids[0].tolist()), limit, ends)
    return [new, len(new)]


@cache
def _library(ids: tuple, limit: int, ends: tuple) -> list[int]:
    return library(torch.tensor([ids]), limit, ends)[0, len(ids) :].tolist()


def _loop_cases():
    for ids in prompts()[::2]:  # de 1, 5 y 13 tokens
        free = library(ids, 12)[0, ids.shape[1] :].tolist()
        later = next((t for t in free[1:] if t != free[0]), 96)
        yield ids, 12, ()
        yield ids, 1, ()
        yield ids, 12, (later, 95)
        yield ids, 12, (1, later)
        yield ids, 12, (free[0],)
        yield ids, 12, (ids[0, -1].item(),)
        yield ids, 3, (free[2],)


def _loop_said(ours, right, ids, limit, ends) -> str:
    return (
        f"Con {ids.shape[1]} token(s) de prompt, máximo {limit} y ends = "
        f"{set(ends) or '{}'}, escribes {ours[0]} con {ours[1]} forward(s) y "
        f"son {right[0]} con {right[1]}."
    )


exercise(
    "05.1",
    Part(
        _loop_cases,
        truth=_right_loop,
        observe=_written,
        said=_loop_said,
        traps={
            "Después del último token no hace falta ningún forward.": (
                _one_more_forward
            ),
            "No paras en ningún fin. ¿Los miras? Un tensor nunca está en un "
            "conjunto de enteros: usa .item().": loop(
                look=lambda token, ends: False
            ),
            "Solo miras uno de los fines, y vale cualquiera.": [
                loop(look=lambda token, ends: token == min(ends, default=-1)),
                loop(look=lambda token, ends: token == max(ends, default=-1)),
            ],
            "El primer token también puede ser un fin.": loop(first=False),
            "El token de fin se incluye en el resultado.": _drops_the_end,
            "Miras si el prompt acaba en un fin: solo cuentan los tokens "
            "nuevos.": _looks_at_the_prompt,
            "A la red le das solo el último token, y necesita todo el texto.": (
                loop(lambda model, ids: best(model, ids[:, -1:]))
            ),
            "A la red le das siempre el prompt de partida: falta pasarle lo "
            "que vas escribiendo.": lambda model, ids, limit, ends: loop(
                lambda model, _: best(model, ids)
            )(model, ids, limit, ends),
            "Eliges con los logits de la primera posición: los del siguiente "
            "token son los de la última.": loop(
                lambda model, ids: model(ids).logits[:, 0].argmax(-1)
            ),
            "Eliges el peor: con greedy es el de mayor logit.": loop(
                lambda model, ids: model(ids).logits[:, -1].argmin(-1)
            ),
            "Generas un token de más: max_new_tokens cuenta los nuevos.": (
                lambda model, ids, limit, ends: write(
                    model, ids, limit + 1, ends
                )
            ),
            "Para ti max_new_tokens cuenta también el prompt, y son los "
            "nuevos.": lambda model, ids, limit, ends: write(
                model, ids, max(0, limit - ids.shape[1]), ends
            ),
            "Generas un token de menos: max_new_tokens cuenta los nuevos.": (
                lambda model, ids, limit, ends: write(
                    model, ids, limit - 1, ends
                )
            ),
        },
        otherwise="¿Eliges con los logits de la última posición, con todo el "
        "texto delante, y miras el fin después de cada token?",
        rights=[write, _by_helper],
    ),
    success="¡Correcto! Los mismos ids que generate, sin un forward de más.",
)


# 05.2


def until_when(found, before=False):
    """Un bucle que para cuando `found(tokenizer, vistos, stop)`."""

    def run(tokenizer, ids, stop):
        seen = []
        for token_id in ids:
            if before and found(tokenizer, [*seen, token_id], stop):
                break
            seen.append(token_id)
            if not before and found(tokenizer, seen, stop):
                break
        return seen

    return run


def _has(tokenizer, seen, stop):
    return stop in tokenizer.decode(seen)


until = until_when(_has)


def _window(n):
    return until_when(lambda t, seen, stop: _has(t, seen[-n:], stop))


def _until_pieces(tokenizer, ids, stop):
    """La misma respuesta, con un while y el texto acumulado."""
    seen, ids = [], iter(ids)
    while stop not in tokenizer.decode(seen):
        try:
            seen.append(next(ids))
        except StopIteration:
            break
    return seen


def _until_falsy(tokenizer, ids, stop):
    seen = []
    while token_id := next(ids, None):
        seen.append(token_id)
        if _has(tokenizer, seen, stop):
            break
    return seen


def _until_late(tokenizer, ids, stop):
    seen = []
    for token_id in ids:
        if _has(tokenizer, seen, stop):
            break
        seen.append(token_id)
    return seen


def _until_recoded(tokenizer, ids, stop):
    text = tokenizer.decode(until(tokenizer, ids, stop))
    return tokenizer.encode(text.split(stop)[0] + stop)


def _stop_cases():
    t = _words()
    letters = [i for c in "international" for i in t.encode(c)]
    words = "otorrinolaringólogo esternocleidomastoideo"
    long = [i for c in f"el {words} y más" for i in t.encode(c)]
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
        (letters, "t"),
        (long, words),
        (long, "esternocleidomastoideo"),
        ("FIN. Y más cosas", "FIN"),
        ("Hola.<|im_end|>\nY más cosas", "<|im_end|>"),
        (t.encode("Uno") + [0] + t.encode("dos fin más"), "fin"),
    ):
        ids = t.encode(given) if isinstance(given, str) else given
        yield t, ids, stop


def _stopped(answer, t, ids, stop) -> list:
    """Lo que devuelve, y cuántos ids quedan sin pedir."""
    waiting = iter(ids)
    ours = call(answer, t, waiting, stop)
    expect(
        isinstance(ours, list),
        f"Devuelve una lista de ids, no {type(ours).__name__}.",
    )
    return [ours, len(list(waiting))]


def _stop_said(ours, right, t, ids, stop) -> str:
    return (
        f"Con {t.decode(ids)!r} y la parada {stop!r} devuelves "
        f"{len(ours[0])} ids y dejas {ours[1]} sin pedir; son {len(right[0])} "
        f"y {right[1]}."
    )


exercise(
    "05.2",
    Part(
        _stop_cases,
        truth=lambda t, ids, stop: [
            until(t, ids, stop),
            len(ids) - len(until(t, ids, stop)),
        ],
        observe=_stopped,
        said=_stop_said,
        traps={
            "Miras solo el último token, y la parada puede llegar repartida "
            "entre varios.": [
                _window(1),
                until_when(lambda t, seen, s: t.decode(seen[-1:]) == s),
                until_when(
                    lambda t, seen, s: t.decode(seen[-1:]).strip() == s
                ),
            ],
            "Miras solo los últimos tokens, y la parada puede ocupar más.": [
                _window(n) for n in (2, 3, 4, 5, 8, 10, 16, 20, 32)
            ],
            "Miras si el texto acaba en la parada, y el token que la completa "
            "puede traer algo más pegado.": until_when(
                lambda t, seen, s: t.decode(seen).endswith(s)
            ),
            "Las mayúsculas cuentan: «fin» no es «FIN».": until_when(
                lambda t, seen, s: s.lower() in t.decode(seen).lower()
            ),
            "Falta el token que completa la parada: también ha llegado.": (
                until_when(_has, before=True)
            ),
            "Pides un token de más: comprueba después de cada uno, no antes "
            "de pedir el siguiente.": _until_late,
            "Los pides todos antes de mirar, y cada uno cuesta un forward.": (
                lambda t, ids, stop: until(t, iter(list(ids)), stop)
            ),
            "El id 0 también es un token: no vale como «no hay más».": (
                _until_falsy
            ),
            "Decodificas de uno en uno, y un carácter de varios tokens no sale "
            "entero: decodifica todo lo recibido.": until_when(
                lambda t, seen, s: s in "".join(t.decode([i]) for i in seen)
            ),
            "Comparas ids, y el mismo texto puede llegar en otros: compara "
            "textos.": until_when(
                lambda t, seen, s: seen[-len(t.encode(s)) :] == t.encode(s)
            ),
            "Los tokens especiales también son texto: no te los saltes al "
            "decodificar.": until_when(
                lambda t, seen, s: (
                    s in t.decode(seen, skip_special_tokens=True)
                )
            ),
            "find da 0 si la parada está al principio, y -1 si no está: mira "
            "con in.": until_when(
                lambda t, seen, s: t.decode(seen).find(s) > 0
            ),
            "Vuelves a codificar el texto, y salen otros ids: devuelve los que "
            "llegaron.": _until_recoded,
            "No paras nunca: ¿dónde miras si ya está la parada?": (
                lambda t, ids, stop: list(ids)
            ),
        },
        otherwise="Son los ids que llegan, en su orden, hasta que el texto "
        "entero contiene la parada.",
        rights=[until, _until_pieces],
    ),
    success="¡Correcto! Ni un token de más.",
)


# 05.3


def record(t, steps, **options):
    """El JSON de los pasos."""
    rows = [
        {
            "id": step.token_id,
            "token": t.decode([step.token_id]),
            "segundos": step.seconds,
        }
        for step in steps
    ]
    return json.dumps(rows, **{"ensure_ascii": False, **options})


def changed(key, change):
    """`record`, con `change(filas, i)` en esa clave."""

    def wrong(t, steps):
        rows = json.loads(record(t, steps))
        values = [change(rows, i) for i in range(len(rows))]
        rows = [{**row, key: value} for row, value in zip(rows, values)]
        return json.dumps(rows, ensure_ascii=False)

    return wrong


def _by_loop(t, steps):
    rows = []
    for step in steps:
        row = dict(id=step.token_id, token=t.decode(step.token_id))
        rows.append(row | {"segundos": round(step.seconds, 3)})
    return json.dumps(rows, ensure_ascii=False, indent=1)


def _recorded_cases():
    t = _words()
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(0, 49_000, (7,), generator=generator).tolist()
    spanish = t.encode("¡Qué ñandú más rápido!")
    odd = t.encode('Él dijo: "¿Qué?"\n\tC:\\nube')
    for ids in (spanish, random, random[:1], odd):
        yield (
            t,
            [
                GenerationStep(i, token, torch.zeros(3), 4, 0.126 * (i + 1))
                for i, token in enumerate(ids)
            ],
        )


UNREAD = "¿Lo escribe json.dumps, o es un texto montado a mano, con comillas "
UNREAD += "simples?"
ONE_EACH = "Es una lista con un elemento por paso, y salen todos."
TILDES = "Las letras con tilde salen como \\u00e1: json.dumps tiene una "
TILDES += "opción para dejarlas."


def _recorded(answer, t, steps) -> list:
    """Las filas, como `[id, token, segundos]`; los segundos, a milésimas."""
    text = call(answer, t, iter(steps))
    expect(
        isinstance(text, str),
        f"Devuelve un texto (json.dumps), no {type(text).__name__}.",
    )
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"en el carácter {error.pos}"
        raise Hint(f"json.loads no lo entiende {where}. {UNREAD}") from None
    whole = isinstance(rows, list) and len(rows) == len(steps)
    expect(whole, f"Con {len(steps)} paso(s), no sale eso. {ONE_EACH}")
    keys = {"id", "token", "segundos"}
    expect(
        all(isinstance(row, dict) and keys <= set(row) for row in rows),
        "Cada elemento lleva las claves id, token y segundos.",
    )
    expect("\\u00" not in text, TILDES)
    return [
        [row["id"], row["token"], _seconds(row["segundos"], step)]
        for row, step in zip(rows, steps)
    ]


def _seconds(value, step):
    """Con tres decimales basta."""
    number = isinstance(value, int | float)
    close = number and math.isclose(value, step.seconds, abs_tol=0.0011)
    return step.seconds if close else value


def _record_said(ours, right, t, steps) -> str:
    a, b = next((x, y) for x, y in zip(ours, right) if x != y)
    names = "el id", "el token", "los segundos"
    name, mine, good = next(f for f in zip(names, a, b) if f[1] != f[2])
    shown = (
        say("{0:.3f}", x) if type(x) is float else repr(x)
        for x in (mine, good)
    )
    return "En un paso, {} sale {} y es {}.".format(name, *shown)


exercise(
    "05.3",
    Part(
        _recorded_cases,
        truth=lambda t, steps: [
            [s.token_id, t.decode([s.token_id]), s.seconds] for s in steps
        ],
        observe=_recorded,
        said=_record_said,
        traps={
            UNREAD: lambda t, s: str(json.loads(record(t, s))),
            TILDES: lambda t, s: record(t, s, ensure_ascii=True),
            ONE_EACH: [
                lambda t, s: json.dumps({"pasos": json.loads(record(t, s))}),
                lambda t, s: record(t, list(s)[:-1]),
                lambda t, s: record(t, list(s)[:0]),
            ],
            "Ese es el tiempo de cada paso, y se pide desde el principio.": (
                changed(
                    "segundos",
                    lambda r, i: (
                        r[i]["segundos"] - (r[i - 1]["segundos"] if i else 0)
                    ),
                )
            ),
            "Los segundos van con tres decimales al menos.": [
                changed("segundos", lambda r, i: int(r[i]["segundos"])),
                changed("segundos", lambda r, i: round(r[i]["segundos"], 1)),
                changed("segundos", lambda r, i: round(r[i]["segundos"], 2)),
            ],
            "Los segundos son un número, y tú guardas un texto.": [
                changed("segundos", lambda r, i: str(r[i]["segundos"])),
                changed("segundos", lambda r, i: f"{r[i]['segundos']:.3f}"),
            ],
            "El id es un número, y tú guardas un texto.": changed(
                "id", lambda r, i: str(r[i]["id"])
            ),
            "El token lleva sus espacios: son parte de él.": changed(
                "token", lambda r, i: r[i]["token"].strip()
            ),
            "repr añade comillas que no son del token.": changed(
                "token", lambda r, i: repr(r[i]["token"])
            ),
            "Guardas el texto hasta ahí, y se pide el de cada token.": changed(
                "token", lambda r, i: "".join(x["token"] for x in r[: i + 1])
            ),
        },
        otherwise="Compara lo que guardas con step.token_id, el texto de ese "
        "id y step.seconds.",
        rights=[record, _by_loop, lambda t, s: record(t, list(s), indent=2)],
    ),
    success="¡Correcto! Se puede volver a leer tal cual.",
)


# 05.4


def pieces_when(whole, flush=True):
    """Trozos que salen cuando `whole(texto, tokens en espera)`."""

    def run(t, ids):
        waiting = []
        for token_id in ids:
            waiting.append(token_id)
            text = t.decode(waiting)
            if whole(text, len(waiting)):
                yield text
                waiting = []
        if flush:
            yield t.decode(waiting)

    return run


pieces = pieces_when(lambda text, n: not text.endswith(ROBOT))


def _pieces_early(t, ids):
    """Enseña también lo que precede al carácter incompleto."""
    shown = ""
    for n in range(1, len(ids) + 1):
        text = t.decode(ids[:n])
        text = text if n == len(ids) else text.rstrip(ROBOT)
        if len(text) > len(shown):
            yield text[len(shown) :]
            shown = text


def _pieces_by_word(t, ids):
    words = t.decode(ids).split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


def _pieces_cumulative(t, ids):
    texts = (t.decode(ids[:n]) for n in range(1, len(ids) + 1))
    return [text for text in texts if not text.endswith(ROBOT)]


BROKEN = (
    "Un carácter puede ocupar varios tokens: espera a que esté entero antes "
    "de enseñarlo."
)
LOST = (
    "Lo pendiente también se entrega al final, aunque el carácter no llegara "
    "a completarse."
)
DROPPED = "Quitar el � pierde el carácter: hay que esperar al resto."
GROWS = "Cada trozo es solo lo nuevo, no todo lo escrito hasta ahí."
LATE = "Hay trozos que llegan tarde: en cuanto el texto está entero, sale."
CUT = (
    "Cortas por donde no acaba ningún token: los trozos salen según llegan "
    "los tokens."
)
JOINED = (
    "Devuelve los trozos por separado, en una lista o con yield, y no el "
    "texto ya unido."
)


@exercise(
    "05.4",
    success="¡Correcto! Ni un carácter roto, ni uno perdido.",
    traps={
        BROKEN: [
            lambda t, ids: [t.decode([i]) for i in ids],
            pieces_when(lambda text, n: not text.endswith(ROBOT) or n > 2),
        ],
        LOST: pieces_when(lambda text, n: not text.endswith(ROBOT), False),
        DROPPED: [
            lambda t, ids: [t.decode([i]).replace(ROBOT, "") for i in ids],
            lambda t, ids: [
                x for x in (t.decode([i]) for i in ids) if ROBOT not in x
            ],
        ],
        GROWS: _pieces_cumulative,
        LATE: lambda t, ids: [t.decode(ids)],
        CUT: [lambda t, ids: list(t.decode(ids)), _pieces_by_word],
        JOINED: lambda t, ids: t.decode(ids),
    },
    rights=[
        pieces,
        _pieces_early,
        text_pieces,
        lambda t, ids: list(pieces(t, ids)),
    ],
)
def whole_characters(answer):
    """`pieces(tokenizer, ids)`: generador o lista de trozos de texto."""
    t = _words()
    for text in (
        "Hola, mundo",
        "¡Feliz día, ñandú! 🤖🎉",
        "日本語 y 한국어",
        "🇪🇸 👩‍💻 fin",
        "a",
        "𐍈 y 𓀀",
        t.encode("Adiós 🤖")[:-1] + t.encode(" y sigo así"),
        t.encode("Adiós 🤖")[:-1],  # se para a medio robot
    ):
        _one_text(answer, t, t.encode(text) if isinstance(text, str) else text)


def _one_text(answer, t, ids: list[int]) -> None:
    whole = t.decode(ids)
    value = call(answer, t, ids)
    expect(not isinstance(value, str), JOINED)
    ours = call(list, value)  # si es un generador, aquí se ejecuta
    expect(
        all(isinstance(piece, str) for piece in ours),
        "Cada trozo tiene que ser un texto.",
    )
    broken = [piece for piece in ours if ROBOT in piece]
    expect(
        not broken or ROBOT in whole,
        f"Con {whole!r} sale un trozo roto: {broken[:1]}. {BROKEN}",
    )
    _joined(ours, whole, t, ids)
    prefixes = [t.decode(ids[:n]) for n in range(1, len(ids) + 1)]
    clean = {len(p) for p in prefixes if not p.endswith(ROBOT)}
    also = {len(p.rstrip(ROBOT)) for p in prefixes} | {0, len(whole)}
    ends = {len("".join(ours[:n])) for n in range(len(ours) + 1)}
    expect(ends <= clean | also, f"Con {whole!r} no sale bien. {CUT}")
    expect(clean <= ends, f"Con {whole!r} no sale a tiempo. {LATE}")


def _joined(ours: list[str], whole: str, t, ids) -> None:
    """Que los trozos, unidos, sean el texto."""
    joined = "".join(ours)
    if joined == whole:
        return
    told = f"Unidos, los trozos dan {joined!r} y el texto es {whole!r}. "
    if ours and ours[-1] == whole:
        raise Hint(told + GROWS)
    if whole.startswith(joined):
        raise Hint(told + LOST)
    alone = [t.decode([i]) for i in ids]
    whole_ones = "".join(piece for piece in alone if ROBOT not in piece)
    if joined in ("".join(alone).replace(ROBOT, ""), whole_ones):
        raise Hint(told + DROPPED)
    raise Hint(told + "Ningún carácter sobra, falta ni se repite.")


# 05.5


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
    return _tiny(tuple(ids)).clone()


@cache
def _tiny(ids: tuple) -> torch.Tensor:
    with torch.no_grad():
        output = tiny_model()(torch.tensor([ids]))
    return output.logits[0, -1].float().log_softmax(-1)


def beam(logprobs, ids, width, n, add=lambda a, b: a + b, keep=None):
    """El haz, con todos los tokens de cada camino. `add(total, paso)`."""
    kept = [(0.0, list(ids))]
    for _ in range(n):
        longer = [
            (add(total, value), [*path, token])
            for total, path in kept
            for token, value in enumerate(logprobs(path).tolist())
        ]
        longer.sort(key=lambda pair: -pair[0])
        kept = (keep or (lambda paths, width: paths[:width]))(longer, width)
    return kept[0]


def _by_topk(logprobs, ids, width, n):
    kept = [(0.0, list(ids))]
    for _ in range(n):
        longer = []
        for total, path in kept:
            top = logprobs(path).topk(min(width, len(logprobs(path))))
            for value, token in zip(top.values, top.indices):
                longer.append((total + value.item(), path + [token.item()]))
        kept = sorted(longer, reverse=True)[:width]
    return kept[0]


def _per_path(logprobs, ids, width, n):
    """Cada camino sigue por su cuenta con su mejor token."""
    top = logprobs(ids).topk(min(width, 4))
    paths = list(zip(top.values.tolist(), top.indices.tolist()))
    paths = [(value, [*ids, token]) for value, token in paths]
    for _ in range(n - 1):
        scored = [(total, path, logprobs(path)) for total, path in paths]
        paths = [
            (total + s.max().item(), [*path, int(s.argmax())])
            for total, path, s in scored
        ]
    return max(paths)


def _score(total: float, path, change) -> tuple:
    return change(total), path


NO_PRUNE = (
    "Llevas 200 caminos y no acabas. No podas: en cada paso quédate con los "
    "width mejores."
)


def _no_prune(logprobs, ids, width, n):
    return beam(logprobs, ids, width, n, keep=lambda paths, width: paths)


def _topk_no_prune(logprobs, ids, width, n):
    kept = [(0.0, list(ids))]
    for _ in range(n):
        kept = [
            (total + value, [*path, token])
            for total, path in kept
            for value, token in zip(
                *(x.tolist() for x in logprobs(path).topk(min(width, 4)))
            )
        ]
    return max(kept)


def _beam_cases():
    for width in (1, 2, 3):
        for n in (1, 2, 4):
            yield _toy, [0], width, n
    for prompt in prompts()[:3]:
        for width in (1, 2, 4):
            yield _tiny_logprobs, prompt[0].tolist(), width, 5


def _searched(answer, logprobs, ids, width, n) -> list:
    """`[total, ids]`, si solo ha mirado los caminos que caben."""
    asked = set()

    def score(path):
        asked.add(tuple(int(i) for i in path))
        expect(len(asked) < 200, NO_PRUNE)
        return logprobs([int(i) for i in path])

    value = call(answer, score, ids, width, n)
    expect(
        isinstance(value, tuple | list) and len(value) == 2,
        "Devuelve dos cosas: (log-probabilidad total, lista de ids).",
    )
    total, path = value
    expect(
        isinstance(path, list) and not isinstance(total, list),
        "Primero va el total, un número, y luego la lista de ids.",
    )
    total, path = float(total), [int(i) for i in path]
    return [total, path, min(len(asked), 1 + width * (n - 1))]


def _beam_said(ours, right, logprobs, ids, width, n) -> str:
    start = f"Con width = {width} y n = {n} "
    if ours[1] == right[1]:
        return say(
            start
            + "das {0:.3f} tras mirar {1} camino(s), y es {2:.3f} con {3}.",
            ours[0],
            ours[2],
            right[0],
            right[2],
        )
    return say(
        start + "das {0:.3f} con los ids {1}, y es {2:.3f} con {3}.",
        ours[0],
        ours[1],
        right[0],
        right[1],
    )


exercise(
    "05.5",
    Part(
        _beam_cases,
        truth=lambda f, ids, w, n: _searched(beam, f, ids, w, n),
        observe=_searched,
        near=1e-4,
        said=_beam_said,
        traps={
            NO_PRUNE: _no_prune,
            "Guardas más caminos que el ancho del haz.": [
                lambda f, i, w, n: beam(f, i, w + 1, n),
                lambda f, i, w, n: beam(f, i, w + 2, n),
                _topk_no_prune,
            ],
            "Eso es greedy: el ancho no se usa.": (
                lambda f, i, w, n: beam(f, i, 1, n)
            ),
            "Cada camino sigue con su mejor token, y en un haz compiten todos "
            "juntos por sobrevivir.": _per_path,
            "Ordenas por el último paso: hay que arrastrar el total de cada "
            "camino.": lambda f, i, w, n: beam(f, i, w, n, lambda a, b: b),
            "Te quedas con los peores: el total más cercano a 0 es el mejor.": (
                lambda f, i, w, n: beam(
                    f, i, w, n, keep=lambda paths, w: paths[: -w - 1 : -1]
                )
            ),
            "Devuelves el peor del haz, y se pide el mejor.": (
                lambda f, i, w, n: beam(
                    f,
                    i,
                    w,
                    n,
                    keep=lambda paths, w: (
                        paths[:w][::-1]
                        if len(paths[0][1]) == len(i) + n
                        else paths[:w]
                    ),
                )
            ),
            "El total es una suma de logaritmos, y tú das la probabilidad.": (
                lambda f, i, w, n: _score(*beam(f, i, w, n), math.exp)
            ),
            "Sumas probabilidades: para juntar pasos se suman sus "
            "logaritmos.": lambda f, i, w, n: beam(
                f, i, w, n, lambda a, b: a + math.exp(b)
            ),
            "Divides el total entre los pasos, y se pide la suma.": (
                lambda f, i, w, n: _score(
                    *beam(f, i, w, n), lambda total: total / n
                )
            ),
            "Falta el prompt delante: se pide la lista completa.": (
                lambda f, i, w, n: (
                    beam(f, i, w, n)[0],
                    beam(f, i, w, n)[1][len(i) :],
                )
            ),
            "Das un paso de más: son n tokens nuevos.": (
                lambda f, i, w, n: beam(f, i, w, n + 1)
            ),
        },
        otherwise="En cada paso se alargan los caminos del haz y sobreviven "
        "los mejores de todos, juntos.",
        rights=[beam, _by_topk],
    ),
    success="¡Correcto! Ve más lejos que greedy.",
)


# 05.6


def talk(model, ids, limit, ends):
    """Los ids nuevos, en una lista."""
    return write(model, ids, limit, ends)[0, ids.shape[1] :].tolist()


def first_apart(model, ids, limit, ends):
    """El bug: el primer token se genera aparte, y nadie mira si es el fin."""
    token = best(model, ids)
    new = [token.item()]
    while len(new) < limit:
        ids = join(ids, token)
        token = best(model, ids)
        new.append(token.item())
        if new[-1] in ends:
            break
    return new


def _talked(answer, ids, limit, ends) -> list:
    with CallCounter() as counter:
        ours = call(answer, counter.model, ids, limit, set(ends))
    expect(
        isinstance(ours, list), "Devuelve la lista de ids nuevos, como antes."
    )
    return [ours, len(counter.lengths)]


def _cuts_afterwards(model, ids, limit, ends):
    new = first_apart(model, ids, limit, ends)
    return new[:1] if new[0] in ends else new


def _without_the_end(model, ids, limit, ends):
    new = talk(model, ids, limit, ends)
    return new[:-1] if new[-1] in ends else new


def _prompt_too(model, ids, limit, ends):
    return [] if ids[0, -1].item() in ends else talk(model, ids, limit, ends)


def _only_the_first(model, ids, limit, ends):
    new = []
    for _ in range(limit):
        new.append(best(model, ids).item())
        if len(new) == 1 and new[0] in ends:
            break
        ids = join(ids, torch.tensor(new[-1:]))
    return new


def _talk_more(model, ids, limit, ends):
    """Un forward de más: calcula el siguiente antes de mirar si hay que parar."""
    out = _one_more_forward(model, ids, limit, ends)
    return out[0, ids.shape[1] :].tolist()


def _by_for(model, ids, limit, ends):
    new = []
    for _ in range(limit):
        new.append(best(model, ids).item())
        if new[-1] in ends:
            break
        ids = join(ids, torch.tensor(new[-1:]))
    return new


exercise(
    "05.6",
    Part(
        _loop_cases,
        truth=_right_loop,
        observe=_talked,
        said=_loop_said,
        traps={
            "El primer token ya puede ser un fin: ¿quién lo mira?": (
                first_apart
            ),
            "El resultado es bueno, pero sigues generando y luego lo tiras: "
            "cada token cuesta un forward.": _cuts_afterwards,
            "Ahora no miras los fines en los demás tokens.": _only_the_first,
            "Después del último token no hace falta ningún forward.": (
                _talk_more
            ),
            "Ahora das un token de más.": (
                lambda m, i, n, e: talk(m, i, n + 1, e)
            ),
            "Ahora das un token de menos.": (
                lambda m, i, n, e: talk(m, i, n - 1, e)
            ),
            "A la red le llega siempre el prompt de partida: falta añadirle "
            "lo que vas escribiendo.": lambda m, i, n, e: loop(
                lambda model, _: best(model, i)
            )(m, i, n, e)[0, i.shape[1] :].tolist(),
            "Ahora nunca para: hay que mirar los fines en todos.": (
                lambda m, i, n, e: talk(m, i, n, ())
            ),
            "Paras siempre tras el primero en cuanto hay algún fin.": (
                lambda m, i, n, e: talk(m, i, 1 if e else n, ())
            ),
            "El token de fin se incluye, como antes.": _without_the_end,
            "Miras el último token del prompt, que no cuenta: solo los "
            "nuevos.": _prompt_too,
            "Solo miras uno de los fines, y vale cualquiera.": (
                lambda m, i, n, e: talk(m, i, n, {min(e)} if e else e)
            ),
        },
        otherwise="¿Miras solo los tokens nuevos, y todos los fines?",
        rights=[talk, _by_for],
    ),
    success="¡Cazado! El primero también cuenta.",
)
