# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends the term of a leader whose host is dead, once a fence has confirmed that it is off.

Each member looks at who leads. When most of the members see neither its Patroni nor its server, and it does not renew
its place in etcd, one of them has the fence turn the host off; only when that has succeeded is the place given up.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVERY = 1.0
"""Seconds between two looks, and for which an answer is waited for."""
SUSPECTED = 5
"""Seconds for which a member's suspicion stands when it is not said again."""
MARGIN = 1
"""Seconds by which a leader that lives may be late to renew its place."""


@dataclass(frozen=True)
class Settings:
    """The configuration file."""

    name: str
    """This member."""
    members: dict[str, str]
    """The addresses of all members, by name."""
    rest_port: int
    port: int
    """TCP port of the servers."""
    tree: str
    """The path of Patroni's keys in etcd."""
    etcd: list[str]
    """Its members, as host:port."""
    ca: str
    certificate: str
    key: str
    ttl: int
    """Seconds after which a leader that is silent has lost its place."""
    loop_wait: int
    """Seconds between two renewals of it."""
    after: float
    """Seconds for which a leader must have been silent."""
    command: list[str]
    """Turns a host off; ends with 0 once it is off. {host} is the name of the member."""
    timeout: float
    """Seconds that it has."""


@dataclass
class Leader:
    """Who leads, as etcd has it."""

    name: str
    lease: str
    paused: bool = False


class EtcdError(Exception):
    """No member of etcd has answered."""


@dataclass
class Etcd:
    """etcd's own gateway for JSON, by the member that has answered last."""

    settings: Settings
    context: ssl.SSLContext = field(init=False)
    hosts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cafile=self.settings.ca)
        self.context.load_cert_chain(self.settings.certificate, self.settings.key)
        # Its own host's first, if it is one: others may be gone with the leader.
        own = self.settings.members[self.settings.name]
        self.hosts = sorted(self.settings.etcd, key=lambda each: each.rsplit(":", 1)[0] != own)

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """Return what etcd answers; raise EtcdError where none of its members does."""
        said = "there is none"
        for _each in self.settings.etcd:
            host, port = self.hosts[0].rsplit(":", 1)
            connection = http.client.HTTPSConnection(host, int(port), timeout=EVERY, context=self.context)
            try:
                connection.request("POST", f"/v3/{path}", json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == http.client.OK:
                    return dict(json.loads(text))
                said = f"{self.hosts[0]}: {text.decode(errors='replace').strip()}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                said = f"{self.hosts[0]}: {error}"
            finally:
                connection.close()
            self.hosts.append(self.hosts.pop(0))
        raise EtcdError(said)

    def under(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return the keys that begin so, as etcd has them, by name."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self.ask("kv/range", key=encoded(prefix), range_end=encoded(end)).get("kvs", [])
        return {base64.b64decode(each["key"]).decode(): each for each in found}

    def lease(self, seconds: float) -> str:
        """Return a lease, with which a key goes after so many seconds."""
        return str(self.ask("lease/grant", TTL=int(seconds))["ID"])

    def put(self, key: str, value: str, lease: str) -> None:
        """Write a key that goes with the lease."""
        self.ask("kv/put", key=encoded(key), value=encoded(value), lease=lease)

    def create(self, key: str, value: str, lease: str) -> bool:
        """Write a key that goes with the lease, where there is none; return whether that was so."""
        put = {"requestPut": {"key": encoded(key), "value": encoded(value), "lease": lease}}
        none = {"target": "CREATE", "key": encoded(key), "createRevision": "0"}
        return bool(self.ask("kv/txn", compare=[none], success=[put]).get("succeeded", False))

    def revoke(self, lease: str) -> None:
        """Have all keys of the lease go now."""
        self.ask("lease/revoke", ID=lease)

    def left(self, lease: str) -> int:
        """Return how many seconds the lease has left; -1 where it is gone."""
        return int(self.ask("lease/timetolive", ID=lease).get("TTL", -1))


def encoded(text: str) -> str:
    """Return the text as etcd's gateway takes it."""
    return base64.b64encode(text.encode()).decode()


def leader(keys: dict[str, dict[str, Any]], tree: str) -> Leader | None:
    """Return who leads; None where nobody does."""
    found = keys.get(f"{tree}leader")
    if found is None or not found.get("lease"):
        return None
    config = json.loads(base64.b64decode(keys.get(f"{tree}config", {}).get("value", "")) or b"{}")
    return Leader(base64.b64decode(found["value"]).decode(), str(found["lease"]), bool(config.get("pause", False)))


def connects(address: str, port: int) -> bool:
    """Return whether somebody takes a connection there. A host that refuses one is not dead."""
    try:
        with contextlib.closing(socket.create_connection((address, port), timeout=EVERY)):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


@dataclass
class Suspicion:
    """Since when a leader has been silent."""

    of: str = ""
    since: float = 0

    def look(self, name: str, begun: float, ended: float, *, silent: bool) -> float:
        """Take a look at a leader, as long as nothing came; return for how many seconds it has been silent here."""
        if not silent or name != self.of:
            self.of, self.since = (name, begun) if silent else ("", 0)
        return ended - self.since if silent else 0


def renewed(left: int, settings: Settings) -> bool:
    """Return whether a place that has so many seconds left was renewed when it should have been, or lately enough."""
    return left < 0 or left > settings.ttl - settings.loop_wait - MARGIN


def most(settings: Settings) -> int:
    """Return how many members are most of them."""
    return len(settings.members) // 2 + 1


def turned_off(settings: Settings, name: str) -> bool:
    """Have the fence turn the host off; return whether it says that it is."""
    argv = [each.replace("{host}", name) for each in settings.command]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=settings.timeout
        )
        code, said = done.returncode, (done.stdout + done.stderr).strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        code, said = -1, str(error)
    took = time.monotonic() - begun
    print(f"{argv[0]} for {name} ended with {code} after {took:.1f} s: {said[-500:]}", flush=True)
    return code == 0


class Observer:
    """What one member sees, and does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.etcd = Etcd(settings)
        self.leader: Leader | None = None
        self.suspicion = Suspicion()
        # Beside Patroni's own keys, which it lists and does not expect others in.
        self.tree = f"{settings.tree.rstrip('/')}.fence/"
        # More than are needed: one that asks for a name may wait long for a name server.
        self.pool = ThreadPoolExecutor(24)

    def look(self) -> None:
        """Look once at who leads; raise EtcdError where it is not known who does."""
        # First, and also while etcd does not answer: a host may have led etcd, too, and took that with it.
        known, silent_for = self.leader, self.silent_for()
        self.leader = leader(self.etcd.under(self.settings.tree), self.settings.tree)
        if self.leader is None or self.leader != known or silent_for < self.settings.after:
            return
        if not renewed(self.etcd.left(self.leader.lease), self.settings):
            self.accuse(self.leader)

    def silent_for(self) -> float:
        """Return for how many seconds who led has been silent; 0 where that is this member, or all is paused."""
        others = self.settings.members.keys() - {self.settings.name}
        if self.leader is None or self.leader.paused or self.leader.name not in others:
            self.suspicion = Suspicion()
            return 0
        address = self.settings.members[self.leader.name]
        begun = time.monotonic()
        asked = [self.pool.submit(connects, address, port) for port in (self.settings.rest_port, self.settings.port)]
        silent = not any(each.result() for each in wait(asked, timeout=EVERY + 0.2).done)
        return self.suspicion.look(self.leader.name, begun, time.monotonic(), silent=silent)

    def accuse(self, found: Leader) -> None:
        """Say that it is dead, as seen from here; have it turned off where most say so."""
        accused = f"{self.tree}suspects/{found.name}/"
        self.etcd.put(f"{accused}{self.settings.name}", "", self.etcd.lease(SUSPECTED))
        by = {key.removeprefix(accused) for key in self.etcd.under(accused)} & set(self.settings.members)
        if len(by) < most(self.settings):
            print(f"{found.name} is silent, as seen from {', '.join(sorted(by))}: not from most members", flush=True)
            return
        # One of them does it. A fence that has failed is tried again once this has gone.
        lock = self.etcd.lease(self.settings.timeout + SUSPECTED)
        if not self.etcd.create(f"{self.tree}lock", self.settings.name, lock):
            self.etcd.revoke(lock)
            return
        if not self.leads_still(found):
            self.etcd.revoke(lock)  # another member had the lock, and it is done
            return
        print(f"{found.name} is silent, as seen from {', '.join(sorted(by))}", flush=True)
        if turned_off(self.settings, found.name):
            self.end(found)
            self.etcd.revoke(lock)

    def leads_still(self, found: Leader) -> bool:
        """Return whether it is this one that leads, by the same lease."""
        now = leader(self.etcd.under(self.settings.tree), self.settings.tree)
        return now is not None and (now.name, now.lease) == (found.name, found.lease)

    def end(self, fenced: Leader) -> None:
        """End the term of a leader that is off; where another leads meanwhile, its own goes on."""
        if self.leads_still(fenced):
            self.etcd.revoke(fenced.lease)
            print(f"{fenced.name} is off, and leads no more", flush=True)


def main() -> None:
    """Look each second, for ever."""
    parser = argparse.ArgumentParser(prog="auditdb-fence", description=__doc__)
    parser.add_argument("configuration", type=Path)
    observer = Observer(Settings(**json.loads(parser.parse_args().configuration.read_text())))
    while True:
        begun = time.monotonic()
        try:
            observer.look()
        except EtcdError as error:
            print(f"etcd does not answer: {error}", flush=True)
        time.sleep(max(0.0, EVERY - (time.monotonic() - begun)))


if __name__ == "__main__":
    sys.exit(main())
