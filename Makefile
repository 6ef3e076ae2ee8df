# On a fresh machine with Python (3.11 or later) and git:
#   make run    sets up .venv and searches 50 trials on the built-in names
#   make test   sets up the same .venv with the dev extra and runs the tests, but for the faults
#   make faults runs the tests that kill processes, start servers and fill disks
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRIALS ?= 50

# Install the tested versions, for the build of the package too: its pins come from the first
# variable in pip up to 25.2, and from the second one later. Python compiles what is imported, a
# quarter of what is installed, so pip need not compile everything, which takes over a minute.
PIP_INSTALL := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt

# If this is set, each process compiles again all that it imports, which triples its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test faults check lint types layers security versions wheel audit bench clean

run: $(VENV)/.installed
	$(BIN)/mmsearch run --trials $(TRIALS)

# Tests in one file stay on one worker, because they share fixtures that are expensive to build.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(PYTEST) -m $(or $(MARKED),"not fault and not long")

# Kills, outages, damage, full disks, servers, browsers, and strangers' workspaces: tests/faults, and the tests
# elsewhere that are marked `fault` because they take long.
faults: $(VENV)/.installed-dev
	$(PYTEST) -n 3 -m "fault and not long"

# What CI runs: all tests in one go, whose workers build their shared fixtures only once.
check: $(VENV)/.installed-dev
	$(MAKE) --jobs 2 wheel types versions lint layers security
	$(MAKE) test MARKED='"not long" -n 3'

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

security: $(VENV)/.installed-dev
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml data model tracking search

# Check the installed versions against pyproject.toml and constraints.txt.
versions: $(VENV)/.installed-dev
	$(BIN)/python .ci/versions.py

# Build the wheel, and try it outside the checkout.
wheel: $(VENV)/.installed-dev
	$(BIN)/python .ci/try_wheel.py

# Not part of `check`: its result changes without a change of ours, and it needs the network.
audit: $(VENV)/.installed-dev
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python .ci/audit.py .venv-audit/bin/pip-audit

# Not part of `check`: it takes long, and needs an idle machine.
CORPUS ?=
bench: $(VENV)/.installed
	$(BIN)/python bench/step.py
	$(BIN)/python bench/start.py
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/growth.py
	$(BIN)/python bench/search.py $(if $(CORPUS),--corpus $(CORPUS) --keep-duplicates)
	$(BIN)/python bench/outage.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .venv-audit build dist *.egg-info
