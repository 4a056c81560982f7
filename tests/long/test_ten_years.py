"""Ten years of monthly maintenance: no row is refused or lost, and none leaves early or late.

Each month rows arrive on time, late, early and with absurd times, by way of writers that know nothing of partitions;
then the scheduled run does its work at a time of that month. Run: make test-long.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import following

MIGRATIONS = Path(__file__).parents[2] / "roles/audit_schema/files/migrations"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MONTHS = 120
KEEP = 13
START = 3
"""Months before the first that have a partition: what is late in the first month belongs there."""
POLICIES = {"standard": ("INTERNAL", 2555), "minimal": ("PUBLIC", 90)}
TABLE = """
CREATE SCHEMA audit;
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, retention_policy text NOT NULL,
    data_classification text NOT NULL, organization_id text, a text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX log_class ON log (data_classification, retention_policy);
"""


def month(number):
    return following(BEGIN, "month", number)


class Years:
    """The table, the clock, and what was written so far."""

    def __init__(self, database, directory, action):
        self.database = database
        self.directory = directory / "archive"
        self.action = action
        self.written = 0
        self.absurd = 0
        self.dropped = 0

    def arrive(self, number):
        """Write the month's rows: each must be taken."""
        now = month(number)
        times = [now + timedelta(days=day, hours=3) for day in range(27)]  # on time
        times += [now - timedelta(days=3), now - timedelta(days=20), now - timedelta(days=45)]  # late
        times += [following(now, "month") + timedelta(days=2)]  # a clock that is ahead
        rows = [(at, policy, POLICIES[policy][0]) for at in times for policy in POLICIES]
        odd = ["1970-01-01Z", "2999-12-31Z", "infinity", "-infinity"] if number % 12 == 5 else []
        rows += [(at, "standard", "INTERNAL") for at in odd]
        for at, policy, kind in rows:
            self.database.query(
                "INSERT INTO log (at, retention_policy, data_classification, organization_id, a) "
                "VALUES (%s, %s, %s, %s, 'x')",
                (at, policy, kind, f"org{number % 3}"),
            )
        self.written += len(rows)
        self.absurd += len(odd)

    def maintain(self, now):
        """Run what the schedule runs; the second run changes nothing."""
        stay = {
            "retention": f"{KEEP} months",
            "retention_action": self.action,
            "history": "audit.partition_history",
            "holds": "audit.legal_hold",
            **({"archive_directory": str(self.directory)} if self.action == "archive" else {}),
        }
        options = {
            "table": "log",
            "premake": 3,
            "start": month(-START).isoformat(),
            "default_partition": True,
            "now": now.isoformat(),
            "max_leaving": 9,
            **stay,
        }
        before = self.count()
        self.database.module("postgresql_partition", **options)
        self.dropped += before - self.count() if self.action == "drop" else 0
        purge = {
            "table": "log",
            "policies": "audit.audit_retention_policy",
            "seals": "audit.partition_seal",
            "max_leaving": 9,
            "now": now.isoformat(),
            "history": "audit.partition_history",
            "holds": "audit.legal_hold",
            "archive_directory": str(self.directory),
        }
        self.database.module("postgresql_partition_purge", **purge)
        seals = {"tables": [{"table": "log"}], "seals": "audit.partition_seal", "history": "audit.partition_history"}
        self.database.module("postgresql_partition_seal", **seals, now=now.isoformat())
        verified = self.database.module("postgresql_partition_seal", **seals, now=now.isoformat(), state="verified")
        assert {each["status"] for each in verified["verified"]} <= {"intact", "late"}
        assert not self.database.module("postgresql_partition", **options)["changed"]
        assert not self.database.module("postgresql_partition_purge", **purge)["changed"]
        assert not self.database.module("postgresql_partition_seal", **seals, now=now.isoformat())["changed"]

    def count(self):
        return self.database.value("SELECT count(*)::int FROM log")

    def archived(self):
        return sum(json.loads(path.read_text())["seal"]["rows"] for path in self.directory.glob("*.manifest.json"))

    def standing(self):
        """The months that have a partition."""
        found = self.database.query(
            "SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'log'::regclass "
            "AND pg_get_expr(relpartbound, c.oid) <> 'DEFAULT' ORDER BY 1"
        )
        return [name for (name,) in found]

    def check(self, now, held=(), kept_rows=0):
        """Nothing left early or late, nothing is lost, and there are partitions ahead."""
        oldest = next(number for number in range(-START, MONTHS + 24) if month(number + 1) > self.before(now))
        current = next(number for number in range(MONTHS + 24) if month(number + 1) > now)
        wanted = [f"log_{month(number):%Y_%m}" for number in range(oldest, current + 4)]
        assert self.standing() == sorted([*held, *wanted]), now
        assert self.count() + self.archived() + self.dropped == self.written, (
            "every row is in the table or in an archive"
        )
        expired = self.database.value(
            "SELECT count(*) FROM log WHERE retention_policy = 'minimal' AND at > '1971-01-01Z' AND "
            "date_trunc('month', at, 'UTC') + interval '1 month' <= %s::timestamptz - interval '90 days'",
            (now.isoformat(),),
        )
        assert expired == kept_rows

    @staticmethod
    def before(now):
        number = now.year * 12 + now.month - 1 - KEEP
        return now.replace(year=number // 12, month=number % 12 + 1, day=min(now.day, 28))


@pytest.fixture
def years(database, tmp_path, request):
    database.query(TABLE)
    for name in ("0003_audit_retention_policy", "0006_seed_retention_policies", "0009_legal_hold"):
        database.query((MIGRATIONS / f"{name}.sql").read_text())
    for name in ("0010_partition_history", "0011_partition_seal", "0012_partition_copy"):
        database.query((MIGRATIONS / f"{name}.sql").read_text())
    years = Years(database, tmp_path, request.param)
    database.module("postgresql_partition", table="log", premake=3, default_partition=True, now=BEGIN.isoformat())
    return years


@pytest.mark.parametrize("years", ["archive", "drop"], indirect=True)
def test_ten_years_month_by_month(years):
    for number in range(MONTHS):
        years.arrive(number)
        now = month(number) + timedelta(days=27, hours=12)
        years.maintain(now)
        years.check(now)
    years.database.query("SELECT 1")
    assert years.absurd == 40
    strays = "SELECT count(*) FROM ONLY log_default WHERE at < '1971-01-01Z' OR at > '2900-01-01Z'"
    assert years.database.value(strays) == 40, "absurd times are kept apart, and never leave by age"


@pytest.mark.parametrize("years", ["archive"], indirect=True)
def test_months_in_which_nobody_ran_it(years):
    """The control host was off for four months, twice; rows arrived all the same, and runs after make up for it."""
    for number in range(48):
        years.arrive(number)
        if number % 24 in (10, 11, 12, 13):
            continue
        now = month(number) + timedelta(days=27, hours=12)
        years.maintain(now)
        years.check(now)


@pytest.mark.parametrize("years", ["archive"], indirect=True)
def test_a_hold_that_lasts_two_years(years):
    held = "log_2027_03"
    for number in range(72):
        years.arrive(number)
        if number == 18:
            years.database.query(
                "INSERT INTO audit.legal_hold (table_name, time_from, time_to, reason, owner) "
                "VALUES ('public.log', '2027-03-10Z', '2027-03-11Z', 'case', 'legal')"
            )
        if number == 50:
            years.database.query(
                "UPDATE audit.legal_hold SET released_at = now(), released_by = 'me', release_reason = 'settled'"
            )
        now = month(number) + timedelta(days=27, hours=12)
        years.maintain(now)
        due = month(14 + 1) <= years.before(now)
        holding = 18 <= number < 50
        years.check(now, held=[held] if due and holding else [], kept_rows=int(holding))
