"""What runs on the members of scenario operate: who was restarted, and when."""

from __future__ import annotations

from members import Cluster
from throwaway import Host


def started(host: Host) -> str:
    """Return when a host's server was started."""
    return host.sql("SELECT pg_postmaster_start_time()")


def processes(cluster: Cluster, *names: str) -> dict[str, str]:
    """Return what runs on members, by name: a restart of anything changes it."""
    units = ("patroni@17-main", "etcd")
    asked = ("systemctl", "show", "--value", "-p", "MainPID", "-p", "ExecMainStartTimestamp")
    return {name: cluster.hosts[name].run(*asked, *units) + started(cluster.hosts[name]) for name in names}
