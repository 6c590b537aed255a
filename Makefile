# SPDX-License-Identifier: GPL-3.0-or-later
# From a fresh machine: `make demo` shows it at work, `make test` checks it, `make` lists everything.

# The interpreter that .venv is made with, e.g. `make test PYTHON=/path/to/python3.13`.
PYTHON ?= python3

VENV := $(CURDIR)/.venv
RUN := PATH="$(VENV)/bin:$$PATH"

# Named after the interpreter: another one, just like a newer lock, means a new environment.
READY := $(VENV)/ready-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())')

# YAML in this directory that is no playbook.
NO_PLAYBOOKS := requirements.yml execution-environment.yml ansible-navigator.yml

# The environment that up, down, backup, restore, drill and smoke are about, e.g. `make backup ENV=production`.
ENV := staging

# What `restore` needs: the name of the database, as a confirmation. And what it takes, by default the newest set that counts:
# `make restore CONFIRM=cm BACKUP=20261122T143000Z_v4`, `make restore CONFIRM=cm ACTION=undo`.
CONFIRM :=
BACKUP :=
ACTION :=

.PHONY: help setup demo up down prod backup restore drill smoke test lint molecule bench lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with exactly what requirements.lock names

# Debian leaves ensurepip out unless python3-venv is installed; a pip of the interpreter's own does as well.
# uv does not read pip's settings, so a mirror that is set there is handed on.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("$(PYTHON) is too old: Python 3.11 or newer is needed. Name one with make PYTHON=/path/to/python3.")'
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv --clear --without-pip "$(VENV)"
	@awk '/^[^ ]/ { uv = /^uv==/ } uv' requirements.lock > "$(VENV)/uv.txt"
	@if "$(VENV)/bin/python" -m ensurepip > /dev/null 2>&1; then pip="$(VENV)/bin/python -m pip"; \
	elif $(PYTHON) -m pip --version > /dev/null 2>&1; then pip="$(PYTHON) -m pip --python $(VENV)/bin/python"; \
	else echo "$(PYTHON) has neither ensurepip nor pip: install the package python3-venv, then run make again." >&2; exit 1; fi; \
	$$pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$(VENV)/uv.txt" && \
	UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($$pip config get global.index-url 2> /dev/null)}}" \
	"$(VENV)/bin/uv" pip sync --quiet --system-certs --python "$(VENV)/bin/python" --require-hashes requirements.lock
	@touch "$@"

demo: setup ## Bring staging from nothing to the newest schema, and show that a second run changes nothing
	@echo "== 1/4  Back up staging as it is; its embedded server is started first."
	@$(RUN) ansible-playbook backup.yml -l staging
	@echo "== 2/4  Migrate staging: plan, lint, apply, validate."
	@$(RUN) ansible-playbook migrate.yml -l staging
	@echo "== 3/4  What staging and production have now; the server of production is started, too."
	@$(RUN) ansible-playbook status.yml
	@echo "== 4/4  Migrate staging once more: nothing changes."
	@$(RUN) ansible-playbook migrate.yml -l staging

up: setup ## Start the server of staging, or of ENV=production
	@$(RUN) ansible-playbook up.yml -l $(ENV)

down: setup ## Stop the server of staging, or of ENV=production; its data stay
	@$(RUN) ansible-playbook down.yml -l $(ENV)

prod: setup ## Deploy to production: start its server where that is ours, and migrate
	@$(RUN) ansible-playbook up.yml migrate.yml -l production

backup: setup ## Take a backup of staging, or of ENV=production
	@$(RUN) ansible-playbook backup.yml -l $(ENV)

restore: setup ## Put a backup in the place of the database that CONFIRM=cm names; BACKUP=NAME, ACTION=undo
	@$(RUN) ansible-playbook restore.yml -l $(ENV) $(if $(CONFIRM),-e restore_confirm='$(CONFIRM)') \
		$(if $(BACKUP),-e restore_backup='$(BACKUP)') $(if $(ACTION),-e restore_action='$(ACTION)')

drill: setup ## Prove the newest backup of staging, or of ENV=production, by restoring it elsewhere
	@$(RUN) ansible-playbook drill.yml -l $(ENV)

smoke: setup ## See that what hangs on the database of staging, or of ENV=production, works
	@$(RUN) ansible-playbook smoke.yml -l $(ENV)

test: lint ## Check everything: lint, unit and integration tests, and the scenarios that this machine can run
	@status=0; \
	$(RUN) pytest -n auto --dist loadgroup || status=1; \
	$(RUN) python tests/scenarios.py || status=1; \
	exit $$status

lint: setup ## Check style, types, playbooks, the modules' documentation and the migrations
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) ansible-lint
	$(RUN) ansible-playbook --syntax-check $(filter-out $(NO_PLAYBOOKS),$(wildcard *.yml))
	$(RUN) ansible-doc --type module $(basename $(notdir $(wildcard library/*.py))) > /dev/null
	$(RUN) ansible-playbook lint.yml

molecule: setup ## Run the scenarios on hosts, or those that SCENARIOS="default story" names
	@$(RUN) python tests/scenarios.py $(SCENARIOS)

bench: setup ## Measure speed and memory, as ratios taken in the same run
	$(RUN) python tests/benchmarks/run.py

lock: setup ## Bring requirements.lock up to date
	UV_CUSTOM_COMPILE_COMMAND="make lock" "$(VENV)/bin/uv" pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 \
		--generate-hashes --group dev --output-file requirements.lock pyproject.toml

# A server of root's may live outside this directory, so the module that knows where has to remove it.
clean: ## Remove the embedded servers with their data, the run records, .venv and the caches; backups stay
	@if "$(VENV)/bin/ansible" --version > /dev/null 2>&1; then $(RUN) ansible all -m embedded_server \
		-a "home='$(CURDIR)/.embedded/{{ inventory_hostname }}' state=absent" \
		-e ansible_connection=local -e "ansible_python_interpreter='$(VENV)/bin/python'"; \
	elif [ -e .embedded ]; then \
		echo "There are embedded servers in .embedded, and .venv, which is needed to stop them, does not work: run make setup first." >&2; exit 1; fi
	@rm -rf .venv .embedded .runs .ansible .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
