# `make dev` is all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help dev test check test-real test-faults test-faults-full bench kafka lock docs browser fmt clean runtime-env dev-env

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

dev: runtime-env ## everything on this machine, with sample traffic and a page; options: make dev ARGS="--help"
	@exec $(BIN)/python -m headrace dev $(ARGS)

test: dev-env ## unit, property, integration, crash and journey tests on embedded servers
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not real and not load and not faults and not faults_sample" $(ARGS)

check: dev-env ## style, types, layers, dead code, docs in step, lock in step
	@$(BIN)/python scripts/check.py

test-faults: dev-env ## a sample of random kills and outages over the whole way, on embedded and real servers; 5 minutes
	@$(BIN)/python scripts/real_servers.py --only-programs $(BIN)/python -m pytest -s -m faults_sample tests/faults $(ARGS)

test-real: dev-env ## integration, crash and journey tests on Apache Kafka, Debian's Redis and PostgreSQL
	@$(BIN)/python scripts/real_servers.py $(BIN)/python -m pytest -n 3 --dist worksteal -m "not load and not faults and not faults_sample" $(wildcard tests/integration tests/crash tests/journey) $(ARGS)

bench: dev-env ## throughput beside peers and limits, latency, rebalance; options: make bench ARGS="--help"
	@$(BIN)/python -m bench $(or $(ARGS),engine)

test-faults-full: dev-env ## 240 kills and 78 outages over the whole way, every step and trap of the engine; an hour; writes docs/faults.md
	@rm -f .headrace/faults.jsonl; mkdir -p .headrace
	@HEADRACE_TEST_FAULTS_REPORT=$(CURDIR)/.headrace/faults.jsonl $(BIN)/python scripts/real_servers.py --only-programs $(BIN)/python -m pytest -s -m faults tests/faults $(ARGS)
	@$(BIN)/python scripts/faults_page.py .headrace/faults.jsonl
	@$(if $(filter apache,$(KAFKA)),$(BIN)/python scripts/real_servers.py) $(BIN)/python -m pytest -s -m faults tests/crash tests/integration $(ARGS)

kafka: ## Apache Kafka's jars, through Maven, into .kafka/libs
	@scripts/get-kafka

lock: dev-env ## resolve the lock files anew (network)
	@$(BIN)/python scripts/lock.py

docs: dev-env ## write the generated pages of docs/
	@$(BIN)/python scripts/docs.py

browser: dev-env ## the page in a headless Chromium; fails when there is none
	@HEADRACE_TEST_BROWSER=required $(BIN)/python -m pytest -m browser $(ARGS)

fmt: dev-env ## format, and repair what ruff can
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

clean: ## remove the environment, caches and data of `make dev`
	rm -rf .venv .bench .kafka .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

runtime-env:
	@$(PYTHON) scripts/bootstrap.py runtime

dev-env:
	@$(PYTHON) scripts/bootstrap.py dev
