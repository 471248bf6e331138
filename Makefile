# All targets work in one virtual environment, .venv; a stamp file per install keeps repeats cheap.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml $(wildcard setup.py)

.DEFAULT_GOAL := help
.PHONY: help run test check bench install-dev promtool clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## start the daemon on its defaults: StatsD on 127.0.0.1:8125/udp, HTTP on :2112
	@exec $(BIN)/llmstatsd serve

test: install-dev promtool ## run all tests; arguments for pytest in ARGS
	@$(BIN)/python -m pytest -q $(ARGS)

check: install-dev ## ruff and mypy --strict
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --strict

bench: install-dev ## measure throughput, scrapes, memory and start, on loopback, about four minutes
	@$(BIN)/python bench/throughput.py
	@$(BIN)/python bench/scrape.py
	@$(BIN)/python bench/memory.py
	@$(BIN)/python bench/start.py

install-dev: $(VENV)/.installed-dev ## the environment with everything that tests and checks need

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(METADATA) | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(METADATA) | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev]'
	@touch $@ $(VENV)/.installed

# promtool comes with Debian's package of the Prometheus server, whose service is of no use here:
# RUNLEVEL=1 keeps SysV init from starting it, and under systemd it is switched off again.
promtool: ## install promtool where that is possible: Debian, as root
	@command -v promtool >/dev/null && exit; \
	if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then \
		echo 'promtool is missing: tests that need it are skipped' >&2; exit; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	apt-get update -qq && \
	apt-get install -qq -y --no-install-recommends prometheus >/dev/null || \
		echo 'promtool cannot be installed: tests that need it are skipped' >&2; \
	if [ -d /run/systemd/system ]; then systemctl --quiet disable --now prometheus || true; fi

clean: ## remove the environment and everything that tools have left
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find llmstatsd tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
