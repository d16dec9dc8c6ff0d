# make train    sets up .venv and trains a small ViT on handwritten digits (ARGS=--resume, ARGS=--new)
# make test     the whole suite on all three backends (BACKEND=jax for one)
# make lint     ruff: format and rules

PYTHON ?= python3
RECIPE ?= digits
BACKEND ?= tensorflow jax torch
ARGS ?=

VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: train test lint clean

train: $(VENV)/.training
	KERAS_BACKEND=tensorflow $(VENV)/bin/python -m training $(RECIPE) $(ARGS)

test: $(VENV)/.test
	@failed=""; for backend in $(BACKEND); do \
		echo "== $$backend"; \
		KERAS_BACKEND=$$backend $(VENV)/bin/python -m pytest -n 2 --dist worksteal $(ARGS) || failed="$$failed $$backend"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed on:$$failed"; exit 1; fi

lint: $(VENV)/.test
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11. Received: $$($(PYTHON) -V)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.training $(VENV)/.test: $(VENV)/.%: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing keras-vit[$*] into $(VENV), once; this takes some minutes"
	$(PIP) ".[$*]"
	@touch $@
