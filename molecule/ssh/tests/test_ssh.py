"""The README's "Your own hosts": inventories/example, filled in, provisions over SSH."""

from __future__ import annotations

import secrets
import shutil
import subprocess

import pytest
import yaml
from throwaway import ROOT

COMMON = "/etc/postgresql-common/createcluster.conf"
VARIABLES = yaml.safe_load((ROOT / "roles/postgresql_server/vars/main.yml").read_text())
PACKAGES = [
    "postgresql-17" if "{{" in name else name for name in VARIABLES["__postgresql_server_packages"] if name != "locales"
]


@pytest.fixture(scope="module")
def mine(hosts, tmp_path_factory):
    """Copy inventories/example and fill it in as the README says."""
    folder = tmp_path_factory.mktemp("own")
    inventory = folder / "mine"
    (host,) = hosts.values()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    host.run("install", "-d", "-o", "admin", "-m", "0700", "/home/admin/.ssh")
    key = (folder / "key.pub").read_text().strip()
    host.run("sh", "-c", f"echo '{key}' > /home/admin/.ssh/authorized_keys")
    scan = subprocess.run(["ssh-keyscan", "-t", "ed25519", host.address], capture_output=True, text=True, check=True)
    (folder / "known_hosts").write_text(scan.stdout)

    shutil.copytree(ROOT / "inventories/example", inventory)
    tree = yaml.safe_load((inventory / "hosts.yml").read_text())
    tree["all"]["children"]["database"]["hosts"]["db1"] |= {
        "ansible_host": host.address,
        "ansible_ssh_private_key_file": str(folder / "key"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder / 'known_hosts'}",
        "postgresql_server_memory_mb": 1024,  # a throwaway host sees the whole machine's memory
    }
    (inventory / "hosts.yml").write_text(yaml.safe_dump(tree))
    vault = inventory / "group_vars/all/vault.yml"
    passwords = yaml.safe_load(vault.read_text())["audit_passwords"]
    vault.write_text(yaml.safe_dump({"audit_passwords": {role: secrets.token_urlsafe(24) for role in passwords}}))
    (folder / "word").write_text(secrets.token_hex(16))
    subprocess.run(["ansible-vault", "encrypt", "--vault-password-file", str(folder / "word"), str(vault)], check=True)
    assert vault.read_text().startswith("$ANSIBLE_VAULT")
    return inventory


@pytest.fixture
def play(mine, playbook):
    """Run a playbook as the README does: on this inventory alone, with Ansible's own strategy."""

    def run(name, *arguments):
        options = ["--vault-password-file", str(mine.parent / "word")]
        return playbook(ROOT / "playbooks" / name, *options, *arguments, inventory=mine, ANSIBLE_STRATEGY="linear")

    return run


def test_it_is_ssh_and_sudo(play, mine):
    tree = yaml.safe_load((mine / "group_vars/all/connection.yml").read_text())
    assert tree["ansible_user"] == "admin" and "ansible_connection" not in tree


def test_check_mode_on_a_bare_host(play, database_host):
    run = play("site.yml", "--check", "--diff")
    assert run.code == 0, run.output
    database_host.run("sh", "-c", "! command -v psql && ! test -e /etc/postgresql")
    # As when an earlier run was interrupted there.
    database_host.run("sh", "-c", "mkdir -p /etc/postgresql-common; echo create_main_cluster = false > $0", COMMON)
    database_host.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *PACKAGES)
    run = play("site.yml", "--check", "--diff")
    assert run.code == 0 and "Run pg_createcluster" in run.output, run.output
    database_host.run("sh", "-c", "! test -e /etc/postgresql/17")


def test_it_is_provisioned_verified_and_stays_as_it_is(play):
    run = play("site.yml")
    assert run.code == 0, run.output
    assert "FAILED" not in run.output and " ok" in run.output
    again = play("site.yml")
    assert again.code == 0 and again.changed == 0, again.output


def test_health_alone(play):
    run = play("health.yml")
    assert run.code == 0 and run.changed == 0, run.output
