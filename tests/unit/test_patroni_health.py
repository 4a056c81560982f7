"""The lines of the health report about a cluster: whoever does not answer is a finding, never silence."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.auditdb.postgresql.plugins.filter.patroni import FilterModule

FILTERS = FilterModule().filters()
cluster_rows, cluster_refusals, cluster_lowered = (
    FILTERS[f"cluster_{name}"] for name in ("rows", "refusals", "lowered")
)
MEMBERS = ["db1", "db2", "db3"]
LEADS, STREAMS, UNDECLARED, WAITS, PAUSED, ETCD = range(6)


def member(*, leads: bool) -> dict:
    return {
        "patroni": {"role": "primary" if leads else "replica", "state": "running"},
        "cluster": {"members": [{"name": name} for name in MEMBERS]},
        "server": {
            "standby": not leads,
            "timeline": 4,
            "streaming": ["db2", "db3"] if leads else [],
            "waiting": [],
        },
        "etcd": {"db1:2379": True, "db2:2379": True, "db3:2379": True},
    }


@pytest.fixture
def found():
    return {name: member(leads=name == "db1") for name in MEMBERS}


def findings(found, line):
    return cluster_rows(found, MEMBERS)[line]["findings"]


def test_all_is_well(found):
    rows = cluster_rows(found, MEMBERS)
    assert [row["status"] for row in rows] == ["ok"] * 6
    assert [row["findings"] for row in rows] == [[]] * 6
    old = copy.deepcopy(found)
    old["db1"]["patroni"]["role"] = "master"  # Patroni 3
    assert [row["findings"] for row in cluster_rows(old, MEMBERS)] == [[]] * 6


def test_who_leads(found):
    found["db3"]["server"]["standby"] = False
    assert findings(found, LEADS) == ["db3 takes writes, and does not lead"]
    found["db3"]["patroni"]["role"] = "primary"
    assert findings(found, LEADS) == ["db1 and db3 lead"]
    found["db1"]["patroni"] = found["db3"]["patroni"] = {}
    assert findings(found, LEADS)[0] == "nobody leads"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda found: found.pop("db2"), "db2 cannot be reached"),
        (lambda found: found["db2"].update(server={}), "db2: the server does not answer"),
        (lambda found: found["db2"].update(patroni={}), "db2: Patroni does not answer"),
        (lambda found: found["db2"]["server"].update(timeline=None), "db2 does not stream from db1"),
        (lambda found: found["db1"]["server"].update(streaming=["db3"]), "db2 does not stream from db1"),
        (lambda found: found["db2"]["server"].update(timeline=3), "db2 is on timeline 3, and db1 on 4"),
    ],
)
def test_who_does_not_stream(found, change, finding):
    change(found)
    assert findings(found, STREAMS) == [finding]
    assert cluster_rows(found, MEMBERS)[STREAMS]["status"] == "failed"


def test_who_is_a_member_and_not_declared(found):
    found["db3"]["cluster"]["members"].append({"name": "db4"})
    assert findings(found, STREAMS) == []
    assert findings(found, UNDECLARED) == ["db4 is a member, and not declared"]
    assert cluster_rows(found, MEMBERS)[UNDECLARED]["status"] == "failed"


def test_what_waits_for_a_restart(found):
    found["db1"]["server"]["waiting"] = ["shared_buffers"]
    found["db2"]["patroni"].update(pending_restart=True, pending_restart_reason={"max_connections": {}})
    found["db3"]["patroni"].update(pending_restart=True)
    assert findings(found, WAITS) == ["db1: shared_buffers", "db2: max_connections", "db3: what the members share"]


def test_a_pause_is_said_and_no_failure(found):
    found["db2"]["cluster"]["pause"] = True
    row = cluster_rows(found, MEMBERS)[PAUSED]
    assert row["status"] == "ok" and "as db2 see it" in row["findings"][0]


def test_etcd(found):
    found["db1"]["etcd"]["db3:2379"] = found["db2"]["etcd"]["db3:2379"] = False
    assert findings(found, ETCD) == ["db3:2379 does not say that it is healthy to db1, db2"]
    assert cluster_rows(found, MEMBERS)[ETCD]["status"] == "failed"


def refusals(found, **options):
    return cluster_refusals(found, MEMBERS, **options)


def test_a_whole_cluster_refuses_nothing(found):
    found["db1"]["cluster"]["members"][1]["role"] = "quorum_standby"
    assert refusals(found, synchronous=True) == []
    assert refusals(found) == []


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda found: found.pop("db2"), "db2 cannot be reached"),
        (lambda found: found["db1"]["server"].update(streaming=["db3"]), "db2 does not stream from db1"),
        (lambda found: found["db3"]["server"].update(standby=False), "db3 takes writes, and does not lead"),
        (lambda found: found["db3"]["cluster"]["members"].append({"name": "db4"}), "db4 is a member, and not declared"),
        (lambda found: found["db3"]["cluster"].update(pause=True), "the cluster is paused"),
        (lambda found: found["db3"]["etcd"].update({"db2:2379": False}), "etcd: db2:2379 does not say"),
    ],
)
def test_what_is_not_whole_is_refused_with_its_remedy(found, change, refusal):
    change(found)
    (line,) = refusals(found)
    assert line.startswith(refusal) and "Remedy: " in line


def test_who_is_to_go_may_be_in_any_state(found):
    found["db1"]["server"]["streaming"] = ["db2"]
    found["db3"] = {"patroni": {}, "cluster": {}, "server": {}, "etcd": {"db1:2379": False}}
    found["db1"]["etcd"]["db3:2379"] = False
    assert refusals(found, without="db3", without_etcd="db3:2379") == []
    assert len(refusals(found, without="db3")) == 1
    del found["db3"]
    assert refusals(found, without="db3", without_etcd="db3:2379") == []


def test_commits_wait_for_another_than_who_goes(found):
    found["db1"]["cluster"]["members"][1]["role"] = "sync_standby"
    assert refusals(found, without="db3", synchronous=True) == []
    (line,) = refusals(found, without="db2", synchronous=True)
    assert line.startswith("no standby besides db2 has all that is committed")
    assert refusals(found, without="db2") == []


def test_what_would_be_lowered():
    running = {"max_connections": "200", "max_wal_senders": "10", "max_worker_processes": "8"}
    wanted = {"max_connections": 100, "max_wal_senders": 20, "wal_level": "logical"}
    assert cluster_lowered(running, wanted) == ["max_connections (200 -> 100)"]
