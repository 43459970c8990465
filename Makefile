# make demo    a whole system acquires, checks and shows 200 real-looking frames, then leaves nothing running
# make test    style, types, import contracts and all tests but the long ones; lists what was skipped and why
# make bench   every figure against its reference in the same run: a table, bench.json and bench.png (ten minutes)
# make test-openmpi   streams and topologies with the other MPI library, in an environment of its own (six minutes)
# make install, make install-test   only the environments of the two
# All build a private environment in .venv from nothing but Python 3.11+ and the package index, MPI included.

PYTHON ?= python3
MPI ?= mpich
# One MPI library per environment: make demo MPI=openmpi has one of its own.
VENV ?= .venv$(if $(filter-out mpich,$(MPI)),-$(MPI))
BIN = $(VENV)/bin

# Open MPI starts nothing as root, and no more ranks than there are cores, unless it is told to.
OPEN_MPI = OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe

.PHONY: install install-test demo bench test test-long test-openmpi check bytecode clean help

help:
	@sed -n 's/^# //p' Makefile

install: $(VENV)/.installed-$(MPI)-demo

install-test: $(VENV)/.installed-$(MPI)-test

demo: $(VENV)/.installed-$(MPI)-demo bytecode
	$(BIN)/lima2 demo

bench: $(VENV)/.installed-$(MPI)-demo bytecode
	$(BIN)/lima2 bench --json bench.json --plot bench.png

test: check
	$(BIN)/python -m pytest -m "not long"

test-long: $(VENV)/.installed-$(MPI)-test bytecode
	$(BIN)/python -m pytest -m long --timeout 3600
	$(MAKE) test-openmpi

test-openmpi:
	$(MAKE) install-test MPI=openmpi
	$(OPEN_MPI) .venv-openmpi/bin/python -m pytest tests/mpi -m "not long"

check: $(VENV)/.installed-$(MPI)-test bytecode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A rank that had to compile our modules would start a third slower, each time where the folder cannot be written.
bytecode: | $(VENV)/bin/python
	$(BIN)/python -m compileall -q lima2_tango

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-$(MPI)-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(MPI),$*]'
	touch $@

clean:
	rm -rf $(VENV) lima2_demo bench.json bench.png
