# GenPulse needs python3 >= 3.11 and make; everything else comes into .venv.
PYTHON ?= python3
BIN := .venv/bin
DATA := $(or $(GENPULSE_DATA),.genpulse)
INSTALLED := .venv/installed
TOOLS := .venv/tools

.PHONY: up down test lint types imports tests coverage bench chaos screenshots
.NOTPARALLEL:
.DEFAULT_GOAL := up

up: $(INSTALLED)  ## start everything in the background, run the demo, say where it is
	@[ -e logs ] && [ ! -L logs ] || ln -sfn $(DATA)/logs logs
	@$(BIN)/genpulse up

down:  ## stop everything; data stay
	@[ ! -x $(BIN)/genpulse ] || $(BIN)/genpulse down

test: $(TOOLS) lint types imports tests  ## all stages, the first that fails ends it

# $(call stage,NAME,COMMAND): run it, say how long it took.
stage = @echo "== $(1)"; from=$$(date +%s); $(2) || exit 1; echo "== $(1): $$(( $$(date +%s) - from )) s"

lint: $(TOOLS)
	$(call stage,lint,$(BIN)/ruff check . && $(BIN)/ruff format --check .)

types: $(TOOLS)
	$(call stage,types,$(BIN)/mypy .)

imports: $(TOOLS)
	$(call stage,imports,$(BIN)/lint-imports --no-cache)

tests: $(TOOLS)
	@echo "== tests"
	@$(BIN)/pytest -n 2 --durations=20

coverage: $(TOOLS)  ## tests with branch coverage, also of the processes they start
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n 2
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

bench: $(INSTALLED)  ## measure everything on servers of its own, or one program: make bench NAME=p2
	@$(BIN)/python -m benchmarks $(NAME)

chaos: $(TOOLS)  ## every experiment with faults, on servers of its own
	@$(BIN)/python -m tests.chaos

screenshots: $(TOOLS)  ## pictures of the console for docs/images, from an instance of its own
	@$(BIN)/python -m tests.browser.screenshots

$(INSTALLED): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "GenPulse needs Python 3.11 or newer; name one with PYTHON=/path/to/python3"; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "This Python cannot make virtual environments (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "installing into .venv (once)"
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV= $(BIN)/uv sync --frozen --quiet --compile-bytecode --no-dev --inexact
	@touch $@

$(TOOLS): $(INSTALLED)
	@VIRTUAL_ENV= $(BIN)/uv sync --frozen --quiet --compile-bytecode
	@touch $@
