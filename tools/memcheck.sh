#!/bin/sh
# SPDX-License-Identifier: MIT
# memcheck.sh FOLDER: run every test program in FOLDER under Valgrind, on every backend; leaks and errors are failures.
set -u
command -v valgrind >/dev/null || { echo 'memcheck: valgrind is missing: run ./bootstrap test' >&2; exit 1; }
passed=0 failed=0
for program in "$1"/*; do
    case $program in */ctgrind) continue ;; esac # has a Valgrind run of its own in ctest, where it expects findings
    for backend in aesni libcrypto; do
        AES_SIV_BACKEND=$backend valgrind --quiet --leak-check=full --error-exitcode=99 "$program" >/dev/null
        case $? in
            0) passed=$((passed + 1)) ;;
            77) echo "${program##*/} $backend: this CPU has no such backend" ;;
            *)
                failed=$((failed + 1))
                echo "${program##*/} $backend: FAILED"
                ;;
        esac
    done
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
