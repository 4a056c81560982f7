# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The console of this host's PgBouncer: hold the clients, let them go on, look, and see what it has not read."""

from __future__ import annotations

import argparse
import configparser
import getpass
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psycopg2

ETC = Path("/etc/pgbouncer")
RUN = Path("/run/pgbouncer")
PROGRAM = "/usr/local/bin/auditdb-pgbouncer"
TIMER = "auditdb-pgbouncer-resume"
USER = "postgres"


class RefusedError(Exception):
    """What was asked for cannot be done; the message says why."""


def console() -> Any:
    """Log in over the local socket, as the account of the operating system that this is."""
    sockets = [path for path in RUN.glob(".s.PGSQL.*") if not path.name.endswith(".lock")]
    if not sockets:
        raise RefusedError(f"PgBouncer has no socket in {RUN}: systemctl status pgbouncer")
    port = sockets[0].name.rsplit(".", 1)[1]
    connection = psycopg2.connect(
        host=str(RUN), port=port, user=getpass.getuser(), dbname="pgbouncer", connect_timeout=5
    )
    connection.autocommit = True
    return connection


def ask(command: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a command of the console; return the columns and rows that it prints."""
    connection = console()
    try:
        with connection.cursor() as cursor:
            cursor.execute(command)
            rows = cursor.fetchall() if cursor.description else []
            return [column[0] for column in cursor.description or []], rows
    finally:
        connection.close()


def disarm() -> None:
    """Take away the timer that would resume."""
    if os.geteuid() == 0:
        subprocess.run(["systemctl", "stop", f"{TIMER}.timer"], stderr=subprocess.DEVNULL, check=False)


MARK = """
    SELECT ('x' || left(pg_catalog.pg_walfile_name(
        pg_catalog.pg_logical_emit_message(true, 'auditdb', 'the way of the pool')), 8))::bit(32)::integer"""


def written_on(login: dict[str, Any]) -> int:
    """Write, and commit, a message in the WAL; return the timeline that it is on."""
    connection = psycopg2.connect(**login, connect_timeout=3)
    try:
        # Committed as the block ends: with synchronous commit, a standby has it then.
        with connection, connection.cursor() as cursor:
            cursor.execute(MARK)
            return int(cursor.fetchone()[0])
    finally:
        connection.close()


def resume_when_written(login: dict[str, Any], timeline: int, within: float, every: float = 0.1) -> str:
    """Let the clients go on as soon as what is behind the pool takes writes on this timeline, or on a later one.

    A try that comes too early may be held by a load balancer for longer than it takes until the next would succeed: one
    is begun each tenth of a second.
    """
    found = threading.Event()
    said: dict[str, Any] = {"last": "nobody has answered"}

    def attempt_it() -> None:
        try:
            on = written_on(login)
        except psycopg2.Error as error:
            said["last"] = str(error).strip()
            return
        said["last"] = f"it is on timeline {on}"
        if on >= timeline:
            said["on"] = on
            found.set()

    begun = time.monotonic()
    while not found.wait(every) and time.monotonic() - begun < within:
        threading.Thread(target=attempt_it, daemon=True).start()
    if not found.is_set():
        raise RefusedError(said["last"])
    return f"{resume()}, after {time.monotonic() - begun:.3f} s: written on timeline {said['on']}"


def resume() -> str:
    """Let the clients go on, where they were held."""
    try:
        ask("RESUME")
        said = "resumed"
    except psycopg2.DatabaseError as error:
        if "not paused" not in str(error):
            raise
        said = "was not paused"
    disarm()
    return said


def pause(timeout: float, resume_after: float) -> str:
    """Hold the clients once their transactions have ended; whatever happens to who asked, they go on after a time."""
    if os.geteuid() != 0:
        raise RefusedError("only root can pause: what lets the clients go on by itself is a timer of systemd's")
    disarm()
    subprocess.run(
        ["systemd-run", "--quiet", "--collect", f"--unit={TIMER}", f"--on-active={resume_after}s",
         "--timer-property=AccuracySec=50ms", PROGRAM, "resume"],
        check=True,
    )  # fmt: skip
    failed: list[Exception] = []
    begun = time.monotonic()

    def run() -> None:
        try:
            ask("PAUSE")
        except (psycopg2.Error, RefusedError) as error:
            failed.append(error)

    # PAUSE answers when the last transaction has ended, and would wait for ever.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        resume()
        raise RefusedError(f"transactions still ran after {timeout:g} s; the clients go on. SHOW SERVERS names them")
    if failed:
        disarm()
        raise failed[0]
    return f"paused after {time.monotonic() - begun:.3f} s, for {resume_after:g} s at most"


def read(path: Path) -> configparser.ConfigParser:
    """Read a configuration as PgBouncer writes it."""
    parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=(";", "#"), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def plain(value: str | None) -> str:
    """Return a value in one of the ways in which it can be written."""
    text = ",".join(part.strip() for part in (value or "").split(","))
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def pending() -> dict[str, list[str]]:
    """Return which settings wait for a restart, and what has not been read."""
    try:
        columns, rows = ask("SHOW CONFIG")
    except (psycopg2.OperationalError, RefusedError):
        return {"restart": [f"it does not answer in {RUN}"], "reload": []}
    runs = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    settings = read(ETC / "pgbouncer.ini")["pgbouncer"]
    other = {name for name, value in settings.items() if name in runs and plain(runs[name]["value"]) != plain(value)}
    fixed = sorted(name for name in other if runs[name]["changeable"] != "yes")
    tls = [Path(settings[name]) for name in settings if name.endswith(("tls_cert_file", "tls_key_file", "tls_ca_file"))]
    files = [ETC / "pgbouncer.ini", ETC / "hba.conf", ETC / "userlist.txt", *tls]
    last = RUN / "read"
    seen = last.stat().st_mtime_ns if last.exists() else 0
    unread = [str(path) for path in files if path.stat().st_mtime_ns > seen]
    return {"restart": fixed, "reload": sorted(other - set(fixed)) + unread}


def attempt(path: Path) -> None:
    """Start another PgBouncer with this configuration, which listens nowhere but in a directory of its own."""
    parser = read(path)
    account = pwd.getpwnam(USER)
    with tempfile.TemporaryDirectory(prefix="auditdb-pgbouncer-") as name:
        own = Path(name)
        own.chmod(0o700)
        settings = {"listen_addr": "", "unix_socket_dir": name, "pidfile": f"{name}/pid", "listen_port": "6432"}
        parser["pgbouncer"].update(settings)
        with (own / "pgbouncer.ini").open("w") as file:
            parser.write(file)
        for each in (own, own / "pgbouncer.ini"):
            shutil.chown(each, account.pw_uid, account.pw_gid)
        command = ["runuser", "-u", USER, "--", "/usr/sbin/pgbouncer", f"{name}/pgbouncer.ini"]
        with (own / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 10
            while not (own / ".s.PGSQL.6432").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RefusedError(f"PgBouncer refuses the file:\n{(own / 'log').read_text()}")
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait(10)
        said = (own / "log").read_text()
        if " ERROR " in said or " FATAL " in said:
            raise RefusedError(f"PgBouncer refuses the file:\n{said}")


def table(columns: list[str], rows: list[tuple[Any, ...]]) -> str:
    """Return rows as lines, tab-separated, below their names."""
    return "\n".join("\t".join("" if value is None else str(value) for value in row) for row in [tuple(columns), *rows])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="auditdb-pgbouncer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    held = commands.add_parser("pause", help="let running transactions end, and hold all clients")
    held.add_argument("--timeout", type=float, default=3, help="seconds that they have to end")
    held.add_argument(
        "--resume-after", type=float, default=20, help="seconds after which the clients go on by themselves"
    )
    goes_on = commands.add_parser("resume", help="let the clients go on")
    goes_on.add_argument(
        "--written-on", type=int, metavar="TIMELINE", help="once what is behind the pool takes writes on this timeline,"
        " or on a later one; how to log in there is read as JSON from the standard input, with libpq's words"
    )  # fmt: skip
    goes_on.add_argument("--within", type=float, default=8, help="seconds that it has for it")
    commands.add_parser("reload", help="read the files again; all connections stay")
    shown = commands.add_parser(
        "show", help="print what the console's SHOW prints: pools, clients, servers, stats, config ..."
    )
    shown.add_argument("what", nargs="+")
    commands.add_parser("pending", help="print, as JSON, what waits for a restart or has not been read")
    tried = commands.add_parser("try", help="try a configuration without using it")
    tried.add_argument("file", type=Path)
    return parser.parse_args()


def main() -> None:
    """Do what was asked for."""
    given = arguments()
    if given.command == "pause":
        print(pause(given.timeout, given.resume_after))
    elif given.command == "resume":
        written = given.written_on
        print(resume() if written is None else resume_when_written(json.load(sys.stdin), written, given.within))
    elif given.command == "reload":
        subprocess.run(["systemctl", "reload", "pgbouncer.service"], check=True)
        print("reloaded")
    elif given.command == "show":
        print(table(*ask(f"SHOW {' '.join(given.what)}")))
    elif given.command == "pending":
        print(json.dumps(pending()))
    else:
        attempt(given.file)


if __name__ == "__main__":
    try:
        main()
    except (RefusedError, psycopg2.Error, subprocess.CalledProcessError) as failure:
        sys.exit(f"auditdb-pgbouncer: {str(failure).strip()}")
