# SPDX-License-Identifier: MIT
"""The benchmark: `make bench`, or `python -m tools.bench` for single cases (`--help` lists them).

A program, not a test. It starts the servers as users do, on this machine, and measures each beside its rivals in
rounds in which they take turns: chronyd where it is installed, and an echo server that shows what the kernel alone
takes. docs/performance.md tells how, and what came out.

    __main__    arguments
    cases       what is measured, and the tables
    sessions    the case of the key exchange server
    clients     what is measured of the clients
    bench       which servers take part; one measurement
    servers     how they are started
    requests    what they are asked
    machine     CPUs, CPU time and memory of processes
    tables      how figures are shown
    load.c      the clients
    echo.c      the floor
"""
