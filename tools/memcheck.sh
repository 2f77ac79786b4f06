#!/bin/sh
# SPDX-License-Identifier: MIT
# memcheck.sh FOLDER...: run every test program there under Valgrind, on every backend that Valgrind can run (it knows no
# VAES); leaks and errors are failures.
set -u
command -v valgrind >/dev/null || { echo 'memcheck: valgrind is missing: run ./bootstrap test' >&2; exit 1; }
passed=0 failed=0
for folder in "$@"; do
    for program in "$folder"/*; do
        case ${program##*/} in
            *ctgrind | batch_memcheck) continue ;; # have Valgrind runs of their own in ctest
        esac
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
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
