# Token a token. Lo que usa quien estudia: make lab. Quien mantiene: make test.
# Variables: PYTHON=python3.12  PORT=8888  BROWSER=no  CLASE=1  REPO=dueño/nombre

PYTHON ?= python3
PORT ?= 8888
BROWSER ?= yes
VENV ?= .venv
COLAB_VENV ?= .venv-colab
BIN := $(VENV)/bin
SETTINGS := $(VENV)/share/jupyter/lab/settings
# Dos trabajadores bastan: cada kernel ocupa unos 5 GB. En un solo núcleo, uno.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 2 ? n : 2)))
NBVAL := --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
	--nbval-cell-timeout 1800 -p tests.nbval_tolerance -p tests.turns -n $(WORKERS)

.PHONY: help model lab check test test-browser test-slow test-colab unit run labs slides \
	slides-pdf badges bench bench-llama picture constraints clean
.DEFAULT_GOAL := help
# Lo que hace una prueba no cuenta como hecho por quien estudia.
test test-browser test-colab unit run: export CURSO_LLM_PROGRESO = no

help:  ## esta ayuda
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Hace falta Python 3.11 o posterior: make lab PYTHON=python3.12"; exit 1; }
	@echo "Creando el entorno en $(VENV)…"
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "En Debian y Ubuntu: sudo apt install python3-venv"; exit 1; }

$(VENV)/.lab: requirements.txt constraints.txt | $(BIN)/python
	@$(BIN)/python -m tools.install requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.lab
	@$(BIN)/python -m tools.install requirements-dev.txt
	@touch $@

model: $(VENV)/.lab  ## instala y prepara el modelo, sin abrir nada
	@$(BIN)/python -m tools.model

lab: model  ## instala, prepara el modelo y abre JupyterLab (PORT=, BROWSER=no, CLASE=1)
	@mkdir -p $(SETTINGS); cp tools/jupyterlab/overrides.json $(SETTINGS)
	$(if $(CLASE),@rm -rf $(VENV)/clase; cp -r tools/jupyterlab/clase $(VENV)/clase)
	$(if $(CLASE),JUPYTERLAB_SETTINGS_DIR=$(abspath $(VENV)/clase)) \
		$(BIN)/python -m jupyter lab --port=$(PORT) \
		$(if $(filter no,$(BROWSER)),--no-browser) --notebook-dir=. \
		$(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.default_url=/$(if $(CLASE),doc,lab)/tree/notebooks/01_tokens.ipynb

check: test  ## lo que ejecuta la CI: make test, make test-browser y el informe
	@if $(BIN)/python -m tools.chromium --install; then $(MAKE) test-browser; \
		else echo "Las pruebas de navegador no se han podido ejecutar aquí."; fi
	$(BIN)/python -m tools.report

test: $(VENV)/.dev model  ## todo menos el navegador: pruebas, cuadernos comparados, laboratorios y estilo
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest $(NBVAL) tests notebooks solutions \
		--ignore=tests/browser --ignore=tests/colab $(ARGS)

test-browser: $(VENV)/.dev model  ## JupyterLab y diapositivas en Chromium
	$(BIN)/python -m pytest -p tests.turns -n $(WORKERS) tests/browser $(ARGS)

test-slow: $(VENV)/.dev model  ## make check en un equipo tres veces más lento y ocupado (una hora)
	$(BIN)/python -m tools.slow -- $(MAKE) check

test-colab: $(VENV)/.dev model  ## cuadernos y laboratorios con las versiones de Colab
	$(BIN)/python -m tools.colab $(COLAB_VENV)
	$(COLAB_VENV)/bin/python -m pytest -p no:cacheprovider tests/colab
	$(COLAB_VENV)/bin/python -m pytest -p no:cacheprovider $(NBVAL) \
		tests/unit/test_pictures.py tests/notebooks/test_labs.py notebooks solutions $(ARGS)
	COLAB_VENV=$(COLAB_VENV) $(BIN)/python -m pytest tests/browser/test_classic.py

unit: $(VENV)/.dev  ## solo las pruebas unitarias
	$(BIN)/python -m pytest -p tests.turns -n $(WORKERS) tests/unit $(ARGS)

run: $(VENV)/.dev model labs  ## ejecuta cuadernos y soluciones y guarda sus salidas
	$(BIN)/python -m tools.execute notebooks/*.ipynb solutions/*.ipynb

labs: $(VENV)/.dev  ## genera labs/ a partir de solutions/
	$(BIN)/python -m tools.make_labs

slides: $(VENV)/.lab  ## diapositivas sin red, en diapositivas/ (hace falta npm)
	$(BIN)/python -m tools.slides

slides-pdf: $(VENV)/.dev  ## lo mismo, y un PDF por unidad (hace falta Chromium)
	$(BIN)/python -m tools.slides --pdf

badges: $(VENV)/.dev  ## insignias, celdas de preparación y enlaces (REPO=dueño/nombre)
	$(BIN)/python -m tools.stamp $(if $(REPO),--repo $(REPO))
	$(BIN)/python -m tools.make_labs

bench: $(VENV)/.dev model  ## mide cargas, generación y cuadernos (ONLY=generation)
	$(BIN)/python -m tools.bench $(if $(ONLY),--only $(ONLY)) --json bench.json

bench-llama: $(VENV)/.dev model  ## lo mismo de la unidad 11 con llama.cpp al lado (compilarlo, siete minutos)
	$(BIN)/python -m pip install llama-cpp-python==0.3.36
	$(BIN)/python -m tools.bench --only ladder --json bench.json

picture: $(VENV)/.dev  ## saca de los cuadernos las imágenes del README
	$(BIN)/python -m tools.readme_picture

constraints: $(VENV)/.dev  ## congela las versiones de este entorno
	$(BIN)/python -m tools.install --freeze

clean:  ## borra el entorno (el modelo se queda en su caché)
	rm -rf $(VENV)
