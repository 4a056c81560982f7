"""Module audit_journal: real journals of running systemd hosts (252 and 257), a real dpkg log, the shipped schema.

``journalctl`` is the hosts' own: a shim on PATH runs it inside the container, as the module would there.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import docker
import pytest
import yaml
from ansible_collections.auditdb.postgresql.plugins.module_utils import journal_store
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connect
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_event import canonical_json, storable
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
MIGRATIONS = ROOT / "roles/audit_schema/files/migrations"
MODULE = "ansible_collections.auditdb.postgresql.plugins.modules.audit_journal"

# Sends an entry with bytes, NUL, a repeated field, a long identifier and a long message, in journald's own protocol.
SEND_ODD_ENTRY = r"""
import socket, struct
def field(name, value):
    return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
entry = (field(b"MESSAGE", "a\0b ก้ 👋 ".encode() + b"\xff" + b"x" * 9000) + field(b"SYSLOG_IDENTIFIER", b"i" * 300)
         + field(b"TWICE", b"1") + field(b"TWICE", b"2") + field(b"PRIORITY", b"3"))
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(entry, "/run/systemd/journal/socket")
"""

# A package made on the spot, so that dpkg itself writes its log without any network.
USE_DPKG = """
set -e; mkdir -p /tmp/p/DEBIAN
printf '%s\\n' 'Package: probe' 'Version: 1' 'Architecture: all' 'Maintainer: t <t@localhost>' 'Description: t' \\
    >/tmp/p/DEBIAN/control
dpkg-deb --build /tmp/p /tmp/p.deb; dpkg -i /tmp/p.deb; dpkg -P probe
"""


class Host:
    """A running systemd host whose journal is read."""

    def __init__(self, container) -> None:
        self.container = container

    def run(self, *command: str) -> str:
        code, output = self.container.exec_run(list(command))
        assert code == 0, output
        return output.decode()

    def log(self, *messages: str) -> None:
        for message in messages:
            self.run("logger", "-t", "probe", message)
        self.run("journalctl", "--sync")

    def entries(self) -> list[dict]:
        return [json.loads(line) for line in self.run("journalctl", "-o", "json", "--all", "-q").splitlines()]


@pytest.fixture(scope="session")
def host(server):
    engine = docker.from_env()
    release = {15: "12", 17: "13"}[server.version]
    name = f"auditdb-journal-test-{release}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with contextlib.suppress(docker.errors.NotFound):
        engine.containers.get(name).remove(force=True)
    container = engine.containers.run(
        f"auditdb-debian:{release}",
        ["/lib/systemd/systemd"],
        name=name,
        labels={"auditdb.postgresql": "modules"},
        detach=True,
        cap_add=["SYS_ADMIN"],
        security_opt=["seccomp=unconfined"],
        cgroupns="private",
        tmpfs={"/run": "exec", "/run/lock": "", "/tmp": "exec"},
    )
    host = Host(container)
    try:
        deadline = time.monotonic() + 30
        while b"running" not in container.exec_run("systemctl is-system-running").output:
            assert time.monotonic() < deadline, container.exec_run("systemctl --failed").output
            time.sleep(0.1)
        host.run("python3", "-c", SEND_ODD_ENTRY)
        host.run("journalctl", "--sync")
        yield host
    finally:
        container.remove(force=True)


@pytest.fixture
def journalctl(host, tmp_path, monkeypatch):
    """Put the host's own journalctl first on PATH, and let the module believe that it is root, as it is there."""
    shim = tmp_path / "bin" / "journalctl"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec docker exec {host.container.name} journalctl "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return host


@pytest.fixture
def writer(database, role_prefix):
    """Return the options of a role that may only append, on the shipped schema."""
    role = f"{role_prefix}writer"
    database.query("CREATE SCHEMA audit")
    for name in ("0001_audit_log.sql", "0008_ingest_cursor.sql"):
        database.query((MIGRATIONS / name).read_text())
    database.query("CREATE TABLE audit.all_times PARTITION OF audit.audit_log FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")
    database.query(f"CREATE ROLE {role} LOGIN PASSWORD 'writer'")
    database.query(f"GRANT USAGE ON SCHEMA audit TO {role}; GRANT INSERT ON audit.audit_log TO {role}")
    database.query(f"GRANT SELECT, INSERT, UPDATE ON audit.ingest_cursor TO {role}")
    yield {"login_user": role, "login_password": "writer", "host": "db1", "ssl_mode": "require"}
    database.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.fixture
def dpkg_log(host, tmp_path):
    host.run("sh", "-c", USE_DPKG)
    log = tmp_path / "dpkg.log"
    log.write_text(host.run("cat", "/var/log/dpkg.log"))
    return log


def wrong_hashes(database) -> int:
    """Run the query of the module's own examples."""
    examples = yaml.safe_load(importlib.import_module(MODULE).EXAMPLES)
    return database.value(examples[1]["community.postgresql.postgresql_query"]["query"])


def count(database) -> int:
    return database.value("SELECT count(*) FROM audit.audit_log")


def test_every_entry_is_loaded_once(database, writer, journalctl):
    options = {**writer, "sources": ["journal"], "batch_size": 7}
    entries = journalctl.entries()
    checked = database.module("audit_journal", check=True, **options)
    assert (checked["changed"], checked["loaded"]) == (True, {"journal": len(entries)})
    assert checked["executed_queries"] == []
    assert (count(database), database.value("SELECT count(*) FROM audit.ingest_cursor")) == (0, 0)

    done = database.module("audit_journal", **options)
    for same in ("loaded", "oldest", "newest", "cursors", "diff"):
        assert done[same] == checked[same]
    assert len(done["executed_queries"]) == 2 * -(-len(entries) // 7)
    stored = [row for (row,) in database.query("SELECT details FROM audit.audit_log ORDER BY id")]
    shortened = [details.pop("shortened") for details in stored if "shortened" in details]
    assert len(shortened) == 1  # the odd entry, which has a test of its own
    assert stored == [{**entry, "source": "journal", "host": "db1"} for entry in entries]
    assert database.query("SELECT source, host, cursor FROM audit.ingest_cursor") == [
        ("journal", "db1", entries[-1]["__CURSOR"])
    ]
    times = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    bounds = f"SELECT {times.format('min(timestamp)')}, {times.format('max(timestamp)')} FROM audit.audit_log"
    assert database.query(bounds) == [(done["oldest"], done["newest"])]

    again = database.module("audit_journal", **options)
    assert (again["changed"], again["loaded"], again["oldest"]) == (False, {"journal": 0}, None)
    assert count(database) == len(entries)

    journalctl.log("one", "two")
    assert database.module("audit_journal", **options)["loaded"] == {"journal": 2}
    newest = database.query("SELECT outcome_description FROM audit.audit_log ORDER BY id DESC LIMIT 2")
    assert newest == [("two",), ("one",)]


def test_hashes_are_verified_in_the_database(database, writer, journalctl, dpkg_log):
    loaded = database.module("audit_journal", dpkg_log=str(dpkg_log), **writer)["loaded"]
    assert loaded["journal"] > 40 and loaded["dpkg"] > 5
    assert wrong_hashes(database) == 0
    for column in ("outcome_description", "principal_id", "correlation_id"):
        change = f"UPDATE audit.audit_log SET {column} = 'x' WHERE id = (SELECT max(id) FROM audit.audit_log)"
        database.query(f"BEGIN; {change}")
        assert wrong_hashes(database) == 1
        database.query("ROLLBACK")


def test_an_odd_entry_is_complete(database, writer, journalctl):
    database.module("audit_journal", sources=["journal"], **writer)
    ((action, message, status, details),) = database.query(
        "SELECT action, outcome_description, status, details FROM audit.audit_log WHERE action LIKE 'journal.ii%'"
    )
    assert (len(action), action[-1], status) == (255, "…", "failure")
    assert details["shortened"] == {"action": "journal." + "i" * 300}
    assert message == "ab ก้ 👋 \\xff" + "x" * 9000
    assert bytes(details["MESSAGE"]) == "a\0b ก้ 👋 ".encode() + b"\xff" + b"x" * 9000
    assert details["TWICE"] == ["1", "2"]


def test_nothing_is_lost_when_the_cursors_entry_was_vacuumed(database, writer, journalctl):
    """As systemd 252 would do with --after-cursor."""
    journalctl.log("first", "second", "third")
    first = next(entry for entry in reversed(journalctl.entries()) if entry.get("MESSAGE") == "first")
    gone = f"s={'0' * 32};i=1;b={'0' * 32};m=1;t={int(first['__REALTIME_TIMESTAMP']) - 1:x};x=1"
    database.query("INSERT INTO audit.ingest_cursor VALUES ('journal', 'db1', %s)", (gone,))
    assert database.module("audit_journal", sources=["journal"], **writer)["loaded"] == {"journal": 3}


def test_until(database, writer, journalctl):
    journalctl.log("before")
    until = database.value(
        "SELECT to_timestamp(%s)::text", (int(journalctl.entries()[-1]["__REALTIME_TIMESTAMP"]) / 1e6,)
    )
    journalctl.log("after")
    database.module("audit_journal", sources=["journal"], until=until.replace("+00", ""), **writer)
    newest = "SELECT outcome_description FROM audit.audit_log ORDER BY id DESC LIMIT 1"
    assert database.value(newest) == "before"
    again = database.module("audit_journal", sources=["journal"], until=until.replace("+00", ""), **writer)
    assert again["changed"] is False
    assert database.module("audit_journal", sources=["journal"], **writer)["loaded"] == {"journal": 1}


def test_the_dpkg_log_through_rotations(database, writer, dpkg_log):
    options = {**writer, "sources": ["dpkg"], "dpkg_log": str(dpkg_log)}
    lines = dpkg_log.read_text().splitlines()
    assert database.module("audit_journal", **options)["loaded"] == {"dpkg": len(lines)}
    rotated = dpkg_log.with_name("dpkg.log.1")
    dpkg_log.rename(rotated)
    assert database.module("audit_journal", **options)["changed"] is False
    dpkg_log.with_name("dpkg.log.2.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    dpkg_log.write_text("2026-11-23 03:00:00 startup archives unpack\n")
    assert database.module("audit_journal", **options)["loaded"] == {"dpkg": 1}
    lines.append("2026-11-23 03:00:00 startup archives unpack")
    stored = database.query("SELECT details ->> 'line' FROM audit.audit_log ORDER BY id")
    assert [line for (line,) in stored] == lines
    purged = (
        'SELECT status FROM audit.audit_log WHERE details @> \'{"state": "not-installed", "package": "probe:all"}\''
    )
    assert ("success",) in database.query(purged)
    assert wrong_hashes(database) == 0


def test_dpkg_times_are_in_the_hosts_zone(database, writer, tmp_path, monkeypatch):
    log = tmp_path / "dpkg.log"
    log.write_text("2026-07-01 03:00:00 startup archives unpack\n")
    monkeypatch.setenv("TZ", "Asia/Amman")
    time.tzset()
    try:
        result = database.module("audit_journal", sources=["dpkg"], dpkg_log=str(log), **writer)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert result["oldest"] == "2026-07-01T00:00:00.000000Z"
    log.write_text("")
    assert database.module("audit_journal", sources=["dpkg"], dpkg_log=str(log), **writer)["changed"] is False


def test_a_killed_load_is_finished_by_the_next(database, writer, tmp_path):
    log = tmp_path / "dpkg.log"
    total = 4000
    log.write_text("".join(f"2026-11-23 03:00:00 install p{n}:all <none> 1\n" for n in range(total)))
    options = {**database.login, **writer, "sources": ["dpkg"], "dpkg_log": str(log), "batch_size": 10}
    program = f"import sys; sys.argv = ['x', sys.argv[1]]; from {MODULE} import main; main()"
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": options})
    kills = 0
    while kills < 3:
        before = count(database)
        victim = subprocess.Popen([sys.executable, "-c", program, arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while count(database) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        assert before < count(database) < total
        kills += 1
    missing = total - count(database)
    assert missing % 10 == 0
    assert database.module("audit_journal", **options)["loaded"] == {"dpkg": missing}
    assert database.value("SELECT count(DISTINCT target_resource_id) FROM audit.audit_log") == total == count(database)


def test_of_two_loads_at_once_one_is_refused(database, writer, tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_text("2026-11-23 03:00:00 startup archives unpack\n" * 3)
    session = connect({**database.login, **writer})
    utils = importlib.import_module(MODULE).journal_dpkg
    events = list(utils.read_log(log, "db1", None, until=None))
    store = journal_store.Store(session, "audit.audit_log", "audit.ingest_cursor", "dpkg", "db1")
    for before, batch in ((None, events[:2]), (events[1][1], events[2:])):
        store.load(batch, before)
        with pytest.raises(PostgresqlError, match="another load"):
            store.load(batch, before)
    assert count(database) == 3


def test_events_without_a_partition(database, writer, tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_text(
        "2026-11-23 03:00:00 startup a b\n2026-11-24 03:00:00 startup a b\n2019-01-01 03:00:00 startup a b\n"
    )
    database.query(
        "ALTER TABLE audit.audit_log DETACH PARTITION audit.all_times; "
        "CREATE TABLE audit.november PARTITION OF audit.audit_log FOR VALUES FROM ('2026-11-01') TO ('2026-12-01')"
    )
    options = {**writer, "sources": ["dpkg"], "dpkg_log": str(log), "batch_size": 2}
    failure = database.failure("audit_journal", **options)
    assert failure["changed"] is True  # the first batch
    assert failure["sqlstate"] == "23514"
    assert "start: 2019-01-01" in failure["remedy"] and "postgresql_partition" in failure["remedy"]
    assert count(database) == 2
    again = database.failure("audit_journal", **options)
    assert again["changed"] is False
    database.query("CREATE TABLE audit.y PARTITION OF audit.audit_log FOR VALUES FROM ('2019-01-01') TO ('2020-01-01')")
    assert database.module("audit_journal", **options)["loaded"] == {"dpkg": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0"),
        ({"until": "soon"}, "until: 'soon'"),
        ({"table": "audit_log"}, "table: 'audit_log' is not schema.table"),
        ({"cursor_table": "a.b.c"}, "cursor_table: 'a.b.c'"),
        ({"sources": ["journal"], "journal_directory": "/no/such"}, "journal_directory: /no/such"),
        ({"table": "audit.no_such"}, 'relation "audit.no_such" does not exist'),
        ({"cursor_table": "audit.no_such"}, 'relation "audit.no_such" does not exist'),
    ],
)
def test_wrong_options_change_nothing(database, writer, tmp_path, options, message):
    log = tmp_path / "dpkg.log"
    log.write_text("2026-11-23 03:00:00 startup archives unpack\n")
    failure = database.failure("audit_journal", **{**writer, "sources": ["dpkg"], "dpkg_log": str(log), **options})
    assert message in failure["msg"] and failure["remedy"]
    assert failure["changed"] is False
    assert (count(database), database.value("SELECT count(*) FROM audit.ingest_cursor")) == (0, 0)


def test_reading_the_journal_needs_root_and_journalctl(database, writer, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "become" in database.failure("audit_journal", **writer)["remedy"]
    monkeypatch.setenv("PATH", str(tmp_path))
    failure = database.failure("audit_journal", journal_directory=str(tmp_path), **writer)
    assert "journalctl is not installed" in failure["msg"]
    shim = tmp_path / "journalctl"
    shim.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    shim.chmod(0o755)
    failure = database.failure("audit_journal", journal_directory=str(tmp_path), **writer)
    assert "journalctl ended with 3: broken" in failure["msg"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
    max_leaves=8,
)


def test_canonical_json_is_what_the_database_prints(database):
    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(JSON)
    def same(value):
        text = canonical_json(storable(value))
        assert database.value("SELECT %s::jsonb::text", (text,)) == text

    same()
