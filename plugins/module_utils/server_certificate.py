# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate that a server shows to its clients, which may be older than the file on its disk."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import connection_parameters
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError

# PostgreSQL's documentation, "Message Formats", SSLRequest: its length, and the number that asks for TLS.
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
TIMEOUT_SECONDS = 10


def certificate_end(options: Mapping[str, Any]) -> datetime:
    """Return when the certificate ends that the server of these module options shows, and that is verified.

    It is verified against ``ca_cert``, else the operating system's authorities, and names the host unless ``ssl_mode``
    is ``verify-ca``. Raises PostgresqlError where there is none, or where it is not to be trusted.
    """
    parameters = connection_parameters(options)
    host = str(parameters.get("host", ""))
    address = str(parameters.get("hostaddr", host))
    if not address or address.startswith("/"):
        raise PostgresqlError("the login is by a socket, where the server shows no certificate")
    try:
        context = ssl.create_default_context(cafile=parameters.get("sslrootcert"))
        context.check_hostname = parameters.get("sslmode") != "verify-ca"
        with socket.create_connection((address, int(parameters.get("port", 5432))), TIMEOUT_SECONDS) as plain:
            plain.sendall(SSL_REQUEST)
            if plain.recv(1) != b"S":
                raise PostgresqlError("the server does not offer TLS")
            with context.wrap_socket(plain, server_hostname=host or address) as encrypted:
                certificate = encrypted.getpeercert() or {}
    except OSError as error:
        raise PostgresqlError(f"no trusted certificate: {error}") from error
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
