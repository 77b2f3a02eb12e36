# `make help` says what there is. Needs: make, bash, Python 3.11 or 3.12 with its venv module.

SHELL := bash
PYTHON ?=
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
EXTRA := $(VENV)/.installed-extras
PACKAGE := $(VENV)/.installed-package

# Extras of pyproject.toml whose tests `make test-extras` runs; requirements-extras.lock holds them.
EXTRAS := dm-control lerobot minari pusht robomimic robotics

# Every name is tried, not only looked up: a shim may stand for nothing, and some systems ship
# Python without venv. What PYTHON names is tried first.
CANDIDATES := $(PYTHON) python3.12 python3.11 python3 python
FITS := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))

# A virtual environment of another Python, or one that was moved, is made anew.
CHECK := import pip, sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
USABLE := $(shell $(BIN)/python -c "$(CHECK)" >/dev/null 2>&1 && \
	grep -qF "$(CURDIR)/$(BIN)/python" $(BIN)/pip 2>/dev/null && echo yes)

# Wheels only, every file checked against its hash, and nothing that the lock leaves out; one line
# for every large download.
# $(1): the lock, $(2): what to expect.
define install_lock
	@set -o pipefail; echo "installing what $(1) lists ($(2))"; \
	PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --no-input \
		--progress-bar off --only-binary :all: --no-deps --require-hashes -r $(1) | \
	while read -r line; do case "$$line" in \
		Downloading*MB\)*) echo "  $${line}" ;; \
		"Installing collected"*) echo "  unpacking" ;; \
	esac; done
endef

.NOTPARALLEL:
.PHONY: help demo test test-slow test-extras lint bench lock clean

help:
	@echo "make demo         collect data, train, adapt online, evaluate, write a report"
	@echo "make test         format, lint, types, floors, and all tests but the slow ones"
	@echo "make test-slow    the same with the slow tests"
	@echo "make test-extras  install $(EXTRAS) and run their tests"
	@echo "make lint         ruff, basedpyright, import-linter"
	@echo "make bench        the benchmarks; minutes, on a quiet machine"
	@echo "make lock         resolve pyproject.toml again (UPGRADE=--upgrade: to the newest versions)"
	@echo "make clean        remove caches and the virtual environment; runs and data stay"
	@echo "PYTHON=...        the Python to use, if not the first of 3.12 and 3.11 that is found"

demo: $(PACKAGE)
	@$(BIN)/flowpolicy demo

test: lint
	@echo "pytest" && $(BIN)/python -m pytest -q -p no:randomly -n $(WORKERS) --dist loadfile -m "not slow"

test-slow: lint
	@echo "pytest" && $(BIN)/python -m pytest -q -p no:randomly -n $(WORKERS) --dist loadfile

test-extras: $(PACKAGE) $(EXTRA)
	@echo "pytest, extras" && $(BIN)/python -m pytest -q -p no:randomly -n $(WORKERS) --dist loadfile -m extras

lint: $(PACKAGE) $(DEV)
	@echo "ruff" && $(BIN)/ruff format --check --quiet && $(BIN)/ruff check --quiet
	@echo "basedpyright" && $(BIN)/basedpyright --pythonpath $(BIN)/python
	@echo "import-linter" && $(BIN)/lint-imports --no-logo

bench: $(PACKAGE)
	@$(BIN)/python -m benchmarks

# One file for every platform and both Pythons, with hashes and without addresses.
RESOLVE = $(BIN)/uv pip compile pyproject.toml --group build --universal --fork-strategy fewest \
	--python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	--no-emit-find-links --quiet $(UPGRADE)

lock: $(DEV)
	@$(RESOLVE) -o requirements.lock
	@$(RESOLVE) --extra dev -c requirements.lock -o requirements-dev.lock
	@$(RESOLVE) --extra dev $(EXTRAS:%=--extra %) -c requirements-dev.lock \
		-o requirements-extras.lock

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@found=; for python in $(CANDIDATES); do \
		if "$$python" -c "$(FITS)" >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "flowpolicy needs Python 3.11 or 3.12, with its venv module; tried: $(strip $(CANDIDATES))" >&2; \
		echo "Install one of them, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV)

ifneq ($(USABLE),yes)
$(BIN)/python $(RUNTIME) $(DEV) $(EXTRA) $(PACKAGE): FORCE
FORCE:
endif

$(RUNTIME): requirements.lock $(BIN)/python
	$(call install_lock,requirements.lock,once; a few hundred MB)
	@touch $@

# The second lock holds the first one, at the same versions.
$(DEV): requirements-dev.lock $(RUNTIME)
	$(call install_lock,requirements-dev.lock,once; about 110 MB more)
	@touch $@

$(EXTRA): requirements-extras.lock $(DEV)
	$(call install_lock,requirements-extras.lock,once; about 500 MB more)
	@touch $@

$(PACKAGE): pyproject.toml $(RUNTIME)
	@echo "installing flowpolicy itself"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
		--no-build-isolation --editable .
	@touch $@
