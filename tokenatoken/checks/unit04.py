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
    alike,
    as_int,
    call,
    diagnose,
    exercise,
    expect,
    number,
    say,
    tensor,
)

INF = float("inf")
FILTERS = (
    "TopKLogitsWarper.__call__",
    "TopPLogitsWarper.__call__",
    "top_k_filter",
    "top_p_filter",
    "warp_logits",
)


def _library(logits, T=1.0, k=0, p=1.0):
    """Los filtros de transformers, en su orden."""
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = logits[None] / T
    logits = TopKLogitsWarper(k)(None, logits) if k else logits
    return (TopPLogitsWarper(p)(None, logits) if p < 1 else logits)[0]


def _filtered(value, logits, *settings):
    what = "Lo que devuelves (los descartados, con −∞, no fuera de la lista)"
    return tensor(value, logits.shape, what)


def _how_many(ours, right, logits, *settings) -> str:
    kept, wanted = int(ours.isfinite().sum()), int(right.isfinite().sum())
    moved = not torch.equal(ours > -INF, right > -INF)
    other = ", pero otros" * (moved and kept == wanted)
    return (
        f"De {len(logits)} tokens, {wanted} tienen que seguir; en tu respuesta "
        f"siguen {kept}{other}."
    )


def _leave(fill):
    """Un filtro bueno que pone `fill` en los descartados."""
    return lambda function: (
        lambda x, *settings: function(x, *settings).nan_to_num(neginf=fill)
    )


ORDINARY = (
    "Los descartados llevan un número corriente, y aún podrían salir "
    "elegidos. Lo que nunca sale es −∞."
)
PLUS = "Los descartados llevan +∞, y el softmax se los daría todo."
SHARES = "Son probabilidades, y se piden logits: los que quedan no se tocan."
UNTOUCHED = (
    "Quedan los que deben, pero con otros valores. Los conservados no se "
    "tocan: el softmax ya reparte."
)


# 04.1


def _top_k(logits, k):
    return logits.masked_fill(logits < logits.topk(k).values[-1], -INF)


def _top_k_sorted(logits, k):
    worst = sorted(logits.tolist())[-k]
    return torch.tensor([x if x >= worst else -INF for x in logits.tolist()])


def _top_k_where(logits, k):
    worst = np.partition(logits.numpy(), -k)[-k]
    return torch.where(logits >= float(worst), logits, torch.tensor(-INF))


def _exact_k(logits, k):
    kept = logits.topk(k).indices
    return torch.full_like(logits, -INF).scatter(0, kept, logits[kept])


def _below(limit):
    """Un 04.1 que descarta lo que no llega a `limit(logits, k)`."""
    return lambda x, k: x.masked_fill(x < limit(x, k), -INF)


exercise(
    "04.1",
    Part(
        lambda: [
            (random_logits(1, 40), 7),
            (random_logits(0, 40), 1),
            (torch.tensor([1.0, 4.0, 5.0, 4.0, 4.0, -2.0]), 2),
            (torch.tensor([5.0, 1.0, 5.0, 4.0, 4.0, -2.0]), 2),
            (torch.tensor([3.0, 2.0, 2.0 - 1e-6, -2.0]), 2),
            (torch.tensor([200.0, 0.0, 50.0, 10.0]), 3),
            (-5 - random_logits(3, 40).abs(), 5),
            (random_logits(2, 40), 40),
            (torch.tensor([-INF, 1.0, 3.0, 2.0]), 3),
        ],
        truth=lambda logits, k: _library(logits, k=k),
        read=_filtered,
        without=FILTERS,
        said=lambda ours, right, logits, k: (
            f"Con k = {k}. {_how_many(ours, right, logits)}"
        ),
        traps={
            "Hay empatados con el k-ésimo, y ninguno está por debajo de él. "
            "¿Descartas por puesto o por valor?": _exact_k,
            "El k-ésimo se queda: ¿es menor, o menor o igual?": (
                lambda x, k: x.masked_fill(x <= x.topk(k).values[-1], -INF)
            ),
            "Comparas con el siguiente al k-ésimo, y queda uno de más.": (
                [
                    _below(lambda x, k: x.topk(min(k + 1, len(x))).values[-1]),
                    _below(lambda x, k: x.sort(descending=True).values[k]),
                ]
            ),
            UNTOUCHED: [
                lambda x, k: _top_k(x, k).log_softmax(-1),
                lambda x, k: _top_k(x, k) - x.max(),
            ],
            "Comparas con el anterior al k-ésimo, y falta uno.": (
                _below(lambda x, k: x.topk(max(k - 1, 1)).values[-1])
            ),
            "Te quedas con los peores: ¿de qué lado cortas?": lambda x, k: (
                -_top_k(-x, k)
            ),
            ORDINARY: [
                lambda x, k: x.masked_fill(x < x.topk(k).values[-1], 0.0),
                lambda x, k: x * (x >= x.topk(k).values[-1]),
                _leave(-1e3)(_top_k),
                _leave(-1e9)(_top_k),
                _leave(torch.finfo(torch.float32).min)(_top_k),
            ],
            "Te quedas con los k primeros puestos de la lista, y está sin "
            "ordenar.": lambda x, k: x.masked_fill(
                torch.arange(len(x)) >= k, -INF
            ),
            SHARES: [
                lambda x, k: _top_k(x, k).softmax(-1),
                lambda x, k: _top_k(x.softmax(-1), k),
            ],
            "Los devuelves ordenados, y cada logit tiene que seguir en su "
            "sitio.": lambda x, k: _top_k(x.sort(descending=True).values, k),
            PLUS: _leave(INF)(_top_k),
            "Cuentas valores distintos, y se cuentan tokens: dos empatados "
            "ocupan dos puestos.": _below(
                lambda x, k: x.unique()[-min(k, len(x.unique()))]
            ),
            "Comparas probabilidades, y las pequeñas se quedan en 0 y "
            "empatan. Compara los logits.": lambda x, k: x.masked_fill(
                x.softmax(-1) < x.softmax(-1).topk(k).values[-1], -INF
            ),
            "Das por empatados a dos que solo se parecen. Un empate es un "
            "empate: compáralos sin margen.": [
                _below(lambda x, k: x.topk(k).values[-1] - 1e-2),
                _below(lambda x, k: x.topk(k).values[-1] - 1e-5),
                lambda x, k: x.masked_fill(
                    (x < x.topk(k).values[-1])
                    & ~torch.isclose(x, x.topk(k).values[-1]),
                    -INF,
                ),
                lambda x, k: x.masked_fill(
                    (x < x.topk(k).values[-1])
                    & ~torch.isclose(x, x.topk(k).values[-1], atol=0.1),
                    -INF,
                ),
            ],
            "Devuelves la máscara, y se piden los logits con −∞ donde toca.": (
                lambda x, k: x >= x.topk(k).values[-1]
            ),
        },
        otherwise="Imprime el k-ésimo valor y los que dejas: tienen que ser "
        "los que lo igualan o lo pasan.",
        rights=[_top_k, _top_k_sorted, _top_k_where],
    ),
    success="¡Correcto! También con empates.",
)


# 04.2


def _top_p(out=lambda total, share, p: total - share >= p, descending=True):
    """Un núcleo que descarta los puestos que dice `out`."""

    def top_p(logits, p):
        shares, order = logits.softmax(-1).sort(descending=descending)
        gone = out(shares.cumsum(0), shares, p)
        return logits.masked_fill(
            torch.zeros_like(gone).scatter(0, order, gone), -INF
        )

    return top_p


top_p = _top_p()


def _ascending(logits, p):
    """Como la biblioteca: desde el menos probable."""
    ordered, order = logits.sort()
    out = ordered.softmax(-1).cumsum(-1) <= 1 - p
    return logits.masked_fill(out.scatter(0, order, out), -INF)


def _one_by_one(logits, p):
    shares, kept, total = logits.softmax(-1).tolist(), [], 0.0
    for i in sorted(range(len(shares)), key=lambda i: -shares[i]):
        if total >= p:
            break
        kept.append(i)
        total += shares[i]
    out = torch.full_like(logits, -INF)
    out[kept] = logits[kept]
    return out


def _crosses(total, share, p):
    return total > p


def _keeps_one(logits, p):
    """La receta mala, remendada para que no quede vacía."""
    wrong = _top_p(_crosses)(logits, p)
    return wrong if wrong.isfinite().any() else _top_k(logits, 1)


def _unsorted(logits, p):
    shares = logits.softmax(-1)
    return logits.masked_fill(shares.cumsum(0) - shares >= p, -INF)


def _misplaced(logits, p):
    shares, _ = logits.softmax(-1).sort(descending=True)
    return logits.masked_fill(shares.cumsum(0) - shares >= p, -INF)


def _gathered(logits, p):
    """Aplica el orden en vez de deshacerlo."""
    shares, order = logits.softmax(-1).sort(descending=True)
    return logits.masked_fill((shares.cumsum(0) - shares >= p)[order], -INF)


def _by_value(logits, p):
    shares = logits.softmax(-1)
    ordered = shares.sort(descending=True).values
    last = ordered[min(int((ordered.cumsum(0) < p).sum()), len(shares) - 1)]
    return logits.masked_fill(shares < last, -INF)


def _on_the_edge(logits, p: float) -> bool:
    """Si alguna suma acumulada cae tan cerca de p que el redondeo decide."""
    ordered = logits.double().softmax(-1).sort(descending=True).values
    return bool(((ordered.cumsum(0) - p).abs() < 1e-5).any())


def _ties(logits) -> bool:
    return len(logits.unique()) < len(logits)


def _seen(logits, filtered):
    """Lo que se compara: si hay empates, cuántos quedan (sirve cualquiera)."""
    return float(filtered.isfinite().sum()) if _ties(logits) else filtered


def _kept(function, logits, *settings):
    value = call(function, logits, *settings, without=FILTERS)
    return _seen(logits, _filtered(value, logits))


def _nucleus_said(ours, right, logits, p) -> str:
    if isinstance(ours, float):
        text = "Con {0:.0f} empatados en cabeza y p = {1} bastan {2:.0f} y dejas {3:.0f}."
        best = float((logits == logits.max()).sum())
        return say(text, best, p, right, ours)
    mass = logits.double().softmax(-1)[ours.isfinite()].sum()
    text = "Con p = {0:.2f}, lo que conservas suma {1:.2f}."
    return f"{say(text, p, mass)} {_how_many(ours, right, logits)}"


def _nucleus_hint(ours, right, logits, p) -> str:
    shares = logits.double().softmax(-1)
    kept = ours > -INF if isinstance(ours, torch.Tensor) else shares > 0
    if not kept.any():
        return "No queda ninguno, y nadie podría salir elegido."
    if kept.sum() == (right > -INF).sum() and not alike(ours, right):
        if torch.equal(kept, right > -INF):
            return UNTOUCHED
        return (
            "El número coincide y los tokens no: ¿está cada uno en su sitio?"
        )
    if shares[kept].sum() < p:
        return "No llega a p. El token que cruza p, ¿entra o sale?"
    return (
        "Sobra alguno: quita el menos probable de los tuyos y vuelve a sumar. "
        "¿Sigue llegando a p?"
    )


def _nuclei():
    yield torch.tensor([0.03, 0.95, 0.02]).log(), 0.9
    yield torch.tensor([0.05, 0.3, 0.15, 0.5]).log(), 0.9
    for i in range(100):
        case = random_logits(i, 40), 0.05 + 0.9 * i / 99
        if not _on_the_edge(*case):
            yield case
    yield torch.tensor([2.0, -INF, 1.0, 0.0]), 0.95
    yield torch.tensor([0.1, 0.3, 0.3, 0.3]).log(), 0.5


NUCLEUS = {
    "La máscara está en el orden de las probabilidades ordenadas, y los "
    "logits, en el suyo. Imprime order con cuatro tokens.": _misplaced,
    "Has aplicado otra vez el orden en vez de deshacerlo. Pruébalo con tres "
    "tokens que giren: [2, 3, 1].": _gathered,
    "Sumas en el orden en que llegan. El conjunto más pequeño empieza por los "
    "más probables.": _unsorted,
    "Dejas fuera el token que cruza p, y sin él no se llega. Cuando el "
    "primero ya pasa, no queda nadie.": _top_p(_crosses),
    "Dejas fuera el token que cruza p, y sin él no se llega (menos cuando es "
    "el primero, que lo salvas aparte).": _keeps_one,
    "No descartas nada: ¿dónde entra p?": lambda x, p: x,
    "Está del revés: descartas justo los que tenían que quedarse.": (
        lambda x, p: x.masked_fill(top_p(x, p) > -INF, -INF)
    ),
    "Solo queda el mejor, y con p grande hacen falta más.": (
        lambda x, p: _top_k(x, 1)
    ),
    "Usas 1 − p donde va p: prueba con p = 0,9.": lambda x, p: top_p(x, 1 - p),
    "Cortas por valor, y los empatados con el último entran todos: se corta "
    "por puesto.": _by_value,
    PLUS: _leave(INF)(top_p),
    ORDINARY: [
        _leave(-1e3)(top_p),
        _leave(0.0)(top_p),
        _leave(torch.finfo(torch.float32).min)(top_p),
    ],
    "Los devuelves ordenados, y cada logit tiene que seguir en su sitio.": (
        lambda x, p: _misplaced(x.sort(descending=True).values, p)
    ),
}

exercise(
    "04.2",
    Part(
        _nuclei,
        truth=lambda x, p: _seen(x, _library(x, p=p)),
        observe=_kept,
        near=1e-4,
        said=_nucleus_said,
        traps={
            **NUCLEUS,
            "Queda uno de más: ¿qué suma miras, la de antes de llegar al "
            "token o la de antes del anterior?": [
                _top_p(lambda total, share, p: total - 2 * share >= p),
                _top_p(lambda total, share, p: (total - share).roll(1) >= p),
            ],
            "Ordenas de menor a mayor, y se empieza por los más probables.": (
                _top_p(descending=False)
            ),
            "Descartas los que no llegan a un umbral. No es cuánto tiene cada "
            "uno, sino cuánto suman.": [
                lambda x, p: x.masked_fill(x.softmax(-1) < 1 - p, -INF),
                lambda x, p: x.masked_fill(x.softmax(-1) < p, -INF),
                lambda x, p: x.masked_fill(
                    x.softmax(-1) < (1 - p) * x.softmax(-1).max(), -INF
                ),
            ],
            UNTOUCHED: lambda x, p: top_p(x, p).log_softmax(-1),
            SHARES: lambda x, p: top_p(x, p).softmax(-1),
            "Tu p es fija: usa la que llega.": lambda x, p: top_p(x, 0.9),
            "Sumas logits, y lo que suma p son probabilidades.": [
                lambda x, p: x.masked_fill(x.cumsum(0) > p, -INF),
                lambda x, p: x.masked_fill(
                    torch.zeros(len(x), dtype=torch.bool).scatter(
                        0,
                        x.sort(descending=True).indices,
                        x.sort(descending=True).values.cumsum(0) > p,
                    ),
                    -INF,
                ),
            ],
        },
        otherwise=_nucleus_hint,
        rights=[top_p, _ascending, _one_by_one],
    ),
    success="¡Correcto! El conjunto más pequeño que alcanza p.",
)


# 04.3


def _choose(shares=lambda x, T: (x / T).softmax(-1), zero=torch.argmax):
    """Un sorteo con las probabilidades de `shares`; `zero`, para T = 0."""

    def choose(logits, T, generator):
        if T == 0 and zero:
            return int(zero(logits))
        weights = shares(logits, T)
        return int(torch.multinomial(weights, 1, generator=generator))

    return choose


choose = _choose()


def _reseeds(logits, T, generator):
    return choose(logits, T, generator.manual_seed(0))


def _own_dice(logits, T, generator):
    return choose(logits, T, torch.Generator().manual_seed(3))


def _wastes(logits, T, generator):
    torch.rand(1)
    return choose(logits, T, generator)


def _place(logits, T, generator):
    if T == 0:
        return int(logits.argmax())
    return choose(logits.sort(descending=True).values, T, generator)


def _roulette(logits, T, generator):
    if T == 0:
        return logits.argmax()
    ends = (logits / T).softmax(-1).double().cumsum(0)
    u = torch.rand(1, generator=generator, dtype=torch.float64)
    return int(torch.searchsorted(ends / ends[-1], u, right=True))


def _gumbel(logits, T, generator):
    if T == 0:
        return int(logits.argmax())
    u = torch.rand(len(logits), generator=generator)
    return (logits / T - (-u.log()).log()).argmax()


def _roulette_loop(logits, T, generator):
    if T == 0:
        return max(range(len(logits)), key=logits.tolist().__getitem__)
    u, total = torch.rand(1, generator=generator).item(), 0.0
    for i, share in enumerate((logits / T).softmax(-1).tolist()):
        total += share
        if u < total:
            return i
    return int(logits.argmax())


def _among(k):
    """Solo sortea entre los k mejores."""

    def answer(logits, T, generator):
        values, ids = logits.topk(min(k, len(logits)))
        return int(ids[choose(values, T, generator)])

    return answer


ZERO = "Con T = 0 no se puede dividir: es otra rama."
CONSTANT = "Con T = 0 sale siempre el de mayor logit, esté donde esté."
DRAWN = "Con T = 0 no hay sorteo: el mejor, siempre el mismo."
GLOBAL = (
    "Con el generador en la misma semilla sale otra serie. ¿Se lo pasas a la "
    "función que sortea, o usas el azar global?"
)
SAME = (
    "Con otra semilla sale la misma serie. ¿Sorteas de verdad? ¿Reinicias el "
    "generador, o creas otro, dentro de la función?"
)
NO_T = (
    "Es lo que sale sin temperatura: ¿divides los logits, antes del softmax?"
)
INVERSE = "La temperatura va al revés: se divide por T."
UNIFORM = "Todos salen igual: ¿sorteas con las probabilidades?"
GREEDY = "Sale siempre el mejor: con T mayor que 0 se sortea."
LOGITS = "Repartes según los logits, y se sortea con el softmax."
PLACE = "Devuelves el puesto en la lista ordenada, y se pide el id."
OVERFLOW = (
    "Se rompe con T = 0,05: a los logits divididos por T no les cabe la "
    "exponencial. ¿Qué softmax aguanta eso?"
)
FORBIDDEN = "Ha salido un token prohibido (logit −∞)."
FEW = (
    "Solo sortean unos pocos, los mejores: con la temperatura no se descarta "
    "a nadie."
)
WASTES = "Gastas el azar global de PyTorch. Usa solo el generador que recibes."


@exercise(
    "04.3",
    success="¡Correcto! Justa, repetible y sin azar cuando T = 0.",
    traps={
        ZERO: _choose(zero=None),
        CONSTANT: [
            _choose(zero=lambda x: 1),
            _choose(zero=lambda x: 0),
            _choose(zero=torch.argmin),
            _choose(zero=lambda x: len(x) - 1),
        ],
        DRAWN: [
            lambda x, T, g: choose(x, T or 1, g),
            lambda x, T, g: choose(x, max(T, 1e-6), g),
            lambda x, T, g: choose(x, T + 1e-9, g),
        ],
        GLOBAL: lambda x, T, g: choose(x, T, None),
        SAME: [_reseeds, _own_dice, lambda x, T, g: int(x.argmax())],
        NO_T: [
            _choose(lambda x, T: x.softmax(-1)),
            _choose(lambda x, T: x.softmax(-1) / T),
        ],
        INVERSE: _choose(lambda x, T: (x * T).softmax(-1)),
        UNIFORM: _choose(lambda x, T: torch.ones(len(x))),
        GREEDY: [
            lambda x, T, g: choose(x, 0 if T < 0.5 else T, g),
            lambda x, T, g: choose(x, 0 if T < 0.1 else T, g),
        ],
        LOGITS: [
            _choose(lambda x, T: x.clamp_min(0) + 0.1),
            _choose(lambda x, T: x.clamp_min(0) / T),
        ],
        PLACE: _place,
        OVERFLOW: _choose(lambda x, T: (x / T).exp() / (x / T).exp().sum()),
        FORBIDDEN: _choose(lambda x, T: (x.clamp_min(-9) / T).softmax(-1)),
        FEW: [_among(5), _among(10), _among(20)],
        WASTES: _wastes,
    },
    rights=[choose, _roulette, _gumbel, _roulette_loop],
)
def fair(choose):
    """`choose(logits [V], T, generator) -> id`."""
    dice = torch.Generator().manual_seed(0)

    def ask(scores, T):
        return _id(call(choose, scores, T, dice), len(scores))

    _at_zero(ask)
    logits = torch.tensor([0.05, 0.5, 0.3, 0.15]).log() + 7
    series = []
    for seed in (1, 1, 2):
        dice.manual_seed(seed)
        series.append([ask(logits, 1.0) for _ in range(40)])
    expect(series[0] == series[1], GLOBAL)
    expect(series[0] != series[2], SAME)
    for T in (1.0, 0.3, 2.0):
        _frequencies(ask, logits, T)
    near = torch.tensor([7.0, 7.05, 1.0])
    try:
        low = {ask(near, 0.05) for _ in range(90)}
    except Hint as hint:
        raise Hint(f"{hint} {OVERFLOW}") from None
    said = say("Con T = 0,05, de los logits [7; 7,05; 1] salen {0}. ", low)
    expect(low != {1}, said + GREEDY)
    expect(low == {0, 1}, said + "¿Con qué probabilidades?")
    peak = torch.tensor([0.0, -INF, 0.0])
    expect(all(ask(peak, 30.0) != 1 for _ in range(200)), FORBIDDEN)
    expect(len({ask(torch.ones(60), 1.0) for _ in range(300)}) > 40, FEW)
    before = torch.get_rng_state()
    ask(logits, 1.0)
    expect(torch.equal(before, torch.get_rng_state()), WASTES)


def _id(value, size: int) -> int:
    hint = f"Tiene que devolver un id: un entero de 0 a {size - 1}."
    expect(not isinstance(value, bool), hint)
    value = as_int(value, hint)
    expect(0 <= value < size, hint)
    return value


def _at_zero(ask) -> None:
    tied = torch.tensor([1.0, 3.0, 3.0])
    try:
        seen = {ask(tied, 0) for _ in range(20)}
        cases = [random_logits(seed, 5 + seed % 3) for seed in range(9)]
        several = [{ask(x, 0) for _ in range(9)} for x in cases]
    except Hint as hint:
        divides = hint.kind in ("RuntimeError", "ZeroDivisionError")
        raise Hint(f"{hint} {ZERO}" if divides else str(hint)) from None
    expect(len(seen) == 1 and max(map(len, several)) == 1, DRAWN)
    best = [{int(x.argmax())} for x in cases]
    expect(several == best and seen <= {1, 2}, CONSTANT)


def _frequencies(ask, logits, T: float) -> None:
    wanted = (logits / T).softmax(-1)
    drawn = torch.tensor([ask(logits, T) for _ in range(5000)])
    seen = torch.bincount(drawn, minlength=4) / 5000
    worst = int((seen - wanted).abs().argmax())
    raw = logits.clamp_min(0) + 0.1
    diagnose(
        seen,
        wanted,
        {
            UNIFORM: torch.full((4,), 0.25),
            GREEDY: (logits == logits.max()).float(),
            NO_T: logits.softmax(-1),
            INVERSE: (logits * T).softmax(-1),
            LOGITS: raw / raw.sum(),
            PLACE: wanted.sort(descending=True).values,
        },
        say(
            "Con T = {0}, el token {1} sale el {2:.0f} % de las veces y "
            "tendría que salir el {3:.0f} %.",
            T,
            worst,
            100 * seen[worst],
            100 * wanted[worst],
        ),
        "Con T = 1 y dos tokens, ¿qué probabilidades le das al sorteo?",
        near=0.025,
    )


# 04.4


def _chain_cases():
    for i in range(60):
        logits = random_logits(100 + i, 30)
        if i % 10 == 9:
            logits = logits.round()  # con empates
        T = (0.4, 0.8, 1.0, 1.7, 3.0)[i % 5]
        k, p = 2 + i % 13, 0.3 + 0.65 * i / 59
        if not _on_the_edge(_library(logits, T, k), p):
            yield logits, T, k, p


def _together(logits, T, k, p):
    """Los dos filtros miran todo el vocabulario, y queda lo que dejan ambos."""
    logits = logits / T
    gone = ~top_p(logits, p).isfinite() | ~_top_k(logits, k).isfinite()
    return logits.masked_fill(gone, -INF)


def _chain_by_hand(logits, T, k, p):
    logits = logits / T
    order = logits.argsort(descending=True).tolist()
    worst = logits[order[k - 1]]
    inside = [i for i in order if logits[i] >= worst]
    return _one_by_one(
        torch.full_like(logits, -INF).scatter(
            0, torch.tensor(inside), logits[inside]
        ),
        p,
    )


exercise(
    "04.4",
    Part(
        _chain_cases,
        truth=lambda x, *rest: _seen(x, _library(x, *rest)),
        observe=_kept,
        near=1e-4,
        said=lambda ours, right, logits, T, k, p: say(
            "Con T = {0}, k = {1}, p = {2:.2f}.", T, k, p
        ),
        traps={
            "La temperatura va al final (el orden de llama.cpp), y en "
            "transformers va la primera.": [
                lambda x, T, k, p: top_p(_top_k(x, k), p) / T,
                lambda x, T, k, p: top_p(_top_k(x, k) / 1, p) * (1 / T),
            ],
            "Top-p ha mirado todo el vocabulario, antes que top-k o a la vez "
            "(el orden de Candle). En transformers ve lo que deja top-k, ya "
            "repartido.": [
                _together,
                lambda x, T, k, p: _top_k(top_p(x / T, p), k),
            ],
            "Top-p va el primero, y ve los logits sin dividir por T y sin el "
            "corte de top-k.": [
                lambda x, T, k, p: _top_k(top_p(x, p) / T, k),
                lambda x, T, k, p: _top_k(top_p(x, p), k) / T,
            ],
            "Lo que conservas es lo que daría la cadena sin top-k.": (
                lambda x, T, k, p: top_p(x / T, p)
            ),
            "Lo que conservas es lo que daría la cadena sin top-p.": (
                lambda x, T, k, p: _top_k(x / T, k)
            ),
            "Falta la temperatura, que en transformers va la primera.": (
                lambda x, T, k, p: top_p(_top_k(x, k), p)
            ),
            "Divides por T dos veces: los que quedan valen logit / T.": [
                lambda x, T, k, p: top_p(_top_k(x / T, k), p) / T,
                lambda x, T, k, p: top_p(_top_k(x / T, k) / T, p),
            ],
            "Multiplicas por T, y se divide.": (
                lambda x, T, k, p: top_p(_top_k(x * T, k), p)
            ),
            "Filtras bien, pero devuelves los logits sin dividir por T.": (
                lambda x, T, k, p: x.masked_fill(
                    top_p(_top_k(x / T, k), p) == -INF, -INF
                )
            ),
            "Pasas por el softmax antes de los filtros, y ellos ya lo hacen: "
            "esperan logits.": [
                lambda x, T, k, p: top_p(_top_k((x / T).softmax(-1), k), p),
                lambda x, T, k, p: top_p(_top_k(x / T, k).softmax(-1), p),
            ],
            SHARES: lambda x, T, k, p: top_p(_top_k(x / T, k), p).softmax(-1),
            "Con empates quedan de más: tu top-p corta por valor, y se corta "
            "por puesto.": lambda x, T, k, p: _by_value(_top_k(x / T, k), p),
            "Con empates en el k-ésimo quedan otros: tu top-k corta por "
            "puesto, y se corta por valor.": (
                lambda x, T, k, p: top_p(_exact_k(x / T, k), p)
            ),
        },
        otherwise="Comprueba cada filtro por separado (ejercicios 1 y 2) e "
        "imprime cuántos tokens deja cada paso.",
        rights=[
            lambda x, T, k, p: top_p(_top_k(x / T, k), p),
            lambda x, T, k, p: _ascending(_top_k_sorted(x / T, k), p),
            lambda x, T, k, p: (
                _top_k(x, k) / T if p >= 1 else top_p(_top_k(x, k) / T, p)
            ),
            _chain_by_hand,
        ],
    ),
    success="¡Correcto! El mismo orden que generate.",
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
    expect(not _on_the_edge(scores, p), EDGE)
    ordered = scores.softmax(-1).sort(descending=True).values
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
