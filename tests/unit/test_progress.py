"""Lo apuntado por `check` y `quiz`, y los repasos como los ve quien estudia."""

import json
from threading import Thread

import pytest

from tokenatoken import CourseError
from tokenatoken.checks import check, progress, quiz
from tokenatoken.checks.progress import forget, path, read, record
from tokenatoken.checks.quiz import questions


@pytest.fixture(autouse=True)
def own_file(tmp_path, monkeypatch):
    file = tmp_path / "hondo" / "progreso.json"
    monkeypatch.setenv("CURSO_LLM_PROGRESO", str(file))
    return file


def test_a_right_answer_stays_right(own_file):
    record("01.1", False)
    record("01.1", True)
    record("01.1", False)
    assert read()["01.1"]["ok"] is True and read()["01.1"]["tries"] == 3
    left = {p.suffix for p in own_file.parent.iterdir()}
    assert left <= {".json", ".lock"}
    forget()
    assert read() == {} and not own_file.exists()
    forget()  # dos veces, sin queja


def test_check_records_what_was_tried_and_nothing_else():
    check("01.1", ...)  # pendiente
    check("99.9", 1)  # no existe
    assert read() == {}
    check("01.1", *["?"] * 9)  # de más: está mal, y cuenta
    assert read()["01.1"]["ok"] is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '"hola"',
        '{"01.1": 3}',
        '{"01.1": {"ok": true, "tries": "x"}}',
        '{"01.1": {"tries": null}, "13.1": 5}',
    ],
)
def test_a_broken_file_is_not_the_end(own_file, text):
    own_file.parent.mkdir()
    own_file.write_text(text)
    record("01.1", True)
    assert read()["01.1"]["ok"] is True
    assert progress().loc["01", "ejercicios"] == "1 de 1"


def test_two_at_once_lose_nothing():
    def many(unit):
        for i in range(20):
            record(f"{unit}.{i}", True)

    jobs = [Thread(target=many, args=(u,)) for u in ("01", "02", "03")]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(read()) == 60


def test_where_it_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CURSO_LLM_PROGRESO", str(tmp_path / "file" / "x"))
    record("01.1", True)
    forget()
    assert read() == {}


def test_it_can_be_turned_off(monkeypatch, tmp_path):
    monkeypatch.setenv("CURSO_LLM_PROGRESO", "no")
    monkeypatch.chdir(tmp_path)
    record("01.1", True)
    assert read() == {} and not list(tmp_path.iterdir())


def test_by_default_it_is_in_the_course_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("CURSO_LLM_PROGRESO")
    monkeypatch.setenv("CURSO_LLM_CACHE", str(tmp_path))
    assert path() == tmp_path / "progreso.json"
    monkeypatch.setenv("CURSO_LLM_PROGRESO", "")
    assert path() == tmp_path / "progreso.json"


def test_the_table():
    assert progress().empty
    for number, ok in (
        ("01.1", True),
        ("01.2", False),
        ("04.p1", True),
        ("04.p2", False),
    ):
        record(number, ok)
    table = progress()
    assert table.loc["01", "ejercicios"] == "1 de 2"
    assert table.loc["04", "preguntas"] == "1 de 2"
    assert table["intentos"].tolist() == [2, 2]


@pytest.mark.parametrize("name", ["04", "07", "13"])
def test_every_option_explains_itself(name, capsys):
    box = quiz(name)
    asked = questions(name)
    assert len(box.children) == len(asked) == 12
    for i, (item, part) in enumerate(zip(asked, box.children), 1):
        statement, buttons, said = part.children
        assert item["texto"][:20].split("<")[0][:9] in statement.value
        for letter, option in zip("abcd", item["opciones"]):
            buttons.value = letter
            good = option.get("buena", False)
            assert ("✔" if good else "✘") in said.value
            assert f"Unidad {item['unidad']}" in said.value
        assert read()[f"{name}.p{i}"]["ok"] is True


def test_the_still_page_folds_its_answers(capsys):
    from tokenatoken.checks.quiz import _still

    page = _still(questions("04"))
    assert page.count("<details>") == 12 and page.count("✔") == 12
    shown = page.split("<details>")[0]
    assert "✔" not in shown and "porque" not in shown


def test_an_unknown_quiz():
    with pytest.raises(CourseError, match="No hay ningún repaso"):
        quiz("99")


def test_the_file_is_readable(own_file):
    record("12.3", True)
    assert json.loads(own_file.read_text())["12.3"]["date"].count("-") == 2
