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
    # pytest's reasons and names, Ansible's failed tasks, the Makefile's steps: without molecule's frame and colours, and as it folds them.
    sed -E 's/\x1b\[[0-9;]*m//g; s/^ *│ ?//' "$log" | awk '
        /^FAILED - RETRYING/ { next }
        /^E +([A-Za-z_.]*(Error|Exception|Failed|Timeout)|.*(FAILED|fatal:))|^(FAILED|ERROR)|^fatal: |^==> FAILED/ { print; folded = 2; next }
        folded-- > 0 && /^  [^ ]/ { print; next }
        { folded = 0 }' | cut -c1-600 | tail -n 40
fi
exit "$code"
