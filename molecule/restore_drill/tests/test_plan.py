"""docs/disaster-recovery.md, and the plan of the inventory: each command is run as that one has it."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from throwaway import ROOT

PLAN = (ROOT / "docs/disaster-recovery.md").read_text()
KINDS = {"control": 6, "host": 3, "recovery": 1, "etcd": 1, "members": 1}  # the last two: scenario failover_drill
MOMENT = "2026-05-01T12:00:00Z"


def test_no_command_is_left_out(commands):
    assert {kind: len(commands(PLAN, kind)) for kind in KINDS} == KINDS
    assert PLAN.count("```sh") == sum(PLAN.count(f"```sh {kind}\n") for kind in KINDS)


@pytest.mark.long
def test_the_plan_works_as_it_is_written(rehearsed, commands):
    database, plan = rehearsed.database, rehearsed.part(rehearsed.plan())
    rehearsed.archived()
    moment = database.sql("""SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""")
    database.sql("CREATE TABLE a_mistake ()")
    rehearsed.archived()
    for command in commands(plan, "host"):
        assert database.call(*command.split()).code == 0, command
    for command in commands(plan, "control"):
        words = shlex.split(command.replace(MOMENT, moment))
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, command + done.stdout + done.stderr
        there = database.sql("SELECT to_regclass('a_mistake') IS NOT NULL")
        assert there == ("f" if "postgresql_restore_over" in command else "t"), command
    assert database.call("test", "-d", f"/var/lib/postgresql/{database.version}/main.restored", user="root").code == 1
