"""A host becomes a member, and is taken out again, while nobody else is restarted. In the order of the file."""

from __future__ import annotations

import json

import pytest
from members import DATA, UNIT, Cluster
from nodes import processes

ALL = ["oper1", "oper2", "oper3"]
FOUR = [*ALL, "oper4"]


def etcd_members(host) -> list[str]:
    """Return the names of etcd's members, as one of them says."""
    tls = "/etc/etcd/tls/member"
    ask = ["curl", "-sS", "--cacert", "/etc/etcd/tls/ca.crt", "--cert", f"{tls}.crt", "--key", f"{tls}.key", "-d", "{}"]
    said = json.loads(host.run(*ask, f"https://{host.container.name}:2379/v3/cluster/member/list"))
    return sorted(each["name"] for each in said["members"] if not each.get("isLearner"))


def slots(cluster) -> set[str]:
    return set(cluster.leader.sql("SELECT slot_name FROM pg_replication_slots").split())


def behind(balancer) -> set[str]:
    """Return the members that the balancer reads from, or would."""
    return {name for name in FOUR if f"server {name} " in balancer.run("cat", "/etc/haproxy/haproxy.cfg")}


def test_a_host_becomes_a_member(cluster, timed, declared, spare, balancer):
    cluster.whole()
    before = processes(cluster, *ALL)
    run = timed("add_replica", inventory=declared(FOUR, ALL))
    assert run.code == 0, run.output
    assert "oper4 is a member, and streams" in run.text
    grown = Cluster({**cluster.hosts, "oper4": spare})
    grown.whole()
    assert spare.sql("SELECT pg_is_in_recovery()") == "t"
    assert processes(cluster, *ALL) == before
    assert behind(balancer) == {*FOUR}


def test_the_second_run_changes_nothing(timed, declared):
    run = timed("add_replica", inventory=declared(FOUR, ALL))
    assert (run.code, run.changed) == (0, 0), run.output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LEADER", "leads. Remedy: another leads first"),
        ("nobody", "patroni_remove is 'nobody'. Remedy: -e patroni_remove=HOST, one of"),
    ],
)
def test_who_leads_and_who_is_no_member_is_not_removed(cluster, timed, declared, name, said):
    run = timed(
        "remove_node", "-e", f"patroni_remove={name.replace('LEADER', cluster.leader_name())}",
        inventory=declared(FOUR, ALL),
    )  # fmt: skip
    assert run.code != 0 and run.changed == 0
    assert said in run.text


def test_a_member_leaves_and_its_data_stay(cluster, timed, declared, spare):
    before = processes(cluster, *ALL)
    assert "oper4" in slots(cluster)
    run = timed("remove_node", "-e", "patroni_remove=oper4", inventory=declared(FOUR, ALL))
    assert run.code == 0, run.output
    assert "Take it out of the inventory (it is in database" in run.text
    assert {each["name"] for each in cluster.listed()} == {*ALL}
    assert slots(cluster) == {*ALL} - {cluster.leader_name()}
    assert cluster.dcs()["member_slots_ttl"] == "4h"
    assert spare.run("sh", "-c", f"systemctl is-enabled {UNIT} || :").strip() == "disabled"
    spare.run("test", "-e", f"{DATA}/PG_VERSION")
    assert processes(cluster, *ALL) == before


def test_the_site_has_the_balancers_forget_it(cluster, timed, balancer):
    assert behind(balancer) == {*FOUR}
    run = timed("site")
    assert run.code == 0, run.output
    assert behind(balancer) == {*ALL}
    assert run.changed > 0
    run = timed("site")
    assert (run.code, run.changed) == (0, 0), run.output
    cluster.whole()


def test_data_of_another_cluster_are_refused(timed, declared, spare):
    own = f"{DATA}.own"
    spare.run("mv", DATA, own)
    spare.run("/usr/lib/postgresql/17/bin/initdb", "-D", DATA, user="postgres")
    try:
        run = timed("add_replica", inventory=declared(FOUR, ALL))
    finally:
        spare.run("sh", "-c", f"rm -r {DATA} && mv {own} {DATA}")
    assert run.code != 0 and run.changed == 0
    assert "oper4 has data of another cluster" in run.text and "Remedy: stop the server there" in run.text


def test_the_only_standby_that_commits_wait_for_stays(cluster, timed):
    """The third does not run."""
    cluster.whole()
    stays, goes = cluster.standbys
    stays.run("systemctl", "stop", UNIT)
    try:
        run = timed("remove_node", "-e", f"patroni_remove={goes.name}")
    finally:
        stays.run("systemctl", "start", UNIT)
    assert run.code != 0 and run.changed == 0
    assert f"{stays.name}: the server does not answer" in run.text
    assert f"no standby besides {goes.name} has all that is committed" in run.text
    cluster.whole()


def test_another_host_takes_the_place_of_a_member_of_etcd(cluster, timed, declared, spare):
    """It has data from when it was a member, and follows with them."""
    cluster.synchronous()
    goes, stays = cluster.standbys[0].name, [name for name in ALL if name != cluster.standbys[0].name]
    if goes != "oper3":
        moved = "patroni_switchover=main patroni_switchover_candidate=" + stays[0]
        if cluster.leader_name() == "oper3":
            assert timed("switchover", "-e", moved).code == 0
        goes, stays = "oper3", ALL[:2]
        cluster.synchronous()
    before = processes(cluster, *stays)
    run = timed("remove_node", "-e", f"patroni_remove={goes}")
    assert run.code == 0, run.output
    assert "etcd has 2 members now" in run.text
    assert etcd_members(cluster.hosts["oper1"]) == stays
    run = timed("add_replica", inventory=declared([*stays, "oper4"], [*stays, "oper4"]))
    assert run.code == 0, run.output
    assert etcd_members(cluster.hosts["oper1"]) == [*stays, "oper4"]
    assert {each["name"] for each in cluster.listed()} == {*stays, "oper4"}
    now = processes(cluster, *stays)
    assert now == before


def test_one_that_is_gone_for_good_leaves_all_the_same(cluster, timed, declared, spare):
    """It does not answer, and Ansible's own exit code says so. A member that comes back to its place is as new."""
    held = declared(["oper1", "oper2", "oper4"], ["oper1", "oper2", "oper4"])
    spare.container.stop(timeout=20)
    try:
        run = timed("remove_node", "-e", "patroni_remove=oper4", inventory=held)
        assert run.code == 4, run.output
        assert "oper4 is no member any more" in run.text
        assert f"makes it a member again, until there systemctl disable --now {UNIT}" in run.text
        assert etcd_members(cluster.hosts["oper1"]) == ["oper1", "oper2"]
        assert slots(cluster) == {"oper1", "oper2"} - {cluster.leader_name()}
    finally:
        spare.container.start()
    cluster.wait(lambda: "oper4" in {each["name"] for each in cluster.listed()}, "it has not come back")
    run = timed("health")
    assert run.code != 0 and "oper4 is a member, and not declared" in run.text
    assert "stop its Patroni for good" in run.text
    spare.run("systemctl", "disable", "--now", UNIT)
    run = timed("add_replica")
    assert run.code == 0, run.output
    cluster.whole()
    assert etcd_members(cluster.hosts["oper1"]) == ALL
    assert {each["name"] for each in cluster.listed()} == {*ALL}
