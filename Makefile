# One verb, one command. Hooks and CI call these and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
UV ?= uv
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	--no-annotate --custom-compile-command 'make lock' pyproject.toml

.PHONY: setup setup-demo frameworks lock fmt check test unit demo bench golden clean

setup: $(VENV)/.dev          ## everything a developer needs
setup-demo: $(VENV)/.demo    ## only what `make demo` needs

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements/demo.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(RUN) -m compileall -q src
	touch $@

$(VENV)/.dev: requirements/dev.txt requirements/demo.txt pyproject.toml | $(BIN)/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	# xds-protos brings older files of the same names: the newer ones must come last.
	$(RUN) -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		$(shell grep '^opentelemetry-proto==' requirements/dev.txt)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(RUN) -m compileall -q src
	touch $@

frameworks: setup            ## the heavy frameworks, without which their runtimes' tests skip
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements/frameworks.txt \
		-c requirements/dev.txt

lock:                        ## pin every dependency; dev first, so that both agree
	$(LOCK) --extra local --extra skops --extra xgboost --extra lightgbm \
		--extra onnx --extra otel --group dev -o requirements/dev.txt
	$(LOCK) --extra local --extra sklearn -c requirements/dev.txt -o requirements/demo.txt

fmt: setup
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

check: setup
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(RUN) -m pytest tests/unit

test: setup
	$(RUN) -m pytest

demo: setup-demo
	$(RUN) examples/iris/demo.py

bench: setup
	$(RUN) -m benchmarks

golden: setup
	$(RUN) -m pytest tests --rewrite-golden -k golden

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .demo
