# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports as files that are signed, and of which each has the hash of the one before it.

Signatures are OpenSSH's (``man ssh-keygen``, -Y sign and -Y verify), which every control node has.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMESPACE = "auditdb-evidence"
SIGNER = "auditdb"
FILE = re.compile(r"(?P<name>.+)-[0-9]{8}T[0-9]{6}[.][0-9]{6}Z[.]json")


@dataclass(frozen=True)
class Report:
    """A report as it lies there."""

    name: str
    """What it is about: the beginning of the file's name."""
    path: Path
    sha256: str
    previous: Mapping[str, Any] | None

    def as_link(self) -> dict[str, str]:
        """Return what the next report says of this one."""
        return {"file": self.path.name, "sha256": self.sha256}


def load(path: Path) -> Report:
    """Return the report in the file."""
    found = FILE.fullmatch(path.name)
    data = path.read_bytes()
    try:
        content = json.loads(data)
    except ValueError:
        content = {}
    previous = content.get("previous") if isinstance(content, dict) else None
    return Report(found["name"] if found else path.stem, path, hashlib.sha256(data).hexdigest(), previous)


def reports(directory: Path) -> list[Report]:
    """Return all reports in the directory, those of a name together, the oldest first."""
    return [load(path) for path in sorted(directory.glob("*.json")) if FILE.fullmatch(path.name)]


def newest(directory: Path, name: str) -> Report | None:
    """Return the newest report of this name."""
    paths = [
        path for path in directory.glob("*.json") if (found := FILE.fullmatch(path.name)) and found["name"] == name
    ]
    return load(max(paths)) if paths else None


def sign(path: Path, key: Path) -> None:
    """Write the signature beside the file, as FILE.sig; raise ValueError where it cannot be signed."""
    path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
    done = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(done.stderr.strip() or "ssh-keygen failed")


def verify(path: Path, public_key: str) -> str | None:
    """Return why the signature of the file does not hold; None where it does."""
    signature = path.with_name(f"{path.name}.sig")
    if not signature.exists():
        return "it is not signed"
    with tempfile.NamedTemporaryFile("w", prefix="auditdb-signers-") as signers:
        signers.write(f"{SIGNER} {public_key}\n")
        signers.flush()
        done = subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-f", signers.name, "-I", SIGNER, "-n", NAMESPACE, "-s", str(signature)],
            input=path.read_bytes(),
            capture_output=True,
            check=False,
        )
    return None if done.returncode == 0 else "its signature is not that of the key, or it was changed"


def problems(found: list[Report], public_key: str) -> list[str]:
    """Return what is wrong with the reports, each with its file's name."""
    wrong = []
    before: dict[str, Report] = {}
    for each in found:
        why = verify(each.path, public_key)
        if why:
            wrong.append(f"{each.path.name}: {why}")
        last = before.get(each.name)
        if each.previous != (last.as_link() if last else None):
            follows = (each.previous or {}).get("file", "none")
            wrong.append(
                f"{each.path.name}: it follows {follows}, and before it lies {last.path.name if last else 'none'}"
            )
        before[each.name] = each
    return wrong
