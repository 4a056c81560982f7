"""The page and the plots of the figures on partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chart import pyplot, save
from page import measured, write_part

OURS, THEIRS = "#1b6ca8", "#c25b1e"


def seconds(value: float | None) -> str:
    """Return a time as the tables have it."""
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def verdict(kept: bool, promise: str) -> str:
    """Return a promise, and whether it was kept."""
    return f"{promise}: {'kept' if kept else 'MISSED'}"


def lines(rows: list[list[str]]) -> list[str]:
    """Return a table."""
    head, *rest = rows
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rest]] + [""]


def create(found: dict[str, Any]) -> list[str]:
    """Return the table of creations."""
    rows = [["PostgreSQL", "partitions", "indexes", "ours", "pg_partman", "ratio", "promised"]]
    for version, figures in found.items():
        per = {}
        for row in [*figures["create"], *figures["create raised"]]:
            theirs = row["partman"]
            name = f"{row['partitions']:,}" + (", more locks" if row["locks"] == "raised" else "")
            ratio = f"{theirs / row['ours']:.2f}" if theirs else "-"
            promise = verdict(row["ours"] <= theirs, "at most pg_partman's") if theirs else "works at default settings"
            refused = "refused: out of shared memory" if row["partman refused"] else seconds(theirs)
            rows.append([version, name, str(row["indexes"]), seconds(row["ours"]), refused, ratio, promise])
            per.setdefault(row["partitions"], (row["ours"] / row["partitions"], 3 + row["indexes"]))
        first = figures["create"][0]
        loop = figures["loop"]
        plain = first["floor"]
        rows.append(
            [version, "90", "15", seconds(first["ours"]), f"{seconds(plain)} (as many tables, not partitioned)",
             f"{plain / first['ours']:.2f}", verdict(first["ours"] <= 2 * plain, "at most twice as long")]
        )  # fmt: skip
        kept = verdict(loop >= 10 * first["ours"], "10 times")
        rows.append(
            [
                version,
                "90",
                "15",
                seconds(first["ours"]),
                f"{seconds(loop)} (Ansible loop)",
                f"{loop / first['ours']:.1f}",
                kept,
            ]
        )
        most, least = max(per), min(per)
        growth = per[most][0] / per[least][0]
        relation = growth * per[least][1] / per[most][1]
        told = f"{growth:.2f} times as long a partition, {relation:.1f} times a table or index"
        rows.append(
            [version, f"{most:,} beside {least}", "", told, "", "", verdict(growth <= 2, "2 times a partition")]
        )
    return lines(rows)


def again(found: dict[str, Any]) -> list[str]:
    """Return the table of runs that change nothing."""
    rows = [["PostgreSQL", "partitions", "statements", "in SQL", "whole module", "run_maintenance", "promised"]]
    for version, figures in found.items():
        for row in figures["again"]:
            kept = row["statements"] <= 10 and row["sql"] <= 0.05
            rows.append(
                [version, f"{row['partitions']:,}", str(row["statements"]), seconds(row["sql"]), seconds(row["whole"]),
                 seconds(row["partman"]), verdict(kept, "10 statements, 50 ms of SQL")]
            )  # fmt: skip
        rows.append(
            [version, "5,000", "", "", f"{figures['memory']:.0f} MB", "", verdict(figures["memory"] < 150, "150 MB")]
        )
    return lines(rows)


def live(found: dict[str, Any]) -> list[str]:
    """Return the tables of what an application notices."""
    rows = [["PostgreSQL", "what", "with", "took", "worst answer", "exclusive lock", "WAL", "promised"]]
    for version, figures in found.items():
        left = figures["leave"]
        for tool in ("ours", "partman"):
            one = left[tool]
            kept = verdict(one["worst"] <= 0.25, "200 ms lock_timeout + 50 ms") if tool == "ours" else ""
            took = seconds(one["seconds"])
            rows.append([version, "1,000 partitions leave", tool, took, seconds(one["worst"]), "", "", kept])
        for tool in ("ours", "split", "partman"):
            one = figures["convert"][tool]
            what = "its old rows split by month" if tool == "split" else "table converted"
            kept = ""
            if tool == "ours":
                # The application asks without a pause: nothing kept it out for longer than its worst answer.
                good = (
                    min(one["locked"], one["worst"]) <= 0.1
                    and one["seconds"] * 4 <= figures["convert"]["partman"]["seconds"]
                )
                kept = verdict(good, "0.1 s of lock, a quarter of pg_partman's time")
            wal = f"{one['wal_bytes'] / 1e9:.2f} GB"
            locked = seconds(one["locked"]) if one["locked"] else ""
            rows.append(
                [
                    version,
                    what,
                    tool.replace("split", "ours"),
                    seconds(one["seconds"]),
                    seconds(one["worst"]),
                    locked,
                    wal,
                    kept,
                ]
            )
    return lines(rows)


def plots(found: dict[str, Any], directory: Path) -> list[str]:
    """Draw the plots, and return the lines that show them."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(9, 3.2))
    for version, figures in found.items():
        style = "-o" if version == "17" else "--s"
        rows = figures["create"]
        left.plot(
            [r["partitions"] for r in rows], [r["ours"] for r in rows], style, color=OURS, label=f"ours, {version}"
        )
        theirs = [r for r in [*rows, *figures["create raised"]] if r["partman"]]
        left.plot(
            [r["partitions"] for r in theirs],
            [r["partman"] for r in theirs],
            style,
            color=THEIRS,
            label=f"pg_partman, {version}",
        )
    left.set(xscale="log", yscale="log", xlabel="partitions (15, 3, 1 indexes)", ylabel="s", title="Create")
    left.legend(fontsize=7)
    names, values, colours = [], [], []
    for version, figures in found.items():
        for tool, colour in (("ours", OURS), ("partman", THEIRS)):
            names += [f"leave\n{version}", f"convert\n{version}"]
            values += [figures["leave"][tool]["worst"], figures["convert"][tool]["worst"]]
            colours += [colour, colour]
    right.bar(range(len(names)), values, color=colours)
    right.set_xticks(range(len(names)), names, fontsize=7)
    right.set(yscale="log", ylabel="s", title="Worst answer to the application")
    save(figure, directory / "partitions.svg")
    return ["![times to create, and worst answers](partitions.svg)", ""]


def write(found: dict[str, Any], directory: Path) -> None:
    """Write the section into the page."""
    partmans = ", ".join(f"{each['partman']} on {version}" for version, each in found.items())
    text = [
        f"{measured('partitions')} Containers, fsync off; pg_partman {partmans}, Debian's packages.",
        "",
        *plots(found, directory),
        *create(found),
        *again(found),
        *live(found),
    ]
    # Its last line is empty.
    write_part("partitions", "Partitions", "\n".join(text[:-1]), directory / "benchmarks.md")
