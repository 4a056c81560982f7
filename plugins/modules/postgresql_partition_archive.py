#!/usr/bin/python

# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition_archive
short_description: Archive a table or partition with a seal, read it back, restore it
version_added: "0.1.0"
description:
  - Writes the rows of a table, such as a closed or detached partition, into a compressed file with a manifest, reads
    that back into the server, and compares.
  - A seal, a SHA-256 over the ordered rows and over each range of them, is the same on every supported version of
    PostgreSQL, so that a changed row is found later, and the range it lies in is named.
  - A killed run leaves a complete archive or none. An archive that holds other rows is never overwritten.
  - Nothing is ever dropped.
options:
  table:
    description:
      - The table or partition, with its schema, as SQL writes it.
      - It need not exist for O(state=verified) and O(state=restored).
    type: str
    required: true
  directory:
    description: Directory of the archives, on the host that runs the module. It is made with mode 0750.
    type: path
    required: true
  archive:
    description: Name of the archive. Made of O(table) when not given.
    type: str
  state:
    description:
      - V(present) exports the table and reads the archive back.
      - V(verified) reads the archive back again and, where the table still exists, compares that, too.
      - V(restored) makes the table O(into) from the archive. It is closed to everybody but its owner.
    type: str
    choices: [present, verified, restored]
    default: present
  key:
    description: Column of time whose least and greatest values are kept. Required for O(state=present).
    type: str
  order_by:
    description:
      - Columns that order the rows, such as those of the primary key. O(key) when not given.
      - They are written into the manifest for the first and last row of each range.
    type: list
    elements: str
  block_rows:
    description: Rows of a range.
    type: int
    default: 10000
  into:
    description: Table to make, with its schema, as SQL writes it. Required for O(state=restored).
    type: str
  scratch_schema:
    description: Schema in which the archive is read back, unlogged and rolled back. A temporary table when not given.
    type: str
  manifest_sha256:
    description:
      - Expected SHA-256 of the manifest, as RV(manifest_sha256) was kept elsewhere.
      - Without it a manifest that was forged together with its file is not found, and a restored one is code for the
        server, as any dump is.
    type: str
  compression_level:
    description: Level of zstd, 1 to 19.
    type: int
    default: 6
  wait:
    description: Seconds to wait for another run that archives this table.
    type: float
    default: 60
extends_documentation_fragment:
  - auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
requirements:
  - tenacity (Debian package C(python3-tenacity))
  - zstandard (Debian package C(python3-zstandard))
notes:
  - Reading back happens in check mode, too, since it is rolled back.
  - An archive holds no defaults, identities, foreign keys, indexes without a constraint, row security and rights.
  - The role must see all rows. Where row security would hide some, the module fails.
seealso:
  - module: auditdb.postgresql.postgresql_partition
author:
  - The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: Archive a closed month
  auditdb.postgresql.postgresql_partition_archive:
    login_db: audit_db
    table: audit.audit_log_2026_10
    directory: /srv/archive
    key: timestamp
    order_by: [timestamp, id]
    session_role: audit_owner

- name: Prove that archive and table are as they were sealed
  auditdb.postgresql.postgresql_partition_archive:
    login_db: audit_db
    table: audit.audit_log_2026_10
    directory: /srv/archive
    state: verified

- name: Look into an archived month
  auditdb.postgresql.postgresql_partition_archive:
    login_db: audit_db
    table: audit.audit_log_2026_10
    directory: /srv/archive
    state: restored
    into: investigation.audit_log_2026_10
"""

RETURN = r"""
archive:
  description: Name of the archive.
  returned: success
  type: str
seal:
  description: The seal; in check mode that of the table, where there is no archive yet.
  returned: success
  type: dict
  contains:
    rows:
      description: Number of rows.
      type: int
    minimum:
      description: Least value of the key, ISO 8601 in UTC; null without rows.
      type: str
    maximum:
      description: Greatest value of the key.
      type: str
    sha256:
      description: Digest of all rows.
      type: str
    algorithm:
      description: Version of the canonical form.
      type: str
    blocks:
      description: Number of ranges; the manifest has their digests.
      type: int
manifest_sha256:
  description: SHA-256 of the manifest; keep it where the archive is not. Null in check mode without an archive.
  returned: success
  type: str
files:
  description: Paths of data file and manifest.
  returned: success
  type: list
  elements: str
file_bytes:
  description: Bytes of the compressed file. Null in check mode without an archive.
  returned: success
  type: int
stream_bytes:
  description: Bytes of the rows before compression. Null in check mode without an archive.
  returned: success
  type: int
read_back:
  description: Whether the archive was loaded into the server and had its seal in this run.
  returned: success
  type: bool
table_compared:
  description: Whether the table exists and had the archive's seal in this run.
  returned: success
  type: bool
differences:
  description: What differs; V(first_block) names the first range of rows that does.
  returned: when rows differ
  type: dict
executed_queries:
  description: SQL that was executed and not rolled back.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.archive_files import (
    DATA,
    MANIFEST,
    check_name,
    require_zstandard,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    advisory_lock,
    run_module,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_archive import (
    Manifest,
    archive_name,
    compare_table,
    export,
    find_manifest,
    load_manifest,
    read_back,
    restore,
    verify_files,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_seal import (
    Seal,
    SealOptions,
    relation_oid,
    seal,
)

Relation = tuple[str, str]


def relation_of(session: Session, text: str, option: str) -> Relation:
    """Return schema and name of a table as SQL writes it; it need not exist."""
    try:
        parts = session.query("SELECT pg_catalog.parse_ident(%s) AS parts", (text,))[0]["parts"]
    except PostgresqlError:
        parts = []
    if len(parts) != 2:
        raise PostgresqlError(f"{option}: '{text}' is no table with its schema", remedy="write e.g. audit.log_2026_10")
    return parts[0], parts[1]


def check_options(options: dict[str, Any]) -> SealOptions:
    """Return how the table is sealed; raise where an option would only be found wrong once rows were read."""
    if not 1 <= options["compression_level"] <= 19:
        raise PostgresqlError(f"compression_level: {options['compression_level']}", remedy="give 1 to 19")
    if options["block_rows"] < 1:
        raise PostgresqlError(f"block_rows: {options['block_rows']} is less than 1", remedy="give 1 or more")
    key = options["key"] or ""
    return SealOptions(key, tuple(options["order_by"] or [key]), options["block_rows"])


class Run:
    """One run of the module: the table, where its archive is, and what was found."""

    def __init__(self, module: AnsibleModule, session: Session) -> None:
        self.options = module.params
        self.check_mode = module.check_mode
        self.session = session
        self.seal_options = check_options(self.options)
        self.table = relation_of(session, self.options["table"], "table")
        self.directory = Path(self.options["directory"])
        self.name = check_name(self.options["archive"] or archive_name(self.table))
        self.expected = self.options["manifest_sha256"]
        self.read_back = self.table_compared = False

    def present(self) -> tuple[bool, Manifest | None, Seal]:
        """Export unless that was done; read back. Return whether it changed, the manifest and the seal."""
        before = find_manifest(self.directory, self.name)
        if before is None and self.check_mode:
            return True, None, seal(self.session, self.table, self.seal_options)
        with advisory_lock(self.session, f"archive {self.name}", self.options["wait"]):
            before = find_manifest(self.directory, self.name)
            manifest = export(
                self.session,
                self.table,
                self.directory,
                self.seal_options,
                name=self.name,
                level=self.options["compression_level"],
            )
        self.table_compared = True
        self.load()
        return before is None, manifest, manifest.seal

    def load(self) -> None:
        """Read the archive back."""
        schema = self.options["scratch_schema"]
        read_back(self.session, self.directory, self.name, schema=schema, expected=self.expected)
        self.read_back = True

    def verified(self) -> tuple[bool, Manifest, Seal]:
        """Read the archive back, and compare the table where there is one."""
        manifest = load_manifest(self.directory, self.name, self.expected)
        self.load()
        if relation_oid(self.session, self.table) is not None:
            compare_table(self.session, manifest, self.table)
            self.table_compared = True
        return False, manifest, manifest.seal

    def restored(self) -> tuple[bool, Manifest, Seal]:
        """Make the table from the archive; one that is there must have the archive's rows."""
        into = relation_of(self.session, self.options["into"], "into")
        manifest = load_manifest(self.directory, self.name, self.expected)
        if relation_oid(self.session, into) is not None:
            compare_table(self.session, manifest, into)
            self.table_compared = True
            return False, manifest, manifest.seal
        if self.check_mode:
            verify_files(self.directory, manifest)
        else:
            restore(self.session, self.directory, self.name, into, expected=self.expected)
            self.table_compared = True
        return True, manifest, manifest.seal


def summary(sealed: Seal) -> dict[str, Any]:
    """Return the seal without the digests of its ranges, of which there may be thousands."""
    return {**sealed.as_dict(), "blocks": len(sealed.blocks)}


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    require_zstandard()
    work = Run(module, session)
    changed, manifest, sealed = getattr(work, module.params["state"])()
    what = work.options["into"] if module.params["state"] == "restored" else f"archive {work.name}"
    after = f"{sealed.rows} rows, {sealed.minimum} to {sealed.maximum}, SHA-256 {sealed.sha256}\n"
    return {
        "changed": changed,
        "archive": work.name,
        "seal": summary(sealed),
        "manifest_sha256": manifest.sha256 if manifest else None,
        "files": [str(work.directory / (work.name + suffix)) for suffix in (DATA, MANIFEST)],
        "file_bytes": manifest.file_bytes if manifest else None,
        "stream_bytes": manifest.stream_bytes if manifest else None,
        "read_back": work.read_back,
        "table_compared": work.table_compared,
        "executed_queries": session.executed,
        "diff": {
            "before_header": what,
            "after_header": what,
            "before": "" if changed else after,
            "after": after,
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "table": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "archive": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "verified", "restored"], "default": "present"},
            "key": {"type": "str", "no_log": False},
            "order_by": {"type": "list", "elements": "str"},
            "block_rows": {"type": "int", "default": 10000},
            "into": {"type": "str"},
            "scratch_schema": {"type": "str"},
            "manifest_sha256": {"type": "str"},
            "compression_level": {"type": "int", "default": 6},
            "wait": {"type": "float", "default": 60},
        },
        required_if=[("state", "present", ["key"]), ("state", "restored", ["into"])],
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
