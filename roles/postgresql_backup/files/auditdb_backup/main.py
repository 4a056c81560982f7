# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line, and what each subcommand's exit code means to the one that calls it."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from . import processes
from .configuration import Configuration
from .errors import BackupError

CONFIGURATION = Path("/etc/auditdb-backup/main.json")
PROGRAM = "/usr/local/bin/auditdb-backup"
NOT_ARCHIVED = 1
STOP_RECOVERY = 126
GRACE_SECONDS = 10
GATE_SECONDS = 600
"""That a subcommand of the database host waits for another run on the backup host."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="auditdb-backup", description="Backups of a PostgreSQL cluster.")
    top.add_argument("--config", type=Path, default=CONFIGURATION, help="configuration file, %(default)s if not given")
    top.add_argument("--wait", type=int, default=0, help="seconds to wait for another run; %(default)s if not given")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="make the repository")
    commands.add_parser("adopt", help="make the repository of the second place's copy")
    push = commands.add_parser("push", help="archive a WAL file: archive_command. Any failure: exit code 1")
    push.add_argument("path", type=Path, help="its path: %%p")
    get = commands.add_parser("get", help="fetch a WAL file: restore_command. Not there: 1. Other failures: 126")
    get.add_argument("name", help="its name: %%f")
    get.add_argument("target", type=Path, help="where to: %%p")
    get.add_argument("--identity", type=Path, required=True, help="file with the private key")
    get.add_argument("--standby", action="store_true", help="any failure is 1: a standby tries again")
    backup = commands.add_parser("backup", help="take a backup")
    backup.add_argument("kind", choices=["full", "incremental", "logical"])
    commands.add_parser("list", help="list the backups").add_argument("--json", action="store_true")
    verify = commands.add_parser("verify", help="read backups and WAL again")
    verify.add_argument("backup", nargs="?", help="only this one")
    verify.add_argument("--identity", type=Path, help="file with the private key: decrypt them too")
    verify.add_argument("--restored", action="store_true", help="record that a restore has proven it")
    expire = commands.add_parser("expire", help="remove what retention does not keep")
    expire.add_argument("--dry-run", action="store_true", help="only say what would go")
    expire.add_argument("--json", action="store_true")
    _add_restore(commands.add_parser("restore", help="make an empty directory a data directory that recovers"))
    recover = commands.add_parser("recover", help="bring a restored directory to its target, alone, and stop it")
    recover.add_argument("--to", type=Path, required=True, help="the restored directory")
    recover.add_argument("--seconds", type=int, default=86400, help="how long it may take; %(default)s if not given")
    _add_extract(commands.add_parser("extract", help="restore a database or a table beside the live one"))
    discard = commands.add_parser("discard", help="stop and remove what a killed extract has left")
    discard.add_argument("--scratch", type=Path, required=True, help="the directory that was given to it")
    commands.add_parser("offsite", help="copy what the second place does not have")
    commands.add_parser("gate", help="answer the database host: what a key's forced command runs on a backup host")
    serve = commands.add_parser("serve", help="be a second place: what a key's forced command answers")
    serve.add_argument("directory", type=Path, help="what it can add to and read")
    hand = commands.add_parser("hand", help="let a backup host in: what a key's forced command runs on a database host")
    hand.add_argument("socket", type=Path, help="the socket of what lends this host")
    lend = commands.add_parser("lend", help="be read by pgBackRest on a backup host: what is behind that socket")
    lend.add_argument("configuration", type=Path, help="pgBackRest's configuration file")
    lend.add_argument("stanza", help="the cluster")
    opened = commands.add_parser("passphrase", help="print pgBackRest's passphrase, which the repository has sealed")
    opened.add_argument("--identity", type=Path, required=True, help="file with the private key")
    commands.add_parser("stream", help="receive WAL as it is written")
    commands.add_parser("wake", help="what is due each minute: archive_timeout counts, streamed WAL is tended")
    status = commands.add_parser("status", help="how the backups are. Problems: exit code 3")
    status.add_argument("--json", action="store_true")
    status.add_argument("--textfile", action="store_true", help="write Prometheus' text file too")
    return top


def _add_restore(restore: argparse.ArgumentParser) -> None:
    restore.add_argument("--to", type=Path, required=True, help="an empty directory")
    _add_source(restore)
    restore.add_argument("--target-action", choices=["promote", "pause", "shutdown"], default="promote")


def _add_extract(extract: argparse.ArgumentParser) -> None:
    extract.add_argument("--scratch", type=Path, required=True, help="a directory for the scratch instance")
    extract.add_argument("--database", required=True, help="the database that is wanted, or holds the table")
    extract.add_argument("--table", default="", help="a table or partition, as SCHEMA.TABLE; the whole database if not")
    extract.add_argument("--as", dest="name", default="", help="name of the new database, or of the table's new schema")
    extract.add_argument(
        "--over", default="", help="exchange: the live database, or DATABASE:SCHEMA.TABLE, by its name"
    )
    extract.add_argument("--seconds", type=int, default=86400, help="how long recovery may take; %(default)s if not")
    _add_source(extract)


def _add_source(restore: argparse.ArgumentParser) -> None:
    restore.add_argument("--identity", type=Path, required=True, help="file with the private key")
    restore.add_argument("--check", action="store_true", help="only say which backups would be used")
    restore.add_argument("--backup", help="its id; the newest before the target if not given")
    target = restore.add_mutually_exclusive_group()
    target.add_argument("--target-time", help="such as 2026-05-01T12:00:00Z")
    target.add_argument("--target-lsn", help="such as 0/3000028")
    target.add_argument("--target-xid", help="a transaction's id")
    target.add_argument("--target-name", help="a named restore point")
    target.add_argument("--target-immediate", action="store_true", help="as soon as the backup is consistent")
    restore.add_argument("--timeline", default="latest", help="latest, current or a number; %(default)s if not given")


# Subcommands of keys and services, without a configuration: their module, and their arguments.
BARE = {
    "serve": ("serve", "directory"),
    "hand": ("lending", "socket"),
    "lend": ("lending", "configuration", "stanza"),
}
COMMANDS = {"list": "show", "passphrase": "unsealed", "status": "look"}


def _limit(seconds: int) -> None:
    """Cut a hang: raise after so many seconds, and be killed where even that does not end the process."""

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE_SECONDS)
        raise BackupError(f"it took longer than {seconds} s", "see whether the repository's disk or mount hangs")

    signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)


def engine_of(settings: Configuration, configuration: Path, wait: int) -> Any:
    """Return the engine that the configuration names, or the one that asks the backup host."""
    name = _part("engine_remote", settings) if settings.backup_ssh else f"engine_{settings.engine}"
    return importlib.import_module(f".{name}", __package__).Engine(settings, PROGRAM, configuration, wait)


def _part(name: str, settings: Configuration) -> str:
    """Return the module that is about another host, for the engine."""
    return name if settings.engine == "basebackup" else f"{name}_{settings.engine}"


def _run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    if arguments.command in BARE:
        module, *names = BARE[arguments.command]
        run = getattr(importlib.import_module(f".{module}", __package__), arguments.command)
        return int(run(*(getattr(arguments, name) for name in names)))
    settings = Configuration.read(arguments.config)
    os.environ.update(settings.environment)
    processes.ENVIRONMENT.update(settings.environment)
    if settings.backup_ssh:
        remote = importlib.import_module(".engine_remote", __package__)
        if arguments.command not in remote.HERE:
            return int(remote.relay(settings, arguments, argv))
    # WAL is handled without the rest of the program: once a minute and more often, it has to be quick.
    if arguments.command == "push":
        _limit(settings.push_timeout)
    if arguments.command == "get":
        _limit(settings.get_timeout)
    engine = engine_of(settings, arguments.config, arguments.wait)
    if arguments.command == "push":
        engine.push(arguments.path)
        return 0
    if arguments.command == "get":
        return 0 if engine.get(arguments.name, arguments.target, arguments.identity) else NOT_ARCHIVED
    if arguments.command == "gate":
        gate = importlib.import_module(f".{_part('gate', settings)}", __package__)
        own = [PROGRAM, "--config", str(arguments.config), "--wait", str(GATE_SECONDS)]
        return int(gate.Gate(settings, engine, own, parser().parse_args).answer())
    commands = importlib.import_module(".commands", __package__)
    name = COMMANDS.get(arguments.command, arguments.command)
    return int(getattr(commands, name)(settings, engine, arguments))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code. Failures are said on standard error."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as end:  # argparse ends with 2, which restore_command would take for "not archived"
        return 0 if end.code in (None, 0) else STOP_RECOVERY
    stops = arguments.command == "get" and not arguments.standby
    try:
        return _run(arguments, sys.argv[1:] if argv is None else argv)
    except BackupError as error:
        print(f"auditdb-backup {arguments.command}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"auditdb-backup {arguments.command}: {error}. Remedy: check space, owner and mode", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return STOP_RECOVERY if stops else 1
