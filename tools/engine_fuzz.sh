#!/bin/sh
# SPDX-License-Identifier: MIT
# engine_fuzz.sh SECONDS: the engine under libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, which takes a clang
# with its runtime. What it finds stays in build/engine-libfuzzer. Without such a clang it says so: the same harness has
# then been run by its own driver in `make sanitize`.
set -eu
seconds=$1
build=build/engine-libfuzzer
try=build/log/libfuzzer
mkdir -p build/log

find_clang() {
    echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' >$try.c
    for clang in clang $(seq -f clang-%g 22 -1 14); do
        if command -v "$clang" >/dev/null && "$clang" -fsanitize=fuzzer,address -o $try $try.c 2>$try.log; then return; fi
    done
    return 1
}

if ! find_clang; then
    echo 'engine: no clang with libFuzzer here (apt-get install clang libclang-rt-dev): left out'
    exit 0
fi
tools/cmake_build.sh engine $build -DCMAKE_C_COMPILER="$clang" -DNTS_ENGINE_WERROR=ON -DNTS_ENGINE_LIBFUZZER=ON \
    -DNTS_ENGINE_SANITIZE=address,undefined
for target in fuzz_answer:corpus fuzz_frame:corpus_frame fuzz_ke:corpus_ke; do
    name=${target%:*} corpus=${target#*:}
    mkdir -p "$build/$corpus"
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$build/fuzz/bin/$name" -max_total_time="$seconds" -verbosity=0 \
        -print_final_stats=1 -timeout=10 -artifact_prefix="$build/found-" "$build/$corpus" "engine/fuzz/$corpus" \
        >$try.log 2>&1 || {
        tail -n 40 $try.log >&2
        exit 1
    }
    echo "engine: $name, libFuzzer of $clang, $(sed -n 's/^stat::number_of_executed_units: *//p' $try.log) runs, nothing found"
done
