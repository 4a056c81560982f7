"""docs/disaster-recovery.md: each command in it is run as it stands, with the moment and names of the test's hosts."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
from throwaway import ROOT

PLAN = (ROOT / "docs/disaster-recovery.md").read_text()


def commands(kind: str) -> list[str]:
    """Return the commands of this kind of block, in order."""
    blocks = re.findall(rf"```sh {kind}\n(.*?)```", PLAN, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_no_command_is_left_out():
    assert len(re.findall("```sh (?!control|host|recovery)", PLAN)) == 0
    assert [len(commands(kind)) for kind in ("control", "host", "recovery")] == [5, 2, 1]


@pytest.mark.long
def test_the_plan_works_as_it_is_written(drill):
    database = drill.database
    drill.archived()
    query = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    moment = database.sql(query)
    database.sql("CREATE TABLE a_mistake ()")
    drill.archived()
    for command in commands("host"):
        assert database.call(*command.split()).code == 0, command
    for command in commands("control"):
        words = shlex.split(
            command.replace("2026-05-01T12:00:00Z", moment).replace("17/main", f"{database.version}/main")
        )
        words[words.index("inventories/mine")] = str(database.host.inventory)
        done = subprocess.run([*words, "--limit", drill.name], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, command + done.stdout + done.stderr
        there = database.sql("SELECT to_regclass('a_mistake') IS NOT NULL")
        assert there == ("f" if "postgresql_restore_over" in command else "t"), command
    assert database.call("test", "-d", f"/var/lib/postgresql/{database.version}/main.restored", user="root").code == 1
