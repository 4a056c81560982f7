# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signed inventories of the second place: what is there, and that nothing is gone or was changed since the last one.

Each names the digest of the one before it. They are signed by ``ssh-keygen -Y sign`` with the database host's key, and
kept in the second place, where that host cannot change them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import clock
from .canonical import canonical
from .configuration import Configuration
from .errors import BackupError
from .place import Place, digest
from .processes import run

DIRECTORY = "inventories"
NAMESPACE = "auditdb-offsite"
PRINCIPAL = "auditdb-backup"
FORMAT = 1
TAMPERED = "find out who changed it; what is named in an older inventory was there then"


@dataclass(frozen=True)
class Inventory:
    """What was in the second place at a moment."""

    at: str = ""
    sha256: str = ""
    """Of the inventory's own file; empty where there was none yet."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> SHA-256."""


def newest(settings: Configuration, place: Place, there: list[str]) -> Inventory:
    """Return the newest inventory; raise BackupError where it was changed or its signature is not one of ours."""
    known = sorted(path for path in there if path.startswith(f"{DIRECTORY}/") and path.endswith(".json"))
    if not known:
        return Inventory()
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "inventory"
        signature = Path(work) / "inventory.sig"
        place.get(known[-1], file)
        if f"{known[-1]}.sig" not in there:
            raise BackupError(f"{place}: {known[-1]} is not signed", TAMPERED)
        place.get(f"{known[-1]}.sig", signature)
        if settings.ssh_key:
            _verify(settings.ssh_key, file, signature, f"{place}: {known[-1]}")
        content = json.loads(file.read_bytes())
        return Inventory(content["at"], digest(file), content["files"])


def _verify(key: Path, file: Path, signature: Path, what: str) -> None:
    signers = f"{key}.signers"
    argv = ["ssh-keygen", "-Y", "verify", "-q", "-f", signers, "-I", PRINCIPAL, "-n", NAMESPACE, "-s", str(signature)]
    try:
        run(argv, source=file)
    except BackupError as error:
        raise BackupError(f"{what} has no valid signature: {error.message}", TAMPERED) from error


def add(settings: Configuration, place: Place, last: Inventory, files: Mapping[str, str]) -> None:
    """Write down and sign what is in the second place now."""
    if settings.ssh_key is None:
        return
    at = clock.write(clock.now())
    content = canonical({"at": at, "files": dict(files), "format": FORMAT, "previous": last.sha256})
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "inventory.json"
        file.write_bytes(content + b"\n")
        run(["ssh-keygen", "-Y", "sign", "-q", "-f", str(settings.ssh_key), "-n", NAMESPACE, str(file)])
        path = f"{DIRECTORY}/{at.replace(':', '').replace('-', '')}.json"
        # The signature comes first: an inventory that is there is signed.
        place.put(f"{path}.sig", Path(f"{file}.sig"))
        place.put(path, file)
