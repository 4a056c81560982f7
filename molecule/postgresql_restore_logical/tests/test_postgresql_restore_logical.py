"""One database, table or partition of a moment, beside the live one and in its place, whatever a run is stopped at."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from backup_host import KEY, REPOSITORY

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/restoring.md"
MOMENT = """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
PLAYBOOK = "auditdb.postgresql.restore_logical"
SCRATCH = "/var/lib/postgresql/main.scratch"
SCHEMA = """
CREATE ROLE shop_reader;
CREATE SCHEMA shop;
CREATE TABLE shop.customer (id integer PRIMARY KEY, name varchar CHECK (name IN ('a', 'b')));
CREATE TABLE shop.sale (id bigserial, at date NOT NULL, customer integer REFERENCES shop.customer, PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
CREATE TABLE shop.sale_2026_01 PARTITION OF shop.sale FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE shop.sale_2026_02 PARTITION OF shop.sale FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE INDEX ON shop.sale (customer);
GRANT USAGE ON SCHEMA shop TO shop_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA shop TO shop_reader;
INSERT INTO shop.customer VALUES (1, 'a'), (2, 'b');
INSERT INTO shop.sale (at, customer) SELECT date '2026-01-01' + n, 1 + n % 2 FROM generate_series(0, 57) AS n;
"""
ROWS = 58
FORGE = """
import dataclasses, io, sys
from pathlib import Path
sys.path.insert(0, "/usr/local/lib/auditdb-backup")
from auditdb_backup import backup, packing
from auditdb_backup.configuration import Configuration
settings = Configuration.read(Path("/etc/auditdb-backup/main.json"))
place = settings.repository / "backups" / sys.argv[1]
path = place / "shop.rows.zst.age"
path.unlink()
forged = packing.pack_stream(settings, io.BytesIO(b'{"shop.sale_2026_01": 32}'), path)
found = backup.load(place)
artefacts = tuple(forged if each.name == path.name else each for each in found.artefacts)
dataclasses.replace(found, artefacts=artefacts).write(place)
"""


class Shop:
    """A database of a host, and restores of it."""

    def __init__(self, name, database, playbook) -> None:
        self.name, self.database, self.playbook = name, database, playbook

    def sql(self, statement, database="shop") -> str:
        return self.database.sql(statement, database)

    def restore(self, *arguments, **given):
        values = {f"postgresql_restore_logical_{key}": value for key, value in ({"database": "shop"} | given).items()}
        run = self.playbook(PLAYBOOK, "--limit", self.name, "-e", json.dumps(values), *arguments)
        left = f"ls -d {SCRATCH} /run/auditdb-restore-logical* /tmp/auditdb-recover-* 2>/dev/null || echo nothing"
        if "--check" not in arguments:
            assert self.database.shell(left, user="root") == "nothing", run.output
            assert self.database.call("pgrep", "-f", f"[p]ostgres -D {SCRATCH}", user="root").code == 1
        return run

    def extract(self, *arguments):
        """Run the program as the role does."""
        own = ["--scratch", SCRATCH, "--identity", KEY, "--database=shop"]
        return self.database.backup("extract", *own, *arguments)

    def good(self, *arguments, **given):
        run = self.restore(*arguments, **given)
        assert run.code == 0, run.output
        return run

    def refused(self, said, **given) -> None:
        run = self.restore(**given)
        assert run.code != 0 and said in run.text and "Remedy" in run.text, run.output

    def target(self) -> dict:
        """Return a moment after which the live database is damaged."""
        time.sleep(0.05)
        found = {"time": self.sql(f"SELECT {MOMENT}")}
        time.sleep(0.05)
        self.sql("DELETE FROM shop.sale WHERE customer = 1")
        self.database.switch()
        return found

    def rows(self, database="shop", table="shop.sale") -> int:
        return int(self.sql(f"SELECT count(*) FROM {table}", database))

    def databases(self) -> list[str]:
        return self.sql("SELECT datname FROM pg_database WHERE datname ~ '^(shop|auditdb_)' ORDER BY 1").split()


@pytest.fixture
def shop(request, database, playbook):
    found = Shop(request.node.callspec.params["database"], database, playbook)
    clean(found)
    database.sql("CREATE DATABASE shop")
    found.sql(SCHEMA)
    yield found
    clean(found)


def clean(shop) -> None:
    for name in shop.database.sql("SELECT datname FROM pg_database WHERE datname ~ '^(shop|auditdb_)'").split():
        shop.database.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    shop.database.sql("DROP ROLE IF EXISTS shop_reader")


def test_a_database_beside_the_live_one_then_in_its_place(shop):
    target = shop.target()
    check = shop.good("--check", target=target)
    assert '"state": "absent"' in check.text and shop.databases() == ["shop"]
    run = shop.good(target=target)
    assert run.changed and '"rows"' in run.text and '"grants"' in run.text, run.output
    assert shop.databases() == ["shop", "shop_restored"]
    assert shop.rows("shop_restored") == ROWS and shop.rows() == ROWS // 2
    assert shop.sql("SELECT has_table_privilege('shop_reader', 'shop.sale', 'SELECT')", "shop_restored") == "t"
    assert shop.good(target=target).changed == 0
    shop.refused("there is a database shop_restored, of something else", target={})
    run = shop.good(target=target, over="shop")
    assert shop.rows() == ROWS
    (kept,) = (name for name in shop.databases() if name != "shop")
    assert kept in run.text and shop.rows(kept) == ROWS // 2
    assert shop.good(target=target, over="shop").changed == 0 and len(shop.databases()) == 2


@pytest.mark.newest
def test_a_table_and_a_partition(shop):
    target = shop.target()
    shop.good(target=target, table="shop.sale")
    assert shop.rows(table="restored.sale") == ROWS and shop.rows() == ROWS // 2
    january = {"target": target, "table": "shop.sale_2026_01", "name": "january"}
    shop.good(**january)
    assert shop.rows(table="january.sale_2026_01") == 31
    february = shop.rows(table="shop.sale_2026_02")
    shop.good(**january, over="shop:shop.sale_2026_01")
    assert shop.rows() == 31 + february
    assert shop.good(**january, over="shop:shop.sale_2026_01").changed == 0
    shop.good(target=target, table="shop.sale", over="shop:shop.sale")
    assert shop.rows() == ROWS
    kept = shop.sql("SELECT nspname FROM pg_namespace WHERE nspname ~ '^before_' ORDER BY 1").split()
    assert len(kept) == 2 and shop.rows(table=f"{kept[1]}.sale") == 31 + february
    assert (
        shop.sql("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'shop.sale'::regclass") == "1"
    )
    run = shop.restore(target=target, table="shop.customer", name="other", over="shop:shop.customer")
    assert run.code != 0 and "refer to" in run.text and shop.rows(table="shop.customer") == 2


@pytest.mark.long
def test_out_of_a_logical_backup(shop):
    name = shop.database.take("logical")
    shop.sql("DELETE FROM shop.sale")
    shop.good(backup=name)
    assert shop.rows("shop_restored") == ROWS
    shop.good(backup=name, table="shop.sale_2026_02")
    assert shop.rows(table="restored.sale_2026_02") == ROWS - 31
    for said, given in (("has no database other", "--database=other"), ("there is a target", "--target-lsn=0/1")):
        done = shop.extract("--check", f"--backup={name}", given)
        assert done.code == 1 and said in done.output, done.output


@pytest.mark.newest
def test_bad_input_is_refused_and_nothing_changes(shop):
    shop.database.switch()
    for said, given in (
        ("is in the future", ["--target-time=2999-01-01T00:00:00Z"]),
        ("targets from 20", ["--target-time=2020-01-01T00:00:00Z"]),
        ("cannot be restored", ["--backup=20200101T000000Z-full"]),
        ("give the schema too", ["--table=sale"]),
        ("which is the live one", ["--as=shop"]),
        ("what is restored is shop", ["--over=audit_db"]),
    ):
        done = shop.extract("--check", *given)
        assert done.code == 1 and said in done.output and "Remedy" in done.output, done.output
    shop.refused("give one of time, lsn", target={"moment": "now"})
    shop.refused("there was no table", table="shop.nothing")
    assert shop.databases() == ["shop"] and shop.rows() == ROWS
    assert shop.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'restored'") == "0"


LATER = [
    pytest.param(step, marks=pytest.mark.long) for step in ("[p]g_restore .*--create", "[p]g_dump .*--schema-only")
]


@pytest.mark.newest
@pytest.mark.parametrize("step", ["[p]g_verifybackup", *LATER])
def test_killed_anywhere_the_next_run_completes(shop, step):
    target = shop.target()
    program = "auditdb-backup/[s]tart.py.* extract --scratch"
    killer = f"""for n in $(seq 2400); do
        pgrep -f '{step}' && pkill -9 -f '{program}' && exit 0; sleep 0.01; done; exit 1"""
    shop.database.host.container.exec_run(["bash", "-c", killer], detach=True)
    shop.database.shell(f"install -d -o postgres -m 0700 {SCRATCH}", user="root")
    done = shop.extract(f"--target-time={target['time']}", "--over=shop")
    assert done.code != 0, "it was killed"
    assert shop.rows() == ROWS // 2
    # On a busy machine the blow falls after the step: what has its name by then is whole.
    assert "shop_restored" not in shop.databases() or shop.rows("shop_restored") == ROWS
    shop.good(target=target, over="shop")
    assert shop.rows() == ROWS and len(shop.databases()) == 2


@pytest.mark.long
def test_a_logical_backup_is_restored_to_prove_it(shop):
    name = shop.database.take("logical")
    shop.database.good("verify", name, "--identity", KEY)
    assert json.loads(shop.database.shell(f"cat {REPOSITORY}/proofs/{name}.json"))["restored_at"]
    # Whole files, and yet not the rows that were counted: nothing but a restore finds that.
    shop.database.shell('python3 -B -c "$FORGE" ' + name, FORGE=FORGE)
    shop.database.good("verify", name)
    done = shop.database.backup("verify", name, "--identity", KEY)
    assert done.code == 1 and "rows shop.sale_2026_01: 32 expected, 31 found" in done.output, done.output
    assert shop.database.names("work") == []
    shop.database.shell(f"rm -r {REPOSITORY}/backups/{name} {REPOSITORY}/proofs/{name}.json")


def blocks() -> list[str]:
    return re.findall(r"```console\n(.+?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.newest
def test_each_command_of_the_document(shop):
    """They run one after another, exactly as they are written, on the host, as postgres."""
    shop.database.sql("DROP DATABASE IF EXISTS audit_db WITH (FORCE)")
    shop.database.sql("CREATE DATABASE audit_db TEMPLATE shop")
    name = shop.database.take("logical")
    shop.database.shell("rm -rf /var/lib/postgresql/restore")
    commands = [
        line.removeprefix("$ ").replace("BACKUP", name).replace("KEY", KEY)
        for block in blocks()
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    assert len(commands) > 8
    stop = f"test ! -e restore/data/postmaster.pid || {shop.database.bin}/pg_ctl -D restore/data -m immediate stop"
    try:
        shop.database.shell(f"export PATH=$PATH:{shop.database.bin}; cd\n" + "\n".join(commands))
        for found in ("audit_db_custom", "audit_db_plain", "audit_db_sealed"):
            assert shop.rows(found) == ROWS
    finally:
        shop.database.shell(f"cd; {stop}; rm -rf restore")
        for left in ("audit_db", "audit_db_custom", "audit_db_plain", "audit_db_sealed"):
            shop.database.sql(f"DROP DATABASE IF EXISTS {left} WITH (FORCE)")
