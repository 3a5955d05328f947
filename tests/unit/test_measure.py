"""El cronómetro: qué mide, qué guarda y qué no acepta. Ni un tiempo exacto."""

import copy
import csv
import json
import weakref
from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache

from tokenatoken import CourseError, measure, measurements
from tokenatoken.cache import ConcatLayer, make_cache
from tokenatoken.measure import (
    COLUMNS,
    GenerationTiming,
    bytes_per_token,
    measure_and_free,
    measure_generation,
    quartiles,
    read_bandwidth,
)
from tokenatoken.measurements import (
    SAMPLES,
    Recorded,
    compare_measurements,
    load_measurement,
    save_measurement,
)
from tokenatoken.model import MemoryShortage, WeightsError

from .tiny import random_ids, tiny_model

MODEL = tiny_model("llama")


def test_every_variant_is_measured_the_same_number_of_times():
    results = measure_generation(MODEL, random_ids(5), 6, repeats=3)
    assert [r.variant for r in results] == ["con caché", "sin caché"]
    for r in results:
        assert len(r.ttft) == len(r.step_seconds) == len(r.totals) == 3
        assert all(len(row) == 5 for row in r.step_seconds)
        assert all(t > 0 for t in r.ttft) and r.tpot > 0
        assert r.ids == results[0].ids and len(r.ids) == 6
        assert (r.prompt_tokens, r.new_tokens) == (5, 6)
        assert set(r.row()) == set(COLUMNS) and r.error is None


def test_repetitions_are_interleaved_after_a_warm_up():
    order = []

    def variant(name):
        return lambda: order.append(name) or make_cache(MODEL)

    variants = {name: variant(name) for name in "ab"}
    measure_generation(MODEL, random_ids(4), 3, variants, repeats=2)
    assert "".join(order) == "ab" + "abab"


def test_end_tokens_do_not_cut_the_measurement(monkeypatch):
    free = measure_generation(MODEL, random_ids(4), 5, repeats=1)[0].ids
    monkeypatch.setattr(MODEL.generation_config, "eos_token_id", free[0])
    again = measure_generation(MODEL, random_ids(4), 5, repeats=1)[0]
    assert again.ids == free


def test_variants_must_write_the_same():
    class Wrong(ConcatLayer):
        def update(self, key_states, value_states, *args, **kwargs):
            return super().update(key_states, -value_states)

    variants = {
        "biblioteca": lambda: DynamicCache(config=MODEL.config),
        "rota": lambda: make_cache(MODEL, Wrong),
    }
    results = measure_generation(MODEL, random_ids(6), 6, variants, repeats=1)
    assert results[0].error is None
    assert results[1].error == "no escribe lo mismo que «biblioteca»"
    assert all(len(r.ttft) == 1 for r in results)  # y no se pierde nada


@pytest.mark.parametrize("repeats", [0, -1, 2.5, True, None])
def test_zero_repeats(repeats):
    with pytest.raises(ValueError, match="1 vez o más"):
        measure_generation(MODEL, random_ids(4), 3, repeats=repeats)


@pytest.mark.parametrize("new", [0, "10", 2.5])
def test_how_many_tokens(new):
    with pytest.raises(ValueError, match="new_tokens"):
        measure_generation(MODEL, random_ids(4), new)


@pytest.mark.parametrize("variant", [None, make_cache(MODEL)])
def test_a_variant_is_a_function(variant):
    with pytest.raises(ValueError, match="una función"):
        measure_generation(MODEL, random_ids(4), 3, {"x": variant})


def test_prompt_longer_than_the_context():
    with pytest.raises(ValueError, match="contexto"):
        measure_generation(MODEL, random_ids(120), 20, repeats=1)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_out_of_memory_is_recorded_and_the_rest_goes_on(error):
    def greedy_for_memory():
        raise error

    variants = {
        "cabe": lambda: make_cache(MODEL),
        "no cabe": greedy_for_memory,
    }
    results = measure_generation(MODEL, random_ids(4), 3, variants, 2)
    assert [r.error for r in results] == [None, "sin memoria"]
    assert results[1].row()["total"] is None
    assert len(results[0].ttft) == 2


def test_other_errors_are_not_hidden():
    def broken():
        raise RuntimeError("otra cosa")

    with pytest.raises(RuntimeError, match="otra cosa"):
        measure_generation(MODEL, random_ids(4), 3, {"x": broken})


def test_an_interruption_keeps_what_it_has(capsys):
    calls = []

    def variant():
        calls.append(1)
        if len(calls) > 3:  # calentamiento y dos repeticiones
            raise KeyboardInterrupt
        return make_cache(MODEL)

    (result,) = measure_generation(MODEL, random_ids(4), 3, {"a": variant}, 9)
    assert len(result.totals) == 2
    assert "conservas 2" in capsys.readouterr().out


def test_saved_and_loaded(tmp_path):
    results = measure_generation(MODEL, random_ids(4), 3, repeats=2)
    path = save_measurement(MODEL, results, tmp_path / "x" / "mía", "Mi CPU")
    content = load_measurement(path)
    assert content["results"] == results and content["label"] == "Mi CPU"
    facts = content["conditions"]
    assert facts["dtype"] == "float32" and facts["device"] == "cpu"
    with path.with_suffix(".csv").open(encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["variant"] for r in rows] == ["con caché", "sin caché"]
    assert float(rows[0]["total"]) == results[0].row()["total"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "cortada"),
        ("[]", "cortada"),
        ('{"conditions": {"format": 1}}', "cortada"),
        ('{"conditions": {"format": 99}}', "formato 99"),
        (
            json.dumps(
                dict(label="x", conditions={"format": 1}, results=[{"a": 1}])
            ),
            "cortada",
        ),
    ],
)
def test_broken_files(tmp_path, content, words):
    path = tmp_path / "rota.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_measurement(path)
    with pytest.raises(ValueError, match="No se puede leer"):
        load_measurement(tmp_path / "no-existe.json")


def test_quartiles():
    assert quartiles([1.0]) == (1, 1, 1)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2, 3, 4)


def test_a_single_token_has_no_pace():
    result = measure_generation(MODEL, random_ids(4), 1, repeats=1)[0]
    assert result.tpot != result.tpot  # NaN
    assert isinstance(result, GenerationTiming) and result.totals[0] > 0
    assert measurements.FORMAT == 1


def test_samples_of_the_course_can_be_compared():
    contents = [load_measurement(p) for p in sorted(SAMPLES.glob("*.json"))]
    assert len(contents) == 3
    assert {c["conditions"]["dtype"] for c in contents} == {
        "float32",
        "float16",
        "bfloat16",
    }
    for content in contents:
        assert set(content["conditions"]) == set(
            measurements.conditions(MODEL)
        )
        assert len(content["label"]) > 10
        for result in content["results"]:
            assert len(result.ttft) >= 5 and not result.error
    table = compare_measurements(contents)
    assert list(table.columns) == ["con caché", "sin caché"]
    assert (table["con caché"] < table["sin caché"]).all()


def timing(new, tpot, prompt=5, error=None):
    steps = [[tpot] * (new - 1)]
    return GenerationTiming("a", prompt, new, [1.0], steps, error=error)


def test_compared_over_the_longest_common_case():
    contents = [
        dict(label="uno", results=[timing(8, 0.1), timing(100, 0.5)]),
        dict(label="dos", results=[timing(8, 0.2), timing(4, 9.0)]),
    ]
    table = compare_measurements(contents)
    assert table["a"].to_dict() == {"uno": 100, "dos": 200}
    contents[1]["label"] = "uno"
    assert list(compare_measurements(contents).index) == ["uno", "uno (2)"]
    for other in ([timing(9, 0.2)], [timing(8, 0.2, error="sin memoria")]):
        contents[1]["results"] = other
        with pytest.raises(ValueError, match="en común"):
            compare_measurements(contents)
    with pytest.raises(ValueError, match="en común"):
        compare_measurements([])


def test_bytes_of_a_step():
    total = 4 * sum(p.numel() for p in MODEL.parameters())
    table = 4 * MODEL.get_input_embeddings().weight.numel()
    assert bytes_per_token(MODEL) == total - table
    config = MODEL.config
    head = config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads
    kept = bytes_per_token(MODEL, 10) - bytes_per_token(MODEL)
    assert kept == 10 * per_token * head * 4
    tied = copy.deepcopy(MODEL)
    tied.lm_head.weight = tied.get_input_embeddings().weight
    assert bytes_per_token(tied) == total - table
    assert bytes_per_token(copy.deepcopy(MODEL).half()) == (total - table) / 2


def test_bandwidth_is_a_plausible_number():
    assert 0.1 < read_bandwidth(torch.device("cpu"), repeats=2) < 10_000


def test_recorded_answers_are_read_and_spot_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "respuestas.json"
    path.write_text(json.dumps({"answers": {"a": ["uno dos", "tres"]}}))
    asked = []

    def write(prompts, n):
        asked.append((list(prompts), n))
        return ["uno d�" for _ in prompts]

    series = Recorded(path, tiny_model("qwen2"), write)
    assert series("a", ["x", "y"], 9) == ["uno dos", "tres"]
    assert asked == [(["x"], 4)] and series.checked == [True]
    with pytest.raises(CourseError, match="No hay 3 respuestas"):
        series("a", ["x", "y", "z"], 9)
    with pytest.raises(CourseError, match="«otra»"):
        series("otra", ["x"], 9)
    whole = Recorded(path, tiny_model("qwen2"), write, full=True)
    assert whole("a", ["x", "y"], 9) == ["uno d�", "uno d�"]
    kept = json.loads((tmp_path / "resultados" / path.name).read_text())
    assert kept["answers"]["a"] == ["uno d�", "uno d�"]
    assert kept["conditions"]["model"] == "qwen2"
    assert json.loads(path.read_text())["answers"]["a"][0] == "uno dos"


def _raising(error):
    def load():
        raise error

    return load


@pytest.mark.parametrize(
    "error, said",
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried…"),
            "out of memory",
        ),
        (MemoryShortage("No cabe: faltan 3 GB."), "faltan 3 GB"),
        (WeightsError("Sin red."), "Sin red"),
        (KeyboardInterrupt(), "Interrumpido"),
    ],
)
def test_a_failed_load_is_told_and_a_second_run_works(error, said, capsys):
    ids = random_ids(5)
    assert measure_and_free(_raising(error), ids, 3) == []
    assert said in capsys.readouterr().out
    again = measure_and_free(lambda: tiny_model("llama"), ids, 3, repeats=1)
    assert [len(r.ids) for r in again] == [3, 3]


def test_only_what_it_understands_is_told():
    with pytest.raises(RuntimeError, match="otra cosa"):
        measure_and_free(_raising(RuntimeError("otra cosa")), random_ids(5), 3)


@pytest.mark.parametrize("fails", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_the_model_is_let_go_whatever_happens(fails):
    alive = []

    def load():
        model = copy.deepcopy(MODEL)
        alive.append(weakref.ref(model))
        model.register_forward_pre_hook(
            lambda *a: (_ for _ in ()).throw(fails)
        )
        return model

    measure_and_free(load, random_ids(5), 3, repeats=1)
    assert alive[0]() is None


def test_the_clock_waits_before_and_after_every_token(monkeypatch):
    """Un acelerador de pega que apunta cuándo se le espera."""
    events = []

    def steps(*args, **kwargs):
        for token in range(2):
            events.append("token")
            yield SimpleNamespace(token_id=token)

    def clock():
        events.append("reloj")
        return 0.0

    monkeypatch.setattr(measure, "generate_steps", steps)
    monkeypatch.setattr(measure.time, "perf_counter", clock)
    monkeypatch.setattr(
        torch.accelerator, "synchronize", lambda: events.append("espera")
    )
    model = SimpleNamespace(device=torch.device("mps"))
    timing = GenerationTiming("a", 4, 2)
    measure._attempt(timing, model, None, 2, lambda: None)
    assert " ".join(events) == (
        "espera reloj token espera reloj token espera reloj"
    )


@pytest.mark.parametrize("at", [0, 1, 4])
def test_memory_that_runs_out_at_any_point_is_told(at, capsys):
    """Sin memoria en el primer forward, en el segundo o a media medida."""
    calls = []

    def load():
        model = copy.deepcopy(MODEL)

        def pre(*_):
            calls.append(1)
            if len(calls) > at:
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.register_forward_pre_hook(pre)
        return model

    results = measure_and_free(load, random_ids(5), 2, repeats=1)
    assert results[-1].error == "sin memoria"
    assert "sin caché: sin memoria" in capsys.readouterr().out
