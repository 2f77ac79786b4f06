# SPDX-License-Identifier: MIT
"""Offline decoding of NTS traffic. Parts import only from those below:

    6  show                       what was decoded, for people and as JSON
    5  decoder                    a capture's packets in, decoded items out: who talks with whom, under which keys
    4  rules_ke  rules_ntp        what is wrong with a message, with a packet, with a reply to a request
    3  tls_session  ntp_packet    one TLS connection; one NTP packet
    2  streams  tls_messages  tls_keys  cookie_keys
    1  capture  hexinput  aeads  problems

No part opens a file or a socket: all get octets. Captures, key logs and hex are taken to be hostile: a parser raises
FormatError and nothing else, and what is held of a capture is bounded.
"""
