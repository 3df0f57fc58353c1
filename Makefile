# Needs Python 3.11 or newer and make; everything else is put below this folder.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo up down status test check conformance mutants bench clean

export UV_CACHE_DIR := $(CURDIR)/.uv/cache
export UV_PYTHON := $(CURDIR)/.uv/bin/python
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV

RUN := .venv/bin/python -m
READY := .venv/.synced
CANDIDATES := $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(READY) ## show the main job from events to closed books; USAGE=FILE (or several) brings your own usage
	$(RUN) infra.demo $(if $(USAGE),--usage $(USAGE))

up: $(READY) ## start the local stack and leave it running
	@$(RUN) infra.stack up

down: $(READY) ## stop the local stack
	@$(RUN) infra.stack down

status: $(READY) ## show the parts of the local stack
	@$(RUN) infra.stack status

test: $(READY) ## run the fast tests, and the slow ones beside them; TESTS=PATH narrows both
	@$(RUN) tests $(TESTS)

check: $(READY) ## lint, format, types and the direction of imports
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

conformance: $(READY) ## put other systems' cases to the engine; CASES=DIR runs others, REPORT=FILE writes JSON
	@$(RUN) tests.conformance $(if $(CASES),--cases $(CASES)) $(if $(REPORT),--report $(REPORT)) \
	  $(if $(DOCUMENT),--document $(DOCUMENT))

mutants: $(READY) ## break pricing line by line, and list what no test notices; ONLY=pricing.tiers* narrows
	.venv/bin/mutmut run $(if $(ONLY),"$(ONLY)")
	.venv/bin/mutmut results

bench: $(READY) ## measure the speed promises, into build/bench.json; ONLY=intake,hot takes parts, QUICK=1 less of each
	$(RUN) tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

clean: ## stop the local stack; remove its data and all that was built here
	@if test -x .venv/bin/python; then METERBOOK_HOME= $(RUN) infra.stack down; fi
	rm -rf .venv .uv .meterbook build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants

$(READY): pyproject.toml uv.lock | .uv/bin/uv
	@mkdir -p .uv/temporary
	TMPDIR=$(CURDIR)/.uv/temporary .uv/bin/uv sync --frozen
	@touch $@

.uv/bin/uv:
	@for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if test -z "$$python"; then \
	  echo "Meterbook needs Python 3.11 or newer with its venv module (on Debian: python3-venv);" \
	    "none of $(CANDIDATES) is one: install it, or say make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "building .uv with $$python"; \
	"$$python" -m venv --clear .uv && \
	.uv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check uv
