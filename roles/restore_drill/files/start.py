# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts auditdb-drill, which is made of its own package and of that of auditdb-backup."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.with_name("auditdb-backup"))]

from auditdb_drill.main import main  # noqa: E402

sys.exit(main())
