"""Throwaway servers with pg_partman for the figures on partitions, and the two ways to manage partitions there."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psycopg2

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
IMAGE = """
FROM auditdb-postgresql:{version}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-{version}-partman >/dev/null
"""
NOW = "2026-11-23T04:00:00Z"


@dataclass
class Server:
    """A running server and its superuser."""

    version: int
    host: str
    password: str
    partman: str = ""

    def connect(self, database: str = "postgres") -> Any:
        """Return a session in autocommit mode."""
        session = psycopg2.connect(host=self.host, user="postgres", password=self.password, dbname=database)
        session.autocommit = True
        return session

    def sql(self, statement: str, database: str = "bench") -> list[Any]:
        """Run a statement and return its rows."""
        with contextlib.closing(self.connect(database)) as session, session.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def fresh(self, statements: str) -> None:
        """Make the database anew."""
        self.sql("DROP DATABASE IF EXISTS bench WITH (FORCE)", "postgres")
        self.sql("CREATE DATABASE bench TEMPLATE template0", "postgres")
        self.sql("CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman")
        self.sql(statements)

    def login(self) -> dict[str, Any]:
        """Return the login options of this collection's modules."""
        return {"login_host": self.host, "login_user": "postgres", "login_password": self.password, "login_db": "bench"}


@contextmanager
def server(version: int, max_locks: int = 64) -> Iterator[Server]:
    """Run a server until the block ends. Its settings are Debian's, but for fsync, which is off, and the locks."""
    engine = docker.from_env()
    image, _log = engine.images.build(
        fileobj=io.BytesIO(IMAGE.format(version=version).encode()), tag=f"auditdb-bench:{version}", rm=True
    )
    name, password = f"auditdb-bench-{version}", secrets.token_hex(16)
    command = f"sed -i 's/max_connections=200/max_connections=100 -c max_locks_per_transaction={max_locks}/; "
    command += "s/statements/statements -c max_wal_size=16GB/' /usr/local/bin/start; exec /usr/local/bin/start"
    with contextlib.suppress(docker.errors.NotFound):
        engine.containers.get(name).remove(force=True, v=True)
    container = engine.containers.run(
        image, ["sh", "-c", command], name=name, detach=True, environment={"TEST_PASSWORD": password}, shm_size="1g"
    )
    try:
        while True:
            container.reload()
            running = Server(version, container.attrs["NetworkSettings"]["IPAddress"], password)
            try:
                running.connect().close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.2)
        running.fresh("SELECT")
        running.partman = running.sql("SELECT extversion FROM pg_extension WHERE extname = 'pg_partman'")[0][0]
        yield running
    finally:
        container.remove(force=True, v=True)


def module(running: Server, name: str, **options: Any) -> dict[str, Any]:
    """Run a module of this collection in this process, and return its result."""
    from tests.integration.conftest import call_module

    return call_module(name, **running.login(), **options)


def partman_create(running: Server, interval: str, count: int, start: str = NOW[:10]) -> None:
    """Let pg_partman create so many partitions from now on, and those since ``start``."""
    if running.partman.startswith("4"):
        kind = "p_type := 'native', p_automatic_maintenance := 'on', "
    else:
        kind = "p_type := 'range', p_default_table := false, "
    running.sql(
        f"SELECT partman.create_parent(p_parent_table := 'public.log', p_control := 'at', {kind}"
        f"p_interval := '{interval}', p_premake := {count - 1}, "
        f"p_start_partition := '{start}')"
    )


@contextmanager
def timed(times: list[float]) -> Iterator[None]:
    """Add the seconds that the block took."""
    begun = time.monotonic()
    yield
    times.append(time.monotonic() - begun)


def table(indexes: int) -> str:
    """Return the SQL of a table with so many indexes, the primary key among them."""
    texts = ["CREATE TABLE log (id bigint NOT NULL, at timestamptz NOT NULL, a text, PRIMARY KEY (id, at))"]
    texts[0] += " PARTITION BY RANGE (at)"
    if indexes < 1:
        raise ValueError(indexes)
    texts += [f"CREATE INDEX log_{number} ON log (a, at, id)" for number in range(indexes - 1)]
    return "; ".join(texts)


def save(path: Path, data: Any) -> None:
    """Write the figures for people to look at again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
