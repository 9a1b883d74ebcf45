# Everything is set up on first use; nothing is installed outside this folder.
PYTHON ?= python3
BIN := .venv/bin

# A stack is a dozen processes: each would compile all of the code again that it imports.
unexport PYTHONDONTWRITEBYTECODE

# The full stack's services; local ones by default.
DATABASE_URL ?= postgres://postgres@127.0.0.1:5432/inference
BROKER_URL ?= amqp://guest:guest@127.0.0.1:5672//

# What `make test` is made of, the longest first: so the last one doesn't run alone.
PARTS := acceptance sqlite postgresql processes chaos docs

.PHONY: help run run-stack test $(addprefix test-,$(PARTS)) test-unit chaos fuzz dev lint format bench bench-batches train lock secrets clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: .venv/run  ## Run the whole system on SQLite and a folder (PORT=8000)
	@$(BIN)/python manage.py up

run-stack: export DATABASE_URL := $(DATABASE_URL)
run-stack: export BROKER_URL := $(BROKER_URL)
run-stack: .venv/run  ## Run the whole system on PostgreSQL and RabbitMQ, with Flower
	@DJANGO_SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))') $(BIN)/python manage.py up

# Whole processes, brokers and roles: the portal's database makes no difference to them.
PROCESSES := $(addprefix tests/integration/test_,broker_accounts.py embedded_broker.py lost.py manage.py publisher.py topology.py unreadable.py upgrade.py worker_problems.py)
# What people and clients see, on any database.
SEEN := $(addprefix tests/integration/test_,batch_command.py console.py console_batches.py console_dead_letters.py console_releases.py console_routes.py console_schedules.py delivery_calls.py uploads.py datatypes.py infer_answers.py job_paths.py login.py malformed_bodies.py negotiation.py routes.py v2_server.py)
DOCS := tests/acceptance/test_docs.py

test: .venv/dev  ## All tests: without a service, on SQLite, on PostgreSQL, whole processes, the whole system, and killing it
	@echo "Three of $(words $(PARTS)) parts at a time; what each prints comes when it is through: $(PARTS)"
	$(MAKE) --no-print-directory -j3 -k -Otarget $(addprefix test-,$(PARTS))

test-sqlite: .venv/dev
	$(BIN)/python -m pytest tests/unit tests/integration $(addprefix --ignore=,$(PROCESSES))

test-postgresql: .venv/dev
	TEST_DATABASE=postgresql $(BIN)/python -m pytest tests/integration $(addprefix --ignore=,$(PROCESSES) $(SEEN))

test-processes: .venv/dev
	$(BIN)/python -m pytest $(PROCESSES)

test-acceptance: .venv/dev
	$(BIN)/python -m pytest tests/acceptance tests/browser --ignore=$(DOCS)

test-docs: .venv/dev
	$(BIN)/python -m pytest $(DOCS)

test-chaos: .venv/dev
	$(BIN)/python -m pytest tests/chaos

# How long each part takes on two cores: about 13 minutes a seed, embedded 2, windows 15 and 5, faults 25, bugs 10,
# deliveries 5, fairness 4, overload 12, states 10 for each database.
SEEDS ?= 1 2 3
CHAOS := .run/chaos
chaos: .venv/dev  ## Kill everything, for two hours: SEEDS="1 2 3"; figures in .run/chaos, meaning in docs/reliability.md
	mkdir -p $(CHAOS)
	for seed in $(SEEDS); do $(BIN)/python -m tests.chaos.run --seed $$seed --jobs 20000 --kills 420 --report $(CHAOS)/random.jsonl || exit 1; done
	$(BIN)/python -m tests.chaos.run --seed 11 --stack embedded --jobs 2000 --kills 50 --report $(CHAOS)/random.jsonl
	$(BIN)/python -m tests.chaos.windows --times 20 --report $(CHAOS)/windows.jsonl
	$(BIN)/python -m tests.chaos.windows --times 2 --action stop:8 --report $(CHAOS)/windows.jsonl
	$(BIN)/python -m tests.chaos.faults --times 3 --report $(CHAOS)/faults.json
	$(BIN)/python -m tests.chaos.deliveries --seed 1 --report $(CHAOS)/deliveries.jsonl
	$(BIN)/python -m tests.chaos.bugs --report $(CHAOS)/bugs.json
	$(BIN)/python -m tests.chaos.fairness --report $(CHAOS)/fairness.json
	$(BIN)/python -m tests.chaos.overload --minutes 10 --report $(CHAOS)/overload.json
	HYPOTHESIS_SEQUENCES=5000 $(BIN)/python -m pytest tests/integration/test_state_machine.py
	TEST_DATABASE=postgresql HYPOTHESIS_SEQUENCES=5000 $(BIN)/python -m pytest tests/integration/test_state_machine.py

# On two cores: the contract about 11, the decoders about 15. Findings say how to repeat them.
SEED ?= 1
fuzz: .venv/dev  ## Fuzz the HTTP contract (20,000 requests) and the decoders (200,000 bodies a format): SEED=1
	$(BIN)/python -m tests.fuzz.contract --cases 20000 --seed $(SEED)
	$(BIN)/python -m tests.fuzz.decoders --inputs 200000 --seed $(SEED)

test-unit: .venv/dev  ## Only what needs no service
	$(BIN)/python -m pytest tests/unit

dev: .venv/dev  ## Install what developing needs

lint: .venv/dev  ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev  ## Apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev  ## Measure the full stack under load (SECONDS=15 for each kind of load)
	$(BIN)/python -m bench.load --seconds $(or $(SECONDS),15)

bench-batches: .venv/dev  ## Measure batches against a script, in memory, beside clients, under kills (ROWS=5000000)
	$(BIN)/python -m bench.batches --rows $(or $(ROWS),5000000)

train: .venv/dev  ## Train the example models again
	$(BIN)/python -m models_store.train breast_cancer/1 wine/1

lock: .venv/dev  ## Pin what pyproject.toml asks for
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --extra cpu -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --extra gpu -c requirements.txt -o requirements-gpu.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --extra cpu --group dev -c requirements.txt -o requirements-dev.txt

secrets:  ## Make the secrets that compose.yaml needs
	$(PYTHON) deploy/make_secrets.py

clean:  ## Forget what ran here (jobs, uploads and outputs of the embedded system too)
	rm -rf .run

.venv/run: requirements.txt
	@echo "Setting up: installing the pinned packages into .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt
	@echo "Setting up: installing the pinned packages into .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@ .venv/run
