"""JupyterLab de verdad en Chromium sin ventana, con una copia del curso.

    make test-browser

Chromium se busca en el sistema; dónde conseguirlo lo dice tools/chromium.py.
La red del navegador se limita al propio equipo: si algo pide una CDN, falla.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tools import ROOT
from tools.chromium import FLAGS, find_chromium

FOLDERS = ("notebooks", "labs", "solutions", "tokenatoken")
# Todas las celdas en la página, también las que no se ven.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false"},
}
PATIENCE = 600  # segundos; solo se agotan si algo no va a llegar nunca


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(url: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{url} no responde en {seconds} s")


@contextmanager
def serving(command: list[str], env: dict, port: int):
    """Un servidor de Jupyter en marcha: da su dirección y al final lo para."""
    server = subprocess.Popen(
        command,
        env=env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Path:
    """Una copia del curso, para que probar no toque el repositorio."""
    copy = tmp_path_factory.mktemp("curso")
    for name in FOLDERS:
        skip = shutil.ignore_patterns("__pycache__", "resultados", ".ipynb_*")
        shutil.copytree(ROOT / name, copy / name, ignore=skip)
    return copy


@pytest.fixture(scope="session")
def lab(course, tmp_path_factory):
    """La dirección de un JupyterLab que sirve la copia."""
    port, home = free_port(), tmp_path_factory.mktemp("jupyter")
    settings = home / "settings"
    for name, values in SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    env = os.environ | dict(
        JUPYTERLAB_SETTINGS_DIR=str(settings),
        JUPYTERLAB_WORKSPACES_DIR=str(home / "workspaces"),
        JUPYTER_CONFIG_DIR=str(home / "config"),
    )
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser"]
    command += ["--allow-root", f"--port={port}", "--IdentityProvider.token="]
    command += [f"--ServerApp.root_dir={course}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with serving(command, env, port) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    path = find_chromium()
    if path is None:
        pytest.skip("no hay Chromium: python -m tools.chromium dice por qué")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """Una pestaña que solo puede hablar con este equipo."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    blocked = []

    def gate(route):
        local = route.request.url.startswith(
            ("http://127.0.0.1", "file:", "data:", "blob:", "ws://127.0.0.1")
        )
        if local:
            route.continue_()
        else:
            blocked.append(route.request.url)
            route.abort()

    context.route("**/*", gate)
    page = context.new_page()
    page.blocked = blocked
    page.set_default_timeout(1000 * PATIENCE)
    yield page
    context.close()
