# make demo   train a tiny model on the CPU and print its table (needs git, make and some Python)
# make test   every test
# make setup  only the installation, which the others do first by themselves
# make lint   style, types and the import rule
# make peers  what the benchmarks are compared with: torch (under Python 3.11) and google-tunix
# make clean  remove what was installed or cached; runs/ stays

BIN := .venv/bin
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format peers clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup:
	@sh scripts/bootstrap.sh

demo: setup
	@$(BIN)/r1ci run experiments/toy.py

test: setup
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

peers:
	@sh scripts/peers.sh

clean:
	rm -rf .venv .venv-peers-* .cache build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
