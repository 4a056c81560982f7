"""What the pool does with connections, and with what goes away under it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from pool import wait

INSERT = (
    "INSERT INTO audit.audit_log (timestamp, action, status, outcome_description) VALUES (now(), 'pool', 'success', %s)"
)
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'audit_reader'"


def test_limits(pool):
    wanted = {
        "pool_mode": "transaction",
        "min_pool_size": "2",
        "default_pool_size": "20",
        "max_db_connections": "40",
        "max_client_conn": "1000",
        "server_idle_timeout": "30",
        "query_wait_timeout": "10",
        "server_login_retry": "1",
        "client_tls_sslmode": "require",
        "server_tls_sslmode": "verify-full",
        "auth_type": "hba",
        "unix_socket_dir": "/run/pgbouncer",
    }
    config = pool.config
    if not pool.old:
        wanted["max_prepared_statements"] = "200"
    assert {name: config[name] for name in wanted} == wanted
    limits = pool.run("cat", f"/proc/{pool.pid}/limits")
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(line.split()[3]) > 4096


def test_a_hundred_clients_share_twenty_connections(pool):
    def work(_number: int) -> set[int]:
        connection = pool.connect("audit_reader", connect_timeout=30)
        try:
            with connection.cursor() as cursor:
                found = set()
                for _ in range(5):
                    cursor.execute("SELECT pg_backend_pid(), pg_sleep(0.02)")
                    found.add(cursor.fetchone()[0])
                barrier.wait(30)
                most.append(int(pool.base.sql(BACKENDS)) if _number == 0 else 0)
                clients.append(
                    len([c for c in pool.show("clients") if c["user"] == "audit_reader"]) if _number == 0 else 0
                )
                barrier.wait(30)
                return found
        finally:
            connection.close()

    most: list[int] = []
    clients: list[int] = []
    barrier = threading.Barrier(100)
    with ThreadPoolExecutor(100) as threads:
        found = set().union(*threads.map(work, range(100)))
    assert max(clients) == 100
    assert 2 <= max(most) <= 20
    assert len(found) <= 20


def test_a_pool_in_use_keeps_two_connections(pool):
    connection = pool.connect("audit_reader")
    wait(lambda: int(pool.base.sql(BACKENDS)) >= 2, "there is one only")
    connection.close()


@pytest.mark.long
def test_idle_connections_are_closed_but_two(pool):
    held = [pool.connect("audit_reader") for _ in range(6)]
    for connection in held:
        connection.autocommit = False
        connection.cursor().execute("SELECT 1")
    assert int(pool.base.sql(BACKENDS)) >= 6
    for connection in held:
        connection.close()
    wait(lambda: int(pool.base.sql(BACKENDS)) == 2, "connections are kept", seconds=45)


@pytest.mark.newest
def test_who_waits_too_long_gets_an_error(pool):
    held = []
    for _ in range(20):
        connection = pool.connect("audit_reader")
        connection.autocommit = False
        connection.cursor().execute("SELECT 1")
        held.append(connection)
    begun = time.monotonic()
    try:
        code, output = pool.from_base("audit_reader", "psql -XAtc 'SELECT 1'")
        assert code == 2 and "FATAL:  query_wait_timeout" in output
        assert 9 <= time.monotonic() - begun <= 13
        assert pool.ask("audit_writer", "SELECT 1") == "1", "and another user has a pool of its own"
    finally:
        for connection in held:
            connection.close()
    assert pool.ask("audit_reader", "SELECT 1") == "1"


def test_prepared_statements_where_the_version_has_them(pool):
    script = "\\set n random(1, 9)\nSELECT :n + pg_backend_pid();\n"
    code, text = pool.from_base(
        "audit_reader",
        f"printf '%s' '{script}' > /tmp/bench.sql; $(ls /usr/lib/postgresql/*/bin/pgbench) "
        "-n -M prepared -c 30 -j 2 -t 20 -f /tmp/bench.sql",
    )
    if pool.old:
        assert "prepared statement" in text and code != 0, text
    else:
        assert code == 0 and "number of transactions actually processed: 600/600" in text, text


def test_a_killed_pool_comes_back(pool):
    before = pool.pid
    pool.run("kill", "-9", before)
    took = wait(pool.works, "it has not come back", seconds=5)
    assert pool.pid not in (before, "0")
    print(f"{pool.name}: back after {took:.1f} s")


def test_the_database_is_back_for_clients_within_five_seconds(pool):
    connection = pool.connect("audit_reader")
    connection.cursor().execute("SELECT 1")
    for mode in ("fast", "immediate"):
        version = pool.base.run("pg_lsclusters", "-h").split()[0]
        pool.base.run("pg_ctlcluster", version, "main", "stop", "-m", mode)
        assert not pool.works()
        pool.base.run("systemctl", "restart", f"postgresql@{version}-main")
        took = wait(pool.works, "clients do not get through", seconds=5)
        print(f"{pool.name}: works {took:.1f} s after the start, {mode}")
    connection.close()


class Writer(threading.Thread):
    """Writes numbered rows through the pool until it is told to end, or gets an error."""

    def __init__(self, pool, word: str) -> None:
        super().__init__()
        self.pool, self.word = pool, word
        self.written, self.slowest, self.ends = 0, 0.0, False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            connection = self.pool.connect("audit_writer")
            with connection.cursor() as cursor:
                while not self.ends:
                    begun = time.monotonic()
                    cursor.execute(INSERT, (self.word,))
                    self.written += 1
                    self.slowest = max(self.slowest, time.monotonic() - begun)
            connection.close()
        except psycopg2.Error as error:
            self.error = error


def test_paused_while_the_server_restarts_no_transaction_is_lost(pool):
    word = f"{pool.name} {time.time()}"
    writers = [Writer(pool, word) for _ in range(8)]
    for writer in writers:
        writer.start()
    wait(lambda: all(writer.written > 20 for writer in writers), "nothing is written")
    code, output = pool.console("pause")
    assert code == 0 and output.startswith("paused after"), output
    count = sum(writer.written for writer in writers)
    pool.base.run("systemctl", "restart", "postgresql")
    time.sleep(0.5)
    assert sum(writer.written for writer in writers) == count, "nothing is written while it is paused"
    code, output = pool.console("resume")
    assert (code, output) == (0, "resumed\n")
    wait(lambda: sum(writer.written for writer in writers) > count + 100, "nobody goes on")
    for writer in writers:
        writer.ends = True
    for writer in writers:
        writer.join(20)
    assert [writer.error for writer in writers] == [None] * 8
    found = int(pool.base.sql(f"SELECT count(*) FROM audit.audit_log WHERE outcome_description = '{word}'", "audit_db"))
    assert found == sum(writer.written for writer in writers)
    print(f"{pool.name}: {found} rows, the slowest waited {max(writer.slowest for writer in writers):.1f} s")


def test_a_transaction_that_does_not_end_lets_the_pool_go_on(pool):
    connection = pool.connect("audit_reader")
    connection.autocommit = False
    connection.cursor().execute("SELECT 1")
    code, output = pool.console("pause", "--timeout=1")
    assert code != 0 and "transactions still ran after 1 s; the clients go on" in output
    assert pool.ask("audit_writer", "SELECT 1") == "1"
    connection.cursor().execute("SELECT 1")
    connection.commit()
    connection.close()
    assert pool.console("resume") == (0, "was not paused\n")
    assert pool.run("systemctl", "list-timers", "--no-legend", "auditdb-pgbouncer-resume.timer").strip() == ""


def test_it_goes_on_by_itself_where_nobody_resumes(pool):
    assert pool.console("pause", "--resume-after=2")[0] == 0
    begun = time.monotonic()
    assert pool.ask("audit_reader", "SELECT 1", connect_timeout=20) == "1"
    assert 1 <= time.monotonic() - begun <= 6


def test_pause_and_resume_as_entry_points(pools, playbook, tmp_path):
    pool = pools["pool-trixie"]
    for entry in ("pause", "resume"):
        play = tmp_path / f"{entry}.yml"
        play.write_text(
            "- hosts: balancer\n  become: true\n  gather_facts: false\n  tasks:\n"
            f"    - ansible.builtin.import_role: {{name: auditdb.postgresql.pgbouncer, tasks_from: {entry}}}\n"
        )
        run = playbook(play, "--limit", pool.name)
        assert run.code == 0 and run.changed == 1, run.output
        assert pool.works() == (entry == "resume")
