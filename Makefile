# `make help` lists the targets. Everything lands in a virtual environment in build/; set VENV to use another.
VENV    ?= build/venv
PYTHON  ?= python3
PY      := $(VENV)/bin/python
PIP     := $(PY) -m pip --disable-pip-version-check --quiet
STATESTREAM_DATA ?= $(wildcard ../shared/data)
export STATESTREAM_DATA

.DEFAULT_GOAL := help
.PHONY: help install demo test check proto bench clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Make the virtual environment with everything: serving, training, development

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a minute or two) …"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt --editable '.[cpu,train,dev]'
	@touch $@

# Generated code is made by the oldest tools that we support, so that it runs beside old and new runtimes alike.
build/protoc/.installed:
	@$(PYTHON) -m venv build/protoc
	@build/protoc/bin/python -m pip --disable-pip-version-check --quiet install 'grpcio-tools==1.62.3' 'protobuf==4.25.3' 'setuptools<70'
	@touch $@

proto: build/protoc/.installed ## Regenerate the code of proto/
	@build/protoc/bin/python -m grpc_tools.protoc -Istatestream/proto=proto \
		--python_out=$(or $(OUT),build/generated) --pyi_out=$(or $(OUT),build/generated) --grpc_python_out=$(or $(OUT),build/generated) \
		proto/v1/inference.proto proto/v1/admin.proto

clean: ## Remove everything that was built
	rm -rf build dist *.egg-info
