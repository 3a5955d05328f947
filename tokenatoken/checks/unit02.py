"""Corrección del laboratorio 02 · Un forward pass por dentro.

Casi todo se comprueba con modelos diminutos de pesos al azar, de formas que
el alumno no ha visto: así una respuesta copiada del cuaderno no vale.
"""

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from ..forward import all_logits
from ..model import load_model
from ..tokens import encode
from . import as_int, call, exercise, expect
from .bench import random_ids, tiny_config, tiny_model

PROMPTS = ("Hola", "La capital de Argentina es", "¿Y 🤖?\nSí.")


def _tensor(value, shape, name: str) -> torch.Tensor:
    expect(
        isinstance(value, torch.Tensor),
        f"{name} devuelve {type(value).__name__} y se pide un tensor.",
    )
    expect(
        list(value.shape) == list(shape),
        f"{name} devuelve forma {list(value.shape)} y hacía falta "
        f"{list(shape)}.",
    )
    expect(
        bool(value.isfinite().all()),
        f"En lo que devuelve {name} hay NaN o infinitos.",
    )
    return value.detach().float()


def _close(ours, good) -> bool:
    return torch.allclose(ours.cpu(), good.cpu().float(), atol=1e-3, rtol=1e-3)


@exercise("02.1", success="¡Correcto! Solo n cambia de un texto a otro.")
def shapes(shapes_of):
    """`shapes_of(text)`: formas de ids, embeddings, hidden y logits."""
    model, tokenizer = load_model(device="cpu")
    d, rows = model.config.hidden_size, model.config.vocab_size
    for text in PROMPTS:
        answer = call(shapes_of, text)
        expect(
            isinstance(answer, list | tuple) and len(answer) == 4,
            "Devuelve cuatro formas: ids, embeddings, salida de las capas y "
            "logits, en ese orden.",
        )
        n = len(encode(tokenizer, text))
        good = ([1, n], [1, n, d], [1, n, d], [1, n, rows])
        names = (
            "los ids",
            "los embeddings",
            "la salida de las capas",
            "los logits",
        )
        for ours, right, name in zip(answer, good, names):
            plain = "Cada forma, como lista de enteros: list(tensor.shape)."
            expect(isinstance(ours, list | tuple), plain)
            ours = [as_int(i, plain) for i in ours]
            expect(
                ours == right,
                f"Con {text!r}, la forma de {name} no es {ours}. ¿Falta la "
                "dimensión del lote, te quedas solo con una posición, o "
                "cuentas tokens donde hay filas de la matriz?",
            )


@exercise("02.2", success="¡Correcto! Ni un peso de más ni de menos.")
def parameters(count_parameters):
    """`count_parameters(config)`: pesos de un Qwen2 con esa configuración."""
    cases = (
        (tiny_config(), "pequeña"),
        (
            tiny_config(tie_word_embeddings=True),
            "con las matrices compartidas",
        ),
        (tiny_config(num_key_value_heads=6), "con una k y una v por cabeza"),
        (
            tiny_config(num_key_value_heads=1, num_hidden_layers=5),
            "de 5 capas",
        ),
        (load_model(device="cpu")[0].config, "del modelo del curso"),
    )
    for config, name in cases:
        with torch.device("meta"):
            shell = AutoModelForCausalLM.from_config(config)
        right = sum(p.numel() for p in shell.parameters())
        ours = as_int(
            call(count_parameters, config),
            "count_parameters tiene que devolver un número entero.",
        )
        gap = ours - right
        expect(
            gap == 0,
            f"En una configuración {name} te desvías en {gap:+d} pesos. "
            "Recorre print(model): ¿están los sesgos de q, k y v, las tres "
            "matrices del MLP, las dos normas de cada capa y la final, y "
            "lm_head solo si no se comparte?",
        )


class _SeesEverything(torch.nn.Module):
    """Un «modelo» sin máscara. Al subir un id, en cada posición baja un solo
    logit, el 7, y en cada una con distinta fuerza: unas mucho, otras menos
    de 1e-3. Así solo acierta quien mira el mayor cambio, en valor absoluto."""

    FORCE = (0.05, 5e-4, 1e-5, 2e-2, 1e-6, 3e-4)

    def __init__(self):
        super().__init__()
        self.config = tiny_config()

    def forward(self, input_ids=None, **_):
        n = input_ids.shape[1]
        logits = torch.zeros(1, n, 97)
        total = input_ids.sum().float()
        logits[0, :, 7] = -total * torch.tensor(self.FORCE[:n])
        return CausalLMOutput(logits=logits)


@exercise(
    "02.3",
    success="¡Correcto! Con máscara, el pasado no se entera del futuro.",
)
def causality(changed_positions):
    """`changed_positions(model, ids, position, new_id)`: lista de posiciones
    cuyos logits cambian al poner `new_id` en `position`."""
    open_model = _SeesEverything()
    for model, ids, position, new_id in (
        (tiny_model(), random_ids(9), 4, 11),
        (tiny_model(), random_ids(7, 1), 6, 12),
        (tiny_model(1), random_ids(5, 2), 0, 13),
        (open_model, torch.tensor([[3, 1, 4, 1, 5, 9]]), 3, 21),
    ):
        kept = ids.clone()
        with torch.no_grad():
            other = ids.clone()
            other[0, position] = new_id
            change = model(ids).logits - model(other).logits
        right = (change.abs().amax(-1)[0] > 1e-3).nonzero().flatten().tolist()
        answer = call(changed_positions, model, ids, position, new_id)
        expect(
            torch.equal(ids, kept),
            "Tu función cambia los ids que recibe. Trabaja sobre una copia "
            "(ids.clone()), o la comparación será de algo consigo mismo.",
        )
        expect(
            isinstance(answer, list | tuple | set),
            "Devuelve una lista de posiciones (números enteros).",
        )
        expect(
            not any(isinstance(i, bool) for i in answer),
            "Has devuelto sí o no por posición; se piden los índices.",
        )
        whole = "Las posiciones tienen que ser números enteros."
        answer = sorted(as_int(i, whole) for i in answer)
        if model is open_model:
            hint = (
                "(Este modelo de prueba no tiene máscara, y los cambios van "
                "hacia abajo y en un solo logit: mira el mayor, en valor "
                "absoluto, sobre todo el vocabulario.)"
            )
        else:
            hint = (
                "¿Comparas los logits de todas las posiciones, de antes y de "
                "después?"
            )
        expect(
            answer == right,
            f"Al cambiar la posición {position} de {ids.shape[1]}, cambian los "
            f"logits de {right} y tú dices {answer}. {hint}",
        )


@exercise("02.4", success="¡Correcto! Igual que la de la biblioteca.")
def attention(causal_attention):
    """`causal_attention(q, k, v)`: `[1, h, n, s]` con GQA y máscara."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    cases = (
        (1, 1, 4, 8, 1),
        (4, 4, 6, 16, 1),
        (6, 2, 5, 8, 1),
        (2, 2, 5, 8, 30),
    )
    for heads, groups, n, size, loud in cases:
        q = loud * draw(1, heads, n, size)
        k, v = draw(1, groups, n, size), draw(1, groups, n, size)
        ours = call(causal_attention, q.clone(), k.clone(), v.clone())
        expect(
            not isinstance(ours, torch.Tensor) or not ours.isnan().any(),
            "Salen NaN: hay filas con todo tapado. ¿Tu máscara tapa también "
            "la diagonal? Cada posición se ve a sí misma.",
        )
        ours = _tensor(ours, q.shape, "causal_attention")
        repeat = heads // groups
        k2, v2 = (t.repeat_interleave(repeat, 1) for t in (k, v))
        right = F.scaled_dot_product_attention(q, k2, v2, is_causal=True)
        if _close(ours, right):
            continue
        for hint, wrong in (
            (
                "No hay máscara: cada posición está mirando también a las que "
                "vienen después.",
                F.scaled_dot_product_attention(q, k2, v2),
            ),
            (
                "Falta dividir por la raíz del tamaño de la cabeza, antes del "
                "softmax.",
                F.scaled_dot_product_attention(
                    q, k2, v2, is_causal=True, scale=1.0
                ),
            ),
            (
                "Repartes mal las cabezas: las 3 primeras de q comparten la "
                "primera de k y v, no se turnan.",
                F.scaled_dot_product_attention(
                    q,
                    k.repeat(1, repeat, 1, 1),
                    v.repeat(1, repeat, 1, 1),
                    is_causal=True,
                ),
            ),
        ):
            expect(not _close(ours, wrong), hint)
        expect(
            False,
            f"Con {heads} cabezas y n = {n} no coincide con la de la "
            "biblioteca. Mira que cada fila de pesos sume 1, que lo tapado sea "
            "−∞ (no un número pequeño) y antes del softmax, y que la raíz sea "
            "la del tamaño de estas cabezas.",
        )


@exercise("02.5", success="¡Correcto! Y lm_head solo ha visto una posición.")
def last_only(last_logits):
    """`last_logits(model, ids) -> [1, V]`, sin calcular los demás."""
    width = tiny_model().config.hidden_size
    for model, n in (
        (tiny_model(), 6),
        (tiny_model(1), 1),
        (tiny_model(), 12),
    ):
        ids = random_ids(n, n)
        right = all_logits(model, ids)[:, -1]
        with torch.no_grad():
            hidden = model.model(ids).last_hidden_state[:, -1]
            twice = model.lm_head(model.model.norm(hidden))
        seen = []
        hook = model.lm_head.register_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.append(inputs[0].numel())
        )
        try:
            ours = call(last_logits, model, ids)
        finally:
            hook.remove()
        ours = _tensor(ours, right.shape, "last_logits")
        expect(
            n == 1 or not _close(ours, all_logits(model, ids[:, -1:])[:, -1]),
            "Parece que el modelo solo ha leído el último token. Se recortan "
            "los vectores, no los ids.",
        )
        expect(
            not _close(ours, twice),
            "Has pasado dos veces por la norma final: last_hidden_state ya la "
            "trae.",
        )
        expect(
            _close(ours, right),
            "Los números no son los de la última posición. ¿Pasas por la "
            "norma final, una sola vez, y son logits y no probabilidades?",
        )
        expect(
            bool(seen),
            "El resultado está bien, pero no ha pasado por model.lm_head. "
            "Llámalo como módulo: es quien cuenta las posiciones.",
        )
        expect(
            sum(seen) == width,
            f"El resultado está bien, pero lm_head ha recibido "
            f"{sum(seen) // width} posiciones en lugar de una. Recorta los "
            "vectores antes de dárselos.",
        )


@exercise("02.6", success="¡Cazado! Tu capa vuelve a ser la del modelo.")
def bug(first_layer):
    """`first_layer(model, ids)`: salida de la capa 0, `[1, n, d]`."""
    for seed, n in ((0, 5), (1, 8), (0, 1)):
        model, ids = tiny_model(seed), random_ids(n, seed)
        with torch.inference_mode():
            states = model(ids, output_hidden_states=True).hidden_states
        ours = call(first_layer, model, ids)
        ours = _tensor(ours, states[1].shape, "first_layer")
        expect(
            _close(ours, states[1]),
            "Todavía no coincide con la capa del modelo. Compara paso a paso "
            "con sus módulos, en orden: layer.input_layernorm(x), las "
            "proyecciones de layer.self_attn, "
            "layer.post_attention_layernorm(x1), "
            "layer.mlp(h1). Si todos coinciden, el fallo está entre ellos: en "
            "lo que se suma, y a qué.",
        )
