# Needs Python 3.11+ and a package registry; everything else is installed into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TESTS  := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Images often forbid bytecode: then each of the hundreds of processes of tests compiles all sources.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo up test check docs system matrix versions frozen soak failover bench bench-smoke lock clean help

demo: $(VENV)/ready      ## Send some 100 messages of all kinds through everything and check every end.
	$(BIN)/smsq demo

up: $(VENV)/ready        ## Run everything on this machine until Ctrl-C.
	$(BIN)/smsq up

test: $(VENV)/ready      ## Run all tests.
	$(TESTS)

check: $(VENV)/ready     ## Run what CI runs: format, lint, imports, types, docs, tests.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check
	$(SITE)
	$(TESTS)

# The theme announces its successor at every build, in strict mode too.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
docs: $(VENV)/ready      ## Renew the generated pages, and build the docs into site/.
	$(BIN)/python docs/generate.py
	$(SITE)

# Debian has what these need besides Python: tests/system/debian.txt. Root, for network namespaces.
# Two at a time, as several of them run whole sites with clocks of their own.
system: $(VENV)/ready    ## Run the tests that need a browser, promtool, a Redis with TLS, several hosts.
	$(TESTS) -n 2 tests/system

matrix: $(VENV)/ready    ## Run the producer's tests with the oldest and the newest Celery and redis-py.
	.ci/matrix

versions: $(VENV)/ready  ## Run a quick part of the tests on the other Pythons that are promised.
	.ci/versions

ONLY_TESTS ?= tests
frozen: $(VENV)/ready    ## Run tests whose processes are frozen at random, to find what goes by the time.
	PYTHONPATH=tests $(BIN)/python -m harness.freezer -q -n 3 --dist loadfile $(ONLY_TESTS)

MESSAGES ?= 2000
SECONDS  ?= 60
POLICY   ?= resend
SEED     ?= 1
FAULTS   ?= all
ACCOUNTS ?= 1
CAMPAIGNS ?= yes
NUMBERS  ?= all
RELEASE  ?=
soak: $(VENV)/ready      ## Break everything at random under load, and compare; FAULTS=pause,disk chooses.
	cd tests && ../$(BIN)/python -m soak --messages $(MESSAGES) --seconds $(SECONDS) \
	  --policy $(POLICY) --seed $(SEED) --faults $(FAULTS) --accounts $(ACCOUNTS) \
	  --campaigns $(CAMPAIGNS) --numbers $(NUMBERS) --release "$(RELEASE)"

KILLS    ?= 3
failover: $(VENV)/ready  ## Take Redis' primary away under load; count what was lost or doubled.
	cd tests && ../$(BIN)/python -m soak.failover --messages $(MESSAGES) --seconds $(SECONDS) --kills $(KILLS)

ONLY     ?= rate,otp,outage,secret,balance
WORKERS  ?= 1,2,4,8
RATES    ?= 20,200
WINDOW   ?= 30
SCALE    ?= 10
CALLS    ?= 3000
SHAPES   ?= singles,batches,both
SIZE     ?= 1
CROWD    ?= 20
BASE     ?= HEAD
ROUNDS   ?= 5
AGAINST  ?= 0.2.0
bench: $(VENV)/ready     ## Measure; ONLY=peers compares with other queues, ONLY=scale takes a million.
	cd tests && ../$(BIN)/python -m bench --only $(ONLY) --workers $(WORKERS) \
	  --rates $(RATES) --seconds $(WINDOW) --scale $(SCALE) --messages $(CALLS) --shapes $(SHAPES) \
	  --size $(SIZE) --crowd $(CROWD) --scale-only "$(SCALE_ONLY)" --release "$(RELEASE)" \
	  --base "$(BASE)" --rounds $(ROUNDS) --against "$(AGAINST)" $(if $(CHART),--chart)

# Each of these lines is in the table of one of its scenarios.
SMOKED := ^(achieved/s +[1-9]|errors +0| *Redis. cpu a message, of .* to delivered  |goal +worker.s cpu a message with Flower)
bench-smoke: $(VENV)/ready ## Run parts of the bench, small; figures are not judged.
	@cd tests && ../$(BIN)/python -m bench --only rate,life,watched --workers 1 --rates 20 --seconds 2 \
	  --shapes singles --messages 150 --rounds 1 | tee -a /dev/stderr | grep -E '$(SMOKED)' | wc -l | grep -qx 4

lock: $(VENV)/ready      ## Renew the pins. They name no index, so any registry serves them.
	$(BIN)/python -m pip install --quiet uv
	cd ops && for extras in "worker --extra otel" dev; do extra=$${extras%% *}; \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-annotate --no-config --upgrade --custom-compile-command "make lock" \
	    --extra $$extras ../pyproject.toml --output-file requirements-$$extra.txt || exit 1; done
	cd ops && ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-config --upgrade \
	  --custom-compile-command "make lock" requirements-peers.in --output-file requirements-peers.txt
	# What builds the wheel in the image, with the very pins of the rest.
	cd ops && echo hatchling | ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-config \
	  --custom-compile-command "make lock" --constraint requirements-dev.txt - \
	  --output-file requirements-build.txt

$(VENV)/ready: pyproject.toml ops/requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit("smsq needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r ops/requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:                   ## Remove what was installed and what was kept.
	rm -rf $(VENV) .venvs .bench-venv .bench-releases .smsq site

help:                    ## List these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
