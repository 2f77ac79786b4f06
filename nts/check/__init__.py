# SPDX-License-Identifier: MIT
"""nts_check: a conformance probe for NTS servers, a misbehaving server for NTS clients, and a decoder.

A layer above the shell of `nts`, which does not know of it; inside it, a part imports only from those below
(`tests/test_layering.py` walks the imports and fails otherwise):

    6  commands/                                  the subcommands of nts_check.py
    5  output/                                    results for people and machines
    4  server/  client/                           the checks, a file for each subject
    3  probe  ke_probe  ntp_probe  peer/          what talks to a server; what plays a server to a client
    2  runner  judge_*  forge  ke_forge  ke_answer  gcm_siv  decode/   pure, but for the runner's clock
    1  model                                      Check, Finding, Result
"""
