# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dpkg log as events: its lines, its rotated files, and a cursor that survives rotation."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_event import Event, make_event

LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S+)(?: (.*))?", re.ASCII | re.DOTALL)
# dpkg logs what it begins and each state it reaches. These three states are where a package comes to rest.
RESTING_STATES = ("installed", "config-files", "not-installed")
PACKAGE_VERBS = ("install", "upgrade", "configure", "trigproc", "disappear", "remove", "purge")

Offsets = dict[str, int]  # identity of a file -> how many of its bytes are loaded


@dataclass(frozen=True)
class LogFile:
    """One file of the log. ``identity`` is the SHA-256 of its first line, which rotation does not change."""

    path: Path
    identity: str

    def open(self) -> IO[bytes]:
        """Open for reading; a compressed file is read as what it holds."""
        return _open(self.path)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def find_files(log: Path) -> list[LogFile]:
    """Return the log and its rotated files, oldest first; a file without a whole line yet is left out."""
    pattern = re.compile(re.escape(log.name) + r"(?:\.(\d+)(?:\.gz)?)?")
    found: dict[str, tuple[int, LogFile]] = {}
    # Sorted: dpkg.log.2 before dpkg.log.2.gz, so that a file being compressed is read from its whole original.
    for path in sorted(log.parent.glob(f"{log.name}*")):
        match = pattern.fullmatch(path.name)
        if not match:
            continue
        try:
            with _open(path) as stream:
                first = stream.readline()
        except (EOFError, gzip.BadGzipFile) as error:
            raise PostgresqlError(
                f"{path} is damaged: {error}", remedy="restore the file, or move it away to do without it"
            ) from error
        except FileNotFoundError:  # rotated since: its new name is found now or next time
            continue
        if first.endswith(b"\n"):
            identity = hashlib.sha256(first).hexdigest()
            found.setdefault(identity, (int(match[1] or 0), LogFile(path, identity)))
    return [file for _age, file in sorted(found.values(), key=lambda item: -item[0])]


def read_cursor(cursor: str | None) -> Offsets:
    """Return what a saved cursor says is loaded."""
    return {str(identity): int(offset) for identity, offset in json.loads(cursor or "{}").items()}


def parse_line(line: bytes, *, host: str, zone: tzinfo | None, fallback: datetime) -> Event:
    """Return the event of a line; a line that is not dpkg's own gets the time ``fallback`` and is kept as it is.

    The log holds local time: ``zone`` None is this machine's. In the hour that a clock change repeats, the first one
    is meant, as nothing in the log tells them apart.
    """
    text = line.decode("utf-8", "backslashreplace").rstrip("\n")
    match = LINE.fullmatch(text)
    verb, words = "unparsed", list[str]()
    try:
        if match is None:
            raise ValueError(text)
        timestamp = datetime.fromisoformat(match[1]).replace(tzinfo=zone).astimezone(UTC)
    except (OverflowError, ValueError):
        timestamp = fallback
    else:
        verb, words = match[2], (match[3] or "").split(" ")
    details = {"source": "dpkg", "host": host, "line": text, **_words(verb, words)}
    package, path = details.get("package"), details.get("conffile")
    return make_event(
        timestamp=timestamp,
        names={
            "principal_id": "dpkg",  # the log does not say who called it
            "action": f"dpkg.{verb}",
            "target_resource_type": "package" if package else "file" if path else "host",
            "target_resource_id": package or path or host,
        },
        status="success" if details.get("state") in RESTING_STATES or path else "attempt",
        outcome_description=text,
        correlation_id=None,
        details=details,
    )


def _words(verb: str, words: list[str]) -> dict[str, str]:
    """Return the words after the verb by their meaning (deb-format: ``man dpkg``, option --log)."""
    names: tuple[str, ...] = ()
    if verb == "status" and len(words) == 3:
        names = ("state", "package", "version")
    elif verb in PACKAGE_VERBS and len(words) == 3:
        names = ("package", "installed_version", "version")
    elif verb == "startup" and len(words) == 2:
        names = ("type", "command")
    elif verb == "conffile" and len(words) >= 2:
        return {"conffile": " ".join(words[:-1]), "decision": words[-1]}
    return dict(zip(names, words, strict=False))


def read_log(
    log: Path, host: str, cursor: str | None, *, until: datetime | None, zone: tzinfo | None = None
) -> Iterator[tuple[Event, str]]:
    """Yield each line that the cursor does not cover as (event, cursor after it), file by file, oldest first."""
    offsets = read_cursor(cursor)
    for file in find_files(log):
        for event, end in _read_file(file, offsets.get(file.identity, 0), host, zone):
            if until and event.timestamp > until:
                break
            offsets[file.identity] = end
            yield event, json.dumps(offsets)


def _read_file(file: LogFile, start: int, host: str, zone: tzinfo | None) -> Iterator[tuple[Event, int]]:
    with file.open() as stream:
        previous = datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, UTC)
        end = stream.seek(start)
        for line in stream:
            if not line.endswith(b"\n"):  # being written
                return
            end += len(line)
            event = parse_line(line, host=host, zone=zone, fallback=previous)
            previous = event.timestamp
            yield event, end


def shrunken(log: Path, cursor: str | None) -> list[str]:
    """Return the names of files that are shorter than what was loaded of them: somebody cut them."""
    offsets: Mapping[str, int] = read_cursor(cursor)
    return [
        str(file.path)
        for file in find_files(log)
        if file.path.suffix != ".gz" and file.path.stat().st_size < offsets.get(file.identity, 0)
    ]
