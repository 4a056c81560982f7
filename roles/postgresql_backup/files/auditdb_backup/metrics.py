# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status in the format of Prometheus' node exporter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PREFIX = "auditdb_backup"


def render(report: Mapping[str, Any]) -> str:
    """Return the metrics of a status. What is unknown is left out, so that an alert on its absence fires."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    cluster = f'cluster="{report["cluster"]}"'
    single: list[tuple[str, str, Any]] = [
        ("rpo_seconds", "Seconds of commits that would be lost now.", report["rpo"]),
        ("rpo_stream_seconds", "Seconds of commits that were not received as they were written.", report["rpo_stream"]),
        ("rpo_archive_seconds", "Seconds of commits that are not in the archive.", report["rpo_archive"]),
        ("newest_age_seconds", "Seconds since the newest backup ended.", report["newest_backup_age"]),
        ("problems", "Problems that auditdb-backup status lists.", len(report["problems"])),
        ("notices", "Notices of the newest backup, such as a standby that was passed over.", len(report["notices"])),
        ("bytes", "Bytes of all backups.", report["bytes"]),
        ("wal_segments", "Archived WAL segments.", report["wal"]["segments"]),
        ("wal_missing", "WAL segments that are missing, at most 100.", len(report["wal"]["missing"])),
        ("wal_ready", "WAL segments that wait for the archiver.", (report["archiver"] or {}).get("ready")),
        ("verified", "Backups that were read again without a finding.", report["verified"]),
        ("restored", "Backups that a restore has proven.", report["restored"]),
    ]
    for name, text, value in single:
        if value is not None:
            yield from (f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} gauge")
            yield f"{PREFIX}_{name}{{{cluster}}} {value}"
    ages = {name: job["age"] for name, job in report["jobs"].items() if job["age"] is not None}
    if ages:
        name = f"{PREFIX}_job_age_seconds"
        yield from (f"# HELP {name} Seconds since the job last succeeded.", f"# TYPE {name} gauge")
        yield from (f'{name}{{{cluster},job="{job}"}} {value}' for job, value in ages.items())
