"""Reads a second on one, two and three members through the balancer, beside one server asked directly.

Run: make bench-spreading. It makes three members that elect their leader, and a balancer; each member gets the same
small share of a processor, so that they do not compete for one machine's. About two minutes of load.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from chart import bars, pyplot, save
from hosts import ROOT, Hosts, medians
from page import PAGE, measured, write_part

HOSTS = Hosts(ROOT / ".build/bench-spreading/inventory", "elected")
MEMBERS = ["read1", "read2", "read3"]
BALANCER = "read-lb"
SHARE = "0.4"
ROUNDS, SECONDS, CLIENTS = 3, 8, 8
# A report over some of the rows: a client that asks for it has little to do itself.
READ = "SELECT sum(length(v)) FROM public.reference WHERE id <= 20000"
DIRECT = "one server, asked directly"
PGBENCH = """
mkdir -p /etc/postgresql-common/createcluster.d
echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/none.conf
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-17
"""


def make_hosts() -> None:
    """Make the hosts from nothing, and fill the table."""
    hosts = {name: {"ansible_host": f"auditdb-{name}"} for name in MEMBERS}
    tree: dict[str, Any] = {
        "database": {"hosts": hosts},
        "etcd": {"children": {"database": {}}},
        "balancer": {"hosts": {BALANCER: {"ansible_host": f"auditdb-{BALANCER}"}}},
        "throwaway": {"children": {"database": {}, "balancer": {}}},
    }
    HOSTS.make({}, tree)
    HOSTS.ansible("playbooks/site.yml")
    HOSTS.fill(leader(), ["reference"], 200_000)
    HOSTS.run(BALANCER, PGBENCH, "root")
    for name in MEMBERS:
        subprocess.run(["docker", "update", "--cpus", SHARE, f"auditdb-{name}"], check=True, capture_output=True)


def leader() -> str:
    """Return who leads, of those that are there."""
    (name,) = [name for name in MEMBERS if HOSTS.run(name, "psql -XAtqc 'SELECT pg_is_in_recovery()' || :") == "f"]
    return name


def measure() -> dict[str, list[tuple[float, float]]]:
    """Return the rates, by the way: first with all members, then with one standby less, then with the leader alone."""
    found: dict[str, list[tuple[float, float]]] = {}

    def keep(way: str, server: str, port: int) -> None:
        rate = HOSTS.rate(BALANCER, server, port, READ, f"-c {CLIENTS}", f"-T {SECONDS}")
        found.setdefault(way, []).append(rate)
        print(way, rate, flush=True)

    leads = leader()
    standbys = [name for name in MEMBERS if name != leads]
    ways = ["three members: two standbys answer", "two members: one standby answers", "one member: the leader answers"]
    for way in ways:
        for _round in range(ROUNDS):
            keep(way, BALANCER, 5001)
            keep(DIRECT, leads, 5432)
        if standbys:
            HOSTS.run(standbys.pop(), "systemctl stop patroni@17-main", "root")
            time.sleep(5)
    return {way: found[way] for way in [DIRECT, *reversed(ways)]}


def plot(middle: dict[str, tuple[float, float]]) -> None:
    """Draw answers a second."""
    figure, axis = pyplot().subplots(figsize=(7, 2.2))
    speeds = {way.replace(": ", ":\n"): speed for way, (speed, _latency) in middle.items()}
    bars(axis, speeds, ["#c25b1e", *["#1b6ca8"] * 3])
    axis.set(xlabel="reads a second")
    save(figure, PAGE.parent / "spreading.svg")


def report(found: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Return the section, and draw the plot."""
    middle = medians(found)
    plot(middle)
    lines = [
        f"{measured('spreading')} "
        f"Debian 13, PostgreSQL 17, TLS all the way; each member has {SHARE} of a core; {CLIENTS} clients of pgbench, "
        f"medians of {ROUNDS} turns of {SECONDS} s. While a standby may answer, the leader is left to those who write.",
        "",
        "![reads a second](spreading.svg)",
        "",
        "| through | reads a second | times the first | ms each |",
        "| --- | --- | --- | --- |",
    ]
    first = middle[DIRECT][0]
    lines += [f"| {way} | {speed:.0f} | {speed / first:.2f} | {late:.1f} |" for way, (speed, late) in middle.items()]
    return lines


def main() -> None:
    """Measure, print and write."""
    try:
        make_hosts()
        found = measure()
    finally:
        if "--keep" not in sys.argv:
            HOSTS.remove()
    text = "\n".join(report(found))
    print(text)
    write_part("spreading", "Reads spread over members", text)


if __name__ == "__main__":
    main()
