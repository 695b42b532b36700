# make demo   set up, then run the whole loop on the embedded lab
# make test   set up, then run the tests
# make test-postgres   the tests of the collection store on a PostgreSQL server started for them
# make bench DATA=DIR   speed and memory beside TRL on hh-rlhf in DIR, 25 minutes on 2 quiet cores; bench-gpu: one GPU
# Python 3.11 or newer and make are all that is needed; everything is installed into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.accord-setup
SEED   ?= 0

.PHONY: help setup demo test test-fast test-postgres lint format type check coverage mutants bench bench-gpu docs clean

help:
	@sed -n 's/^# //p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; assert sys.version_info >= (3, 11), "Accord needs Python 3.11 or newer"'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,hub]'
	@touch $(STAMP)

demo: setup
	$(BIN)/accord demo --seed $(SEED)

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow and not browser and not postgres and not gpu'

test-postgres: setup
	$(BIN)/python tests/postgres_server.py -- $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m postgres

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup
	$(BIN)/pyright

check: lint type test

coverage: setup
	$(BIN)/python -m pytest --cov=accord --cov-report=term-missing:skip-covered

mutants: setup
	$(BIN)/python tests/mutants/run.py

bench: setup
	$(BIN)/python -m benchmarks.speed --out docs/results $(if $(DATA),--data $(DATA))

bench-gpu: setup
	$(BIN)/python -m benchmarks.speed --gpu --out docs/results $(if $(DATA),--data $(DATA))

docs: setup
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
