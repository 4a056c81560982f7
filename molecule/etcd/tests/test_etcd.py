"""Three members are one store, closed to all without a certificate; one that dies, or loses its data, comes back."""

from __future__ import annotations

import json
import time
from functools import partial
from itertools import pairwise

import pytest
from throwaway import Host, execute, wait_until

NAMES = ["etcd1", "etcd2", "etcd3"]
TLS = "/etc/etcd/tls"
AUTHORITY = f"--cacert {TLS}/ca.crt"
MEMBER = f"{AUTHORITY} --cert {TLS}/member.crt --key {TLS}/member.key"
DATA = "/var/lib/etcd/auditdb"


@pytest.fixture(scope="session")
def members(scenario) -> dict[str, Host]:
    found = {name: Host(name, scenario / "inventory") for name in NAMES}
    found["etcd1"].run("sh", "-c", "command -v curl > /dev/null || apt-get install -y -qq curl openssl")
    return found


def etcdctl(host: Host, arguments: str, options: str = MEMBER) -> tuple[int, str]:
    command = f"ETCDCTL_API=3 timeout 20 etcdctl --endpoints https://auditdb-{host.name}:2379 {options} {arguments}"
    code, output = execute(host.container, ["sh", "-c", command])
    return code, output.decode(errors="replace")


def healthy(host: Host) -> bool:
    return etcdctl(host, "endpoint health")[0] == 0


wait = partial(wait_until, seconds=60, every=0.3)


def put(host: Host, value: str) -> None:
    """Write; where who has just gone led, once there is another leader."""
    wait(lambda: etcdctl(host, f"put auditdb/test {value}")[0] == 0, "it takes no writes", seconds=20)


def curl(host: Host, url: str, options: str) -> tuple[int, str]:
    code, output = execute(host.container, ["sh", "-c", f"curl -sS -m 5 {options} {url} 2>&1"])
    return code, output.decode(errors="replace")


def test_all_are_healthy_over_mutual_tls(members):
    for host in members.values():
        assert healthy(host)
        code, said = curl(members["etcd1"], f"https://auditdb-{host.name}:2379/health", MEMBER)
        assert code == 0 and json.loads(said)["health"] == "true"


@pytest.mark.parametrize("port", [2379, 2380])
def test_nobody_gets_in_without_a_certificate_of_its_authority(members, port):
    first = members["etcd1"]
    for options in (AUTHORITY, "-k", f"{AUTHORITY} --cert /tmp/own.crt --key /tmp/own.key"):
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=member -days 2"
        first.run("sh", "-c", f"{make} -keyout /tmp/own.key -out /tmp/own.crt 2> /dev/null")
        code, said = curl(first, f"https://auditdb-etcd2:{port}/health", options)
        # The handshake fails, or the connection ends on a client that has sent its half already: curl's numbers for it.
        assert code in (16, 35, 55, 56), (code, said)
    code, said = curl(first, f"http://auditdb-etcd2:{port}/health", "")
    assert code != 0 or "HTTPS server" in said


def test_what_is_written_at_one_is_read_at_another(members):
    assert etcdctl(members["etcd1"], "put auditdb/test written")[0] == 0
    assert etcdctl(members["etcd3"], "get --print-value-only auditdb/test")[1].strip() == "written"


def test_keys_are_the_hosts_own_and_private(members):
    keys = set()
    for host in members.values():
        assert host.run("stat", "-c", "%a %U %G", f"{TLS}/member.key").split() == ["640", "root", "etcd"]
        keys.add(host.run("sha256sum", f"{TLS}/member.key"))
        assert host.run("stat", "-c", "%a %U", DATA).split() == ["700", "etcd"]
    assert len(keys) == len(NAMES)


def test_the_distributions_own_member_never_ran(members):
    for host in members.values():
        assert host.run("sh", "-c", "ls -A /var/lib/etcd").split() == ["auditdb"]


def test_one_that_is_killed_comes_back_and_writes_go_on(members):
    victim = members["etcd2"]
    before = victim.run("systemctl", "show", "--property=MainPID", "--value", "etcd").strip()
    victim.run("kill", "-9", before)
    put(members["etcd1"], "meanwhile")
    wait(lambda: healthy(victim), "it did not come back")
    assert victim.run("systemctl", "show", "--property=MainPID", "--value", "etcd").strip() not in (before, "0")
    assert etcdctl(victim, "get --print-value-only auditdb/test")[1].strip() == "meanwhile"


def test_one_whose_host_is_gone_for_a_while_catches_up(members):
    victim = members["etcd3"]
    victim.container.kill()
    try:
        put(members["etcd1"], "without-it")
    finally:
        victim.container.start()
    wait(lambda: healthy(victim), "it did not come back", seconds=90)
    assert etcdctl(victim, "get --print-value-only auditdb/test")[1].strip() == "without-it"


def test_one_that_lost_its_data_joins_again(members, playbook):
    victim = members["etcd2"]
    victim.run("sh", "-c", f"systemctl stop etcd; mv {DATA} /var/lib/etcd/aside")
    run = playbook()
    assert run.code == 0, run.output
    assert etcdctl(victim, "get --print-value-only auditdb/test")[1].strip() == "without-it"
    listed = json.loads(etcdctl(victim, "member list -w json")[1])["members"]
    assert sorted(each["name"] for each in listed) == NAMES
    victim.run("rm", "-r", "/var/lib/etcd/aside")
    again = playbook()
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_change_is_put_in_force_one_at_a_time(members, playbook):
    run = playbook("auditdb.postgresql.etcd", "-e", "etcd_quota_bytes=1073741824")
    assert run.code == 0, run.output
    stamps = ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    restarted = sorted(
        tuple(int(host.run("systemctl", "show", f"--property={stamp}", "--value", "etcd")) for stamp in stamps)
        for host in members.values()
    )
    for (_, ready), (begun, _) in pairwise(restarted):
        assert begun > ready, "one after the other"
    for host in members.values():
        assert "quota-backend-bytes: 1073741824" in host.run("cat", "/etc/etcd/etcd.yml")
    run = playbook()
    assert run.code == 0 and playbook().changed == 0


def test_a_file_that_an_interrupted_run_left_unread_is_read(members, playbook):
    host = members["etcd1"]
    time.sleep(1.1)
    host.run("touch", "/etc/etcd/etcd.yml", "--date", "+5 seconds")
    before = host.run("systemctl", "show", "--property=MainPID", "--value", "etcd")
    assert playbook().code == 0
    assert host.run("systemctl", "show", "--property=MainPID", "--value", "etcd") != before


def test_a_certificate_that_ends_soon_is_renewed_without_a_restart(members, playbook):
    host = members["etcd1"]
    serial = ("openssl", "x509", "-in", f"{TLS}/member.crt", "-noout", "-serial")
    process = ("systemctl", "show", "--property=MainPID", "--value", "etcd")
    before, pid = host.run(*serial), host.run(*process)
    run = playbook("auditdb.postgresql.etcd", "-e", "etcd_tls_renew_days=398", "-e", "etcd_tls_days=399")
    assert run.code == 0, run.output
    assert host.run(*serial) != before
    assert host.run(*process) == pid
    assert healthy(host)
    assert playbook().changed == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"etcd_members": ["etcd1", "etcd2"]}, "name an odd number of hosts"),
        ({"etcd_members": ["etcd1", "etcd2", "nowhere"]}, "nowhere"),
        ({"etcd_election_ms": 100}, "etcd_election_ms (100)"),
        ({"etcd_listen_address": "a.name"}, "etcd_listen_address ('a.name')"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(playbook, given, said):
    run = playbook("auditdb.postgresql.etcd", "-e", json.dumps(given))
    assert run.code != 0 and run.changed == 0
    assert said in run.text


def test_a_member_that_is_declared_no_more_is_named(playbook):
    run = playbook("auditdb.postgresql.etcd", "--limit", "etcd1", "-e", json.dumps({"etcd_members": ["etcd1"]}))
    assert run.code != 0
    assert "etcdctl member remove" in run.text
    assert playbook().code == 0
