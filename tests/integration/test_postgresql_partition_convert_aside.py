"""postgresql_partition_convert with a default partition: a row of any time is taken at any moment, and none is lost."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from .conversions import TABLE, convert, portrait, refuse, revert
from .partitions import bounds
from .test_postgresql_partition_convert_faults import killed_at

pytestmark = pytest.mark.newest

LEFT = (
    "SELECT relname FROM pg_class WHERE relname ~ 'aside' UNION ALL SELECT proname FROM pg_proc WHERE proname ~ 'aside'"
)
ABSURD = "INSERT INTO audit_log (at, action) VALUES ('2999-01-01', '{0}'), ('infinity', '{0}'), ('-infinity', '{0}')"
PLACES = "SELECT tableoid::regclass::text, at::text FROM audit_log WHERE action = %s ORDER BY audit_log.at"


@pytest.fixture
def log(database):
    database.query("SET TimeZone = 'UTC'")
    database.query(TABLE)
    return database


def absurd(database, check=False, **changed):
    return convert(database, check, default_partition=True, **changed)


def test_rows_of_absurd_times_are_in_the_default_partition(log):
    log.query(ABSURD.format("old"))
    check = absurd(log, check=True)
    assert [each["step"] for each in check["steps"]][:3] == ["build index", "set aside", "move aside"]
    assert log.query(LEFT) == []
    made = absurd(log)
    assert made["queries"] == check["queries"] and made["created"] == check["created"]
    assert log.query(PLACES, ("old",)) == [
        ("audit_log_legacy", "-infinity"),
        ("audit_log_default", "2999-01-01 00:00:00+00"),
        ("audit_log_default", "infinity"),
    ]
    assert bounds(log, "audit_log")["audit_log_default"] == "DEFAULT" and log.query(LEFT) == []
    assert not absurd(log)["changed"]
    log.query(ABSURD.format("new"))
    assert [place for place, _at in log.query(PLACES, ("new",))] == [
        "audit_log_legacy", "audit_log_default", "audit_log_default",
    ]  # fmt: skip
    revert(log)
    assert log.value("SELECT count(*) FROM audit_log") == 1006


def test_without_a_default_partition_they_are_refused(log):
    log.query("INSERT INTO audit_log (at) VALUES ('2999-01-01')")
    failed = refuse(log)
    assert "rows are in the future" in failed["msg"] and failed["executed_queries"] == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_statement_every_row_is_taken_and_none_is_lost(log, after):
    kills = 0
    while True:
        log.query(f"DROP TABLE audit_log CASCADE; {TABLE}; {ABSURD.format('before')}")
        if not killed_at(lambda: absurd(log), kills + 1, after):
            break
        kills += 1
        log.query(ABSURD.format("between"))
        assert log.value("SELECT count(*) FROM audit_log WHERE action !~ 'before|between'") == 1000
        if kills % 3 == 0:  # the other way is open as well
            revert(log)
            assert log.value("SELECT relkind::text FROM pg_class WHERE relname = 'audit_log'") == "r"
        else:
            absurd(log)
            assert not absurd(log)["changed"]
        assert log.value("SELECT count(*) FROM audit_log") == 1006
        assert log.value("SELECT count(DISTINCT id) FROM audit_log") == 1006
        assert log.query(LEFT) == []
    assert kills >= 9


def test_whatever_comes_meanwhile_is_there_afterwards(log):
    stop, wrong, written = threading.Event(), [], []

    def write():
        try:
            with closing(log.server.connect(log.name)) as session, session.cursor() as cursor:
                while not stop.is_set():
                    for at in ("2999-01-01", "2026-12-31", "2026-11-23", "infinity", "0001-01-01"):
                        cursor.execute("INSERT INTO audit_log (at, action) VALUES (%s, 'live')", (at,))
                        written.append(at)
        except Exception as error:
            wrong.append(str(error))

    writers = [threading.Thread(target=write) for _number in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _again in range(3):
            absurd(log, batch_rows=1_000_000)
            revert(log, batch_rows=1_000_000)
        absurd(log, batch_rows=1_000_000)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert wrong == [] and len(written) > 50
    assert log.value("SELECT count(*) FROM audit_log WHERE action = 'live'") == len(written)
    assert log.value("SELECT count(*) FROM audit_log_legacy WHERE at > '2026-12-01'") == 0


def test_rows_aside_pass_the_triggers_and_keys_of_the_table(log):
    log.query(
        "CREATE TABLE seen (id bigint); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END $$; "
        "CREATE TRIGGER see AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION see(); "
        "ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    )
    before = portrait(log, "names", "sequences")
    killed_at(lambda: absurd(log), 5, False)
    log.query(ABSURD.format("between"))
    assert log.value("SELECT count(*) FROM seen") == 1
    absurd(log)
    assert log.value("SELECT count(*) FROM seen") == 3
    revert(log)
    after = portrait(log, "names", "sequences")
    assert {name: after[name] for name in after if after[name] != before[name]} == {}


def test_a_run_without_the_default_partition_does_not_lose_what_is_aside(log):
    killed_at(lambda: absurd(log), 5, False)
    log.query(ABSURD.format("between"))
    failed = refuse(log)
    assert "put rows aside" in failed["msg"] and "default_partition: true" in failed["remedy"]
    absurd(log)
    assert log.value("SELECT count(*) FROM audit_log") == 1003


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$; "
            "CREATE TRIGGER keep BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION keep()",
            "trigger keep acts on DELETE",
        ),
        ("INSERT INTO audit_log (at) SELECT '2999-01-01' FROM generate_series(1, 11)", "more than 10 rows are from"),
        ("CREATE TABLE audit_log_aside ()", "audit_log_aside is needed"),
        ("CREATE TABLE audit_log_default ()", "audit_log_default is needed"),
        (
            "CREATE PUBLICATION p_DATABASE FOR ALL TABLES WITH (publish_via_partition_root = true)",
            "would publish rows that are put aside",
        ),
    ],
)
def test_what_is_in_the_way_is_said_before_anything_changes(log, text, said):
    log.query("INSERT INTO audit_log (at) VALUES ('2999-01-01')")
    log.query(text.replace("DATABASE", log.name))
    for check in (True, False):
        failed = refuse(log, check, default_partition=True, batch_rows=10)
        assert said in failed["msg"] and failed["remedy"] and failed["executed_queries"] == []


def test_its_function_is_nobody_elses_to_call_and_its_rows_nobody_elses_to_read(log):
    log.query("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    killed_at(lambda: absurd(log), 5, False)
    assert log.value("SELECT relacl::text !~ '(^|[{,])=' FROM pg_class WHERE relname = 'audit_log_aside'")
    assert not log.value("SELECT has_function_privilege('public', 'zzz_audit_log_aside()', 'EXECUTE')")
    absurd(log)
    assert log.value("SELECT relacl::text !~ '(^|[{,])=' FROM pg_class WHERE relname = 'audit_log_default'")
