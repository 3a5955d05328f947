"""Mutantes de la unidad 05: respuestas equivocadas que hay que rechazar."""

import json

import pytest
import torch

from tokenatoken.checks import check
from tokenatoken.forward import next_logits
from tokenatoken.generation import text_pieces

from .verdicts import accepted, enough_mutants, rejected


def best(model, ids):
    return model(ids).logits[:, -1].argmax(-1)


def join(ids, token):
    return torch.cat([ids, token[:, None]], -1)


def write(model, ids, limit, ends):
    for _ in range(limit):
        token = best(model, ids)
        ids = join(ids, token)
        if token.item() in ends:
            break
    return ids


def write_extra(model, ids, limit, ends):
    """Calcula el siguiente antes de mirar si hay que parar."""
    token = best(model, ids)
    for _ in range(limit):
        ids = join(ids, token)
        last = token
        token = best(model, ids)
        if last.item() in ends:
            break
    return ids


def write_drops_end(model, ids, limit, ends):
    for _ in range(limit):
        token = best(model, ids)
        if token.item() in ends:
            break
        ids = join(ids, token)
    return ids


def write_min_end(model, ids, limit, ends):
    return write(model, ids, limit, {min(ends)} if ends else set())


def write_first_free(model, ids, limit, ends):
    ids = join(ids, best(model, ids))
    return write(model, ids, limit - 1, ends)


def write_last_only(model, ids, limit, ends):
    """Solo le da a la red el último token."""
    for _ in range(limit):
        token = best(model, ids[:, -1:])
        ids = join(ids, token)
        if token.item() in ends:
            break
    return ids


def write_first_position(model, ids, limit, ends):
    for _ in range(limit):
        token = model(ids).logits[:, 0].argmax(-1)
        ids = join(ids, token)
        if token.item() in ends:
            break
    return ids


def only_new(model, ids, limit, ends):
    return write(model, ids, limit, ends)[:, ids.shape[1] :]


def by_library(model, ids, limit, ends):
    return model.generate(ids, max_new_tokens=limit, do_sample=False)


def until_when(found):
    """Un bucle que para cuando `found(tokenizer, vistos, stop)`."""

    def run(tokenizer, ids, stop):
        seen = []
        for token_id in ids:
            seen.append(token_id)
            if found(tokenizer, seen, stop):
                break
        return seen

    return run


until = until_when(lambda t, seen, stop: stop in t.decode(seen))
until_one_token = until_when(lambda t, seen, stop: stop in t.decode(seen[-1:]))
until_equal = until_when(lambda t, seen, stop: t.decode(seen[-1:]) == stop)
until_ends = until_when(lambda t, seen, stop: t.decode(seen).endswith(stop))
until_window = until_when(lambda t, seen, stop: stop in t.decode(seen[-3:]))
until_lower = until_when(
    lambda t, seen, stop: stop.lower() in t.decode(seen).lower()
)


def until_without_last(tokenizer, ids, stop):
    seen = []
    for token_id in ids:
        if stop in tokenizer.decode(seen + [token_id]):
            break
        seen.append(token_id)
    return seen


def until_all(tokenizer, ids, stop):
    return until(tokenizer, iter(list(ids)), stop)


def until_late(tokenizer, ids, stop):
    seen = []
    for token_id in ids:
        if stop in tokenizer.decode(seen):
            break
        seen.append(token_id)
    return seen


def record(tokenizer, steps, **options):
    options = {"ensure_ascii": False, **options}
    rows = [
        {
            "id": s.token_id,
            "token": tokenizer.decode([s.token_id]),
            "segundos": s.seconds,
        }
        for s in steps
    ]
    return json.dumps(rows, **options)


def changed(key, change):
    def wrong(tokenizer, steps):
        rows = json.loads(record(tokenizer, steps))
        for i, row in enumerate(rows):
            row[key] = change(rows, i)
        return json.dumps(rows, ensure_ascii=False)

    return wrong


def record_counts(tokenizer, steps):
    total = len(list(steps))
    return record(tokenizer, steps) if total else "[]"


def pieces_when(whole, flush=True):
    """Trozos que salen cuando `whole(texto, tokens en espera)`."""

    def run(tokenizer, ids):
        waiting = []
        for token_id in ids:
            waiting.append(token_id)
            text = tokenizer.decode(waiting)
            if whole(text, len(waiting)):
                yield text
                waiting = []
        if flush:
            yield tokenizer.decode(waiting)

    return run


pieces = pieces_when(lambda text, n: not text.endswith("\ufffd"))
pieces_lost = pieces_when(lambda text, n: not text.endswith("\ufffd"), False)
pieces_not_in = pieces_when(lambda text, n: "\ufffd" not in text)
pieces_three = pieces_when(
    lambda text, n: not text.endswith("\ufffd") or n > 2
)


def pieces_words(tokenizer, ids):
    text = tokenizer.decode(ids)
    return [w + " " for w in text.split(" ")][:-1] + [text.split(" ")[-1]]


def pieces_delayed(tokenizer, ids):
    """Cada dos trozos."""
    pair = ""
    for piece in pieces(tokenizer, ids):
        pair += piece
        if len(pair) > 4:
            yield pair
            pair = ""
    yield pair


def pieces_cumulative(tokenizer, ids):
    for n in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:n])
        if not text.endswith("\ufffd"):
            yield text


def beam(logprobs, ids, width, n, *, wide=None, first=None, score=None):
    kept = [(0.0, ids)]
    for _ in range(n):
        longer = []
        for total, path in kept:
            scores = logprobs(path)
            top = scores.topk(min(wide or width, len(scores)))
            for value, token in zip(top.values.tolist(), top.indices.tolist()):
                longer.append((total + value, path + [token]))
        longer.sort(key=score or (lambda b: -b[0]))
        kept = longer[: first or width]
    return kept[0]


def beam_per_path(logprobs, ids, width, n):
    """Cada camino sigue por su cuenta con su mejor token."""
    top = logprobs(ids).topk(min(width, 4))
    paths = [
        (v, ids + [t])
        for v, t in zip(top.values.tolist(), top.indices.tolist())
    ]
    for _ in range(n - 1):
        longer = []
        for total, path in paths:
            scores = logprobs(path)
            longer.append(
                (total + scores.max().item(), path + [int(scores.argmax())])
            )
        paths = longer
    return max(paths)


def beam_forgets(logprobs, ids, width, n):
    """No arrastra el total: ordena por el último paso."""
    kept = [(0.0, ids)]
    for _ in range(n):
        longer = []
        for _, path in kept:
            for token, value in enumerate(logprobs(path).tolist()):
                longer.append((value, path + [token]))
        kept = sorted(longer, key=lambda b: -b[0])[:width]
    return kept[0]


def talk(model, ids, limit, ends):
    return write(model, ids, limit, ends)[0, ids.shape[1] :].tolist()


def the_bug(model, ids, limit, ends):
    token = best(model, ids)
    new = [token.item()]
    while len(new) < limit:
        ids = join(ids, token)
        token = best(model, ids)
        new.append(token.item())
        if new[-1] in ends:
            break
    return new


def stops_always(model, ids, limit, ends):
    new = the_bug(model, ids, limit, ends)
    return new[:1] if ends else new


def only_first(model, ids, limit, ends):
    new = the_bug(model, ids, limit, ())
    return new[:1] if new[0] in ends else new


def without_the_end(model, ids, limit, ends):
    new = talk(model, ids, limit, ends)
    return new[:-1] if new[-1] in ends else new


def cuts_afterwards(model, ids, limit, ends):
    new = the_bug(model, ids, limit, ends)
    return new[:1] if new[0] in ends else new


def empties_if_first(model, ids, limit, ends):
    new = talk(model, ids, limit, ends)
    return [] if new[0] in ends else new


def prints_twice(model, ids, limit, ends):
    new = talk(model, ids, limit, ends)
    return new[:1] + new


def looks_at_prompt(model, ids, limit, ends):
    new = []
    while len(new) < limit and ids[0, -1].item() not in ends:
        token = best(model, ids)
        ids = join(ids, token)
        new.append(token.item())
    return new


def until_falsy(tokenizer, ids, stop):
    seen = []
    while token_id := next(ids, None):
        seen.append(token_id)
        if stop in tokenizer.decode(seen):
            break
    return seen


def by_hand(tokenizer, steps):
    rows = (
        f'{{"id": {s.token_id}, "token": "{tokenizer.decode([s.token_id])}", '
        f'"segundos": {s.seconds}}}'
        for s in steps
    )
    return "[" + ", ".join(rows) + "]"


def pieces_anywhere(tokenizer, ids):
    text = tokenizer.decode(ids)
    n = len(list(pieces_lost(tokenizer, ids)))
    return [*text[: n - 1], text[n - 1 :]]


def endless(model, ids, limit, ends):
    while True:
        token = best(model, ids)
        ids = join(ids, token)
        if token.item() in ends:
            return ids


CORRECT = {
    "05.1": write,
    "05.2": until,
    "05.3": record,
    "05.4": pieces,
    "05.5": beam,
    "05.6": talk,
}
MUTANTS = {
    "forward de más": ("05.1", write_extra),
    "sin el fin": ("05.1", write_drops_end),
    "un solo fin": ("05.1", write_min_end),
    "primero sin mirar": ("05.1", write_first_free),
    "solo el último": ("05.1", write_last_only),
    "primera posición": ("05.1", write_first_position),
    "solo lo nuevo": ("05.1", only_new),
    "con generate": ("05.1", by_library),
    "no para": ("05.1", lambda m, i, n, e: write(m, i, n, ())),
    "uno de más": ("05.1", lambda m, i, n, e: write(m, i, n + 1, e)),
    "lista": ("05.1", lambda m, i, n, e: write(m, i, n, e).tolist()),
    "el peor": (
        "05.1",
        lambda m, i, n, e: join(i, m(i).logits[:, -1].argmin(-1)),
    ),
    "mira el prompt 1": (
        "05.1",
        lambda m, i, n, e: i if i[0, -1].item() in e else write(m, i, n, e),
    ),
    "no acaba": ("05.1", endless),
    "ventana de 3": ("05.2", until_window),
    "minúsculas": ("05.2", until_lower),
    "el id 0": ("05.2", until_falsy),
    "a mano": ("05.3", by_hand),
    "comillas cambiadas": (
        "05.3",
        lambda t, s: str(json.loads(record(t, s))).replace("'", '"'),
    ),
    "que no contenga": ("05.4", pieces_not_in),
    "como mucho tres": ("05.4", pieces_three),
    "por cualquier sitio": ("05.4", pieces_anywhere),
    "mira el prompt": ("05.6", looks_at_prompt),
    "un solo fin 6": (
        "05.6",
        lambda m, i, n, e: talk(m, i, n, {min(e)} if e else e),
    ),
    "un token": ("05.2", until_one_token),
    "token igual": ("05.2", until_equal),
    "que acabe en": ("05.2", until_ends),
    "sin el último": ("05.2", until_without_last),
    "pide todos": ("05.2", until_all),
    "uno tarde": ("05.2", until_late),
    "texto": (
        "05.2",
        lambda t, i, s: t.decode(until(t, i, s)),
    ),
    "todo": ("05.2", lambda t, i, s: list(i)),
    "nada": ("05.2", lambda t, i, s: []),
    "recorta el texto": (
        "05.2",
        lambda t, i, s: t.encode(t.decode(until(t, i, s)).split(s)[0] + s),
    ),
    "repr": ("05.3", lambda t, s: str(json.loads(record(t, s)))),
    "con ascii": ("05.3", lambda t, s: record(t, s, ensure_ascii=True)),
    "no es texto": ("05.3", lambda t, s: json.loads(record(t, s))),
    "recorre dos veces": ("05.3", record_counts),
    "un objeto": (
        "05.3",
        lambda t, s: json.dumps({"pasos": json.loads(record(t, s))}),
    ),
    "ids como texto": ("05.3", changed("id", lambda r, i: str(r[i]["id"]))),
    "tiempo por paso": (
        "05.3",
        changed(
            "segundos",
            lambda r, i: r[i]["segundos"] - (r[i - 1]["segundos"] if i else 0),
        ),
    ),
    "segundos enteros": (
        "05.3",
        changed("segundos", lambda r, i: int(r[i]["segundos"])),
    ),
    "token con repr": (
        "05.3",
        changed("token", lambda r, i: repr(r[i]["token"])),
    ),
    "token sin espacios": (
        "05.3",
        changed("token", lambda r, i: r[i]["token"].strip()),
    ),
    "pierde el último": (
        "05.3",
        lambda t, s: json.dumps(json.loads(record(t, s))[:-1]),
    ),
    "de uno en uno": ("05.4", lambda t, ids: [t.decode([i]) for i in ids]),
    "pierde lo pendiente": ("05.4", pieces_lost),
    "quita lo roto": (
        "05.4",
        lambda t, ids: [t.decode([i]).replace("\ufffd", "") for i in ids],
    ),
    "de golpe": ("05.4", lambda t, ids: [t.decode(ids)]),
    "palabras": ("05.4", pieces_words),
    "a pares": ("05.4", pieces_delayed),
    "acumulado": ("05.4", pieces_cumulative),
    "unido": ("05.4", lambda t, ids: t.decode(ids)),
    "letras": ("05.4", lambda t, ids: list(t.decode(ids))),
    "greedy": ("05.5", lambda f, i, w, n: beam(f, i, 1, n)),
    "por camino": ("05.5", beam_per_path),
    "sin arrastrar": ("05.5", beam_forgets),
    "el peor del haz": (
        "05.5",
        lambda f, i, w, n: beam(f, i, w, n, score=lambda b: b[0]),
    ),
    "probabilidades": (
        "05.5",
        lambda f, i, w, n: (
            torch.tensor(beam(f, i, w, n)[0]).exp().item(),
            beam(f, i, w, n)[1],
        ),
    ),
    "sin el prompt": (
        "05.5",
        lambda f, i, w, n: (
            beam(f, i, w, n)[0],
            beam(f, i, w, n)[1][len(i) :],
        ),
    ),
    "demasiado ancho": ("05.5", lambda f, i, w, n: beam(f, i, w + 2, n)),
    "un paso más": ("05.5", lambda f, i, w, n: beam(f, i, w, n + 1)),
    "solo el total": ("05.5", lambda f, i, w, n: beam(f, i, w, n)[0]),
    "el bug": ("05.6", the_bug),
    "para siempre": ("05.6", stops_always),
    "solo el primero": ("05.6", only_first),
    "sin el fin 6": ("05.6", without_the_end),
    "recorta al final": ("05.6", cuts_afterwards),
    "vacía": ("05.6", empties_if_first),
    "dos veces": ("05.6", prints_twice),
    "tensor": (
        "05.6",
        lambda m, i, n, e: torch.tensor(talk(m, i, n, e)),
    ),
    "nunca para": ("05.6", lambda m, i, n, e: talk(m, i, n, ())),
}


@pytest.mark.parametrize("number", CORRECT)
def test_reference_is_accepted(number):
    accepted(number, CORRECT[number])


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected_with_a_hint(name):
    number, answer = MUTANTS[name]
    rejected(name, number, answer)


@pytest.mark.parametrize(
    "name, words",
    [
        ("forward de más", "Después del último"),
        ("un solo fin", "cualquiera"),
        ("primero sin mirar", "primer token"),
        ("con generate", "lo escribes tú"),
        ("un token", "repartida"),
        ("pide todos", "tokens de más"),
        ("repr", "comillas simples"),
        ("recorre dos veces", "una vez"),
        ("con ascii", "opción"),
        ("de uno en uno", "varios tokens"),
        ("pierde lo pendiente", "pendiente"),
        ("de golpe", "en cuanto"),
        ("no acaba", "no paras"),
        ("a mano", "json.dumps"),
        ("letras", "ningún token"),
        ("greedy", "todos los caminos juntos"),
        ("probabilidades", "logaritmos"),
        ("el bug", "quién lo mira"),
    ],
)
def test_hint_names_the_mechanism(name, words):
    number, answer = MUTANTS[name]
    assert words in check(number, answer).message


def test_every_check_has_mutants():
    enough_mutants(MUTANTS, CORRECT)


def test_other_right_answers_are_accepted():
    def with_helper(model, ids, limit, ends):
        while limit:
            token = next_logits(model, ids).argmax(-1, keepdim=True)
            ids, limit = torch.hstack([ids, token]), limit - 1
            if int(token) in ends:
                return ids
        return ids

    def exhaustive(logprobs, ids, width, n):
        kept = [(0.0, list(ids))]
        for _ in range(n):
            kept = sorted(
                (
                    (total + float(value), path + [token])
                    for total, path in kept
                    for token, value in enumerate(logprobs(path))
                ),
                reverse=True,
            )[:width]
        return kept[0]

    accepted("05.1", with_helper)
    accepted("05.3", lambda t, s: record(t, list(s), indent=2))
    accepted("05.4", lambda t, ids: list(text_pieces(t, ids)))
    accepted("05.4", lambda t, ids: list(pieces(t, ids)))

    def early(tokenizer, ids):
        """Enseña también lo que precede al carácter incompleto."""
        shown = ""
        for n in range(1, len(ids) + 1):
            text = tokenizer.decode(ids[:n])
            text = text if n == len(ids) else text.rstrip("\ufffd")
            if len(text) > len(shown):
                yield text[len(shown) :]
                shown = text

    def recomputed(logprobs, ids, width, n):
        """Con tensores como ids y el total recalculado al final."""
        kept = [(0.0, list(ids))]
        for _ in range(n):
            longer = []
            for total, path in kept:
                top = logprobs(path).topk(min(width, 4))
                for value, token in zip(top.values, top.indices):
                    longer.append((total + float(value), path + [token]))
            longer.sort(key=lambda b: -b[0])
            kept = longer[:width]
        path = [int(i) for i in kept[0][1]]
        total = sum(
            logprobs(path[:i])[path[i]].item()
            for i in range(len(ids), len(path))
        )
        return total, path

    accepted("05.4", lambda t, ids: early(t, ids))
    accepted("05.5", exhaustive)
    accepted("05.5", recomputed)


def test_the_model_gets_its_generate_back():
    from tokenatoken.checks.bench import tiny_model

    check("05.1", lambda *_: 1 / 0)
    ids = torch.tensor([[1, 2]])
    assert tiny_model().generate(ids, max_new_tokens=1).shape == (1, 3)
