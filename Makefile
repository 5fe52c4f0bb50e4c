# Everything here needs Python 3.11-3.13, git and make; the rest is installed into .venv from the lock.
.DEFAULT_GOAL := help
.PHONY: help environment train test test-all test-containers verify lab docs params lock prepare hooks dist remove-example clean
SHELL := /bin/sh

VERSION_FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c '$(VERSION_FITS)' 2>/dev/null && echo $$name && break; done)
GPU ?= $(if $(shell command -v nvidia-smi),1,0)
RAY ?= $(if $(wildcard .venv/bin/ray),1,0)
LOCKS := docker/uv.txt docker/requirements.txt $(if $(filter 1,$(GPU)),docker/requirements-cuda.txt) $(if $(filter 1,$(RAY)),docker/requirements-ray.txt)
# The name of this file says what .venv was made from: while that stands, nothing is installed again.
VENV := .venv/made-from-$(shell cat $(LOCKS) settings.ini setup.py | cksum | cut -d ' ' -f 1)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# A misspelt variable (make train lr=0.01) would be ignored in silence, and the run would use the defaults.
KNOWN := NOTEBOOK PARAMS PYTHON GPU RAY LOCK_FLAGS PATH MAKEFLAGS SHELL
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
$(foreach name,$(filter-out $(KNOWN),$(GIVEN)),$(error There is no variable $(name). Parameters of the notebook are given \
	as in: make train PARAMS="-p lr 0.01". Variables: NOTEBOOK, PARAMS, PYTHON, GPU, RAY, LOCK_FLAGS))

NOTEBOOK ?= nbs/train.ipynb
PARAMS ?=

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-15s %s\n' "$$name" "$$text"; done

environment: $(VENV) ## Install the locked packages into .venv; every other command does so as well

train: $(VENV) ## Train and keep the record: make train PARAMS="-p lr 0.01 -p epochs 5"
	ml-repo run $(NOTEBOOK) $(PARAMS)

params: $(VENV) ## List the parameters of the training notebook
	@ml-repo params $(NOTEBOOK)

# What the notebooks leave in the temporary folder goes with it.
TEST_NOTEBOOKS = folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && TMPDIR=$$folder python tests/notebooks.py --n_workers 2

test: $(VENV) ## Run all tests: the notebooks, then the whole-program checks
	$(TEST_NOTEBOOKS)
	pytest tests -n 2 --dist loadfile -q -rs -p no:cacheprovider --durations=8

# These start servers, containers or a cluster, and have the machine for themselves where all tests run.
ALONE := $(addprefix tests/test_,containers.py live.py places.py ray.py remote.py)

test-all: $(VENV) ## Run the slow tests as well: the whole kill matrix, papermill's own tests, a Ray cluster (more than an hour)
	@$(MAKE) --no-print-directory RAY=1 environment
	$(TEST_NOTEBOOKS) --slow
	pytest tests -n 2 --dist loadfile -q -rs -p no:cacheprovider --durations=8 --slow $(ALONE:%=--ignore=%)
	pytest $(ALONE) -q -rs -p no:cacheprovider --durations=8 --slow

verify: $(VENV) ## Run all recorded runs again and say whether they give the same (a quarter of a minute each)
	ml-repo verify --all

test-containers: $(VENV) ## Run the tests that need docker: an image of few packages, built, run, stopped, pushed (part of test-all)
	pytest tests/test_containers.py -q -rs -p no:cacheprovider --durations=8 --slow

lab: $(VENV) ## Open JupyterLab on the training notebook; it stays clean when it is saved
	nbdev_install_hooks
	jupyter lab --LabApp.default_url=/lab/tree/$(if $(wildcard $(NOTEBOOK)),$(NOTEBOOK),nbs)

docs: $(VENV) ## Make guide, reference and experiments as pages in _docs/ (half a minute); they need no server and no net
	ml-repo docs

prepare: $(VENV) ## Clean the notebooks, export the module, remake README.md: before a commit
	nbdev_clean
	nbdev_export
	ml-repo readme

hooks: $(VENV) ## Make git and JupyterLab clean notebooks by themselves, once a clone
	nbdev_install_hooks
	pre-commit install

lock: $(VENV) ## Remake the hash-locked package lists from settings.ini (LOCK_FLAGS=--upgrade for newer versions)
	python docker/lock.py $(LOCK_FLAGS)

dist: $(VENV) ## Build the wheel and the source archive in dist/, and check what a package index will show of them
	rm -rf build dist
	uv build --quiet --no-build-isolation --python .venv/bin/python --out-dir dist
	uv tool run --quiet twine==6.2.0 check --strict dist/*

# Nothing else needs the example, and git keeps it. The first page shows its runs, so a new one takes its place.
EXAMPLE := nbs/project ml_repo/project nbs/train.ipynb nbs/tune_keras.ipynb nbs/guides/first_run.ipynb nbs/images \
	experiments tests/test_train.py tests/test_keras_tuner.py
FIRST_PAGE := from nbformat import v4, write; write(v4.new_notebook(cells=[v4.new_markdown_cell(text) for text in ( \
	"\# My project\n\n> What it is about", "`make train NOTEBOOK=nbs/mine.ipynb` keeps a run in `experiments/`, and \
	`ml-repo ls` lists all of them. Begin with [a training notebook](guides/own_notebook.ipynb).")]), "nbs/index.ipynb")
remove-example: $(VENV) ## Take away the example: its package, notebooks, runs and tests; the first page becomes yours
	git rm -r --quiet --ignore-unmatch $(EXAMPLE)
	rm -rf ml_repo/project/__pycache__ nbs/project/.ipynb_checkpoints
	@rmdir nbs/project ml_repo/project 2>/dev/null || true  # what git does not know is left
	python -c '$(FIRST_PAGE)'
	sed -i -e '/- train\.ipynb$$/d; /tune_keras/d; /first_run/d; /example project/d; /project\/\*/d' nbs/sidebar.yml
	nbdev_export
	ml-repo readme
	@echo 'Gone: $(EXAMPLE). Look at `git status`, then commit; `make lock` makes a lock of your packages.'

clean: ## Remove what can be made again: the environment, caches, built files; never a record
	rm -rf .venv .pytest_cache build dist ml_repo.egg-info _proc _docs _sphinx nbs/nbdev.yml
	find . \( -path ./data -o -path ./experiments -o -path ./.git \) -prune -o -type d \
		\( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# A .venv that was not finished, or was made by another Python, is made anew.
$(VENV): | $(LOCKS)
	@test -n '$(PYTHON)' || { echo 'No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c '$(VERSION_FITS)' || \
		{ echo '$(PYTHON) is not a Python 3.11, 3.12 or 3.13. Name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	@echo 'Installing the locked packages into .venv (about a minute, once) ...'
	@ls .venv/made-from-* >/dev/null 2>&1 && \
		test "$$($(PYTHON) -c 'import sys; print(sys.version)')" = "$$(.venv/bin/python -c 'import sys; print(sys.version)' 2>&1)" || \
		$(PYTHON) -m venv --clear .venv
	@rm -f .venv/made-from-*
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docker/uv.txt
	VIRTUAL_ENV=.venv .venv/bin/uv pip sync --compile-bytecode --require-hashes $(LOCKS)
	VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@mkdir -p .venv/share/jupyter/labextensions && ln -sfn ../../../../ml_repo/labextension .venv/share/jupyter/labextensions/ml-repo
	@touch $@
