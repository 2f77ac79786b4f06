# SPDX-License-Identifier: MIT
"""The throwaway certificate that server.ini names, made on demand or at the first start (`auto_cert`)."""

from __future__ import annotations

from pathlib import Path

from nts.base.errors import ConfigError
from nts.base.text import is_server_name
from nts.server.config import KeConfig
from nts.system import certs, console, privileges


def make(names: list[str], ke: KeConfig) -> list[Path]:
    """Make the certificate for these names. Returns the files made. ConfigError for a bad name, or as `certs.make`."""
    if ke.root_ca is None:
        raise ConfigError("[ntske] root_ca names no file for the CA")
    for name in names:
        if not is_server_name(name.removeprefix("*.")):
            raise ConfigError(f"{name!r} is neither an IP address nor a domain name")
    return certs.make(tuple(names), cert=ke.server_cert, key=ke.server_key, ca=ke.root_ca)


def make_if_missing(ke: KeConfig, user: str) -> None:
    """Make the certificate for localhost, for a server that runs as `user`, if `auto_cert` is set and it is missing."""
    if not ke.auto_cert or ke.root_ca is None or (ke.server_cert.exists() and ke.server_key.exists()):
        return
    try:
        certs.make(certs.LOCAL_NAMES, cert=ke.server_cert, key=ke.server_key, ca=ke.root_ca)
        privileges.give(user, ke.server_key)
    except ConfigError:
        if ke.server_cert.exists() or ke.server_key.exists():
            return  # the operator's, or made just now by another server that started at the same time
        raise
    console.warn(f"made a THROWAWAY certificate for localhost, {ke.server_cert}, and its CA, {ke.root_ca}")
    console.warn('they are for trying things out on this machine only: see README.md, "Configuration"')
