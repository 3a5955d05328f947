"""Corrección del laboratorio 01 · Tokens."""

import tempfile
import unicodedata
from functools import cache
from pathlib import Path

from ..runtime import load_tokenizer
from ..tokens import encode
from . import Hint, Pendiente, call, exercise, expect

HAIKU = "Escribe un haiku sobre programación"
ROUND_TRIP = (
    "La capital de Francia es París.",
    "¡Ñandú, pingüino y cigüeña!",
    "def saluda(nombre):\n\treturn f'Hola, {nombre}'\n",
    "  dos espacios delante y detrás  ",
    "I’m vs I'm",
    "🤖 + 🧉 = 👩‍💻",
    "8211 = 357 × 23",
    "línea 1\r\nlínea 2\n\n\nlínea 5",
    "日本語, ελληνικά, עברית",
    "",
)
COST_TEXTS = (
    "Me desperté tarde y el asado ya estaba frío.\n",
    "El pingüino pidió un café — ¡doble! 🤖\r\nY se fue.\n",
    "muuuu " * 200,
    "",
)
PARAGRAPH = (
    "El otorrinolaringólogo desayunaba mate con bizcochos mientras el murciélago "
    "del tejado, equilibrista somnoliento, desentrañaba jeroglíficos. Nadie en el "
    "barrio sabía por qué, pero los viernes el cielo olía a lluvia y a pan."
)
SPACE_WORDS = (
    ["Ingeniero", "París", "Código", "🤖", "de", "ñandú", "azúcar"],
    ["Buenos", "Aires", "mate", "Mate", "asado", "haiku", "Programación"],
    ["la", "Madrid"],
    [],
)
LOGS = {"A": "smollm2", "B": "qwen2.5-coder-0.5b", "C": "minilm"}


@cache
def _tokenizer(name="qwen2.5-coder-0.5b"):
    return load_tokenizer(name)


def _count(text: str) -> int:
    return len(encode(_tokenizer(), text))


@exercise("01.1", "¡Correcto! 16 tokens, y la vuelta es exacta.")
def chat_prompt(chatml, there_and_back):
    """`chatml(str) -> str` y `there_and_back(str) -> str`."""
    for message in (HAIKU, "Hola", "¿Qué es «<» en C?\nResponde en una línea"):
        ours = call(chatml, message)
        expect(
            isinstance(ours, str), "chatml tiene que devolver un texto (str)."
        )
        good = (
            f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"
        )
        if ours != good:
            raise Hint(_prompt_hint(ours, message))
    expect(_count(call(chatml, HAIKU)) == 16, "No salen 16 tokens.")
    for text in ROUND_TRIP:
        back = call(there_and_back, text)
        expect(
            back == text,
            f"La vuelta de {text!r} da {back!r}. ¿Se cuela algún token especial, "
            "o se pierde un espacio al decodificar?",
        )
    loose = "cafe\u0301"
    expect(
        call(there_and_back, loose) == unicodedata.normalize("NFC", loose),
        "Con «e» + tilde suelta (U+0301) este tokenizador no devuelve el texto de "
        "partida, sino «é» en un solo carácter. Tu función devuelve otra cosa: "
        "¿de verdad pasa por los ids?",
    )


def _prompt_hint(ours: str, message: str) -> str:
    if message not in ours:
        return (
            "El mensaje no aparece tal cual dentro del prompt. ¿Usas el "
            "argumento, o un texto fijo?"
        )
    if ours.count("<|im_start|>") != 2:
        return (
            f"Cuento {ours.count('<|im_start|>')} marcas <|im_start|>; tiene que "
            "haber dos turnos: el de la persona y el que el modelo va a escribir."
        )
    if ours.count("<|im_end|>") != 1:
        return (
            "Solo el turno de la persona se cierra con <|im_end|>: el del modelo "
            "queda abierto para que siga él. ¿Cuántos cierras tú?"
        )
    if not ours.endswith("assistant\n"):
        return (
            "El prompt termina justo después de «assistant» y un salto de línea. "
            "Imprime repr() de tu texto y mira el final."
        )
    return (
        "Las marcas están, pero sobra o falta algún espacio o salto de línea. "
        "Imprime repr(chatml('Hola')) y compáralo carácter a carácter con la "
        "plantilla del cuaderno."
    )


@exercise("01.2")
def cost(estimate_cost):
    """`estimate_cost(path, price_per_million) -> (tokens, cost)`."""
    with tempfile.TemporaryDirectory() as folder:
        for i, text in enumerate(COST_TEXTS):
            path = Path(folder, f"texto{i}.txt")
            path.write_bytes(text.encode("utf-8"))
            answer = call(estimate_cost, path, 2.5)
            expect(
                isinstance(answer, tuple) and len(answer) == 2,
                "Devuelve dos valores: (número de tokens, coste).",
            )
            n, price = answer
            # al abrir en modo texto, Python convierte \r\n en \n: las dos valen
            good = {_count(text), _count(text.replace("\r\n", "\n"))}
            expect(n in good, _count_hint(n, text, min(good)))
            expect(
                abs(float(price) - n * 2.5 / 1e6) < 1e-9,
                f"Con {n} tokens a 2,5 por millón el coste no puede ser {price}. "
                "El precio es por cada millón de tokens, no por cada mil.",
            )


def _count_hint(n, text: str, good: int) -> str:
    if n == len(text.split()):
        return (
            "Has contado palabras. El precio va por tokens: ¿quién los cuenta?"
        )
    if n in (len(text), len(text.encode())):
        return "Has contado caracteres o bytes, no tokens."
    if n == len(text) // 4 or n == round(len(text) / 4):
        return (
            "Caracteres entre cuatro es una regla para el inglés. Aquí se pide la "
            "cuenta exacta del tokenizador."
        )
    return (
        f"En un fichero de prueba cuento {good} tokens y tú {n}. ¿Lo lees como "
        "UTF-8 y lo codificas entero, de una vez?"
    )


@exercise(
    "01.3", "¡Correcto! El tamaño en letras y en tokens son cosas distintas."
)
def words(one, five):
    """Dos palabras del párrafo: una de 1 token y otra de 5 o más."""
    inside = set("".join(c if c.isalpha() else " " for c in PARAGRAPH).split())
    for word in (one, five):
        expect(
            isinstance(word, str), f"{word!r} no es un texto entre comillas."
        )
        expect(
            word in inside,
            f"«{word}» no es una palabra del párrafo, escrita tal cual: sin "
            "espacios ni signos, y con las mismas mayúsculas y tildes.",
        )
    for word, ok, wanted in (
        (one, _count(one) == 1, "1 token"),
        (five, _count(five) >= 5, "5 tokens o más"),
    ):
        expect(
            ok,
            f"«{word}» tiene {_count(word)} y hacía falta {wanted}. Recorre las "
            "palabras con un bucle y ordénalas por su número de tokens.",
        )


@exercise("01.4", "¡Correcto! El espacio de delante es parte del token.")
def space(change_with_space):
    """`change_with_space(words) -> list[str]`: las que cambian de recuento."""
    for sample in SPACE_WORDS:
        answer = call(change_with_space, list(sample))
        expect(isinstance(answer, list), "Devuelve una lista de palabras.")
        good = [w for w in sample if _count(w) != _count(" " + w)]
        missing = [w for w in good if w not in answer]
        extra = [w for w in answer if w not in good]
        if missing:
            w = missing[0]
            raise Hint(
                f"Falta «{w}»: {_count(w)} tokens sola y {_count(' ' + w)} con un "
                "espacio delante. ¿Cuentas las que suben y las que bajan?"
            )
        if extra:
            raise Hint(
                f"Sobra «{extra[0]}»: su número de tokens no cambia, aunque sus ids "
                "sí. Compara cuántos hay, no cuáles son."
            )
        expect(
            answer == good, "Están todas: déjalas en el orden en que llegan."
        )


@exercise(
    "01.5",
    "¡Correcto! Tu BPE codifica como la biblioteca y no pierde un byte.",
)
def bpe(bpe_encode, bpe_decode):
    """`bpe_encode(text, merges) -> ids` y `bpe_decode(ids, merges) -> text`.

    `merges`: pares de ids en el orden en que se aprendieron; el par i crea el
    id 256 + i. La verdad es el BPE de la biblioteca tokenizers.
    """
    merges = [(97, 97), (256, 97), (98, 256), (195, 177), (99, 108), (260, 97)]
    texts = (
        "aaaa baa aaab",
        "clavó un clavito",
        "ñandú 🤖",
        "baaaa",
        "",
        "\x00é",
    )
    for text in texts:
        ids = call(bpe_encode, text, list(merges))
        try:
            ids = [int(i) for i in ids]
        except (TypeError, ValueError):
            raise Hint(
                "bpe_encode tiene que devolver una lista de enteros."
            ) from None
        good = _library_bpe(text, merges)
        if ids != good:
            raise Hint(_bpe_hint(ids, good, text))
    for text in (*texts, *ROUND_TRIP):
        back = call(bpe_decode, _library_bpe(text, merges), list(merges))
        if isinstance(back, bytes):
            raise Hint(
                "bpe_decode devuelve bytes; conviértelos en texto (UTF-8)."
            )
        expect(
            back == text,
            f"Al decodificar los ids de {text!r} sale {back!r}. Deshaz cada id en "
            "su par hasta llegar a bytes, y convierte en texto todos los bytes "
            "juntos al final: uno solo puede no ser un carácter.",
        )


def _bpe_hint(ids: list[int], good: list[int], text: str) -> str:
    base = list(text.encode("utf-8"))
    if ids == base and good != base:
        return f"En {text!r} no has fusionado nada. ¿Recorres la lista de fusiones?"
    if any(ord(c) in ids for c in text if ord(c) > 255):
        return "Partes de caracteres (ord). Se parte de bytes: text.encode('utf-8')."
    if len(ids) > len(good):
        return (
            f"En {text!r} quedan pares sin fusionar. Cada fusión se aplica a todas "
            "sus apariciones, no solo a la primera."
        )
    return (
        f"En {text!r} esperaba {good} y sale {ids}. El orden manda: primero la "
        "fusión que antes se aprendió, en todo el texto y de izquierda a derecha; "
        "luego la siguiente. Coger siempre la pieza más larga no es lo mismo."
    )


def _library_bpe(text: str, merges) -> list[int]:
    """El mismo BPE, hecho por la biblioteca tokenizers."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    names = [chr(0x100 + b) for b in range(256)]  # un carácter por byte
    for left, right in merges:
        names.append(names[left] + names[right])
    vocab = {name: i for i, name in enumerate(names)}
    pairs = [(names[left], names[right]) for left, right in merges]
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=pairs))
    return tokenizer.encode(
        "".join(names[b] for b in text.encode("utf-8"))
    ).ids


@exercise(
    "01.6", "¡Caso resuelto! Unos ids solo significan algo con su tokenizador."
)
def detective(culprits):
    """`{"A": tokenizador, "B": …, "C": …}`."""
    expect(
        isinstance(culprits, dict),
        "Responde con un diccionario {'A': …, 'B': …}.",
    )
    if any(v is ... for v in culprits.values()):
        raise Pendiente
    names = sorted(LOGS.values())
    for log in LOGS:
        expect(
            log in culprits,
            f"Falta el registro {log}: pon un tokenizador a cada uno de los tres.",
        )
        expect(
            culprits[log] in names,
            f"«{culprits[log]}» no es ninguno de los sospechosos: {', '.join(names)}.",
        )
    wrong = [log for log in LOGS if culprits[log] != LOGS[log]]
    if wrong:
        log = wrong[0]
        seen = _tokenizer(culprits[log]).decode(log_ids(log)[:4])
        raise Hint(
            f"El registro {log} no es de {culprits[log]}: sus primeros ids, con ese "
            f"vocabulario, dicen {seen!r}. Decodifica cada registro con los tres y "
            "quédate con el que se lee."
        )


def log_ids(log: str) -> list[int]:
    """Los ids del registro «A», «B» o «C» del ejercicio 6."""
    phrase = "No quiero acordarme de tu cumpleaños"
    return encode(_tokenizer(LOGS[log]), phrase)
