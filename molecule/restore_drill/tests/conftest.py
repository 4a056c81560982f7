"""What the tests of restore drills share: a host, and drills on it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest_plugins = ["throwaway", "backup_host"]

PLAYBOOK = "auditdb.postgresql.restore_drill"
INVENTORY = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory"
EVIDENCE = INVENTORY / ".state/evidence/restore_drill"
PLAN = INVENTORY / ".state/disaster-recovery-plan.md"
STATE = "/var/lib/auditdb-drill/main"


class Drill:
    """A database host, and drills on it."""

    def __init__(self, name, database, playbook) -> None:
        self.name, self.database, self.playbook = name, database, playbook

    def run(self, *arguments, **given):
        run = self.playbook(PLAYBOOK, "--limit", self.name, "-e", json.dumps(given), *arguments)
        call = self.database.call
        assert call("test", "-e", "/run/auditdb-drill/main", user="root").code == 1, "the key is gone"
        assert self.database.shell(f"ls {STATE}/work", user="root").split() == ["DRILL"], "and so are the copies"
        return run

    def written(self) -> int:
        """Return the number of rows in the ledger."""
        return int(self.database.sql("SELECT count(*) FROM restore_drill.heartbeat"))

    def archived(self) -> None:
        """Have some heartbeats archived, and copied offsite."""
        for _each in range(3):
            time.sleep(1.5)
            self.database.switch()
        self.database.good("offsite")

    def evidence(self) -> dict:
        return json.loads(max(EVIDENCE.glob(f"{self.name}-main-*.json")).read_text())

    def failed(self) -> set[str]:
        return {each["name"] for each in self.evidence()["results"] if each["status"] != "ok"}

    def plan(self, **given) -> str:
        """Write the inventory's plan, and return it."""
        run = self.playbook("auditdb.postgresql.disaster_plan", "-e", json.dumps(given))
        assert run.code == 0, run.output
        return PLAN.read_text()

    def part(self, plan: str) -> str:
        """Return the part of the plan that is this host's."""
        (part,) = (each for each in plan.split("\n## ") if each.startswith(f"Host {self.name}\n"))
        return part

    @contextmanager
    def dropped_in(self, text: str) -> Iterator[None]:
        """Change the drill's unit; it is as before after the block."""
        place = "/etc/systemd/system/auditdb-drill-main.service.d"
        write = f'mkdir -p {place}; echo "$TEXT" > {place}/test.conf; systemctl daemon-reload'
        self.database.shell(write, user="root", TEXT=text)
        try:
            yield
        finally:
            self.database.shell(f"rm -r {place}; systemctl daemon-reload", user="root")


@pytest.fixture
def drill(request, database, playbook):
    (name,) = (name for name in request.node.callspec.params.values() if isinstance(name, str) and "-" in name)
    found = Drill(name, database, playbook)
    database.wait(lambda: found.written() > 8, "heartbeats are written")
    return found


@pytest.fixture
def rehearsed(drill):
    """Return a host on which there was a drill."""
    if not list(EVIDENCE.glob(f"{drill.name}-main-*.json")):
        drill.archived()
        run = drill.run(restore_drill_cases=[{"name": "latest", "source": "repository", "target": "latest"}])
        assert run.code == 0, run.output
    return drill


@pytest.fixture
def commands():
    """Return a function that returns the commands of this kind of block in a plan, in order."""

    def found(plan: str, kind: str) -> list[str]:
        blocks = re.findall(rf"```sh {kind}\n(.*?)```", plan, re.DOTALL)
        return [line for block in blocks for line in block.splitlines()]

    return found
