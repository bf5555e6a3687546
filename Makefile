# Everything works from a fresh clone: the environment is made in .venv on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-all check format bench bench-recall bench-path bench-pathways bench-query bench-serve bench-mcp bench-cold bench-ingest bench-stream bench-commits bench-engine bench-nano bench-activation bench-activation-short bench-distill bench-distill-short bench-peers bench-schedule bench-store bench-pack bench-tidy bench-use bench-lifecycle bench-vault bench-scale nano docs schemas bundles torture clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

# torch comes first and by its exact version, so that a build for the CPU on disk is taken where there is one.
$(STAMP): pyproject.toml
	@echo "Setting up .venv, once; a few minutes, most of them for torch."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install -qq torch==2.13.0
	$(BIN)/pip install -qq -e '.[documents,code,audit,ray,dev]'
	touch $(STAMP)

# moto asks for a python-dateutil that others cannot live with: it gets an environment of its own.
.servers:
	-$(PYTHON) -m venv .servers && .servers/bin/pip install -qq 'moto[server]>=5.2,<6'

demo: $(STAMP) ## From nothing: a cube, three queries, an audit, a rollback
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash bundles/demo.sh

# Each of the two begins with a half, so that what a file of tests makes for all of them is mostly made once.
test: $(STAMP) .servers ## The fast suite: some of everything, in minutes
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not gpu and not long"

test-long: $(STAMP) .servers ## What the fast suite leaves out: long tests, and the others of every kind
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "long and not slow and not gpu"

test-all: $(STAMP) .servers ## Every test, the slow ones too
	$(BIN)/python -m pytest -q -m "not gpu"

check: $(STAMP) ## Style, types, and that what is generated is fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m schemas.generate --check

format: $(STAMP) ## Put the code in its style
	$(BIN)/ruff check --fix -q . || true
	$(BIN)/ruff format -q .

nano: $(STAMP) ## The default model anew, from a seed; goes on from what .nano/run has
	$(BIN)/python -m memos_cli.runtime.nano.train .nano/run

docs: $(STAMP) ## The reference of commands, from the program
	$(BIN)/python -m docs.generate

schemas: $(STAMP) ## The JSON schemas, from the results of the API
	$(BIN)/python -m schemas.generate

bundles: $(STAMP) ## The example cubes, from their corpora
	$(BIN)/python -m bundles.build

bench: bench-recall bench-path bench-query bench-cold bench-ingest bench-commits bench-nano bench-activation-short bench-distill-short ## Every benchmark that needs nothing but this checkout

bench-recall: $(STAMP) ## Evidence recall on LoCoMo and LongMemEval, beside its baselines
	$(BIN)/python -m tests.bench.recall

bench-pathways: $(STAMP) ## Every form of memory and every move between them in one table; minutes
	$(BIN)/python -m tests.bench.pathways

bench-path: $(STAMP) ## Where the time of a prompt goes, and what the cube costs over raw LanceDB
	$(BIN)/python -m tests.bench.path

bench-query: $(STAMP) ## Warm queries beside LanceDB's calls (python -m tests.bench.query --large: 1M rows too)
	$(BIN)/python -m tests.bench.query

bench-mcp: $(STAMP) ## What a recall over the Model Context Protocol costs beside the Python API
	$(BIN)/python -m tests.bench.mcp

bench-serve: $(STAMP) ## What a query over HTTP costs beside the Python API, and eight clients for a minute
	$(BIN)/python -m tests.bench.serve

bench-cold: $(STAMP) ## What a fresh process costs
	$(BIN)/python -m tests.bench.cold

bench-ingest: $(STAMP) ## Ingest against the embedder alone
	$(BIN)/python -m tests.bench.ingest

bench-stream: $(STAMP) ## Memory held by an ingest of larger and larger files
	$(BIN)/python -m tests.bench.stream

bench-commits: $(STAMP) ## What a commit costs, and many small ones
	$(BIN)/python -m tests.bench.commits

bench-engine: $(STAMP) ## Ingest and convert by two workers of Ray against one process; minutes, and two idle cores
	$(BIN)/python -m tests.bench.engine

bench-nano: $(STAMP) ## What the default model reads, and how fast
	$(BIN)/python -m tests.bench.nano

bench-activation: $(STAMP) ## What activation memory saves and loses; an hour where bf16 has no instructions
	$(BIN)/python -m tests.bench.activation

bench-activation-short: $(STAMP) ## The same with shorter memories, in minutes
	$(BIN)/python -m tests.bench.activation --short --runs 3

bench-distill: $(STAMP) ## What parameter memory keeps, chains, deletes; an hour on one core
	$(BIN)/python -m tests.bench.distill

bench-distill-short: $(STAMP) ## One adapter of a few facts
	$(BIN)/python -m tests.bench.distill single --facts 12 --seeds 0

bench-schedule: $(STAMP) ## Policies on traces against what was possible, and what plans promise
	$(BIN)/python -m tests.bench.schedule --cheap

bench-peers: $(STAMP) ## mem0, txtai, Chroma and LanceDB's hybrid on the same turns, in an environment of their own
	$(BIN)/python -m tests.bench.peers

bench-store: $(STAMP) ## Pushes beside skopeo into docker-registry, both of which must be there
	$(BIN)/python -m tests.bench.store

bench-scale: $(STAMP) .servers ## What grows with a cube, and requests to a bucket; minutes
	$(BIN)/python -m tests.bench.scale

bench-pack: $(STAMP) ## Packing 1 GB beside cat
	$(BIN)/python -m tests.bench.pack

bench-lifecycle: $(STAMP) ## 100,000 updates under aggressive expiry: size, pace and what is still known
	$(BIN)/python -m tests.bench.lifecycle

bench-tidy: $(STAMP) ## Duplicates and conflicts in labelled pairs: precision and recall
	$(BIN)/python -m tests.bench.tidy

bench-use: $(STAMP) ## What ranking by use does to recall, for questions asked before and others
	$(BIN)/python -m tests.bench.use

bench-vault: $(STAMP) ## A vault of 1,000 cubes asked, beside the right cube alone; minutes to build
	$(BIN)/python -m tests.bench.vault

torture: $(STAMP) ## Hundreds of kills, every fault in every change, 10,000 changed bytes, a full disk, a crowd
	$(BIN)/python -m pytest -q -m slow tests/torture tests/infrastructure

clean: ## Remove what was made here
	rm -rf $(VENV) demo .bench build *.egg-info
