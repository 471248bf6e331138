# All targets work in one virtual environment, .venv; a stamp file per install keeps repeats cheap.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILED := $(wildcard llmstatsd/*.h llmstatsd/*/*.h llmstatsd/*/*.p[yx][xd])
METADATA := setup.cfg pyproject.toml setup.py $(COMPILED) client/python/setup.cfg client/python/pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run test check bench kit install-dev servers clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## start the daemon on its defaults: StatsD on 127.0.0.1:8125/udp, HTTP on :2112
	@exec $(BIN)/llmstatsd serve

test: install-dev servers client/node/node_modules ## run all tests; arguments for pytest in ARGS
	@$(BIN)/python -m pytest -q $(ARGS)

check: install-dev ## ruff and mypy --strict
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --strict
	@cd client/python && ../../$(BIN)/mypy --strict

bench: install-dev ## measure throughput, scrapes, memory and start, on loopback, about eight minutes
	@$(BIN)/python bench/throughput.py
	@$(BIN)/python bench/scrape.py
	@$(BIN)/python bench/memory.py
	@$(BIN)/python bench/start.py
	@$(BIN)/python bench/client.py

install-dev: $(VENV)/.installed-dev ## the environment with everything that tests and checks need

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(METADATA) | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable client/python --editable .
	@touch $@

$(VENV)/.installed-dev: $(METADATA) | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable 'client/python[test]' --editable '.[test,dev]'
	@touch $@ $(VENV)/.installed

client/node/node_modules: client/node/package.json
	@if command -v npm >/dev/null; then \
		npm install --prefix client/node --silent --no-audit --no-fund && touch $@; \
	else \
		echo 'npm is missing: the Node.js client is not tested' >&2; \
	fi

kit: $(VENV)/.installed ## write configs/ anew from the code
	@$(BIN)/llmstatsd kit --out configs

# The tests run the real servers, from Debian's packages, whose services are of no use here:
# RUNLEVEL=1 keeps SysV init from starting them, and under systemd they are switched off again.
SERVERS := prometheus prometheus-alertmanager victoria-metrics
servers: ## install the servers that tests need where that is possible: Debian, as root
	@missing=; for server in promtool $(SERVERS); do \
		command -v $$server >/dev/null || missing=yes; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then \
		echo 'servers are missing: tests that need them are skipped' >&2; exit; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	apt-get update -qq && \
	apt-get install -qq -y --no-install-recommends $(SERVERS) >/dev/null || \
		echo 'servers cannot be installed: tests that need them are skipped' >&2; \
	if [ -d /run/systemd/system ]; then \
		systemctl --quiet disable --now $(SERVERS) || true; \
	fi

clean: ## remove the environment and everything that tools have left
	rm -rf $(VENV) client/node/node_modules build dist
	for folder in . client/python; do \
		rm -rf $$folder/*.egg-info $$folder/.hypothesis $$folder/.mypy_cache $$folder/.pytest_cache $$folder/.ruff_cache; \
	done
	find llmstatsd client/python tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
