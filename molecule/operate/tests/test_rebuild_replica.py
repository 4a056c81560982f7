"""A replica that cannot follow is cloned anew, and what it had is kept."""

from __future__ import annotations

import pytest
from members import DATA, UNIT
from nodes import processes

ASIDE = f"ls -d {DATA}.before-* 2>/dev/null | tail -1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LEADER", "leads: its data are what the others are cloned from. Remedy: another leads first"),
        ("nobody", "patroni_rebuild is 'nobody', no member that answers. Remedy: -e patroni_rebuild=HOST, one of"),
        ("", "patroni_rebuild is '', no member that answers"),
    ],
)
def test_who_leads_and_who_is_no_member_is_refused(cluster, timed, name, said):
    cluster.whole()
    before = processes(cluster, *cluster.hosts)
    run = timed("rebuild_replica", "-e", f"patroni_rebuild={name.replace('LEADER', cluster.leader_name())}")
    assert run.code != 0 and run.changed == 0
    assert said in run.text
    assert processes(cluster, *cluster.hosts) == before


def test_check_mode_says_what_would_be_done(cluster, timed):
    cluster.whole()
    replica = cluster.standbys[0]
    before = processes(cluster, *cluster.hosts)
    run = timed("rebuild_replica", "--check", "-e", f"patroni_rebuild={replica.name}")
    assert run.code == 0, run.output
    assert f"{DATA} of {replica.name} would be moved aside, and cloned from {cluster.leader_name()}" in run.text
    assert processes(cluster, *cluster.hosts) == before


def test_a_replica_that_does_not_start_is_cloned_anew(cluster, timed):
    """Its control file is gone, so nothing but a clone helps."""
    cluster.whole()
    replica, other = cluster.standbys
    before = processes(cluster, cluster.leader_name(), other.name)
    aside = replica.run("sh", "-c", ASIDE).strip()
    replica.run("systemctl", "stop", UNIT)
    replica.run("sh", "-c", f"echo kept > {DATA}/mark; mv {DATA}/global/pg_control /tmp/")
    replica.run("systemctl", "start", UNIT)
    run = timed("rebuild_replica", "-e", f"patroni_rebuild={replica.name}")
    assert run.code == 0, run.output
    cluster.whole()
    kept = replica.run("sh", "-c", ASIDE).strip()
    assert kept != aside and kept in run.text
    assert replica.run("cat", f"{kept}/mark") == "kept\n"
    assert replica.sql("SELECT pg_is_in_recovery()") == "t"
    assert processes(cluster, cluster.leader_name(), other.name) == before
