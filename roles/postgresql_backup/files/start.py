# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts auditdb-backup. Python ends with 1 where it cannot load a program; to recovery, that means "not archived"."""

import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
try:
    from auditdb_backup.main import main
except BaseException:
    traceback.print_exc()
    sys.exit(126)
sys.exit(main())
