#!/bin/sh
# SPDX-License-Identifier: MIT
# engine_build.sh PYTHON: build the native engine for this Python, if anything it is made of has changed. Says so in one
# line when it did something, and why when it failed.
set -eu
. tools/step.sh

python=$1
target=nts/_engine$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
mkdir -p build/log
if [ -e "$target" ]; then
    newer=$(find engine/*.c engine/*.h libaes_siv/libaes_siv.a nts/_engine_build.py -newer "$target")
    [ -n "$newer" ] || exit 0
fi
step "build: $target ..." build/log/engine.log \
    "are Python's headers there (Debian: python3-dev)? Then run make engine again" "$python" -m nts._engine_build
