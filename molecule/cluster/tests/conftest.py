"""The first run is timed here, so that it is the tests' and not converge's; on hosts that are there it is left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from members import VERSION
from throwaway import Host, Run, keep_figure

pytest_plugins = ["throwaway", "members", "election", "drills"]


@dataclass
class First:
    """Check mode on bare hosts, and the run that made them what they are."""

    checked: Run
    made: Run


@pytest.fixture(scope="session")
def figure(scenario: Path) -> Callable[[str, float], None]:
    """Return a function that keeps a figure."""
    file = scenario / "inventory/.state/site.json"

    def keep(name: str, seconds: float) -> None:
        keep_figure(file, name, round(seconds, 1))

    return keep


@pytest.fixture(scope="session", autouse=True)
def first(hosts: dict[str, Host], playbook, figure) -> First | None:
    if all(
        host.container.exec_run(["test", "-e", f"/etc/patroni/{VERSION}-main.yml"]).exit_code == 0
        for host in hosts.values()
    ):
        return None
    checked = playbook("auditdb.postgresql.site", "--check")
    begun = time.monotonic()
    made = playbook(ANSIBLE_CALLBACK_RESULT_FORMAT="yaml", ANSIBLE_FORCE_COLOR="0", ANSIBLE_NOCOLOR="1")
    figure("bare hosts to healthy", time.monotonic() - begun)
    return First(checked, made)


@pytest.fixture(scope="session")
def balancer(scenario: Path, first: First | None) -> Host:
    name = next(
        iter(yaml.safe_load((scenario / "inventory/hosts.yml").read_text())["all"]["children"]["balancer"]["hosts"])
    )
    return Host(name, scenario / "inventory")
