# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stops a server that takes writes while its Patroni is silent, before another member may lead.

It does, without a watchdog device, what one does for a Patroni that is gone or hangs; a host that hangs is beyond it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

EVERY = 1.0
"""Seconds between two looks at a Patroni that is silent, and for which an answer is waited for."""
CALM = 2.0
"""Seconds between two looks at one that answers: each is a handshake and a query."""
IN_A_ROW = 3
"""So many looks must have failed: one that comes late, after the host itself was frozen, proves nothing."""


def seconds() -> float:
    """Return the seconds since the machine was started, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Watch:
    """What is known of Patroni."""

    limit: float
    """Seconds of silence after which its place may be another's soon."""
    heard: float | None = None
    """When it has last answered; None where it never has: what was not there cannot be missed."""
    paused: bool = False
    """Whether somebody at work had paused the cluster then: a server without Patroni is meant so."""
    failed: int = 0

    def answered(self, now: float, paused: bool | None) -> None:
        """Take an answer; one that does not say whether the cluster is paused changes nothing of that."""
        self.heard, self.failed = now, 0
        self.paused = self.paused if paused is None else paused

    def silent(self, now: float) -> bool:
        """Take a look that failed; return whether the server has to be stopped now."""
        self.failed += 1
        return self.heard is not None and not self.paused and self.failed >= IN_A_ROW and now - self.heard >= self.limit


def ask(host: str, port: int) -> bool | None:
    """Return whether a Patroni says that the cluster is paused, None where it does not say.

    Raise OSError where it does not answer.
    """
    # A certificate that has expired is no Patroni that is dead; and who lies here can but keep a server running.
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=EVERY, context=unverified)
    try:
        connection.request("GET", "/patroni")
        return bool(json.loads(connection.getresponse().read()).get("pause", False))
    except (http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def paused_as_others_say(hosts: Sequence[str], port: int) -> bool:
    """Return whether another member says that the cluster is paused, which this one may not have seen any more."""

    def says(host: str) -> bool:
        try:
            return ask(host, port) is True
        except OSError:
            return False

    with ThreadPoolExecutor(max(1, len(hosts))) as pool:
        return any(pool.map(says, hosts))


def takes_writes(data: Path) -> bool:
    """Return whether the server of the data directory does, by what its postmaster has written of itself."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def stop(pg_ctl: Path, data: Path) -> None:
    """Stop the server at once: what it has acknowledged is on disk."""
    argv = [str(pg_ctl), "stop", "--mode=immediate", "--timeout=10", f"--pgdata={data}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    print(f"{' '.join(argv)}: {(done.stdout + done.stderr).strip()}", flush=True)


def remembered(file: Path, limit: float) -> Watch:
    """Return what was known before this program was started again."""
    try:
        known = json.loads(file.read_text())
        return Watch(limit, float(known["heard"]), bool(known["paused"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Watch(limit)


def remember(file: Path, watch: Watch) -> None:
    """Keep what is known for when this program is started again; it is gone with the machine."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"heard": watch.heard, "paused": watch.paused}))
    new.replace(file)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="auditdb-local-fence", description=__doc__)
    parser.add_argument("--host", required=True, help="address of this member's REST API")
    parser.add_argument("--port", type=int, required=True, help="its port")
    parser.add_argument("--other", action="append", default=[], help="address of another member's")
    parser.add_argument("--silence", type=float, required=True, help="seconds that Patroni may be silent")
    parser.add_argument("--data", type=Path, required=True, help="data directory of the server")
    parser.add_argument("--pg-ctl", type=Path, required=True, help="PostgreSQL's own program that stops it")
    parser.add_argument(
        "--memory", type=Path, required=True, help="file that outlives this program, and not the machine"
    )
    return parser.parse_args()


def main() -> None:
    """Look, for ever."""
    given = arguments()
    watch = remembered(given.memory, given.silence)
    while True:
        begun = seconds()
        try:
            watch.answered(begun, ask(given.host, given.port))
            remember(given.memory, watch)
        except OSError as error:
            writes = takes_writes(given.data)
            if writes and not watch.paused and watch.failed and paused_as_others_say(given.other, given.port):
                watch.paused = True
                remember(given.memory, watch)
            if watch.silent(seconds()) and writes:
                silent = seconds() - (watch.heard or 0)
                print(f"Patroni has been silent for {silent:.1f} s ({error}), and the server takes writes", flush=True)
                stop(given.pg_ctl, given.data)
        time.sleep(max(0.0, (EVERY if watch.failed else CALM) - (seconds() - begun)))


if __name__ == "__main__":
    sys.exit(main())
