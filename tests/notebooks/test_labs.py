"""Los laboratorios, sin tocar, corren de arriba abajo y dicen «Pendiente»."""

import nbformat
import pytest

from tools import ROOT, execute, make_labs, notebooks


@pytest.mark.parametrize("path", notebooks("labs"), ids=lambda p: p.name)
def test_untouched_lab_runs_and_is_pending(path):
    notebook = nbformat.read(path, as_version=4)
    execute.run(notebook, path.parent)
    verdicts = [
        output.data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.startswith("check(")
        for output in cell.outputs
    ]
    assert len(verdicts) >= 3
    assert not any("✔" in verdict for verdict in verdicts), verdicts
    solution = nbformat.read(ROOT / "solutions" / path.name, as_version=4)
    text = "".join(cell.source for cell in solution.cells)
    not_pending = sum("Pendiente" not in verdict for verdict in verdicts)
    assert not_pending == text.count("### BUG:"), verdicts


@pytest.mark.parametrize(
    "source",
    [
        "### BEGIN SOLUTION\nx = 1",
        "x = 1\n### END SOLUTION",
        "### begin SOLUTION\nx = 1\n### END SOLUTION",
        "    ### STUB: x",
    ],
)
def test_unpaired_marks_stop_the_generator(source):
    with pytest.raises(ValueError, match="sin pareja"):
        make_labs.without_solution(source)


def test_solution_becomes_its_stub():
    source = (
        "def f(x):\n    ### BEGIN SOLUTION\n    ### STUB: y = 0\n"
        "    ### STUB: return ...\n    secreto = 1\n    ### END SOLUTION\n\nf(2)"
    )
    lab = make_labs.without_solution(source)
    assert (
        lab
        == "def f(x):\n    # TU CÓDIGO AQUÍ\n    y = 0\n    return ...\n\nf(2)"
    )


def test_bug_takes_its_place_without_a_sign():
    source = (
        "x = 1\n### BEGIN SOLUTION\n### BUG: y = x\ny = -x\n### END SOLUTION"
    )
    assert make_labs.without_solution(source) == "x = 1\ny = x"


def test_drift_is_seen(tmp_path):
    (tmp_path / "solutions").mkdir(), (tmp_path / "labs").mkdir()
    source = next((ROOT / "solutions").glob("*.ipynb"))
    copy = tmp_path / "solutions" / source.name
    copy.write_text(source.read_text("utf-8"), "utf-8")
    lab = tmp_path / "labs" / source.name
    assert make_labs.drift(tmp_path) == [lab], "falta"
    text = make_labs.expected(tmp_path)[lab]
    lab.write_text(text, "utf-8")
    assert make_labs.drift(tmp_path) == []
    lab.write_text(text.replace("Pista", "Truco", 1), "utf-8")
    assert make_labs.drift(tmp_path) == [lab], "tocado a mano"
    lab.write_text(text, "utf-8")
    (tmp_path / "labs" / "99_sobra.ipynb").write_text(text, "utf-8")
    assert len(make_labs.drift(tmp_path)) == 1, "sobra"
