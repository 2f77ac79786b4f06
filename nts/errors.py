# SPDX-License-Identifier: MIT
"""The exceptions of the public API. All are NTSError: `str()` is one line, `hint` says what to try next, or is None."""

from nts.base.errors import (
    ALPNError,
    CertificateError,
    ConfigError,
    ConnectError,
    KeErrorRecord,
    KeResponseError,
    LibraryError,
    Mismatch,
    NoAnswer,
    NoCookies,
    NotAuthentic,
    NTSError,
    NtsNak,
    ResolveError,
    TLSError,
    UnusableServer,
)

__all__ = [
    "ALPNError",
    "CertificateError",
    "ConfigError",
    "ConnectError",
    "KeErrorRecord",
    "KeResponseError",
    "LibraryError",
    "Mismatch",
    "NTSError",
    "NoAnswer",
    "NoCookies",
    "NotAuthentic",
    "NtsNak",
    "ResolveError",
    "TLSError",
    "UnusableServer",
]
