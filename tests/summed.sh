#!/usr/bin/env bash
# Runs a command, and says again at its end which tests failed and why: where two scenarios print, that is far above.
# The arguments are the command; its exit code is this one's.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT

code=0
"$@" 2>&1 | tee "$log" || code=$?
if [ "$code" != 0 ]; then
    printf '\n==> What failed (exit code %s)\n' "$code"
    # pytest's reasons and names, Ansible's failed tasks, the Makefile's steps: without molecule's frame and colours.
    sed -E 's/\x1b\[[0-9;]*m//g; s/^ *│ ?//' "$log" |
        grep -aE '^E +([A-Za-z_.]*(Error|Exception|Failed|Timeout)\b|.*(FAILED|fatal:))|^(FAILED|ERROR) .+|^fatal: |^==> FAILED' |
        cut -c1-600 | tail -n 40 || true
fi
exit "$code"
