"""What the scenarios with backups share: commands with their exit codes, the private key, and restored copies.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "backup_host"]`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from throwaway import execute, wait_until

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
HOSTS = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text())["all"]["children"]["database"]["hosts"]
REPOSITORY = "/var/lib/auditdb-backup/main"
KEY = "/run/auditdb-test/daily.key"
COPY = "/var/lib/postgresql/copy"


@dataclass(frozen=True)
class Done:
    code: int
    output: str


class Database:
    """A database host, and what its backups are asked."""

    def __init__(self, host) -> None:
        self.host = host
        self.version = int(self.host.sql("SELECT current_setting('server_version_num')::integer / 10000"))
        self.bin = f"/usr/lib/postgresql/{self.version}/bin"
        self.sql = host.sql

    def call(self, *argv: str, user: str = "postgres", **environment: str) -> Done:
        code, output = execute(self.host.container, list(argv), user, **environment)
        return Done(code, output.decode("utf-8", errors="replace"))

    def shell(self, script: str, user: str = "postgres", **environment: str) -> str:
        done = self.call("bash", "-euo", "pipefail", "-c", script, user=user, **environment)
        assert done.code == 0, f"{script}\n{done.output}"
        return done.output.strip()

    def backup(self, *arguments: str) -> Done:
        # One of the host's own jobs may be at work.
        return self.call("auditdb-backup", "--wait", "60", *arguments)

    def good(self, *arguments: str) -> str:
        done = self.backup(*arguments)
        assert done.code == 0, f"{arguments}: exit code {done.code}\n{done.output}"
        return done.output

    def take(self, kind: str) -> str:
        """Take a backup and return its id."""
        return self.good("backup", kind).split(":")[0]

    def names(self, part: str) -> list[str]:
        return self.shell(f"ls -A {REPOSITORY}/{part}").split()

    def switch(self) -> str:
        """End the current segment, wait until it is archived, and return its name."""
        name = self.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        self.wait(lambda: name in self.names("wal"), f"{name} was not archived")
        return name

    def wait(self, until, message: str, seconds: int = 75) -> None:
        wait_until(until, message, seconds, every=0.2)

    @contextmanager
    def flipped(self, path: str, at: int) -> Iterator[None]:
        """Change one byte of a file, where it lies; it is as before after the block."""
        self.flip(path, at)
        try:
            yield
        finally:
            self.flip(path, at)

    @contextmanager
    def without(self, path: str) -> Iterator[None]:
        """Move a file away; it is back after the block."""
        self.shell(f"mv {path} /var/tmp/auditdb-away")
        try:
            yield
        finally:
            self.shell(f"mv /var/tmp/auditdb-away {path}")

    def flip(self, path: str, at: int) -> None:
        """Change one byte of a file, where it lies."""
        self.shell(
            f"""python3 -c 'import sys
with open("{path}", "r+b") as file:
    file.seek({at}); byte = file.read(1)[0]; file.seek({at}); file.write(bytes([byte ^ 1]))'"""
        )

    def restore(self, *arguments: str, key: str = KEY) -> Done:
        return self.backup("restore", "--to", COPY, "--identity", key, *arguments)

    def start(self) -> None:
        """Start the restored copy beside the original."""
        etc = f"/etc/postgresql/{self.version}/main/postgresql.conf"
        options = (
            f"-c config_file={etc} -c data_directory={COPY} -c port=5499 -c listen_addresses= -c shared_buffers=16MB"
        )
        self.call(
            f"{self.bin}/pg_ctl", "-D", COPY, "-l", f"{COPY}.log", "-w", "-t", "60", "start",
            "-o", f"{options} -c external_pid_file={COPY}.pid",
        )  # fmt: skip

    def copy_sql(self, statement: str) -> str:
        return self.shell('psql -XAtq -p 5499 -c "$STATEMENT"', STATEMENT=statement)

    def recovered(self) -> None:
        """Start the copy and wait until it has recovered."""
        self.start()
        self.wait(
            lambda: self.call("psql", "-XAtqp", "5499", "-c", "SELECT pg_is_in_recovery()").output.strip() == "f",
            self.shell(f"tail -20 {COPY}.log"),
        )

    def discard(self) -> None:
        """Stop and remove the copy."""
        self.call(f"{self.bin}/pg_ctl", "-D", COPY, "-m", "immediate", "stop")
        self.shell(f"rm -rf {COPY} {COPY}.restoring {COPY}.log {COPY}.pid")


@pytest.fixture(scope="session")
def databases(hosts) -> dict[str, Database]:
    found = {name: Database(host) for name, host in hosts.items()}
    for each in found.values():
        for name in ("daily", "escrow"):
            key = (SCENARIO / f"inventory/.state/backup/{name}.key").read_text()
            each.shell("install -d -o postgres -m 0700 /run/auditdb-test", user="root")
            each.shell(f'umask 077; printf %s "$KEY" > /run/auditdb-test/{name}.key', KEY=key)
        each.sql("CREATE TABLE IF NOT EXISTS ledger (id bigserial, at timestamptz DEFAULT clock_timestamp())")
    return found


@pytest.fixture(params=sorted(HOSTS))
def database(request, databases) -> Iterator[Database]:
    """Return each of the database hosts; a restored copy is gone after the test."""
    found = databases[request.param]
    found.discard()
    yield found
    found.discard()
