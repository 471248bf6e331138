# All targets work in one virtual environment, .venv; a stamp file per install keeps repeats cheap.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILED := $(wildcard llmstatsd/*.h llmstatsd/*/*.h llmstatsd/*/*.p[yx][xd])
METADATA := setup.cfg pyproject.toml setup.py $(COMPILED) client/python/setup.cfg client/python/pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench pictures fuzz sanitize kit wheels install uninstall install-dev servers clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## start the daemon on its defaults: StatsD on 127.0.0.1:8125/udp, HTTP on :2112
	@exec $(BIN)/llmstatsd serve

demo: $(VENV)/.installed ## start a daemon and realistic calls, and say where to look; arguments in ARGS
	@exec $(BIN)/llmstatsd demo $(ARGS)

# Two processes: most tests wait for a daemon to start or to end. A file's tests stay together.
test: install-dev servers client/node/node_modules ## run all tests; arguments for pytest in ARGS
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

check: install-dev ## ruff and mypy --strict
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --strict
	@cd client/python && ../../$(BIN)/mypy --strict

# Built in a copy: nothing of an earlier build gets in, and nothing is left among the sources.
WHEELS := build/wheels
SOURCES := $(METADATA) $(wildcard llmstatsd/*.py llmstatsd/*/*.py client/python/llmstatsd_client/*.py)
wheels: $(WHEELS)/.built ## build the packages that `make install` installs
$(WHEELS)/.built: $(SOURCES) | $(BIN)/python
	@rm -rf $(WHEELS) && mkdir -p $(WHEELS)/source
	@cp --parents --recursive --target-directory=$(WHEELS)/source \
		LICENSE README.md MANIFEST.in setup.py setup.cfg pyproject.toml llmstatsd client/python
	@find $(WHEELS)/source '(' -name '*.so' -o -name compiled.c ')' -delete
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
		--wheel-dir $(WHEELS) $(WHEELS)/source/client/python $(WHEELS)/source
	@rm -rf $(WHEELS)/source && touch $@

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
# Where systemd looks: below any other prefix it looks for nothing.
UNITDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib,$(SYSCONFDIR))/systemd/system
INSTALL = DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' UNITDIR='$(UNITDIR)' \
	EXTRAS='$(EXTRAS)' PYTHON='$(abspath $(BIN)/python)' WHEELS='$(WHEELS)' systemd/install.sh

install: wheels ## install below PREFIX, and start the service: see docs/how-to/systemd.md
	@$(INSTALL) install

uninstall: ## remove what `make install` has installed, but configuration and state
	@$(INSTALL) uninstall

bench: install-dev ## measure throughput, scrapes, memory and start, on loopback, about an hour
	@$(BIN)/python bench/throughput.py
	@$(BIN)/python bench/peers.py
	@$(BIN)/python bench/hostile.py
	@$(BIN)/python bench/restart.py
	@$(BIN)/python bench/exporters.py
	@$(BIN)/python bench/scrape.py
	@$(BIN)/python bench/memory.py
	@$(BIN)/python bench/start.py
	@$(BIN)/python bench/client.py
	@$(BIN)/python bench/live.py
	@$(BIN)/python bench/tap.py

pictures: install-dev ## take the pictures of docs/ anew, two minutes; needs chromium and tmux
	@$(BIN)/python bench/pictures.py --out docs/pictures

FUZZ_SECONDS ?= 600
fuzz: build/fuzz ## compare both lanes under coverage-guided fuzzing, 10 minutes; needs clang
	@$(BIN)/python tests/fuzz/seeds.py build/corpus
	@cd $< && ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD=$$($(abspath $(BIN)/python) -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so \
		$(abspath $(BIN)/python) tests/fuzz/fuzz_twins.py \
		-max_total_time=$(FUZZ_SECONDS) -max_len=1024 -verbosity=0 -print_final_stats=1 ../corpus

# Python's own leaks are not ours, and its allocator would hide the bounds of objects.
sanitize: build/sanitize ## run the tests of the compiled lane under AddressSanitizer and UBSan
	@cd $< && ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		$(abspath $(BIN)/python) -m pytest -q -p no:cacheprovider -m 'compiled and not memory and not preload' $(ARGS)

# The extension with other flags of the compiler, in a copy of the tree.
build/fuzz: COMPILER := CC=clang LDSHARED='clang -shared' CFLAGS='-O1 -g -fsanitize=fuzzer-no-link'
build/sanitize: COMPILER := LDFLAGS='-fsanitize=address,undefined' CFLAGS='-O1 -g \
	-fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'
build/fuzz build/sanitize: $(VENV)/.installed-fuzz .FORCE
	@rm -rf $@ && mkdir -p $@
	@cp --parents --recursive --target-directory=$@ \
		LICENSE *.md setup.py setup.cfg pyproject.toml bench client/python client/vectors.json \
		configs docs llmstatsd systemd tests
	@find $@ -name '*.so' -delete
	@cd $@ && $(COMPILER) $(abspath $(BIN)/python) setup.py -q build_ext --inplace --force >build.log 2>&1 || { cat build.log; exit 1; }
.FORCE:

install-dev: $(VENV)/.installed-dev ## the environment with everything that tests and checks need

$(BIN)/python:
	@echo 'Installing into $(VENV): about a minute the first time' >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(METADATA) | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable client/python --editable .
	@touch $@

$(VENV)/.installed-dev: $(METADATA) | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable 'client/python[test]' --editable '.[test,dev,bench]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

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
