"""Base backups of a standby, where it is to be trusted; otherwise of the primary, and that is said.

The standbys run on the backup host, each at an address of its own, as the user who keeps the backups.
"""

from __future__ import annotations

import json
import re

import pytest

PLACE = "/var/tmp/auditdb-standbys"
USER = "auditdb-backup"


class Instance:
    """A server of the backup host."""

    def __init__(self, pair, address: str) -> None:
        self.pair = pair
        self.address = address
        self.data = f"{PLACE}/{address}"
        self.bin = f"/usr/lib/postgresql/{pair.database.version}/bin"

    def call(self, script: str):
        return self.pair.keeper.call("bash", "-euo", "pipefail", "-c", script, user=USER)

    def shell(self, script: str) -> str:
        done = self.call(script)
        assert done.code == 0, f"{script}\n{done.output}"
        return done.output.strip()

    def sql(self, statement: str) -> str:
        return self.shell(f'psql -XAtqh {self.data}.run -U postgres -d postgres -c "{statement}"')

    def clone(self) -> Instance:
        """Clone the primary over the network, as any standby is."""
        kept = f"/etc/auditdb-backup/{self.pair.keeper.name}"
        environment = f"PGSSLMODE=verify-full PGSSLROOTCERT={kept}.ca.crt PGPASSFILE={kept}.pgpass"
        options = f"-h {self.pair.database.host.container.name} -U auditdb_backup -D {self.data} -R -c fast"
        self.shell(f"env {environment} {self.bin}/pg_basebackup {options}")
        return self

    def copy(self, other: Instance) -> Instance:
        """Be a copy of another one, which does not run."""
        self.shell(f"rm -rf {self.data}; cp -a {other.data} {self.data}")
        return self

    def start(self) -> Instance:
        summarizes = "summarize_wal = on" if self.pair.database.version >= 17 else ""
        self.shell(f"""mkdir -p {self.data}.run; cat > {self.data}/postgresql.conf <<END
listen_addresses = '{self.address}'
unix_socket_directories = '{self.data}.run'
hba_file = '{PLACE}/pg_hba.conf'
ssl = on
ssl_cert_file = '{PLACE}/server.crt'
ssl_key_file = '{PLACE}/server.key'
shared_buffers = 16MB
max_connections = 100
log_replication_commands = on
wal_retrieve_retry_interval = 200ms
{summarizes}
END
touch {self.data}/pg_ident.conf
{self.bin}/pg_ctl -D {self.data} -l {self.data}.log -w -t 60 start > /dev/null""")
        return self

    def stop(self, mode: str = "fast") -> Instance:
        self.call(f"{self.bin}/pg_ctl -D {self.data} -m {mode} -w stop")
        return self

    def promote(self) -> Instance:
        self.shell(f"{self.bin}/pg_ctl -D {self.data} -w promote")
        return self

    @property
    def log(self) -> str:
        return self.shell(f"cat {self.data}.log")


def prepare(pair) -> None:
    """Make the directory of the backup host's servers, with the certificate of the primary, which names localhost."""
    keeper, database = pair.keeper, pair.database
    tls = {name: database.shell(f"cat /etc/postgresql/tls/server.{name}", user="root") for name in ("crt", "key")}
    keeper.shell(f"""rm -rf {PLACE}; install -d -o {USER} -m 0700 {PLACE}
localedef -i en_US -f UTF-8 en_US.UTF-8
cat > {PLACE}/server.crt <<< '{tls["crt"]}'
cat > {PLACE}/server.key <<< '{tls["key"]}'
cat > {PLACE}/pg_hba.conf <<END
local all all trust
hostssl all auditdb_backup 127.0.0.0/8 scram-sha-256
hostssl replication auditdb_backup 127.0.0.0/8 scram-sha-256
END
chown {USER} {PLACE}/*; chmod 0600 {PLACE}/server.key""")


@pytest.fixture
def standby(pair):
    """A standby at the address that the inventory names."""
    prepare(pair)
    pair.database.sql("ALTER SYSTEM SET log_replication_commands = on")
    pair.database.sql("SELECT pg_reload_conf()")
    found = Instance(pair, "127.0.0.1").clone().start()
    yield found
    found.stop("immediate")
    pair.database.sql("ALTER SYSTEM RESET log_replication_commands")
    pair.keeper.shell(f"rm -rf {PLACE}")


def take(pair, kind: str, **changes) -> dict:
    """Take a backup, by the host's configuration with these changes, and return what its manifest says."""
    keeper = pair.keeper
    before = {each["id"] for each in listed(pair)}
    configuration = {**json.loads(keeper.shell(f"cat /etc/auditdb-backup/{keeper.name}.json")), **changes}
    keeper.shell(f"cat > {PLACE}/configuration.json <<< '{json.dumps(configuration)}'")
    argv = ["auditdb-backup", "--config", f"{PLACE}/configuration.json", "--wait", "60", "backup", kind]
    keeper.shell(f"chmod 0644 {PLACE}/configuration.json")
    done = keeper.call(*argv, user=USER)
    assert done.code == 0, done.output
    (made,) = (each for each in listed(pair) if each["id"] not in before)
    assert made["source"] in done.output
    assert all(f"NOTICE {each}" in done.output for each in made["notices"])
    return made


def listed(pair) -> list[dict]:
    return json.loads(pair.keeper.backup("list", "--json").output)


def test_a_backup_is_of_the_standby_and_restores_to_what_the_primary_had(pair, standby):
    database, primary = pair.database, f"primary {pair.database.host.container.name}"
    taken = []
    if database.version >= 17:
        # The WAL since the newest backup was never seen by a standby that was made after it.
        impossible = take(pair, "incremental")
        assert impossible["source"] == primary
        assert "standby localhost was passed over: pg_basebackup ended" in impossible["notices"][0]
        status = pair.keeper.backup("status")
        assert f"NOTICE {impossible['id']}: {impossible['notices'][0]}" in status.output
        assert pair.keeper.status()["problems"] == []
        standby.sql("ALTER SYSTEM SET summarize_wal = off")
        standby.sql("SELECT pg_reload_conf()")
        assert "it does not summarize WAL. Remedy: " in take(pair, "incremental")["notices"][0]
        standby.sql("ALTER SYSTEM RESET summarize_wal")
        standby.sql("SELECT pg_reload_conf()")
        full = take(pair, "full", standbys=[])
        assert (full["source"], full["notices"]) == (primary, [])
        taken = [take(pair, "incremental")]
        assert taken[0]["parent"] == full["id"], "the parent may be the primary's"
        taken += [take(pair, "full"), take(pair, "incremental")]
    else:
        taken = [take(pair, "full")]
    for each in taken:
        assert (each["source"], each["notices"]) == ("standby localhost", [])
        assert f"LABEL 'auditdb {each['id']}'" in standby.log
        assert f"auditdb {each['id']}" not in database.shell("cat /var/log/postgresql/*.log", user="root")
    last = database.sql("INSERT INTO ledger DEFAULT VALUES RETURNING id")
    pair.switch()
    assert pair.keeper.status()["problems"] == []
    assert [pair.keeper.backup("verify", each["id"]).code for each in taken] == [0] * len(taken)
    assert re.search(rf"{taken[-1]['id']}.* standby localhost\n", pair.keeper.backup("list").output)
    # By its name: the hourly job may have taken another one meanwhile.
    done = database.restore("--backup", taken[-1]["id"])
    assert done.code == 0, done.output
    assert json.loads(done.output)["backups"][-1] == taken[-1]["id"]
    database.recovered()
    assert int(database.copy_sql("SELECT max(id) FROM ledger")) >= int(last)


def lagging(instance: Instance) -> None:
    instance.start().sql("SELECT pg_wal_replay_pause()")


def promoted(instance: Instance) -> None:
    instance.start().promote()


def followed(instance: Instance) -> None:
    """Be a standby of one that was promoted."""
    instance.start().promote().stop()
    follow_nobody(instance)


def diverged(instance: Instance) -> None:
    """Be a standby of a copy that was started elsewhere: same system identifier, same timeline, other commits."""
    instance.shell(f"rm {instance.data}/standby.signal")
    instance.start()
    for _each in range(3):
        instance.sql("INSERT INTO ledger DEFAULT VALUES")
        instance.sql("SELECT pg_switch_wal()")
    instance.stop()
    follow_nobody(instance)


def foreign(instance: Instance) -> None:
    """Be a standby of another cluster, which lets the backup host in."""
    instance.shell(f"rm -rf {instance.data}; {instance.bin}/initdb -D {instance.data} -U postgres -A trust")
    kept = f"/etc/auditdb-backup/{instance.pair.keeper.name}.pgpass"
    password = instance.shell(f"cut -d: -f5 {kept}")
    instance.start().sql(f"CREATE ROLE auditdb_backup LOGIN REPLICATION PASSWORD '{password}' IN ROLE pg_checkpoint")
    instance.stop()
    follow_nobody(instance)


def follow_nobody(instance: Instance) -> None:
    instance.shell(f"sed -i /primary_conninfo/d {instance.data}/postgresql.auto.conf")
    instance.shell(f"touch {instance.data}/standby.signal")
    instance.start()


def healthy(instance: Instance) -> None:
    instance.start()


# What becomes of a standby before the job, and what the job says of it.
BEFORE = {
    "127.0.0.2": (lagging, "it lags: within 3 s it has not replayed the primary's checkpoint"),
    "127.0.0.3": (promoted, "it is no standby: it is not in recovery"),
    "127.0.0.4": (followed, "it is on timeline"),
    "127.0.0.5": (diverged, "its WAL is not the primary's"),
    "127.0.0.6": (foreign, "it is of another cluster: its system identifier is"),
    "127.0.0.7": (lambda instance: None, "Connection refused"),
}
# What happens to it while the job is at work: what is run when the copying is about to begin, and what is said. It is
# no child of pg_basebackup, which takes the end of any child for that of its own.
MEANWHILE = {
    "127.0.0.8": ("{ctl} -w promote", "it was no standby any more when the backup began"),
    "127.0.0.9": ("( (sleep 1; {ctl} -w promote) & )", "the standby was promoted during online backup"),
    "127.0.0.10": ("( (sleep 1; {ctl} -m immediate stop) & )", "could not read COPY data"),
}


def hooked(pair) -> str:
    """Return a directory of PostgreSQL's programs, of which pg_basebackup does first what MEANWHILE says."""
    real = f"/usr/lib/postgresql/{pair.database.version}/bin"
    cases = "\n".join(
        f"*' {address} '*) {what.format(ctl=f'{real}/pg_ctl -D {PLACE}/{address} > /dev/null 2>&1')} ;;"
        for address, (what, _said) in MEANWHILE.items()
    )
    slow = "*' 127.0.0.9 '* | *' 127.0.0.10 '*) set -- \"$@\" --max-rate=8M ;;"
    pair.keeper.shell(f"""mkdir {PLACE}/bin; ln -s {real}/* {PLACE}/bin; rm {PLACE}/bin/pg_basebackup
cat > {PLACE}/bin/pg_basebackup <<'END'
#!/bin/bash
case "$*" in
{cases}
esac
case "$*" in
{slow}
esac
exec {real}/pg_basebackup "$@"
END
chmod 0755 {PLACE}/bin/pg_basebackup""")
    return f"{PLACE}/bin"


# It is the same program on both: once is enough.
@pytest.mark.parametrize("database", ["pulled-trixie"], indirect=True)
def test_a_standby_that_cannot_be_trusted_is_passed_over(pair, standby):
    standby.stop()
    instances = [Instance(pair, address).copy(standby) for address in (*BEFORE, *MEANWHILE)]
    try:
        for instance in instances:
            BEFORE.get(instance.address, (healthy,))[0](instance)
        pair.database.sql("INSERT INTO ledger DEFAULT VALUES")
        environment = json.loads(pair.keeper.shell(f"cat /etc/auditdb-backup/{pair.keeper.name}.json"))["environment"]
        # The certificate has none of these addresses.
        environment["PGSSLMODE"] = "require"
        addresses = [instance.address for instance in instances]
        made = take(pair, "full", bin=hooked(pair), standbys=addresses, standby_lag=3, environment=environment)
    finally:
        for instance in instances:
            instance.stop("immediate")
    assert made["source"] == f"primary {pair.database.host.container.name}"
    expected = [said for _what, said in (*BEFORE.values(), *MEANWHILE.values())]
    for address, said, notice in zip(addresses, expected, made["notices"], strict=True):
        assert f"standby {address} was passed over: " in notice and said in notice
    assert pair.keeper.backup("verify", made["id"]).code == 0
    assert pair.keeper.status()["problems"] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"postgresql_backup_standbys": ["a b", "auditdb-pulled-trixie"], "postgresql_backup_standby_lag": 0},
            [
                "'a b' is no address of a standby",
                "'auditdb-pulled-trixie' is no address of a standby",
                "standby_lag is 0. Remedy",
            ],
        ),
        (
            {"postgresql_backup_host": ""},
            ["postgresql_backup_standbys (localhost) goes with postgresql_backup_host and the engine basebackup only"],
        ),
    ],
)
def test_standbys_that_make_no_sense_are_refused(playbook, given, said):
    run = playbook("auditdb.postgresql.backup", "--limit", "pulled-trixie", "-e", json.dumps(given))
    assert run.code != 0 and run.changed == 0
    assert all(each in run.text for each in said), run.text
