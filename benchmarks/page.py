"""The page of all benchmarks, docs/benchmarks.md: each writes its own part of it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"


def measured(name: str) -> str:
    """Return the sentence that says when, of what, by `make bench-NAME` and on which machine it was measured."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} at commit {commit.strip()} by `make bench-{name}`: "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, Python {platform.python_version()}."
    )


def write_part(name: str, heading: str, text: str, page: Path = PAGE) -> None:
    """Write what `make bench-NAME` has measured where it stands; the first time, at the end, below its heading."""
    begin, end = f"<!-- measured by make bench-{name} -->", f"<!-- end of {name} -->"
    known = page.read_text()
    if begin not in known:
        known = f"{known.rstrip()}\n\n## {heading}\n\n{begin}\n{end}\n"
    head, rest = known.split(begin)
    page.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")
