# On a fresh machine with Python 3.11 or newer and a package index:
#   make demo            installs, then builds a dataset from a small crawl, trains a CLIP on it and shows what it learned
#   make test            installs, then runs lint, types and the tests that take seconds
#   make test-all        installs, then runs the slow tests, the engines and the release check
#   make test-engines    installs, then builds on a Ray cluster of two nodes and on Beam's job service, on this machine
#   make docs            installs, then builds the documentation as a site into build/site
#   make check-wheels    asks the package index whether all is to be had without a compiler, for each Python and system
#   make release-check   builds sdist and wheel and uses them in empty environments of every Python here
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT ?= out/demo
# Set to nothing, whatever the machine has: where Python keeps no bytecode, each process that runs tests rewrites all
# their assertions anew (half of what it takes to collect them), and each command that a test starts compiles our code.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-engines docs check-wheels release-check clean

demo: $(VENV)/.installed-demo
	$(BIN)/wit demo --out $(DEMO_OUT)

test: $(VENV)/.installed-dev
	@echo "== lint" && $(BIN)/ruff check . && $(BIN)/ruff format --check .
# Beside, on the other core: what numba compiles, once instead of by each process of tests that needs it first.
	@echo "== types" && { $(BIN)/python -m openwit.pipeline.check.compile_ahead & $(BIN)/mypy; found=$$?; wait; exit $$found; }
	@echo "== tests" && $(BIN)/python -m pytest -m "not slow and not engines" -n 2 --dist loadfile --durations 10
	@echo "All of lint, types and tests passed. Next: make demo, then open $(DEMO_OUT)/dataset/card.html"

test-all: $(VENV)/.installed-dev docs release-check test-engines
	@echo "== slow tests" && $(BIN)/python -m pytest -m "slow and not engines" -n 2 --dist loadfile --timeout 1800 --durations 10

test-engines: $(VENV)/.installed-engines
	@echo "== engines" && $(BIN)/python -m pytest -m engines --timeout 1800 --durations 10

docs: $(VENV)/.installed-dev
	@echo "== docs" && $(BIN)/mkdocs build --quiet && echo "Open build/site/index.html"

check-wheels: $(VENV)/.installed-dev
	@$(BIN)/python .ci/check_wheels.py --extra build --extra train --extra demo --extra bench --extra dev

release-check: $(VENV)/.installed-dev
	@echo "== release check" && $(BIN)/python .ci/release_check.py

# One marker per set of extras; pip does nothing where all of it is installed already.
$(VENV)/.installed-%: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python found: install Python 3.11 or newer"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: set PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-demo: EXTRAS := demo
$(VENV)/.installed-dev: EXTRAS := dev
$(VENV)/.installed-engines: EXTRAS := engines

clean:
	rm -rf $(VENV) build *.egg-info
