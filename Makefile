# Everything is set up on first use; nothing is installed outside this folder.
PYTHON ?= python3
BIN := .venv/bin

# The full stack's services; local ones by default.
DATABASE_URL ?= postgres://postgres@127.0.0.1:5432/inference
BROKER_URL ?= amqp://guest:guest@127.0.0.1:5672//

.PHONY: help run run-stack test test-sqlite test-postgresql test-unit chaos fuzz dev lint format bench train lock secrets clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: .venv/run  ## Run the whole system on SQLite and a folder (PORT=8000)
	@$(BIN)/python manage.py up

run-stack: export DATABASE_URL := $(DATABASE_URL)
run-stack: export BROKER_URL := $(BROKER_URL)
run-stack: .venv/run  ## Run the whole system on PostgreSQL and RabbitMQ, with Flower
	@DJANGO_SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))') $(BIN)/python manage.py up

# About processes, brokers, roles and bodies: the portal's database makes no difference to them.
ONCE := $(addprefix --ignore=tests/integration/test_,broker_accounts.py embedded_broker.py lost.py publisher.py unreadable.py worker_problems.py routes.py console_routes.py malformed_bodies.py)
test: .venv/dev  ## All tests: what needs no service on SQLite, beside it the same on PostgreSQL, then the whole system
	@echo "Two runs at once on two cores, on SQLite and on PostgreSQL; what they print comes when each is through."
	$(MAKE) --no-print-directory -j2 -Otarget test-sqlite test-postgresql
	$(BIN)/python -m pytest tests/acceptance tests/chaos tests/browser

test-sqlite: .venv/dev
	$(BIN)/python -m pytest tests/unit tests/integration

test-postgresql: .venv/dev
	TEST_DATABASE=postgresql $(BIN)/python -m pytest tests/integration $(ONCE)

# How long each part takes on two cores: about 13 minutes a seed, embedded 2, windows 15 and 5, faults 25, bugs 10,
# fairness 4, overload 12, states 10 for each database.
SEEDS ?= 1 2 3
CHAOS := .run/chaos
chaos: .venv/dev  ## Kill everything, for two hours: SEEDS="1 2 3"; figures in .run/chaos, meaning in docs/reliability.md
	mkdir -p $(CHAOS)
	for seed in $(SEEDS); do $(BIN)/python -m tests.chaos.run --seed $$seed --jobs 20000 --kills 420 --report $(CHAOS)/random.jsonl || exit 1; done
	$(BIN)/python -m tests.chaos.run --seed 11 --stack embedded --jobs 2000 --kills 50 --report $(CHAOS)/random.jsonl
	$(BIN)/python -m tests.chaos.windows --times 20 --report $(CHAOS)/windows.jsonl
	$(BIN)/python -m tests.chaos.windows --times 2 --action stop:8 --report $(CHAOS)/windows.jsonl
	$(BIN)/python -m tests.chaos.faults --times 3 --report $(CHAOS)/faults.json
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

train: .venv/dev  ## Train the example models again
	$(BIN)/python -m models_store.train breast_cancer/1 wine/1

lock: .venv/dev  ## Pin what pyproject.toml asks for
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --extra cpu -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --extra gpu -c requirements.txt -o requirements-gpu.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --extra cpu --group dev -c requirements.txt -o requirements-dev.txt

secrets:  ## Make the secrets that compose.yaml needs
	$(PYTHON) deploy/make_secrets.py

clean:  ## Forget what ran here (jobs of the embedded system too)
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
