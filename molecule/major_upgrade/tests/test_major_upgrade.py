"""docs/major-upgrade.md, each command as it stands there: forward, back, and forward again."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from throwaway import ROOT, Host, keep_figure, wait_until

pytestmark = pytest.mark.long

DOCUMENT = (ROOT / "docs/major-upgrade.md").read_text()
BLOCKS = [
    (heading, kind, text)
    for heading, body in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", DOCUMENT, re.MULTILINE)
    for kind, text in re.findall(r"^```sh (.*)\n((?:.*\n)*?)```", body, re.MULTILINE)
]
SUM = "SELECT count(*), md5(string_agg(l::text, '|' ORDER BY id)) FROM audit.audit_log l"
WRITE = """INSERT INTO audit.audit_log ("timestamp", action, status) SELECT now(), 'written ' || n, 'success'
FROM generate_series(1, {}) n"""


@pytest.fixture
def follow(scenario: Path, database_host: Host):
    """Return a function that runs what the document has under these headings, and returns each command's seconds."""

    def run(*headings: str, without: str = "drop") -> dict[str, float]:
        took = {}
        for heading, kind, text in BLOCKS:
            if heading not in headings or kind == without:
                continue
            for line in text.splitlines():
                begun = time.monotonic()
                if kind.endswith("control"):
                    command = ["sh", "-c", line.replace("MAJOR", str(scenario / "inventory"))]
                    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
                    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                else:
                    database_host.run("sh", "-ec", f"export DEBIAN_FRONTEND=noninteractive; {line}")
                took[line] = time.monotonic() - begun
        return took

    return run


def test_the_document_has_the_steps():
    assert [(heading[:1], kind) for heading, kind, _text in BLOCKS] == [
        ("1", "control"), ("1", "host"), ("2", "host"), ("3", "host"), ("4", "host"), ("5", "host"), ("5", "control"),
        ("5", "drop"), ("B", "back"), ("B", "back control"),
    ]  # fmt: skip


def version(host: Host) -> int:
    # Before the indexes are made again, a warning comes first.
    return int(host.sql("SHOW server_version_num").splitlines()[-1]) // 10000


def headings(*beginnings: str) -> list[str]:
    return [heading for heading in dict.fromkeys(each[0] for each in BLOCKS) if heading.startswith(beginnings)]


def test_forward_back_and_forward_again(database_host, playbook, follow, scenario):
    host = database_host
    host.sql(WRITE.format(1000), "audit_db")
    before = host.sql(SUM, "audit_db")
    follow(*headings("1", "2"))
    refused = playbook()
    assert refused.code != 0 and "A second, empty cluster beside the old one is refused" in refused.text
    meanwhile = playbook("auditdb.postgresql.site", "-e", "audit_postgresql_version=15")
    assert meanwhile.code != 0 and "collation version 2.36, and the operating system now has 2.41" in meanwhile.text
    assert version(host) == 15

    took = follow(*headings("3", "4", "5"))
    without = sum(seconds for line, seconds in took.items() if "pg_upgradecluster" in line)
    keep_figure(scenario / "inventory/.state/major.json", "seconds of pg_upgradecluster", round(without, 1))
    assert version(host) == 17
    assert host.sql(SUM, "audit_db") == before
    again = playbook()
    assert (again.code, again.changed) == (0, 0), again.output
    host.restart()
    assert version(host) == 17, "the old one starts with the host"
    host.sql(WRITE.format(5), "audit_db")

    follow("Back", without="")
    assert version(host) == 15
    assert host.sql(SUM, "audit_db") == before, "what was written to the new one is not in it"
    archived = "SELECT last_archived_wal >= {} FROM pg_stat_archiver"
    wal = host.sql("SELECT quote_literal(pg_walfile_name(pg_switch_wal()))")
    wait_until(lambda: host.sql(archived.format(wal)) == "t", "the old repository does not take its WAL again", 60)
    host.run("auditdb-backup", "backup", "full", user="postgres")

    host.run("pg_dropcluster", "17", "after")
    host.run("mv", "/var/lib/auditdb-backup/main-17", "/var/lib/auditdb-backup/main-17-first")
    follow(*headings("3", "4", "5"), without="")
    assert host.sql(SUM, "audit_db") == before
    assert host.run("pg_lsclusters", "-h").split()[:2] == ["17", "main"]
