"""Complemento de pytest: quién hace qué, y en qué orden, en cada núcleo.

Se carga con `-p tests.turns` junto a `-n 2`. Un cuaderno va entero, y en
orden, a un solo trabajador, porque sus celdas comparten kernel; un archivo de
pruebas también, por lo que prepara; cada laboratorio, y cada unidad en el
navegador, van por su cuenta. Lo que más tarda sale primero. Cada proceso y
cada kernel usa un hilo: con dos trabajadores y dos hilos cada uno, se
estorbarían. (`--dist loadgroup` haría lo mismo, pero xdist 3.8 no marca los
grupos con pytest 9.2, y no avisa.)
"""

import os

import pytest
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch aún no se ha importado
# Los grupos que más tardan, por orden. Si la lista se queda vieja, nada falla:
# solo se espera más al final.
FIRST = (
    "notebooks/07",
    "notebooks/08",
    "notebooks/09",
    "notebooks/05",
    "notebooks/06",
    "notebooks/",
    "tests/notebooks/test_comparison.py",
    "tests/unit/test_cache.py",
    "tests/unit/test_checks",
    "tests/browser/test_notebooks.py",
    "tests/browser/test_slides.py",
)
ALONE = (
    "tests/notebooks/test_labs.py::test_untouched",
    "tests/browser/test_notebooks.py",
)


def group(nodeid: str) -> str:
    """El grupo de una prueba: no se parte entre dos trabajadores."""
    return nodeid if nodeid.startswith(ALONE) else nodeid.partition("::")[0]


def turn(item) -> int:
    """El sitio de una prueba en la cola."""
    known = (i for i, n in enumerate(FIRST) if item.nodeid.startswith(n))
    return next(known, len(FIRST))


class Turns(LoadScopeScheduling):
    """Reparte por grupos, y en el orden en que se han recogido."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return Turns(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=turn)


def pytest_terminal_summary(terminalreporter) -> None:
    """Con TURNS=1, los segundos que ha costado cada grupo."""
    if not os.environ.get("TURNS"):
        return
    spent: dict[str, float] = {}
    for report in sum(terminalreporter.stats.values(), []):
        if hasattr(report, "duration"):
            name = group(report.nodeid)
            spent[name] = spent.get(name, 0) + report.duration
    for name, seconds in sorted(spent.items(), key=lambda x: -x[1])[:40]:
        terminalreporter.write_line(f"{seconds:7.1f} s  {name}")
