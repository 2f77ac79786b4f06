# SPDX-License-Identifier: MIT
"""The key exchange server's certificate, loaded again when its files change.

A new certificate is used only if clients would accept it. Otherwise the old one stays in use, and a warning says why.
Sessions keep the certificate that they began with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from nts.base.errors import ConfigError, NTSError
from nts.server.config import KeConfig
from nts.server.ke_engine import NativeTls
from nts.system import certs, tls

_LOOK = 1.0  # seconds between two looks at the files

Signature = tuple[tuple[int, int, int], ...]


class CertificateWatcher:
    """The TLS context for new sessions, which follows the files. ConfigError when they cannot be used at the start.

    `say` and `warn` get a line for each change.
    """

    def __init__(self, ke: KeConfig) -> None:
        self._ke = ke
        self._seen = self._signature()
        self._next_look = 0.0
        self.context = tls.server_context(ke.server_cert, ke.server_key)
        self.native: NativeTls | None = None
        """the same for the native loop, if that is to have it"""
        self._load_native: Callable[[Path, Path], NativeTls] | None = None
        self.description = certs.describe(ke.server_cert)

    @property
    def files(self) -> tuple[Path, Path]:
        """The certificate chain and the private key."""
        return self._ke.server_cert, self._ke.server_key

    def use_native(self, load: Callable[[Path, Path], NativeTls]) -> None:
        """From now on, follow the files for the native loop too. ConfigError when it cannot use them."""
        self.native, self._load_native = load(*self.files), load

    def problem(self) -> str | None:
        """Why clients would refuse the certificate in use; None when they would not."""
        return _problem(self.description, self._ke.name)

    def days_left(self) -> int:
        """Until the certificate in use expires."""
        return (self.description.not_after - certs.now()).days

    def follow(self, say: Callable[[str], None], warn: Callable[[str], None], *, at_once: bool = False) -> None:
        """Load the certificate if its files have changed, or in any case with `at_once`. Looks once a second."""
        now = time.monotonic()
        if now < self._next_look and not at_once:
            return
        self._next_look = now + _LOOK
        signature = self._signature()
        if signature == self._seen and not at_once:
            return
        self._seen = signature
        ke = self._ke
        try:
            context, description = tls.server_context(*self.files), certs.describe(ke.server_cert)
            native = self._load_native(*self.files) if self._load_native else None
            problem = _problem(description, ke.name)
            if problem:
                raise ConfigError(f"{ke.server_cert} {problem}")
        except NTSError as e:
            warn(f"{e}: the certificate loaded before stays in use, until {self.description.not_after:%Y-%m-%d}")
            return
        if self._signature() != signature:
            return  # they have changed while they were read: at the next look
        self.context, self.description, self.native = context, description, native
        say(f"loaded the certificate for {', '.join(description.names)}, valid until {description.not_after:%Y-%m-%d}")

    def _signature(self) -> Signature:
        return tuple(map(_identity, self.files))


def _identity(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced or written. Zeros when it cannot be examined."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_ctime_ns, status.st_size)


def _problem(description: certs.Description, name: str) -> str | None:
    problem = description.problem(certs.now())
    if problem is None and name and not description.covers(name):
        return f"is not for {name}, the [ntske] name"
    return problem
