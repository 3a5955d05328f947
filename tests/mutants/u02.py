"""Unidad 02."""

import torch
from transformers import AutoModelForCausalLM

from tokenatoken.checks.unit02 import (
    _attention,
    _changed,
    _count,
    _last,
    _layer,
    _sdpa,
    _shapes,
)

from . import wrong


def in_place(model, ids, position, new_id):
    before = model(ids).logits.clone()
    ids[0, position] = new_id
    gap = (before - model(ids).logits).abs().amax(-1)[0]
    return (gap > 1e-3).nonzero().flatten().tolist()


def with_itself(model, ids, position, new_id):
    other = ids
    other[0, position] = new_id
    gap = (model(ids).logits - model(other).logits).abs().amax(-1)[0]
    return (gap > 1e-3).nonzero().flatten().tolist()


def builds(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())


MUTANTS = {
    "02.1": {
        "tensores": wrong(
            lambda t: [torch.zeros(s[:2]) for s in _shapes(t)],
            says="list(tensor.shape)",
        ),
        "tres formas": wrong(lambda t: _shapes(t)[:3], says="cuatro"),
        "de más": wrong(
            lambda t: [[*s[:-1], s[-1] + 1] for s in _shapes(t)],
            says="los ids",
        ),
    },
    "02.2": {
        "en millones": wrong(lambda c: _count()(c) / 1e6, says="entero"),
        "sin qkv ni normas": wrong(_count(bias=0, norms=0), says="por partes"),
        "construye el modelo": wrong(builds, says="a mano"),
    },
    "02.3": {
        "en el sitio": wrong(in_place, says="copia"),
        "consigo mismo": wrong(with_itself, says="copia"),
        "cuenta": wrong(lambda *a: len(_changed(*a)), says="lista"),
        "booleanos": wrong(
            lambda m, ids, p, new: [
                i in _changed(m, ids, p, new) for i in range(ids.shape[1])
            ],
            says="índices",
        ),
        "con coma": wrong(
            lambda *a: [float(i) for i in _changed(*a)], says="enteros"
        ),
        "por el elegido": wrong(
            lambda m, ids, p, new: (
                (
                    m(ids).logits.argmax(-1)
                    != m(
                        torch.cat(
                            [
                                ids[:, :p],
                                torch.tensor([[new]]),
                                ids[:, p + 1 :],
                            ],
                            1,
                        )
                    ).logits.argmax(-1)
                )[0]
                .nonzero()
                .flatten()
                .tolist()
            ),
            says="todas las posiciones",
        ),
    },
    "02.4": {
        "la de la biblioteca": wrong(_sdpa, says="a mano"),
        "devuelve pesos": wrong(_attention(weights=True), says="forma"),
        "puntuaciones": wrong(
            lambda q, k, v: q @ k[:, :1].transpose(-1, -2), says="forma"
        ),
        "sin la primera": wrong(
            lambda q, k, v: _attention()(q, k, v).roll(1, 2), says="primera"
        ),
        "sin lote": wrong(
            lambda q, k, v: _attention()(q, k, v)[0], says="forma"
        ),
    },
    "02.5": {
        "con dimensión de más": wrong(
            lambda m, ids: _last(m, ids)[:, None], says="forma"
        ),
        "sin lote": wrong(lambda m, ids: _last(m, ids)[0], says="forma"),
        "al doble": wrong(lambda m, ids: 2 * _last(m, ids), says="all_logits"),
        "dos veces": wrong(
            lambda m, ids: (_last(m, ids) + _last(m, ids)) / 2, says="2 pos"
        ),
    },
    "02.6": {
        "la del modelo": wrong(
            lambda m, ids: m(ids, output_hidden_states=True).hidden_states[1],
            says="a mano",
        ),
        "su módulo": wrong(
            lambda m, ids: m.model.layers[0](
                m.get_input_embeddings()(ids),
                position_embeddings=m.model.rotary_emb(
                    m.get_input_embeddings()(ids),
                    torch.arange(ids.shape[1])[None],
                ),
            ),
            says="a mano",
        ),
        "al doble": wrong(lambda m, i: 2 * _layer()(m, i), says="Deshaz"),
        "otra forma": wrong(lambda m, i: _layer()(m, i)[0], says="forma"),
    },
}
