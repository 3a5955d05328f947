"""Los mismos números con menos bits: redondear a una rejilla, y lo que cuesta.

`int8`, `int4` y `sixteen` son productos para `FastModel`. No sabe nada de
modelos ni de texto: recibe matrices y logits.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch

from . import CourseError
from .sampling import is_whole


def quantize(x, bits=8, group=None, symmetric=False):
    """`x` `[..., K]` → enteros `[..., K/g, g]`, escala y cero `[..., K/g, 1]`.

    Una escala por cada `group` números seguidos (sin decirlo, por fila).
    `symmetric`: el 0 en medio, de −(2^(bits−1) − 1) a su opuesto; si no, de 0 a
    2^bits − 1 entre el menor y el mayor (y el 0, que se guarda exacto). Quien
    redondea al más cercano se equivoca, como mucho, en media escala.
    """
    check_bits(x, bits, group)
    x = x.unflatten(-1, (-1, group or x.shape[-1]))  # [..., K/g, g]
    if symmetric:
        top = 2 ** (bits - 1) - 1
        scale = x.abs().amax(-1, keepdim=True) / top
        zero, low = torch.zeros_like(scale), -top
    else:
        top, low = 2**bits - 1, 0
        least = x.amin(-1, keepdim=True).clamp_max(0)
        most = x.amax(-1, keepdim=True).clamp_min(0)
        scale = (most - least) / top
        zero = (-least / scale.clamp_min(1e-30)).round()
    scale = scale.clamp_min(1e-30)  # todo ceros: cualquiera vale
    return (x / scale + zero).round().clamp(low, top), scale, zero


def dequantize(q, scale, zero):
    """Enteros y escalas de `quantize` → `[..., K]`."""
    return ((q - zero) * scale).flatten(-2)


def check_bits(x, bits, group) -> None:
    if not is_whole(bits) or not 2 <= bits <= 8:
        raise CourseError(f"bits={bits!r} no vale: un entero de 2 a 8.")
    if not x.is_floating_point():
        raise CourseError(
            f"Se cuantizan números con decimales, y estos son {x.dtype}: "
            "¿los has cuantizado ya?"
        )
    k = x.shape[-1]
    if group is not None and (not is_whole(group) or group < 1 or k % group):
        raise CourseError(
            f"group={group!r} no vale: tiene que dividir a los {k} números de "
            "cada fila. Con None, una escala por fila."
        )


def fitted(x, bits, group):
    """Los números que quedan tras `quantize`, `[..., K]`, si antes se recortan
    los extremos de cada grupo lo que menos error cuadrático deje."""
    parts = x.unflatten(-1, (-1, group))  # [..., K/g, g]
    low, high = parts.amin(-1, keepdim=True), parts.amax(-1, keepdim=True)
    best, least = parts, torch.full_like(low, torch.inf)
    for keep in (1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7):
        near = parts.clamp(keep * low, keep * high)
        back = dequantize(*quantize(near, bits)).view_as(parts)
        error = (back - parts).square().sum(-1, keepdim=True)
        best = torch.where(error < least, back, best)
        least = torch.minimum(error, least)
    return best.flatten(-2)


def sixteen(weight, bias=None) -> Callable:
    """Producto con pesos en bf16, reordenados si se puede; entra y sale fp32."""
    from .fast import packed

    if bias is not None:
        bias = bias.bfloat16()
    product = packed(weight.bfloat16(), bias)
    return lambda x: product(x.bfloat16()).to(x.dtype)


def int8(weight, bias=None, piece=2432) -> Callable:
    """Producto de enteros de 8 bits: los pesos con una escala por fila; la
    entrada, con una por token; y, en las filas largas, una por trozo de
    `piece` números. Solo en CPU; `ValueError` si no."""
    if weight.device.type != "cpu":
        raise CourseError(
            "int8 usa operadores de CPU, y los pesos están en "
            f'{weight.device.type}: load_model(device="cpu").'
        )
    first, *others = weight.split(piece, 1)
    parts = [integers(first, bias), *map(integers, others)]
    if not others:
        return parts[0]
    return lambda x: sum(p(c) for p, c in zip(parts, x.split(piece, -1)))


def integers(weight, bias=None) -> Callable:
    """El producto de un trozo: con una fila, en una sola llamada."""
    q, scale = rows_to_int8(weight, widest())  # [N, K], [N, 1]
    one = one_row(q, scale, bias)

    def product(x):  # [..., K]
        if one is not None and x.numel() == x.shape[-1]:
            return one(x)
        small, each = rows_to_int8(x.flatten(0, -2), 127)
        y = torch._int_mm(small, q.T) * each * scale.T  # [m, N]
        y = y if bias is None else y + bias
        return y.view(*x.shape[:-1], -1)

    return product


def rows_to_int8(x, top):
    """Enteros de −top a top `[m, K]`, y la escala de cada fila `[m, 1]`."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-30) / top
    return (x / scale).round().to(torch.int8), scale


@cache
def widest() -> int:
    """127 o, en las CPU cuyos productos de 8 bits se desbordan, 63."""
    full = torch.full((8, 64), 127, dtype=torch.int8)
    exact = (torch._int_mm(full, full.T) == 64 * 127**2).all()
    return 127 if exact else 63


def one_row(q, scale, bias) -> Callable | None:
    """El producto para una sola fila, todo en una llamada; o None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # crear estos tensores caduca
            zeros = torch.zeros(len(q), dtype=torch.long)
            matrix = torch._make_per_channel_quantized_tensor(
                q, scale[:, 0].double(), zeros, 0
            )
        held = torch.ops.quantized.linear_prepack(matrix, bias)
        product = torch.ops.quantized.linear_dynamic
        product(torch.zeros(1, q.shape[1]), held, False)
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        warnings.warn(
            f"sin torch.ops.quantized.linear_dynamic ({type(error).__name__}): "
            "int8 usa torch._int_mm, algo más lento con una fila.",
            stacklevel=3,
        )
        return None
    return lambda x: product(x, held, False)


def int4(weight, bias=None, group=32) -> Callable:
    """Producto con pesos de 4 bits en grupos de `group` y entrada en bf16, que
    es como torch sabe hacerlo en CPU; entra y sale fp32."""
    check_bits(weight, 4, group)
    q, scale, zero = quantize(weight, 4, group)  # [N, K/g, g]
    middle = (8 - zero) * scale  # el operador cuenta desde el 8
    scales = torch.cat([scale, middle], -1).transpose(0, 1)  # [K/g, N, 2]
    scales = scales.contiguous().bfloat16()
    held = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
        q.flatten(-2).int(), 1
    )

    def product(x):
        rows = x.flatten(0, -2).bfloat16()
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows, held, group, scales
        )
        y = y.to(x.dtype) if bias is None else y.to(x.dtype) + bias
        return y.view(*x.shape[:-1], -1)

    return product
