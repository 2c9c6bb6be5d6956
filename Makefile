# make demo: the whole chain on generated phantoms. make test: the tests. Both install what they need into .venv first.
# make bench: fluoro beside its peers, which live in .venv-bench. `make bench ARGS="--only projector"`, `ARGS=--small`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test bench words lint clean

$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/pip install --quiet --editable '.[dev,sam,dicom,serve,onnx,log,blosc]'
	touch $@

demo: $(VENV)/.core
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# A peer that cannot be installed here is left out, and its rows say so.
$(BENCH)/.peers: pyproject.toml tests/bench/peers.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --editable .
	while read -r peer; do \
	  $(BENCH)/bin/pip install --quiet "$$peer" || echo "$$peer: not installed" >&2; \
	done < tests/bench/peers.txt
	touch $@

bench: $(BENCH)/.peers
	$(BENCH)/bin/python -m tests.bench $(ARGS)

# What the words are worth: words/report.md.
words: $(VENV)/.core
	$(BIN)/fluoro words --preset tiny --report --overwrite -o words

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf demo dist build *.egg-info
