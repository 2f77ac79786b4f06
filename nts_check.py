#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Conformance probe for Network Time Security (RFC 8915): checks servers, checks clients, decodes what they say.

examples:
  nts_check.py server time.example.net            check a server, at one packet a second
  nts_check.py server --list                      what is checked, and why
  nts_check.py client --recipe ours               check a client; --command for yours
  nts_check.py misbehave wrong-uid                a server with one fault, to debug a client by hand
  nts_check.py decode nts.pcap --keylog keys.log  explain a capture
  nts_check.py server --help                      all about one of the commands

exit codes: 0 ok, 1 it does not conform, 2 usage or file, 10 to 14 it cannot be reached, 130 interrupted
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
