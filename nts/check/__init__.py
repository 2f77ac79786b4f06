# SPDX-License-Identifier: MIT
"""nts_check: a conformance probe for NTS servers, misbehaving servers for NTS clients, and a decoder.

The rest of `nts` does not know this package. Inside it, a part imports only from parts further down
(`tests/test_layering.py` walks the imports):

    10  commands/                              the subcommands of nts_check.py
     9  many/  site/                           many servers at the same time; web pages of many reports
     8  output/                                results for people and machines
     7  server/  client/                       the checks, a file for each subject, and the probe they work with
     6  peer/  lifetime/                       servers that a client meets, sound or faulty; how long cookies live
     5  ntp/                                   a time request: forge, probe, answer, judge
     4  ke/                                    a key exchange: the same
     3  saved/                                 reports read again: compared, and held against a policy
     2  findings  facts  remedies              helpers of judgements; the fact sheet; what to do about findings
        context  runner  decode/               what probes share; the loop; captures
    1  model                                  Check, Finding, Result, Transcript

A probe owns sockets, and so does a peer. Forge, answer, judge, decode, facts, remedies and model are pure.
"""
