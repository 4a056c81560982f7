# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn what the steps of maintenance returned into the rows of one report, as the filter health_table shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
STUCK = "see the finding; what was done stays, and the next run goes on"


def _row(group: str, name: str, findings: Sequence[str], *, failed: bool = False, remedy: str = STUCK) -> Row:
    return {
        "group": group,
        "name": name,
        "status": "failed" if failed else "ok",
        "findings": list(findings),
        "remedy": remedy,
    }


def _why(result: Mapping[str, Any]) -> str:
    return str(result.get("msg") or "the module gave no reason")


def kept_rows(result: Mapping[str, Any]) -> list[Row]:
    """Return a row for each table of role audit_partitions: what was done, or why not."""
    if "results" not in result:
        return [
            _row("partitions", "the partitions are kept", ["role audit_partitions did not get to them"], failed=True)
        ]
    rows = []
    for each in result["results"]:
        table = each["item"]["table"]
        if "created" not in each:
            rows.append(_row("partitions", f"{table} is kept", [_why(each)], failed=True))
            continue
        done = [f"made {new['name']}" for new in each["created"]]
        done += [f"ended the interrupted detaching of {name}" for name in each.get("finalized", [])]
        done += [f"{gone['name']} left" for gone in each.get("left", [])]
        done += [
            f"archived {one['partition']}: {one['rows']} rows, SHA-256 {one['sha256']}"
            + ("" if one["dropped"] else "; held, so the table stays")
            for one in each.get("archived", [])
        ]
        done += [f"{one['partition']} was given {', '.join(one['what'])}" for one in each.get("carried", [])]
        done += [f"{one['what']} index {one['index']} of {one['partition']}" for one in each.get("repaired", [])]
        done += [f"moved {name} to its tablespace" for name in each.get("moved", [])]
        done += [f"{one['partition']} is held: {one['reason']} ({one['owner']})" for one in each.get("held", [])]
        rows.append(_row("partitions", f"{table} is kept, until {each['covered_until']}", done))
    return rows


def purged_rows(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each table whose expired rows were taken out."""
    rows = []
    for each in results:
        name = f"{each['item']['table']} is purged by policy"
        if "purged" not in each:
            rows.append(_row("purge", name, [_why(each)], failed=True))
            continue
        done = [
            f"{one['rows']} rows of {one['partition']} "
            + (f"went to {one['table']}" if one["table"] else "were deleted for good")
            for one in each["purged"]
        ]
        done += [f"archived {one['partition']}: {one['rows']} rows" for one in each["archived"]]
        rows.append(_row("purge", name, done))
    return rows


def copied_rows(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each table whose closed partitions are copied into the archive, and stay."""
    rows = []
    for each in results:
        name = f"{each['item']['table']} is in the archive as its policies want it"
        if "copied" not in each:
            rows.append(_row("copies", name, [_why(each)], failed=True))
            continue
        done = [
            f"copied {one['partition']}"
            + ("" if one["archive"] is None else f": {one['rows']} rows to {one['archive']}")
            for one in each["copied"]
        ]
        if each["waiting"]:
            done.append(f"{each['waiting']} partitions are left to the next runs")
        rows.append(_row("copies", f"{name} ({each['copies']} partitions)", done))
    return rows


def seal_rows(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each table whose closed partitions are sealed."""
    rows = []
    for each in results:
        name = f"closed partitions of {each['item']['table']} are sealed"
        if "sealed" in each:
            done = [f"sealed {one['partition']}" for one in each["sealed"]]
            rows.append(_row("seals", name, done))
        else:
            rows.append(_row("seals", name, [_why(each)], failed=True))
    return rows


def verified_rows(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each table whose sealed partitions were read again."""
    rows = []
    for each in results:
        verified = each.get("verified")
        name = f"{each['item']['table']}: sealed rows are what they were"
        if verified is None:
            rows.append(_row("seals", name, [_why(each)], failed=True))
            continue
        broken = [one for one in verified if one["status"] in ("changed", "missing")]
        found = [f"{one['partition']}: {one['explanation']}" for one in broken]
        found += [f"{one['partition']}: {one['late_rows']} late rows" for one in verified if one["status"] == "late"]
        remedy = "keep what is there, and compare the named rows with a backup or an archive"
        rows.append(_row("seals", f"{name} ({len(verified)} partitions)", found, failed=bool(broken), remedy=remedy))
    return rows


def found_rows(result: Mapping[str, Any]) -> list[Row]:
    """Return a row for each table that was looked at: how far it reaches, what it holds, and what is recommended."""
    if "tables" not in result:
        return [_row("outlook", "the partitions can be looked at", [_why(result)], failed=True)]
    rows = []
    for table in result["tables"]:
        if table["problem"]:
            rows.append(_row("outlook", f"{table['table']} can be looked at", [table["problem"]], failed=True))
            continue
        size = sum(each["size_bytes"] or 0 for each in table["partitions"])
        count = f"{len(table['partitions'])} partitions, {table['headroom']} of them ahead"
        name = f"{table['table']}: {count}, {size / 1048576:.1f} MiB"
        strays = [
            f"{each['rows']} rows of no declared time, {each['first']} to {each['last']}"
            for each in table.get("default_ranges") or []
        ]
        rows.append(_row("outlook", name, strays))
    return rows


def maintenance_rows(found: Mapping[str, Any]) -> list[Row]:
    """Return all rows from the results of the steps, by name: partitions, purged, copied, sealed, verified, found."""
    return [
        *kept_rows(found["partitions"]),
        *purged_rows(found["purged"]),
        *copied_rows(found["copied"]),
        *seal_rows(found["sealed"]),
        *verified_rows(found["verified"]),
        *found_rows(found["found"]),
    ]


class FilterModule:
    """The filter of the maintenance report."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by name."""
        return {"maintenance_rows": maintenance_rows}
