# make reproduce and make test are all that is needed; both set everything up first.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: reproduce smoke test lint format report teacher clean

reproduce: .venv/ready  ## everything, from the prompts to results/emoji/report/index.html
	snakemake --cores all

smoke: .venv/ready  ## the same in minutes, with nothing learned: results/smoke/report/index.html
	snakemake --cores all --configfile config/smoke.yaml

test: lint  ## lint, unit tests and the smoke world from end to end
	pytest

lint: .venv/ready  ## format, style, types and workflow, by tools
	ruff check
	ruff format --check
	snakefmt --check --compact-diff Snakefile workflow/rules
	mypy
	snakemake --lint

format: .venv/ready  ## mend what a tool can mend
	ruff check --fix
	ruff format
	snakefmt Snakefile workflow/rules

report: .venv/ready  ## the report alone, from scores that are there
	snakemake --cores all --until report

teacher: .venv/ready  ## train the shipped teacher and evaluator from nothing, about two hours
	snakemake --cores all --configfile config/teacher.yaml -- teacher

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

clean:  ## results and environment
	rm -rf results .venv .snakemake
