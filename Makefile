# Everything happens in .venv, made from the system's python3.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard hv/core/*.[ch] devices/cirrus/*.[ch] tools/bench/*.[ch] tools/stress/cores/*.[ch]) tools/stress/cores/broken.py

.PHONY: demo test check bench install clean

demo: install ## draw the demonstration picture and show what the ring saved
	$(BIN)/coalesced demo vga

test: $(VENV)/.test ## run the tests, the heavy ones left out
	$(BIN)/python -m pytest -m "not heavy"

check: $(VENV)/.lint ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install ## measure what a write, an exit and a picture cost
	$(BIN)/coalesced bench all

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

# Editable: the packages lie where they are, the extensions are built in place.
$(VENV)/.install: $(VENV)/.made $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: $(VENV)/.install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

clean: ## remove what was built
	rm -rf $(VENV) build *.egg-info hv/*.so devices/cirrus/*.so tools/bench/*.so tools/stress/cores/*.so
