"""A planned switchover costs the clients of the pool a delay, and no transaction; what would not work is refused."""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
from itertools import pairwise

import pytest
import yaml
from members import UNIT, VERSION

PLAY = "auditdb.postgresql.switchover"
TIMES = 10 if os.environ.get("AUDITDB_LONG") else 3
CLIENTS, RATE = 8, 250
STATEMENT = 'INSERT INTO audit.audit_log ("timestamp", action, status) VALUES (now(), $$switched$$, $$success$$);'


class Load:
    """pgbench, from a host that runs no poolers, through the pool; each transaction writes one event."""

    def __init__(self, host, balancer, seconds: int) -> None:
        secrets = yaml.safe_load((balancer.inventory / "group_vars/all/secrets.yml").read_text())
        password = secrets["audit_passwords"]["audit_writer"]
        name = balancer.container.name
        host.run("install", "-m", "600", "/dev/null", "/tmp/pgpass")
        host.run("sh", "-c", f"echo '{name}:6432:audit_db:audit_writer:{password}' > /tmp/pgpass")
        host.run("sh", "-c", f"echo '{STATEMENT}' > /tmp/write.sql")
        login = f"host={name} port=6432 dbname=audit_db user=audit_writer sslmode=verify-full"
        self.host = host
        self.command = (
            f"PGPASSFILE=/tmp/pgpass /usr/lib/postgresql/{VERSION}/bin/pgbench -n -f /tmp/write.sql -c {CLIENTS} -j 1"
            f" -T {seconds} -R {RATE} '{login} sslrootcert=/etc/postgresql/tls/ca.crt' 2>&1"
        )
        self.said = ""
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.said = self.host.container.exec_run(["sh", "-c", self.command]).output.decode()

    def __enter__(self) -> Load:
        self.thread.start()
        time.sleep(3)
        return self

    def __exit__(self, *_error: object) -> None:
        self.thread.join(timeout=600)

    @property
    def transactions(self) -> int:
        return int(re.search(r"actually processed: (\d+)", self.said)[1])


def events(cluster) -> int:
    return int(cluster.leader.sql("SELECT count(*) FROM audit.audit_log WHERE action = 'switched'", "audit_db"))


@pytest.mark.usefixtures("first")
def test_a_switchover_under_load_fails_no_transaction(cluster, playbook, balancer, figure):
    """Each that the clients were told of is there once, and none was refused."""
    cluster.whole()
    before = events(cluster)
    pauses, led = [], [cluster.leader_name()]
    # A switchover takes 10 s, on a busy machine 25.
    with Load(list(cluster.hosts.values())[-1], balancer, 40 * TIMES) as load:
        for _ in range(TIMES):
            run = playbook(PLAY, "-e", "patroni_switchover=main")
            assert run.code == 0, run.output
            pauses.append(float(re.search(r"waited for ([0-9.]+) s", run.text)[1]))
            led.append(cluster.leader_name())
        assert load.thread.is_alive(), "the load has ended before the last switchover"
    assert all(earlier != later for earlier, later in pairwise(led)), led
    assert "aborted" not in load.said and "number of failed transactions: 0 (" in load.said, load.said
    assert events(cluster) - before == load.transactions > 2000
    figure("switchovers", len(pauses))
    figure("transactions meanwhile", load.transactions)
    figure("median pause", statistics.median(pauses))
    figure("longest pause", max(pauses))
    assert max(pauses) < 10, "clients wait for 10 s at most"


@pytest.mark.long
def test_a_candidate_can_be_named(cluster, playbook):
    cluster.whole()
    candidate = cluster.standbys[-1].name
    run = playbook(PLAY, "-e", "patroni_switchover=main", "-e", f"patroni_switchover_candidate={candidate}")
    assert run.code == 0, run.output
    assert cluster.leader_name() == candidate


def test_check_mode_says_who_would_lead(cluster, playbook):
    cluster.whole()
    before = cluster.leader_name()
    run = playbook(PLAY, "--check", "-e", "patroni_switchover=main")
    assert run.code == 0 and f"would lead after {before}" in run.text
    assert cluster.leader_name() == before


@pytest.mark.long
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("", "patroni_switchover is ''"),
        ("patroni_switchover=other", "patroni_switchover is 'other', and the cluster is 'main'"),
        ("patroni_switchover=main patroni_switchover_candidate=nobody", "patroni_switchover_candidate is 'nobody'"),
        ("patroni_switchover=main patroni_switchover_candidate=LEADER", "who leads. Remedy: one of"),
        ("patroni_switchover=main patroni_switchover_lag=-1", "nobody"),
    ],
)
def test_wrong_input_changes_nothing(cluster, playbook, values, said):
    cluster.whole()
    before = cluster.leader_name()
    run = playbook(PLAY, "-e", values.replace("LEADER", before))
    assert run.code != 0 and run.changed == 0
    assert said in run.text and "Remedy:" in run.text
    assert cluster.leader_name() == before


@pytest.mark.long
def test_a_long_transaction_is_refused_before_clients_wait(cluster, playbook, balancer):
    cluster.whole()
    before = cluster.leader_name()
    connection = balancer.connect("audit_reader", port=6432)
    try:
        connection.cursor().execute("SELECT pg_sleep(1.5)")
        run = playbook(PLAY, "-e", "patroni_switchover=main", "-e", "patroni_switchover_patience=1")
        assert run.code != 0 and run.changed == 0
        assert "transactions last for more than 1 s" in run.text and "of audit_reader" in run.text
        # One that is not yet old, and does not end: the pool gives up, and clients go on.
        run = playbook(PLAY, "-e", "patroni_switchover=main", "-e", "patroni_switchover_patience=600")
        assert run.code != 0
        assert "could not hold the clients" in run.text
        with balancer.connect("audit_reader", port=6432) as other, other.cursor() as cursor:
            cursor.execute("SELECT 1")
        other.close()
    finally:
        connection.close()
    assert cluster.leader_name() == before


@pytest.mark.long
def test_who_does_not_answer_is_not_next(cluster, playbook):
    """A standby streams without its Patroni, and would not be promoted by it."""
    cluster.whole()
    before, candidate = cluster.leader, cluster.standbys[0]
    candidate.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", UNIT)
    try:
        run = playbook(PLAY, "-e", f"patroni_switchover=main patroni_switchover_candidate={candidate.name}")
    finally:
        candidate.run("systemctl", "kill", "--signal=CONT", "--kill-whom=main", UNIT)
    assert run.code != 0 and run.changed == 0
    assert f"Patroni of {candidate.name} does not answer" in run.text
    cluster.whole()
    assert cluster.leader.name == before.name
