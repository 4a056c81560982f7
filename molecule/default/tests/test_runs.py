"""Runs of the shipped playbooks: changed=0, check mode, interruptions, and nothing secret in any output."""

from __future__ import annotations

import json
import secrets
import threading

import pytest
import yaml

ROLES = ["migrator", "writer", "reader", "verifier", "partitioner", "backup", "monitor"]


def test_second_run_changes_nothing(playbook):
    run = playbook()
    assert run.code == 0, run.output
    assert run.changed == 0


def test_check_mode_of_a_converged_host_changes_nothing(playbook, host_of):
    written = "SELECT wal_bytes FROM pg_stat_wal"
    before = int(host_of.sql(written))
    run = playbook("auditdb.postgresql.site", "--check", "--diff", "--limit", host_of.name)
    assert run.code == 0, run.output
    assert run.changed == 0
    # Reading may write a hint bit or a running-xacts record, and the ledger gets a row a second: some pages, no more.
    assert int(host_of.sql(written)) - before < 1_000_000


def test_health_is_green_and_leaves_evidence(playbook, scenario):
    evidence = scenario / "inventory/.state/evidence/health"
    before = set(evidence.glob("*.json"))
    run = playbook("auditdb.postgresql.health")
    assert run.code == 0, run.output
    made = set(evidence.glob("*.json")) - before
    assert len(made) == 2
    for file in made:
        text = file.read_text()
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False) == text.rstrip(
            "\n"
        )


def test_health_goes_red_and_names_the_remedy(playbook, hosts):
    host = hosts["default-trixie"]
    host.sql("GRANT DELETE ON audit.audit_log TO audit_writer", "audit_db")
    run = playbook("auditdb.postgresql.health", "--limit", host.name)
    assert run.code != 0
    assert "audit_writer" in run.output
    run = playbook("auditdb.postgresql.site", "--limit", host.name)
    assert run.code == 0, run.output
    assert run.changed > 0
    assert host.sql("SELECT has_table_privilege('audit_writer', 'audit.audit_log', 'DELETE')", "audit_db") == "f"


@pytest.mark.long
def test_a_reboot_half_way_is_finished_by_the_next_run(playbook, hosts):
    host = hosts["default-trixie"]
    host.sql("DROP DATABASE audit_db WITH (FORCE)")
    reboot = threading.Timer(2.5, host.restart)
    reboot.start()
    playbook("auditdb.postgresql.site", "--limit", host.name)  # may fail or not: the host went away under it
    reboot.join()
    run = playbook("auditdb.postgresql.site", "--limit", host.name)
    assert run.code == 0, run.output
    run = playbook("auditdb.postgresql.site", "--limit", host.name)
    assert run.code == 0, run.output
    assert run.changed == 0


def test_no_password_appears_anywhere(playbook, hosts, tmp_path):
    host = hosts["default-trixie"]
    canaries = {f"audit_{role}": f"canary{secrets.token_hex(12)}" for role in ROLES}
    given = tmp_path / "passwords.json"
    given.write_text(json.dumps({"audit_passwords": canaries}))
    outputs = []
    linear = {"ANSIBLE_STRATEGY": "linear"}
    for arguments, strategy in ((["--check", "--diff"], {}), (["--diff"], linear)):
        run = playbook(
            "auditdb.postgresql.site", "-vvv", "-e", f"@{given}", "--limit", host.name, *arguments, **strategy
        )
        assert run.code == 0, run.output
        outputs.append(run.output)
    assert host.connect("audit_writer", password=canaries["audit_writer"])
    logs = host.run("sh", "-c", "journalctl --no-pager -o export; cat /var/log/postgresql/* /var/log/*.log")
    on_disk = host.run("sh", "-c", "grep -rIl canary /etc /tmp /home /root /var/tmp /var/lib/dpkg 2>/dev/null; true")
    statements = host.sql("SELECT coalesce(string_agg(query, ' '), '') FROM pg_stat_statements", "audit_db")
    try:
        for name, canary in canaries.items():
            for where, text in {"output": "\n".join(outputs), "logs": logs, "pg_stat_statements": statements}.items():
                assert canary not in text, f"the password of {name} is in the {where}"
        assert on_disk.strip() == ""
    finally:
        run = playbook("auditdb.postgresql.site", "-vvv", "--diff", "--limit", host.name)
    assert run.code == 0, run.output
    for password in yaml.safe_load((host.inventory / "group_vars/all/secrets.yml").read_text())[
        "audit_passwords"
    ].values():
        assert password not in run.output, "a password of the vault is in the output"
