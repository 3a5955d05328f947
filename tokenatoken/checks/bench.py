"""El material de los laboratorios: modelos diminutos, textos, contadores y
dispositivos de mentira. Lo usan las correcciones y los propios cuadernos.
"""

import csv
from functools import cache
from pathlib import Path
from unicodedata import combining, normalize

import torch
from torch.overrides import TorchFunctionMode

from ..model import load_model, load_tokenizer
from ..tokens import byte_alphabet, encode
from .kit import Hint, expect

LOGS = {"A": "smollm2", "B": "qwen2.5-coder-0.5b", "C": "minilm"}
TINY = 97  # el vocabulario del modelo diminuto


@cache
def tokenizer(name: str = "qwen2.5-coder-0.5b"):
    """El tokenizador de ese nombre, cargado una sola vez."""
    return load_tokenizer(name)


@cache
def course_model():
    """El modelo del curso y su tokenizador, en la CPU: una sola copia para el
    cuaderno y para su corrección."""
    return load_model(device="cpu")


@cache
def odd_tokenizer():
    """Un BPE de bytes con cifras que se juntan y un añadido con cifras."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {b: c for c, b in byte_alphabet().items()}
    odd = "12|007|2024| 5|1 |\n7|0\n|3.|²|٣|½|１|1a|-1|x7|١٢|1\xa0"
    pieces = odd.encode().split(b"|")
    pieces += [bytes([b]) for b in reversed(range(256))]
    vocab = {"".join(map(letters.get, p)): i for i, p in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens(["911"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<fin>")


def count_tokens(text: str) -> int:
    """Cuántos tokens tiene el texto con el tokenizador del curso."""
    return len(encode(tokenizer(), text))


def log_ids(log: str) -> list[int]:
    """Los ids del registro «A», «B» o «C» del laboratorio 01."""
    phrase = "No quiero acordarme de tu cumpleaños"
    return encode(tokenizer(LOGS[log]), phrase)


@cache
def capitals() -> dict[str, list[str]]:
    """País, en inglés o en español → su capital, en los dos idiomas."""
    path = Path(__file__).parents[1] / "data" / "capitales.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [[*filter(None, row)] for row in csv.reader(file)][1:]
    return {name: row[2:] for row in rows for name in row[:2]}


def plain_text(text: str) -> str:
    """En minúsculas y sin tildes."""
    letters = normalize("NFD", text.casefold())
    return "".join(c for c in letters if not combining(c))


# Modelos diminutos


def tiny_config(**changes):
    """Configuración de un Qwen2 diminuto."""
    from transformers import Qwen2Config

    values = dict(
        vocab_size=TINY,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    return Qwen2Config(**{**values, **changes})


def random_model(config, seed: int = 0, spread: float = 0.3, **options):
    """Un modelo de esa configuración con todos los pesos al azar, normas y
    sesgos incluidos. `options` va a `from_config` (por ejemplo, `dtype`)."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, **options).eval()
        for parameter in model.parameters():
            parameter.normal_(0, spread)
            if parameter.dim() == 1:
                parameter.add_(0.5)
    return model


@cache
def tiny_model(seed: int = 0):
    """El Qwen2 diminuto. Es de todos: quien lo cambie, que lo copie."""
    return random_model(tiny_config(), seed)


# Datos repetibles


def random_ids(n: int, seed: int = 0) -> torch.Tensor:
    """Ids `[1, n]` del vocabulario diminuto."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, TINY, (1, n), generator=generator)


def random_logits(seed: int, size: int = 50, scale: float = 3.0):
    """Logits `[V]` sin ordenar."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(size, generator=generator)  # [V]


def prompts() -> list[torch.Tensor]:
    """Cinco prompts `[1, n]` de 1, 3, 5, 8 y 13 tokens."""
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randint(0, TINY, (1, n), generator=generator)
        for n in (1, 3, 5, 8, 13)
    ]


# Jueces y testigos


def library(ids: torch.Tensor, n: int, ends=(), beams: int = 1):
    """Lo que da `generate` con el modelo diminuto: `[1, len + nuevos]`."""
    return tiny_model().generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        num_beams=beams,
        max_new_tokens=n,
        eos_token_id=[*ends] or None,
        pad_token_id=0,
    )


class CallCounter:
    """Apunta los forwards del modelo diminuto, se llame como se llame, y le
    quita `generate`. `lengths`: tokens de cada uno."""

    def __enter__(self):
        self.lengths = []
        model = self.model = tiny_model()

        def note(_, args, kwargs):
            ids = args[0] if args else kwargs.get("input_ids")
            ids = kwargs["inputs_embeds"] if ids is None else ids
            self.lengths.append(ids.shape[1])
            expect(
                len(self.lengths) <= 60,
                "Llevas más de 60 forwards y no paras. ¿Cuentas el máximo?",
            )

        inside = model.model  # también si llaman a model.forward(…)
        self._hook = inside.register_forward_pre_hook(note, with_kwargs=True)
        model.generate = _forbidden
        return self

    def __exit__(self, *_):
        self._hook.remove()
        del self.model.generate


def _forbidden(*_, **__):
    raise Hint("Aquí el bucle lo escribes tú: no vale llamar a generate.")


class FakeGPU:
    """Un dispositivo que trabaja por su cuenta, y un reloj que lo sabe.

    `run()` encarga un trabajo y vuelve enseguida, como una GPU; `wait()`
    espera a que acabe todo lo encargado; `clock()` da la hora, en segundos.
    """

    launch = 0.25  # lo que cuesta encargar

    def __init__(self, seconds: list[float]):
        self.seconds, self.runs, self.reads = seconds, 0, 0
        self.now, self.pending = 1000.0, 64.0  # alguien ya le había encargado

    def run(self) -> None:
        self.now += self.launch
        self.pending += self.seconds[min(self.runs, len(self.seconds) - 1)]
        self.runs += 1

    def wait(self) -> None:
        self.now += self.pending
        self.pending = 0.0

    def clock(self) -> float:
        self.reads += 1
        return self.now


# Sumas en otro orden


@cache
def _order(shape: tuple) -> list[int]:
    """Un orden para la última dimensión, que sale de toda la forma."""
    seed = sum(size * 31**i for i, size in enumerate(shape, 1))
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(shape[-1], generator=generator).tolist()


class ShapeMachine(TorchFunctionMode):
    """Una máquina de mentira: mientras dura, `@`, `sum`, `mean` y `softmax`
    suman en un orden que sale de la forma entera de lo que reciben. Con la
    misma forma, los mismos bits, y lo mismo en cualquier CPU.

    `most`: cuántos sumandos caben en una suma, si hay tope.
    """

    has = "sum", "mean", "matmul", "linear", "softmax"
    wide = "exp", "exp2", "pow", "rpow", "log"  # en 64 bits, sin lugar
    same = dict.fromkeys(("mm", "bmm", "mv", "dot", "rmatmul"), "matmul")
    same |= dict.fromkeys(("other", "mat2", "vec"), "b")
    same |= {"axis": "dim", "keepdims": "keepdim", "array": "numpy"}
    lacks = (
        *("numpy", "vecdot", "vector_norm", "chain_matmul", "addbmm"),
        *("index_add", "scatter_add", "avg_pool1d", "conv2d", "nanmean"),
        *("einsum", "tensordot", "inner", "addmm", "addmv", "baddbmm"),
        *("cumsum", "logsumexp", "log_softmax", "norm", "linalg_norm"),
        *("scaled_dot_product_attention", "rms_norm", "var", "std", "vdot"),
        *("nansum", "trace", "conv1d", "multi_dot"),
    )

    def __init__(self, most: int | None = None):
        super().__init__()
        self.most = most

    def __torch_function__(self, function, types, args=(), kwargs=None):
        whole = getattr(function, "__name__", "")
        name = whole.strip("_").removeprefix("linalg_")
        name = name.removeprefix("special_")
        name = self.same.get(name, name)
        expect(
            name not in self.lacks,
            f"La máquina de la corrección no tiene {name}: suma con @, sum, "
            "mean, softmax o +.",
        )
        kwargs = kwargs or {}
        if name in self.wide:
            result = self._widely(function, args, kwargs)
            in_place = whole == f"{name}_"
            return args[0].copy_(result) if in_place else result
        if name not in self.has:
            return function(*args, **kwargs)
        named = {self.same.get(k, k): v for k, v in kwargs.items()}
        args = (named.pop("input"), *args) if "input" in named else args
        return getattr(self, f"_{name}")(*args, **named)

    def add(self, x: torch.Tensor, shape) -> torch.Tensor:
        """La suma de la última dimensión, en el orden de `shape`."""
        n = x.shape[-1]
        expect(
            self.most is None or n <= self.most,
            f"Sumas {n} sumandos de una vez. {TOO_MANY}",
        )
        total = x.new_zeros(x.shape[:-1])
        for i in _order((*shape, n)):
            total = total + x[..., i]
        return total

    def _sum(self, x, dim=None, keepdim=False, *, dtype=None, axis=None):
        dim = axis if dim is None else dim
        dims = [*range(x.dim())] if dim is None else dim
        dims = [dims] if isinstance(dims, int) else dims
        dims = sorted(d % max(x.dim(), 1) for d in dims)
        rest = [d for d in range(x.dim()) if d not in dims]
        x = x.to(dtype) if dtype else x
        if not x.is_floating_point() or not dims or not x.dim():
            return x.sum(dims, keepdim)
        flat = x.permute(*rest, *dims).flatten(len(rest))
        total = self.add(flat, x.shape)
        for d in dims if keepdim else ():
            total = total.unsqueeze(d)
        return total

    def _mean(self, x, dim=None, keepdim=False, **options):
        total = self._sum(x, dim, keepdim, **options)
        return total / (x.numel() / max(total.numel(), 1))

    def _matmul(self, a, b):
        rows, columns = a.dim() > 1, b.dim() > 1
        a, b = a if rows else a[None], b if columns else b[:, None]
        if a.shape[-1] != b.shape[-2]:
            return a @ b  # el error, que lo dé torch
        terms = a.unsqueeze(-2) * b.mT.unsqueeze(-3)  # [..., m, N, K]
        total = self.add(terms, terms.shape)
        total = total if columns else total.squeeze(-1)
        return total if rows else total.squeeze(-1 - columns)

    def _linear(self, x, weight, bias=None):
        return self._matmul(x, weight.T) + (0 if bias is None else bias)

    def _widely(self, function, args, named):
        kinds = {x.dtype for x in args if isinstance(x, torch.Tensor)}
        if kinds != {torch.float32}:
            return function(*args, **named)
        args = [x.double() if isinstance(x, torch.Tensor) else x for x in args]
        return function(*args, **named).float()

    def _softmax(self, x, dim=None, dtype=None, **_):
        x = x.to(dtype) if dtype else x
        weights = (x - x.amax(dim, keepdim=True)).double().exp().to(x.dtype)
        return weights / self._sum(weights, dim, keepdim=True)


TOO_MANY = (
    "En una suma caben las posiciones de un trozo: el resultado de cada "
    "trozo se suma al total con +."
)


def in_parts(terms: torch.Tensor, parts: int) -> torch.Tensor:
    """La suma de la última dimensión en `parts` partes salteadas, y las
    partes, en orden: los mismos bits en cualquier CPU."""
    columns = terms.unbind(-1)
    return sum(sum(columns[part::parts]) for part in range(parts))


def uniform(*shape, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """Números entre −scale y scale, los mismos en cualquier CPU."""
    generator = torch.Generator().manual_seed(seed)
    return scale * (2 * torch.rand(*shape, generator=generator) - 1)


WEIGHT = uniform(8, 6, seed=10)  # [K, N]


def times(rows: torch.Tensor, parts: int = 1) -> torch.Tensor:
    """`rows @ WEIGHT`, `[m, N]`, sumado en `parts` partes."""
    return in_parts(rows[:, None] * WEIGHT.T, parts)


def norm(rows):
    mean = in_parts(rows * rows, 1) / rows.shape[-1]
    return rows / (mean + 1e-6).sqrt()[:, None]


def soft(rows):
    weights = (rows - rows.amax(-1, keepdim=True)).double().exp().float()
    return weights / in_parts(weights, 2)[:, None]


def gate(rows):
    return (rows.double() * torch.sigmoid(rows.double())).float() * rows


def in_fours(rows):
    """En grupos de cuatro filas, con ceros donde falten."""
    full = torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % 4))
    done = [times(part, 3) for part in full.split(4)]
    return torch.cat(done)[: len(rows)]


def split_rows(rows):
    """Con cinco filas o más, la suma se reparte de otra manera."""
    return times(rows, 1 if len(rows) < 5 else 3)


def suspects() -> dict:
    """Las cinco operaciones del laboratorio 10."""
    return {
        "norma": norm,
        "softmax": soft,
        "puerta": gate,
        "en grupos": in_fours,
        "producto": split_rows,
    }
