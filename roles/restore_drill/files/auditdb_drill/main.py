# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: heartbeat for ever; fetch and rehearse, which the drill's unit runs one after the other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg2
from auditdb_backup.canonical import canonical
from auditdb_backup.configuration import Configuration
from auditdb_backup.errors import BackupError

from . import place
from .fetch import fetch
from .heartbeat import beat_for_ever
from .rehearse import rehearse
from .request import Drill


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="auditdb-drill", description="Rehearses restores, and measures them.")
    commands = top.add_subparsers(dest="command", required=True)
    heartbeat = commands.add_parser("heartbeat", help="write the ledger until it is ended")
    heartbeat.add_argument("--config", type=Path, required=True, help="of auditdb-backup")
    heartbeat.add_argument("--database", required=True, help="where the ledger is")
    heartbeat.add_argument("--interval", type=int, required=True, help="milliseconds between rows")
    heartbeat.add_argument("--days", type=int, required=True, help="how long rows stay in the database")
    heartbeat.add_argument("--acknowledged-days", type=int, required=True, help="and outside of it")
    heartbeat.add_argument("--to", type=Path, required=True, help="directory of what is acknowledged")
    for name, text in (
        ("clear", "empty the drill's directory"),
        ("fetch", "declare the disaster, and fetch what the cases need"),
        ("rehearse", "restore each case, and measure it"),
    ):
        commands.add_parser(name, help=text).add_argument("request", type=Path, help="file with what is asked for")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code. Failures are said on standard error."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "heartbeat":
            days = (arguments.days, arguments.acknowledged_days)
            settings = Configuration.read(arguments.config)
            beat_for_ever(settings, arguments.database, arguments.interval / 1000, days, arguments.to)
        drill = Drill.read(arguments.request)
        if arguments.command == "clear":
            place.clear(drill.workplace)
        elif arguments.command == "fetch":
            fetch(drill)
        else:
            result = rehearse(drill)
            drill.result.write_bytes(canonical(result) + b"\n")
    except (BackupError, psycopg2.Error) as error:
        print(f"auditdb-drill {arguments.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"auditdb-drill {arguments.command}: {error}. Remedy: check space, owner and mode", file=sys.stderr)
        return 1
    return 0
