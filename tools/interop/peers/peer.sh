# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Sourced by the peers.

not_supported() { # WHY
    echo "$1"
    exit 127
}

# Until the daemon ends or we are told to stop, print "accepted" whenever `count` prints a higher number.
watch() { # PID
    daemon=$1 seen=0
    trap 'kill "$daemon"; wait "$daemon"; exit 0' TERM
    while kill -0 "$daemon" 2>/dev/null; do
        now=$(count 2>/dev/null) || now=''
        while [ "$seen" -lt "${now:-0}" ]; do
            echo accepted
            seen=$((seen + 1))
        done
        sleep 0.2
    done
    wait "$daemon"
}
