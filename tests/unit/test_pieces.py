"""Lo que las piezas esconden: los casos, cómo se cuentan y lo guardado."""

import json

import pytest
import torch

from tokenatoken.model import load_tokenizer
from tokenatoken.tokens import encode
from tools import pieces

SAVED = json.loads((pieces.HOME / "piezas.json").read_text("utf-8"))
TESTS = pieces.tests()


@pytest.mark.parametrize(
    "n, words",
    [
        (0, "cero"),
        (29, "veintinueve"),
        (30, "treinta"),
        (74, "setenta y cuatro"),
        (100, "cien"),
        (101, "ciento uno"),
        (500, "quinientos"),
        (999, "novecientos noventa y nueve"),
    ],
)
def test_numbers_in_words(n, words):
    assert pieces.in_words(n) == words


@pytest.mark.parametrize(
    "wrote, answer, ok",
    [
        (" s-o-l. «", " s-o-l", True),
        (" s-o-l-a", " s-o-l", False),
        (" s-o l. «", " s-o-l", True),
        (" s-ol. «", " s-o-l", False),
        (" s-o-l a", " s-o-l", False),
        (" sol y", " sol", True),
        (" 5851", " 585", False),
        (" 585\n3", " 585", True),
        (" dogs", " dog", False),
        ("pato»", "pato»", True),
        (" Sol", " sol", False),
        ("", " sol", False),
    ],
)
def test_what_counts_as_right(wrote, answer, ok):
    assert pieces.right(wrote, answer) is ok


def test_forty_cases_each_way_and_none_repeated():
    assert set(TESTS) == set(SAVED) - {"conditions"}
    for kinds in TESTS.values():
        for rows in kinds.values():
            assert len({row[0] for row in rows}) == len(rows) == 40


def test_what_is_saved_answers_today_s_cases():
    """Nadie ha tocado los casos sin volver a medir, ni los aciertos a mano."""
    for name, kinds in TESTS.items():
        for kind, rows in kinds.items():
            saved = SAVED[name][kind]
            asked = [(row["prompt"], row["answer"]) for row in saved]
            assert asked == [row[:2] for row in rows]
            for row in saved:
                assert row["ok"] == pieces.right(row["wrote"], row["answer"])


def test_the_false_rhyme_is_not_a_rhyme():
    for word, (prompt, good, other) in zip(
        pieces.CASES["parejas"], TESTS["rimas"]["closed"]
    ):
        ends = [x.strip("»")[-3:] for x in (good, other)]
        assert f"«{word}» rima con" in prompt
        assert ends[1] not in (ends[0], word[-3:]), (word, other)


def test_frequent_words_are_whole_and_rare_ones_are_not():
    tokenizer = load_tokenizer()

    def size(word):
        return len(encode(tokenizer, " " + word))

    means = [
        sum(map(size, pieces.CASES[kind])) / 40
        for kind in ("frecuentes", "raras")
    ]
    assert means[0] < 1.5 < 2.5 < means[1]


class _Counts(torch.nn.Module):
    """Escribe siempre el id que sigue al último."""

    def generate(self, input_ids, attention_mask, max_new_tokens, **_):
        more = torch.arange(1, max_new_tokens + 1)
        return torch.cat([input_ids, input_ids[:, -1:] + more], 1)


def test_each_answer_is_read_to_its_own_length():
    tokenizer = load_tokenizer()
    cases = [("Uno dos", " tres"), ("Uno dos tres cuatro", " a b c d e")]
    wrote = pieces.written(_Counts(), tokenizer, cases)
    last = [encode(tokenizer, prompt)[-1] for prompt, _ in cases]
    sizes = [len(encode(tokenizer, answer)) + 2 for _, answer in cases]
    assert sizes[0] < sizes[1]
    for text, i, n in zip(wrote, last, sizes):
        assert text == tokenizer.decode(list(range(i + 1, i + 1 + n)))
