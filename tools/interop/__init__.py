# SPDX-License-Identifier: MIT
"""The interop matrix: every server with every client in every case, each pair in two network namespaces of its own.

`python -m tools.interop` runs it. An implementation takes part by one small program in `peers`, which need not know
anything of the others. It is called with one argument, in a folder of its own:

    version   print name and version, such as `chrony 4.3`
    server    run both servers in the foreground until SIGTERM
    client    run a client in the foreground until SIGTERM; print `accepted` for each answer whose time it takes
    rotate    give the server a new master key, the old one stays; print `restart` if it must be restarted for that
    forget    the server does not run: remove its master keys

Exit code 127 says that it is not here, or cannot do this case, and its last line why. What it needs to know is in the
environment:

    CASE                   name of the case
    NAME                   the server's name, which its certificate is for and the client resolves
    CERT KEY CA            PEM files: the server's chain and key, the CA to trust
    NTP_PORT               UDP port of the time server; NTS-KE has 4460
    TIME_HOST              the address that a key exchange is to name as the time server's, or empty
    AEAD                   number of the one algorithm to use, or empty
    SSLKEYLOGFILE          where to write TLS secrets
    PYTHON                 a Python, with this suite's packages

peers     which implementations are here, and how to run one          network   two namespaces, a wire, a capture
cases     what happens on the stage in each case, and what is expected evidence  what the packets tell
run       one cell, many cells                                        others    tables for people, JSON
"""
