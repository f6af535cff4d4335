# Two commands set everything up on a fresh machine with python3 and make: `make demo` and `make test`.
# PYTHON=python3.12 make test uses another interpreter; changing it builds a new .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev

.DEFAULT_GOAL := help
.PHONY: help demo test lint types contracts bench docs coverage build clean FORCE

help:
	@echo "make demo       show a stock worker hijacked and the guarded one refusing"
	@echo "make test       run all tests (starts or finds Redis and RabbitMQ; without them their tests are skipped by name)"
	@echo "make coverage   branch coverage of envelope, minipickle and policy, which is 100 %"
	@echo "make lint       ruff"
	@echo "make types      mypy --strict"
	@echo "make contracts  the import rules of the house"
	@echo "make bench      ratios against peers, in one run"
	@echo "make docs       build the documentation"
	@echo "make build      sdist and wheel"

# Rewritten only when PYTHON changes, so that another interpreter makes another environment.
.venv.python: FORCE
	@"$(PYTHON)" -c '' >/dev/null 2>&1 || { echo "make: '$(PYTHON)' is no interpreter that runs: set PYTHON=python3.x" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "make: safeserial needs Python 3.10 or later; set PYTHON=python3.x" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null \
		|| { echo "make: $(PYTHON) has no ensurepip: install your system's python3-venv package" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; print(sys.executable, sys.version_info[:3])' > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(BIN)/python: .venv.python
	@echo "making $(VENV) ..."
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $(BIN)/python

# The demo needs less than development does, so a first `make demo` is quick.
$(VENV)/.demo: $(BIN)/python pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/safeserial demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

# The tests whose business the three packages are; everything else is measured by reading.
COVERED := safeserial/envelope,safeserial/minipickle,safeserial/policy
coverage: $(VENV)/.dev
	rm -f .coverage .coverage.*
	SAFESERIAL_PURE=1 SAFESERIAL_SAME_EXAMPLES=1 PYTHONHASHSEED=0 $(BIN)/python -m coverage run --source=$(COVERED) -m pytest \
		tests/unit/envelope tests/unit/minipickle tests/unit/policy tests/unit/formats/test_pickle.py tests/unit/cli -p no:randomly $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=100

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

build: $(VENV)/.dev
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) .venv.python build dist docs/_build .coverage .coverage.* *.egg-info .mypy_cache .ruff_cache .pytest_cache

FORCE:
