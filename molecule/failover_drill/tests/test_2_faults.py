"""All other faults of the list, and how long the two most usual take, ten times each."""

from __future__ import annotations

import pytest
from drills import CORE, FAULTS, FIGURES, commands, spread
from throwaway import keep_figure

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("programs")]

OTHERS = [name for name in FAULTS if name not in CORE]
TIMES = 12


@pytest.mark.parametrize("name", OTHERS)
def test_a_fault_ends_as_the_list_says(drill, nothing_left, name):
    drilled = drill(name)
    assert drilled.run.code == 0, drilled.run.output
    found = drilled.evidence[name]
    assert found["verdict"] == "ok" and found["rows_lost"] == 0
    assert len(found["servers"]) == len(set(found["servers"])), "a server takes writes again after another"
    nothing_left()


@pytest.mark.parametrize("name", ["postgres_crash", "patroni_stop"])
def test_how_long_writes_are_interrupted(cluster, clients, name):
    took, reads = [], []
    for number in range(TIMES):
        cluster.whole()
        leader = cluster.leader
        with clients.meanwhile(f"{name} {number}") as outcome:
            leader.run(*commands(name))
            cluster.wait(lambda leader=leader: cluster.leader_name() not in ("", leader.name), "nobody else leads")
            if "undo" in FAULTS[name]:
                leader.run(*commands(name, "undo"))
        assert outcome.lost == [] and outcome.leader_after != leader.name
        took.append(outcome.outage)
        reads.append(outcome.read_outage)
    figures = {**spread(took), "reads_max_s": round(max(reads), 2)}
    keep_figure(FIGURES, f"{name}, repeated", figures)
    assert max(took) < 30
