"""What runs of the playbook refuse, warn of, change and leave."""

from __future__ import annotations

import json

import pytest
import yaml
from caching import wait
from throwaway import ROOT, Host, ask

PLAY = "auditdb.postgresql.pgpool"
WRONG = {
    "pgpool_backends": [],
    "pgpool_users": ["alice", "auditdb_pgpool"],
    "pgpool_passwords": {"bob": "x"},
    "pgpool_listen_port": 0,
    "pgpool_client_networks": ["10.0.0.0/0"],
    "pgpool_sessions": 0,
    "pgpool_maximum_lag": 0,
    "pgpool_cache_tables": ["Public.x"],
    "pgpool_cache_size_mb": 0,
    "pgpool_cache_ttl": 0,
    "pgpool_cache_entries": 0,
    "pgpool_settings": {"failover_command": "reboot", "ssl": "off", "allow_clear_text_frontend_auth": "on"},
}


def test_all_that_is_wrong_is_said_at_once(caches, playbook):
    run = playbook(PLAY, "--limit", caches["cache1"].limit, "-e", json.dumps(WRONG))
    assert run.code != 0 and run.changed == 0
    missing = [name for name in WRONG if name not in run.text]
    assert missing == [], run.text
    assert all(f"pgpool_settings has {name}" in run.text for name in WRONG["pgpool_settings"])


def test_superusers_and_strangers_are_refused(caches, playbook):
    given = {"pgpool_users": ["alice", "postgres", "nobody"],
             "pgpool_passwords": {"alice": "only for alice", "postgres": "x", "nobody": "x"}}  # fmt: skip
    run = playbook(PLAY, "--limit", caches["cache1"].limit, "-e", json.dumps(given))
    assert run.code != 0 and run.changed == 0
    assert "postgres is a superuser" in run.text and "nobody is no role of the server" in run.text
    assert ask(caches["cache1"].login(), "SELECT 1") == 1


def test_more_sessions_than_the_server_has_are_refused(caches, playbook):
    run = playbook(PLAY, "--limit", caches["cache1"].limit, "-e", "pgpool_sessions=900")
    assert run.code != 0 and "902 connections" in run.text and "Remedy: fewer" in run.text


def test_writes_past_it_are_warned_of(caches, playbook):
    other = '{"pgpool_other_write_paths": ["lb1"]}'
    run = playbook(PLAY, "--check", "--limit", caches["cache1"].limit, "-e", other)
    assert run.code == 0 and run.changed == 0, run.output
    assert "WARNING: clients that write through lb1" in run.text and "6 s old" in run.text
    nothing = '{"pgpool_other_write_paths": ["lb1"], "pgpool_cache_tables": []}'
    assert "WARNING: clients" not in playbook(PLAY, "--check", "--limit", caches["cache1"].limit, "-e", nothing).text


def test_a_setting_that_pgpool_does_not_know_stops_the_play(caches, playbook):
    cache = caches["cache1"]
    before = cache.run("sha256sum", "/etc/pgpool2/pgpool.conf")
    run = playbook(PLAY, "--limit", cache.limit, "-e", '{"pgpool_settings": {"no_such_setting": 1}}')
    assert run.code != 0 and "no_such_setting" in run.text, run.output
    assert cache.run("sha256sum", "/etc/pgpool2/pgpool.conf") == before


def test_a_change_is_read_or_restarted_for_and_named(caches, playbook):
    cache = caches["cache1"]
    run = playbook(
        PLAY, "--diff", "--limit", cache.limit, "-e", '{"pgpool_sessions": 15, "pgpool_maximum_lag": 2097152}'
    )
    assert run.code == 0, run.output
    assert "+num_init_children = '15'" in run.output and "Restart it, for: num_init_children" in run.text
    wait(lambda: cache.writes_reach(cache.base), "it does not come back")
    run = playbook(PLAY, "--limit", cache.limit)
    assert run.code == 0, run.output
    wait(lambda: cache.writes_reach(cache.base), "it does not come back")


def test_one_that_dies_comes_back(cache):
    cache.run("systemctl", "kill", "--signal=KILL", "pgpool2")
    wait(lambda: cache.writes_reach(cache.base), "it does not come back")
    cache.run("systemctl", "kill", "--signal=KILL", "auditdb-pgpool-follow")
    state = ["systemctl", "show", "--value", "-p", "ActiveState", "auditdb-pgpool-follow"]
    wait(lambda: cache.run(*state).strip() == "active", "what tells it does not come back")


def test_the_share_of_hits_is_said(caches, scenario, tmp_path, playbook):
    play = tmp_path / "look.yml"
    tasks = [
        {"ansible.builtin.import_role": {"name": PLAY, "tasks_from": "look_health"}},
        {"ansible.builtin.debug": {"msg": "{{ pgpool_health_rows | auditdb.postgresql.health_table }}"}},
    ]
    play.write_text(yaml.safe_dump([{"hosts": "pgpool", "become": True, "gather_facts": False, "tasks": tasks}]))
    run = playbook(play)
    assert run.code == 0 and run.changed == 0, run.output
    for name in caches:
        assert f"Pgpool on {name} sends writes to who takes them" in run.text
    assert "reads came from the cache" in run.text and "FAILED" not in run.text


@pytest.fixture
def bare(scenario, tmp_path):
    """Return an inventory in which Pgpool is to be on a bare host."""
    tree = yaml.safe_load((scenario / "inventory/hosts.yml").read_text())
    host = {"ansible_host": "auditdb-cache-bare", "pgpool_backends": [{"host": "auditdb-cache-db1"}]}
    tree["all"]["children"]["pgpool"]["hosts"] = {"cache-bare": host}
    tree["all"]["children"]["database"]["hosts"] = {"cache-db1": {"ansible_host": "auditdb-cache-db1"}}
    tree["all"]["children"]["standby"]["hosts"] = {}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(tree))
    (tmp_path / "group_vars").symlink_to(ROOT / "inventories/cluster/group_vars")
    (tmp_path / ".state").symlink_to(scenario / "inventory/.state")
    return tmp_path


def test_check_mode_on_a_bare_host(scenario, playbook, bare):
    run = playbook(PLAY, "--check", "--diff", inventory=bare)
    assert run.code == 0, run.output
    assert "Pgpool would be installed" in run.text
    Host("cache-bare", scenario / "inventory").run("sh", "-c", "test ! -e /etc/pgpool2")


def test_a_run_after_all_this_changes_nothing(playbook):
    run = playbook(PLAY)
    assert (run.code, run.changed) == (0, 0), run.output
