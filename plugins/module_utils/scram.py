# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SCRAM-SHA-256 verifiers as PostgreSQL stores them (RFC 5802, RFC 7677), so that no clear password is ever sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from dataclasses import dataclass

DEFAULT_ITERATIONS = 4096  # PostgreSQL's own; 16 and later can be told otherwise by scram_iterations
SALT_BYTES = 16

VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)", re.ASCII)
MD5 = re.compile(r"md5[0-9a-f]{32}", re.ASCII)

PROHIBITED = (
    stringprep.in_table_a1,  # unassigned in Unicode 3.2
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


@dataclass(frozen=True)
class Verifier:
    """The parts of a stored verifier."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        salt, stored_key, server_key = (
            base64.b64encode(part).decode("ascii") for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored_key}:{server_key}"


def saslprep(password: str) -> str:
    """Prepare a password as RFC 4013 says, or return it unchanged where that forbids it, as PostgreSQL does."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in password
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or any(forbidden(character) for forbidden in PROHIBITED for character in prepared):
        return password
    if any(map(stringprep.in_table_d1, prepared)):  # written from right to left
        both_ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if not both_ends or any(map(stringprep.in_table_d2, prepared)):
            return password
    return prepared


def compute(password: str, *, salt: bytes | None = None, iterations: int = DEFAULT_ITERATIONS) -> Verifier:
    """Return the verifier of a password, with a fresh random salt unless one is given."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode("utf-8"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return Verifier(iterations, salt, hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256"))


def parse(stored: str | None) -> Verifier | None:
    """Return the parts of a stored SCRAM-SHA-256 verifier, or None if it is anything else (md5, say, or nothing)."""
    match = VERIFIER.fullmatch(stored or "")
    if not match:
        return None
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in match.groups()[1:])
    except binascii.Error:
        return None
    return Verifier(int(match[1]), salt, stored_key, server_key)


def matches(password: str, stored: str | None) -> bool:
    """Return whether what is stored is a SCRAM-SHA-256 verifier of this password, or this very verifier."""
    if parse(password):
        return hmac.compare_digest(password, stored or "")
    verifier = parse(stored)
    if verifier is None:
        return False
    computed = compute(password, salt=verifier.salt, iterations=verifier.iterations)
    return hmac.compare_digest(computed.stored_key, verifier.stored_key)
