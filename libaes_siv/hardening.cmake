# SPDX-License-Identifier: MIT
#
# Options for the compiler, HARDENING, and the linker, HARDENING_LINK, that turn a mistake in the C code into a crash, or
# make it harder to exploit. What this compiler or architecture lacks is left out. For libaes_siv and the engine, once
# AES_SIV_SANITIZE is set: the sanitizers find more without _FORTIFY_SOURCE, which also needs optimisation.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)

set(HARDENING)
set(HARDENING_LINK -Wl,-z,relro,-z,now,-z,noexecstack)
foreach(option stack-protector-strong stack-clash-protection cf-protection=full)
    string(MAKE_C_IDENTIFIER HARDENING_${option} supported)
    check_c_compiler_flag(-f${option} ${supported})
    if(${supported})
        list(APPEND HARDENING -f${option})
    endif()
endforeach()

if(NOT AES_SIV_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    set(CMAKE_REQUIRED_FLAGS "-O2 -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3")
    check_c_source_compiles("#include <string.h>\nint main(void) { return 0; }" HARDENING_fortify_3)
    unset(CMAKE_REQUIRED_FLAGS)
    if(HARDENING_fortify_3)
        list(APPEND HARDENING -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
    else()
        list(APPEND HARDENING -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
    endif()
endif()

add_compile_options(${HARDENING})
add_link_options(${HARDENING_LINK})
