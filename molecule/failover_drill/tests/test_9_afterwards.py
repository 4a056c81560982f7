"""After all this, the site is what its inventory says."""

from __future__ import annotations


def test_a_run_after_all_this_changes_nothing(cluster, playbook):
    cluster.whole()
    run = playbook()
    assert (run.code, run.changed) == (0, 0), run.output
