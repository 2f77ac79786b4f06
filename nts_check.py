#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Conformance probe for Network Time Security (RFC 8915): checks servers, checks clients, decodes captures.

examples:
  nts_check.py server time.example.net            check a server, with one packet a second
  nts_check.py server --list                      list the checks, and why they are made
  nts_check.py client --recipe ours               check a client (use --command for your own)
  nts_check.py site public servers.jsonl          make web pages of many reports
  nts_check.py misbehave wrong-uid                run a server with one fault, to debug a client
  nts_check.py decode nts.pcap --keylog keys.log  explain a capture
  nts_check.py server --help                      describe one command

exit codes: 0 ok, 1 does not conform, 2 usage or file, 10 to 14 cannot be reached, 130 interrupted
"""

from __future__ import annotations

from nts.cli import options, script


def main() -> int:
    from nts.check import commands

    parser = options.parser(__doc__)
    commands.add_all(parser)
    args = parser.parse_args()
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    script.run(main)
