# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scratch instance: a copy that runs alone, of a moment or of a logical backup, and is gone afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from . import alone, contents, recover
from .backup import DAMAGED, Backup
from .configuration import Configuration
from .encryption import unseal
from .engine import Engine, Request
from .errors import BackupError
from .logical_backup import GLOBALS, file_name
from .packing import check
from .postgres import Server
from .processes import run
from .repository import Repository

DATA = "data"
SECONDS = 600


@contextlib.contextmanager
def held(place: Path) -> Iterator[None]:
    """Hold the directory; raise BackupError where another run works in it."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BackupError(f"{place}: {error.strerror}", "make it a directory that is yours alone") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BackupError(f"another run works in {place}", "wait for it to end") from None
    finally:
        os.close(descriptor)


def discard(settings: Configuration, place: Path) -> None:
    """Stop what runs there, and remove all that a scratch instance is made of."""
    alone.stop(settings, place / DATA)
    for name in (DATA, f"{DATA}.restoring", "dump", "sql"):
        path = place / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def of_moment(settings: Configuration, engine: Engine, request: Request, seconds: int) -> Iterator[Configuration]:
    """Yield how to reach an instance that has recovered to the target."""
    place = request.directory.parent
    discard(settings, place)
    try:
        engine.restore(request)
        recover.recover(settings, request.directory, seconds)
        with alone.running(settings, request.directory, seconds, alone.configuration_of(settings), {}) as server:
            yield replace(settings, host=str(server.socket), port=alone.PORT)
    finally:
        discard(settings, place)


@contextlib.contextmanager
def of_dump(
    settings: Configuration, backup: Backup, place: Path, identity: Path, databases: Sequence[str]
) -> Iterator[Configuration]:
    """Yield how to reach a new instance into which the databases of a logical backup were loaded."""
    discard(settings, place)
    data = place / DATA
    try:
        argv = [str(settings.bin / "initdb"), f"--pgdata={data}", f"--username={settings.user}", "--no-sync"]
        run([*argv, "--encoding=UTF8", "--locale=C.UTF-8", "--auth=peer"])
        with alone.running(settings, data, SECONDS, alone.configuration_of(settings), {}) as server:
            found = replace(settings, host=str(server.socket), port=alone.PORT)
            _load_globals(found, backup, place, identity)
            for database in databases:
                _load(found, backup, database, place, identity)
            yield found
    finally:
        discard(settings, place)


def prove(settings: Configuration, backup: Backup, place: Path, identity: Path) -> None:
    """Load a logical backup into an instance of its own; raise BackupError where it is not what was dumped."""
    with of_dump(settings, backup, place, identity, backup.databases) as found:
        for database in backup.databases:
            name = file_name(database, "rows")
            if name not in {each.name for each in backup.artefacts}:
                continue  # taken before rows were counted: that it loads is all that can be proven
            noted = io.BytesIO()
            _unseal(settings, backup, name, noted, identity)
            with Server(found).connect(database) as cursor:
                wrong = contents.differences({"rows": json.loads(noted.getvalue())}, {"rows": contents.rows(cursor)})
            if wrong:
                raise BackupError(f"backup {backup.id}: database {database}: {'; '.join(wrong)}", DAMAGED)


def _unseal(settings: Configuration, backup: Backup, name: str, target: io.BufferedIOBase, identity: Path) -> None:
    directory = Repository(settings.repository).backups / backup.id
    (artefact,) = (each for each in backup.artefacts if each.name == name)
    check(directory, artefact)
    with (directory / name).open("rb") as source:
        sealed = unseal(source, target, identity)  # type: ignore[arg-type]
    if sealed.plain_sha256 != artefact.plain_sha256:
        raise BackupError(f"backup {backup.id}: {name} is not what was stored", DAMAGED)


def globals_for(user: str, text: str) -> str:
    """Return the globals without what a new instance has already, and without tablespaces: those are the original's."""
    skipped = (f"CREATE ROLE {user};", "CREATE TABLESPACE ", "ALTER TABLESPACE ", "GRANT ALL ON TABLESPACE ")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(skipped))


def _load_globals(settings: Configuration, backup: Backup, place: Path, identity: Path) -> None:
    content = io.BytesIO()
    _unseal(settings, backup, GLOBALS, content, identity)
    path = place / "sql"
    path.touch(mode=0o600)
    path.write_text(globals_for(settings.user, content.getvalue().decode()))
    argv = [
        str(settings.bin / "psql"),
        *Server(settings).options,
        "-XqAt",
        "--set=ON_ERROR_STOP=1",
        "--dbname=postgres",
    ]
    run([*argv, f"--file={path}"])
    path.unlink()


def _load(settings: Configuration, backup: Backup, database: str, place: Path, identity: Path) -> None:
    dump = place / "dump"
    dump.touch(mode=0o600)
    with dump.open("wb") as target:
        _unseal(settings, backup, file_name(database, "dump"), target, identity)
    # From template1, so that the database postgres, which a new instance has, is made anew like the others.
    argv = [str(settings.bin / "pg_restore"), *Server(settings).options, "--dbname=template1", "--create", "--clean"]
    run([*argv, "--if-exists", "--no-tablespaces", "--exit-on-error", str(dump)])
    dump.unlink()
