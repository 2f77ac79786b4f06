#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""NTS key exchange server (RFC 8915 section 4).

examples:
  ntske_server.py                 use the server.ini beside it, or /etc/nts/server.ini (TCP port 4446)
  ntske_server.py my-server.ini   use another configuration
  ntske_server.py --verbose       print a line for each session

Stop it with Ctrl-C or SIGTERM. It notices new master keys and a new certificate; SIGHUP makes it look at once. SIGUSR1
prints its counters.
"""

from __future__ import annotations

import os
from pathlib import Path

from nts import ROOT
from nts.base.errors import ExitCode
from nts.cli import options, script


def main() -> int:
    args = options.server(__doc__, "session", log_addresses=True)

    os.environ.setdefault(
        "OPENSSL_CONF", str(ROOT / "nts/server/openssl.cnf")
    )  # read when OpenSSL is loaded, by the next line
    from nts.server import config, ke_daemon
    from nts.system import places

    settings = config.load(Path(args.config or places.server_ini()))
    ke_daemon.serve(settings, verbose=args.verbose, log_addresses=args.log_addresses)
    return ExitCode.OK


if __name__ == "__main__":
    script.run(main)
