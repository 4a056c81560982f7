# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration file, which the role writes: JSON, read anew by each run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .errors import BackupError

REMEDY = "run the role postgresql_backup, which writes it"


@dataclass(frozen=True)
class Retention:
    """How many chains are kept: the newest of each of the last days, weeks and months that have one."""

    daily: int
    weekly: int
    monthly: int
    proven: int
    """Chains that a restore has proven and that are kept in any case."""


@dataclass(frozen=True)
class Configuration:
    """What the program is told. Paths are absolute, times are seconds."""

    engine: str
    cluster: str
    bin: Path
    """Directory of the PostgreSQL programs."""
    host: str
    """Directory of the server's socket, or its name; of a cluster that elects its leader, those of all members."""
    port: int
    user: str
    repository: Path
    recipients: Path
    """File with the public keys that backups are encrypted to, one a line."""
    compression_level: int
    push_timeout: int
    get_timeout: int
    archive_timeout: int
    wal_late: int
    """Seconds after which WAL that is not archived is a problem."""
    retention: Retention
    jobs: Mapping[str, int]
    """Job -> seconds since its last success after which it is late."""
    databases: tuple[str, ...]
    """Databases that are dumped; all that allow connections where empty."""
    textfile: Path | None
    """File for Prometheus' node exporter."""
    offsite: Path | None
    """Mounted directory that gets a copy."""
    offsite_ssh: str
    """A second place on another host, as USER@HOST:PORT; empty where there is none."""
    ssh_key: Path | None
    """Private key for it, which signs inventories too; beside it, .known_hosts and .signers."""
    slot: str
    """Replication slot by which WAL is received as it is written; empty where it is not."""
    standbys: tuple[str, ...]
    """Addresses of standbys that base backups are taken of, the first fitting one of them; else, of the primary."""
    standby_lag: int
    """Seconds that a standby may need to replay what the primary has written when the backup begins."""
    backup_ssh: str
    """The host that keeps the backups of this one, as USER@HOST:PORT; empty where this host does."""
    environment: Mapping[str, str]
    """What libpq is told besides, such as PGSSLMODE (https://www.postgresql.org/docs/current/libpq-envars.html)."""

    @property
    def members(self) -> list[str]:
        """Return the addresses of which one is that of the server that takes writes."""
        return self.host.split(",")

    def key(self) -> Path:
        """Return the private key for other hosts; raise BackupError where there is none."""
        if self.ssh_key is None:
            raise BackupError("there is no key for the other host", REMEDY)
        return self.ssh_key

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Configuration:
        """Return the configuration of a file's content; raise BackupError where a value is missing or unknown."""
        names = {field.name for field in fields(cls)}
        wrong = [f"{name} is missing" for name in sorted(names - set(content))]
        wrong += [f"{name} is unknown" for name in sorted(set(content) - names)]
        if wrong:
            raise BackupError("configuration: " + ", ".join(wrong), REMEDY)
        values = dict(content)
        try:
            for name in ("bin", "repository", "recipients"):
                values[name] = Path(values[name])
            for name in ("textfile", "offsite", "ssh_key"):
                values[name] = Path(values[name]) if values[name] else None
            values["retention"] = Retention(**values["retention"])
            for name in ("databases", "standbys"):
                values[name] = tuple(values[name])
            return cls(**values)
        except TypeError as error:
            raise BackupError(f"configuration: {error}", REMEDY) from error

    @classmethod
    def read(cls, path: Path) -> Configuration:
        """Return the configuration in the file."""
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise BackupError(f"configuration: {error.strerror}: {path}", REMEDY) from error
        except ValueError as error:
            raise BackupError(f"configuration: {path} is no JSON: {error}", REMEDY) from error
        if not isinstance(content, dict):
            raise BackupError(f"configuration: {path} is no JSON object", REMEDY)
        return cls.from_dict(content)
