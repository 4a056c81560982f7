"""What a drill measures: the ledger's chain, what was acknowledged, random targets, losses and budgets."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from ansible_collections.auditdb.postgresql.plugins.filter.drill import drill_figures
from auditdb_backup.errors import BackupError
from auditdb_drill import acknowledged, catalog, controls, fetch, ledger, measured, place, space
from auditdb_drill.acknowledged import Acknowledged
from auditdb_drill.facts import Carried, Facts
from auditdb_drill.request import Case
from backups import backup
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000
T0 = 1_777_600_000 * SECOND


def chain(count: int, first: int = 1, begin: int = T0) -> list[ledger.Row]:
    rows: list[ledger.Row] = []
    for number in range(first, first + count):
        before = rows[-1].hash if rows else ""
        row = ledger.Row(number, begin + (number - first) * SECOND, "0/3000028", before, "")
        rows.append(replace(row, hash=ledger.hash_of(row)))
    return rows


def acknowledge(rows: list[ledger.Row]) -> list[Acknowledged]:
    return [Acknowledged(each.id, each.at, each.hash) for each in rows]


def carried(expected: int, exact: bool = False) -> Carried:
    return Carried("x", "repository", None, expected, exact, ["full"], 1, 1, 1, "")


def failed(rows) -> list[str]:
    return [each["name"] for each in rows if each["status"] != "ok"]


@given(st.integers(2, 12), st.data())
def test_whatever_is_done_to_a_row_breaks_the_chain(count, data):
    rows = chain(count, first=data.draw(st.integers(1, 99)))
    assert ledger.broken(rows) is None
    at = data.draw(st.integers(0, count - 1))
    name = data.draw(st.sampled_from(["id", "at", "lsn", "previous", "hash"]))
    value = getattr(rows[at], name)
    changed = replace(rows[at], **{name: value + 1 if isinstance(value, int) else f"{value}0"})
    assert ledger.broken([*rows[:at], changed, *rows[at + 1 :]])
    if 0 < at < count - 1:
        assert ledger.broken(rows[:at] + rows[at + 1 :]), "a row that is left out"


def test_acknowledged_rows_are_kept_a_file_a_day_and_forgotten(tmp_path):
    rows = acknowledge(chain(3, begin=T0))
    for days, row in enumerate(rows):
        acknowledged.append(tmp_path, row._replace(at=row.at + days * 86400 * SECOND))
    assert len(list(tmp_path.iterdir())) == 3 and len(acknowledged.read(tmp_path)) == 3
    newest = datetime.fromtimestamp(T0 // SECOND + 2 * 86400, UTC)
    acknowledged.forget(tmp_path, 1, newest)
    assert [each.id for each in acknowledged.read(tmp_path)] == [2, 3]


def test_a_line_that_was_cut_off_and_a_history_that_was_left_do_not_count():
    old, new = acknowledge(chain(5)), acknowledge(chain(2, first=4, begin=T0 + 99 * SECOND))
    lines = [each.line() for each in old + new]
    assert acknowledged.parse(lines) == old[:3] + new
    assert acknowledged.parse([*lines, "6 12"]) == old[:3] + new
    assert acknowledged.parse([*lines, new[1]._replace(id=6).line().rstrip()]) == old[:3] + new


@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(0, 60))
def test_a_random_target_lies_between_two_rows_that_are_archived(seed, count, first):
    known = acknowledge(chain(count))
    begin, until = T0 + first * SECOND, known[-1].at
    inside = [each for each in known if begin < each.at and each.at + SECOND < until - fetch.SETTLED]
    if not inside:
        with pytest.raises(BackupError, match="no moment can be chosen"):
            fetch.pick(known, begin, until, random.Random(seed))
        return
    target, expected = fetch.pick(known, begin, until, random.Random(seed))
    (row,) = (each for each in known if each.id == expected)
    assert row in inside and fetch.moment(row.at) < target < fetch.moment(row.at + SECOND)


def test_no_random_target_lies_where_rows_are_not_known_here():
    """Another member wrote them: the newest row before the target would be one that this one has not seen."""
    known = acknowledge(chain(60))
    known = known[:20] + known[40:]
    for seed in range(200):
        _target, expected = fetch.pick(known, T0, known[-1].at, random.Random(seed))
        assert expected != known[19].id


def test_moments_are_exact_to_the_microsecond():
    assert fetch.moment(1795465257278427) == "2026-11-23T20:20:57.278427Z"


def test_recovery_is_exact_or_it_is_said():
    rows = chain(9)
    known = acknowledge(rows)
    assert failed(measured.chain("x", rows[:7], known, carried(7, exact=True))) == []
    assert failed(measured.chain("x", rows[:6], known, carried(7, exact=True))) == [
        "recovery ends exactly at its target"
    ]
    assert failed(measured.chain("x", rows[:8], known, carried(7, exact=True))) == [
        "recovery ends exactly at its target"
    ]
    assert failed(measured.chain("x", rows[:8], known, carried(7))) == [], "later ones were archived meanwhile"
    assert failed(measured.chain("x", rows[:6], known, carried(7))) == ["every archived row is there"]
    whole = "the ledger is whole, each row as it was acknowledged"
    assert whole in failed(measured.chain("x", [], known, carried(0)))
    assert failed(measured.chain("x", chain(9, begin=T0 + 1), known, carried(7))) == [whole], "a chain, but another one"


def test_what_a_disaster_loses_and_its_budget():
    rows = chain(10)
    facts = Facts(rows[-1].at + 500_000, None, "17", "", [], [])
    lost = measured.loss(rows[:4], acknowledge(rows), facts)
    assert lost == measured.Loss(rpo_ms=6500, rows=6)
    case = Case("x", "repository", "latest", rpo_budget=6, rto_budget=2)
    assert failed(measured.budgets("x", case, lost, 2001)) == ["RPO within 6 s", "RTO within 2 s"]
    kept = replace(case, rpo_budget=7, rto_budget=0)
    assert [each["name"] for each in measured.budgets("x", kept, lost, 2001)] == ["RPO within 7 s"]
    assert failed(measured.budgets("x", kept, lost, 2001)) == []
    assert measured.budgets("x", kept, None, 2001) == [], "an earlier moment has no RPO"


def test_only_phases_that_move_bytes_grow_with_them():
    assert measured.extrapolated({"fetch": 10, "verify": 30, "promote": 5}, 100, 1000) == 405


def test_what_production_has_and_the_copy_has_not_is_named():
    assert catalog.differences(["a", "b"], ["b", "c"]) == ["missing: a", "not in production: c"]
    assert catalog.differences(["a"], ["a"]) == []


def test_only_a_drills_own_directory_is_emptied(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").touch()
    with pytest.raises(BackupError, match="no file DRILL"):
        place.clear(tmp_path)
    assert (tmp_path / "data/file").exists()
    (tmp_path / place.MARKER).touch()
    (tmp_path / "link").symlink_to("/")
    place.clear(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [place.MARKER]


def test_what_was_not_measured_has_no_figure():
    wanted = {"name": "latest", "source": "repository", "target": "latest", "rpo_budget": 180, "rto_budget": 0}
    (row,) = drill_figures({}, [wanted])
    assert (row["rpo_wanted"], row["rto_wanted"]) == ("180 s", "any")
    assert {row[name] for name in ("rpo", "rto", "outcome")} == {"not measured yet"}
    content = {
        "cases": [{"name": "latest", "source": "repository", "rto_ms": 1234, "rpo_ms": 60_100, "rows_lost": 60}],
        "results": [{"group": "latest", "status": "failed"}],
    }
    (row,) = drill_figures(content, [wanted])
    assert (row["rpo"], row["rto"], row["outcome"]) == ("60.1 s, 60 rows", "1.2 s", "failed")
    (row,) = drill_figures({"cases": [{"name": "latest", "source": "repository"}], "results": []}, [wanted])
    assert (row["rpo"], row["rto"]) == ("it was not restored", "it was not restored")
    (row,) = drill_figures(content, [{**wanted, "source": "offsite"}])
    assert row["rto"] == "not measured yet", "another restore than the one of that name"


def test_the_segment_that_is_taken_away_is_one_that_is_wanted():
    older = backup("20260501T013000Z-full", started_at="2026-05-01T01:30:00.000000Z", start_lsn="0/2000028")
    newer = backup("20260501T053000Z-full", started_at="2026-05-01T05:30:00.000000Z", start_lsn="0/6000028")
    wal = [f"{1:08X}{0:08X}{number:08X}" for number in range(2, 11)]
    others = ["00000002.history", f"{wal[4]}.00000028.backup", f"{2:08X}{0:08X}{11:08X}"]
    assert controls.needed(wal + others, [older]) == wal[4]
    assert controls.needed(wal + others, [newer, older]) == wal[6], "not the older one's, once there is a newer"
    assert controls.needed(wal[:5] + others, [older, newer]) == wal[4], "its own, where no later one tells of a gap"
    logical = backup("20260502T013000Z-logical", start_lsn="0/8000028")
    assert controls.needed(wal, [newer, logical]) == wal[6]


def imports(name: str) -> set[str]:
    """Return the module and all of this collection's that it imports."""
    path = ROOT / "plugins/module_utils" / f"{name}.py"
    found = re.findall(r"^from ansible_collections[.]\S+[.]module_utils[.](\w+) import", path.read_text(), re.MULTILINE)
    return {name}.union(*map(imports, found))


def test_all_that_verifies_seals_is_installed_and_needs_no_ansible():
    variables = yaml.safe_load((ROOT / "roles/restore_drill/vars/main.yml").read_text())
    program = (ROOT / "roles/restore_drill/files/auditdb_drill/seals.py").read_text()
    used = re.findall(r"^from ansible_collections[.]\S+[.](\w+) import", program, re.MULTILINE)
    assert used and set(variables["__restore_drill_shared"]) == set().union(*map(imports, used))
    for name in variables["__restore_drill_shared"]:
        text = (ROOT / "plugins/module_utils" / f"{name}.py").read_text()
        assert not re.search(r"^(from|import) ansible[. ]", text, re.MULTILINE), name


def test_room_is_that_of_the_copy_its_parts_and_the_wal_that_is_replayed():
    full, later = backup("20260501T013000Z-full"), backup("20260501T020500Z-incremental")
    known = {each.id: each for each in (full, later)}
    assert space.restored(known, [full.id], 3) == 9 + 3 * (16 << 20)
    assert space.restored(known, list(known), 0) == 2 * (9 + 9), "combined beside its parts"
    assert space.restored(known, [full.id], 10_000) == 9 + (1 << 30)


def test_too_little_room_is_said_with_both_figures(tmp_path):
    space.check(tmp_path, 1)
    with pytest.raises(
        BackupError, match=rf"restore_drill_directory {tmp_path}: {1 << 62} bytes are needed, \d+ are free"
    ):
        space.check(tmp_path, 1 << 62)
