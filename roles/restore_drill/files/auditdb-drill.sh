#!/bin/sh
# -I: neither the environment nor the current directory has a say in what is loaded.
exec /usr/bin/python3 -I /usr/local/lib/auditdb-drill/start.py "$@"
