# The words to say to raftlite. They need make and a Python from 3.9 on; what else they need, they install in .venv.
#
#   make             check and test: what every change leaves green
#   make demo        watch an election; installs nothing
#   make lab         the classroom: a cluster to break, in the browser of this machine; installs nothing either
#   make test        the quick tests
#   make check       ruff and mypy
#   make test-all    on every CPython from 3.9 to 3.13 of this machine; slow tests too, with the newest
#   make test-long   what takes most of a minute or wants the machine for itself: a quarter of an hour
#   make simulate    ten thousand simulated clusters, then every interleaving of a small one
#   make chaos MINUTES=30   real processes under partitions, loss, pauses, kills, full disks; ARGS="--nodes 5 --seed 1"
#   make bench       raftlite beside others that elect leaders, and the figure of the paper: tables, in about an hour
#   make bench-quick what has become slower since tests/benchmarks/last.json, in three minutes; ARGS=--keep renews it
#   make wheel       build dist/raftlite-*.whl
#   make clean       remove whatever the other words have made
#
# With another interpreter:      make test PYTHON=python3.12
# With more arguments (pytest):  make test ARGS="-k lease -x"

PYTHON ?= python3
ARGS =
MINUTES = 1

# Only what the words install is to be imported.
unexport PYTHONPATH PYTHONHOME

.PHONY: all demo lab test check test-all test-long simulate chaos bench bench-quick wheel clean
.NOTPARALLEL:

all: check test

demo:
	@PYTHONPATH="$(CURDIR)" $(PYTHON) -m raftlite demo $(ARGS)

lab:
	@PYTHONPATH="$(CURDIR)" exec $(PYTHON) -m raftlite lab $(ARGS)

test:
	@$(PYTHON) tests/environment.py .venv quick
	.venv/bin/python -m pytest -m "not slow" $(ARGS)

check:
	@$(PYTHON) tests/environment.py .venv dev
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy

simulate:
	@PYTHONPATH="$(CURDIR)" $(PYTHON) -m raftlite simulate --seeds 10000 $(ARGS)
	@PYTHONPATH="$(CURDIR)" $(PYTHON) -m raftlite simulate --exhaustive

chaos:
	@PYTHONPATH="$(CURDIR):$(CURDIR)/tests" $(PYTHON) -m chaos --minutes $(MINUTES) $(ARGS)

test-all:
	@$(PYTHON) tests/run_on_every_python.py $(ARGS)

test-long:
	@$(PYTHON) tests/environment.py .venv test
	.venv/bin/python -m pytest -m long $(ARGS)

bench:
	@$(PYTHON) tests/benchmarks/peers/environment.py .cache/bench
	@PYTHONPATH="$(CURDIR):$(CURDIR)/tests" .cache/bench/bin/python -m benchmarks $(ARGS)

bench-quick:
	@$(PYTHON) tests/environment.py .cache/bench bench
	@PYTHONPATH="$(CURDIR):$(CURDIR)/tests" .cache/bench/bin/python -m benchmarks --quick $(ARGS)

wheel:
	@$(PYTHON) tests/environment.py .venv test
	rm -rf build dist
	.venv/bin/python -m pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .cache .*_cache .raftlite-data */.raftlite-data build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
