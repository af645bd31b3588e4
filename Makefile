# make run     fresh clone to a tuned model: sets up .venv, runs the default recipe with a live view
# make test    the same set-up, then lint, types and the whole test suite
# make bench   a step against TRL's own, and what the harness itself costs (about half an hour, JSON)
# make chaos   kill -9 at random moments of runs and commands, resume, compare bit for bit (about a quarter of an hour)
# make gym OUT=FOLDER    real runs on other tasks, without signal or with a fault, and how decisions fare (resumable)
# make grid OUT=FOLDER   the rules from wrong learning rates and temperatures, against the best fixed ones (resumable)
# make models  docs/models.md: small models of some fifty architectures, trained every way (about a minute)
# make docs    docs/cli.md, docs/spec.md, docs/from-trl.md and a table of docs/pools.md from the program
# make clean   removes .venv and caches, keeps runs

PYTHON ?= python3
VENV ?= .venv
# Tests side by side, each with one thread: two torch jobs of several threads would slow each other many times over.
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What judges a change sees these variables of the machine and no others, so that none hides a fault, as
# PYTHONDONTWRITEBYTECODE once did. A test fetches a model with pip, which may need its own and those of a proxy.
SEEN := PATH HOME TERM TMPDIR NEEDS_BROWSER PIP_% %_proxy %_PROXY SSL_CERT_% REQUESTS_CA_BUNDLE
CLEAN := env -i LANG=C.UTF-8 $(foreach name,$(sort $(filter $(SEEN),$(.VARIABLES))),$(name)="$$$(name)")

.PHONY: run test lint types unit bench chaos gym grid models docs clean

run: $(READY)
	$(BIN)/grpo run

test: lint types unit

lint: $(READY)
	$(CLEAN) $(BIN)/ruff check .
	$(CLEAN) $(BIN)/ruff format --check .

types: $(READY)
	$(CLEAN) $(BIN)/mypy

unit: $(READY)
	$(CLEAN) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

bench: $(READY)
	$(BIN)/python -m tests.benchmarks.step_cost
	$(BIN)/python -m tests.benchmarks.against_trl

chaos: $(READY)
	$(BIN)/python -m tests.support.chaos
	$(BIN)/python -m tests.support.storm

gym: $(READY)
	$(BIN)/python -m tests.benchmarks.hard_gym --out $(or $(OUT),$(error make gym OUT=FOLDER))
	$(BIN)/python -m tests.benchmarks.hard_gym --out $(OUT) --report

grid: $(READY)
	$(BIN)/python -m tests.benchmarks.grid --out $(or $(OUT),$(error make grid OUT=FOLDER))

models: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.models_doc

docs: $(READY)
	$(BIN)/python -m tests.support.cli_doc
	$(BIN)/python -m tests.support.spec_doc
	$(BIN)/python -m tests.support.from_trl_doc
	$(BIN)/python -m tests.support.layouts

# pip shows what it downloads, so the first minutes are not silent.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "creating $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "installing (torch is large: a few minutes on the first time) ..."
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage build dist
