"""The long proofs use the same servers and databases as the module tests."""

from __future__ import annotations

from ..integration.conftest import database, role_prefix, server

__all__ = ["database", "role_prefix", "server"]
