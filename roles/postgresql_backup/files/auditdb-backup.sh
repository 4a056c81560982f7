#!/bin/sh
# -I: neither the environment nor the current directory, which is the server's data directory, has a say in what is loaded.
exec /usr/bin/python3 -I /usr/local/lib/auditdb-backup/start.py "$@"
