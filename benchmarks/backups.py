"""How long backups and restores take, beside a plain copy, pgBackRest and Barman, and what archiving costs.

Run: make bench-backups. It makes a throwaway host a release, fills a database of about a gigabyte, lets each tool back
it up and restore it in turn, times inserts with and without archiving, and writes its part of docs/benchmarks.md.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from typing import Any

from hosts import ROOT, Hosts
from page import measured, write_part

INVENTORY = ROOT / ".build/bench-backups/inventory"
HOSTS = {"bench-bookworm": 12, "bench-trixie": 13}
SCALE = 68  # of pgbench: about 1 GiB
ROUNDS = 3
INSERT_SECONDS = 30
PLACE = "/var/lib/postgresql/bench"
KEY = "/run/bench.key"
PGBACKREST = """[global]
repo1-path={place}/pgbackrest
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=only-for-this-benchmark
repo1-retention-full=9
compress-type=zst
process-max=1
start-fast=y
log-level-file=off
lock-path={place}
[main]
pg1-path={data}
"""
BARMAN = """[barman]
barman_user = postgres
barman_home = {place}/barman
configuration_files_directory = {place}/barman.d
log_file = {place}/barman.log
[main]
description = main
conninfo = host=/var/run/postgresql user=postgres dbname=postgres
streaming_conninfo = host=/var/run/postgresql user=postgres
backup_method = postgres
streaming_archiver = on
slot_name = barman
create_slot = auto
immediate_checkpoint = true
path_prefix = {bin}
"""
INSERT = """\\set a random(1, 1000000)
INSERT INTO events (at, actor, details) VALUES (now(), :a, repeat(md5(:a::text), 8));
"""


class Host:
    """A throwaway host with a database server."""

    def __init__(self, hosts: Hosts, name: str) -> None:
        self.hosts = hosts
        self.name = name
        self.version = int(self.sql("SELECT current_setting('server_version_num')::integer / 10000"))
        self.data = f"/var/lib/postgresql/{self.version}/main"
        self.bin = f"/usr/lib/postgresql/{self.version}/bin"

    def run(self, script: str, user: str = "postgres", **values: str) -> str:
        """Run a script on the host, which must succeed, and return what it printed."""
        return self.hosts.run(self.name, script, user, **values)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser."""
        return self.hosts.sql(self.name, statement, database)

    def timed(self, script: str) -> dict[str, float]:
        """Run a script, wait until its bytes are on disk, and return seconds and processor seconds."""
        timing = self.run(f"TIMEFORMAT='%R %U %S'; {{ time {{ {script}; sync -f {PLACE}; }} >{PLACE}/log 2>&1; }} 2>&1")
        real, user, system = (float(word) for word in timing.split()[-3:])
        return {"seconds": real, "cpu": user + system}

    def bytes(self, path: str) -> int:
        """Return the size of all files there."""
        return int(self.run(f"du --summarize --bytes {path} | cut -f 1"))


def prepare(host: Host) -> None:
    """Install the rivals, fill the database, and stop what would be at work beside."""
    host.run("systemctl stop 'postgresql-backup-*.timer' 'auditdb-heartbeat-*'", user="root")
    host.run("apt-get install -qq -y pgbackrest barman >/dev/null 2>&1; systemctl stop cron || :", user="root")
    key = (INVENTORY / ".state/backup/daily.key").read_text()
    host.run(f'umask 077; printf %s "$KEY" > {KEY}; chown postgres {KEY}', user="root", KEY=key)
    host.run(f"mkdir -p {PLACE}/barman {PLACE}/barman.d {PLACE}/pgbackrest")
    host.run("createdb bench")
    host.run(f"pgbench -i -q -s {SCALE} bench 2>/dev/null")
    host.sql("CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz, actor int, details text)", "bench")
    host.sql("CHECKPOINT")
    for name, text in (("pgbackrest", PGBACKREST), ("barman", BARMAN)):
        content = text.format(place=PLACE, data=host.data, bin=host.bin)
        host.run(f'printf %s "$TEXT" > {PLACE}/{name}.conf', TEXT=content)
    host.run(f"pgbackrest --config={PLACE}/pgbackrest.conf --stanza=main stanza-create")
    host.run(f"barman -c {PLACE}/barman.conf receive-wal --create-slot main")
    host.run(f"setsid barman -c {PLACE}/barman.conf receive-wal main >/dev/null 2>&1 & sleep 3")
    host.run(f"cd {PLACE}; barman -c {PLACE}/barman.conf switch-wal --force --archive main")


def tools(host: Host) -> dict[str, dict[str, str]]:
    """Return for each tool how it backs up, where that lies, and how it restores, each into an empty place."""
    back = f"pgbackrest --config={PLACE}/pgbackrest.conf --stanza=main"
    barman = f"barman -c {PLACE}/barman.conf"
    return {
        "plain copy": {
            "backup": f"cp -a {host.data} {PLACE}/copy",
            "stored": f"{PLACE}/copy",
            "restore": f"cp -a {PLACE}/copy {PLACE}/restored",
            "again": f"rm -rf {PLACE}/copy",
        },
        "auditdb-backup": {
            "backup": "auditdb-backup backup full",
            "stored": "/var/lib/auditdb-backup/main/backups/$(ls /var/lib/auditdb-backup/main/backups | tail -1)",
            "restore": f"auditdb-backup restore --to {PLACE}/restored --identity {KEY} --target-immediate",
            "again": ":",
        },
        "pgBackRest": {
            "backup": f"{back} --type=full --no-archive-check backup",
            "stored": f"{PLACE}/pgbackrest/backup/main/latest/",
            "restore": f"mkdir {PLACE}/restored; {back} --pg1-path={PLACE}/restored --type=immediate restore",
            "again": ":",
        },
        "Barman": {
            "backup": f"{barman} backup main",
            "stored": f"{PLACE}/barman/main/base/$(ls {PLACE}/barman/main/base | tail -1)",
            "restore": f"{barman} recover main latest {PLACE}/restored",
            "again": ":",
        },
    }


def backups(host: Host) -> list[dict[str, Any]]:
    """Let each tool back up and restore in turn, and return the medians."""
    known = tools(host)
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {"backup": [], "restore": []} for name in known}
    sizes = {}
    for number in range(ROUNDS):
        for name, each in known.items():
            host.run(each["again"])
            time.sleep(1.1)  # names of backups are made of seconds
            found[name]["backup"].append(host.timed(each["backup"]))
            sizes[name] = host.bytes(f"$(realpath {each['stored']})")
            host.run(f"rm -rf {PLACE}/restored")
            found[name]["restore"].append(host.timed(each["restore"]))
            print(host.version, number, name, found[name]["backup"][-1], found[name]["restore"][-1], flush=True)
    host.run(f"rm -rf {PLACE}/restored {PLACE}/copy")
    middle = {
        name: {
            f"{what} {key}": statistics.median(run[key] for run in runs)
            for what, runs in each.items()
            for key in ("seconds", "cpu")
        }
        for name, each in found.items()
    }
    return [{"tool": name, "bytes": sizes[name], **middle[name]} for name in known]


def inserts(host: Host) -> dict[str, list[float]]:
    """Return inserts a second, with archiving and with an archive_command that does nothing, in turns."""
    ours = host.sql("SHOW archive_command")
    found: dict[str, list[float]] = {"none": [], "ours": []}
    host.run(f'printf %s "$TEXT" > {PLACE}/insert.sql', TEXT=INSERT)
    for _round in range(ROUNDS):
        for name, command in (("none", "/bin/true"), ("ours", ours)):
            quoted = command.replace("'", "''")
            host.sql(f"ALTER SYSTEM SET archive_command = '{quoted}'")
            host.sql("SELECT pg_reload_conf()")
            host.sql("TRUNCATE events", "bench")
            host.sql("CHECKPOINT")
            output = host.run(f"pgbench -n -c 4 -j 2 -T {INSERT_SECONDS} -f {PLACE}/insert.sql bench")
            rate = re.search(r"tps = ([0-9.]+)", output)
            found[name].append(float(rate[1]) if rate else 0.0)
            print(host.version, "inserts", name, found[name][-1], flush=True)
    host.sql("ALTER SYSTEM RESET archive_command")
    return found


def measure() -> dict[str, Any]:
    """Return all figures, by version."""
    hosts, found = Hosts(INVENTORY, "single"), {}
    servers = {name: {"ansible_host": f"auditdb-{name}", "throwaway_debian": debian} for name, debian in HOSTS.items()}
    hosts.make({}, {"database": {"hosts": servers}, "throwaway": {"children": {"database": {}}}}, backups=True)
    try:
        hosts.ansible("playbooks/server.yml")
        hosts.ansible("playbooks/backup.yml")
        for name in HOSTS:
            host = Host(hosts, name)
            prepare(host)
            rates = inserts(host)
            found[str(host.version)] = {"inserts": rates, "backups": backups(host), "bytes": host.bytes(host.data)}
    finally:
        if "--keep" not in sys.argv:
            hosts.remove()
    return found


def report(found: dict[str, Any]) -> list[str]:
    """Return the section."""
    lines = [
        f"{measured('backups')} Medians of {ROUNDS} rounds in turns; Debian's packages, one process each.",
        "",
        "| PostgreSQL | tool | backup | times a copy | processor | stored | restore | times a copy | processor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for version, each in found.items():
        copy = each["backups"][0]
        for row in each["backups"]:
            cells = [version, row["tool"]]
            for what in ("backup", "restore"):
                seconds = row[f"{what} seconds"]
                cells += [f"{seconds:.1f} s", f"{seconds / copy[f'{what} seconds']:.1f}", f"{row[f'{what} cpu']:.1f} s"]
                if what == "backup":
                    cells.append(f"{row['bytes'] / (1 << 20):.0f} MiB")
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| PostgreSQL | inserts a second, not archived | archived | cost | promised |",
        "| --- | --- | --- | --- | --- |",
    ]
    for version, each in found.items():
        none, ours = (statistics.median(each["inserts"][name]) for name in ("none", "ours"))
        cost = 100 * (1 - ours / none)
        verdict = "kept" if cost < 10 else "MISSED"
        lines.append(f"| {version} | {none:.0f} | {ours:.0f} | {cost:.1f} % | below 10 %: {verdict} |")
    return lines


def main() -> None:
    """Measure, print and write."""
    text = "\n".join(report(measure()))
    print(text)
    write_part("backups", "Backups", text)


if __name__ == "__main__":
    main()
