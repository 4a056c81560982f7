# The commands of this project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

INVENTORY ?= inventories/single
MITOGEN ?= 1
PYTHON ?= python3

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_HOME := $(CURDIR)/.ansible
export ANSIBLE_LOCALHOST_WARNING := false
export ANSIBLE_INVENTORY_UNPARSED_WARNING := false
export ANSIBLE_CALLBACK_RESULT_FORMAT := yaml
export ANSIBLE_DISPLAY_SKIPPED_HOSTS := false
export ANSIBLE_HOST_PATTERN_MISMATCH := error
export ANSIBLE_PIPELINING := true
export ANSIBLE_NOCOWS := true
export MOLECULE_GLOB := molecule/*/molecule.yml
export PYTHONDONTWRITEBYTECODE := 1
# Mitogen makes a run five to twelve times faster; the collection does not need it (MITOGEN=0 goes without).
ifeq ($(MITOGEN),1)
export ANSIBLE_STRATEGY := mitogen_linear
export ANSIBLE_STRATEGY_PLUGINS = $(wildcard $(CURDIR)/.venv/lib/python3*/site-packages/ansible_mitogen/plugins/strategy)
export ANSIBLE_DEPRECATION_WARNINGS := false
endif

# $(call step,what it does,command): says it, runs it, says how long it took.
define step
@printf '\n==> %s\n' "$(1)"; begun=$$(date +%s%N); \
$(2) || { code=$$?; printf '==> FAILED: %s (exit code %s)\n' "$(1)" "$$code"; exit $$code; }; \
printf '==> done in %s s: %s\n' "$$(( ($$(date +%s%N) - begun) / 100000000 ))" "$(1)" | sed -E 's/in ([0-9]*)([0-9]) s/in \1.\2 s/; s/in \./in 0./'
endef

##@ Use
.PHONY: up
up: venv ## Make a verified audit database: hosts if the inventory has throwaway ones, site.yml, health.yml
	$(call step,Container engine,ansible-playbook -i $(INVENTORY) molecule/shared/engine.yml)
	$(call step,Throwaway hosts,ansible-playbook -i $(INVENTORY) molecule/shared/create.yml)
	$(call step,PostgreSQL and the audit database: playbooks/site.yml,ansible-playbook -i $(INVENTORY) playbooks/site.yml)
	@ansible-playbook -i $(INVENTORY) molecule/shared/summary.yml

.PHONY: health
health: venv ## Check, read-only, that everything is as declared
	ansible-playbook -i $(INVENTORY) playbooks/health.yml

.PHONY: down
down: venv ## Remove the throwaway hosts of the inventory and what was made for them
	$(call step,Remove the throwaway hosts,ansible-playbook -i $(INVENTORY) molecule/shared/destroy.yml)

.PHONY: psql
psql: venv ## Open the database
	@tests/throwaway_psql $(INVENTORY)

.PHONY: query
query: venv ## Print bare values, tab-separated: make query SQL="select 1"
	@tests/throwaway_psql $(INVENTORY) "$$SQL"

##@ Develop
