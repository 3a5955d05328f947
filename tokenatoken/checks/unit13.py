"""Corrección del laboratorio 13 · En la pizarra.

La verdad sale de la aritmética, de lo que hace sqlite3 con un archivo de
verdad y, en 13.6, de la pérdida que calcula el propio modelo.
"""

import gc
import math
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np
import torch
from torch.nn import functional as F

from .bench import odd_tokenizer, random_model, tiny_config
from .kit import (
    ASSERTS,
    Hint,
    Part,
    as_int,
    call,
    close,
    exercise,
    expect,
    number,
    plain,
    put_to_test,
    say,
    spanish,
    verdicts,
)


def slips(function):
    """`slip(opción=…)` hace de `function` una respuesta equivocada."""
    return partial(partial, function)


# 13.1


def one_token(
    c,
    n,
    *,
    used="active",
    wide=None,
    part=None,
    few="kv_heads",
    stored=None,
    router=lambda c: c["experts"] if c["experts"] > 1 else 0,
    matrices=3,
    output=1,
    row=1,
    bits=8,
    kv=lambda c: 2 * 2 * c["layers"],
    seen=1,
    looked=None,
    flops=2,
    twice=4,
    heads="heads",
    across=None,
    copied=0,
):
    """Una respuesta de 13.1; sus opciones la estropean."""
    wide = wide(c) if wide else c["heads"] * c["head_dim"]
    part = part(c) if part else c["head_dim"]
    layer = 2 * c["hidden"] * wide + 2 * c["hidden"] * c[few] * part
    layer += c.get(used, used) * matrices * c["hidden"] * c["intermediate"]
    layer += c["hidden"] * router(c)
    times = c["layers"] * layer + output * c["hidden"] * c["vocab"]
    weights = times + row * c["hidden"]
    if row == "vocab":
        weights = times + c["hidden"] * c["vocab"]
    memory = kv(c) * c[stored or few] * part * (n + seen)
    looked = seen if looked is None else looked
    done = flops * (times + copied * c["hidden"])
    across = across(c) if across else c[heads] * part
    done += twice * across * (n + looked) * c["layers"]
    return weights * c["bits"] / bits, memory, done


def by_shapes(c, n):
    """Con la lista de las matrices."""
    inside, few = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]
    shapes = [(c["hidden"], inside), (inside, c["hidden"])]
    shapes += [(c["hidden"], few)] * 2
    shapes += [(c["hidden"], c["intermediate"])] * (3 * c["active"])
    if c["experts"] > 1:
        shapes.append((c["hidden"], c["experts"]))
    total = sum(a * b for a, b in shapes * c["layers"])
    total += c["hidden"] * c["vocab"]
    pairs = [(n + 1) * c["head_dim"]] * (2 * c["heads"] * c["layers"])
    read = np.full((c["layers"], 2, n + 1, few), 2).sum()
    return [
        (total + c["hidden"]) * c["bits"] // 8,
        read,
        2 * total + 2 * sum(pairs),
    ]


def by_fractions(c, n):
    """Las mismas cuentas, con números exactos."""
    weights, memory, done = one_token(c, n)
    return Fraction(weights), Decimal(memory), Fraction(done)


def passport(*values) -> dict:
    names = "layers hidden heads kv_heads head_dim intermediate vocab bits"
    names = [*names.split(), "experts", "active"]
    return dict(zip(names, values))


COSTS = "bytes de pesos", "bytes de K y V", "FLOPs"


def _cost_of(function, c, n, i):
    value = plain(call(function, c, n))
    expect(
        isinstance(value, list | tuple) and len(value) == 3,
        "Devuelve tres números: bytes de pesos, bytes de K y V, y FLOPs.",
    )
    return [number(v) for v in value][i]


slip = slips(one_token)
exercise(
    "13.1",
    Part(
        [
            (passport(*values), n, i)
            for *values, n in (
                (2, 8, 2, 1, 4, 16, 100, 16, 1, 1, 9),
                (3, 16, 4, 2, 8, 40, 50, 8, 1, 1, 0),
                (5, 32, 8, 2, 16, 24, 300, 4, 16, 3, 70),
                (4, 24, 6, 6, 4, 64, 90, 16, 8, 2, 33),
                (2, 20, 4, 1, 6, 12, 70, 8, 8, 1, 5),
            )
            for i in range(3)
        ],
        truth=lambda c, n, i: float(by_shapes(c, n)[i]),
        observe=_cost_of,
        said=lambda ours, right, c, n, i: (
            f"Con {c} y n = {n}, dices {spanish(ours, 0)} {COSTS[i]}, y son "
            f"{spanish(right, 0)}."
        ),
        otherwise="Haz la lista de las matrices de una capa, con sus formas, "
        "y súmala a mano con el ejemplo del enunciado.",
        traps={
            "De cada capa de un MoE se leen los expertos activos, ni todos ni "
            "uno.": [slip(used="experts"), slip(used=1)],
            "K y V tienen kv_heads cabezas, que pueden ser menos que heads.": [
                slip(few="heads"),
                slip(few="heads", stored="kv_heads"),
                slip(stored="heads"),
            ],
            "q y o miden heads · head_dim, que no tiene por qué ser hidden.": [
                slip(wide=lambda c: c["hidden"]),
                slip(
                    wide=lambda c: c["hidden"],
                    part=lambda c: c["hidden"] // c["heads"],
                ),
                slip(across=lambda c: c["hidden"]),
                slip(wide=lambda c: c["hidden"], across=lambda c: c["hidden"]),
            ],
            "Del embedding de entrada se lee una fila: ni la tabla entera, ni "
            "nada.": [slip(row="vocab"), slip(row=0)],
            "La fila del embedding se copia: no se multiplica por nada.": slip(
                copied=1
            ),
            "Falta la matriz de salida: para elegir hacen falta los logits de "
            "todo el vocabulario.": slip(output=0),
            "De cada posición se guardan dos vectores, K y V, en cada capa.": [
                slip(kv=lambda c: 2 * c["layers"]),
                slip(kv=lambda c: 4),
            ],
            "El token nuevo también se mira a sí mismo: con n guardados, son "
            "n + 1.": [slip(seen=0), slip(seen=0, looked=1), slip(looked=0)],
            "Cada peso son dos operaciones: una multiplicación y una suma.": [
                slip(flops=1),
                slip(flops=1, twice=2),
            ],
            "La atención multiplica dos veces, por K y por V, y cada número "
            "son dos operaciones: 4.": [slip(twice=2), slip(twice=0)],
            "Aunque compartan K y V, en la atención multiplican todas las "
            "cabezas.": slip(heads="kv_heads"),
            "K y V van siempre a 2 bytes por número, tengan los bits que "
            "tengan los pesos.": slip(
                kv=lambda c: 2 * c["layers"] * c["bits"] / 8
            ),
            "Un byte son 8 bits: divide, o te saldrán ocho veces más.": slip(
                bits=1
            ),
            "El router es una matriz más en cada capa, y solo si hay varios "
            "expertos.": [
                slip(router=lambda c: 0),
                slip(router=lambda c: c["experts"]),
                slip(router=lambda c: c["experts"] * (c["active"] > 1)),
                slip(router=lambda c: c["active"] if c["experts"] > 1 else 0),
            ],
            "Todo eso pasa en cada capa: multiplica por layers.": lambda c, n: (
                one_token(c | {"layers": 1}, n)
            ),
            "Cada MLP tiene tres matrices: puerta, subida y bajada.": slip(
                matrices=2
            ),
        },
        rights=[one_token, by_shapes, by_fractions],
    ),
    success="¡Correcto! Con diez números de su ficha sabes qué cuesta un token.",
)


# 13.2


def merge(
    W0,
    A,
    B,
    alpha,
    scale=lambda alpha, r: alpha / r,
    rank=lambda A, B: A.shape[0],
    product=lambda A, B: B @ A,
    base=1,
):
    """Una respuesta de 13.2; sus opciones la estropean."""
    return base * W0 + scale(alpha, rank(A, B)) * product(A, B)


def by_columns(W0, A, B, alpha):
    W, r = W0.clone(), B.shape[1]
    for k in range(r):
        W += alpha / r * torch.outer(B[:, k], A[k])
    return W


def by_einsum(W0, A, B, alpha):
    whole = torch.einsum("or,ri->oi", B.double(), A.double())
    return W0 + (whole * alpha / len(A)).float()


def trained(
    shapes,
    r,
    count=lambda o, i, r: r * (o + i),
    whole=lambda big, small: big + small,
    gather=sum,
):
    """Una respuesta de 13.2; sus opciones la estropean."""
    small = gather(count(o, i, r) for o, i in shapes)
    return small / whole(sum(o * i for o, i in shapes), small)


def by_zeros(shapes, r):
    frozen = [torch.zeros(s) for s in shapes]
    new = [torch.zeros(r, i) for _, i in shapes]
    new += [torch.zeros(o, r) for o, _ in shapes]
    counts = [sum(x.numel() for x in group) for group in (new, frozen)]
    return torch.tensor(counts[0] / sum(counts))


def by_fraction(shapes, r):
    new = sum(r * (o + i) for o, i in shapes)
    return Fraction(new, new + sum(o * i for o, i in shapes))


def by_decimal(shapes, r):
    part = by_fraction(shapes, r)
    return Decimal(part.numerator) / part.denominator


def by_mean(shapes, r):
    return sum(trained([s], r) for s in shapes) / len(shapes)


def _lora(o, i, r, alpha):
    generator = torch.Generator().manual_seed(o + i + r)
    shapes = (o, i), (r, i), (o, r)
    return *(torch.randn(s, generator=generator) for s in shapes), alpha


slip = slips(merge)
MERGE = Part(
    [
        _lora(4, 4, 4, 8),
        _lora(6, 6, 6, 3),
        _lora(5, 7, 2, 4),
        _lora(3, 3, 1, 16),
    ],
    truth=lambda W0, A, B, alpha: torch.addmm(
        W0.double(), B.double(), A.double(), alpha=alpha / len(A)
    ),
    near=1e-5,
    said=lambda ours, right, W0, A, B, alpha: (
        f"Con W0 {[*W0.shape]}, A {[*A.shape]}, B {[*B.shape]} y alpha = "
        f"{alpha}, W no es."
    ),
    otherwise="Prueba con el ejemplo del enunciado, y compara W @ x con "
    "W0 @ x + alpha / r · B @ (A @ x).",
    traps={
        "Falta dividir alpha entre r, el rango: las filas de A.": [
            slip(scale=lambda alpha, r: alpha),
            slip(scale=lambda alpha, r: 1),
            slip(scale=lambda alpha, r: 1 / r),
        ],
        "r es el lado estrecho: las filas de A, que son las columnas de B.": [
            slip(rank=lambda A, B: A.shape[1]),
            slip(rank=lambda A, B: B.shape[0]),
        ],
        "La escala es alpha / r, no r / alpha.": slip(
            scale=lambda alpha, r: r / alpha
        ),
        "Ese producto solo encaja si todo es cuadrado: primero actúa A sobre "
        "x, y después B.": [
            slip(product=lambda A, B: A @ B),
            slip(product=lambda A, B: (B @ A).T),
            slip(product=lambda A, B: A.T @ B.T),
            slip(product=lambda A, B: B.T @ A),
            slip(product=lambda A, B: B @ A.T),
        ],
        "Eso es solo el cambio: súmalo a W0.": slip(base=0),
        "Se suma el cambio, no se resta: W0 + alpha / r · B A.": slip(
            scale=lambda alpha, r: -alpha / r
        ),
    },
    rights=[merge, by_columns, by_einsum],
)
slip = slips(trained)
TRAINED = Part(
    [
        ([(4, 6)], 2),
        ([(100, 100), (10, 300)], 4),
        ([(896, 896), (128, 896), (4864, 896)], 16),
    ],
    truth=lambda *case: float(by_zeros(*case).double()),
    near=1e-5,
    said="Con {0} y r = {1} dices {ours:.5f}, y es {right:.5f}.",
    otherwise="Cuenta a mano con [(4, 6)] y r = 2: cuántos números tiene A, "
    "cuántos B y cuántos W0.",
    traps={
        "Divides entre los congelados: el total son ellos y los de A y B.": slip(
            whole=lambda big, small: big
        ),
        "A es [r, i] y B, [o, r]: sus números se suman, r · i + o · r.": [
            slip(count=lambda o, i, r: r * o * i),
            slip(count=lambda o, i, r: r * r * o * i),
        ],
        "Falta una de las dos matrices: se entrenan A y B.": [
            slip(count=lambda o, i, r: r * i),
            slip(count=lambda o, i, r: r * o),
        ],
        "La fracción sale de los totales: la media de las fracciones pesa "
        "igual una matriz pequeña que una grande.": by_mean,
        "Esa es la fracción que queda congelada.": lambda shapes, r: (
            1 - trained(shapes, r)
        ),
        "Es una fracción, entre 0 y 1, no un tanto por ciento.": (
            lambda shapes, r: 100 * trained(shapes, r)
        ),
    },
    rights=[trained, by_zeros, by_fraction, by_decimal],
)
exercise(
    "13.2",
    MERGE,
    TRAINED,
    success="¡Correcto! Fundido, un LoRA no cuesta nada al escribir.",
)


# 13.3


def dpo(
    chosen,
    rejected,
    chosen_ref,
    rejected_ref,
    mask_c,
    mask_r,
    beta,
    add=lambda x, mask: (x * mask).sum(),
    refs=(1, 1),
    sides=(1, 1),
    sign=1,
    inside=lambda x, beta: beta * x,
    outside=lambda loss, beta: loss,
    loss=lambda x: -F.logsigmoid(x),
):
    """Una respuesta de 13.3; sus opciones la estropean."""
    good = add(chosen, mask_c) - refs[0] * add(chosen_ref, mask_c)
    bad = add(rejected, mask_r) - refs[1] * add(rejected_ref, mask_r)
    x = sign * (sides[0] * good - sides[1] * bad)
    return float(outside(loss(inside(x, beta)), beta))


def dpo_by_loop(chosen, rejected, chosen_ref, rejected_ref, mc, mr, beta):
    x = 0.0
    for ours, ref, mask, way in (
        (chosen, chosen_ref, mc, 1),
        (rejected, rejected_ref, mr, -1),
    ):
        for a, b, yes in zip(ours.tolist(), ref.tolist(), mask.tolist()):
            x += way * (a - b) if yes else 0
    x *= beta
    return max(-x, 0.0) + math.log1p(math.exp(-abs(x)))


def dpo_by_numpy(*case):
    a, b, c, d, m, k = (np.asarray(x, float) for x in case[:6])
    return np.logaddexp(0, -case[6] * ((a - c) @ m - (b - d) @ k))


def _pair(seed, n, m, beta, drift=1.0):
    """Log-probs de dos respuestas de `n` y `m` tokens con su prompt."""
    generator = torch.Generator().manual_seed(seed)

    def draw(size, less=0.0):
        less = max(less, 0)
        return -0.1 - 4 * torch.rand(size, generator=generator) - less

    masks = [(torch.arange(k) >= k // 3).float() for k in (n, m)]
    ours = draw(n, drift), draw(m, -drift)
    return *ours, draw(n, -drift), draw(m, drift), *masks, beta


def _one_token_each():
    """El ejemplo del enunciado: respuestas de un token, sin prompt."""
    values = [-1.0], [-3.0], [-2.0], [-2.5], [1.0], [1.0]
    return *map(torch.tensor, values), 0.1


def _apart(text, ours, right, *values):
    """El texto, con los decimales que hagan falta para ver que no son lo
    mismo: en él, {0} es lo suyo y {1}, lo bueno."""
    for places in 4, 6, 9, 12:
        two = [spanish(x, places) for x in (ours, right)]
        if two[0] != two[1]:
            break
    return say(text, *two, *values)


def _safe(function):
    return lambda x: -math.log(function(float(x)))


slip = slips(dpo)
exercise(
    "13.3",
    Part(
        [
            _one_token_each(),
            _pair(1, 6, 9, 0.1),
            _pair(2, 12, 5, 0.5, -1.5),
            _pair(3, 7, 7, 0.1, 0.3),
            _pair(4, 9, 30, 1.0, 40),
        ],
        truth=lambda *case: float(dpo_by_numpy(*case)),
        near=1e-4,
        said=lambda ours, right, *case: _apart(
            "Con la elegida y la rechazada de {2} y {3} tokens, y beta = {4}, "
            "das {0}, y es {1}.",
            ours,
            right,
            int(case[4].sum()),
            int(case[5].sum()),
            case[6],
        ),
        otherwise="Imprime las cuatro sumas y el margen, y haz el ejemplo del "
        "enunciado a mano.",
        traps={
            "Está al revés: la pérdida baja cuando la elegida gana terreno.": [
                slip(sign=-1),
                slip(sides=(-1, -1)),
            ],
            "Falta el menos: es −log σ, que nunca es negativa.": slip(
                loss=F.logsigmoid
            ),
            "Falta la referencia: cuenta lo que cada respuesta ha ganado o "
            "perdido desde el modelo de partida.": [
                slip(refs=(0, 0)),
                slip(refs=(1, 0)),
                slip(refs=(0, 1)),
            ],
            "La referencia se resta, también en la rechazada.": [
                slip(refs=(-1, -1)),
                slip(refs=(1, -1)),
            ],
            "Es la log-probabilidad de la respuesta entera: la suma de sus "
            "tokens, no la media.": [
                slip(add=lambda x, mask: x[mask > 0].mean()),
                slip(add=lambda x, mask: (x * mask).mean()),
            ],
            "Cuentas el prompt, que no ha elegido nadie: usa las máscaras.": [
                slip(add=lambda x, mask: x.sum()),
                slip(add=lambda x, mask: x[mask < 1].sum()),
            ],
            "No te saltes tokens ni corras la máscara: cada número ya es el de "
            "su token, y su máscara dice si cuenta.": [
                slip(add=lambda x, mask: (x * mask)[1:].sum()),
                slip(add=lambda x, mask: (x * mask)[:-1].sum()),
                slip(add=lambda x, mask: (x[:-1] * mask[1:]).sum()),
                slip(add=lambda x, mask: (x[1:] * mask[:-1]).sum()),
            ],
            "beta va dentro de la sigmoide, y una vez: multiplica el margen.": [
                slip(
                    inside=lambda x, beta: x,
                    outside=lambda loss, beta: beta * loss,
                ),
                slip(inside=lambda x, beta: x),
                slip(inside=lambda x, beta: x / beta),
                slip(outside=lambda loss, beta: beta * loss),
            ],
            "El margen es una diferencia: elegida menos rechazada.": [
                slip(sides=(1, -1)),
                slip(sides=(1, 0)),
            ],
            "Con un margen muy negativo, σ se redondea a 0 y su logaritmo es "
            "−∞, o exp se desborda: calcula log σ de una vez.": [
                slip(loss=lambda x: -torch.sigmoid(x).log()),
                slip(loss=lambda x: (1 + (-x).exp()).log()),
                slip(loss=lambda x: (-x).exp().log1p()),
                slip(loss=_safe(lambda x: 1 / (1 + math.exp(-x)))),
                slip(loss=lambda x: -(torch.sigmoid(x) + 1e-8).log()),
                slip(loss=lambda x: -torch.sigmoid(x).clamp(1e-12).log()),
            ],
            "La máscara lleva números, no índices: multiplica por ella, o "
            "elige con mask == 1.": slip(add=lambda x, mask: x[mask].sum()),
            "Falta el logaritmo: 1 − σ no es la pérdida.": [
                slip(loss=lambda x: 1 - torch.sigmoid(x)),
                slip(loss=lambda x: -torch.sigmoid(x)),
            ],
        },
        rights=[dpo, dpo_by_loop, dpo_by_numpy],
    ),
    success="¡Correcto! Así aprende un modelo cuál de dos respuestas gustó.",
)


# 13.4

READS = "SELECT", "READ", "FUNCTION", "RECURSIVE"
BANNED = "ATTACH", "PRAGMA", "INSERT", "UPDATE", "DELETE", "DROP_TABLE"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n{})"
ENDLESS = NUMBERS.format("") + " SELECT i FROM n WHERE i % 1000000000 = 1"
HONEST = [
    "SELECT nombre, año FROM fichas WHERE año < 1903",
    "  select replace(nombre, 'Ficha', 'Nota') from fichas limit 2;",
    "-- cuántas\nSELECT count(*), max(año) FROM fichas",
    "/* drop, delete */ SELECT año FROM fichas",
    "WITH p AS (SELECT año FROM fichas WHERE año % 2 = 0) SELECT * FROM p",
    "SELECT año FROM fichas WHERE nombre = 'delete; drop'",
    NUMBERS.format(" WHERE i < 9") + " SELECT sum(i) FROM n",
    "SELECT count(*) FROM fichas a, fichas b",
    "SELECT año / 5 FROM fichas WHERE año < 1912 ORDER BY año DESC",
    NUMBERS.format(" WHERE i < 4600") + " SELECT max(i) FROM n",  # 87 000
]
ATTACH = "ATTACH '{folder}/otra.db' AS otra"
ATTACKS = [
    "DROP TABLE fichas",
    "SELECT 1; DROP TABLE fichas",
    "SELECT 1; SELECT 2",
    "WITH x AS (SELECT 1) DELETE FROM fichas",
    "/* SELECT */ UPDATE fichas SET nombre = 'nadie'",
    "INSERT INTO fichas VALUES ('nueva', 2000) RETURNING año",
    "SELECT nada FROM ninguna",
    "PRAGMA writable_schema = 1",
    ATTACH,
    "VACUUM INTO '{folder}/copia.db'",
    f"-- x\n{ATTACH}",
    "/* x */ VACUUM INTO '{folder}/copia.db'",
    "/**/ PRAGMA writable_schema = 1",
    "BEGIN",
    "CREATE TEMP TABLE t AS SELECT 1",
    "SELEC 1",
    ENDLESS,
]
PATIENCE = 2.0  # segundos que se espera a una consulta


def _allowed(reads, no, banned=()):
    """Deja hacer lo de `reads` o, si hay `banned`, todo menos eso."""
    codes = {getattr(sqlite3, f"SQLITE_{n}") for n in banned or reads}

    def decide(action, *_):
        fine = (action in codes) is not bool(banned)
        return sqlite3.SQLITE_OK if fine else no

    return decide


def run_query(
    path,
    sql,
    rows=20,
    only=True,
    reads=READS,
    banned=(),
    before="",
    steps=1_000_000,
    filtered=None,
    edit=lambda sql: sql,
    no=sqlite3.SQLITE_DENY,
    cut=lambda cursor, rows: cursor.fetchmany(rows),
    run=sqlite3.Connection.execute,
    catch=sqlite3.Error,
    forgives=None,
):
    """Una respuesta de 13.4; sus opciones la estropean."""
    if filtered and not filtered(sql):
        raise ValueError("el filtro no la deja pasar")
    where = f"file:{path}?mode=ro" if only else f"file:{path}"
    with closing(sqlite3.connect(where, uri=True)) as connection:
        connection.execute(before)
        if reads:
            connection.set_authorizer(_allowed(reads, no, banned))
        if steps:
            connection.set_progress_handler(lambda: 1, steps)
        try:
            return cut(run(connection, edit(sql)), rows)
        except catch as error:
            if forgives is not None and forgives in str(error):
                return []
            raise ValueError(str(error)) from error


def by_clock(path, sql, rows=20):
    """Con el reloj, y sin mode=ro: decide el autorizador."""
    from time import monotonic

    end, found = monotonic() + 0.5, []

    def authorizer(action, first, second, *_):
        return int(action not in (20, 21, 31, 33))

    connection = sqlite3.connect(path)
    connection.set_authorizer(authorizer)
    connection.set_progress_handler(lambda: monotonic() > end, 1000)
    try:
        for row in connection.execute(sql):
            if len(found) == rows:
                break
            found.append(row)
    except Exception as error:
        raise ValueError("no") from error
    finally:
        connection.close()
    return found


def reads_outside(path, sql, rows=20):
    """Con la lectura de las filas fuera del try."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.set_authorizer(_allowed(READS, sqlite3.SQLITE_DENY))
    connection.set_progress_handler(lambda: 1, 1_000_000)
    try:
        cursor = connection.execute(sql)
    except sqlite3.Error as error:
        raise ValueError("no") from error
    return cursor.fetchmany(rows)


def by_words(sql):
    bad = "insert|update|delete|drop|attach|pragma|vacuum|create|alter"
    return not re.search(rf"\b({bad})\b", sql.lower())


def by_prefix(sql):
    return sql.strip().upper().startswith("SELECT")


def by_two_prefixes(sql):
    return sql.strip().upper().startswith(("SELECT", "WITH"))


def by_first_word(sql):
    bad = "ATTACH", "VACUUM", "PRAGMA", "DETACH", "BEGIN"
    return sql.split()[0].upper() not in bad


def without_semicolon(sql):
    return ";" not in sql.strip().rstrip(";")


def _connections():
    kind = sqlite3.Connection
    return [o for o in gc.get_objects() if issubclass(type(o), kind)]


@cache
def _others() -> list:
    """Las conexiones de otros (IPython tiene la suya): no se tocan."""
    return _connections()


@contextmanager
def _watchdog():
    """Interrumpe las conexiones de aquí dentro si tardan demasiado."""
    others, done, late = {*map(id, _others())}, Event(), []

    def watch():
        if done.wait(PATIENCE):
            return
        late.append(True)
        while not done.wait(0.1):
            for one in _connections():
                if id(one) not in others:
                    with suppress(sqlite3.Error):  # puede estar cerrada
                        one.interrupt()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield late
    finally:
        done.set()
        thread.join()


@cache
def _library() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "fichas.db")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE fichas (nombre TEXT, año INT)")
            many = [(f"Ficha {i}", 1900 + i) for i in range(60)]
            many[7] = ("delete; drop", 1907)
            connection.executemany("INSERT INTO fichas VALUES (?, ?)", many)
            connection.commit()
        return path.read_bytes()


def _table(value):
    shape = "Devuelve una lista de tuplas, una por fila."
    expect(isinstance(value, list | tuple), shape)
    expect(all(isinstance(row, list | tuple) for row in value), shape)
    return [[*row] for row in value]


def _asked(answer, sql, rows):
    """Las filas, «rechaza» o lo que haya hecho mal."""
    if "VACUUM" in sql:  # con SQLITE_IGNORE, sqlite3 se cuelga
        first = _asked(answer, ATTACH, rows)
        if first != "rechaza":
            return first
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        files = {"fichas.db": _library(), "otra.db": _library()}
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        given = [str(Path(folder, "fichas.db")), sql.format(folder=folder)]
        given += [] if rows is None else [rows]
        with _watchdog() as late:
            try:
                value = _table(plain(call(answer, *given)))
            except Hint as hint:
                if isinstance(hint.__cause__, sqlite3.Error):
                    value = f"lanza {type(hint.__cause__).__name__}"
                elif isinstance(hint.__cause__, ValueError):
                    value = "rechaza"
                else:
                    raise
        if late:
            return "no acaba"
        now = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
        if now != files:
            return "cambia la carpeta"
    return value


@cache
def _rows(sql, rows):
    if sql in ATTACKS:
        return "rechaza"
    with TemporaryDirectory() as folder:
        path = Path(folder, "fichas.db")
        path.write_bytes(_library())
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute(sql).fetchall()
    return [[*row] for row in found[: rows or 20]]


def _asked_said(ours, right, sql, rows):
    text = sql.replace("\n", "\\n")
    text += "" if rows is None else f" (rows = {rows})"
    if isinstance(ours, list) and len(ours) == len(right):
        i = next(i for i, row in enumerate(ours) if row != right[i])
        a, b = tuple(ours[i]), tuple(right[i])
        return f"Con «{text}», tu fila {i + 1} es {a}, y tenía que ser {b}."
    if isinstance(ours, list):
        ours = f"devuelve {len(ours)} filas"
    good = "lanzar ValueError"
    if isinstance(right, list):
        few = f"{len(right)} filas"
        few = [*map(tuple, right)] if len(right) < 3 else few
        good = f"devolver {few}"
    return f"Con «{text}» tu función {ours}, y tenía que {good}."


def _wait(ours, right, sql, rows):
    if ours == "no acaba":
        return ENDS
    if str(ours).startswith("lanza"):
        return RAISES
    if isinstance(ours, list) and isinstance(right, list):
        return AS_THEY_COME
    return "No mires lo que parece el texto: que sqlite3 diga lo que hace."


RAISES = (
    "Se pide ValueError: captura sqlite3.Error, también al leer las filas, y "
    "lanza el tuyo en su lugar."
)
ENDS = (
    "Un SELECT también puede no acabar nunca: pon un tope de pasos con "
    "set_progress_handler."
)
AS_THEY_COME = (
    "Devuelve las filas como las da sqlite3: con sus valores, en su orden y "
    "con las repetidas."
)
slip = slips(run_query)
naked = partial(slip, only=False, reads=(), steps=0)
exercise(
    "13.4",
    Part(
        [(sql, None) for sql in HONEST]
        + [(HONEST[3], 5), (HONEST[3], 50)]
        + [(sql, None) for sql in ATTACKS],
        truth=_rows,
        observe=_asked,
        said=_asked_said,
        otherwise=_wait,
        traps={
            "Abrir sin permiso de escritura protege este archivo, pero se "
            "puede abrir otro, copiar este o cambiar un ajuste: decide con "
            "set_authorizer.": [
                slip(reads=()),
                slip(reads=(), filtered=lambda sql: "PRAGMA" not in sql),
            ],
            "No basta con que no haga nada: quien llama tiene que saberlo. "
            "SQLITE_IGNORE calla; SQLITE_DENY hace fallar la sentencia.": slip(
                no=sqlite3.SQLITE_IGNORE
            ),
            "No cambies el texto: con un LIMIT pegado, o dentro de otro "
            "SELECT, se rompen consultas buenas.": [
                slip(edit=lambda sql: f"{sql.rstrip(';')} LIMIT 20"),
                slip(edit=lambda sql: f"SELECT * FROM ({sql}) LIMIT 20"),
                slip(edit=lambda sql: sql.split(";")[0]),
            ],
            "El comienzo no dice nada: delante puede ir un comentario o un "
            "WITH, y detrás, otra cosa.": [
                naked(filtered=by_prefix),
                slip(filtered=by_prefix),
                naked(filtered=by_two_prefixes),
                slip(filtered=by_two_prefixes),
                slip(
                    before="PRAGMA query_only = 1",
                    reads=(),
                    filtered=by_first_word,
                ),
                slip(reads=(), filtered=by_first_word),
            ],
            "Una lista de acciones prohibidas se queda corta: permite las de "
            "leer y niega todas las demás.": [
                slip(banned=BANNED),
                slip(banned=("ATTACH", "PRAGMA")),
                slip(banned=(*BANNED, "TRANSACTION")[1:]),
            ],
            "Una consulta mal escrita, o que no se puede hacer, lanza "
            "ValueError: [] quiere decir que no hay filas.": [
                slip(forgives="syntax"),
                slip(forgives=""),
            ],
            "Una palabra prohibida puede ir en un texto o en un comentario, y "
            "no hace nada: mira las acciones.": [
                slip(filtered=by_words),
                naked(filtered=by_words),
            ],
            "Un punto y coma puede ir dentro de un texto: execute ya se niega "
            "a ejecutar dos sentencias.": slip(filtered=without_semicolon),
            "executescript no devuelve filas y ejecuta todas las "
            "sentencias: usa execute.": [
                slip(run=sqlite3.Connection.executescript),
                naked(run=sqlite3.Connection.executescript),
            ],
            "Falta el tope de filas: pide rows, y ninguna más.": [
                slip(cut=lambda cursor, rows: cursor.fetchall()),
                slip(cut=lambda cursor, rows: cursor.fetchmany(rows + 1)),
                slip(cut=lambda cursor, rows: cursor.fetchmany(20)),
            ],
            "rows puede pasar de 20, que es solo lo que vale si no se "
            "dice.": slip(cut=lambda c, rows: c.fetchmany(min(rows, 20))),
            AS_THEY_COME: [
                slip(cut=lambda c, rows: sorted({*c.fetchmany(rows)})),
                slip(cut=lambda c, rows: sorted(c.fetchmany(rows))),
                slip(cut=lambda c, rows: [*dict.fromkeys(c.fetchmany(rows))]),
                slip(
                    cut=lambda c, rows: [
                        tuple(map(str, row)) for row in c.fetchmany(rows)
                    ]
                ),
            ],
            "Nada impide escribir: abre con mode=ro y decide con "
            "set_authorizer.": naked(),
            "Usar una función, como count, es leer: permite "
            "SQLITE_FUNCTION.": slip(reads=("SELECT", "READ", "RECURSIVE")),
            "Un WITH RECURSIVE que acaba es de fiar: permite "
            "SQLITE_RECURSIVE.": slip(reads=READS[:3]),
            "Leer una columna es una acción más: permite SQLITE_READ además "
            "de SQLITE_SELECT.": slip(reads=("SELECT",)),
            ENDS: [slip(steps=0), slip(steps=0, only=False)],
            "El tope de pasos es tan bajo que corta consultas honradas.": [
                slip(steps=200),
                slip(steps=1000),
                slip(steps=20_000),
            ],
            RAISES: [slip(catch=ZeroDivisionError), reads_outside],
        },
        rights=[run_query, by_clock, slip(steps=100_000)],
    ),
    success="¡Correcto! Quien pregunta puede ser cualquiera, y solo lee.",
)


# 13.5

ICE = "Porque el agua, al helarse, ocupa más sitio y pesa menos."
MONTHS = "Junio.", "Julio."
PAIRS = [
    ("¿Cuánto son 7 × 8?", "56.", "Son 54, la suma de siete veces ocho."),
    ("¿Por qué flota el hielo?", ICE, "Porque está frío."),
    ("¿Qué mes sigue a mayo?", *MONTHS),
    ("¿Qué mes sigue a junio?", *MONTHS[::-1]),
    (
        "¿Qué día va detrás del martes?",
        "El miércoles.",
        "Como modelo de lenguaje, te diría que el jueves.",
    ),
    ("¿Cuántas letras tiene «token»?", "Tiene 5.", "Tiene 6."),
]
HARD = PAIRS[-1][0]
KEY = {(q, *ab): "A" for q, *ab in PAIRS}
KEY |= {(q, b, a): "B" for q, a, b in PAIRS}


def fair(question, first, second):
    found = KEY.get((question, first, second))
    expect(
        found is not None,
        "Los jueces de la corrección solo conocen las parejas de PAIRS, en "
        "los dos órdenes.",
    )
    return found


def _by(score):
    """Un juez que elige la de más puntos y, si empatan, la buena."""

    def judge(question, first, second):
        right = fair(question, first, second)
        a, b = score(first), score(second)
        return right if a == b else "A" if a > b else "B"

    return judge


def _turns(start):
    calls = []

    def judge(question, first, second):
        fair(question, first, second)
        calls.append(1)
        return "AB"[(start + len(calls) - 1) % 2]

    return judge


def _always(letter, only=None):
    def judge(question, first, second):
        right = fair(question, first, second)
        return letter if only in (None, question) else right

    return judge


def _with_memory():
    seen = {}

    def judge(*case):
        return seen.setdefault(case, fair(*case))

    return judge


def _spelled(*case):
    return "".join([fair(*case)[:1], ""])


SAME = (
    "Si solo cambias el orden una vez, quien va alternando acierta siempre: "
    "pregunta también dos veces seguidas lo mismo."
)
POSITION = "Pon la buena unas veces delante y otras detrás, en cada pareja."
LENGTH = (
    "Hace falta una pareja con la buena más corta, y otra con ella más larga."
)
STEADY = (
    "Que elija la misma en los dos órdenes no basta: tiene que ser la buena."
)
TWINS = (
    "Dos preguntas con las mismas dos respuestas, y la buena es otra: usa las "
    "dos."
)
NAMED = "Usa la pareja en que la mala empieza presentándose."
HARDEST = (
    "En la pareja más reñida, la de las letras, mira también los dos órdenes."
)
LETTERS = "Hay que exigir la letra justa: «no es B» deja pasar un empate."
OTHER_WAY = "El juez justo elige la buena, esté delante o detrás."
GOOD = {
    "acierta siempre": lambda: fair,
    "acierta y se acuerda de lo ya visto": _with_memory,
    "acierta y escribe la letra sobre la marcha": lambda: _spelled,
}
BAD = {
    "dice siempre A": (POSITION, partial(_always, "A")),
    "dice siempre B": (POSITION, partial(_always, "B")),
    "prefiere la larga": (LENGTH, partial(_by, len)),
    "prefiere la corta": (LENGTH, partial(_by, lambda text: -len(text))),
    "alterna, empezando por A": (SAME, partial(_turns, 0)),
    "alterna, empezando por B": (SAME, partial(_turns, 1)),
    "en las letras de «token» dice A": (HARDEST, partial(_always, "A", HARD)),
    "en las letras de «token» dice B": (HARDEST, partial(_always, "B", HARD)),
    "en las letras de «token» dice C, de empate": (
        LETTERS,
        partial(_always, "C", HARD),
    ),
    "prefiere a quien se presenta como modelo": (
        NAMED,
        partial(_by, lambda text: text.startswith("Como modelo")),
    ),
    "no mira la pregunta: siempre junio": (
        TWINS,
        partial(_by, lambda text: ("Junio" in text) - ("Julio" in text)),
    ),
    "no mira la pregunta: siempre julio": (
        TWINS,
        partial(_by, lambda text: ("Julio" in text) - ("Junio" in text)),
    ),
}
JUDGES = GOOD | {name: make for name, (_, make) in BAD.items()}


def test_judge(
    judge,
    pairs=PAIRS,
    orders=(0, 0, 1, 1),
    hard=None,
    agrees=lambda said, right: said == right,
):
    """Una respuesta de 13.5; sus opciones la hacen ciega."""
    for question, good, bad in pairs:
        turns = hard if hard and question == HARD else orders
        for back in turns:
            two = (bad, good) if back else (good, bad)
            assert agrees(judge(question, *two), "AB"[back])


def by_lists(judge):
    """Todo delante, luego todo detrás, y cuenta los aciertos."""
    said = [judge(q, a, b) for q, a, b in PAIRS]
    said += [judge(q, b, a) for q, a, b in reversed(PAIRS)]
    assert "".join(said) == "A" * len(PAIRS) + "B" * len(PAIRS)


def by_names(judge):
    for q, a, b in PAIRS * 2:
        assert judge(question=q, first=a, second=b) == "A"
    for q, a, b in PAIRS * 2:
        assert judge(q, second=a, first=b) == "B"


def _only_differs(judge):
    for question, good, bad in PAIRS:
        assert judge(question, good, bad) != judge(question, bad, good)


def _only_steady(judge):
    for question, good, bad in PAIRS:
        for two in ((good, bad), (bad, good)):
            assert len({judge(question, *two) for _ in range(2)}) == 1
    _only_differs(judge)


def _returns(judge):
    try:
        test_judge(judge)
    except AssertionError:
        return False


def _judged(answer, name):
    judge = JUDGES[name]()

    def judged(question, first, second):
        return judge(question, first, second)

    return put_to_test(answer, judged)


def _judged_said(ours, right, name):
    if ours == "devuelve":
        return "Tu prueba devuelve False."
    verb = "Rechaza al bueno que" if name in GOOD else "Deja pasar al que"
    return f"{verb} {name}."


slip = slips(test_judge)
exercise(
    "13.5",
    Part(
        [(name,) for name in JUDGES],
        **verdicts(GOOD, {name: h for name, (h, _) in BAD.items()}, OTHER_WAY),
        observe=_judged,
        said=_judged_said,
        traps={
            POSITION: [slip(orders=(0, 0)), slip(orders=(1, 1))],
            STEADY: [_only_differs, _only_steady],
            LENGTH: [
                slip(pairs=PAIRS[:1] + PAIRS[2:]),
                slip(pairs=PAIRS[1:2] + PAIRS[5:]),
                slip(pairs=PAIRS[1:4] + PAIRS[5:]),
            ],
            SAME: [slip(orders=(0, 1)), slip(orders=(1, 0))],
            HARDEST: [
                slip(hard=(0,)),
                slip(hard=(1, 1)),
                slip(pairs=PAIRS[:-1]),
            ],
            LETTERS: [
                slip(agrees=lambda a, b: a != "AB"[b == "A"]),
                slip(agrees=lambda a, b: a in (b, "C")),
            ],
            NAMED: slip(pairs=PAIRS[:4] + PAIRS[5:]),
            TWINS: [
                slip(pairs=PAIRS[:2] + PAIRS[4:]),
                slip(pairs=PAIRS[:3] + PAIRS[4:]),
                slip(pairs=PAIRS[:2] + PAIRS[3:]),
            ],
            OTHER_WAY: [
                slip(orders=(0, 1), agrees=lambda a, b: a == "A"),
                slip(agrees=lambda a, b: a != b),
            ],
            ASSERTS: _returns,
        },
        rights=[test_judge, by_lists, by_names],
    ),
    success="¡Correcto! Acepta a los tres justos y caza a los doce malos.",
)


# 13.6

TEXTS = [  # semilla y texto: el sitio más reñido, en el primero, más allá
    (1, "Otra vez tú"),  # del último, o en otro lugar con probabilidades
    (1, "A la sombra"),
    (2, "Cuatro y tres"),
    (0, "Llueve."),
]


@cache
def small_model(seed=0):
    config = tiny_config(vocab_size=len(odd_tokenizer()))
    return random_model(config, seed)


def _texts():
    return [(small_model(n), odd_tokenizer(), text) for n, text in TEXTS]


def _ids(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    return torch.tensor([ids])


def closest(
    model,
    tokenizer,
    text,
    last=-1,
    first=0,
    shift=1,
    scores=lambda logits: logits,
    pick=torch.argmin,
    order=1,
    other=1,
    part=lambda margin: margin,
):
    """Una respuesta de 13.6; sus opciones la estropean."""
    logits = model(_ids(tokenizer, text)).logits[0, first:last].float()
    best = scores(logits).topk(3)
    margins = best.values[:, 0] - best.values[:, other]
    i = int(pick(margins))
    two = [int(t) for t in best.indices[i, [0, other]]][::order]
    return i + shift + first, *two, part(float(margins[i]))


def closest_by_sort(model, tokenizer, text):
    ids, found = tokenizer(text)["input_ids"], []
    for i in range(1, len(ids)):
        with torch.no_grad():
            last = model(torch.tensor([ids[:i]])).logits[0, -1]
        order = last.argsort(descending=True).tolist()
        gap = last[order[0]] - last[order[1]]
        found.append((gap.item(), i, *order[:2]))
    gap, *rest = min(found)
    return np.array([*rest, gap])


def _by_written(model, tokenizer, text):
    """Del token escrito a su mejor rival."""
    ids = _ids(tokenizer, text)[0]
    logits = model(ids[None]).logits[0, :-1].float()
    mine = logits.gather(1, ids[1:, None])[:, 0]
    rest = logits.scatter(1, ids[1:, None], -torch.inf)
    gaps = (mine - rest.amax(1)).abs()
    i = int(gaps.argmin())
    rival = int(rest[i].argmax())
    return i + 1, int(ids[i + 1]), rival, float(gaps[i])


def surprise(
    model,
    tokenizer,
    text,
    logits=lambda x: x[:-1],
    ids=lambda x: x[1:],
    cost=lambda logits, ids: F.cross_entropy(logits, ids, reduction="none"),
    end=lambda each: each.tolist(),
):
    """Una respuesta de 13.6; sus opciones la estropean."""
    all_ids = _ids(tokenizer, text)
    found = model(all_ids).logits[0].float()
    return end(cost(logits(found), ids(all_ids[0])))


def surprise_by_loop(model, tokenizer, text):
    ids, found = tokenizer(text)["input_ids"], []
    for i in range(1, len(ids)):
        rows = model(torch.tensor([ids[:i]])).logits[0, -1].double()
        found.append(-math.log(rows.softmax(0)[ids[i]]))
    return np.array(found)


def surprise_by_yield(model, tokenizer, text):
    yield from surprise(model, tokenizer, text)


def surprise_in_a_column(model, tokenizer, text):
    return surprise(model, tokenizer, text, end=lambda each: each[:, None])


def _by_labels(model, tokenizer, text):
    """La pérdida del modelo con una sola etiqueta cada vez."""
    ids, found = _ids(tokenizer, text), []
    for i in range(1, ids.shape[1]):
        labels = torch.full_like(ids, -100)
        labels[0, i] = ids[0, i]
        found.append(float(model(ids, labels=labels).loss))
    return found


def _cost(function):
    def cost(logits, ids):
        rows = function(logits)
        return rows.gather(1, ids[: len(rows), None])[:, 0]

    return cost


def _four(value, *_):
    value = plain(value)
    shape = "Devuelve cuatro cosas: lugar, los dos ids y el margen."
    expect(isinstance(value, list | tuple) and len(value) == 4, shape)
    value = [plain(v) for v in value]
    ids = "El lugar y los dos candidatos son enteros: ids, no texto."
    whole = [
        int(v) if isinstance(v, float) and v % 1 == 0 else v for v in value
    ]
    return [as_int(v, ids) for v in whole[:3]] + [number(value[3])]


def _each(value, model, tokenizer, text):
    if isinstance(value, Iterator):  # un generador: se gasta aquí
        given = value
        value = call(lambda: [*given])
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 2:
        value = value.flatten()  # una columna
    value = plain(value)
    expect(
        isinstance(value, list | tuple),
        "Devuelve una lista: un número por token, desde el segundo.",
    )
    return [number(v) for v in value]


def _list_said(ours, right, model, tokenizer, text):
    if len(ours) != len(right):
        return f"Con «{text}» das {len(ours)} números, y son {len(right)}."
    means = [sum(x) / len(x) for x in (ours, right)]
    if not close(*means, 1e-4):
        told = "Con «{2}» tu media es {0}, y la pérdida del modelo, {1}."
        return _apart(told, *means, text)
    pairs = enumerate(zip(ours, right), 1)
    i, two = next((i, ab) for i, ab in pairs if not close(*ab, 1e-4))
    token = tokenizer.decode([tokenizer.encode(text)[i]])
    told = "Con «{2}», al token {3}, «{4}», le das {0}, y es {1}."
    return _apart(told, *two, text, i, token)


EACH = (
    "Cada número, en el sitio de su token: en el orden del texto, sin "
    "ordenarlos."
)


def _by_means(ours, right, *_):
    if len(ours) == len(right) and close(sum(ours), sum(right), 1e-4):
        return EACH
    return "Su media tiene que ser model(ids, labels=ids).loss."


slip = slips(closest)
CLOSEST = Part(
    _texts,
    truth=lambda *case: [*closest(*case)],
    read=_four,
    near=1e-3,
    said=lambda ours, right, model, tokenizer, text: say(
        "Con «{0}» das {1} con margen {2:.4f}, y es {3} con {4:.4f}.",
        text,
        str(ours[:3]),
        ours[3],
        str(right[:3]),
        right[3],
    ),
    otherwise="Imprime, en cada posición, los dos logits más altos.",
    traps={
        "Los logits de una posición deciden el token siguiente: cuenta uno "
        "más.": slip(shift=0),
        "La última posición decide un token que no has escrito: no "
        "cuenta.": slip(last=None),
        "Te saltas el primer sitio: el segundo token también se decide.": slip(
            first=1
        ),
        "El margen va en logits: la resta de dos probabilidades es pequeña "
        "cuando las dos lo son.": slip(scores=lambda x: x.softmax(-1)),
        "Ese es el sitio donde más seguro está: se pide el más reñido.": slip(
            pick=torch.argmax
        ),
        "Primero el mejor candidato y después el segundo.": slip(order=-1),
        "El rival es el segundo, no el tercero.": slip(other=2),
        "Compara los dos mejores candidatos, esté o no escrito uno de "
        "ellos.": _by_written,
        "El margen es el primero menos el segundo: no puede ser "
        "negativo.": slip(part=lambda margin: -margin),
    },
    rights=[closest, closest_by_sort],
)
slip = slips(surprise)
SURPRISE = Part(
    _texts,
    truth=_by_labels,
    read=_each,
    near=1e-4,
    said=_list_said,
    otherwise=_by_means,
    traps={
        "Cada posición predice el token siguiente: los logits de i van con "
        "el token i + 1.": [
            slip(logits=lambda x: x, ids=lambda x: x),
            slip(logits=lambda x: x[1:]),
            slip(logits=lambda x: x[:-1], ids=lambda x: x[:-1]),
        ],
        "Está en bits: en nats el logaritmo es el natural.": slip(
            end=lambda each: (each / math.log(2)).tolist()
        ),
        "Eso es la probabilidad: la sorpresa es menos su logaritmo.": slip(
            cost=_cost(lambda x: x.softmax(-1))
        ),
        "La sorpresa es −ln p: falta el menos.": slip(
            cost=_cost(lambda x: x.log_softmax(-1))
        ),
        "Un logit no es un logaritmo de probabilidad: falta el softmax.": [
            slip(cost=_cost(lambda x: -x)),
            slip(cost=_cost(lambda x: x)),
        ],
        "Se pide un número por token, no la media.": [
            slip(end=lambda each: [each.mean()]),
            slip(end=lambda each: each.mean().expand(len(each))),
        ],
        EACH: [
            slip(end=lambda each: sorted(each.tolist())),
            slip(end=lambda each: sorted(each.tolist(), reverse=True)),
            slip(end=lambda each: each.tolist()[::-1]),
        ],
        "El primer token no lo predice nadie: la lista empieza en el "
        "segundo.": slip(end=lambda each: [0.0, *each.tolist()]),
    },
    rights=[
        surprise,
        surprise_by_loop,
        surprise_by_yield,
        surprise_in_a_column,
    ],
)
exercise(
    "13.6",
    CLOSEST,
    SURPRISE,
    success="¡Correcto! Sabes dónde dudaba el modelo y qué lo sorprendió.",
)
