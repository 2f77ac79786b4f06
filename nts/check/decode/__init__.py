# SPDX-License-Identifier: MIT
"""Offline decoding of NTS traffic. A module imports only from modules further down (`tests/test_layering.py`):

    5  show                                          what was decoded, for people and as JSON
    4  decoder                                       packets in, decoded items out: who talks to whom, with which keys
    3  tls_session                                   one TLS connection, decrypted
    2  streams  associations  rules_ke  rules_ntp    TCP reassembly; keys for packets; what is wrong with a message
    1  capture  hexinput  cookie_keys  tls_keys  tls_messages  ntp_packet  problems

No module opens a file or a socket: they all get octets. Captures, key logs and hex may be hostile. So a parser raises
FormatError and nothing else, and there is a limit to what is kept of a capture.
"""
