# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts the clients of a failover drill."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from auditdb_failover.main import main

sys.exit(main())
