"""Mirar un texto como lo ve el modelo: ids, bytes y etiquetas legibles.

No sabe nada de modelos ni de dibujos; solo necesita un tokenizador de
transformers (BPE de bytes o WordPiece).
"""

from functools import cache

_VISIBLE = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥"}


@cache
def byte_alphabet() -> dict[str, int]:
    """Carácter → byte en el alfabeto de los BPE de bytes (GPT-2, 2019).

    Cada uno de los 256 bytes se escribe con un carácter imprimible: los
    visibles se quedan como están y los otros 68 (el espacio entre ellos, que
    pasa a «Ġ») toman los caracteres que siguen al 255.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    table = {chr(b): b for b in printable}
    return table | {chr(256 + i): b for i, b in enumerate(others)}


def is_byte_level(tokenizer) -> bool:
    """True si el tokenizador es un BPE de bytes (Qwen, SmolLM2, GPT-2…)."""
    return "ByteLevel" in type(tokenizer.backend_tokenizer.decoder).__name__


def token_bytes(tokenizer, token_id: int) -> bytes:
    """Los bytes exactos que escribe un token de un BPE de bytes.

    Lanza `IndexError` si el id no es de ningún token del tokenizador.
    """
    added = tokenizer.added_tokens_decoder.get(int(token_id))
    if added is not None:
        return added.content.encode()
    token = tokenizer.convert_ids_to_tokens(int(token_id))
    if token is None:
        raise IndexError(
            f"El id {token_id} no es de ningún token: el tokenizador tiene "
            f"{len(tokenizer)}, del 0 al {len(tokenizer) - 1}."
        )
    return bytes(byte_alphabet()[c] for c in token)


def visible(text: str) -> str:
    """El mismo texto con espacios (·), saltos (⏎) y tabuladores (⇥) a la vista."""
    return "".join(_VISIBLE.get(c, c) for c in text)


def token_label(tokenizer, token_id: int) -> str:
    """Cómo enseñar un token: su texto con los espacios a la vista o, si sus
    bytes no forman texto por sí solos, esos bytes en hexadecimal."""
    if not is_byte_level(tokenizer):
        return tokenizer.convert_ids_to_tokens(int(token_id))
    raw = token_bytes(tokenizer, token_id)
    try:
        return visible(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return f"<{raw.hex(' ').upper()}>"


def encode(tokenizer, text: str) -> list[int]:
    """Ids del texto, sin añadir los tokens especiales de cada modelo."""
    return tokenizer.encode(text, add_special_tokens=False)
