"""Corrección del laboratorio 06 · KV cache escrito a mano."""

import torch
from transformers import DynamicCache, LlamaConfig, Phi3Config, Qwen3Config
from transformers.cache_utils import Cache, DynamicLayer

from ..cache import make_cache
from ..forward import next_logits
from ..sampling import sample_token
from . import Hint, as_int, call, exercise, expect
from .bench import CallCounter, library, prompts, tiny_config, tiny_model

CLOSE = dict(atol=1e-3, rtol=1e-3)


def _forced(model, ids, cache, n: int):
    """Logits de n pasos con esa caché; los tokens son los de la biblioteca,
    para que un fallo se vea donde ocurre y no en lo que arrastra."""
    new = library(ids, n)[:, ids.shape[1] :]
    logits = [model(ids, past_key_values=cache).logits[0, -1].float()]
    for token in new.split(1, 1):
        out = model(token, past_key_values=cache)
        logits.append(out.logits[0, -1].float())
    return torch.stack(logits)  # [n + 1, V]


def _layers(layer_class) -> Cache:
    layers = range(tiny_config().num_hidden_layers)
    return Cache(layers=[call(layer_class) for _ in layers])


def _check_layer(layer_class, extra: str = "") -> None:
    """Que la capa dé lo mismo que la biblioteca, en el bucle y en generate."""
    expect(
        isinstance(layer_class, type)
        and issubclass(layer_class, DynamicLayer),
        "Esperaba tu clase (sin paréntesis), hija de DynamicLayer.",
    )
    model = tiny_model()
    some = torch.zeros(1, 2, 3, 4)  # con el hueco sin rellenar, Pendiente
    call(call(layer_class).update, some, some)
    generator = torch.Generator().manual_seed(4)
    long = torch.randint(0, 97, (1, 40), generator=generator)
    for ids in (*prompts(), long):
        theirs = DynamicCache()
        truth = _forced(model, ids, theirs, 12)
        cache = _layers(layer_class)
        hint = (
            "¿Qué devuelve update? Tiene que ser todo lo guardado, keys y "
            f"values, no solo lo nuevo. {extra}"
        )

        def run(ids=ids, cache=cache):
            return _forced(model, ids, cache, 12)

        try:
            logits = call(run)
        except Hint as error:
            raise Hint(f"{error} {hint}") from None
        length = as_int(cache.get_seq_length(), "get_seq_length no es entero.")
        wanted = ids.shape[1] + 12
        expect(
            length == wanted,
            f"Tras un prompt de {ids.shape[1]} y 12 tokens más, la capa dice "
            f"que guarda {length} y deberían ser {wanted}. ¿Guardas en "
            f"self.keys y self.values lo que devuelves? {extra}",
        )
        _same_content(cache.layers[:1], theirs.layers, extra)
        expect(torch.allclose(logits, truth, **CLOSE), hint)
        _same_content(cache.layers, theirs.layers, extra)
    ids = torch.cat([prompts()[2], prompts()[2] + 1])  # un lote de 2

    def inside():
        options = dict(do_sample=False, max_new_tokens=8, pad_token_id=0)
        mask = torch.ones_like(ids)
        theirs = model.generate(ids, attention_mask=mask, **options)
        mine = model.generate(
            ids,
            attention_mask=mask,
            past_key_values=_layers(layer_class),
            **options,
        )
        return torch.equal(mine, theirs)

    expect(
        call(inside),
        f"Con un lote de 2 filas, dentro de generate, sale otra cosa. {extra}",
    )
    cache = _layers(layer_class)
    ids = prompts()[4]
    rest = torch.cat([ids[:, :10], prompts()[3]], -1)[:, 10:]

    def cropped():
        _forced(model, ids, cache, 3)
        cache.crop(-6)  # quedan 10
        return model(rest, past_key_values=cache).logits[0, -1]

    hint = (
        "Falla después de cache.crop(-6), al seguir por otro camino. ¿Llevas la "
        f"cuenta en un sitio que crop no conoce? {extra}"
    )
    try:
        out = call(cropped)
    except Hint as error:
        raise Hint(f"{error} {hint}") from None
    right = next_logits(model, torch.cat([ids[:, :10], rest], -1))[0]
    expect(torch.allclose(out, right, **CLOSE), hint)


def _same_content(ours, theirs, extra: str) -> None:
    for layer, other in zip(ours, theirs):
        for mine, right in (
            (layer.keys, other.keys),
            (layer.values, other.values),
        ):
            expect(
                mine.shape == right.shape
                and torch.allclose(mine, right, **CLOSE),
                "Lo guardado no es lo que guarda la biblioteca. ¿K en keys y V "
                "en values, por orden de llegada, y por el eje de los tokens "
                f"(−2)? {extra}",
            )


@exercise("06.1", success="¡Correcto! En tu bucle y dentro de generate.")
def own_layer(layer_class):
    """Una subclase de `DynamicLayer` con `update`."""
    _check_layer(layer_class)


@exercise("06.2", success="¡Correcto! Los bytes que de verdad se guardan.")
def own_bytes(kv_bytes):
    """`kv_bytes(config, tokens, bytes_per_number) -> int`."""
    shape = dict(
        hidden_size=48,
        intermediate_size=32,
        vocab_size=50,
        num_attention_heads=6,
    )
    for config, tokens, size in (
        (
            tiny_config(
                hidden_size=45,
                num_attention_heads=9,
                num_key_value_heads=3,
                num_hidden_layers=7,
            ),
            11,
            8,
        ),
        (tiny_config(), 7, 4),
        (
            LlamaConfig(**shape, num_hidden_layers=5, num_key_value_heads=6),
            9,
            2,
        ),
        (
            Qwen3Config(
                **shape,
                num_hidden_layers=2,
                num_key_value_heads=2,
                head_dim=12,
            ),
            11,
            2,
        ),
        (
            Phi3Config(
                **shape,
                num_hidden_layers=3,
                num_key_value_heads=3,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            ),
            1,
            4,
        ),
    ):
        heads = config.num_attention_heads
        kv = config.num_key_value_heads
        head_dim = getattr(config, "head_dim", None)
        head_dim = head_dim or config.hidden_size // heads
        layers = config.num_hidden_layers
        right = 2 * layers * kv * head_dim * tokens * size
        ours = as_int(
            call(kv_bytes, config, tokens, size),
            "Los bytes son un número entero.",
        )
        if ours == right:
            continue
        for wrong, hint in (
            (right // 2, "Se guardan K y V: son dos."),
            (right * heads // kv, "Se guardan las cabezas de K/V, no todas."),
            (
                right * config.hidden_size // (kv * head_dim),
                "hidden_size no es cabezas de K/V × head_dim.",
            ),
            (right // size, "Faltan los bytes de cada número."),
            (right // layers, "Cada capa guarda lo suyo."),
            (
                right * (config.hidden_size // heads) // head_dim,
                "head_dim no siempre es hidden_size / cabezas: si la "
                "configuración lo trae, es ese.",
            ),
        ):
            expect(ours != wrong, f"Sale {ours} y son {right}. {hint}")
        raise Hint(
            f"Con {layers} capas, {kv} cabezas de K/V de {head_dim}, {tokens} "
            f"tokens y {size} bytes por número son {right} bytes; te salen "
            f"{ours}."
        )


@exercise(
    "06.3",
    success="¡Correcto! El mismo texto, y cada token pasa una sola vez.",
)
def cached_loop(write):
    """`write(model, ids, n, cache) -> [1, len + n]`."""
    for ids in prompts():
        for n in (10, 2, 1):
            right = library(ids, n)
            with CallCounter() as counter:
                cache = make_cache(counter.model)
                ours = call(write, counter.model, ids.clone(), n, cache)
            expect(
                isinstance(ours, torch.Tensor) and ours.shape == right.shape,
                f"Devuelve los ids, prompt incluido: forma "
                f"{list(right.shape)}.",
            )
            start = ids.shape[1]
            sizes = counter.lengths
            expect(
                bool(sizes),
                "No se ve pasar nada por la red. Llama al modelo así: "
                "model(ids, …), y no model.forward(…).",
            )
            expect(
                sizes[:1] == [start],
                f"El primer forward recibe {sizes[:1]} tokens y el prompt "
                f"tiene {start}: prefill es pasarlo entero, una vez.",
            )
            expect(
                all(size == 1 for size in sizes[1:]),
                f"Por la red pasan {sizes} tokens. Después del prefill, cada "
                "forward recibe solo el token nuevo: lo anterior está en la "
                "caché.",
            )
            expect(
                torch.equal(ours, right),
                "Los ids no son los de generate. ¿Le pasas la caché en todas "
                "las llamadas, también en el prefill, y siempre la misma?",
            )
            expect(
                len(sizes) == n,
                f"Para {n} tokens haces {len(sizes)} forwards. Después del "
                "último no hace falta ninguno.",
            )
            expect(
                cache.get_seq_length() == start + n - 1,
                "La caché que te dieron acaba con "
                f"{cache.get_seq_length()} tokens y deberían ser "
                f"{start + n - 1}. ¿Has usado otra?",
            )


@exercise(
    "06.4", success="¡Correcto! Los mismos forwards, muchos menos tokens."
)
def work(processed):
    """`processed(P, n) -> (con caché, sin caché)`, en tokens."""
    for prompt, n in ((5, 1), (1, 4), (16, 32), (55, 100), (7, 2)):
        value = call(processed, prompt, n)
        value = value.tolist() if hasattr(value, "tolist") else value
        expect(
            isinstance(value, tuple | list) and len(value) == 2,
            "Devuelve dos números: (con caché, sin caché).",
        )
        cached, plain = (
            as_int(x, "Los tokens son números enteros.") for x in value
        )
        right = prompt + n - 1, n * prompt + n * (n - 1) // 2
        expect(
            (cached, plain) != right[::-1] or right[0] == right[1],
            "Los tienes al revés: primero con caché.",
        )
        expect(
            cached == right[0],
            f"Con caché, P = {prompt} y n = {n}: pasan {right[0]} y dices "
            f"{cached}. El prompt entra una vez y cada token nuevo, otra… "
            "salvo uno: ¿cuál no llega a pasar?",
        )
        expect(
            plain == right[1],
            f"Sin caché, P = {prompt} y n = {n}: pasan {right[1]} y dices "
            f"{plain}. ¿Cuántos entran en el primer paso? ¿Y en el último?",
        )


@exercise("06.5", success="¡Correcto! Aprovecha lo que vale y tira lo que no.")
def reuse(next_scores):
    """`next_scores(model, ids, cache, kept) -> [1, V]`."""
    generator = torch.Generator().manual_seed(6)

    def random(n):
        return torch.randint(0, 97, (1, n), generator=generator)

    base = random(12)
    for ids, kept, name in (
        (
            torch.cat([base, random(4)], -1),
            base,
            "el prompt sigue a lo guardado",
        ),
        (random(9), random(0), "la caché está vacía"),
        (torch.cat([base[:, :7], random(6)], -1), base, "se separan a medias"),
        (random(8), base, "no se parecen en nada"),
        (base[:, :10], base, "el prompt es el comienzo de lo guardado"),
        (base, base, "el prompt es justo lo guardado"),
        (
            torch.cat([base[:, :5], (base[:, 5:6] + 1) % 97, base[:, 6:]], -1),
            base,
            "solo cambia un token de en medio",
        ),
    ):
        same = 0
        while (
            same < min(kept.shape[1], ids.shape[1] - 1)
            and kept[0, same] == ids[0, same]
        ):
            same += 1
        model = tiny_model()
        right = next_logits(model, ids)
        cache = make_cache(model)
        if kept.shape[1]:
            model(kept, past_key_values=cache)
        with CallCounter() as counter:
            ours = call(
                next_scores, model, ids.clone(), cache, kept[0].tolist()
            )
        expect(
            isinstance(ours, torch.Tensor) and ours.shape == right.shape,
            f"Devuelve los logits del siguiente token: forma {[1, 97]}.",
        )
        expect(
            torch.allclose(ours.float(), right, **CLOSE),
            f"Cuando {name}, los logits no son los correctos. ¿Recortas la "
            "caché justo donde dejan de coincidir, antes de seguir?",
        )
        expect(
            sum(counter.lengths) == ids.shape[1] - same,
            f"Cuando {name}, pasan {sum(counter.lengths)} tokens por la red y "
            f"bastan {ids.shape[1] - same}: coinciden {same} (y alguno tiene "
            "que pasar, para dar logits).",
        )
        expect(
            cache.get_seq_length() == ids.shape[1],
            f"Al acabar, la caché guarda {cache.get_seq_length()} tokens y el "
            f"prompt tiene {ids.shape[1]}: tiene que quedar lista para seguir.",
        )


@exercise("06.6", success="¡Cazado!")
def bugs(letter, fixed):
    """Las siete cacerías: `letter` de la «a» a la «g»."""
    cases = dict(
        a=_bug_position,
        b=_bug_unwritten,
        c=_bug_growth,
        d=_bug_offset,
        e=_bug_unused,
        f=_bug_padding,
        g=_bug_broadcast,
    )
    expect(letter in cases, f"Las cacerías son {', '.join(cases)}.")
    cases[letter](fixed)


def _bug_position(loop):
    model = tiny_model()
    for ids in prompts():
        right = library(ids, 12)[0, ids.shape[1] :].tolist()
        with CallCounter() as counter:
            ours = call(loop, model, ids.clone(), 12, make_cache(model))
        expect(
            isinstance(ours, list),
            "Tiene que seguir devolviendo la lista de ids nuevos.",
        )
        expect(
            ours == right,
            "No da los ids de generate. El texto sale fluido, así que el error "
            "es sutil. Imprime la posición que se da a cada token: con un "
            f"prompt de {ids.shape[1]}, que ocupa de la 0 a la "
            f"{ids.shape[1] - 1}, ¿cuál le toca al primero?",
        )
        expect(
            sum(counter.lengths) <= ids.shape[1] + 12,
            "Ahora acierta, pero volviendo a pasar lo ya guardado. El error "
            "estaba en la posición, no en la caché.",
        )


def _bug_unwritten(layer_class):
    _check_layer(
        layer_class,
        "Usa la capa con un prompt de 3 tokens y mira keys.shape tras cada "
        "paso: ¿crece de uno en uno desde 3?",
    )


def _bug_growth(layer_class):
    expect(
        isinstance(layer_class, type) and getattr(layer_class, "room", 0) <= 8,
        "Deja room = 4: así se ve el error pronto.",
    )
    _check_layer(
        layer_class,
        "Mientras hay sitio va bien; falla al crecer. Compara keys antes y "
        "después de la copia: ¿está cada número en su cabeza y su posición?",
    )


def _bug_offset(prefill):
    model = tiny_model()
    for ids in prompts()[2:]:
        for size in (64, 4, 3, 1):
            cache = make_cache(model)
            with CallCounter() as counter:
                ours = call(prefill, model, ids.clone(), cache, size)
            expect(
                isinstance(ours, torch.Tensor) and ours.shape[-1] == 97,
                "Tiene que seguir devolviendo los logits del último token.",
            )
            expect(
                torch.allclose(
                    ours.flatten()[-97:], next_logits(model, ids)[0], **CLOSE
                ),
                f"Con trozos de {size}, {ids.shape[1]} tokens no dan los "
                "logits de pasarlos de una vez. Imprime las posiciones de cada "
                "trozo: ¿empieza el segundo donde acabó el primero?",
            )
            expect(
                counter.lengths == [p.shape[1] for p in ids.split(size, 1)]
                and cache.get_seq_length() == ids.shape[1],
                f"Los logits son los buenos, pero por la red han pasado trozos "
                f"de {counter.lengths} y la caché guarda "
                f"{cache.get_seq_length()}: tienen que seguir siendo trozos de "
                f"{size}, y quedar guardados.",
            )


def _bug_unused(loop):
    for ids in prompts():
        right = library(ids, 8)[0, ids.shape[1] :].tolist()
        with CallCounter() as counter:
            cache = make_cache(counter.model)
            ours = call(loop, counter.model, ids.clone(), 8, cache)
        expect(
            isinstance(ours, list),
            "Tiene que seguir devolviendo la lista de ids nuevos.",
        )
        expect(
            ours == right,
            "El texto ya no es el de generate: antes sí lo era.",
        )
        expect(
            sum(counter.lengths) == ids.shape[1] + 7,
            f"El texto es correcto, pero por la red pasan "
            f"{sum(counter.lengths)} tokens ({counter.lengths}) y bastan "
            f"{ids.shape[1] + 7}. ¿Qué recibe el modelo en cada vuelta? ¿Le "
            "llega la caché?",
        )
        expect(
            cache.get_seq_length() == ids.shape[1] + 7,
            "Va deprisa, pero no con la caché que recibe: se ha quedado con "
            f"{cache.get_seq_length()} tokens.",
        )


def _bug_padding(batch):
    model = tiny_model()
    long, short = prompts()[4], prompts()[2].clone()
    short[0, 2] = 0  # un 0 de verdad, que no es relleno
    pad = torch.zeros(1, long.shape[1] - short.shape[1], dtype=torch.long)
    ids = torch.cat([long, torch.cat([pad, short], -1)])
    mask = torch.ones_like(ids)
    mask[1, : pad.shape[1]] = 0
    cache = make_cache(model)
    ours = call(batch, model, ids.clone(), mask.clone(), cache)
    expect(
        isinstance(ours, torch.Tensor) and list(ours.shape) == [2, 97],
        "Tiene que seguir devolviendo los logits de las dos filas, [2, 97].",
    )
    expect(
        cache.get_seq_length() == ids.shape[1],
        f"La caché guarda {cache.get_seq_length()} tokens y debería guardar "
        f"los {ids.shape[1]} del lote: hay que seguir generando con ella.",
    )
    for row, alone in ((0, long), (1, short)):
        expect(
            torch.allclose(
                ours[row].float(), next_logits(model, alone)[0], **CLOSE
            ),
            f"La fila {row} no da los logits que da ella sola. "
            + (
                "Tiene relleno a la izquierda: ¿quién le dice al modelo qué "
                "es relleno y qué no?"
                if row
                else "Esa no llevaba relleno: mira qué has cambiado."
            ),
        )


def _bug_broadcast(first_tokens):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 97, generator=generator)
    rows, series = 4000, []
    for seed in (3, 3, 4):
        dice = torch.Generator().manual_seed(seed)
        ours = call(first_tokens, logits.clone(), rows, dice)
        expect(
            isinstance(ours, torch.Tensor) and list(ours.shape) == [rows],
            f"Tiene que devolver {rows} ids, uno por texto: forma [{rows}].",
        )
        series.append(ours)
    seen = len(series[0].unique())
    expect(
        seen > 40,
        f"{rows} textos y solo {seen} primer(os) token(s) distinto(s): todos "
        "empiezan igual. ¿Cuántas veces se sortea?",
    )
    expect(
        torch.equal(series[0], series[1])
        and not torch.equal(series[0], series[2]),
        "Con la misma semilla tiene que salir lo mismo, y con otra, otra cosa: "
        "el azar es el del generador que recibes.",
    )
    half = rows // 2
    expect(
        not torch.equal(series[0][:half], series[0][half:]),
        "La segunda mitad repite a la primera. Cada texto, su propio sorteo.",
    )
    wanted = logits[0].softmax(-1)
    dice = torch.Generator().manual_seed(3)
    typical = sample_token(logits.expand(rows, -1), generator=dice)
    error, usual = (
        float((torch.bincount(x, minlength=97) / rows - wanted).abs().sum())
        for x in (series[0], typical)
    )
    expect(
        error < 1.5 * usual,
        "Los comienzos ya varían, pero no con las probabilidades del modelo.",
    )
