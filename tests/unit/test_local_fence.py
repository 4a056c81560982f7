"""A server is stopped where its Patroni is silent for too long, and in no other case."""

from __future__ import annotations

from types import ModuleType

import pytest

from .programs import program

PID_FILE = "4711\n/var/lib/postgresql/17/main\n1700000000\n5432\n/var/run/postgresql\n*\n  5432001         4\n{}\n"


@pytest.fixture(scope="module")
def fence() -> ModuleType:
    return program("patroni", "auditdb-local-fence")


def test_after_so_many_seconds_of_silence_and_no_earlier(fence):
    watch = fence.Watch(limit=12)
    watch.answered(100, paused=False)
    said = {second: watch.silent(second) for second in range(101, 115)}
    assert [second for second, stopped in said.items() if stopped] == [112, 113, 114]


def test_an_answer_begins_it_anew(fence):
    watch = fence.Watch(limit=3)
    watch.answered(100, paused=False)
    assert [watch.silent(second) for second in (101, 102)] == [False, False]
    watch.answered(103, paused=False)
    assert [watch.silent(second) for second in (104, 105, 106)] == [False, False, True]


def test_one_look_that_comes_late_proves_nothing(fence):
    watch = fence.Watch(limit=12)
    watch.answered(100, paused=False)
    assert [watch.silent(second) for second in (160, 161, 162)] == [False, False, True]


def test_what_was_never_there_is_not_missed(fence):
    watch = fence.Watch(limit=12)
    assert not any(watch.silent(second) for second in range(100, 200))


def test_not_while_the_cluster_is_paused(fence):
    watch = fence.Watch(limit=3)
    watch.answered(100, paused=True)
    assert not any(watch.silent(second) for second in range(101, 130))
    watch.answered(130, paused=None)
    assert not any(watch.silent(second) for second in range(131, 140)), "an answer that does not say it changes nothing"
    watch.answered(140, paused=False)
    assert any(watch.silent(second) for second in range(141, 150))


@pytest.mark.parametrize(("status", "takes"), [("ready   ", True), ("standby ", False), ("stopping", False)])
def test_only_a_server_that_takes_writes(fence, tmp_path, status, takes):
    (tmp_path / "postmaster.pid").write_text(PID_FILE.format(status))
    assert fence.takes_writes(tmp_path) is takes


def test_none_where_no_server_runs_or_begins_to(fence, tmp_path):
    assert fence.takes_writes(tmp_path) is False
    (tmp_path / "postmaster.pid").write_text(PID_FILE.format("")[:40])
    assert fence.takes_writes(tmp_path) is False


def test_what_was_known_outlives_the_program(fence, tmp_path):
    file = tmp_path / "heard.json"
    assert fence.remembered(file, 12) == fence.Watch(12)
    watch = fence.Watch(12)
    watch.answered(100, paused=True)
    fence.remember(file, watch)
    assert fence.remembered(file, 12) == watch
    file.write_text("{")
    assert fence.remembered(file, 12) == fence.Watch(12)


def test_a_refused_connection_is_silence(fence):
    with pytest.raises(OSError, match="refused"):
        fence.ask("127.0.0.1", 1)


def test_others_that_do_not_answer_do_not_say_that_it_is_paused(fence):
    assert fence.paused_as_others_say([], 1) is False
    assert fence.paused_as_others_say(["127.0.0.1", "127.0.0.1"], 1) is False
