# Everything happens in .venv/; `make run` and `make test` set it up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WARM := $(VENV)/.compiled
WEB := cell/pendant/web
PAGE := cell/pendant/static/index.html

# What does not wait for each other runs side by side.
MAKEFLAGS += --jobs=2

.PHONY: help setup run test tests live bench lint lint-python lint-page format system lock clean

help:
	@echo "make run     kit six parts in the twin while a person walks up; ends with a summary and pictures"
	@echo "make test    lint, types, import contracts, all tests"
	@echo "make live    tests in real time with real processes: wants a machine with nothing else to do"
	@echo "make bench   timings and memory"
	@echo "make lint    lint, types and import contracts alone"
	@echo "make setup   .venv with the locked packages, system libraries where permitted"
	@echo "make lock    resolve the dependencies of pyproject.toml anew into requirements.lock"

setup: system $(STAMP) $(WARM) $(PAGE)

system:
	@sh scripts/system_libraries.sh

$(STAMP): requirements.lock requirements-uv.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@# uv is several times faster; pip knows indexes and certificates that only its own configuration names.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python scripts/fetch_pose_model.py
	touch $@

$(WARM): $(STAMP) | system
	@echo 'compiling the numerical kernels (once)'
	$(BIN)/python -m cell.warmup >/dev/null
	touch $@

# The pendant's page: built from its sources with the Node.js that the environment brings, served from this machine alone.
$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json $(STAMP)
	cd $(WEB) && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent --no-audit --no-fund
	touch $@

$(PAGE): $(WEB)/node_modules/.package-lock.json $(shell find $(WEB)/src $(WEB)/public $(WEB)/index.html $(WEB)/*.ts -type f 2>/dev/null)
	cd $(WEB) && PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent build
	touch $@

run: setup
	$(BIN)/cell run recipes/library/kitting.yaml --lockstep --seed 1

test: lint tests

tests: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not live"

live: setup
	-$(BIN)/python scripts/franka_sim.py  # without a network its tests are skipped
	$(BIN)/python -m pytest -q -m live

bench: setup
	$(BIN)/python -m pytest -q -s -p no:cacheprovider -o python_files='bench_*.py' tests/benchmarks

lint: lint-python lint-page

lint-python: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

lint-page: $(PAGE)
	cd $(WEB) && PATH="$(CURDIR)/$(BIN):$$PATH" && npm run --silent check && npm test --silent

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade uv
	echo 'uv>=0.9,<1' | $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --output-file requirements-uv.txt -
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --extra dev --python-version 3.11 \
		--output-file requirements.lock pyproject.toml requirements-build.txt

clean:
	rm -rf $(VENV) $(WEB)/node_modules cell/pendant/static build dist *.egg-info .mypy_cache .ruff_cache .hypothesis runs
