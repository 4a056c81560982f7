# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An audit event: one row of audit_log, with its hash over a canonical JSON text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

HASH_ALGORITHM = "SHA-256"
EVENT_VERSION = "1.0"
DATA_CLASSIFICATION = "INTERNAL"
RETENTION_POLICY = "standard"

NAME_LENGTH = 255  # of the columns for names and identifiers
CUT = "…"  # ends a value that was longer than its column
NUL = "\x00"


class NotAnEventError(ValueError):
    """A line that is no event at all, such as one that was cut off."""


@dataclass(frozen=True)
class Event:
    """One event, its values in the form in which they are stored. Made by ``make_event``."""

    timestamp: datetime
    principal_id: str
    action: str
    target_resource_type: str
    target_resource_id: str
    status: str
    outcome_description: str | None
    correlation_id: str | None
    details: dict[str, Any]

    def hashed(self) -> dict[str, Any]:
        """Return what the hash covers: every column that is written, except the hash itself."""
        return {
            "timestamp": utc_text(self.timestamp),
            "principal_id": self.principal_id,
            "action": self.action,
            "target_resource_type": self.target_resource_type,
            "target_resource_id": self.target_resource_id,
            "status": self.status,
            "outcome_description": self.outcome_description,
            "hash_algorithm": HASH_ALGORITHM,
            "event_version": EVENT_VERSION,
            "correlation_id": self.correlation_id,
            "data_classification": DATA_CLASSIFICATION,
            "retention_policy": RETENTION_POLICY,
            "details": self.details,
        }

    def columns(self) -> dict[str, Any]:
        """Return the row: column -> value, with ``details`` as JSON text."""
        hashed = self.hashed()
        digest = hashlib.sha256(canonical_json(hashed).encode("utf-8")).hexdigest()
        return {**hashed, "details": canonical_json(self.details), "hash": digest}


def make_event(
    *,
    timestamp: datetime,
    names: Mapping[str, str],
    status: str,
    outcome_description: str | None,
    correlation_id: str | None,
    details: Mapping[str, Any],
) -> Event:
    """Return an event whose every value PostgreSQL can store; what has to be shortened is kept whole in ``details``.

    ``names`` are the values of principal_id, action, target_resource_type and target_resource_id.
    """
    clean = {column: clean_text(value) for column, value in names.items()}
    if correlation_id is not None:
        clean["correlation_id"] = clean_text(correlation_id)
    kept = {column: value for column, value in clean.items() if len(value) > NAME_LENGTH}
    short = {column: shorten(value) for column, value in clean.items()}
    stored: dict[str, Any] = storable(dict(details))
    if kept:
        stored["shortened"] = kept
    return Event(
        timestamp=timestamp.astimezone(UTC),
        principal_id=short["principal_id"],
        action=short["action"],
        target_resource_type=short["target_resource_type"],
        target_resource_id=short["target_resource_id"],
        status=status,
        outcome_description=None if outcome_description is None else clean_text(outcome_description),
        correlation_id=short.get("correlation_id"),
        details=stored,
    )


def utc_text(moment: datetime) -> str:
    """Return the moment in UTC as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def canonical_json(value: Any) -> str:
    """Return the JSON text that PostgreSQL prints for the same ``jsonb`` value.

    Keys sorted by their length in bytes, then by their bytes; ``", "`` and ``": "`` between; characters outside ASCII
    as they are. So the database itself can compute the hash again, in SQL, over any number of rows.
    """
    return json.dumps(_sorted_keys(value), ensure_ascii=False, allow_nan=False)


def _sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode("utf-8")), key.encode("utf-8")))
        return {key: _sorted_keys(value[key]) for key in keys}
    if isinstance(value, list):
        return [_sorted_keys(item) for item in value]
    return value


def clean_text(text: str) -> str:
    """Return the text without what PostgreSQL's ``text`` cannot hold: NUL goes, lone surrogates are escaped."""
    return text.replace(NUL, "").encode("utf-8", "backslashreplace").decode("utf-8")


def shorten(text: str, length: int = NAME_LENGTH) -> str:
    """Return the text, cut to ``length`` characters with a marker as the last one if it was longer."""
    return text if len(text) <= length else text[: length - len(CUT)] + CUT


def storable(value: Any) -> Any:
    """Return a JSON value that ``jsonb`` keeps exactly.

    Text with NUL or lone surrogates becomes a list of bytes, as journald itself writes what is not text. Fractions,
    which ``jsonb`` would print differently, become text.
    """
    if isinstance(value, str):
        return value if clean_text(value) == value else list(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value
