#!/usr/bin/python
# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_journal
short_description: Load this host's systemd journal and dpkg log into audit_log
version_added: "0.1.0"
description:
  - Turns every entry of the systemd journal and every line of the dpkg log of the host it runs on into an audit
    event, and inserts the events in batches.
  - Each batch and the cursor after it are one transaction. So a load that is killed loses nothing and doubles
    nothing, and loading again adds only what is new. The dpkg cursor survives rotation and compression of the log.
  - Ansible, C(su) and C(sudo) write their own calls into the journal of the host, this module's too. They are real
    events, so that the next load always finds them; with the same O(until) it finds nothing.
  - Reading the whole journal needs root, unless O(journal_directory) names another one.
  - B(Time). An entry's own trusted time (C(_SOURCE_REALTIME_TIMESTAMP)), else the time the journal received it. The
    dpkg log holds local time in the host's zone. Both are stored in UTC, to the microsecond.
  - B(Status) of a journal entry. If it reports the job of a unit, C(JOB_RESULT) V(done) or V(skipped) is V(success),
    another result is V(failure), and none yet is V(attempt). Otherwise C(PRIORITY) 0 (emerg) to 3 (err) is
    V(failure), 4 (warning) to 7 (debug) is V(success), and an entry without priority is an V(attempt).
  - B(Status) of a dpkg line. dpkg logs what it begins (V(attempt)) and each state that it reaches. The states
    C(installed), C(config-files) and C(not-installed), and a decision on a configuration file, are V(success), all
    others V(attempt). dpkg logs no failures. A package whose last line is an attempt did not get through.
  - B(Names). C(principal_id) is the user, as C(uid:N) where this host does not know its name. C(action) is
    C(journal.IDENTIFIER) or C(dpkg.VERB). The target is the unit, device or host that the entry is about, or the
    package or file. C(correlation_id) is the unit's invocation or the boot.
  - Nothing is cut silently. A name longer than its column ends in V(…), and is whole in C(details.shortened).
    C(details) holds all fields; text with NUL bytes, which PostgreSQL cannot store, stands there as a list of bytes.
    The message in C(outcome_description) is complete, without NUL.
  - B(Hash). C(hash) is the SHA-256, in hexadecimal, of the canonical JSON text, in UTF-8, of an object with the keys
    C(timestamp) (C(YYYY-MM-DDTHH:MM:SS.ffffffZ)), C(principal_id), C(action), C(target_resource_type),
    C(target_resource_id), C(status), C(outcome_description), C(hash_algorithm), C(event_version), C(correlation_id),
    C(data_classification), C(retention_policy) and C(details). Canonical is what PostgreSQL prints for the same
    C(jsonb) value, so that the examples' query verifies any number of rows where they are.
options:
  sources:
    description: What to load, in this order.
    type: list
    elements: str
    choices: [journal, dpkg]
    default: [journal, dpkg]
  host:
    description:
      - Name under which this host's cursors and events are kept. Two hosts must not share one.
      - The default is the machine's own host name.
    type: str
  table:
    description: The table of the events, as C(schema.table).
    type: str
    default: audit.audit_log
  cursor_table:
    description: The table of the cursors, as C(schema.table).
    type: str
    default: audit.ingest_cursor
  batch_size:
    description: Events in a transaction.
    type: int
    default: 1000
  until:
    description:
      - Load nothing newer than this time, in ISO 8601. A time without a zone is UTC.
      - The default loads up to the present.
    type: str
  journal_directory:
    description:
      - Directory of another journal than the host's own, such as one that was copied from a lost machine.
      - Users are then given as C(uid:N), since this host's names need not be that machine's.
    type: path
  dpkg_log:
    description: The dpkg log. Its rotated files C(.1), C(.2.gz) and so on are read too. A missing log has no lines.
    type: path
    default: /var/log/dpkg.log
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
    details: Reads everything that is new, and reports how many events there are and from when to when.
  diff_mode:
    support: full
    details: Shows the cursors before and after.
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Load the host's journal and dpkg log
  auditdb.postgresql.audit_journal:
    host: "{{ inventory_hostname }}"
    login_host: localhost
    login_db: audit_db
    login_user: audit_writer
    login_password: "{{ audit_passwords['audit_writer'] }}"
    ssl_mode: require
  become: true

- name: Count the events whose hash is not that of their row
  community.postgresql.postgresql_query:
    login_db: audit_db
    query: |
      SELECT count(*) FROM audit.audit_log
      WHERE hash <> encode(sha256(convert_to(jsonb_build_object(
        'timestamp', to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'principal_id', principal_id, 'action', action,
        'target_resource_type', target_resource_type, 'target_resource_id', target_resource_id,
        'status', status, 'outcome_description', outcome_description,
        'hash_algorithm', hash_algorithm, 'event_version', event_version, 'correlation_id', correlation_id,
        'data_classification', data_classification, 'retention_policy', retention_policy,
        'details', details)::text, 'UTF8')), 'hex')
"""

RETURN = r"""
loaded:
  description: How many events of each source were loaded, or would be in check mode.
  returned: success
  type: dict
  sample: {journal: 412, dpkg: 5120}
oldest:
  description: Time of the oldest of them, in UTC; null if there are none.
  returned: success
  type: str
  sample: "2026-11-23T03:58:00.123456Z"
newest:
  description: Time of the newest of them, in UTC; null if there are none.
  returned: success
  type: str
  sample: "2026-11-23T04:11:09.000000Z"
cursors:
  description: The cursor of each source after the load; null for a source that never had an event.
  returned: success
  type: dict
  sample: {journal: "s=bcf5;i=49", dpkg: '{"9f86d0": 344304}'}
seconds:
  description: How long it took, in seconds.
  returned: success
  type: float
  sample: 0.91
rows_per_second:
  description: Events by second.
  returned: success
  type: int
  sample: 6079
executed_queries:
  description: The statements, a pair for each batch, with the number of rows in place of values. Empty in check mode.
  returned: always
  type: list
  elements: str
"""

import os
import platform
import pwd
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils import journal_dpkg, journal_systemd
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_event import Event, utc_text
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_store import Span, Store, batches

ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "sources": {"type": "list", "elements": "str", "choices": ["journal", "dpkg"], "default": ["journal", "dpkg"]},
    "host": {"type": "str"},
    "table": {"type": "str", "default": "audit.audit_log"},
    "cursor_table": {"type": "str", "default": "audit.ingest_cursor"},
    "batch_size": {"type": "int", "default": 1000},
    "until": {"type": "str"},
    "journal_directory": {"type": "path"},
    "dpkg_log": {"type": "path", "default": "/var/log/dpkg.log"},
}


def until_time(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        until = datetime.fromisoformat(value)
    except ValueError as error:
        raise PostgresqlError(
            f"until: {value!r} is not a time", remedy="write it as in 2026-11-23T04:00:00+00:00"
        ) from error
    return until if until.tzinfo else until.replace(tzinfo=UTC)


def check_options(options: dict[str, Any]) -> None:
    if options["batch_size"] < 1:
        raise PostgresqlError(f"batch_size: {options['batch_size']} is below 1", remedy="set it to e.g. 1000")
    directory = options["journal_directory"]
    if "journal" in options["sources"]:
        if directory and not Path(directory).is_dir():
            raise PostgresqlError(f"journal_directory: {directory} is not a directory", remedy="name an existing one")
        if not directory and os.geteuid() != 0:
            # journalctl would show a part of the journal and call that success.
            raise PostgresqlError("only root reads the whole journal", remedy="set become: true")


def read_source(
    module: AnsibleModule, source: str, host: str, cursor: str | None, until: datetime | None
) -> Iterator[tuple[Event, str]]:
    if source == "journal":
        directory = module.params["journal_directory"]
        users = {} if directory else {entry.pw_uid: entry.pw_name for entry in pwd.getpwall()}
        return journal_systemd.read_journal(host, cursor, until=until, directory=directory, users=users)
    log = Path(module.params["dpkg_log"])
    for name in journal_dpkg.shrunken(log, cursor):
        module.warn(f"{name} is shorter than what was loaded of it before: somebody cut it")
    return journal_dpkg.read_log(log, host, cursor, until=until)


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    options = module.params
    check_options(options)
    until = until_time(options["until"])
    host = options["host"] or platform.node()
    started = time.monotonic()
    total, loaded, before, after = Span(), {}, {}, {}
    for source in dict.fromkeys(options["sources"]):
        store = Store(session, options["table"], options["cursor_table"], source, host)
        cursor = before[source] = store.cursor()
        loaded[source] = 0
        for batch in batches(read_source(module, source, host, cursor, until), options["batch_size"]):
            if not module.check_mode:
                store.load(batch, cursor)
            total.add(batch)
            loaded[source] += len(batch)
            cursor = batch[-1][1]
        after[source] = cursor
    seconds = time.monotonic() - started
    return {
        "changed": total.count > 0,
        "loaded": loaded,
        "oldest": total.oldest and utc_text(total.oldest),
        "newest": total.newest and utc_text(total.newest),
        "cursors": after,
        "seconds": round(seconds, 3),
        "rows_per_second": round(total.count / seconds),
        "executed_queries": session.executed,
        "diff": {"before": {"cursors": before}, "after": {"cursors": after}},
    }


def main() -> None:
    run_module(AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
