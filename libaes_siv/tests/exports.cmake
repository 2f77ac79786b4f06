# SPDX-License-Identifier: MIT
#
# Checks that the shared library exports the functions declared in the public headers and nothing else.
#   cmake -DNM=... -DLIBRARY=... -DHEADERS=A,B -P exports.cmake

execute_process(COMMAND ${NM} -D --defined-only ${LIBRARY}
    OUTPUT_VARIABLE symbols RESULT_VARIABLE status)
if(NOT status EQUAL 0)
    message(FATAL_ERROR "${NM} failed on ${LIBRARY}")
endif()
string(REGEX MATCHALL "[^ \n]+\n" exported "${symbols}")
list(TRANSFORM exported STRIP)
# What a sanitizer or the coverage runtime adds is not ours.
list(FILTER exported EXCLUDE REGEX "^(__asan|__ubsan|__tsan|__gcov|__odr|_Unwind|llvm_|mangle_path)")
list(SORT exported)

string(REPLACE "," ";" HEADERS "${HEADERS}")
foreach(header IN LISTS HEADERS)
    file(READ ${header} text)
    string(REGEX MATCHALL "\nAES_SIV_API [^(]*\\(" found "${text}")
    list(APPEND declared ${found})
endforeach()
list(TRANSFORM declared REPLACE "^.*[ *]([A-Za-z_]+)\\($" "\\1")
list(SORT declared)

if(NOT exported STREQUAL declared)
    message(FATAL_ERROR "exported: ${exported}\ndeclared: ${declared}")
endif()
list(LENGTH exported count)
message(STATUS "exactly the ${count} declared functions are exported")
