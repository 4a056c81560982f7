"""Playbooks on a schedule: they run, fail visibly, never overlap, are made up for, and go when declared no more."""

from __future__ import annotations

import json
import re

import pytest
from throwaway import ROOT

STATE = "/var/lib/auditdb"
JOBS = ["bad", "good", "slow"]


@pytest.fixture
def control(hosts):
    (host,) = hosts.values()
    return host


def prop(host, unit, name):
    return host.run("systemctl", "show", "--property", name, "--value", unit).strip()


def start(host, name):
    """Start a job, wait for its end, and return whether it succeeded."""
    return host.container.exec_run(["systemctl", "start", f"auditdb-{name}"]).exit_code == 0


def declare(playbook, **variables):
    own = {
        "audit_control_hosts": "all",
        "audit_schedule_directory": "/srv/auditdb",
        "audit_schedule_inventory": "/srv/auditdb/hosts.yml",
        "audit_schedule_command": "/usr/bin/ansible-playbook",
    }
    return playbook("auditdb.postgresql.schedule", "-e", json.dumps({**own, **variables}))


@pytest.mark.parametrize("name", JOBS)
def test_timers_wait_and_make_up_for_what_was_missed(control, name):
    timer = f"auditdb-{name}.timer"
    assert prop(control, timer, "ActiveState") == "active" and prop(control, timer, "UnitFileState") == "enabled"
    assert prop(control, timer, "Persistent") == "yes" and prop(control, timer, "NextElapseUSecRealtime")
    control.run("systemd-analyze", "verify", f"/etc/systemd/system/{timer}")


def test_a_job_that_succeeds_says_when(control):
    assert start(control, "good")
    control.run("test", "-e", f"{STATE}/good.last_success")
    assert "good 50% of $HOME, half % of $HOME" in control.run("journalctl", "--no-pager", "--unit", "auditdb-good")


def test_a_job_that_fails_is_seen(control):
    assert not start(control, "bad")
    control.run("systemctl", "start", "auditdb-failed@bad")  # waits for the one that systemd has started
    control.run("test", "-e", f"{STATE}/bad.last_failure")
    control.run("test", "!", "-e", f"{STATE}/bad.last_success")
    assert "bad failed" in control.run("journalctl", "--no-pager", "--identifier", "auditdb", "--priority", "err")
    assert prop(control, "auditdb-bad", "Result") == "exit-code"


def test_jobs_never_overlap(control):
    control.run("systemctl", "start", "--no-block", "auditdb-slow")
    while prop(control, "auditdb-slow", "ActiveState") != "activating":
        pass
    assert start(control, "good")
    slow = float(prop(control, "auditdb-slow", "ExecMainExitTimestampMonotonic"))
    good = float(prop(control, "auditdb-good", "ExecMainExitTimestampMonotonic"))
    assert slow < good, "good waited for slow"


def test_a_job_that_is_declared_no_more_goes(control, playbook):
    run = declare(playbook, audit_schedule_jobs=[{"name": "good", "playbook": "good.yml", "on_calendar": "hourly"}])
    assert run.code == 0, run.output
    assert control.run("systemctl", "list-timers", "--no-legend", "--all", "auditdb-*").count("auditdb-") == 2
    control.run("test", "!", "-e", "/etc/systemd/system/auditdb-slow.service")
    assert prop(control, "auditdb-good.timer", "TimersCalendar").count("OnCalendar=*-*-* *:00:00") == 1, "the new time"
    assert playbook().code == 0 and playbook().changed == 0, "and comes back"


def test_the_default_jobs_are_those_of_shipped_playbooks(control, playbook):
    run = declare(playbook)
    assert run.code == 0, run.output
    try:
        timers = control.run("systemctl", "list-timers", "--no-legend", "--all", "auditdb-*")
        names = {"maintenance", "verification", "health", "restore-drill"}
        assert set(re.findall(r"auditdb-(\S+)[.]timer", timers)) == names
        for name in names:
            command = prop(control, f"auditdb-{name}", "ExecStart")
            (found,) = re.findall(r"auditdb[.]postgresql[.](\w+)", command)
            assert (ROOT / f"playbooks/{found}.yml").is_file(), command
        assert prop(control, "auditdb-restore-drill.timer", "TimersCalendar").count("OnCalendar=Sun *-*-* 05:15:00 UTC")
    finally:
        assert playbook().code == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"audit_schedule_jobs": [{"name": "x", "playbook": "y", "on_calendar": "someday"}]},
            "'someday' of x is no time",
        ),
        ({"audit_schedule_jobs": [{"name": "X y", "playbook": "y", "on_calendar": "daily"}]}, "has the names X y"),
        ({"audit_schedule_user": "nobody-here"}, "there is no account 'nobody-here'"),
        ({"audit_schedule_inventory": "/srv/nowhere"}, "/srv/nowhere is not here"),
    ],
)
def test_bad_input_is_named_before_anything_changes(control, playbook, variables, said):
    run = declare(playbook, **variables)
    assert run.code != 0 and run.changed == 0
    assert said in run.text and "Remedy" in run.text
    assert prop(control, "auditdb-slow.timer", "ActiveState") == "active"
