"""What the scenarios' tests share: running playbooks on their hosts and asking their databases.

A scenario's conftest.py says `pytest_plugins = ["throwaway"]`; molecule/shared is on pytest's path (pyproject.toml).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psycopg2
import pytest
import yaml

OLDER = "-bookworm"
"""End of the names of hosts whose release is not the newest."""
ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked as long, and what is the same on each release but on the newest one.

    Not where AUDITDB_LONG is set: `make test-long` sets it.
    """
    left = [] if os.environ.get("AUDITDB_LONG") else [item for item in items if _long(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def _long(item: pytest.Item) -> bool:
    parameters = (
        item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    )
    older = any(isinstance(each, str) and each.endswith(OLDER) for each in parameters)
    return bool(item.get_closest_marker("long") or (older and item.get_closest_marker("newest")))


@dataclass(frozen=True)
class Run:
    """What one ansible-playbook run printed."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        """Return the number of changed tasks over all hosts, from the recap."""
        return sum(int(number) for number in re.findall(r"changed=(\d+)", self.output))

    @property
    def text(self) -> str:
        """Return the output on one line, so that a wrapped message can be searched."""
        return re.sub(r"\s+", " ", self.output)


KEPT = """file=$1; shift; "$@" >"$file" 2>&1; code=$?; cat "$file"; exit $code"""


def execute(container: Any, argv: list[str], user: str = "root", **environment: str) -> tuple[int, bytes]:
    """Run a command in a container; return its exit code, and what it printed.

    On a busy machine the engine loses, now and then, all that a command has printed: then it is read again from a file.
    """
    file = f"/tmp/auditdb-{uuid.uuid4().hex}"
    code, output = container.exec_run(["sh", "-c", KEPT, "sh", file, *argv], user=user, environment=environment)
    return code, output or container.exec_run(["cat", file], user=user).output


def wait_until(until: Callable[[], Any], message: str, seconds: float, every: float = 0.1) -> float:
    """Wait until something is so; return the seconds that it took."""
    begun = time.monotonic()
    while not until():
        assert time.monotonic() - begun < seconds, message
        time.sleep(every)
    return time.monotonic() - begun


def keep_figure(file: Path, name: str, value: Any) -> None:
    """Keep a figure in a file, beside those that are there."""
    found = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**found, name: value}, indent=2) + "\n")


class Host:
    """One throwaway host."""

    def __init__(self, name: str, inventory: Path) -> None:
        self.name = name
        self.container = docker.from_env().containers.get(f"auditdb-{name}")
        self.inventory = inventory

    @property
    def address(self) -> str:
        self.container.reload()
        return str(self.container.attrs["NetworkSettings"]["Networks"]["auditdb"]["IPAddress"])

    def run(self, *argv: str, user: str = "root") -> str:
        """Run a command on the host, which must succeed, and return what it printed."""
        code, output = execute(self.container, list(argv), user)
        text = str(output.decode("utf-8", errors="replace"))  # a journal holds bytes too
        assert code == 0, f"{argv}: exit code {code}\n{text}"
        return text

    def restart(self) -> None:
        """Restart the host and wait until its database answers again."""
        self.container.restart(timeout=20)
        deadline = time.monotonic() + 60
        while self.container.exec_run(["runuser", "-u", "postgres", "--", "pg_isready"]).exit_code != 0:
            assert time.monotonic() < deadline, f"{self.name} has not come back within 60 s"
            time.sleep(0.3)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser on the host and return bare values, tab-separated."""
        return self.run(
            "psql", "-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement, user="postgres"
        ).strip()

    def connect(self, user: str, database: str = "audit_db", **parameters: Any) -> Any:
        """Log in over TCP with TLS as a component role, as an application does."""
        secrets = yaml.safe_load((self.inventory / "group_vars/all/secrets.yml").read_text())
        options: dict[str, Any] = {
            "host": f"auditdb-{self.name}",
            "hostaddr": self.address,
            "dbname": database,
            "user": user,
            "password": secrets["audit_passwords"].get(user),
            "sslmode": "verify-full",
            "sslrootcert": str(self.inventory / ".state/tls/ca.crt"),
            "connect_timeout": 5,
        }
        return psycopg2.connect(**{**options, **parameters})

    @contextmanager
    def replay_held(self) -> Iterator[None]:
        """Freeze what replays on a standby meanwhile: a pause that is asked for, Patroni ends at once."""
        replays = self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")
        self.run("kill", "-STOP", replays)
        try:
            yield
        finally:
            self.run("kill", "-CONT", replays)


def ask(connection: Any, statement: str) -> Any:
    """Run a statement and return its first value, if it has one."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@pytest.fixture(scope="session")
def scenario() -> Path:
    """Return the scenario's directory."""
    return Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


BY_HAND = """[Service]
ExecCondition=/bin/sh -c 'case "$$TRIGGER_UNIT" in ""|*-status.timer) ;; *) exit 1 ;; esac'
"""
"""What the services of a host's backups get: what their timers start is skipped, but the look at their state is not."""


@pytest.fixture(scope="session", autouse=True)
def backups_by_hand(scenario: Path) -> None:
    """Let no timer begin a backup: one that falls where a test has the server stopped fails, and health says so."""
    directory = "/etc/systemd/system/postgresql-backup-.service.d"
    script = f'mkdir -p {directory} && printf %s "$1" >{directory}/by_hand.conf && systemctl daemon-reload'
    names = set(re.findall(r"ansible_host: (auditdb-[\w-]+)", (scenario / "inventory/hosts.yml").read_text()))
    for container in docker.from_env().containers.list():
        if container.name in names:
            code, output = execute(container, ["sh", "-c", script, "sh", BY_HAND])
            assert code == 0, output


@pytest.fixture(scope="session")
def hosts(scenario: Path) -> dict[str, Host]:
    """Return the scenario's hosts by name."""
    tree = yaml.safe_load((scenario / "inventory/hosts.yml").read_text())
    return {name: Host(name, scenario / "inventory") for name in tree["all"]["children"]["database"]["hosts"]}


@pytest.fixture
def database_host(hosts: dict[str, Host]) -> Host:
    """Return the only host of a scenario that has one."""
    (host,) = hosts.values()
    return host


@pytest.fixture(scope="session")
def playbook(scenario: Path) -> Iterator[Callable[..., Run]]:
    """Return a function that runs a playbook on the scenario's hosts; the scenario's converge.yml unless named."""
    own = scenario / "inventory"

    def run(
        name: str | Path = scenario / "converge.yml", *arguments: str, inventory: Path = own, **environment: str
    ) -> Run:
        done = subprocess.run(
            ["ansible-playbook", "-i", str(inventory), str(name), *arguments],
            # molecule wants colours, which stand within what is looked for.
            env={**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true", "ANSIBLE_FORCE_COLOR": "false", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=1200,
        )
        if done.returncode != 0:
            print(done.stdout)  # pytest shows it where the test fails
        return Run(done.returncode, done.stdout)

    yield run
