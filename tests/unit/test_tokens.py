"""Etiquetas y bytes de los tokens, con los tokenizadores del curso."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenatoken import number
from tokenatoken.model import load_tokenizer
from tokenatoken.model.load import TOKENIZERS
from tokenatoken.tokens import (
    byte_alphabet,
    encode,
    token_bytes,
    token_label,
    visible,
)

SMOLLM2 = load_tokenizer("smollm2")
MINILM = load_tokenizer("minilm")
QWEN = load_tokenizer()
O200K = load_tokenizer("o200k")
# Bytes que su vocabulario no tiene: los descarta en silencio.
SMOLLM2_LACKS = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}


def test_byte_alphabet_has_every_byte_once():
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert byte_alphabet()["Ġ"] == 32


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=200, deadline=None)
def test_bytes_of_the_tokens_are_the_bytes_of_the_text(text):
    for tokenizer, expected in (
        (SMOLLM2, bytes(b for b in text.encode() if b not in SMOLLM2_LACKS)),
        (QWEN, unicodedata.normalize("NFC", text).encode()),
        (O200K, text.encode()),
    ):
        raw = b"".join(
            token_bytes(tokenizer, i) for i in encode(tokenizer, text)
        )
        assert raw == expected


def test_labels_show_spaces_and_broken_bytes():
    def label(tokenizer, text):
        return [token_label(tokenizer, i) for i in encode(tokenizer, text)]

    assert label(QWEN, " París\n") == ["·Par", "ís", "⏎"]
    assert label(QWEN, " 🤖") == ["<20 F0 9F>", "<A4>", "<96>"]
    assert label(QWEN, "<|im_end|>") == ["<|im_end|>"]
    assert label(MINILM, "peluche 🤖") == ["pe", "##lu", "##che", "[UNK]"]


def test_id_that_is_no_token():
    with pytest.raises(IndexError, match="tiene 151665, del 0 al 151664"):
        token_bytes(QWEN, 151_700)


def test_visible_keeps_the_rest():
    assert visible("a b\n\tñ") == "a·b⏎⇥ñ"


def test_shipped_tokenizers_keep_their_size():
    assert {n: len(load_tokenizer(n)) for n in TOKENIZERS} == {
        "smollm2": 49_152,
        "minilm": 30_522,
        "o200k": 200_000,
    }


def test_numbers_in_spanish():
    assert number(1234567.891) == "1\u202f234\u202f567,89"
    assert number(0.5, 0) == "0" and number(-2.5, 1) == "-2,5"
