"""Two throwaway servers, PostgreSQL 15 and 17, and a way to run this collection's modules against them in-process.

The servers are Debian's packages in containers of the project's base images. They are reused by the next run, so a
second run starts at once; `make clean` removes them. Each test gets a database of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import secrets
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import psycopg2
import psycopg2.extras
import pytest
from ansible.module_utils import basic

from .conversions import FURNISHED

HERE = Path(__file__).parent
MODULES = "ansible_collections.auditdb.postgresql.plugins.modules"
DEBIAN_OF = {15: "12", 17: "13"}


OLDER = "pg15"
"""The id of the older server."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, on the older server, what is the same on each release; not where AUDITDB_LONG is set (test-long)."""
    if os.environ.get("AUDITDB_LONG"):
        return
    left = [each for each in items if OLDER in each.name and each.get_closest_marker("newest")]
    config.hook.pytest_deselected(items=left)
    items[:] = [each for each in items if each not in left]


class ModuleFailed(Exception):
    """A module left through fail_json; ``result`` is what it returned."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


def call_module(name: str, check: bool = False, **options: Any) -> dict[str, Any]:
    """Run a module as Ansible does, in this process, and return its result; raise ModuleFailed if it failed."""
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    module = importlib.import_module(f"{MODULES}.{name}")
    output = io.StringIO()
    saved = basic._ANSIBLE_ARGS, getattr(basic, "_ANSIBLE_PROFILE", None)
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            module.main()
    finally:
        basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = saved
    result: dict[str, Any] = json.loads(output.getvalue())
    if result.get("failed"):
        raise ModuleFailed(result)
    return result


class Server:
    """One running server."""

    def __init__(self, version: int, host: str, password: str) -> None:
        self.version = version
        self.host = host
        self.password = password

    @property
    def certificate(self) -> str:
        """The server's certificate, which is its own authority and names localhost."""
        path = f"/var/lib/postgresql/{self.version}/test/server.crt"
        container = docker.from_env().containers.get(f"auditdb-modules-{self.version}")
        return str(container.exec_run(["cat", path]).output.decode())

    def connect(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> Any:
        connection = psycopg2.connect(
            host=self.host, user=user, password=password or self.password, dbname=database, connect_timeout=5
        )
        connection.autocommit = True
        return connection


class Database:
    """A test's own database: ``query`` asks the catalog, ``module`` runs a module in it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.version = server.version
        self.connection = server.connect(name)

    @property
    def login(self) -> dict[str, Any]:
        return {
            "login_host": self.server.host,
            "login_user": "postgres",
            "login_password": self.server.password,
            "login_db": self.name,
        }

    def query(self, statement: str, arguments: Any = None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, arguments)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, statement: str, arguments: Any = None) -> Any:
        return self.query(statement, arguments)[0][0]

    def module(self, name: str, check: bool = False, **options: Any) -> dict[str, Any]:
        return call_module(name, check, **{**self.login, **options})

    def failure(self, name: str, check: bool = False, **options: Any) -> dict[str, Any]:
        """Run a module that must fail, and return its failure."""
        with pytest.raises(ModuleFailed) as failed:
            self.module(name, check, **options)
        return failed.value.result


def start_server(version: int) -> Server:
    engine = docker.from_env()
    name = f"auditdb-modules-{version}"
    labels = {"auditdb.postgresql": "modules"}
    try:
        container = engine.containers.get(name)
        container.start()
    except docker.errors.NotFound:
        image, _log = engine.images.build(
            path=str(HERE),
            tag=f"auditdb-postgresql:{version}",
            rm=True,  # else each step of the build leaves a container behind
            buildargs={"BASE": f"auditdb-debian:{DEBIAN_OF[version]}", "VERSION": str(version)},
        )
        container = engine.containers.run(
            image, name=name, labels=labels, detach=True, environment={"TEST_PASSWORD": secrets.token_hex(16)}
        )
    deadline = time.monotonic() + 60
    while True:
        container.reload()
        password = next(v[14:] for v in container.attrs["Config"]["Env"] if v.startswith("TEST_PASSWORD="))
        server = Server(version, container.attrs["NetworkSettings"]["IPAddress"], password)
        try:
            server.connect().close()
            return server
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise RuntimeError(container.logs().decode()) from None
            time.sleep(0.2)


def drop_stale(server: Server) -> None:
    """Drop the databases of tests that were killed: roles that all databases share could not be dropped otherwise."""
    with contextlib.closing(server.connect()) as admin, admin.cursor() as cursor:
        cursor.execute(
            "SELECT datname FROM pg_database d WHERE starts_with(datname, 'test_') "
            "AND (pg_stat_file(format('base/%s/PG_VERSION', d.oid))).modification < now() - interval '1 minute' "
            "AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datid = d.oid AND backend_type = 'client backend')"
        )
        for (name,) in cursor.fetchall():
            with contextlib.suppress(psycopg2.errors.ObjectInUse, psycopg2.errors.InvalidCatalogName):
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')


@pytest.fixture(scope="session", params=[15, 17], ids=["pg15", "pg17"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Server:
    import filelock

    # With several workers, one builds and starts; the others wait for it.
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with filelock.FileLock(shared / f"server-{request.param}.lock"):
        server = start_server(request.param)
        drop_stale(server)
        return server


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = server.connect()
    with admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    database = Database(server, name)
    yield database
    database.connection.close()
    with admin.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.close()


@pytest.fixture
def role_prefix() -> str:
    """Return a prefix for the names of roles, which are shared by all databases of a server."""
    return f"t{uuid.uuid4().hex[:8]}_"


@pytest.fixture
def furnished(database: Database, role_prefix: str) -> Iterator[Database]:
    """A plain table audit_log on which hangs whatever a conversion carries over."""
    names = [f"{role_prefix}{name}" for name in ("owner", "reader", "writer")]
    for name in names:
        database.query(f'CREATE ROLE "{name}"')
    database.query(f'GRANT CREATE ON SCHEMA public TO "{names[0]}"')
    text = FURNISHED.replace("DATABASE", database.name)
    for word, name in zip(("OWNER", "READER", "WRITER"), names, strict=True):
        text = text.replace(f'"{word}"', f'"{name}"')
    database.query(text)
    yield database
    quoted = ", ".join(f'"{name}"' for name in names)
    database.query(f"DROP OWNED BY {quoted} CASCADE; DROP ROLE {quoted}")
