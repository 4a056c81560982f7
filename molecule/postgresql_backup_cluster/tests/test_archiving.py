"""The backups are the cluster's: whoever leads archives, the others are copied, and a failover leaves no gap.

In the order of the file.
"""

from __future__ import annotations

import json

import pytest
from archive import timeline_of
from members import DATA, STATE
from throwaway import keep_figure, wait_until

LINE = "WAL is archived, backups are taken, verified and on time"
PLAY = "auditdb.postgresql.backup"
KEY = "/etc/auditdb-backup/main.key"
STREAMS = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'auditdb-backup-stream'"


def streams(cluster) -> bool:
    leader = cluster.leader_name()
    return leader in cluster.hosts and cluster.call(
        cluster.hosts[leader], "psql", "-XAtqc", STREAMS, user="postgres"
    ) == (0, "1\n")


def test_the_first_backup_is_of_a_member_that_does_not_lead(cluster, archive):
    cluster.whole()
    first = archive.listed()[0]
    assert first["kind"] == "full" and first["notices"] == []
    assert first["source"] in {f"standby {host.container.name}" for host in cluster.standbys}
    assert archive.backup("verify", first["id"]).code == 0


def test_jobs_run_once_and_where_the_backups_are(cluster, archive):
    listed = "systemctl list-unit-files --no-legend 'postgresql-backup-*.timer' | cut -d' ' -f1"
    expected = {f"postgresql-backup-main-{job}.timer" for job in ("full", "logical", "incremental", "verify", "expire")}
    assert set(archive.shell(listed).split()) == {*expected, "postgresql-backup-main-status.timer"}
    assert [host.run("sh", "-c", listed) for host in cluster.hosts.values()] == ["", "", ""]


def test_each_member_asks_with_a_key_of_its_own_and_hears_the_same(cluster, archive):
    keys = {host.run("cat", f"{KEY}.pub").split()[1] for host in cluster.hosts.values()}
    assert len(keys) == 3
    said = {host.run("auditdb-backup", "list", "--json", user="postgres") for host in cluster.hosts.values()}
    assert len(said) == 1 and json.loads(said.pop()) == archive.listed()


def test_an_incremental_backup_and_a_dump(cluster, archive):
    for kind in ("incremental", "logical"):
        done = archive.backup("backup", kind)
        assert done.code == 0, done.output
    by_kind = {each["kind"]: each for each in archive.listed()}
    assert by_kind["incremental"]["source"].startswith("standby ") and by_kind["incremental"]["notices"] == []
    assert by_kind["logical"]["source"] == f"primary {cluster.leader.container.name}"


def test_what_would_be_lost_is_told(cluster, archive):
    cluster.whole()
    wait_until(lambda: streams(cluster), "nothing receives WAL", 60, 0.5)
    status = archive.whole_to(cluster.leader)
    assert status["problems"] == []
    assert status["rpo_stream"] <= 5 and status["rpo_archive"] <= 120
    keep_figure(STATE / "archive.json", "rpo_s", {name: status[name] for name in ("rpo", "rpo_stream", "rpo_archive")})


def test_archiving_goes_on_across_a_switchover(cluster, archive):
    before, timeline = cluster.leader, timeline_of(cluster.leader)
    candidate = cluster.standbys[0]
    with cluster.written("switchover, archived") as outcome:
        code, said = cluster.change("/switchover", {"leader": before.name, "candidate": candidate.name})
        assert code == 200, said
        cluster.wait(lambda: cluster.leader_name() == candidate.name, "it does not lead")
    assert outcome.lost == []
    assert timeline_of(candidate) > timeline
    archive.whole_to(candidate)
    wait_until(lambda: streams(cluster), "nothing receives WAL from who leads now", 60, 0.5)


def test_what_a_killed_leader_has_not_archived_is_not_missing(cluster, archive):
    """Its last segments are in no archive when it is killed, and its followers take them for archived."""
    cluster.whole()
    wait_until(lambda: streams(cluster), "nothing receives WAL", 60, 0.5)
    before = cluster.leader
    archive.whole_to(before)
    before.run("mv", KEY, f"{KEY}.away")
    try:
        with cluster.written("postgres killed, archived") as outcome:
            ended = []
            for _ in range(2):
                before.sql("SELECT pg_logical_emit_message(true, 'auditdb', 'kept')")
                ended.append(before.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)"))
            wait_until(
                lambda: all(any(each.startswith(name) for each in archive.names("stream")) for name in ended),
                "they are not received",
                30,
            )
            assert not set(ended) & set(archive.names("wal"))
            before.run("kill", "-9", before.run("head", "-1", f"{DATA}/postmaster.pid").strip())
            cluster.wait(lambda: cluster.leader_name() not in ("", before.name), "nobody else leads")
    finally:
        before.run("mv", f"{KEY}.away", KEY)
    assert outcome.lost == []
    assert cluster.leader.name != before.name
    for name in ended:
        archive.wait_for(name)
    archive.whole_to(cluster.leader)
    assert archive.shell("ls -A stream/left 2>/dev/null | grep -v partial || :") == "", "none was moved aside"
    wait_until(lambda: streams(cluster), "nothing receives WAL from who leads now", 60, 0.5)


def test_backups_go_on_with_the_members_that_follow_now(cluster, archive):
    cluster.whole()
    for kind in ("full", "incremental"):
        done = archive.backup("backup", kind)
        assert done.code == 0, done.output
        made = archive.listed()[-1]
        assert made["source"] in {f"standby {host.container.name}" for host in cluster.standbys}, made
        assert made["timeline"] == timeline_of(cluster.leader)
    done = archive.backup("verify")
    assert done.code == 0, done.output
    archive.whole_to(cluster.leader)
    wait_until(lambda: archive.status()["problems"] == [], f"problems stay: {archive.status()['problems']}", 150, 5)


def test_a_run_after_that_changes_nothing_and_check_mode_says_so(playbook):
    run = playbook(PLAY)
    assert (run.code, run.changed) == (0, 0), run.output
    check = playbook(PLAY, "--check", "--diff")
    assert (check.code, check.changed) == (0, 0), check.output


def test_health_asks_once(playbook):
    run = playbook("auditdb.postgresql.health", ANSIBLE_CALLBACK_RESULT_FORMAT="yaml", ANSIBLE_NOCOLOR="1")
    assert run.code == 0, run.output
    assert run.text.count(f"ok backups {LINE}") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"postgresql_backup_host": ""}, "goes with postgresql_backup_host only"),
        ({"postgresql_backup_members": []}, "name its members in postgresql_backup_members"),
        ({"postgresql_backup_members": ["arch1", "arch2"]}, "lacks arch3"),
        ({"postgresql_backup_engine": "pgbackrest", "postgresql_backup_stream": False}, "the engine basebackup only"),
        ({"postgresql_backup_host": "arch1"}, "the member arch1"),
    ],
)
def test_what_would_not_be_the_clusters_is_refused(playbook, given, said):
    run = playbook(PLAY, "-e", json.dumps(given))
    assert run.code != 0 and run.changed == 0
    assert said in run.text and "Remedy:" in run.text, run.output


def test_a_run_without_who_leads_is_refused(cluster, playbook):
    run = playbook(PLAY, "--limit", cluster.standbys[0].name)
    assert run.code != 0 and run.changed == 0
    assert "takes writes, and one has to. Remedy:" in run.text, run.output
