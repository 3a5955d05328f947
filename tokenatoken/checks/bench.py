"""El material de los laboratorios: modelos diminutos, textos, contadores y
dispositivos de mentira. Lo usan las correcciones y los propios cuadernos.
"""

from functools import cache

import torch

from ..model import load_tokenizer
from ..tokens import byte_alphabet, encode
from .kit import Hint, expect

PARAGRAPH = (
    "El otorrinolaringólogo desayunaba mate con bizcochos mientras el "
    "murciélago del tejado, equilibrista somnoliento, desentrañaba "
    "jeroglíficos. Nadie en el barrio sabía por qué, pero los viernes el "
    "cielo olía a lluvia y a pan."
)
LOGS = {"A": "smollm2", "B": "qwen2.5-coder-0.5b", "C": "minilm"}
TINY = 97  # el vocabulario del modelo diminuto


@cache
def tokenizer(name: str = "qwen2.5-coder-0.5b"):
    """El tokenizador de ese nombre, cargado una sola vez."""
    return load_tokenizer(name)


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
    quita `generate`. `lengths`: tokens de cada uno; `places`: las posiciones
    que se le dan, si se le dan."""

    def __enter__(self):
        self.lengths, self.places = [], []
        model = self.model = tiny_model()

        def note(_, args, kwargs):
            ids = args[0] if args else kwargs.get("input_ids")
            ids = kwargs["inputs_embeds"] if ids is None else ids
            self.lengths.append(ids.shape[1])
            if kwargs.get("position_ids") is not None:
                self.places += kwargs["position_ids"].flatten().tolist()
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
