#!/bin/sh
# SPDX-License-Identifier: MIT
# stages.sh MAKE TARGET...: make these targets one after another, all of them even when some fail, and sum up.
set -u
. tools/step.sh
need_writable build .hypothesis .ruff_cache || exit 1

make=$1
shift
summary='' failed='' begin=$(date +%s)
for stage in "$@"; do
    printf '\n=== %s\n' "$stage"
    start=$(date +%s)
    if "$make" --no-print-directory "$stage"; then verdict=ok; else
        verdict=FAILED
        failed="$failed $stage"
    fi
    summary="$summary$(printf '  %-10s %-6s %5s s' "$stage" "$verdict" "$(($(date +%s) - start))")
"
done
printf '\n=== summary\n%s' "$summary"
seconds=$(($(date +%s) - begin))
if [ -n "$failed" ]; then
    printf 'check: FAILED after %s s:%s\n' "$seconds" "$failed"
    exit 1
fi
printf 'check: all %s stages passed in %s s\n' "$#" "$seconds"
