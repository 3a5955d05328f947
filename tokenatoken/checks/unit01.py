"""Corrección del laboratorio 01 · Tokens."""

import tempfile
import unicodedata
from functools import cache
from pathlib import Path

from ..model import load_tokenizer
from ..tokens import encode
from . import Hint, Pending, as_int, call, exercise, expect
from .bench import LOGS, PARAGRAPH, log_ids

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
    "Cierra con <|im_end|> y ya",
    "",
)
# Cada texto, con su precio por millón. El segundo cambia de tokens si se lee
# línea a línea o se le quita el salto final.
COST_TEXTS = (
    ("Me desperté tarde y el asado ya estaba frío.\n", 2.5),
    ("Uno.\n\n\n    Dos, tres.\n\nFin\n", 0.4),
    ("El pingüino pidió un café — ¡doble! 🤖\r\nY se fue.\n", 10),
    ("otorrinolaringólogos " * 99, 3.0),
    ("", 1.0),
)
SPACE_WORDS = (
    ["🤖", "París", "Código", "ñandú", "de", "Ingeniero", "azúcar"],
    ["Buenos", "Aires", "mate", "asado", "haiku", "Programación"],
    ["la", "Madrid", "la", "Madrid"],
    [],
)
MERGES = [
    (97, 97),
    (256, 97),
    (98, 256),
    (195, 177),
    (99, 108),
    (260, 97),
    (261, 118),
    (97, 32),
]
BPE_TEXTS = (
    "aaaa baa aaab",
    "la clavó aaa un clavito",
    "  La clava ",
    "ñandú 🤖",
    "baaaa",
    "",
    "\x00é",
)


@cache
def _tokenizer(name="qwen2.5-coder-0.5b"):
    return load_tokenizer(name)


def _count(text: str) -> int:
    return len(encode(_tokenizer(), text))


@exercise("01.1", success="¡Correcto! 16 tokens, y la vuelta es exacta.")
def chat_prompt(chatml, there_and_back):
    """`chatml(str) -> str` y `there_and_back(str) -> str`."""
    for message in (HAIKU, "  Hola \n", "¿Qué es «<» en C?\nEn una línea"):
        ours = call(chatml, message)
        expect(isinstance(ours, str), "chatml tiene que devolver un texto.")
        good = (
            f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"
        )
        expect(ours == good, _prompt_hint(ours, message))
    for text in ROUND_TRIP:
        back = call(there_and_back, text)
        expect(
            isinstance(back, str),
            f"there_and_back devuelve {type(back).__name__} y tiene que "
            "devolver un texto: después de codificar, decodifica.",
        )
        expect(
            back == text,
            f"La vuelta de {text!r} da {back!r}. ¿Se añade o se salta algún "
            "token especial, o se pierde un espacio al decodificar?",
        )
    loose = "cafe\u0301"
    expect(
        call(there_and_back, loose) == unicodedata.normalize("NFC", loose),
        "Con «e» y tilde suelta (U+0301) este tokenizador no devuelve el "
        "texto de partida, sino «é» en un solo carácter. Tu función devuelve "
        "otra cosa: ¿de verdad pasa por los ids?",
    )


def _prompt_hint(ours: str, message: str) -> str:
    if message not in ours:
        return (
            "El mensaje no aparece tal cual, con sus espacios, dentro del "
            "prompt. ¿Usas el argumento, sin recortarlo?"
        )
    starts, ends = ours.count("<|im_start|>"), ours.count("<|im_end|>")
    if starts != 2:
        return (
            f"Cuento {starts} marcas <|im_start|>; hay dos turnos: el de la "
            "persona y el que el modelo va a escribir."
        )
    if ends != 1:
        return (
            "Solo el turno de la persona se cierra con <|im_end|>; el del "
            f"modelo queda abierto para que siga él. Tú cierras {ends}."
        )
    if not ours.startswith("<|im_start|>user\n"):
        return (
            "El primer turno tiene que empezar por la marca, el papel de la "
            "persona y un salto de línea. Imprime repr() de tu texto y mira "
            "el principio."
        )
    if not ours.endswith("assistant\n"):
        return (
            "El prompt termina con el papel del modelo y un salto de línea. "
            "Imprime repr() de tu texto y mira el final."
        )
    return (
        "Las marcas están, pero sobra o falta algún espacio o salto de línea. "
        "Imprime repr(chatml('Hola')) y compáralo carácter a carácter con la "
        "plantilla de la unidad."
    )


@exercise("01.2")
def cost(estimate_cost):
    """`estimate_cost(path, price_per_million) -> (tokens, cost)`."""
    with tempfile.TemporaryDirectory() as folder:
        for i, (text, price) in enumerate(COST_TEXTS):
            path = Path(folder, f"texto{i}.txt")
            path.write_bytes(text.encode("utf-8"))
            answer = call(estimate_cost, path, price)
            expect(
                isinstance(answer, tuple | list) and len(answer) == 2,
                "Devuelve dos valores: (número de tokens, coste).",
            )
            if any(value is ... for value in answer):
                raise Pending
            n = as_int(
                answer[0],
                f"El primer valor es {type(answer[0]).__name__} y tiene que "
                "ser un entero: cuántos tokens hay. Después va el coste.",
            )
            # en modo texto, Python convierte \r\n en \n: las dos valen
            good = {_count(text), _count(text.replace("\r\n", "\n"))}
            expect(n in good, _count_hint(n, text, max(good)))
            _check_price(answer[1], n, price)


def _check_price(paid, n: int, price: float) -> None:
    try:
        paid = float(paid) if not isinstance(paid, str) else None
    except (TypeError, ValueError):
        paid = None
    expect(paid is not None, "El segundo valor, el coste, debe ser un número.")
    good = n * price / 1e6
    if abs(paid - good) <= 1e-9 * max(1, good):
        return
    said = f"Con {n} tokens a {price} por millón, tu coste es {paid}. "
    if n and abs(paid - n * price / 1e3) < 1e-6:
        raise Hint(said + "Eso es el precio por cada mil.")
    if n and abs(paid - n * price) < 1e-6:
        raise Hint(said + "¿Has dividido por el millón?")
    raise Hint(
        said + "Revisa la cuenta: usa el precio que llega y no redondees."
    )


def _count_hint(n: int, text: str, good: int) -> str:
    if n == len(text.split()):
        return "Has contado palabras. El precio va por tokens."
    if n in (len(text), len(text.encode())):
        return "Has contado caracteres o bytes, no tokens."
    if n in (len(text) // 4, round(len(text) / 4)):
        return (
            "Caracteres entre cuatro es una regla para el inglés. Aquí se "
            "pide la cuenta exacta del tokenizador."
        )
    return (
        f"En un archivo que empieza por {text[:30]!r} cuento {good} tokens y "
        f"tú {n}. ¿Lo lees como UTF-8, entero y sin recortar, y lo codificas "
        "de una vez con el tokenizador de la primera celda?"
    )


@exercise("01.3", success="¡Correcto! Letras y tokens son medidas distintas.")
def words(one, five):
    """Dos palabras del párrafo: una de 1 token y otra de 5 o más."""
    letters = "".join(c if c.isalpha() else " " for c in PARAGRAPH)
    inside = set(letters.split())
    for word in (one, five):
        expect(
            isinstance(word, str),
            f"{word!r} no es un texto: escribe la palabra entre comillas.",
        )
        expect(
            word in inside,
            f"«{word}» no es una palabra del párrafo, escrita tal cual: sin "
            "espacios ni signos, y con las mismas mayúsculas y tildes.",
        )
    help_text = "Recorre las palabras con un bucle y ordénalas por su número de tokens."
    expect(
        _count(one) == 1,
        f"«{one}» tiene {_count(one)} tokens y hacía falta 1. {help_text}",
    )
    expect(
        _count(five) >= 5,
        f"«{five}» no llega a 5 tokens: tiene {_count(five)}. {help_text}",
    )


@exercise(
    "01.4", success="¡Correcto! El espacio de delante es parte del token."
)
def space(change_with_space):
    """`change_with_space(words) -> list[str]`: las que cambian de recuento."""
    for sample in SPACE_WORDS:
        answer = call(change_with_space, list(sample))
        expect(isinstance(answer, list), "Devuelve una lista de palabras.")
        expect(
            all(isinstance(w, str) and w in sample for w in answer),
            "En tu lista hay algo que no es una de las palabras recibidas. "
            "Devuélvelas tal como llegan, sin nada más.",
        )
        good = [w for w in sample if _count(w) != _count(" " + w)]
        missing = [w for w in good if w not in answer]
        extra = [w for w in answer if w not in good]
        if missing:
            w = missing[0]
            raise Hint(
                f"Falta «{w}»: {_count(w)} tokens sola y {_count(' ' + w)} "
                "con un espacio delante. ¿Cuentas las que suben y las que "
                "bajan?"
            )
        if extra:
            raise Hint(
                f"Sobra «{extra[0]}»: su número de tokens no cambia, aunque "
                "sus ids sí. Compara cuántos hay, no cuáles son."
            )
        expect(
            answer == good,
            "Están las que son, pero no en el orden ni las veces en que "
            "llegan. ¿Cuántas veces recorres la lista de entrada?",
        )


@exercise(
    "01.5",
    success="¡Correcto! Tu BPE codifica como la biblioteca, byte a byte.",
)
def bpe(bpe_encode, bpe_decode):
    """`bpe_encode(text, merges) -> ids` y `bpe_decode(ids, merges) -> text`.

    `merges`: pares de ids en el orden en que se aprendieron; el par i crea el
    id 256 + i. La verdad es el BPE de la biblioteca tokenizers.
    """
    merges = list(MERGES)
    whole = "bpe_encode tiene que devolver una lista de enteros."
    smallest = call(bpe_encode, "aa", [(97, 97)])
    expect(
        not hasattr(smallest, "__len__")
        or len(smallest) != 1
        or smallest[0] == 256,
        f"Con una sola fusión, «aa» te da {smallest}. La fusión número i, "
        "contando desde 0, crea el id 256 + i.",
    )
    for text in BPE_TEXTS:
        ids = call(bpe_encode, text, merges)
        expect(
            not isinstance(ids, str | bytes) and hasattr(ids, "__iter__"),
            whole,
        )
        ids = [as_int(i, whole) for i in ids]
        good = _library_bpe(text)
        expect(ids == good, _bpe_hint(ids, good, text))
        _untouched(merges, "bpe_encode")
    for text in (*BPE_TEXTS, *ROUND_TRIP):
        back = call(bpe_decode, _library_bpe(text), merges)
        _untouched(merges, "bpe_decode")
        expect(
            isinstance(back, str),
            f"bpe_decode devuelve {type(back).__name__} y se pide un texto: "
            "junta los bytes y decodifícalos como UTF-8.",
        )
        expect(
            back == text,
            f"Al decodificar los ids de {text!r} sale {back!r}. Deshaz cada "
            "id en su par hasta llegar a bytes, y convierte en texto todos "
            "los bytes juntos al final: uno solo puede no ser un carácter.",
        )


def _untouched(merges, name: str) -> None:
    expect(
        merges == MERGES,
        f"{name} cambia la lista de fusiones que recibe, y la siguiente "
        "llamada la encuentra rota. Recórrela sin vaciarla.",
    )


def _bpe_hint(ids: list[int], good: list[int], text: str) -> str:
    base = list(text.encode("utf-8"))
    odd = [ord(c) for c in text if ord(c) > 127]
    if any(code in ids and code not in base for code in odd):
        return (
            "Partes de caracteres (ord), o de otra codificación. Se parte de "
            "los bytes UTF-8 del texto."
        )
    if ids == base:
        return (
            f"En {text!r} no has fusionado nada. ¿Recorres la lista de "
            "fusiones y guardas el resultado de cada una para la siguiente?"
        )
    if len(ids) > len(good):
        return (
            f"En {text!r} quedan pares sin fusionar. ¿Aplicas las fusiones en "
            "el orden de la lista, y cada una a todas sus apariciones?"
        )
    return (
        f"En {text!r} esperaba {good} y sale {ids}. El orden manda: primero "
        "la fusión que antes se aprendió, en todo el texto y de izquierda a "
        "derecha; luego la siguiente. Elegir siempre la pieza más larga no es "
        "lo mismo."
    )


def _library_bpe(text: str) -> list[int]:
    """El mismo BPE, hecho por la biblioteca tokenizers."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    names = [chr(0x100 + b) for b in range(256)]  # un carácter por byte
    for left, right in MERGES:
        names.append(names[left] + names[right])
    vocab = {name: i for i, name in enumerate(names)}
    pairs = [(names[left], names[right]) for left, right in MERGES]
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=pairs))
    return tokenizer.encode("".join(names[b] for b in text.encode())).ids


@exercise(
    "01.6",
    success="¡Caso resuelto! Sin su tokenizador, unos ids no dicen nada.",
)
def detective(culprits):
    """`{"A": tokenizador, "B": …, "C": …}`."""
    expect(
        isinstance(culprits, dict),
        "Responde con un diccionario {'A': …, 'B': …, 'C': …}.",
    )
    if any(v is ... or v is None for v in culprits.values()):
        raise Pending
    names = sorted(LOGS.values())
    for log in LOGS:
        expect(
            log in culprits,
            f"Falta el registro {log}: pon un tokenizador a cada uno.",
        )
        name = culprits[log]
        expect(
            isinstance(name, str) and name in names,
            f"El registro {log} no lleva el nombre de un sospechoso. Escribe "
            f"uno de estos, entre comillas: {', '.join(names)}.",
        )
    wrong = [log for log in LOGS if culprits[log] != LOGS[log]]
    if wrong:
        log = wrong[0]
        seen = _tokenizer(culprits[log]).decode(log_ids(log)[:4])
        raise Hint(
            f"El registro {log} no es de {culprits[log]}: sus primeros ids, "
            f"con ese vocabulario, dicen {seen!r}. Decodifica cada registro "
            "con los tres y elige el que se lee."
        )
