"""The faults that `make test` tries: by the shipped playbook, through the pool, with evidence for each.

In the order of the file. The others are those of scenario failover_drill.
"""

from __future__ import annotations

import pytest
from drills import CORE, EVIDENCE

ANOTHER = {"postgres_crash", "patroni_stop", "host_death"}


@pytest.mark.parametrize("faults", [CORE[:2], CORE[2:]], ids="+".join)
def test_the_core_of_the_faults_loses_no_row(drill, nothing_left, faults):
    drilled = drill(*faults)
    assert drilled.run.code == 0, drilled.run.output
    assert set(drilled.evidence) == set(faults)
    for name, found in drilled.evidence.items():
        assert found["verdict"] == "ok" and found["rows_lost"] == 0, found
        assert found["rows_acknowledged"] > 100 and found["reads"] > 100, found
        assert (found["leader_before"] != found["leader_after"]) == (name in ANOTHER), found
        assert len(found["servers"]) == (2 if name in ANOTHER else 1), "exactly one has taken writes after the other"
        assert f"{name}: {found['what']}" in drilled.run.text
    nothing_left()


def test_the_evidence_is_signed_and_whole(playbook):
    verified = playbook("auditdb.postgresql.verify_evidence", "-e", f"evidence_directory={EVIDENCE}")
    assert verified.code == 0 and "0 problems" in verified.text, verified.output


def test_a_run_after_all_this_changes_nothing(cluster, playbook):
    cluster.whole()
    run = playbook()
    assert (run.code, run.changed) == (0, 0), run.output
