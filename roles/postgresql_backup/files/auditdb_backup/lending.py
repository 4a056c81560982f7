# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database host lends itself to the pgBackRest of its backup host: to be read, and no more.

pgBackRest's protocol can also write files, remove them and run SQL. So its key's account does not run it: it hands the
connection to a service that systemd keeps from writing anywhere, and that reaches the server as the role of backups.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
from pathlib import Path

from .errors import BackupError
from .processes import ENVIRONMENT

PGBACKREST = "/usr/bin/pgbackrest"
LINE_BYTES = 1 << 16
COMMANDS = ("backup:remote", "check:remote", "stanza-create:remote")
# What differs from one connection to the next. All else is said here, whatever was asked for.
OPTIONS = {"process": re.compile(r"[0-9]{1,3}"), "exec-id": re.compile(r"[0-9a-f-]{1,40}")}
FIXED = ("--log-level-console=off", "--log-level-file=off", "--log-level-stderr=error", "--remote-type=pg")
REFUSED = b"\1"


def allowed(asked: str, configuration: Path, stanza: str) -> list[str]:
    """Return what is run where a backup host has asked for this; raise BackupError where it is nothing to be lent."""
    try:
        words = shlex.split(asked)
    except ValueError as error:
        raise BackupError(f"'{asked}' is no command: {error}", f"ask for one of: {', '.join(COMMANDS)}") from error
    options = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))
    command = words[-1] if words else ""
    if command not in COMMANDS or options.get("remote-type") != "pg" or options.get("stanza") != stanza:
        raise BackupError(f"'{asked}' is nothing that can be asked for", f"ask for one of: {', '.join(COMMANDS)}")
    chosen = [f"--{name}={options[name]}" for name, form in OPTIONS.items() if form.fullmatch(options.get(name, ""))]
    return [PGBACKREST, f"--config={configuration}", f"--stanza={stanza}", *FIXED, *chosen, command]


def hand(path: Path) -> int:
    """Hand standard input, output and error to the service behind the socket; return once it has ended."""
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as service:
        service.connect(str(path))
        socket.send_fds(service, [asked.encode() + b"\n"], [0, 1, 2])
        nothing = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1):  # or the other end would not learn that the service has closed its own
            os.dup2(nothing, each)
        return 1 if service.recv(1) == REFUSED else 0


def lend(configuration: Path, stanza: str) -> int:
    """Become what was asked for over the socket that is standard input, on what was handed over."""
    # Stays open for as long as pgBackRest runs: whoever has handed over sees its end.
    service = socket.socket(fileno=os.dup(0))
    service.set_inheritable(True)
    asked, handed, _flags, _address = socket.recv_fds(service, LINE_BYTES, 3)
    for each, descriptor in enumerate(handed):
        os.dup2(descriptor, each)
        os.close(descriptor)
    try:
        argv = allowed(asked.decode(), configuration, stanza)
    except BackupError:
        service.send(REFUSED)
        raise
    os.execve(PGBACKREST, argv, {**os.environ, **ENVIRONMENT})
