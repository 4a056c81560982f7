"""SCRAM-SHA-256 verifiers: the published example, what PostgreSQL stored, and preparation of passwords."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import scram
from hypothesis import given, settings
from hypothesis import strategies as st

# ALTER ROLE ... PASSWORD 'pencil' on PostgreSQL 17, and the exchange of RFC 7677 with its own salt.
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def test_the_example_of_the_rfc():
    # RFC 7677 section 3: the server's signature of its AuthMessage under the server key.
    import hmac

    message = (
        "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    verifier = scram.compute("pencil", salt=RFC_SALT)
    signature = hmac.digest(verifier.server_key, message.encode(), "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@settings(max_examples=20, deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_a_verifier_is_of_its_password_only(password, other):
    stored = str(scram.compute(password, iterations=10))
    assert str(scram.parse(stored)) == stored
    assert scram.matches(password, stored)
    assert scram.matches(other, stored) == (scram.saslprep(other) == scram.saslprep(password))


@pytest.mark.parametrize(
    "stored", [None, "", "md5" + "0" * 32, "clear", "SCRAM-SHA-256$4096:?$a:b", "SCRAM-SHA-256$4096:a$b:c"]
)
def test_anything_else_is_no_verifier(stored):
    assert scram.parse(stored) is None
    assert not scram.matches("clear", stored)


def test_each_verifier_has_its_own_salt():
    assert scram.compute("pencil") != scram.compute("pencil")


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),  # RFC 4013 section 3: soft hyphen maps to nothing
        ("user", "user"),
        ("\u00aa", "a"),  # NFKC
        ("\u2168", "IX"),  # NFKC
        ("a\u00a0b", "a b"),  # other spaces
        ("\u0007", "\u0007"),  # prohibited: as it is
        ("\u0627\u0031", "\u0627\u0031"),  # bidirectional check fails: as it is
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u00ad", "\u00ad"),  # nothing would be left
        ("\u0221", "\u0221"),  # unassigned in Unicode 3.2
        ("e\u0301", "\u00e9"),
    ],
)
def test_saslprep(password, prepared):
    assert scram.saslprep(password) == prepared
