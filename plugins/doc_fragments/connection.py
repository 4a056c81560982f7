# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # The words are community.postgresql's, so that one module_defaults block serves both collections.
    DOCUMENTATION = r"""
options:
  login_db:
    description: Name of the database to connect to.
    type: str
    default: postgres
  login_user:
    description: Name of the role to log in as.
    type: str
    default: postgres
  login_password:
    description: Password of O(login_user).
    type: str
    default: ''
  login_host:
    description:
      - Host running the server.
      - Empty means the local Unix domain socket, where C(peer) authentication needs no password.
    type: str
    default: ''
  login_unix_socket:
    description: Directory of the server's Unix domain socket, when it is not libpq's default.
    type: str
    default: ''
  login_port:
    description: Port of the server.
    type: int
    default: 5432
  ssl_mode:
    description: How the connection is encrypted and the server verified, in libpq's words.
    type: str
    default: prefer
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File of the certificate authority that V(verify-ca) and V(verify-full) trust.
    type: str
  ssl_cert:
    description: File of the client certificate.
    type: path
  ssl_key:
    description: File of the key of O(ssl_cert).
    type: path
  connect_params:
    description: More libpq connection parameters, which take precedence.
    type: dict
    default: {}
  session_role:
    description:
      - Role to switch to with C(SET ROLE) after the login.
      - The login role must be a member of it.
    type: str
requirements:
  - psycopg2 >= 2.9 (Debian package C(python3-psycopg2), PyPI package C(psycopg2-binary))
attributes:
  check_mode:
    description: Can run in check mode and report what would change without changing it.
  diff_mode:
    description: Returns the exact SQL as a diff, in check mode too.
"""
