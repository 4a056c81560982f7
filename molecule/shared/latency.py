"""Makes throwaway hosts be far away: what they send and receive passes a wire of VDE that delays it.

A kernel without netem needs no other module for it. In the host, its address moves to a tap device; a wire that delays
leads from there to another tap device, and a bridge from that to the host's real interface.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from throwaway import Host

INSTALL = """
command -v wirefilter vde_switch > /dev/null || apt-get install -y -qq --no-install-recommends vde-switch vde-wirefilter
test -e /dev/net/tun || { mkdir -p /dev/net; mknod /dev/net/tun c 10 200; }
"""
# Only the tap that has the address answers to ARP: the bridge, which sees the same questions, does not.
LENGTHEN = """
for end in near far; do vde_switch --daemon --sock /run/vde-$end --tap $end --pidfile /run/vde-$end.pid; done
wirefilter --daemon --delay $1 --vde-plug /run/vde-near:/run/vde-far --pidfile /run/vde-wire.pid
address=$(ip -4 -o address show dev eth0 | awk '{print $4}'); gateway=$(ip route | awk '/^default/ {print $3}')
ip link add wire type bridge; ip link set wire arp off up
ip link set far master wire up
ip address flush dev eth0; ip link set eth0 master wire
ip link set near up; ip address add "$address" dev near; ip route replace default via "$gateway" dev near
"""
SHORTEN = """
address=$(ip -4 -o address show dev near | awk '{print $4}'); gateway=$(ip route | awk '/^default/ {print $3}')
ip link set eth0 nomaster; ip address flush dev near
ip address add "$address" dev eth0; ip route replace default via "$gateway" dev eth0
for each in wire near far; do kill "$(cat /run/vde-$each.pid)"; done
ip link delete wire
"""


@contextmanager
def far(hosts: Iterable[Host], milliseconds: int) -> Iterator[None]:
    """Have each of these answer so much later, meanwhile."""
    with ExitStack() as near:
        for host in hosts:
            host.run("sh", "-ec", INSTALL)
            host.run("sh", "-ec", LENGTHEN, "sh", str(milliseconds // 2))
            near.callback(host.run, "sh", "-ec", SHORTEN)
        yield
