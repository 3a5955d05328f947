"""Unidad 02."""

import torch
from transformers import AutoModelForCausalLM

from tokenatoken.checks.unit02 import (
    SHAPES,
    _attention,
    _fit,
    _layer,
    _sdpa,
    _settled,
    _settles,
    _test,
)

from . import wrong


def builds(config, budget):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return budget // sum(p.numel() for p in model.parameters())


MUTANTS = {
    "02.1": {
        "falta una": wrong(
            {e: s for e, s in SHAPES.items() if e != "C[0]"}, says="siete"
        ),
        "números": wrong(SHAPES | {"C[0]": 6}, says="lista de enteros"),
        "en texto": wrong(SHAPES | {"C[0]": "2, 3"}, says="lista de enteros"),
        "otra": wrong(SHAPES | {"C[0]": [9, 9]}, says="dimensión por"),
        "con tensores": wrong(list(SHAPES.values()), says="diccionario"),
    },
    "02.2": {
        "con decimales": wrong(lambda c, b: _fit()(c, b) / 1, says="entero"),
        "al doble": wrong(lambda c, b: 2 * _fit()(c, b), says="aparte"),
        "construye el modelo": wrong(builds, says="a mano"),
    },
    "02.3": {
        "devuelve": wrong(
            lambda model: model(torch.ones(1, 5).long()) is None, says="assert"
        ),
        "no la llama": wrong(lambda model: True, says="no prueba nada"),
        "rechaza todo": wrong(
            lambda model: torch.testing.assert_close(1, 2), says="millonésima"
        ),
        "con el elegido": wrong(
            _test(rows=lambda gap, p: gap[:p].argmax(-1).float(), least=96),
            says="Cambia un token",
        ),
    },
    "02.4": {
        "la de la biblioteca": wrong(_sdpa, says="a mano"),
        "sin la primera": wrong(
            lambda *given: _attention()(*given).roll(1, 2), says="fila a fila"
        ),
        "sin lote": wrong(
            lambda *given: _attention()(*given)[0], says="forma"
        ),
    },
    "02.5": {
        "con coma": wrong(
            lambda *case: float(_settled(*case)), "", says="un entero"
        ),
        "la mitad": wrong(
            lambda *case: _settled(*case) // 2, "", says="desde el final"
        ),
        "en el sitio": wrong(
            lambda m, ids: ids.zero_().sum(), "", says="copia"
        ),
        "un número": wrong(_settles(), 7, says="un texto"),
        "en inglés": wrong(
            _settles(), "Tell me a story about my", says="inglés"
        ),
        "sin chino": wrong(
            _settles(),
            "El libro que estoy leyendo trata de",
            says="en la capa 8",
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
