# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Sourced by ./bootstrap and the scripts here, in the project's root: runs a step quietly, with its output in a log, and
# says what cannot be written.

LOG_LINES=20

# show_failure TITLE LOG HINT: what a step that failed leaves to say.
show_failure() {
    {
        printf '%sFAILED\n--- the last lines of %s\n' "$1" "$2"
        tail -n "$LOG_LINES" -- "$2"
        printf -- '---\nwhat to do: %s\n' "$3"
    } >&2
}

# need_writable PATH...: can each of these be written, with all in it, or be made if it is not there? If not, fails and
# says in one line what stands in the way, whose it is and what to do.
need_writable() {
    for path in "$@"; do
        depth=99
        while [ ! -e "$path" ]; do path=$(dirname -- "$path") depth=0; done
        # A symbolic link inside may lead anywhere, as those of .venv do.
        obstacle=$(find -H "$path" -maxdepth "$depth" ! -type l ! -writable -print -quit 2>/dev/null)
        # What is gone by now was a temporary file of somebody else.
        if [ -n "$obstacle" ] && [ -e "$obstacle" ]; then cannot_write "$obstacle" >&2; return 1; fi
    done
}

cannot_write() { # PATH
    [ "$1" != . ] || set -- "$PWD"
    me=$(id -un 2>/dev/null || id -u)
    owner=$(stat -c %U -- "$1")
    printf '%s: error: cannot write %s: ' "${0##*/}" "$1"
    case $(LC_ALL=C touch -c -r "$1" -- "$1" 2>&1) in
        *'Read-only file system'*) printf 'its file system is read-only. Copy %s to a folder of yours\n' "$PWD" ;;
        '') printf 'it is yours, but its mode is %s. Type: chmod -R u+w "%s"\n' "$(stat -c %A -- "$1")" "$PWD" ;;
        *) printf 'it belongs to %s, and you are %s. As root, type: chown -R %s "%s"\n' "$owner" "$me" "$me" "$PWD" ;;
    esac
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
