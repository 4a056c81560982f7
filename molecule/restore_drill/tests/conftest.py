"""What the tests of restore drills share: a host, and drills on it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest_plugins = ["throwaway", "backup_host"]

PLAYBOOK = "auditdb.postgresql.restore_drill"
EVIDENCE = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory/.state/evidence/restore_drill"
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
