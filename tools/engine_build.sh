#!/bin/sh
# SPDX-License-Identifier: MIT
# engine_build.sh PYTHON: build the native engines for this Python, if anything they are made of has changed. Says so in
# one line for each when it did something, and why when it failed. NTS_KE_TLS: nts/_engine_build.py says what it is.
set -eu
. tools/step.sh

python=$1
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
for name in _engine _engine_ke; do
    target=nts/$name$suffix
    if [ -e "$target" ] && [ "$(cat "build/$name-tls" 2>/dev/null)" = "${NTS_KE_TLS:-}" ]; then
        newer=$(find engine/*.c engine/*.h libaes_siv/libaes_siv.a nts/_engine_build.py -newer "$target")
        [ -n "$newer" ] || continue
    fi
    # The linker replaces the file or, in a folder that it cannot write into, overwrites it.
    [ -w nts ] || need_writable "$target" || exit 1
    need_writable build || exit 1
    mkdir -p build/log
    step "build: $target ..." build/log/engine.log \
        "are Python's headers there (Debian: python3-dev)? Then run make engine again" \
        "$python" -m nts._engine_build "$name"
    printf '%s\n' "${NTS_KE_TLS:-}" >"build/$name-tls"
done
