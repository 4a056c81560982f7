"""The balancers of scenario haproxy: who is behind their ports, and who has the virtual address.

A scenario's conftest.py says `pytest_plugins = ["throwaway", "members", "election", "steering"]`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from members import STATE, Cluster
from throwaway import Host, ask, keep_figure, wait_until

WRITES, READS = 5000, 5001
VIRTUAL = "192.0.2.10"
LOGIN = {"user": "election", "password": "only-for-this-test"}
FIGURES = STATE / "haproxy.json"
"""How long each change took, as the last run measured it."""

# Asks a port again and again, as far as PostgreSQL's answer to a wish for TLS, and prints the longest time without one.
ASK = """
import socket, sys, time
until, last, longest, answers = time.monotonic() + float(sys.argv[3]), None, 0.0, 0
while time.monotonic() < until or not answers:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.3) as asked:
            asked.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
            if asked.recv(1) == b"S":
                now = time.monotonic()
                longest, last, answers = max(longest, now - (last or now)), now, answers + 1
    except OSError:
        pass
    time.sleep(0.02)
print(f"{max(longest, time.monotonic() - last):.2f} {answers}")
"""


wait = partial(wait_until, seconds=20, every=0.05)


def figure(what: str, seconds: float) -> None:
    keep_figure(FIGURES, what, round(seconds, 2))


class Balancer(Host):
    """A host with HAProxy."""

    def login(self, port: int, **options: Any) -> Any:
        connection = psycopg2.connect(
            **{
                "host": self.container.name, "hostaddr": self.address, "port": port, "dbname": "postgres", **LOGIN,
                "sslmode": "verify-full", "sslrootcert": str(STATE / "tls/ca.crt"), "connect_timeout": 5, **options,
            }
        )  # fmt: skip
        connection.autocommit = True
        return connection

    def who(self, port: int) -> str:
        """Return the address of the server that a new session on a port has; '' while there is none."""
        try:
            connection = self.login(port)
        except psycopg2.OperationalError:
            return ""
        try:
            return str(ask(connection, "SELECT host(inet_server_addr())"))
        except psycopg2.Error:
            return ""
        finally:
            connection.close()

    @property
    def pid(self) -> str:
        return self.run("systemctl", "show", "--value", "-p", "MainPID", "haproxy").strip()

    @property
    def has_the_address(self) -> bool:
        return self.run("ip", "-oneline", "address", "show", "to", f"{VIRTUAL}/32") != ""


def ended(connection: Any) -> bool:
    """Say whether a session has ended."""
    try:
        ask(connection, "SELECT 1")
    except psycopg2.Error:
        return True
    return False


@pytest.fixture(scope="session")
def balancers(scenario: Path, cluster: Cluster) -> dict[str, Balancer]:
    leader = cluster.leader
    if leader.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'election'") == "0":
        leader.sql("CREATE ROLE election LOGIN PASSWORD 'only-for-this-test'")
        leader.sql("CREATE TABLE election (number bigint)")
        leader.sql("GRANT SELECT, INSERT ON election TO election")
    found = {name: Balancer(name, scenario / "inventory") for name in ("steer-lb1", "steer-lb2")}
    for each in found.values():
        each.run("sh", "-c", "command -v curl > /dev/null || apt-get install -y -qq curl")
    return found


@pytest.fixture
def balancer(balancers: dict[str, Balancer]) -> Balancer:
    return balancers["steer-lb1"]
