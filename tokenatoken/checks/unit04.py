"""Corrección del laboratorio 04 · Elegir el siguiente token."""

from functools import lru_cache

import numpy as np
import torch

from ..forward import next_logits, prompt_ids
from .bench import course_model, plain_text, random_logits
from .kit import (
    Hint,
    Part,
    Pending,
    as_int,
    call,
    exercise,
    expect,
    jury,
    number,
    plain,
    put_to_test,
    returning,
    say,
    second_answer,
    tensor,
)

INF = float("inf")


# 04.1


def _door_cases():
    """Logits sin ordenar ni empates, altos, bajos y muy bajos."""
    for seed, (size, token, shift) in enumerate(
        [(5, 2, 0), (9, 0, 4), (30, 17, -5), (60, 41, 150), (12, 11, -150)]
    ):
        yield random_logits(200 + seed, size, 1.5) + shift, token
    steep = random_logits(210, 20, 4.0)
    yield steep, int(steep.argmax())
    yield steep, int(steep.argmin())


def doors(logits, token, rank=1, own=0, sure=None, by=torch.softmax):
    """La respuesta de 04.1; sus opciones la estropean."""
    shares = by(logits.double(), -1)
    better = shares[shares > shares[token]]
    m = (sure or (lambda x: x[token] / x.max()))(shares)
    return rank + len(better), better.sum() + own * shares[token], m


def _sorted_doors(logits, token):
    shares = logits.softmax(-1)
    order = shares.argsort(descending=True).tolist()
    k = order.index(token)
    return k + 1, sum(shares[order[:k]].tolist()), shares[token] / max(shares)


def _place(logits, token):
    """Como si `token` fuera el puesto: el que está ahí tras ordenar."""
    x = logits.sort(descending=True).values
    return doors(x, token)


def _three(value, *case):
    value = plain(value)
    three = "Da tres números: (k, p, m)."
    expect(isinstance(value, tuple | list) and len(value) == 3, three)
    names = "k", "p", "m"
    return torch.tensor([number(v, n) for v, n in zip(value, names)]).double()


def _door_said(ours, right, logits, token) -> str:
    wrong = [abs(a - b) > 1e-4 for a, b in zip(ours, right)]
    which = wrong.index(True) if True in wrong else 0
    return say(
        "Con {0} logits y el token {1}, {2} tendría que ser {3:.4f} y te sale "
        "{4:.4f}.",
        len(logits),
        token,
        "kpm"[which],
        float(right[which]),
        float(ours[which]),
    )


exercise(
    "04.1",
    Part(
        _door_cases,
        truth=lambda x, t: _three(doors(x, t)),
        read=_three,
        near=1e-4,
        said=_door_said,
        otherwise="Haz la cuenta a mano con tres tokens de probabilidades 0,6, "
        "0,3 y 0,1, para cada uno de ellos.",
        traps={
            "Al mejor le basta k = 1: cuéntalo también a él.": (
                lambda x, t: doors(x, t, rank=0)
            ),
            "p es lo que se junta ANTES de llegar a él; con él dentro ya ha "
            "pasado.": lambda x, t: doors(x, t, own=1),
            "m compara probabilidades, la suya con la del mejor, y no logits.": (
                lambda x, t: (*doors(x, t)[:2], x[t] / x.max())
            ),
            "m no es su probabilidad, sino cuántas veces cabe en la del mejor: "
            "min-p corta por comparación.": [
                lambda x, t: doors(x, t, sure=lambda s: s[t]),
                lambda x, t: doors(x, t, sure=lambda s: s.max() - s[t]),
            ],
            "m es al revés: la suya entre la del mejor, que no pasa de 1.": (
                lambda x, t: doors(x, t, sure=lambda s: s.max() / s[t])
            ),
            "`token_id` es un sitio en los logits sin ordenar, no el puesto que "
            "ocupa de mejor a peor.": [
                _place,
                lambda x, t: (t + 1, *doors(x, t)[1:]),
                lambda x, t: (
                    doors(x, t)[0],
                    x.double().softmax(-1)[:t].sum(),
                    doors(x, t)[2],
                ),
            ],
            "Ordenas de peor a mejor: k y p cuentan desde el mejor.": (
                lambda x, t: doors(-x, t)
            ),
            "Están, pero en otro orden: (k, p, m).": [
                lambda x, t: (doors(x, t)[0], *doors(x, t)[:0:-1]),
                lambda x, t: doors(x, t)[::-1],
            ],
            "La exponencial de un logit de 150 no cabe, y la de −150 es 0: el "
            "softmax resta antes el máximo.": (
                lambda x, t: doors(
                    x.float(), t, by=lambda v, _: _raw_shares(v.float())
                )
            ),
        },
        rights=[
            doors,
            _sorted_doors,
            lambda x, t: list(doors(x - x.max(), t)),
            lambda x, t: torch.tensor([float(v) for v in doors(x, t)]),
        ],
    ),
    success="¡Correcto! Las tres puertas del mismo token.",
)


def _raw_shares(x):
    return x.exp() / x.exp().sum(-1)


# 04.2


def _sigma_cases():
    """Lotes en los que da igual dividir por V o por V − 1."""
    for seed in range(12):
        batch = torch.stack(
            [
                random_logits(300 + 9 * seed + row, 40, 1 + row)
                + 5 * row
                - seed
                for row in range(1 + seed % 4)
            ]
        )
        n = (0.5, 1.0, 1.5, 2.0)[seed % 4]
        ends = [n_sigma(batch, n, correction=c) for c in (0, 1)]
        if torch.equal(*ends):
            yield batch, n


def n_sigma(x, n, correction=1, dim=-1, top=None, unit=torch.std, fill=-INF):
    """La respuesta de 04.2; sus opciones la estropean."""
    keep = dict(dim=dim, keepdim=True) if dim is not None else {}
    best = (top or (lambda v: v.amax(-1, keepdim=True)))(x)
    size = unit(x, correction=correction, **keep)
    return x.masked_fill(x < best - n * size, fill)


def _sigma_loop(x, n):
    rows = []
    for row in x.tolist():
        least = max(row) - n * np.std(row)
        rows.append([v if v >= least else -INF for v in row])
    return torch.tensor(rows)


def _batch(value, logits, n):
    return tensor(value, logits.shape, "Lo que devuelves")


def _sigma_said(ours, right, logits, n) -> str:
    kept, wanted = ours.isfinite().sum(-1), right.isfinite().sum(-1)
    return say(
        "Con n = {0} y {1} fila(s) siguen {2} tokens, y tendrían que seguir "
        "{3}.",
        n,
        len(logits),
        kept.tolist(),
        wanted.tolist(),
    )


exercise(
    "04.2",
    Part(
        _sigma_cases,
        truth=lambda x, n: n_sigma(x, n).double(),
        read=_batch,
        near=1e-5,
        said=_sigma_said,
        otherwise="Imprime, de una fila, el mejor logit, σ y el umbral, y mira "
        "cuántos pasan.",
        traps={
            "Cada fila tiene su σ: la tuya mezcla las de todo el lote.": (
                lambda x, n: n_sigma(x, n, dim=None)
            ),
            "Cada fila tiene su mejor: el tuyo es el de todo el lote.": (
                lambda x, n: n_sigma(x, n, top=torch.max)
            ),
            "σ va a lo largo del vocabulario, y la tuya va de fila a fila.": (
                lambda x, n: n_sigma(x, n, dim=0, correction=0)
            ),
            "Eso es la varianza: σ es su raíz.": (
                lambda x, n: n_sigma(x, n, unit=torch.var)
            ),
            "El umbral baja desde el mejor, no desde la media.": [
                lambda x, n: n_sigma(x, n, top=lambda v: v.mean(-1, True)),
                lambda x, n: x.masked_fill(
                    x < x.mean(-1, True) + n * x.std(-1, keepdim=True), -INF
                ),
            ],
            "σ es la de los logits, no la de las probabilidades.": [
                lambda x, n: x.masked_fill(
                    x.softmax(-1)
                    < x.softmax(-1).amax(-1, keepdim=True)
                    - n * x.softmax(-1).std(-1, keepdim=True),
                    -INF,
                ),
                lambda x, n: x.masked_fill(
                    x
                    < x.amax(-1, keepdim=True)
                    - n * x.softmax(-1).std(-1, keepdim=True),
                    -INF,
                ),
            ],
            "Está al revés: fuera los que quedan por debajo del umbral.": (
                lambda x, n: x.masked_fill(
                    x
                    >= x.amax(-1, keepdim=True) - n * x.std(-1, keepdim=True),
                    -INF,
                )
            ),
            "Un 0 no descarta: su exponencial es 1. Los de fuera, a −∞.": (
                lambda x, n: n_sigma(x, n, fill=0.0)
            ),
            "Siguen los que tienen que seguir, pero desplazados: salen los mismos "
            "logits que entran.": [
                lambda x, n: n_sigma(x, n) - x.logsumexp(-1, keepdim=True),
                lambda x, n: n_sigma(x, n) - x.amax(-1, keepdim=True),
            ],
            "Se piden logits, con −∞ en los descartados, y has pasado por el "
            "softmax.": lambda x, n: n_sigma(x, n).softmax(-1),
        },
        rights=[
            n_sigma,
            lambda x, n: n_sigma(x, n, correction=0),
            _sigma_loop,
            lambda x, n: torch.where(
                x.amax(-1, keepdim=True) - x <= n * x.std(-1, keepdim=True),
                x,
                -INF,
            ),
        ],
    ),
    success="¡Correcto! Y dividir por T no cambia quién entra: ¿ves por qué?",
)


# 04.3


def _pick(row, T, dice):
    if T == 0:
        return int(row.argmax())
    return int(torch.multinomial((row / T).softmax(-1), 1, generator=dice))


def _dice(seed):
    return torch.Generator().manual_seed(seed)


def draw(logits, T, seeds, pick=_pick, dice=_dice):
    """La respuesta de 04.3; sus opciones la estropean."""
    return [pick(row, T, dice(int(s))) for row, s in zip(logits, seeds)]


def _one_dice(logits, T, seeds):
    dice = _dice(int(seeds[0]))
    return draw(logits, T, seeds, dice=lambda s: dice)


def _mixed_dice(logits, T, seeds):
    dice = _dice(sum(map(int, seeds)))
    return draw(logits, T, seeds, dice=lambda s: dice)


def _global(logits, T, seeds):
    def seeded(seed):
        torch.manual_seed(seed)

    return draw(logits, T, seeds, dice=seeded)


def _noise(row, T, dice):
    """Sortear sumando ruido (Gumbel) y quedarse con el mayor."""
    if T == 0:
        return int(row.argmax())
    u = torch.rand(len(row), generator=dice, dtype=torch.float64)
    return int((row / T - (-u.log()).log()).argmax())


COMPANY = (
    "La misma fila, con su misma semilla, da otro token según con quién vaya: "
    "ni el generador ni los logits pueden ser de otra."
)
UNSEEDED = "La misma llamada da otra cosa: ¿usas las semillas que recibes?"
STUCK = (
    "Con mil semillas distintas sale siempre el mismo: con T > 0 se sortea."
)
ZERO = "Con T = 0 no se puede dividir: es otra rama."
BEST = (
    "Con T = 0 no hay sorteo: el mejor de cada fila, sea cual sea la semilla."
)
TOUCHED = (
    "Funciona, pero dejas cambiado el azar global de PyTorch. Un "
    "torch.Generator por fila no lo toca."
)
NO_T = (
    "Es lo que sale sin temperatura: ¿divides los logits, antes del softmax?"
)
INVERSE = "La temperatura va al revés: se divide por T."
UNIFORM = "Salen todos por igual: ¿sorteas con las probabilidades de la fila?"
ROWS = torch.stack([random_logits(400 + i, 6, 1.0) for i in range(24)])


def _drawn(answer, logits, T, seeds) -> list[int]:
    value = plain(call(answer, logits, T, seeds))
    rows, size = logits.shape
    said = (
        f"Tiene que devolver {rows} ids: un entero de 0 a {size - 1} por fila."
    )
    expect(isinstance(value, list | tuple) and len(value) == rows, said)
    ids = [as_int(plain(v), said) for v in value]
    expect(all(0 <= i < size for i in ids), said)
    return ids


def _shares_seen(answer, T: float) -> torch.Tensor:
    """Con qué frecuencia sale cada uno de cuatro, con 3000 semillas."""
    row = torch.tensor([0.1, 0.5, 0.25, 0.15]).log() + 3
    ids = _drawn(answer, row.expand(3000, 4), T, list(range(3000)))
    return torch.bincount(torch.tensor(ids), minlength=4) / 3000


def _fair_rows(answer) -> None:
    seeds = [7 * i for i in range(24)]
    state = torch.get_rng_state()
    try:
        best = _drawn(answer, ROWS, 0, seeds)
    except Hint as hint:
        divides = hint.kind in ("RuntimeError", "ZeroDivisionError")
        raise Hint(f"{hint} {ZERO}" if divides else str(hint)) from None
    together = _drawn(answer, ROWS, 1.0, seeds)
    touched = not torch.equal(state, torch.get_rng_state())
    expect(together == _drawn(answer, ROWS, 1.0, seeds), UNSEEDED)
    alone = [
        _drawn(answer, ROWS[i : i + 1], 1.0, [seeds[i]])[0] for i in range(24)
    ]
    expect(together == alone, COMPANY)
    backwards = _drawn(answer, ROWS.flip(0), 1.0, seeds[::-1])
    expect(backwards[::-1] == together, COMPANY)
    expect(best == ROWS.argmax(-1).tolist(), BEST)
    base = torch.tensor([0.1, 0.5, 0.25, 0.15])
    for T in (1.0, 0.4, 2.5):
        seen = _shares_seen(answer, T)
        wanted = base ** (1 / T) / (base ** (1 / T)).sum()
        expect(int((seen > 0).sum()) > 1, STUCK)
        if (seen - wanted).abs().max() < 0.035:
            continue
        known = {NO_T: base, INVERSE: base**T / (base**T).sum()}
        known[UNIFORM] = torch.full((4,), 0.25)
        near = (h for h, w in known.items() if (seen - w).abs().max() < 0.035)
        said = say(
            "Con T = {0}, {1:.2f} en vez de {2:.2f}. ",
            T,
            seen.tolist(),
            wanted.tolist(),
        )
        raise Hint(said + next(near, "¿Con qué probabilidades sorteas?"))
    expect(not touched, TOUCHED)


def expected(probs, n):
    return sum(1 - (1 - float(p)) ** n for p in probs)


DISTINCT = {
    "Esa es la cuenta si todos fueran igual de probables: cada uno lleva su p.": (
        lambda p, n: len(p) * (1 - (1 - 1 / len(p)) ** n)
    ),
    "pⁿ es que salga todas las veces, y se busca que salga alguna: 1 menos que "
    "no salga ninguna.": [
        lambda p, n: sum(1 - float(q) ** n for q in p),
        lambda p, n: sum(float(q) ** n for q in p),
    ],
    "(1 − p)ⁿ es que no salga ninguna vez: los distintos son los que sí salen.": (
        lambda p, n: sum((1 - float(q)) ** n for q in p)
    ),
    "n · p es cuántas veces se espera a cada uno; sumadas dan n. Aquí cada uno "
    "cuenta como mucho una vez.": [
        lambda p, n: n * float(sum(p)),
        lambda p, n: sum(min(1.0, n * float(q)) for q in p),
    ],
    "Eso es lo más que puede haber, no lo que se espera.": (
        lambda p, n: min(n, len(p))
    ),
    "Los de p = 0 no salen nunca, y los de p pequeña, casi nunca: no cuentan "
    "uno entero.": lambda p, n: sum(float(q) > 0 for q in p),
}


def _distinct_cases():
    shares = [[1.0], [0.5, 0.5], [0.9, 0.06, 0.04, 0.0]]
    shares += [random_logits(s, 50).softmax(-1).tolist() for s in (1, 2)]
    for n in (1, 2, 10, 100):
        for row in shares:
            yield torch.tensor(row, dtype=torch.float64), n


def _given(traps: dict) -> dict:
    """Las trampas de las dos partes, con la otra bien."""
    return {h: [(w, expected) for w in ws] for h, ws in traps.items()}


COUNT = Part(
    _distinct_cases,
    truth=lambda p, n: expected(p, n),
    near=1e-4,
    said="Con {1} tirada(s), te salen {ours:.3f} distintos y se esperan "
    "{right:.3f}.",
    otherwise="Empieza por uno solo: ¿con qué probabilidad sale alguna vez en n "
    "tiradas? Después, suma.",
    traps=DISTINCT,
)


@exercise(
    "04.3",
    success="¡Correcto! Cada fila, con su azar; y la diversidad, sin sortear.",
    traps=_given(
        {
            COMPANY: [
                _one_dice,
                _mixed_dice,
                lambda x, T, s: draw(x[:1].expand_as(x) if T else x, T, s),
            ],
            UNSEEDED: [
                lambda x, T, s: draw(x, T, s, dice=lambda _: None),
                lambda x, T, s: torch.multinomial(
                    (x / (T or 1)).softmax(-1), 1
                )[:, 0],
            ],
            STUCK: [
                lambda x, T, s: x.argmax(-1),
                lambda x, T, s: draw(x, T, s, dice=lambda _: _dice(0)),
            ],
            ZERO: [
                lambda x, T, s: draw(
                    x, T, s, lambda r, T, d: _pick(r / T, 1, d)
                )
            ],
            BEST: [
                lambda x, T, s: draw(x, T or 1, s),
                lambda x, T, s: [0] * len(s) if T == 0 else draw(x, T, s),
                lambda x, T, s: (
                    [int(x[0].argmax())] * len(s) if T == 0 else draw(x, T, s)
                ),
            ],
            TOUCHED: [_global],
            NO_T: [lambda x, T, s: draw(x, T and 1.0, s)],
            INVERSE: [lambda x, T, s: draw(x, T and 1 / T, s)],
            UNIFORM: [lambda x, T, s: draw(x * (0 if T else 1), T, s)],
        }
    )
    | {
        hint: [(draw, w) for w in (ws if isinstance(ws, list) else [ws])]
        for hint, ws in DISTINCT.items()
    },
    rights=[
        (draw, expected),
        (
            lambda x, T, s: torch.tensor(draw(x, T, s, pick=_noise)),
            lambda p, n: (1 - (1 - p) ** n).sum(),
        ),
        (
            lambda x, T, s: tuple(draw(x, T, s)),
            lambda p, n: len(p) - np.power(1 - np.asarray(p), n).sum(),
        ),
    ],
)
def seeds_and_diversity(draw, expected_distinct):
    """`draw(logits [B, V], T, seeds)` y `expected_distinct(probs, n)`."""
    _fair_rows(draw)
    second_answer(expected_distinct, COUNT)


# 04.4


def nucleus(logits, p, least=lambda before, shares, p: before < p, fill=-INF):
    """Top-p; sus opciones lo estropean. `least` dice quién sigue, de mejor a
    peor, sabiendo lo acumulado antes de cada uno."""
    shares, order = logits.double().softmax(-1).sort(descending=True)
    stays = least(shares.cumsum(0) - shares, shares, p)
    out = torch.zeros_like(stays).scatter(0, order, ~stays)
    return logits.masked_fill(out, fill)


def _one_by_one(logits, p):
    shares, total = logits.double().softmax(-1).tolist(), 0.0
    result = torch.full_like(logits, -INF)
    for i in sorted(range(len(shares)), key=lambda i: -shares[i]):
        if total >= p:
            break
        result[i], total = logits[i], total + shares[i]
    return result


def _shift(more: int):
    """Quién sigue, con `more` de más (o de menos, pero nunca ninguno)."""

    def least(before, shares, p):
        many = max(1, int((before < p).sum()) + more)
        return torch.arange(len(before)) < many

    return least


def _wrong_place(logits, p):
    stays = nucleus(logits.sort(descending=True).values, p) > -INF
    return logits.masked_fill(~stays, -INF)


def _in_place(logits, p):
    return logits.copy_(nucleus(logits, p))


GOOD_NUCLEI = {
    "suma y corta": nucleus,
    "va de uno en uno": _one_by_one,
    "redondea la última cifra": lambda x, p: nucleus(x + 3.7, p) - 3.7,
}
NUCLEI = {
    "deja fuera al que cruza p": (
        "Necesita un caso en que cuentes a mano quién sigue: el que cruza p se "
        "queda.",
        lambda x, p: nucleus(x, p, least=_shift(-1)),
    ),
    "deja uno de más": (
        "No basta con que sigan los buenos: comprueba que los demás salen.",
        lambda x, p: nucleus(x, p, least=_shift(1)),
    ),
    "se queda sin ninguno si el primero pasa de p": (
        "Prueba con un token tan seguro que él solo pase de p.",
        lambda x, p: nucleus(
            x, p, least=lambda b, s, p: (b + s <= p) | ((b < p) & (s[0] < p))
        ),
    ),
    "devuelve los logits ordenados": (
        "Prueba con logits sin ordenar y mira en qué sitio acaba cada uno.",
        lambda x, p: nucleus(x, p).sort(descending=True).values,
    ),
    "aplica el corte en los sitios de la lista ordenada": (
        "Tus logits ya venían ordenados, y así este bug no se ve (es el de un "
        "núcleo que prohíbe al mejor).",
        _wrong_place,
    ),
    "devuelve probabilidades": (
        "No mires solo quién sigue: también cuánto vale. Entran logits y salen "
        "los mismos logits.",
        lambda x, p: nucleus(x, p).softmax(-1).log(),
    ),
    "pone 0 en los descartados": (
        "Mira qué hay en los descartados: un 0 también sale en el sorteo.",
        lambda x, p: nucleus(x, p, fill=0.0),
    ),
    "es min-p disfrazado": (
        "Este mira la distancia al mejor y no lo que se suma. Prueba con muchos "
        "tokens parecidos.",
        lambda x, p: nucleus(x, p, least=lambda b, s, p: s >= (1 - p) * s[0]),
    ),
    "no mira p": (
        "Prueba con más de un valor de p.",
        lambda x, p: nucleus(x, 0.9),
    ),
    "cambia los logits que recibe": (
        "Guarda una copia de los logits y mira después si siguen igual.",
        _in_place,
    ),
}
FAIR = (
    "Vale cualquier forma de escribirlo: compara los logits con una tolerancia, "
    "que la última cifra puede cambiar."
)
JUDGED = GOOD_NUCLEI | {name: bad for name, (_, bad) in NUCLEI.items()}


WORDS = ("Rechaza uno bueno, que", "Deja pasar uno que")


def _judged(answer, name: str) -> str:
    def top_p(logits, p):
        return JUDGED[name](logits, p)

    return put_to_test(answer, top_p)


SURE = [0.0, 5.0, 1.0, -1.0]  # el segundo se lleva casi todo
MIXED = [1.0, 2.0, 0.0, 1.5, -1.0]
FLAT = [0.3, 0.1, 0.5, 0.2, 0.4, 0.0]


def _test(
    cases=((MIXED, 0.5), (MIXED, 0.9), (SURE, 0.6), (FLAT, 0.6)),
    look=torch.allclose,
    copies=True,
):
    """Una respuesta de 04.4; sus opciones la hacen ciega."""

    def test_top_p(top_p):
        for logits, p in cases:
            given = torch.tensor(logits)
            kept = given.clone() if copies else given
            result = top_p(given, p)
            assert look(result, nucleus(kept, p))
            assert torch.equal(given, kept)

    return test_top_p


def _by_counting(top_p):
    """Sin otro top-p: cada propiedad, por su lado."""
    for row, p in ((MIXED, 0.5), (MIXED, 0.9), (SURE, 0.6), (FLAT, 0.6)):
        logits = torch.tensor(row)
        result = top_p(logits, p)
        assert torch.equal(logits, torch.tensor(row))
        stays = [i for i, v in enumerate(result.tolist()) if v > -INF]
        assert all(abs(float(result[i]) - row[i]) < 1e-5 for i in stays)
        shares = logits.softmax(-1)
        assert stays and sum(shares[i] for i in stays) >= p
        worst = min(stays, key=lambda i: row[i])
        assert sum(shares[i] for i in stays if i != worst) < p
        assert all(row[worst] > v for i, v in enumerate(row) if i not in stays)


def _kept(a):
    return a > -INF


exercise(
    "04.4",
    Part(
        [()],
        **jury(GOOD_NUCLEI, NUCLEI, FAIR, _judged, WORDS),
        traps={
            NUCLEI["deja fuera al que cruza p"][0]: [
                lambda top_p: top_p(torch.tensor(MIXED), 0.5),
                _test(look=lambda a, b: not (_kept(a) & ~_kept(b)).any()),
            ],
            NUCLEI["deja uno de más"][0]: [
                _test(look=lambda a, b: bool(_kept(a)[_kept(b)].all())),
                _test(look=lambda a, b: a.argmax() == b.argmax()),
            ],
            NUCLEI["se queda sin ninguno si el primero pasa de p"][0]: (
                _test(((MIXED, 0.5), (MIXED, 0.9), (FLAT, 0.6)))
            ),
            NUCLEI["devuelve los logits ordenados"][0]: [
                _test(
                    look=lambda a, b: torch.equal(
                        a.double().sort().values, b.double().sort().values
                    )
                ),
                _test(look=lambda a, b: _kept(a).sum() == _kept(b).sum()),
            ],
            NUCLEI["aplica el corte en los sitios de la lista ordenada"][0]: (
                _test(
                    (
                        (sorted(MIXED)[::-1], 0.5),
                        (sorted(SURE)[::-1], 0.6),
                        (sorted(FLAT)[::-1], 0.6),
                        (sorted(MIXED)[::-1], 0.9),
                    ),
                )
            ),
            NUCLEI["devuelve probabilidades"][0]: (
                _test(look=lambda a, b: torch.equal(_kept(a), _kept(b)))
            ),
            NUCLEI["es min-p disfrazado"][0]: _test(
                ((SURE, 0.6), (MIXED, 0.95))
            ),
            NUCLEI["no mira p"][0]: _test(
                ((MIXED, 0.9), (FLAT, 0.9), (SURE, 0.9))
            ),
            NUCLEI["cambia los logits que recibe"][0]: (
                lambda top_p: [
                    _test()(lambda x, p: top_p(x.clone(), p)) for _ in "1"
                ]
            ),
            FAIR: [
                _test(look=torch.equal),
                _test(look=lambda a, b: a.tolist() == b.tolist()),
            ],
            "El veredicto es un assert: lanza AssertionError, o acaba sin más.": (
                returning(_test())
            ),
        },
        rights=[_test(), _by_counting],
    ),
    success="¡Correcto! Tu prueba acepta tres top-p y caza diez.",
)


# 04.5


GOOD = [0.4, 0.2, 0.15, 0.15, 0.1]
SIZES = "Hacen falta entre 4 y 6 probabilidades, todas mayores que 0."
SUM = "Tienen que sumar 1, en tanto por uno."
RANGE_T = "T tiene que ser mayor que 0."
RANGE_P = "p tiene que estar entre 0 y 1."
EDGE = "Una de las sumas cae justo en p y el redondeo decidiría. Aleja p."
WHICH_T = "¿Qué T concentra: mayor o menor que 1?"
SMALL = "Con T después el núcleo es pequeño: ¿qué p lo tiene grande?"
HEAD = "Hay empate en cabeza, y ninguna T separa a dos iguales."
FURTHER = "Vas en la buena dirección: sigue por ahí con T."
THREE = "Da tres cosas: (probabilidades, T, p)."


@exercise(
    "04.5",
    success="¡Correcto! El orden ha cambiado quién puede salir.",
    traps={
        WHICH_T: [(GOOD, 3.0, 0.88), (GOOD, 1.0, 0.88)],
        FURTHER: (GOOD, 0.5, 0.88),
        SMALL: [(GOOD, 0.2, 0.3), ([0.9, 0.05, 0.03, 0.02], 0.2, 0.8)],
        SUM: [
            ([0.4, 0.2, 0.2, 0.3, 0.1], 0.2, 0.88),
            ([40, 20, 15, 15, 10], 0.2, 0.88),
        ],
        SIZES: [
            ([0.1] * 10, 0.2, 0.88),
            ([0.6, 0.2, 0.2, 0.0], 0.2, 0.88),
            ([0.6, 0.3, 0.1], 0.2, 0.88),
        ],
        HEAD: [([0.25] * 4, 0.2, 0.9), ([0.3, 0.3, 0.2, 0.2], 0.05, 0.9)],
        EDGE: ([0.4, 0.3, 0.2, 0.1], 0.2, 0.9),
        RANGE_T: [(GOOD, -0.2, 0.88), (GOOD, 0, 0.88)],
        RANGE_P: [(GOOD, 0.2, 1.2), (GOOD, 0.2, 88)],
        THREE: ([0.4, 0.2, 0.4, 0.1], 0.2),
    },
    rights=[
        (GOOD, 0.2, 0.88),
        (np.array([0.3, 0.25, 0.25, 0.2]), 0.05, 0.85),
        (torch.tensor([0.3, 0.24, 0.24, 0.22]), 0.01, 0.9),
        [(0.35, 0.3, 0.2, 0.15), torch.tensor(0.05), 0.9],
    ],
)
def order_matters(answer):
    """`(probabilities, T, p)`: con T antes quedan al menos 3 menos."""
    expect(isinstance(answer, tuple | list) and len(answer) == 3, THREE)
    try:
        shares = torch.as_tensor(answer[0], dtype=torch.float64)
    except (TypeError, ValueError):
        raise Hint(SIZES) from None
    T, p = number(answer[1], "T"), number(answer[2], "p")
    expect(
        shares.dim() == 1 and len(shares) in (4, 5, 6) and shares.min() > 0,
        SIZES,
    )
    total = float(shares.sum())
    expect(abs(total - 1) < 1e-6, say("Suman {0:.4f}. ", total) + SUM)
    expect(T > 0, RANGE_T)
    expect(0 < p < 1, RANGE_P)
    first, last = _size(shares.log() / T, p), _size(shares.log(), p)
    said = (
        f"Con T antes quedan {first} y con T después, {last}; se pide que con "
        "T antes queden al menos 3 menos. "
    )
    expect(T < 1, said + WHICH_T)
    expect(last >= 4, said + SMALL)
    expect(int((shares == shares.max()).sum()) == 1, said + HEAD)
    expect(last - first >= 3, said + FURTHER)


def _size(scores, p: float) -> int:
    """Cuántos tokens tiene el núcleo."""
    ordered = scores.softmax(-1).sort(descending=True).values
    expect(bool(((ordered.cumsum(0) - p).abs() > 1e-6).all()), EDGE)
    return int((ordered.cumsum(0) - ordered < p).sum())


# 04.6


SHOWN = """La capital de Francia es|La capital de Argentina es|Había una vez
The capital of France is|import numpy as|for i in range(|def suma(a, b):
Uno, dos, tres,|Lunes, martes,|El sol sale por el|Me gusta el|Ayer
2 + 2 =|Buenos|Cristóbal|Muchas|Feliz|La nieve es|El agua hierve a
if __name__ == "__main|print("Hola|El perro|Para hacer una tortilla se
Once upon a|El presidente de|Los tres mosqueteros|¿Cómo te|Python es un
El resultado es|De postre quiero"""
STARTS = {plain_text(s) for s in SHOWN.replace("\n", "|").split("|")}
TEXTS = "Da dos textos, entre comillas: el cerrado y el abierto."
WORDS = "Es corto o larguísimo: cada comienzo, de 4 a 40 palabras."
OLD = "Ese comienzo es del cuaderno: busca uno tuyo."
LOOSE = (
    "El cerrado deja más de uno. ¿Qué frase o serie está tan repetida que "
    "solo puede seguir de una manera?"
)
TIGHT = (
    "El abierto no llega a 500. ¿Tras qué palabra cabe casi cualquiera, sin "
    "que lo anterior la anuncie?"
)


@lru_cache(16)
def _start(text: str) -> tuple[int, str]:
    """Cuántos deja top-p = 0,9 tras el texto, y los tres primeros."""
    model, tokenizer = course_model()
    ids = prompt_ids(model, tokenizer, text)
    logits = next_logits(model, ids)[0].double().cpu()
    shares, order = logits.softmax(-1).sort(descending=True)
    first = [tokenizer.decode([int(i)]) for i in order[:3]]
    size = int((shares.cumsum(0) - shares < 0.9).sum())
    return size, ", ".join(map(repr, first))


CLOSED, OPEN = "Estados Unidos de América y Estados", "Me gusta mucho el"


@exercise(
    "04.6",
    success="¡Correcto! El mismo p, y dos núcleos sin parecido.",
    traps={
        TEXTS: [(CLOSED, 7), (["a"], OPEN)],
        WORDS: [(CLOSED, "Me gusta"), (" ", OPEN), (CLOSED, "la " * 50)],
        OLD: [
            ("The capital of France is", OPEN),
            (CLOSED, " la capital de Francia es "),
        ],
        LOOSE: [(OPEN, CLOSED), ("lunes, martes, miércoles, jueves,", OPEN)],
        TIGHT: [(CLOSED, CLOSED), (CLOSED, "Más vale tarde que")],
    },
    rights=[
        (CLOSED, OPEN),
        ("enero, febrero, marzo, abril,", "Ayer compré en la tienda una"),
    ],
)
def two_starts(closed, open_ended):
    """Un comienzo que solo sigue de una manera, y otro de 500."""
    texts = closed, open_ended
    if ... in texts:
        raise Pending
    expect(all(isinstance(text, str) for text in texts), TEXTS)
    expect(all(4 <= len(text.split()) <= 40 for text in texts), WORDS)
    expect(not {plain_text(t.strip()) for t in texts} & STARTS, OLD)
    (one, first), (many, others) = map(_start, texts)
    said = f"El cerrado deja {one} ({first}); el abierto, {many} ({others}). "
    print(said.strip())
    expect(one == 1, said + LOOSE)
    expect(many >= 500, said + TIGHT)
