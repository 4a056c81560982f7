"""The cluster's data become those of a moment, on all members; restores are rehearsed. In the order of the file."""

from __future__ import annotations

import json

import pytest
from archive import timeline_of
from members import DATA, STATE
from throwaway import wait_until

MOMENT = """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
PLAY = "auditdb.postgresql.restore"
OVER = "17/main"
IDENTIFIER = "SELECT system_identifier FROM pg_control_system()"
ROWS = "SELECT string_agg(what, ' ' ORDER BY id) FROM kept"


def restore(playbook, target, *arguments, **more):
    given = {"postgresql_restore_target": target, **more}
    return playbook(PLAY, "-e", json.dumps(given), *arguments)


def aside(host) -> list[str]:
    return host.run("sh", "-c", f"ls -d {DATA}.before-* 2>/dev/null; :").split()


def clean(cluster) -> None:
    for host in cluster.hosts.values():
        host.run("sh", "-c", f"rm -rf {DATA}.before-* {DATA}.restored")


@pytest.fixture
def moment(cluster, archive) -> dict:
    """Rows before and after a moment, all archived."""
    clean(cluster)
    cluster.whole()
    leader = cluster.leader
    leader.sql("DROP TABLE IF EXISTS kept")
    leader.sql("CREATE TABLE kept (id bigserial PRIMARY KEY, what text)")
    leader.sql("INSERT INTO kept (what) VALUES ('before')")
    found = leader.sql(f"SELECT pg_sleep(1), {MOMENT}").split("\t")[-1]
    leader.sql("SELECT pg_sleep(1)")
    leader.sql("INSERT INTO kept (what) VALUES ('after')")
    archive.whole_to(leader)
    return {"time": found}


def test_a_restore_is_rehearsed_and_its_evidence_names_the_cluster(cluster, archive, playbook):
    leader = cluster.leader
    written = "SELECT count(*) > 8 FROM restore_drill.heartbeat WHERE at > now() - interval '1 minute'"
    wait_until(lambda: leader.sql(written) == "t", "heartbeats are not written", 90, 1)
    archive.whole_to(leader)
    cases = [{"name": "latest", "source": "repository", "target": "latest"}]
    run = playbook("auditdb.postgresql.restore_drill", "-e", json.dumps({"restore_drill_cases": cases}))
    assert run.code == 0, run.output
    (*_, newest) = sorted((STATE / "evidence/restore_drill").glob("main-*.json"))
    evidence = json.loads(newest.read_bytes())
    assert (evidence["name"], evidence["host"], evidence["verdict"]) == ("main", leader.name, "ok")


def test_some_of_the_members_are_refused_and_a_wrong_name(cluster, playbook, moment):
    for arguments, over, said in (
        (["--limit", cluster.leader.name], OVER, "would keep other data"),
        ([], "17/other", f"the cluster is {OVER}"),
    ):
        run = restore(playbook, moment, *arguments, postgresql_restore_over=over)
        assert run.code != 0 and run.changed == 0 and said in run.text, run.output
    assert cluster.leader.sql(ROWS) == "before after"


def test_beside_the_data_of_who_leads_nothing_else_changes(cluster, playbook, moment):
    leader = cluster.leader
    run = restore(playbook, moment)
    assert run.code == 0 and "last_commit" in run.text, run.output
    assert leader.run("test", "-e", f"{DATA}.restored/data/PG_VERSION") == ""
    assert leader.sql(ROWS) == "before after" and cluster.leader.name == leader.name
    clean(cluster)


def whole_again(cluster, archive, timeline: int, identifier: str) -> None:
    """See that all members have the moment's rows, on a new timeline that is archived, and kept what they had."""
    cluster.whole()
    leader = cluster.leader
    now = timeline_of(leader)
    assert now > timeline
    for host in cluster.hosts.values():
        cluster.wait(lambda host=host: host.sql(ROWS) == "before", f"{host.name} has other rows")
        assert host.sql(IDENTIFIER) == identifier
        assert len(aside(host)) == 1 and host.run("cat", f"{aside(host)[0]}/PG_VERSION") == "17\n"
        assert host.run("sh", "-c", f"ls {DATA}/auditdb_restore.json {DATA}.restored 2>/dev/null; :") == ""
    for host in cluster.standbys:
        assert int(host.sql("SELECT received_tli FROM pg_stat_wal_receiver")) == now
    newest = archive.listed()[-1]
    assert (newest["kind"], newest["timeline"]) == ("full", now)
    archive.whole_to(leader)
    wait_until(lambda: archive.status()["problems"] == [], f"problems stay: {archive.status()['problems']}", 150, 5)


def test_in_place_all_members_go_on_from_the_moment(cluster, archive, playbook, moment):
    leader = cluster.leader
    timeline, identifier = timeline_of(leader), leader.sql(IDENTIFIER)
    run = restore(playbook, moment, postgresql_restore_over=OVER)
    assert run.code == 0, run.output
    whole_again(cluster, archive, timeline, identifier)
    again = playbook("auditdb.postgresql.backup")
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_restore_that_was_stopped_is_gone_on_with(cluster, archive, playbook, moment):
    """Once all data are moved aside and nothing runs; and by a run that is told of another moment, which is refused."""
    leader = cluster.leader
    timeline, identifier = timeline_of(leader), leader.sql(IDENTIFIER)
    # The members cannot be started: the run ends between the exchange and the start.
    for host in cluster.hosts.values():
        host.run("systemctl", "mask", "--runtime", "patroni@17-main")
    try:
        run = restore(playbook, moment, postgresql_restore_over=OVER)
        assert run.code != 0, run.output
    finally:
        for host in cluster.hosts.values():
            host.run("systemctl", "unmask", "--runtime", "patroni@17-main")
    assert cluster.listed() == [], "nothing runs"
    other = restore(playbook, {"time": "2026-01-01T00:00:00Z"}, postgresql_restore_over=OVER)
    assert other.code != 0 and "was not completed. Remedy:" in other.text, other.output
    run = restore(playbook, moment, postgresql_restore_over=OVER)
    assert run.code == 0, run.output
    whole_again(cluster, archive, timeline, identifier)
