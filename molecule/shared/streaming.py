"""A primary and its standby: what the tests of streaming replication share.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "streaming"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from throwaway import ROOT, Host, wait_until

RELEASES = ("bookworm", "trixie")
STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"


wait = partial(wait_until, seconds=30, every=0.2)


@dataclass(frozen=True)
class Pair:
    """Two hosts of one release: one leads and one follows, at first."""

    release: str
    lead: Host
    follow: Host

    @property
    def version(self) -> int:
        return {"bookworm": 15, "trixie": 17}[self.release]

    @property
    def unit(self) -> str:
        return f"postgresql@{self.version}-main"

    @property
    def data(self) -> str:
        return f"/var/lib/postgresql/{self.version}/main"

    @property
    def limit(self) -> str:
        return f"{self.lead.name},{self.follow.name}"

    def control(self, host: Host, word: str) -> str:
        """Return a line of the control file."""
        found = host.run(
            f"/usr/lib/postgresql/{self.version}/bin/pg_controldata", "-D", self.data, user="postgres"
        ).splitlines()
        return next(line.split(": ", 1)[1].strip() for line in found if line.startswith(word))

    def aside(self, host: Host) -> list[str]:
        """Return the directories that were moved aside."""
        return host.run("sh", "-c", f"ls -d {self.data}.before-* 2>/dev/null; :").split()

    def call(self, host: Host, script: str) -> str:
        return host.run("bash", "-euo", "pipefail", "-c", script).strip()


def rows(host: Host) -> list[str]:
    return host.sql("SELECT id FROM ledger ORDER BY id").split()


def write(host: Host, number: int = 1) -> list[str]:
    """Commit rows, and return all that there are."""
    host.sql(f"INSERT INTO ledger SELECT FROM generate_series(1, {number})")
    return rows(host)


def arrived(source: Host, target: Host) -> None:
    """Wait until the target has replayed all that the source has."""
    lsn = source.sql("SELECT pg_current_wal_flush_lsn()")
    wait(
        lambda: target.sql(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == "t",
        f"{target.name} has not replayed {lsn} of {source.name} within 30 s",
    )


@pytest.fixture(scope="session")
def pairs(scenario: Path) -> dict[str, Pair]:
    inventory = scenario / "inventory"
    found = {each: Pair(each, *(Host(f"{name}-{each}", inventory) for name in ("lead", "follow"))) for each in RELEASES}
    for pair in found.values():
        pair.lead.sql("CREATE TABLE IF NOT EXISTS ledger (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())")
    return found


@pytest.fixture(params=[f"pair-{each}" for each in RELEASES])
def pair(request: pytest.FixtureRequest, pairs: dict[str, Pair]) -> Pair:
    return pairs[request.param.removeprefix("pair-")]


@pytest.fixture
def declared(scenario: Path, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that makes an inventory in which the first host is the primary of the others."""
    own = yaml.safe_load((scenario / "inventory/hosts.yml").read_text())["all"]["children"]
    given = {name: each for group in own.values() for name, each in (group.get("hosts") or {}).items()}

    def make(primary: Host, *standbys: Host) -> Path:
        def host(name: str) -> dict[str, Any]:
            return {key: each for key, each in given[name].items() if key != "postgresql_standby_primary"}

        folder = tmp_path / "-".join(each.name for each in (primary, *standbys))
        folder.mkdir(exist_ok=True)
        for name, target in (("group_vars", ROOT / "inventories/cluster/group_vars"),
                             (".state", scenario / "inventory/.state")):  # fmt: skip
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(target)
        following = {each.name: {**host(each.name), "postgresql_standby_primary": primary.name} for each in standbys}
        groups: dict[str, Any] = {
            "database": {"hosts": {primary.name: host(primary.name)}},
            "standby": {"hosts": following},
            "throwaway": {"children": {"database": {}, "standby": {}}},
        }
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        return folder

    yield make
