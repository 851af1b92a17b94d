PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c tests/constraints.txt

BENCH_VENV ?= .venv-bench
BENCH_BIN := $(BENCH_VENV)/bin
BENCH_PIP := $(BENCH_BIN)/python -m pip --disable-pip-version-check install --quiet \
  -c tests/constraints.txt -c tests/constraints-bench.txt

PLUGINS_VENV ?= .venv-plugins
PLUGINS_BIN := $(PLUGINS_VENV)/bin
PLUGINS_PIP := $(PLUGINS_BIN)/python -m pip --disable-pip-version-check install --quiet \
  -c tests/constraints.txt

.PHONY: demo test test-plugins lint nightly bench bench-quick clean

# The demo needs the package alone; the tests need its extras and their own tools.
$(VENV)/installed: pyproject.toml tests/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/installed-tests: $(VENV)/installed
	$(PIP) torch
	$(PIP) -e '.[test]'
	touch $@

demo: $(VENV)/installed
	rm -rf demo && mkdir demo
	$(BIN)/eegstore build demo demo/demo.zarr
	@echo
	$(BIN)/eegstore info demo/demo.zarr
	@echo
	$(BIN)/eegstore export demo/demo.zarr demo/npy --format npy
	@echo
	$(BIN)/eegstore verify demo/demo.zarr --deep

test: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m 'not nightly' -n 2

# The packages in plugins/ as a user has them: eegstore from its wheel and each of them by pip, in
# an environment that is made anew. Their own tests, then a store of real EEG with all of them.
test-plugins:
	rm -rf $(PLUGINS_VENV)
	$(PYTHON) -m venv $(PLUGINS_VENV)
	$(PLUGINS_BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps \
	  -w $(PLUGINS_VENV)/wheels .
	$(PLUGINS_PIP) "$$(echo $(PLUGINS_VENV)/wheels/*.whl)[mne]" pytest-timeout
	$(PLUGINS_PIP) './plugins/eegstore-riemann[test]' './plugins/eegstore-catch22[test]'
	$(PLUGINS_BIN)/python -m pytest plugins/eegstore-riemann
	$(PLUGINS_BIN)/python -m pytest plugins/eegstore-catch22
	$(PLUGINS_BIN)/python -m pytest plugins/tests

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@for of in recipe store; do \
	  EEGSTORE_PLUGINS= $(BIN)/eegstore schema $$of | diff - schemas/$$of.schema.json \
	    || { echo "schemas/$$of.schema.json is out of date: run 'eegstore schema $$of'"; exit 1; }; \
	done

# What takes longer than the gate allows; it prints its figures.
nightly: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m 'nightly or promise' -n 2
	$(BIN)/python tests/benchmarks/bench_build.py --scale 1 4
	$(BIN)/python tests/benchmarks/bench_verify.py
	$(BIN)/python tests/benchmarks/bench_write.py
	$(BIN)/python tests/fuzz/fuzz.py --seconds 600

# The peers have an environment of their own. MosaicML's streaming asks for older numpy and
# transformers than others here bear, and runs with newer ones: it comes without what it asks for,
# but for what its import needs. torchvision's build is not torch's, and would keep transformers from
# its own. A peer that cannot be installed or imported is named in the output.
$(BENCH_VENV)/installed: pyproject.toml tests/constraints.txt tests/constraints-bench.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_PIP) torch
	$(BENCH_PIP) -e '.[all,bench]'
	-$(BENCH_PIP) torcheeg
	-$(BENCH_PIP) Brotli catalogue python-snappy zstd && $(BENCH_PIP) --no-deps mosaicml-streaming
	-$(BENCH_BIN)/python -m pip uninstall --quiet --yes torchvision
	touch $@

# How fast it is next to its peers; exit code 1 where a promise is not kept. The quick one takes
# some two minutes, the whole half an hour and 26 GB of disk, and memory to cache it.
bench: $(BENCH_VENV)/installed
	$(BENCH_BIN)/python tests/benchmarks/bench.py

bench-quick: $(BENCH_VENV)/installed
	$(BENCH_BIN)/python tests/benchmarks/bench.py --quick

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(PLUGINS_VENV) demo build dist
