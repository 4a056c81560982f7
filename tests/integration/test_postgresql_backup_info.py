"""postgresql_backup_info asks the shipped program, which asks a real server; with real backups, see the scenario."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ModuleFailed, call_module

START = Path(__file__).parents[2] / "roles/postgresql_backup/files/start.py"


@pytest.fixture
def repository(server, tmp_path, monkeypatch):
    """An empty repository of a server that archives nothing, and how the module is told of it."""
    monkeypatch.setenv("PGPASSWORD", server.password)
    settings = {
        "engine": "basebackup", "cluster": "main", "bin": f"/usr/lib/postgresql/{server.version}/bin",
        "host": server.host, "port": 5432, "user": "postgres", "repository": str(tmp_path / "repository"),
        "recipients": str(tmp_path / "recipients"), "compression_level": 3, "push_timeout": 60, "get_timeout": 60,
        "archive_timeout": 60, "wal_late": 120, "jobs": {"full": 3600}, "databases": [], "textfile": None,
        "retention": {"daily": 14, "weekly": 8, "monthly": 12, "proven": 2}, "offsite": None,
        "offsite_ssh": "", "ssh_key": None, "slot": "", "backup_ssh": "", "environment": {},
        "standbys": [], "standby_lag": 60,
    }  # fmt: skip
    configuration = tmp_path / "main.json"
    configuration.write_text(json.dumps(settings))
    program = tmp_path / "auditdb-backup"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I {shlex.quote(str(START))} "$@"\n')
    program.chmod(0o700)
    (tmp_path / "repository").mkdir()
    subprocess.run([program, "--config", configuration, "prepare"], check=True)
    return {"program": str(program), "configuration": str(configuration)}


def test_what_is_wrong_is_told_and_no_failure(repository):
    for check in (True, False):
        told = call_module("postgresql_backup_info", check, **repository)
        assert not told["changed"] and told["backups"] == [] == told["chains"]
        problems = " ".join(told["problems"])
        assert "there is no backup. Remedy: auditdb-backup backup full" in problems
        assert "archive_mode is off. Remedy: run the role postgresql_backup" in problems
        assert told["newest_backup"] is None and told["rpo"] is None and told["wal"]["segments"] == 0
        assert told["engine"] == "basebackup" and told["jobs"]["full"]["succeeded_at"] is None


def test_a_server_that_does_not_answer_is_told(repository, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "wrong")
    told = call_module("postgresql_backup_info", **repository)
    assert any("the server does not answer" in each for each in told["problems"])


@pytest.mark.parametrize("name", ["program", "configuration"])
def test_what_is_not_there_is_told_with_the_remedy(repository, name):
    with pytest.raises(ModuleFailed) as failed:
        call_module("postgresql_backup_info", **{**repository, name: "/nowhere"})
    result = failed.value.result
    assert "/nowhere" in result["msg"] and "run the role postgresql_backup" in result["remedy"]
