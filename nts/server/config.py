# SPDX-License-Identifier: MIT
"""server.ini: the meaning, default and check of every option, read into frozen dataclasses.

ConfigError names the file, section and option of an unknown option or a bad value, and says what is accepted. Paths are
relative to the file.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nts import ROOT
from nts.base.errors import ConfigError
from nts.base.registry import EXPORTER_LABEL
from nts.base.text import is_server_name, whole_number
from nts.codec.aead import Aead
from nts.system import inifile

DEFAULT_PATH = ROOT / "server.ini"
MAX_WORKERS = 64
MAX_LISTEN = 64  # addresses, each with a socket: the native engine serves no more


@dataclass(frozen=True)
class KeConfig:
    """[ntske]: the key exchange server."""

    port: int
    listen: tuple[str, ...]
    """IP addresses; empty: all"""
    server_cert: Path
    server_key: Path
    root_ca: Path | None
    """for users and `check`, and made by auto_cert"""
    auto_cert: bool
    workers: int
    """processes"""
    aeads: tuple[Aead, ...]


@dataclass(frozen=True)
class NtpConfig:
    """[ntpv4]: the time server, and what the key exchange tells clients about it."""

    server: str
    """name or IP address for clients; empty: none"""
    port: int
    listen: tuple[str, ...]
    workers: int
    clock: str
    """auto: as synchronised as the kernel says; local: a local reference"""
    local_stratum: int
    engine: str
    """native; python; auto: native if it has been built, else python"""


@dataclass(frozen=True)
class KeysConfig:
    """[keys]: the master keys that seal cookies."""

    master_keys_dir: Path
    max_keys: int
    key_label: str


@dataclass(frozen=True)
class ServerConfig:
    """The contents of server.ini."""

    path: Path
    ntske: KeConfig
    ntpv4: NtpConfig
    keys: KeysConfig


def load(path: Path) -> ServerConfig:
    """Read a server.ini. ConfigError when it cannot be used."""
    parser = inifile.parse(inifile.read_text(path), path)
    for section in parser.sections():
        if section not in _OPTIONS:
            raise ConfigError(f"{path}: unknown section [{section}]; the sections are {', '.join(_OPTIONS)}")
        for option in parser[section]:
            if option not in _OPTIONS[section]:
                known = ", ".join(_OPTIONS[section])
                raise ConfigError(f"{path}: unknown option {option} in [{section}]; the options are {known}")
    values: dict[str, dict[str, Any]] = {}
    for section, options in _OPTIONS.items():
        values[section] = {}
        for option, (check, default) in options.items():
            text = parser.get(section, option, fallback=default).strip()
            try:
                value = check(text)
            except ValueError as e:
                excerpt = text if len(text) <= 100 else text[:97] + "..."
                raise ConfigError(f"{path}: [{section}] {option} = {excerpt!r}: {e}") from None
            values[section][option] = path.parent / value if isinstance(value, Path) else value
    if values["ntske"]["auto_cert"] and values["ntske"]["root_ca"] is None:
        raise ConfigError(f"{path}: [ntske] auto_cert = yes needs root_ca, the file of the throwaway CA")
    return ServerConfig(path, KeConfig(**values["ntske"]), NtpConfig(**values["ntpv4"]), KeysConfig(**values["keys"]))


def _number(low: int, high: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        value = whole_number(text, low, high)
        if value is None:
            raise ValueError(f"must be a number from {low} to {high}")
        return value

    return check


def _yes_no(text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return text.lower() == "yes"


def _workers(text: str) -> int:
    if text == "auto":
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)  # only CPUs that a container or taskset allows
    value = whole_number(text, 1, MAX_WORKERS)
    if value is None:
        raise ValueError(f"must be auto or a number from 1 to {MAX_WORKERS}")
    return value


def _addresses(text: str) -> tuple[str, ...]:
    try:
        found = tuple(dict.fromkeys(str(ipaddress.ip_address(a)) for a in text.replace(",", " ").split()))
    except ValueError:
        raise ValueError("must be IPv4 and IPv6 addresses, or empty for all") from None
    if len(found) > MAX_LISTEN:
        raise ValueError(f"must be at most {MAX_LISTEN} addresses, not {len(found)}, or empty for all")
    return found


def _aeads(text: str) -> tuple[Aead, ...]:
    found = Aead.parse_list(text)
    if Aead.AES_SIV_CMAC_256 not in found:
        raise ValueError("must include 15 (RFC 8915 section 4.1.5)")
    return found


def _server(text: str) -> str:
    if text and not is_server_name(text):
        raise ValueError("must be an IP address, a domain name, or empty")
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return check


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("must be a path")
    return Path(text)


def _optional_path(text: str) -> Path | None:
    return _path(text) if text else None


def _label(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    return text or EXPORTER_LABEL


_PORT = _number(1, 65535)
_OPTIONS: dict[str, dict[str, tuple[Callable[[str], Any], str]]] = {
    "ntske": {
        "port": (_PORT, "4446"),
        "listen": (_addresses, ""),
        "server_cert": (_path, "certs/server.pem"),
        "server_key": (_path, "certs/server.key"),
        "root_ca": (_optional_path, "certs/ca.pem"),
        "auto_cert": (_yes_no, "no"),
        "workers": (_workers, "auto"),
        "aeads": (_aeads, "15, 17, 16"),
    },
    "ntpv4": {
        "server": (_server, ""),
        "port": (_PORT, "4123"),
        "listen": (_addresses, ""),
        "workers": (_workers, "auto"),
        "clock": (_one_of("auto", "local"), "auto"),
        "local_stratum": (_number(1, 15), "10"),
        "engine": (_one_of("auto", "native", "python"), "auto"),
    },
    "keys": {
        "master_keys_dir": (_path, "master_keys"),
        "max_keys": (_number(2, 100), "3"),
        "key_label": (_label, ""),
    },
}
