"""The pools of scenario pgbouncer, each with the database host behind it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from throwaway import Host, execute, wait_until

POOLS = ["pool-bookworm", "pool-trixie"]
PORT = 6432


wait = partial(wait_until, seconds=15)


class Pool(Host):
    """A balancer, and the database host behind it."""

    def __init__(self, name: str, inventory: Path) -> None:
        super().__init__(name, inventory)
        self.base = Host(name.replace("pool", "base"), inventory)
        self.old = name.endswith("bookworm")

    def connect(self, user: str, database: str = "audit_db", **parameters: Any) -> Any:
        """Log in through the pool, each statement a transaction of its own."""
        connection = super().connect(user, database, port=PORT, **parameters)
        connection.autocommit = True
        return connection

    def ask(self, user: str, statement: str, **parameters: Any) -> str:
        connection = self.connect(user, **parameters)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return str(cursor.fetchone()[0])
        finally:
            connection.close()

    def from_base(self, user: str, script: str) -> tuple[int, str]:
        """Run a script on the database host, whose programs of PostgreSQL reach the pool as a role."""
        secrets = yaml.safe_load((self.inventory / "group_vars/all/secrets.yml").read_text())
        code, output = execute(
            self.base.container,
            ["bash", "-c", script],
            "postgres",
            PGHOST=f"auditdb-{self.name}",
            PGPORT=str(PORT),
            PGDATABASE="audit_db",
            PGUSER=user,
            PGPASSWORD=secrets["audit_passwords"][user],
            PGSSLMODE="verify-full",
            PGSSLROOTCERT="/etc/postgresql/tls/ca.crt",
        )
        return code, output.decode()

    def works(self) -> bool:
        try:
            return self.ask("audit_reader", "SELECT 1") == "1"
        except Exception:
            return False

    def console(self, *arguments: str, user: str = "root") -> tuple[int, str]:
        code, output = execute(self.container, ["auditdb-pgbouncer", *arguments], user)
        return code, output.decode()

    def show(self, what: str) -> list[dict[str, str]]:
        code, output = self.console("show", what)
        assert code == 0, output
        header, *rows = [line.split("\t") for line in output.splitlines()]
        return [dict(zip(header, row, strict=True)) for row in rows]

    @property
    def config(self) -> dict[str, str]:
        return {row["key"]: row["value"] for row in self.show("config")}

    @property
    def pid(self) -> str:
        return self.run("systemctl", "show", "-p", "MainPID", "--value", "pgbouncer").strip()

    @property
    def limit(self) -> str:
        return f"{self.name},{self.base.name}"


@pytest.fixture(scope="session")
def pools(scenario: Path) -> dict[str, Pool]:
    return {name: Pool(name, scenario / "inventory") for name in POOLS}


@pytest.fixture(params=POOLS)
def pool(request, pools) -> Pool:
    return pools[request.param]
