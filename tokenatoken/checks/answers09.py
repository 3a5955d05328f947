"""Respuestas buenas y malas del laboratorio 09, con las que compara `unit09`.

Cada función es la buena, y sus opciones la estropean de una manera.
"""

import re
from functools import cache

import numpy as np
import torch

from ..grammar import NEVER, derive, nullable, regex
from ..tokens import token_bytes

DIGITS = "0123456789"


def after(rule, raw: bytes):
    """Lo que queda por leer de `rule` después de esos bytes."""
    for byte in raw:
        rule = derive(rule, byte)
    return rule


# 09.1


def by_text(test, added=False, **how):
    """Una respuesta de 09.1: los ids cuyo texto cumple `test`."""
    return lambda t: [
        i
        for i in range(len(t))
        if (added or i not in t.added_tokens_decoder)
        and test(t.decode([i], **how))
    ]


def either(*tests):
    return [by_text(test, added) for test in tests for added in (False, True)]


def is_digits(text) -> bool:
    return text.isascii() and text.isdigit()


def in_bytes(t):
    ids = {*range(len(t))} - {*t.added_tokens_decoder}
    return {i for i in ids if re.fullmatch(rb"[0-9]+", token_bytes(t, i))}


# 09.2


def lower(raw: bytes, errors="replace") -> str:
    return raw.decode("utf-8", errors).lower()


def safe(written, tokens, word, low=lower, fold=str.lower):
    """Una respuesta de 09.2: ¿está la palabra en lo que quedaría escrito?"""
    return [fold(word) not in low(written + t) for t in tokens]


def overlaps(written, tokens, word):
    """Prohíbe también lo que deja la palabra a medias."""
    starts = tuple(word.lower()[: n + 1] for n in range(len(word)))
    good = safe(written, tokens, word)
    return [g and not lower(t).endswith(starts) for g, t in zip(good, tokens)]


def by_pattern(written, tokens, word):
    way = "".join(f"(?:{c.lower()}|{c.upper()})" for c in map(re.escape, word))
    rule = re.compile(way.encode())
    return np.array([not rule.search(written + t) for t in tokens])


# 09.3

D28, MONTH = "(0[1-9]|1[0-9]|2[0-8])", "(0[1-9]|1[0-2])"
DATE = f"{D28}/{MONTH}|(29|30)/(0[13-9]|1[0-2])|31/(0[13578]|1[02])"


# 09.4

LETTERS = "BCDFGHJKLMNPRSTVWXYZ"
END, DEAD = "fin", -1


def plate(letters=LETTERS, **rows):
    """La tabla de «1234 BCD»; `rows` cambia filas: `r4={" ": 4}`."""
    table = {i: dict.fromkeys(DIGITS, i + 1) for i in range(4)}
    table |= {i: dict.fromkeys(letters, i + 1) for i in (5, 6)}
    table[4] = {" ": 5} | dict.fromkeys(letters, 6)
    table[7] = dict.fromkeys(letters, END)
    for name, row in rows.items():
        state = END if name == END else int(name[1:])
        table[state] = table.get(state, {}) | row
    return table


def advance(table, state, text, lost=lambda state: DEAD):
    for c in text:
        state = table.get(state, {}).get(c, lost(state))
    return state


def count_texts(table, same=list, leaf=lambda state, table: state == END):
    @cache
    def ways(state):
        following = same(table.get(state, {}).values())
        return sum(map(ways, following)) + leaf(state, table)

    return ways(0)


def one_by_one(table, state=0):
    row = table.get(state, {})
    return (state == END) + sum(one_by_one(table, s) for s in row.values())


# 09.5


def exact(model, ids, labels, end):
    """Token a token, un forward cada vez, en 64 bits."""
    totals = []
    for label in labels:
        text, total = ids, 0.0
        for token in (*label, end):
            logits = model(text).logits[0, -1].double()
            total += logits.log_softmax(-1)[token]
            text = torch.cat([text, torch.tensor([[token]])], -1)
        totals.append(total)
    return torch.stack(totals).softmax(0)


def scored(model, ids, row, shift=1):
    """Los logits con los que se elige cada token de `row`, `[m, V]`."""
    logits = model(torch.cat([ids, torch.tensor([row])], -1)).logits[0]
    return logits[ids.shape[1] - shift :][: len(row)]


def distribution(
    model,
    ids,
    labels,
    end,
    score=torch.sum,
    row=lambda label, end, longest: [*label, end],
    share=lambda totals: totals.softmax(0),
    norm=lambda logits: logits.log_softmax(-1),
    shift=1,
):
    """Una respuesta de 09.5: `score` resume lo que saca cada token."""
    longest, totals = max(map(len, labels)), []
    for label in labels:
        whole = row(label, end, longest)
        logs = norm(scored(model, ids, whole, shift))  # [m, V]
        totals.append(score(logs[range(len(whole)), whole]))
    return share(torch.stack(totals))


def filled(label, end, longest, fill=0):
    return [*label, end] + [fill] * (longest - len(label))


def masked(model, ids, labels, end):
    """Repartir en cada paso entre los tokens que alguna etiqueta permite."""
    rows, shares = [(*label, end) for label in labels], []
    for row in rows:
        logits, share = scored(model, ids, row), 1.0
        for i, token in enumerate(row):
            good = [*{r[i] for r in rows if r[:i] == row[:i]}]
            share *= logits[i, good].softmax(0)[good.index(token)].item()
        shares.append(share)
    return shares


# 09.6

FAR = 10**6
QUOTED = regex('"[^"]*"')
NOT_QUOTE = ("byte", frozenset({*range(256)} - {34}))


def away(tokens, state) -> int:
    """Cuántos tokens faltan, como poco, para que el texto valga."""
    seen, now, n = {NEVER}, {state} - {NEVER}, 0
    while now and not any(map(nullable, now)):
        seen |= now
        now, n = {after(s, t) for s in now for t in tokens} - seen, n + 1
    return n if now else FAR


def mask(
    tokens,
    written,
    left,
    rule=QUOTED,
    more=0,
    fits=lambda token: True,
    ends=nullable,
):
    """Una máscara de 09.6, con sus fallos."""
    state = after(rule, written)
    good = {
        t
        for t in tokens
        if fits(t) and 1 + away(tokens, after(state, t)) <= left + more
    }
    return good | ({"fin"} if ends(state) else set())


def is_text(raw) -> bool:
    return raw.decode("utf-8", "ignore").encode() == raw


SHORT, PARTS = [b'"', b"a", b'a"'], [b'"', b"\xc3", b"\xb1"]
STEPS = [
    (SHORT, b'"a"', 5, {"fin"}),
    (SHORT, b'"a', 2, {*SHORT}),
    (SHORT, b'"a', 1, {b'"', b'a"'}),
    (SHORT, b"", 0, set()),
    (PARTS, b'"', 3, {b'"', b"\xc3"}),
    (PARTS, b'"\xc3', 3, {b"\xb1"}),
]


def test_mask(ours, skip=(), wrong=()):
    for i, (*step, right) in enumerate(STEPS):
        assert i in skip or ours(*step) == right
    assert not wrong


def test_raising(ours):
    if [ours(*step) for *step, _ in STEPS] != [step[-1] for step in STEPS]:
        raise AssertionError


def returning(ours):
    return all(ours(*step) == right for *step, right in STEPS)


# 09.7


def allowed(
    written,
    texts,
    labels,
    end,
    alive=True,
    pick=lambda sizes: sizes,
    fits=lambda piece: True,
    closes=lambda whole, written: whole == written,
):
    """Una respuesta de 09.7: todo corte que lleva al final de una etiqueta."""

    @cache
    def spelled(rest):
        cuts = range(1, len(rest) + 1)
        found = (rest[:n] in texts and spelled(rest[n:]) for n in cuts)
        return not rest or any(found)

    good = set()
    for whole in map(str.encode, labels):
        if whole.startswith(written):
            rest = whole[len(written) :]
            cuts = [rest[:n] for n in range(1, len(rest) + 1)]
            cuts = [c for c in cuts if c in texts and fits(c)]
            if alive:
                cuts = [c for c in cuts if spelled(rest[len(c) :])]
            good |= {texts[c] for c in pick(cuts)}
            good |= {end} if closes(whole, written) else set()
    return good


def spellings(raw: bytes, texts: dict):
    """Todas las maneras de escribir esos bytes con tokens."""
    if not raw:
        yield []
    for n in range(1, len(raw) + 1):
        if raw[:n] in texts:
            yield from ([raw[:n], *more] for more in spellings(raw[n:], texts))


def paths(labels, texts, end) -> dict:
    """Escrito → ids que le siguen en alguna de todas esas maneras."""
    following = {}
    for label in labels:
        for way in spellings(label.encode(), texts):
            for n in range(len(way) + 1):
                after_it = following.setdefault(b"".join(way[:n]), set())
                after_it.add(texts[way[n]] if n < len(way) else end)
    return following


def only_first(written, texts, labels, end):
    good = [x for x in labels if x.encode().startswith(written)]
    return allowed(written, texts, good[:1], end)


def no_short_end(written, texts, labels, end):
    several = [x for x in labels if x.encode().startswith(written)]
    return allowed(written, texts, labels, end) - {end if several[1:] else -1}
