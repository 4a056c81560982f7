# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd journal as events: how ``journalctl`` is called, and what each of its JSON lines becomes."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_event import (
    NUL,
    Event,
    NotAnEventError,
    make_event,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WORST_SUCCESS = 4  # priorities 0 (emerg) to 3 (err) report failures, 4 (warning) to 7 (debug) do not
BYTES = range(256)
Fields = Mapping[str, Any]


def text_of(value: Any) -> str | None:
    """Return a field's text: bytes decoded, a repeated field's values as lines, None for a value left out."""
    if value is None:
        return None
    if isinstance(value, list):
        if value and all(isinstance(item, int) and item in BYTES for item in value):
            return bytes(value).decode("utf-8", "backslashreplace")
        return "\n".join(text for text in map(text_of, value) if text is not None)
    return value if isinstance(value, str) else json.dumps(value)


def first_text(fields: Fields, *names: str) -> str | None:
    """Return the text of the first of these fields that has one. Characters NUL are none: PostgreSQL stores none."""
    return next((text for text in (text_of(fields.get(name)) for name in names) if text and text.strip(NUL)), None)


def time_of(fields: Fields) -> datetime:
    """Return when it happened: the sender's own trusted time, else the time of the journal's reception."""
    for name in ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"):
        try:
            return EPOCH + timedelta(microseconds=int(text_of(fields.get(name)) or ""))
        except (OverflowError, ValueError):
            continue
    raise NotAnEventError("it has no __REALTIME_TIMESTAMP")


def status_of(fields: Fields) -> str:
    """Return attempt, success or failure.

    A unit's job counts first: begun is an attempt, ``done`` or ``skipped`` a success, any other result a failure.
    Otherwise the priority decides. An entry with neither says nothing about an outcome: an attempt.
    """
    result = text_of(fields.get("JOB_RESULT"))
    if result:
        return "success" if result in ("done", "skipped") else "failure"
    priority = text_of(fields.get("PRIORITY"))
    if fields.get("JOB_TYPE") or priority not in tuple("01234567"):
        return "attempt"
    return "success" if int(priority) >= WORST_SUCCESS else "failure"


def principal_of(fields: Fields, users: Mapping[int, str]) -> str:
    """Return who acted: the user's name if this host knows it, else ``uid:N``, else the program or the transport."""
    uid = text_of(fields.get("_UID"))
    if uid and uid.isascii() and uid.isdigit():
        return users.get(int(uid[:20]), f"uid:{uid}")
    return first_text(fields, "_COMM", "_TRANSPORT", "SYSLOG_IDENTIFIER") or "unknown"


def target_of(fields: Fields, host: str) -> tuple[str, str]:
    """Return type and id of what was acted upon: the unit the entry is about or comes from, a device, or the host."""
    unit = first_text(fields, "UNIT", "USER_UNIT", "OBJECT_SYSTEMD_UNIT", "_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT")
    if unit:
        return "systemd.unit", unit
    device = first_text(fields, "_KERNEL_DEVICE")
    return ("kernel.device", device) if device else ("host", first_text(fields, "_HOSTNAME") or host)


def parse_line(line: bytes | str, host: str, users: Mapping[int, str]) -> tuple[Event, str]:
    """Return a journal line's event and cursor; raise NotAnEventError if it is not an entry of a journal."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise NotAnEventError("it is not a JSON object")
        cursor = fields.get("__CURSOR")
        if not isinstance(cursor, str) or not cursor.isascii() or not cursor.isprintable() or not cursor:
            raise NotAnEventError("it has no __CURSOR")
        resource_type, resource_id = target_of(fields, host)
        sender = first_text(fields, "SYSLOG_IDENTIFIER", "_COMM", "_TRANSPORT") or "unknown"
        event = make_event(
            timestamp=time_of(fields),
            names={
                "principal_id": principal_of(fields, users),
                "action": f"journal.{sender}",
                "target_resource_type": resource_type,
                "target_resource_id": resource_id,
            },
            status=status_of(fields),
            outcome_description=text_of(fields.get("MESSAGE")),
            correlation_id=first_text(fields, "INVOCATION_ID", "_SYSTEMD_INVOCATION_ID", "_BOOT_ID"),
            details={**fields, "source": "journal", "host": host},
        )
    except NotAnEventError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotAnEventError(f"it is not JSON: {error}") from error
    return event, cursor


def journalctl_command(cursor: str | None, until: datetime | None, directory: str | None) -> list[str]:
    """Return the command that prints the entries from the cursor's own on, complete, oldest first.

    ``--after-cursor`` will not do: when the cursor's entry has been vacuumed, systemd 252 (Debian 12) drops the next
    entry in its place. So the cursor's entry is asked for too, and skipped here if it is still there.
    """
    # --all: without it, fields above 4 KiB are printed as null.
    command = ["journalctl", "--output=json", "--all", "--no-pager", "--quiet"]
    if directory:
        command.append(f"--directory={directory}")
    if until:
        command.append(f"--until=@{until.timestamp():.6f}")
    if cursor:
        command.append(f"--cursor={cursor}")
    return command


def read_journal(
    host: str, cursor: str | None, *, until: datetime | None, directory: str | None, users: Mapping[int, str]
) -> Iterator[tuple[Event, str]]:
    """Yield each entry after the cursor as (event, its cursor)."""
    command = journalctl_command(cursor, until, directory)
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)  # a stream: not run_command
        except FileNotFoundError as error:
            raise PostgresqlError(
                "journalctl is not installed on this host", remedy="leave journal out of the option sources"
            ) from error
        with process:
            line = b""
            try:
                for line in process.stdout or ():
                    event, position = parse_line(line, host, users)
                    if position != cursor:
                        yield event, position
            except NotAnEventError as error:
                process.terminate()
                raise PostgresqlError(
                    f"journalctl printed a line that is no journal entry ({error}): {line[:200]!r}",
                    remedy="what came before it is loaded; check the journal with journalctl --verify, then run again",
                ) from error
            except BaseException:  # the reader gave up
                process.terminate()
                raise
        if process.returncode:
            errors.seek(0)
            raise PostgresqlError(
                f"journalctl ended with {process.returncode}: {errors.read().decode('utf-8', 'replace').strip()}",
                remedy="run the same command by hand: " + " ".join(command),
            )
