"""The backups of a cluster that elects its leader, on the host that keeps them.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "members", "election", "archive"]`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from keeper import Keeper
from members import Cluster
from throwaway import Host, wait_until


class Archive(Keeper):
    """The cluster's backups, as they are on the host that keeps them."""

    def listed(self) -> list[dict]:
        return json.loads(self.backup("list", "--json").output)

    def wait_for(self, name: str, seconds: float = 60) -> None:
        wait_until(lambda: name in self.names("wal"), f"{name} is not archived within {seconds} s", seconds, 0.3)

    def whole_to(self, leader: Host) -> dict:
        """End the leader's segment; return the status once all up to it is archived, which must lack nothing."""
        timeline = timeline_of(leader)
        name = leader.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")
        self.wait_for(name, 90)
        if timeline > 1:
            self.wait_for(f"{timeline:08X}.history")
        status = self.status()
        assert status["wal"]["missing"] == [], status["wal"]
        assert status["wal"]["newest"] >= name
        return status


def timeline_of(leader: Host) -> int:
    return int(leader.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")[:8], 16)


@pytest.fixture(scope="session")
def archive(cluster: Cluster, scenario: Path) -> Archive:
    groups = yaml.safe_load((scenario / "inventory/hosts.yml").read_text())["all"]["children"]
    return Archive("main", next(iter(groups["backup"]["hosts"])))
