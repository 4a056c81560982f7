#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_migration
short_description: Apply versioned SQL, recorded in a ledger
version_added: "0.1.0"
description:
  - Brings a database to the newest, or a named, version of a directory of migrations.
  - Each migration is one transaction with its row in the ledger, so a failure leaves nothing of it but an event. One
    that cannot be in a transaction records each statement, and the next run goes on where it stopped.
  - What a migration sets in its session, or makes temporarily, ends with it.
  - An applied migration whose file was edited, or has vanished, is refused; so is one that comes out of order.
  - One run at a time; a second one waits for the first.
options:
  path:
    description:
      - Directory of the migrations on the control node; a relative one is looked for in the role's C(files) as other
        actions do.
      - C(NNNN_description.sql) applies, C(NNNN_description.down.sql) reverts and C(NNNN_description.verify.sql)
        verifies; the last two are optional.
      - "The line C(-- migrate: no-transaction) marks a migration whose statements run one by one, in no transaction."
      - A verification raises an error, or one of its statements returns a single false or null, when the migration did
        not do what it should. It runs read-only, before the migration is committed.
      - A way back is one transaction, always.
    type: path
    required: true
  format:
    description:
      - V(numbered) as described at O(path), V(drizzle) a folder of drizzle-kit with C(meta/_journal.json), or V(auto)
        to tell by the journal.
    type: str
    choices: [auto, numbered, drizzle]
    default: auto
  schema:
    description: Schema of the ledger; it must exist.
    type: str
    default: public
  table:
    description: Name of the ledger's table; the event log's is this with C(_event) added.
    type: str
    default: schema_migrations
  migrations:
    description: What the action plugin read from O(path). Not for playbooks.
    type: list
    elements: dict
  state:
    description:
      - V(present) applies what is pending, up to O(target) if that is given; it never goes back.
      - V(reverted) runs the ways back, newest first, until O(target) is the newest that is left.
      - V(baselined) records what is pending as applied without running it, for a database that has it already.
      - V(repaired) aligns the ledger's checksums and names with files that were edited without altering what they do,
        and makes a half applied migration start from its first statement, after somebody undid by hand what it did.
    type: str
    choices: [present, reverted, baselined, repaired]
    default: present
  target:
    description: Version to go to. Required by O(state=reverted), where V(0) means before the first one.
    type: str
  out_of_order:
    description: Whether a migration older than the newest applied one may be applied.
    type: bool
    default: false
  lock_timeout:
    description: How long a statement may wait for a lock, as PostgreSQL writes durations; a bare number means ms.
    type: str
    default: 2s
  lock_attempts:
    description: How often a migration that lost a lock is tried, with growing, jittered pauses.
    type: int
    default: 10
  statement_timeout:
    description: How long a statement may take, written like O(lock_timeout); V(0) is no limit.
    type: str
    default: "0"
  wait:
    description: Seconds to wait for another run to end.
    type: float
    default: 60
  search_path:
    description: Schemas in which unqualified names are looked for. The role's own search path when not given.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
requirements:
  - tenacity (Debian package C(python3-tenacity))
  - pglast on the control node
notes:
  - A standby is refused.
seealso:
  - module: auditdb.postgresql.postgresql_migration_info
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Apply what is pending
  auditdb.postgresql.postgresql_migration:
    login_db: audit_db
    path: migrations
    schema: audit
    session_role: audit_owner

- name: Go back to version 4
  auditdb.postgresql.postgresql_migration:
    login_db: audit_db
    path: migrations
    schema: audit
    state: reverted
    target: "0004"

- name: Record the history of a Drizzle application that is in the database already
  auditdb.postgresql.postgresql_migration:
    login_db: audit_db
    path: drizzle/migrations
    table: drizzle_migrations
    state: baselined
"""

RETURN = r"""
pending:
  description: Versions that were to be applied; in check mode those that would be.
  returned: O(state=present)
  type: list
  elements: str
applied:
  description: Versions applied by this run, also when a later one failed.
  returned: always
  type: list
  elements: str
reverted:
  description: Versions reverted by this run, also when a later one failed.
  returned: always
  type: list
  elements: str
baselined:
  description: Versions baselined by this run.
  returned: success
  type: list
  elements: str
repaired:
  description: Versions repaired by this run.
  returned: success
  type: list
  elements: str
version:
  description: Newest version that is in force afterwards; null when none is.
  returned: success
  type: str
queries:
  description: SQL of the migrations that ran, or in check mode would run; of a half applied one what was left.
  returned: success
  type: list
  elements: str
executed_queries:
  description: Every changing statement that was executed, those on the ledger included.
  returned: always
  type: list
  elements: str
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
    sql_diff,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_ledger import Ledger
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_plan import (
    IN_FORCE,
    Entry,
    File,
    compare,
    number,
    plan_baselined,
    plan_present,
    plan_repaired,
    plan_reverted,
    remaining,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_run import Limits, Runner
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_steps import Steps

DURATION = re.compile(r"[0-9]+(\.[0-9]+)?\s*(us|ms|s|min|h|d)?")


def refuse_bad_options(options: dict[str, Any]) -> None:
    """Raise where an option is no version, no duration or no number of attempts."""
    if options["target"] and not re.fullmatch("[0-9]+", options["target"]):
        raise PostgresqlError(f"target: '{options['target']}' is not a version", remedy="give digits, e.g. 0004")
    for name in ("lock_timeout", "statement_timeout"):
        if not DURATION.fullmatch(options[name].strip()):
            raise PostgresqlError(
                f"{name}: '{options[name]}' is not a duration",
                remedy="give milliseconds, or a number with us, ms, s, min, h or d",
            )
    if options["lock_attempts"] < 1:
        raise PostgresqlError(f"lock_attempts: {options['lock_attempts']} is too few", remedy="give 1 or more")


def plan(options: dict[str, Any], files: list[File], entries: list[Entry]) -> list[Any]:
    """Return what the wanted state calls for."""
    state, target = options["state"], options["target"]
    if state == "present":
        return list(plan_present(files, entries, target, out_of_order=options["out_of_order"]))
    if state == "reverted":
        return list(plan_reverted(files, entries, target))
    if state == "baselined":
        return list(plan_baselined(files, entries, target))
    return list(plan_repaired(files, entries, target))


def half_applied(entries: list[Entry]) -> dict[int, Entry]:
    """Return the entries of migrations that stopped half-way, by version."""
    return {number(entry.version): entry for entry in entries if entry.state == "failed"}


def apply(runner: Runner, state: str, planned: list[Any], entries: list[Entry]) -> None:
    """Carry the plan out; a failure says what was done before it."""
    done: list[str] = []
    stopped = half_applied(entries)
    try:
        if state == "baselined":
            runner.baseline(planned)
        elif state == "repaired":
            runner.repair(planned)
        else:
            for file in planned:
                if state == "reverted":
                    runner.revert(file)
                elif file.transactional:
                    runner.apply(file)
                else:
                    Steps(runner, file, stopped.get(number(file.version))).apply()
                done.append(file.version)
    except PostgresqlError as error:
        if state in ("present", "reverted"):
            error.details["applied" if state == "present" else "reverted"] = done
        raise


def texts(state: str, planned: list[Any], entries: list[Entry]) -> list[str]:
    """Return the SQL that the plan runs."""
    if state == "present":
        stopped = half_applied(entries)
        return [remaining(file, stopped.get(number(file.version))) for file in planned]
    return [file.down or "" for file in planned] if state == "reverted" else []


def diff(state: str, planned: list[Any], queries: list[str], ledger: str) -> dict[str, str]:
    """Return the SQL of the plan, or the change of the ledger where no SQL runs."""
    if state in ("present", "reverted"):
        return sql_diff(queries, f"migrations of {ledger}")
    before = after = ""
    for item in planned:
        file, entry = item if state == "repaired" else (item, None)
        if entry is not None:
            before += f"{entry.version} {entry.name} {entry.checksum} {entry.state}\n"
            kept = entry.state if entry.state in IN_FORCE else "reverted"
            after += f"{entry.version} {(file or entry).name} {(file or entry).checksum} {kept}\n"
        else:
            after += f"{file.version} {file.name} {file.checksum} baselined\n"
    return {"before_header": ledger, "after_header": ledger, "before": before, "after": after}


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    state = options["state"]
    refuse_bad_options(options)
    files = [File.of(values) for values in options["migrations"] or []]
    if not files:
        raise PostgresqlError("path: no migration was found", remedy="name a directory that holds NNNN_description.sql")
    if session.in_recovery():
        raise PostgresqlError("this server is a standby", sqlstate="25006")
    ledger = Ledger(session, options["schema"], options["table"])
    entries = ledger.read()
    planned = plan(options, files, entries)
    queries = texts(state, planned, entries)
    if planned and not module.check_mode:
        with ledger.lock(options["wait"]):
            ledger.create()
            entries = ledger.read()  # what another run did while this one waited
            planned = plan(options, files, entries)
            queries = texts(state, planned, entries)
            limits = Limits(
                options["lock_timeout"],
                options["lock_attempts"],
                options["statement_timeout"],
                options["search_path"],
                options["session_role"],
            )
            apply(Runner(session, ledger, limits), state, planned, entries)
            entries = ledger.read()
    versions = [(item[1] if state == "repaired" else item).version for item in planned]
    done = {"present": "applied"}.get(state, state)
    result: dict[str, Any] = {name: [] for name in ("applied", "reverted", "baselined", "repaired")}
    if not module.check_mode:
        result[done] = versions
    return {
        **result,
        "changed": bool(planned),
        "pending": versions if state == "present" else [],
        "version": compare(files, entries).current,
        "queries": queries,
        "executed_queries": session.executed,
        "diff": diff(state, planned, queries, ledger.name),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "path": {"type": "path", "required": True},
            "format": {"type": "str", "choices": ["auto", "numbered", "drizzle"], "default": "auto"},
            "schema": {"type": "str", "default": "public"},
            "table": {"type": "str", "default": "schema_migrations"},
            "migrations": {"type": "list", "elements": "dict"},
            "state": {
                "type": "str",
                "choices": ["present", "reverted", "baselined", "repaired"],
                "default": "present",
            },
            "target": {"type": "str"},
            "out_of_order": {"type": "bool", "default": False},
            "lock_timeout": {"type": "str", "default": "2s"},
            "lock_attempts": {"type": "int", "default": 10},
            "statement_timeout": {"type": "str", "default": "0"},
            "wait": {"type": "float", "default": 60},
            "search_path": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "reverted", ["target"])],
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
