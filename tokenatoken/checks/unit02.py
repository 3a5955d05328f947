"""Corrección del laboratorio 02 · Un forward pass por dentro.

Casi todo se comprueba con modelos diminutos de pesos al azar, de formas que
el alumno no ha visto: así una respuesta copiada del cuaderno no vale.
"""

import torch
import torch.nn.functional as F

from ..forward import all_logits
from ..model.load import DEFAULT_MODEL, load_config
from .bench import count_tokens, random_ids, tiny_config, tiny_model, tokenizer
from .kit import Part, as_int, call, exercise, expect, tensor

INF = float("inf")


# 02.1


def _shapes(text: str) -> list[list[int]]:
    config, n = load_config(DEFAULT_MODEL), count_tokens(text)
    d = config.hidden_size
    return [[1, n], [1, n, d], [1, n, d], [1, n, config.vocab_size]]


def _four(answer, text) -> list[list[int]]:
    expect(
        isinstance(answer, list | tuple) and len(answer) == 4,
        "Devuelve cuatro formas: ids, embeddings, salida de las capas y "
        "logits, en ese orden.",
    )
    plain = "Cada forma, como lista de enteros: list(tensor.shape)."
    expect(all(isinstance(shape, list | tuple) for shape in answer), plain)
    return [[as_int(i, plain) for i in shape] for shape in answer]


def _which(ours, right, text) -> str:
    names = (
        "los ids",
        "los embeddings",
        "la salida de las capas",
        "los logits",
    )
    bad = next(i for i in range(4) if ours[i] != right[i])
    return (
        f"La forma de {names[bad]} no es {ours[bad]}. Imprime la de ese "
        "tensor, y di qué cuenta cada número."
    )


exercise(
    "02.1",
    Part(
        [("Hola",), ("La capital de Argentina es",), ("¿Y 🤖?\nSí.",)],
        truth=_shapes,
        read=_four,
        said="Con {0!r} das {ours}.",
        traps={
            "Falta la dimensión del lote, que va delante aunque sea 1.": (
                lambda text: [shape[1:] for shape in _shapes(text)]
            ),
            "De los logits te quedas con la última posición, y se piden los "
            "de todas.": [
                lambda text: [*_shapes(text)[:3], [1, _shapes(text)[3][2]]],
                lambda text: [*_shapes(text)[:3], [1, 1, _shapes(text)[3][2]]],
            ],
            "Los logits tienen tantas columnas como filas la matriz de "
            "salida, que son más que los tokens del tokenizador.": (
                lambda text: [
                    *_shapes(text)[:3],
                    [*_shapes(text)[0], len(tokenizer())],
                ]
            ),
            "Cuentas caracteres, y al modelo entran tokens.": lambda text: [
                [1, len(text), *shape[2:]] for shape in _shapes(text)
            ],
            "Están las cuatro, pero en otro orden: ids, embeddings, salida y "
            "logits.": [
                lambda text: _shapes(text)[::-1],
                lambda text: [_shapes(text)[i] for i in (0, 1, 3, 2)],
            ],
            "La n no cambia de un texto a otro: usa el texto que llega.": (
                lambda text: _shapes("La capital de Argentina es")
            ),
            "La salida de las capas tiene todavía el tamaño del modelo, no el "
            "del vocabulario.": lambda text: [
                *_shapes(text)[:2],
                _shapes(text)[3],
                _shapes(text)[3],
            ],
        },
        otherwise=_which,
        rights=[
            _shapes,
            lambda text: tuple(torch.Size(shape) for shape in _shapes(text)),
        ],
    ),
    success="¡Correcto! Solo n cambia de un texto a otro.",
)


# 02.2


def _weights(config) -> int:
    """Los del modelo construido sin memoria, en el dispositivo «meta»."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in shell.parameters())


def _count(**changes):
    """Una respuesta de 02.2, con una cosa cambiada."""
    use = dict(bias=1, out_bias=0, mlp=3, norms=2, final=1, head=None, kv=None)
    use |= dict(embed=1, layers=None, square=0, mlp_bias=0) | changes

    def count(config):
        d, V, inner = (
            config.hidden_size,
            config.vocab_size,
            config.intermediate_size,
        )
        heads = config.num_attention_heads
        kv = d // heads * (use["kv"] and heads or config.num_key_value_heads)
        layer = 2 * d * d + 2 * d * (d if use["square"] else kv)
        layer += use["bias"] * (d + 2 * kv) + use["out_bias"] * d
        layer += use["mlp"] * d * inner + use["norms"] * d
        layer += use["mlp_bias"] * (2 * inner + d)
        head = not config.tie_word_embeddings
        head = head if use["head"] is None else use["head"]
        times = use["layers"] or config.num_hidden_layers
        return (use["embed"] + head) * V * d + times * layer + use["final"] * d

    return count


def _count_table(config):
    d, inner = config.hidden_size, config.intermediate_size
    kv = d * config.num_key_value_heads // config.num_attention_heads
    shapes = [(d, d), (d,), *[(kv, d), (kv,)] * 2, (d, d)]
    shapes += [(inner, d)] * 3 + [(d,)] * 2
    shapes *= config.num_hidden_layers
    shapes += [(config.vocab_size, d)] * (2 - config.tie_word_embeddings)
    return sum(torch.Size(shape).numel() for shape in [*shapes, (d,)])


exercise(
    "02.2",
    Part(
        lambda: [
            (tiny_config(),),
            (tiny_config(tie_word_embeddings=True),),
            (tiny_config(num_key_value_heads=6),),
            (tiny_config(num_key_value_heads=1, num_hidden_layers=5),),
            (load_config(DEFAULT_MODEL),),
        ],
        truth=_weights,
        read=lambda value, config: as_int(
            value, "count_parameters tiene que devolver un número entero."
        ),
        without=("Module.__init__",),
        said=lambda ours, right, config: (
            f"Con {config.num_hidden_layers} capas, "
            f"{config.num_key_value_heads} cabezas de k y v y las matrices "
            f"{'' if config.tie_word_embeddings else 'sin '}compartir, te "
            f"desvías en {ours - right:+d} pesos."
        ),
        traps={
            "Faltan los sesgos de q, k y v.": _count(bias=0),
            "o_proj no lleva sesgo: mírala en print(model).": _count(
                out_bias=1
            ),
            "En el MLP hay tres matrices, no dos: cuéntalas en "
            "print(model).": _count(mlp=2),
            "Las matrices del MLP no llevan sesgo: míralas en "
            "print(model).": _count(mlp_bias=1),
            "Cada capa tiene dos normas: la de antes de la atención y la de "
            "antes del MLP.": [_count(norms=1), _count(norms=0)],
            "Después de la última capa queda una norma más.": _count(final=0),
            "Cuentas lm_head aunque se comparta con el embedding: es la misma "
            "matriz.": _count(head=1),
            "Falta lm_head cuando no se comparte con el embedding.": _count(
                head=0
            ),
            "Hay menos cabezas de k y v que de q: sus matrices son más "
            "estrechas.": [_count(kv=1), _count(square=1)],
            "Faltan los embeddings, que también son pesos.": _count(embed=0),
            "Cuentas una sola capa, y la configuración dice cuántas hay.": _count(
                layers=1
            ),
            "Es siempre el mismo número: lee la configuración que llega.": [
                lambda config: 630_167_424,
                lambda config: 494_032_768,
            ],
        },
        otherwise="Compara por partes con print(model): embeddings, atención, "
        "MLP, normas y lm_head. Empieza por una sola capa.",
        rights=[_count(), _count_table],
    ),
    success="¡Correcto! Ni un peso de más ni de menos.",
)


# 02.3


class _SeesEverything(torch.nn.Module):
    """Un «modelo» sin máscara. Al subir un id en 16, cada posición cambia a
    su manera: hacia arriba, hacia abajo, en dos logits que se compensan, en
    muchos y poquísimo… Así solo acierta quien mira el mayor cambio, en valor
    absoluto, sobre todo el vocabulario."""

    def __init__(self):
        super().__init__()
        shift = torch.zeros(8, 97)
        shift[0, 96] = 0.05
        shift[1, 0] = -0.05
        shift[2, [7, 9]] = torch.tensor([0.02, -0.02])
        shift[3] = 4e-4  # en todos, y en ninguno llega
        shift[3, 5] = -7e-4
        shift[4, 90] = 2e-3
        shift[5, 7] = 1e-6
        shift[6, 10:30] = 0.09
        shift[7] = 5e-3
        self.shift = shift / 16

    def forward(self, input_ids=None, **_):
        from transformers.modeling_outputs import CausalLMOutput

        total = input_ids.sum().float()
        return CausalLMOutput(logits=(total * self.shift)[None])


def _gap(model, ids, position, new_id):
    other = ids.clone()
    other[0, position] = new_id
    with torch.no_grad():
        return (model(ids).logits - model(other).logits)[0]  # [n, V]


def _where(measure, least=1e-3):
    """Una respuesta de 02.3: dónde pasa `measure(cambios)` de `least`."""

    def changed(*case):
        return (measure(_gap(*case)) > least).nonzero().flatten().tolist()

    return changed


def _changed_loop(model, ids, position, new_id):
    gap = _gap(model, ids, position, new_id)
    return {
        i for i, row in enumerate(gap.tolist()) if max(map(abs, row)) > 1e-3
    }


_changed = _where(lambda gap: gap.abs().amax(-1))


def _positions(answer, *case) -> list[int]:
    expect(
        isinstance(answer, list | tuple | set),
        "Devuelve una lista de posiciones (números enteros).",
    )
    expect(
        not any(isinstance(i, bool) for i in answer),
        "Has devuelto sí o no por posición; se piden los índices.",
    )
    whole = "Las posiciones tienen que ser números enteros."
    return sorted(as_int(i, whole) for i in answer)


exercise(
    "02.3",
    Part(
        lambda: [
            (tiny_model(), random_ids(9), 4, 11),
            (tiny_model(), random_ids(7, 1), 6, 12),
            (tiny_model(1), random_ids(5, 2), 0, 13),
            (
                _SeesEverything(),
                torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]),
                3,
                17,
            ),
        ],
        truth=_changed,
        read=_positions,
        said=lambda ours, right, model, ids, position, new_id: (
            f"Al cambiar la posición {position} de {ids.shape[1]}"
            + " (modelo sin máscara)" * isinstance(model, _SeesEverything)
            + f", cambian los logits de {right} y tú dices {ours}."
        ),
        traps={
            "Supones la máscara en vez de medir: hay modelos que no la "
            "tienen.": lambda m, ids, p, new: list(range(p, ids.shape[1])),
            "Solo cuentas la posición cambiada: ¿y las que la ven?": (
                lambda m, ids, p, new: [p]
            ),
            "No encuentras ningún cambio. ¿Comparas dos salidas distintas?": (
                lambda m, ids, p, new: []
            ),
            "Son justo las que no cambian.": lambda m, ids, p, new: [
                i
                for i in range(ids.shape[1])
                if i not in _changed(m, ids, p, new)
            ],
            "Las posiciones se cuentan desde 0.": lambda *case: [
                i + 1 for i in _changed(*case)
            ],
            "Miras el mayor cambio con su signo, y un logit también puede "
            "moverse hacia el otro lado.": [
                _where(lambda gap: gap.amax(-1)),
                _where(lambda gap: (-gap).amax(-1)),
            ],
            "Sumas los cambios de todos los logits antes de comparar, y unos "
            "se compensan con otros.": [
                _where(lambda gap: gap.sum(-1).abs()),
                _where(lambda gap: gap.sum(-1)),
            ],
            "Juntas los cambios de todos los logits: muchos muy pequeños pasan "
            "del límite sin que ninguno llegue. Mira el mayor.": [
                _where(lambda gap: gap.norm(dim=-1)),
                _where(lambda gap: gap.amax(-1) - gap.amin(-1)),
                _where(lambda gap: gap.abs().sum(-1)),
            ],
            "Haces la media de los cambios, y un solo logit que se mueve se "
            "diluye entre todos. Mira el mayor.": [
                _where(lambda gap: gap.abs().mean(-1)),
                _where(lambda gap: gap.pow(2).mean(-1)),
                _where(lambda gap: gap.pow(2).mean(-1).sqrt()),
                _where(lambda gap: gap.abs().median(-1).values),
            ],
            "Solo miras un logit, y puede ser otro el que cambia.": [
                _where(lambda gap: gap[:, 0].abs()),
                _where(lambda gap: gap[:, -1].abs()),
            ],
            "Cuentas cualquier diferencia, y las hay de puro redondeo: se "
            "pide más de 0,001.": _where(lambda gap: gap.abs().amax(-1), 0),
            "Tu límite es demasiado grande: se pide más de 0,001.": [
                _where(lambda gap: gap.abs().amax(-1), 0.1),
                _where(lambda gap: gap.abs().amax(-1), 0.01),
            ],
        },
        otherwise="Compara los logits de todas las posiciones, de antes y de "
        "después, e imprime el mayor cambio de cada una.",
        rights=[
            _changed,
            _changed_loop,
            _where(lambda gap: torch.maximum(gap.amax(-1), -gap.amin(-1))),
            lambda *case: tuple(_changed(*case)),
        ],
    ),
    success="¡Correcto! Con máscara, el pasado no se entera del futuro.",
)


# 02.4


def _attention(**changes):
    """Una respuesta de 02.4, con una cosa cambiada."""
    use = dict(mask="future", fill=-INF, size=None, dim=-1, turns=False)
    use |= dict(after=False, weights=False) | changes

    def attention(q, k, v):
        repeat, n, s = q.shape[1] // k.shape[1], q.shape[2], q.shape[3]
        if use["turns"]:
            k, v = k.repeat(1, repeat, 1, 1), v.repeat(1, repeat, 1, 1)
        else:
            k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
        scale = s**0.5 if use["size"] is None else use["size"](q)
        scores = q @ k.transpose(-1, -2) / scale  # [1, h, n, n]
        ones = torch.ones(n, n, dtype=torch.bool)
        hidden = {
            "future": ones.triu(1),
            "diagonal": ones.triu(0),
            "past": ones.tril(-1),
            "none": ~ones,
        }[use["mask"]]
        if use["after"]:
            return scores.softmax(-1).masked_fill(hidden, 0) @ v
        shares = scores.masked_fill(hidden, use["fill"]).softmax(use["dim"])
        return shares if use["weights"] else shares @ v

    return attention


def _attention_einsum(q, k, v):
    repeat, n = q.shape[1] // k.shape[1], q.shape[2]
    q = q.unflatten(1, (-1, repeat))  # [1, g, h / g, n, s]
    scores = torch.einsum("bgrns,bgms->bgrnm", q, k) * q.shape[-1] ** -0.5
    scores = scores + torch.full((n, n), -INF).triu(1)
    return torch.einsum("bgrnm,bgms->bgrns", scores.softmax(-1), v).flatten(
        1, 2
    )


def _attention_loop(q, k, v):
    out = torch.zeros_like(q)
    for head in range(q.shape[1]):
        group = head // (q.shape[1] // k.shape[1])
        for i in range(q.shape[2]):
            seen = k[0, group, : i + 1] @ q[0, head, i] / q.shape[3] ** 0.5
            out[0, head, i] = seen.softmax(0) @ v[0, group, : i + 1]
    return out


def _heads():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    for heads, groups, n, size, loud in (
        (1, 1, 4, 8, 1),
        (4, 4, 6, 16, 1),
        (6, 2, 5, 8, 1),
        (2, 2, 5, 8, 300),
    ):
        q = loud * draw(1, heads, n, size)
        yield q, draw(1, groups, n, size), draw(1, groups, n, size)


def _row(ours, right, q, k, v) -> str:
    """La primera posición que no coincide, y qué mirar en ella."""
    gaps = (ours - right).abs().amax((0, 1, 3))  # [n]
    bad = int((gaps > 1e-3).nonzero()[0])
    if bad == 0:
        return (
            "Ya falla la primera posición, que solo se ve a sí misma: su "
            "salida tiene que ser su propia v. ¿Cuál es la de cada cabeza?"
        )
    return (
        f"La primera que falla es la {bad}. Imprime sus pesos: ¿suman 1? ¿Y "
        "cuánto valía, antes del softmax, la puntuación de cada una?"
    )


def _sdpa(q, k, v):
    repeat = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(repeat, 1) for t in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


exercise(
    "02.4",
    Part(
        _heads,
        truth=_sdpa,
        near=1e-3,
        without=("scaled_dot_product_attention",),
        what="Lo que devuelve causal_attention",
        said="Con {0.shape[1]} cabezas de q, {1.shape[1]} de k y v y n = "
        "{0.shape[2]}, no coincide con la de la biblioteca.",
        traps={
            "No hay máscara: cada posición está mirando también a las que "
            "vienen después.": _attention(mask="none"),
            "Falta dividir por la raíz del tamaño de la cabeza, antes del "
            "softmax.": _attention(size=lambda q: 1),
            "Multiplicas por la raíz del tamaño de la cabeza, y se divide.": (
                _attention(size=lambda q: q.shape[3] ** -0.5)
            ),
            "Todas las cabezas de q usan la primera de k y v.": (
                lambda q, k, v: _attention()(q, k[:, :1], v[:, :1])
            ),
            "Divides por el tamaño de la cabeza, y es por su raíz.": (
                _attention(size=lambda q: q.shape[3])
            ),
            "La raíz es la del tamaño de cada cabeza; la tuya cuenta otra "
            "cosa.": [
                _attention(size=lambda q: q.shape[2] ** 0.5),
                _attention(size=lambda q: (q.shape[1] * q.shape[3]) ** 0.5),
            ],
            "Repartes mal las cabezas: las primeras de q comparten la primera "
            "de k y v, no se turnan. ¿repeat o repeat_interleave?": (
                _attention(turns=True)
            ),
            "Tapas el futuro después del softmax: las filas ya no suman 1.": (
                _attention(after=True)
            ),
            "Haces el softmax por columnas: son las filas las que tienen que "
            "sumar 1.": _attention(dim=-2),
            "Tu máscara tapa también la diagonal, y cada posición se ve a sí "
            "misma. La primera fila se queda sin nadie: ahí nace el NaN.": (
                _attention(mask="diagonal")
            ),
            "Tapas el pasado y dejas ver el futuro: dale la vuelta a la "
            "máscara.": _attention(mask="past"),
            "Lo tapado lleva un 0 antes del softmax, y e⁰ es 1: sigue "
            "contando. Imprime los pesos.": _attention(fill=0.0),
            "Tapas con un número corriente, y si las puntuaciones son grandes "
            "se queda corto. Lo que nunca cuenta es −∞.": [
                _attention(fill=-20.0),
                _attention(fill=-100.0),
            ],
            "No mezclas nada: eso son los vectores v.": (
                lambda q, k, v: v.repeat_interleave(
                    q.shape[1] // v.shape[1], 1
                )
            ),
        },
        otherwise=_row,
        rights=[_attention(), _attention_einsum, _attention_loop],
    ),
    success="¡Correcto! Igual que la de la biblioteca.",
)


# 02.5


def _seen_by_head(last_logits, model, ids):
    """Los logits que da y cuántas posiciones ha visto `lm_head`."""
    seen = []
    hook = model.lm_head.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].numel())
    )
    try:
        with torch.no_grad():
            ours = call(last_logits, model, ids)
    finally:
        hook.remove()
    ours = tensor(ours, [1, model.config.vocab_size], "last_logits")
    return ours, sum(seen) // model.config.hidden_size


def _hidden(model, ids):
    return model.model(ids).last_hidden_state  # [1, n, d]


def _last(model, ids):
    return model.lm_head(_hidden(model, ids)[:, -1])


def _before_norm(model, ids):
    seen = []
    hook = model.model.norm.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    model.model(ids)
    hook.remove()
    return model.lm_head(seen[0][:, -1])


exercise(
    "02.5",
    Part(
        lambda: [
            (tiny_model(), random_ids(6, 6)),
            (tiny_model(1), random_ids(1, 1)),
            (tiny_model(), random_ids(12, 12)),
        ],
        truth=lambda model, ids: (all_logits(model, ids)[:, -1], 1),
        observe=_seen_by_head,
        near=1e-3,
        said="Con {1.shape[1]} tokens, lm_head ha visto {ours[1]} posición(es).",
        traps={
            "Los logits son los buenos, pero los has calculado todos y luego "
            "te quedas con uno. Recorta los vectores antes de dárselos.": [
                lambda model, ids: model(ids).logits[:, -1],
                lambda model, ids: model.lm_head(_hidden(model, ids))[:, -1],
                lambda model, ids: [
                    model.lm_head(h) for h in _hidden(model, ids).unbind(1)
                ][-1],
            ],
            "El resultado es bueno, pero no ha pasado por model.lm_head. "
            "Llámalo como módulo: es quien cuenta las posiciones.": [
                lambda model, ids: (
                    _hidden(model, ids)[:, -1] @ model.lm_head.weight.T
                ),
                lambda model, ids: F.linear(
                    _hidden(model, ids)[:, -1], model.lm_head.weight
                ),
            ],
            "Has pasado dos veces por la norma final: last_hidden_state ya la "
            "trae.": lambda model, ids: model.lm_head(
                model.model.norm(_hidden(model, ids)[:, -1])
            ),
            "Parece que el modelo solo ha leído el último token. Se recortan "
            "los vectores, no los ids.": [
                lambda model, ids: _last(model, ids[:, -1:]),
                lambda model, ids: model(ids[:, -1:]).logits[:, -1],
            ],
            "Son los de la primera posición.": (
                lambda model, ids: model.lm_head(_hidden(model, ids)[:, 0])
            ),
            "Falta la norma final, entre la última capa y lm_head.": (
                _before_norm
            ),
            "Te quedas una capa antes: hidden_states[-2] no es la salida de "
            "la última.": lambda model, ids: model.lm_head(
                model.model(ids, output_hidden_states=True).hidden_states[-2][
                    :, -1
                ]
            ),
            "Son probabilidades, y se piden logits.": [
                lambda model, ids: _last(model, ids).softmax(-1),
                lambda model, ids: _last(model, ids).log_softmax(-1),
            ],
            "Es la media de todas las posiciones, y se pide la última.": (
                lambda model, ids: model.lm_head(_hidden(model, ids).mean(1))
            ),
        },
        otherwise="Los números no son los de la última posición. Compáralos "
        "con los de all_logits, fila a fila: ¿a cuál se parecen?",
        rights=[
            _last,
            lambda model, ids: model(ids, logits_to_keep=1).logits[:, -1],
            lambda model, ids: model.lm_head(_hidden(model, ids)[0, [-1]]),
        ],
    ),
    success="¡Correcto! Y lm_head solo ha visto una posición.",
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
            "paso a paso: layer.input_layernorm(x), layer.self_attn, "
            "layer.post_attention_layernorm(x1), layer.mlp(h1). Si coinciden "
            "todos, el fallo está entre ellos: en lo que se suma, y a qué.": (
                _layer("given")
            ),
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
