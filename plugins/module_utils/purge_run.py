# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take expired rows out of partitions: into tables aside, and from there into archives."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import Session, with_lock_retries
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_catalog import Table, read_tables
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_history import record
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_look import look_for_departures
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_plan import Partition
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_run import (
    end_departures,
    ends,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import seal
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_look import Found, Purge, read_referring
from ansible_collections.auditdb.postgresql.plugins.module_utils.purge_statements import (
    Columns,
    create,
    expired,
    move,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_store import add_seal, newest_seals
from ansible_collections.auditdb.postgresql.plugins.module_utils.seal_verify import verify

with contextlib.suppress(ImportError):  # run_module reports it
    from psycopg2 import sql


def begin(found: Found, each: Purge, options: Mapping[str, Any]) -> list[Any]:
    """Return the statements of the transaction in which rows begin to leave: the trace, and tables for them."""
    part = each.expiry.partition
    gone = [Partition(each.aside.name, part.lower, part.upper, schema=part.schema)]
    labels = [found.table.label]
    for other, name in each.aside.referring:
        gone.append(Partition(name, part.lower, part.upper, schema=part.schema))
        labels.append(f"{other.schema}.{other.name}")
    traces = [
        record(label, one, each.action, options["history"], part_of=part.name)
        for label, one in zip(labels, gone, strict=True)
    ]
    return [*([] if each.expiry.delete else create(found.table, part, each.aside)), *traces]


def batch(found: Found, each: Purge, options: Mapping[str, Any]) -> Any:
    """Return the statement that is run until it finds no more rows."""
    columns = Columns(options["policy_column"], options["classification_column"])
    condition = expired(found.table, each.expiry, columns, options["holds"])
    return move(found.table, each.expiry, each.aside, condition, options["batch_rows"])


def statements(session: Session, found: Found, options: Mapping[str, Any]) -> list[str]:
    """Return the SQL of all that is to be done; a batch is shown once."""
    texts = []
    for each in found.purges:
        texts += [session.render(text) for text in begin(found, each, options)]
        texts.append(session.render(batch(found, each, options)))
    return texts


def carry_out(session: Session, found: Found, options: Mapping[str, Any]) -> None:
    """Take the rows out, and seal again what was sealed. Raise in the end where a sealed partition had changed."""
    changed = []
    by_partition: dict[str, list[Purge]] = {}
    for each in found.purges:
        by_partition.setdefault(each.expiry.partition.name, []).append(each)
    for name, purges in by_partition.items():
        part = purges[0].expiry.partition
        if part not in found.unsealed and _has_changed(session, found.table, part, options):
            changed.append(name)
            continue
        for each in purges:
            _take_out(session, found, each, options)
        _seal_again(session, found.table, part, options)
    for part in found.unsealed:
        if part.name not in by_partition:
            _seal_again(session, found.table, part, options)
    if changed:
        raise PostgresqlError(
            f"rows of {', '.join(changed)} are not what was sealed, so nothing was taken out of there",
            remedy="find what changed with postgresql_partition_seal, state verified",
            partitions=changed,
        )


def _take_out(session: Session, found: Found, each: Purge, options: Mapping[str, Any]) -> None:
    def together(texts: Sequence[Any]) -> int:
        rows = 0
        with session.transaction():
            session.query("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (options["lock_timeout"],))
            session.query("SET LOCAL row_security = off")  # rows that a policy hides would stay, silently
            for text in texts:
                rows = session.execute(text)
        return rows

    with_lock_retries(lambda: together(begin(found, each, options)), attempts=options["lock_attempts"])
    texts = [batch(found, each, options)]
    told = len(session.executed)
    while with_lock_retries(lambda: together(texts), attempts=options["lock_attempts"]):
        del session.executed[told + 1 :]
    del session.executed[told + 1 :]


def archive_taken(session: Session, table: Table, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Archive what was taken out of the table and of those that refer to it, where there is a directory for it."""
    return [
        archive for each in _archivable(session, table, options) for archive in end_departures(session, options, each)
    ]


def waiting(session: Session, table: Table, options: Mapping[str, Any]) -> list[str]:
    """Return what is to be done with what earlier runs took out."""
    texts = []
    for each in _archivable(session, table, options):
        texts += ends(session, options, *look_for_departures(session, options, each))
    return texts


def _archivable(session: Session, table: Table, options: Mapping[str, Any]) -> list[Table]:
    if not options["archive_directory"] or table.standby:
        return []
    others = [(each.schema, each.name) for each in read_referring(session, table)]
    names = [sql.Identifier(*name).as_string(session.connection) for name in others]
    # What is not partitioned by time cannot be archived, and stays in its table aside.
    return [table, *(each for each in (read_tables(session, names) if names else []) if isinstance(each, Table))]


def _has_changed(session: Session, table: Table, part: Partition, options: Mapping[str, Any]) -> bool:
    kept = newest_seals(session, table, options["seals"]).get((part.lower, part.upper)) if options["seals"] else None
    return kept is not None and verify(session, part, kept.seal).status == "changed"


def _seal_again(session: Session, table: Table, part: Partition, options: Mapping[str, Any]) -> None:
    kept = newest_seals(session, table, options["seals"]).get((part.lower, part.upper)) if options["seals"] else None
    if kept:
        new = seal(session, (part.schema, part.name), kept.seal.options)
        add_seal(session, table, part, new, (options["seals"], kept.number))
