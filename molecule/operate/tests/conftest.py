"""The members, the balancer, and inventories in which other hosts are members."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from members import STATE
from throwaway import ROOT, Host, Run, keep_figure

pytest_plugins = ["throwaway", "members", "election"]


@pytest.fixture(scope="session")
def balancer(scenario: Path) -> Host:
    return Host("oper-lb", scenario / "inventory")


@pytest.fixture(scope="session")
def spare(scenario: Path) -> Host:
    return Host("oper4", scenario / "inventory")


@pytest.fixture(scope="session")
def timed(playbook) -> Callable[..., Run]:
    """Return a function that runs one of this collection's playbooks, and keeps how long it took."""

    def run(name: str, *arguments: str, **options) -> Run:
        begun = time.monotonic()
        done = playbook(f"auditdb.postgresql.{name}", *arguments, **options)
        keep_figure(STATE / "operate.json", f"{name} {' '.join(arguments)}", round(time.monotonic() - begun, 1))
        return done

    return run


@pytest.fixture
def declared(scenario: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes an inventory in which these hosts are members, and these ones members of etcd."""

    def make(database: list[str], etcd: list[str]) -> Path:
        folder = tmp_path / "-".join([*database, "etcd", *etcd])
        folder.mkdir()
        for name, target in (("group_vars", ROOT / "inventories/elected/group_vars"), (".state", STATE)):
            (folder / name).symlink_to(target)
        tree = yaml.safe_load((scenario / "inventory/hosts.yml").read_text())
        groups = tree["all"]["children"]
        groups["database"] = {"hosts": {name: {"ansible_host": f"auditdb-{name}"} for name in database}}
        groups["etcd"] = {"hosts": dict.fromkeys(etcd)}
        groups["spare"]["hosts"] = {
            name: {"ansible_host": f"auditdb-{name}"} for name in ("oper3", "oper4") if name not in database
        } or None
        (folder / "hosts.yml").write_text(yaml.safe_dump(tree))
        return folder

    return make
