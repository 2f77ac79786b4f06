#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time server: NTPv4 with Network Time Security (RFC 8915 section 5), and plain NTPv4 and NTPv3.

examples:
  ntsts_server.py                 serve as server.ini beside this script says (UDP port 4123)
  ntsts_server.py my-server.ini   serve as another file says

Stop it with Ctrl-C or SIGTERM; it then says what became of the datagrams. It picks up new master keys by itself.
"""

from __future__ import annotations

from pathlib import Path

from nts.base.errors import ExitCode
from nts.cli import options, script


def main() -> int:
    parser = options.parser(__doc__)
    parser.add_argument("config", nargs="?", metavar="server.ini", help="configuration (default: beside this script)")
    parser.add_argument("--verbose", action="store_true", help="a line on stderr for each worker that starts")
    args = parser.parse_args()

    from nts.server import config, ts_daemon

    ts_daemon.serve(config.load(Path(args.config or config.DEFAULT_PATH)), verbose=args.verbose)
    return ExitCode.OK


if __name__ == "__main__":
    script.run(main)
