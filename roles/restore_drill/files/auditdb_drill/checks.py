# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a restored server must pass: its indexes, its pages, a full dump, and the user's own assertions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg2
from auditdb_backup.alone import PORT, Server
from auditdb_backup.configuration import Configuration
from auditdb_backup.errors import BackupError
from auditdb_backup.processes import run

from . import catalog
from .request import Assertion
from .rows import Row, row

DAMAGE = "find out whether production has the same damage: run pg_amcheck there; restore from another backup"
DATABASES = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"


def tried(group: str, name: str, remedy: str, attempt: Callable[[], object]) -> Row:
    """Return the row of something that must not fail."""
    try:
        attempt()
    except (BackupError, psycopg2.Error) as error:
        return row(group, name, [str(error)], remedy)
    return row(group, name, [], remedy)


def databases(server: Server) -> list[str]:
    """Return the names of all databases that can be dumped."""
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(DATABASES)
        return [name for (name,) in cursor.fetchall()]


def running(group: str, settings: Configuration, server: Server) -> list[Row]:
    """Return what the running copy passes."""
    options = [f"--host={server.socket}", f"--port={PORT}", f"--username={server.user}", "--no-password"]

    def indexes() -> None:
        run([str(settings.bin / "pg_amcheck"), *options, "--all", "--install-missing", "--heapallindexed"])

    def dumps() -> None:
        run([str(settings.bin / "pg_dumpall"), *options, "--globals-only", "--no-sync", "--file=/dev/null"])
        for name in databases(server):
            run(
                [
                    str(settings.bin / "pg_dump"),
                    *options,
                    "--format=custom",
                    "--no-sync",
                    "--file=/dev/null",
                    f"--dbname={name}",
                ]
            )

    return [
        tried(group, "tables and indexes agree (pg_amcheck --heapallindexed)", DAMAGE, indexes),
        tried(group, "every database can be dumped, to nowhere", DAMAGE, dumps),
    ]


def stopped(group: str, settings: Configuration, directory: Path) -> Row:
    """Return whether the checksums of all pages hold; the server has been stopped."""
    argv = [str(settings.bin / "pg_checksums"), "--check", "-D", str(directory)]
    return tried(group, "the checksum of every page holds (pg_checksums)", DAMAGE, lambda: run(argv))


def like_production(group: str, server: Server, before: Sequence[str]) -> Row:
    """Return whether roles, rights, policies and partitions are those of production."""
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
        after = catalog.roles(cursor)
    for name in databases(server):
        with contextlib.closing(server.connect(name)) as connection, connection.cursor() as cursor:
            after += catalog.objects(cursor, name)
    return row(
        group,
        "roles, rights, policies and partitions are production's",
        catalog.differences(list(before), after),
        "where one was changed within the RPO, run the drill again; else see what the backup lacks",
    )


def asserted(group: str, server: Server, assertion: Assertion) -> Row:
    """Return whether a query returns what it must."""
    name = f"assertion: {assertion.name}"
    remedy = "see what the query returns on production, then what the restored copy lacks"
    try:
        with contextlib.closing(server.connect(assertion.database)) as connection:
            connection.set_session(readonly=True)
            with connection.cursor() as cursor:
                cursor.execute(assertion.query)
                found = cursor.fetchone()
    except psycopg2.Error as error:
        return row(group, name, [str(error).strip()], remedy)
    value = "no row" if found is None else str(found[0])
    findings = [] if value == assertion.expected else [f"it returned {value} instead of {assertion.expected}"]
    return row(group, name, findings, remedy)
