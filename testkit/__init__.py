# SPDX-License-Identifier: MIT
"""What tests, fuzzers and tools share.

    packets           NTS requests, replies and cookies, part by part, by an encoder of their own
    raw_ke            an NTS-KE client that can misbehave, without nts.system.tls
    captures          pcap files and TLS sessions, made by hand
    foreign_cookies   keys and cookies of chronyd and NTPsec
    command_lines     the argument parsers of the scripts
    key_files         a folder of master keys
    processes         the suite's scripts and servers as processes
    machine           a machine of a test's own, with system folders that forget what was written
    activation        processes to which sockets are passed, as a service manager does
    etcd              three real members of etcd
    hosts             hosts of a test's own, in network namespaces
    fleets            a fleet of real servers and agents on such hosts
    fleet_load        a client that brings young and old cookies to all servers of a fleet
    folder_fleets     members of a fleet whose plan lies in a folder
    kubelet           volumes as the kubelet makes them of a Secret, replaced by renaming a link
    engine            the native engine, step by step, without sockets and with them
    engine_packets    packets that it covers, bad ones, and those that it must hand over
    engine_parity     the native engine beside the reference
    namespaces        network namespaces of a test's own
    frames            Ethernet frames with UDP datagrams
    bpf_run           the time server's BPF program on single frames
    xdp               a time server that serves by AF_XDP, and its clients
    bad_certificates  certificates that are malformed
    middleboxes       devices between a client and a server, which intercept, cut off or strip
    time_workers      a worker of the time server in a thread, with its counters
    supervised        a server whose workers do nothing
    ke_sessions       sessions with our NTS-KE server
    ts_requests       requests to our time server, good ones and others
    client_runs       our clients against servers that misbehave
    time_servers      time servers, some with a clock that is off, each with a client.ini
    outcomes          many slow jobs at the same time
    fronts            servers of the suite, and when each is asked for something
    metrics           what a server tells Prometheus
    relay             what passes between clients and a time server
    chrony            a real chronyd
    flawed_client     a client with one flaw, for the client cases of nts_check
    ke_faults         NTS-KE servers with one fault, for its key exchange checks
    ntp_faults        time servers with one fault, for its NTP checks
    imitations        NTS-KE servers that answer as other implementations do, for its fact sheet
    sample_checks     made-up checks of every verdict, for its output
    browser           a headless Chromium that looks at pages
    saved_reports     made-up reports about servers, as it writes them

testkit imports nts and none of those three (`tests/test_layering.py`).
"""
