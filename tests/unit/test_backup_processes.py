"""Programs that feed each other: what one of them says is not lost, and none keeps another waiting."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from auditdb_backup.encryption import Feeder
from auditdb_backup.errors import BackupError
from auditdb_backup.processes import pipeline, run


def through(commands: list[list[str]], source: bytes) -> bytes:
    with pipeline(commands) as (into, stream):
        feeder = Feeder(io.BytesIO(source), into)
        found = stream.read()
        feeder.join()
    return found


def test_more_than_a_pipe_holds_goes_through():
    source = os.urandom(3_000_000)
    assert through([["cat"], ["cat"]], source) == source


@pytest.mark.parametrize(
    "commands",
    [
        [["sh", "-c", "echo why >&2; exit 7"], ["cat"]],
        [["cat"], ["sh", "-c", "echo why >&2; exit 7"]],
        [["cat"], ["sh", "-c", "head -c 1 >/dev/null; echo why >&2; exit 7"], ["cat"]],
    ],
)
def test_the_program_that_failed_is_the_one_that_is_named(commands):
    with pytest.raises(BackupError, match="sh ended with exit code 7: why"):
        through(commands, os.urandom(3_000_000))


def test_a_reader_that_ends_early_is_named_and_keeps_nobody_waiting():
    with (
        pytest.raises(BackupError, match="exit code 9: disk full"),
        pipeline([["sh", "-c", "head -c 9 >/dev/null; echo disk full >&2; exit 9"]]) as (into, _nothing),
        pipeline([["cat", "/dev/zero"]]) as (nothing, stream),
    ):
        nothing.close()
        while chunk := stream.read(1 << 20):
            into.write(chunk)


def test_a_block_that_fails_ends_the_programs():
    with pytest.raises(ZeroDivisionError), pipeline([["cat", "/dev/zero"]]) as (_into, stream):
        stream.read(1)
        raise ZeroDivisionError


def test_a_program_that_is_not_there_and_one_that_fails():
    with pytest.raises(BackupError, match="install the package"):
        run(["/nowhere/program"])
    with pytest.raises(BackupError, match="No such file"):
        run(["cat", "/nowhere"])
    with pytest.raises(BackupError, match="install the package"), pipeline([["cat"], ["/nowhere/program"]]):
        pass


def test_a_child_that_outlives_a_program_keeps_nobody_waiting():
    begun = time.monotonic()
    assert run(["sh", "-c", "sleep 60 & echo done"]) == "done\n"
    assert time.monotonic() - begun < 30


def test_a_program_that_fails_ends_with_what_it_started(tmp_path):
    with pytest.raises(BackupError, match="was ended by signal 9"):
        run(["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/child; kill -9 $$"])
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)
