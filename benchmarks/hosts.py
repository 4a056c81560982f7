"""The throwaway hosts of a benchmark: its inventory, playbooks on it, scripts in it, and pgbench from it."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "only-for-this-benchmark"


def medians(runs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Return the medians of what `Hosts.rate` has returned, by what was measured."""
    return {
        name: (statistics.median(r[0] for r in each), statistics.median(r[1] for r in each))
        for name, each in runs.items()
    }


class Hosts:
    """The hosts of an inventory, which is made from a shipped one."""

    def __init__(self, inventory: Path, shipped: str) -> None:
        self.inventory = inventory
        self.shipped = ROOT / "inventories" / shipped

    def ansible(self, playbook: str, *arguments: str) -> None:
        """Run a playbook on the hosts; stop with all it said when it fails."""
        command = ["ansible-playbook", "-i", str(self.inventory), playbook, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")

    def make(self, values: dict[str, Any], children: dict[str, Any], *, backups: bool = False) -> None:
        """Make them from nothing, without backups of their own where nobody measures them."""
        if self.inventory.exists():
            self.remove()
            shutil.rmtree(self.inventory)
        forget = shutil.ignore_patterns("secrets.yml", ".state", "evidence", *([] if backups else ["backup*"]))
        shutil.copytree(self.shipped, self.inventory, ignore=forget)
        tree = {"all": {"vars": values, "children": children}}
        (self.inventory / "hosts.yml").write_text(json.dumps(tree))
        self.ansible("molecule/shared/create.yml")

    def remove(self) -> None:
        self.ansible("molecule/shared/destroy.yml")

    def run(self, host: str, script: str, user: str = "postgres", **values: str) -> str:
        """Run a script on a host, which must succeed, and return what it printed."""
        given = [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
        shell = ["bash", "-euo", "pipefail", "-c", script]
        command = ["docker", "exec", "--user", user, *given, f"auditdb-{host}", *shell]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{script}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def sql(self, host: str, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser."""
        return self.run(host, f'psql -XAtq -v ON_ERROR_STOP=1 -d {database} -c "$STATEMENT"', STATEMENT=statement)

    def fill(self, host: str, tables: list[str], rows: int) -> None:
        """Make the account of the clients, and what they read."""
        statements = [f"CREATE ROLE bench LOGIN PASSWORD '{PASSWORD}'"]
        for table in tables:
            statements.append(
                f"CREATE TABLE {table} AS SELECT id, md5(id::text) AS v FROM generate_series(1, {rows}) AS id"
            )
            statements += [f"ALTER TABLE {table} ADD PRIMARY KEY (id)", f"GRANT SELECT ON {table} TO bench"]
        # Frozen: a standby cannot note in a row that it is visible, and would look that up at each read of a new one.
        for statement in [*statements, "VACUUM (FREEZE, ANALYZE)"]:
            self.sql(host, statement)

    def rate(self, client: str, server: str, port: int, statement: str, *options: str) -> tuple[float, float]:
        """Return answers a second, and the milliseconds that one took."""
        output = self.run(
            client,
            f'printf "%s;" "$READ" > /tmp/read.sql; pgbench -n -j 2 {" ".join(options)} -f /tmp/read.sql',
            READ=statement, PGHOST=f"auditdb-{server}", PGPORT=str(port), PGUSER="bench", PGPASSWORD=PASSWORD,
            PGSSLMODE="verify-full", PGDATABASE="postgres", PGSSLROOTCERT="/etc/postgresql/tls/ca.crt",
        )  # fmt: skip
        found = {name: re.search(rf"{name} = ([0-9.]+)", output) for name in ("latency average", "tps")}
        return (float(found["tps"][1]), float(found["latency average"][1])) if all(found.values()) else (0.0, 0.0)
