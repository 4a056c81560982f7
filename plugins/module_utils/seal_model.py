# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a seal is, how it is computed from canonical rows, and what differs between two: pure, without a database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

ALGORITHM = "sha256-canonical-json-v1"
BLOCK_ROWS = 10_000
BUFFER_BYTES = 1 << 16
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class SealOptions:
    """How a table is sealed."""

    key: str
    """The column of time whose extremes are kept."""
    order_by: tuple[str, ...]
    """The columns that order the rows; rows that tie in them are ordered by their canonical text."""
    block_rows: int = BLOCK_ROWS
    columns: tuple[str, ...] | None = None
    """Those that are covered; all where None."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of the ordered table: the values of ``order_by`` in its first and last row, count, digest."""

    first: tuple[str | None, ...]
    last: tuple[str | None, ...]
    rows: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Return the block as JSON has it."""
        return {"from": list(self.first), "to": list(self.last), "rows": self.rows, "sha256": self.sha256}


@dataclass(frozen=True)
class Seal:
    """The digest of a table's rows, and of each block of them."""

    rows: int
    minimum: str | None
    """Least value of the key, ISO 8601 in UTC; None where there are no rows."""
    maximum: str | None
    sha256: str
    """Of all canonical rows, each followed by a line feed; hexadecimal."""
    columns: tuple[tuple[str, str], ...]
    """Name and type of each column, in the order of a canonical row."""
    algorithm: str
    blocks: tuple[Block, ...]
    key: str
    order_by: tuple[str, ...]
    block_rows: int

    @property
    def options(self) -> SealOptions:
        """Return how the table was sealed, to seal it again in the same way."""
        return SealOptions(self.key, self.order_by, self.block_rows, tuple(name for name, kind in self.columns))

    def as_dict(self) -> dict[str, Any]:
        """Return the seal as JSON has it; ``from_dict`` takes it back."""
        return {
            "algorithm": self.algorithm,
            "block_rows": self.block_rows,
            "blocks": [each.as_dict() for each in self.blocks],
            "columns": [{"name": name, "type": kind} for name, kind in self.columns],
            "key": self.key,
            "maximum": self.maximum,
            "minimum": self.minimum,
            "order_by": list(self.order_by),
            "rows": self.rows,
            "sha256": self.sha256,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Seal:
        """Return the seal that ``as_dict`` wrote; raise PostgresqlError where it is not one or of another version."""
        try:
            if data["algorithm"] != ALGORITHM:
                raise PostgresqlError(
                    f"the seal was made by {data['algorithm']}, which is not {ALGORITHM}",
                    remedy="use the version of this collection that made it",
                )
            return cls(
                rows=int(data["rows"]),
                minimum=data["minimum"],
                maximum=data["maximum"],
                sha256=str(data["sha256"]),
                columns=tuple((str(each["name"]), str(each["type"])) for each in data["columns"]),
                algorithm=str(data["algorithm"]),
                blocks=tuple(
                    Block(tuple(each["from"]), tuple(each["to"]), int(each["rows"]), str(each["sha256"]))
                    for each in data["blocks"]
                ),
                key=str(data["key"]),
                order_by=tuple(str(each) for each in data["order_by"]),
                block_rows=int(data["block_rows"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PostgresqlError(f"this is no seal: {error!r}", remedy="take an unharmed copy") from error


class Digest:
    """Takes canonical rows in order, one a ``write``, and makes their digests. Memory does not grow with the rows."""

    def __init__(self, columns: Sequence[str], order_by: Sequence[str], block_rows: int) -> None:
        self.rows = 0
        self.blocks: list[Block] = []
        self._places = [columns.index(name) for name in order_by]
        self._block_rows = block_rows
        self._all = hashlib.sha256()
        self._block = hashlib.sha256()
        self._buffer = bytearray()
        self._in_block = 0
        self._first = self._last = b""

    def write(self, row: bytes) -> None:
        """Take one canonical row with its line feed."""
        if not self._in_block:
            self._first = row
        self._last = row
        self._buffer += row
        self.rows += 1
        self._in_block += 1
        if len(self._buffer) >= BUFFER_BYTES:  # hashing row by row costs more than the hash
            self._flush()
        if self._in_block == self._block_rows:
            self._end_block()

    def finish(self) -> str:
        """Close the last block and return the digest of all rows, hexadecimal."""
        if self._in_block:
            self._end_block()
        return self._all.hexdigest()

    def _flush(self) -> None:
        self._all.update(self._buffer)
        self._block.update(self._buffer)
        self._buffer.clear()

    def _end_block(self) -> None:
        self._flush()
        first, last = (self._ordered(row) for row in (self._first, self._last))
        self.blocks.append(Block(first, last, self._in_block, self._block.hexdigest()))
        self._block = hashlib.sha256()
        self._in_block = 0

    def _ordered(self, row: bytes) -> tuple[str | None, ...]:
        values = json.loads(row.decode("utf-8", "replace"))  # SQL_ASCII keeps any bytes
        # A text of megabytes in the key would be kept twice for each block; the digest covers all of it.
        return tuple(v if v is None else v[:SHOWN_CHARACTERS] for v in (values[place] for place in self._places))


def differences(old: Seal, new: Seal) -> dict[str, Any]:
    """Return what differs between two seals of a table; empty where their rows are the same.

    Members: each of ``algorithm``, ``columns``, ``key``, ``order_by``, ``rows``, ``minimum``, ``maximum``, ``sha256``
    that differs, as ``old`` and ``new``; and ``first_block``, the first range of rows that differs: ``from_row`` and
    ``to_row`` (numbers from 1 in the sealed order), ``from`` and ``to`` (the old seal's values of ``order_by``).
    """
    before, after = old.as_dict(), new.as_dict()
    members = ("algorithm", "columns", "key", "order_by", "rows", "minimum", "maximum", "sha256")
    found: dict[str, Any] = {
        name: {"old": before[name], "new": after[name]} for name in members if before[name] != after[name]
    }
    comparable = not {"algorithm", "columns", "order_by"} & set(found) and old.block_rows == new.block_rows
    if comparable and old.blocks != new.blocks:
        same = 0
        while same < min(len(old.blocks), len(new.blocks)) and old.blocks[same] == new.blocks[same]:
            same += 1
        block = (old.blocks if same < len(old.blocks) else new.blocks)[same]
        begin = same * old.block_rows + 1
        found["first_block"] = {
            "from_row": begin,
            "to_row": begin + block.rows - 1,
            "from": list(block.first),
            "to": list(block.last),
        }
    return found


def explain(found: Mapping[str, Any]) -> str:
    """Return what ``differences`` found as one sentence for an operator; empty where it found nothing."""
    parts = []
    for name in ("algorithm", "key", "order_by", "rows", "minimum", "maximum"):
        if name in found:
            parts.append(f"{name} {found[name]['old']} became {found[name]['new']}")
    if "columns" in found:
        old, new = ({(c["name"], c["type"]) for c in found["columns"][side]} for side in ("old", "new"))
        parts.append("columns differ: " + ", ".join(f"{name} {kind}" for name, kind in sorted(old ^ new)))
    block = found.get("first_block")
    if block:
        first, last = (", ".join(map(str, block[side])) for side in ("from", "to"))
        parts.append(
            f"the first difference is in rows {block['from_row']} to {block['to_row']}, from ({first}) to ({last})"
        )
    elif "sha256" in found and not parts:
        parts.append("the digests differ")
    return "; ".join(parts)


def canonical_json(value: Any) -> str:
    """Return the JSON text of a value: members sorted, no spaces, no escapes that are not needed."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
