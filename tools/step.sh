# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Sourced by ./bootstrap and by cmake_build.sh: runs a step quietly, with its output in a log.

LOG_LINES=20

# show_failure TITLE LOG HINT: what a step that failed leaves to say.
show_failure() {
    {
        printf '%sFAILED\n--- the last lines of %s\n' "$1" "$2"
        tail -n "$LOG_LINES" -- "$2"
        printf -- '---\nwhat to do: %s\n' "$3"
    } >&2
}

# step TITLE LOG HINT COMMAND...: run COMMAND. One line when it succeeds; when it fails, the end of its output and HINT.
step() {
    step_title=$1 step_log=$2 step_hint=$3
    shift 3
    step_start=$(date +%s)
    printf '%s ' "$step_title" >&2
    if "$@" >"$step_log" 2>&1 </dev/null; then
        printf 'ok (%s s)\n' "$(($(date +%s) - step_start))" >&2
    else
        show_failure '' "$step_log" "$step_hint"
        return 1
    fi
}
