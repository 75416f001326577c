# Everything a person or a machine runs. `make` alone lists it.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name))))
DEVICE ?=
BIN := .venv/bin
SOURCES := teachers judges pipelines service tests benchmarks deploy

# No telemetry, ours or a dependency's.
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1
export DO_NOT_TRACK := 1
export RAY_USAGE_STATS_ENABLED := 0
# Tests and benchmarks fetch no models: what they need is packaged or made on the spot.
test bench faults: export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench faults

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv with everything in it (DEVICE=cpu|gpu and PYTHON=... overrule what is found)
	@test -n "$(PYTHON)" || { echo "setup: no Python found. Debian: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) deploy/setup.py $(DEVICE)

demo: setup ## one whole round: a better student, promoted and served
	$(BIN)/preceptor run recipes/demo.yaml --serve

test: lint ## lint, then every test that needs no GPU and causes no fault
	$(BIN)/python -m pytest -m "not gpu and not fault"

lint: setup ## ruff and mypy --strict
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy --strict --explicit-package-bases $(SOURCES)

bench: setup ## a measurement: make bench NAME=startup
	@test -n "$(NAME)" || { echo "Name one: make bench NAME=..., of:" \
	  $(subst _,-,$(basename $(notdir $(shell grep -lE 'import.* (conclude|measured)' benchmarks/*.py)))); exit 1; }
	$(BIN)/python -m benchmarks.$(subst -,_,$(NAME))

faults: setup ## kills, full disks and dead servers, a line each (QUICK=1: the short selection)
	$(if $(QUICK),PRECEPTOR_FAULTS=quick) $(BIN)/python -m pytest -m fault -v --no-header
