# `make test` on a fresh clone needs only Python (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
INSTALLED := $(VENV)/installed.stamp
DEMO := $(VENV)/demo.stamp

.PHONY: test demo lint format docs figures clean
.DELETE_ON_ERROR:

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# From nothing to a Pareto front with its report, in some minutes; again: it goes on, or is done.
demo: $(DEMO)
	$(BIN)/unet-nas search search_spaces/quickstart.yaml --out reports/quickstart

# dynamic-network-architectures goes in without its dependencies: its wheel asks for timm and so
# for torchvision, which does not import beside the CPU build of torch; its U-Nets need neither.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[test,datasets,onnx]'
	$(INSTALL) --no-deps dynamic-network-architectures
	# byte code where the environment forbids Python to write it: every command starts faster
	$(BIN)/python -m compileall -q unet_nas
	touch $@

$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[datasets]'
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unet_nas needs Python 3.11 or newer, got " + sys.version.split()[0] + "; fix: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

# the figures of docs/principles.md; a minute, as small networks are trained
figures: $(INSTALLED)
	$(BIN)/python docs/figures.py
