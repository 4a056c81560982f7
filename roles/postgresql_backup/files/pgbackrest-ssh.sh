#!/bin/sh
# What pgBackRest runs as ssh. Which key is used, and which hosts are known, is up to the program that runs pgBackRest.
# shellcheck disable=SC2086
exec ssh $AUDITDB_SSH "$@"
