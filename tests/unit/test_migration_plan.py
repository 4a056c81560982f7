"""What a directory and a ledger call for."""

from __future__ import annotations

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.migration_plan import (
    Entry,
    File,
    compare,
    plan_baselined,
    plan_present,
    plan_repaired,
    plan_reverted,
    resume_at,
    statement_hash,
)


def file(version, checksum="c", **values):
    return File(
        version=version, name="n", file=f"{version}_n.sql", sql="SELECT 1", checksum=checksum, byte_length=8, **values
    )


def entry(version, state="applied", checksum="c", **values):
    return Entry(version=version, name="n", checksum=checksum, state=state, **values)


def versions(files):
    return [each.version for each in files]


def test_pending_are_applied_in_order():
    assert versions(plan_present([file("0002"), file("0001")], [])) == ["0001", "0002"]
    assert versions(plan_present([file("0001"), file("0002")], [entry("0001")])) == ["0002"]


def test_reverted_ones_are_pending_again():
    assert versions(plan_present([file("0001")], [entry("0001", "reverted")])) == ["0001"]


def test_versions_compare_as_numbers_whatever_their_zeros():
    assert plan_present([file("1")], [entry("0001")]) == []


def test_target_bounds():
    files = [file("0001"), file("0002"), file("0003")]
    assert versions(plan_present(files, [], "0002")) == ["0001", "0002"]
    assert versions(plan_baselined(files, [], "2")) == ["0001", "0002"]
    with pytest.raises(PostgresqlError, match="no migration has the version 7"):
        plan_present(files, [], "7")


def test_an_edit_names_both_hashes():
    with pytest.raises(PostgresqlError, match="SHA-256 old, the file new"):
        plan_present([file("0001", "new")], [entry("0001", checksum="old")])
    assert plan_repaired([file("0001", "new")], [entry("0001", checksum="old")])
    assert not plan_repaired([file("0001")], [entry("0001")])


def test_a_vanished_file_is_refused_in_every_state():
    for plan in (plan_present, plan_baselined):
        with pytest.raises(PostgresqlError, match="have no file"):
            plan([file("0002")], [entry("0001")])


def test_late_comers():
    files = [file("0001"), file("0002")]
    with pytest.raises(PostgresqlError, match="0001_n.sql is older than 0002"):
        plan_present(files, [entry("0002")])
    assert versions(plan_present(files, [entry("0002")], out_of_order=True)) == ["0001"]


def test_reverting_goes_newest_first_and_needs_every_way_back():
    files = [file("0001", down="x"), file("0002", down="x"), file("0003")]
    ledger = [entry("0001"), entry("0002", "baselined")]
    assert versions(plan_reverted(files, ledger, "0")) == ["0002", "0001"]
    with pytest.raises(PostgresqlError, match="0003_n.sql has no way back"):
        plan_reverted(files, [*ledger, entry("0003")], "0001")


def test_half_applied_blocks_reverting():
    half = entry("0001", "failed", failed_statement=2)
    with pytest.raises(PostgresqlError, match="half applied"):
        plan_reverted([file("0001", down="x")], [half], "0")


def test_resuming():
    statements = ({"sql": "A"}, {"sql": "B"})
    whole = file("0001", transactional=False, statements=statements)
    assert resume_at(whole, entry("0001", "failed", completed=(statement_hash("A"),))) == 1
    with pytest.raises(PostgresqlError, match="changed since"):
        resume_at(whole, entry("0001", "failed", completed=(statement_hash("X"),), failed_statement=2))


def test_comparison_of_nothing():
    assert compare([], []).current is None
