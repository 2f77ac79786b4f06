# SPDX-License-Identifier: MIT
"""Network Time Security for NTP (RFC 8915): the package behind the command-line scripts.

Each folder is a layer. A module imports only from layers above its own in this list, and imports within a layer form
no cycle (`tests/test_layering.py` walks all imports):

    base       errors, registry numbers, octets, text
    codec      wire formats and cryptography
    protocol   the rules of RFC 8915 as pure functions
    system     files, sockets, clock, TLS, stderr
    server     the two servers                  client   the two clients
    cli        arguments, exit codes, output
    check      nts_check: the conformance probe

base, codec and protocol own no socket, clock, thread, file or random source: callers pass those in.
"""

from pathlib import Path

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent
"""the checkout: holds libaes_siv/, server.ini and client.ini"""
