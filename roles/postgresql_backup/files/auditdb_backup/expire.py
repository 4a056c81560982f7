# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes what a plan drops, so that a run which is killed leaves only whole backups behind."""

from __future__ import annotations

import shutil

from . import durable
from .repository import Repository
from .retention import Plan


def remove(repository: Repository, plan: Plan) -> None:
    """Remove the backups, each out of sight first, and then the WAL that nothing needs any more."""
    for left in repository.backups.glob(".*.expired"):
        shutil.rmtree(left)
    for name in plan.drop:
        gone = repository.backups / f".{name}.expired"
        (repository.backups / name).rename(gone)
        durable.sync_directory(repository.backups)
        shutil.rmtree(gone)
        (repository.proofs / f"{name}.json").unlink(missing_ok=True)
    for name in plan.drop_wal:
        (repository.wal / name).unlink()
    durable.sync_directory(repository.wal)
