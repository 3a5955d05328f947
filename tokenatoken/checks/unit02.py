"""Corrección del laboratorio 02 · Un forward pass por dentro.

Casi todo se comprueba con modelos diminutos de pesos al azar, de formas que
el alumno no ha visto: así una respuesta copiada del cuaderno no vale.
"""

import operator
import re
from functools import cache
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from ..forward import prompt_ids
from .bench import (
    course_model,
    random_ids,
    random_model,
    tiny_config,
    tiny_model,
    uniform,
)
from .kit import (
    Hint,
    Part,
    Pending,
    as_int,
    call,
    diagnose,
    exercise,
    expect,
    jury,
    like,
    plain,
    put_to_test,
)

INF = float("inf")


# 02.1

GIVEN = {"A": [2, 3], "B": [3, 5], "C": [4, 2, 3], "u": [3], "w": [2]}
MISREAD = {  # expresión: {pista: formas equivocadas}
    "C[0]": {
        "Un índice elige uno y su dimensión desaparece; la que se queda en 1 "
        "es la de un trozo, C[0:1].": [[1, 2, 3]],
        "El primer índice recorre la primera dimensión, que es la que se va: "
        "¿cuáles quedan?": [[4, 3], [4, 2], [3]],
    },
    "C[:, :1]": {
        "Un trozo conserva su dimensión, aunque sea de uno; la que desaparece "
        "es la de un índice, C[:, 0].": [[4, 3]],
        "Los dos puntos solos no recortan nada, y lo que va tras la coma es "
        "para la segunda dimensión.": [[1, 2, 3], [4, 2, 1], [1, 3]],
    },
    "C.transpose(1, 2)": {
        "Solo se cambian las dos dimensiones que se nombran, contando desde "
        "0; la otra se queda donde está.": [[3, 2, 4], [2, 4, 3], [4, 2, 3]],
    },
    "w[:, None] + u": {
        "Con el None, w es una columna, y una dimensión de 1 se estira hasta "
        "la del otro.": ["error", [2, 1], [1, 2]],
        "None va detrás: w queda en columna, no en fila. ¿Cuál de los dos da "
        "las filas?": [[3, 2], [3, 3]],
    },
    "A + w": {
        "Las formas se emparejan por la derecha. Que w mida lo que la primera "
        "dimensión de A no basta.": [[2, 3], [2, 2], [3, 2]],
    },
    "A @ B": {
        "La dimensión que se comparte se suma y desaparece: filas por "
        "columnas.": [[2, 3, 5], [3, 3], [2, 3, 3, 5]],
        "Las filas salen del primero y las columnas, del segundo.": [[5, 2]],
        "No hace falta que midan lo mismo: basta con que las columnas del "
        "primero sean las filas del segundo.": ["error"],
    },
    "C @ B": {
        "Con más de dos dimensiones, @ multiplica las dos últimas y repite "
        "por las de delante: el lote no estorba.": ["error"],
        "El lote no se suma: hay un producto por cada matriz de C, y su "
        "dimensión sigue delante.": [[2, 5], [8, 5]],
        "También en un lote, la dimensión que se comparte se suma y "
        "desaparece.": [[4, 2, 3, 5], [4, 3, 5]],
    },
}


def _shape(expression: str):
    """Lo que mide de verdad, o «error»."""
    names = {name: torch.zeros(shape) for name, shape in GIVEN.items()}
    try:
        return list(eval(expression, names).shape)
    except RuntimeError:
        return "error"


SHAPES = {expression: _shape(expression) for expression in MISREAD}


def _said_shape(expression, value):
    hint = f'{expression}: la forma, como lista de enteros, [2, 3], o "error".'
    if isinstance(value, str) and value.strip().lower() == "error":
        return "error"
    value = plain(value)
    expect(isinstance(value, list | tuple), hint)
    return [as_int(i, hint) for i in value]


@exercise(
    "02.1",
    success="¡Correcto! Ya lees las formas sin ejecutar nada.",
    traps={
        hint: [SHAPES | {expression: shape} for shape in shapes]
        for expression, hints in MISREAD.items()
        for hint, shapes in hints.items()
    },
    rights=[
        SHAPES,
        {e: s if s == "error" else torch.Size(s) for e, s in SHAPES.items()},
    ],
)
def _shapes(answer):
    expect(
        isinstance(answer, dict) and set(answer) == set(SHAPES),
        "Deja el diccionario como estaba, con sus siete expresiones, y "
        "cambia solo los puntos suspensivos.",
    )
    for expression, value in answer.items():
        if value is ...:
            continue
        ours, hints = (
            _said_shape(expression, value),
            MISREAD[expression].items(),
        )
        diagnose(
            ours,
            SHAPES[expression],
            {hint: ours for hint, wrong in hints if ours in wrong},
            f"{expression} no da {ours}.",
            "Escribe debajo de cada nombre lo que mide, y ve dimensión por "
            "dimensión: ¿de dónde sale cada una?",
        )
    if any(value is ... for value in answer.values()):
        raise Pending


# 02.2


def _sizes(config):
    """Los pesos de fuera de las capas y los de una, de modelos construidos en
    el dispositivo «meta»."""
    from transformers import LlamaForCausalLM

    counted = []
    for layers in (0, 1):
        changed = config.to_dict() | {"num_hidden_layers": layers}
        with torch.device("meta"):
            shell = LlamaForCausalLM(type(config)(**changed))
        counted.append(sum(p.numel() for p in shell.parameters()))
    return counted[0], counted[1] - counted[0]


def _built(config, budget) -> int:
    outside, layer = _sizes(config)
    return sum(outside + layer * (i + 1) <= budget for i in range(300))


def _budgets():
    """Justo lo que mide un modelo, y un peso menos."""
    from transformers import LlamaConfig

    names = "hidden_size num_attention_heads num_key_value_heads "
    names += "intermediate_size vocab_size tie_word_embeddings"
    for *values, layers in (
        (8, 4, 2, 8, 50, False, 150),
        (8, 4, 2, 8, 50, True, 190),
        (16, 2, 2, 12, 31, False, 90),
        (24, 6, 1, 40, 97, True, 1),
        (2048, 32, 8, 8192, 128_256, True, 16),
    ):
        given = dict(zip(names.split(), values))
        config = LlamaConfig(**given, num_hidden_layers=7)
        outside, layer = _sizes(config)
        yield config, outside + layers * layer
        yield config, outside + layers * layer - 1
    yield config, outside + 3 * layer // 2
    yield config, outside // 2


def _fit(
    bias=0, mlp=3, norms=2, final=1, head=None, embed=1, square=2, pair=2,
    kv=lambda c: c.num_key_value_heads, low=0, most=INF,
    edge=lambda rest, layer: rest // layer,
):  # fmt: skip
    """Una respuesta de 02.2; sus opciones la estropean."""

    def fit(config, budget):
        d, inner = config.hidden_size, config.intermediate_size
        side = d // config.num_attention_heads * kv(config)
        layer = square * d * d + pair * d * side + mlp * d * inner + norms * d
        layer += [0, d + 2 * side, 2 * d + 2 * side][bias]
        own = not config.tie_word_embeddings if head is None else head
        rest = budget - (embed + own) * config.vocab_size * d - final * d
        return min(max(low, edge(rest, layer)), most)

    return fit


NEGATIVE = "Sale un número negativo de capas. Si no cabe ni una, son 0."


def _counted(value, *_) -> int:
    layers = as_int(
        value, "layers_that_fit tiene que devolver un número entero."
    )
    expect(layers >= 0, NEGATIVE)
    return layers


def _one_by_one(config, budget):
    d, side = config.hidden_size, config.head_dim * config.num_key_value_heads
    layer = 2 * (d + side + 1) * d + 3 * d * config.intermediate_size
    budget -= d * (1 + config.vocab_size * (2 - config.tie_word_embeddings))
    return len(range(layer, budget + 1, layer))


exercise(
    "02.2",
    Part(
        _budgets,
        truth=_built,
        read=_counted,
        without=("Module.__init__",),
        said=lambda ours, right, config, budget: (
            f"Con d = {config.hidden_size}, V = {config.vocab_size}, "
            f"num_key_value_heads = {config.num_key_value_heads}, lm_head "
            f"{'compartida' if config.tie_word_embeddings else 'aparte'} y "
            f"{budget} pesos, caben {right} capas y dices {ours}."
        ),
        traps={
            "Ninguna matriz lleva sesgo: los de q, k y v son cosa de Qwen, y "
            "o_proj no lo tiene ni en Qwen.": [_fit(bias=1), _fit(bias=2)],
            "En el MLP hay tres matrices, no dos: gate, up y down.": (
                _fit(mlp=2)
            ),
            "Cada capa tiene dos normas: la de antes de la atención y la de "
            "antes del MLP.": [_fit(norms=n) for n in (0, 1, 3)],
            "Después de la última capa queda una norma más, que también se "
            "descuenta del presupuesto.": _fit(final=0),
            "Cuentas lm_head aunque se comparta con el embedding: es la misma "
            "matriz.": _fit(head=1),
            "Falta lm_head cuando no se comparte con el embedding.": (
                _fit(head=0)
            ),
            "Hay menos cabezas de k y v que de q: sus matrices son más "
            "estrechas.": _fit(kv=lambda c: c.num_attention_heads),
            "Lo que mide cada cabeza es d entre las cabezas de q: k y v miden "
            "eso por las suyas.": _fit(kv=lambda c: 1),
            "Repartes todo el presupuesto entre las capas, y los embeddings "
            "van aparte: se gastan aunque haya una sola.": [
                _fit(embed=0, head=0, final=0),
                _fit(embed=0),
            ],
            "Sin el signo, un presupuesto que no llega da capas: si no cabe "
            "ni una, son 0.": lambda *case: abs(_fit(low=-INF)(*case)),
            NEGATIVE: [
                _fit(low=-INF),
                _fit(low=-INF, edge=lambda rest, layer: int(rest / layer)),
            ],
            "Falla el borde: la última capa tiene que caber entera, y si mide "
            "justo lo que queda, cabe.": [
                _fit(edge=lambda rest, layer: -(-rest // layer)),
                _fit(edge=lambda rest, layer: rest // layer + 1),
                _fit(edge=lambda rest, layer: (rest - 1) // layer),
                _fit(edge=lambda rest, layer: round(rest / layer)),
            ],
            "q_proj y o_proj son de d × d; solo k y v son estrechas.": _fit(
                square=1, pair=3
            ),
            "En la atención hay cuatro matrices: q, k, v y o_proj.": [
                _fit(square=1),
                _fit(pair=1),
            ],
            "No pasas de las capas que dice la configuración, y aquí son la "
            "incógnita: solo manda el presupuesto.": [
                _fit(most=7),
                _fit(low=7, most=7),
            ],
        },
        otherwise="Cuenta aparte lo que mide una capa y lo que hay fuera de "
        "ellas, y compáralo con un modelo diminuto hecho en «meta».",
        rights=[_fit(), _one_by_one],
    ),
    success="¡Correcto! Ni una capa de más, ni un peso desaprovechado.",
)


# 02.3

V = 97
WORDS, SIGNS = uniform(V, V, seed=2), uniform(V, V, seed=3).sign()
# Una fuga en un solo logit, que crece con el id.
ONLY = torch.arange(V)[:, None] / 100 * (torch.arange(V) == 60)
SIZES = uniform(999, seed=4).abs() + 1


def _toy(leak=WORDS, sees=lambda i, j, n: i < j, window=999):
    """Un modelo de mentira: cada posición mezcla lo que ve en su ventana con
    una fuga, `leak`, de las posteriores que dice `sees`."""

    def model(input_ids):
        n = input_ids.shape[1]
        j = torch.arange(n)
        i = j[:, None]
        seen = (i >= j) & (i - j < window)  # [n, n]
        logits = (seen / (1 + i - j).clamp_min(1)) @ WORDS[input_ids]
        shares = (i < j) & sees(i, j, n)
        logits = logits + (shares * SIZES[:n]) @ leak[input_ids]
        return SimpleNamespace(logits=logits)  # [1, n, V]

    return model


GOOD = {
    "es causal": _toy(0 * WORDS),
    "es causal y solo mira las tres últimas": _toy(0 * WORDS, window=3),
    "es causal, con un redondeo de una millonésima": _toy(SIGNS * 3e-7),
}
EVERYONE = (
    "Cambia un token en una copia y compara las filas de delante, antes y "
    "después: en este cambian todas. ¿Llegan a tu assert?"
)
NEXT = (
    "Compara también la fila que está justo delante del token que cambias: "
    "es la única que se entera."
)
FAR = (
    "Cambia también tokens del final, y mira todas las filas de delante, no "
    "solo las vecinas: esta fuga salta ocho posiciones."
)
LAST = (
    "Cambias tokens de en medio, y esta fuga sale del último. Prueba con "
    "todas las posiciones, una a una."
)
PREFIX = (
    "Cambias solo tokens del final, y esta fuga está entre los primeros. "
    "Prueba con todas las posiciones, una a una."
)
FEW = (
    "Miras una parte de los logits, o cuál gana, y aquí cambian solo unos "
    "pocos. Compáralos todos."
)
ONE = (
    "Se mueve un solo logit, hacia un lado: no se ve si promedias, si no "
    "tomas el valor absoluto o si miras cuál gana. Mira el mayor cambio."
)
MEAN = (
    "Una media se traga esta fuga: en una sola fila, dos logits se mueven una "
    "centésima. Mira el mayor cambio, no la media."
)
SMALL = (
    "Tu tolerancia es demasiado grande: una fuga de 0,01 es pequeña y es de "
    "verdad."
)
BAD = {
    "no tiene máscara": (EVERYONE, _toy()),
    "ve el token siguiente": (
        NEXT,
        _toy(sees=lambda i, j, n: (j == i + 1) & (i > 0)),
    ),
    "ve lo que está a ocho o más": (FAR, _toy(sees=lambda i, j, n: j > i + 7)),
    "ve el último token": (LAST, _toy(sees=lambda i, j, n: j == n - 1)),
    "deja que los cuatro primeros se vean": (
        PREFIX,
        _toy(sees=lambda i, j, n: j < 4),
    ),
    "no tiene máscara en dos logits": (FEW, _toy(torch.eye(V) * 2)),
    "no tiene máscara en un logit, que sube": (ONE, _toy(ONLY)),
    "no tiene máscara en un logit, que baja": (ONE, _toy(-ONLY)),
    "ve una centésima del futuro": (SMALL, _toy(SIGNS * 5e-3)),
    "ve el token siguiente, y solo se nota en dos logits": (
        MEAN,
        _toy(torch.eye(V) / 100, lambda i, j, n: (j == i + 1) & (i > 6)),
    ),
}
OTHER_WAY = (
    "Solo tienen que quedar igual las filas de delante, y un redondeo de una "
    "millonésima no es una fuga; de las demás, no digas nada. Y si cambias "
    "ids sin copiarlo, los cambios se acumulan."
)
JUDGED = GOOD | {name: model for name, (_, model) in BAD.items()}


def _judged(answer, name: str) -> str:
    def model(input_ids):
        return JUDGED[name](input_ids)

    return put_to_test(answer, model)


def _test(
    n=12,
    places=range(1, 12),
    rows=lambda gap, p: gap[:p],
    size=lambda gap: gap.abs().max(),
    least=1e-4,
    copy=torch.clone,
):
    """Una respuesta de 02.3; sus opciones la hacen ciega."""

    def test_causal(model):
        ids = torch.arange(3, 3 + n)[None]
        before = model(ids).logits[0]
        for p in places:
            other = copy(ids)
            other[0, p] = 90 - 5 * p
            gap = rows(before - model(other).logits[0], p)
            assert size(gap) <= least

    return test_causal


def _by_prefixes(model):
    ids = random_ids(20)
    whole = model(ids).logits
    for n in range(1, 20):
        part = model(input_ids=ids[:, :n]).logits
        assert torch.allclose(whole[:, :n], part, rtol=0, atol=1e-3)


exercise(
    "02.3",
    Part(
        [()],
        **jury(
            GOOD,
            BAD,
            OTHER_WAY,
            _judged,
            ("Rechaza uno que", "Deja pasar uno que"),
        ),
        traps={
            EVERYONE: [lambda model: model(random_ids(12)), _test(places=())],
            NEXT: [
                _test(rows=lambda gap, p: gap[: max(p - 1, 1)], places=[5]),
                _test(rows=lambda gap, p: gap[:1]),
            ],
            FAR: [
                _test(rows=lambda gap, p: gap[p - 1 : p]),
                _test(n=8, places=range(1, 8)),
                _test(places=[4, 5]),
            ],
            LAST: _test(places=range(1, 11)),
            PREFIX: [_test(places=[11]), _test(places=range(6, 12))],
            FEW: [
                _test(rows=lambda gap, p: gap[:p, :1]),
                _test(rows=lambda gap, p: gap[:p].sum(-1)),
            ],
            ONE: [
                _test(size=lambda gap: gap.max()),
                _test(size=lambda gap: -gap.min()),
                _test(size=lambda gap: gap.abs().mean(), least=0.02),
            ],
            MEAN: [
                _test(size=lambda gap: gap.abs().mean(), least=least)
                for least in (1e-4, 1e-3)
            ],
            SMALL: [_test(least=0.1), _test(least=0.02)],
            OTHER_WAY: [
                _test(least=0),
                _test(copy=lambda ids: ids),
                _test(rows=lambda gap, p: gap),
                _test(rows=lambda gap, p: gap[: p + 1]),
            ],
        },
        rights=[_test(), _by_prefixes],
    ),
    success="¡Correcto! Tu prueba acepta tres modelos y caza diez fugas.",
)


# 02.4


def _shares(weights):
    return weights / weights.sum(-1, keepdim=True)


def _attention(
    hide=lambda far, window: (far < 0) | (far >= window),
    fill=-INF, size=None, dim=-1, turns=False, after=None,
    soft=torch.softmax,
):  # fmt: skip
    """Una respuesta de 02.4; sus opciones la estropean. `hide` dice qué tapa,
    según lo lejos que queda cada columna de su fila."""

    def attention(q, k, v, window):
        repeat, n, s = q.shape[1] // k.shape[1], q.shape[2], q.shape[3]
        if turns:
            k, v = k.repeat(1, repeat, 1, 1), v.repeat(1, repeat, 1, 1)
        else:
            k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
        scale = s**0.5 if size is None else size(q)
        scores = q @ k.transpose(-1, -2) / scale  # [1, h, n, n]
        far = torch.arange(n)[:, None] - torch.arange(n)
        hidden = hide(far, window)
        if after:
            return after(scores.softmax(-1).masked_fill(hidden, 0)) @ v
        shares = soft(scores.masked_fill(hidden, fill), dim)
        return shares @ v

    return attention


def _attention_loop(q, k, v, window):
    out = torch.zeros_like(q)
    for head in range(q.shape[1]):
        group = head // (q.shape[1] // k.shape[1])
        for i in range(q.shape[2]):
            near = slice(max(0, i - window + 1), i + 1)
            seen = k[0, group, near] @ q[0, head, i] / q.shape[3] ** 0.5
            out[0, head, i] = seen.softmax(0) @ v[0, group, near]
    return out


def _heads():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    for heads, groups, n, size, window, loud in (
        (1, 1, 4, 8, 2, 1),
        (4, 4, 6, 16, 4, 1),
        (6, 2, 7, 8, 3, 1),
        (2, 1, 5, 8, 9, 1),
        (2, 2, 5, 8, 1, 1),
        (2, 2, 5, 8, 2, 300),
    ):
        q, k = loud * draw(1, heads, n, size), draw(1, groups, n, size)
        yield q, k, draw(1, groups, n, size), window


def _sdpa(q, k, v, window):
    repeat, n = q.shape[1] // k.shape[1], q.shape[2]
    k, v = (t.repeat_interleave(repeat, 1) for t in (k, v))
    near = torch.ones(n, n, dtype=torch.bool).tril().triu(1 - window)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=near)


exercise(
    "02.4",
    Part(
        _heads,
        truth=_sdpa,
        near=1e-3,
        without=("scaled_dot_product_attention",),
        what="Lo que devuelve windowed_attention",
        said="Con h = {0.shape[1]}, g = {1.shape[1]}, n = {0.shape[2]} y una "
        "ventana de {3}, no coincide con la de la biblioteca.",
        traps={
            "Cada posición cuenta en su ventana, y dejas una de más: mira "
            "cuántos pesos no son 0 en la última fila.": _attention(
                lambda far, window: (far < 0) | (far > window)
            ),
            "Cada posición cuenta en su ventana, y dejas una de menos: con "
            "una ventana de 1 no queda ninguna.": _attention(
                lambda far, window: (far < 0) | (far >= window - 1)
            ),
            "Falta la máscara causal: cada posición ve también las que vienen "
            "después.": [
                _attention(lambda far, window: far >= window),
                _attention(lambda far, window: far.abs() >= window),
                _attention(lambda far, window: far.abs() > window // 2),
                _attention(lambda far, window: far > len(far)),
            ],
            "No usas la ventana: cada posición ve todo su pasado.": (
                _attention(lambda far, window: far < 0)
            ),
            "Tu ventana está al otro lado: cada posición ve las que vienen "
            "después. Dale la vuelta.": [
                _attention(lambda far, window: (far > 0) | (far <= -window)),
                _attention(lambda far, window: far <= -window),
            ],
            "Partes el texto en bloques, y la ventana se desliza: cada "
            "posición tiene la suya, que acaba en ella.": _attention(
                lambda far, window: (far < 0) | (far > far[:, :1] % window)
            ),
            "Solo falla con puntuaciones grandes: e elevado a ellas se "
            "desborda, o todo lo visible se queda en 0 antes de repartir. Usa "
            "softmax después de tapar, o resta antes el mayor.": [
                _attention(soft=lambda x, dim: _shares(x.exp())),
                _attention(after=_shares),
            ],
            "Tu máscara tapa también la diagonal, y cada posición se ve a sí "
            "misma: la primera fila se queda sin nadie, y ahí nace el NaN. O "
            "multiplicas 0 por −∞, que también es NaN.": [
                _attention(lambda far, window: (far <= 0) | (far >= window)),
                lambda q, k, v, window: v * (0 * -INF),
            ],
            "Antes del softmax se divide por la raíz de lo que mide una cabeza, "
            "s: ni por s, ni por otra cosa.": [
                _attention(size=lambda q: 1),
                _attention(size=lambda q: q.shape[3]),
                _attention(size=lambda q: (q.shape[1] * q.shape[3]) ** 0.5),
            ],
            "Repartes mal las cabezas: las primeras de q comparten la primera "
            "de k y v, no se turnan. ¿repeat o repeat_interleave?": (
                _attention(turns=True)
            ),
            "Tapas después del softmax: las filas ya no suman 1.": (
                _attention(after=lambda shares: shares)
            ),
            "Haces el softmax por columnas: son las filas las que tienen que "
            "sumar 1.": _attention(dim=-2),
            "Lo tapado lleva un 0 antes del softmax, y e⁰ es 1: sigue "
            "contando. Imprime los pesos.": _attention(fill=0.0),
            "Tapas con un número corriente, y si las puntuaciones son grandes "
            "se queda corto. Lo que nunca cuenta es −∞.": _attention(
                fill=-100.0
            ),
        },
        otherwise="Compara fila a fila: la primera solo se ve a sí misma. En la "
        "que falle, imprime los pesos: ¿suman 1? ¿Cuáles no son 0?",
        rights=[_attention(), _attention_loop],
    ),
    success="¡Correcto! Igual que la de la biblioteca, con cualquier ventana.",
)


# 02.5


def _winners(model, ids) -> list[int]:
    """El token que gana en cada estado, del embedding a la salida."""
    with torch.no_grad():
        output = model(ids, output_hidden_states=True, logits_to_keep=1)
        states = torch.stack([h[0, -1] for h in output.hidden_states[:-1]])
        early = model.lm_head(model.model.norm(states))
    return torch.cat([early, output.logits[0]]).argmax(-1).tolist()


def _after(found, last) -> int:
    """Desde dónde es ya siempre `last`."""
    return max((i + 1 for i, t in enumerate(found) if t != last), default=0)


def _settled(model, ids) -> int:
    found = _winners(model, ids)
    return _after(found, found[-1])


def _settles(
    norm=range(6),
    at=lambda rows: rows[:, -1],
    pick=lambda found: _after(found, found[-1]),
):
    """Una respuesta de 02.5; sus opciones la estropean."""

    def settles(model, ids):
        seen = model(ids, output_hidden_states=True).hidden_states
        rows = torch.cat(seen)  # [capas + 1, n, d]
        for i in norm:
            rows[i] = model.model.norm(rows[i])
        return pick(model.lm_head(at(rows)).argmax(-1).tolist())

    return settles


def _twice(model, ids):
    """Con una norma de más, y el ganador de verdad: puede no llegar nunca."""
    last = model(ids).logits[0, -1].argmax()
    return _settles(range(7), pick=lambda found: _after(found, last))(
        model, ids
    )


def _settles_backwards(model, ids):
    *states, last = model(ids, output_hidden_states=True).hidden_states
    winner = model(ids).logits[0, -1].argmax()
    for layer in reversed(range(len(states))):
        row = model.model.norm(states[layer])[0, -1]
        if model.lm_head(row).argmax() != winner:
            return torch.tensor(layer + 1)
    return 0


@cache
def _deep(seed):
    return random_model(tiny_config(num_hidden_layers=6), seed)


NOTHING = (
    "Devuelve None: o falta el return, o ninguna capa coincide con el ganador. "
    "¿Pasa el último estado dos veces por la norma? Compáralo con los logits."
)


def _layer_of(settles, model, ids) -> int:
    try:
        layer = call(settles, model, ids)
    except Hint as hint:
        expect("devuelve None" not in str(hint), NOTHING)
        raise
    return as_int(layer, "Se pide el número de una capa, un entero.")


SETTLES = Part(
    lambda: [
        (_deep(seed), random_ids(n, seed))
        for seed, n in ((98, 8), (98, 5), (0, 1), (0, 8), (10, 5))
    ],
    truth=_settled,
    observe=_layer_of,
    said=lambda ours, right, *case: (
        f"Los ganadores, de la capa 0 en adelante, son {_winners(*case)}, y "
        f"dices {ours}."
    ),
    traps={
        "Pasas dos veces por la norma final: el último de hidden_states ya la "
        "trae. Compara tu última fila con model(ids).logits.": [
            _settles(range(7)),
            _twice,
        ],
        NOTHING: lambda *_: None,
        "Falta la norma final, que va siempre delante de lm_head: sin ella no "
        "se leen las capas de en medio.": _settles(()),
        "Te vale la primera vez que gana, y luego puede perder: mira si sigue "
        "ganando hasta el final.": _settles(
            pick=lambda found: found.index(found[-1])
        ),
        "Paras en cuanto dos capas seguidas coinciden, y luego todavía "
        "cambia. Empieza a mirar por el final.": _settles(
            pick=lambda found: [
                *map(operator.eq, found, found[1:]),
                True,
            ].index(True)
        ),
        "Das una capa menos. ¿Cuentas los embeddings, que son la 0, o das la "
        "última que todavía no coincide?": [
            _settles(pick=lambda found: _after(found[1:], found[-1])),
            lambda *case: _settled(*case) - 1,
        ],
        "Das una capa más. Los embeddings son la 0: ¿desde dónde cuentas?": (
            lambda *case: _settled(*case) + 1
        ),
        "Cuentas cuántas lecturas lleva ganando, y se pide en cuál empieza.": [
            lambda *case: len(_winners(*case)) - _settled(*case),
        ],
        "Solo cuenta la última posición, y tú miras otra o las juntas "
        "todas.": [
            _settles(at=lambda rows: rows[:, 0]),
            _settles(at=lambda rows: rows.mean(1)),
            _settles(at=lambda rows: rows),
        ],
    },
    otherwise="Imprime el token que gana en cada capa, y vuelve desde el "
    "final mientras sea el mismo.",
    rights=[_settles(), _settles_backwards],
)

KNOWN = (
    r"la capital de|the capital of|banco del parque|hola hola|uno, dos, tres|"
    r"enero, febrero|color del cielo|madre de mi madre|aeropuerto de buenos"
)
COMMON = (
    r"\b(el|la|los|las|un|una|de|del|al|en|y|que|con|por|se|mi|su|es|para|lo|"
    r"hay|más|qué|cómo|te|si|ya|muy|luego|hoy)\b"
)
ENGLISH = r"\b(the|of|my|is|to|and|you|we)\b"
CHINESE = "[\u3400-\u9fff]"
RULES = {  # pista: (qué tiene que cumplir el prompt, los que no lo cumplen)
    "Tu prompt tiene que medir entre 12 y 200 caracteres.": (
        lambda text: 12 <= len(text.strip()) <= 200,
        ["Hoy es un", " " * 12, "Hoy es un día " * 20],
    ),
    "El chino lo tiene que poner el modelo: tu prompt va en español.": (
        lambda text: not re.search(CHINESE, text),
        ["Hoy comemos en 巴黎, que es"],
    ),
    "Ese prompt es de la unidad. Busca uno tuyo, que hable de otra cosa.": (
        lambda text: not re.search(KNOWN, text, re.I),
        ["Uno, dos, tres, cuatro, y", "La madre de mi madre es mi"],
    ),
    "No parece español: no lleva ninguna de sus palabras corrientes, como el, "
    "la, de, que, un o en, o las lleva en inglés.": (
        lambda text: (
            re.search(COMMON, text, re.I)
            and not re.search(ENGLISH, text, re.I)
        ),
        ["Madrid Roma París", "Me too, no doubt"],
    ),
}


def _through_chinese(text) -> bool:
    """Si alguna capa lee chino y la última no; si no, la pista."""
    text = like(text, "", "Tu prompt")
    for hint, (fits, _) in RULES.items():
        expect(fits(text), hint)
    model, tokenizer = course_model()
    ids = _winners(model, prompt_ids(model, tokenizer, text))
    words = [tokenizer.decode([i]) for i in ids]
    read = [i for i, word in enumerate(words) if re.search(CHINESE, word)]
    some = read[:3] or (4, 8, 12, 18)
    said = ", ".join(f"en la capa {i} gana {words[i]!r}" for i in some)
    expect(
        bool(read),
        f"Ninguna capa lee chino: {said} y al final, {words[-1]!r}. Cambia "
        "las últimas palabras y prueba otra vez.",
    )
    expect(
        read[-1] < len(words) - 1,
        f"Lee chino, {said}, y también al final: {words[-1]!r}. Busca un "
        "prompt en que la última capa vuelva al español.",
    )
    return True


exercise(
    "02.5",
    SETTLES,
    Part(
        [()],
        truth=lambda: True,
        observe=_through_chinese,
        traps={hint: wrong for hint, (_, wrong) in RULES.items()},
        rights=[
            "Compré tomates, cebollas y",
            "Cuando llegó la tormenta, los marineros",
        ],
    ),
    success="¡Correcto! Has visto al modelo cambiar de idea, y de idioma.",
)


# 02.6


def _norm(x, weight, bug):
    if bug == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    return weight * x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()


def _rotation(model, ids, bug):
    """La función que gira q o k."""
    config, n = model.config, ids.shape[1]
    s = config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]
    position = ids[0] if bug == "rope by token" else torch.arange(n)
    angle = position[:, None] * theta ** (-torch.arange(0, s, 2) / s)
    cos, sin = angle.cos(), angle.sin() * (-1 if bug == "other way" else 1)

    def rotate(t):
        a, b = t.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    return (lambda t: t) if bug == "no rope" else rotate


def _mixed(model, ids, h, bug):
    """Lo que sale de la atención de la capa 0: `[1, n, d]`."""
    attn, n = model.model.layers[0].self_attn, ids.shape[1]
    s = model.config.hidden_size // model.config.num_attention_heads

    def split(t):
        if bug == "view":
            return t.view(1, -1, n, s)
        return t.view(1, n, -1, s).transpose(1, 2)

    rotate = _rotation(model, ids, bug)
    q, k, v = (split(f(h)) for f in (attn.q_proj, attn.k_proj, attn.v_proj))
    k = k if bug == "only q" else rotate(k)
    causal = dict(is_causal=bug != "no mask", enable_gqa=True)
    mixed = F.scaled_dot_product_attention(rotate(q), k, v, **causal)
    return attn.o_proj(mixed.transpose(1, 2).reshape(1, n, -1))


def _layer(bug=None):
    """La capa del ejercicio, con el error `bug`; sin él, la buena."""

    def first_layer(model, ids):
        block, x = model.model.layers[0], model.get_input_embeddings()(ids)
        first, second = block.input_layernorm, block.post_attention_layernorm
        h = x if bug == "no norm" else _norm(x, first.weight, bug)
        mixed = _mixed(model, ids, h, bug)
        x1 = mixed if bug == "no residual" else x + mixed
        second = first if bug == "wrong norm" else second
        h1 = x1 if bug == "no second norm" else _norm(x1, second.weight, bug)
        gate, up = block.mlp.gate_proj(h1), block.mlp.up_proj(h1)
        if bug == "gate and up":
            gate, up = up, gate
        act = F.relu(gate) if bug == "relu" else F.silu(gate)
        ends = {"given": x, "alone": 0, "normed": h1, "twice": x + x1}
        return ends.get(bug, x1) + block.mlp.down_proj(act * up)

    return first_layer


def _layer_with_modules(model, ids):
    block, n = model.model.layers[0], ids.shape[1]
    x = model.get_input_embeddings()(ids)
    rope = model.model.rotary_emb(x, torch.arange(n)[None])
    mixed = block.self_attn(
        block.input_layernorm(x),
        position_embeddings=rope,
        attention_mask=torch.full((1, 1, n, n), -INF).triu(1),
    )[0]
    x = x + mixed
    return x + block.mlp(block.post_attention_layernorm(x))


def _layer_states(model, ids):
    with torch.inference_mode():
        return model(ids, output_hidden_states=True).hidden_states[1]


exercise(
    "02.6",
    Part(
        lambda: [
            (tiny_model(0), random_ids(5, 0)),
            (tiny_model(1), random_ids(8, 1)),
            (tiny_model(0), random_ids(1, 0)),
        ],
        truth=_layer_states,
        near=1e-3,
        without=("Qwen2DecoderLayer.forward",),
        what="Lo que devuelve first_layer",
        said="",
        traps={
            "Da lo mismo que al empezar. Compara con los módulos del modelo, "
            "paso a paso.": _layer("given"),
            "Falta sumar en la salida: lo que sale del MLP no va solo.": (
                _layer("alone")
            ),
            "Sumas de más: cada suma añade una sola cosa a lo que ya "
            "había.": _layer("twice"),
            "Sumas lo normalizado. La norma es solo para el MLP: el camino "
            "principal no pasa por ella.": _layer("normed"),
            "Ahora falta la primera suma: a lo que sale de la atención hay "
            "que sumarle lo que entró.": _layer("no residual"),
            "Esa norma no resta la media, y estaba bien.": _layer("layernorm"),
            "Las cabezas estaban bien repartidas: primero [n, cabezas], y "
            "luego se cambian de sitio.": _layer("view"),
            "Los ángulos estaban bien: dependen de la posición, no del "
            "token.": _layer("rope by token"),
            "Has tocado RoPE, y estaba bien: se giran q y k, hacia ese "
            "lado.": [
                _layer("no rope"),
                _layer("other way"),
                _layer("only q"),
            ],
            "Has quitado una norma, y las dos hacen falta.": [
                _layer("no norm"),
                _layer("no second norm"),
            ],
            "Las normas son dos distintas, y cada una estaba en su sitio.": (
                _layer("wrong norm")
            ),
            "La atención estaba bien, con su máscara.": _layer("no mask"),
            "El MLP estaba bien: SiLU va sobre gate, que multiplica a up.": [
                _layer("gate and up"),
                _layer("relu"),
            ],
        },
        otherwise="Ya no da lo de antes, pero tampoco lo de la capa del modelo. "
        "Deshaz lo que has cambiado y compara un paso cada vez.",
        rights=[_layer(), _layer_with_modules],
    ),
    success="¡Cazado! Tu capa vuelve a ser la del modelo.",
)
