"""A database host and the host that keeps its backups."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest

pytest_plugins = ["throwaway", "backup_host"]


class Keeper:
    """A host that keeps the backups of a database host, as root there sees it."""

    def __init__(self, name: str) -> None:
        self.name = f"{name}-main"
        self.root = f"/var/lib/auditdb-backup/{self.name}"
        self.container = docker.from_env().containers.get(f"auditdb-{name.replace('pulled', 'keeper')}")

    def call(self, *argv: str, user: str = "root") -> SimpleNamespace:
        code, output = self.container.exec_run(list(argv), user=user)
        return SimpleNamespace(code=code, output=output.decode())

    def shell(self, script: str) -> str:
        done = self.call("bash", "-euo", "pipefail", "-c", f"cd {self.root}; {script}")
        assert done.code == 0, f"{script}\n{done.output}"
        return done.output.strip()

    def backup(self, *arguments: str) -> SimpleNamespace:
        configuration = f"/etc/auditdb-backup/{self.name}.json"
        return self.call("auditdb-backup", "--config", configuration, "--wait", "60", *arguments, user="auditdb-backup")

    def status(self) -> dict:
        return json.loads(self.backup("status", "--json").output)

    def names(self, part: str) -> list[str]:
        return self.shell(f"ls -A {part}").split()


@dataclass
class Pair:
    """A database host, and the host that keeps its backups."""

    database: Any
    keeper: Keeper

    def switch(self) -> str:
        """End the current segment, wait until it is archived, and return its name."""
        name = self.database.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        self.database.wait(lambda: name in self.keeper.names("wal"), f"{name} was not archived")
        return name

    def restore(self, playbook, **given):
        """Run the playbook that restores."""
        name = self.database.host.name
        return playbook("auditdb.postgresql.restore", "--limit", name, "-e", json.dumps(given))


@pytest.fixture
def pair(database) -> Iterator[Pair]:
    yield Pair(database, Keeper(database.host.name))


@pytest.fixture(scope="session")
def passwords() -> list[str]:
    """Return the passwords that the backup hosts were given."""
    return [
        path.read_text().strip()
        for path in (Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory/.state/backup").glob("*.password")
    ]
