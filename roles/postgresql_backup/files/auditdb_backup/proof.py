# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What verifying and restoring found out about a backup, kept beside it: a manifest never changes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from . import clock, durable
from .canonical import canonical
from .repository import Repository


@dataclass(frozen=True)
class Proof:
    """The last time that a backup was read again without a finding, was restored, and was found damaged."""

    verified_at: str | None = None
    restored_at: str | None = None
    damaged: str = ""


def read(repository: Repository, name: str) -> Proof:
    """Return what is known of the backup."""
    path = repository.proofs / f"{name}.json"
    return Proof(**json.loads(path.read_bytes())) if path.exists() else Proof()


def read_all(repository: Repository, names: Iterable[str]) -> dict[str, Proof]:
    """Return what is known of each of the backups."""
    return {name: read(repository, name) for name in names}


def write(repository: Repository, name: str, proof: Proof) -> None:
    """Keep what is known of the backup."""
    durable.replace(repository.proofs / f"{name}.json", canonical(asdict(proof)) + b"\n")


def passed(known: Proof, restored: bool = False) -> Proof:
    """Return what is known after a check that found nothing."""
    moment = clock.write(clock.now())
    return replace(known, verified_at=moment, damaged="", restored_at=moment if restored else known.restored_at)


def failed(known: Proof, message: str) -> Proof:
    """Return what is known after a check that found damage: nothing earlier counts any more."""
    return replace(known, verified_at=None, restored_at=None, damaged=message)
