"""A promotion, planned and not; what the inventory says afterwards; and how the old primary comes back.

The tests of this file follow each other: each begins with what the one before has left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from streaming import STREAMING, arrived, rows, wait, write
from throwaway import Host

SERVER = "auditdb.postgresql.server"
STANDBY = "auditdb.postgresql.standby"
PROMOTE = "auditdb.postgresql.promote_standby"


def rebuild(host, how: str) -> tuple[str, str]:
    return "-e", json.dumps({"postgresql_standby_rebuild": {host.name: how}})


def promote(host, fence: str) -> tuple[str, ...]:
    return "-e", f"postgresql_standby_promote={host.name}", "-e", f"postgresql_standby_fence={fence}"


@pytest.mark.newest
def test_a_stale_inventory_is_refused_before_anything_changes(pair, playbook, scenario, declared):
    swapped = declared(pair.follow, pair.lead)
    # What would be changed, if it was.
    given = ("-e", json.dumps({"postgresql_server_settings": {"work_mem": "5MB"}}))
    for name in (scenario / "converge.yml", "auditdb.postgresql.site"):
        run = playbook(name, *given, inventory=swapped)
        assert run.code != 0 and run.changed == 0
        assert f"{pair.follow.name} is declared as a primary, and is a standby" in run.text
        assert f"{pair.lead.name} is declared as a standby of {pair.follow.name}, and is a primary" in run.text
        assert "the inventory is stale. Remedy: declare" in run.text
    for host in (pair.lead, pair.follow):
        assert host.sql("SHOW work_mem") != "5MB"


@pytest.mark.long
@pytest.mark.newest
def test_questions_come_before_a_promotion(pair, playbook):
    cases = (
        ((), "postgresql_standby_promote is ''. Remedy"),
        (promote(pair.lead, "stop"), f"postgresql_standby_promote is '{pair.lead.name}'. Remedy"),
        (promote(pair.follow, ""), "how is it known that"),
    )
    for given, said in cases:
        run = playbook(PROMOTE, *given)
        assert run.code != 0 and run.changed == 0 and said in run.text, run.output
    run = playbook(PROMOTE, *promote(pair.follow, "stop"), "--check")
    assert run.code == 0, run.output
    assert pair.follow.sql("SELECT pg_is_in_recovery()") == "t"
    assert pair.lead.sql("SELECT pg_is_in_recovery()") == "f"


@pytest.fixture
def third(scenario):
    """Return one more host, which is no standby any more after the test."""
    return Host("bare-trixie", scenario / "inventory")


@pytest.mark.long
@pytest.mark.parametrize("pair", ["pair-trixie"], indirect=True)
def test_another_standby_that_has_more_is_not_passed_over(pair, third, playbook, declared):
    three = declared(pair.lead, pair.follow, third)
    assert playbook(SERVER, inventory=three).code == 0
    run = playbook(STANDBY, "-e", "postgresql_standby_max_rate=500M", inventory=three)
    assert run.code == 0, run.output
    wait(lambda: pair.lead.sql(STREAMING) == "2", "there are not two")
    receiver = pair.follow.sql("SELECT pid FROM pg_stat_wal_receiver")
    pair.follow.run("kill", "-STOP", receiver)
    write(pair.lead)
    arrived(pair.lead, third)
    pair.lead.run("systemctl", "kill", "--signal=SIGKILL", pair.unit)
    try:
        run = playbook(PROMOTE, *promote(pair.follow, "off"), inventory=three)
        assert run.code != 0 and run.changed == 0
        assert f"{third.name} has more of the primary than {pair.follow.name}. Remedy" in run.text
        third.run("systemctl", "stop", pair.unit)
        run = playbook(PROMOTE, *promote(pair.follow, "off"), inventory=three)
        assert run.code != 0 and run.changed == 0
        assert f"{third.name} does not say what it has." in run.text
    finally:
        pair.follow.run("kill", "-CONT", receiver)
        pair.lead.run("systemctl", "reset-failed", pair.unit)
        pair.lead.run("systemctl", "start", pair.unit)
    pair.lead.sql("SELECT pg_drop_replication_slot('standby_bare_trixie')")
    wait(lambda: pair.lead.sql(STREAMING) == "1", "it does not stream again")


@pytest.mark.newest
def test_a_planned_promotion_loses_nothing(pair, playbook, scenario):
    # What is written until the primary stops, and acknowledged, is there afterwards.
    insert = 'psql -XAtqc "INSERT INTO ledger DEFAULT VALUES RETURNING id"'
    writer = f"while id=$({insert}); do echo $id; done > /tmp/acknowledged"
    pair.call(pair.lead, f"setsid runuser -u postgres -- bash -c '{writer}' > /dev/null 2>&1 < /dev/null &")
    run = playbook(PROMOTE, *promote(pair.follow, "off"))
    assert run.code != 0 and run.changed == 0
    assert f"auditdb-{pair.lead.name} answers on port 5432: with two primaries" in run.text
    run = playbook(PROMOTE, *promote(pair.follow, "stop"))
    assert run.code == 0, run.output
    acknowledged = pair.call(pair.lead, "cat /tmp/acknowledged").split()
    assert len(acknowledged) > 10 and set(acknowledged) <= set(rows(pair.follow))
    assert pair.follow.sql("SELECT pg_is_in_recovery()") == "f"
    write(pair.follow)
    assert "is the primary, on timeline 2" in run.text
    assert f"Move {pair.follow.name} from the group standby to the group database" in run.text
    # Not even a reboot makes the old primary one again.
    pair.lead.run("systemctl", "start", pair.unit)
    assert pair.lead.sql("SELECT pg_is_in_recovery()") == "t"
    pair.lead.run("systemctl", "stop", pair.unit)
    again = playbook(PROMOTE, *promote(pair.follow, "stop"))
    assert again.code == 0 and again.changed == 0, again.output
    stale = playbook(scenario / "converge.yml", "--limit", pair.limit)
    assert stale.code != 0 and stale.changed == 0
    assert (
        f"{pair.follow.name} is declared as a standby of {pair.lead.name}, and is a primary, on timeline 2"
        in stale.text
    )


@pytest.mark.long
def test_after_it_the_old_primary_follows_as_it_is(pair, playbook, declared):
    swapped = declared(pair.follow, pair.lead)
    for name in (SERVER, STANDBY):
        run = playbook(name, inventory=swapped)
        assert run.code == 0, run.output
    arrived(pair.follow, pair.lead)
    assert rows(pair.lead) == rows(pair.follow)
    assert pair.aside(pair.lead) == []
    assert pair.lead.sql("SELECT count(*) FROM pg_replication_slots") == "0", "of the time when it was a primary"
    assert playbook(STANDBY, inventory=swapped).changed == 0


@pytest.mark.long
def test_an_unplanned_one_and_a_rewind(pair, playbook, declared):
    swapped = declared(pair.follow, pair.lead)
    expected = write(pair.follow, 5)
    arrived(pair.follow, pair.lead)
    pair.follow.run("systemctl", "kill", "--signal=SIGKILL", pair.unit)
    run = playbook(PROMOTE, *promote(pair.lead, "off"), inventory=swapped)
    assert run.code == 0, run.output
    assert "rewind" in run.text
    assert rows(pair.lead) == expected
    write(pair.lead)
    # The other one comes back, and takes writes that nobody else has.
    pair.follow.run("systemctl", "reset-failed", pair.unit)
    pair.follow.run("systemctl", "start", pair.unit)
    write(pair.follow, 7)
    both = ("--limit", pair.limit)
    refused = playbook(STANDBY, *both)
    assert refused.code != 0 and refused.changed == 0
    assert f"{pair.follow.name} is declared as a standby of {pair.lead.name}, and is a primary" in refused.text
    run = playbook(STANDBY, *both, *rebuild(pair.follow, "rewind"))
    assert run.code == 0, run.output
    arrived(pair.lead, pair.follow)
    assert rows(pair.follow) == rows(pair.lead)
    assert pair.aside(pair.follow) == [], "it was rewound where it lies"
    assert playbook(STANDBY, *both, *rebuild(pair.follow, "rewind")).changed == 0


@pytest.mark.long
def test_a_clone_moves_aside_what_was_there(pair, playbook):
    both = ("--limit", pair.limit)
    pair.follow.sql("SELECT pg_promote()")
    diverged = write(pair.follow, 3)
    pair.follow.sql("CHECKPOINT")
    timeline = pair.control(pair.follow, "Latest checkpoint's TimeLineID")
    assert playbook(STANDBY, *both).code != 0
    # A later timeline than the primary's may be the right one: it is not rewound.
    refused = playbook(STANDBY, *both, *rebuild(pair.follow, "rewind"))
    assert refused.code != 0 and refused.changed == 0 and "another host was promoted meanwhile" in refused.text
    run = playbook(STANDBY, *both, *rebuild(pair.follow, "clone"))
    assert run.code == 0, run.output
    arrived(pair.lead, pair.follow)
    assert rows(pair.follow) == rows(pair.lead) != diverged
    (aside,) = pair.aside(pair.follow)
    assert f"What {pair.follow.name} had is in {aside}" in run.text
    bin_directory = f"/usr/lib/postgresql/{pair.version}/bin"
    found = pair.call(pair.follow, f"runuser -u postgres -- {bin_directory}/pg_controldata -D {aside}")
    assert f"Latest checkpoint's TimeLineID:       {timeline}" in found
    assert playbook(STANDBY, *both, *rebuild(pair.follow, "clone")).changed == 0
    pair.follow.run("rm", "-r", aside)


def killed(pair, scenario, until: str, *arguments: str) -> None:
    """Start the playbook, and kill it, and all that it started here, once a shell on the standby's host agrees."""
    process = subprocess.Popen(
        ["ansible-playbook", "-i", str(scenario / "inventory"), STANDBY, "--limit", pair.limit, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while pair.follow.container.exec_run(["sh", "-c", until]).exit_code != 0:
        assert time.monotonic() < deadline and process.poll() is None, f"{until} was not seen"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.long
@pytest.mark.newest
@pytest.mark.parametrize(
    "until",
    [
        "ls -d {data}.before-*",
        "ls {data}.clone/data/base",
        "ls {data}.clone/data/auditdb_standby.made",
        "ls {data}/auditdb_standby.made",
    ],
)
def test_a_clone_that_was_killed_is_completed(pair, playbook, scenario, until):
    pair.follow.sql("SELECT pg_promote()")
    write(pair.follow)
    killed(pair, scenario, until.format(data=pair.data), *rebuild(pair.follow, "clone"))
    # It needs no word any more: what was to go is aside.
    run = playbook(STANDBY, "--limit", pair.limit)
    assert run.code == 0, run.output
    arrived(pair.lead, pair.follow)
    assert rows(pair.follow) == rows(pair.lead)
    (aside,) = pair.aside(pair.follow)
    pair.follow.run("test", "!", "-e", f"{pair.data}.clone")
    assert playbook(STANDBY, "--limit", pair.limit).changed == 0
    pair.follow.run("rm", "-r", aside)


@pytest.mark.long
@pytest.mark.newest
def test_a_rewind_that_was_killed_is_a_clone(pair, playbook):
    both = ("--limit", pair.limit)
    pair.follow.run("install", "-d", "-o", "postgres", "-m", "0700", f"{pair.data}.clone")
    pair.follow.run("touch", f"{pair.data}.clone/rewinding")
    run = playbook(STANDBY, *both, *rebuild(pair.follow, "rewind"))
    assert run.code == 0, run.output
    (aside,) = pair.aside(pair.follow)
    arrived(pair.lead, pair.follow)
    assert playbook(STANDBY, *both).changed == 0
    pair.follow.run("rm", "-r", aside)


@pytest.mark.long
@pytest.mark.newest
def test_an_adoption_that_was_killed_is_completed(pair, playbook):
    pair.follow.run("systemctl", "stop", pair.unit)
    pair.call(pair.follow, f"rm /etc/postgresql/{pair.version}/main/start.conf")
    pair.follow.run("touch", f"/var/lib/postgresql/.adopting-{pair.version}-main")
    assert playbook(STANDBY, "--limit", pair.limit).code == 0
    assert pair.lead.sql(STREAMING) == "1"
    assert playbook(STANDBY, "--limit", pair.limit).changed == 0


@pytest.mark.long
@pytest.mark.newest
def test_a_standby_that_was_away_too_long_says_so(pair, playbook):
    both = ("--limit", pair.limit)
    few = ("-e", "postgresql_standby_keep_mb=64")
    assert playbook(STANDBY, *both, *few).code == 0
    pair.follow.run("systemctl", "stop", pair.unit)
    for setting in ("min_wal_size = '32MB'", "max_wal_size = '64MB'"):
        pair.lead.sql(f"ALTER SYSTEM SET {setting}")
    pair.lead.sql("SELECT pg_reload_conf()")
    slot = "SELECT wal_status FROM pg_replication_slots"
    for _segment in range(12):
        pair.lead.sql("SELECT pg_logical_emit_message(false, '', repeat('x', 1000)), pg_switch_wal()")
        pair.lead.sql("CHECKPOINT")
    assert pair.lead.sql(slot) == "lost"
    run = playbook(STANDBY, *both)
    assert run.code != 0
    assert f"{pair.follow.name} does not stream from {pair.lead.name}. It says:" in run.text
    assert "postgresql_standby_rebuild" in run.text
    run = playbook(STANDBY, *both, *rebuild(pair.follow, "clone"))
    assert run.code == 0, run.output
    assert pair.lead.sql(slot) == "reserved"
    for name in ("min_wal_size", "max_wal_size"):
        pair.lead.sql(f"ALTER SYSTEM RESET {name}")
    pair.lead.sql("SELECT pg_reload_conf()")
    pair.follow.run("rm", "-r", *pair.aside(pair.follow))


@pytest.mark.long
@pytest.mark.newest
def test_another_cluster_is_refused(pair, pairs, playbook, declared):
    (other,) = (each.lead for each in pairs.values() if each is not pair)
    run = playbook(STANDBY, inventory=declared(other, pair.follow))
    assert run.code != 0 and run.changed == 0
    assert f"{pair.follow.name} has another cluster (system identifier" in run.text
    assert f"streams from auditdb-{pair.lead.name}, and the inventory says auditdb-{other.name}" in run.text


@pytest.mark.long
@pytest.mark.newest
def test_an_empty_primary_does_not_hide_a_loss(pair, playbook, scenario):
    pair.lead.run("systemctl", "stop", pair.unit)
    pair.lead.run("mv", pair.data, f"{pair.data}.lost")
    run = playbook(scenario / "converge.yml", "--limit", pair.limit)
    assert run.code != 0 and run.changed == 0
    assert f"{pair.lead.name} has no data, and its standby {pair.follow.name} has" in run.text
    pair.lead.run("mv", f"{pair.data}.lost", pair.data)
    assert playbook(scenario / "converge.yml", "--limit", pair.limit).code == 0
    wait(lambda: pair.lead.sql(STREAMING) == "1", "it does not stream again")
