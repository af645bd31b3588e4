# make run     fresh clone to a tuned model: sets up .venv, runs the default recipe with a live view
# make test    the same set-up, then lint, types and the whole test suite
# make bench   a step against TRL's own, and what the harness itself costs (about half an hour, JSON)
# make chaos   kill -9 at random moments, resume, compare bit for bit (about ten minutes)
# make docs    docs/cli.md and docs/spec.md from the program
# make clean   removes .venv and caches, keeps runs

PYTHON ?= python3
VENV ?= .venv
# Tests side by side, each with one thread: two torch jobs of several threads would slow each other many times over.
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test lint types unit bench chaos docs clean

run: $(READY)
	$(BIN)/grpo run

test: lint types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

bench: $(READY)
	$(BIN)/python -m tests.benchmarks.step_cost
	$(BIN)/python -m tests.benchmarks.against_trl

chaos: $(READY)
	$(BIN)/python -m tests.support.chaos

docs: $(READY)
	$(BIN)/python -m tests.support.cli_doc
	$(BIN)/python -m tests.support.spec_doc

# pip shows what it downloads, so the first minutes are not silent.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "creating $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "installing (torch is large: a few minutes on the first time) ..."
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage build dist
