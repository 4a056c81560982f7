"""What a check's outcome means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.check_plan import (
    judge_attempts,
    judge_certificate,
    judge_error,
    judge_rows,
    render,
    validate,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

DENIED = PostgresqlError("permission denied for table audit_log", sqlstate="42501")
MISSING = PostgresqlError('relation "x"\ndoes not exist', sqlstate="42P01")


def test_rows_are_findings_unless_they_only_inform():
    assert judge_rows([]).status == "ok"
    assert judge_rows([{"a": 1, "b": None}]).findings == ("a=1, b=None",)
    assert judge_rows([{"a": "x"}]).status == "failed"
    informed = judge_rows([{"a": "x"}], advisory=True)
    assert (informed.status, informed.findings) == ("ok", ("x",))


def test_what_could_not_be_asked_never_holds():
    assert judge_error(DENIED).status == "unknown"
    assert judge_error(MISSING).status == "failed"
    assert "\n" not in judge_error(MISSING).findings[0]


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [(DENIED, "ok", ""), (None, "failed", "accepted, and must be refused"), (MISSING, "failed", "not proven")],
)
def test_a_refusal_is_proven_by_its_code(error, status, word):
    verdict = judge_attempts({"refused": ["42501"]}, [("TRUNCATE audit.audit_log", error)])
    assert verdict.status == status
    assert word in "".join(verdict.findings)


def test_a_certificate_lasts_whole_days():
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert judge_certificate(now + timedelta(days=14), now, 14).status == "ok"
    verdict = judge_certificate(now + timedelta(days=13, hours=23), now, 14)
    assert (verdict.status, verdict.findings) == ("failed", ("it ends 2026-01-15, in 13 days",))


def test_what_must_be_accepted():
    assert judge_attempts({"accepted": True}, [("SELECT 1", None)]).status == "ok"
    verdict = judge_attempts({"accepted": True}, [("SELECT 1", None), ("SELECT 2", DENIED)])
    assert verdict.findings == ("SELECT 2: refused, permission denied for table audit_log (SQLSTATE 42501)",)


def test_a_long_statement_is_shortened():
    (finding,) = judge_attempts({"accepted": True}, [("SELECT 1\n  " * 100, DENIED)]).findings
    assert len(finding) < 200 and "\n" not in finding


def test_one_column_is_its_value():
    assert render({"name": "ไทย"}) == "ไทย"
    assert render({"name": "a", "why": 1}) == "name=a, why=1"


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({}, "neither a query, nor statements"),
        ({"query": "q", "statements": ["s"]}, "query and statements"),
        ({"query": "q", "accepted": True}, "which alone are refused or accepted"),
        ({"certificate_days": 3, "accepted": True}, "which alone are refused or accepted"),
        ({"certificate_days": 3, "query": "q"}, "query and certificate_days"),
        ({"statements": ["s"]}, "must say either"),
        ({"statements": ["s"], "accepted": True, "refused": ["42501"]}, "must say either"),
        ({"statements": ["s"], "accepted": True, "advisory": True}, "advisory"),
    ],
)
def test_all_unclear_checks_are_named_at_once(bad, word):
    with pytest.raises(PostgresqlError) as failed:
        validate([{"name": "first", **bad}, {"name": "good", "query": "q"}, {"name": "second", **bad}])
    assert word in failed.value.message
    assert "'first'" in failed.value.message and "'second'" in failed.value.message
    assert "'good'" not in failed.value.message
    assert failed.value.remedy
