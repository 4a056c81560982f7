"""What a read and a connection cost: at the server itself, through Pgpool, cached and not, and through PgBouncer.

Run: make bench-pooling. It makes a server, its standby and a host with Pgpool and PgBouncer, lets each way answer the
same statement in turns, and writes its part of docs/benchmarks.md. About two minutes of load, once the hosts are made.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from chart import bars, pyplot, save
from hosts import PASSWORD, ROOT, Hosts, medians
from page import PAGE, measured, write_part

HOSTS = Hosts(ROOT / ".build/bench-pooling/inventory", "cluster")
ROUNDS, SECONDS, CLIENTS = 3, 5, 4
ROWS = 200_000
READS = {
    # By its key: what a server answers in no time.
    "one row": "SELECT v FROM public.reference WHERE id = 4711",
    # A report over all rows.
    "a sum": "SELECT sum(length(v)) FROM public.reference",
}
UNCACHED = {name: read.replace("reference", "uncached") for name, read in READS.items()}


def make_hosts() -> None:
    """Make the hosts from nothing, and fill the tables."""
    host = {name: {"ansible_host": f"auditdb-{name}"} for name in ("bench-db1", "bench-db2", "bench-pool")}
    host["bench-db2"]["postgresql_standby_primary"] = "bench-db1"
    tree: dict[str, Any] = {
        "database": {"hosts": {"bench-db1": host["bench-db1"]}},
        "standby": {"hosts": {"bench-db2": host["bench-db2"]}},
        "pgpool": {"hosts": {"bench-pool": host["bench-pool"]}},
        "balancer": {"hosts": {"bench-pool": {}}},
        "throwaway": {"children": {"database": {}, "standby": {}, "pgpool": {}}},
    }
    values = {
        "pgpool_users": ["bench"],
        "pgpool_passwords": {"bench": PASSWORD},
        "pgpool_cache_tables": ["public.reference"],
        "pgbouncer_hosts": ["auditdb-bench-db1"],
        "pgbouncer_databases": [{"name": "postgres"}],
    }
    HOSTS.make(values, tree)
    HOSTS.ansible("playbooks/server.yml")
    HOSTS.ansible("playbooks/standby.yml")
    HOSTS.fill("bench-db1", ["reference", "uncached"], ROWS)
    HOSTS.ansible("playbooks/pgpool.yml")
    HOSTS.ansible("playbooks/pgbouncer.yml")


def measure() -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return the rates of each read and of connections, by the way, in turns."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def keep(what: str, way: str, *asked: Any) -> None:
        # The client is the standby's host.
        rate = HOSTS.rate("bench-db2", *asked, f"-c {CLIENTS}", f"-T {SECONDS}")
        found.setdefault(what, {}).setdefault(way, []).append(rate)
        print(what, way, found[what][way][-1], flush=True)

    for _round in range(ROUNDS):
        for name, read in READS.items():
            keep(name, "the server itself", "bench-db1", 5432, UNCACHED[name])
            keep(name, "Pgpool, not cached", "bench-pool", 9999, UNCACHED[name])
            keep(name, "Pgpool, cached", "bench-pool", 9999, read)
        for way, host, port in (
            ("the server itself", "bench-db1", 5432),
            ("PgBouncer", "bench-pool", 6432),
            ("Pgpool", "bench-pool", 9999),
        ):
            keep("a new connection", way, host, port, "SELECT 1", "--connect")
    return found


def plot(middle: dict[str, dict[str, tuple[float, float]]]) -> None:
    """Draw answers a second."""
    figure, axes = pyplot().subplots(1, len(middle), figsize=(9, 3))
    for axis, (what, ways) in zip(axes, middle.items(), strict=True):
        colours = ["#1b6ca8" if "cached" in way and "not" not in way else "#c25b1e" for way in ways]
        bars(axis, {way.replace(", ", ",\n"): speed for way, (speed, _latency) in ways.items()}, colours)
        axis.set(title=what, xlabel="a second")
        axis.tick_params(axis="x", labelsize=7)
    save(figure, PAGE.parent / "pooling.svg")


def report(found: dict[str, dict[str, list[tuple[float, float]]]], hits: str) -> list[str]:
    """Return the section, and draw the plot."""
    middle = {what: medians(ways) for what, ways in found.items()}
    plot(middle)
    lines = [
        f"{measured('pooling')} "
        f"Debian 13, PostgreSQL 17, TLS all the way; {CLIENTS} clients of pgbench, medians of {ROUNDS} turns of "
        f"{SECONDS} s. {hits}",
        "",
        "![answers a second](pooling.svg)",
        "",
        "| what | through | a second | times the first | ms each |",
        "| --- | --- | --- | --- | --- |",
    ]
    for what, ways in middle.items():
        first = next(iter(ways.values()))[0]
        for way, (speed, latency) in ways.items():
            lines.append(f"| {what} | {way} | {speed:.0f} | {speed / first:.2f} | {latency:.2f} |")
    return lines


def main() -> None:
    """Measure, print and write."""
    try:
        make_hosts()
        found = measure()
        kept = json.loads(HOSTS.run("bench-pool", "auditdb-pgpool show cache --json", "root"))[0]
    finally:
        if "--keep" not in sys.argv:
            HOSTS.remove()
    hits, asked = int(kept["num_cache_hits"]), int(kept["num_selects"])
    text = "\n".join(
        report(found, f"Pgpool answered {100 * hits / (hits + asked):.0f} % of all its reads from the cache.")
    )
    print(text)
    write_part("pooling", "Reads through Pgpool", text)


if __name__ == "__main__":
    main()
