# make demo      install into .venv, train on the built-in names, classify and generate
# make test      install into .venv, run the tests
# make lint      formatters, linters and types, all of them only checking
# make bench     time fastrnn against torch.nn and the other peers that are installed (pip install -e ".[bench-peers]"):
#                BENCH="--shapes A F --budget 1" chooses, see benchmarks/run.py
# make sanitize  build the kernels with AddressSanitizer and UBSan and run the tests on them
# make ptxas     registers, shared memory and spills of the CUDA kernels; PTXAS="--all" for each of them
# make gpu       on a machine with a GPU: build, test, check and time the CUDA kernels; GPU="test bench" chooses
# make clean     remove what was built; make distclean removes .venv too
#
# PYTHON  the interpreter that .venv is made of
# TORCH   the torch to install. From PyPI, plain `torch` on Linux brings several GB of CUDA libraries; give another
#         version, or pip's options for an index of CPU builds, for instance
#         make test TORCH="torch --index-url ADDRESS"
# PYTEST  arguments of pytest, for instance PYTEST="tests/test_modules.py -x"
PYTHON ?= python3
TORCH ?= torch==2.13.0
PYTEST ?=
BENCH ?=
RUN ?= runs/demo

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Named after the choice, so that another TORCH is installed and not silently left aside.
TORCH_INSTALLED := $(VENV)/.torch-$(shell echo '$(TORCH)' | cksum | cut -d ' ' -f 1)
KERNELS := setup.py pyproject.toml $(shell find csrc -type f)
CPP := $(shell find csrc tests benchmarks -name '*.h' -o -name '*.inl' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test lint bench sanitize ptxas gpu gpu-build gpu-test gpu-sanitizer gpu-micro gpu-bench clean distclean

demo: $(INSTALLED)
	rm -rf $(RUN)
	$(BIN)/fastrnn names train --data builtin --seed 1 --out $(RUN)
	$(BIN)/fastrnn names classify $(RUN) 佐々木 新大久保 たこ焼き 看護師 ひまわり
	$(BIN)/fastrnn names generate $(RUN) --class family -n 5
	$(BIN)/fastrnn names generate $(RUN) --class station -n 5

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py $(BENCH)

# The package is installed beside a copy of all else, in which fastrnn/ is a link to it, and not into .venv: the
# sanitized kernels must not replace the ordinary ones, and tests run from this folder would import those. The
# sanitizers' runtimes and libstdc++ have to be in the process before the interpreter, which was not built with them.
# Leaks are Python's and torch's own. A test asks for more memory than there is: torch is to say so.
SANITIZED := $(CURDIR)/build/sanitize
PRELOAD = $(shell for lib in libasan.so libubsan.so libstdc++.so; do gcc -print-file-name=$$lib; done)
sanitize: $(INSTALLED)
	@command -v gcc >/dev/null || { echo "make sanitize needs gcc: its sanitizer libraries are preloaded" >&2; exit 1; }
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)/tree
	CC=gcc CXX=g++ FASTRNN_SANITIZE=1 $(BIN)/python -m pip install --no-deps --target $(SANITIZED)/site .
	cp -r $(filter-out fastrnn build,$(wildcard *)) $(SANITIZED)/tree
	ln -s ../site/fastrnn $(SANITIZED)/tree/fastrnn
	cd $(SANITIZED)/tree && PYTHONPATH=$(SANITIZED)/site LD_PRELOAD="$(PRELOAD)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  $(CURDIR)/$(BIN)/python -m pytest -o timeout=1800 $(PYTEST)

# Registers, shared memory and spills of every CUDA kernel, from ptxas's reports of the last build.
ptxas: $(INSTALLED)
	$(BIN)/python benchmarks/ptxas.py $(PTXAS)

# Everything on a machine with a GPU, in one call, without a network: the interpreter that has torch also needs
# setuptools, pybind11, pytest, pytest-timeout and hypothesis. A part that fails does not stop the next, and then the
# exit status is 1. What it finds stands in OUT, and the table of times comes last.
#   build      into this folder, for this machine's GPU alone
#   test       the tests of layers and kernels, on the GPU
#   sanitizer  compute-sanitizer's memcheck and racecheck over a short list of them
#   micro      what barriers, exchanges, matrix instructions and launches cost (benchmarks/native/micro.cu)
#   bench      the layers beside cuDNN (benchmarks/gpu.py)
GPU ?= build test sanitizer micro bench
GPU_PYTHON ?= python3
GPU_PYTEST ?=
GPU_BENCH ?=
OUT ?= build/gpu
NVCC ?= nvcc
gpu:
	@$(GPU_PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || \
	  { echo "make gpu needs a CUDA device and a torch that sees it; give GPU_PYTHON= for another interpreter" >&2; exit 1; }
	@mkdir -p $(OUT); rm -f $(OUT)/table.txt; status=0; \
	for part in $(GPU); do \
	  start=$$(date +%s); \
	  $(MAKE) --no-print-directory gpu-$$part || { echo "make gpu: $$part FAILED"; status=1; }; \
	  echo "make gpu: $$part took $$(($$(date +%s) - start)) s"; \
	done; \
	cat $(OUT)/table.txt 2>/dev/null; exit $$status

# 8.9: 89; 9.0 has instructions of its own: 90a
GPU_ARCH = $(shell $(GPU_PYTHON) -c 'import torch; a = "%d%d" % torch.cuda.get_device_capability(); print(a + "a" * (a == "90"))')
gpu-build:
	FASTRNN_CUDA=1 FASTRNN_CUDA_ARCHS=$${FASTRNN_CUDA_ARCHS:-$(GPU_ARCH)} $(GPU_PYTHON) setup.py -q build_ext --inplace \
	  >$(OUT)/build.log 2>&1 || { tail -30 $(OUT)/build.log; exit 1; }
	$(GPU_PYTHON) -m fastrnn info | tee $(OUT)/info.txt
	$(GPU_PYTHON) benchmarks/ptxas.py --all >$(OUT)/ptxas.txt

GPU_TESTS := $(addprefix tests/test_, $(addsuffix .py, cuda cuda_calls cuda_kernels kernels kernels_tensors autograd modules functional \
  cells contract_autograd contract_dtypes contract_packed contract_values))
gpu-test:
	$(GPU_PYTHON) -m pytest -q -p no:cacheprovider -m cuda $(GPU_TESTS) $(GPU_PYTEST) >$(OUT)/test.log 2>&1; status=$$?; \
	  tail -25 $(OUT)/test.log; exit $$status

# each cell, ragged rows, both directions, a projection, and each persistent tier
SANITIZED_TESTS := gpu and not descending and not shuffled and ((test_forms and ragged) or (test_projection and True-7) \
  or (rounded_arithmetic and bf16-True) or (test_persistent and bf16-ragged) or too_long)
gpu-sanitizer:
	for tool in memcheck racecheck; do \
	  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 9 $(GPU_PYTHON) -m pytest -q \
	    -p no:cacheprovider -o timeout=900 -m cuda tests/test_cuda_kernels.py tests/test_cuda_calls.py -k "$(SANITIZED_TESTS)" \
	    >$(OUT)/$$tool.log 2>&1 || { tail -25 $(OUT)/$$tool.log; exit 1; }; \
	  tail -2 $(OUT)/$$tool.log; \
	done

gpu-micro:
	$(NVCC) -std=c++17 -O3 -arch=native benchmarks/native/micro.cu -o $(OUT)/micro
	$(OUT)/micro $(OUT)/micro.json | tee $(OUT)/micro.txt

gpu-bench:
	$(GPU_PYTHON) benchmarks/gpu.py --out $(OUT) $(GPU_BENCH) >$(OUT)/bench.log 2>&1 || { tail -25 $(OUT)/bench.log; exit 1; }

clean:
	rm -rf build dist *.egg-info fastrnn/*.so .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis
	rm -f $(INSTALLED)
	find fastrnn tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# One environment for all targets, so that no target waits for what another has already installed. The install is
# editable: a change of a Python file needs no new one, a change of a kernel gets one here.
$(INSTALLED): $(TORCH_INSTALLED) $(KERNELS)
	@echo "building the kernels and installing fastrnn into $(VENV), which takes a minute or two"
	$(BIN)/python -m pip install --quiet -e ".[test,bench,dev]"
	@touch $@

$(TORCH_INSTALLED): $(VENV)/.python
	@rm -f $(VENV)/.torch-*
	$(BIN)/python -m pip install $(TORCH)
	@touch $@

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.10 or newer, or give PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$$($(PYTHON) --version) is too old: fastrnn needs Python 3.10 or newer; give PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
	  { echo "Python.h not found: install Python's headers (Debian and Ubuntu: apt install python3-dev)" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	  { echo "no C++ compiler found: install g++ or clang++ (Debian and Ubuntu: apt install g++), or set CXX" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
