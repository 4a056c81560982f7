# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an application reaches what an inventory declares: libpq's connection strings.

Source: libpq's connection parameters, https://www.postgresql.org/docs/17/libpq-connect.html (several hosts since
release 10, prefer-standby since 14).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SERVER_PORT = 5432
POOL_PORT = 6432
READ_PORT = 5001
"""The roles' defaults of these ports, which are not among a host's variables."""

Host = Mapping[str, Any]


def _address(name: str, host: Host) -> str:
    return str(host.get("ansible_host") or name)


def _server(name: str, host: Host) -> tuple[str, Any]:
    """Return where a server is; of somebody else's the inventory says how to log in."""
    login = host.get("audit_login") or {}
    port = login.get("login_port") or host.get("postgresql_server_port") or SERVER_PORT
    return str(login.get("login_host") or _address(name, host)), port


def _balancers(name: str, hosts: Mapping[str, Host], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the balancers before a server: all where the servers elect who leads, else those whose pool names it."""
    found = groups.get("balancer", [])
    if groups.get("etcd"):
        return list(found)
    names = {name, _address(name, hosts[name])}
    return [each for each in found if names & {*hosts[each].get("pgbouncer_hosts", [])}]


def _servers(name: str, hosts: Mapping[str, Host], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a server and those that may take its place, or answer reads."""
    if groups.get("etcd"):
        return list(groups.get("database", []))
    return [
        name,
        *(each for each in groups.get("standby", []) if hosts[each].get("postgresql_standby_primary") == name),
    ]


def _string(places: Sequence[tuple[str, Any]], addresses: Mapping[str, str], options: Mapping[str, Any]) -> str:
    """Return a connection string; a port that all hosts share is said once."""
    ports = [str(port) for _host, port in places]
    known = [addresses.get(host, "") for host, _port in places]
    words = {
        "host": ",".join(host for host, _port in places),
        "hostaddr": ",".join(known) if all(known) else "",
        "port": ports[0] if len({*ports}) == 1 else ",".join(ports),
        **options,
    }
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in words.items() if value not in ("", None))


def _quoted(value: str) -> str:
    if value and not any(letter in value for letter in " '\\"):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def connection_strings(
    name: str,
    hosts: Mapping[str, Host],
    groups: Mapping[str, Sequence[str]],
    *,
    dbname: str,
    ca: str,
    writer: str = "audit_writer",
    reader: str = "audit_reader",
    addresses: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the connection strings of a server's clients by what they are for: write, read, fallback.

    `read` is there where something spreads reads, `fallback` where a balancer stands before the servers.
    """
    known = addresses or {}
    tls = {"sslmode": "verify-full", "sslrootcert": ca}
    balancers = _balancers(name, hosts, groups)
    servers = [_server(each, hosts[each]) for each in _servers(name, hosts, groups)]
    login = {"dbname": dbname, "user": writer, **tls}
    some = len(servers) > 1
    direct = _string(servers, known, {**login, **({"target_session_attrs": "read-write"} if some else {})})
    spread = {"dbname": dbname, "user": reader, **tls}
    if not balancers:
        if not some:
            return {"write": direct}
        return {"write": direct, "read": _string(servers, known, {**spread, "target_session_attrs": "prefer-standby"})}

    def through(default: int, variable: str) -> list[tuple[str, Any]]:
        virtual = {str(hosts[each].get("haproxy_virtual_address") or "").partition("/")[0] for each in balancers} - {""}
        if virtual:
            return [(sorted(virtual)[0], hosts[balancers[0]].get(variable, default))]
        return [(_address(each, hosts[each]), hosts[each].get(variable, default)) for each in balancers]

    found = {"write": _string(through(POOL_PORT, "pgbouncer_listen_port"), known, login)}
    if groups.get("etcd"):
        found["read"] = _string(through(READ_PORT, "haproxy_read_port"), known, spread)
    return {**found, "fallback": direct}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by name."""
        return {"connection_strings": connection_strings}
