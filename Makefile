# Two commands set everything up on a fresh machine with python3 and make: `make demo` and `make test`.
# PYTHON=python3.12 make test uses another interpreter; changing it builds a new .venv.
# The judges are compiled if a C compiler is there. SAFESERIAL_BUILD=require insists, =pure does without;
# changing it, or CC, installs again, and so does an edit of what is compiled.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev
SAFESERIAL_BUILD ?= auto
export SAFESERIAL_BUILD
# What the extension is made from.
COMPILED_FROM := setup.py $(addprefix safeserial/minipickle/,machine.py machine.pxd _machine_c.pxd) \
	$(addprefix safeserial/formats/,plain.py plain.pxd _plain_c.pxd) \
	$(addprefix safeserial/formats/,protobuf_scan.py protobuf_scan.pxd _protobuf_scan_c.pxd) \
	$(addprefix safeserial/formats/,counts.py counts.pxd _counts_c.pxd) \
	$(addprefix safeserial/formats/,tags.py tags.pxd _tags_c.pxd) \
	$(addprefix safeserial/envelope/,header.py header.pxd _header_c.pxd) \
	$(addprefix safeserial/,probing.py probing.pxd _probing_c.pxd)

.DEFAULT_GOAL := help
.PHONY: help demo test lint types contracts bench docs coverage build clean FORCE

help:
	@echo "make demo       show a stock worker hijacked and the guarded one refusing"
	@echo "make test       run all tests (starts or finds Redis and RabbitMQ; without them their tests are skipped by name);"
	@echo "                if the compiled build is installed, what depends on the build runs on the pure one too"
	@echo "make coverage   branch coverage of envelope, minipickle and policy, which is 100 %"
	@echo "make lint       ruff"
	@echo "make types      mypy --strict"
	@echo "make contracts  the import rules of the house"
	@echo "make bench      ratios against peers, in one run"
	@echo "make docs       build the documentation"
	@echo "make build      sdist, compiled wheel and pure wheel"

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

# Rewritten only when another build is wanted, or by another compiler.
.venv.build: FORCE
	@echo "$(SAFESERIAL_BUILD) $(CC)" > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# pip hides what a compiler says, so the outcome is told.
define tell
@env -u SAFESERIAL_PURE SAFESERIAL_BUILD="$(SAFESERIAL_BUILD)" $(BIN)/python -c 'import os, safeserial as s; \
	why = " (no C compiler that works; SAFESERIAL_BUILD=require shows its errors)"; \
	print(f"installed: safeserial {s.__version__}, the {s.BUILD} build" \
	      + why * ((s.BUILD, os.environ["SAFESERIAL_BUILD"]) == ("pure", "auto")))'
endef

# The demo needs less than development does, so a first `make demo` is quick.
$(VENV)/.demo: $(BIN)/python .venv.build pyproject.toml $(COMPILED_FROM)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	$(tell)
	@touch $@

$(VENV)/.dev: $(BIN)/python .venv.build pyproject.toml $(COMPILED_FROM)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	$(tell)
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/safeserial demo $(ARGS)

# What depends on the build. ARGS that name files are run once, on the build at hand; CI says more.
OTHER ?= tests/unit/minipickle tests/unit/formats tests/unit/policy tests/property tests/fuzz
# In several processes: most tests wait for workers. PROCESSES=0 makes it one, for a debugger or a machine with little memory.
PROCESSES ?= auto
# Bytecode is written, whatever the environment says: each process collects all tests, and some hundred workers are started.
test coverage: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(PROCESSES) $(ARGS)
ifeq ($(findstring tests/,$(ARGS)),)
	@if [ "$$($(BIN)/python -c 'import safeserial; print(safeserial.BUILD)')" = compiled ]; then \
		echo "== the pure build: $(OTHER)"; \
		SAFESERIAL_PURE=1 SAFESERIAL_EXPECT=pure SAFESERIAL_TEST_POOLS= \
			$(BIN)/python -m pytest -n $(PROCESSES) $(ARGS) $(OTHER); \
	fi
endif

# The tests whose business the three packages are; everything else is measured by reading.
COVERED := safeserial/envelope,safeserial/minipickle,safeserial/policy
coverage: $(VENV)/.dev
	rm -f .coverage .coverage.*
	SAFESERIAL_PURE=1 SAFESERIAL_SAME_EXAMPLES=1 PYTHONHASHSEED=0 $(BIN)/python -m coverage run --source=$(COVERED) -m pytest \
		-n $(PROCESSES) \
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

# The other files there are parts of these.
bench: $(VENV)/.dev
	@for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

build: $(VENV)/.dev
	rm -rf dist build
	SAFESERIAL_BUILD=require $(BIN)/python -m build --outdir dist .
	rm -rf build
	SAFESERIAL_BUILD=pure $(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) .venv.python .venv.build build dist docs/_build .coverage .coverage.* *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		safeserial/minipickle/_machine_c.*.so safeserial/minipickle/_machine_c.*.pyd \
		safeserial/formats/_plain_c.*.so safeserial/formats/_plain_c.*.pyd \
		safeserial/formats/_protobuf_scan_c.*.so safeserial/formats/_protobuf_scan_c.*.pyd \
		safeserial/formats/_counts_c.*.so safeserial/formats/_counts_c.*.pyd \
		safeserial/formats/_tags_c.*.so safeserial/formats/_tags_c.*.pyd \
		safeserial/envelope/_header_c.*.so safeserial/envelope/_header_c.*.pyd \
		safeserial/_probing_c.*.so safeserial/_probing_c.*.pyd

FORCE:
