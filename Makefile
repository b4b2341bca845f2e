# Every command of the project; `make help` lists them. CI calls the same targets.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test check format docs bench clean soak

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.venv/.installed: pyproject.toml constraints.txt
	@echo "Installing into .venv; this takes some minutes the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: .venv/.installed ## Make .venv with the dropframe command in it

run: install ## Set everything up and start Dropframe (ARGS="--weights model.pt")
	$(BIN)/dropframe run $(ARGS)

test: install ## Run the whole test suite (ARGS="-k name" for a part)
	$(BIN)/pytest $(ARGS)

check: install ## Lint, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/governance

format: install ## Put the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install ## Write the documents that are made from the code
	$(BIN)/python -m tools.settings_doc

soak: install ## Run for MINUTES=15 with one random fault a minute
	$(BIN)/python -m tests.system.soak --minutes $(or $(MINUTES),15) $(ARGS)

bench: install ## Print the benchmark tables (clips and weights in ../shared)
	$(BIN)/python -m benchmarks

clean: ## Remove what the commands above made; inbox, outbox and data stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage
