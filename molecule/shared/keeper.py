"""A database host and the host that keeps its backups: what the scenarios with a backup host share.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "backup_host", "keeper"]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from backup_host import HOSTS, SCENARIO
from throwaway import execute

SSH_OPTIONS = "-F none -T -oBatchMode=yes -oIdentityFile={key} -oUserKnownHostsFile={key}.known_hosts"
SSH = "/etc/auditdb-backup/main.key"
"""By which a database host reaches the host that keeps its backups."""


class Keeper:
    """A host that keeps backups, those of this name, as root there sees it."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.root = f"/var/lib/auditdb-backup/{self.name}"
        self.container = docker.from_env().containers.get(f"auditdb-{host}")

    def call(self, *argv: str, user: str = "root") -> SimpleNamespace:
        code, output = execute(self.container, list(argv), user)
        return SimpleNamespace(code=code, output=output.decode(errors="replace"))

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

    def rehearse(self, playbook) -> dict:
        """Rehearse a restore to the end of the archive, which must succeed, and return its evidence."""
        written = "SELECT count(*) > 8 FROM restore_drill.heartbeat"
        self.database.wait(lambda: self.database.sql(written) == "t", "heartbeats are not written")
        self.switch()
        name = self.database.host.name
        given = json.dumps({"restore_drill_cases": [{"name": "latest", "source": "repository", "target": "latest"}]})
        run = playbook("auditdb.postgresql.restore_drill", "--limit", name, "-e", given)
        assert run.code == 0, run.output
        evidence = SCENARIO / "inventory/.state/evidence/restore_drill"
        return json.loads(max(evidence.glob(f"{name}-main-*.json")).read_bytes())

    @property
    def ssh(self) -> str:
        """Return how the backup host is reached as somebody would who has taken the database host, with its key."""
        return f"ssh {SSH_OPTIONS.format(key=SSH)} auditdb-backup@{self.keeper.container.name}"

    def ask(self, *requests: dict, body: str = "") -> list[dict]:
        """Ask the backup host with the database host's key."""
        lines = "".join(json.dumps(each) + "\n" for each in requests) + body
        said = self.database.shell(f'printf %s "$LINES" | {self.ssh}', LINES=lines)
        return [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def pair(database) -> Iterator[Pair]:
    name = database.host.name
    yield Pair(database, Keeper(f"{name}-main", HOSTS[name]["postgresql_backup_host"]))


@pytest.fixture(scope="session")
def passwords() -> list[str]:
    """Return the passwords that the backup hosts were given."""
    found = Path(SCENARIO / "inventory/.state/backup").glob("*.password")
    return [path.read_text().strip() for path in found]
