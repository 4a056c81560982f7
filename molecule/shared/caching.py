"""The hosts of scenario pgpool: on each release a primary, its standby, and Pgpool before them.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "caching"]`.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from throwaway import Host, ask, wait_until

CACHES = ["cache1-bookworm", "cache1"]
PORT = 9999
TTL = 6
"""Seconds; pgpool_cache_ttl of the inventory."""


wait = partial(wait_until, seconds=40)


class Cache(Host):
    """A host with Pgpool, and the servers behind it."""

    def __init__(self, name: str, inventory: Path) -> None:
        super().__init__(name, inventory)
        self.base = Host(name.replace("cache1", "cache-db1"), inventory)
        self.standby = Host(name.replace("cache1", "cache-db2"), inventory)
        self.unit = f"postgresql@{15 if name.endswith('bookworm') else 17}-main"

    @property
    def limit(self) -> str:
        return f"{self.name},{self.base.name},{self.standby.name}"

    def login(self, user: str = "alice", at: Host | None = None, **options: Any) -> Any:
        """Log in through Pgpool, or at one of the servers themselves."""
        to = at or self
        connection = psycopg2.connect(
            **{
                "host": f"auditdb-{to.name}", "hostaddr": to.address, "port": 5432 if at else PORT,
                "dbname": "postgres",
                "user": user, "password": f"only for {user}", "sslmode": "verify-full", "connect_timeout": 10,
                "sslrootcert": str(self.inventory / ".state/tls/ca.crt"), **options,
            }
        )  # fmt: skip
        connection.autocommit = True
        return connection

    def show(self, what: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.run("auditdb-pgpool", "show", what, "--json"))
        return found

    @property
    def hits(self) -> int:
        return int(self.show("cache")[0]["num_cache_hits"])

    def node(self, host: Host) -> dict[str, str]:
        return next(each for each in self.show("nodes") if each["hostname"] == f"auditdb-{host.name}")

    @property
    def leads(self) -> str:
        """Return the host that Pgpool takes for the primary, as its administration says; '' while it says none."""
        said = self.run(
            "env", "PCPPASSFILE=/etc/pgpool2/pcp.pgpass", "pcp_node_info", "-h", "/run/pgpool", "-p", "9898",
            "-U", "auditdb_pgpool", "-w", "-a",
        )  # fmt: skip
        return next(
            (line.split()[0].removeprefix("auditdb-") for line in said.splitlines() if line.split()[6] == "primary"), ""
        )

    def writes_reach(self, host: Host) -> bool:
        """Say whether a new session's write is on a host."""
        try:
            connection = self.login()
            ask(connection, "INSERT INTO public.ledger DEFAULT VALUES")
            found = ask(connection, "/*NO LOAD BALANCE*/ SELECT host(inet_server_addr()) FROM public.ledger LIMIT 1")
            connection.close()
        except psycopg2.Error:
            return False
        return bool(found == host.address)

    def caught_up(self) -> None:
        """Wait until the standby has replayed what the primary has."""
        lsn = self.base.sql("SELECT pg_current_wal_flush_lsn()")
        wait(
            lambda: self.standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == "t",
            "the standby does not replay",
        )


TABLES = """
CREATE TABLE reference (id integer PRIMARY KEY, v text);
CREATE TABLE other (id integer PRIMARY KEY, v text);
CREATE TABLE tenants (owner text, v text);
CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY);
INSERT INTO reference VALUES (1, 'one');
INSERT INTO other VALUES (1, 'one');
INSERT INTO tenants VALUES ('alice', 'hers'), ('bob', 'his');
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tenants USING (owner = current_user);
CREATE VIEW tenants_seen AS SELECT * FROM tenants WHERE owner = current_user;
GRANT ALL ON reference, other, tenants, ledger, tenants_seen TO alice, bob;
"""


@pytest.fixture(scope="session")
def caches(scenario: Path) -> dict[str, Cache]:
    found = {name: Cache(name, scenario / "inventory") for name in CACHES}
    for each in found.values():
        if each.base.sql("SELECT to_regclass('public.ledger') IS NULL") == "t":
            each.base.sql(TABLES)
        each.caught_up()
    return found


@pytest.fixture(params=CACHES)
def cache(request: pytest.FixtureRequest, caches: dict[str, Cache]) -> Cache:
    return caches[request.param]
