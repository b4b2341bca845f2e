# Every command of the project; `make help` lists them. CI calls the same targets.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Processes that run tests: more than cores, since tests that start Dropframe wait more than they compute.
JOBS ?= 3
# Where this is set, as in many containers, every process compiles all that it loads: twice the time of a start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install dev run demo first-run governance lint types registry check test test-all storm hostile gpu calibrate soak crash-long cluster-kills stopping coverage smoke audit format docs bench hooks \
	release clean always

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# What runs Dropframe, and that with what tests and checks need. GPU=1 takes CUDA where no NVIDIA driver is found,
# EXTRAS=s3,mcp what these parts need.
.venv/.installed: pyproject.toml constraints.txt $(if $(EXTRAS),always)
	@$(PYTHON) tools/install.py $(if $(GPU),--gpu) $(if $(EXTRAS),--extras $(EXTRAS))

.venv/.dev-installed: pyproject.toml constraints.txt
	@$(PYTHON) tools/install.py --dev $(if $(GPU),--gpu)

# A service that speaks S3, for tests; its libraries do not go with ours.
.venv-moto/.installed: tests/moto-requirements.txt
	@$(PYTHON) -m venv .venv-moto
	@.venv-moto/bin/pip install --quiet --disable-pip-version-check -r tests/moto-requirements.txt
	@touch $@

install: .venv/.installed ## Make .venv with the dropframe command in it (GPU=1 for CUDA)

dev: .venv/.dev-installed ## The same, with what tests and checks need

run: install ## Set everything up and start Dropframe (ARGS="--weights model.pt")
	@exec $(BIN)/dropframe run --step "4/4 " $(ARGS)

demo: install ## Show what a running Dropframe finds in a clip that it draws itself
	@$(BIN)/dropframe demo $(ARGS)

governance: dev ## Vocabulary, import direction, documents, dependencies
	$(BIN)/python -m tests.governance.scan
	$(BIN)/pytest -q tests/governance

lint: dev ## Lint and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev ## Types, of the web page's modules as well
	$(BIN)/mypy
	$(BIN)/python -m tools.page_types

registry: dev ## Check that the stages of each registered pipeline fit each other
	$(BIN)/python -m tools.check_pipelines

check: governance lint types registry ## All checks that run nothing for long

test: dev ## Run the tests that take no more than some seconds each (ARGS="-k name" for a part)
	$(BIN)/pytest -m "not slow" -n $(JOBS) $(ARGS)

test-all: dev .venv-moto/.installed ## Run every test; .ci/run packages installs what they need
	$(BIN)/pytest -n $(JOBS) $(ARGS)

gpu: dev ## Run the tests that need a CUDA GPU, then measure it (clips and weights in ../shared)
	@$(PYTHON) tools/install.py --dev --gpu
	$(BIN)/pytest tests/gpu $(ARGS)
	$(BIN)/python -m benchmarks.gpu

calibrate: dev ## Calibrate for real and measure it (installs NNCF, 200 MB, into .venv; clips and weights in ../shared)
	@$(PYTHON) tools/install.py --dev --extras int8
	$(BIN)/pytest tests/int8 $(ARGS)
	$(BIN)/python -m benchmarks.int8

formats: dev ## Have the programs that exports are for read them (installs 1 GB of them into .venv-formats)
	$(PYTHON) -m venv .venv-formats
	.venv-formats/bin/pip install --quiet --disable-pip-version-check -r tests/formats/requirements.txt
	$(BIN)/python -m tests.formats .venv-formats/bin/python

storm: dev ## Drop 20,000 files while events are lost and the daemon is killed (minutes)
	STORM_FILES=20000 STORM_SECONDS=60 STORM_TIMES=50 $(BIN)/pytest -s tests/system/test_intake_storm.py $(ARGS)

hostile: dev ## 3,000 damaged videos through the daemon, 40,000 through the decoder, and odd requests (hours)
	HOSTILE_FILES=3000 $(BIN)/pytest -s tests/system/hostile $(ARGS)
	HTTP_EXAMPLES=100 $(BIN)/pytest -s tests/integration/test_http_openapi.py
	$(BIN)/python -m tests.system.hostile.mutations 1 20000
	$(BIN)/python -m tests.system.hostile.mutations 1 20000 all

soak: dev ## Run as people do with one random fault a minute (MINUTES=15)
	$(BIN)/python -m tests.system.soak --minutes $(or $(MINUTES),15) $(ARGS)

crash-long: dev ## Kill everything 1,000 times, at random and at every failpoint (an hour; ARGS="--seed 7")
	$(BIN)/python -m tests.system.crash --cycles 1000 $(ARGS)
	ANSWER_KILLS=500 ORDER_JOBS=200 $(BIN)/pytest -s -k "answer or order" \
		tests/system/faults/test_worker.py tests/system/crash/test_order.py

cluster-kills: dev ## Kill actors, nodes, heads and daemons of a Ray cluster 30 times, at random (KILLS=30)
	CLUSTER_KILLS=$(or $(KILLS),30) $(BIN)/pytest -s -k killed tests/cluster $(ARGS)

stopping: dev ## End Dropframe 20 times with a job running and an upload open
	STOPPING_TRIES=20 $(BIN)/pytest -s tests/system/test_stopping.py $(ARGS)

coverage: dev .venv-moto/.installed ## Run the whole test suite; the fast part must cover 90 % of daemon/ and sidecar/
	$(BIN)/coverage erase
	$(BIN)/pytest -m "not slow" -n $(JOBS) --cov --cov-report=term $(ARGS)
	$(BIN)/pytest -m slow -n $(JOBS) $(ARGS) # not measured, which would take half as much time again

first-run: ## Clone, make run, drop a clip, see a result: as a newcomer does, in a folder of its own
	tests/first_run.sh $(ARGS)

smoke: dev ## Ask a Dropframe for a real clip (ARGS="--base-url http://… --token …" for one that runs)
	$(BIN)/python -m tests.system.smoke $(ARGS)

audit: dev ## Look for known vulnerabilities in what is pinned; says so where the database cannot be reached
	$(BIN)/python -m tools.audit

format: dev ## Put the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: dev ## Write the documents that are made from the code
	$(BIN)/python -m tools.settings_doc
	$(BIN)/python -m tools.formats_doc
	$(BIN)/python -m tools.exports_doc
	$(BIN)/python -m tools.languages_doc

bench: dev ## Print the benchmark tables (clips and weights in ../shared)
	$(BIN)/python -m benchmarks

hooks: dev ## Have git run the checks before each commit
	$(BIN)/pre-commit install

release: dev ## Make a wheel and a source archive in dist/ (docs/releasing.md)
	rm -rf build dist
	$(BIN)/python -m build --no-isolation

clean: ## Remove what the commands above made; inbox, outbox and data stay
	rm -rf .venv .venv-formats .venv-moto build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
