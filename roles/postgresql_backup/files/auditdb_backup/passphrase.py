# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pgBackRest's passphrase, encrypted to the public keys: a host that restores has to be given a private one."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from . import durable
from .configuration import Configuration
from .encryption import seal, unseal
from .errors import BackupError

SEALED = "passphrase.age"
"""In the repository: a line with the digest of what was sealed and to whom, and the sealed passphrase."""
OPTION = "repo1-cipher-pass="


def keep(settings: Configuration, configuration: Path) -> bool:
    """Seal the passphrase of pgBackRest's configuration file; False where it is sealed to these keys already."""
    (found,) = [line for line in configuration.read_text().splitlines() if line.startswith(OPTION)]
    plain = found.removeprefix(OPTION).encode()
    of = hashlib.sha256(plain + settings.recipients.read_bytes()).hexdigest().encode()
    path = settings.repository / SEALED
    if path.is_file() and path.read_bytes().split(b"\n", 1)[0] == of:
        return False
    sealed = io.BytesIO()
    seal(io.BytesIO(plain), sealed, settings.recipients, settings.compression_level)
    durable.replace(path, of + b"\n" + sealed.getvalue())
    return True


def read(path: Path, identity: Path) -> str:
    """Return the passphrase that was sealed in the file; raise BackupError where this is not the key to it."""
    _of, _newline, sealed = path.read_bytes().partition(b"\n")
    plain = io.BytesIO()
    unseal(io.BytesIO(sealed), plain, identity)
    if not plain.getvalue():
        raise BackupError(f"{path.name} holds no passphrase", "run the role postgresql_backup, which seals it again")
    return plain.getvalue().decode()
