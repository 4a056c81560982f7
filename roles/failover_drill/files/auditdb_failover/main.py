# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clients as a program. The request, a file with a password, is removed once it is read; the outcome is printed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psycopg2

from auditdb_failover.clients import SilentError
from auditdb_failover.drill import Drill, DrillError
from auditdb_failover.drill import Path as Way


def keep(file: Path, content: dict[str, Any]) -> None:
    """Write a file that is whole as soon as it is there."""
    whole = file.with_suffix(".new")
    whole.write_text(json.dumps(content))
    whole.replace(file)


def main() -> int:
    """Say that all is well (ready.json), write and read until there is a file stop, and print the outcome."""
    file = Path(sys.argv[1]).resolve()
    directory = file.parent
    request = json.loads(file.read_text())
    file.unlink()
    way = Way(request["writes"], request["reads"])
    drill = Drill(way, request["members"], request["fault"], request["patience"])
    failure = ""
    try:
        drill.start()
        keep(directory / "ready.json", {"leader": drill.outcome.leader_before, "failure": ""})
        deadline = time.monotonic() + request["seconds"]
        while directory.exists() and not (directory / "stop").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        drill.finish(request["recovery"])
    except (DrillError, SilentError, psycopg2.Error, OSError) as error:
        failure = str(error) or "the rows could not be read"
        keep(directory / "ready.json", {"leader": "", "failure": failure})
    finally:
        drill.stop()
    print(json.dumps({**drill.outcome.as_json(), "failure": failure}))
    return 0
