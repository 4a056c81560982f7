"""A clock that is wrong while backups expire. Only the program's clock: the server's and the host's are right."""

from __future__ import annotations

import json

import pytest
from backup_host import REPOSITORY

pytestmark = pytest.mark.long
AHEAD = ["faketime", "-f", "+800d"]
BEHIND = ["faketime", "-f", "-800d"]
YEAR = "import datetime; print(datetime.datetime.now(datetime.UTC).year)"
MOMENT = """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


@pytest.fixture
def faked(database):
    """Return a host on which a program can be given another clock."""
    install = "apt-get -qq update && apt-get -qq install -y --no-install-recommends faketime"
    database.shell(f"which faketime >/dev/null || ({install})", user="root", DEBIAN_FRONTEND="noninteractive")
    years = [int(database.call(*clock, "/usr/bin/python3", "-Ic", YEAR).output) for clock in (BEHIND, [], AHEAD)]
    assert years == sorted(set(years)), "the program believes it"
    return database


def there(database) -> dict[str, set[str]]:
    return {part: set(database.names(part)) for part in ("backups", "wal", "proofs")}


def expire(database, clock, *arguments) -> str:
    done = database.call(*clock, "auditdb-backup", "expire", *arguments)
    assert done.code == 0, done.output
    return done.output


@pytest.mark.newest
@pytest.mark.parametrize("clock", [AHEAD, BEHIND], ids=["ahead", "behind"])
def test_a_wrong_clock_removes_nothing_early(faked, clock):
    faked.good("verify")
    expire(faked, [])
    before = there(faked)
    assert any(name.endswith("-full") for name in before["backups"])
    plan = json.loads(expire(faked, clock, "--dry-run", "--json"))
    assert plan["drop"] == plan["drop_wal"] == []
    expire(faked, clock)
    after = there(faked)
    # Meanwhile, WAL may have been archived.
    assert after["wal"] >= before["wal"] and {**after, "wal": before["wal"]} == before
    expire(faked, [])


@pytest.mark.newest
def test_a_backup_that_was_taken_while_the_clock_was_ahead_costs_no_other(faked):
    """It is of a day that no other is of, and newer than all that come once the clock is right again."""
    first = faked.take("full")
    faked.good("verify")
    expire(faked, [])
    before = there(faked)
    wrong = faked.call(*AHEAD, "auditdb-backup", "backup", "full")
    assert wrong.code == 0, wrong.output
    name = wrong.output.split(":")[0]
    try:
        assert first in before["backups"] and int(name[:4]) > int(first[:4])
        faked.good("verify")
        for clock in (AHEAD, []):
            expire(faked, clock)
            after = there(faked)
            assert all(before[part] <= after[part] for part in before)
        moment = faked.sql(f"SELECT {MOMENT}")
        target = ["--to", "/nowhere", "--identity", "/nowhere", "--target-time", moment]
        assert first in faked.good("restore", "--check", *target), "and moments of now are restored from the right one"
    finally:
        faked.shell(f"rm -r {REPOSITORY}/backups/{name}; rm -f {REPOSITORY}/proofs/{name}.json")
    faked.take("full")
