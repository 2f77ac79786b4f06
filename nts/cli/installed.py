# SPDX-License-Identifier: MIT
"""The commands that pip makes: each runs a script of the checkout, which a wheel has as a module of nts.commands."""

from __future__ import annotations

import signal
from functools import partial
from importlib import import_module

from nts.cli import script


def _run(name: str) -> None:
    if name.endswith("_client") and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the script does
    script.run(lambda: import_module(f"nts.commands.{name}").main())


ntske_client = partial(_run, "ntske_client")
ntsts_client = partial(_run, "ntsts_client")
ntske_server = partial(_run, "ntske_server")
ntsts_server = partial(_run, "ntsts_server")
server_helper = partial(_run, "server_helper")
fleet_helper = partial(_run, "fleet_helper")
nts_check = partial(_run, "nts_check")
