"""Corrección del laboratorio 01 · Tokens."""

import re
import tempfile
import unicodedata
from pathlib import Path

import torch

from ..tokens import encode, token_bytes
from .bench import LOGS, PARAGRAPH, count_tokens, log_ids, tokenizer
from .kit import (
    Hint,
    Part,
    Pending,
    as_int,
    call,
    exercise,
    expect,
    number,
    say,
    watched,
)

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


# 01.1


def chatml(message, start="<|im_start|>", end="<|im_end|>\n", last="\n"):
    """El formato más corto de la unidad."""
    turn = f"{start}user\n{message}{end}"
    return f"{turn}{start}assistant{last}"


SYSTEM = "<|im_start|>system\nEres útil.<|im_end|>\n"


def _edited(old: str, new: str):
    """El formato bueno, con un cambio."""
    return lambda m: chatml(m).replace(old, new)


def _chatml_joined(message):
    lines = ["<|im_start|>user", message + "<|im_end|>"]
    return "\n".join([*lines, "<|im_start|>assistant", ""])


def _where(ours, right, message) -> str:
    same = 0
    while same < min(len(ours), len(right)) and ours[same] == right[same]:
        same += 1
    kept, rest = ours[max(0, same - 12) : same], ours[same : same + 12]
    return (
        f"Con {message!r}, hasta {kept!r} va bien y lo que sigue, {rest!r}, "
        "no es lo de la plantilla. Compara los repr() carácter a carácter."
    )


def _back(text):
    return tokenizer().decode(encode(tokenizer(), text))


def _round_trip(there_and_back, text):
    """Lo que vuelve, si de verdad ha pasado por los ids."""
    with watched(("Tokenizer.encode_batch", "Tokenizer.encode")) as used:
        back = call(there_and_back, text)
    expect(
        isinstance(back, str),
        f"there_and_back devuelve {type(back).__name__} y tiene que devolver "
        "un texto: después de codificar, decodifica.",
    )
    return back if used else Hint("Tu función no codifica nada.")


exercise(
    "01.1",
    Part(
        [
            ("Escribe un haiku sobre programación",),
            ("  Hola \n",),
            ("¿Qué es «<» en C?\nEn una línea",),
        ],
        truth=chatml,
        what="Lo que devuelve chatml",
        without=("PreTrainedTokenizerBase.apply_chat_template",),
        traps={
            "Falta el salto de línea del final: después del papel del modelo "
            "empieza su respuesta, en otra línea.": lambda m: chatml(m)[:-1],
            "Has cerrado el turno del modelo, y tiene que quedar abierto para "
            "que siga él.": [
                lambda m: chatml(m) + "<|im_end|>",
                lambda m: chatml(m) + "<|im_end|>\n",
                lambda m: chatml(m, last="<|im_end|>\n"),
            ],
            "Falta abrir el segundo turno: ¿a quién le toca escribir?": [
                lambda m: chatml(m).split("<|im_start|>assistant")[0],
                lambda m: chatml(m).split("\n<|im_start|>assistant")[0],
            ],
            "El turno de la persona no se cierra: mira dónde acaba su "
            "mensaje.": [
                lambda m: chatml(m, end=""),
                lambda m: chatml(m, end="\n"),
            ],
            "Entre el cierre de un turno y la apertura del otro hay un salto "
            "de línea.": lambda m: chatml(m, end="<|im_end|>"),
            "Sobra un salto de línea entre el mensaje y su cierre.": (
                lambda m: chatml(m, end="\n<|im_end|>\n")
            ),
            "Entre el papel y el mensaje va un salto de línea, y no otra "
            "cosa.": [
                _edited("user\n", "user "),
                _edited("user\n", "user"),
                _edited("user\n", "user: "),
                _edited("\n", " "),
            ],
            "Los papeles van en inglés, como en los datos con que se entrenó: "
            "mira los de la unidad.": [
                _edited("user", "usuario"),
                _edited("assistant", "asistente"),
                _edited("user", "human"),
                lambda m: _edited("user", "usuario")(m).replace(
                    "assistant", "asistente"
                ),
            ],
            "Has añadido un turno de system: se pide el formato más corto.": [
                _edited("<|im_start|>user", SYSTEM + "<|im_start|>user"),
                lambda m: SYSTEM.replace("Eres útil.", "") + chatml(m),
            ],
            "Recortas el mensaje. Tiene que entrar tal cual, con sus espacios "
            "y saltos de línea.": [
                lambda m: chatml(m.strip()),
                lambda m: chatml(m.split("\n")[0]),
                lambda m: chatml(m.strip("¿")),
            ],
            "Das siempre el mismo texto: usa el mensaje que llega.": [
                lambda m: chatml("Hola"),
                lambda m: chatml("Escribe un haiku sobre programación"),
            ],
        },
        otherwise=_where,
        rights=[chatml, _chatml_joined],
    ),
    Part(
        [(text,) for text in (*ROUND_TRIP, "cafe\u0301")],
        truth=lambda text: unicodedata.normalize("NFC", text),
        observe=_round_trip,
        said="La vuelta de {0!r} da {ours!r}.",
        traps={
            "Hay que pasar por los ids, y volver.": [
                lambda text: text,
                lambda text: unicodedata.normalize("NFC", text),
            ],
            "Decodificas saltándote los tokens especiales, y aquí uno es parte "
            "del texto.": lambda text: tokenizer().decode(
                encode(tokenizer(), text), skip_special_tokens=True
            ),
            "Recortas los espacios de los bordes.": (
                lambda text: _back(text).strip()
            ),
            "Decodificas los tokens uno a uno, y hay caracteres repartidos "
            "entre varios. Dáselos todos de una vez.": lambda text: "".join(
                tokenizer().decode([i]) for i in encode(tokenizer(), text)
            ),
            "Codificas con un tokenizador y decodificas con otro.": (
                lambda text: tokenizer("minilm").decode(
                    encode(tokenizer(), text)
                )
            ),
            "Separas los tokens con espacios, y el espacio ya va dentro de "
            "cada uno.": lambda text: " ".join(
                tokenizer().decode([i]) for i in encode(tokenizer(), text)
            ),
            "Pegas los nombres de los tokens, que llevan Ġ y otros disfraces. "
            "¿Qué función los convierte en texto?": lambda text: "".join(
                tokenizer().convert_ids_to_tokens(encode(tokenizer(), text))
            ),
            "Con «e» y una tilde suelta (U+0301), este tokenizador devuelve "
            "«é» en un solo carácter. Tu función lo deshace.": lambda text: (
                unicodedata.normalize("NFD", _back(text))
            ),
        },
        otherwise="¿Se pierde o se añade algo antes de codificar, o después de "
        "decodificar? Imprime los ids.",
        rights=[
            _back,
            lambda text: b"".join(
                token_bytes(tokenizer(), i) for i in encode(tokenizer(), text)
            ).decode(),
            lambda text: tokenizer().decode(tokenizer()(text).input_ids),
        ],
    ),
    success="¡Correcto! 16 tokens, y la vuelta es exacta.",
)


# 01.2


PATH = "Has contado los tokens de la ruta, y no los del archivo."


def _cost(function, text: str, price: float):
    """(cuántos tokens, precio por millón que sale de su cuenta)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(
            folder, "-".join(map(str, range(50)))
        )  # más que un texto corto
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
    return count_tokens(_plain(text)) if same else n, _rate(paid, n, price)


def _plain(text: str) -> str:
    """El texto como lo da Python al leerlo: los saltos, todos iguales."""
    return text.replace("\r\n", "\n")


def _rate(paid: float, n: int, price: float) -> float:
    if not n:
        return price + paid
    return paid / n * 1e6


def _bill(count):
    """Una respuesta de 01.2 que cuenta con `count(texto)`."""

    def bill(path, price):
        n = count(Path(path).read_text(encoding="utf-8"))
        return n, n * price / 1e6

    return bill


def _paid(change):
    """Una que cuenta bien y paga `change(n, precio)`."""

    def bill(path, price):
        n = count_tokens(Path(path).read_text(encoding="utf-8"))
        return n, change(n, price)

    return bill


def _bill_handle(path, price):
    with open(path, encoding="utf-8", newline="") as file:
        ids = tokenizer()(file.read()).input_ids
    return [torch.tensor(len(ids)), len(ids) / 1e6 * price]


def _latin(path, price):
    n = count_tokens(path.read_text(encoding="latin-1"))
    return n, n * price / 1e6


exercise(
    "01.2",
    Part(
        [
            ("Me desperté tarde y el asado ya estaba frío.\n", 2.5),
            ("Uno.\n\n\n    Dos, tres.\n\nFin\n", 0.4),
            ("El pingüino pidió un café — ¡doble! 🤖\r\nY se fue.\n", 10),
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
        near=1e-6,
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
            "Codificas línea a línea, y los saltos de línea se unen a lo que "
            "tienen al lado. Codifica el archivo de una vez.": [
                _bill(lambda text: sum(map(count_tokens, text.splitlines()))),
                _bill(
                    lambda text: sum(map(count_tokens, text.splitlines(True)))
                ),
            ],
            "Codificas a trozos, y en cada frontera se parte algún token. "
            "Codifica el archivo de una vez.": _bill(
                lambda text: sum(
                    count_tokens(text[i : i + 1000])
                    for i in range(0, len(text), 1000)
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
            "No lo lees como UTF-8: pasa encoding='utf-8'.": _latin,
            PATH: lambda path, price: (count_tokens(str(path)), price),
            "Ese precio es por cada mil, y se da por millón.": _paid(
                lambda n, price: n * price / 1e3
            ),
            "No has dividido por el millón.": _paid(
                lambda n, price: n * price
            ),
            "Usas un precio fijo: usa el que llega.": [
                _paid(lambda n, price: n / 1e6),
                _paid(lambda n, price: n * 2.5 / 1e6),
            ],
            "Redondeas, y un archivo corto cuesta menos que eso.": [
                _paid(lambda n, price, d=d: round(n * price / 1e6, d))
                for d in (2, 4, 6)
            ],
            "Divides por el precio, y hay que multiplicar.": _paid(
                lambda n, price: n / price / 1e6
            ),
        },
        otherwise="Si la cuenta no es esa, mira cómo lees el archivo: UTF-8, "
        "entero y sin recortar. Si lo es, mira el coste.",
        rights=[_bill(count_tokens), _bill_handle],
    ),
)


# 01.3


NOT_INSIDE = (
    "No es una palabra del párrafo, escrita tal cual: sin espacios ni signos, "
    "y con las mismas mayúsculas y tildes."
)
SWAPPED = "Las tienes cambiadas: primero, la de un token."
NOT_ONE = "Que sea corta no basta. Recorre todas y cuenta los tokens de cada."
NOT_FIVE = "Que sea larga no basta. Ordénalas todas por su número de tokens."


@exercise(
    "01.3",
    success="¡Correcto! Letras y tokens son medidas distintas.",
    traps={
        SWAPPED: ("otorrinolaringólogo", "mate"),
        NOT_INSIDE: [
            ("casa", "otorrinolaringólogo"),
            (" mate", "otorrinolaringólogo"),
            ("mate", "tejado,"),
            ("mate", "otorrinolaringologo"),
            ("mate", "desayunaba mate"),
            ("mate", PARAGRAPH),
            ("Mate", "otorrinolaringólogo"),
        ],
        NOT_ONE: ("olía", "otorrinolaringólogo"),
        NOT_FIVE: [("mate", "murciélago"), ("mate", "equilibrista")],
    },
    rights=[("mate", "otorrinolaringólogo"), ("qué", "desentrañaba")],
)
def words(one, five):
    """Dos palabras del párrafo: una de 1 token y otra de 5 o más."""
    inside = re.findall(r"\w+", PARAGRAPH)
    for word in (one, five):
        expect(
            isinstance(word, str),
            f"{word!r} no es un texto: escribe la palabra entre comillas.",
        )
        expect(word in inside, f"«{word[:40]}». {NOT_INSIDE}")
    first, second = count_tokens(one), count_tokens(five)
    expect(not (first >= 5 and second == 1), SWAPPED)
    expect(first == 1, f"«{one}» tiene {first} tokens. {NOT_ONE}")
    expect(second >= 5, f"«{five}» tiene {second} tokens. {NOT_FIVE}")


# 01.4


def _spaced(w: str) -> int:
    return count_tokens(" " + w)


def _changed(words) -> list[str]:
    return [w for w in words if count_tokens(w) != _spaced(w)]


def _changed_loop(words):
    pairs, out = {w: (count_tokens(w), _spaced(w)) for w in words}, []
    for word in words:
        before, after = pairs[word]
        if before - after:
            out.append(word)
    return out


def _list_of_words(answer, words):
    expect(
        isinstance(answer, list),
        f"Devuelve una lista de palabras, y no {type(answer).__name__}.",
    )
    expect(
        all(
            isinstance(w, str) and w in [*words, *_with(words)] for w in answer
        ),
        "En tu lista hay algo que no es una de las palabras recibidas. "
        "Devuélvelas tal como llegan, sin nada más.",
    )
    return answer


def _with(words) -> list[str]:
    return [" " + w for w in words]


def _missing(ours, right, words) -> str:
    for w in words:
        if (w in ours) != (w in right):
            return (
                f"{'Sobra' if w in ours else 'Falta'} «{w}»: {count_tokens(w)} "
                f"token(s) sola y {_spaced(w)} con un espacio delante."
            )
    return (
        "Están las que son, pero no en el orden ni las veces en que llegan. "
        "¿Cuántas veces recorres la lista de entrada?"
    )


exercise(
    "01.4",
    Part(
        [
            (["🤖", "París", "Código", "ñandú", "de", "Ingeniero", "azúcar"],),
            (["Buenos", "Aires", "mate", "asado", "haiku", "Programación"],),
            (["la", "Madrid", "la", "Madrid"],),
            ([],),
        ],
        truth=_changed,
        read=_list_of_words,
        said="",
        traps={
            "Faltan las que suben: hay palabras a las que el espacio les "
            "añade un token.": lambda words: [
                w for w in words if count_tokens(w) > _spaced(w)
            ],
            "Faltan las que bajan: hay palabras a las que el espacio les "
            "quita un token.": lambda words: [
                w for w in words if count_tokens(w) < _spaced(w)
            ],
            "Te salen todas. Con el espacio cambian siempre las letras y los "
            "ids, y si va detrás, también los tokens: cuenta los tokens con el "
            "espacio delante.": [
                list,
                lambda words: [
                    w
                    for w in words
                    if encode(tokenizer(), w) != encode(tokenizer(), " " + w)
                ],
                lambda words: [
                    w
                    for w in words
                    if count_tokens(w) != count_tokens(w + " ")
                ],
            ],
            "Son justo las que no cambian.": lambda words: [
                w for w in words if count_tokens(w) == _spaced(w)
            ],
            "Las devuelves con el espacio puesto; tienen que salir tal como "
            "llegan.": lambda words: _with(_changed(words)),
            "Están las que son, pero cambiadas de orden.": [
                lambda words: _changed(words)[::-1],
                lambda words: sorted(_changed(words)),
                lambda words: (
                    [w for w in words if count_tokens(w) > _spaced(w)]
                    + [w for w in words if count_tokens(w) < _spaced(w)]
                ),
            ],
            "Una palabra puede llegar repetida, y sale las mismas veces.": (
                lambda words: list(dict.fromkeys(_changed(words)))
            ),
            "Cada una sale dos veces: ¿en cuántos sitios la añades?": (
                lambda words: _changed(words) * 2
            ),
        },
        otherwise=_missing,
        rights=[
            _changed,
            _changed_loop,
            lambda words: list(
                filter(lambda w: count_tokens(w) != _spaced(w), words)
            ),
        ],
    ),
    success="¡Correcto! El espacio de delante es parte del token.",
)


# 01.5


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
    "aa",
    "aaaa baa aaab",
    "la clavó aaa un clavito",
    "  La clava ",
    "ñandú 🤖",
    "baaaa",
    "",
    "\x00é",
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
    model = Tokenizer(BPE(vocab=vocab, merges=pairs))
    return model.encode("".join(names[b] for b in text.encode())).ids


def merge(ids, pair, new_id, times=-1):
    """La de la unidad; `times`, cuántas apariciones como mucho."""
    out, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair and times != 0
        times -= found
        out.append(new_id if found else ids[i])
        i += 2 if found else 1
    return out


def _bpe(first=256, raw=lambda text: text.encode(), step=merge, order=list):
    """Una respuesta de 01.5 a), con una cosa cambiada."""

    def bpe_encode(text, merges):
        ids = list(raw(text))
        for new_id, pair in order(list(enumerate(merges, first))):
            ids = step(ids, tuple(pair), new_id)
        return ids

    return bpe_encode


def _from_the_right(ids, pair, new_id):
    return merge(ids[::-1], pair[::-1], new_id)[::-1]


def _by_words(text, merges):
    words = [_bpe()(word, merges) for word in text.split(" ")]
    return [i for word in words for i in (*word, 32)][:-1]


def _longest(text, merges):
    pieces = {piece: i for i, piece in enumerate(_table(merges))}
    raw, ids = text.encode(), []
    while raw:
        size = max(k for k in range(1, len(raw) + 1) if raw[:k] in pieces)
        ids.append(pieces[raw[:size]])
        raw = raw[size:]
    return ids


def _until_absent(text, merges):
    ids = list(text.encode())
    for new_id, pair in enumerate(merges, 256):
        if pair not in zip(ids, ids[1:]):
            break
        ids = merge(ids, pair, new_id)
    return ids


def _one_pass(text, merges):
    ranks, ids = {p: i for i, p in enumerate(merges, 256)}, []
    for i in text.encode():
        ids.append(i)
        while len(ids) > 1 and tuple(ids[-2:]) in ranks:
            ids[-2:] = [ranks[tuple(ids[-2:])]]
    return ids


def _by_rank(text, merges):
    ids, ranks = list(text.encode()), {p: i for i, p in enumerate(merges)}
    while pairs := [p for p in zip(ids, ids[1:]) if p in ranks]:
        best = min(pairs, key=ranks.get)
        ids = merge(ids, best, 256 + ranks[best])
    return ids


def _table(merges) -> list[bytes]:
    pieces = [bytes([b]) for b in range(256)]
    for a, b in merges:
        pieces.append(pieces[a] + pieces[b])
    return pieces


def _decode(finish):
    """Una respuesta de 01.5 b) que acaba con `finish(trozos de bytes)`."""

    def bpe_decode(ids, merges):
        return finish([_table(merges)[i] for i in ids])

    return bpe_decode


def _decode_recursive(ids, merges):
    def undo(i):
        if i < 256:
            return bytes([i])
        return b"".join(undo(j) for j in merges[i - 256])

    return str(b"".join(map(undo, ids)), "utf-8")


def _levels(times):
    def bpe_decode(ids, merges):
        for _ in range(times):
            ids = [
                j for i in ids for j in ([i] if i < 256 else merges[i - 256])
            ]
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    return bpe_decode


def _ids(value, *case) -> list[int]:
    hint = "bpe_encode tiene que devolver una lista de enteros."
    expect(not isinstance(value, str | bytes), hint)
    expect(hasattr(value, "__iter__"), hint)
    return [as_int(i, hint) for i in value]


exercise(
    "01.5",
    Part(
        [(text, MERGES) for text in BPE_TEXTS],
        truth=lambda text, merges: _library_bpe(text),
        read=_ids,
        said="{0!r} tiene que dar {right} y te sale {ours}.",
        traps={
            "No has fusionado nada. ¿Guardas el resultado de cada fusión para "
            "la siguiente?": _bpe(step=lambda ids, *_: ids),
            "Solo se aplica la primera fusión. ¿Se sale pronto del bucle?": (
                _bpe(order=lambda pairs: pairs[:1])
            ),
            "Paras en la primera fusión que no aparece, y las siguientes "
            "también pueden servir.": _until_absent,
            "Cada fusión se aplica una sola vez, y es a todas sus "
            "apariciones.": _bpe(step=lambda *a: merge(*a, times=1)),
            "Aplicas las fusiones en orden contrario: primero, la que antes "
            "se aprendió.": _bpe(order=lambda pairs: pairs[::-1]),
            "Unes de derecha a izquierda; con «aaa», la pareja es la de la "
            "izquierda.": _bpe(step=_from_the_right),
            "Unes lo que se puede según avanzas, o la pieza más larga, y lo "
            "que manda es el orden: cada fusión recorre todo el texto antes de "
            "que empiece la siguiente.": [_longest, _one_pass],
            "Partes de caracteres o de otra codificación. Se parte de los "
            "bytes UTF-8 del texto.": [
                _bpe(raw=lambda text: map(ord, text)),
                _bpe(raw=lambda text: text.encode("latin-1", "replace")),
            ],
            "La fusión número i, contando desde 0, crea el id 256 + i: mira "
            "qué id das a la primera.": [_bpe(257), _bpe(255), _bpe(0)],
            "Partes por espacios, y hay fusiones que incluyen un espacio: se "
            "aplican a todo el texto.": _by_words,
            "Cambias el texto antes de empezar: se codifica tal cual, con sus "
            "mayúsculas y sus bordes.": [
                _bpe(raw=lambda text: text.lower().encode()),
                _bpe(raw=lambda text: text.strip().encode()),
            ],
        },
        otherwise="Haz a mano la primera fusión sobre los bytes, en todo el "
        "texto, y compárala con la tuya; después, la segunda.",
        rights=[
            _bpe(),
            _by_rank,
            lambda text, merges: torch.tensor(_bpe()(text, merges)).long(),
        ],
    ),
    Part(
        lambda: [
            (_library_bpe(text), MERGES) for text in (*BPE_TEXTS, *ROUND_TRIP)
        ],
        truth=lambda ids, merges: _decode_recursive(ids, merges),
        what="Lo que devuelve bpe_decode",
        said="{0} tiene que dar {right!r} y te sale {ours!r}.",
        traps={
            "Decodificas cada id por su cuenta, y uno solo puede no ser un "
            "carácter entero. Junta antes todos los bytes.": _decode(
                lambda pieces: "".join(
                    p.decode(errors="replace") for p in pieces
                )
            ),
            "Conviertes cada byte en un carácter con chr, y en UTF-8 una «é» "
            "son dos bytes.": [
                _decode(lambda pieces: "".join(map(chr, b"".join(pieces)))),
                _decode(lambda pieces: b"".join(pieces).decode("latin-1")),
            ],
            "Deshaces un número fijo de fusiones, y hay ids hechos de otros "
            "que también son fusiones.": [_levels(1), _levels(2)],
            "Se pierden los bytes que no son ASCII.": _decode(
                lambda pieces: b"".join(pieces).decode("ascii", "ignore")
            ),
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
    success="¡Correcto! Tu BPE codifica como la biblioteca, byte a byte.",
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
