# framefleet. Everything runs from this folder, in its own .venv, as any user.
#
#   make demo            the whole story on this machine: console, broker, 2,300 simulated frames, one full agent (Ctrl-C stops it)
#   make demo ONCE=1     the same, ends by itself
#   make test            all tests
#   make up              the services and frames alone, until Ctrl-C
#   make lint            ruff, mypy, import rules
#   make bench-pipeline  how fast a frame's pipeline is here, and how far its lips are off (about two minutes)
#   make bench-idle      what an agent costs that has nothing to do (about a minute)
#   make bench-model     a base model of 692 MB over MQTT to 5 frames, each killed once on the way (minutes, 7 GB of disk)
#   make bench-powercut  cut the power at every change of the agent's disk, 10,000 times and more (about three minutes)
#   make bench-canary    how soon and how safely gray releases are judged (QUICK=1: four minutes; SEED=N: the same again)
#   make reference-model train and pack the reference model again (needs espeak-ng), then: make rknn
#   make rknn            put the graph for the RK3588's NPU into the bundle and check it in the simulator (Python 3.11, x86-64)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TRAIN  := .venv-train
RKNN   := .venv-rknn

# Where it is set, every process that tests start would compile our sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo up test lint bench-pipeline bench-idle bench-model bench-powercut bench-canary format reference-model rknn clean
.DELETE_ON_ERROR:

setup: $(VENV)/run.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "framefleet needs Python 3.11 or newer: run 'make $(MAKECMDGOALS) PYTHON=python3.12' or the like."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv) and run make again."; exit 1; }

# dev.txt holds everything that run.txt holds, so both serve one environment.
$(VENV)/run.installed: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/dev.installed: requirements/dev.txt $(VENV)/run.installed
	@echo "Setting up $(VENV) for tests ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/run.installed
	@exec $(BIN)/python -m standalone demo $(if $(ONCE),--once)

up: $(VENV)/run.installed
	@exec $(BIN)/python -m standalone up

test: $(VENV)/dev.installed
	@# One more than cores: many tests wait more than they compute.
	$(BIN)/python -m pytest -q --numprocesses $$(($$(nproc) + 1)) --maxprocesses 4

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	FRAMEFLEET_SECRET_KEY=lint DATABASE_URL=postgresql://lint@127.0.0.1/lint FRAMEFLEET_VAR=$(VENV)/lint $(BIN)/mypy .

bench-pipeline: $(VENV)/dev.installed
	$(BIN)/python -m benchmarks.pipeline

bench-idle: $(VENV)/dev.installed
	$(BIN)/python -m benchmarks.idle

bench-model: $(VENV)/dev.installed
	$(BIN)/python -m benchmarks.model

bench-powercut: $(VENV)/dev.installed
	$(BIN)/python -m benchmarks.powercut

bench-canary: $(VENV)/dev.installed
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.canary $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED))

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

$(TRAIN)/installed: requirements/train.txt requirements/torch.txt
	@$(PYTHON) -m venv $(TRAIN)
	@$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/train.txt
	@$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	@touch $@

reference-model: $(TRAIN)/installed
	$(TRAIN)/bin/python -m reference_model build --out reference_model/artifacts

$(RKNN)/installed: requirements/rknn.txt requirements/torch.txt
	@$(PYTHON) -c 'import platform, sys; sys.exit(sys.version_info[:2] != (3, 11) or platform.machine() != "x86_64")' || { echo "The converter needs Python 3.11 on x86-64: run 'make rknn PYTHON=python3.11'."; exit 1; }
	@$(PYTHON) -m venv $(RKNN)
	@$(RKNN)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	@$(RKNN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/rknn.txt
	@touch $@

rknn: $(RKNN)/installed
	$(RKNN)/bin/python -m reference_model.rknn

clean:
	rm -rf $(VENV) $(TRAIN) $(RKNN) build *.egg-info var
