"""Corrección del laboratorio 01 · Tokens."""

import re
import tempfile
from bisect import bisect_right
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from unicodedata import normalize

import torch

from ..tokens import byte_alphabet, encode
from .bench import LOGS, count_tokens, log_ids, tokenizer
from .kit import (
    ASSERTS,
    Part,
    Pending,
    as_int,
    call,
    exercise,
    expect,
    number,
    plain,
    put_to_test,
    returning,
    say,
    verdicts,
)

# 01.1


PATH = "Has contado los tokens de la ruta, y no los del archivo."


def _cost(function, text: str, price: float):
    """(cuántos tokens, precio por millón que sale de su cuenta)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "-".join(map(str, range(50))))  # una ruta larga
        path.write_bytes(text.encode("utf-8"))
        answer = call(function, path, price)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        "Devuelve dos valores: (número de tokens, coste).",
    )
    if any(value is ... for value in answer):
        raise Pending
    expect(answer[0] != count_tokens(str(path)), PATH)
    n = as_int(
        answer[0],
        f"El primer valor es {type(answer[0]).__name__} y tiene que ser un "
        "entero: cuántos tokens hay. Después va el coste.",
    )
    paid = number(answer[1], "El coste")
    # leído con los \r\n tal cual, también vale
    same = n == count_tokens(text)
    rate = paid / n * 1e6 if n else price + paid
    return count_tokens(_plain(text)) if same else n, rate


def _plain(text: str) -> str:
    """El texto como lo da Python al leerlo: los saltos, todos iguales."""
    return text.replace("\r\n", "\n")


def _bill(count=count_tokens, pay=lambda n, price: n * price, **way):
    """Una respuesta de 01.1: cómo lee, qué cuenta y cuánto paga."""

    def bill(path, price):
        n = count(Path(path).read_text(**{"encoding": "utf-8"} | way))
        return n, pay(n, price) / 1e6

    return bill


def _in_pieces(cut):
    return _bill(lambda text: sum(map(count_tokens, cut(text))))


def _bill_handle(path, price):
    with open(path, encoding="utf-8", newline="") as file:
        ids = tokenizer()(file.read()).input_ids
    return [torch.tensor(len(ids)), len(ids) / 1e6 * price]


exercise(
    "01.1",
    Part(
        [
            ("Me desperté tarde y el asado ya estaba frío.\n", 2.5),
            ("Uno.\n\n\n    Dos, tres.\n\nFin\n", 0.4),
            ("EL PINGÜINO pidió un café — ¡doble! 🤖\r\nY se fue.\n", 10),
            ("otorrinolaringólogos " * 99, 3.0),
            ("", 1.0),
        ],
        truth=lambda text, price: (count_tokens(_plain(text)), price),
        observe=_cost,
        said=lambda ours, right, text, price: say(
            "En un archivo que empieza por {0!r} cuentas {1} tokens (son "
            "{2}), y sale a {3:.6g} por millón (pedían {4}).",
            text[:20],
            ours[0],
            right[0],
            float(ours[1]),
            float(price),
        ),
        traps={
            "Has contado palabras, y el precio va por tokens.": _bill(
                lambda text: len(text.split())
            ),
            "Has contado caracteres, y el precio va por tokens.": [
                _bill(len),
                _bill(lambda text: len(text.encode())),
            ],
            "Caracteres entre cuatro es una regla para el inglés. Aquí se "
            "pide la cuenta exacta del tokenizador.": [
                _bill(lambda text: len(text) // 4),
                _bill(lambda text: round(len(text) / 4)),
            ],
            "Eso cuenta los campos de lo que devuelve el tokenizador "
            "(input_ids y attention_mask), y no los ids.": _bill(
                lambda text: len(tokenizer()(text))
            ),
            "Codificas línea a línea, y los saltos de línea se unen a lo que "
            "tienen al lado. Codifica el archivo de una vez.": [
                _in_pieces(str.splitlines),
                _in_pieces(lambda text: text.splitlines(True)),
            ],
            "Codificas a trozos, y en cada frontera se parte algún token. "
            "Codifica el archivo de una vez.": _in_pieces(
                lambda text: (
                    text[i : i + 1000] for i in range(0, len(text), 1000)
                )
            ),
            "Quitas el salto de línea del final, que también se paga.": [
                _bill(lambda text: count_tokens(text.rstrip("\n"))),
                _bill(lambda text: count_tokens(text.strip())),
            ],
            "Cuentas los tokens distintos, y se pagan todos.": _bill(
                lambda text: len(set(encode(tokenizer(), text)))
            ),
            "Has usado otro tokenizador: es el de la primera celda.": _bill(
                lambda text: len(encode(tokenizer("smollm2"), text))
            ),
            "No lo lees como UTF-8: pasa encoding='utf-8'.": _bill(
                encoding="latin-1"
            ),
            PATH: lambda path, price: (count_tokens(str(path)), price),
            "Ese precio es por cada mil, y se da por millón.": _bill(
                pay=lambda n, price: n * price * 1e3
            ),
            "No has dividido por el millón.": _bill(
                pay=lambda n, price: n * price * 1e6
            ),
            "Usas un precio fijo: usa el que llega.": [
                _bill(pay=lambda n, price: n),
                _bill(pay=lambda n, price: n * 2.5),
            ],
            "Redondeas, y un archivo corto cuesta menos que eso.": [
                _bill(pay=lambda n, price, d=d: round(n * price, d))
                for d in (-4, -2, 0)
            ],
            "Divides por el precio, y hay que multiplicar.": _bill(
                pay=lambda n, price: n / price
            ),
        },
        otherwise="Si la cuenta no es esa, mira cómo lees el archivo: UTF-8, "
        "entero y sin recortar. Si lo es, mira el coste.",
        rights=[_bill(), _bill_handle],
    ),
)

# 01.2


NOT_TEXTS = "Hacen falta dos textos, de cuatro caracteres o más."
EQUAL = "Son el mismo texto: cambia algo que se lea igual y no sea lo mismo."
SEEN = (
    "El tokenizador ve la diferencia. ¿Qué le hace al texto antes de "
    "cortarlo? Mira tokenizer.backend_tokenizer.normalizer."
)
NO_TOKEN = (
    "Hay ids que no son de ningún token, y decodificados no dicen nada: "
    "tienen que ser menores que len(tokenizer)."
)
ID_LIST = "another_way tiene que devolver una lista de ids, que son enteros."


def _twins(answer) -> bool:
    """Si son dos textos distintos con los mismos ids; si no, la pista."""
    if answer is ... or (isinstance(answer, tuple) and ... in answer):
        raise Pending
    both = isinstance(answer, tuple | list) and len(answer) == 2
    texts = both and all(isinstance(t, str) and len(t) > 3 for t in answer)
    expect(texts, NOT_TEXTS)
    one, two = (encode(tokenizer(), text) for text in answer)
    expect(answer[0] != answer[1], EQUAL)
    expect(one == two, f"Sus ids son {one[:5]}… y {two[:5]}… {SEEN}")
    return True


def _way(value, text) -> list:
    """[si son los ids de siempre, el texto que sale de esos ids]."""
    value = plain(value)
    expect(isinstance(value, list | tuple), ID_LIST)
    expect(
        all(i is not None for i in value),
        "Hay un None: ese token no está en la tabla.",
    )
    ids = [as_int(i, ID_LIST) for i in value]
    expect(all(0 <= i < len(tokenizer()) for i in ids), NO_TOKEN)
    return [ids == encode(tokenizer(), text), tokenizer().decode(ids)]


def byte_by_byte(text):
    letter = {byte: char for char, byte in byte_alphabet().items()}
    return tokenizer().convert_tokens_to_ids(
        [letter[b] for b in text.encode()]
    )


def ids_of(*parts) -> list[int]:
    """Los ids de cada trozo, codificado aparte."""
    return [i for part in parts for i in encode(tokenizer(), part)]


def _cut_somewhere(text):
    """Por donde cambie algo, o byte a byte."""
    ways = (ids_of(text[:k], text[k:]) for k in range(1, len(text)))
    found = (way for way in ways if way != ids_of(text))
    return torch.tensor(next(found, byte_by_byte(text)))


exercise(
    "01.2",
    Part(
        [()],
        truth=lambda: True,
        observe=_twins,
        traps={
            NOT_TEXTS: [("é", "e\u0301"), ("café", b"caf\xe9"), "café", 3],
            EQUAL: ("café", "caf\u00e9"),
            SEEN: [("casa", "Casa"), ("café", "cafe"), ("\ufb01jar", "fijar")],
        },
        rights=[("café", "cafe\u0301"), ["10 \u212b", "10 Å"]],
    ),
    Part(
        [
            ("sol sol",),
            ("¡Ñandú!",),
            ("  mañana",),
            ("cierra <|im_end|> y ya",),
            ("🤖 7",),
            ("é",),
        ],
        truth=lambda text: [False, text],
        read=_way,
        said=lambda ours, right, text: (
            f"Con {text!r}, das los ids de encode."
            if ours[0]
            else f"Con {text!r}, lo que das se decodifica como {ours[1]!r}."
        ),
        traps={
            "Esos son los de siempre. Busca un token que se pueda escribir "
            "con otros más cortos.": [
                ids_of,
                lambda text: ids_of(normalize("NFD", text)),
            ],
            "Codificas carácter a carácter, y alguno es ya un token entero. "
            "¿De qué está hecho un carácter?": lambda text: ids_of(*text),
            "Cortas por donde puede que ya hubiera una frontera entre tokens, "
            "o donde no hay nada que cortar.": [
                lambda text: ids_of(*re.split("( )", text)),
                lambda text: ids_of(text[:1], text[1:]),
                lambda text: ids_of(text[:-1], text[-1:]),
                lambda t: ids_of(t[: len(t) // 2], t[len(t) // 2 :]),
            ],
            "Los espacios van dentro de los tokens: al partir por ellos, se "
            "pierden.": [
                lambda text: ids_of(*text.split()),
                lambda text: ids_of(*text.split(" ")),
            ],
            "El valor de un byte no es su id en este vocabulario: mira qué "
            "id tiene el token que escribe ese byte.": [
                lambda text: [*text.encode()],
                lambda text: [*map(ord, text)],
            ],
            "Has añadido tokens que también se leen: tienen que decir lo "
            "mismo, ni más ni menos.": [
                lambda text: ids_of(text, "<|endoftext|>"),
                lambda text: ids_of(text, " "),
            ],
            "Se lee igual y no es lo mismo: la tilde vuelve suelta. Parte "
            "del texto como llega.": lambda text: byte_by_byte(
                normalize("NFD", text)
            ),
            NO_TOKEN: lambda text: [*ids_of(text), 151700],
            "Esos ids son de otro vocabulario: los lee el tokenizador de la "
            "primera celda.": lambda text: encode(tokenizer("smollm2"), text),
        },
        otherwise="Da otros ids que, decodificados todos juntos, den justo el "
        "texto. Prueba antes con uno de un solo carácter.",
        rights=[byte_by_byte, _cut_somewhere],
    ),
    success="¡Correcto! Ni cada texto tiene sus ids, ni cada texto unos solos.",
)


# 01.3


def cut(text, n, count=count_tokens):
    """El comienzo más largo que cuesta `n` o menos, según `count`."""
    fits = (i for i in range(len(text), 0, -1) if count(text[:i]) <= n)
    return text[: next(fits, 0)]


def _sizes(text) -> list[int]:
    return [count_tokens(text[:i]) for i in range(len(text) + 1)]


def _last_fit(text, n):
    return text[: max(i for i, size in enumerate(_sizes(text)) if size <= n)]


def _until_full(text, n, start=lambda text, n: ""):
    """Alarga mientras cabe: se detiene en el primero que no."""
    end = len(start(text, n))
    while end < len(text) and count_tokens(text[: end + 1]) <= n:
        end += 1
    return text[:end]


def _bisected(text, n):
    return text[: bisect_right(_sizes(text), n) - 1]


def _halved(text, n):
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = count_tokens(text[:middle]) <= n
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low]


def _first_ids(text, n, drop=""):
    return tokenizer().decode(encode(tokenizer(), text)[:n]).rstrip(drop)


_whole_ids = partial(_first_ids, drop="\ufffd")


def _by_words(text, n):
    words = text.split(" ")
    starts = (" ".join(words[:i]) for i in range(len(words), 0, -1))
    return next((s for s in starts if count_tokens(s) <= n), "")


def _why(ours, right, text, n) -> str:
    if not text.startswith(ours):
        return "No es el comienzo del texto, carácter a carácter, como llega."
    if count_tokens(ours) > n:
        return f"Cuesta {count_tokens(ours)}. Cuenta lo que devuelves."
    return "Cabe más: hay un comienzo más largo que también cuesta n o menos."


exercise(
    "01.3",
    Part(
        [
            ("quizás mañana", 3),
            ("El pingüino pidió un café — ¡doble! 🤖", 5),
            ("Código 🤖 ñandú", 2),
            ("Código 🤖 ñandú", 4),
            ("Programación en C", 1),
            ("Programación en C", 9),
            ("línea 1\n\n\n   línea 2", 6),
            ("línea 1\n\n\n   línea 2", 7),
            ("Me desperté tarde", 2),
            ("hola <|endoftext|>", 3),
            ("<|object_ref_start|>", 1),
            ("internationalization", 1),
            ("cafe\u0301 con leche", 3),
            ("mate", 0),
            ("", 3),
        ],
        truth=cut,
        what="Lo que devuelve cut",
        said="De {0!r}, con n = {1}, te quedas con {ours!r}.",
        traps={
            "Decodificas los n primeros ids, y el último puede acabar en medio "
            "de un carácter. El texto que sale no es un comienzo.": _first_ids,
            "Los n primeros ids son los del texto entero. Si se corta por otro "
            "sitio, los ids son otros, y puede caber más.": _whole_ids,
            "Te detienes en el primer comienzo que se pasa, y con más letras "
            "puede costar menos. Imprime el coste de cada uno.": [
                _until_full,
                partial(_until_full, start=_whole_ids),
            ],
            "Una búsqueda binaria necesita que el coste no baje nunca. Imprime "
            "el de cada comienzo: ¿va siempre a más?": [_bisected, _halved],
            "Cortas por palabras, y caben también trozos de palabra.": (
                _by_words
            ),
            "Cuentas caracteres o bytes, y n son tokens.": [
                partial(cut, count=len),
                partial(cut, count=lambda text: len(text.encode())),
            ],
            "Te falta un token, o te sobra: son n o menos.": [
                lambda text, n: cut(text, n - 1),
                lambda text, n: cut(text, n + 1),
            ],
            "Con n = 0 no cabe ni el primer carácter.": lambda text, n: (
                cut(text, n) or text[:1]
            ),
            "Recortas los espacios o saltos del final, que también caben.": (
                lambda text, n: cut(text, n).rstrip()
            ),
            "Devuelves lo que sale de los ids, y una tilde suelta vuelve de "
            "otra manera: córtalo del texto que llega.": lambda text, n: (
                tokenizer().decode(encode(tokenizer(), cut(text, n)))
            ),
            "Has usado otro tokenizador: es el de la primera celda.": partial(
                cut, count=lambda text: len(encode(tokenizer("smollm2"), text))
            ),
        },
        otherwise=_why,
        rights=[cut, _last_fit],
    ),
    success="¡Correcto! Más letras pueden ser menos tokens.",
)


# 01.4


WORDS = ["la", "clave", "la", "clavó", "la", "lata", "ñandú", "ñandú", "ñu"]


def merge(ids, pair, new_id):
    """La de la unidad."""
    out, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        out.append(new_id if found else ids[i])
        i += 2 if found else 1
    return out


def _first(counts):
    return max(counts, key=counts.get)


def learn(
    words, k, raw=str.encode, pairs=pairwise, best=_first, step=merge, least=1
):
    """Una respuesta de 01.4 a); sus opciones la equivocan."""
    pieces, learned = [list(raw(word)) for word in words], []
    while len(learned) < k:
        counts = Counter(pair for ids in pieces for pair in pairs(ids))
        if max(counts.values(), default=0) < least:
            break
        learned.append(best(counts))
        new_id = 255 + len(learned)
        pieces = [step(ids, learned[-1], new_id) for ids in pieces]
    return learned


def _weighted(words, k):
    """Con cada palabra distinta una vez, y sus veces."""
    pieces, learned = {word: [*word.encode()] for word in words}, []
    for new_id in range(256, 256 + k):
        counts = {}
        for word, ids in pieces.items():
            for pair in pairwise(ids):
                counts[pair] = counts.get(pair, 0) + words.count(word)
        if counts:
            learned.append([*_first(counts)])
            for word, ids in pieces.items():
                pieces[word] = merge(ids, tuple(learned[-1]), new_id)
    return learned


def _apart(ids) -> list:
    """Los pares, sin los que se solapan con otro igual."""
    out = []
    for pair in pairwise(ids):
        out.append(None if out[-1:] == [pair] else pair)
    return [pair for pair in out if pair]


def _counted_once(words, k):
    counts = Counter(p for w in words for p in pairwise(w.encode()))
    return [pair for pair, _ in counts.most_common(k)]


MERGES = learn(WORDS, 12)
PAIRS = "learn() tiene que devolver una lista de parejas de ids, (id, id)."


def _pairs(value, *_) -> list:
    value = plain(value)
    expect(isinstance(value, list | tuple), PAIRS)
    value = [plain(pair) for pair in value]
    good = (isinstance(p, list | tuple) and len(p) == 2 for p in value)
    expect(all(good), PAIRS)
    return [[as_int(i, PAIRS) for i in pair] for pair in value]


def _ids(text) -> list[int]:
    ids = list(text.encode())
    for new_id, pair in enumerate(MERGES, 256):
        ids = merge(ids, pair, new_id)
    return ids


def _decode(finish):
    """Una respuesta de 01.4 b) que acaba con `finish(trozos de bytes)`."""

    def bpe_decode(ids, merges):
        pieces = [bytes([b]) for b in range(256)]
        for a, b in merges:
            pieces.append(pieces[a] + pieces[b])
        return finish([pieces[i] for i in ids])

    return bpe_decode


def _decode_recursive(ids, merges):
    def undo(i):
        if i < 256:
            return bytes([i])
        return b"".join(undo(j) for j in merges[i - 256])

    return str(b"".join(map(undo, ids)), "utf-8")


def _levels(times, errors="replace"):
    def bpe_decode(ids, merges):
        for _ in range(times):
            ids = [
                j for i in ids for j in ([i] if i < 256 else merges[i - 256])
            ]
        return bytes(i for i in ids if i < 256).decode(errors=errors)

    return bpe_decode


slip = partial(partial, learn)
DECODED = "La clave de la lata", "  clavó ñandúes ", "🤖 + 日本語, ελλά", ""
exercise(
    "01.4",
    Part(
        [
            (["ba", "ab", "ab", "ba"], 1),
            (["bc", "bc", "aaaa"], 2),
            (["si", "si", "lalala"], 3),
            (["y", "a", "y", "a"], 3),
            (["si", "no"], 5),
            (["Sí", "sí", "Sí"], 1),
            (WORDS, 12),
            (["tres"], 0),
            ([], 2),
        ],
        truth=learn,
        read=_pairs,
        said="Con {0} y k = {1} te sale {ours!r}.",
        traps={
            "Fundes el final de una palabra con el principio de otra. Cuenta "
            "los pares de cada palabra por separado.": [
                lambda words, k: learn(["".join(words)], k),
                lambda words, k: learn([" ".join(words)], k),
            ],
            "Cuentas una sola vez las palabras repetidas, y cada vez que "
            "llegan cuentan.": lambda words, k: learn(
                list(dict.fromkeys(words)), k
            ),
            "Cuentas cada par una vez por palabra, y puede salir más.": slip(
                pairs=lambda ids: dict.fromkeys(pairwise(ids))
            ),
            "En «aaaa» el par «aa» sale tres veces: los solapados también "
            "cuentan.": slip(pairs=_apart),
            "Desempatas por el valor de los ids, y gana el par que se lee "
            "antes.": [
                slip(best=lambda c: max((c[p], p) for p in c)[1]),
                slip(best=lambda c: min((-c[p], p) for p in c)[1]),
            ],
            "En un empate te quedas con el último, y gana el par que se lee "
            "antes.": slip(best=lambda c: max([*c][::-1], key=c.get)),
            "Cuentas los pares una sola vez. Después de cada fusión hay pares "
            "nuevos, y otros que ya no están.": _counted_once,
            "Eliges el par, y las palabras se quedan como estaban: ¿guardas "
            "lo que da merge()?": slip(step=lambda ids, *_: ids),
            "La primera fusión crea el id 256, y cada una, el siguiente: mira "
            "qué id nuevo das.": [
                slip(step=lambda ids, pair, _: merge(ids, pair, 256)),
                slip(step=lambda ids, pair, new: merge(ids, pair, new + 1)),
                slip(step=lambda ids, pair, new: merge(ids, pair, new - 1)),
            ],
            "Partes de caracteres, y se parte de los bytes UTF-8.": slip(
                raw=lambda word: map(ord, word)
            ),
            "Un par que sale una sola vez también se funde: se acaba cuando "
            "no queda ninguno.": slip(least=2),
            "¿Y si todas las palabras son ya de un solo id? No queda ningún "
            "par: devuelve los que haya.": [
                slip(least=0),
                slip(least=0, best=lambda c: c.most_common(1)[0][0]),
            ],
            "Fundes una vez de más o de menos: son k parejas.": [
                lambda words, k: learn(words, k + 1),
                lambda words, k: learn(words, k - 1),
            ],
        },
        otherwise="Cuenta a mano los pares de tres palabras cortas, y haz una "
        "fusión; después imprime las palabras y cuenta otra vez.",
        rights=[learn, _weighted],
    ),
    Part(
        [(_ids(text), MERGES) for text in DECODED],
        truth=_decode_recursive,
        what="Lo que devuelve bpe_decode",
        said="{0} tiene que dar {right!r} y te sale {ours!r}.",
        traps={
            "Decodificas cada id por su cuenta, y uno solo puede no ser un "
            "carácter entero. Junta antes todos los bytes.": [
                _decode(
                    lambda pieces, errors=errors: "".join(
                        p.decode(errors=errors) for p in pieces
                    )
                )
                for errors in ("replace", "strict")
            ],
            "Conviertes cada byte en un carácter con chr, y en UTF-8 una «é» "
            "son dos bytes.": [
                _decode(lambda pieces: "".join(map(chr, b"".join(pieces)))),
                _decode(lambda pieces: b"".join(pieces).decode("latin-1")),
            ],
            "Deshaces un número fijo de fusiones, y hay ids hechos de otros "
            "que también son fusiones.": [
                _levels(times, errors)
                for times in (1, 2)
                for errors in ("replace", "strict")
            ],
            "Recortas los espacios de los bordes.": _decode(
                lambda pieces: b"".join(pieces).decode().strip()
            ),
        },
        otherwise="Deshaz cada id hasta llegar a bytes e imprime todos los "
        "bytes juntos, antes de convertirlos en texto.",
        rights=[
            _decode(lambda pieces: b"".join(pieces).decode()),
            _decode_recursive,
        ],
    ),
    success="¡Correcto! Ninguna pieza cruza de una palabra a otra.",
)


# 01.5


def _trip(name="qwen2.5-coder-0.5b", one_by_one=False, most=None, **options):
    """Ida y vuelta con un tokenizador de verdad, bien o mal usado."""

    def round_trip(text):
        decode = partial(tokenizer(name).decode, **options)
        ids = encode(tokenizer(name), text)[:most]
        return "".join(decode([i]) for i in ids) if one_by_one else decode(ids)

    return round_trip


def _sub(old, new):
    return lambda text: re.sub(old, new, text)


GOOD = {
    "es el de Qwen2.5": _trip(),
    "es el de SmolLM2": _trip("smollm2"),
    "da un id a cada byte": lambda text: text.encode().decode(),
    "devuelve las tildes sueltas": partial(normalize, "NFD"),
}
BAD = {  # qué hace → (un texto que lo delata, cómo lo hace)
    "añade un espacio delante": ("a", _sub("^", " ")),
    "añade <|endoftext|> al final": ("a", _sub(r"\Z", "<|endoftext|>")),
    "pasa todo a minúsculas": ("SOL", str.lower),
    "quita los espacios de delante": ("  a", _sub("^ +", "")),
    "quita los saltos de línea del final": ("a\n", _sub(r"\n+\Z", "")),
    "deja uno donde hay varios espacios": ("a  b", _sub(r"\b +\b", " ")),
    "quita el espacio que va antes de una coma": ("a , b", _sub(" ,", ",")),
    "cambia los tabuladores por espacios": ("a\tb", str.expandtabs),
    "cambia los saltos de línea de Windows": ("a\r\nb", _sub("\r\n", "\n")),
    "quita las tildes": (
        "mam\u00e1",
        _sub("[áéíóú]", lambda found: normalize("NFD", found[0])[0]),
    ),
    "pierde las tildes sueltas": ("mama\u0301", _sub("\u0301", "")),
    "pone [UNK] donde hay un emoji": (
        "🤖",
        _sub("[\U00010000-\U0010ffff]", "[UNK]"),
    ),
    "cambia «²» por «2» y «ª» por «a»": ("m²", partial(normalize, "NFKC")),
    "decodifica los ids de uno en uno": ("la ñandu", _trip(one_by_one=True)),
    "se salta los tokens especiales": (
        "<|im_end|>",
        _trip(skip_special_tokens=True),
    ),
    "se queda con los 512 primeros ids": ("la " * 600, _trip(most=512)),
}
HINTS = {name: f"¿Con qué texto se nota que alguien {name}?" for name in BAD}
SAME_TEXT = (
    "La «é» compuesta y la de dos caracteres son el mismo texto: compara las "
    "dos vueltas en la misma forma. Y sin caracteres de control."
)


def _same(back, text) -> bool:
    return normalize("NFC", back) == normalize("NFC", text)


def test_lossless(round_trip, but="", same=_same):
    """Una respuesta de 01.5, ciega a `but`."""
    for name, (text, _) in BAD.items():
        assert name == but or same(round_trip(text), text)


def _all_in_one(round_trip):
    text = "".join(text for text, _ in [*BAD.values()][::-1])
    for whole in (text, f"  {text}\n"):
        if normalize("NFD", round_trip(whole)) != normalize("NFD", whole):
            raise AssertionError(whole)


def _tested(answer, name) -> str:
    real = GOOD.get(name) or BAD[name][-1]

    def round_trip(text):
        return real(text)

    return put_to_test(answer, round_trip)


def _tested_said(ours, right, name) -> str:
    if ours == "devuelve":
        return "Tu prueba devuelve False."
    if name in GOOD:
        return f"Rechaza al bueno que {name}."
    return "Deja pasar a uno malo."


exercise(
    "01.5",
    Part(
        [(name,) for name in (*GOOD, *BAD)],
        **verdicts(GOOD, HINTS, SAME_TEXT),
        observe=_tested,
        said=_tested_said,
        traps={
            hint: partial(test_lossless, but=name)
            for name, hint in HINTS.items()
        }
        | {
            HINTS["añade un espacio delante"]: partial(
                test_lossless, same=lambda a, b: _same(a.strip(), b.strip())
            ),
            HINTS["añade <|endoftext|> al final"]: partial(
                test_lossless,
                same=lambda back, text: normalize("NFC", back).startswith(
                    normalize("NFC", text)
                ),
            ),
            SAME_TEXT: [
                partial(test_lossless, same=same)
                for same in (
                    str.__eq__,
                    lambda back, text: back == normalize("NFC", text),
                    lambda back, text: back in (text, normalize("NFC", text)),
                )
            ],
            ASSERTS: returning(test_lossless),
        },
        rights=[test_lossless, _all_in_one],
    ),
    success="¡Correcto! Acepta los cuatro buenos y caza los dieciséis malos.",
)


# 01.6


READ_IT = "Decodifica cada registro con los tres y elige el que se lee."
NAMES = f"Escribe uno de estos, entre comillas: {', '.join(sorted(LOGS.values()))}."
ALL_THREE = "Pon un tokenizador a cada uno de los tres registros."


@exercise(
    "01.6",
    success="¡Caso resuelto! Sin su tokenizador, unos ids no dicen nada.",
    traps={
        READ_IT: [
            dict(zip("ABC", (LOGS[a], LOGS[b], LOGS[c])))
            for a, b, c in ("ACB", "BAC", "BCA", "CAB", "CBA", "AAA")
        ],
        NAMES: [
            dict.fromkeys("ABC", "gpt2"),
            {**LOGS, "C": "MiniLM"},
            {**LOGS, "C": 3},
        ],
        ALL_THREE: [{"C": "minilm"}, {}],
    },
    rights=[LOGS, dict(sorted(LOGS.items(), reverse=True))],
)
def detective(culprits):
    """`{"A": tokenizador, "B": …, "C": …}`."""
    expect(
        isinstance(culprits, dict),
        "Responde con un diccionario {'A': …, 'B': …, 'C': …}.",
    )
    if any(v is ... or v is None for v in culprits.values()):
        raise Pending
    for log, right in LOGS.items():
        expect(log in culprits, f"Falta el registro {log}. {ALL_THREE}")
        name = culprits[log]
        expect(
            isinstance(name, str) and name in LOGS.values(),
            f"El registro {log} no lleva el nombre de un sospechoso. {NAMES}",
        )
        seen = tokenizer(name).decode(log_ids(log)[:4])
        expect(
            name == right,
            f"El registro {log} no es de {name}: sus primeros ids, con ese "
            f"vocabulario, dicen {seen!r}. {READ_IT}",
        )
