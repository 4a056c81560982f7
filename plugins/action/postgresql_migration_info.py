# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the migrations on the control node, like the action of postgresql_migration."""

from __future__ import annotations

from ansible_collections.auditdb.postgresql.plugins.action.postgresql_migration import ActionModule as _Migration


class ActionModule(_Migration):
    """The same reading for the module that only compares."""
