# SPDX-License-Identifier: MIT
# What developers and CI run. GNU make; ./bootstrap sets up what it needs. `make help` lists the targets.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build

# PYTHON of the environment may be the one that .venv is made of, so only one on the command line counts.
PYTHON := .venv/bin/python
# Folders with C code, each built by CMake in place.
NATIVE := libaes_siv
FUZZ_SECONDS := 4
PYTEST_ARGS :=
SANITIZE_CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
# Tests wait more than they compute: more of them at a time than a small machine has CPUs.
PYTEST := -m pytest -n 4 --dist loadfile
BENCH_ARGS :=
MATRIX_ARGS :=
# Debian releases whose chrony, NTPsec and ntpd-rs take part, beside those of this machine.
PEER_RELEASES := trixie forky
export PREFIX := /usr/local
export DESTDIR :=
# chronyd and ntpd as ./bootstrap test unpacks them where the system has none; sbin is not on every user's path.
export PATH := $(CURDIR)/.tools/bin:$(PATH):/usr/sbin:/sbin

STAGES := lint types ctest memcheck sanitize coverage localhost fuzz
SHELL_SCRIPTS := bootstrap .ci/run $(wildcard tools/*.sh tools/interop/peers/*)

.PHONY: help
help: ## this list
	@echo 'usage: make [TARGET]      (./bootstrap build or ./bootstrap test first)'; echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: $(NATIVE:%=native-%) engine ## the C code, where Python finds it (the default)

.PHONY: engine
engine: $(NATIVE:%=native-%) python ## the native engines, for the Python in .venv
	@tools/engine_build.sh $(PYTHON)

.PHONY: $(NATIVE:%=native-%)
$(NATIVE:%=native-%): native-%:
	@tools/cmake_build.sh $* $*

.PHONY: demo
demo: build python ## the main job from end to end, on this machine
	@$(PYTHON) tools/demo.py

.PHONY: lint
lint: dev ## ruff's rules and formatting, and shellcheck
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	for f in $(SHELL_SCRIPTS); do sh -n "$$f" || exit; done
	if command -v shellcheck >/dev/null; then shellcheck -x $(SHELL_SCRIPTS); else echo 'no shellcheck here: left out'; fi

.PHONY: types
types: dev ## mypy, strict
	$(PYTHON) -m mypy

.PHONY: ctest
ctest: ## tests of the C code, built with -Werror, in build
	@tools/cmake_build.sh libaes_siv build/ctest -DAES_SIV_WERROR=ON
	@tools/cmake_build.sh engine build/engine-ctest -DNTS_ENGINE_WERROR=ON
	ctest --test-dir build/ctest --output-on-failure --no-tests=error --timeout 300
	ctest --test-dir build/engine-ctest --output-on-failure --no-tests=error --timeout 300
	@# Which keys a compiler leaves on the stack differs between compilers.
	@if ! command -v clang >/dev/null; then echo 'no clang here: its code is not searched for keys'; exit; fi; \
	tools/cmake_build.sh libaes_siv build/ctest-clang -DAES_SIV_WERROR=ON -DCMAKE_C_COMPILER=clang && \
	ctest --test-dir build/ctest-clang --output-on-failure --no-tests=error --timeout 300 -R wipe

.PHONY: memcheck
memcheck: ## the same tests under Valgrind, on every backend
	@tools/cmake_build.sh libaes_siv build/ctest -DAES_SIV_WERROR=ON
	@tools/cmake_build.sh engine build/engine-ctest -DNTS_ENGINE_WERROR=ON
	tools/memcheck.sh build/ctest/tests/bin build/engine-ctest/tests/bin

.PHONY: sanitize
sanitize: export UBSAN_OPTIONS := halt_on_error=1:print_stacktrace=1
sanitize: export ASAN_OPTIONS := detect_stack_use_after_return=1:strict_string_checks=1
sanitize: build dev ## the same, a fuzzing run and the engine's tests in Python under AddressSanitizer and UBSan
	@tools/cmake_build.sh libaes_siv build/sanitize -DAES_SIV_WERROR=ON -DAES_SIV_SANITIZE=address,undefined
	@tools/cmake_build.sh engine build/engine-sanitize -DNTS_ENGINE_WERROR=ON -DNTS_ENGINE_SANITIZE=address,undefined
	ctest --test-dir build/sanitize --output-on-failure --no-tests=error --timeout 300
	ctest --test-dir build/engine-sanitize --output-on-failure --no-tests=error --timeout 300
	@# The engine as Python loads it. Python itself has leaks, wants the sanitizer's library first, and pytest would
	@# swallow the report of a process that ends at once.
	CFLAGS='$(SANITIZE_CFLAGS)' $(PYTHON) -m nts._engine_build _engine build/sanitize/_engine.so build/sanitize/libaes_siv.a
	CFLAGS='$(SANITIZE_CFLAGS)' $(PYTHON) -m nts._engine_build _engine_ke build/sanitize/_engine_ke.so build/sanitize/libaes_siv.a
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS="$$ASAN_OPTIONS:detect_leaks=0" \
	  $(PYTHON) $(PYTEST) --capture=no --engine-module build/sanitize/_engine.so \
	  --engine-ke-module build/sanitize/_engine_ke.so \
	  tests/server/test_engine*.py

.PHONY: test
test: build dev ## all tests in Python (PYTEST_ARGS='-k name' for some)
	$(PYTHON) $(PYTEST) $(PYTEST_ARGS)

.PHONY: interop
interop: build dev ## only the tests with a real chronyd
	$(PYTHON) $(PYTEST) -m interop $(PYTEST_ARGS)

.PHONY: matrix
matrix: build dev ## every NTS server with every client: ours, chrony, NTPsec, ntpd-rs; as root (MATRIX_ARGS='--case nak')
	@for release in $(PEER_RELEASES); do tools/peers.sh $$release || exit; done
	$(PYTHON) -m tools.interop $(MATRIX_ARGS)

.PHONY: coverage
coverage: build dev ## all tests in Python, and how much of nts/ they run: fails under 95 %
	@rm -rf build/coverage && mkdir -p build/coverage
	$(PYTHON) -m coverage run $(PYTEST) $(PYTEST_ARGS)
	@$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report

.PHONY: localhost
localhost: build dev ## tests of names and sockets with Debian's hosts file, and without IPv6, in namespaces
	tools/localhost.sh $(PYTHON) $(PYTEST)

.PHONY: fuzz
fuzz: build dev ## every fuzzer for a few seconds (FUZZ_SECONDS=600 for longer)
	tools/engine_fuzz.sh $(FUZZ_SECONDS)
	$(PYTHON) -m fuzz.run --seconds $(FUZZ_SECONDS)

.PHONY: bench
bench: build ## how fast AES-SIV and the servers are (BENCH_ARGS='nts --rounds 3' for a part of the latter)
	libaes_siv/aes_siv_bench
	@echo
	@$(PYTHON) -m tools.bench $(BENCH_ARGS)

.PHONY: container
container: ## try deploy/Containerfile in chroots (as root, with debootstrap): no container engine is needed
	@tools/container_try.sh

.PHONY: wheel
wheel: python ## a wheel with the C code in it, in build/wheel (tools/wheel_try.sh tries it in a new Debian)
	@PYTHON='$(PYTHON)' tools/wheel.sh

.PHONY: check
check: ## what CI runs: lint, types, ctest, memcheck, sanitize, coverage (so all tests), localhost, fuzz
	+@tools/stages.sh '$(MAKE)' $(STAGES)

.PHONY: install
install: build python ## for good: PREFIX (/usr/local), below DESTDIR if given; README.md, "Install"
	@PYTHON='$(PYTHON)' tools/install.sh install

.PHONY: uninstall
uninstall: ## remove what install made; /etc/nts and the master keys stay
	@tools/install.sh uninstall

.PHONY: format
format: dev ## put the code into ruff's format, and mend what it can
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

.PHONY: clean
clean: ## remove what all this made; .venv and .tools stay
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	for d in $(NATIVE); do \
	  if [ -f "$$d/Makefile" ] && [ -f "$$d/CMakeCache.txt" ]; then cmake --build "$$d" --target clean || exit; fi; \
	  find "$$d" \( -name CMakeCache.txt -o -name CMakeFiles -o -name cmake_install.cmake -o -name Testing \
	    -o -name 'CTestTestfile.cmake' -o -name DartConfiguration.tcl -o -name Makefile -o -name hardening.flags \) -prune -exec rm -rf {} +; \
	done
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: python
python:
	@command -v '$(PYTHON)' >/dev/null || { echo 'make: $(PYTHON) is not there: run ./bootstrap test first' >&2; exit 1; }

.PHONY: dev
dev: python
	@$(PYTHON) -c 'import pytest, ruff' 2>/dev/null || { echo 'make: the tests'"'"' packages are missing: run ./bootstrap test first' >&2; exit 1; }
