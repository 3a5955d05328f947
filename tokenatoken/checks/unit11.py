"""Corrección del laboratorio 11 · Más deprisa y más barato.

La verdad sale de la aritmética, de `generate`, de un prefill nuevo (para saber
qué guarda una caché) y de recorrer todos los repartos que importan.
"""

import math
from functools import partial
from itertools import product

import numpy as np
import torch

from .. import CourseError
from ..cache import kv_cache_bytes, make_cache
from ..quantize import dequantize, quantize
from ..speculative import agree, lookup
from .bench import CallCounter, library, random_ids, tiny_config, uniform
from .kit import (
    Part,
    as_int,
    call,
    close,
    exercise,
    expect,
    number,
    put_to_test,
    say,
    tensor,
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
    return dequantize(q, scale, zero)[: len(x)], bound[: len(x)]


def by_number(x, bits, group):
    near, bound = [], []
    for i, v in enumerate(x.tolist()):
        part = x[i // group * group :][:group].tolist()
        scale = (max(*part, 0.0) - min(*part, 0.0)) / (2**bits - 1)
        near.append(scale * math.floor(v / scale + 0.5) if scale else 0.0)
        bound.append(scale / 2)
    return near, np.array(bound)


def _off_zero(x, bits, group, ends=lambda x: (x.amin(), x.amax())):
    """Del menor al mayor, y el cero donde caiga."""
    near, bound = [], []
    for part in x.split(group):
        low, high = ends(part)
        scale = ((high - low) / (2**bits - 1)).clamp_min(1e-30)
        near.append(((part - low) / scale).round() * scale + low)
        bound.append(scale.expand(len(part)) / 2)
    return torch.cat(near), torch.cat(bound)


def _real_error(x, bits, group):
    near = rounded(x, bits, group)[0]
    return near, (near - x).abs()


def _whole_groups(x, bits, group):
    return rounded(x[: len(x) // group * group or len(x)], bits, group)


def _pair(value, x, bits, group):
    expect(
        isinstance(value, tuple | list | torch.Tensor) and len(value) == 2,
        "Devuelve dos cosas: los números que quedan y el error máximo de "
        "cada uno.",
    )
    names = "Lo que queda", "El error máximo"
    pairs = zip(value, names)
    return torch.stack(
        [tensor(_as_tensor(v), x.shape, name) for v, name in pairs]
    )


def _row(n, seed, *changes):
    x = uniform(n, seed=seed)
    for where, change in changes:
        x[where] = change(x[where])
    return x


def _rounded_said(ours, right, x, bits, group):
    row = int((ours - right).abs().amax(-1).argmax())
    i = int((ours - right)[row].abs().argmax())
    return say(
        "Con {0} bits y grupos de {1}, del {2:.4f} (el {3}.º de {4}) dices "
        "que {5} {6:.4f}.",
        bits,
        group,
        x[i],
        i + 1,
        len(x),
        ("queda", "su error llega a")[row],
        ours[row, i].item(),
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
        ],
        truth=lambda *case: torch.stack(rounded(*case)).double(),
        read=_pair,
        near=1e-4,
        said=_rounded_said,
        otherwise="Haz a mano un grupo de tres números: extremos (con el 0), "
        "escala, y cada uno a su múltiplo más cercano.",
        traps={
            "Pones una escala para todo, y cada grupo tiene la suya.": partial(
                rounded, parts=lambda x, group: [x]
            ),
            "Así siempre se redondea hacia el mismo lado: ve al más "
            "cercano.": [
                partial(rounded, snap=torch.floor),
                partial(rounded, snap=torch.trunc),
            ],
            "Quien redondea al más cercano no llega a fallar una escala "
            "entera.": partial(rounded, half=1),
            "Ese es el error que ha salido; se pide el mayor que podría "
            "salir en su grupo.": _real_error,
            "De 2^bits valores hay un paso menos que valores.": partial(
                rounded, levels=lambda bits: 2**bits
            ),
            "El 0 cuenta entre los extremos, y tiene que quedar "
            "exacto.": _off_zero,
            "La rejilla empieza en el menor, y así el 0 no cae en ella: que "
            "sean múltiplos de la escala.": partial(_off_zero, ends=with_zero),
            "Así se reparte a los dos lados por igual, aunque los números "
            "no: usa el menor y el mayor.": partial(
                rounded, ends=lambda x: (-x.abs().amax(), x.abs().amax())
            ),
            "Faltan los últimos: el grupo que queda corto también se "
            "redondea.": _whole_groups,
            "El último grupo es más corto, pero es un grupo: no lo juntes "
            "con el anterior.": partial(
                rounded,
                parts=lambda x, group: x.tensor_split(
                    [*range(group, len(x) - group + 1, group)]
                ),
            ),
            "Los grupos son de `group` números; no repartas la fila en "
            "trozos iguales.": partial(
                rounded,
                parts=lambda x, group: x.tensor_split(-(-len(x) // group)),
            ),
            "En un grupo de ceros la escala es 0, y divides por ella.": (
                partial(rounded, least=0)
            ),
        },
        rights=[rounded, by_padding, by_number],
    ),
    success="¡Correcto! Ningún número se aparta más de media escala.",
)


# 11.2


def head_size(config):
    size = getattr(config, "head_dim", None)
    return size or config.hidden_size // config.num_attention_heads


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
        num_attention_heads=14,
        max_position_embeddings=32768,
    )
    yield four, 4_022_468_096, 16, 8
    yield four, 4_022_468_096, 4.97, 4
    yield four, 4_022_468_096, 4.97, 15
    yield four, 4_022_468_096, 16, 7
    yield small, 494_032_768, 8.5, 0.6
    yield small, 494_032_768, 32, 2
    yield small, 2**28, 16, 0.5 + 3 * 2**12 * 1000 / 2**30
    yield small, 2**28, 16, 0.5
    yield small, 494_032_768, 16, 0.25


def _tokens(value, *_):
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return as_int(value, "Los tokens son enteros: da el número que cabe.")


def _times(heads=1, size=1):
    def each(c):
        kv = c.num_key_value_heads
        return 4 * c.num_hidden_layers * kv * head_size(c) * heads * size

    return each


exercise(
    "11.2",
    Part(
        _cards,
        truth=by_doubling,
        read=_tokens,
        said="Con {1} pesos a {2:g} bits y {3:.4f} GiB dices {ours}, y son "
        "{right}.",
        otherwise="Imprime tres cosas: los bytes de la tarjeta, los de los "
        "pesos y los que añade cada token.",
        traps={
            "Cuentas gigabytes: un GiB son 2^30 bytes.": partial(
                longest, unit=1e9
            ),
            "Cada token guarda K y también V.": partial(
                longest, each=_times(size=1 / 2)
            ),
            "Mira head_dim en la configuración: no siempre es hidden_size "
            "entre las cabezas.": partial(
                longest,
                each=lambda c: (
                    4
                    * (c.num_hidden_layers * c.num_key_value_heads)
                    * (c.hidden_size // c.num_attention_heads)
                ),
            ),
            "Se guardan las cabezas de K y V, que son menos que las de "
            "query.": partial(
                longest,
                each=lambda c: (
                    4
                    * (c.num_hidden_layers * c.num_attention_heads)
                    * head_size(c)
                ),
            ),
            "Cada número de la caché son 16 bits, 2 bytes.": [
                partial(longest, each=_times(size=k)) for k in (1 / 4, 2, 8)
            ],
            "Cuentas la caché de una capa, y todas tienen la suya.": partial(
                longest,
                each=lambda c: 4 * c.num_key_value_heads * head_size(c),
            ),
            "Los pesos vienen en bits: son ocho por byte.": partial(
                longest, weights=lambda n, bits: n * bits
            ),
            "Los bits por peso pueden no ser enteros: no los redondees.": [
                partial(longest, weights=lambda n, bits: n * int(bits) / 8),
                partial(longest, weights=lambda n, bits: n * bits // 8 // n * n),
            ],
            "Faltan los pesos: también ocupan.": partial(
                longest, weights=lambda n, bits: 0
            ),
            "El modelo tiene un máximo: max_position_embeddings.": partial(
                longest, cap=lambda room, most: room
            ),
            "Si no caben ni los pesos, el contexto es 0.": partial(
                longest, floor=-math.inf
            ),
            "Ese último token ya no cabe entero: hacia abajo.": [
                partial(longest, snap=math.ceil),
                partial(longest, snap=round),
            ],
        },
        rights=[longest, by_doubling],
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
    gains = [round(by_formula(a, k, draft, extra), 9) for k in range(limit + 1)]
    return np.argmax(gains)


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
        "Falta el token del modelo: aunque no se acepte nada, se escribe "
        "uno.": partial(
            speedup, tokens=lambda a, k: sum(a**i for i in range(1, k + 1))
        ),
        "Para aceptar el segundo hace falta haber aceptado el primero: no es "
        "a por k.": partial(speedup, tokens=lambda a, k: 1 + a * k),
        "Si se acepta todo, también se escribe el del modelo, el k + 1.": (
            partial(speedup, tokens=lambda a, k: sum(a**i for i in range(k)))
        ),
        "Con aceptación 1 la fórmula divide entre cero: ¿cuántos se escriben "
        "entonces?": [
            partial(speedup, tokens=_closed),
            lambda a, k, draft, extra: (
                1.0 if a == 1 else by_formula(a, k, draft, extra)
            ),
        ],
        "El borrador también cuesta, k veces.": [
            partial(speedup, cost=lambda k, draft, extra: 1 + k * extra),
            partial(
                speedup, cost=lambda k, draft, extra: 1 + draft + k * extra
            ),
        ],
        "Cada token propuesto encarece un poco la revisión: falta k veces "
        "extra.": [
            partial(speedup, cost=lambda k, draft, extra: 1 + k * draft),
            partial(
                speedup, cost=lambda k, draft, extra: 1 + k * draft + extra
            ),
        ],
        "Falta lo que cuesta el forward del modelo, 1.": partial(
            speedup, cost=lambda k, draft, extra: k * (draft + extra) or 1
        ),
        "Eso son tokens por vuelta: divide entre lo que cuesta la vuelta.": (
            lambda a, k, *_: each_place(a, k)
        ),
        "Está del revés: más de 1 es ganar.": lambda *a: 1 / speedup(*a),
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
    ],
    truth=best_k,
    read=lambda value, *_: as_int(value, "k es un entero."),
    said="Con aceptación {0}, borrador {1}, extra {2} y hasta k = {3} dices "
    "{ours}, y es {right}.",
    otherwise="Imprime la aceleración de cada k, del 0 al límite.",
    traps={
        "A veces lo mejor es no especular: k = 0 también entra.": partial(
            best_k, start=1
        ),
        "El límite también entra.": partial(best_k, more=0),
        "Ese k escribe más por vuelta, pero la vuelta cuesta más: compara "
        "aceleraciones.": [
            lambda a, draft, extra, limit: limit,
            partial(best_k, gain=lambda a, k, *_: each_place(a, k)),
        ],
        "Se pide k, y eso es lo que se gana con él.": lambda a, d, e, n: (
            speedup(a, best_k(a, d, e, n), d, e)
        ),
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
    expect(not strange, f"Propones el id {strange[:1]}, y no está en el texto.")
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
            "Eso es lookup con otro nombre: ¿en qué texto propone mal, o "
            "propone poco?": [
                lookup,
                partial(propose, most=3, wrap=False),
            ],
            "Con una cola de un token casi todo parece repetido: mira si la "
            "coincidencia es más larga.": [
                partial(propose, most=1, wrap=False),
                partial(propose, most=1),
            ],
            "Recorta con k lo que propones: al final del texto se piden "
            "menos.": lambda ids, k: ids[0, :K].tolist(),
            "La cola coincide consigo misma, y detrás no hay nada: busca "
            "antes.": lambda ids, k: [],
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
        ids, left = torch.cat([ids, ids.new_tensor([new])], -1), left - len(new)
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


def _draft(text, n, wrong):
    def draft(ids, k):
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
    ids = PROMPTS[which]
    n = ids.shape[1]
    whole = library(ids, LIMIT + 2 * k)[0].tolist()
    ends = set() if place is None else {whole[n + place]}
    right = library(ids, LIMIT, ends)
    draft = _draft(whole, n, DRAFTS[name])
    with CallCounter() as counter:
        value = call(function, counter.model, ids, draft, k, LIMIT, ends)
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
    said += "" if place is None else f" y un fin en el {place + 1}.º token"
    tokens, good = ours[0, n:].tolist(), right[0, n:].tolist()
    expect(
        tokens == good,
        f"{said}, escribes {tokens}; el modelo solo, {good}.",
    )
    held = getattr(cache, "get_seq_length", int)()
    expect(
        held == right.shape[1] - 1,
        f"{said}, el texto está bien, y la caché guarda {held} tokens: tiene "
        f"que guardar {right.shape[1] - 1}, todos menos el último.",
    )
    fresh = make_cache(counter.model)
    counter.model(right[:, :-1], past_key_values=fresh)
    for a, b in zip(cache.layers, fresh.layers):
        gap = (a.keys - b.keys).abs() + (a.values - b.values).abs()
        places = (gap.amax((0, 1, 3)) > 1e-2).nonzero().flatten().tolist()
        expect(
            not places,
            f"{said}, el texto y la longitud están bien, pero en el lugar "
            f"{places[:1]} la caché guarda otro token: lo rechazado sigue ahí.",
        )
    fewest = _fewest(draft, whole, n, right.shape[1], k)
    expect(
        len(counter.lengths) <= fewest + 1,
        f"{said}, haces {len(counter.lengths)} forwards y bastan {fewest}.",
    )
    return 0


def _loop_cases():
    for which in range(len(PROMPTS)):
        for name in DRAFTS:
            yield which, name, 4, None
            yield which, name, 4, 6
        yield which, "que lo acierta todo", 3, 1


exercise(
    "11.5",
    Part(
        _loop_cases,
        truth=lambda *case: 0,
        observe=_looped,
        traps={
            "El fin puede ir en medio de lo aceptado: mira todos los tokens "
            "nuevos, no solo el último.": [
                partial(
                    by_hand, stop=lambda new, ends: len(new) * (new[-1] in ends)
                ),
                partial(
                    by_hand,
                    stop=lambda new, ends: len(new) * (new[-1] in ends),
                    kept=0,
                ),
            ],
            "Rebobinas uno de menos: el último token del texto aún no tiene "
            "que estar en la caché.": partial(by_hand, kept=0),
            "Rebobinas uno de más: la caché guarda todo menos el último "
            "token.": partial(by_hand, kept=2),
            "Lo rechazado sigue en la caché: falta rebobinar.": partial(
                by_hand, extra=lambda tokens, good: 0
            ),
            "Al rebobinar quitas también lo aceptado.": partial(
                by_hand, extra=lambda tokens, good: len(tokens)
            ),
            "Lo que iba detrás del fin se escribió en la caché: quítalo "
            "también.": partial(
                by_hand, extra=lambda tokens, good: len(tokens) - good
            ),
            "Si se acepta todo, el token del modelo también se escribe.": (
                partial(by_hand, choose=_without_bonus)
            ),
            "Escribes lo propuesto sin revisarlo.": partial(
                by_hand, choose=_trusting
            ),
            "Te pasas del límite: lo propuesto y el del modelo tienen que "
            "caber.": partial(by_hand, most=lambda k, left: k),
            "El token de fin también se escribe.": partial(by_hand, keep=1),
        },
        rights=[by_hand, by_missing],
    ),
    success="¡Correcto! El mismo texto y la misma caché, con menos forwards.",
)
