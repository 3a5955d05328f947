"""Lo que nbval no mira: metadatos, orden, enlaces, sellos y presupuesto."""

import json
import re

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.nbval_tolerance import STATES
from tools import ROOT, make_labs, notebooks, stamp

NOTEBOOKS = notebooks("notebooks", "solutions", "labs")
TAGS = {
    "preparacion",
    "solo-solucion",
    "ocultar-codigo",
    "gpu",
    "nbval-ignore-output",
    "nbval-skip",
    "skip-execution",
    "raises-exception",
    "cronometro",
}
ABSOLUTE = re.compile(r"(?:/work/|/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\)")
SLIDES = {"slide", "subslide", "fragment", "skip", "notes", "-"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.name}")
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def test_there_are_notebooks_of_each_kind():
    assert {p.parent.name for p in NOTEBOOKS} == {
        "notebooks",
        "solutions",
        "labs",
    }
    names = {
        f: {p.name for p in NOTEBOOKS if p.parent.name == f}
        for f in ("labs", "solutions")
    }
    assert names["labs"] == names["solutions"]
    assert all(re.fullmatch(r"\d\d_[a-z_]+\.ipynb", p.name) for p in NOTEBOOKS)


def test_metadata(notebook):
    nbformat.validate(notebook)
    data = notebook.metadata
    assert "widgets" not in data, (
        "GitHub no lo abre si a metadata.widgets le falta state"
    )
    assert data.kernelspec.name == "python3"
    assert data.get("accelerator") in (None, "GPU")
    assert data["language_info"] == {"name": "python"}
    assert data["colab"] == {"provenance": [], "toc_visible": True} or (
        data["colab"].get("gpuType") == "T4"
    )
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert set(tags(cell)) <= TAGS, f"etiqueta desconocida: {tags(cell)}"
        assert cell.metadata.slideshow.slide_type in SLIDES
        assert "execution" not in cell.metadata


def test_executed_in_order(path, notebook):
    count = 1
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert cell.source.strip(), "celda de código vacía"
        if path.parent.name == "labs":
            assert cell.execution_count is None and not cell.outputs
        elif "nbval-skip" not in tags(cell):
            assert cell.execution_count == count, (
                f"sin ejecutar: {cell.source[:60]}"
            )
            count += 1


def test_outputs_are_clean(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = str(output.get("text", "")) + str(
                {
                    k: v
                    for k, v in output.get("data", {}).items()
                    if "image" not in k
                }
            )
            if output.output_type == "error":
                assert "raises-exception" in tags(cell), output.ename
            assert output.get("name") != "stderr", f"ruido: {text[:200]}"
            assert not ABSOLUTE.search(text), f"ruta absoluta: {text[:200]}"
            data = output.get("data", {})
            assert not any("widget" in key for key in data), (
                "vista de widget huérfana"
            )
            for key, value in data.items():
                assert len(str(value)) < 400_000, (
                    f"{key}: {len(str(value))} bytes"
                )
            if "image/png" in data:
                alt = data.get("text/plain", "")
                assert len(alt) > 20 and "<Figure" not in alt, (
                    "imagen sin texto"
                )


def test_explorers_publish_their_states(path, notebook):
    """Lo que una página necesita para moverlos sin kernel, en JSON y corto."""
    total = 0
    for cell in notebook.cells:
        shown = [o.get("data", {}) for o in cell.get("outputs", [])]
        states = [data for data in shown if STATES in data]
        assert len(states) == ("explorer = show." in cell.source)
        for data in states:
            assert data[STATES]["kind"] and data[STATES]["controls"]
            assert "image/png" in data and "text/plain" in data
            total += len(json.dumps(data[STATES], ensure_ascii=False))
    assert total < 100_000, f"{path.name}: {total} bytes de estados"


def test_code_fits_on_a_slide(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            long = [
                line for line in cell.source.splitlines() if len(line) > 79
            ]
            assert not long, f"más de 79 columnas: {long[0]}"


def test_links_and_pictures(path, notebook):
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for alt in re.findall(r"!\[(.*?)\]\(", cell.source):
            assert alt.strip(), (
                f"imagen sin texto alternativo: {cell.source[:80]}"
            )
        for link in re.findall(
            r"\]\((?!https?://|#|mailto:)([^)#\s]+)", cell.source
        ):
            assert (path.parent / link).exists(), f"enlace roto: {link}"


def test_setup_cell_comes_first(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "preparacion" in tags(code[0])
    assert sum("preparacion" in tags(cell) for cell in code) == 1
    badge = f"/{stamp.repository()}/blob/{stamp.tag()}/"
    assert badge in notebook.cells[0].source, (
        "insignia ausente o de otro repositorio"
    )


def test_setup_cell_is_folded(notebook):
    """Con título en Colab y sin el código a la vista en JupyterLab."""
    cell = next(c for c in notebook.cells if "preparacion" in tags(c))
    assert cell.source.startswith("# @title ")
    assert cell.metadata.cellView == "form"
    assert cell.metadata.jupyter == {"source_hidden": True}


def test_last_cell_leads_to_the_rest(path, notebook):
    text = notebook.cells[-1].source
    for folder in ("notebooks", "labs", "solutions"):
        assert f"](../{folder}/{path.name})" in text
        assert f"/{stamp.tag()}/{folder}/{path.name})" in text
    units = [p.name for p in notebooks("notebooks")]
    near = units.index(path.name)
    for other in units[max(0, near - 1) : near] + units[near + 1 : near + 2]:
        assert text.count(f"notebooks/{other})") == 2


def test_badge_opens_its_own_file(path, notebook):
    assert f"/{path.parent.name}/{path.name})" in notebook.cells[0].source


def test_stamps_agree_everywhere():
    wrong = [
        p
        for p, text in stamp.stamped().items()
        if p.read_text("utf-8") != text
    ]
    assert not wrong, f"ejecuta «make badges»: {wrong}"


def test_labs_are_what_the_solutions_generate():
    assert not make_labs.drift(), "ejecuta «make labs»"


def test_conda_environment_matches_requirements():
    wanted = {}
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            wanted[requirement.name] = requirement.specifier
    alias = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    have = {}
    for entry in conda["dependencies"]:
        for item in entry["pip"] if isinstance(entry, dict) else [entry]:
            name, limits = re.fullmatch(r"([\w.-]+)\s*(.*)", item).groups()
            have[alias.get(name, name)] = SpecifierSet(limits)
    assert have.pop("python").contains("3.11") and have.pop(
        "pip"
    ) == SpecifierSet("")
    assert have == wanted


def test_constraints_satisfy_the_requirements():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text("utf-8").splitlines():
            if line and line[0] not in "#-":
                requirement = Requirement(line)
                assert requirement.specifier.contains(
                    pins[requirement.name]
                ), line


def test_readme_lists_every_unit():
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in NOTEBOOKS:
        assert f"{path.parent.name}/{path.name}" in readme, (
            f"README no lleva a {path}"
        )
    assert len(re.findall(r"^\| (?:0\d|1[0123]) \|", readme, re.M)) == 13
