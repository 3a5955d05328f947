"""Unidad 06."""

from transformers.cache_utils import DynamicLayer

from tokenatoken.cache import make_cache
from tokenatoken.checks.unit06 import (
    APART,
    SAME,
    attend,
    concat,
    fits,
    growing,
    keeping,
    loop,
    loop_at,
    next_scores,
    padded,
    test_cache,
    write,
)

from . import wrong


class Inherits(DynamicLayer):
    def update(self, key_states, value_states, *args, **kwargs):
        return super().update(key_states, value_states)


def no_generate(model, ids, n, cache):
    return model.generate(ids, max_new_tokens=n, past_key_values=cache)


def hidden_room():
    """El mismo error, con el sitio reservado donde no se ve."""

    def flat(store, old, start):
        store.view(-1)[: old.numel()] = old.reshape(-1)

    kind = growing(flat, room=300)
    kind.room = 4
    return kind


LOOPS = {
    "uno": wrong(lambda m, i, n, c: loop(m, i, 1, c)),
    "texto": wrong(lambda m, i, n, c: "hola", says="lista"),
    "con generate": wrong(no_generate, says="generate"),
    "sin modelo": wrong(lambda m, i, n, c: [7] * n, says="por la red"),
}
LAYERS = {
    "la de la biblioteca": wrong(Inherits, says="a mano"),
    "un objeto": wrong(concat(), says="sin paréntesis"),
    "una función": wrong(write, says="hija de DynamicLayer"),
    "ventana de 12": wrong(keeping(kept=lambda x, new: x[:, :, -12:])),
}

MUTANTS = {
    "06.1": {
        "solo el resultado": wrong(lambda *a: attend(*a)[0], says="tres"),
        "traspuesto": wrong(
            lambda *a: (attend(*a)[0].mT, *attend(*a)[1:]), says="forma"
        ),
        "K por V": wrong(
            lambda q, k, v, a, b: attend(q, v, k, b, a), says="diferencia"
        ),
    },
    "06.2": {
        "con coma": wrong(lambda *a: float(fits(*a)), says="entero"),
        "uno menos": wrong(lambda *a: fits(*a) - 1),
        "todo mal": wrong(
            lambda c, g, s: fits(c, g, s, heads=3, parts=1), says="¿Qué factor"
        ),
    },
    "06.3": {
        "no prueba": wrong(lambda new_cache: None, says="no prueba nada"),
        "siempre falla": wrong(lambda new: [][test_cache(new)]),
        "solo una vez": wrong(lambda new: test_cache(new, sizes=(1,), back=0)),
        "bits": wrong(lambda new: test_cache(new, near=1e-9), says="margen"),
    },
    "06.4": {
        "número": wrong(3, APART, says="texto"),
        "la misma": wrong(SAME, SAME),
        "al revés": wrong(APART, SAME),
    },
    "06.5": {
        "caché nueva": wrong(
            lambda m, i, c, k: next_scores(m, i, make_cache(m), [])
        ),
        "probabilidades": wrong(
            lambda *a: next_scores(*a).softmax(-1), says="no son los buenos"
        ),
    },
    "06.6": LOOPS
    | {
        "más lejos": wrong(loop_at(3), says="posición"),
        "posición fija": wrong(lambda m, i, n, c: loop_at(-1)(m, i, 1, c) * n),
    },
    "06.7": LAYERS,
    "06.8": LAYERS | {"escondido": wrong(hidden_room(), says="al crecer")},
    "06.9": LOOPS,
    "06.10": LOOPS,
    "06.11": {
        "una fila": wrong(
            lambda m, i, k, c: m(i[:1], past_key_values=c).logits[:, -1],
            says="forma",
        ),
        "ids": wrong(lambda *a: padded()(*a).argmax(-1), says="forma"),
        "posiciones seguidas, sin máscara en el lote": wrong(
            lambda m, i, k, c: m(i, use_cache=False).logits[:, -1]
        ),
    },
}
