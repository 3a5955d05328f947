"""Los mismos bits, vaya la fila sola o acompañada.

Cada suma larga (producto, norma, atención) se hace siempre con la misma forma,
y con formas más cómodas solo si aquí se ve que dan los mismos bits. No sabe
nada de tokens ni de bucles. La idea es de Horace He, «Defeating Nondeterminism
in LLM Inference» (Thinking Machines Lab, 2025).
"""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager

import torch
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from . import CourseError
from .sampling import is_whole

SIZES = 1, 2, 4, 8, 16, 32, 64, 128, 256  # si dan los mismos bits
NAME = "batch_invariant"
ACTIVE = {}  # id de la configuración → lo que usa su atención


class Groups:
    """Aplica una operación a sus filas en grupos de tamaño conocido.

    `tile`: el tamaño que manda. Los demás de `SIZES` se usan si, con unas
    filas de prueba y en esta máquina, dan los mismos bits que él.
    """

    def __init__(self, tile: int):
        self.tile = tile
        self.known = {}  # lo que ya se probó

    def __call__(self, op: Callable, rows, kind: tuple) -> torch.Tensor:
        """`op` sobre `rows` (`[m, K]`), con ceros donde falten filas: `[m, N]`.
        `kind` distingue las operaciones que van por la misma rutina."""
        done = []
        while len(rows):
            size = self.size(op, rows, kind)
            part, rows = rows[:size], rows[size:]
            full = pad(part, (0, 0, 0, size - len(part)))  # [size, K]
            done.append(op(full)[: len(part)])
        return torch.cat(done)

    def size(self, op, rows, kind) -> int:
        """El menor que abarque todas las filas o, si no hay, el mayor."""
        larger = [size for size in self.sizes if size >= len(rows)]
        smaller = [size for size in self.sizes[::-1] if size < len(rows)]
        return next(
            size
            for size in larger + smaller
            if self.agrees(op, rows, kind, size)
        )

    @property
    def sizes(self) -> list[int]:
        return sorted({self.tile, *SIZES})

    def agrees(self, op, rows, kind, size: int) -> bool:
        """Si grupos de `size` dan los mismos bits que los de `tile`."""
        key = kind, rows.shape[1], rows.dtype
        if key not in self.known:
            self.known[key] = _probe(op, rows, self.tile, kind)
        probe, truth = self.known[key]
        if (key, size) not in self.known:
            times = -(-size // self.tile)
            many = probe.repeat(times, 1)[:size]  # [size, K]
            same = torch.equal(op(many), truth.repeat(times, 1)[:size])
            self.known[key, size] = same
        return self.known[key, size]


def _probe(op, like, tile: int, kind) -> tuple[torch.Tensor, torch.Tensor]:
    """Filas al azar, `[tile, K]`, y lo que da `op` con ellas; o `ValueError` si
    depende del lugar de la fila."""
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(tile, like.shape[1], generator=random).to(like)
    result = op(rows)
    if not torch.equal(op(rows.roll(1, 0)), result.roll(1, 0)):
        raise CourseError(
            f"En esta máquina, {kind[0]} en {like.dtype} da otros bits según "
            f"el lugar de la fila, aun con grupos de {tile}. Prueba otro tile, "
            "o carga el modelo en fp32: load_model(dtype=torch.float32)."
        )
    return rows, result


def attend(rows, keys, values, seen, chunk: int, product) -> torch.Tensor:
    """Atención de unas filas, sumada en trozos de `chunk` posiciones, en orden.

    `rows` `[m, d]`, ya escaladas; `keys` y `values` `[n, d]`, con n múltiplo
    de `chunk`; `seen` `[m, n]`, lo que ve cada fila. `product(a, b)` es a @ b.
    El máximo no redondea, y lo que no se ve suma ceros: ni el número de trozos
    ni el relleno cambian un bit.
    """
    scores = [product(rows, k.T) for k in keys.split(chunk)]  # [m, chunk]
    lowest = torch.finfo(rows.dtype).min
    scores = torch.cat(scores, -1).masked_fill(~seen, lowest)  # [m, n]
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    values = pad(values, (0, 1), value=1.0)  # una columna que cuenta pesos
    total = 0
    for w, v in zip(weights.split(chunk, -1), values.split(chunk)):
        total = total + product(w, v)  # [m, d + 1]
    return total[:, :-1] / total[:, -1:]


@contextmanager
def batch_invariant(
    model, tile: int = 4, chunk: int = 64, packed: bool = False
):
    """Mientras dura, lo que el modelo calcula para una fila tiene los mismos
    bits sola o en un lote, de una vez o por trozos, con caché o sin ella, y
    con relleno a la izquierda (si se pasan las posiciones, como hace
    `forward`). Al salir, el modelo queda como estaba.

    `tile`: filas por producto; `chunk`: posiciones por trozo de atención. Otros
    valores dan otros bits. `packed`: reordena los pesos una vez para oneDNN
    (CPU x86; ocupa otro tanto) y suele ser más rápido que sin invarianza. Vale
    para una máquina y unas versiones. Lanza `ValueError` si el modelo tiene
    sumas que no pasan por aquí (expertos, estado recurrente) o la precisión
    no se puede fijar.
    """
    _check(model, tile, chunk)
    groups = Groups(tile)
    with ExitStack() as stack:
        for module in model.modules():
            if _is_covered(module):
                op = _operation(module, packed)
                stack.enter_context(_fixed(module, op, groups))
        stack.enter_context(_attention_by_chunks(model, groups, chunk))
        yield model


@contextmanager
def _fixed(module, op, groups):
    """Cambia el `forward` de un módulo por el mismo, en grupos."""
    shape = tuple(module.weight.shape) if hasattr(module, "weight") else ()
    kind = type(module).__name__, shape

    def forward(x):  # [..., K]
        rows = groups(op, x.reshape(-1, x.shape[-1]), kind)
        return rows.view(*x.shape[:-1], -1)

    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _operation(module, packed: bool) -> Callable:
    if not (packed and isinstance(module, torch.nn.Linear)):
        return module.forward
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach())
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        raise CourseError(
            "packed=True reordena los pesos para oneDNN, y este torch, este "
            "dispositivo o esta precisión no lo ofrecen. Usa packed=False."
        ) from error
    linear = torch.ops.mkldnn._linear_pointwise
    return lambda rows: linear(rows, weight, module.bias, "none", [], "")


@contextmanager
def _attention_by_chunks(model, groups, chunk: int):
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _whole_mask)
    keys = {id(model.config), id(model.config.get_text_config())}
    before = {key: ACTIVE.get(key) for key in keys}
    implementation = model.config._attn_implementation
    try:
        ACTIVE.update(dict.fromkeys(keys, (groups, chunk)))
        model.set_attn_implementation(NAME)
        yield
    finally:
        model.set_attn_implementation(implementation)
        for key, value in before.items():
            ACTIVE[key] = value
            if value is None:
                del ACTIVE[key]


def _whole_mask(*arguments, **options):
    return sdpa_mask(*arguments, **options | {"allow_is_causal_skip": False})


def _attention(module, query, key, value, mask, scaling=None, **options):
    """Lo que llama transformers. `query` `[B, H, m, d]`, `key` y `value`
    `[B, G, n, d]`, `mask` `[B, 1, m, n]` → `[B, m, H, d]`."""
    if any(options.get(name) is not None for name in ("softcap", "s_aux")):
        raise CourseError(
            f"{type(module).__name__} retoca sus pesos (softcap, sinks), y esta "
            "atención no lo hace. Usa un Llama, Qwen, Phi-3 o Gemma 3."
        )
    groups, chunk = ACTIVE[id(module.config)]
    b, h, m, d = query.shape
    g, n = key.shape[1:3]
    scaling = d**-0.5 if scaling is None else scaling
    query = (query * scaling).reshape(b, g, h // g * m, d)
    last = options["position_ids"][:, -1].expand(b).tolist()

    def product(rows, matrix):  # [m, K], [K, N]
        kind = "la atención", tuple(matrix.shape), matrix.stride()
        return groups(lambda rows: rows @ matrix, rows, kind)

    done = []
    for row, place in enumerate(last):
        move = place + 1 - n  # a la izquierda: que el primer token sea el 0
        end = -(place + 1) % chunk
        where = mask[min(row, len(mask) - 1), 0]
        seen = pad(where, (move, end)).repeat(h // g, 1)
        for keys, values, rows in zip(key[row], value[row], query[row]):
            keys = pad(keys, (0, 0, move, end))
            values = pad(values, (0, 0, move, end))
            done.append(attend(rows, keys, values, seen, chunk, product))
    return torch.stack(done).view(b, h, m, -1).transpose(1, 2), None


def _is_covered(module) -> bool:
    name = type(module).__name__
    return isinstance(module, torch.nn.Linear) or name.endswith("Norm")


def _check(model, tile, chunk) -> None:
    for name, value in {"tile": tile, "chunk": chunk}.items():
        if not is_whole(value) or value < 1:
            raise CourseError(f"{name}={value!r} no vale: un entero, 1 o más.")
    if not hasattr(model, "set_attn_implementation"):
        raise CourseError(
            f"Esperaba un modelo y he recibido {type(model).__name__}. "
            "load_model devuelve dos cosas: model, tokenizer = load_model()."
        )
    if model.training:
        raise CourseError(
            "El modelo está en modo de entrenamiento, y el dropout es azar. "
            "Antes, model.eval()."
        )
    places = {p.device for p in model.parameters()}
    if len(places) > 1 or torch.device("meta") in places:
        raise CourseError(
            f"Los pesos están en {', '.join(sorted(map(str, places)))}: tienen "
            "que estar cargados y en un solo dispositivo."
        )
    _check_pieces(model)


def _check_pieces(model) -> None:
    """Lanza `ValueError` si hay pesos fuera de productos, normas y tablas."""
    for name, module in model.named_modules():
        known = _is_covered(module) or isinstance(module, torch.nn.Embedding)
        own = list(module.parameters(recurse=False))
        if own and not known:
            raise CourseError(
                f"«{name}» ({type(module).__name__}) tiene pesos y no sé fijar "
                "el orden de sus sumas. Usa un Llama, Qwen, Phi-3 o Gemma 3."
            )
