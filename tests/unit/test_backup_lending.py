"""What a backup host's key can have run on a database host."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditdb_backup.errors import BackupError
from auditdb_backup.lending import FIXED, PGBACKREST, allowed

CONFIGURATION = Path("/etc/auditdb-backup/main.pgbackrest.conf")
# As pgBackRest 2.45 and 2.55 ask for it.
ASKED = (
    "pgbackrest --exec-id=3043-5a1f0c2e --log-level-console=off --log-level-file=off --log-level-stderr=error "
    "--pg1-path=/var/lib/postgresql/17/main --pg1-port=5432 --pg1-socket-path=/var/run/postgresql --process=0 "
    "--remote-type=pg --stanza=main backup:remote"
)
OWN = [PGBACKREST, f"--config={CONFIGURATION}", "--stanza=main", *FIXED, "--process=0", "--exec-id=3043-5a1f0c2e"]


def test_what_is_run_is_what_we_say():
    assert allowed(ASKED, CONFIGURATION, "main") == [*OWN, "backup:remote"]


@pytest.mark.parametrize(
    "more",
    [
        "--config=/tmp/x",
        "--pg1-user=postgres",
        "--pg1-path=/etc",
        "--lock-path=/etc",
        "--log-path=/etc --log-level-file=debug",
        "--spool-path=/etc",
        "--repo1-path=/etc",
        "--config=/tmp/x --process=99999999 --exec-id=../x",
    ],
)
def test_no_option_of_who_asks_is_taken(more):
    assert allowed(ASKED.replace("--pg1-port=5432", more), CONFIGURATION, "main")[: len(OWN) - 2] == OWN[:-2]
    assert more not in " ".join(allowed(ASKED.replace("--pg1-port=5432", more), CONFIGURATION, "main"))


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "id",
        "backup:remote",
        "'",
        ASKED.replace("backup:remote", "restore:remote"),
        ASKED.replace("backup:remote", "archive-push:remote"),
        ASKED.replace("backup:remote", "backup"),
        ASKED.replace("backup:remote", "stanza-delete"),
        ASKED.replace("--stanza=main", "--stanza=other"),
        ASKED.replace("--remote-type=pg", "--remote-type=repo"),
        ASKED.replace("--remote-type=pg", ""),
        f"{ASKED}; id",
        f"{ASKED} extra",
        f"{ASKED} --remote-type=repo",
        f"{ASKED.replace('backup:remote', '')} --remote-type=repo backup:remote",
    ],
)
def test_all_else_is_refused(asked):
    with pytest.raises(BackupError, match="nothing that can be asked for|no command"):
        allowed(asked, CONFIGURATION, "main")
