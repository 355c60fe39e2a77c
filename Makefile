PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo effect golden test test-quick test-all test-install test-server lint format docs prove bench tiny baselines clean

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED)  ## Install everything into .venv.

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.11 setup" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## Answer the embedded benchmarks, show the scores, write a report. LIMIT=40 takes a minute.
	$(BIN)/dualfocus demo --output_path build/demo $(if $(LIMIT),--limit $(LIMIT))

effect: $(INSTALLED)  ## Answer the embedded sets again and renew the tables and pictures of README and docs.
	rm -rf build/effect
	$(BIN)/dualfocus demo --output_path build/effect --markdown README.md docs/effect.md
	$(BIN)/python -m measurements.screenshots build/effect/report docs/figures

# A process per core and a thread per process; a file stays together, so that what its tests share is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)  ## Run the tests, 5 minutes on two cores.
	$(PYTEST) --durations 10 -m "not slow and not prove and not install and not server"

test-quick: $(INSTALLED)  ## Run the tests that need neither a model nor a process, under a minute.
	$(PYTEST) -m quick

test-all: $(INSTALLED)  ## Run all tests, with more examples of the generated ones, 12 minutes.
	HYPOTHESIS_PROFILE=all $(PYTEST) --durations 20 -m "not prove and not install and not server"

test-install: $(INSTALLED)  ## Install the wheel without constraints into a clean environment and run it there.
	$(BIN)/python -m pytest -m install -rP tests/integration/test_wheel.py

# An environment with vLLM that is there already is used as it is: make VLLM_ENV=FOLDER test-server
VLLM_ENV ?= build/vllm
VLLM_INSTALLED := $(if $(filter build/vllm,$(VLLM_ENV)),build/vllm/.installed)

test-server: $(INSTALLED) $(VLLM_INSTALLED)  ## Install vLLM for CPUs into build/vllm and run the tests on a real server.
	VLLM_ENV="$(abspath $(VLLM_ENV))" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m server --durations 10 tests/server

build/vllm/.installed: tests/server/requirements.txt
	@$(PYTHON) -m venv --clear build/vllm && build/vllm/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --requirement $< && build/vllm/bin/python -c 'import torchvision, vllm' \
		|| { echo "vLLM's CPU build could not be installed into build/vllm (the reason stands above), so the tests on a" \
			"real server were not run. VLLM_ENV=FOLDER names an environment that has it." >&2; exit 1; }
	@touch $@

lint: $(INSTALLED)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Reformat the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)  ## Build the documentation site into build/site; any warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

prove: $(INSTALLED) $(VLLM_INSTALLED)  ## Run the long proofs (hours) and write their pages in docs/.
	$(BIN)/python -m measurements.exactness --checkpoint models/dualfocus-tiny --write
	$(BIN)/python -m measurements.coverage --write
	$(BIN)/python -m measurements.where_to_look --write
	$(BIN)/python -m measurements.gate
	$(BIN)/python -m measurements.injected_faults --write
	VLLM_ENV="$(abspath $(VLLM_ENV))" $(BIN)/python -m measurements.server_exactness --write
	HYPOTHESIS_PROFILE=prove $(BIN)/python -m pytest tests/method
	$(BIN)/python -m pytest -m prove

bench: $(INSTALLED)  ## Measure speed and memory and write the figures into docs/.
	$(BIN)/python -m measurements.performance --write
	$(BIN)/python -m measurements.memory --write
	$(BIN)/python -m measurements.curation --write
	$(BIN)/python -m measurements.report_scale --write
	$(BIN)/python -m measurements.sweep_cost --write

tiny: $(INSTALLED)  ## Train the embedded checkpoint again.
	$(BIN)/dualfocus train models/dualfocus-tiny.yaml

golden: $(INSTALLED)  ## Renew the golden tables of reports; read the difference before you commit it.
	$(BIN)/python -m tests.golden.reports

# One thread, so that the same numbers come out on machines with more or fewer cores.
baselines: $(INSTALLED)  ## Answer the embedded sets again and renew the baselines that the tests use.
	for task in df_pope_mini df_textvqa_mini; do \
		rm -rf build/baselines/$$task && OMP_NUM_THREADS=1 $(BIN)/dualfocus eval --tasks $$task --limit 100 \
			--batch_size 16 --output_path build/baselines/$$task --log_samples && $(BIN)/dualfocus regress \
			build/baselines/$$task --baseline reports/baselines/$$task.json --update || exit 1; \
	done

clean:  ## Remove what was built; .venv stays.
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
