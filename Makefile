PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev,hf,dataset,ray,compress
OUT ?= out
DATA ?= $(VIZLIB_DATA)
BIN := $(VENV)/bin
READY := $(VENV)/.vizlib-ready

.DEFAULT_GOAL := help
.PHONY: help setup demo lab test test-families browser bench zoo notebooks docs lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## create .venv with everything pinned in constraints.txt

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vizlib needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]' --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps quantus cachetools --constraint constraints.txt
	touch $@

demo: $(READY)  ## compare what a CNN, a Transformer and a hybrid look at; writes out/compare.html
	$(BIN)/vizlib demo --out $(OUT)

lab: $(READY)  ## open JupyterLab on the first notebook
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest

test-families: $(READY)  ## run one model of every timm family; writes a table
	$(BIN)/python -m pytest -m families

browser: $(READY)  ## run the tests that need a browser (Chromium)
	OUT=$(abspath $(OUT)) $(BIN)/python -m pytest -m browser --durations=0 --durations-min=1 tests/browser

bench: $(READY)  ## measure what each method costs beside a plain forward
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.cost
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.dataset

zoo: $(READY)  ## train all members of the zoo again: make zoo DATA=FOLDER_OR_TAR
	test -n "$(DATA)" || { echo "make zoo needs the photo set: make zoo DATA=FOLDER_OR_TAR" >&2; exit 2; }
	for name in $$($(BIN)/python -c 'from vizlib.models import zoo; print(*zoo.names())'); do \
	  $(BIN)/vizlib train $$name --data "$(DATA)" --dataset "Tiny-ImageNet, 20 classes" --threads 1 --resume \
	  && cp runs/$$name/$$name.safetensors runs/$$name/$$name.json runs/$$name/$$name.confusion.csv vizlib/models/weights/ \
	  && cp runs/$$name/log.csv vizlib/models/weights/$$name.log.csv \
	  || exit 1; done

architectures: $(READY)  ## run every architecture once; brings the table of notebooks/README.md up to date
	$(BIN)/vizlib summary --all --out notebooks/README.md

notebooks: $(READY)  ## run every notebook from top to bottom; leaves them with their outputs in out/notebooks
	OUT=$(abspath $(OUT)) $(BIN)/python -m pytest -m notebooks --durations=0 --durations-min=1 tests/test_notebooks.py

docs: notebooks  ## render every notebook as it ran, to pages that need no network; open out/docs/index.html
	$(BIN)/python docs/render.py $(OUT)/notebooks $(OUT)/docs

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/mypy

clean:  ## remove what make built
	rm -rf $(VENV) $(OUT) build dist .mypy_cache .ruff_cache .pytest_cache vizlib.egg-info
