"""Unidad 08."""

import re
from functools import partial
from itertools import cycle

from transformers.utils.chat_template_utils import render_jinja_template

from tokenatoken.chat import plain_ids
from tokenatoken.checks import unit08
from tokenatoken.checks.bench import tokenizer
from tokenatoken.checks.unit08 import (
    ASSISTANT,
    BLOCK,
    BOS,
    CLOSE,
    EOS,
    MISTRAL,
    OPENED,
    TALK,
    TEMPLATES,
    deepseek,
    needs_thought,
    next_prompt,
    report,
    split_open,
    starts,
)
from tokenatoken.tokens import encode

from . import wrong


def with_library(messages):
    return tokenizer().apply_chat_template(messages, tokenize=False)


def with_jinja(messages):
    (text,), _ = render_jinja_template(
        [messages],
        chat_template=(TEMPLATES / "deepseek-r1.jinja").read_text("utf-8"),
        add_generation_prompt=True,
        bos_token=BOS,
    )
    return text


def last_only(model, t, questions):
    return report(model, t, questions[-1:])


def without_added(t, new):
    return t.decode([i for i in new if i not in t.added_tokens_decoder])


def stacked(model, t, questions):
    """Cada pregunta, con las anteriores delante."""
    rows, before = [], ""
    for q in questions:
        before += MISTRAL.format(q)
        rows += report(model, t, [q], prompt=lambda _, b=before: b)
    return rows


def renamed(model, t, questions):
    rows = report(model, t, questions)
    return [{"text": r["texto"], **r} for r in rows]


def by_template(t, ids, question, think):
    """La plantilla, que añade su propio mensaje de sistema."""
    messages = [{"role": "user", "content": question}]
    text = t.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    return ids + encode(t, f"<|im_end|>\n{text}") + encode(t, BLOCK)


def all_tags_out(text):
    thought, _, closed = split_open(text)
    return thought, re.sub("</?think>", "", text.split(CLOSE)[-1]), closed


def another_block(text):
    """Lo que sigue al primer <think> de la respuesta, pensamiento."""
    thought, answer, closed = split_open(text)
    before, mark, inside = answer.partition("<think>")
    if not mark or "```" in before:
        return thought, answer, closed
    return thought + inside, before, closed


def two_breaks(text):
    thought, mark, answer = text.partition(CLOSE)
    if "<think>" in text:
        return split_open(text)
    return (
        re.sub(r"\A\n{1,2}|\n{1,2}\Z", "", thought),
        re.sub(r"\A\n{1,2}|\n{1,2}\Z", "", answer),
        bool(mark),
    )


def two_blocks(text):
    blocks = text.split("<think>")
    if len(blocks) < 4 or not text.lstrip().startswith("<think>"):
        return split_open(text)
    thought, _, _ = split_open("<think>".join(blocks[:3]))
    return thought, "<think>" + blocks[3], True


def spot(test):
    return lambda t, messages: [
        i for i, m in enumerate(messages) if test(t, m["content"])
    ]


def added(t, text):
    return [i for i in encode(t, text) if i in t.added_tokens_decoder]


def compare(render, n, before, after):
    assert starts(render(TALK[:after], True), render(TALK[:n], before))


def as_text(render):
    """Compara textos, y dos tiras de ids pueden dar el mismo."""
    closed = render(TALK[:3], False)
    assert str(render(TALK[:4], True)).startswith(str(closed)[:40])


def only_first(render):
    for n in range(2, len(TALK), 2):
        assert render(TALK[:n], True)[0] == render(TALK, True)[0]


MUTANTS = {
    "08.1": {
        "sin fin": wrong(partial(deepseek, end="")),
        "sin BOS": wrong(partial(deepseek, bos=""), says="carácter 2"),
        "otro pensamiento": wrong(
            partial(deepseek, answer=lambda text: text.split(CLOSE, 1)[-1])
        ),
        "limpia": wrong(
            partial(deepseek, answer=lambda s: s.split(CLOSE)[-1].strip())
        ),
        "cerrado si responde": wrong(
            lambda m: deepseek(
                m, opened=OPENED if m[-1]["role"] == "user" else ""
            )
        ),
        "barras de teclado": wrong(lambda m: deepseek(m).replace("｜", "|")),
        "con la biblioteca": wrong(with_library, says="a mano"),
        "con Jinja": wrong(with_jinja, says="render_jinja_template"),
        "lo pensado, salvo al final": wrong(
            lambda m: (
                deepseek(m[:-1], opened="")
                + deepseek(m[-1:], bos="", answer=lambda text: text)
            )
        ),
        "lista": wrong(lambda m: [deepseek(m)], says="un texto"),
        "solo lo último": wrong(lambda m: deepseek(m[-1:])),
        "sin sistema": wrong(
            lambda m: deepseek([x for x in m if x["role"] != "system"])
        ),
        "al revés": wrong(
            lambda m: deepseek(m).replace(ASSISTANT, EOS).replace(BOS, "")
        ),
    },
    "08.2": {
        "una sola": wrong(last_only, says="aquí, 4"),
        "apiladas": wrong(stacked),
        "otras claves": wrong(renamed, says="«texto»"),
        "un diccionario": wrong(
            lambda m, t, q: report(m, t, q)[0], says="lista"
        ),
        "sin contar": wrong(partial(report, count=lambda new, ends: "16")),
        "fin a veces": wrong(
            partial(report, closed=lambda steps, ends: False)
        ),
        "espacio final": wrong(
            partial(report, prompt="<s>[INST] {} [/INST] ".format)
        ),
        "sin ningún añadido": wrong(
            partial(report, text=without_added), says="texto"
        ),
        "sin el salto final": wrong(
            partial(
                report,
                text=lambda t, new: t.decode(
                    new, skip_special_tokens=True
                ).rstrip("\n"),
            ),
            says="texto",
        ),
        "cuenta el prompt": wrong(
            partial(report, count=lambda new, ends: len(new) + 9),
            says="tokens",
        ),
    },
    "08.3": {
        "solo lo nuevo": wrong(
            lambda t, ids, q, think: next_prompt(t, [], q, think),
            needs_thought,
        ),
        "con su sistema": wrong(by_template, needs_thought),
        "texto": wrong(
            lambda *a: a[0].decode(next_prompt(*a)),
            needs_thought,
            says="una lista",
        ),
        "sin sus blancos": wrong(
            partial(next_prompt, text=lambda t, q: plain_ids(t, q.rstrip())),
            needs_thought,
        ),
        "se turna": wrong(
            next_prompt,
            partial(lambda turns, q: next(turns), cycle((True, False))),
            says="de 20",
        ),
        "sin abrir": wrong(
            lambda *a: next_prompt(*a)[:-8], needs_thought, says="tocaba"
        ),
        "cierra dos veces": wrong(
            partial(next_prompt, close="<|im_end|>\n<|im_end|>\n"),
            needs_thought,
        ),
        "dice sí": wrong(next_prompt, lambda q: "sí", says="True o False"),
        "va al revés": wrong(
            next_prompt, lambda q: not needs_thought(q), says="de 20"
        ),
        "si pregunta": wrong(next_prompt, lambda q: "?" in q, says="de 20"),
        "a cara o cruz": wrong(
            next_prompt, lambda q: len(q) % 2 == 0, says="de 20"
        ),
    },
    "08.4": {
        "dos cosas": wrong(lambda s: split_open(s)[:2], says="tres cosas"),
        "en otro orden": wrong(lambda s: split_open(s)[::-1], says="textos"),
        "None si no hay": wrong(
            lambda s: tuple(x or None for x in split_open(s)), says="textos"
        ),
        "sin quitar saltos": wrong(
            lambda s: (*s.partition(CLOSE)[::2], CLOSE in s)
        ),
        "quita las etiquetas": wrong(all_tags_out),
        "dos bloques": wrong(two_blocks),
        "un solo corte": wrong(
            lambda s: (
                split_open(s)[0],
                split_open(s)[1].split(CLOSE)[0],
                split_open(s)[2],
            )
        ),
        "siempre cerrado": wrong(lambda s: (*split_open(s)[:2], True)),
        "cerrado si hay etiqueta": wrong(
            lambda s: (*split_open(s)[:2], CLOSE in s), says="Dos"
        ),
        "sin cerrar, con etiqueta": wrong(
            lambda s: (
                split_open(s) if CLOSE in s else (s.strip("\n"), "", False)
            )
        ),
        "otro bloque en medio": wrong(another_block),
        "todas las etiquetas": wrong(
            lambda s: split_open(re.sub(r"\A(\s*<think>)+", "", s))
        ),
        "espacios del final": wrong(
            unit08._after(lambda a, b, c: (a.rstrip(), b.rstrip(), c))
        ),
        "cierres seguidos": wrong(
            unit08._after(lambda a, b, c: (a, b.removeprefix(CLOSE), c))
        ),
        "dos saltos como mucho": wrong(two_breaks),
        "también el retorno": wrong(
            unit08._after(
                lambda a, b, c: (a.strip("\r\n"), b.strip("\r\n"), c)
            )
        ),
        "sin tabulador": wrong(
            lambda s: split_open(s if s[:1] != "\t" else "·" + s)
        ),
        "bloques sin espacio": wrong(
            lambda s: (
                split_open(s)[0].replace("\n\n", "\n"),
                *split_open(s)[1:],
            )
        ),
    },
    "08.5": {
        "sí o no": wrong(
            lambda t, m: [bool(added(t, x["content"])) for x in m]
        ),
        "desde 1": wrong(
            lambda t, m: [i + 1 for i in spot(added)(t, m)], says="señalas"
        ),
        "al principio": wrong(
            spot(lambda t, s: added(t, s)[:1] == encode(t, s)[:1] != [])
        ),
        "el primero": wrong(
            lambda t, m: spot(added)(t, m)[:1], says="se te escapa"
        ),
        "con index": wrong(
            lambda t, m: [m.index(m[i]) for i in spot(added)(t, m)]
        ),
        "conjunto": wrong(lambda t, m: {*spot(added)(t, m)}, says="una lista"),
        "ninguno": wrong(lambda t, m: [], says="se te escapa"),
        "todos": wrong(lambda t, m: [*range(len(m))], says="señalas"),
    },
    "08.6": {
        "vacía": wrong(lambda render: None, says="sin llamar"),
        "falla siempre": wrong(
            lambda render: int("x" * len(render(TALK, True))),
            says="ValueError",
        ),
        "una llamada": wrong(
            lambda render: [][: len(render(TALK, True))].clear()
        ),
        "dos turnos": wrong(
            lambda render: compare(render, 3, False, 4), says="Deja pasar"
        ),
        "como texto": wrong(as_text, says="Deja pasar"),
        "el primer id": wrong(only_first, says="Deja pasar"),
        "True al acabar, y poco más": wrong(
            lambda render: compare(render, 3, False, 4) or True,
            says="Deja pasar",
        ),
        "rechaza todo": wrong(
            lambda render: compare(render, 3, True, 2), says="buena"
        ),
        "determinista": wrong(
            partial(
                unit08.test_prefix,
                ok=lambda whole, part: bool(whole) and bool(part),
            ),
            says="Deja pasar",
        ),
    },
}
