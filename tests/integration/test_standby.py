"""A real standby: what declares refuses it or leaves it alone, what reads works on it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import filelock
import psycopg2
import pytest

PORT = 5433
START = """
set -eu
bin=/usr/lib/postgresql/$VERSION/bin data=/tmp/standby
if [ -s $data/postmaster.pid ] && kill -0 "$(head -n 1 $data/postmaster.pid)"; then  # an earlier test was killed
    $bin/pg_ctl -D $data -m immediate stop
fi
rm -rf $data
$bin/pg_basebackup -D $data -R -c fast -h /var/run/postgresql
$bin/pg_ctl -D $data -l /tmp/standby.log -o "-p 5433 -c listen_addresses=* -c ssl=on -c unix_socket_directories=/tmp \
    -c shared_preload_libraries=pg_stat_statements -c max_connections=200" -w start >/dev/null
"""
STOP = "/usr/lib/postgresql/$VERSION/bin/pg_ctl -D /tmp/standby -m immediate stop"


@pytest.fixture
def standby(database) -> Iterator[dict[str, object]]:
    """Clone the server into a standby that streams, and return how to log in to the test's database there."""
    database.query("CREATE TABLE plain (at timestamptz NOT NULL)")
    database.query("CREATE TABLE log (at timestamptz NOT NULL) PARTITION BY RANGE (at)")
    container = docker.from_env().containers.get(f"auditdb-modules-{database.version}")
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"auditdb-standby-{database.version}.lock"):
        code, output = container.exec_run(["bash", "-c", START], user="postgres")
        assert code == 0, output.decode()
        login = {**database.login, "login_port": PORT}
        _wait_until_streaming(login)
        yield login
        container.exec_run(["bash", "-c", STOP], user="postgres")


def _wait_until_streaming(login: dict[str, object]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with (
                psycopg2.connect(
                    host=login["login_host"],
                    port=PORT,
                    user="postgres",
                    password=login["login_password"],
                    dbname=login["login_db"],
                ) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute("SELECT pg_is_in_recovery() AND to_regclass('log') IS NOT NULL")
                if cursor.fetchone()[0]:
                    return
        except psycopg2.OperationalError:
            pass
        assert time.monotonic() < deadline, "the standby does not follow"
        time.sleep(0.2)


def test_a_standby_is_left_alone(database, standby, tmp_path):
    migration = {
        "version": "1", "name": "x", "file": "1_x.sql", "sql": "SELECT 1;", "checksum": "0", "byte_length": 9,
        "statements": [{"sql": "SELECT 1", "line": 1, "index": ""}],
    }  # fmt: skip
    given = {"path": str(tmp_path), "migrations": [migration]}
    refused = database.failure("postgresql_migration", **{**standby, **given})
    assert refused["sqlstate"] == "25006" and "primary" in refused["remedy"]
    assert database.module("postgresql_migration_info", **{**standby, **given})["pending"] == ["1_x.sql"]

    left = database.module("postgresql_partition", **{**standby, "table": "log"})
    assert left["changed"] is False and "standby" in left["skipped_reason"]
    assert left["executed_queries"] == [] and left["queries"] == []
    info = database.module("postgresql_partition_info", **{**standby, "tables": [{"table": "log", "premake": 1}]})
    assert len(info["tables"][0]["missing"]) == 2

    for state in ("present", "reverted"):
        given = {**standby, "table": "plain", "key": "at", "state": state}
        plain = database.module("postgresql_partition_convert", **given)
        assert plain["changed"] is False and "standby" in plain["skipped_reason"]
        assert plain["executed_queries"] == [] and plain["queries"] == [] and plain["created"] == []

    looked = database.module(
        "postgresql_check", **{**standby, "checks": [{"name": "a", "query": "SELECT 1 WHERE false"}]}
    )
    assert looked["results"][0]["status"] == "ok"
