# Every target sets up what it needs: a bare machine wants Python 3.11, make and git, nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv || echo .tools/bin/uv)
WORKERS ?= 2
REQUEST ?= Which license does this project have, and which Python version does it need? Look into LICENSE and pyproject.toml.

.DEFAULT_GOAL := help
.PHONY: help run test test-live lint format evals bench soak build lock clean

help:
	@echo "make run        set up, then work on a real request (REQUEST=\"…\" for your own)"
	@echo "make test       set up, then run the tests"
	@echo "make test-live  the tests that need the embedded model's weights"
	@echo "make lint       format, lint, types and layers"
	@echo "make evals      the everyday suite, on your model or the embedded one"
	@echo "make bench      times and sizes beside those of peers (CHECKPOINTS=--quick spares 7 GB)"
	@echo "make soak       1,000 runs, and a run cancelled at every pass of the event loop"
	@echo "make build      wheel and source archive in dist/"

.tools/bin/uv:
	$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip --user
	$(PYTHON) -m pip install --quiet --target .tools uv

$(BIN)/orc: requirements.lock pyproject.toml | $(UV)
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$(PYTHON)" $(VENV)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(BIN)/orc

run: $(BIN)/orc
	$(BIN)/orc run --yes "$(REQUEST)"

test: $(BIN)/orc
	LANGGRAPH_STRICT_MSGPACK=true $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

test-live: $(BIN)/orc
	$(BIN)/orc models pull
	LANGGRAPH_STRICT_MSGPACK=true $(BIN)/python -m pytest -m live --timeout 900 $(ARGS)

lint: $(BIN)/orc
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(BIN)/orc
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

evals: $(BIN)/orc
	$(BIN)/orc evals run everyday $(ARGS)

bench: $(BIN)/orc
	$(BIN)/python bench/step_overhead.py $(ARGS)
	$(BIN)/python bench/resilience.py
	$(BIN)/python bench/holding.py
	$(BIN)/python bench/peers.py
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/checkpoints.py $(CHECKPOINTS)
	$(BIN)/python bench/snapshots.py
	$(BIN)/python bench/policy.py
	$(BIN)/python bench/sandbox.py

soak: $(BIN)/orc
	ORC_SOAK_RUNS=1000 ORC_CANCEL_STRIDE=1 ORC_CANCEL_FIRST=1 LANGGRAPH_STRICT_MSGPACK=true \
		$(BIN)/python -m pytest --timeout 7200 tests/test_soak.py tests/test_cancel_everywhere.py

build: $(BIN)/orc
	rm -rf dist
	$(BIN)/python -m hatchling build

lock: | $(UV)
	$(UV) pip compile pyproject.toml --extra local --extra otel --extra web --group dev --group bench \
		--universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) .tools dist
