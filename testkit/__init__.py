# SPDX-License-Identifier: MIT
"""What tests, fuzzers and tools share. It imports nts and none of those three.

packets         NTS requests, replies and cookies, part by part, made without nts.codec
raw_ke          an NTS-KE client that can misbehave, made without nts.system.tls
captures        pcap files and TLS sessions, made by hand
processes       the suite's scripts and servers as processes
client_runs     our clients against a server that misbehaves
chrony          a real chronyd
supervised      a server whose workers do nothing
flawed_client   a client with one flaw, for the client cases of nts_check
ntp_faults      time servers with one fault, for the NTP checks of nts_check
sample_checks   made-up checks of every verdict
"""
