# SPDX-License-Identifier: MIT
"""server.ini: the meaning, default and check of every option, read into frozen dataclasses.

ConfigError names the file, section and option of an unknown option or a bad value, and says what is accepted. Paths are
relative to the file.
"""

# ruff: noqa: RUF009 - what _option() gives is a field

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nts.base.errors import ConfigError
from nts.base.registry import EXPORTER_LABEL
from nts.base.text import is_ip_address, is_server_name, span, whole_number
from nts.codec import foreign_keys
from nts.codec.aead import Aead
from nts.codec.keyring import FOREIGN_FORMATS, CookieFormat
from nts.protocol.rate_limit import Limit
from nts.system import inifile

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_WORKERS = 64
MAX_IMPORTS = 8  # key files of other servers: the native engine has room for their keys
MAX_LISTEN = 64  # addresses, each with a socket: the native engine serves no more


# --- what the options accept -----------------------------------------------------------------------------------------


def _number(low: int, high: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        value = whole_number(text, low, high)
        if value is None:
            raise ValueError(f"must be a number from {low} to {high}")
        return value

    return check


_port = _number(1, 65535)


_MIN_ROTATION, _MAX_ROTATION = 60, 365 * 86400


def _rotation(text: str) -> int | None:
    if not text:
        return None
    seconds = span(text, _MIN_ROTATION, _MAX_ROTATION)
    if seconds is None:
        raise ValueError("must be a number with the unit s, m, h or d, from 1m to 365d, or empty")
    return seconds


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
        found = tuple(dict.fromkeys(ipaddress.ip_address(a) for a in text.replace(",", " ").split()))
    except ValueError:
        raise ValueError("must be IPv4 and IPv6 addresses, or empty for all") from None
    if len(found) > MAX_LISTEN:
        raise ValueError(f"must be at most {MAX_LISTEN} addresses, not {len(found)}, or empty for all")
    for address in found:
        if address.is_multicast or str(address) == "255.255.255.255":
            raise ValueError(f"must not have {address}, which is the address of many machines")
        if address.is_unspecified and sum(a.version == address.version for a in found) > 1:
            raise ValueError(
                f"must not have other addresses beside {address}, which is all IPv{address.version} addresses"
            )
        if address.version == 6 and address.is_link_local and address.scope_id is None:
            raise ValueError(f"must name the interface of {address}, as in {address}%eth0")
    return tuple(map(str, found))


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


def _user(text: str) -> str:
    if text and not re.fullmatch(r"[a-z_][a-z0-9_-]*", text):
        raise ValueError("must be the name of a user of this machine, or empty")
    return text


def _endpoint(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = whole_number(port, 1, 65535)
    if text and (number is None or not is_ip_address(host)):
        raise ValueError("must be an IP address and a port, such as 127.0.0.1:9460 or [::1]:9460, or empty")
    return (host, number) if number else None


def _cookie_format(text: str) -> CookieFormat:
    return CookieFormat(_one_of(*(f.value for f in CookieFormat))(text))


@dataclass(frozen=True)
class ForeignFile:
    """A key file of another server."""

    format: CookieFormat
    path: Path


def foreign_files(text: str) -> tuple[ForeignFile, ...]:
    found = []
    for item in filter(None, (i.strip() for i in text.split(","))):
        kind, _, path = item.partition(":")
        if kind not in (f.value for f in FOREIGN_FORMATS) or not path or "\0" in path:
            raise ValueError("must be chrony:PATH or ntpsec:PATH, separated by commas, or empty")
        found.append(ForeignFile(CookieFormat(kind), Path(path)))
    if len(found) > MAX_IMPORTS:
        raise ValueError(f"must be at most {MAX_IMPORTS} files, not {len(found)}")
    return tuple(found)


def command(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise ValueError("must be a command with its arguments, quoted as in a shell, or empty") from None


def _interface(text: str) -> str:
    if text and not re.fullmatch(r"[^\s/:]{1,15}", text):
        raise ValueError("must be the name of a network interface, or empty")
    return text


def _prefixes(text: str) -> tuple[Prefix, ...]:
    try:
        return tuple(ipaddress.ip_network(prefix) for prefix in text.replace(",", " ").split())
    except ValueError as e:
        raise ValueError(f"must be prefixes of IP addresses, such as 192.0.2.0/24, or empty ({e})") from None


def _label(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    return text or EXPORTER_LABEL


# --- the sections ----------------------------------------------------------------------------------------------------


def _option(check: Callable[[str], Any], default: str) -> Any:
    """A field whose value `check` makes of the option's text. ValueError says what is accepted."""
    return field(metadata={"check": check, "default": default})


@dataclass(frozen=True)
class KeConfig:
    """[ntske]: the key exchange server."""

    port: int = _option(_port, "4446")
    listen: tuple[str, ...] = _option(_addresses, "")
    """IP addresses; empty: all"""
    server_cert: Path = _option(_path, "certs/server.pem")
    server_key: Path = _option(_path, "certs/server.key")
    name: str = _option(_server, "")
    """the name under which clients reach the server, which the certificate must be for; empty: not checked"""
    root_ca: Path | None = _option(_optional_path, "certs/ca.pem")
    """for users and `check`, and made by auto_cert"""
    auto_cert: bool = _option(_yes_no, "no")
    workers: int = _option(_workers, "auto")
    """processes"""
    aeads: tuple[Aead, ...] = _option(_aeads, "15, 17, 16")
    engine: str = _option(_one_of("auto", "native", "python"), "auto")
    """native; python; auto: native if it has been built and offers the same TLS groups, else python"""
    metrics: tuple[str, int] | None = _option(_endpoint, "")
    """address and port for Prometheus; None: no metrics"""
    max_sessions: int = _option(_number(1, 100_000), "400")
    """connections in one worker"""
    max_per_prefix: int = _option(_number(1, 100_000), "300")
    """of those, from one prefix of addresses"""
    rate_per_prefix: int = _option(_number(0, 100_000), "0")
    """new connections a second from one prefix, in one worker; 0: any number"""
    prefix4: int = _option(_number(8, 32), "32")
    """bits of an IPv4 address that tell clients apart"""
    prefix6: int = _option(_number(16, 128), "64")


@dataclass(frozen=True)
class NtpConfig:
    """[ntpv4]: the time server, and what the key exchange tells clients about it."""

    server: str = _option(_server, "")
    """name or IP address for clients; empty: none"""
    port: int = _option(_port, "4123")
    listen: tuple[str, ...] = _option(_addresses, "")
    workers: int = _option(_workers, "auto")
    clock: str = _option(_one_of("auto", "local"), "auto")
    """auto: as synchronised as the kernel says; local: a local reference"""
    local_stratum: int = _option(_number(1, 15), "10")
    engine: str = _option(_one_of("auto", "native", "python"), "auto")
    """native; python; auto: native if it has been built, else python"""
    metrics: tuple[str, int] | None = _option(_endpoint, "")
    rate_limit: int = _option(_number(0, 1_000_000), "0")
    """requests per second from a prefix; 0: no limit"""
    rate_burst: int = _option(_number(1, 10_000), "16")
    """requests at once after a pause"""
    rate_prefix4: int = _option(_number(8, 32), "32")
    """bits of an IPv4 address"""
    rate_prefix6: int = _option(_number(16, 128), "64")
    rate_limit_nts: bool = _option(_yes_no, "no")
    """limit authenticated requests too"""
    xdp: str = _option(_interface, "")
    """the interface whose requests go past the kernel's network stack; empty: none"""
    xdp_allow: tuple[Prefix, ...] = _option(_prefixes, "")
    """whose requests may; empty: everybody's"""
    xdp_deny: tuple[Prefix, ...] = _option(_prefixes, "")
    """whose may not, unless a longer prefix of xdp_allow holds"""

    @property
    def limit(self) -> Limit:
        return Limit(self.rate_limit, self.rate_burst, self.rate_prefix4, self.rate_prefix6, self.rate_limit_nts)


@dataclass(frozen=True)
class KeysConfig:
    """[keys]: the master keys that seal cookies."""

    master_keys_dir: Path = _option(_path, "master_keys")
    max_keys: int = _option(_number(2, 100), "3")
    rotate_every: int | None = _option(_rotation, "")
    """seconds; None: only server_helper.py rotates"""
    key_label: str = _option(_label, "")
    import_: tuple[ForeignFile, ...] = _option(foreign_files, "")
    """key files of other servers, whose cookies are opened too"""
    cookie_format: CookieFormat = _option(_cookie_format, "own")
    export: Path | None = _option(_optional_path, "")
    """where `server_helper.py rotate` writes the keys for a server of that format; None: nowhere"""
    export_command: tuple[str, ...] = _option(command, "")
    """makes that server read them"""

    @property
    def exported(self) -> ForeignFile | None:
        """The key file that another server reads."""
        return None if self.export is None else ForeignFile(self.cookie_format, self.export)

    def format_problem(self, aeads: tuple[Aead, ...]) -> str | None:
        """What in the options on other servers' formats does not go together, in a line; None when all does."""
        known = foreign_keys.AEADS.get(self.cookie_format, tuple(Aead))
        if set(aeads) - set(known):
            numbers = ", ".join(str(int(a)) for a in known)
            return (
                f"cookie_format = {self.cookie_format.value}: its cookies have room for [ntske] aeads = {numbers} alone"
            )
        if self.export is not None and self.cookie_format is CookieFormat.OWN:
            return "export needs cookie_format = chrony or ntpsec"
        if self.export is not None and self.rotate_every is not None:
            return "export needs rotate_every to be empty: only server_helper.py rotate can tell the other server"
        if self.export_command and self.export is None:
            return "export_command needs export"
        return None

    @property
    def label_problem(self) -> str | None:
        """What is wrong with the label, in a line; None with that of RFC 8915."""
        if self.key_label == EXPORTER_LABEL:
            return None
        return (
            f"key_label = {self.key_label}: clients that follow RFC 8915 use another, so all their time requests fail"
        )


@dataclass(frozen=True)
class ProcessConfig:
    """[server]: what holds for the processes of both servers."""

    user: str = _option(_user, "")
    """whom to become once the sockets are open, when started by root; empty: nobody else"""
    sandbox: bool = _option(_yes_no, "yes")
    """whether to give up all rights that the server does not need"""


@dataclass(frozen=True)
class ServerConfig:
    """The contents of server.ini."""

    path: Path
    ntske: KeConfig
    ntpv4: NtpConfig
    keys: KeysConfig
    server: ProcessConfig


SECTIONS = {"ntske": KeConfig, "ntpv4": NtpConfig, "keys": KeysConfig, "server": ProcessConfig}


def load(path: Path) -> ServerConfig:
    """Read a server.ini. ConfigError when it cannot be used."""
    parser = inifile.parse(inifile.read_text(path), path)
    for section in parser.sections():
        if section not in SECTIONS:
            raise ConfigError(f"{path}: unknown section [{section}]; the sections are {', '.join(SECTIONS)}")
    config = ServerConfig(path, **{name: read_section(parser, name, kind, path) for name, kind in SECTIONS.items()})
    if config.ntske.auto_cert and config.ntske.root_ca is None:
        raise ConfigError(f"{path}: [ntske] auto_cert = yes needs root_ca, the file of the throwaway CA")
    if problem := config.keys.format_problem(config.ntske.aeads):
        raise ConfigError(f"{path}: [keys] {problem}")
    return config


def option_name(option: Field[Any]) -> str:
    """What a field is called in the file: `import` is a word of Python's."""
    return option.name.removesuffix("_")


def read_section(parser: ConfigParser, section: str, kind: type[Any], path: Path) -> Any:
    """The options of a section, which may be missing, as the dataclass for it."""
    values: dict[str, Any] = {}
    for option in fields(kind):
        name = option_name(option)
        text = parser.get(section, name, fallback=option.metadata["default"]).strip()
        try:
            value = option.metadata["check"](text)
        except ValueError as e:
            excerpt = text if len(text) <= 100 else text[:97] + "..."
            raise ConfigError(f"{path}: [{section}] {name} = {excerpt!r}: {e}") from None
        values[option.name] = _from_folder(path.parent, value)
    known = [option_name(option) for option in fields(kind)]
    for name in parser[section] if parser.has_section(section) else ():
        if name not in known:
            raise ConfigError(f"{path}: unknown option {name} in [{section}]; the options are {', '.join(known)}")
    return kind(**values)


def _from_folder(folder: Path, value: Any) -> Any:
    """The value with its paths taken from this folder."""
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, tuple) and value and isinstance(value[0], ForeignFile):
        return tuple(replace(f, path=folder / f.path) for f in value)
    return value
