# Lantern: one screen of commands. `make` alone prints them.
PYTHON ?= python3
BIN := .venv/bin
# Wheels only, every file checked against its hash: a fresh machine compiles nothing and trusts nobody.
LOCKED := --quiet --only-binary :all: --require-hashes
INSTALL := $(BIN)/uv pip install --python $(BIN)/python
SELF := --quiet --no-deps --no-build-isolation

.DEFAULT_GOAL := help
.PHONY: help setup demo test fast lint types docs proofs bench bench-routing bench-dashboard screenshots chromium vendor serve lock

help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-16s %s\n", $$1, $$2}'

.venv/.uv: requirements-setup.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check install $(LOCKED) -r requirements-setup.lock
	@touch $@

.venv/.base: .venv/.uv requirements.lock pyproject.toml
	@$(INSTALL) $(LOCKED) --compile-bytecode -r requirements.lock
	@$(INSTALL) $(SELF) -e .
	@$(BIN)/python -m compileall -q src/lantern src/lantern_dev
	@touch $@

.venv/.dev: .venv/.base requirements-dev.lock clients/python/pyproject.toml
	@$(INSTALL) $(LOCKED) -r requirements-dev.lock
	@$(INSTALL) $(SELF) -e . -e clients/python
	@touch $@

setup: .venv/.dev ## create .venv with the base, the test tools and the client library

demo: .venv/.base ## show the product at work on this machine (about a minute)
	@$(BIN)/lantern demo $(ARGS)

serve: .venv/.base ## run the server on an embedded database
	@$(BIN)/lantern serve $(ARGS)

lint: setup ## format check, lint, import layers, unused dependencies
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports --no-cache && $(BIN)/deptry src

types: setup ## mypy --strict
	@$(BIN)/mypy

fast: setup ## the tests that need no killed processes
	@$(BIN)/pytest -q -m "not slow"

docs: setup ## run every example of the documentation and check that all is documented
	@$(BIN)/pytest -q tests/test_docs.py

test: setup chromium lint types ## everything CI runs
	@$(BIN)/pytest -q

proofs: setup ## the proof of routing in full: 8 processes, 20,000 assignments (about a minute)
	@PYTHONPATH=tests $(BIN)/python -m routing.proofs $(ARGS)

bench: setup ## time to first token, token delay, runs/s and CPU against peers (takes minutes)
	@bash bench/streaming/run.sh $(ARGS)

bench-routing: setup ## assignments a second and their CPU through HTTP (about two minutes)
	@bash bench/routing/run.sh $(ARGS)

bench-dashboard: setup ## time of each page over 100,000 runs and 1,000,000 log rows (about two minutes)
	@bash bench/dashboard/run.sh $(ARGS)

screenshots: setup chromium ## draw every page of the dashboard into docs/images (maintainers)
	@PYTHONPATH=tests $(BIN)/python -m e2e.screenshots $(ARGS)

# Where a package manager of Debian's kind and the right to use it are; elsewhere those tests skip.
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; \
	  (apt-get install -qq -y --no-install-recommends chromium || \
	   (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium)) >/dev/null 2>&1 || \
	  echo "Chromium could not be installed: the browser tests skip"; \
	fi

vendor: ## fetch the dashboard's libraries again (maintainers; needs npm)
	@bash src/lantern/dashboard/static/vendor/fetch.sh

lock: .venv/.uv ## renew the lock files (maintainers)
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header requirements-setup.in -o requirements-setup.lock
	@printf 'hatchling\neditables\n' | $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header pyproject.toml - -o requirements.lock
	@$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header -c requirements.lock requirements-dev.in -o requirements-dev.lock
