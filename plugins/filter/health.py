# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn what the modules found into the rows of one health report, and the rows into a table for people."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
WIDTH = 118
MAIN_LEDGER = "schema_migrations"
SHOWN = {"ok": "ok", "failed": "FAILED", "unknown": "unknown", "skipped": "skipped"}


def _row(group: str, name: str, findings: Sequence[str], remedy: str, status: str | None = None) -> Row:
    return {
        "group": group,
        "name": name,
        "status": status or ("failed" if findings else "ok"),
        "findings": list(findings),
        "remedy": remedy,
    }


def _broken(result: Mapping[str, Any], key: str) -> list[str]:
    """Return why a module could not look, as findings: what it always returns, ``key``, is not there.

    Its ``failed`` tells nothing, for the role goes on after a failure.
    """
    return [] if key in result else [f"could not look: {result.get('msg') or 'the module gave no reason'}"]


def migration_rows(result: Mapping[str, Any]) -> list[Row]:
    """Return the rows of one ledger of migrations; ``item`` names it, as the role's loop did."""
    table = (result.get("item") or {}).get("table", MAIN_LEDGER)
    ledger = "" if table == MAIN_LEDGER else f" ({table})"
    broken = _broken(result, "current_version")
    edited = [
        f"{each['file']} was edited: SHA-256 {each['ledger']} -> {each['found']}"
        for each in result.get("mismatched", [])
    ]
    stopped = [f"{each['version']} stopped at statement {each['statement']}" for each in result.get("unfinished", [])]
    return [
        _row(
            "migrations",
            f"migration conflicts: the files are those that were applied{ledger}",
            broken or edited + [f"{name} has no file" for name in result.get("missing", [])],
            "restore the files; put changes into new migrations",
        ),
        _row(
            "migrations",
            f"every migration is applied{ledger}",
            broken or stopped + list(result.get("pending", [])),
            "run playbooks/migrate.yml",
        ),
    ]


def partition_rows(result: Mapping[str, Any]) -> list[Row]:
    """Return a row for each partitioned table."""
    broken = _broken(result, "tables")
    if broken:
        return [_row("partitions", "the partitioned tables can be looked at", broken, "see the finding")]
    rows = []
    for table in result.get("tables", []):
        findings = [table["problem"]] if table["problem"] else []
        findings += [
            f"no partition from {each['from']} to {each['to']}" if each["from"] else "no default partition"
            for each in table["missing"]
        ]
        findings += [f"the detaching of {name} was interrupted" for name in table.get("detach_pending", [])]
        name = f"{table['table']} is partitioned, with partitions ahead of now"
        rows.append(_row("partitions", name, findings, "run playbooks/site.yml"))
        if table.get("default_partition"):
            rows.append(_quarantine_row(table))
    return rows


def _quarantine_row(table: Mapping[str, Any]) -> Row:
    """Return the row that says what the default partition holds: it is accepted, and somebody should look at it."""
    held = [f"{each['rows']} from {each['first']} to {each['last']}" for each in table.get("default_ranges", [])]
    name = f"{table['table']}: rows of no declared time, kept in {table['default_partition']}, are said"
    return _row(
        "partitions", name, held, "see which clocks are wrong; choose an earlier start to keep late rows by time", "ok"
    )


def drift_row(result: Mapping[str, Any], name: str) -> list[Row]:
    """Return the row of a declaring module that ran in check mode, and a row for each thing that it had to skip."""
    # Not by its ``changed``, which the role keeps false: health changes nothing.
    findings = _broken(result, "queries") or [str(query) for query in result["queries"]]
    if result.get("changed"):
        findings = findings or ["something would be changed"]
    return [
        _row("access", name, findings, "run playbooks/site.yml"),
        *note_rows(result.get("skipped_rights", [])),
    ]


def note_rows(notes: Sequence[Mapping[str, str]]) -> list[Row]:
    """Return a row for each thing that the roles noted they may not do."""
    return [_row("access", f"not done: {each['what']}", [each["reason"]], each["remedy"], "skipped") for each in notes]


def check_rows(result: Mapping[str, Any], *, managed: bool) -> list[Row]:
    """Return the rows of postgresql_check; on somebody else's server, what is wrong with it is noted."""
    broken = _broken(result, "results")
    if broken:
        return [_row("server", "the database answers", broken, "see the finding")]
    rows = []
    for each in result.get("results", []):
        status = each["status"]
        if each["group"] == "server" and not managed and status in ("failed", "unknown"):
            status = "skipped"
        rows.append(_row(each["group"], each["name"], each["findings"], each["remedy"], status))
    return rows


def backup_rows(told: Mapping[str, Any]) -> list[Row]:
    """Return the rows of postgresql_backup_info; none where nobody asked it."""
    name = "WAL is archived, backups are taken, verified and on time"
    if not told or told.get("skipped"):
        return []
    if told.get("installed") is False:
        return [_row("backups", name, ["no backups are set up"], "run playbooks/backup.yml", "skipped")]
    findings = _broken(told, "problems") or list(told["problems"])
    return [_row("backups", name, findings, "see auditdb-backup status on the host")]


def health_rows(found: Mapping[str, Any], managed: bool = True) -> list[Row]:
    """Return all rows from the results of the modules, by name: checks, migrations, partitions, roles, grants.

    ``migrations`` is a list, one result a ledger; where there is none, nobody looked.
    """
    rows = [
        *check_rows(found["checks"], managed=managed),
        *[row for ledger in found["migrations"] or [{}] for row in migration_rows(ledger)],
        *partition_rows(found["partitions"]),
        *drift_row(found["roles"], "roles, memberships and passwords are as declared"),
        *drift_row(found["grants"], "everybody has the declared rights and no others"),
        *backup_rows(found.get("backups", {})),
        *note_rows(found.get("notes", [])),
        *found.get("more", []),
    ]
    return list({(row["group"], row["name"]): row for row in reversed(rows)}.values())[::-1]


def health_summary(rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of rows by status."""
    counts = Counter(row["status"] for row in rows)
    return {status: counts.get(status, 0) for status in SHOWN}


def health_verdict(rows: Sequence[Row]) -> str:
    """Return ``ok`` only where everything that had to be proven is: otherwise ``failed`` or ``unproven``."""
    counts = health_summary(rows)
    return "failed" if counts["failed"] else "unproven" if counts["unknown"] else "ok"


def health_table(rows: Sequence[Row]) -> str:
    """Return the rows as a table; under each its findings, and its remedy where it does not hold."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    wide = max((len(group) for group in groups), default=0)
    lines = []
    for group in groups:
        for row in (row for row in rows if row["group"] == group):
            lines.append(f"{SHOWN[row['status']]:<8} {group:<{wide}}  {row['name']}")
            for finding in row["findings"][:10]:
                lines += textwrap.wrap(finding, WIDTH, initial_indent=" " * 11 + "- ", subsequent_indent=" " * 13)
            if len(row["findings"]) > 10:
                lines.append(" " * 11 + f"- and {len(row['findings']) - 10} more, in the evidence")
            if row["remedy"] and row["status"] != "ok":
                lines += textwrap.wrap(
                    f"remedy: {row['remedy']}", WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 13
                )
    counts = health_summary(rows)
    lines.append(", ".join(f"{count} {SHOWN[status]}" for status, count in counts.items() if count))
    return "\n".join(lines)


def canonical_json(value: Any) -> str:
    """Return the value as canonical JSON: sorted keys, no white space, UTF-8, one way to write each thing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


class FilterModule:
    """The filters of the health report."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "canonical_json": canonical_json,
            "health_rows": health_rows,
            "health_summary": health_summary,
            "health_table": health_table,
        }
