# Everything here needs Python 3.11-3.13, git and make; the rest is installed into .venv from the lock.
.DEFAULT_GOAL := help
.PHONY: help train test lab params lock prepare hooks clean
SHELL := /bin/sh

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$name && break; done)
GPU ?= $(if $(shell command -v nvidia-smi),1,0)
LOCKS := docker/uv.txt docker/requirements.txt $(if $(filter 1,$(GPU)),docker/requirements-cuda.txt)
# The name of this file says what .venv was made from: while that stands, nothing is installed again.
VENV := .venv/made-from-$(shell cat $(LOCKS) settings.ini setup.py | git hash-object --stdin)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

PARAMS ?=
RUN := experiments/train-$(shell date -u +%Y%m%dT%H%M%SZ)

help: ## List the commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

train: $(VENV) ## Train and keep the executed notebook: make train PARAMS="-p lr 0.01 -p epochs 5"
	@mkdir -p $(RUN)
	papermill nbs/train.ipynb $(RUN)/train.ipynb -p model_file $(RUN)/model.keras $(PARAMS) --no-progress-bar --stdout-file -
	@ml-repo show $(RUN)/train.ipynb

params: $(VENV) ## List the parameters of the training notebook
	@ml-repo params nbs/train.ipynb

test: $(VENV) ## Run all tests: the notebooks, then the whole-program checks
	nbdev_test --n_workers 2
	pytest tests -q -rs -p no:cacheprovider --durations=8

lab: $(VENV) ## Open JupyterLab on the notebooks
	jupyter lab nbs

prepare: $(VENV) ## Clean the notebooks, export the module, remake README.md: before a commit
	nbdev_clean
	nbdev_export
	ml-repo readme

hooks: $(VENV) ## Make git and JupyterLab clean notebooks by themselves, once a clone
	nbdev_install_hooks
	pre-commit install

lock: $(VENV) ## Remake the hash-locked package lists from settings.ini (LOCK_FLAGS=--upgrade for newer versions)
	python docker/lock.py $(LOCK_FLAGS)

clean: ## Remove what can be made again: the environment, caches, built files; never a record
	rm -rf .venv .pytest_cache ml_repo.egg-info _proc _docs
	find . -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

$(VENV): $(LOCKS)
	@test -n '$(PYTHON)' || { echo 'No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	@echo 'Installing the locked packages into .venv (about a minute, once) ...'
	@rm -f .venv/made-from-*
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docker/uv.txt
	VIRTUAL_ENV=.venv .venv/bin/uv pip sync --compile-bytecode --require-hashes $(LOCKS)
	VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
