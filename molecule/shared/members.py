"""A Patroni cluster on a scenario's hosts: who leads, what the REST API says, and what faults cost.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "members", "election"]`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from election import Outcome, Writer, outcome, writing
from throwaway import Host, execute, keep_figure, wait_until

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
STATE = SCENARIO / "inventory/.state"
FIGURES = STATE / "election.json"
"""What each fault has cost, as the last run measured it."""
VERSION = 15 if SCENARIO.name.endswith("debian12") else 17
"""Major version of PostgreSQL, as the hosts' release ships it."""
UNIT = f"patroni@{VERSION}-main"
DATA = f"/var/lib/postgresql/{VERSION}/main"


class Cluster:
    """The members, by name."""

    def __init__(self, hosts: dict[str, Host]) -> None:
        self.hosts = hosts

    def call(self, host: Host, *argv: str, user: str = "root") -> tuple[int, str]:
        code, output = execute(host.container, list(argv), user)
        return code, output.decode("utf-8", errors="replace")

    def rest(self, host: Host, path: str, **options: Any) -> Any:
        """Ask a member's REST API from outside, over TLS."""
        name = host.container.name
        pool = urllib3.HTTPSConnectionPool(
            host.address, 8008, ca_certs=str(STATE / "tls/ca.crt"), assert_hostname=name, server_hostname=name
        )
        method = options.pop("method", "GET")
        return pool.request(method, path, timeout=5, retries=False, **options)

    def etcdctl(self, host: Host, *arguments: str) -> tuple[int, str]:
        """Ask the host's own member of etcd with Patroni's certificate; return the exit code, and what it printed."""
        tls = "--cacert /etc/etcd/tls/ca.crt --cert /etc/etcd/tls/client.crt --key /etc/etcd/tls/client.key"
        command = f"ETCDCTL_API=3 timeout 10 etcdctl --endpoints https://{host.container.name}:2379 {tls}"
        return self.call(host, "sh", "-c", f'{command} "$@" 2> /dev/null', "sh", *arguments)

    def etcd(self) -> dict[str, dict[str, Any]]:
        """Return how each member of etcd is that answers, by the name of its host."""
        asked = self.etcdctl(next(iter(self.hosts.values())), "endpoint", "status", "--cluster", "-w", "json")[1]
        found = json.loads(asked or "[]")
        names = {f"https://{host.container.name}:2379": name for name, host in self.hosts.items()}
        return {names[each["Endpoint"]]: each["Status"] for each in found}

    def leads_etcd(self) -> Host | None:
        """Return the host that leads etcd; None while none does."""
        found = self.etcd()
        return next((self.hosts[name] for name, each in found.items() if each["leader"] == _id(each)), None)

    def lead_etcd(self, host: Host) -> None:
        """Have this host lead etcd."""
        before = self.leads_etcd()
        assert before is not None
        if before.name != host.name:
            code, output = self.etcdctl(before, "move-leader", f"{_id(self.etcd()[host.name]):x}")
            assert code == 0, output

    def listed(self) -> list[dict[str, Any]]:
        """Return the members as the first says that answers."""
        for host in self.hosts.values():
            try:
                return list(json.loads(self.rest(host, "/cluster").data)["members"])
            except (urllib3.exceptions.HTTPError, OSError, ValueError):
                continue
        return []

    def leader_name(self) -> str:
        return next((each["name"] for each in self.listed() if each["role"] == "leader"), "")

    @property
    def leader(self) -> Host:
        self.wait(lambda: self.leader_name() in self.hosts, "nobody leads")
        return self.hosts[self.leader_name()]

    @property
    def standbys(self) -> list[Host]:
        leader = self.leader.name
        return [host for name, host in self.hosts.items() if name != leader]

    def streaming(self) -> int:
        """Return how many standbys stream from who leads; 0 while nobody does."""
        name = self.leader_name()
        if name not in self.hosts:
            return 0
        # What receives WAL for the backups is no member.
        names = ", ".join(f"'{each}'" for each in self.hosts)
        statement = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name IN"
        code, output = self.call(self.hosts[name], "psql", "-XAtqc", f"{statement} ({names})", user="postgres")
        return int(output) if code == 0 else 0

    def whole(self, seconds: int = 120) -> None:
        """Wait until all members take part again."""
        self.wait(lambda: self.streaming() == len(self.hosts) - 1, "the standbys do not stream", seconds)

    def synchronous(self) -> None:
        """Wait until commits wait for any of all standbys. Patroni says so some seconds after they stream."""
        self.whole()
        counted = ("leader", "quorum_standby", "sync_standby")
        self.wait(lambda: all(each["role"] in counted for each in self.listed()), "commits do not wait for all")

    def replaced(self, before: Host) -> None:
        """Wait until another than who led says that it leads; who led does not answer."""
        others = [host for host in self.hosts.values() if host.name != before.name]
        wait_until(
            lambda: any(self.rest(host, "/primary").status == 200 for host in others), "nobody else leads", 60, 0.5
        )

    def wait(self, until: Callable[[], bool], message: str, seconds: int = 60) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"{message}: {self.listed()}"
            time.sleep(0.3)

    def curl(self, host: Host, path: str, *options: str, to: Host | None = None) -> tuple[int, str]:
        """Ask a member's REST API from a host, and return the status and the answer."""
        url = f"https://{(to or host).container.name}:8008{path}"
        argv = [
            "curl",
            "-sS",
            "-m",
            "10",
            "-w",
            "\n%{http_code}",
            "--cacert",
            "/etc/postgresql/tls/ca.crt",
            *options,
            url,
        ]
        _code, said = self.call(host, *argv)
        return int(said.rsplit("\n", 1)[1]), said

    @property
    def credentials(self) -> list[str]:
        """Return what changes something through the REST API, as options of curl."""
        tls = "/etc/postgresql/tls/server"
        return ["--cert", f"{tls}.crt", "--key", f"{tls}.key", "-u", f"patroni:{passwords()['rest']}"]

    def change(self, path: str, body: dict[str, Any], method: str = "POST") -> tuple[int, str]:
        """Change something, as a member may; where nobody leads, the first one."""
        host = self.hosts.get(self.leader_name()) or next(iter(self.hosts.values()))
        sent = ["-X", method, "-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return self.curl(host, path, *self.credentials, *sent)

    @contextmanager
    def changed(self, wrong: dict[str, Any], right: dict[str, Any]) -> Iterator[None]:
        """Change what the members share, meanwhile."""
        assert self.change("/config", wrong, "PATCH")[0] == 200
        try:
            yield
        finally:
            assert self.change("/config", right, "PATCH")[0] == 200

    def dcs(self) -> dict[str, Any]:
        return dict(json.loads(self.rest(self.leader, "/config").data))

    @contextmanager
    def written(self, fault: str, patience: float = 3) -> Iterator[Outcome]:
        """Write rows while the block does its worst; afterwards the outcome is known, and all members are back."""
        self.whole()
        found = Outcome()
        logins = [
            {
                "host": host.container.name, "hostaddr": host.address, "dbname": "postgres", "user": "election",
                "password": "only-for-this-test", "sslmode": "verify-full", "sslrootcert": str(STATE / "tls/ca.crt"),
            }
            for host in self.hosts.values()
        ]  # fmt: skip
        leader = self.leader
        leader.sql("DROP TABLE IF EXISTS election")
        leader.sql("DROP ROLE IF EXISTS election")
        leader.sql("CREATE ROLE election LOGIN PASSWORD 'only-for-this-test'")
        leader.sql("CREATE TABLE election (number bigint PRIMARY KEY)")
        leader.sql("GRANT SELECT, INSERT ON election TO election")
        writer: Writer
        with writing(logins, patience) as writer:
            yield found
        self.whole()
        rows = {int(each) for each in self.leader.sql("SELECT number FROM election").split()}
        vars(found).update(vars(outcome(writer, rows)))
        cost = {"outage_s": round(found.outage, 2), "rows": found.rows, "lost": len(found.lost)}
        keep_figure(FIGURES, fault, cost)


def _id(status: dict[str, Any]) -> int:
    """Return the number of a member of etcd."""
    return int(status["header"]["member_id"])


def passwords() -> dict[str, str]:
    """Return the generated passwords by what they are for."""
    found = (STATE / "patroni").glob("main-*.password")
    return {path.stem.split("-")[1]: path.read_text().strip() for path in found}


@pytest.fixture(scope="session")
def cluster(hosts: dict[str, Host]) -> Cluster:
    for host in hosts.values():
        host.run("sh", "-c", "command -v curl > /dev/null || apt-get install -y -qq curl")
    return Cluster(hosts)
