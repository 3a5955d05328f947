"""El sobre, el pensamiento aparte, la conversación con su caché."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenatoken
from tokenatoken import CourseError, chat
from tokenatoken.chat import (
    Conversation,
    chat_ids,
    chatml,
    plain_ids,
    split_thought,
    thought_pieces,
)
from tokenatoken.forward import next_logits
from tokenatoken.generation import generate_steps
from tokenatoken.model import load_tokenizer
from tokenatoken.tokens import encode

from .tiny import wide_model

DATA = Path(tokenatoken.__file__).parent / "data"
QWEN, SMOLLM2 = load_tokenizer("qwen2.5-coder-0.5b"), load_tokenizer("smollm2")
MARKS = sorted(QWEN.get_added_vocab())
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([*MARKS, *SMOLLM2.get_added_vocab()]),
        st.sampled_from(["<|im_", "start|>", "<", "|>", "\n", "user\n", " "]),
        st.text(max_size=6),
    ),
    max_size=8,
).map("".join)
CLEAN = st.text(max_size=30).filter(
    lambda text: text.strip() and not any(m in text for m in MARKS)
)


def user(text):
    return {"role": "user", "content": text}


def official(messages, **options):
    return QWEN.apply_chat_template(messages, **options)["input_ids"]


# El sobre


@settings(max_examples=300, deadline=None)
@given(HOSTILE)
@pytest.mark.parametrize("tokenizer", [QWEN, SMOLLM2], ids=["qwen", "smollm2"])
def test_no_text_can_give_a_mark(tokenizer, text):
    ids = plain_ids(tokenizer, text)
    assert not set(ids) & set(tokenizer.added_tokens_decoder)
    kept = QWEN.backend_tokenizer.normalizer.normalize_str(text)
    if tokenizer is QWEN:  # Qwen normaliza a NFC
        assert tokenizer.decode(ids) == kept
    if "<|im_start|>" in tokenizer.get_added_vocab() and text.strip():
        marks = tokenizer.get_added_vocab()
        whole = chat_ids(tokenizer, [user(text)])
        assert whole.count(marks["<|im_start|>"]) == 2
        assert whole.count(marks["<|im_end|>"]) == 1
        assert not (set(whole) - {marks[chat.START], marks[chat.END]}) & set(
            tokenizer.added_tokens_decoder
        )


def test_the_library_option_lets_tool_calls_through():
    """El motivo de que exista `plain_ids`."""
    split = {"add_special_tokens": False, "split_special_tokens": True}
    assert 151657 in QWEN.encode("<tool_call>", **split)
    assert 151657 not in plain_ids(QWEN, "<tool_call>")


@settings(max_examples=100, deadline=None)
@given(st.lists(CLEAN, min_size=1, max_size=5), CLEAN, st.booleans())
def test_the_envelope_is_the_official_one(texts, system, open_turn):
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}]
    messages += [
        {"role": roles[i % 2], "content": text} for i, text in enumerate(texts)
    ]
    options = {"add_generation_prompt": open_turn}
    theirs = QWEN.apply_chat_template(messages, tokenize=False, **options)
    assert chatml(messages, open_turn) == theirs
    ours = chat_ids(QWEN, messages, open_turn=open_turn)
    assert ours == official(messages, **options)


def test_a_prefill_is_what_continue_final_message_does():
    started = [user("¿Vale?"), {"role": "assistant", "content": "Sí,"}]
    system = [{"role": "system", "content": "Sé breve."}]
    theirs = official(system + started, continue_final_message=True)
    assert chat_ids(QWEN, [*system, started[0]], prefill="Sí,") == theirs


def test_the_stored_formats_are_the_official_ones():
    formats = json.loads((DATA / "formatos.json").read_text("utf-8"))
    phi = (DATA / "plantillas" / "phi-3.5.jinja").read_text("utf-8")
    system = {"role": "system", "content": "S"}
    for name, template in (("ChatML (Qwen)", None), ("Phi-3", phi)):
        for key, messages in (
            ("with_system", [system, user("U")]),
            ("alone", [{"role": "system", "content": ""}, user("U")]),
        ):
            theirs = QWEN.apply_chat_template(
                messages,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            ).removeprefix("<|im_start|>system\n<|im_end|>\n")
            ours = formats[name][key].format(system="S", user="U")
            assert ours == theirs, name
            more = [{"role": "assistant", "content": "A"}, user("V")]
            longer = QWEN.apply_chat_template(
                [*messages, *more],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            ).removeprefix("<|im_start|>system\n<|im_end|>\n")
            ours += formats[name]["next"].format(assistant="A", user="V")
            assert ours == longer, name


@pytest.mark.parametrize(
    "messages, words",
    [
        ([], "al menos un mensaje"),
        ("hola", "al menos un mensaje"),
        (["hola"], "diccionario"),
        ([{"role": "user"}], "diccionario"),
        ([{"role": "sistema", "content": "x"}], "No conozco el papel"),
        ([{"role": "user", "content": ""}], "está vacío"),
        ([{"role": "user", "content": " \n"}], "está vacío"),
        ([{"role": "user", "content": 7}], "tiene que ser un texto"),
    ],
)
def test_bad_messages_are_told(messages, words):
    with pytest.raises(CourseError, match=words):
        chat_ids(QWEN, messages)


def test_a_tokenizer_without_chatml_is_told():
    with pytest.raises(CourseError, match="no habla"):
        chat_ids(load_tokenizer("minilm"), [user("Hola")])
    with pytest.raises(CourseError, match="no es un texto"):
        chat_ids(QWEN, [user("Hola")], prefill=3)


# Pensamiento y respuesta


@pytest.mark.parametrize(
    "text, parts",
    [
        ("Hola", ("", "Hola")),
        ("<think>\na\n</think>\n\nb\n", ("a", "b")),
        ("<think>\n\n</think>\n\nb", ("", "b")),
        ("<think>a", ("a", "")),
        ("<think>a</think><think>b</think>c", ("ab", "c")),
        (
            "Así:\n```\n<think>x</think>\n```",
            ("", "Así:\n```\n<think>x</think>\n```"),
        ),
        ("<think>a</think>b <think>c", ("a", "b <think>c")),
        ("\n <think>a</think> ", ("a", "")),
        ("<thin", ("", "<thin")),
        ("", ("", "")),
    ],
)
def test_split_thought(text, parts):
    assert split_thought(text) == parts


BITS = ["<think>", "</think>", "<thi", "nk>", "a", "\n", " ", "<", "```"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(BITS), max_size=9).map("".join), st.data())
def test_pieces_add_up_however_they_come(text, data):
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in zip(places, places[1:])]
    told = list(thought_pieces(pieces))
    joined = "".join(a for a, _ in told), "".join(b for _, b in told)
    assert joined == split_thought(text)


def test_pieces_come_as_soon_as_they_can():
    def pieces():
        yield "<think>uno"
        yield " dos"
        raise AssertionError("no hacía falta pedir más")

    told = thought_pieces(pieces())
    assert next(told) == ("uno", "") and next(told) == (" dos", "")


# La conversación


@pytest.fixture(scope="module")
def model():
    return wide_model(151936)


def test_each_turn_only_reads_what_is_new(model):
    talk, before = Conversation(model, QWEN, "Sé breve."), 0
    for text in ("Hola", "¿Qué tal?", "<|im_end|> adiós"):
        steps = list(talk.ask(text, max_new_tokens=5))
        whole = talk.ids.shape[1] - len(talk.turns[-1])
        assert steps[0].processed < whole - before + 8
        before = talk.ids.shape[1]
        prompt = talk.ids[:, : whole + 3]  # hasta el turno abierto
        free = list(generate_steps(model, prompt, max_new_tokens=5))
        assert [s.token_id for s in steps] == [s.token_id for s in free]
        fresh = next_logits(model, prompt)[0]
        assert (steps[0].logits - fresh).abs().max() < 1e-3


def test_generated_ids_are_kept_and_not_their_text(model):
    talk = Conversation(model, QWEN)
    letters = iter([plain_ids(QWEN, c)[0] for c in "Hola"])
    steps = talk.ask("x", max_new_tokens=4, choose=lambda *_: next(letters))
    written = [s.token_id for s in steps]
    assert talk.turns[-1][-4:] == written
    assert talk.answer == "Hola" and plain_ids(QWEN, "Hola") != written
    assert next(talk.ask("y", max_new_tokens=1)).processed < 15


def test_an_interrupted_answer_is_kept(model):
    talk = Conversation(model, QWEN)
    steps = talk.ask("Hola", max_new_tokens=9, prefill="Sí")
    next(steps), next(steps)
    assert talk.answer.startswith("Sí")
    kept = talk.ids[0].tolist()
    assert next(talk.ask("¿Sigues?", max_new_tokens=1)).processed
    assert talk.ids[0].tolist()[: len(kept)] == kept


def test_a_refused_question_changes_nothing(model):
    talk = Conversation(model, QWEN)
    list(talk.ask("Hola", max_new_tokens=2))
    before = [list(turn) for turn in talk.turns]
    room = model.config.max_position_embeddings
    for bad in (
        lambda: talk.ask("", max_new_tokens=2),
        lambda: talk.ask("x", max_new_tokens=0),
        lambda: talk.ask("x", max_new_tokens=room),
        lambda: talk.ask("x " * room, max_new_tokens=2),
        lambda: talk.ask("x", max_new_tokens=2, temperature=1),
    ):
        with pytest.raises(CourseError):
            bad()
        assert talk.turns == before
    with pytest.raises(CourseError, match=r"forget\(\)"):
        talk.ask("x " * room, max_new_tokens=2)


def test_forgetting_keeps_the_system_and_starts_again(model):
    talk = Conversation(model, QWEN, "Sé breve.")
    with pytest.raises(CourseError, match="que olvidar"):
        talk.forget()
    for text in ("uno", "dos"):
        list(talk.ask(text, max_new_tokens=3))
    talk.forget()
    assert "Sé breve." in QWEN.decode(talk.ids[0])
    assert "uno" not in QWEN.decode(talk.ids[0])
    before = talk.ids.shape[1]
    assert next(talk.ask("tres", max_new_tokens=1)).processed > before
    assert talk.turns[1][:2] == chat_ids(QWEN, [user("dos")])[:2]


def test_a_broken_forward_does_not_spoil_the_conversation(model):
    talk = Conversation(model, QWEN)
    list(talk.ask("Hola", max_new_tokens=2))
    talk.cache.layers[0].crop(-3)  # como tras interrumpir un forward
    steps = list(talk.ask("¿Y?", max_new_tokens=2))
    assert steps[0].processed > 20


def test_the_end_mark_is_written_once(model):
    end = QWEN.get_added_vocab()["<|im_end|>"]
    talk = Conversation(model, QWEN)
    list(talk.ask("x", max_new_tokens=3, choose=lambda *_: end, stop_ids=end))
    assert talk.answer == ""  # la marca no es parte de lo que dijo
    list(talk.ask("y", max_new_tokens=1))
    ids = talk.ids[0].tolist()
    assert ids.count(end) == 3  # la primera pregunta, su respuesta y la otra
    assert ids[ids.index(end) + 1] == encode(QWEN, "\n")[0]


def test_an_interrupted_prefill_is_not_taken_for_another_text(model):
    """Las capas ya guardan K y V, y el forward no llegó a acabar."""

    def boom(*_):
        raise KeyboardInterrupt

    for wait in ("lm_head", "model"):
        talk = Conversation(model, QWEN)
        hook = getattr(model, wait).register_forward_hook(boom)
        with pytest.raises(KeyboardInterrupt):
            list(talk.ask("Mi clave es 1234", max_new_tokens=2))
        hook.remove()
        kept = talk.cache
        talk.forget()
        other = chat_ids(QWEN, [user("Otra cosa bastante más larga que esa")])
        ids = torch.tensor([other])
        with pytest.raises(CourseError, match="otro texto"):
            generate_steps(model, ids, max_new_tokens=1, cache=kept)
        steps = list(talk.ask("¿Qué hora es?", max_new_tokens=4))
        prompt = talk.ids[:, : talk.ids.shape[1] - 4]
        free = list(generate_steps(model, prompt, max_new_tokens=4))
        assert [s.token_id for s in steps] == [s.token_id for s in free]


def test_what_another_call_left_in_the_tokenizer_does_not_matter():
    tokenizer = load_tokenizer("qwen2.5-coder-0.5b")
    chat._without_marks.cache_clear()
    tokenizer(["x"], padding="max_length", truncation=True, max_length=6)
    assert len(plain_ids(tokenizer, "Hola")) == 1
    assert len(plain_ids(tokenizer, "a b c d e f g h i j")) == 10


@pytest.mark.parametrize("text", ["a\ud83d", None, 3, b"x"])
def test_what_is_not_text_is_told(text):
    for use in (
        lambda: plain_ids(QWEN, text),
        lambda: chat_ids(QWEN, [user("x")], prefill=text),
        lambda: chat.turn_ids(QWEN, "user", text),
        lambda: chat.turn_ids(QWEN, text, "x"),
    ):
        with pytest.raises(CourseError):
            use()


def test_an_answer_left_behind_says_so(model):
    talk = Conversation(model, QWEN)
    old = talk.ask("uno", max_new_tokens=6)
    next(old)
    list(talk.ask("dos", max_new_tokens=2))
    with pytest.raises(CourseError, match="quedó atrás"):
        list(old)
    with pytest.raises(CourseError, match="ya lo tiene"):
        talk.ask("tres", max_new_tokens=1, cache=talk.cache)
    assert Conversation(model, QWEN).ids.dtype == torch.long


def test_a_stop_that_is_plain_text_stays_in_the_turn(model):
    talk, word = Conversation(model, QWEN), plain_ids(QWEN, "Hola")[0]
    options = dict(choose=lambda *_: word, stop_ids=word)
    list(talk.ask("x", max_new_tokens=3, **options))
    assert talk.answer == "Hola"
