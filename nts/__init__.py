# SPDX-License-Identifier: MIT
"""Network Time Security for NTP (RFC 8915): a library, and the package behind the command-line scripts.

Public is what `__all__` lists here, in `nts.aio` and in `nts.errors`; docs/library.md describes it. All else may change
without notice. Importing nts loads none of it: each name is loaded when it is first used.

Each folder is a layer. A module imports only from layers above its own in this list, and imports within a layer form
no cycle (`tests/test_layering.py` walks all imports):

    base       errors, registry numbers, octets, text
    codec      wire formats and cryptography
    protocol   the rules of RFC 8915 as pure functions
    system     files, sockets, clock, TLS, stderr
    server     the two servers                  client   the two clients
    api        the library, blocking
    aio        the same for asyncio             cli      arguments, exit codes, output
    check      nts_check: the conformance probe

base, codec and protocol own no socket, clock, thread, file or random source: callers pass those in.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nts import aio, errors
    from nts.api import Answer, Association, Client, key_exchange, query

__all__ = ["Answer", "Association", "Client", "__version__", "aio", "errors", "key_exchange", "query"]

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent
"""what holds this package: the checkout, a folder of Python packages, or lib/nts of `make install`"""
IS_CHECKOUT = (ROOT / "ntske_client.py").exists() and not (ROOT / "installed").exists()
"""whether server.ini and client.ini are beside the scripts (`nts.system.places`)"""

if not TYPE_CHECKING:  # where it would make any name pass

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f"nts.{name}") if name in ("aio", "errors") else getattr(import_module("nts.api"), name)
