"""Corrección del laboratorio 06 · KV cache escrito a mano."""

import math
import re
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from transformers.cache_utils import Cache, DynamicLayer

from ..cache import ConcatLayer, PreallocatedLayer, make_cache
from ..forward import next_logits, prompt_ids
from .bench import (
    TINY,
    CallCounter,
    course_model,
    library,
    prompts,
    random_ids,
    random_logits,
    tiny_config,
    tiny_model,
)
from .kit import (
    ASSERTS,
    Part,
    Pending,
    as_int,
    call,
    exercise,
    expect,
    jury,
    like,
    put_to_test,
    returning,
    say,
    tensor,
)

INF = math.inf


# 06.1: atención con caché para varios tokens


def _future(new, seen, by=1):
    return torch.ones(new, seen + new, dtype=torch.bool).triu(seen + by)


def _each(x, times):
    return x.repeat_interleave(times, 0)


def attend(
    q,
    k,
    v,
    past_k,
    past_v,
    *,
    hidden=_future,
    heads=_each,
    scale=lambda size, n: size**0.5,
    fill=-INF,
    dim=-1,
    join=lambda old, new: torch.cat([old, new], 1),
    kept=lambda joined, new, times: joined,
):
    """La atención del ejercicio; cada opción la equivoca."""
    times, new, seen = len(q) // len(k), k.shape[1], past_k.shape[1]
    K, V = join(past_k, k), join(past_v, v)
    scores = q @ heads(K, times).mT / scale(q.shape[-1], K.shape[1])
    if hidden and K.shape[1] == new + seen:
        scores = scores.masked_fill(hidden(new, seen), fill)
    mixed = scores.softmax(dim) @ heads(V, times)
    return mixed, kept(K, k, times), kept(V, v, times)


def _with_sdpa(q, k, v, past_k, past_v):
    K, V = torch.cat([past_k, k], 1), torch.cat([past_v, v], 1)
    seen = ~_future(k.shape[1], past_k.shape[1])
    options = dict(attn_mask=seen, enable_gqa=True)
    mixed = F.scaled_dot_product_attention(
        q[None], K[None], V[None], **options
    )
    return [mixed[0], K, V]


def _one_by_one(q, k, v, past_k, past_v):
    K, V, rows = past_k, past_v, []
    for i in range(q.shape[1]):
        K, V = torch.cat([K, k[:, i : i + 1]], 1), torch.cat([V, v[:, [i]]], 1)
        row = []
        for h, query in enumerate(q[:, i]):
            g = h * len(k) // len(q)
            weights = (K[g] @ query / len(query) ** 0.5).softmax(0)
            row.append(weights @ V[g])
        rows.append(torch.stack(row))
    return torch.stack(rows, 1), K, V


def _masks_late(q, k, v, past_k, past_v):
    past = ~_future(k.shape[1], past_k.shape[1])
    _, K, V = attend(q, k, v, past_k, past_v)
    times = len(q) // len(k)
    weights = (q @ _each(K, times).mT / q.shape[-1] ** 0.5).softmax(-1)
    return (weights * past) @ _each(V, times), K, V


def _attention_cases():
    for heads, kv, new, seen, size in (
        (4, 2, 3, 5, 8),
        (6, 2, 1, 4, 4),
        (6, 3, 5, 1, 4),
        (4, 4, 4, 0, 9),
    ):
        shapes = (heads, new), (kv, new), (kv, new), (kv, seen), (kv, seen)
        yield tuple(
            random_logits(i, a * b * size, 1.0).view(a, b, size)
            for i, (a, b) in enumerate(shapes)
        )


def _three(value, q, k, v, past_k, past_v):
    expect(
        isinstance(value, tuple | list) and len(value) == 3,
        "Devuelve tres tensores: el resultado, K y V.",
    )
    whole = len(k), past_k.shape[1] + k.shape[1], k.shape[2]
    wanted = zip(value, (q.shape, whole, whole), ("El resultado", "K", "V"))
    return [tensor(*x) for x in wanted]


def _three_said(ours, right, q, k, *_):
    worst = (float((a - b).abs().max()) for a, b in zip(ours, right))
    return say(
        "Con {0} cabezas para {1} de K y V, y {2} tokens nuevos, la mayor "
        "diferencia es {3:.2f} en el resultado, {4:.2f} en K y {5:.2f} en V.",
        *(len(q), len(k), q.shape[1], *worst),
    )


exercise(
    "06.1",
    Part(
        _attention_cases,
        truth=_with_sdpa,
        near=1e-4,
        read=_three,
        said=_three_said,
        without=("scaled_dot_product_attention",),
        traps={
            "Con varias queries, la primera no puede ver los tokens nuevos "
            "que van detrás de ella: imprime los pesos de esa fila.": partial(
                attend, hidden=None
            ),
            "La máscara está sin correr: lo ya guardado es pasado para todas "
            "las queries. ¿A cuántos ve la primera de las nuevas?": partial(
                attend, hidden=lambda new, seen: _future(new + seen, 0)[:new]
            ),
            "La máscara falla por uno: cada token se ve a sí mismo, y no al "
            "siguiente. Escribe en papel la fila de la primera query.": [
                partial(attend, hidden=partial(_future, by=by))
                for by in (0, 2)
            ],
            "Tapas con 0 antes del softmax, y e⁰ es 1: eso no es no mirar. "
            "¿Qué puntuación da un peso cero?": partial(attend, fill=0.0),
            "Quitas el futuro después del softmax, y lo que queda ya no suma "
            "1: tápalo antes de repartir.": _masks_late,
            "Las cabezas de K y V se reparten a turnos, y van por grupos de "
            "queries seguidas. Repite [1, 2] de dos maneras y compara.": (
                partial(attend, heads=lambda x, times: x.repeat(times, 1, 1))
            ),
            "Falta la escala: sin ella las puntuaciones crecen con head_dim y "
            "el softmax se concentra. Compara los pesos.": partial(
                attend, scale=lambda size, n: 1
            ),
            "La escala es la raíz de head_dim: ni head_dim entero, ni el "
            "número de tokens. ¿Por qué divides?": [
                partial(attend, scale=lambda size, n: size),
                partial(attend, scale=lambda size, n: n**0.5),
            ],
            "El softmax va por otro eje: cada query reparte entre todas las "
            "K. Suma tus pesos por filas.": partial(attend, dim=-2),
            "Lo nuevo va detrás de lo guardado, por orden de llegada: la "
            "máscara cuenta con ello.": partial(
                attend, join=lambda old, new: torch.cat([new, old], 1)
            ),
            "Devuelves como caché solo lo nuevo: el próximo paso necesita "
            "también lo anterior.": partial(
                attend, kept=lambda joined, new, times: new
            ),
            "Guarda K y V con sus cabezas, sin repetir: repetidas ocupan "
            "tantas veces más, y el próximo paso las repite otra vez.": (
                partial(attend, kept=lambda joined, new, t: _each(joined, t))
            ),
            "Lo guardado no llega a usarse: las queries miran también a past_k "
            "y reciben de past_v.": lambda q, k, v, *past: (
                attend(q, k, v, *(x[:, :0] for x in past))[0],
                *attend(q, k, v, *past)[1:],
            ),
        },
        otherwise="Pasa los tokens de uno en uno, sin máscara, y compara cada "
        "fila con la tuya: ¿cuál es la primera que difiere?",
        rights=[attend, _one_by_one],
    ),
    success="¡Correcto! Un token o muchos, con la misma cuenta.",
)


# 06.2: cuántos tokens caben


def _head_dim(config):
    whole = config.hidden_size // config.num_attention_heads
    return getattr(config, "head_dim", None) or whole


def fits(config, gigabytes, size, *, parts=2, heads=None, dim=_head_dim,
         giga=1e9, window=True, layers=True, full_only=False, short=True,
):  # fmt: skip
    """Los tokens que caben; cada opción lo equivoca."""
    heads = heads or config.num_key_value_heads
    kinds = config.layer_types if layers else config.layer_types[:1]
    sliding = window * sum("sliding" in kind for kind in kinds)
    full = len(kinds) - sliding
    places = int(gigabytes * giga // (parts * heads * dim(config) * size))
    filled = len(kinds) * (config.sliding_window or 0)
    if not sliding or (short and places < filled):
        return places // len(kinds)
    rest = places - (0 if full_only else sliding * config.sliding_window)
    return rest // full if full else INF


def _fits_by_search(config, gigabytes, size):
    def need(n):
        caps = {"sliding_attention": config.sliding_window}
        kept = sum(min(n, caps.get(k, n)) for k in config.layer_types)
        return 2 * config.num_key_value_heads * _head_dim(config) * size * kept

    top = 10**12
    if need(top) <= gigabytes * 1e9:
        return float("inf")
    low = 0
    while top - low > 1:
        middle = (low + top) // 2
        low, top = (
            (middle, top) if need(middle) <= gigabytes * 1e9 else (low, middle)
        )
    return low


def _memories():
    from transformers import Gemma3TextConfig, Qwen3Config

    shape = dict(hidden_size=96, num_attention_heads=6, num_key_value_heads=1)

    def windowed(pattern, window):
        kinds = {"s": "sliding_attention", "f": "full_attention"}
        return Gemma3TextConfig(
            **shape,
            head_dim=250,
            num_hidden_layers=len(pattern),
            layer_types=[kinds[letter] for letter in pattern],
            sliding_window=window,
        )

    yield tiny_config(), 0.5, 4
    yield Qwen3Config(**shape, head_dim=40, num_hidden_layers=5), 3, 2
    yield windowed("ffff", 512), 2, 2  # justo
    yield windowed("sfsf", 4096), 1, 2
    yield windowed("sssf", 4096), 0.5, 4
    yield windowed("sf", 900_000), 1, 2  # ninguna llega a su ventana
    yield windowed("ssss", 4096), 1, 2
    yield windowed("ssss", 900_000), 1, 2


def _tokens(value, *case):
    if value == INF:
        return "infinitos"
    return as_int(value, "Los tokens son un número entero, o math.inf.")


def _fits_said(ours, right, config, gigabytes, size):
    kinds = config.layer_types
    sliding = sum("sliding" in kind for kind in kinds)
    return say(
        "En {0} GB, con {1} bytes por número y {2} capas, {3} de ventana "
        "(sliding_window, {4}), dices {5} tokens y son {6}.",
        *(float(gigabytes), size, len(kinds), sliding),
        *(config.sliding_window or 0, ours, right),
    )


exercise(
    "06.2",
    Part(
        _memories,
        truth=lambda *case: _tokens(_fits_by_search(*case)),
        read=_tokens,
        said=_fits_said,
        traps={
            "De cada token se guardan K y V: son dos.": partial(fits, parts=1),
            "Se guardan las cabezas de K y V, no todas las de query: mira "
            "num_key_value_heads.": lambda c, g, s: fits(
                c, g, s, heads=c.num_attention_heads
            ),
            "head_dim no siempre es hidden_size / cabezas: si la configuración "
            "lo trae, es ese.": partial(
                fits, dim=lambda c: c.hidden_size // c.num_attention_heads
            ),
            "hidden_size cuenta todas las cabezas de query, y no es cabezas de "
            "K y V × head_dim.": partial(
                fits, heads=1, dim=lambda c: c.hidden_size
            ),
            "Los GB de la pregunta son 10⁹ bytes: 2³⁰ es un GiB.": partial(
                fits, giga=2**30
            ),
            "Faltan los bytes de cada número: size.": (
                lambda c, g, s: fits(c, g, 1)
            ),
            "Cada capa guarda lo suyo: falta contar con todas.": partial(
                fits, layers=False
            ),
            "Una capa de ventana deja de crecer al llenarla: a partir de ahí "
            "solo cuestan las otras. ¿Qué dice layer_types?": partial(
                fits, window=False
            ),
            "sliding_window solo cuenta en las capas que layer_types dice de "
            "ventana: en las demás no corta nada.": lambda c, g, s: min(
                fits(c, g, s, window=False), c.sliding_window or INF
            ),
            "Una capa de ventana también ocupa: lo que guarda llena hay que "
            "descontarlo antes de repartir.": partial(fits, full_only=True),
            "Si todas las capas son de ventana y caben llenas, el texto puede "
            "crecer sin fin: eso es math.inf.": [
                lambda *case: (
                    min(fits(*case), case[0].sliding_window or 1e18)
                    if {*case[0].layer_types} == {"sliding_attention"}
                    else fits(*case)
                ),
                lambda *case: 0 if fits(*case) == INF else fits(*case),
            ],
            "Una ventana más larga que lo que cabe no ahorra nada: mira primero "
            "si llega a llenarse.": partial(fits, short=False),
        },
        otherwise="Calcula lo que ocupan 10 tokens, capa a capa, y compáralo "
        "con los bytes que hay. ¿Qué factor falta o sobra?",
        rights=[
            fits,
            _fits_by_search,
            lambda *case: (
                fits(*case)
                if fits(*case) == INF
                else torch.tensor(fits(*case))
            ),
        ],
    ),
    success="¡Correcto! Con ventana, la memoria deja de mandar.",
)


# 06.3: escribe tú la prueba de una caché


def both(old, new, dim=-2):
    return torch.cat([old, new], dim=dim)


def layer(update):
    """Una capa con ese `update(self, keys, values)` ya inicializada."""

    class Layer(DynamicLayer):
        def update(self, key_states, value_states, *args, **kwargs):
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            return update(self, key_states, value_states)

    return Layer


def keeping(
    change=lambda new: new, join=both, kept=lambda joined, new: joined
):
    """Una capa que guarda `kept` de lo que junta, y devuelve lo juntado."""

    def update(self, *news):
        olds = self.keys, self.values
        joined = [join(old, change(new)) for old, new in zip(olds, news)]
        self.keys, self.values = map(kept, joined, news)
        return tuple(joined)

    return layer(update)


concat = keeping()


def last_only(joined, new):
    return new


def loses_last(joined, new):
    return joined[:, :, :-1]


def _skipping(call):
    """Una capa que no guarda lo de esa llamada."""

    class Layer(concat):
        calls = 0

        def update(self, *news, **options):
            self.calls += 1
            whole = super().update(*news, **options)
            if self.calls == call:
                self.crop(-news[0].shape[2])
            return whole

    return Layer


class _CropsFront(concat):
    def crop(self, n):
        if n:
            self.keys = self.keys[:, :, -n:]
            self.values = self.values[:, :, -n:]


class _NeverCrops(concat):
    def crop(self, n):
        pass


class _Ahead(Cache):
    """Dice que guarda uno más."""

    def get_seq_length(self, *place, **named):
        kept = super().get_seq_length(*place, **named)
        return kept + (kept > 0)


def _cache(*kinds, make=Cache):
    """Una caché: la primera capa, de la primera clase; las demás, de la
    última."""
    others = [kinds[-1]] * (tiny_config().num_hidden_layers - 1)
    return make(layers=[kind() for kind in (kinds[0], *others)])


def _rounded(new):
    return (100 * new).round() / 100


GOOD = {
    "pega lo nuevo detrás": concat,
    "es la de la biblioteca": DynamicLayer,
    "reserva sitio": PreallocatedLayer,
    "reserva sitio para dos, y crece": partial(PreallocatedLayer, 2),
    "se equivoca en una millonésima": keeping(lambda new: new * (1 + 1e-6)),
}
BAD = {  # qué hace: sus clases, y la pista
    "redondea K y V a dos decimales": (
        partial(_cache, keeping(_rounded)),
        "Esa pierde cifras, y los ids aguantan. Mira cuánto se apartan los "
        "logits, y dónde pones el margen.",
    ),
    "da a lo que sigue al prompt una posición de más": (
        partial(_cache, concat, make=_Ahead),
        "Esa caché corre en uno las posiciones, y puede escribir los mismos "
        "ids. ¿Qué más da el modelo, aparte del mejor?",
    ),
    "olvida lo último de cada llamada": (
        partial(_cache, keeping(kept=loses_last)),
        "Esa olvida el último token de cada llamada: la primera sale bien. "
        "¿Sigues después del prompt?",
    ),
    "no guarda el prompt": (
        partial(_cache, _skipping(1)),
        "Esa no guarda el prompt, aunque sus logits son buenos. ¿Qué pasa "
        "cuando entra el token siguiente?",
    ),
    "no guarda la primera llamada tras el prompt": (
        partial(_cache, _skipping(2)),
        "Esa no guarda lo primero que llega tras el prompt: no se nota hasta "
        "la llamada siguiente. ¿Haces tres o más?",
    ),
    "solo guarda bien la primera capa": (
        partial(
            _cache, concat, keeping(join=lambda old, new: both(old * 0, new))
        ),
        "En esa, solo la primera capa recuerda de verdad. Compara lo que da el "
        "modelo al final, no lo que guarda una capa.",
    ),
    "pone lo nuevo delante": (
        partial(_cache, keeping(join=lambda old, new: both(new, old))),
        "Con un token cada vez no hay máscara, y el orden da igual. ¿Pasas "
        "también varios de golpe tras el prompt?",
    ),
    "al recortar, quita los primeros": (
        partial(_cache, _CropsFront),
        "Esa, al recortar, quita del lado que no es. Recorta y sigue por otro "
        "camino: ¿qué deberían dar los logits?",
    ),
    "no recorta": (
        partial(_cache, _NeverCrops),
        "Esa no hace caso de crop. Recorta y sigue por otro camino: ¿qué "
        "deberían dar los logits?",
    ),
    "olvida lo que pasa de doce tokens": (
        partial(_cache, keeping(kept=lambda joined, new: joined[:, :, -12:])),
        "Esa va bien mientras guarda doce o menos. ¿Cuántos tenía guardados al "
        "hacer tu última llamada?",
    ),
    "da siempre la misma caché, sin vaciarla": (
        None,
        "La primera vez está vacía; la segunda, no. ¿Cuántas veces llamas a "
        "new_cache?",
    ),
}
CACHES = {name: partial(_cache, kind) for name, kind in GOOD.items()}
CACHES |= {name: make for name, (make, _) in BAD.items()}
OTHER = (
    "Lo prometido son los mismos logits, con un margen de 0,001. ¿Pides algo "
    "más, o lo comparas con otro texto del que pasaste?"
)


def _tested(answer, name) -> str:
    make, old = CACHES[name], _cache(concat)

    def new_cache():
        return make() if make else old

    return put_to_test(answer, new_cache)


def test_cache(
    new_cache,
    sizes=(5, 1, 1, 3, 6),
    back=4,
    texts=2,
    near=1e-3,
    see=torch.clone,
):
    """Una respuesta de 06.3; sus opciones la hacen ciega, o injusta."""
    model = tiny_model()
    for seed in range(texts):
        ids, cache, n = random_ids(20, seed), new_cache(), 0
        for size in (*sizes, -back, 1, 2) if back else sizes:
            if size < 0:
                cache.crop(size)
                ids = torch.cat([ids[:, : n + size], random_ids(9, 9)], 1)
                n += size
                continue
            out = model(ids[:, n : n + size], past_key_values=cache)
            n += size
            right = model(ids[:, :n]).logits[0, -1]
            assert (see(out.logits[0, -1]) - see(right)).abs().max() <= near


def _every_logit(new_cache):
    model = tiny_model()
    for parts in ([1] * 16, [8, 8], [3, 1, 1, 4]):
        ids, cache = random_ids(sum(parts), 5), new_cache()
        pieces = [
            model(input_ids=part, past_key_values=cache).logits
            for part in ids.split(parts, 1)
        ]
        whole = model(ids).logits
        assert torch.allclose(torch.cat(pieces, 1), whole, rtol=0, atol=1e-3)
        cache.crop(-2)
        last = model(ids[:, -2:], past_key_values=cache).logits
        if (last - whole[:, -2:]).abs().max() > 1e-3:
            raise AssertionError("tras el recorte, otra cosa")


def greedy(new_cache):
    for ids in prompts():
        ours = write(tiny_model(), ids, 12, new_cache())
        assert torch.equal(ours, library(ids, 12))


def _hint_of(start: str) -> str:
    return next(hint for name, (_, hint) in BAD.items() if start in name)


exercise(
    "06.3",
    Part(
        [()],
        **jury(
            GOOD,
            {name: (hint, make) for name, (make, hint) in BAD.items()},
            OTHER,
            _tested,
            ("Rechaza una que", "Acepta una que"),
        ),
        traps={
            _hint_of(start): wrong
            for start, wrong in {
                "posición de más": lambda new: test_cache(new, (5,), 0),
                "redondea": [
                    lambda new: test_cache(new, near=0.5),
                    lambda new: test_cache(
                        new, see=lambda x: x.argmax() * 1.0
                    ),
                    greedy,
                ],
                "tras el prompt": lambda new: test_cache(new, (5, 1), back=0),
                "delante": lambda new: test_cache(new, (5, *[1] * 10), back=0),
                "quita los primeros": lambda new: test_cache(new, back=0),
                "pasa de doce": lambda new: test_cache(new, (2, 1, 1, 3), 2),
                "siempre la misma": lambda new: test_cache(new, texts=1),
            }.items()
        }
        | {
            OTHER: lambda new: test_cache(new, near=0),
            ASSERTS: returning(test_cache),
        },
        rights=[test_cache, _every_logit],
    ),
    success="¡Correcto! Acepta las cinco buenas y caza las once malas.",
)


# 06.4: el error que no se lee

STARTS = re.compile(
    "haiku|eclipse|Perú|cenar|chiste|el cielo|a tu jefa|un faro|neuronal|"
    "buenos días|hace el pan|quijote|cinco ríos|sume dos|Marte|dormir mejor|"
    "meninas|para un gato|12 por 12|fotosíntesis|sobre el mar|inflación|"
    "la compra|martillo|argentina|color favorito",
    re.I,
)
A_TEXT = "Se pide una pregunta tuya, en un texto de 5 a 120 caracteres."
YOUR_OWN = "Esa pregunta es de la unidad. Prueba con una tuya, de otra cosa."
ENDS = (
    "La respuesta acaba antes de ocho tokens: pide algo que haya que contar o "
    "explicar, y no una palabra."
)
NOT_SAME = (
    "Con la posición corrida escribe otra cosa. Sale lo mismo cuando el mejor "
    "va muy por delante: prueba con una definición."
)
NOT_OTHER = (
    "Escribe lo mismo aun con la posición corrida. Se separan donde dos van "
    "casi empatados: prueba con algo que se pueda empezar de muchas maneras."
)


@lru_cache(64)
def _answer(question: str, shift: int = 0):
    """Los ids del prompt, los de hasta 16 tokens greedy y sus logits; los
    generados, `shift` posiciones más allá."""
    model, tokenizer = course_model()
    chat = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    ids = entering = prompt_ids(model, tokenizer, chat)
    n, cache, new, rows = ids.shape[1], make_cache(model), [], []
    places = torch.arange(n)[None]
    while len(new) < 16 and tokenizer.eos_token_id not in new:
        options = dict(past_key_values=cache, position_ids=places)
        out = model(entering, logits_to_keep=1, **options)
        rows.append(out.logits[0, -1])
        new.append(int(rows[-1].argmax()))
        entering = torch.tensor([new[-1:]])
        places = torch.tensor([[n + len(new) - 1 + shift]])
    return ids, new, torch.stack(rows)


@lru_cache(64)
def _compared(question: str) -> tuple[bool, float, list[str]]:
    """Si la caché corrida escribe lo mismo, cuánto se apartan sus logits
    mientras los textos coinciden, y los dos textos."""
    model, tokenizer = course_model()
    ids, good, right = _answer(question)
    n, bad = ids.shape[1], good
    whole = torch.cat([ids, torch.tensor([good[:-1]], dtype=torch.long)], 1)
    places = torch.arange(whole.shape[1])
    places = (places + (places >= n))[None]  # lo generado, uno más allá
    wrong = model(whole, position_ids=places).logits[0, n - 1 :]
    agree = int(
        (wrong.argmax(-1) == torch.tensor(good)).long().cumprod(0).sum()
    )
    if agree < len(good):
        bad = _answer(question, 1)[1]
    gap = (right - wrong)[: agree + 1].abs().max()
    return good == bad, float(gap), [*map(tokenizer.decode, (good, bad))]


def _question(text, wanted: bool) -> str:
    """Lo que se cuenta de esa pregunta, o la pista."""
    text = like(text, "", "La pregunta").strip()
    expect(5 <= len(text) <= 120 and "<|" not in text, A_TEXT)
    expect(not STARTS.search(text), YOUR_OWN)
    expect(len(_answer(text)[1]) >= 8, ENDS)
    same, gap, (good, bad) = _compared(text)
    told = say(
        "«{0}»\n  bien: {1!r}\n  corrida: {2!r}\n  los logits se apartan "
        "hasta {3:.1f}\n",
        *(text, good, bad, gap),
    )
    expect(same == wanted, told + (NOT_SAME if wanted else NOT_OTHER))
    return told


SAME, APART = "¿Qué es un volcán?", "Describe una playa"


@exercise(
    "06.4",
    success="¡Correcto! El texto no delata el error; los logits, siempre.",
    traps={
        A_TEXT: [("Sí", APART), (SAME, "a" * 200)],
        YOUR_OWN: [("¿Qué es un ECLIPSE?", APART), (SAME, "Dime un haiku")],
        ENDS: ("Traduce al francés: buenas noches", APART),
        NOT_SAME: [(APART, APART), (APART, SAME)],
        NOT_OTHER: [(SAME, SAME), (SAME, "¿Qué es la gravedad?")],
    },
    rights=[(SAME, APART), ("¿Qué es la gravedad?", "Dime un refrán")],
)
def silent_bug(same, apart):
    """Una pregunta en que el error no cambia el texto, y otra en que sí."""
    if "" in (same, apart):
        raise Pending
    with torch.no_grad():
        told = [_question(same, True), _question(apart, False)]
    print("\n".join(told))


# 06.5: reutilizar un prefijo


def _same_start(kept, wanted) -> int:
    n = 0
    while n < min(len(kept), len(wanted)) and kept[n] == wanted[n]:
        n += 1
    return n


def next_scores(
    m, ids, cache, kept, *, last=1, start=_same_start, crop=None, use=True
):
    """Aprovecha el comienzo común y pasa lo demás; las opciones, mal."""
    wanted = ids[0].tolist()
    same = start(kept, wanted[: len(wanted) - last])
    cache.crop(same - len(kept) if crop is None else crop(same, len(kept)))
    past = cache if use else None
    return m(ids[:, same:], past_key_values=past).logits[:, -1]


def _last_twice(model, ids, cache, kept):
    same = _same_start(kept, ids[0].tolist())
    cache.crop(same - len(kept))
    entering = ids[:, min(same, ids.shape[1] - 1) :]
    return model(entering, past_key_values=cache).logits[:, -1]


def _scores_by_while(model, ids, cache, kept):
    prompt, n = ids[0].tolist(), len(kept)
    while n and (kept[:n] != prompt[:n] or n == len(prompt)):
        n -= 1
    if n < len(kept):
        cache.crop(n - len(kept))
    out = model(ids[:, n:], past_key_values=cache, logits_to_keep=1)
    return out.logits[:, -1].float()


def _then(change):
    """`next_scores`, y luego algo más: `change(logits, cache)`."""

    def wrong(model, ids, cache, kept):
        return change(next_scores(model, ids, cache, kept), cache)

    return wrong


def _reuses():
    base, changed = random_ids(12, 6), random_ids(12, 6)
    changed[0, 5] = (changed[0, 5] + 1) % TINY
    longer = torch.cat([base, random_ids(4, 7)], -1)
    apart = torch.cat([base[:, :7], random_ids(6, 9)], -1)
    yield longer, base, "el prompt sigue"
    yield random_ids(9, 8), base[:, :0], "la caché está vacía"
    yield apart, base, "se separan"
    yield random_ids(8, 10), base, "no se parecen en nada"
    yield changed, base, "solo cambia un token de en medio"
    yield base[:, :10], base, "el prompt es el comienzo de lo guardado"
    yield base, base, "el prompt es justo lo guardado"


def _reused(answer, ids, kept, when):
    model, cache = tiny_model(), make_cache(tiny_model())
    if kept.shape[1]:
        model(kept, past_key_values=cache)
    with CallCounter() as counter:
        ours = call(answer, model, ids, cache, kept[0].tolist())
    logits = tensor(ours, (1, TINY), "Lo que devuelve next_scores")
    return [logits, sum(counter.lengths), cache.get_seq_length()]


def _reuse_truth(ids, kept, when):
    same = _same_start(kept[0].tolist(), ids[0, :-1].tolist())
    n = ids.shape[1]
    return [next_logits(tiny_model(), ids).double(), n - same, n]


def _reuse_said(ours, right, ids, kept, when) -> str:
    good = torch.allclose(ours[0], right[0], atol=1e-3)
    return (
        f"Cuando {when}, los logits {'son' if good else 'no son'} los buenos, "
        f"pasan {ours[1]} tokens por la red, y bastan {right[1]}, y la caché "
        f"acaba con {ours[2]} y deberían ser {right[2]}."
    )


exercise(
    "06.5",
    Part(
        _reuses,
        truth=_reuse_truth,
        observe=_reused,
        near=1e-3,
        said=_reuse_said,
        traps={
            "Detrás de lo que vale sigue guardado lo que no: recorta la caché "
            "justo donde dejan de coincidir, antes de seguir.": [
                partial(next_scores, crop=lambda same, n: 0),
                lambda m, i, c, k: m(i, past_key_values=c).logits[:, -1],
            ],
            "Recortas otra cantidad: con −k se quitan los k últimos, y sobran "
            "los que no coinciden.": [
                partial(next_scores, crop=lambda same, n: -same),
                partial(next_scores, crop=lambda same, n: same - n - 1),
            ],
            "Das por bueno un trozo que no coincide: el prefijo acaba en el "
            "primer token distinto.": [
                partial(next_scores, start=lambda a, b: min(len(a), len(b))),
                partial(
                    next_scores,
                    start=lambda a, b: sum(x == y for x, y in zip(a, b)),
                ),
            ],
            "Si el prompt ya está entero en la caché, su último token tiene "
            "que volver a pasar: sin forward no hay logits.": partial(
                next_scores, last=0
            ),
            "Vuelves a pasar lo que ya estaba: lo que coincide no hace falta, "
            "salvo el último token.": [
                partial(next_scores, start=lambda a, b: 0),
                partial(next_scores, last=2),
            ],
            "La caché tiene que quedar lista para seguir: es la que recibes, "
            "con todo el prompt dentro.": [
                _then(lambda logits, cache: (logits, cache.crop(-1))[0]),
                lambda m, i, c, k: m(i).logits[:, -1],
            ],
            "Al volver a pasar el último, quítalo antes de la caché: si no, "
            "entra dos veces.": _last_twice,
            "Recortas, y luego pasas lo que falta sin la caché: el modelo no ve "
            "el comienzo.": partial(next_scores, use=False),
            "Falta la fila: el modelo da [1, n, V] y se piden los del último, "
            "[1, V].": _then(lambda logits, cache: logits[0]),
        },
        otherwise="¿Recortas algo que servía, cambias las posiciones o no "
        "miras los últimos logits?",
        rights=[next_scores, _scores_by_while],
    ),
    success="¡Correcto! Aprovecha lo que vale y tira lo que no.",
)


# 06.6, 06.9 y 06.10: tres bucles


def loop_at(shift):
    """Un bucle que da al primer token nuevo la posición P + 1 + shift."""

    def loop(model, ids, n, cache):
        out = model(ids, past_key_values=cache)
        new = [out.logits[0, -1].argmax().item()]
        while len(new) < n:
            place = torch.tensor([[ids.shape[1] + len(new) + shift]])
            token = torch.tensor([[new[-1]]])
            out = model(token, past_key_values=cache, position_ids=place)
            new.append(out.logits[0, -1].argmax().item())
        return new

    return loop


def loop_from(first, last=99, again=False):
    """Un bucle que solo usa la caché desde el paso `first` hasta el `last`;
    `again`: en cada vuelta entra todo."""

    def loop(model, ids, n, cache):
        new, entering = [], ids
        while len(new) < n:
            kept = cache if first <= len(new) < last else None
            out = model(entering, past_key_values=kept)
            new.append(out.logits[0, -1].argmax().item())
            entering = torch.tensor([new if again else new[-1:]])
            if again:
                entering = torch.cat([ids, entering], -1)
        return new

    return loop


loop = loop_from(0)


def write(model, ids, n, cache):
    """Los ids, con los n nuevos detrás."""
    return torch.cat([ids, torch.tensor([loop(model, ids, n, cache)])], -1)


def _looped(answer, ids, n):
    """Lo que escribe, lo que pasa, lo que queda guardado y los logits."""
    rows = []
    with CallCounter() as counter:
        model = counter.model
        cache = make_cache(model)
        hook = model.lm_head.register_forward_hook(
            lambda module, given, out: rows.append(out[0, -1].detach())
        )
        try:
            ours = call(answer, model, ids, n, cache)
        finally:
            hook.remove()
    expect(isinstance(ours, list), LIST)
    expect(len(rows) > 0, "No se ve pasar nada por la red: llama al modelo.")
    kept = cache.get_seq_length()
    return [ours, sum(counter.lengths), kept, torch.stack(rows[-n:])]


def _loop_truth(ids, n):
    whole, start = library(ids, n), ids.shape[1]
    logits = tiny_model()(whole[:, :-1]).logits[0, start - 1 :]
    return [whole[0, start:].tolist(), start + n - 1, start + n - 1, logits]


def _loop_said(ours, right, ids, n) -> str:
    same = "son" if ours[0] == right[0] else "no son"
    return (
        f"Pides {n} y da {len(ours[0])}. Los ids {same} los de generate, pasan "
        f"{ours[1]} tokens y bastan {right[1]}, y la caché que recibe acaba "
        f"con {ours[2]} de {right[2]}."
    )


LIST = "Tiene que seguir devolviendo la lista de ids nuevos."
LOOPS = {
    LIST: write,
    "Son n tokens nuevos, ni uno más ni uno menos.": lambda m, i, n, c: loop(
        m, i, n + 1, c
    ),
    "El texto es bueno, pero en cada vuelta vuelve a pasar lo ya leído: ¿qué "
    "recibe el modelo? ¿Le llega la caché?": loop_from(99, again=True),
    "El texto es el bueno, pero no con la caché que recibe: esa queda vacía.": (
        lambda m, i, n, c: loop(m, i, n, make_cache(m))
    ),
    "Cada token entra solo y sin caché: el modelo no ve nada de lo "
    "anterior.": [loop_from(99), loop_from(0, 1)],
}


def _hunt_loop(number: str, hint: str, wrongs: list):
    exercise(
        number,
        Part(
            [(ids, 12) for ids in prompts()],
            truth=_loop_truth,
            observe=_looped,
            near=1e-3,
            said=_loop_said,
            traps={hint: wrongs} | LOOPS,
            otherwise=hint,
            rights=[loop, loop_at(-1)],
        ),
        success="¡Cazado!",
    )


_hunt_loop(
    "06.6",
    "Imprime la posición que se da a cada token: el prompt ocupa de la 0 a la "
    "P − 1; ¿cuál le toca al primero que se genera?",
    [loop_at(0), loop_at(-2)],
)
_hunt_loop(
    "06.9",
    "Imprime cuántos tokens guarda la caché tras cada vuelta: ¿crece de uno "
    "en uno?",
    [loop_from(0, again=True), loop_from(0, 1, again=True)],
)
_hunt_loop(
    "06.10",
    "Imprime cuántos tokens guarda la caché tras cada forward: ¿está el "
    "prompt? ¿Y el primero que se generó?",
    [loop_from(1), loop_from(2)],
)


# 06.7 y 06.8: dos capas


def growing(copy, room=4):
    """Una capa que reserva de sobra y, al crecer, copia con `copy`."""

    class Layer(DynamicLayer):
        def __init__(self):
            super().__init__()
            self.size, self.stores = room, [None, None]

        def update(self, key_states, value_states, *args, **kwargs):
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            start, olds = self.get_seq_length(), (self.keys, self.values)
            end = start + key_states.shape[-2]
            for i, new in enumerate((key_states, value_states)):
                store = self.stores[i]
                if store is None or end > store.shape[2]:
                    size = max(self.size, 2 * end)
                    store = new.new_zeros(*new.shape[:2], size, new.shape[3])
                    if start:
                        copy(store, olds[i], start)
                    self.stores[i] = store
                store[:, :, start:end] = new
            self.keys, self.values = (s[:, :, :end] for s in self.stores)
            return self.keys, self.values

    Layer.room = room
    return Layer


def copy_whole(store, old, start):
    store[:, :, :start] = old


def _copy_flat(store, old, start):
    store.view(-1)[: old.numel()] = old.reshape(-1)


def _copy_short(store, old, start):
    store[:, :, : start - 1] = old[:, :, 1:]


def _copy_first_head(store, old, start):
    store[:, :, :start] = old[:, :1]


class Empty(DynamicLayer):
    pass


def _session(layer_class, plan):
    """Ese plan en una capa, con un lote de 2: n tokens de golpe, o quitar
    −n. Da cuántos guarda al final y, tras cada paso, qué da y qué guarda."""
    mine, seen, at = layer_class(), [], 0
    whole = random_logits(3, 2 * 2 * 2 * 450 * 4).view(2, 2, 2, 450, 4)
    for n in plan:
        if n < 0:
            mine.crop(n)
            continue
        out = mine.update(*whole[..., at : at + n, :].clone())
        at += n
        expect(
            isinstance(out, tuple | list) and len(out) == 2,
            "update devuelve dos cosas: todo lo guardado de K, y de V.",
        )
        seen += [x.clone() for x in (*out, mine.keys, mine.values)]
    return [mine.get_seq_length(), *seen]


def _layer_seen(layer_class, plan):
    expect(
        isinstance(layer_class, type)
        and issubclass(layer_class, DynamicLayer),
        "Esperaba una función o una clase: la tuya, sin paréntesis, hija de "
        "DynamicLayer.",
    )
    expect(layer_class.update is not DynamicLayer.update, NO_UPDATE)
    expect(getattr(layer_class, "room", 0) <= 8, SMALL)
    some = torch.zeros(1, 2, 3, 4)  # con el hueco sin rellenar, Pendiente
    call(call(layer_class).update, some, some, without=BY_HAND)
    return call(_session, layer_class, plan)


def _layer_said(ours, right, plan) -> str:
    steps = ", ".join(f"quitar {-n}" if n < 0 else str(n) for n in plan)
    return (
        f"Pasando tokens así: {steps}, la capa acaba con {ours[0]}, de "
        f"{right[0]}, y no da, o no guarda, lo que la de la biblioteca."
    )


BY_HAND = ("DynamicLayer.update",)
NO_UPDATE = "Tu clase no trae su propio update: el que actúa es el heredado."
SMALL = "Deja room = 4: con sitio de sobra el error no se ve, pero sigue ahí."
LAYERS = {
    NO_UPDATE: Empty,
    "No guardas lo que devuelves: en la llamada siguiente la capa está "
    "vacía.": keeping(kept=lambda joined, new: joined[:, :, :0]),
    "Te quedas solo con lo último: va detrás de lo que ya había.": [
        keeping(kept=last_only),
        keeping(join=lambda old, new: new),
    ],
    "En keys están los V, y en values, los K.": layer(
        lambda self, k, v: concat.update(self, v, k)
    ),
    "Lo guardado está bien y lo que das no: ¿qué devuelve update? Tiene que "
    "ser todo lo guardado, primero keys y luego values.": [
        layer(lambda self, k, v: (concat.update(self, k, v), (k, v))[1]),
        layer(lambda self, k, v: concat.update(self, k, v)[::-1]),
        layer(
            lambda self, *new: [
                x[:, :, :-1] for x in concat.update(self, *new)
            ]
        ),
    ],
}


PLANS = (5, 1, 1, 3), (3, 2, 1, -3, 1, 4), (2, 400, 1)


def _half(self, k, v):
    k, v = both(self.keys, k), both(self.values, v)
    self.keys, self.values = k, v[:, :, :-1]
    return k, v


def _hunt_layer(number: str, traps: dict, rights: list):
    exercise(
        number,
        Part(
            [(plan,) for plan in PLANS],
            truth=lambda plan: _session(DynamicLayer, plan),
            observe=_layer_seen,
            near=1e-3,
            said=_layer_said,
            traps=traps | LAYERS,
            otherwise="Compara keys, tras cada llamada, con las de la capa de "
            "la biblioteca: ¿cuál es la primera posición que difiere?",
            rights=rights,
        ),
        success="¡Cazado!",
    )


_hunt_layer(
    "06.7",
    {
        "Usa la capa con un prompt de 3 tokens y mira keys.shape tras cada "
        "paso: ¿crece de uno en uno desde 3?": [
            keeping(kept=loses_last),
            keeping(kept=lambda joined, new: joined[:, :, 1:]),
        ],
        "keys y values tienen que crecer a la vez.": layer(_half),
    },
    [concat, ConcatLayer, growing(copy_whole)],
)
_hunt_layer(
    "06.8",
    {
        "Mientras hay sitio va bien; falla al crecer. Compara keys antes y "
        "después de la copia: ¿está cada número en su cabeza y su posición?": [
            growing(_copy_flat),
            growing(_copy_first_head),
        ],
        "Al crecer, lo primero queda en ceros: lo que había no está en su "
        "sitio.": growing(lambda store, old, start: None),
        "Al crecer, lo copiado queda corrido una posición.": growing(
            _copy_short
        ),
        SMALL: growing(_copy_flat, room=512),
    },
    [growing(copy_whole), ConcatLayer],
)


# 06.11: dos textos de distinta longitud


def padded(places=None, keep=lambda ids, mask: mask, own=False):
    """`batch_f` con esas posiciones y esa máscara."""

    def run(model, ids, mask, cache):
        options = dict(attention_mask=keep(ids, mask))
        options["position_ids"] = places(mask) if places else None
        kept = make_cache(model) if own else cache
        return model(ids, past_key_values=kept, **options).logits[:, -1]

    return run


def from_mask(mask):
    return (mask.cumsum(-1) - 1).clamp_min(0)


def _with_helper(model, ids, mask, cache):
    return next_logits(model, ids, cache, mask)


def _two_texts():
    """Dos textos, el segundo con relleno y con un 0 de verdad dentro."""
    long, short = prompts()[4], prompts()[2].clone()
    short[0, 2] = 0
    n = long.shape[1]
    ids = torch.cat([long, F.pad(short, (n - short.shape[1], 0))])
    mask = torch.ones_like(ids)
    mask[1, : n - short.shape[1]] = 0
    yield ids, mask


def _batched(answer, ids, mask):
    model, cache = tiny_model(), make_cache(tiny_model())
    ours = call(answer, model, ids, mask, cache)
    logits = tensor(ours, (2, TINY), "Lo que devuelve batch_f")
    return [*logits, cache.get_seq_length()]


def _batch_said(ours, right, ids, mask) -> str:
    first, second = (
        torch.allclose(a, b, atol=1e-3) for a, b in zip(ours[:2], right)
    )
    return (
        f"La fila larga {'sí' if first else 'no'} da los logits que da sola; "
        f"la corta, {'sí' if second else 'no'}; y quedan guardados {ours[2]} "
        f"tokens de {right[2]}."
    )


exercise(
    "06.11",
    Part(
        _two_texts,
        truth=lambda ids, mask: [
            *(
                next_logits(tiny_model(), row[None, keep == 1])[0].double()
                for row, keep in zip(ids, mask)
            ),
            ids.shape[1],
        ],
        observe=_batched,
        near=1e-3,
        said=_batch_said,
        traps={
            "¿Quién le dice al modelo qué es relleno y qué no? Sin eso, la fila "
            "corta lo lee como texto.": [
                padded(keep=lambda ids, mask: None),
                padded(from_mask, lambda ids, mask: torch.ones_like(mask)),
            ],
            "Tomas por relleno un 0 que es un token de verdad: el relleno lo "
            "dice la máscara, no el id.": lambda m, i, k, c: next_logits(
                m, i, c, (i != 0).long()
            ),
            "La máscara está del revés: 1 es token, y 0, relleno.": padded(
                keep=lambda ids, mask: 1 - mask
            ),
            "Las posiciones no son esas: el primer token de verdad va en la 0, "
            "y los demás, de uno en uno.": padded(
                lambda mask: 2 * from_mask(mask)
            ),
            "Hay que seguir generando con esa caché, y no guarda el lote.": [
                padded(from_mask, own=True),
                lambda m, i, k, c: torch.cat(
                    [m(r[None, x == 1]).logits[:, -1] for r, x in zip(i, k)]
                ),
            ],
        },
        otherwise="Pasa la fila corta sola, sin relleno, y compara sus logits: "
        "¿qué es distinto cuando va en el lote?",
        rights=[_with_helper, padded(from_mask), padded()],
    ),
    success="¡Cazado!",
)
