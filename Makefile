# Needs Python >= 3.10, pip, venv, make and git. `make` alone says what there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE_STAMP := $(VENV)/.installed-site

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench site clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

install: $(STAMP) ## set up .venv with kd-bench and what its tests need

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP) ## distil real digits and show the leaderboard
	@$(BIN)/kd-bench demo

test: $(STAMP) ## the tests (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2

check: $(STAMP) ## style, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

bench: $(STAMP) ## the speed of training against plain loops, into docs/speed.md (20 minutes; quick=1: 3)
	$(BIN)/python benchmarks/training_speed.py $(if $(quick),--quick)

site: $(SITE_STAMP) ## docs, methods, boards and runs as a web site in site/, which opens from the disk
	@$(BIN)/python docs/build_site.py

$(SITE_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[site]'
	touch $@

clean: ## delete what make made; runs and records stay
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
