"""Which backups and which WAL go: by chain, counted and not by age, and never the last that can be trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from auditdb_backup.configuration import Retention
from auditdb_backup.retention import Chain, Need, daily, dropped, dropped_wal, keep, threshold
from auditdb_backup.wal_name import Segment
from hypothesis import given
from hypothesis import strategies as st

BEGIN = datetime(2026, 1, 1, 1, 30, tzinfo=UTC)
POLICY = Retention(daily=14, weekly=8, monthly=12, proven=2)
POLICIES = st.builds(
    Retention, daily=st.integers(1, 5), weekly=st.integers(0, 4), monthly=st.integers(0, 4), proven=st.integers(0, 3)
)
HOURS = st.lists(st.integers(0, 24 * 400), unique=True, max_size=30)


def chain(hour: int, increments: int = 0, **state: bool) -> Chain:
    name = f"{hour:06}-full"
    members = (name, *(f"{hour:06}-incremental{number}" for number in range(increments)))
    return Chain(name, BEGIN + timedelta(hours=hour), members, **state)


CHAINS = HOURS.flatmap(
    lambda hours: st.tuples(
        *(
            st.builds(
                chain,
                st.just(hour),
                st.integers(0, 3),
                usable=st.booleans(),
                verified=st.booleans(),
                proven=st.booleans(),
            )
            for hour in hours
        )
    )
)


@given(CHAINS, POLICIES)
def test_what_can_be_trusted_last_stays(chains, policy):
    kept = keep(chains, policy)
    good = sorted((each for each in chains if each.usable), key=lambda each: each.started_at)
    for newest in (
        good[-1:],
        [each for each in good if each.verified][-1:],
        [each for each in good if each.proven][len([each for each in good if each.proven]) - policy.proven :]
        if policy.proven
        else [],
    ):
        assert {each.id for each in newest} <= set(kept)


@given(CHAINS, POLICIES)
def test_nothing_goes_before_a_newer_one_was_verified(chains, policy):
    kept = keep(chains, policy)
    for gone in (each for each in chains if each.id not in kept):
        assert any(each.verified and each.usable and each.started_at > gone.started_at for each in chains)
        assert gone.usable, "what is damaged stays for an inquiry"


@given(CHAINS, POLICIES, st.integers(-100_000, 100_000))
def test_a_wrong_clock_removes_nothing(chains, policy, hours):
    """There is no clock in the plan: shifted as a whole by weeks, the same daily backups stay."""
    weeks = timedelta(weeks=hours // 1000)
    moved = [
        Chain(each.id, each.started_at + weeks, each.members, each.usable, each.verified, each.proven)
        for each in chains
    ]
    only_days = Retention(policy.daily, policy.weekly, 0, policy.proven)
    assert set(keep(chains, only_days)) == set(keep(moved, only_days))


@given(CHAINS, POLICIES)
def test_each_period_keeps_its_newest_and_no_more_than_it_should(chains, policy):
    kept = keep(chains, policy)
    for name in ("daily", "weekly", "monthly"):
        slots = [why for reasons in kept.values() for why in reasons if why.startswith(f"{name} ")]
        assert len(slots) == len(set(slots)) <= getattr(policy, name)
    for each in daily(chains, kept):
        same_day = [other for other in chains if other.usable and other.started_at.date() == each.started_at.date()]
        assert each.started_at == max(other.started_at for other in same_day)


@given(CHAINS, POLICIES)
def test_chains_go_whole_and_their_beginning_last(chains, policy):
    gone = dropped(chains, keep(chains, policy))
    for each in chains:
        inside = [name for name in gone if name in each.members]
        assert inside in ([], list(reversed(each.members)))


def test_a_year_of_daily_backups_leaves_the_declared_ones():
    chains = [chain(24 * day, verified=True) for day in range(365)]
    kept = keep(chains, POLICY)
    days = [each.started_at.date().isoformat() for each in chains if each.id in kept]
    assert days[-14:] == [(BEGIN + timedelta(days=day)).date().isoformat() for day in range(351, 365)]
    weekly = sum(any(why.startswith("weekly") for why in kept.get(each.id, ())) for each in chains)
    monthly = sum(any(why.startswith("monthly") for why in kept.get(each.id, ())) for each in chains)
    assert (weekly, monthly) == (8, 12) and len(days) < 14 + 8 + 12


@given(CHAINS, POLICIES)
def test_the_plan_is_stable(chains, policy):
    kept = keep(chains, policy)
    left = [each for each in chains if each.id in kept]
    assert set(keep(left, policy)) == set(kept), "what was kept once is not dropped by running again"


def need(first: int, last: int, onwards: bool, timeline: int = 1) -> Need:
    return Need(Segment(timeline, first), Segment(timeline, last), onwards)


NEEDS = st.lists(
    st.builds(
        lambda first, length, onwards, timeline: need(first, first + length, onwards, timeline),
        st.integers(0, 300),
        st.integers(0, 5),
        st.booleans(),
        st.integers(1, 3),
    ),
    max_size=6,
)
SEGMENTS = st.lists(st.builds(Segment, st.integers(1, 4), st.integers(0, 320)), max_size=60, unique=True)


@given(SEGMENTS, NEEDS)
def test_wal_that_a_backup_needs_stays(segments, needs):
    gone = set(dropped_wal([each.name() for each in segments], needs))
    for each in needs:
        for number in range(each.first.number, each.last.number + 1):
            assert Segment(each.first.timeline, number).name() not in gone
    for each in (each for each in needs if each.onwards):
        later = {
            found.name()
            for found in segments
            if found.timeline >= each.first.timeline and found.number >= each.first.number
        }
        assert not later & gone, "from there on, every moment can be restored, on later timelines too"


def test_wal_of_a_timeline_newer_than_all_backups_stays():
    """A restore to an old backup begins a timeline far behind the others."""
    needs = [need(1000, 1001, True)]
    names = [Segment(1, 999).name(), Segment(1, 1000).name(), Segment(2, 500).name()]
    assert dropped_wal(names, needs) == [names[0]]
    assert threshold(2, needs) == 0


@pytest.mark.parametrize("name", ["00000002.history", "nonsense"])
def test_histories_and_strangers_are_left_alone(name):
    assert dropped_wal([name], [need(1000, 1001, True)]) == []


def test_without_a_backup_no_wal_goes():
    assert dropped_wal([Segment(1, 1).name()], []) == []
