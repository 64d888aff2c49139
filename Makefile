# make demo    set up, and run the main job on the project in examples/weather
# make test    set up, and run all tests: the engine's too
# make unit    the tests that need neither an engine nor a network
# make test-all  the unit tests on each CPython from 3.10 on that is here, with the oldest dependencies, and as
#              if on macOS and Windows
# make coverage  which lines the unit tests reach, as a table
# make hostile the hostile inputs of `make test`, many more of them: 30 minutes at most
# make kills   the test that kills workers of a cluster at random, for two minutes
# make lint    ruff, mypy, hadolint, the documentation's links
# make docs    the documentation as HTML, in .work/docs
# make bench   the figures of docs/benchmarks.md, measured here
# make setup   what the others need: .venv, a container engine
# make clean   remove what these commands made in this folder
#
# PYTHON=python3.12 make setup    chooses the interpreter of .venv
# ARGS="-k vcs -x" make test      passes arguments to pytest

.POSIX:
.SUFFIXES:
.PHONY: help demo test unit test-all coverage hostile kills lint docs bench setup venv engine clean

ARGS =

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

demo: venv engine
	@scripts/demo.sh

test: venv engine
	@scripts/test-packages.sh
	@base=$$(.venv/bin/python scripts/base_image.py) && IMAGESYNC_TEST_BASE=$$base .venv/bin/python scripts/run_tests.py $(ARGS)

unit: venv
	@scripts/test-packages.sh unit
	@.venv/bin/python -m pytest --doctest-modules imagesync tests/unit $(ARGS)

test-all: venv
	@scripts/test-packages.sh unit
	@scripts/test-all.sh $(ARGS)

coverage: venv
	@scripts/test-packages.sh unit
	@scripts/coverage.sh $(ARGS)

hostile: venv engine
	@scripts/test-packages.sh
	@base=$$(.venv/bin/python scripts/base_image.py) && IMAGESYNC_TEST_BASE=$$base .venv/bin/python scripts/hostile.py $(ARGS)

kills: venv engine
	@base=$$(.venv/bin/python scripts/base_image.py) && IMAGESYNC_TEST_BASE=$$base IMAGESYNC_KILL_SECONDS=120 \
		.venv/bin/python -m pytest -s -k killed_at_random tests/integration/test_cluster_losses.py $(ARGS)

lint: venv
	@scripts/lint.sh

docs: venv
	@.venv/bin/sphinx-build -q -W --keep-going docs .work/docs

bench: venv engine
	@base=$$(.venv/bin/python scripts/base_image.py) && IMAGESYNC_BASE=$$base .venv/bin/python -m benchmarks $(ARGS)

setup: venv engine

venv:
	@scripts/setup-venv.sh

engine: venv
	@scripts/engine.sh

clean:
	rm -rf .venv .work dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
