"""Corrección del laboratorio 03 · Softmax y temperatura."""

import math
import re
from functools import lru_cache, partial

import numpy as np
import torch

from ..forward import all_logits, next_logits, prompt_ids
from ..tokens import encode
from .bench import capitals, course_model, plain_text, random_logits
from .kit import (
    ASSERTS,
    Part,
    Pending,
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

INF = float("inf")


def _shares(weights):
    return weights / weights.sum()


# 03.1


def _soft(x, top):
    return _shares((x - top).exp())


def _safe(x):
    return _soft(x, x.max())


def _with_numpy(x):
    x = x.numpy().astype(float)
    return torch.from_numpy(_shares(np.exp(x - x.max())))


def _with_loop(x):
    weights = [math.exp(value - max(x.tolist())) for value in x.tolist()]
    return torch.tensor([w / sum(weights) for w in weights])


GOOD = {
    "resta el mayor": _safe,
    "es el de PyTorch": lambda x: x.softmax(-1),
    "calcula con numpy, en 64 bits": _with_numpy,
    "pasa por el log_softmax": lambda x: (x - x.logsumexp(-1)).exp(),
    "usa un bucle": _with_loop,
}
BAD = {
    "se desborda con logits grandes": lambda x: _soft(x, 0),
    "resta el primero y no el mayor": lambda x: _soft(x, x[0]),
    "solo resta el mayor si es positivo": lambda x: _soft(
        x, x.max().clamp_min(0)
    ),
    "resta la media": lambda x: _soft(x, x.mean()),
    "resta el segundo mejor": lambda x: _soft(x, x.sort().values[-2:][0]),
    "da algo a los prohibidos": lambda x: _safe((x - x.max()).clamp_min(-3)),
    "no llega a repartir": lambda x: (x - x.max()).exp(),
    "divide por el mayor": lambda x: _soft(x / x.abs().max(), 0),
    "pierde el signo": lambda x: _safe(x.abs().where(x.isfinite(), x)),
    "reparte los propios logits": lambda x: _shares(
        x - x[x.isfinite()].min() + 1
    ).nan_to_num(),
    "usa 2 en lugar de e": lambda x: _safe(x * math.log(2)),
    "suma tres milésimas a cada peso, más del margen": lambda x: _shares(
        (x - x.max()).exp() + 0.003 * x.isfinite()
    ),
    "lo da de mayor a menor": lambda x: _safe(x).sort(descending=True).values,
    "se lo da todo al mejor": lambda x: _shares((x == x.max()).float()),
    "cambia los logits que recibe": lambda x: _safe(x.sub_(x.max())),
}
HINTS = {name: f"¿Con qué logits se nota que {name}?" for name in BAD}
SUBJECTS = GOOD | BAD
OTHER_WAY = (
    "Lo que se promete es con un margen de 0,001, y no se promete el dtype. "
    "Compara números, con ese margen, y mira si pides algo más."
)
ROWS = {
    "corrientes": [0.5, -1.0, 2.0, -3.0],
    "grandes": [1000.0, 999.0, 0.0],
    "al final": [0.0, 999.0, 1000.0],
    "bajos": [-1000.0, -1001.0],
    "prohibido": [1.0, -INF, 2.0],
    "uno": [-INF, 2.0, -INF],
}


def test_softmax(softmax, rows=(*ROWS,), same=True, right=None, near=1e-3):
    """Una respuesta de 03.1; sus opciones la hacen ciega, o injusta."""
    for row in rows:
        x = torch.tensor(ROWS[row])
        given = x.clone()
        ours = softmax(given)
        truth = (right or torch.softmax)(x, -1)
        assert (ours - truth).abs().max() <= near
        assert not same or torch.equal(given, x)


def by_properties(softmax, ratio=True, zero=True, total=True, near=1e-3):
    """Otra: lo que se promete, de una en una."""
    for row in map(torch.tensor, ROWS.values()):
        before = row.tolist()
        p = softmax(row).tolist()
        assert row.tolist() == before and len(p) == len(before)
        assert not total or abs(sum(p) - 1) < near
        assert all(value >= 0 for value in p)
        for a, x in zip(p, before):
            assert not zero or x != -INF or a == 0
            for b, y in zip(p, before):
                assert x <= y or a >= b
                if ratio and -INF < y <= x:
                    assert abs(a * math.exp(y - x) - b) < near


def _tested(answer, name) -> str:
    def softmax(logits):
        return SUBJECTS[name](logits)

    return put_to_test(answer, softmax)


def _tested_said(ours, right, name) -> str:
    if ours == "devuelve":
        return "Tu prueba devuelve False."
    return f"Rechaza uno bueno: {name}." if name in GOOD else "Pasa uno malo."


def _strict_dtype(softmax):
    for row in map(torch.tensor, ROWS.values()):
        assert torch.allclose(softmax(row), row.softmax(-1), atol=1e-3)


def _but(*rows):
    return partial(test_softmax, rows=[row for row in ROWS if row not in rows])


exercise(
    "03.1",
    Part(
        [(name,) for name in SUBJECTS],
        **verdicts(GOOD, HINTS, OTHER_WAY),
        observe=_tested,
        said=_tested_said,
        traps={
            HINTS[name]: wrong
            for name, wrong in {
                "se desborda con logits grandes": _but(
                    "grandes", "al final", "bajos"
                ),
                "resta el primero y no el mayor": _but("al final", "uno"),
                "solo resta el mayor si es positivo": _but("bajos"),
                "resta el segundo mejor": _but("uno"),
                "da algo a los prohibidos": partial(
                    by_properties, ratio=False, zero=False
                ),
                "no llega a repartir": partial(
                    by_properties, total=False, ratio=False
                ),
                "pierde el signo": _but("corrientes", "bajos"),
                "usa 2 en lugar de e": partial(by_properties, ratio=False),
                "suma tres milésimas a cada peso, más del margen": partial(
                    test_softmax, near=1e-2
                ),
                "cambia los logits que recibe": partial(
                    test_softmax, same=False
                ),
            }.items()
        }
        | {
            OTHER_WAY: [
                partial(test_softmax, near=0),
                partial(by_properties, near=1e-9),
            ],
            "torch.allclose pide el mismo dtype a los dos, y el dtype no se "
            "promete: conviértelos antes.": _strict_dtype,
            ASSERTS: returning(test_softmax),
        },
        rights=[test_softmax, by_properties],
    ),
    success="¡Correcto! Acepta los cinco buenos y caza los quince malos.",
)


# 03.2


def bias(logits, i, target, T, log=math.log, inside=False):
    """La cuenta exacta, en 64 bits; sus opciones la equivocan."""
    x = logits.double() / T
    others = torch.cat([x[:i], x[i + 1 :]])
    rest = (x if inside else others).logsumexp(0).item()
    return T * (log(target / (1 - target)) + rest - x[i].item())


def _odds(logits, i, target, T):
    p = (logits / T).softmax(-1)[i].item()
    return T * math.log(target / (1 - target) * (1 - p) / p)


def _bias_search(logits, i, target, T):
    low, high = -5e3, 5e3
    for _ in range(80):
        middle = (low + high) / 2
        more = _reached(logits, i, middle, T) < target
        low, high = (middle, high) if more else (low, middle)
    return middle


def _reached(logits, i, points, T) -> float:
    """La probabilidad con la que acaba el token i."""
    x = logits.double()
    x[i] += points
    return (x / T).softmax(-1)[i].item()


def _ratio(logits, i, target, T):
    return math.log(target / _reached(logits, i, 0, T))


def _biased(function, *case) -> float:
    logits, i, _, T = case
    points = number(call(function, *case), "Lo que hay que sumar")
    expect(abs(points) < INF, "Con ±∞ se queda en 0 o en 1, y no en medio.")
    return _reached(logits, i, points, T)


exercise(
    "03.2",
    Part(
        lambda: [
            (random_logits(seed, size) + shift, i, target, T)
            for seed, size, shift, i, target, T in (
                (0, 12, 0, 3, 0.5, 1.0),
                (1, 50, 0, 7, 0.9, 0.5),
                (2, 50, 200, 0, 0.2, 0.7),
                (3, 3, 0, 2, 0.05, 2.0),
                (4, 400, -3, 399, 0.7, 1.5),
            )
        ],
        truth=lambda logits, i, target, T: target,
        observe=_biased,
        near=1e-3,
        said="Con T = {3}, el token {1} acaba en {ours:.4f} y se pedía {2}.",
        traps={
            "Con T = 1 aciertas. Lo que sumas también se divide por T.": [
                lambda *case: bias(*case) / case[3],
                lambda x, i, target, T: _odds(x / T, i, target, 1),
            ],
            "Con T = 1 aciertas. La probabilidad de partida es la que tiene "
            "a esa T, y no a T = 1.": [
                lambda x, i, target, T: T * bias(x, i, target, 1),
                lambda x, i, target, T: bias(x, i, target, 1),
            ],
            "Con ln(objetivo / p) el token sube, y también el denominador: "
            "todos se reparten otro total. ¿Qué no cambia al sumarle puntos: "
            "su parte, o la razón entre los demás?": [
                lambda *case: case[3] * _ratio(*case),
                _ratio,
            ],
            "El logaritmo tiene que ser el natural, el que deshace la e.": [
                partial(bias, log=math.log10),
                partial(bias, log=math.log2),
            ],
            "Va al revés: tendría que subir y baja, o al contrario. Mira el "
            "signo.": lambda *case: -bias(*case),
            "Ese es el logit con el que acaba; se pide cuánto sumarle.": (
                lambda x, i, *rest: x[i].item() + bias(x, i, *rest)
            ),
            "Cuentas al propio token entre los demás, y él es el que se mueve: "
            "con él fuera, el resto no cambia.": partial(bias, inside=True),
            "Solo cuentas al mejor de los demás, y entre todos suman más.": (
                lambda x, i, target, T: (
                    T * math.log(target / (1 - target))
                    + torch.cat([x[:i], x[i + 1 :]]).max().item()
                    - x[i].item()
                )
            ),
            "No miras de dónde parte: con p = 0,5 aciertas, y con otra no.": (
                lambda x, i, target, T: T * math.log(target / (1 - target))
            ),
            "Restas probabilidades, y lo que se suma son puntos de logit.": (
                lambda x, i, target, T: target - _reached(x, i, 0, T)
            ),
        },
        otherwise="Escribe la razón entre el token y todos los demás juntos, "
        "antes y después: sumar puntos la multiplica. Si buscas, ¿es ancho el "
        "intervalo, y llega a los negativos?",
        rights=[bias, _odds, _bias_search],
    ),
    success="¡Correcto! Así funciona el logit_bias de algunas API.",
)


# 03.3


def _best(logits, T) -> float:
    return (logits.double() / T).softmax(-1).max().item()


def _search(logits, target, low=1e-3, high=1e3, rounds=60, up=True):
    for _ in range(rounds):
        middle = math.sqrt(low * high)
        more = (_best(logits, middle) > target) == up
        low, high = (middle, high) if more else (low, middle)
    return middle


def _search_grid(logits, target):
    grid = np.geomspace(1e-3, 1e3, 60_000)
    shares = [_best(logits, T) for T in grid[::600]]
    near = int(np.argmin(np.abs(np.array(shares) - target))) * 600
    fine = grid[max(near - 600, 0) : near + 600 : 2]
    return fine[np.argmin([abs(_best(logits, T) - target) for T in fine])]


def _found(function, logits, target):
    """0 si la temperatura sirve; si no, la temperatura."""
    T = number(call(function, logits, target), "T")
    expect(
        0 < T < INF,
        say("T = {0} no es una temperatura: tiene que ser mayor que 0.", T),
    )
    return 0.0 if abs(_best(logits, T) - target) < 1e-3 else T


def _search_hint(T, right, logits, target) -> str:
    best = _best(logits, T)
    if abs(best - target) < 1e-2:
        return "Casi. ¿Faltan vueltas, o el extremo del intervalo corta?"
    side = "sube" if best > target else "baja"
    return (
        f"Para llegar, T {side}. Imprime tu intervalo en cada vuelta: ¿se "
        "queda con la mitad que debe, y era bastante ancho al empezar?"
    )


exercise(
    "03.3",
    Part(
        lambda: [
            (random_logits(seed, scale=scale), target)
            for seed, target, scale in (
                (0, 0.6, 3.0),
                (1, 0.3, 3.0),
                (2, 0.99, 0.3),
                (3, 0.05, 30.0),
                (0, 0.1, 3.0),
            )
        ],
        truth=lambda logits, target: 0.0,
        observe=_found,
        said=lambda T, right, logits, target: say(
            "Con tu T = {0:.4f} el mejor tiene {1:.4f} y se pedía {2}.",
            T,
            _best(logits, T),
            target,
        ),
        traps={
            "T se queda en el borde de tu intervalo: ¿era bastante ancho?": [
                lambda x, target: _search(x, target, 1e-9, 1),
                lambda x, target: _search(x, target, 1, 100),
            ],
            "Tu T no depende de los logits ni de lo que se pide: hay que "
            "buscarla cada vez.": lambda x, target: 1.0,
            "Devuelves la probabilidad que se pedía, y se pide la T que la "
            "consigue.": lambda x, target: target,
            "Es justo la inversa de la T buena. ¿Multiplicas donde la unidad "
            "divide?": lambda x, target: 1 / _search(x, target),
            "Vas hacia el lado contrario: si el mejor tiene de más, ¿T tiene "
            "que subir o bajar?": [
                lambda x, target: _search(x, target, up=False),
                lambda x, target: _search(x, target, 0.01, 100, 50, False),
            ],
        },
        otherwise=_search_hint,
        rights=[_search, _search_grid],
    ),
    success="¡Correcto! Has encontrado el punto exacto.",
)


# 03.4


TEXTS = (
    "Uno, dos, tres, cuatro, cinco, seis, jirafa.",
    "for i in range(10):\n    print(banana)",
    "Llueve sobre la ciudad y nadie tiene paraguas.",
)


@lru_cache(8)
def _seen(text: str):
    """Los ids, `[n]`; lo que el modelo daba en cada posición, `[n, V]`, y las
    sorpresas, `[n − 1]`."""
    ids = prompt_ids(*course_model(), text)
    logprobs = all_logits(course_model()[0], ids)[0].log_softmax(-1)
    return ids[0], logprobs, -logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0]


def _token(i) -> str:
    return course_model()[1].decode([int(i)])


def score(text, to=math.exp, pick=torch.argmax):
    """La respuesta de 03.4 a); `to`: de la sorpresa media a lo que se da."""
    ids, _, nats = _seen(text)
    worst = int(pick(nats))
    return to(nats.mean().item()), _token(ids[worst + 1]), nats[worst].item()


def _score_loop(text):
    ids, logprobs, _ = _seen(text)
    nats = [-logprobs[k, i].item() for k, i in enumerate(ids[1:])]
    token = _token(ids[1 + nats.index(max(nats))])
    return [np.exp(sum(nats) / len(nats)), token, torch.tensor(max(nats))]


def _other(place, value):
    """`score`, con uno de los tres valores cambiado."""

    def answer(text):
        right = [*score(text)]
        right[place] = value(right[place], *_seen(text))
        return tuple(right)

    return answer


def _own_token(text):
    """Cada fila, con su propio token."""
    ids, logprobs, _ = _seen(text)
    nats = -logprobs.gather(1, ids[:, None])[:, 0]
    worst = nats.argmax()
    return nats.mean().exp(), _token(ids[worst]), nats[worst]


def _three(value, text) -> list:
    """[perplejidad, token, sorpresa], o la pista."""
    value = plain(value)
    expect(
        isinstance(value, tuple | list) and len(value) == 3,
        "Devuelve tres valores: (perplejidad, token, sorpresa).",
    )
    expect(
        isinstance(value[1], str), "El segundo valor es el texto del token."
    )
    perplexity = number(value[0], "La perplejidad")
    return [perplexity, value[1], number(value[2], "La sorpresa")]


SPANISH = " al con de del el en es la las los no para por que se un una y "
LONG = "Es corto: hacen falta 20 palabras o más."
REPEATS = (
    "Repetir es el truco barato: lo ya visto no sorprende. De cada tres "
    "palabras, dos tienen que ser distintas."
)
COUNTING = "Contar también es un truco: no pongas siete números seguidos."
NUMERALS = re.compile(
    r"(\b(uno?|una|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|once|doce|"
    r"trece|catorce|quince|dieci\w+|veint\w+|\w+enta|treinta|cien|mil) (y )?){7}"
)
NOT_SPANISH = (
    "Tiene que ser español, en frases: no veo bastantes palabras como «de», "
    "«que» o «la»."
)
TOO_RARE = (
    "¿Qué esperaba el modelo ahí? Cambia lo que sorprende por algo que haya "
    "leído mil veces, y mide otra vez."
)
MOST = 8


def _paragraph(answer) -> bool:
    """Si es un párrafo que el modelo ve venir; si no, la pista."""
    if answer is ...:
        raise Pending
    expect(isinstance(answer, str), "El párrafo es un texto, entre comillas.")
    words = re.findall(r"[^\W\d_]+", answer.lower())
    expect(len(words) >= 20, LONG)
    expect(3 * len(set(words)) >= 2 * len(words), REPEATS)
    expect(not NUMERALS.search(" ".join([*words, ""])), COUNTING)
    expect(sum(f" {w} " in SPANISH for w in words) >= 4, NOT_SPANISH)
    ids = encode(course_model()[1], answer)
    expect(len(ids) <= 300, "Es muy largo: con 300 tokens o menos, basta.")
    perplexity, token, surprise = score(answer)
    expect(
        perplexity < MOST,
        say(
            "Tu párrafo tiene perplejidad {0:.1f}, y hay que bajar de {1}. Lo "
            "que más sorprende es {2!r}, con {3:.1f} nats. {4}",
            *(perplexity, MOST, token, surprise, TOO_RARE),
        ),
    )
    return True


LETTER = (
    "Si tienes alguna pregunta o necesitas ayuda, no dudes en ponerte en "
    "contacto con nosotros. Estaremos encantados de ayudarte en todo lo que "
    "necesites."
)
RECIPE = (
    "Un triángulo es un polígono de tres lados y tres ángulos. La suma de los "
    "ángulos interiores de un triángulo es igual a ciento ochenta grados."
)
DIARY = (
    "Mi abuela cocinaba lentejas los viernes y toda la familia se reunía "
    "alrededor de la mesa para escuchar sus historias."
)
exercise(
    "03.4",
    Part(
        [(text,) for text in TEXTS],
        truth=lambda text: [*score(text)],
        read=_three,
        near=1e-3,
        said=lambda ours, right, text: say(
            "Con {0!r} dices {1:.2f}, {2!r} y {3:.2f}.", text, *ours
        ),
        traps={
            "Comparas cada fila con su propio token, y la fila i predice el "
            "token i + 1.": _own_token,
            "El primer token no cuenta: son n − 1 sorpresas, y divides por "
            "n.": _other(0, lambda _, i, x, n: math.exp(n.sum() / len(i))),
            "Tienes la sorpresa media. La perplejidad es e elevado a ese "
            "número, con su signo.": [
                partial(score, to=lambda mean: mean),
                partial(score, to=lambda mean: math.exp(-mean)),
                partial(score, to=lambda mean: 2**mean),
            ],
            "Sumas las sorpresas; la perplejidad usa su media.": _other(
                0, lambda _, i, x, n: n.double().sum().exp()
            ),
            "Haces la media de las probabilidades, y la media es de las "
            "sorpresas.": _other(0, lambda _, i, x, n: 1 / (-n).exp().mean()),
            "Ese es el que menos sorprende: busca la probabilidad más baja, "
            "que es la sorpresa más alta.": [
                partial(score, pick=torch.argmin),
                _other(1, lambda _, i, x, n: _token(i[1:][n.argmin()])),
            ],
            "Ese es el token anterior al que sorprende: la fila i habla del "
            "token i + 1.": _other(
                1, lambda _, i, x, n: _token(i[n.argmax()])
            ),
            "Ese es el que el modelo esperaba, y se pide el que vino.": _other(
                1, lambda _, i, x, n: _token(x[n.argmax()].argmax())
            ),
            "El espacio es parte del token: dalo como sale de "
            "tokenizer.decode.": [
                _other(1, lambda token, *_: token.strip()),
                _other(1, lambda token, *_: token.replace(" ", "·")),
                _other(1, lambda token, *_: token.replace(" ", "Ġ")),
            ],
            "La sorpresa es −ln p: positiva, y con logaritmo natural.": [
                _other(2, lambda nats, *_: nats / math.log(2)),
                _other(2, lambda nats, *_: nats / math.log(10)),
                _other(2, lambda nats, *_: math.exp(-nats)),
                _other(2, lambda nats, *_: -nats),
            ],
        },
        otherwise="Imprime cada token junto a su sorpresa: hay n − 1, y la fila "
        "i habla del token i + 1.",
        rights=[score, _score_loop],
    ),
    Part(
        [()],
        truth=lambda: True,
        observe=_paragraph,
        traps={
            LONG: [LETTER[:70], "Hola."],
            REPEATS: ["la casa de la playa y " * 5, DIARY * 2],
            COUNTING: (
                "Vamos a contar hasta quince en la pizarra, que es fácil: uno, "
                "dos, tres, cuatro, cinco, seis, siete, ocho, nueve, diez, "
                "once, doce, trece, catorce y quince."
            ),
            NOT_SPANISH: [
                "abcdefghijklmnopqrstuvwxyz".replace("", " "),
                " ".join(capitals()),
            ],
            TOO_RARE: DIARY,
        },
        rights=[LETTER, RECIPE],
    ),
    success="¡Correcto! Lo que el modelo ve venir lo ha leído mil veces.",
)


# 03.5


CONTROL = ["France", "Italy", "Russia", "Peru"]
CONTROL += ["Francia", "Italia", "Rusia", "Perú"]
HOLE = "La plantilla es un texto con un hueco {}, donde va el país."
UNKNOWN = "Ese país no está en la tabla: cópialo de capitals()."
NO_CAPITAL = (
    "La plantilla tiene que preguntar por la capital, con esa palabra."
)
BENT = (
    "Pregunta por la capital tal cual: con un «no», un «antigua» o un "
    "«económica», se pregunta otra cosa, y dar otra ciudad no es un error."
)
TWISTS = re.compile(
    r"\b(not|no|never|ni|nunca|jamas|old|former|ex|antigu[ao]|viej[ao]|economic\w*|"
    r"moved|mudo|movio|traslad\w+|wrong|mistak\w+|fals[aeo]\w*|incorrect\w*|"
    r"error|errone\w+|equivoc\w+|mal)\b"
)
TELLS = "Sin cifras y sin nombrar ninguna capital: eso es soplar."
SHOWN = "Esa es la de la unidad: busca otra manera de preguntarlo."
NOT_A_NAME = (
    "No es el nombre de otra ciudad, y así no se equivoca. Haz que la "
    "plantilla acabe justo donde va la ciudad."
)
ITS_RIGHT = "Acierta, o es el comienzo de la capital: prueba con otro país."
DOUBTS = (
    "No es la capital, pero duda: hacen falta 0,5 o más. ¿Con qué final de la "
    "plantilla se decide?"
)
TOLD = "Esa palabra la pones tú en la plantilla: que lo diga el modelo solo."
ANOTHER = (
    "Así, el modelo tampoco da la capital de los países fáciles: la plantilla "
    "pregunta otra cosa, o no se entiende."
)


@lru_cache(64)
def _answers(template: str, *names) -> list[tuple[str, float]]:
    """(token, probabilidad) con cada país, en un solo forward."""
    model, tokenizer = course_model()
    rows = [encode(tokenizer, template.replace("{}", name)) for name in names]
    longest = max(map(len, rows))
    ids = torch.tensor([[-1] * (longest - len(row)) + row for row in rows])
    mask = (ids >= 0).long()
    best = next_logits(model, ids * mask, None, mask).softmax(-1).max(-1)
    return [(_token(i), p) for i, p in zip(best.indices, best.values.tolist())]


def _right(token: str, name: str) -> bool:
    """Si el token es el comienzo de la capital, o de una palabra suya."""
    word = plain_text(token).strip()
    words = plain_text(" ".join(capitals()[name]))
    return word != "" and f" {word}" in f" {words}"


def _template(template) -> None:
    expect(isinstance(template, str) and "{}" in template, HOLE)
    text = plain_text(template)
    words = " ".join(re.findall(r"\w+", text))
    expect("capital" in words.split(), NO_CAPITAL)
    expect(not TWISTS.search(words), BENT)
    named = {plain_text(c) for several in capitals().values() for c in several}
    named = any(f" {c} " in f" {words} " for c in named)
    expect(not named and not re.search(r"\d", text), TELLS)
    expect(words != "the capital of is", SHOWN)
    size = len(encode(course_model()[1], template))
    expect(size <= 60, "Es muy larga: con 60 tokens o menos, basta.")


ENGLISH = "The capital of {} is the city of", "Nigeria"


@exercise(
    "03.5",
    success="¡Correcto! Seguro, y equivocado: no mide la verdad.",
    traps={
        HOLE: [("The capital of Chile is", "Chile"), (3, "Nigeria")],
        UNKNOWN: [(ENGLISH[0], "Narnia"), (ENGLISH[0], ["Nigeria"])],
        NO_CAPITAL: ("The city of {} is the city of", "Nigeria"),
        BENT: ("La antigua capital de {} es la ciudad de", "Turkey"),
        TELLS: [
            ("In 1990, the capital of {} is", "Nigeria"),
            ("As in Lima, the capital of {} is", "Nigeria"),
        ],
        SHOWN: [
            ("The capital of {} is", "Nigeria"),
            (" the capital of {} is:", "Nigeria"),
        ],
        NOT_A_NAME: ("The capital of {} is a", "France"),
        ITS_RIGHT: [(ENGLISH[0], "France"), (ENGLISH[0], "Brasil")],
        DOUBTS: (ENGLISH[0], "Canada"),
        TOLD: ("Lagos. The capital of {} is the city of", "Nigeria"),
        ANOTHER: (f"{ENGLISH[0]} Rio de", "Brazil"),
    },
    rights=[ENGLISH, ("Q: What is the capital of {}?\nA:", "Nigeria")],
)
def confident_error(template, country):
    """Una plantilla y un país con los que el modelo falla, y seguro."""
    if template is ... or country is ...:
        raise Pending
    _template(template)
    expect(isinstance(country, str) and country in capitals(), UNKNOWN)
    (token, p), *controls = _answers(template, country, *CONTROL)
    said = say("Con {0}, dice {1!r} con {2:.2f}. ", country, token, p)
    word = plain_text(token).strip()
    right = _right(token, country)
    other = right or word not in plain_text(country)
    expect(token.strip()[:1].isupper() and other, said + NOT_A_NAME)
    expect(not right, said + ITS_RIGHT)
    expect(p >= 0.5, said + DOUBTS)
    expect(word not in plain_text(template), said + TOLD)
    hits = [_right(t, name) for (t, _), name in zip(controls, CONTROL)]
    expect(max(sum(hits[:4]), sum(hits[4:])) >= 3, said + ANOTHER)


# 03.6


def _power_hint(ours, right, p, T) -> str:
    if abs(float(ours.sum()) - 1) > 1e-4:
        return say("Ya no suman 1: suman {0:.3f}.", ours.sum())
    side = "no llega al" if ours[p.argmax()] < right.max() else "se pasa del"
    return (
        f"El mejor {side} valor exacto. Escribe e^(logit / T) como una "
        "potencia de e^logit: ¿qué exponente queda?"
    )


exercise(
    "03.6",
    Part(
        lambda: [
            (random_logits(seed, 12, 2.0).double().softmax(-1), T)
            for seed in range(3)
            for T in (1.0, 0.5, 2.0, 3.0)
        ],
        truth=lambda p, T: (p.log() / T).softmax(-1),
        said=lambda ours, right, p, T: say(
            "Con T = {0} el mejor va de {1:.3f} a {2:.3f} y tendría que ir a "
            "{3:.3f}.",
            T,
            p.max(),
            ours[p.argmax()],
            right.max(),
        ),
        traps={
            "Va al revés: al subir T, el mejor tiene que bajar. Escribe "
            "e^(logit / T) como una potencia de e^logit.": (
                lambda p, T: _shares(p**T)
            ),
            "El exponente es el bueno, pero ya no suman 1: falta volver a "
            "repartir.": lambda p, T: p ** (1 / T),
            "No cambia nada: dividir o multiplicar todas las probabilidades "
            "por lo mismo y volver a repartir las deja igual.": [
                lambda p, T: p,
                lambda p, T: _shares(p / T),
                lambda p, T: _shares(p * T),
            ],
            "Les pasas otro softmax a las probabilidades, como si fueran "
            "logits. ¿Qué función las devuelve a logits?": [
                lambda p, T: (p / T).softmax(-1),
                lambda p, T: (p * T).softmax(-1),
                lambda p, T: (p ** (1 / T)).softmax(-1),
            ],
            "El exponente es negativo: el mejor pasa a ser el peor.": [
                lambda p, T: _shares(p**-T),
                lambda p, T: _shares(p ** (-1 / T)),
            ],
            "Tu exponente no depende de T: arregla un caso y no los demás.": (
                lambda p, T: _shares(p.sqrt())
            ),
            "Con T = 1 aciertas, y el exponente baja al subir T, pero no es "
            "una resta. Escribe e^(logit / T) como una potencia de "
            "e^logit.": lambda p, T: _shares(p ** (2 - T)),
            "Divides por T y no vuelves a repartir: ya no suman 1.": (
                lambda p, T: p / T
            ),
        },
        otherwise=_power_hint,
        rights=[
            lambda p, T: _shares(p ** (1 / T)),
            lambda p, T: (p.log() / T).softmax(-1),
            lambda p, T: _shares((p.log() / T).exp()),
            lambda p, T: (
                torch.tensor([x ** (1 / T) for x in p.tolist()]).double()
                / sum(x ** (1 / T) for x in p.tolist())
            ),
        ],
    ),
    success="¡Cazado! Elevar a 1/T es dividir los logits por T.",
)
