"""A leader's term is ended for what most members see, and for nothing less."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from types import ModuleType

import pytest

from .programs import program

TREE = "/auditdb/main/"


@pytest.fixture(scope="module")
def fence() -> ModuleType:
    return program("patroni", "auditdb-fence")


@pytest.fixture
def settings(fence):
    return fence.Settings(
        name="db2", members={"db1": "10.0.0.1", "db2": "10.0.0.2", "db3": "10.0.0.3"}, rest_port=8008, port=5432,
        tree=TREE, etcd=["127.0.0.1:1"], ca="", certificate="", key="", ttl=20, loop_wait=2, after=3,
        command=["sh", "-c", "echo {host}; exit $0", "0"], timeout=5,
    )  # fmt: skip


def key(value: str, **more: str) -> dict[str, str]:
    return {"value": base64.b64encode(value.encode()).decode(), **more}


def test_who_leads_is_who_holds_the_key_by_a_lease(fence):
    assert fence.leader({}, TREE) is None
    assert fence.leader({f"{TREE}leader": key("db1")}, TREE) is None
    keys = {f"{TREE}leader": key("db1", lease="77"), f"{TREE}config": key(json.dumps({"ttl": 20}))}
    assert fence.leader(keys, TREE) == fence.Leader("db1", "77")
    keys[f"{TREE}config"] = key(json.dumps({"pause": True}))
    assert fence.leader(keys, TREE).paused


def test_silence_is_counted_from_its_first_look_on(fence):
    suspicion = fence.Suspicion()
    assert [suspicion.look("db1", at, at + 1, silent=True) for at in (10, 11, 13)] == [1, 2, 4]
    assert suspicion.look("db1", 14, 14.1, silent=False) == 0
    assert [suspicion.look("db1", at, at + 1, silent=True) for at in (15, 16)] == [1, 2]
    assert suspicion.look("db3", 17, 18, silent=True) == 1, "another leads"


@pytest.mark.parametrize(("left", "is_renewed"), [(20, True), (18, True), (17, False), (3, False), (-1, True)])
def test_who_renews_its_place_is_not_dead(fence, settings, left, is_renewed):
    assert fence.renewed(left, settings) is is_renewed


@pytest.mark.parametrize(("members", "wanted"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_most_members(fence, settings, members, wanted):
    assert fence.most(replace(settings, members={str(number): "" for number in range(members)})) == wanted


@pytest.mark.parametrize(("code", "off"), [("0", True), ("1", False)])
def test_only_a_fence_that_says_so_has_turned_a_host_off(fence, settings, capsys, code, off):
    assert fence.turned_off(replace(settings, command=[*settings.command[:3], code]), "db1") is off
    assert f"ended with {code} after" in capsys.readouterr().out


def test_a_fence_that_hangs_or_is_not_there_has_turned_nothing_off(fence, settings):
    assert not fence.turned_off(replace(settings, command=["sleep", "60"], timeout=0.2), "db1")
    assert not fence.turned_off(replace(settings, command=["/no/such/program"]), "db1")


def test_a_host_that_refuses_a_connection_is_alive(fence):
    assert fence.connects("127.0.0.1", 1)
    assert not fence.connects("name.invalid", 1)
