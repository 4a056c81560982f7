# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restores each case from what was fetched, and measures it. Runs isolated, as a user of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from auditdb_backup import alone, recover
from auditdb_backup.backup import Backup
from auditdb_backup.canonical import canonical
from auditdb_backup.configuration import Configuration
from auditdb_backup.engine import Engine, Request, Target
from auditdb_backup.errors import BackupError
from auditdb_backup.main import engine_of
from auditdb_backup.repository import DIRECTORIES

from . import acknowledged, checks, controls, isolation, ledger, measured, seals
from .acknowledged import Acknowledged
from .facts import Carried, Facts
from .fetch import ACKNOWLEDGED, SOURCE
from .request import Case, Drill
from .rows import Row, row

SERVER = Path("/etc/auditdb-drill/postgresql.conf")
ALONE = {"offsite": "", "offsite_ssh": "", "backup_ssh": ""}
"""What a copy knows of other places."""
PROGRAMS = {"basebackup": {"age": "--version", "zstd": "--version"}, "pgbackrest": {"pgbackrest": "version"}}
"""What an engine decrypts and unpacks with, and how that tells its version."""


def rehearse(drill: Drill) -> dict[str, Any]:
    """Return the outcome of all cases: rows for people, and what was measured."""
    settings = Configuration.read(drill.configuration)
    source = drill.workplace / SOURCE
    facts = Facts.read(source)
    known = acknowledged.parse((source / ACKNOWLEDGED).read_text().splitlines(keepends=True))
    rows = [*isolation.look(drill, settings), _beating(drill, facts, known)]
    cases = []
    for case, carried in zip(drill.cases, facts.cases, strict=True):
        found, figures = _case(drill, settings, case, carried, (facts, known))
        rows += found
        cases.append(figures)
    copy = next((each for each in facts.cases if each.source == "repository" and not each.problem), None)
    if copy:
        engine, root = _engine(drill, settings, copy.source)
        rows += controls.look(engine, root, copy.backups)
    versions = {
        "postgresql": facts.server_version,
        **{name: _version(name, word) for name, word in PROGRAMS[settings.engine].items()},
    }
    return {
        "declared_at": facts.declared_at,
        "configuration_sha256": facts.configuration_sha256,
        "versions": versions,
        "cases": cases,
        "results": rows,
    }


def _version(program: str, word: str) -> str:
    done = subprocess.run([program, word], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def _beating(drill: Drill, facts: Facts, known: list[Acknowledged]) -> Row:
    age = (facts.declared_at - known[-1].at) // 1000 if known else None
    late = age is None or age > 10 * drill.interval
    findings = (
        [f"the newest acknowledged row is {age} ms old" if known else "no row was ever acknowledged"] if late else []
    )
    return row("heartbeat", "the ledger is being written", findings, "see why: journalctl -u auditdb-heartbeat@CLUSTER")


def _engine(drill: Drill, settings: Configuration, source: str) -> tuple[Engine, Path]:
    """Return the engine over what was fetched, with a configuration of its own, and the copy's directory."""
    root = drill.workplace / SOURCE / source
    for name in DIRECTORIES:
        (root / name).mkdir(exist_ok=True)
    own = drill.workplace / f"{source}.json"
    own.write_bytes(canonical({**json.loads(drill.configuration.read_bytes()), "repository": str(root), **ALONE}))
    return engine_of(replace(settings, repository=root, offsite=None, backup_ssh=""), own, 0), root


def _case(
    drill: Drill, settings: Configuration, case: Case, carried: Carried, known: tuple[Facts, list[Acknowledged]]
) -> tuple[list[Row], dict[str, Any]]:
    """Rehearse one case, and return its rows and its figures."""
    figures: dict[str, Any] = {**asdict(carried), "artefacts": {}}
    name = "it is restored and recovers"
    remedy = "see the finding; take a full backup once it is mended: auditdb-backup backup full"
    if carried.problem:
        return [row(case.name, name, [carried.problem], remedy)], figures
    directory = drill.workplace / "data"
    shutil.rmtree(directory, ignore_errors=True)
    try:
        engine, _root = _engine(drill, settings, carried.source)
        figures["artefacts"] = _artefacts(engine, carried)
        begun = time.monotonic()
        request = Request(directory, drill.identity, carried.backups[-1], Target(time=carried.target))
        restored = engine.restore(request)
        phases = {"decide": carried.decide_ms, "fetch": carried.fetch_ms, **restored.milliseconds}
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        rows = [row(case.name, name, [], remedy)]
        moment = time.time()
        with alone.running(settings, directory, drill.seconds, SERVER, _settings(drill, settings, directory)) as server:
            phases |= server.milliseconds(moment)
            checked = time.monotonic()
            with contextlib.closing(server.connect(drill.database)) as connection, connection.cursor() as cursor:
                found = ledger.read(cursor)
            rows += measured.chain(case.name, found, known[1], carried)
            phases["check"] = round((time.monotonic() - checked) * 1000)
            rto = carried.decide_ms + carried.fetch_ms + round((time.monotonic() - begun) * 1000)
            figures["reached"] = dict(zip(("lsn", "last_commit", "timeline"), recover.where(server), strict=True))
            if case.target == "latest" and carried.source == "repository":
                rows.append(checks.like_production(case.name, server, known[0].catalog))
            rows += checks.running(case.name, settings, server)
            rows += [checks.asserted(case.name, server, each) for each in drill.assertions]
            sealed, figures["seals"] = seals.look(case.name, server, drill.seals, drill.seal_history)
            rows += sealed
        rows.append(checks.stopped(case.name, settings, directory))
    except BackupError as error:
        return [row(case.name, name, [str(error)], remedy)], figures
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    lost = measured.loss(found, known[1], known[0]) if case.target == "latest" else None
    rows += measured.budgets(case.name, case, lost, rto)
    return rows, figures | _figures(drill, phases, size, rto, lost)


def _figures(drill: Drill, phases: dict[str, int], size: int, rto: int, lost: measured.Loss | None) -> dict[str, Any]:
    return {
        "bytes": size,
        "phases_ms": {name: phases[name] for name in measured.PHASES if name in phases},
        "rto_ms": rto,
        "bytes_per_second": size * 1000 // max(1, rto),
        "rpo_ms": lost.rpo_ms if lost else None,
        "rows_lost": lost.rows if lost else None,
        "extrapolated_not_measured": [
            {"bytes": each, "rto_ms": measured.extrapolated(phases, size, each)} for each in drill.extrapolate
        ],
    }


def _artefacts(engine: Engine, carried: Carried) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file of the backups."""
    found = engine.backups()
    return {
        name: {artefact.name: artefact.sha256 for artefact in each.artefacts}
        for name, each in found.items()
        if name in carried.backups and isinstance(each, Backup)
    }


def _settings(drill: Drill, settings: Configuration, directory: Path) -> dict[str, str]:
    """Return what the restored server needs of the original's settings: what recovery refuses to do with less of."""
    control = dict(
        line.split(":", 1)
        for line in subprocess.run(
            [settings.bin / "pg_controldata", directory],
            capture_output=True,
            text=True,
            check=True,
            env={"LC_ALL": "C"},
        ).stdout.splitlines()
        if ":" in line
    )
    needed = {
        "max_prepared_transactions": control["max_prepared_xacts setting"].strip(),
        "max_locks_per_transaction": control["max_locks_per_xact setting"].strip(),
        "max_connections": control["max_connections setting"].strip(),
    }
    return {**needed, **drill.settings}
