#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time server: NTPv4 with Network Time Security (RFC 8915 section 5), and plain NTPv4 and NTPv3.

examples:
  ntsts_server.py                 use the server.ini beside it, or /etc/nts/server.ini (UDP port 4123)
  ntsts_server.py my-server.ini   use another configuration

Stop it with Ctrl-C or SIGTERM; it then prints its counters, as it does on SIGUSR1. It notices new master keys.
"""

from __future__ import annotations

from pathlib import Path

from nts.base.errors import ExitCode
from nts.cli import options, script


def main() -> int:
    args = options.server(__doc__, "worker that starts")

    from nts.server import config, ts_daemon
    from nts.system import places

    ts_daemon.serve(config.load(Path(args.config or places.server_ini())), verbose=args.verbose)
    return ExitCode.OK


if __name__ == "__main__":
    script.run(main)
