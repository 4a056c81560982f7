"""What a fault has cost, counted from what the clients have seen, and what of it is red."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from ansible_collections.auditdb.postgresql.plugins.filter.failover import failover_rows, failover_table
from auditdb_failover.clients import SilentError, Watcher, told
from auditdb_failover.outcome import Outcome, degraded, interruptions, longest

ROLE = Path(__file__).resolve().parents[2] / "roles/failover_drill"
FAULTS = yaml.safe_load((ROLE / "vars/faults.yml").read_text())["__failover_drill_catalogue"]
CONSTANTS = yaml.safe_load((ROLE / "vars/main.yml").read_text())


@pytest.mark.parametrize(
    ("moments", "took", "times"),
    [
        ([1, 2, 3, 4], 1, 0),
        ([1, 1.5, 4, 4.5], 2.5, 1),
        ([1.5, 3, 4.5], 1.5, 2),
        ([], 4, 1),  # nothing has worked at all
        ([1.2, 1.4], 3.6, 1),  # nor at the end
        ([4, 4.5], 3, 1),  # nor at the beginning
    ],
)
def test_the_longest_time_in_which_nothing_worked(moments, took, times):
    assert longest(moments, 1, 5) == pytest.approx(took)
    assert interruptions(moments, 1, 5) == times


@pytest.mark.parametrize(
    ("seen", "took"),
    [
        ([(1, "a"), (2, "a"), (3, "a")], 0),
        ([(1, "a"), (2, ""), (3, ""), (4, "b")], 3),
        ([(1, "a"), (2, ""), (3, "b"), (4, ""), (5, "b")], 4),
        ([(2, ""), (4, "b")], 4),
        ([(1, "a"), (2, "")], 5),
    ],
)
def test_how_long_not_all_members_took_part(seen, took):
    assert degraded(seen, 0, 6) == took


def test_who_leads_is_who_streams_from_nobody():
    watcher = Watcher([], 1, ["a", "b", "c"])
    watcher.ask = lambda *_values: [(["a", "c"],)]
    watcher.once(None)
    assert watcher.leader(1) == "b"
    watcher.ask = lambda *_values: [(["a"],)]
    watcher.once(None)
    assert watcher.leader(1) == "", "one of the others does not stream"


def test_errors_are_counted_by_what_they_say():
    assert told(SilentError()) == "no answer in time"
    assert told(psycopg2.OperationalError('connection to "x", port 1 failed: FATAL:  it is down\n')) == "it is down"
    assert told(psycopg2.OperationalError()) == "OperationalError"


def found(**changes: Any) -> dict[str, Any]:
    outcome = Outcome(rows=100, reads=100, outage=2, leader_before="a", leader_after="b").as_json()
    given = {"leads": "another", "budget_ms": 5000, "may_lose": False, "failure": "", "fault": "x", "what": "y"}
    return {**outcome, **given, "targets": ["a"], "profile": "sync", **changes}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"rows_lost": 1, "lost": [7]}, ["no acknowledged row is lost: 1 of 100 are: 7"]),
        ({"rows_lost": 1, "lost": [7], "may_lose": True}, []),
        ({"write_outage_ms": 5001}, ["writes go on within 5.0 s: they did not for 5.0 s"]),
        ({"leader_after": "a"}, ["another member leads: a still does"]),
        ({"leads": "same"}, ["the same member leads: b does, after a"]),
        ({"leads": "any"}, []),
        ({"leads": "any", "leader_after": ""}, ["a member leads: nobody leads all others"]),
        ({"failure": "no"}, ["clients write and read again, and all members take part: no"]),
    ],
)
def test_what_does_not_hold_is_red(changes, wrong):
    rows = failover_rows(found(**changes))
    assert [f"{row['name']}: {row['findings'][0]}" for row in rows if row["status"] == "failed"] == wrong
    assert "seconds without writes" in failover_table({**found(**changes), "results": rows})


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_says_all_that_a_drill_needs(name):
    fault = FAULTS[name]
    needed = {"what", "on", "hold", "leads", "class"}
    more = {"do", "undo", "power", "times", "every", "etcd", "needs", "loses"}
    assert needed <= set(fault) <= needed | more
    assert ("do" in fault) != ("power" in fault)
    assert fault["on"] in CONSTANTS["__failover_drill_targets"]
    assert fault["class"] in CONSTANTS["__failover_drill_class_budgets"]
    assert fault["leads"] in ("another", "same", "any")
    assert set(fault.get("loses", [])) <= {"async"}, "no acknowledged row is lost in sync and strict"
    assert fault["leads"] == "same" or fault["class"] != "none"
