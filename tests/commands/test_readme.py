"""The README's commands, on a clean clone, as a newcomer types them.

The clone gets an inventory of its own, so that a host that `make up` made for somebody is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTAINER = "auditdb-newcomer"
STANDBY = "auditdb-newcomer-standby"
KEEPER = "auditdb-newcomer-backup"
BYSTANDER = "auditdb-bystander"
FORGET = ("ANSIBLE_", "MAKE", "MFLAGS", "MOLECULE_", "PYTEST_", "VIRTUAL_ENV", "SQL", "INVENTORY", "MITOGEN")


class Clone:
    """A clean clone, and the commands run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What this test run exports must not help the newcomer.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(FORGET)}
        self.environment["PATH"] = os.pathsep.join(
            part for part in os.environ["PATH"].split(os.pathsep) if not part.startswith(str(ROOT))
        )

    def command(self, target: str, *arguments: str, inventory: str = "newcomer") -> list[str]:
        return ["make", target, f"INVENTORY=inventories/{inventory}", *arguments]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )

    def make(self, target: str, *arguments: str, inventory: str = "newcomer") -> subprocess.CompletedProcess[str]:
        return self.run(*self.command(target, *arguments, inventory=inventory))

    def interrupt(self, target: str, seconds: float, inventory: str) -> None:
        """Start a command and kill it, and all that it started, after some seconds."""
        process = subprocess.Popen(
            self.command(target, inventory=inventory),
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def remove_bystander() -> None:
    for left in docker.from_env().containers.list(all=True, filters={"name": BYSTANDER}):
        left.remove(force=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    path = tmp_path_factory.mktemp("newcomer") / "auditdb"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(path)], check=True)
    for shipped, own in (("single", "newcomer"), ("cluster", "newcomers")):
        shutil.copytree(path / "inventories" / shipped, path / "inventories" / own)
        for file in (path / "inventories" / own).rglob("*.yml"):
            text = file.read_text().replace("db1", "newcomer").replace("db2", "newcomer-standby")
            file.write_text(text.replace("backup1", "newcomer-backup"))
    clone = Clone(path)
    yield clone
    clone.make("down", inventory="newcomers")
    remove_bystander()
    # What a killed run leaves: Mitogen's processes live in sessions of their own.
    subprocess.run(["pkill", "-KILL", "-f", str(path)], check=False)


@pytest.fixture(scope="module")
def bystander(clone: Clone) -> str:
    """Return the name of a host of somebody else, on the same network; as long as it is there, the network stays."""
    engine = docker.from_env()
    remove_bystander()
    image = engine.containers.get(CONTAINER).image
    engine.containers.run(image, ["sleep", "infinity"], entrypoint="", name=BYSTANDER, network="auditdb", detach=True)
    return BYSTANDER


def changes(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"changed=(\d+)", output)]


def test_make_up_says_what_it_does_and_how_long_it_took(clone):
    done = clone.make("up")
    assert done.returncode == 0, done.stdout
    for step in ("Container engine", "Throwaway hosts", "Server and audit database"):
        assert re.search(rf"==> done in \d+\.\d s: {step}", done.stdout), done.stdout
    for word in ("Verified:", "Connect:", "Try next:"):
        assert word in done.stdout


def test_make_up_again_changes_nothing(clone):
    done = clone.make("up")
    assert done.returncode == 0, done.stdout
    assert changes(done.stdout)
    assert set(changes(done.stdout)) == {0}


def test_query_prints_bare_values(clone):
    done = clone.make("query", "SQL=select 1, 'a\"b', $$it's$$ union all select 2, 'ไทย', null")
    assert done.returncode == 0, done.stdout
    assert done.stdout == "1\ta\"b\tit's\n2\tไทย\t\n"


def test_query_fails_loudly(clone):
    done = clone.make("query", "SQL=select no_such_column")
    assert done.returncode != 0
    assert "no_such_column" in done.stdout


def test_make_health(clone):
    done = clone.make("health")
    assert done.returncode == 0, done.stdout


def test_the_line_for_cron(clone):
    (line,) = re.search(r"```cron\n(.+?)\n```", (clone.path / "README.md").read_text(), re.DOTALL).groups()
    command = line.split(maxsplit=5)[5].replace("/srv/auditdb", str(clone.path)).replace("mine", "newcomer")
    # What cron gives a job: hardly anything.
    done = clone.run("env", "-i", "HOME=/root", "PATH=/usr/bin:/bin", "/bin/sh", "-c", command)
    assert done.returncode == 0, done.stdout
    assert set(changes(done.stdout)) == {0}
    assert "audit.audit_log is kept" in done.stdout
    assert list(clone.path.glob("inventories/newcomer/.state/evidence/maintenance/*.json"))


def test_the_demonstration_loads_each_event_once(clone):
    def load() -> int:
        done = clone.run(".venv/bin/ansible-playbook", "-i", "inventories/newcomer", "playbooks/load_journal.yml")
        assert done.returncode == 0, done.stdout
        return int(clone.make("query", "SQL=select count(*) from audit.audit_log where action like 'dpkg.%'").stdout)

    first = load()
    assert first > 100
    assert load() == first


def test_a_stopped_host_comes_back(clone):
    docker.from_env().containers.get(CONTAINER).kill()
    done = clone.make("up")
    assert done.returncode == 0, done.stdout
    assert clone.make("query", "SQL=select 1").stdout == "1\n"


@pytest.mark.parametrize(("inventory", "seconds"), [("newcomer", 4), ("newcomer", 12), ("newcomers", 25)])
def test_an_interrupted_run_is_finished_by_the_next(clone, bystander, inventory, seconds):
    assert clone.make("down").returncode == 0
    clone.interrupt("up", seconds, inventory)
    done = clone.make("up", inventory=inventory)
    assert done.returncode == 0, done.stdout
    again = clone.make("up", inventory=inventory)
    assert again.returncode == 0, again.stdout
    assert set(changes(again.stdout)) == {0}


def test_the_second_host_streams(clone):
    query = "SQL=select application_name, state from pg_stat_replication where usename = 'auditdb_standby'"
    done = clone.make("query", query, inventory="newcomers")
    assert done.stdout == "newcomer_standby\tstreaming\n"


def test_the_third_host_keeps_the_backups(clone):
    done = clone.run("docker", "exec", "-u", "postgres", CONTAINER, "auditdb-backup", "list")
    assert done.returncode == 0 and "-full" in done.stdout, done.stdout
    kept = clone.run("docker", "exec", KEEPER, "ls", "/var/lib/auditdb-backup/newcomer-main/backups")
    assert "-full" in kept.stdout, kept.stdout


def test_make_down_removes_the_hosts_and_nothing_else(clone, bystander):
    engine = docker.from_env()
    assert clone.make("down", inventory="newcomers").returncode == 0
    left = {container.name for container in engine.containers.list(all=True)}
    assert not {CONTAINER, STANDBY, KEEPER} & left
    assert bystander in left
    assert engine.networks.list(names=["auditdb"])
