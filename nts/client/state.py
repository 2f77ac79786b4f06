# SPDX-License-Identifier: MIT
"""client.ini: the result of a key exchange, and the stock of cookies (RFC 8915 section 5.7).

The ancestor's client can read the file. It knows [ntpv4] server, port; [keys] c2s, s2c in hex; [cookies] 0 to 7 in
hex. We add [ntske] host, port, ca, verify, verify_name, aeads, so that the key exchange can be repeated as it was;
attempts and not_before, so that it is not repeated too often; exchanged and certificate_not_after, for monitoring; and
[keys] aead, c2s_context_15, s2c_context_15.

Invariants:

- The file on disk is always whole and of mode 0600.
- Unknown sections and options stay, as they are written. Comments do not.
- `take_cookie` removes the cookie from the disk before it returns, so that no crash and no second client can send it
  twice.
"""

from __future__ import annotations

import configparser
import datetime
import io
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from nts.base.errors import NO_HINT, ConfigError, NoCookies
from nts.base.registry import COOKIES_WANTED, KE_PORT, MAX_COOKIE
from nts.base.text import counted, whole_number
from nts.codec.aead import Aead, SessionKeys
from nts.protocol import ts_client
from nts.system import files, inifile

_OTHER_KEYS = ("c2s_context_15", "s2c_context_15")
DEFAULT_AEADS = (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_384, Aead.AES_SIV_CMAC_512)
_TIMES = ("exchanged", "certificate_not_after")
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_SLOTS = [str(i) for i in range(COOKIES_WANTED)]
_HEADER = "# Written by ntske_client.py and ntsts_client.py. Keep it secret. Each cookie is good for one request.\n\n"


@dataclass(frozen=True)
class Association:
    """The contents of client.ini."""

    ke_host: str
    ke_port: int
    ca: str
    """path of the file of CA certificates; empty: the system's store"""
    verify: bool
    """whether the server's certificate was verified"""
    server: str
    port: int
    keys: SessionKeys
    cookies: tuple[bytes, ...] = field(default=(), repr=False)
    """oldest first"""
    other_keys: SessionKeys | None = None
    """the keys that the server uses if its exporter context for AEAD 30 holds 15 (`aead.possible_contexts`)"""
    verify_name: str = ""
    """the name that the certificate was verified for; empty: `ke_host`"""
    aeads: tuple[Aead, ...] = DEFAULT_AEADS
    """what was offered to the server"""
    attempts: int = 0
    """key exchanges that `rekey` began since both a key exchange and a query succeeded (section 4.2)"""
    not_before: int = 0
    """when the next one may begin, in seconds since 1970"""
    exchanged: int | None = None
    """when the key exchange was, in seconds since 1970; None: unknown, like the next one"""
    certificate_not_after: int | None = None
    """when the certificate expires that the NTS-KE server had then"""

    def is_like(self, other: Association) -> bool:
        """Whether both come from the same key exchange: all but the cookies and the choice of keys is the same."""
        same_place = (self.server, self.port) == (other.server, other.port)
        return same_place and bool({self.keys, self.other_keys} & {other.keys, other.other_keys} - {None})


class ClientState:
    """The file `client.ini`. All methods raise ConfigError when it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        try:
            self.path = path.resolve()  # replace the target of a symbolic link, not the link
            if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):  # still a link: to itself
                raise ConfigError(f"{self.path} is not a regular file", hint="give another one with -o or -f")
        except (OSError, RuntimeError, ValueError) as e:
            why = e.strerror if isinstance(e, OSError) else str(e)
            raise ConfigError(f"cannot use {path}: {why}", hint="give another one with -o or -f") from None

    def check_writable(self, ca: Path | None = None) -> None:
        """Raise ConfigError when `save` would fail, for this `ca` too, or would overwrite what is no client.ini."""
        if ca is not None and not _is_storable(str(ca)):
            raise ConfigError(
                f"client.ini cannot hold the path {str(ca)!a}",
                hint="copy the file: its path must be UTF-8 without control characters, and must not end with a space",
            )
        with self._locked():
            self._parse()

    def load(self) -> Association:
        """Read the association. ConfigError when there is none."""
        if not self.path.exists():
            raise ConfigError(f"{self.path} does not exist", hint="run ntske_client.py first")
        return _decode(self._parse(), self.path)

    def save(self, association: Association) -> None:
        """Replace the association, with all its keys and cookies (section 5.7)."""
        with self._locked():
            self._write(association)

    def changed_within(self, seconds: float) -> bool:
        """Whether the file has been written in the last seconds, perhaps by another process that takes cookies."""
        try:
            return abs(time.time() - self.path.stat().st_mtime) < seconds
        except OSError:
            return False

    def begin_key_exchange(self, now: int, wait: Callable[[int], float]) -> int:
        """Note that another key exchange begins, if it may. Returns in how many seconds it may; 0: it may begin now.

        `wait(n)` is the time from the nth to the next. A time further away than any wait dates from a clock that was
        wrong, and does not count.
        """
        with self._locked():
            association = self.load()
            left = association.not_before - now
            if 0 < left <= wait(association.attempts):
                return left
            attempts = association.attempts + 1
            self._write(replace(association, attempts=attempts, not_before=now + int(wait(attempts))))
        return 0

    def take_cookie(self) -> tuple[Association, bytes]:
        """Take the oldest cookie out of the file. Returns it with the association. NoCookies if there is none."""
        with self._locked():
            association = self.load()
            if not association.cookies:
                raise NoCookies(f"no cookies left in {self.path}")
            cookie, *rest = association.cookies
            association = replace(association, cookies=tuple(rest))
            self._write(association)
        return association, cookie

    def add_cookies(self, keys: SessionKeys, fresh: tuple[bytes, ...]) -> int:
        """Store the fresh cookies of an authentic answer, and settle on `keys`, which the answer has confirmed.

        Key exchanges may again follow each other as at first.

        Does nothing if the association has been replaced meanwhile. Returns the number of cookies in stock.
        """
        with self._locked():
            association = self.load()
            if keys in (association.keys, association.other_keys):
                stock = ts_client.restock(association.cookies, fresh)
                settled = replace(
                    association, keys=keys, other_keys=None, cookies=stock, attempts=0, not_before=0
                )  # fmt: skip
                if settled != association:
                    self._write(settled)
                association = settled
        return len(association.cookies)

    @contextmanager
    def locked_for_key_exchange(self, seconds: float) -> Iterator[None]:
        """Keep other processes from a key exchange for this file. Waits up to so long for one that runs."""
        try:
            with files.locked(self.path.with_name(f".{self.path.name}.ke.lock"), seconds):
                yield
        except OSError as e:
            raise ConfigError(f"cannot write {self.path}: {e.strerror}", hint=NO_HINT) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with files.locked(self.path.with_name(f".{self.path.name}.lock")):
                yield
        except OSError as e:
            raise ConfigError(f"cannot write {self.path}: {e.strerror}", hint=NO_HINT) from None

    def _parse(self) -> configparser.ConfigParser:
        """Parse the file, which may not exist yet. ConfigError when it is not an INI file."""
        return inifile.parse(inifile.read_text(self.path) if self.path.exists() else "", self.path, exact=True)

    def _write(self, association: Association) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        files.write_private(temporary, _encode(association, self._parse()))
        files.rename(temporary, self.path)


def _is_storable(value: str) -> bool:
    """Whether a value comes back from an INI file as it was."""
    control = any(unicodedata.category(c) == "Cc" for c in value)
    return not control and value == value.strip() and value.encode("utf-8", "replace").decode() == value


def _encode(a: Association, parser: configparser.ConfigParser) -> str:
    """The text of the parsed file with this association in it."""
    for section in ("ntske", "ntpv4", "keys", "cookies"):
        if not parser.has_section(section):
            parser.add_section(section)
    parser["ntske"].update(host=a.ke_host, port=str(a.ke_port), ca=a.ca, verify="yes" if a.verify else "no")
    for option, value in (
        ("verify_name", a.verify_name),
        ("aeads", ", ".join(str(int(x)) for x in a.aeads) if a.aeads != DEFAULT_AEADS else ""),
        ("attempts", str(a.attempts or "")),
        ("not_before", str(a.not_before or "")),
    ):
        parser.remove_option("ntske", option)
        if value:
            parser["ntske"][option] = value
    for option, when in zip(_TIMES, (a.exchanged, a.certificate_not_after), strict=True):
        parser.remove_option("ntske", option)
        if when is not None:
            moment = datetime.datetime.fromtimestamp(when, datetime.timezone.utc)
            parser["ntske"][option] = moment.strftime(_TIME_FORMAT)
    parser["ntpv4"].update(server=a.server, port=str(a.port))
    parser["keys"].update(aead=str(int(a.keys.aead)), c2s=a.keys.c2s.hex(), s2c=a.keys.s2c.hex())
    for option in _OTHER_KEYS:
        parser.remove_option("keys", option)
    if a.other_keys:
        parser["keys"].update(zip(_OTHER_KEYS, (a.other_keys.c2s.hex(), a.other_keys.s2c.hex()), strict=True))
    for slot in _SLOTS:
        parser.remove_option("cookies", slot)
    parser["cookies"].update({str(i): c.hex() for i, c in enumerate(a.cookies)})
    text = io.StringIO()
    parser.write(text)
    return _HEADER + text.getvalue()


def _decode(parser: configparser.ConfigParser, path: Path) -> Association:
    """The association in a parsed file. ConfigError names a missing or wrong option, never its value."""

    def text(section: str, option: str, default: str | None = None) -> str:
        value = parser.get(section, option, fallback=default)
        if value is None:
            raise ConfigError(f"{path}: [{section}] {option} is missing", hint="run ntske_client.py again")
        return value

    def number(section: str, option: str, default: str | None = None, *, low: int = 1, high: int = 65535) -> int:
        value = whole_number(text(section, option, default), low, high)
        if value is None:
            raise ConfigError(f"{path}: [{section}] {option} is not a number from {low} to {high}")
        return value

    def aeads() -> tuple[Aead, ...]:
        listed = text("ntske", "aeads", "")
        try:
            return Aead.parse_list(listed) if listed else DEFAULT_AEADS
        except ValueError as e:
            raise ConfigError(f"{path}: [ntske] aeads {e}") from None

    def octets(section: str, option: str, *lengths: int) -> bytes:
        try:
            value = bytes.fromhex(text(section, option))
        except ValueError:
            raise ConfigError(f"{path}: [{section}] {option} is not hexadecimal") from None
        if len(value) not in (lengths or range(1, MAX_COOKIE + 1)):
            size = counted(len(value), "octet")
            raise ConfigError(f"{path}: [{section}] {option} has {size}, which is the wrong length")
        return value

    def when(option: str) -> int | None:
        value = text("ntske", option, "")
        try:
            moment = datetime.datetime.strptime(value, _TIME_FORMAT) if value else None
        except ValueError:
            raise ConfigError(f"{path}: [ntske] {option} is not a time such as 2030-12-31T23:59:59Z") from None
        return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp()) if moment else None

    number_of_aead = number("keys", "aead", str(int(Aead.AES_SIV_CMAC_256)))  # the ancestor supports only 15
    if number_of_aead not in set(Aead):
        raise ConfigError(f"{path}: [keys] aead is not one of {', '.join(str(int(a)) for a in Aead)}")
    aead = Aead(number_of_aead)

    def pair(c2s: str, s2c: str) -> SessionKeys:
        return SessionKeys(aead, octets("keys", c2s, aead.key_length), octets("keys", s2c, aead.key_length))

    cookies = tuple(octets("cookies", i) for i in _SLOTS if parser.has_option("cookies", i))
    return Association(
        ke_host=text("ntske", "host", ""),
        ke_port=number("ntske", "port", str(KE_PORT)),
        ca=text("ntske", "ca", ""),
        verify=text("ntske", "verify", "yes") == "yes",
        server=text("ntpv4", "server"),
        port=number("ntpv4", "port"),
        keys=pair("c2s", "s2c"),
        cookies=cookies,
        other_keys=pair(*_OTHER_KEYS) if parser.has_option("keys", _OTHER_KEYS[0]) else None,
        verify_name=text("ntske", "verify_name", ""),
        aeads=aeads(),
        attempts=number("ntske", "attempts", "0", low=0),
        not_before=number("ntske", "not_before", "0", low=0, high=2**62),
        exchanged=when(_TIMES[0]),
        certificate_not_after=when(_TIMES[1]),
    )
