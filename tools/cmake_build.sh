#!/bin/sh
# SPDX-License-Identifier: MIT
# cmake_build.sh SOURCE BUILD [CMake options]: configure where needed, and build what has changed. Says so in one line
# when it did something, and why when it failed. Both folders are relative to the project's root, the current one.
set -eu
. tools/step.sh

source=$1 build=$2
shift 2
need_writable build || exit 1
mkdir -p build/log "$build"
log=build/log/$(printf %s "$build" | tr / -).log
state=$build/CMakeFiles/configured-as # the options of the last time that worked

home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
if [ -n "$home" ] && [ "$(cd -- "$home" 2>/dev/null && pwd -P)" != "$(cd -- "$source" && pwd -P)" ]; then
    rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles" # made in another checkout
fi

configure_and_build() {
    if [ "$(cat "$state" 2>/dev/null)" != "options: $*" ]; then
        cmake -S "$source" -B "$build" "$@" || return
        printf 'options: %s\n' "$*" >"$state"
    fi
    cmake --build "$build" --parallel "$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)"
}

start=$(date +%s)
title="build: $build${1:+ ($*)} ... "
if ! configure_and_build "$@" >"$log" 2>&1 </dev/null; then
    need_writable "$build" || exit 1
    show_failure "$title" "$log" \
        "mend what the compiler says; ./bootstrap build sees to compiler, CMake and OpenSSL's headers"
    exit 1
fi
if grep -qE 'Building|Linking' "$log"; then
    echo "${title}ok ($(($(date +%s) - start)) s)"
fi
