"""Servers that cannot be backed up are refused before anything is copied, each with the remedy."""

from __future__ import annotations

import re

import pytest
from auditdb_backup.errors import BackupError
from auditdb_backup.postgres import Facts

FACTS = {"system_identifier": "7", "server_version": "17.6", "major": 17, "wal_segment_bytes": 1 << 24}


def test_the_repositorys_own_server_is_taken():
    Facts(**FACTS, tablespaces=[]).check("7")


@pytest.mark.parametrize(
    ("tablespaces", "repository", "said"),
    [
        ([], "8", "identifier is 7, and not the repository's.*of its own"),
        (["fast"], "7", "tablespaces fast.*pg_default"),
    ],
)
def test_others_are_refused(tablespaces, repository, said):
    with pytest.raises(BackupError) as refused:
        Facts(**FACTS, tablespaces=tablespaces).check(repository)
    assert re.search(said, str(refused.value))
