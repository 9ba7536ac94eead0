# Everything happens in .venv, made from the system's python3.
PYTHON ?= python3
# Else every command that a test starts compiles its modules anew.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
# A worker for each CPU that this process may use; more end sooner, since tests of two processes often
# wait. The tests of a file run in one of them, in order.
WORKERS ?= $(shell nproc)
# Files begin in the order of their folders, the short unit tests last. Ordered by their number of
# tests, as xdist does by itself, the longest of them would begin last.
# One that a hung test has ended is not started again: the run ends.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
SOURCES := pyproject.toml setup.py $(wildcard hv/core/*.[ch] vmm/*.[ch] devices/*/*.[ch] tools/*/*.[ch] tools/*/*/*.[ch]) tools/stress/cores/broken.py

.PHONY: demo quick list-slow test check bench docs dist install clean

demo: install ## draw the demonstration picture and show what the ring saved
	$(BIN)/coalesced demo vga

quick: $(VENV)/.test ## run the unit tests, those of more than 0.2 seconds left out
	$(PYTEST) tests/unit -m "not slow and not heavy"

list-slow: $(VENV)/.test ## list the unit tests that `make quick` leaves out, and the heavy tests
	$(BIN)/python -m pytest --collect-only -q -m "slow or heavy"

test: $(VENV)/.test ## run the tests, the heavy ones left out
	$(PYTEST) -m "not heavy"

check: $(VENV)/.lint ## ruff, mypy and clang-format
	git ls-files '*.[ch]' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install ## measure what a write, an exit and a picture cost
	$(BIN)/coalesced bench all

docs: $(VENV)/.docs ## build the site in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# LDSHARED: without the library paths of the Python that builds.
dist: $(VENV)/.dist ## build the sdist, and from it the wheel, in dist/
	rm -rf dist build/dist
	LDSHARED="$${CC:-gcc} -shared" $(BIN)/python -m build --outdir build/dist
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --strip --wheel-dir dist build/dist/*.whl
	mv build/dist/*.tar.gz dist

install: $(VENV)/.install

# Made anew whenever it is not whole: one without pip, an interrupted one, one from another folder.
WHOLE := import pip, sys; print(sys.prefix in open(sys.prefix + "/bin/pip").read())
ifneq ($(shell $(BIN)/python -Ic '$(WHOLE)' 2>/dev/null),True)
$(shell rm -f $(VENV)/.made)
endif

$(VENV)/.made:
	@$(PYTHON) .ci/prerequisites.py
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Installs an extra of pyproject.toml without building the extensions once more.
NAMES := import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")
add = $(BIN)/python -c '$(NAMES)' $(1) | $(BIN)/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin

# Editable: the packages lie where they are, the extensions are built in place.
$(VENV)/.install: $(VENV)/.made $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: $(VENV)/.install
	$(call add,test)
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(call add,lint)
	touch $@

$(VENV)/.docs: $(VENV)/.install
	$(call add,docs)
	touch $@

# The build has an environment of its own: nothing is installed here but what builds.
$(VENV)/.dist: $(VENV)/.made
	$(call add,dist)
	touch $@

clean: ## remove what was built
	rm -rf $(VENV) build dist site src/*.egg-info hv/*.so vmm/*.so devices/*/*.so tools/*/*.so tools/stress/cores/*.so
