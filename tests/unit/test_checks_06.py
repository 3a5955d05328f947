"""Mutantes de la unidad 06: respuestas equivocadas que hay que rechazar."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from tokenatoken.cache import ConcatLayer, PreallocatedLayer, make_cache
from tokenatoken.checks import check
from tokenatoken.generation import prefill
from tokenatoken.sampling import sample_token

from .verdicts import accepted, enough_mutants, rejected


def layer(update):
    """Una capa con ese `update(self, keys, values)` ya inicializada."""

    class Layer(DynamicLayer):
        def update(self, key_states, value_states, *args, **kwargs):
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            return update(self, key_states, value_states)

    return Layer


def both(old, new, dim=-2):
    return torch.cat([old, new], dim=dim)


def right(self, k, v):
    self.keys, self.values = both(self.keys, k), both(self.values, v)
    return self.keys, self.values


def swapped(self, k, v):
    self.keys, self.values = both(self.keys, v), both(self.values, k)
    return self.values, self.keys


def returns_new(self, k, v):
    right(self, k, v)
    return k, v


def not_kept(self, k, v):
    return both(self.keys, k), both(self.values, v)


def in_front(self, k, v):
    self.keys, self.values = both(k, self.keys), both(v, self.values)
    return self.keys, self.values


def only_keys(self, k, v):
    self.keys = both(self.keys, k)
    return self.keys, both(self.values, v)


def last_only(self, k, v):
    self.keys, self.values = k, v
    return k, v


def returns_swapped(self, k, v):
    right(self, k, v)
    return self.values, self.keys


def loses_last(self, k, v):
    k, v = both(self.keys, k), both(self.values, v)
    self.keys, self.values = k[:, :, :-1], v[:, :, :-1]
    return k, v


def sums(self, k, v):
    if self.keys.numel() and k.shape == self.keys.shape:
        k, v = self.keys + k, self.values + v
    return right(self, k, v)


def first_row(self, k, v):
    return right(self, k[:1], v[:1])


def own_counter(self, k, v):
    """Cuenta aparte: `crop` no se entera."""
    if not hasattr(self, "store"):
        shape = (*k.shape[:2], 64, k.shape[3])
        self.store, self.used = (k.new_zeros(shape), v.new_zeros(shape)), 0
    end = self.used + k.shape[2]
    self.store[0][:, :, self.used : end] = k
    self.store[1][:, :, self.used : end] = v
    self.used = end
    self.keys, self.values = (s[:, :, :end] for s in self.store)
    return self.keys, self.values


def growing(copy):
    class Layer(DynamicLayer):
        room = 4

        def update(self, key_states, value_states, *args, **kwargs):
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.stores = [key_states[:, :, :0], value_states[:, :, :0]]
            start = self.get_seq_length()
            end = start + key_states.shape[-2]
            olds = self.keys, self.values
            for i, new in enumerate((key_states, value_states)):
                if end > self.stores[i].shape[2]:
                    size = max(self.room, 2 * end)
                    store = new.new_zeros(*new.shape[:2], size, new.shape[3])
                    if start:
                        copy(store, olds[i], start)
                    self.stores[i] = store
                self.stores[i][:, :, start:end] = new
            self.keys = self.stores[0][:, :, :end]
            self.values = self.stores[1][:, :, :end]
            return self.keys, self.values

    return Layer


def copy_right(store, old, start):
    store[:, :, :start] = old


def copy_flat(store, old, start):
    store.view(-1)[: old.numel()] = old.reshape(-1)


def copy_short(store, old, start):
    store[:, :, : start - 1] = old[:, :, 1:]


def copy_nothing(store, old, start):
    pass


def copy_first_head(store, old, start):
    store[:, :, :start] = old[:, :1]


def fixed_room(self, k, v):
    """Reserva fija de 32: con un prompt largo, se pierde lo viejo."""
    right(self, k, v)
    self.keys, self.values = self.keys[:, :, -32:], self.values[:, :, -32:]
    return self.keys, self.values


def kv_bytes(config, tokens, size):
    head_dim = getattr(config, "head_dim", None)
    if head_dim is None:
        head_dim = config.hidden_size // config.num_attention_heads
    heads = 2 * config.num_key_value_heads * head_dim
    return config.num_hidden_layers * heads * tokens * size


def short_dim(config, tokens, size):
    head_dim = config.hidden_size // config.num_attention_heads
    heads = 2 * config.num_key_value_heads * head_dim
    return config.num_hidden_layers * heads * tokens * size


def write(model, ids, n, cache):
    entering = ids
    for _ in range(n):
        out = model(entering, past_key_values=cache)
        entering = out.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, entering], -1)
    return ids


def write_everything(model, ids, n, cache):
    for _ in range(n):
        token = model(ids, use_cache=False).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, token], -1)
    return ids


def write_no_cache(model, ids, n, cache):
    entering = ids
    for _ in range(n):
        entering = model(entering).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, entering], -1)
    return ids


def write_other_cache(model, ids, n, cache):
    return write(model, ids, n, make_cache(model))


def write_extra(model, ids, n, cache):
    ids = write(model, ids, n, cache)
    model(ids[:, -1:], past_key_values=cache)
    return ids


def write_all_into_cache(model, ids, n, cache):
    """Mete el texto entero en la caché en cada vuelta."""
    for _ in range(n):
        out = model(ids, past_key_values=cache)
        ids = torch.cat([ids, out.logits[:, -1:].argmax(-1)], -1)
    return ids


def write_token_by_token(model, ids, n, cache):
    for token in ids.split(1, 1):
        out = model(token, past_key_values=cache)
    for i in range(n):
        token = out.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, token], -1)
        if i + 1 < n:
            out = model(token, past_key_values=cache)
    return ids


def write_position_zero(model, ids, n, cache):
    entering, options = ids, {}
    for _ in range(n):
        out = model(entering, past_key_values=cache, **options)
        entering = out.logits[:, -1:].argmax(-1)
        options = dict(position_ids=torch.tensor([[0]]))
        ids = torch.cat([ids, entering], -1)
    return ids


def write_repeats_prompt_end(model, ids, n, cache):
    model(ids, past_key_values=cache)
    return write(model, ids, n, cache)


def next_scores(model, ids, cache, kept, *, last=1, crop=True):
    same, wanted = 0, ids[0].tolist()
    for a, b in zip(kept, wanted[: len(wanted) - last]):
        if a != b:
            break
        same += 1
    if crop:
        cache.crop(same - len(kept))
    return model(ids[:, same:], past_key_values=cache).logits[:, -1]


def scores_from_zero(model, ids, cache, kept):
    cache.crop(-len(kept))
    return model(ids, past_key_values=cache).logits[:, -1]


def scores_ignoring(model, ids, cache, kept):
    return model(ids, past_key_values=cache).logits[:, -1]


def scores_by_length(model, ids, cache, kept):
    """Da por bueno todo lo guardado."""
    n = min(len(kept), ids.shape[1] - 1)
    cache.crop(n - len(kept))
    return model(ids[:, n:], past_key_values=cache).logits[:, -1]


def scores_counting(model, ids, cache, kept):
    """Cuenta las que coinciden en cualquier sitio, no el prefijo."""
    same = sum(a == b for a, b in zip(kept, ids[0].tolist()[:-1]))
    cache.crop(same - len(kept))
    return model(ids[:, same:], past_key_values=cache).logits[:, -1]


def scores_fresh(model, ids, cache, kept):
    return next_scores(model, ids, make_cache(model), [])


def scores_all(model, ids, cache, kept):
    return next_scores(model, ids, cache, kept)[0]


def scores_one_less(model, ids, cache, kept):
    return next_scores(model, ids, cache, kept, last=2)


def loop_a(shift):
    def loop(model, ids, n, cache):
        out = model(ids, past_key_values=cache)
        new = [out.logits[0, -1].argmax().item()]
        while len(new) < n:
            place = torch.tensor([[ids.shape[1] + len(new) + shift]])
            token = torch.tensor([[new[-1]]])
            out = model(token, past_key_values=cache, position_ids=place)
            new.append(out.logits[0, -1].argmax().item())
        return new

    return loop


def loop_e(model, ids, n, cache):
    return write(model, ids, n, cache)[0, ids.shape[1] :].tolist()


def loop_e_bug(model, ids, n, cache):
    out = write_everything(model, ids, n, cache)
    return out[0, ids.shape[1] :].tolist()


def prefill_d(places):
    def run(model, ids, cache, size):
        for part in ids.split(size, dim=1):
            p = places(cache.get_seq_length(), part.shape[1])[None]
            out = model(part, past_key_values=cache, position_ids=p)
        return out.logits[:, -1]

    return run


def straight(start, n):
    return torch.arange(start, start + n)


def batch_f(model, ids, mask, cache):
    return prefill(model, ids, cache, mask)


def only_mask(model, ids, mask, cache):
    """La máscara, pero las posiciones cuentan el relleno."""
    places = torch.arange(ids.shape[1]).expand_as(ids) * 2
    out = model(
        ids, attention_mask=mask, position_ids=places, past_key_values=cache
    )
    return out.logits[:, -1]


def first_g(logits, rows, generator):
    return sample_token(logits.expand(rows, -1), generator=generator)


CORRECT = {
    "06.1": (layer(right),),
    "06.2": (kv_bytes,),
    "06.3": (write,),
    "06.4": (lambda P, n: (P + n - 1, n * P + n * (n - 1) // 2),),
    "06.5": (next_scores,),
    "06.6": ("a", loop_a(-1)),
}
BUGS = {
    "a": loop_a(-1),
    "b": layer(right),
    "c": growing(copy_right),
    "d": prefill_d(straight),
    "e": loop_e,
    "f": batch_f,
    "g": first_g,
}
MUTANTS = {
    "intercambiadas": ("06.1", layer(swapped)),
    "devuelve lo nuevo": ("06.1", layer(returns_new)),
    "no guarda": ("06.1", layer(not_kept)),
    "por delante": ("06.1", layer(in_front)),
    "solo keys": ("06.1", layer(only_keys)),
    "solo lo último": ("06.1", layer(last_only)),
    "al devolver, al revés": ("06.1", layer(returns_swapped)),
    "pierde el último": ("06.1", layer(loses_last)),
    "otro eje": (
        "06.1",
        layer(lambda s, k, v: (both(s.keys, k, -1), both(s.values, v, -1))),
    ),
    "suma": ("06.1", layer(sums)),
    "primera fila": ("06.1", layer(first_row)),
    "cuenta aparte": ("06.1", layer(own_counter)),
    "no es una capa": ("06.1", right),
    "un objeto": ("06.1", layer(right)()),
    "ventana de 32": ("06.1", layer(fixed_room)),
    "d sin trozos": (
        "06.6",
        "d",
        lambda m, i, c, s: m(i, past_key_values=c).logits[:, -1],
    ),
    "d sin caché": (
        "06.6",
        "d",
        lambda m, i, c, s: m(i, use_cache=False).logits[:, -1],
    ),
    "e caché propia": (
        "06.6",
        "e",
        lambda m, i, n, c: loop_e(m, i, n, make_cache(m)),
    ),
    "f sin caché": (
        "06.6",
        "f",
        lambda m, i, k, c: m(i, attention_mask=k).logits[:, -1],
    ),
    "f el 0 es relleno": (
        "06.6",
        "f",
        lambda m, i, k, c: prefill(m, i, c, (i != 0).long()),
    ),
    "g con temperatura": (
        "06.6",
        "g",
        lambda x, n, g: sample_token(
            x.expand(n, -1), temperature=0.7, generator=g
        ),
    ),
    "g con top-k": (
        "06.6",
        "g",
        lambda x, n, g: sample_token(x.expand(n, -1), top_k=50, generator=g),
    ),
    "g a pares": (
        "06.6",
        "g",
        lambda x, n, g: sample_token(x.expand(n // 2, -1), generator=g).repeat(
            2
        ),
    ),
    "g azar ajeno": (
        "06.6",
        "g",
        lambda x, n, g: sample_token(x.expand(n, -1)),
    ),
    "g en columna": (
        "06.6",
        "g",
        lambda x, n, g: first_g(x, n, g)[:, None],
    ),
    "sin el 2": ("06.2", lambda c, n, s: kv_bytes(c, n, s) // 2),
    "todas las cabezas": (
        "06.2",
        lambda c, n, s: (
            kv_bytes(c, n, s) * c.num_attention_heads // c.num_key_value_heads
        ),
    ),
    "atajo": ("06.2", short_dim),
    "sin bytes": ("06.2", lambda c, n, s: kv_bytes(c, n, 1)),
    "una capa": (
        "06.2",
        lambda c, n, s: kv_bytes(c, n, s) // c.num_hidden_layers,
    ),
    "hidden_size": (
        "06.2",
        lambda c, n, s: 2 * c.num_hidden_layers * c.hidden_size * n * s,
    ),
    "sin tokens": ("06.2", lambda c, n, s: kv_bytes(c, 1, s)),
    "con coma": ("06.2", lambda c, n, s: float(kv_bytes(c, n, s))),
    "cabezas y hidden": (
        "06.2",
        lambda c, n, s: (
            2
            * c.num_hidden_layers
            * c.num_attention_heads
            * n
            * c.hidden_size
            * s
        ),
    ),
    "todo cada vez": ("06.3", write_everything),
    "sin caché": ("06.3", write_no_cache),
    "otra caché": ("06.3", write_other_cache),
    "uno de más": ("06.3", write_extra),
    "entero en la caché": ("06.3", write_all_into_cache),
    "prompt de uno en uno": ("06.3", write_token_by_token),
    "posición cero": ("06.3", write_position_zero),
    "prompt dos veces": ("06.3", write_repeats_prompt_end),
    "solo lo nuevo": (
        "06.3",
        lambda m, i, n, c: write(m, i, n, c)[:, i.shape[1] :],
    ),
    "con generate": (
        "06.3",
        lambda m, i, n, c: m.generate(i, max_new_tokens=n, past_key_values=c),
    ),
    "forwards": ("06.4", lambda P, n: (n, n)),
    "al revés": (
        "06.4",
        lambda P, n: (n * P + n * (n - 1) // 2, P + n - 1),
    ),
    "uno más": ("06.4", lambda P, n: (P + n, n * P + n * (n - 1) // 2)),
    "n(n+1)/2": (
        "06.4",
        lambda P, n: (P + n - 1, n * P + n * (n + 1) // 2),
    ),
    "sin el prompt": ("06.4", lambda P, n: (n, n * P + n * (n - 1) // 2)),
    "P por n": ("06.4", lambda P, n: (P + n - 1, n * P)),
    "cuadrado": ("06.4", lambda P, n: (P + n - 1, (P + n) ** 2)),
    "con decimales": (
        "06.4",
        lambda P, n: (P + n - 1, n * P + n * (n - 1) / 2),
    ),
    "un número": ("06.4", lambda P, n: P + n - 1),
    "sin recortar": (
        "06.5",
        lambda m, i, c, k: next_scores(m, i, c, k, crop=False),
    ),
    "desde cero": ("06.5", scores_from_zero),
    "sin mirar": ("06.5", scores_ignoring),
    "por longitud": ("06.5", scores_by_length),
    "coincidencias sueltas": ("06.5", scores_counting),
    "caché nueva": ("06.5", scores_fresh),
    "una fila": ("06.5", scores_all),
    "uno menos": ("06.5", scores_one_less),
    "no deja ninguno": (
        "06.5",
        lambda m, i, c, k: next_scores(m, i, c, k, last=0),
    ),
    "a bug": ("06.6", "a", loop_a(0)),
    "a menos dos": ("06.6", "a", loop_a(-2)),
    "a sin caché": ("06.6", "a", loop_e_bug),
    "b bug": ("06.6", "b", layer(loses_last)),
    "b no guarda": ("06.6", "b", layer(not_kept)),
    "c bug": ("06.6", "c", growing(copy_flat)),
    "c corta": ("06.6", "c", growing(copy_short)),
    "c no copia": ("06.6", "c", growing(copy_nothing)),
    "c una cabeza": ("06.6", "c", growing(copy_first_head)),
    "d bug": ("06.6", "d", prefill_d(lambda s, n: s + straight(s, n))),
    "d desde cero": ("06.6", "d", prefill_d(lambda s, n: torch.arange(n))),
    "d uno más": ("06.6", "d", prefill_d(lambda s, n: 1 + straight(s, n) * 2)),
    "e bug": ("06.6", "e", loop_e_bug),
    "e otra caché": (
        "06.6",
        "e",
        lambda m, i, n, c: write_no_cache(m, i, n, c)[0, -n:].tolist(),
    ),
    "f bug": ("06.6", "f", lambda m, i, k, c: prefill(m, i, c)),
    "f posiciones": ("06.6", "f", only_mask),
    "f todo a uno": (
        "06.6",
        "f",
        lambda m, i, k, c: prefill(m, i, c, torch.ones_like(k)),
    ),
    "g bug": (
        "06.6",
        "g",
        lambda x, n, g: sample_token(x, generator=g).expand(n),
    ),
    "g uniforme": (
        "06.6",
        "g",
        lambda x, n, g: torch.randint(0, 97, (n,), generator=g),
    ),
    "g el mejor": ("06.6", "g", lambda x, n, g: x.argmax(-1).expand(n)),
    "otra letra": ("06.6", "z", loop_a(-1)),
}


@pytest.mark.parametrize("number", CORRECT)
def test_reference_is_accepted(number):
    accepted(number, *CORRECT[number])


@pytest.mark.parametrize("letter", BUGS)
def test_each_bug_can_be_fixed(letter):
    accepted("06.6", letter, BUGS[letter])


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected_with_a_hint(name):
    number, *answers = MUTANTS[name]
    rejected(name, number, *answers)


@pytest.mark.parametrize(
    "name, words",
    [
        ("no guarda", "self.keys"),
        ("devuelve lo nuevo", "todo lo guardado"),
        ("cuenta aparte", "crop"),
        ("todas las cabezas", "no todas"),
        ("atajo", "head_dim"),
        ("todo cada vez", "solo el token nuevo"),
        ("sin caché", "la caché"),
        ("uno de más", "Después del último"),
        ("al revés", "al revés"),
        ("uno más", "cuál no llega"),
        ("sin recortar", "Recortas"),
        ("desde cero", "bastan"),
        ("a bug", "posición"),
        ("c bug", "en su cabeza"),
        ("d bug", "segundo"),
        ("e bug", "recibe el modelo"),
        ("f bug", "relleno"),
        ("g bug", "se sortea"),
    ],
)
def test_hint_names_the_mechanism(name, words):
    number, *answers = MUTANTS[name]
    assert words in check(number, *answers).message


def test_every_check_has_mutants():
    flat = {name: (m[0], m[-1]) for name, m in MUTANTS.items()}
    enough_mutants(flat, CORRECT)
    assert {m[1] for m in MUTANTS.values() if m[0] == "06.6"} >= set(BUGS)


def test_an_untouched_layer_is_pending():
    assert check("06.1", layer(lambda *_: ...)).ok is None


def test_other_right_answers_are_accepted():
    accepted("06.1", ConcatLayer)
    accepted("06.1", PreallocatedLayer)
    accepted("06.6", "b", ConcatLayer)
    accepted("06.2", lambda c, n, s: torch.tensor(kv_bytes(c, n, s)))
    accepted(
        "06.4",
        lambda P, n: torch.tensor([P + n - 1, n * P + n * (n - 1) // 2]),
    )
    accepted("06.4", lambda P, n: [P + n - 1, sum(range(P, P + n))])
    accepted(
        "06.6",
        "g",
        lambda x, n, g: torch.multinomial(
            x[0].softmax(-1), n, replacement=True, generator=g
        ),
    )
