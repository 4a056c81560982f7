"""How long the playbooks take, beside a plain playbook of community.postgresql modules that reaches the same state.

Run: make bench. It makes two throwaway hosts, brings one up with site.yml and the database of the other with
baseline.yml, proves that both databases are alike, times second runs in turn, and writes docs/benchmarks.md.
"""

from __future__ import annotations

import difflib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / ".build/bench/inventory"
PAGE = ROOT / "docs/benchmarks.md"
OURS, PLAIN = "bench-ours", "bench-plain"
HOSTS = f"""---
all:
  children:
    database:
      hosts:
        {OURS}: {{ansible_host: auditdb-{OURS}}}
        {PLAIN}: {{ansible_host: auditdb-{PLAIN}}}
    throwaway:
      children:
        database:
"""
STRATEGIES = {"Mitogen": "mitogen_unpinned", "plain Ansible": "linear"}
ROUNDS = 3
# Seconds that the project promises: (what, with) -> at most.
PROMISES = {
    ("bare host to verified: site.yml", "Mitogen"): 90,
    ("site.yml again", "Mitogen"): 8,
    ("site.yml again", "plain Ansible"): 20,
    ("health.yml", "Mitogen"): 3,
    ("health.yml", "plain Ansible"): 6,
}


@dataclass(frozen=True)
class Run:
    """One run of a playbook: its time, its tasks, and the modules it called (each turn of a loop is one)."""

    seconds: float
    tasks: int
    calls: int
    changed: int


@dataclass(frozen=True)
class Row:
    """One line of the table: the median of the runs."""

    what: str
    strategy: str
    runs: list[Run]

    @property
    def seconds(self) -> float:
        """Return the median."""
        return statistics.median(run.seconds for run in self.runs)

    def cells(self) -> list[str]:
        """Return the line's cells."""
        promise = PROMISES.get((self.what, self.strategy))
        verdict = "" if promise is None else f"{promise} s: {'kept' if self.seconds <= promise else 'MISSED'}"
        times = ", ".join(f"{run.seconds:.1f}" for run in self.runs)
        last = self.runs[-1]
        return [self.what, self.strategy, f"{self.seconds:.1f}", times, *map(str, (last.tasks, last.calls)), verdict]


def ansible(playbook: str, host: str = "", strategy: str = "mitogen_unpinned") -> str:
    """Run a playbook and return what it prints as JSON; stop with all it said when it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_STRATEGY")}
    environment = {
        **clean,
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "ANSIBLE_STRATEGY": strategy,
        "ANSIBLE_STRATEGY_PLUGINS": str(ROOT / "molecule/shared/strategy"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
    }
    command = ["ansible-playbook", "-i", str(INVENTORY), playbook]
    if host:
        command += ["-e", f"audit_hosts={host}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{failures(done.stdout) or done.stdout}\n{done.stderr}")
    return done.stdout


def failures(output: str) -> str:
    """Return what the failed tasks said."""
    plays = json.loads(output[output.index("{") :])["plays"] if "{" in output else []
    return "\n".join(
        f"{task['task']['name']}: {outcome.get('msg')}"
        for play in plays
        for task in play["tasks"]
        for outcome in task["hosts"].values()
        if outcome.get("failed")
    )


def measured(playbook: str, host: str, strategy: str) -> Run:
    """Run a playbook and count what it did."""
    begun = time.monotonic()
    output = ansible(playbook, host, STRATEGIES[strategy])
    seconds = time.monotonic() - begun
    result = json.loads(output[output.index("{") :])
    outcomes = list(results(result))
    calls = sum(called(outcome) for outcome in outcomes)
    print(f"  {playbook:28} {host:12} {strategy:14} {seconds:6.1f} s", flush=True)
    return Run(seconds, len(outcomes), calls, result["stats"][host]["changed"])


def called(outcome: dict[str, Any]) -> int:
    """Return how often a task called its module: in a loop, once for each item that was not skipped."""
    items = [item for item in outcome.get("results", []) if "ansible_loop_var" in item]
    return sum(not item.get("skipped") for item in items) if items else 1


def results(output: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the outcome of every task that was not skipped."""
    for play in output["plays"]:
        for task in play["tasks"]:
            yield from (outcome for outcome in task["hosts"].values() if not outcome.get("skipped"))


def state(host: str) -> list[str]:
    """Return what the catalog of a host's database says, one line each."""
    command = ["docker", "exec", "--interactive", "--user", "postgres", f"auditdb-{host}"]
    command += ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "audit_db"]
    query = (ROOT / "benchmarks/state.sql").read_text()
    return subprocess.run(command, input=query, capture_output=True, text=True, check=True).stdout.splitlines()


def make_hosts() -> None:
    """Make both hosts from nothing, with an inventory of their own."""
    if INVENTORY.exists():
        ansible("molecule/shared/destroy.yml")
        shutil.rmtree(INVENTORY)
    forget = shutil.ignore_patterns("secrets.yml", ".state", "evidence")
    shutil.copytree(ROOT / "inventories/single", INVENTORY, ignore=forget)
    (INVENTORY / "hosts.yml").write_text(HOSTS)
    ansible("molecule/shared/engine.yml")
    ansible("molecule/shared/create.yml")


def compare_states() -> int:
    """Return of how many lines both databases consist; stop if they differ."""
    ours, plain = state(OURS), state(PLAIN)
    difference = list(difflib.unified_diff(plain, ours, PLAIN, OURS, lineterm="", n=0))
    if difference:
        sys.exit("The databases differ, so their times cannot be compared:\n" + "\n".join(difference))
    return len(ours)


def measure() -> tuple[list[Row], int]:
    """Return the table, and of how many lines the state consists that both playbooks reach."""
    first = Row("bare host to verified: site.yml", "Mitogen", [measured("playbooks/site.yml", OURS, "Mitogen")])
    measured("playbooks/server.yml", PLAIN, "Mitogen")
    measured("benchmarks/baseline.yml", PLAIN, "Mitogen")
    lines = compare_states()
    playbooks = {
        "site.yml again": ("playbooks/site.yml", OURS),
        "health.yml": ("playbooks/health.yml", OURS),
        "database.yml again": ("playbooks/database.yml", OURS),
        "baseline.yml again": ("benchmarks/baseline.yml", PLAIN),
    }
    rows = [Row(what, strategy, []) for strategy in STRATEGIES for what in playbooks]
    for _round in range(ROUNDS):
        for row in rows:
            row.runs.append(measured(*playbooks[row.what], row.strategy))
            if row.runs[-1].changed:
                sys.exit(f"{row.what} with {row.strategy} changed something: not a second run")
    compare_states()
    return [first, *rows], lines


def table(rows: list[Row], lines: int) -> str:
    """Return the measured part of the page."""
    head = ["what", "with", "median s", "each", "tasks", "module calls", "promised"]
    body = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *(row.cells() for row in rows))]
    by_name = {(row.what, row.strategy): row for row in rows}
    ratios = []
    for strategy in STRATEGIES:
        plain, ours = (by_name[f"{name}.yml again", strategy] for name in ("baseline", "database"))
        ratios.append(
            f"- {strategy}: {plain.seconds / ours.seconds:.1f} times as long as `database.yml`, "
            f"with {plain.runs[-1].calls} module calls instead of {ours.runs[-1].calls}."
        )
    same = (
        f"`baseline.yml` reaches the same state ({lines} lines of catalog, as `benchmarks/state.sql` reads it). "
        "A second run of it took"
    )
    return "\n".join([circumstances(), "", *body, "", same, "", *ratios])


def circumstances() -> str:
    """Return when, where and how it was measured."""
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20  # type: ignore[index]
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} at commit {commit} by `make bench`: {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, load {os.getloadavg()[0]:.1f} at the end, Python {platform.python_version()}. Hosts: "
        f"Debian 13 containers, PostgreSQL 17. Second runs took turns, {ROUNDS} of each, and changed nothing."
    )


def main() -> None:
    """Measure, print and write."""
    make_hosts()
    try:
        rows, lines = measure()
    finally:
        if "--keep" not in sys.argv:
            ansible("molecule/shared/destroy.yml")
    text = table(rows, lines)
    print(text)
    begin, end = "<!-- measured by make bench -->", "<!-- end -->"
    page = PAGE.read_text() if PAGE.exists() else f"# Benchmarks\n\n{begin}\n{end}\n"
    before, after = page.split(begin)[0], page.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    main()
