"""Corrección del laboratorio 11 · Más deprisa y más barato.

La verdad sale de la aritmética, del bucle sin borrador, de un prefill nuevo
(qué guarda una caché) y de recorrer todos los repartos que importan.
"""

import math
from contextlib import contextmanager
from functools import cache, partial
from itertools import product

import numpy as np
import torch

from ..cache import kv_cache_bytes, make_cache
from ..quantize import dequantize, quantize
from ..speculative import agree, lookup
from .bench import random_ids, random_model, tiny_config, uniform
from .kit import (
    ASSERTS,
    Part,
    as_int,
    call,
    exercise,
    expect,
    number,
    put_to_test,
    returning,
    say,
    tensor,
    verdicts,
)


def _as_tensor(value):
    kinds = list | tuple | np.ndarray
    return torch.as_tensor(value) if isinstance(value, kinds) else value


# 11.1


def cut(x, group):
    return x.split(group)


def with_zero(x):
    return x.amin().clamp_max(0), x.amax().clamp_min(0)


def rounded(
    x,
    bits,
    group,
    parts=cut,
    ends=with_zero,
    levels=lambda bits: 2**bits - 1,
    snap=torch.round,
    half=2,
    least=1e-30,
):
    """Una respuesta de 11.1; sus opciones la estropean."""
    near, bound = [], []
    for part in parts(x, group):
        low, high = ends(part)
        scale = ((high - low) / levels(bits)).clamp_min(least)
        near.append(snap(part / scale) * scale)
        bound.append(scale.expand(len(part)) / half)
    return torch.cat(near), torch.cat(bound)


def by_padding(x, bits, group):
    full = torch.nn.functional.pad(x, (0, -len(x) % group))
    q, scale, zero = quantize(full, bits, group)
    bound = (scale / 2).expand_as(q).flatten()
    return dequantize(q, scale, zero)[: len(x)].tolist(), bound[: len(x)]


def by_number(x, bits, group):
    near, bound = [], []
    for i, v in enumerate(x.tolist()):
        part = x[i // group * group :][:group].tolist()
        scale = (max(*part, 0.0) - min(*part, 0.0)) / (2**bits - 1)
        near.append(scale * math.floor(v / scale + 0.5) if scale else 0.0)
        bound.append(scale / 2)
    return np.array([near, bound])


def _off_zero(x, bits, group):
    """Del menor al mayor, y el cero donde caiga."""
    low, high = x.amin(), x.amax()
    scale = (high - low) / (2**bits - 1)
    near = ((x - low) / scale).round() * scale + low
    return near, (scale / 2).expand(len(x))


def _by_group(function):
    def each(x, bits, group):
        parts = [function(part, bits, group) for part in x.split(group)]
        return [torch.cat(column) for column in zip(*parts)]

    return each


def _real_error(x, bits, group):
    near = rounded(x, bits, group)[0]
    return near, (near - x).abs()


slip = partial(partial, rounded)


def _unit(*case):
    """La cota buena: con ella se mide el fallo. Con un grupo de ceros, 1."""
    bound = rounded(*case)[1].double()
    return bound + (bound < 1e-9)


def _pair(value, x, bits, group):
    kinds = tuple | list | torch.Tensor | np.ndarray
    expect(
        isinstance(value, kinds) and len(value) == 2,
        "Devuelve dos cosas: los números que quedan y el error máximo de "
        "cada uno.",
    )
    names = "Lo que queda", "El error máximo"
    pairs = zip(value, names)
    read = [tensor(_as_tensor(v), x.shape, name) for v, name in pairs]
    return torch.stack(read) / _unit(x, bits, group)


def _row(n, seed, *changes):
    x = uniform(n, seed=seed)
    for where, change in changes:
        x[where] = change(x[where])
    return x


def _rounded_said(ours, right, x, bits, group):
    row = int((ours - right).abs().amax(-1).argmax())
    i = int((ours - right)[row].abs().argmax())
    return say(
        "Con {0} bits y grupos de {1}, del {2:.4g} (el {3}.º de {4}) dices "
        "que {5} {6:.4g}.",
        bits,
        group,
        x[i],
        i + 1,
        len(x),
        ("queda", "su error llega a")[row],
        (ours[row] * _unit(x, bits, group))[i].item(),
    )


exercise(
    "11.1",
    Part(
        [
            (_row(22, 1, (slice(16, 22), lambda v: v / 50)), 3, 8),
            (_row(40, 2, (slice(8, 16), torch.abs)), 3, 8),
            (_row(19, 3, (slice(6), lambda v: -1 - v.abs())), 2, 6),
            (_row(13, 4, (slice(4, 8), lambda v: 0 * v)), 5, 4),
            (_row(9, 5, (slice(8, 9), lambda v: 0 * v + 3)), 4, 4),
            (_row(5, 6, (slice(1, 2), lambda v: 0 * v)), 3, 12),
            (_row(16, 7, (slice(16), lambda v: v / 2500)), 4, 8),
        ],
        truth=lambda *case: _pair(rounded(*case), *case),
        read=_pair,
        near=1e-4,
        said=_rounded_said,
        otherwise="Haz a mano un grupo de tres números: extremos (con el 0), "
        "escala, y cada uno a su múltiplo más cercano.",
        traps={
            "Pones una escala para todo, y cada grupo tiene la suya.": slip(
                parts=lambda x, group: [x]
            ),
            "Redondeas siempre hacia un lado: ve al más cercano.": [
                slip(snap=torch.floor),
                slip(snap=torch.trunc),
            ],
            "Al más cercano, el fallo no llega a una escala.": slip(half=1),
            "Ese es el error que ha salido; se pide el mayor que podría "
            "salir en su grupo.": _real_error,
            "De 2^bits valores hay un paso menos que valores.": slip(
                levels=lambda bits: 2**bits
            ),
            "El 0 cuenta entre los extremos, y tiene que quedar exacto.": (
                _by_group(_off_zero)
            ),
            "Repartes a los dos lados por igual: usa el menor y el mayor.": (
                slip(ends=lambda x: (-x.abs().amax(), x.abs().amax()))
            ),
            "Faltan los últimos: el grupo que queda corto también va.": (
                lambda x, bits, group: rounded(
                    x[: len(x) // group * group or len(x)], bits, group
                )
            ),
            "Los grupos son de `group`, y el último, lo que quede: no "
            "repartas en trozos iguales.": slip(
                parts=lambda x, group: x.tensor_split(-(-len(x) // group))
            ),
            "En un grupo de ceros divides por una escala 0.": slip(least=0),
            "Tu escala mínima pasa de la de un grupo de números pequeños: "
            "ponla mucho más abajo, en 1e-30.": [
                slip(least=least) for least in (1e-4, 2e-4, 1e-3)
            ],
        },
        rights=[rounded, by_padding, by_number, slip(least=1e-8)],
    ),
    success="¡Correcto! Ningún número se aparta más de media escala.",
)


# 11.2


def head_size(config, default=None):
    size = getattr(config, "head_dim", default)
    return size or _divided(config)


def _divided(config):
    return config.hidden_size // config.num_attention_heads


def longest(
    config,
    parameters,
    bits,
    gib,
    unit=2**30,
    each=lambda c: (
        4 * c.num_hidden_layers * c.num_key_value_heads * head_size(c)
    ),
    weights=lambda parameters, bits: parameters * bits / 8,
    cap=min,
    floor=0,
    snap=math.floor,
):
    """Una respuesta de 11.2; `each`: los bytes de un token."""
    left = gib * unit - weights(parameters, bits)
    most = config.max_position_embeddings
    return max(floor, cap(snap(left / each(config)), most))


def by_doubling(config, parameters, bits, gib):
    """Buscando, con la cuenta directa."""
    low, high = 0, config.max_position_embeddings + 1
    while high - low > 1:
        middle = (low + high) // 2
        used = parameters * bits / 8 + kv_cache_bytes(config, middle)
        low, high = (middle, high) if used <= gib * 2**30 else (low, middle)
    return low


def _config(name, **changes):
    from transformers import AutoConfig

    return AutoConfig.for_model(name, **changes)


def _cards():
    wide = partial(_config, "qwen3", hidden_size=2560, num_hidden_layers=36)
    four = wide(
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
    )
    small = tiny_config(
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=28,
        max_position_embeddings=32768,
    )
    yield four, 4_022_468_096, 16, 8
    yield four, 4_022_468_096, 4.97, 4
    yield four, 4_022_468_096, 4.97, 15
    yield four, 4_022_468_096, 16, 7
    yield small, 494_032_768, 8.5, 0.6
    yield small, 494_032_768, 8.5, 8
    yield small, 494_032_768, 32, 2
    yield small, 2**28, 16, 0.5 + 3 * 2**12 * 1000 / 2**30
    yield small, 2**28, 16, 0.5
    yield small, 494_032_768, 16, 0.25


def _tokens(value, *_):
    value = number(value)
    expect(value.is_integer(), "Los tokens son enteros: da los que caben.")
    return int(value)


def _times(size=1, head=head_size):
    return lambda c: (
        4 * c.num_hidden_layers * c.num_key_value_heads * head(c) * size
    )


def _all_heads(c):
    return 4 * c.num_hidden_layers * c.num_attention_heads * head_size(c)


slip = partial(partial, longest)
exercise(
    "11.2",
    Part(
        _cards,
        truth=by_doubling,
        read=_tokens,
        said="Con {1} pesos a {2:g} bits y {3:.4g} GiB dices {ours}, y son "
        "{right}.",
        otherwise="Imprime tres cosas: los bytes de la tarjeta, los de los "
        "pesos y los que añade cada token.",
        traps={
            "Cuentas gigabytes: un GiB son 2^30 bytes.": slip(unit=1e9),
            "Cada token guarda K y V, y cada número, 2 bytes.": [
                slip(each=_times(size)) for size in (1 / 4, 1 / 2, 2, 8)
            ],
            "Mira head_dim en la configuración: no siempre es hidden_size "
            "entre las cabezas.": slip(each=_times(head=_divided)),
            "A la configuración le puede faltar head_dim: entonces es "
            "hidden_size entre las cabezas de query.": [
                slip(each=_times(head=lambda c: c.head_dim)),
                slip(each=_times(head=partial(head_size, default=64))),
                slip(each=_times(head=partial(head_size, default=128))),
            ],
            "Cuenta las cabezas de K y V, que son menos que las de query.": (
                slip(each=_all_heads)
            ),
            "Los pesos vienen en bits: son ocho por byte.": slip(
                weights=lambda n, bits: n * bits
            ),
            "Los bits por peso y los GiB pueden no ser enteros.": [
                slip(weights=lambda n, bits: n * int(bits) / 8),
                lambda c, n, bits, gib: longest(c, n, bits, int(gib)),
            ],
            "Hay un máximo en la configuración: max_position_embeddings.": [
                slip(cap=lambda room, most: room),
                slip(cap=lambda room, most: min(room, 40960)),
            ],
            "Si no caben ni los pesos, el contexto es 0.": slip(
                floor=-math.inf
            ),
            "El último ya no cabe entero: redondea hacia abajo.": [
                slip(snap=math.ceil),
                slip(snap=round),
            ],
        },
        rights=[longest, slip(snap=lambda room: torch.tensor(room // 1))],
    ),
    success="¡Correcto! Ya sabes cuánto texto cabe detrás de los pesos.",
)


# 11.3


def each_place(a, k):
    return sum(a**i for i in range(k + 1))


def price(k, draft, extra):
    return 1 + k * (draft + extra)


def speedup(acceptance, k, draft, extra, tokens=each_place, cost=price):
    return tokens(acceptance, k) / cost(k, draft, extra)


def _closed(a, k):
    return (1 - a ** (k + 1)) / (1 - a)


def by_formula(acceptance, k, draft, extra):
    tokens = k + 1 if acceptance == 1 else _closed(acceptance, k)
    return tokens / (k * draft + 1 + k * extra)


def best_k(a, draft, extra, limit, gain=speedup, start=0, more=1):
    """Una respuesta de 11.3: el k que más gana; si empatan, el menor."""
    options = range(start, limit + more)
    return max(options, key=lambda k: gain(a, k, draft, extra))


def by_array(a, draft, extra, limit):
    gains = [
        round(by_formula(a, k, draft, extra), 9) for k in range(limit + 1)
    ]
    return np.argmax(gains)


slip = partial(partial, speedup)
GAIN = Part(
    [
        (0.8, 4, 0.25, 0.05),
        (0.5, 3, 0.1, 0.02),
        (0.7, 0, 0.3, 0.1),
        (1.0, 5, 0.1, 0.04),
        (0.0, 4, 0.05, 0.01),
        (1, 3, 0.0, 0.0),
        (0.9, 1, 0.5, 0.2),
    ],
    truth=speedup,
    said="Con aceptación {0}, k = {1}, borrador {2} y extra {3} dices "
    "{ours:.4f} y es {right:.4f}.",
    otherwise="Haz a mano k = 1: qué se escribe si se acepta y si no, y "
    "cuánto cuesta la vuelta.",
    traps={
        "Se escribe uno aunque no se acepte nada: el del modelo.": slip(
            tokens=lambda a, k: sum(a**i for i in range(1, k + 1))
        ),
        "Para aceptar el segundo hace falta haber aceptado el primero: no es "
        "a por k.": slip(tokens=lambda a, k: 1 + a * k),
        "Si se acepta todo, también se escribe el del modelo, el k + 1.": slip(
            tokens=lambda a, k: sum(a**i for i in range(k))
        ),
        "Con aceptación 1 la fórmula divide entre cero: ¿cuántos se escriben "
        "entonces?": slip(tokens=_closed),
        "El borrador también cuesta, k veces.": [
            slip(cost=lambda k, draft, extra: 1 + k * extra),
            slip(cost=lambda k, draft, extra: 1 + draft + k * extra),
        ],
        "Falta lo que encarece revisar k propuestas: k veces extra.": [
            slip(cost=lambda k, draft, extra: 1 + k * draft),
            slip(cost=lambda k, draft, extra: 1 + k * draft + extra),
        ],
        "Eso son tokens por vuelta: divide entre lo que cuesta la vuelta.": (
            lambda a, k, *_: each_place(a, k)
        ),
        "Menos de 1 también es una respuesta: especulando se pierde.": (
            lambda *case: max(1, speedup(*case))
        ),
    },
    rights=[speedup, by_formula],
)
BEST = Part(
    [
        (0.8, 0.25, 0.05, 10),
        (0.95, 0.02, 0.01, 12),
        (0.3, 0.4, 0.1, 8),
        (1.0, 0.1, 0.02, 6),
        (0.0, 0.0, 0.0, 5),
        (0.6, 0.1, 0.03, 2),
        (0.5, 0.5, 0.0, 4),
        (0.3, 0.0, 0.2, 8),
        (1.0, 0.9, 0.3, 5),
    ],
    truth=best_k,
    read=lambda value, *_: as_int(
        value, "La k que devuelves tiene que ser un entero."
    ),
    said="Con aceptación {0}, borrador {1}, extra {2} y hasta k = {3} dices "
    "{ours}, y es {right}.",
    otherwise="Imprime la aceleración de cada k, del 0 al límite.",
    traps={
        "A veces lo mejor es no especular: k = 0 también entra.": partial(
            best_k, start=1
        ),
        "El límite también entra en la búsqueda.": partial(best_k, more=0),
        "No hay atajos: aunque aciertes siempre, o casi nunca, o el borrador "
        "no cueste nada, compara la aceleración de cada k.": [
            lambda a, d, e, n: best_k(a, d, 0, n),
            lambda a, d, e, n: n if d == 0 < a else best_k(a, d, e, n),
            lambda a, d, e, n: n if a == 1 else best_k(a, d, e, n),
            lambda a, d, e, n: 0 if a < 0.5 else best_k(a, d, e, n),
            partial(best_k, gain=lambda *case: max(1.1, speedup(*case))),
        ],
        "Ese k escribe más por vuelta, pero la vuelta cuesta más.": [
            lambda a, draft, extra, limit: limit,
            partial(best_k, gain=lambda a, k, *_: each_place(a, k)),
        ],
        "Si empatan, el menor: proponer por nada es trabajo tirado.": (
            lambda a, d, e, n: max(
                range(n + 1), key=lambda k: (round(speedup(a, k, d, e), 9), k)
            )
        ),
    },
    rights=[best_k, by_array],
)
exercise(
    "11.3",
    GAIN,
    BEST,
    success="¡Correcto! Sabes cuándo compensa, y cuántos proponer.",
)


# 11.4

K = 8
CODE = [*range(200, 230)]
ROWS = [[10 + i, 1, 2, 3, 4, 5, 40 + i, 6] for i in range(8)]
TABLE = sum(ROWS, [])
OFTEN = [7, 8, 9, 50, 61, 7, 8, 9, 50, 62, 7, 8, 9, 50, 63, 7, 8, 9, 70, 64]
TEXTS = {  # lo que hay escrito, y lo que va a escribir el modelo
    "una copia": ([*CODE, 99], CODE),
    "una copia con un cambio": ([*CODE, 99], [*CODE[:14], 98, *CODE[15:]]),
    "una tabla": ([*TABLE, 99], TABLE),
    "la tabla, en otro orden": ([*TABLE, 99], sum(ROWS[::-1], [])),
    "algo que se repite": ([5, 6, 7] * 3, [5, 6, 7] * 8),
    "lo que casi siempre sigue": (OFTEN, [7, 8, 9, 50, 65, 7, 8, 9, 50, 66]),
    "nada que copiar": ([*range(30)], [*range(30, 50)]),
    "un solo token": ([3], [4, 5, 6]),
}


def _proposed(draft, ids, k) -> list[int]:
    tokens = call(draft, torch.tensor([ids]), k)
    if isinstance(tokens, torch.Tensor | np.ndarray):
        tokens = tokens.tolist()
    expect(
        isinstance(tokens, list | tuple),
        "Devuelve una lista de ids, o una vacía si no hay nada que proponer.",
    )
    tokens = [as_int(t, "Lo que se propone son ids, enteros.") for t in tokens]
    expect(
        len(tokens) <= k,
        f"Propones {len(tokens)} y se pedían hasta {k}: recorta.",
    )
    strange = sorted({*tokens} - {*ids})
    expect(
        not strange, f"Propones el id {strange[:1]}, y no está en el texto."
    )
    return tokens


def reads(draft, written, target, k=K) -> int:
    """Cuántas vueltas hacen falta para escribir `target`."""
    done = count = 0
    while done < len(target):
        most = min(k, len(target) - done - 1)
        so_far = written + target[:done]
        tokens = _proposed(draft, so_far, most) if most else []
        pairs = zip([*tokens, None], target[done:])
        done += 1 + next(i for i, (a, b) in enumerate(pairs) if a != b)
        count += 1
    return count


def _compared(draft):
    _proposed(draft, TABLE, 0)
    ours = {name: reads(draft, *text) for name, text in TEXTS.items()}
    base = {name: reads(lookup, *text) for name, text in TEXTS.items()}
    every = sum(len(target) for _, target in TEXTS.values())
    ours_said = "; ".join(f"{name}, {n}" for name, n in ours.items())
    a, b = sum(ours.values()), sum(base.values())
    expect(
        a < b,
        f"Para escribir {every} tokens haces {a} lecturas y lookup, {b}: la "
        f"vara es hacer menos ({ours_said}).",
    )
    return 0


def _starts(text, size):
    """Dónde se dijo ya lo que dicen los `size` últimos; lo último, antes."""
    tail = text[-size:]
    places = range(len(text) - size - 1, -1, -1)
    return [i + size for i in places if text[i : i + size] == tail]


def propose(ids, k, most=99, wrap=True, pick=0):
    """Una respuesta de 11.4: la cola más larga, y lo propuesto también vale
    para copiar."""
    text = ids[0].tolist()
    for size in range(min(most, len(text) - 1), 0, -1):
        if found := _starts(text, size):
            start = found[pick]
            period = text[start:] if wrap else text[start : start + k]
            return (period * k)[:k] if wrap else period
    return []


def by_growing(ids, k):
    """De token en token, con la continuación más frecuente."""
    text, new = ids[0].tolist(), []
    while len(new) < k:
        whole = text + new
        sizes = range(min(8, len(whole) - 1), 0, -1)
        found = next((f for n in sizes if (f := _starts(whole, n))), [])
        if not found:
            break
        follow = [whole[i] for i in found]
        new.append(max(follow, key=follow.count))
    return new


def _longest_match(ids, k):
    row = ids[0].numpy()
    n, best, start = len(row), 0, None
    for i in range(n - 1, 0, -1):
        size = 0
        while size < i and row[i - 1 - size] == row[n - 1 - size]:
            size += 1
        if size > best:
            best, start = size, i
    return row[start : start + k] if start else []


exercise(
    "11.4",
    Part(
        [()],
        truth=lambda: 0,
        observe=_compared,
        traps={
            "Texto a texto, lo mismo que lookup: ¿en cuál propone mal, o "
            "propone poco? Las filas de la tabla comparten cinco tokens.": [
                partial(lookup, most=most) for most in (3, 4, 5)
            ],
            "Con una cola de un token casi todo parece repetido: mira si la "
            "coincidencia es más larga.": [
                partial(propose, most=1, wrap=False),
                partial(propose, most=1),
            ],
            "Recorta con k lo que propones: al final del texto se piden "
            "menos, y hasta 0.": [
                lambda ids, k: ids[0, :K].tolist(),
                lambda ids, k: propose(ids, k or 99),
            ],
            "Nunca aciertas ni el primer token: mira dónde empiezas a copiar. "
            "Si la cola coincide consigo misma, detrás no hay nada.": [
                lambda ids, k: [],
                lambda ids, k: propose(ids, k + 1)[1:],
            ],
            "Copias la cola que ya está escrita: se propone lo que la "
            "seguía.": lambda ids, k: (
                lambda text, n: text[n - 3 : n][:k] if n else []
            )(ids[0].tolist(), max([0, *_starts(ids[0].tolist(), 3)])),
        },
        rights=[
            propose,
            by_growing,
            _longest_match,
            partial(propose, wrap=False),
            partial(propose, most=6),
        ],
    ),
    success="¡Correcto! Tu borrador ahorra más lecturas que lookup.",
)


# 11.5


def first_end(new, ends):
    return next((i for i, t in enumerate(new, 1) if t in ends), None)


def by_hand(
    model,
    ids,
    draft,
    k,
    limit,
    ends,
    *,
    stop=first_end,
    kept=1,
    choose=agree,
    most=min,
    extra=None,
    keep=0,
):
    """Una respuesta de 11.5; sus opciones la estropean."""
    cache, left = make_cache(model), limit
    model(ids[:, :-1], past_key_values=cache)
    while left > 0:
        tokens = draft(ids, most(k, left - 1))
        block = torch.cat([ids[:, -1:], ids.new_tensor([tokens])], -1)
        logits = model(block, past_key_values=cache).logits[0]
        new, good = choose(logits, tokens)
        end = stop(new, ends)
        new = new[: end - keep] if end else new
        ids, left = (
            torch.cat([ids, ids.new_tensor([new])], -1),
            left - len(new),
        )
        drop = int(cache.get_seq_length()) - ids.shape[1] + kept
        drop = drop if extra is None else extra(tokens, good)
        if drop > 0:
            cache.crop(-drop)
        if end:
            break
    return ids, cache


def by_missing(model, ids, draft, k, limit, ends):
    """Con lo que falte en la caché, y el recorte al final."""
    cache, end, done = make_cache(model), ids.shape[1] + limit, False
    while ids.shape[1] < end and not done:
        tokens = draft(ids, k)
        fresh = torch.cat([ids, torch.tensor([tokens]).long()], -1)
        fresh = fresh[:, int(cache.get_seq_length()) :]
        logits = model(fresh, past_key_values=cache).logits[0]
        for row, guess in zip(logits[-len(tokens) - 1 :], [*tokens, None]):
            token = row.argmax()
            ids = torch.cat([ids, token[None, None]], -1)
            done = token.item() in ends or ids.shape[1] == end
            if token.item() != guess or done:
                break
        cache.crop(ids.shape[1] - 1 - int(cache.get_seq_length()))
    return ids, cache


def _without_bonus(logits, tokens):
    new, good = agree(logits, tokens)
    return (new[:-1] if tokens and good == len(tokens) else new), good


def _trusting(logits, tokens):
    return tokens + agree(logits, tokens)[0][-1:], len(tokens)


PROMPTS = [random_ids(n, seed) for n, seed in ((5, 3), (9, 8), (2, 11))]
DRAFTS = {  # en qué lugares se equivoca el borrador
    "que lo acierta todo": lambda place: False,
    "que falla uno de cada tres": lambda place: place % 3 == 1,
    "que no acierta nunca": lambda place: True,
    "que no propone nada": None,
}
LIMIT = 15


@cache
def lively():
    """Un modelo diminuto que no se repite, y con márgenes de sobra."""
    return random_model(tiny_config(num_hidden_layers=2), 9, spread=1.0)


@cache
def _written(which) -> list[int]:
    """El prompt y lo que el modelo escribe solo, token a token."""
    ids = PROMPTS[which]
    for _ in range(LIMIT + 8):
        token = lively()(ids, use_cache=False).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, token], -1)
    return ids[0].tolist()


@contextmanager
def _counted(model):
    """Apunta cada forward del modelo en la lista que da."""
    calls = []

    def note(*_):
        calls.append(1)
        expect(len(calls) <= 40, "Llevas 40 forwards y no paras.")

    hook = model.model.register_forward_pre_hook(note)
    try:
        yield calls
    finally:
        hook.remove()


def _draft(text, asked, wrong):
    def draft(ids, k):
        asked.append(k)
        done = ids.shape[1]
        part = text[done : done + k] if wrong else []
        return [
            (t + 1) % 97 if wrong(i) else t for i, t in enumerate(part, done)
        ]

    return draft


def _fewest(draft, text, n, end, k) -> int:
    """Las vueltas que hacen falta, con el prompt aparte."""
    done, count = n, 1
    while done < end:
        tokens = draft(torch.zeros(1, done), min(k, end - done - 1))
        pairs = zip([*tokens, None], text[done:])
        done += 1 + next(i for i, (a, b) in enumerate(pairs) if a != b)
        count += 1
    return count


def _looped(function, which, name, k, place):
    ids, model, whole = PROMPTS[which], lively(), _written(which)
    n, ends, limit, asked = ids.shape[1], set(), LIMIT - 2 * which, []
    stop = n + limit
    if place is not None:
        ends = {whole[n + place]}
        stop = whole.index(whole[n + place], n) + 1
    draft = _draft(whole, asked, DRAFTS[name])
    with _counted(model) as calls:
        value = call(function, model, ids, draft, k, limit, ends)
    most = max(asked, default=k)  # al empezar caben todos
    expect(
        isinstance(value, tuple | list) and len(value) == 2,
        "Devuelve dos cosas: los ids, de forma [1, n], y la caché.",
    )
    ours, cache = value
    expect(
        isinstance(ours, torch.Tensor) and ours.dim() == 2,
        "Los ids son un tensor [1, n], con el prompt delante.",
    )
    said = f"Con un borrador {name}, k = {k}"
    said += "" if place is None else f" y un fin, el {whole[n + place]}"
    tokens, good = ours[0, n:].tolist(), whole[n:stop]
    expect(
        tokens == good,
        f"{said}, escribes {tokens}; el modelo solo, {good}.",
    )
    held = getattr(cache, "get_seq_length", int)()
    expect(
        held == stop - 1,
        f"{said}, el texto está bien, y la caché guarda {held} tokens: tiene "
        f"que guardar {stop - 1}, todos menos el último.",
    )
    fresh = make_cache(model)
    model(torch.tensor([whole[: stop - 1]]), past_key_values=fresh)
    for a, b in zip(cache.layers, fresh.layers):
        gap = (a.keys - b.keys).abs() + (a.values - b.values).abs()
        places = (gap.amax((0, 1, 3)) > 1e-2).nonzero().flatten().tolist()
        expect(
            not places,
            f"{said}, el texto y la longitud están bien, pero en el lugar "
            f"{places[:1]} la caché guarda otro token: lo rechazado sigue ahí.",
        )
    fewest = _fewest(draft, whole, n, stop, k)
    expect(
        len(calls) <= fewest + 1,
        f"{said}, haces {len(calls)} forwards y bastan {fewest}.",
    )
    expect(most == k, f"{said}, al borrador le pides hasta {most}.")
    return 0


LOOPS = [
    *product(range(len(PROMPTS)), DRAFTS, (4,), (None,)),
    *product(range(len(PROMPTS)), DRAFTS, (4, 3), (1, 6)),
]


def _only_last(new, ends):
    return len(new) * (new[-1] in ends)


slip = partial(partial, by_hand)
exercise(
    "11.5",
    Part(
        LOOPS,
        truth=lambda *case: 0,
        observe=_looped,
        traps={
            "El fin puede ir en medio de lo aceptado: mira todos los tokens "
            "nuevos, no solo el último.": slip(stop=_only_last),
            "Rebobinas uno de menos: el último token del texto aún no tiene "
            "que estar en la caché.": slip(kept=0),
            "Rebobinas uno de más: la caché guarda todo menos el último "
            "token.": slip(kept=2),
            "Lo rechazado sigue en la caché: falta rebobinar.": slip(
                extra=lambda tokens, good: 0
            ),
            "Al rebobinar quitas también lo aceptado.": slip(
                extra=lambda tokens, good: len(tokens)
            ),
            "Lo que iba detrás del fin se escribió en la caché: quítalo "
            "también.": slip(extra=lambda tokens, good: len(tokens) - good),
            "Si se acepta todo, el token del modelo también se escribe.": slip(
                choose=_without_bonus
            ),
            "Escribes lo propuesto sin revisarlo.": slip(choose=_trusting),
            "Te pasas del límite: lo propuesto y el del modelo tienen que "
            "caber.": [
                slip(most=lambda k, left: k),
                slip(most=lambda k, left: min(k, left + 1)),
                lambda *case: by_hand(*case[:4], LIMIT, case[5]),
            ],
            "Al borrador se le piden k, o los que quepan: ni más, ni siempre "
            "los mismos.": [
                slip(most=lambda k, left: min(4, left)),
                slip(most=lambda k, left: min(k, 3, left)),
            ],
            "El token de fin también se escribe.": slip(keep=1),
        },
        rights=[by_hand, by_missing],
    ),
    success="¡Correcto! El mismo texto y la misma caché, con menos forwards.",
)


# 11.6


def grid(x, bits, group, top=None, snap=torch.round, at=None):
    """Redondea cada grupo: las piezas de los cuantizadores de 11.6."""
    near, top = [], top or 2**bits - 1
    for part in x.split(group):
        low, high = with_zero(part)
        scale = ((high - low) / top).clamp_min(1e-30)
        start = at(low) if at else scale * (low / scale).round()
        q = snap((part - start) / scale).clamp(0, top)
        near.append(q * scale + start)
    return torch.cat(near)


def by_library(x, bits, group):
    return dequantize(*quantize(x, bits, group))


def half_up(x, bits, group):
    """En 64 bits, y el empate hacia arriba."""
    up = partial(grid, snap=lambda v: (v + 0.5).floor())
    return up(x.double(), bits, group).to(x.dtype)


def centered(x, bits, group):
    """Dos veces el mayor, repartido a los dos lados."""
    most = x.unflatten(-1, (-1, group)).abs().amax(-1, keepdim=True)
    scale = (2 * most / (2**bits - 1)).clamp_min(1e-30)
    half = 2 ** (bits - 1)
    q = (x.unflatten(-1, (-1, group)) / scale).round().clamp(-half, half - 1)
    return (q * scale).flatten(-2)


def clipped(x, bits, group):
    """El cero nunca es el mayor entero: sobra con un grupo negativo."""
    q, scale, zero = quantize(x, bits, group)
    fewer = zero.clamp_max(2**bits - 2)
    q = (q - zero + fewer).clamp_min(0)
    return dequantize(q, scale, fewer)


def halfway(x, bits, group):
    """A la mitad de su casilla, entre dos múltiplos; los ceros se quedan."""

    def snap(v):
        return v.floor().clamp_max(2**bits - 2) + 0.5

    return grid(x, bits, group, snap=snap, at=lambda low: low) * (x != 0)


def _when(spoiled, change):
    """El bueno, salvo en los grupos en los que `spoiled`."""

    def quantizer(x, bits, group):
        parts = x.unflatten(-1, (-1, group))
        near = by_library(x, bits, group).view_as(parts)
        bad = spoiled(parts).expand_as(parts)
        return torch.where(bad, change(near), near).flatten(-2)

    return quantizer


def _constant(parts):
    low, high = parts.amin(-1, keepdim=True), parts.amax(-1, keepdim=True)
    return (low == high) & (low != 0)


GOOD = {
    "cuenta desde el menor": by_library,
    "va en 64 bits": half_up,
    "redondea los empates hacia abajo": partial(
        grid, snap=lambda v: (v - 0.5).ceil()
    ),
    "se aparta justo media escala": halfway,
}
STUCK = "se queda con los bits de la primera llamada"
BAD = {
    "se aparta hasta una escala": (
        "Compara cada error con media escala de su grupo, y con muchos "
        "números.",
        partial(grid, snap=torch.floor),
    ),
    "se aparta un poco más de media escala": (
        "El tope es media escala: al redondeo de fp32 le basta una milésima.",
        partial(grid, snap=lambda v: (v + 0.46).floor()),
    ),
    "solo acierta si los datos están centrados en el 0": (
        "Pon grupos con números de un solo signo: ahí la escala es la mitad.",
        centered,
    ),
    "recorta el extremo de un grupo negativo": (
        "Pon un grupo en el que todos sean negativos.",
        clipped,
    ),
    "da NaN con un grupo de ceros": (
        "Pon un grupo todo de ceros, y recuerda que ninguna comparación con "
        "NaN es cierta.",
        _when(
            lambda p: (p == 0).all(-1, keepdim=True), lambda x: x * math.nan
        ),
    ),
    "falla si todo el grupo es el mismo número": (
        "Pon un grupo con un mismo número repetido.",
        _when(_constant, lambda x: x * 0),
    ),
    "usa una escala para toda la fila": (
        "Pon en la misma fila grupos de tamaños muy distintos: cada uno tiene "
        "su escala.",
        lambda x, bits, group: by_library(x, bits, x.shape[-1]),
    ),
    "pierde el cero exacto": (
        "Pon algún 0 en un grupo que también tenga negativos, y mira que siga "
        "siendo 0.",
        partial(grid, at=lambda low: low),
    ),
    "deja los ceros en una diezmilésima": (
        "Los ceros tienen que ser 0 de verdad: compáralos sin tolerancia.",
        _when(
            lambda p: (p == 0).float().std(-1, keepdim=True) > 0,
            lambda near: near + 1e-4 * (near == 0),
        ),
    ),
    "usa un valor de más": (
        "Cuenta los valores distintos de cada grupo, con grupos en los que "
        "quepan todos.",
        lambda x, bits, group: grid(x, bits, group, top=2**bits),
    ),
    STUCK: ("Prueba con más de un número de bits.", by_library),
}
OTHER_WAY = (
    "No lo compares con otro cuantizador, y deja sitio al redondeo de fp32: "
    "una milésima de escala."
)


def sample(row=None, seed=7):
    """Una fila con grupos de 64 de todas las clases."""
    wide = uniform(64, seed=seed)
    kinds = {
        "corrientes": wide,
        "de un signo": 1 + wide.abs(),
        "negativos": -1 - wide.abs(),
        "ceros": 0 * wide,
        "iguales": 0 * wide + 0.7,
        "pequeños": wide / 100,
        "con ceros": wide * (wide > -0.5),
        "centrados": torch.cat([wide[:32], -wide[:32]]),
    }
    row = kinds if row is None else row
    return torch.cat([kind for name, kind in kinds.items() if name in row])


def test_quantizer(
    quantizer,
    row=None,
    sizes=(2, 3, 4, 5),
    room=0.501,
    levels=True,
    zero=0.0,
    truth=None,
):
    """Una respuesta de 11.6; sus opciones la hacen ciega."""
    x = sample(row)
    for bits in sizes:
        near = quantizer(x, bits, 64)
        assert truth is None or torch.equal(near, truth(x, bits, 64))
        for a, b in zip(x.split(64), near.split(64)):
            low, high = with_zero(a)
            scale = (high - low) / (2**bits - 1)
            assert ((a - b).abs() <= room * scale + 1e-9).all()
            assert (b[a == 0].abs() <= zero).all()
            assert not levels or len(b.unique()) <= 2**bits


def by_loop(quantizer):
    """Con listas, y números al azar de muchas clases."""
    for bits in (2, 3, 6):
        x = torch.cat([sample(seed=s) for s in range(3)])
        near = quantizer(x, bits, 64).tolist()
        x = x.tolist()
        for start in range(0, len(x), 64):
            a, b = x[start : start + 64], near[start : start + 64]
            step = (max(0.0, *a) - min(0.0, *a)) / (2**bits - 1)
            assert len({*b}) <= 2**bits
            for old, new in zip(a, b):
                assert abs(old - new) <= step / 2 + step / 1000 + 1e-12
                assert old != 0 or new == 0


QUANTIZERS = GOOD | {name: bad for name, (_, bad) in BAD.items()}


def _judged(answer, name) -> str:
    seen = []

    def quantizer(x, bits, group):
        seen.append(bits)
        bits = seen[0] if name == STUCK else bits
        return QUANTIZERS[name](x, bits, group)

    return put_to_test(answer, quantizer)


def _judged_said(ours, right, name) -> str:
    if ours == "devuelve":
        return "Tu prueba devuelve False."
    verb = "Rechaza uno bueno que" if name in GOOD else "Deja pasar el que"
    return f"{verb} {name}."


HINTS = {name: hint for name, (hint, _) in BAD.items()}


KINDS = {"corrientes", "de un signo", "negativos", "ceros", "iguales"}
KINDS |= {"pequeños", "con ceros"}


slip = partial(partial, test_quantizer)
exercise(
    "11.6",
    Part(
        [(name,) for name in QUANTIZERS],
        **verdicts(GOOD, HINTS, OTHER_WAY),
        observe=_judged,
        said=_judged_said,
        traps={
            HINTS[name]: wrong
            for name, wrong in {
                "se aparta hasta una escala": slip(room=1.001),
                "se aparta un poco más de media escala": [
                    slip(room=room) for room in (0.55, 0.6, 0.75, 0.9, 0.99)
                ],
                "recorta el extremo de un grupo negativo": slip(
                    row=KINDS - {"negativos"}
                ),
                "da NaN con un grupo de ceros": slip(row=KINDS - {"ceros"}),
                "falla si todo el grupo es el mismo número": slip(
                    row=KINDS - {"iguales"}
                ),
                "usa una escala para toda la fila": lambda quantizer: [
                    test_quantizer(quantizer, [kind]) for kind in KINDS
                ],
                "pierde el cero exacto": slip(zero=math.inf),
                "deja los ceros en una diezmilésima": slip(zero=1e-3),
                "usa un valor de más": slip(levels=False),
                STUCK: [slip(sizes=[bits]) for bits in (2, 3, 4, 5)],
                "solo acierta si los datos están centrados en el 0": slip(
                    row=["centrados", "ceros"]  # el más ciego, al final
                ),
            }.items()
        }
        | {
            OTHER_WAY: [slip(truth=by_library), slip(room=0.5)],
            ASSERTS: returning(test_quantizer),
        },
        rights=[test_quantizer, by_loop],
    ),
    success="¡Correcto! Acepta los cuatro buenos y caza los once malos.",
)


# 11.7

BITS = 2, 3, 4, 5, 6, 8


def curves(sizes, seed, bumps=0.3):
    """Un daño que baja con los bits, distinto en cada capa."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for _ in sizes:
        base = 10 ** (2 * torch.rand(1, generator=draw).item() - 1)
        luck = torch.rand(len(BITS), generator=draw).tolist()
        rows.append(
            {
                b: base * (4.0 ** (2 - b) * (1 + bumps * (u - 0.5)))
                for b, u in zip(BITS, luck)
            }
        )
    return rows


def total(damage, chosen) -> float:
    return sum(row[b] for row, b in zip(damage, chosen))


def size(sizes, chosen) -> float:
    return sum(n * b for n, b in zip(sizes, chosen)) / 8


def frontier(damage, sizes, budget, most=False) -> list[int]:
    """De cada gasto, el menor daño; y de todos, o del mayor gasto, el mejor."""
    best = {0: (0.0, [])}  # bits gastados → daño y reparto
    for row, n in zip(damage, sizes):
        grown = {}
        for spent, (harm, chosen) in best.items():
            for bits, more in row.items():
                used, new = spent + n * bits, harm + more
                if (
                    used <= 8 * budget
                    and new < grown.get(used, (math.inf,))[0]
                ):
                    grown[used] = new, [*chosen, bits]
        best, least = {}, math.inf
        for used in sorted(grown):  # quien gasta más, que dañe menos
            if most or grown[used][0] < least:
                best[used], least = grown[used], grown[used][0]
    return (best[max(best)] if most else min(best.values()))[1]


def uniform_bits(damage, sizes, budget):
    fit = [b for b in BITS if size(sizes, [b] * len(sizes)) <= budget]
    best = min(fit, key=lambda b: total(damage, [b] * len(sizes)))
    return [best] * len(sizes)


def marginal(damage, sizes, budget, worth=None):
    """El voraz: cada vez, lo que más baja por byte, si cabe."""
    chosen = [BITS[0]] * len(sizes)
    worth = worth or (lambda gain, cost: gain / cost)
    while True:
        options = []
        for i, b in enumerate(chosen):
            for more in (c for c in BITS if c > b):
                other = [*chosen[:i], more, *chosen[i + 1 :]]
                gain = damage[i][b] - damage[i][more]
                if size(sizes, other) <= budget and gain > 0:
                    cost = sizes[i] * (more - b) / 8
                    options.append((worth(gain, cost), other))
        if not options:
            return chosen
        chosen = max(options)[1]


def _assigned(function, sizes, seed, bits, flat=()):
    damage, budget = curves(sizes, seed), int(sum(sizes) * bits / 8)
    for i in flat:  # medir tiene ruido: más bits, y un poco más de daño
        damage[i][8] = damage[i][6] * 1.1
    chosen = call(function, damage, sizes, budget)
    if isinstance(chosen, torch.Tensor | np.ndarray):
        chosen = chosen.tolist()
    expect(
        isinstance(chosen, list | tuple) and len(chosen) == len(sizes),
        f"Devuelve una lista con los bits de cada capa: aquí, {len(sizes)}.",
    )
    chosen = [as_int(b, "Los bits de una capa son enteros.") for b in chosen]
    expect(
        {*chosen} <= {*BITS},
        f"Usas {sorted({*chosen} - {*BITS})[:1]} bits, y no está en la tabla.",
    )
    said = f"Con capas de {sizes[:6]}{'…' if len(sizes) > 6 else ''} pesos"
    used = size(sizes, chosen)
    expect(
        used <= budget,
        say("{0} gastas {1:.0f} bytes, y hay {2}.", said, used, budget),
    )
    best = total(damage, frontier(damage, sizes, budget))
    more = 100 * (total(damage, chosen) / best - 1)
    expect(
        more <= 2,
        say(
            "{0} y {1} bytes, tu daño es un {2:.1f} % mayor que el del mejor "
            "reparto, y se admite un 2 %.",
            said,
            budget,
            more,
        ),
    )
    return 0


def by_budget(damage, sizes, budget, measure=math.gcd):
    """El mejor daño con cada gasto, en un array de bits."""
    unit = measure(*sizes)
    room = int(8 * budget // unit)
    least, picks = np.zeros(room + 1), []
    for row, n in zip(damage, sizes):
        tries = np.full((len(row), room + 1), np.inf)
        for k, (bits, harm) in enumerate(row.items()):
            cost = bits * n // unit
            if cost <= room:
                tries[k, cost:] = least[: room + 1 - cost] + harm
        picks.append(tries.argmin(0))
        least = tries.min(0)
    chosen = []
    for row, n, pick in zip(damage[::-1], sizes[::-1], picks[::-1]):
        bits = [*row][pick[room]]
        room -= bits * n // unit
        chosen.append(bits)
    return chosen[::-1]


by_gain = partial(marginal, worth=lambda gain, cost: gain)
exercise(
    "11.7",
    Part(
        [
            ([800] * 5, 0, 3.5),
            ([800, 3200, 1600, 800, 2400, 400], 0, 4.3, (0, 2)),
            ([4000, 800, 800], 3, 3.5),
            ([1500, 700, 1100, 900, 2300, 500], 29, 6.3, (0, 2)),
            ([800, 1600, 2400] * 8, 1, 4.3, (3, 9)),
            ([9100, *[700, 1300] * 4], 3, 4),
        ],
        truth=lambda *case: 0,
        observe=_assigned,
        traps={
            "Ese es el mejor reparto uniforme: quita bits donde duele poco y "
            "ponlos donde duele mucho.": uniform_bits,
            "El voraz no vuelve atrás: a veces compensa dar menos a una capa "
            "para que quepa otra.": [
                marginal,
                lambda d, *a: min(
                    marginal(d, *a), by_gain(d, *a), key=partial(total, d)
                ),
                lambda d, s, b: (frontier if len(s) < 7 else marginal)(
                    d, s, b
                ),
            ],
            "Lo que baja el daño hay que dividirlo entre lo que cuesta: las "
            "capas no pesan lo mismo.": by_gain,
            "Los 8 bits también están en la tabla.": lambda d, *a: frontier(
                [{b: row[b] for b in BITS[:-1]} for row in d], *a
            ),
            "Gastar más no siempre daña menos: quédate con el menor daño de "
            "los que caben.": partial(frontier, most=True),
            "Los tamaños no son múltiplos del menor, ni de 400: cuenta los "
            "bits justos.": [
                partial(by_budget, measure=min),
                partial(by_budget, measure=lambda *sizes: 400),
            ],
            "El presupuesto es en bytes, y los pesos, en bits: ocho por "
            "byte.": lambda d, s, b: frontier(d, s, 8 * b),
            "Cuentas los bits de cada capa como si todas pesaran lo mismo.": (
                lambda d, s, b: frontier(d, [1] * len(s), b * len(s) / sum(s))
            ),
            "Gastas lo menos posible, y sobra presupuesto: cada byte puede "
            "bajar el daño.": lambda d, s, b: [2] * len(s),
        },
        rights=[frontier, by_budget],
    ),
    success="¡Correcto! El mismo tamaño que el uniforme, y menos daño.",
)
