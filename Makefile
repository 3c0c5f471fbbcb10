# Two commands do everything on a fresh machine with Python 3.11 or newer and a package index:
#   make demo   installs, then builds a dataset from a small real crawl, trains a CLIP on it and shows what it learned
#   make test   installs, then runs lint, types and tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT ?= out/demo

.PHONY: demo test clean

demo: $(VENV)/.installed-demo
	$(BIN)/python -m openwit.workflows.demo run --out $(DEMO_OUT)

test: $(VENV)/.installed-dev
	@echo "== lint" && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "== types" && $(BIN)/mypy
	@echo "== tests" && $(BIN)/python -m pytest -n 2 --dist loadfile --durations 10
	@echo "All of lint, types and tests passed. Next: make demo, then open $(DEMO_OUT)/dataset/card.html"

# A marker a set of extras; pip does nothing where all is there already.
$(VENV)/.installed-%: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python found: install Python 3.11 or newer"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: set PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-demo: EXTRAS := demo
$(VENV)/.installed-dev: EXTRAS := demo,dev

clean:
	rm -rf $(VENV) build *.egg-info
