# SPDX-License-Identifier: MIT
"""Network Time Security for NTP (RFC 8915): the package behind the command-line scripts.

The modules form layers, and a module imports only from layers below its own
(`tests/test_layering.py` walks the imports and fails otherwise):

    4  shell     files inifile config keystore state clock sockets tls certs workers engine ke_daemon ts_daemon
                 ke_session ts_session preflight report cli
    3  protocol  ke_server ke_client ts_server ts_client        pure functions: bytes in, bytes and a verdict out
    2  codecs    records extensions ntp aead keyring cookies    wire formats and cryptography
    1  base      errors registry wire                           errors, IANA numbers, the byte cursor

Layers 1 to 3 own no socket, clock, thread, file or random source: those arrive as arguments.
"""

__version__ = "0.1.0"
