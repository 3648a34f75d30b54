# `make help` lists the targets. Everything that is built lands in build/; set VENV to use another environment.
VENV    ?= build/venv
PYTHON  ?= python3
PY      := $(VENV)/bin/python
PIP     := $(PY) -m pip --disable-pip-version-check --quiet
PROTOC  := build/protoc
OUT     ?= build/generated
NODE    := build/interop
STATESTREAM_DATA ?= $(wildcard ../shared/data)
export STATESTREAM_DATA

.DEFAULT_GOAL := help
.PHONY: help install demo demo-model balance drive test test-native test-oldest test-pythons test-fresh first-files dropped-rows bench bench-train bench-triton triton-clients bench-page bench-scrapes bench-cameras bench-bridge where wear sizing screenshot \
	test-faults fuzz fuzz-files fuzz-native soak check view proto configuration training-file formats test-install test-arm64 test-wheels wheels footprint results docs clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Make the environment: serving, training, development

# torch first and pinned, so that nothing else chooses another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt setup.py $(wildcard service/*/native/*.?pp)
	@echo "Installing into $(VENV) (a minute or two) …"
	@began=$$(date +%s) && \
		{ test -x $(PY) || $(PYTHON) -m venv $(VENV); } && \
		$(PIP) install -c constraints.txt torch && \
		$(PIP) install -c constraints.txt --editable '.[cpu,train,dev,sim]' && \
		echo "Installed in $$(($$(date +%s) - began)) s, most of it download."
	@$(PY) -c 'from statestream.service.transports.choice import lacking; print(lacking() or "The native transport was built.")'
	@$(PY) -c 'from statestream.service.engine.choice import lacking; print(lacking() or "The native engine was built.")'
	@touch $@

demo: install ## Train, export and serve a model, stream real recordings, kill the server, drop rows (some minutes)
	@$(PY) -m examples.wrist_exercises.demo

demo-model: install ## Train the model of `statestream demo`, and write its files (two minutes)
	@$(PY) -m statestream.models.experiments.demo_model

balance: install ## Networks learn to balance a double pendulum, and do so through the service (some minutes)
	@$(PY) -m examples.balance.balance

drive: install ## A network learns to keep to the lane by camera, and drives through the service (half an hour)
	@$(PY) -m examples.lane_keeping.drive

# Much of a test is waiting: two workers a core. Those of a file share one, and with it servers and trained networks.
# Bytecode is written, or each of the hundreds of processes would compile what it imports.
WORKERS ?= $(shell expr 2 '*' $$(nproc))
test: export PYTHONDONTWRITEBYTECODE =
test: install $(PROTOC)/.installed $(NODE)/.installed ## Run the tests, side by side (WORKERS=1: one after the other)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-native: export STATESTREAM_TRANSPORT = native
test-native: install ## Run the end-to-end tests over the native transport
	@$(PY) -m pytest tests/e2e -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-oldest: install ## Run the unit tests with the oldest versions that pyproject.toml allows, on Python 3.10
	@.ci/oldest

test-pythons: ## Run the unit tests on every Python of 3.10 to 3.14 that is on PATH or named in PYTHONS
	@.ci/pythons

bench: install ## Measure the server beside bare echoes and a simple server (some minutes, two quiet cores)
	@$(PY) -m tests.bench

bench-train: install ## Measure training and graphs, into docs/performance.md (a few minutes, a quiet machine)
	@$(PY) -m tests.bench.train --write
	@$(PY) -m tests.bench.chunks --write

bench-triton: install ## Measure with Triton's perf_analyzer, into docs/how-to/triton.md (some minutes, two quiet cores)
	@$(PY) -m tests.bench.triton
	@$(PY) -m tests.bench.triton_core

triton-clients: install ## Run versions of tritonclient and perf_analyzer, each in an environment of its own, into docs/how-to/triton.md
	@$(PY) -m tests.bench.triton_clients

bench-page: install ## Measure what an open page costs the server (six minutes, two quiet cores)
	@$(PY) -m tests.bench.page

bench-cameras: install ## Measure how many cameras a core holds, into docs/cameras.md (ten minutes, two quiet cores)
	@$(PY) -m tests.bench.cameras

bench-bridge: install ## Measure what a bridge of live topics costs a message, and how late its predictions are, into docs/performance.md (four minutes)
	@$(PY) -m tests.bench.bridge --runs 3 --write

screenshot: install ## Take the picture of the page, docs/dashboard.png (needs Chromium)
	@$(PY) -m tests.screenshot

bench-scrapes: install ## Measure what being scraped costs, into docs/performance.md (two minutes, two quiet cores)
	@$(PY) -m tests.bench.scrapes

where: install ## Measure where each microsecond of a step goes
	@$(PY) -m tests.bench.where

wear: install ## Measure what snapshots write in a day, into docs/durability.md
	@$(PY) -m tests.bench.wear

sizing: install ## Measure what a Redis needs to keep sessions, into docs/durability.md
	@$(PY) -m tests.bench.sizing

test-faults: install ## Kill, cut, stall, race and crowd, as long as it takes; figures in build/faults.json
	@$(PY) -m tests.faults

test-install: install ## As root: install, serve, restart and uninstall in a clean Debian with systemd, into docs/deploy.md
	@$(PY) -m tests.deploy.install

test-arm64: install ## As root, after demo: install, serve and stream in a Debian of aarch64, emulated, into docs/deploy.md
	@$(PY) -m tests.deploy.arm64

footprint: install ## Measure disk, memory and start of a server, into docs/deploy.md
	@$(PY) -m tests.deploy.footprint

test-wheels: install ## Download every wheel that an aarch64 board needs, into docs/deploy.md; resolve all for 3.14
	@$(PY) -m tests.deploy.wheels

wheels: install ## Build wheels with the native transport into build/wheels, x86-64 and aarch64, and run them; docs/deploy.md
	@deploy/wheels.sh
	@$(PY) -m pytest -q tests/integration/test_wheels.py
	@$(PY) -m tests.deploy.native_wheels

test-fresh: install ## Install the wheel for Python 3.10, 3.12 and 3.13, and serve and stream with each
	@$(PY) -m tests.deploy.pythons

fuzz: install ## Attack a server and fuzz it for ten minutes; figures in docs/reliability.md
	@$(PY) -m tests.hostile --write

fuzz-files: MINUTES = 10
fuzz-files: install ## Read harmed files of every format for ten minutes (MINUTES=1 to try); figures in docs/reliability.md
	@$(PY) -m tests.fuzz_files --minutes $(MINUTES) --write

fuzz-native: install ## Fuzz the C++ of the native transport under sanitizers, half an hour (MINUTES=1 to try); docs/reliability.md
	@$(PY) -m tests.hostile.native --minutes $(MINUTES) --write

MINUTES ?= 30
soak: install ## Half an hour at half load with churn, reloads and outages (MINUTES=5 to try); docs/reliability.md
	@$(PY) -m tests.soak --minutes $(MINUTES) --write

check: install view ## Lint (ruff, buf) and type-check (mypy, strict)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(VENV)/bin/buf lint
	@$(PY) -m mypy -p statestream.models -p statestream.service

# The import names are mapped onto the folders at installation; type checkers want them as paths.
view:
	@mkdir -p build/view/statestream
	@for folder in models service proto; do ln -sfn ../../../$$folder build/view/statestream/$$folder; done

# The oldest tools that we support make the generated code, so that it runs beside old and new runtimes alike.
$(PROTOC)/.installed:
	@$(PYTHON) -m venv $(PROTOC)
	@$(PROTOC)/bin/python -m pip --disable-pip-version-check --quiet install \
		grpcio-tools==1.62.3 protobuf==4.25.3 'setuptools<70'
	@touch $@

# grpc-js, a client of the interop tests; these skip it where it is missing.
$(NODE)/.installed: tests/e2e/interop/package.json
	@mkdir -p $(NODE) && cp $< $(NODE)
	@! command -v npm >/dev/null || { npm install --silent --no-audit --no-fund --no-package-lock --prefix $(NODE) && touch $@; } || \
		echo "grpc-js could not be installed"

# The messages of the Open Inference Protocol and of ONNX get pools of their own: other packages have the same names.
proto: $(PROTOC)/.installed ## Regenerate the code in proto/
	@mkdir -p $(OUT)
	@$(PROTOC)/bin/python -m grpc_tools.protoc -Istatestream/proto=proto \
		--python_out=$(OUT) --pyi_out=$(OUT) --grpc_python_out=$(OUT) proto/v1/inference.proto proto/v1/admin.proto
	@$(PROTOC)/bin/python -m grpc_tools.protoc -Istatestream/proto=proto \
		--python_out=$(OUT) --pyi_out=$(OUT) proto/oip/inference.proto proto/onnx/graph.proto
	@sed -i 's/_descriptor_pool.Default()/_descriptor_pool.DescriptorPool()/' $(OUT)/statestream/proto/o*/*_pb2.py
	@test $(OUT) != build/generated || cp -r $(OUT)/statestream/proto/. proto/

configuration: install ## Regenerate docs/configuration.md
	@$(PY) -m statestream.service.cli.reference > docs/configuration.md

training-file: install ## Regenerate docs/training-file.md
	@$(PY) -m statestream.models.training.training_file > docs/training-file.md

formats: install ## Regenerate docs/formats.md
	@$(PY) -m statestream.models.data.formats_page > docs/formats.md

results: install ## Regenerate docs/results.md and results.json; goes on where it stopped (some hours)
	@$(PY) -m statestream.models.experiments.results

first-files: install ## Train on files as users have them, by init's training files, into docs/results.md (an hour)
	@$(PY) -m tests.bench.first_files --write

dropped-rows: install ## Stream borealtc to a server with rows missing, into docs/results.md (trains what is not kept)
	@$(PY) -m tests.bench.dropped_rows --write

docs: install view ## Build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet

clean: ## Remove everything that was built
	rm -rf build dist *.egg-info
