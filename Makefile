# make train    sets up .venv and trains a small ViT on handwritten digits (ARGS=--resume, ARGS=--new)
# make test     the whole suite on all three backends (BACKEND=jax for one)
# make test-all with the slow tests, every test on every backend: much longer
# make lint     format, rules, types of the public API, and the files of .github by their schemas
# make docs     builds the site into build/docs; warnings and broken links are errors
# make fresh    uses the wheel in new environments: ARGS="jax torch tensorflow jax,training everything"
# make wheel    builds what is published, into dist (TAG=v0.2.0 must be its version)

PYTHON ?= python3
RECIPE ?= digits
BACKEND ?= tensorflow jax torch
ARGS ?=
MARKS :=

VENV := .venv
SCHEMA := $(VENV)/bin/check-jsonschema --quiet --builtin-schema
PIP := $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: train test test-all lint docs wheel fresh clean

train: $(VENV)/.training
	KERAS_BACKEND=tensorflow $(VENV)/bin/python -m training $(RECIPE) $(ARGS)

# Of pytest's marks `make test` leaves out parity, gpu and slow (pyproject.toml), test-all the first two.
test-all: MARKS := -m "not parity and not gpu"

test test-all: $(VENV)/.test
	@failed=""; for backend in $(BACKEND); do \
		echo "== $$backend"; \
		KERAS_BACKEND=$$backend $(VENV)/bin/python -m pytest -n 2 --dist worksteal $(MARKS) $(ARGS) || failed="$$failed $$backend"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed on:$$failed"; exit 1; fi

lint: $(VENV)/.test
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy --no-error-summary
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(SCHEMA) vendor.citation-file-format CITATION.cff

wheel: $(VENV)/.test
	rm -rf build dist
	$(VENV)/bin/python -m build --quiet --outdir dist .
	$(VENV)/bin/python -m tests.wheel dist $(TAG)

fresh: $(VENV)/.test
	$(VENV)/bin/python -m tests.fresh $(ARGS)

docs: $(VENV)/.docs
	KERAS_BACKEND=jax $(VENV)/bin/python -m sphinx docs build/docs --fail-on-warning --keep-going --quiet $(ARGS)
	$(VENV)/bin/python docs/check_links.py build/docs

clean:
	rm -rf $(VENV) build dist docs/notebooks *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11. Received: $$($(PYTHON) -V)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.training $(VENV)/.test $(VENV)/.docs: $(VENV)/.%: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing keras-vision-transformers[$*] into $(VENV), once; this takes some minutes"
	$(PIP) ".[$*]"
	@touch $@
