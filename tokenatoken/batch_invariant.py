"""Los mismos bits, vaya la fila sola o acompañada.

Cada suma larga (producto, norma, atención) se hace siempre con la misma forma,
y con formas más cómodas solo si aquí se ve que dan los mismos bits. No sabe
nada de tokens ni de bucles. La idea es de Horace He, «Defeating Nondeterminism
in LLM Inference» (Thinking Machines Lab, 2025).
"""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch.nn.functional import linear, pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.activations import ACT2CLS
from transformers.masking_utils import sdpa_mask

from . import CourseError
from .sampling import is_whole

SIZES = 1, 2, 4, 8, 16, 32, 64, 128, 256  # si dan los mismos bits
# Sumas en las que dos órdenes distintos no coinciden: en 16 bits el redondeo
# los tapa casi siempre.
ENOUGH, ENOUGH_HALF = 1 << 6, 1 << 14
ALIGNED = 16  # números de 4 bytes en 64, lo que lee una instrucción
PIECE, PIECE_STEP = 1 << 14, 64  # números: menos de los que reparte torch
NAME = "batch_invariant"
ACTIVATIONS = tuple(
    kind if isinstance(kind, type) else kind[0] for kind in ACT2CLS.values()
)
ACTIVE = {}  # id de la configuración → lo que usa su atención


class Groups:
    """Aplica una operación a sus filas en grupos de tamaño conocido.

    `tile`: el tamaño que manda. Los demás de `SIZES` se usan si, con unas
    filas de prueba y en esta máquina, dan los mismos bits que él.
    """

    def __init__(self, tile: int):
        self.tile = tile
        self.known = {}  # lo que ya se probó

    def __call__(self, op: Callable, rows, kind: tuple, trial=None):
        """`op` sobre `rows` (`[m, K]`), con ceros donde falten filas: `[m, N]`.
        `kind` distingue las operaciones que van por la misma rutina. `trial`
        da otra de la misma, para probar, si la de verdad puede llevar ceros:
        sumar ceros no distingue una rutina de otra."""
        done = []
        while len(rows):
            size = self.size(trial or op, rows, kind)
            part, rows = rows[:size], rows[size:]
            full = pad(part, (0, 0, 0, size - len(part)))  # [size, K]
            done.append(op(full)[: len(part)])
        return torch.cat(done)

    def size(self, op, rows, kind) -> int:
        """El menor que abarque todas las filas o, si no hay, el mayor."""
        if rows.dtype != torch.float32:  # ahí una prueba corta no convence
            self.agrees(op, rows, kind, self.tile)
            return self.tile
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
        key = kind, rows.shape[1], rows.dtype, size
        if key not in self.known:
            self.known[key] = self.compare(op, rows, kind, size)
        return self.known[key]

    def compare(self, op, like, kind, size: int) -> bool:
        """Con filas al azar, `[tile, K]`, hasta `ENOUGH` sumas distintas.
        `ValueError` si lo que da una depende de su lugar en el grupo."""
        random = torch.Generator().manual_seed(0)
        times, sums, same = -(-size // self.tile), 0, True
        enough = ENOUGH if like.dtype == torch.float32 else ENOUGH_HALF
        while sums < enough and same:
            rows = torch.randn(self.tile, like.shape[1], generator=random)
            rows = rows.to(like)
            truth = op(rows)  # [tile, N]
            if not torch.equal(op(rows.roll(1, 0)), truth.roll(1, 0)):
                raise CourseError(
                    f"En esta máquina, {kind[0]} en {like.dtype} da otros "
                    "bits según el lugar de la fila, aun con grupos de "
                    f"{self.tile}. Prueba tile=4 y chunk=64 y, si ya lo son, "
                    "carga el modelo en fp32: load_model(dtype=torch.float32)."
                )
            many = rows.repeat(times, 1)[:size]
            same = torch.equal(op(many), truth.repeat(times, 1)[:size])
            sums += truth.numel() if truth.shape != rows.shape else len(rows)
        return same


def attend(rows, keys, values, seen, chunk: int, product) -> torch.Tensor:
    """Atención de unas filas, sumada en trozos de `chunk` posiciones, en orden.

    `rows` `[m, d]`, ya escaladas; `keys` y `values` `[n, d]`, con n múltiplo
    de `chunk`; `seen` `[m, n]`, lo que ve cada fila. `product(a, b)` es a @ b.T.
    El máximo no redondea, y lo que no se ve suma ceros: ni el número de trozos
    ni el relleno cambian un bit.
    """
    scores = [product(rows, k) for k in keys.split(chunk)]  # [m, chunk]
    lowest = torch.finfo(rows.dtype).min
    scores = torch.cat(scores, -1).masked_fill(~seen, lowest)  # [m, n]
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    values = pad(values, (0, 1), value=1.0)  # una columna que cuenta pesos
    total = 0
    for w, v in zip(weights.split(chunk, -1), values.split(chunk)):
        total = total + product(w, v.T.contiguous())  # [m, d + 1]
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
    (CPU x86; ocupa otro tanto) y suele ser más rápido que sin invarianza.

    Vale para una máquina y unas versiones, y en 16 bits, para un número de
    hilos. Usa dos como mucho: con más, hay CPU que reparten las filas de un
    producto pequeño, y dejan de salir iguales (visto con 16). Lanza
    `ValueError` si el modelo tiene sumas que no pasan por aquí (expertos,
    estado recurrente) o la precisión no se puede fijar.
    """
    _check(model, tile, chunk)
    groups = Groups(tile)
    with ExitStack() as stack:
        stack.enter_context(_few_threads())
        for module in model.modules():
            if _is_covered(module):
                stack.enter_context(_fixed(module, packed, groups))
            elif isinstance(module, ACTIVATIONS):
                stack.enter_context(_replaced(module, _by_pieces(module)))
        stack.enter_context(_attention_by_chunks(model, groups, chunk))
        yield model


@contextmanager
def _few_threads(most: int = 2):
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, most))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fixed(module, packed: bool, groups):
    """Un producto o una norma, por grupos de filas."""
    op = _operation(module, packed)
    shape = tuple(module.weight.shape) if hasattr(module, "weight") else ()
    kind = type(module).__name__, shape

    def forward(x):  # [..., K]
        rows = groups(op, x.reshape(-1, x.shape[-1]), kind)
        return rows.view(*x.shape[:-1], -1)

    return _replaced(module, forward)


def _by_pieces(module) -> Callable:
    """Una activación, en trozos sin resto y de un solo hilo: en AVX, lo que
    sobra de una instrucción va por otra rutina, con otros bits."""
    op = module.forward

    def forward(x):
        numbers = pad(x.reshape(-1), (0, -x.numel() % PIECE_STEP))
        done = [op(piece) for piece in numbers.split(PIECE)]
        return torch.cat(done)[: x.numel()].view(x.shape)

    return forward


@contextmanager
def _replaced(module, forward: Callable):
    """Cambia el `forward` de un módulo, y al final lo deja como estaba."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _operation(module, packed: bool) -> Callable:
    """Lo que hace el módulo con `[m, K]`, con medidas múltiplos de 16."""
    if not isinstance(module, torch.nn.Linear):
        return module.forward
    odd = any(side % ALIGNED for side in module.weight.shape)
    if not (packed or odd):
        return module.forward
    weight, bias = _aligned(module.weight.detach()), module.bias
    if bias is not None:
        bias = pad(bias.detach(), (0, -len(bias) % ALIGNED))
    if packed:
        product = _reordered(weight, bias)
    else:
        product = partial(linear, weight=weight, bias=bias)
    return lambda rows: product(_wide(rows))[:, : module.out_features]


def _aligned(matrix) -> torch.Tensor:
    """`[N, K]` con ceros hasta múltiplos de 16: con otras medidas, la rutina
    puede repartirse según los hilos o según el lugar de la fila."""
    high, wide = (-side % ALIGNED for side in matrix.shape)
    return pad(matrix, (0, wide, 0, high))


def _wide(rows) -> torch.Tensor:
    return pad(rows, (0, -rows.shape[-1] % ALIGNED))


def _reordered(weight, bias) -> Callable:
    """El mismo producto, con los pesos en el orden que prefiere oneDNN."""
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(weight)
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        raise CourseError(
            "packed=True reordena los pesos para oneDNN, y este torch, este "
            "dispositivo o esta precisión no lo ofrecen. Usa packed=False."
        ) from error
    product = torch.ops.mkldnn._linear_pointwise
    return lambda rows: product(rows, weight, bias, "none", [], "")


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
        if model.config._attn_implementation != NAME:
            raise CourseError(
                f"{type(model).__name__} no deja cambiar su atención. Usa un "
                "Llama, Qwen, Phi-3 o Gemma 3."
            )
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

    def product(rows, matrix):  # [m, K], [N, K] → [m, N]
        full = _aligned(matrix)

        def op(rows):
            return linear(rows, full)

        def trial(rows):
            random = torch.Generator().manual_seed(1)
            other = torch.randn(full.shape, generator=random)
            return linear(rows, other.to(full))

        kind = "la atención", full.shape
        return groups(op, _wide(rows), kind, trial)[:, : len(matrix)]

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
    if chunk % ALIGNED:
        raise CourseError(
            f"chunk={chunk} no vale: tiene que ser múltiplo de {ALIGNED}, para "
            "que cada trozo empiece donde la memoria está alineada."
        )
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
