# The commands for people, CI and other repositories. Each sets up .venv first, from the lock. `make` lists them.
# KAFKA=host:port uses a broker of your own; PYTHON names the interpreter that .venv is made with. Both may come from the
# environment. All other variables count on the command line only, as others use such names too: `make demo ORDERS=100`.

PYTHON ?= python3
ON_COMMAND_LINE := ARGS BREAKING KEEP LIVE MINUTES ORDERS PARTITIONS POLICY PORTS PROVIDER SECURED SEED SEEDS UP VERSION
ignore = $(eval unexport $(1))$(eval $(1) :=)
IGNORED := $(strip $(foreach name,$(ON_COMMAND_LINE),$(if $(findstring environment,$(origin $(name))),$(name))))
$(foreach name,$(IGNORED),$(call ignore,$(name)))
$(if $(IGNORED),$(if $(MAKECMDGOALS),$(warning not taken from the environment: $(IGNORED). Type them behind make)))
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
READY := .venv/.done

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo up first-hour test lint unit process contract integration poison simulate last-moment mutants fuzz attack chaos chaos-proof drills bench bench-fold bench-beside bench-recover bench-reads bench-api bench-settle bench-lastseat bench-watch bench-stock bench-peers bench-costs images compose-test console-test upgrade-test restore-test day docs audit topics certificates format proto lock wheels install-matrix release clean

# Make reads options itself: `make up --keep` means its own --keep-going.
ifneq ($(filter up,$(MAKECMDGOALS)),)
ifneq ($(findstring k,$(filter-out --%,$(firstword -$(MAKEFLAGS))))$(filter --%,$(MAKECMDGOALS)),)
$(error make reads options itself and passes none on. Type `make up KEEP=1`, or `make up UP="--keep --ports free"`)
endif
endif
on = $(filter-out 0 no false,$(1))
UP_OPTIONS = $(if $(call on,$(KEEP)),--keep) $(if $(call on,$(SECURED)),--secured) $(if $(PORTS),--ports '$(PORTS)') \
	$(if $(PARTITIONS),--partitions '$(PARTITIONS)') $(if $(POLICY),--policy '$(POLICY)') $(UP)

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ \
	  line = sprintf("  make %-13s", $$1); margin = sprintf("%20s", ""); count = split($$2, words, " "); \
	  for (at = 1; at <= count; at++) { \
	    if (length(line " " words[at]) > 80) { print line; line = margin } \
	    line = line " " words[at] \
	  } \
	  print line }'

demo: $(READY) ## a shop's evening of real orders, with a service killed in the middle; ORDERS=n, KAFKA=host:port
	$(BIN)/python -m ops.main demo

up: $(READY) ## the whole system in the foreground until Ctrl-C; KEEP=1 SECURED=1 PORTS=free PARTITIONS=n POLICY=file
	$(BIN)/python -m devstack $(UP_OPTIONS)

first-hour: $(READY) ## what a newcomer does in the first hour, in a fresh clone and odd environments; ARGS="--only name"
	$(BIN)/python -m tests.first_hour.run $(ARGS)

test: lint unit process contract simulate integration ## all that CI runs: 25 minutes on two cores

lint: $(READY) ## style, types, layers, and the protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --exclude-path protos/buf --exclude-path protos/google --diff --exit-code
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py --check

unit: $(READY) ## tests without a broker; ARGS="-k name" picks some
	$(PYTEST) -n 2 tests/unit tests/simulation $(ARGS)

process: $(READY) ## tests of single processes and their wires, without a broker
	$(PYTEST) -n 2 tests/process $(ARGS)

contract: $(READY) ## tests of what others rely on: protos, topics, generated code
	$(PYTEST) -n 2 tests/contract $(ARGS)

integration: $(READY) ## tests on a real broker with real processes
	$(PYTEST) -n 2 --dist loadfile tests/integration $(ARGS)

poison: $(READY) ## every kind of bad record in every topic of one broker, as docs/poison.md says
	$(PYTEST) tests/integration/test_poison.py tests/integration/test_poison_inventory.py $(ARGS)

simulate: $(READY) ## deterministic simulation with faults: SEEDS=10000; SEED=n replays one with its trace; ARGS="--shrink"
	$(if $(SEED),,$(BIN)/python -m tests.simulation.last_moment --trials 4000)
	$(if $(SEED),,$(BIN)/python -m tests.simulation.stock_histories --seeds $$(( $(or $(SEEDS),500) / 4 )))
	$(BIN)/python -m tests.simulation.run $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),500)) $(ARGS)

last-moment: $(READY) ## 100,000 groups that fill up and expire in the same millisecond: never both, never neither
	$(BIN)/python -m tests.simulation.last_moment $(ARGS)

fuzz: $(READY) ## 100,000 random and mutated requests to every RPC; LIVE=1: over the network to a whole system; ARGS="--requests n --only name --seed n"
	$(BIN)/python -m tests.fuzz.$(if $(LIVE),live,run) $(ARGS)

attack: $(READY) ## attacks a secured stack: what is refused, others' p99, memory after; ARGS="--only name"
	$(BIN)/python -m tests.attack.run $(ARGS)

mutants: $(READY) ## plants bugs in the rules, the money and the kernel; the simulation must find each one; ARGS="--only name"
	$(BIN)/python -m tests.simulation.mutants.run $(ARGS)

chaos: $(READY) ## kills, freezes, stalls, poison and outages under load, then an exact check; MINUTES=5 ORDERS=n OUTAGE=s ARGS="--only part"
	$(BIN)/python -m tests.chaos.run --minutes $(or $(MINUTES),5) $(ARGS)

chaos-proof: $(READY) ## switches the kernel's fixes off, one after the other: some run must fail; ARGS="--only name"
	$(BIN)/python -m tests.chaos.kernel.switched_off $(ARGS)

drills: $(READY) ## causes each alert on a real system with a real Prometheus, and sees it fire and end; ARGS="--only Name"
	$(BIN)/python -m tests.drills.run $(ARGS)

bench: bench-fold bench-beside bench-recover bench-reads bench-api bench-settle bench-lastseat bench-watch bench-peers ## all benchmarks; each prints its figures as JSON and fails where its claim does

bench-fold: $(READY) ## facts a second on one core: stock Faust, and ours with RocksDB; ARGS="--flame" keeps a flame graph; ROUTER=1: the router alone
	$(BIN)/python -m bench.fold $(if $(ROUTER),--router) $(ARGS)

bench-beside: $(READY) ## p99 of a gRPC call in a process whose decider consumes at full speed; ARGS="--facts n"
	$(BIN)/python -m bench.beside $(ARGS)

bench-recover: $(READY) ## SIGKILL to the first new decision with 1,000,000 open groups, and as many closed; ARGS="--groups n --closed n --kills n"
	$(BIN)/python -m bench.recover $(ARGS)

bench-reads: $(READY) ## 1,000,000 settled orders in state: kill -9 to the first answers, rebalances, memory; ARGS="--orders n --kills n --check"
	$(BIN)/python -m bench.reads $(ARGS)

bench-api: $(READY) ## orders a second that one process takes, alone and in batches, watched and overloaded; ARGS="--seconds n"
	$(BIN)/python -m bench.api $(ARGS)

bench-settle: $(READY) ## settled orders a second of the whole system; ARGS="--seconds n --groups n"
	$(BIN)/python -m bench.settle $(ARGS)

bench-costs: $(READY) ## where a settled order's CPU time goes, by process and cause, and its records; ARGS="--seconds n"
	$(BIN)/python -m bench.costs $(ARGS)

bench-watch: $(READY) ## records a second that `groupbuy-ops watch` folds from generated logs; ARGS="--groups n --workers n"
	$(BIN)/python -m bench.watch $(ARGS)

bench-peers: $(READY) ## the same simple fold on our kernel, Kafka Streams and Quix Streams; needs Java and Maven; ARGS="--facts n --turns n"
	$(BIN)/python -m bench.peers $(ARGS)

bench-stock: $(READY) ## a drop with ten orders for each piece while services are killed: oversold, stranded, leases/s; ARGS="--pieces n --orders n --kills n"
	$(BIN)/python -m bench.stock $(ARGS)

bench-lastseat: $(READY) ## 1,000 joins at once for one seat, 200 times: one winner each; ARGS="--rounds n"
	$(BIN)/python -m bench.lastseat $(ARGS)

images: $(READY) ## builds the container images with Podman and checks them: size_mb; skipped where Podman cannot be had
	$(BIN)/python -m tests.compose.images

compose-test: $(READY) ## deploy/compose on real containers: orders, a kill, restarts, secured, replicas; ARGS="--only secured"
	$(BIN)/python -m tests.compose.run $(ARGS)

upgrade-test: $(READY) ## wheels of an older version and of this tree side by side on one stack, both ways; ARGS="--older v0.1.0"
	$(BIN)/python -m tests.upgrade.run $(ARGS)

restore-test: $(READY) ## a system whose log is copied to a second broker, and goes on there; ARGS="--orders n"
	$(BIN)/python -m tests.restore.run $(ARGS)

console-test: $(READY) ## the console in Debian's Chromium on a whole stack: live pages, share page, looks; ARGS="--only name --pictures --quick"
	$(BIN)/python -m tests.console.run $(ARGS)

day: $(READY) ## a day with refunds that fail, disputes, dashboard actions, a foreign deployment and repairs; ARGS="--orders n"
	$(BIN)/python -m tests.day.run $(ARGS)

docs: $(READY) ## writes docs/transitions.md, poison.md, configuration.md, commands.md, metrics.md, asyncapi.yaml, demo-*.svg, deploy/observe, and generated files of deploy/k8s and deploy/tools
	$(BIN)/python -m docs.generate
	$(BIN)/python -m tools.observe

audit: $(READY) ## re-reads all topics of a running system, checks invariants and balances
	$(BIN)/python -m ops.main audit

topics: $(READY) ## compares the topics of a running system with the registry
	$(BIN)/python -m ops.main topics check

certificates: $(READY) ## a development CA and a certificate for every identity, in .run/certificates; ARGS="--host orders=name"
	$(BIN)/python -m devstack.certificates.ca $(ARGS)

format: $(READY) ## formats code and protos
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format protos --exclude-path protos/buf --exclude-path protos/google --write

proto: $(READY) ## generates gen/ and the descriptor set from protos/; BREAKING=1 accepts a breaking API change
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py $(if $(BREAKING),--accept-breaking)

lock: $(READY) ## writes both locks from pyproject.toml; ARGS="--upgrade" takes the newest versions
	$(BIN)/python -m tools.lock $(ARGS)

wheels: $(READY) ## builds the wheels of groupbuy-client, groupbuy-settlement and groupbuy-testing into build/wheels/
	$(BIN)/python -m tools.distributions build/wheels

install-matrix: $(READY) ## resolves, installs and uses the wheels with old and new dependencies, Pythons and platforms; needs network
	$(PYTEST) tests/install -s $(ARGS)

release: $(READY) ## checks tree, version and changelog, then builds wheels, sdist, SBOM and checksums into dist/; VERSION=n
	$(BIN)/python -m tools.release $(if $(VERSION),--version $(VERSION))

clean: ## removes .venv, data and caches of this clone; not while `make up` runs
	@if [ -f .run/stack.json ] && kill -0 "$$(sed -n 's/.*"supervisor": \([0-9]*\).*/\1/p' .run/stack.json)" 2>/dev/null; \
	then echo "a stack is running in .run: stop it first." >&2; exit 2; fi
	rm -rf .venv .run .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements-dev.lock pyproject.toml $(wildcard distributions/*/pyproject.toml) devstack/setup.sh
	@PYTHON="$(PYTHON)" sh devstack/setup.sh
