# The commands of this project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

INVENTORY ?= inventories/single
MITOGEN ?= 1
# Scenarios at once: they wait more than they work.
JOBS ?= 2
PYTHON ?= python3

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_HOME := $(CURDIR)/.ansible
# molecule writes an ansible.cfg of its own; these hold for it too.
export ANSIBLE_HOST_PATTERN_MISMATCH := error
export ANSIBLE_PIPELINING := true
export MOLECULE_GLOB := molecule/*/molecule.yml
export PYTHONDONTWRITEBYTECODE := 1
# Only the collections that this one depends on: with Mitogen, each task looks through all that can be found.
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.venv/collections
export ANSIBLE_COLLECTIONS_SCAN_SYS_PATH := false
# As it was typed: make would read a dollar sign in it.
export STATEMENT := $(value SQL)

# Scenarios of test-long: what is theirs alone is little, or takes minutes. Without Mitogen runs ssh, too; default has the database and
# its schema, commands have a standby and a backup host, cluster has a pool and a balancer.
LONG := audit_database audit_schema cluster_debian12 etcd failover_drill haproxy major_upgrade operate patroni pgbouncer pgpool plain \
	postgresql_backup_cluster postgresql_backup_host postgresql_backup_pgbackrest postgresql_backup_pgbackrest_host \
	postgresql_restore_logical postgresql_standby
SCENARIOS := $(filter-out $(LONG),$(sort $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml))))
PACKAGE := ansible_collections.auditdb.postgresql
PLAY = ansible-playbook -i $(INVENTORY)
# Mitogen makes a run five to twelve times faster; the collection does not need it (MITOGEN=0 goes without).
ifeq ($(MITOGEN),1)
export ANSIBLE_STRATEGY := mitogen_unpinned
export ANSIBLE_STRATEGY_PLUGINS := $(CURDIR)/molecule/shared/strategy
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
up: .venv/.installed ## Make a verified audit database: throwaway hosts, playbooks/site.yml, playbooks/health.yml
	$(call step,Container engine,$(PLAY) molecule/shared/engine.yml)
	$(call step,Throwaway hosts,$(PLAY) molecule/shared/create.yml)
	$(call step,Server and audit database: playbooks/site.yml,$(PLAY) playbooks/site.yml)
	@$(PLAY) molecule/shared/summary.yml

.PHONY: health
health: .venv/.installed ## Check, read-only, that everything is as declared
	$(PLAY) playbooks/health.yml

.PHONY: psql
psql: .venv/.installed ## Open the database
	@molecule/shared/psql $(INVENTORY)

.PHONY: query
query: .venv/.installed ## Print bare values, tab-separated: make query SQL="select 1"
	@molecule/shared/psql $(INVENTORY) "$$STATEMENT"

.PHONY: down
down: .venv/.installed ## Remove the throwaway hosts of the inventory and what was made for them
	$(call step,Remove the throwaway hosts,$(PLAY) molecule/shared/destroy.yml)

##@ Test
.PHONY: test
test: test-quick ## Run what each change must pass, what fails early first
	$(call step,Sanity of the collection,tests/sanity.sh)
	$(call step,Real hosts,tests/summed.sh $(MAKE) --no-print-directory --jobs $(JOBS) --output-sync=target commands $(SCENARIOS:%=scenario-%))

.PHONY: test-quick
test-quick: .venv/.developed ## Lint, unit tests and module tests
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint unit
	$(MAKE) --no-print-directory modules

.PHONY: test-long
test-long: .venv/.developed ## The long proofs; figures go to docs/proof.md
	$(call step,Container engine,$(PLAY) molecule/shared/engine.yml)
	$(call step,Base images,$(PLAY) molecule/shared/images.yml)
	$(call step,Long proofs,pytest -q -n 2 --dist loadgroup tests/long)
	$(call step,Modules against PostgreSQL 15: what is the same on 17,AUDITDB_LONG=1 pytest -q -n 2 --dist loadgroup -m newest -k pg15 tests/integration)
	$(call step,The database,molecule test -s audit_database)
	$(call step,Its schema,molecule test -s audit_schema)
	$(call step,The site on both releases: all of it,AUDITDB_LONG=1 molecule test -s default)
	$(call step,Health: each break alone,AUDITDB_LONG=1 molecule test -s audit_health)
	$(call step,Standbys: all of it,AUDITDB_LONG=1 molecule test -s postgresql_standby)
	$(call step,Backups: all of it,AUDITDB_LONG=1 molecule test -s postgresql_backup)
	$(call step,Backups by pgBackRest: all of it,AUDITDB_LONG=1 molecule test -s postgresql_backup_pgbackrest)
	$(call step,Restores: all of it,AUDITDB_LONG=1 molecule test -s postgresql_restore)
	$(call step,Restores of less than a cluster: all of it,AUDITDB_LONG=1 molecule test -s postgresql_restore_logical)
	$(call step,Restore drills: all of it,AUDITDB_LONG=1 molecule test -s restore_drill)
	$(call step,Backups by pgBackRest on a backup host,AUDITDB_LONG=1 molecule test -s postgresql_backup_pgbackrest_host)
	$(call step,Backups on a backup host: all of it,AUDITDB_LONG=1 molecule test -s postgresql_backup_host)
	$(call step,Backups of a cluster that elects its leader,AUDITDB_LONG=1 molecule test -s postgresql_backup_cluster)
	$(call step,A pool before the database,AUDITDB_LONG=1 molecule test -s pgbouncer)
	$(call step,Load balancers before two members,AUDITDB_LONG=1 molecule test -s haproxy)
	$(call step,Reads spread and cached before two servers,AUDITDB_LONG=1 molecule test -s pgpool)
	$(call step,A site on a cluster: all of it,AUDITDB_LONG=1 molecule test -s cluster)
	$(call step,A site on a cluster of Debian 12: all of it,AUDITDB_LONG=1 molecule test -s cluster_debian12)
	$(call step,etcd: three members,AUDITDB_LONG=1 molecule test -s etcd)
	$(call step,Patroni: three members,AUDITDB_LONG=1 molecule test -s patroni)
	$(call step,Failover drills: all faults,AUDITDB_LONG=1 molecule test -s failover_drill)
	$(call step,Operating a cluster: updates and members that come and go,AUDITDB_LONG=1 molecule test -s operate)
	$(call step,To another major version and back,AUDITDB_LONG=1 molecule test -s major_upgrade)
	$(call step,The site without Mitogen,molecule test -s plain)

.PHONY: lint
lint: .venv/.developed
	$(call step,Lint,ruff check . && ruff format --check . && mypy -p $(PACKAGE).plugins.module_utils -p auditdb_backup -p auditdb_drill -p auditdb_failover && env -u ANSIBLE_COLLECTIONS_SCAN_SYS_PATH ansible-lint && antsibull-changelog lint)

.PHONY: unit
unit: .venv/.developed
	$(call step,Unit tests,pytest -q -n auto tests/unit)

.PHONY: modules
modules: .venv/.developed
	$(call step,Container engine,$(PLAY) molecule/shared/engine.yml)
	$(call step,Base images,$(PLAY) molecule/shared/images.yml)
	$(call step,Modules against PostgreSQL 15 and 17,pytest -q -n 2 --dist loadgroup tests/integration)

.PHONY: commands
commands: .venv/.developed
	$(call step,The commands of the README,env -u MAKEFLAGS -u MFLAGS pytest tests/commands)

.PHONY: scenario
scenario: .venv/.developed ## Run one molecule scenario: make scenario S=default
	molecule test -s $(S)

# Each is seen as a whole once it has ended; when one fails, no other is begun.
.PHONY: $(SCENARIOS:%=scenario-%)
$(SCENARIOS:%=scenario-%): scenario-%:
	$(call step,Scenario $*,env -u MAKEFLAGS -u MFLAGS molecule test -s $*)

.PHONY: bench-partitions
bench-partitions: .venv/.developed ## Measure partitions beside pg_partman, and write docs/benchmarks.md (half an hour)
	pip install -q -r benchmarks/requirements.txt
	$(call step,Container engine,$(PLAY) molecule/shared/engine.yml)
	$(call step,Servers,pytest -q tests/integration/test_connection.py)
	env -u ANSIBLE_STRATEGY python benchmarks/partitions.py

.PHONY: bench-backups
bench-backups: .venv/.developed ## Measure backups beside a plain copy, pgBackRest and Barman, and write docs/benchmarks.md
	$(call step,Container engine,$(PLAY) molecule/shared/engine.yml)
	$(call step,Base images,$(PLAY) molecule/shared/images.yml)
	env -u ANSIBLE_STRATEGY python benchmarks/backups.py

.PHONY: bench-pooling
bench-pooling: .venv/.developed ## Measure reads through Pgpool, cached and not, and what a connection costs, and write docs/benchmarks.md
	pip install -q -r benchmarks/requirements.txt
	$(call step,Container engine,$(PLAY) molecule/shared/engine.yml)
	python benchmarks/pooling.py

.PHONY: bench-spreading
bench-spreading: .venv/.developed ## Measure reads on one, two and three members through the balancer, and write docs/benchmarks.md
	pip install -q -r benchmarks/requirements.txt
	$(call step,Container engine,$(PLAY) molecule/shared/engine.yml)
	python benchmarks/spreading.py

.PHONY: bench
bench: .venv/.developed ## Measure, side by side with a plain playbook, and write docs/benchmarks.md
	python benchmarks/compare.py

.PHONY: clean
clean: .venv/.developed ## Remove what the tests made: their hosts, servers and images
	$(call step,Remove what the tests made,$(PLAY) molecule/shared/clean.yml)

.PHONY: help
help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The virtual environment. The checkout is linked into it as a collection, so nothing is installed elsewhere.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Remedy: make PYTHON=/path/to/python3.11 up" >&2; exit 1; }
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { rm -rf .venv; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "==> Installing python3-venv"; apt-get -qq update; apt-get -qq install -y --no-install-recommends python3-venv; $(PYTHON) -m venv .venv; \
		else echo "Python cannot make a virtual environment. Remedy: install python3-venv" >&2; exit 1; fi; }

.venv/.installed: requirements.txt | .venv/bin/pip
	$(call step,Python packages of requirements.txt,pip install -q --disable-pip-version-check -r requirements.txt)
	@site=$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ansible_collections; \
	mkdir -p "$$site/auditdb"; \
	ln -sfn "$(CURDIR)" "$$site/auditdb/postgresql"; \
	for name in auditdb.postgresql ansible.posix $$(sed -n '/^dependencies:/,/^[^ d]/s/^  \([a-z.]*\):.*/\1/p' galaxy.yml); do \
		link=$(ANSIBLE_COLLECTIONS_PATH)/ansible_collections/$${name/.//}; \
		mkdir -p "$${link%/*}"; \
		ln -sfn "$$site/$${name/.//}" "$$link"; \
	done
	@touch $@

.venv/.developed: requirements-dev.txt .venv/.installed
	$(call step,Python packages of requirements-dev.txt,pip install -q --disable-pip-version-check -r requirements-dev.txt)
	@touch $@
