# SPDX-License-Identifier: MIT
"""fleet.ini: the meaning, default and check of every option, and the parts that it makes.

ConfigError as in `server.config`. Paths are relative to the file.
"""

# ruff: noqa: RUF009 - what _option() gives is a field

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from nts.base.errors import ConfigError
from nts.base.text import is_ip_address, is_server_name, span, whole_number
from nts.codec.keyring import CookieFormat
from nts.fleet import envelope
from nts.fleet.envelope import Wrapping
from nts.fleet.fleet import Fleet
from nts.fleet.folder import Folder
from nts.fleet.local import MasterKeys, Memory, Target
from nts.fleet.peer import PeerKeys
from nts.fleet.store import Store
from nts.server import config as server_config
from nts.server.config import ForeignFile, ServerConfig
from nts.system import files, inifile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
BACKENDS = ("etcd", "folder")


def _checked(accepted: Callable[[str], bool], what: str, make: Callable[[str], Any] = str) -> Callable[[str], Any]:
    def check(text: str) -> Any:
        if not accepted(text):
            raise ValueError(f"must be {what}")
        return make(text)

    return check


def _is_endpoint(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return is_server_name(host.removeprefix("[").removesuffix("]")) and whole_number(port, 1, 65535) is not None


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _endpoint(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    return (host.removeprefix("[").removesuffix("]"), int(port)) if text else None


_name = _checked(lambda t: not t or bool(_NAME.fullmatch(t)), "letters, digits, dots and hyphens, or empty")
_file = _checked(lambda t: bool(t) and "\0" not in t, "a path", Path)
_lead = _checked(lambda t: t in ("", "yes", "no"), "yes, no, or empty for yes with etcd and no with a folder")
_prefix = _checked(
    lambda t: bool(re.fullmatch(r"/[\x21-\x7e]*/", t)), "printable ASCII that begins and ends with a slash: /nts/"
)
_lease = _checked(lambda t: span(t, 2, 3600) is not None, "a number with the unit s or m, from 2s to 60m",
                  lambda t: span(t, 2, 3600))  # fmt: skip
_endpoints = _checked(
    lambda t: bool(_words(t)) and all(map(_is_endpoint, _words(t))),
    "HOST:PORT, one or more, separated by commas",
    _words,
)


def _is_address(text: str) -> bool:
    return _is_endpoint(text) and is_ip_address((_endpoint(text) or ("", 0))[0])


_metrics = _checked(
    lambda t: not t or _is_address(t), "an IP address and a port, such as 127.0.0.1:9462, or empty", _endpoint
)
_ask = _checked(_is_address, "an IP address and a port, such as 127.0.0.1:123", _endpoint)


def _keys(text: str) -> tuple[ForeignFile, ...]:
    found = server_config.foreign_files(text)
    if len(found) > 1:
        raise ValueError("must be one file, or empty")
    return found


def _option(check: Callable[[str], Any], default: str) -> Any:
    return field(metadata={"check": check, "default": default})


@dataclass(frozen=True)
class FleetSection:
    """[fleet]: this host."""

    name: str = _option(_name, "")
    """of this member; empty: the host's name"""
    backend: str = _option(_checked(lambda t: t in BACKENDS, "etcd or folder"), "etcd")
    prefix: str = _option(_prefix, "/nts/")
    """of all names in etcd; part of what seals the plan, in a folder too"""
    wrapping_key: Path = _option(_file, "fleet.key")
    """the same on all hosts; a systemd credential of that name has precedence"""
    server_ini: Path = _option(_file, "server.ini")
    """of the servers on this host: names the folder of master keys"""
    keys: tuple[ForeignFile, ...] = _option(_keys, "")
    """the key file of another server, in their place: one or none"""
    command: tuple[str, ...] = _option(server_config.command, "chronyc rekey")
    """has that server read its file"""
    ask: tuple[str, int] = _option(_ask, "127.0.0.1:123")
    """where that server answers, to see that it has"""
    memory: Path = _option(_file, "fleet.state")
    """the last plan that was carried out, sealed"""
    lead: str = _option(_lead, "")
    """whether this agent may lead"""
    lease: int = _option(_lease, "15s")
    """seconds after which an agent that is not heard counts as silent, and another one may lead"""
    poll: int = _option(_lease, "60s")
    """seconds between two looks at the plan when no change is announced"""
    metrics: tuple[str, int] | None = _option(_metrics, "")


@dataclass(frozen=True)
class EtcdSection:
    """[etcd]: the cluster."""

    endpoints: tuple[str, ...] = _option(_endpoints, "localhost:2379")
    ca: Path = _option(_file, "etcd-ca.pem")
    cert: Path = _option(_file, "etcd-client.pem")
    key: Path = _option(_file, "etcd-client.key")


@dataclass(frozen=True)
class FolderSection:
    """[folder]: where it is."""

    path: Path = _option(_file, "fleet")


SECTIONS = {"fleet": FleetSection, "etcd": EtcdSection, "folder": FolderSection}


@dataclass(frozen=True)
class FleetConfig:
    """The contents of fleet.ini."""

    path: Path
    fleet: FleetSection
    etcd: EtcdSection
    folder: FolderSection

    @property
    def name(self) -> str:
        """Of this member."""
        return self.fleet.name or socket.gethostname()

    @property
    def leads(self) -> bool:
        return self.fleet.lead == "yes" or (not self.fleet.lead and self.fleet.backend == "etcd")

    @property
    def wrapping_path(self) -> Path:
        credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / self.fleet.wrapping_key.name
        return credential if credential.is_absolute() and credential.exists() else self.fleet.wrapping_key

    def wrapping(self) -> Wrapping:
        """The wrapping keys, read now. ConfigError when they cannot be used."""
        text = files.read(self.wrapping_path, hint="copy it from a member; fleet_helper.py init makes the first one")
        return envelope.parse(text.decode(errors="replace"), self.fleet.prefix, self.wrapping_path)

    def store(self) -> Store:
        """A new connection to where the plan is."""
        if self.fleet.backend == "folder":
            return Folder(self.folder.path, self.fleet.lease)
        etcd = etcd_backend()
        tls = etcd.credentials(self.etcd.ca, self.etcd.cert, self.etcd.key)
        store: Store = etcd.Etcd(etcd.Cluster(self.etcd.endpoints, tls), self.fleet.prefix, self.fleet.lease)
        return store

    def open(self) -> Fleet:
        """The fleet, over a new connection."""
        self.wrapping()
        return Fleet(self.store(), self.wrapping, os.urandom)

    def server(self) -> ServerConfig:
        """The servers of this host. ConfigError also when they would rotate by themselves."""
        found = server_config.load(self.fleet.server_ini)
        if found.keys.rotate_every is not None:
            raise ConfigError(
                f"{found.path}: [keys] rotate_every is set, but the fleet rotates the keys of this host",
                hint="remove rotate_every there, and disable nts-rotate.timer",
            )
        if found.keys.export is not None:
            raise ConfigError(
                f"{found.path}: [keys] export is set, but no fleet writes that file",
                hint="make that server a member of its own, with a fleet.ini that says [fleet] keys",
            )
        return found

    @property
    def cookie_format(self) -> CookieFormat:
        """Of the cookies that servers make here."""
        return self.fleet.keys[0].format if self.fleet.keys else self.server().keys.cookie_format

    @property
    def user(self) -> str:
        """Whose the files are that root makes; empty: the owner's of the folder."""
        return "" if self.fleet.keys else self.server().server.user

    def target(self) -> Target:
        if self.fleet.keys:
            return PeerKeys(self.fleet.keys[0], self.fleet.command, self.fleet.ask)
        keys = self.server().keys
        return MasterKeys(keys.master_keys_dir, self.user, keys.cookie_format)

    def remembered(self) -> Memory:
        return Memory(self.fleet.memory, self.user)


def etcd_backend() -> ModuleType:
    """The module, whose packages are optional. ConfigError where they are missing."""
    try:
        from nts.fleet import etcd
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in ("aetcd", "google", "grpc"):
            raise
        hint = f"{sys.executable} -m pip install 'aetcd==1.0.*'"
        raise ConfigError(
            f"etcd needs the package aetcd and what comes with it: there is no {e.name}", hint=hint
        ) from None
    return etcd


def load(path: Path, backend: str | None = None) -> FleetConfig:
    """Read a fleet.ini; `backend` has precedence over its own. ConfigError when it cannot be used."""
    parser = inifile.parse(inifile.read_text(path), path)
    for section in parser.sections():
        if section not in SECTIONS:
            raise ConfigError(f"{path}: unknown section [{section}]; the sections are {', '.join(SECTIONS)}")
    if backend is not None:
        parser.read_dict({"fleet": {"backend": backend}})
    return FleetConfig(
        path, **{name: server_config.read_section(parser, name, kind, path) for name, kind in SECTIONS.items()}
    )
