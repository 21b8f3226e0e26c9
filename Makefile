# SPDX-License-Identifier: Apache-2.0
# Everything here runs in a private environment in .venv, made from the locked versions in requirements/.
# `make` alone lists what there is to do.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
# The environment's own Python; the file lies elsewhere on Windows (run make from Git Bash there).
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := $(BIN)/python

# pip speaks up when it fails; V=1 shows all that it does.
V ?= 0
PIP := PIP_USER=0 $(RUN) -m pip install --disable-pip-version-check $(if $(filter 0,$(V)),--quiet --quiet,)

# Tests draw no windows and take two processes of one thread each: as many as CI has cores, and a large machine stays
# usable. A file's tests stay in one process, so that what they share is made once. Overridable.
WORKERS ?= 2
OMP_NUM_THREADS ?= 1
TEST_SETTINGS := OMP_NUM_THREADS=$(OMP_NUM_THREADS) MPLBACKEND=Agg

# What PYTHONPATH points at would hide what is installed here.
unexport PYTHONPATH
unexport PYTHONHOME

.PHONY: help demo test lint format bench ctest screenshots lists lock wheel clean distclean

help:
	@echo 'make demo               segment, measure and report on an example in one go (IMAGE=t2w.nii.gz for your own)'
	@echo 'make test               run the tests'
	@echo 'make lint               check style and formatting'
	@echo 'make format             repair what the style check can repair by itself'
	@echo 'make bench              measure speed and memory'
	@echo 'make ctest              install the Slicer extension into build/ctest and run all tests on that'
	@echo '                        (only some: make ctest ROOMS="static|scene")'
	@echo 'make screenshots        draw the pictures of the module anew'
	@echo 'make lists              write the lists of shipped files in the CMakeLists.txt files anew'
	@echo 'make wheel              build the Python package into dist/'
	@echo 'make lock               write requirements/*.lock anew'
	@echo 'make clean, distclean   remove what was built; distclean removes .venv, too'
	@echo
	@echo 'The first run makes a private environment in .venv. PYTHON=/path/to/python chooses the Python (3.11 or newer).'

# make hands IMAGE on through the environment, so that a path with blanks survives.
demo: $(VENV)/.stamp-demo
	@$(RUN) -m ProstateXferLib demo $${IMAGE:+--image "$$IMAGE"}

test: $(VENV)/.stamp-test
	@echo 'Running the tests ...'
	@$(TEST_SETTINGS) $(RUN) -m pytest -q -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.stamp-test
	@echo 'Checking style ...'
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

format: $(VENV)/.stamp-test
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: $(VENV)/.stamp-test
	@$(RUN) Testing/Benchmarks/run_all.py

# With Testing/CMake/stub for Slicer. ROOMS chooses tests by label, as a pattern: a room of Testing/Python, or `module`.
# Nothing is compiled: the first four settings let CMake go without a compiler.
CTEST_SETTINGS := -DCMAKE_C_COMPILER=cmake -DCMAKE_C_COMPILER_FORCED=ON -DCMAKE_CXX_COMPILER=cmake \
  -DCMAKE_CXX_COMPILER_FORCED=ON -DBUILD_TESTING=ON -DSlicer_DIR="$(CURDIR)/Testing/CMake/stub"

ctest: $(VENV)/.stamp-test
	@if ! command -v cmake >/dev/null 2>&1; then \
	  echo 'make ctest: CMake was not found; install it (on Debian and Ubuntu: the package cmake).' >&2; exit 1; \
	fi
	@echo 'Installing the extension into build/ctest and running its tests there ...'
	@rm -rf build/ctest
	@cmake -S . -B build/ctest $(CTEST_SETTINGS) -DPython3_EXECUTABLE="$(CURDIR)/$(RUN)" >/dev/null
	@$(TEST_SETTINGS) ctest --test-dir build/ctest -j $(WORKERS) --output-on-failure --no-tests=error \
	  $(if $(ROOMS),-L '^($(ROOMS))$$') $(CTEST_ARGS)

screenshots: $(VENV)/.stamp-test
	@$(TEST_SETTINGS) PYTHONPATH=Testing/Python $(RUN) Testing/Screenshots/make_screenshots.py

# Any Python does: the script needs the standard library alone.
lists: | $(VENV)/.stamp-venv
	@$(RUN) Testing/CMake/update_lists.py

wheel: $(VENV)/.stamp-demo
	@echo 'Building the Python package into dist/ ...'
	@$(RUN) -m hatchling build -t wheel

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# Sets $python: PYTHON if given, else the first that is new enough (a version manager's shim may exist and only complain).
define find_python
python=; \
if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; else set -- python3 python3.13 python3.12 python3.11 python; fi; \
for name in "$$@"; do \
  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$name; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "No Python 3.11 or newer found (tried: $$*)." >&2; \
  echo 'Install one, or say where it is: make PYTHON=/path/to/python3 ...' >&2; exit 1; \
fi; \
if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
  echo "$$python cannot make an environment: its module venv or ensurepip is missing." >&2; \
  echo 'Install it (on Debian and Ubuntu: the package python3-venv) and run make again.' >&2; exit 1; \
fi
endef

lock:
	@$(find_python); \
	echo 'Installing what pyproject.toml asks for into build/lock and writing requirements/*.lock (some minutes) ...'; \
	"$$python" requirements/lock.py build/lock

# The stamps of an environment that no longer runs (its Python was removed) or that moved with the tree count for nothing.
STALE := $(shell if [ -f $(VENV)/.stamp-venv ]; then \
  { [ "`cat $(VENV)/.stamp-venv`" = "$(CURDIR)" ] && $(RUN) -c ''; } >/dev/null 2>&1 || rm -f $(VENV)/.stamp-*; fi)

$(VENV)/.stamp-venv:
	@if ! $(RUN) -m pip --version >/dev/null 2>&1; then \
	  $(find_python); \
	  echo "Creating the private environment in $(VENV) with $$("$$python" --version) ..."; \
	  "$$python" -m venv --clear $(VENV) || exit 1; \
	fi; \
	echo "$(CURDIR)" > $@

# pyproject.toml is here for the command `prostatexfer`: installing it again takes a second.
$(VENV)/.stamp-demo: requirements/demo.lock pyproject.toml | $(VENV)/.stamp-venv
	@echo 'Installing PyTorch and what else the library needs into $(VENV): the first time some minutes and, with a CPU build'
	@echo 'of PyTorch, about 300 MB to download and 1.5 GB on disk; with a GPU build several GB. make V=1 shows each step ...'
	@$(PIP) -r requirements/demo.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Not on top of the demo's environment: that may hold another build of PyTorch, which would be fetched in vain.
$(VENV)/.stamp-test: requirements/test.lock requirements/demo.lock pyproject.toml | $(VENV)/.stamp-venv
	@echo 'Installing what training and testing need into $(VENV): on Linux the ordinary (GPU) build of PyTorch with torchvision,'
	@echo 'VTK, Qt; the first time some minutes, about 3 GB to download and 8 GB on disk. make V=1 shows each step ...'
	@$(PIP) -r requirements/test.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.stamp-demo
