"""The site names only groups that an inventory has, whatever it leaves out: a name that matches nothing is an error."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

ROOT = Path(__file__).resolve().parents[2]
GIVEN = ["single", "cluster", "elected", "existing", "example"]
OTHERS = {
    "a cache and no balancer": "[database]\ndb1\n[pgpool]\ncache1\n",
    "a balancer, a cache and no cluster": "[database]\ndb1\n[balancer]\nlb1\n[pgpool]\ncache1\n",
    "a cluster and no balancer": "[database]\ndb1\n[etcd]\ndb1\n",
}


def listed(inventory: Path) -> subprocess.CompletedProcess[str]:
    """Have the hosts of each play of the site listed, and nothing run."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "--list-hosts"]
    environment = {**os.environ, "ANSIBLE_HOST_PATTERN_MISMATCH": "error"}
    return subprocess.run(
        [*command, str(ROOT / "playbooks/site.yml")], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", GIVEN)
def test_each_inventory_has_what_the_site_names(name):
    done = listed(ROOT / "inventories" / name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", OTHERS)
def test_what_an_inventory_leaves_out_is_not_named(name, tmp_path):
    (tmp_path / "hosts.ini").write_text(OTHERS[name])
    done = listed(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("scenario", sorted((ROOT / "molecule").glob("*/inventory")), ids=lambda path: path.parent.name)
def test_a_scenario_has_the_variables_of_a_shipped_inventory(scenario):
    """They are a link; one that was copied as a file fails only where hosts are made."""
    assert (scenario / "group_vars").is_dir()


def test_no_two_throwaway_hosts_have_one_address():
    """Those of molecule/shared/tasks/hosts.yml: scenarios run at once, so it is asked of all of them together."""
    files = [*(ROOT / "molecule").glob("*/inventory/hosts.yml"), *(ROOT / "inventories").glob("*/hosts.yml")]
    given = [InventoryManager(loader=DataLoader(), sources=[str(file)]) for file in files]
    hosts = {host for each in given if "throwaway" in each.groups for host in each.get_groups_dict()["throwaway"]}
    numbers = {host: int(hashlib.sha1(host.encode()).hexdigest()[:6], 16) for host in hosts}
    addresses = {host: (number // 254 % 240, number % 254) for host, number in numbers.items()}
    assert len(addresses) > 30
    assert len(set(addresses.values())) == len(addresses), addresses
