# One command each: set up what is missing, then do the job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
WORKERS ?= 2

.PHONY: help demo test prove lint types bench clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

$(VENV)/.base: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "livetrader needs Python 3.10 or later: make PYTHON=python3.11 …")'
	@echo "setting up $(VENV) (a few minutes, once: tqsdk is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "installing what the tests need"
	@$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	@touch $@

demo: $(VENV)/.base  ## one strategy on three markets: backtest, then paper live (DATA=folder for recorded klines)
	@$(BIN)/livetrader demo $(if $(DATA),--data $(DATA))

test: $(VENV)/.dev  ## the quick suite and a seeded part of the long ones
	$(BIN)/python -m pytest -n $(WORKERS)

prove: $(VENV)/.dev  ## the long suites in full
	LIVETRADER_PROVE=1 $(BIN)/python -m pytest -n $(WORKERS) -m long --timeout 3600

lint: $(VENV)/.dev  ## ruff: formatting and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev  ## mypy --strict on the two packages
	$(BIN)/mypy

bench: $(VENV)/.dev  ## every speed claim, measured side by side; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks --write

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) demo-output build *.egg-info
