"""A cluster's data become those of a moment: beside it first, in its place on demand, whatever a run is stopped at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from backup_host import REPOSITORY, SCENARIO

MOMENT = """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
PLAYBOOK = "auditdb.postgresql.restore"


class Cluster:
    """A database host, and restores on it."""

    def __init__(self, name, database, playbook) -> None:
        self.name, self.database, self.playbook = name, database, playbook
        self.directory = f"/var/lib/postgresql/{database.version}/main"
        self.beside = f"{self.directory}.restored"
        self.place = f"{self.beside}/data"
        self.over = f"{database.version}/main"

    def restore(self, target=None, *arguments, over="", **more):
        given = {"postgresql_restore_target": target or {}, "postgresql_restore_over": over, **more}
        run = self.playbook(PLAYBOOK, "--limit", self.name, "-e", json.dumps(given), *arguments)
        assert self.database.call("test", "-e", "/run/auditdb-restore", user="root").code == 1, "the key is gone"
        return run

    def begin(self, target, **more) -> subprocess.Popen:
        """Begin a restore, in a process group of its own."""
        given = {"postgresql_restore_target": target, "postgresql_restore_over": more["over"]}
        argv = ["ansible-playbook", "-i", str(SCENARIO / "inventory"), PLAYBOOK, "--limit", self.name]
        return subprocess.Popen(
            [*argv, "-e", json.dumps(given)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self, watch: str, victim: str) -> None:
        """Kill the victim once there is what is watched for."""
        found = f"pgrep -f '{watch}' >/dev/null && pkill -9 -f '{victim}' && exit 0"
        killer = f"for n in $(seq 6000); do {found}; sleep 0.01; done; exit 1"
        self.database.host.container.exec_run(["bash", "-c", killer], detach=True)

    def exists(self, path) -> bool:
        return self.database.call("test", "-e", path, user="root").code == 0

    def rows(self) -> int:
        return int(self.database.sql("SELECT count(*) FROM ledger"))

    def tick(self, rows) -> None:
        self.database.sql(f"INSERT INTO ledger SELECT FROM generate_series(1, {rows})")

    def moment(self) -> str:
        time.sleep(0.05)
        found = self.database.sql(f"SELECT {MOMENT}")
        time.sleep(0.05)
        return found

    def aside(self) -> list[str]:
        return self.database.shell(f"ls -d {self.directory}.before-* 2>/dev/null || true", user="root").split()

    def clean(self) -> None:
        self.database.shell(f"rm -rf {self.beside} {self.directory}.before-*", user="root")


@pytest.fixture
def cluster(request, database, playbook):
    (name,) = (name for name in request.node.callspec.params.values() if isinstance(name, str) and "-" in name)
    found = Cluster(name, database, playbook)
    found.clean()
    yield found
    found.clean()


def ready(cluster, before=3, after=4) -> tuple[dict, int]:
    """Write rows, and return a target between them with the number of rows that there were then."""
    cluster.tick(before)
    target, rows = {"time": cluster.moment()}, cluster.rows()
    cluster.tick(after)
    cluster.database.switch()
    return target, rows


@pytest.mark.newest
def test_a_target_that_cannot_be_is_refused_with_the_window_and_nothing_changes(cluster):
    for target, said in (
        ({"time": "2999-01-01T00:00:00Z"}, "is in the future"),
        ({"time": "2020-01-01T00:00:00Z"}, "before the oldest backup"),
        ({"lsn": "0/1"}, "before the oldest backup"),
        ({"timeline": 77}, "leads to timeline 77"),
        ({"time": "2026-01-01T00:00:00Z", "lsn": "0/1"}, "give one of time, lsn"),
        ({"moment": "now"}, "give one of time, lsn"),
    ):
        run = cluster.restore(target, over=cluster.over)
        assert run.code != 0 and run.changed == 0 and said in run.text, run.output
    assert "targets from 20" in cluster.restore({"time": "2020-01-01T00:00:00Z"}).text
    run = cluster.restore({}, over="17/other")
    assert run.code != 0 and run.changed == 0 and f"the cluster is {cluster.over}" in run.text
    assert not cluster.exists(cluster.place)


@pytest.mark.newest
def test_beside_the_cluster_which_runs_on(cluster):
    target, rows = ready(cluster)
    started = cluster.database.sql("SELECT pg_postmaster_start_time()")
    check = cluster.restore(target, "--check")
    assert check.code == 0 and not cluster.exists(cluster.place), check.output
    run = cluster.restore(target)
    assert run.code == 0 and "last_commit" in run.text, run.output
    assert cluster.rows() == rows + 4 and cluster.database.sql("SELECT pg_postmaster_start_time()") == started
    mark = json.loads(cluster.database.shell(f"cat {cluster.place}/auditdb_restore.json"))
    assert mark["request"]["time"] == target["time"] and mark["recovered"]["last_commit"] < target["time"]
    other = cluster.restore({})
    assert other.code != 0 and "was not completed" in other.text, "another target waits until this one is over"
    assert cluster.restore(target).code == 0
    # A look into it, as any server.
    cluster.database.shell(f"cp -a {cluster.place} /var/lib/postgresql/copy")
    cluster.database.recovered()
    assert int(cluster.database.copy_sql("SELECT count(*) FROM ledger")) == rows


def test_in_its_place_with_the_old_data_aside_and_archiving_on_the_new_timeline(cluster):
    target, rows = ready(cluster)
    timeline = int(cluster.database.sql("SELECT timeline_id FROM pg_control_checkpoint()"))
    run = cluster.restore(target, over=cluster.over)
    assert run.code == 0, run.output
    assert cluster.rows() == rows and not cluster.exists(cluster.place)
    (aside,) = cluster.aside()
    assert aside in run.text and cluster.exists(f"{aside}/PG_VERSION")
    settings = (
        "SELECT current_setting('archive_mode'), current_setting('restore_command'), "
        "current_setting('recovery_target_time'), pg_is_in_recovery()"
    )
    assert cluster.database.sql(settings) == "on\t\t\tf"
    assert int(cluster.database.sql("SELECT timeline_id FROM pg_control_checkpoint()")) > timeline
    assert cluster.database.backup("status").code == 0, cluster.database.backup("status").output
    cluster.clean()
    # What came after the restore is restored in turn, and not what was left behind.
    cluster.tick(5)
    later, then = {"time": cluster.moment()}, cluster.rows()
    cluster.tick(1)
    cluster.database.switch()
    assert cluster.restore(later, over=cluster.over).code == 0
    assert cluster.rows() == then == rows + 5
    # And what came before all of it, from the backup that is the oldest, along three timelines.
    oldest = json.loads(cluster.database.good("list", "--json"))[0]["id"]
    before = {"time": target["time"]}
    cluster.clean()
    run = cluster.restore(before, postgresql_restore_backup=oldest)
    assert run.code == 0, run.output
    cluster.database.shell(f"cp -a {cluster.place} /var/lib/postgresql/copy")
    cluster.database.recovered()
    assert int(cluster.database.copy_sql("SELECT count(*) FROM ledger")) == rows


# What is waited for on the host, and what is killed with signal 9 then. Brackets: and not the killer itself.
PROGRAM = "auditdb-backup/[s]tart.py .* {} --to"
KILLED = {
    "restore": (PROGRAM.format("restore"), PROGRAM.format("restore")),
    "recover": (PROGRAM.format("recover"), PROGRAM.format("recover")),
    "decrypt": ("[a]ge --decrypt", "[a]ge --decrypt"),
    "unpack": ("[t]ar --extract .*restoring", PROGRAM.format("restore")),
    "verify": ("[p]g_verifybackup .*restoring", PROGRAM.format("restore")),
    "fetch of WAL": ("auditdb-backup/[s]tart.py .* get --identity", "auditdb-backup/[s]tart.py .* get --identity"),
    "server": ("bin/[p]ostgres -D .*restored/data", "bin/[p]ostgres -D .*restored/data"),
}


@pytest.mark.newest
@pytest.mark.parametrize(
    "step", ["restore", "recover", *(pytest.param(step, marks=pytest.mark.long) for step in list(KILLED)[2:])]
)
def test_what_was_killed_leaves_the_cluster_alone_and_is_gone_on_with(cluster, step):
    target, rows = ready(cluster)
    started = cluster.database.sql("SELECT pg_postmaster_start_time()")
    cluster.kill(*KILLED[step])
    run = cluster.restore(target, over=cluster.over)
    assert run.code != 0, "it was killed"
    assert cluster.rows() == rows + 4 and cluster.aside() == []
    assert cluster.database.sql("SELECT pg_postmaster_start_time()") == started
    run = cluster.restore(target, over=cluster.over)
    assert run.code == 0 and cluster.rows() == rows and len(cluster.aside()) == 1, run.output


@pytest.mark.long
@pytest.mark.parametrize("step", ["restore", "recover"])
def test_when_the_control_node_is_gone_the_next_run_goes_on(cluster, step):
    """Nothing is taken back then, and what runs on the host runs on."""
    target, rows = ready(cluster)
    begun = cluster.begin(target, over=cluster.over)
    watch = f"pgrep -f '{PROGRAM.format(step)}'"
    cluster.database.wait(lambda: cluster.database.call("bash", "-c", watch).code == 0, f"{step} did not begin")
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    assert cluster.rows() == rows + 4 and cluster.aside() == []
    run = cluster.restore(target, over=cluster.over)
    assert run.code == 0 and cluster.rows() == rows and len(cluster.aside()) == 1, run.output


@pytest.mark.long
def test_killed_in_the_backup_after_the_exchange_the_next_run_goes_on(cluster):
    target, rows = ready(cluster)
    cluster.kill("auditdb-backup/[s]tart.py .* backup full", "auditdb-backup/[s]tart.py .* backup full")
    run = cluster.restore(target, over=cluster.over)
    assert run.code != 0 and cluster.rows() == rows and len(cluster.aside()) == 1, run.output
    run = cluster.restore(target, over=cluster.over)
    assert run.code == 0 and cluster.rows() == rows and len(cluster.aside()) == 1, run.output
    assert not cluster.exists(f"{cluster.directory}/auditdb_restore.json"), "and it is complete"


@pytest.mark.newest
@pytest.mark.parametrize(
    "step",
    ["moved aside", *(pytest.param(step, marks=pytest.mark.long) for step in ("stopped", "put there", "started"))],
)
def test_stopped_at_any_step_of_the_exchange_the_next_run_goes_on(cluster, step):
    target, rows = ready(cluster)
    assert cluster.restore(target).code == 0
    mark = json.loads(cluster.database.shell(f"cat {cluster.place}/auditdb_restore.json"))
    stamp = "".join(each for each in mark["made_at"] if each.isdigit())
    unit = f"postgresql@{cluster.database.version}-main.service"
    script = [f"systemctl stop {unit}"]
    if step != "stopped":
        script.append(f"mv -T {cluster.directory} {cluster.directory}.before-{stamp}")
    if step in ("put there", "started"):
        script.append(f"mv -T {cluster.place} {cluster.directory}")
    if step == "started":
        script.append(f"systemctl start {unit}")
    cluster.database.shell("; ".join(script), user="root")
    run = cluster.restore(target, over=cluster.over)
    assert run.code == 0, run.output
    assert cluster.rows() == rows and len(cluster.aside()) == 1 and not cluster.exists(cluster.place)
    assert not cluster.exists(f"{cluster.directory}/auditdb_restore.json")


@pytest.mark.newest
def test_a_target_that_is_not_in_the_archive_costs_nothing(cluster):
    _target, rows = ready(cluster)
    newest = cluster.database.switch()
    cluster.database.shell(f"mkdir /run/auditdb-test/hidden; mv {REPOSITORY}/wal/{newest} /run/auditdb-test/hidden/")
    run = cluster.restore({"lsn": cluster.database.sql("SELECT pg_current_wal_insert_lsn()")}, over=cluster.over)
    assert run.code != 0 and "recovery failed" in run.text and "recovery target was reached" in run.text, run.output
    assert cluster.rows() == rows + 4 and cluster.aside() == []
    cluster.database.shell(f"mv /run/auditdb-test/hidden/* {REPOSITORY}/wal/; rmdir /run/auditdb-test/hidden")
