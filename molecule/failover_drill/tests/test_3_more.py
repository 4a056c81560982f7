"""Faults that no drill injects, since they take what cannot be given back by a command: with the same clients."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from drills import FIGURES, commands
from members import DATA, STATE, UNIT
from throwaway import ROOT, keep_figure, wait_until

pytestmark = pytest.mark.long

ETCD = "/var/lib/etcd/auditdb"
FILL = "SELECT count(pg_logical_emit_message(false, 'fill', repeat('x', 100000))) FROM generate_series(1, {})"
"""Writes so many times 100 kB of WAL."""


def keep(fault, outcome) -> None:
    found = outcome.as_json()
    keep_figure(FIGURES, fault, {key: value for key, value in found.items() if key.endswith(("_ms", "_errors"))})
    assert outcome.lost == [] and outcome.rows > 40, found


def test_the_data_directory_is_deleted_under_the_running_server(cluster, clients):
    before = cluster.leader
    with clients.meanwhile("data directory deleted") as outcome:
        before.run("sh", "-c", f"rm -r {DATA}/*")
        cluster.replaced(before)
    keep("data directory deleted", outcome)
    assert outcome.leader_after != before.name
    assert before.sql("SELECT pg_is_in_recovery()") == "t", "it was cloned anew"


def test_a_server_whose_patroni_is_gone_is_stopped_before_another_leads(cluster, clients):
    before = cluster.leader
    others = [host for host in cluster.hosts.values() if host.name != before.name]
    with clients.meanwhile("Patroni gone, fenced") as outcome:
        before.run(*commands("patroni_broken"))
        time.sleep(3)
        assert cluster.call(before, "pg_isready", "-q")[0] == 0, "it is not the fence that stops it"
        wait_until(lambda: cluster.call(before, "pg_isready", "-q")[0] != 0, "the server runs on", 30, 0.2)
        assert [cluster.rest(host, "/primary").status for host in others] == [503, 503]
        cluster.replaced(before)
        before.run(*commands("patroni_broken", "undo"))
    keep("Patroni gone, fenced", outcome)
    assert outcome.leader_after != before.name


def test_in_a_paused_cluster_a_server_without_patroni_goes_on(cluster):
    cluster.whole()
    leader = cluster.leader
    with cluster.changed({"pause": True}, {"pause": None}):
        time.sleep(5)
        try:
            leader.run(*commands("patroni_broken"))
            time.sleep(20)
            assert cluster.call(leader, "pg_isready", "-q")[0] == 0
        finally:
            leader.run(*commands("patroni_broken", "undo"))
        cluster.wait(lambda: cluster.leader_name() == leader.name, "it does not lead again")


def test_a_slot_that_nobody_uses_keeps_no_more_wal_than_it_may(cluster):
    cluster.whole()
    leader = cluster.leader
    assert leader.sql("SHOW max_slot_wal_keep_size") == "4GB"
    wrong, right = ({"postgresql": {"parameters": {"max_slot_wal_keep_size": size}}} for size in ("64MB", "4096MB"))
    with cluster.changed(wrong, right):
        wait_until(lambda: leader.sql("SHOW max_slot_wal_keep_size") == "64MB", "it is not read", 30)
        leader.sql("SELECT pg_create_physical_replication_slot('abandoned', true)")
        for statement in (FILL.format(2000), "SELECT pg_switch_wal()", "CHECKPOINT"):
            leader.sql(statement)
        states = "SELECT string_agg(wal_status, ' ' ORDER BY wal_status) FROM pg_replication_slots"
        wait_until(
            lambda: leader.sql(states) == "lost reserved reserved", "not the abandoned one alone has lost it", 60
        )
        leader.sql("SELECT pg_drop_replication_slot('abandoned')")
    wait_until(lambda: leader.sql("SHOW max_slot_wal_keep_size") == "4GB", "it is not read", 30)
    cluster.whole()


def test_the_control_node_dies_in_the_middle_of_a_run(cluster, clients, playbook, scenario):
    """While settings change that restart each member; the next run finishes what this one has begun."""
    wanted = '{"postgresql_server_max_connections": 110}'
    with clients.meanwhile("control node dies") as outcome:
        command = ["ansible-playbook", "-i", str(scenario / "inventory"), str(scenario / "converge.yml"), "-e", wanted]
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        for line in run.stdout:
            if "Renew | Restart the standbys" in line:
                break
        time.sleep(1)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        assert run.returncode == -signal.SIGKILL, "it had ended before"
    keep("control node dies", outcome)
    again = playbook()
    assert again.code == 0 and again.changed > 0, again.output
    cluster.whole()
    assert cluster.leader.sql("SHOW max_connections") == "100"


def test_all_data_of_etcd_are_lost(cluster, clients, playbook):
    """As docs/disaster-recovery.md has it: a new etcd, which Patroni's members fill; no data are touched."""
    cluster.whole()
    (command,) = re.findall(r"```sh members\n(.*)\n```", (ROOT / "docs/disaster-recovery.md").read_text())
    leader = cluster.leader
    began = leader.sql("SELECT pg_postmaster_start_time(), timeline_id FROM pg_control_checkpoint()")
    with clients.meanwhile("etcd data lost") as outcome:
        for host in cluster.hosts.values():
            host.run("systemctl", "stop", "etcd")
            host.run("mv", ETCD, f"{ETCD}.aside")
        run = playbook("auditdb.postgresql.etcd")
        assert run.code == 0, run.output
        for host in cluster.hosts.values():
            host.run("sh", "-ec", command)
        cluster.wait(lambda: cluster.leader_name() == leader.name, "it does not lead in the new etcd")
    keep("etcd data lost", outcome)
    assert outcome.leader_after == leader.name
    assert leader.sql("SELECT pg_postmaster_start_time(), timeline_id FROM pg_control_checkpoint()") == began
    for host in cluster.hosts.values():
        host.run("rm", "-r", f"{ETCD}.aside")


@pytest.fixture
def small_disk(cluster):
    """Have a standby's WAL on a disk with room for 128 MB more; return it."""
    cluster.whole()
    host, wal = cluster.standbys[0], f"{DATA}/pg_wal"
    owned = f"chown postgres: {wal}; chmod 700 {wal}; systemctl start {UNIT}"
    size = f"$(($(du -sm {wal} | cut -f 1) + 128))m"
    mount = f"mount -t tmpfs -o size=$size tmpfs {wal}; cp -a {wal}.large/. {wal}/; {owned}"
    host.run("sh", "-ec", f"systemctl stop {UNIT}; size={size}; cp -a {wal} {wal}.large; {mount}")
    yield host
    back = f"cp -a {wal}/. {wal}.large/; umount {wal}; rm -r {wal}; mv {wal}.large {wal}; {owned}"
    host.run("sh", "-ec", f"systemctl stop {UNIT}; rm -f {wal}/filler {wal}.large/0*; {back}")
    cluster.whole()


def test_the_disk_of_wal_is_full(cluster, clients, small_disk):
    before = cluster.leader.name
    cluster.whole()
    asked = {"leader": before, "candidate": small_disk.name}
    cluster.wait(lambda: cluster.change("/switchover", asked)[0] == 200, "it is not synchronous yet")
    cluster.wait(lambda: cluster.leader_name() == small_disk.name, "it does not lead")
    with clients.meanwhile("disk of WAL full") as outcome:
        assert cluster.call(small_disk, "dd", "if=/dev/zero", f"of={DATA}/pg_wal/filler", "bs=1M")[0] != 0
        assert cluster.call(small_disk, "psql", "-XAtqc", FILL.format(20000), user="postgres")[0] != 0, "there was room"
        cluster.replaced(small_disk)
        small_disk.run("rm", f"{DATA}/pg_wal/filler")
    keep("disk of WAL full", outcome)
    assert outcome.leader_after != small_disk.name


def expire(host) -> None:
    """Have the server and Patroni's API show a certificate that ended an hour ago, and else is what they had."""
    file = "/etc/postgresql/tls/server.crt"
    had = x509.load_pem_x509_certificate(host.run("cat", file).encode())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(had.issuer, had.subject, had.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=398))
        .not_valid_after(now - timedelta(hours=1))
    )
    for each in had.extensions:
        made = made.add_extension(each.value, each.critical)
    key = load_pem_private_key((STATE / "tls/ca.key").read_bytes(), None)
    signed = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    host.run("sh", "-ec", f"printf '%s' '{signed}' > {file}; systemctl reload {UNIT}")


def test_the_certificates_of_all_members_expire(cluster, clients, playbook):
    """Nobody new gets in, and the standbys go on streaming. Health names it; the remedy is the site's playbook."""
    cluster.whole()
    leader = cluster.leader
    with clients.meanwhile("certificates expired") as outcome:
        for host in cluster.hosts.values():
            expire(host)
        shown = ["openssl", "s_client", "-connect", "localhost:8008", "-CAfile", "/etc/postgresql/tls/ca.crt"]
        for host in cluster.hosts.values():
            wait_until(
                lambda host=host: "certificate has expired" in cluster.call(host, *shown)[1], "another is shown", 30
            )
        health = playbook("auditdb.postgresql.health")
        assert health.code != 0 and "expired" in health.text, health.output
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        assert leader.sql(streams) == "2"
        run = playbook()
        assert run.code == 0, run.output
    keep("certificates expired", outcome)
    assert outcome.leader_after == leader.name
