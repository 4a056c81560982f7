# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pgBackRest, as it is run, and what it keeps: files in the repository's directory ``pgbackrest``."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import asking, durable, place, processes, wal_archive, wal_name
from .configuration import Configuration
from .encryption import CHUNK_BYTES
from .errors import BackupError

DIRECTORY = "pgbackrest"
CIPHER = "aes-256-cbc"
SSH = "AUDITDB_SSH"
"""Environment variable: the options of the ssh by which a backup host reaches the server (pgbackrest-ssh.sh)."""


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


class Stanza:
    """pgBackRest with the cluster's stanza."""

    def __init__(self, settings: Configuration, options: list[str], environment: Mapping[str, str]) -> None:
        self._settings, self._options, self._environment = settings, options, environment
        self.root = settings.repository / DIRECTORY

    def _argv(self, *words: str) -> list[str]:
        return ["pgbackrest", *self._options, f"--stanza={self._settings.cluster}", *words]

    def run(self, *words: str) -> str:
        """Run a subcommand, and return what it printed."""
        return processes.run(self._argv(*words), (0,), processes.NOTHING, **self._environment)

    def bring(self, header: wal_archive.Header, target: Path) -> None:
        """Write a WAL file to the target, decrypted; raise BackupError where it is not what was archived.

        Not by archive-get, which needs the data directory of the cluster, or what was one.
        """
        stored = self.wal(header.name)
        found = stored.relative_to(self.root).as_posix()
        commands = [self._argv("--log-level-console=off", "--log-level-stderr=warn", "repo-get", found)]
        if stored.suffix == ".zst":
            commands.append(["zstd", "--quiet", "--decompress", "--stdout"])
        temporary = durable.partial(target)
        try:
            with processes.pipeline(commands, **self._environment) as (_into, stream), temporary.open("wb") as file:
                shutil.copyfileobj(stream, file, CHUNK_BYTES)
                file.flush()
                os.fsync(file.fileno())
            wal_archive.same(header, place.digest(temporary))
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)

    def taken(self) -> list[Taken]:
        """Return the backups that it knows, the oldest first."""
        found: list[Taken] = []
        for stanza in json.loads(self.run("info", "--output=json")):
            found += [Taken.read(each) for each in stanza.get("backup", []) if not each["error"]]
        return found

    def directory(self, label: str) -> Path:
        """Return where a backup's files are."""
        return self.root / "backup" / self._settings.cluster / label

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


class PgBackRest(Stanza):
    """pgBackRest where it keeps the backups."""

    def __init__(self, settings: Configuration, own: Path) -> None:
        self.configuration = own.with_name(f"{own.stem}.pgbackrest.conf")
        """Beside this program's; it holds the passphrase."""
        reach = asking.options(own.with_name(f"{own.stem}.server.key"))
        super().__init__(settings, [f"--config={self.configuration}"], {SSH: " ".join(reach)})


class Fetched(Stanza):
    """pgBackRest with what was fetched of a repository that another host keeps."""

    def __init__(self, settings: Configuration, passphrase: str) -> None:
        options = ["--no-config", f"--repo1-path={settings.repository / DIRECTORY}", f"--repo1-cipher-type={CIPHER}"]
        options += ["--log-level-file=off"]
        # On a command line, everybody on the host could read it.
        environment = {"PGBACKREST_REPO1_CIPHER_PASS": passphrase}
        # Of directories that another user has made, it would lack the right to look into them.
        for name in ("lock", "spool"):
            environment[f"PGBACKREST_{name.upper()}_PATH"] = f"{settings.repository}/pgbackrest-{name}"
        super().__init__(settings, options, environment)
