"""What takes long: many random targets over three timelines, and a site that was lost."""

from __future__ import annotations

import json
import time

import pytest
from lost_site import loses_its_site

pytestmark = pytest.mark.long
TARGETS = 25


def moment(drill) -> str:
    """Return a moment that some heartbeats lie before, and some after."""
    time.sleep(12)
    query = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    found = drill.database.sql(query)
    time.sleep(4)
    drill.archived()
    return found


def test_every_random_target_over_three_timelines_is_exact(drill):
    database = drill.database
    for _timeline in range(2):
        given = {
            "postgresql_restore_target": {"time": moment(drill)},
            "postgresql_restore_over": f"{database.version}/main",
        }
        run = drill.playbook("auditdb.postgresql.restore", "--limit", drill.name, "-e", json.dumps(given))
        assert run.code == 0, run.output
        database.wait(lambda: database.call("systemctl", "is-active", "auditdb-heartbeat-main").code == 0, "it goes on")
    moment(drill)
    cases = [{"name": f"target {number}", "source": "repository", "target": "random"} for number in range(TARGETS)]
    run = drill.run(restore_drill_cases=cases)
    assert run.code == 0, run.output
    found = drill.evidence()["cases"]
    # The timeline that recovery began after it: each target was reached on the one that it lies on.
    print(
        f"PostgreSQL {database.version}: {len(found)} targets from {min(each['target'] for each in found)} to ", end=""
    )
    print(max(each["target"] for each in found))
    assert len(found) == TARGETS and len({each["target"] for each in found}) > TARGETS // 2


def test_a_lost_site_comes_back_in_one_command(drill, playbook, tmp_path):
    loses_its_site(drill.name, drill.database, playbook, tmp_path)
