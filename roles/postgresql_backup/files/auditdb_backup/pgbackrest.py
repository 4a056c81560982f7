# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pgBackRest, as it is run, and what it keeps: files in the repository's directory ``pgbackrest``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import processes, wal_name
from .configuration import Configuration
from .errors import BackupError

DIRECTORY = "pgbackrest"
SNAPSHOTS = "indexes"
"""Where a second place has the indexes: what is there never changes, so each of their states has its own directory."""
CIPHER = "aes-256-cbc"


@dataclass(frozen=True)
class Taken:
    """A backup, as ``pgbackrest info`` tells it."""

    label: str
    incremental: bool
    prior: str | None
    first_wal: str
    start_lsn: str
    stop_lsn: str
    bytes: int
    """That it has added to the repository."""
    plain_bytes: int

    @classmethod
    def read(cls, told: dict[str, Any]) -> Taken:
        """Return the backup of an entry of ``pgbackrest info --output=json``."""
        return cls(
            label=told["label"],
            incremental=told["type"] != "full",
            prior=told["prior"],
            first_wal=told["archive"]["start"],
            start_lsn=told["lsn"]["start"],
            stop_lsn=told["lsn"]["stop"],
            bytes=told["info"]["repository"]["delta"],
            plain_bytes=told["info"]["size"],
        )


class PgBackRest:
    """pgBackRest with the cluster's stanza."""

    def __init__(self, settings: Configuration, own: Path) -> None:
        self._settings = settings
        # Beside this program's configuration; it holds the passphrase.
        self._configuration = own.with_name(f"{own.stem}.pgbackrest.conf")
        self.root = settings.repository / DIRECTORY

    def run(self, *words: str, identity: Path | None = None) -> str:
        """Run a subcommand, and return what it printed.

        ``identity``: file with the passphrase, for a copy of a repository, which has no configuration of its own.
        """
        own = f"--config={self._configuration}"
        environment: dict[str, str] = {}
        if not self._configuration.exists() and identity:
            own, environment = "--no-config", self._environment(identity)
        argv = ["pgbackrest", own, f"--stanza={self._settings.cluster}", *words]
        return processes.run(argv, (0,), processes.NOTHING, **environment)

    def _environment(self, identity: Path) -> dict[str, str]:
        return {
            "PGBACKREST_REPO1_PATH": str(self.root),
            "PGBACKREST_REPO1_CIPHER_TYPE": CIPHER,
            "PGBACKREST_REPO1_CIPHER_PASS": identity.read_text().strip(),
            "PGBACKREST_LOG_LEVEL_CONSOLE": "warn",
            "PGBACKREST_LOG_LEVEL_FILE": "off",
            "PGBACKREST_LOCK_PATH": str(self._settings.repository / "pgbackrest-lock"),
        }

    def taken(self) -> list[Taken]:
        """Return the backups that it knows, the oldest first."""
        found: list[Taken] = []
        for stanza in json.loads(self.run("info", "--output=json")):
            found += [Taken.read(each) for each in stanza.get("backup", []) if not each["error"]]
        return found

    def directory(self, label: str) -> Path:
        """Return where a backup's files are."""
        return self.root / "backup" / self._settings.cluster / label

    def snapshot(self, number: int) -> dict[str, Path]:
        """Return where a second place has this state of the indexes: path there -> file here."""
        return {f"{DIRECTORY}/{SNAPSHOTS}/{number:08}/{path.name}": path for path in self.indexes()}

    def indexes(self) -> list[Path]:
        """Return the files that tell what there is, each with its copy."""
        places = [self.root / part / self._settings.cluster / f"{part}.info" for part in ("archive", "backup")]
        return [path.with_name(path.name + suffix) for path in places for suffix in ("", ".copy")]

    def wal(self, name: str) -> Path:
        """Return where a WAL file is; raise BackupError where it is not."""
        pattern = f"{name[:16]}/{name}" if wal_name.NAME.fullmatch(name) and len(name) >= 24 else name
        archive = self.root / "archive" / self._settings.cluster
        # A segment's name is followed by its SHA-1 and by what it is compressed with.
        own = re.compile(re.escape(name) + r"(-[0-9a-f]{40}(\.[a-z0-9]+)?)?")
        found = [path for path in archive.glob(f"*-*/{pattern}*") if own.fullmatch(path.name)]
        if len(found) != 1:
            raise BackupError(
                f"WAL file {name}: pgBackRest's archive has {len(found)} of it", "see pgbackrest verify --output=text"
            )
        return found[0]
