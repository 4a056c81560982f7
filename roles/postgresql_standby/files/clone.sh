#!/usr/bin/env bash
# Clones a primary: pg_basebackup into $BESIDE/data, checked against its manifest. What is complete is kept; what is not, made anew.
# BIN, BESIDE, CONNINFO, SLOT, RATE, IDENTIFIER, BYTES and MADE come by the environment.
set -euo pipefail
export LC_ALL=C

stop() {
    echo "$1" >&2
    exit 1
}

identifier() {
    "$BIN/pg_controldata" -D "$BESIDE/data" | sed -n 's/^Database system identifier: *//p'
}

# The run before may have been killed, and its copying not.
exec 9> "$BESIDE/lock"
flock 9

if [ -e "$BESIDE/data/$MADE" ] && [ "$(identifier)" = "$IDENTIFIER" ]; then
    echo "a clone that an earlier run has completed is kept"
    exit 0
fi
rm -rf "$BESIDE/data"

free=$(df --output=avail --block-size=1 "$BESIDE" | tail -1)
[ "$free" -gt "$BYTES" ] || stop "the primary has $BYTES bytes, and $BESIDE has room for $free. Remedy: make room, on that file system"

"$BIN/pg_basebackup" --dbname="$CONNINFO" --pgdata="$BESIDE/data" --slot="$SLOT" --wal-method=stream --checkpoint=fast \
    --manifest-checksums=SHA256 --no-password ${RATE:+"--max-rate=$RATE"}
"$BIN/pg_verifybackup" --quiet "$BESIDE/data"
[ "$(identifier)" = "$IDENTIFIER" ] || stop "what was copied is of another cluster than $IDENTIFIER. Remedy: see what answers at the primary's address"

touch "$BESIDE/data/standby.signal" "$BESIDE/data/$MADE"
chmod 0600 "$BESIDE/data/standby.signal" "$BESIDE/data/$MADE"
sync --file-system "$BESIDE/data"
