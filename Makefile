# Two commands: `make demo` segments a photo, `make test` runs the tests. Both need Python >= 3.10 and make only.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
CHECKPOINT ?= checkpoints/yoso-lite0-facade
IMAGE ?= assets/facade_demo.jpg
OUTPUT ?= outputs/demo_overlay.png
JOBS ?= auto

# Nothing here may ask the Hub: checkpoints and data are local.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format common-tests clean

help:
	@echo "make demo       install, then segment $(IMAGE) with $(CHECKPOINT)"
	@echo "                (another photo: make demo IMAGE=photo.jpg OUTPUT=overlay.png)"
	@echo "make test       install, check style, run the tests"
	@echo "make test-slow  install, run the slow tests (trainings, large backbones, notebooks, README,"
	@echo "                web page: apt-get install chromium chromium-driver)"
	@echo "make lint       check style;  make format: mend it"
	@echo "make clean      remove $(VENV), caches and outputs"

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	@echo "==> Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(PY)
	@echo "==> Installing transformers-yoso into $(VENV) (PyTorch is large: some minutes the first time)"
	@$(PIP) install -qq --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(PY)
	@echo "==> Installing transformers-yoso with the tools for tests into $(VENV) (some minutes the first time)"
	@$(PIP) install -qq --editable ".[dev]"
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	@echo "==> Segmenting $(IMAGE) with $(CHECKPOINT)"
	@$(PY) scripts/demo.py "$(IMAGE)" --checkpoint "$(CHECKPOINT)" --output "$(OUTPUT)"

common-tests: $(VENV)/.installed-dev
	@echo "==> Fetching Transformers' common tests for the installed version"
	@$(PY) scripts/fetch_common_tests.py

lint: $(VENV)/.installed-dev
	@echo "==> Checking style"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: $(VENV)/.installed-dev
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

test: lint common-tests
	@echo "==> Running the tests"
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile

test-slow: common-tests
	@echo "==> Running the slow tests"
	@RUN_SLOW=1 $(PY) -m pytest -m slow

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache outputs build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
