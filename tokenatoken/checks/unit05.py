"""Corrección del laboratorio 05 · El bucle autorregresivo."""

import math
from contextlib import suppress
from copy import deepcopy
from functools import cache, lru_cache
from itertools import pairwise

import torch
from transformers import DynamicCache

from ..cache import make_cache
from ..forward import prompt_ids
from ..generation import generate_steps
from ..text import text_pieces
from .bench import (
    course_model,
    library,
    plain_text,
    prompts,
    tiny_model,
    tokenizer,
)
from .kit import (
    ASSERTS,
    Hint,
    Part,
    Pending,
    as_int,
    call,
    exercise,
    expect,
    jury,
    plain,
    put_to_test,
    returning,
    say,
    second_answer,
)

ROBOT = "\ufffd"  # medio carácter


def _words(name="smollm2"):
    return tokenizer(name)


# El bucle de 05.6


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


def _with_while(model, ids, limit, ends):
    while limit:
        token = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
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


# 05.1


def spy(model, run, read=None, always=True, keep=False, count=None):
    """La respuesta de 05.1; sus opciones la estropean."""
    seen = []

    def look(_, args, kwargs):
        ids = (read or _ids_of)(args, kwargs)
        seen.append((count or (lambda x: x.shape[1]))(ids))

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        run()
        always = True
    finally:
        if always and not keep:
            hook.remove()
    return seen


def _ids_of(args, kwargs):
    return kwargs["input_ids"] if "input_ids" in kwargs else args[0]


def _patched(model, run, back=True):
    """Cambia `forward` por otro, y lo devuelve."""
    forward, seen = model.forward, []

    def watched(*args, **kwargs):
        seen.append(_ids_of(args, kwargs).shape[1])
        return forward(*args, **kwargs)

    model.forward = watched
    try:
        run()
    finally:
        if back:
            del model.forward
    return seen


def _swallows(model, run):
    def quiet():
        with suppress(ZeroDivisionError):
            run()

    return spy(model, quiet)


def _by_hand(model, cached):
    """Cuatro tokens a mano, con los ids como argumento o por su nombre."""
    ids = prompts()[2]
    cache = DynamicCache(config=model.config) if cached else None
    out = model(ids, past_key_values=cache)
    for _ in range(3):
        token = out.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, token], -1)
        given = token if cached else ids
        out = model(input_ids=given, past_key_values=cache)


def _generates(model, cached, rows=1):
    ids = prompts()[3].repeat(rows, 1)
    given = dict(do_sample=False, min_new_tokens=5, max_new_tokens=5)
    mask = torch.ones_like(ids)
    model.generate(ids, attention_mask=mask, use_cache=cached, **given)


def _fails(model):
    model(prompts()[1])
    raise ZeroDivisionError("a medias")


RUNS = {
    "generate con tres filas": (
        lambda m: _generates(m, True, 3),
        [8, 1, 1, 1, 1],
    ),
    "generate con caché": (lambda m: _generates(m, True), [8, 1, 1, 1, 1]),
    "generate sin caché": (lambda m: _generates(m, False), [8, 9, 10, 11, 12]),
    "un bucle sin caché": (lambda m: _by_hand(m, False), [5, 6, 7, 8]),
    "un bucle con caché": (lambda m: _by_hand(m, True), [5, 1, 1, 1]),
    "nada": (lambda m: None, []),
}
LEFT = "El modelo se queda con tu espía dentro: quítalo al acabar."
LEFT_BROKEN = (
    "Si run() falla, el modelo se queda con tu espía dentro: quítalo pase lo "
    "que pase (try … finally)."
)
SWALLOWED = "Si run() falla, su error tiene que llegar a quien te llamó."
KEYWORD = (
    "Unas veces los ids llegan como argumento y otras por su nombre, "
    "input_ids: mira las dos."
)
COLUMNS = "Cuenta los tokens de cada fila, que son las columnas, no las filas."
NUMBERS = "Por cada forward, cuántos tokens recibe; no cuántos forwards hay."
LISTED = "Devuelve una lista de enteros: uno por forward."


def _watched(answer, name) -> list[int]:
    """Lo que apunta, si deja el modelo como estaba."""
    model = deepcopy(tiny_model())
    model.register_forward_pre_hook(lambda *_: None)  # el espía de otro
    before = _insides(model)
    called = callable(answer)
    expect(called, "Esperaba una función: pasa su nombre, sin paréntesis.")
    value = call(lambda: answer(model, lambda: RUNS[name][0](model)))
    value = plain(value)
    expect(isinstance(value, list | tuple), LISTED)
    seen = [as_int(x, LISTED) for x in value]
    expect(_insides(model) == before, LEFT)
    return seen


def _insides(model) -> list:
    """Por dentro: enganches, `forward` y modo de cada pieza."""
    return [
        (
            list(piece._forward_pre_hooks),
            list(piece._forward_hooks),
            getattr(piece.forward, "__func__", None) is type(piece).forward,
            piece.training,
        )
        for piece in model.modules()
    ] + [model.config.use_cache]


def _after_a_failure(answer) -> None:
    model = deepcopy(tiny_model())
    before = _insides(model)
    try:
        answer(model, lambda: _fails(model))
    except ZeroDivisionError:
        expect(_insides(model) == before, LEFT_BROKEN)
        return
    except Exception:
        raise Hint(SWALLOWED) from None
    raise Hint(SWALLOWED)


def diagnose_run(lengths):
    later = list(lengths[1:])
    if later == [1] * len(later):
        return "con caché"
    growing = [lengths[0] + i for i in range(1, len(lengths))]
    return "sin caché" if later == growing else "otra cosa"


DIAGNOSIS = Part(
    [
        ([5, 1, 1, 1],),
        ([5, 6, 7],),
        ([1, 1, 1],),
        ([1, 2, 3, 4],),
        ([5, 5, 1, 1],),
        ([5, 1, 6, 1],),
        ([4, 4, 4],),
        ([5, 1, 1, 8],),
        ([5, 7, 9],),
        ([9, 8, 7],),
        ([5, 6, 1],),
        ([5, 1],),
        ([5, 6],),
        ([5, 9],),
        ([5, 6, 9],),
        ([5, 6, 9, 8],),
        ([5, 7, 6],),
    ],
    truth=diagnose_run,
    said=lambda ours, right, lengths: (
        f"De {lengths} dices «{ours}» y es «{right}»."
    ),
    otherwise="Con caché, tras el primero entra un solo token cada vez; sin ella, "
    "uno más que antes. Si no es ni lo uno ni lo otro, «otra cosa».",
    traps={
        "Miras solo el segundo forward: lo demás puede torcerse después.": (
            lambda n: (
                "con caché"
                if n[1] == 1
                else "sin caché"
                if n[1] == n[0] + 1
                else "otra cosa"
            )
        ),
        "Miras solo el último forward: los de en medio también cuentan.": (
            lambda n: (
                "con caché"
                if n[-1] == 1
                else "sin caché"
                if n[-1] == n[0] + len(n) - 1
                else "otra cosa"
            )
        ),
        "Crecer no basta: sin caché entra justo un token más cada vez.": (
            lambda n: (
                "con caché"
                if set(n[1:]) == {1}
                else "sin caché"
                if all(b > a for a, b in pairwise(n))
                else "otra cosa"
            )
        ),
        "Hay más de dos cosas que pueden pasar: también «otra cosa».": [
            lambda n: "con caché" if set(n[1:]) == {1} else "sin caché",
            lambda n: "con caché" if n[1] == 1 else "sin caché",
        ],
        "Un prompt de un token también puede ir con caché: lo que cuenta es lo de "
        "después.": (
            lambda n: "otra cosa" if n[0] == 1 == n[1] else diagnose_run(n)
        ),
    },
)


@exercise(
    "05.1",
    success="¡Correcto! Ves lo que pasa por la red, sin dejar huella.",
    traps={
        hint: [(wrong, diagnose_run) for wrong in several]
        for hint, several in {
            LEFT: [
                lambda m, run: spy(m, run, keep=True),
                lambda m, run: _patched(m, run, back=False),
            ],
            LEFT_BROKEN: [lambda m, run: spy(m, run, always=False)],
            SWALLOWED: [_swallows],
            KEYWORD: [
                lambda m, run: spy(m, run, lambda args, kwargs: args[0]),
                lambda m, run: spy(m, run, lambda a, kw: kw["input_ids"]),
            ],
            COLUMNS: [lambda m, run: spy(m, run, count=len)],
            NUMBERS: [
                lambda m, run: spy(m, run, count=lambda x: 1),
                lambda m, run: len(spy(m, run)),
            ],
        }.items()
    }
    | {
        hint: [(spy, w) for w in (ws if isinstance(ws, list) else [ws])]
        for hint, ws in DIAGNOSIS.traps.items()
    },
    rights=[
        (spy, diagnose_run),
        (
            _patched,
            lambda n: (
                "con caché"
                if all(x == 1 for x in n[1:])
                else "sin caché"
                if all(b - a == 1 for a, b in pairwise(n))
                else "otra cosa"
            ),
        ),
        (lambda m, run: torch.tensor(spy(m, run)), diagnose_run),
    ],
)
def espionage(spy, what):
    """`spy(model, run)` y `what(longitudes)`."""
    for name, (_, right) in RUNS.items():
        try:
            seen = _watched(spy, name)
        except Hint as hint:
            lost = hint.kind in ("IndexError", "KeyError", "AttributeError")
            told = {LISTED: NUMBERS}.get(str(hint), KEYWORD * lost)
            raise Hint(f"{hint} {told}".strip()) from None
        said = f"Con {name} apuntas {seen} y es {right}. "
        rows = [3 * n for n in right], [3] * len(right)
        expect(seen == right or seen not in rows, said + COLUMNS)
        expect(not right or seen != right[1:], said + "Falta el primero.")
        expect(seen == right or set(seen) != {1}, said + NUMBERS)
        expect(seen == right, said + "Mira lo que entra en cada uno.")
    _after_a_failure(spy)
    second_answer(what, DIAGNOSIS)


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


def why(new, ends, limit, text, stop):
    if new and new[-1] in ends:
        return "fin"
    if stop and stop in text:
        return "texto"
    return "tope" if len(new) == limit else "sigue"


def _why(order=("fin", "texto", "tope"), **changes):
    """La respuesta de 05.2 b; sus opciones la estropean."""
    tests = {
        "fin": lambda new, ends, limit, text, stop: bool(
            new and new[-1] in ends
        ),
        "texto": lambda new, ends, limit, text, stop: bool(
            stop and stop in text
        ),
        "tope": lambda new, ends, limit, text, stop: len(new) == limit,
    } | changes

    def answer(*case):
        return next((name for name in order if tests[name](*case)), "sigue")

    return answer


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
    Part(
        [
            ([4, 8, 2], {2}, 9, "uno dos", "###"),
            ([4, 8, 2], {7, 2}, 3, "uno dos", ""),
            ([4, 8], {2}, 9, "uno ###", "###"),
            ([4, 8, 5], {2}, 3, "uno ### y", "###"),
            ([4, 8, 5], {2}, 9, "uno ### y", "###"),
            ([4, 8, 5], {2}, 3, "uno dos", "###"),
            ([4, 8, 5], {2}, 9, "uno dos", ""),
            ([2, 8, 5], {2}, 9, "uno dos", "###"),
            ([], {2}, 9, "", ""),
            ([4, 2], {2}, 9, "uno ###", "###"),
            ([0], {0}, 5, "", ""),
            ([4, 7], {7, 2}, 9, "", ""),
            ([4, 2], {7, 2}, 9, "", ""),
            ([4, 8], {2}, 9, "uno###y dos", "###"),
            ([4], {2}, 9, "### uno", "###"),
            ([4], {2}, 9, "el fin", "FIN"),
            ([4, 8], {2}, 9, "uno, dos y tres", "uno, "),
            ([4, 8], {2}, 3, "uno dos", ""),
            ([4, 8], set(), 2, "uno dos", ""),
        ],
        truth=why,
        said=lambda ours, right, new, ends, limit, text, stop: (
            f"Con new = {new}, ends = {ends or '{}'}, máximo {limit}, texto "
            f"{text!r} y parada {stop!r} dices «{ours}» y es «{right}»."
        ),
        otherwise="Mira, por este orden: ¿el último es un fin?, ¿el texto trae la "
        "parada?, ¿se llegó al máximo? Si nada de eso, «sigue».",
        traps={
            "Con dos motivos a la vez gana el primero de la lista: fin, texto, "
            "tope.": [
                _why(("texto", "fin", "tope")),
                _why(("tope", "fin", "texto")),
                _why(("fin", "tope", "texto")),
            ],
            "El texto vacío está en cualquiera: sin parada, no cuenta.": _why(
                texto=lambda new, ends, limit, text, stop: stop in text
            ),
            "El fin que para es el último; uno anterior ya habría parado.": _why(
                fin=lambda new, ends, limit, text, stop: bool(
                    set(new) & set(ends)
                )
            ),
            "Vale cualquiera de los fines, no uno.": _why(
                fin=lambda new, ends, limit, text, stop: bool(
                    new and ends and new[-1] == max(ends)
                )
            ),
            "La parada puede venir con algo pegado detrás: basta con que esté.": (
                _why(
                    texto=lambda new, ends, limit, text, stop: bool(
                        stop and text.endswith(stop)
                    )
                )
            ),
            "El id 0 también es un token: no vale como «nada».": _why(
                fin=lambda new, ends, limit, text, stop: bool(
                    new and new[-1] and new[-1] in ends
                )
            ),
        },
        rights=[why, _why()],
    ),
    success="¡Correcto! Ni un token de más.",
)


# 05.3


def subtract(logits, new, presence, frequency):
    """La respuesta de 05.3."""
    ids = torch.tensor(list(new), dtype=torch.long)
    counts = torch.bincount(ids, minlength=len(logits))
    return logits - frequency * counts - presence * (counts > 0)


def _with_counts(change):
    """`subtract`, con otras cuentas: `change(veces)` da `(veces, si está)`."""

    def wrong(logits, new, presence, frequency):
        ids = torch.tensor(list(new), dtype=torch.long)
        times, there = change(torch.bincount(ids, minlength=len(logits)))
        return logits - frequency * times - presence * there

    return wrong


def _assigned(logits, new, presence, frequency):
    logits = logits.clone()
    if new:
        logits[list(new)] -= frequency
        logits[list(set(new))] -= presence
    return logits


def _consecutive(logits, new, presence, frequency):
    logits, ids = logits.clone(), torch.tensor(list(new), dtype=torch.long)
    ids, times = torch.unique_consecutive(ids, return_counts=True)
    logits[ids] -= presence + frequency * times
    return logits


def _by_loop(logits, new, presence, frequency):
    rows = logits.tolist()
    for i in set(new):
        rows[i] -= frequency * list(new).count(i) + presence
    return torch.tensor(rows)


def _penalty_cases():
    logits = torch.tensor([2.0, -1.0, 0.5, 3.0, 0.0, -2.5])
    for new in ([], [3], [3, 3, 1], [1, 0, 1, 5, 1], [2, 2, 2, 2, 2, 4]):
        for presence, frequency in ((0.0, 1.0), (0.5, 0.0), (0.7, 0.3)):
            yield logits, new, presence, frequency


PENALTY = Part(
    _penalty_cases,
    truth=lambda *case: subtract(*case).double(),
    near=1e-5,
    said=lambda ours, right, logits, new, presence, frequency: say(
        "Con new = {0}, presence = {1} y frequency = {2} salen [{3:.1f}] y son "
        "[{4:.1f}].",
        str(new),
        presence,
        frequency,
        ours.tolist(),
        right.tolist(),
    ),
    otherwise="Haz a mano new = [3] con presence 0,5 y frequency 0, y después "
    "[3, 1, 3] con presence 0 y frequency 1.",
    traps={
        "Con un id repetido, `logits[ids] -= x` resta una sola vez: cuenta "
        "primero las veces.": [
            _assigned,
            _with_counts(lambda n: (n > 0, n > 0)),
        ],
        "presence se resta una vez por token que haya salido, salga las que "
        "salga.": _with_counts(lambda n: (n, n)),
        "Están cambiadas: frequency va con las veces, y presence con si está o "
        "no.": _with_counts(lambda n: ((n > 0) * 1, n)),
        "Los repetidos no van siempre seguidos: cuenta cada id en toda la "
        "lista.": _consecutive,
        "Te falta presence: se resta aunque frequency sea 0.": _with_counts(
            lambda n: (n, 0 * n)
        ),
        "La primera vez también cuenta para frequency.": _with_counts(
            lambda n: ((n - 1).clamp_min(0), n > 0)
        ),
        "Sumas, y así se repetiría más: se resta.": (
            lambda x, new, p, f: subtract(x, new, -p, -f)
        ),
        "Restas a todos lo mismo: solo a los que ya han salido.": [
            lambda x, new, p, f: x - f * len(new) - p * bool(new),
            lambda x, new, p, f: x - p - f,
        ],
        "Solo miras el último token: cuentan todos los escritos.": (
            lambda x, new, p, f: subtract(x, list(new)[-1:], p, f)
        ),
        "Eso es dividir, como la penalización del cuaderno: aquí se resta.": [
            lambda x, new, p, f: torch.where(
                subtract(x, new, 1, 0) < x, x / (1 + p + f), x
            ),
        ],
    },
    rights=[subtract, _by_loop],
)
SHORT = "Da un comienzo tuyo de 2 a 40 palabras, entre comillas."
SHOWN = "Ese es el del cuaderno: busca otro."
FREE = (
    "Sin penalización no acaba en bucle. ¿Qué comienzo invita a repetir lo "
    "mismo sin fin?"
)
STILL = (
    "Con tu penalización sigue en bucle: lo repetido tiene que perder cada vez "
    "que sale."
)
STUCK = "uno dos uno dos uno dos"


def in_a_loop(ids: list[int]) -> bool:
    """Si acaba con un trozo repetido tres veces seguidas."""
    return any(
        ids[-n:] == ids[-2 * n : -n] == ids[-3 * n : -2 * n]
        for n in range(1, len(ids) // 3 + 1)
    )


def _continued(prompt: str, penalty) -> list[int]:
    """Los 30 tokens que siguen, con greedy, tras `penalty(logits, nuevos)`."""
    model, t = course_model()
    ids = prompt_ids(model, t, prompt)

    def pick(logits, seen):
        new = seen[0, ids.shape[1] :].tolist()
        return penalty(logits[0].float(), new).argmax().view(1)

    steps = generate_steps(
        model,
        ids,
        max_new_tokens=30,
        stop_ids=(),
        choose=pick,
        cache=make_cache(model),
    )
    return [step.token_id for step in steps]


@lru_cache(8)
def _plainly(prompt: str) -> tuple[int, ...]:
    return tuple(_continued(prompt, lambda logits, new: logits))


@exercise(
    "05.3",
    success="¡Correcto! El mismo comienzo, con bucle y sin él.",
    traps={
        hint: [(w, STUCK) for w in (ws if isinstance(ws, list) else [ws])]
        for hint, ws in PENALTY.traps.items()
    }
    | {
        SHORT: [(subtract, "uno"), (subtract, 7)],
        SHOWN: [(subtract, "Frutas: manzana, pera, uva,")],
        FREE: [(subtract, "Había una vez un")],
    },
    rights=[(subtract, STUCK), (_by_loop, "la la la la la")],
)
def other_penalty(subtract, prompt):
    """`subtract(logits [V], new, presence, frequency)` y un comienzo."""
    PENALTY.grade(subtract)
    if prompt == "":
        text = "Pendiente: falta la respuesta 2 de 2; hasta ahí, bien."
        raise Pending(text)
    whole = isinstance(prompt, str) and 2 <= len(prompt.split()) <= 40
    expect(whole, SHORT)
    expect(plain_text(prompt).strip() != "frutas: manzana, pera, uva,", SHOWN)
    t = course_model()[1]
    free = list(_plainly(prompt))
    print(f"Sin penalización: …{t.decode(free)}")
    expect(in_a_loop(free), FREE)
    held = _continued(
        prompt, lambda logits, new: subtract(logits, new, 1.0, 1.0)
    )
    print(f"Con la tuya (1 y 1): …{t.decode(held)}")
    expect(not in_a_loop(held), STILL)


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


def _cached(model, ids, limit, ends):
    """El mismo bucle, con la caché de la biblioteca."""
    cache, given = DynamicCache(config=model.config), ids
    for _ in range(limit):
        logits = model(given, past_key_values=cache).logits
        given = logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, given], -1)
        if given.item() in ends:
            break
    return ids


GOOD = {
    "lo pasa todo cada vez": write,
    "va con while": _with_while,
    "lleva caché": _cached,
}
BAD = {
    "no mira si el primer token es un fin": (
        "El primer token también puede ser un fin (a un programa publicado se le "
        "pasó): pon como fin el primero que escribe.",
        loop(first=False),
    ),
    "no para en ningún fin": (
        "Tu prueba no llega a ver que pare: pon como fin un token que sepas que "
        "va a salir.",
        loop(look=lambda token, ends: False),
    ),
    "mira solo el menor de los fines": (
        "Los fines son un conjunto. Prueba con dos, y que salga el mayor.",
        loop(look=lambda token, ends: token == min(ends, default=-1)),
    ),
    "se come el token de fin": (
        "El de fin se queda en el resultado: mira el último id.",
        _drops_the_end,
    ),
    "escribe uno de más": (
        "Cuenta los tokens nuevos cuando no hay fin.",
        lambda m, i, n, e: write(m, i, n + 1, e),
    ),
    "cuenta el prompt en el máximo": (
        "Prueba con un prompt de varios tokens: el máximo es de nuevos.",
        lambda m, i, n, e: write(m, i, max(0, n - i.shape[1]), e),
    ),
    "elige con la primera posición": (
        "Compara los ids con los que tú eliges, uno a uno: estos son otros.",
        loop(lambda model, ids: model(ids).logits[:, 0].argmax(-1)),
    ),
    "le da siempre el prompt de partida": (
        "El primero sale bien; los demás, no. Compara varios.",
        lambda model, ids, limit, ends: loop(lambda m, _: best(m, ids))(
            model, ids, limit, ends
        ),
    ),
    "mira si el prompt acaba en un fin": (
        "Un prompt puede acabar en un fin, y no por eso se calla: pon como fin "
        "el último del prompt.",
        _looks_at_the_prompt,
    ),
    "devuelve solo lo nuevo": (
        "El resultado lleva el prompt delante: compáralo entero.",
        lambda m, i, n, e: write(m, i, n, e)[:, i.shape[1] :],
    ),
    "paga un forward de más": (
        "Escribe lo mismo, con un forward de sobra: cuéntalos, con tu espía del "
        "ejercicio 1.",
        _one_more_forward,
    ),
}
EITHER = (
    "Vale con caché o sin ella: compara los ids, y cuenta forwards, no tokens "
    "que pasan."
)
JUDGED = GOOD | {name: bad for name, (_, bad) in BAD.items()}


WORDS = ("Rechaza uno bueno, que", "Deja pasar uno que")


def _judged(answer, name: str) -> str:
    def write(model, ids, max_new_tokens, ends):
        return JUDGED[name](model, ids, max_new_tokens, ends)

    return put_to_test(answer, write)


@cache
def _library(ids: tuple, limit: int, ends: tuple) -> list[int]:
    """Los ids nuevos que da `generate`."""
    return library(torch.tensor([ids]), limit, ends)[0, len(ids) :].tolist()


def _case(limit=6, which=None, place=None, prompt=2):
    """`(ids, máximo, fines)`; `which`: qué token nuevo es fin; `place`: o
    cuál del prompt."""
    ids = prompts()[prompt]
    free = library(ids, 12)[0, ids.shape[1] :].tolist()
    later = next(t for t in free if t != free[0])
    ends = {None: set(), "first": {free[0]}, "later": {later}}
    ends |= {"two": {later, min(later - 1, 0)}, "ours": {ids[0, -1].item()}}
    return ids, limit, ends[which]


EVERY = [
    _case(limit, which)
    for limit in (6, 12)
    for which in (None, "first", "later", "two", "ours")
]


def _spied(write, ids, limit, ends):
    """Lo que devuelve, y lo que ha entrado en cada forward."""
    model, got = tiny_model(), []
    seen = spy(model, lambda: got.append(write(model, ids, limit, ends)))
    return got[0], seen


def _test(cases=tuple(EVERY), look=torch.equal, spied=lambda seen: seen):
    """Una respuesta de 05.6; sus opciones la hacen ciega."""

    def test_write(write):
        for ids, limit, ends in cases:
            new = _library(tuple(ids[0].tolist()), limit, tuple(ends))
            right = torch.cat([ids, torch.tensor([new])], -1)
            ours, seen = _spied(write, ids, limit, ends)
            assert look(ours, right)
            many = right.shape[1] - ids.shape[1]
            assert len(spied(seen)) == (many if spied(seen) else 0)

    return test_write


def _stepwise(write):
    """Sin biblioteca: paso a paso, con el modelo delante."""
    for ids, limit, ends in EVERY:
        ours, seen = _spied(write, ids, limit, ends)
        text, new = ids, 0
        while new < limit:
            token = tiny_model()(text).logits[0, -1].argmax().view(1, 1)
            text, new = torch.cat([text, token], -1), new + 1
            if int(token) in ends:
                break
        assert ours.tolist() == text.tolist()
        assert len(seen) == new


def _only(*which, **more):
    return _test(tuple(_case(12, name) for name in which), **more)


def _only_first_and_none(write):
    """El fin cae justo en el máximo: no se ve si para."""
    _test((_case(1, "first"), _case(6)))(write)


exercise(
    "05.6",
    Part(
        [()],
        **jury(GOOD, BAD, EITHER, _judged, WORDS),
        traps={
            BAD["no mira si el primer token es un fin"][0]: _only(
                None, "later", "two", "ours"
            ),
            BAD["no para en ningún fin"][0]: _only_first_and_none,
            BAD["mira solo el menor de los fines"][0]: _only(
                None, "first", "later", "ours"
            ),
            BAD["mira si el prompt acaba en un fin"][0]: _only(
                None, "first", "later", "two"
            ),
            BAD["paga un forward de más"][0]: _test(spied=lambda seen: []),
            EITHER: [
                _test(spied=lambda seen: [1] * sum(seen)),
                _test(look=lambda a, b: a.tolist() == b[0].tolist()),
            ],
            ASSERTS: returning(_test()),
        },
        rights=[_test(), _stepwise],
    ),
    success="¡Correcto! Tu prueba acepta tres bucles y caza once.",
)
