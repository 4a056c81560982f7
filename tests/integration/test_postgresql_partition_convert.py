"""postgresql_partition_convert: a table with data becomes partitioned while the application writes, and back."""

from __future__ import annotations

import json
import threading
import time

import psycopg2
import pytest

from .conversions import IDENTITIES, TABLES, convert, kind, looks, refused, revert
from .partitions import bounds

UNTIL = "2026-12-01 00:00:00+00"


@pytest.fixture(params=IDENTITIES)
def log(request, database):
    database.query(TABLES.format(id=IDENTITIES[request.param]))
    return database


def test_check_then_convert_then_again_then_revert_then_again(log):
    before, rows = looks(log), log.query("SELECT * FROM log ORDER BY id")
    highest = log.value("SELECT max(id) FROM log")
    following = 10 if highest > 2000 else 1
    would = convert(log, check=True)
    assert would["changed"] and kind(log) == "r" and looks(log) == before
    assert [each["seconds"] for each in would["steps"]] == [None] * len(would["steps"])
    done = convert(log)
    assert done["changed"] and done["queries"] == would["queries"]
    assert 0 < done["locked_seconds"] < 1 and done["legacy_until"] == "2026-12-01T00:00:00+00:00"
    assert kind(log) == "p" and log.query("SELECT * FROM log ORDER BY id") == rows
    assert bounds(log) == {
        "log_legacy": f"FOR VALUES FROM (MINVALUE) TO ('{UNTIL}')",
        "log_default": "DEFAULT",
        "log_2026_12": f"FOR VALUES FROM ('{UNTIL}') TO ('2027-01-01 00:00:00+00')",
        "log_2027_01": "FOR VALUES FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00')",
    }
    assert looks(log) == before, "all that hung on it hangs on the new one, under the same names"
    assert log.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'log_pkey'") == (
        "PRIMARY KEY (id, at)"
    )
    new = log.value("INSERT INTO log (at, a) VALUES ('2026-11-24Z', 'loud') RETURNING id")
    assert new == highest + following, "no number is used twice"
    assert log.query("SELECT tableoid::regclass::text, a FROM log WHERE id = %s", (new,)) == [("log_legacy", "LOUD")]
    log.query("INSERT INTO log (at, a) VALUES ('2026-12-24Z', 'later'), ('2999-01-01', 'absurd')")
    assert log.value("SELECT count(*) FROM recent WHERE a IN ('LOUD', 'LATER', 'ABSURD')") == 3
    assert log.value("SELECT reloptions FROM pg_class WHERE relname = 'recent'") == ["security_barrier=true"]
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        log.query("INSERT INTO log (at, place) VALUES ('2026-12-24Z', 7)")
    with pytest.raises(psycopg2.errors.CheckViolation):
        log.query("INSERT INTO log (at, a) VALUES ('2026-11-24Z', '')")
    assert not convert(log)["changed"] and not convert(log, check=True)["changed"]

    would = revert(log, check=True)
    assert would["changed"] and kind(log) == "p"
    back = revert(log)
    assert back["changed"] and back["queries"] == would["queries"]
    assert kind(log) == "r" and looks(log) == before
    assert log.query("SELECT * FROM log WHERE id <= %s ORDER BY id", (highest,)) == rows
    assert [a for (a,) in log.query("SELECT a FROM log WHERE id > %s ORDER BY id", (highest,))] == [
        "LOUD", "LATER", "ABSURD",
    ]  # fmt: skip
    assert log.value("SELECT count(*) FROM recent WHERE a IN ('LOUD', 'LATER', 'ABSURD')") == 3
    assert log.value("INSERT INTO log (at) VALUES ('2026-12-25Z') RETURNING id") >= new + 3 * following
    assert log.query("SELECT relname FROM pg_class WHERE relname ~ 'legacy|convert|log_20|log_default'") == []
    assert not revert(log)["changed"]
    assert convert(log)["changed"] and kind(log) == "p", "and once more"


@pytest.fixture
def plain(database):
    database.query(TABLES.format(id=IDENTITIES["always"]))
    return database


def test_rights_are_carried_over_and_the_old_table_is_closed(plain, role_prefix):
    role = f"{role_prefix}writer"
    plain.query(
        f"CREATE ROLE {role}; GRANT INSERT ON log TO {role}; GRANT SELECT (id, at) ON log TO {role}; "
        "GRANT SELECT ON log TO PUBLIC"
    )
    acl = (
        "SELECT relacl::text, (SELECT array_agg(attacl::text ORDER BY attname) FROM pg_attribute "
        "WHERE attrelid = c.oid AND attacl IS NOT NULL) FROM pg_class c WHERE oid = '{}'::regclass"
    )
    before = plain.query(acl.format("log"))
    try:
        convert(plain)
        assert plain.query(acl.format("log")) == before
        assert not plain.value("SELECT has_table_privilege(%s, 'log_legacy', 'SELECT, INSERT')", (role,))
        assert not plain.value("SELECT has_column_privilege(%s, 'log_legacy', 'id', 'SELECT')", (role,))
        revert(plain)
        assert plain.query(acl.format("log")) == before
    finally:
        plain.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_owner_keeps_it(plain, role_prefix):
    role = f"{role_prefix}owner"
    plain.query(f"CREATE ROLE {role}; ALTER TABLE log OWNER TO {role}")
    try:
        convert(plain)
        owners = plain.query(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class "
            "WHERE relname ~ '^log' AND relkind IN ('r', 'p', 'S')"
        )
        assert owners == [(role,)]
        revert(plain)
        assert plain.value("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'log'::regclass") == role
    finally:
        plain.query(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_publications_are_carried_over(plain):
    plain.query("CREATE PUBLICATION p FOR TABLE log")
    convert(plain)
    assert plain.query("SELECT prrelid::regclass::text FROM pg_publication_rel") == [("log",)]
    revert(plain)
    assert plain.query("SELECT prrelid::regclass::text FROM pg_publication_rel") == [("log",)]


REFUSED = {
    "refers to it (child_log_id_fkey)": "CREATE TABLE child (log_id bigint REFERENCES log)",
    "many is bound to it": "CREATE MATERIALIZED VIEW many AS SELECT * FROM log",
    "function first() is bound to it": "CREATE FUNCTION first() RETURNS bigint LANGUAGE sql "
    "BEGIN ATOMIC SELECT id FROM log; END",
    "function text_of(log) is bound to it": "CREATE FUNCTION text_of(log) RETURNS text LANGUAGE sql AS 'SELECT $1.a'",
    "constraint once does not hold at": "ALTER TABLE log ADD CONSTRAINT once UNIQUE (id, place)",
    "unique index once does not hold at": "CREATE UNIQUE INDEX once ON log (id, a)",
    "constraint later is not valid": "ALTER TABLE log ADD CONSTRAINT later CHECK (id > 0) NOT VALID",
    "constraint here is NO INHERIT": "ALTER TABLE log ADD CONSTRAINT here CHECK (id > 0) NO INHERIT",
    "at may be null": "ALTER TABLE log ALTER at DROP NOT NULL",
    "it is unlogged": "ALTER TABLE log SET UNLOGGED",
    "there is a table public.log_legacy already": "CREATE TABLE log_legacy ()",
    "its replica identity is an index": "ALTER TABLE log REPLICA IDENTITY USING INDEX log_pkey",
    "publication part filters it": "CREATE PUBLICATION part FOR TABLE log (id, at)",
    "inherits": "CREATE TABLE child () INHERITS (log)",
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_carried_over_is_refused_before_anything_changes(plain, said):
    plain.query(REFUSED[said])
    failed = refused(plain)
    assert said in failed["msg"] and failed["remedy"] and not failed["changed"]
    assert kind(plain) == "r" and plain.query("SELECT 1 FROM pg_constraint WHERE conname = 'convert_range'") == []


def test_all_that_is_wrong_is_said_at_once(plain):
    for each in ("many is bound to it", "unique index once does not hold at", "at may be null"):
        plain.query(REFUSED[each])
    failed = refused(plain)
    assert len(failed["refused"]) == 3 and all(each["remedy"] for each in failed["refused"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"key": "no_such"}, "it has no column no_such"),
        ({"key": "a"}, "a is of type text"),
        ({"table": "nowhere"}, "'nowhere' does not exist"),
        ({"table": "recent"}, "is not a table"),
        ({"room": "soon"}, "is not a length of time"),
        ({"default_partition": False}, "1 rows are from 2026-12-01"),
        ({"lock_attempts": 0}, "less than 1"),
    ],
)
def test_mistakes_are_refused(plain, more, said):
    plain.query("INSERT INTO log (at) VALUES ('2999-01-01')")
    failed = refused(plain, **more)
    assert said in failed["msg"] and failed["remedy"] is not None


def test_absurd_times_are_never_refused_nor_lost(plain):
    plain.query("INSERT INTO log (at, a) VALUES ('2999-01-01', 'old'), ('infinity', 'old'), ('-infinity', 'old')")
    convert(plain)
    assert sorted(plain.query("SELECT tableoid::regclass::text FROM log WHERE a = 'OLD'")) == [
        ("log_default",), ("log_default",), ("log_legacy",),
    ]  # fmt: skip


def test_the_old_table_reaches_at_least_a_day_ahead(plain):
    assert convert(plain, check=True, now="2026-11-30T12:00:00Z")["legacy_until"].startswith("2027-01-01")
    assert convert(plain, check=True, now="2026-11-29T12:00:00Z")["legacy_until"].startswith("2026-12-01")


def test_a_table_without_a_key_and_one_whose_key_holds_the_time(database):
    database.query("CREATE TABLE bare (at date NOT NULL); INSERT INTO bare VALUES ('2026-05-05')")
    convert(database, table="bare")
    assert kind(database, "bare") == "p"
    database.query(
        "CREATE TABLE log (id int, at timestamp NOT NULL, PRIMARY KEY (at, id)); "
        "INSERT INTO log VALUES (1, '2026-05-05')"
    )
    before = looks(database)
    convert(database)
    assert kind(database) == "p" and looks(database) == before
    revert(database)
    assert kind(database) == "r" and looks(database) == before


def test_writers_and_readers_go_on(plain):
    """Eight sessions write and read throughout; each row that they were told is there is there."""
    plain.query(
        "INSERT INTO log (at) "
        "SELECT '2025-01-01Z'::timestamptz + n * interval '1 minute' FROM generate_series(1, 200000) AS n"
    )
    stop, written, errors, worst = threading.Event(), [], [], [0.0]

    def write():
        session = plain.server.connect(plain.name)
        with session.cursor() as cursor:
            while not stop.is_set():
                begun = time.monotonic()
                try:
                    cursor.execute("INSERT INTO log (at, a) VALUES (now(), 'live') RETURNING id")
                    number = cursor.fetchone()[0]
                    written.append(number)
                    cursor.execute("SELECT count(*) FROM log WHERE id = %s", (number,))
                    assert cursor.fetchone()[0] == 1
                except Exception as error:
                    errors.append(error)
                    return
                worst[0] = max(worst[0], time.monotonic() - begun)

    writers = [threading.Thread(target=write) for _number in range(8)]
    for writer in writers:
        writer.start()
    time.sleep(0.3)
    try:
        done = convert(plain, now=None, lock_timeout="200ms")
    finally:
        time.sleep(0.3)
        stop.set()
        for writer in writers:
            writer.join()
    assert errors == [] and len(written) > 100
    assert plain.value("SELECT count(*) FROM log WHERE id = ANY (%s)", (written,)) == len(set(written)) == len(written)
    assert done["locked_seconds"] < 1 and worst[0] < 5


def test_progress_is_written_down(plain, tmp_path):
    done = convert(plain, progress=str(tmp_path / "progress"))
    lines = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert [each["step"] for each in lines[::2]] == [each["step"] for each in done["steps"]]
    assert all(
        begun["seconds"] is None and ended["seconds"] >= 0 for begun, ended in zip(lines[::2], lines[1::2], strict=True)
    )


def test_more_rows_than_was_said_do_not_move_back(plain):
    convert(plain)
    plain.query("INSERT INTO log (at) SELECT '2026-12-24Z' FROM generate_series(1, 5)")
    failed = refused(plain, state="reverted", most_rows=4)
    assert "5 rows are in other partitions" in failed["msg"] and kind(plain) == "p"
    assert revert(plain, most_rows=5)["changed"] and plain.value("SELECT count(*) FROM log") == 1805


def test_rows_that_a_policy_hides_from_the_owner_are_not_lost(plain, role_prefix):
    role = f"{role_prefix}owner"
    plain.query(
        f"CREATE ROLE {role}; GRANT CREATE, USAGE ON SCHEMA public TO {role}; GRANT ALL ON place TO {role}; "
        f"ALTER TABLE log OWNER TO {role}; ALTER VIEW recent OWNER TO {role}"
    )
    try:
        convert(plain, session_role=role)
        plain.query(
            "INSERT INTO log (at, a) VALUES ('2026-12-24Z', 'hidden'); ALTER TABLE log FORCE ROW LEVEL SECURITY"
        )
        failed = refused(plain, state="reverted", session_role=role)
        assert failed["sqlstate"] == "42501" and plain.value("SELECT count(*) FROM log WHERE a = 'HIDDEN'") == 1
    finally:
        plain.query(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
