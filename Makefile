# Two commands for people: `make run` (watch predawn answer live traffic) and `make test`.
# Both work on a fresh machine with Python >= 3.11 (with venv), a C++ compiler and a package index.
# PYTHON=/path/to/python3 chooses the interpreter that makes .venv.

SHELL := /bin/bash
PYTHON ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
BUILT := .venv/.built
NATIVE := $(wildcard csrc/*.cpp csrc/*.hpp csrc/*.pyx csrc/*.pxd)

.DEFAULT_GOAL := help
.PHONY: run test lint build verify simulate sanitize bench fmt clean help

run: $(BUILT)  ## start predawn on loopback under live traffic; Ctrl-C ends it
	@trap : INT; $(BIN)/predawn demo; code=$$?; [ $$code -eq 130 ] || exit $$code

test: $(BUILT)  ## linters, types, layers, then all tests
	@.ci/check.sh style types tests

lint: $(BUILT)  ## what `make test` runs before the tests
	@.ci/check.sh style types

build: $(BUILT)  ## .venv and the extensions, if anything they are made of changed

verify: $(BUILT)  ## model-check the store's protocol (minutes; FULL=1: more of it)
	@$(BIN)/python tests/spin_models.py $(if $(FULL),--full)

simulate: $(BUILT)  ## pairs computed ahead in virtual time, with faults (minutes; REQUESTS=1000000)
	@$(BIN)/python tests/million.py $(if $(REQUESTS),--requests $(REQUESTS))

sanitize: $(BUILT)  ## native code under ASan, UBSan, TSan and libFuzzer (minutes; SECONDS_EACH=20)
	@$(BIN)/python tests/sanitizers.py $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH))

bench: $(BUILT)  ## every benchmark suite, as a table
	@$(BIN)/predawn bench

fmt: $(INSTALLED)  ## format Python and C++ in place
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .
	@$(BIN)/clang-format -i $(wildcard csrc/*.cpp csrc/*.hpp tests/csrc/*.cpp)

clean:  ## remove what was built (.venv stays, its stamps go)
	@rm -rf build dist *.egg-info csrc/*.so csrc/_codec.cpp csrc/_codec.html $(INSTALLED) $(BUILT)
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find server kernels bench csrc tests -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/make \1\t/p' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml setup.py .ci/setup.sh
	@PYTHON="$(PYTHON)" .ci/setup.sh
	@touch $@

$(BUILT): $(INSTALLED) $(NATIVE)
	@$(BIN)/python setup.py --quiet build_ext --inplace -j $$(nproc)
	@touch $@
