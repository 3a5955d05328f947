# Token a token. Lo que usa quien estudia: make lab. Quien mantiene: make test.
# Variables: PYTHON=python3.12  PORT=8888  BROWSER=no  CLASE=1  REPO=dueño/nombre

PYTHON ?= python3
PORT ?= 8888
BROWSER ?= yes
VENV ?= .venv
COLAB_VENV ?= .venv-colab
BIN := $(VENV)/bin
NBVAL := --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
	--nbval-cell-timeout 300 -p tests.nbval_tolerance

.PHONY: help lab test test-browser test-colab unit run labs bench slides slides-pdf badges picture constraints check clean
.DEFAULT_GOAL := help

help:  ## esta ayuda
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Hace falta Python 3.11 o posterior: make lab PYTHON=python3.12"; exit 1; }
	@echo "Creando el entorno en $(VENV)…"
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "En Debian y Ubuntu: sudo apt install python3-venv"; exit 1; }

$(VENV)/.lab: requirements.txt constraints.txt | $(BIN)/python
	@$(BIN)/python tools/install.py requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.lab
	@$(BIN)/python tools/install.py requirements-dev.txt
	@touch $@

model: $(VENV)/.lab
	@$(BIN)/python tools/model.py
.PHONY: model

lab: model  ## instala, prepara el modelo y abre JupyterLab (PORT=, BROWSER=no, CLASE=1)
	$(if $(CLASE),@rm -rf $(VENV)/clase; cp -r tools/jupyterlab/clase $(VENV)/clase)
	$(if $(CLASE),JUPYTERLAB_SETTINGS_DIR=$(abspath $(VENV)/clase)) \
		$(BIN)/python -m jupyter lab --port=$(PORT) \
		$(if $(filter no,$(BROWSER)),--no-browser) --notebook-dir=. \
		$(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.default_url=/$(if $(CLASE),doc,lab)/tree/notebooks/01_tokens.ipynb

test: $(VENV)/.dev model  ## todo: pruebas, cuadernos comparados, laboratorios y estilo
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest $(NBVAL) tests notebooks solutions \
		--ignore=tests/browser --ignore=tests/colab $(ARGS)

test-browser: $(VENV)/.dev model  ## JupyterLab y diapositivas en Chromium
	$(BIN)/python -m pytest tests/browser $(ARGS)

unit: $(VENV)/.dev  ## solo las pruebas unitarias (segundos)
	$(BIN)/python -m pytest tests/unit $(ARGS)

test-colab: $(VENV)/.dev model  ## cuadernos y laboratorios con las versiones de Colab
	$(BIN)/python tools/colab.py $(COLAB_VENV)
	$(COLAB_VENV)/bin/python -m pytest -p no:cacheprovider tests/colab
	$(COLAB_VENV)/bin/python -m pytest -p no:cacheprovider $(NBVAL) \
		tests/notebooks/test_labs.py notebooks solutions $(ARGS)
	COLAB_VENV=$(COLAB_VENV) $(BIN)/python -m pytest \
		tests/browser/test_classic.py

run: $(VENV)/.dev model labs  ## ejecuta cuadernos y soluciones y guarda sus salidas
	$(BIN)/python tools/execute.py notebooks/*.ipynb solutions/*.ipynb

labs: $(VENV)/.dev  ## genera labs/ a partir de solutions/
	$(BIN)/python tools/make_labs.py

slides: $(VENV)/.lab  ## diapositivas sin red, en diapositivas/ (hace falta npm)
	$(BIN)/python tools/slides.py

slides-pdf: $(VENV)/.dev  ## lo mismo, y un PDF por unidad (hace falta Chromium)
	$(BIN)/python tools/slides.py --pdf

badges: $(VENV)/.dev  ## REPO=dueño/nombre: insignias y celdas de preparación
	$(BIN)/python tools/stamp.py $(if $(REPO),--repo $(REPO))
	$(BIN)/python tools/make_labs.py

bench: $(VENV)/.dev model  ## mide cargas, generación y cuadernos (SOLO=generacion)
	$(BIN)/python tools/bench.py $(if $(SOLO),--solo $(SOLO)) --json bench.json

picture: $(VENV)/.dev  ## saca de los cuadernos las imágenes del README
	$(BIN)/python tools/readme_picture.py

constraints: $(VENV)/.dev  ## congela las versiones de este entorno
	$(BIN)/python tools/install.py --freeze

check: test  ## lo que ejecuta la CI

clean:  ## borra el entorno (el modelo se queda en su caché)
	rm -rf $(VENV)
