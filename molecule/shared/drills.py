"""Failover drills by the shipped playbook, and the evidence that they leave.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "members", "election", "drills"]`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from auditdb_failover.drill import Drill
from auditdb_failover.drill import Path as Way
from auditdb_failover.outcome import Outcome
from jinja2 import Template
from members import DATA, STATE, UNIT, Cluster
from throwaway import ROOT, Host, Run, keep_figure

PLAY = "auditdb.postgresql.failover_drill"
CLUSTER = "failover_drill_cluster=main"
CORE = ["postgres_crash", "patroni_stop", "etcd_quorum_lost", "host_death"]
"""The faults that `make test` tries."""
EVIDENCE = STATE / "evidence/failover_drill"
FIGURES = STATE / "failover.json"
"""What each fault has cost, as the last run measured it."""

ROLE = ROOT / "roles/failover_drill"
FAULTS = yaml.safe_load((ROLE / "vars/faults.yml").read_text())["__failover_drill_catalogue"]
PASSWORD = "only-for-this-test"


def commands(fault: str, step: str = "do") -> list[str]:
    """Return the command of a fault, as the playbook runs it."""
    known = {"failover_drill_unit": f"{UNIT}.service", "failover_drill_data_directory": DATA}
    return [Template(each).render(known) for each in FAULTS[fault][step]]


def spread(took: list[float]) -> dict[str, float]:
    """Return what is kept of repeated runs, in seconds."""
    return {
        "runs": len(took),
        "median_s": round(statistics.median(took), 2),
        "p95_s": round(sorted(took)[math.ceil(0.95 * len(took)) - 1], 2),
        "max_s": round(max(took), 2),
    }


class Clients:
    """The product's clients, on this machine: the same way, without a playbook's time."""

    def __init__(self, cluster: Cluster, balancer: Host) -> None:
        self.cluster = cluster
        login = {
            "host": balancer.container.name, "hostaddr": balancer.address, "dbname": "audit_db",
            "user": "failover_drill", "password": PASSWORD,
            "sslmode": "verify-full", "sslrootcert": str(STATE / "tls/ca.crt"),
        }  # fmt: skip
        self.way = Way([{**login, "port": 6432}], [{**login, "port": 5001}])

    def run_sql(self, name: str) -> None:
        self.cluster.leader.sql((ROLE / "files" / name).read_text(), "audit_db")

    @contextmanager
    def meanwhile(self, fault: str) -> Iterator[Outcome]:
        """Write and read while the block does its worst; afterwards the outcome is known, and all is well."""
        self.cluster.whole()
        drill = Drill(self.way, list(self.cluster.hosts), fault)
        try:
            drill.start(60)
            yield drill.outcome
            drill.finish(180)
        finally:
            drill.stop()


class Drilled(NamedTuple):
    """What a run said, and the evidence that it has left, by fault."""

    run: Run
    evidence: dict[str, dict[str, Any]]


def reports() -> set[Path]:
    return set(EVIDENCE.glob("*.json"))


@pytest.fixture(scope="session")
def balancer(scenario: Path) -> Host:
    return Host("fail-lb", scenario / "inventory")


@pytest.fixture(scope="session")
def programs(cluster) -> None:
    """Have the members cut connections, which some faults do."""
    for host in cluster.hosts.values():
        host.run("sh", "-c", "command -v nft > /dev/null || apt-get install -y -qq nftables")


@pytest.fixture
def clients(cluster, balancer) -> Iterator[Clients]:
    found = Clients(cluster, balancer)
    found.run_sql("teardown.sql")
    cluster.leader.sql(f"CREATE ROLE failover_drill LOGIN PASSWORD '{PASSWORD}'")
    found.run_sql("setup.sql")
    yield found
    found.run_sql("teardown.sql")


@pytest.fixture
def drill(playbook, cluster) -> Callable[..., Drilled]:
    """Return a function that runs a drill, and keeps its figures."""

    def run(*faults: str, **values: Any) -> Drilled:
        cluster.whole()
        before = reports()
        given = {"failover_drill_cluster": "main", "failover_drill_faults": list(faults), **values}
        done = playbook(PLAY, "-e", json.dumps(given), ANSIBLE_CALLBACK_RESULT_FORMAT="yaml")
        evidence = {each["fault"]: each for each in (json.loads(file.read_text()) for file in reports() - before)}
        for name, each in evidence.items():
            keep_figure(FIGURES, name, {key: value for key, value in each.items() if key.endswith(("_ms", "_errors"))})
        return Drilled(done, evidence)

    return run


@pytest.fixture
def nothing_left(cluster, balancer) -> Callable[[], None]:
    """Return a function that fails where something of a drill has stayed."""

    def check() -> None:
        leader = cluster.leader
        assert leader.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'failover_drill'") == "0"
        assert leader.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'failover_drill'", "audit_db") == "0"
        names = "-name '*.auditdb-failover-drill' -o -name auditdb_failover -o -path '*/.ansible_async/*'"
        assert balancer.run("sh", "-c", f"find /tmp /var/tmp /root /usr/local {names}").strip() == ""
        assert "start.py" not in balancer.run("ps", "axww", "-o", "args")

    return check
