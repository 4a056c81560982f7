# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""This host's Pgpool: look, tell it who takes writes, write who may log in, and see what it has not read."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg2

ETC = Path("/etc/pgpool2")
RUN = Path("/run/pgpool")
USER = "postgres"
ACCOUNT = "auditdb_pgpool"
DOWN = "3"
AGAIN = 30
"""Seconds after which Pgpool is asked again what it knows, though the servers are as they were."""
FIXED = ("ssl_cert", "ssl_key", "ssl_ca_cert")
LINE = re.compile(r"^(\w+) = '((?:[^']|'')*)'$")


class RefusedError(Exception):
    """What was asked for cannot be done; the message says why."""


def read(path: Path) -> dict[str, str]:
    """Read a configuration as the role writes it."""
    found = [LINE.match(line) for line in path.read_text().splitlines()]
    return {each[1]: each[2].replace("''", "'") for each in found if each}


def ask(command: str) -> list[dict[str, Any]]:
    """Run a command of Pgpool's own, over the local socket; return its rows."""
    connection = psycopg2.connect(
        host=str(RUN), port=read(ETC / "pgpool.conf").get("port"), user=ACCOUNT, dbname="postgres", connect_timeout=10,
        passfile=str(ETC / "look.pgpass"),
    )  # fmt: skip
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(command)
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    finally:
        connection.close()


def administer(command: str, *arguments: str) -> list[str]:
    """Run one of Pgpool's administration commands, over the local socket; return the lines that it prints."""
    port = read(ETC / "pgpool.conf")["pcp_port"]
    done = subprocess.run(
        [command, "--host", str(RUN), "--port", port, "--username", ACCOUNT, "--no-password", *arguments],
        env={**os.environ, "PCPPASSFILE": str(ETC / "pcp.pgpass")}, capture_output=True, text=True, check=False,
        timeout=30,
    )  # fmt: skip
    if done.returncode:
        raise RefusedError(f"{command}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.splitlines()


class Server:
    """One of the servers, asked itself over verified TLS what it is."""

    def __init__(self, number: int, settings: dict[str, str]) -> None:
        self.number = str(number)
        self.login = {
            "host": settings[f"backend_hostname{number}"],
            "port": settings[f"backend_port{number}"],
            "sslmode": "verify-full",
            "sslrootcert": settings["ssl_ca_cert"],
            "user": ACCOUNT,
            "dbname": "postgres",
            "passfile": str(ETC / "look.pgpass"),
            "connect_timeout": 2,
            "tcp_user_timeout": 2000,
        }
        self.connection: Any = None

    def is_standby(self) -> bool | None:
        """Say whether it is a standby; nothing where it does not answer."""
        try:
            if self.connection is None:
                self.connection = psycopg2.connect(**self.login)
                self.connection.autocommit = True
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT pg_catalog.pg_is_in_recovery()")
                return bool(cursor.fetchone()[0])
        except psycopg2.Error:
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            return None


def told(standby: dict[str, bool | None], status: dict[str, str], role: dict[str, str]) -> tuple[str, ...] | None:
    """Return the command that tells Pgpool what the servers are and it does not know, if there is one."""
    leading = [number for number, each in standby.items() if each is False]
    # With two, whoever promoted the second has yet to stop the first: Pgpool stays with the one that it has.
    if len(leading) == 1 and role[leading[0]] != "primary" and status[leading[0]] != DOWN:
        return ("pcp_promote_node", "--node-id", leading[0])
    back = [number for number, each in standby.items() if status[number] == DOWN and (each or [number] == leading)]
    return ("pcp_attach_node", "--node-id", back[0]) if back else None


def follow() -> None:
    """Tell Pgpool each second who takes writes, where it does not know: it looks by itself only when it starts."""
    settings = read(ETC / "pgpool.conf")
    numbers = range(sum(name.startswith("backend_hostname") for name in settings))
    servers = [Server(number, settings) for number in numbers]
    seen: dict[str, bool | None] = {}
    compared = 0.0
    while True:
        standby = {each.number: each.is_standby() for each in servers}
        # Pgpool logs each question. It knows what it was told, unless it was started again meanwhile.
        if standby == seen and time.monotonic() - compared < AGAIN:
            time.sleep(1)
            continue
        try:
            lines = [line.split() for line in administer("pcp_node_info", "--all")]
            known = {str(number): line for number, line in enumerate(lines)}
            command = told(
                {number: each for number, each in standby.items() if number in known},
                {number: line[2] for number, line in known.items()},
                {number: line[6] for number, line in known.items()},
            )
            if command:
                print(" ".join(command), flush=True)
                administer(*command)
            else:
                seen, compared = standby, time.monotonic()
        except (RefusedError, subprocess.TimeoutExpired) as failure:
            print(failure, file=sys.stderr, flush=True)
        time.sleep(1)


def encrypted(key: str, users: dict[str, str]) -> str:
    """Return Pgpool's password file, encrypted by its own program, which writes the same for the same."""
    with tempfile.TemporaryDirectory(prefix="auditdb-pgpool-", dir="/run") as name:
        own = Path(name)
        for file, text in (
            ("key", key),
            ("pgpool.conf", "pool_passwd = 'pool_passwd'\n"),
            ("pool_passwd", ""),
            ("users", "".join(f"{user}:{password}\n" for user, password in sorted(users.items()))),
        ):
            (own / file).touch(0o600)
            (own / file).write_text(text)
        command = ["pg_enc", "-m", "-k", f"{name}/key", "-f", f"{name}/pgpool.conf", "-i", f"{name}/users"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = (own / "pool_passwd").read_text()
        if done.returncode or {line.split(":")[0] for line in found.splitlines()} != {*users}:
            raise RefusedError("pg_enc did not write an entry for each user")
        return found


def accounts(check: bool) -> str:
    """Write who may log in, as standard input says; return whether that changed anything."""
    given = json.load(sys.stdin)
    wanted = {
        "pgpoolkey": (given["key"] + "\n", USER, 0o600),
        "pool_passwd": (encrypted(given["key"] + "\n", given["users"]), USER, 0o600),
        "look.pgpass": (f"*:*:*:{ACCOUNT}:{given['users'][ACCOUNT]}\n", USER, 0o600),
        "pcp.pgpass": (f"*:*:{ACCOUNT}:{given['users'][ACCOUNT]}\n", USER, 0o600),
        "pcp.conf": (f"{ACCOUNT}:{hashlib.md5(given['users'][ACCOUNT].encode()).hexdigest()}\n", USER, 0o600),
    }
    changed = []
    for name, (text, owner, mode) in wanted.items():
        path = ETC / name
        same = path.exists() and path.read_text() == text and path.owner() == owner
        if same and path.stat().st_mode & 0o777 == mode:
            continue
        changed.append(name)
        if not check:
            new = ETC / f".{name}.new"
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
                file.write(text)
            shutil.chown(new, owner, owner)
            new.rename(path)
    return f"changed: {', '.join(changed)}" if changed else "as it was"


def plain(value: str) -> str:
    """Return a value in one of the ways in which it can be written."""
    number = re.fullmatch(r"(\d+) ?(kB|MB|GB|B|ms|s|min|h|d)?", value)
    if not number:
        return value.lower()
    times = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "ms": 0.001, "min": 60, "h": 3600, "d": 86400}
    return f"{int(number[1]) * times.get(number[2] or '', 1):g}"


def pending() -> dict[str, list[str]]:
    """Return the files that have not been read since they changed, and what waits for a restart."""
    settings = read(ETC / "pgpool.conf")
    runs = {row["item"]: str(row["value"]) for row in ask("PGPOOL SHOW ALL")}
    # Stars are how it shows where passwords are.
    runs = {name: settings.get(name, value) if set(value) == {"*"} else value for name, value in runs.items()}
    other = sorted(name for name, value in settings.items() if name not in runs or plain(runs[name]) != plain(value))

    def since(mark: str, files: list[str]) -> list[str]:
        seen = (RUN / mark).stat().st_mtime_ns
        return [str(path) for path in map(Path, files) if path.stat().st_mtime_ns > seen]

    fixed = [str(ETC / "pgpoolkey"), str(ETC / "pcp.conf"), *(settings[name] for name in FIXED)]
    unread = since("read", [str(ETC / name) for name in ("pgpool.conf", "pool_hba.conf", "pool_passwd")])
    return {"restart": other + since("started", fixed), "reload": unread}


def attempt(path: Path) -> None:
    """Have Pgpool read a configuration: it is asked to reload one that does not run, and has to miss nothing else.

    Of names that it does not know it says nothing: the running one tells, and `pending` after a first start.
    """
    try:
        unknown = {*read(path)} - {row["item"] for row in ask("PGPOOL SHOW ALL")}
    except psycopg2.Error:
        unknown = set()
    if unknown:
        raise RefusedError(f"Pgpool knows no {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="auditdb-pgpool-", dir="/run") as name:
        copy = Path(name) / "pgpool.conf"
        copy.touch(0o600)
        copy.write_text(path.read_text() + f"pid_file_name = '{name}/pid'\n")
        done = subprocess.run(
            ["/usr/sbin/pgpool", "-f", str(copy), "reload"], capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        wrong = [line for line in said.splitlines() if re.search("unrecognized|invalid|syntax|out of|must be", line)]
        if wrong or "pid" not in said:
            raise RefusedError(f"Pgpool refuses the file:\n{said}")


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as lines, tab-separated, below their names."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)] if rows else []
    return "\n".join("\t".join(str(value) for value in line) for line in lines)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="auditdb-pgpool", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("show", help="print what SHOW POOL_... prints: nodes, cache, processes, version ...")
    shown.add_argument("what")
    shown.add_argument("--json", action="store_true")
    written = commands.add_parser("accounts", help="write who may log in, as JSON on standard input says")
    written.add_argument("--check", action="store_true", help="only say whether it would change anything")
    commands.add_parser("follow", help="tell Pgpool each second who takes writes, where it does not know")
    commands.add_parser("pending", help="print, as JSON, what waits for a restart or has not been read")
    tried = commands.add_parser("try", help="have Pgpool read a configuration without using it")
    tried.add_argument("file", type=Path)
    return parser.parse_args()


def main() -> None:
    """Do what was asked for."""
    given = arguments()
    if given.command == "show":
        rows = ask(f"SHOW POOL_{given.what}")
        print(json.dumps(rows) if given.json else table(rows))
    elif given.command == "accounts":
        print(accounts(given.check))
    elif given.command == "follow":
        follow()
    elif given.command == "pending":
        print(json.dumps(pending()))
    else:
        attempt(given.file)


if __name__ == "__main__":
    try:
        main()
    except (RefusedError, psycopg2.Error) as failure:
        sys.exit(f"auditdb-pgpool: {str(failure).strip()}")
