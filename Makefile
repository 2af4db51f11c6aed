# Every target sets up what it needs: a virtual environment in .venv with the versions of constraints.txt.
# PYTHON=/path/to/python chooses the interpreter; ARGS="..." is passed on, for example: make test ARGS="-k cancel -x"

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3.14 python3.13 python3.12 python3.11 python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Scripts in an environment hold its absolute path, so a moved checkout needs a new one, as other requirements do: the
# stamp's name says of which it is. The tools' own tables in pyproject.toml need none.
OF := $(shell { pwd -P; sed '/^\[tool\./,$$d' pyproject.toml; cat constraints.txt; } | cksum | cut -d ' ' -f 1)
READY := $(VENV)/.ready-$(OF)
# An interpreter that is gone (a system upgrade) needs a new one too.
BROKEN := $(shell $(BIN)/python -c pass 2>/dev/null || echo broken)

.PHONY: help demo example-django example-flask test screenshots docs lint types mutants bench bench-peers bench-cadence soak api changelog constraints \
	build clean broken

help: ## print this list
	@echo "make TARGET, with TARGET one of:"
	@sed -n 's/^\([a-z-]*\):.*## /  \1	/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY) ## see the whole thing run: server, sandbox, two workers, one of them killed
	@$(BIN)/python -m tasks_bridge.cli demo $(ARGS)

example-django: $(READY) ## run an example on Django, a poster shop, with all that it needs
	@$(BIN)/python -m examples.django_shop $(ARGS)

example-flask: $(READY) ## run an example on Flask, a storyboard studio, with all that it needs
	@$(BIN)/python -m examples.flask_studio $(ARGS)

test: $(READY) ## run all tests; what this machine lacks is skipped with its reason
	@$(BIN)/python -m pytest $(ARGS)

screenshots: $(READY) ## bring the pictures of the pages in docs/img up to date, with Chromium and the font Inter
	@FONTCONFIG_FILE=$(CURDIR)/tests/browser/fonts.conf $(BIN)/python -m pytest tests/browser $(ARGS)
	@for picture in docs/img/*.png; do cp ".cache/screenshots/$${picture##*/}" "$$picture" || exit; done

docs: $(READY) ## build the documentation's site into build/docs; what is wrong with a page is an error
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs -d build/doctrees . build/docs $(ARGS)
	@echo "The documentation is in build/docs/index.html"

lint: $(READY) ## style, format and the direction of imports
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: $(READY) ## check types
	@$(BIN)/python -m mypy $(ARGS)

mutants: $(READY) ## break the code on purpose and see whether the tests notice (an hour; ARGS=cadence for a part)
	@$(BIN)/python -m tools.mutants $(ARGS)

bench: $(READY) ## measure speed and size (minutes)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: .cache/bench-peers/.ready ## set up other task queues, for bench to compare with

# An environment of their own: they want other versions of redis-py.
.cache/bench-peers/.ready: benchmarks/peers/peers.txt $(READY)
	@rm -rf .cache/bench-peers
	@$(BIN)/python -m venv .cache/bench-peers
	@.cache/bench-peers/bin/python -m pip --disable-pip-version-check --no-input --quiet install --requirement benchmarks/peers/peers.txt
	@touch $@

bench-cadence: $(READY) ## what polls and lag cost by several rules, simulated (minutes; ARGS=--live for real workers too)
	@nice -n 15 $(BIN)/python -m benchmarks.cadence $(ARGS)

soak: $(READY) ## thousands of jobs while everything fails, and balanced books in the end (minutes)
	@$(BIN)/python -m soak --jobs 2000 --seed 7 $(ARGS)

build: $(READY) ## build the wheel and the source distribution into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist .

api: $(READY) ## write the public interface down, once a change of it is meant
	@$(BIN)/python -m tools.api

changelog: $(READY) ## make the fragments in changelog.d a section of CHANGELOG.md, for a release
	@$(BIN)/python -m towncrier build --yes

# The newest versions, and the oldest that the lower bounds in pyproject.toml allow: each for Python 3.11 and later.
constraints: $(READY) ## bring constraints.txt and constraints-oldest.txt up to date
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@set -e; compile="$(BIN)/python -m uv pip compile --quiet --upgrade --no-config --universal --python-version 3.11 --all-extras \
		--no-header --no-annotate --no-emit-index-url"; \
	$$compile --output-file constraints.txt pyproject.toml; \
	$$compile --resolution lowest-direct --output-file constraints-oldest.txt pyproject.toml

clean: ## remove the environment, caches and builds
	@rm -rf $(VENV) build dist .cache .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so an interrupted set-up starts over.
$(READY): $(BROKEN)
	@set -e; \
	python=; without_venv=; \
	for candidate in $(PYTHON); do \
		$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		if $$candidate -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$candidate; break; fi; \
		without_venv=$${without_venv:-$$candidate}; \
	done; \
	if [ -z "$$python" ] && [ -n "$$without_venv" ]; then \
		echo "$$without_venv cannot make virtual environments: install its venv module (Debian: apt install python3-venv)" >&2; exit 1; \
	elif [ -z "$$python" ]; then \
		echo "Python 3.11 or later is needed; none of these is one: $(PYTHON). Install it, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$python --version), once; this takes a minute ..."; \
	rm -rf $(VENV); \
	$$python -m venv $(VENV); \
	echo "  installing packages ..."; \
	pip="$(BIN)/python -m pip --disable-pip-version-check --no-input --quiet"; \
	$$pip install --constraint constraints.txt hatchling editables; \
	$$pip install --constraint constraints.txt --no-build-isolation --editable '.[dev]'; \
	touch $@; \
	echo "  done."

broken:
