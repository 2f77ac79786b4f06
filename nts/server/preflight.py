# SPDX-License-Identifier: MIT
"""What `server_helper.py` shows: the `status` of keys and certificate, and mistakes that `check` finds."""

from __future__ import annotations

import datetime
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nts.base.errors import NTSError
from nts.base.registry import Leap
from nts.codec import aead, aes_siv, ntp
from nts.server import keystore, listen
from nts.server.config import ServerConfig
from nts.system import addresses, certs, clock, privileges, tls

_OLD_KEY = 7 * 86400  # seconds; RFC 8915 section 6 suggests a new one every day


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: str
    """ok, warning or error"""
    text: str

    def __str__(self) -> str:
        return f"{self.level + ':':<9}{self.text}"


def status(config: ServerConfig) -> dict[str, Any]:
    """Keys, certificate and advertised server, for JSON. No secrets."""
    snapshot = keystore.load(config.keys.master_keys_dir)
    now_ns = time.time_ns()
    keys = [{"id": f"{f.key.id:04x}", "age_seconds": (now_ns - f.mtime_ns) // ntp.NS} for f in snapshot.files]
    try:
        description = certs.describe(config.ntske.server_cert)
        certificate: dict[str, Any] = {
            "names": list(description.names),
            "not_after": f"{description.not_after:%Y-%m-%dT%H:%M:%SZ}",
            "days_left": (description.not_after - certs.now()).days,
        }
    except NTSError as e:
        certificate = {"problem": str(e)}
    return {
        "keys": {
            "folder": str(config.keys.master_keys_dir),
            "max_keys": config.keys.max_keys,
            "oldest_first": keys,
            "current": keys[-1]["id"] if keys else None,
            "problems": list(snapshot.problems),
        },
        "certificate": certificate,
        "advertised": {"server": config.ntpv4.server or None, "port": config.ntpv4.port},
    }


def status_lines(status: dict[str, Any]) -> list[str]:
    """The same for a person."""
    keys, certificate = status["keys"], status["certificate"]
    lines = [f"master keys in {keys['folder']} (at most {keys['max_keys']}):"]
    for key in keys["oldest_first"]:
        current = "  current" if key["id"] == keys["current"] else ""
        lines.append(f"  {key['id']}  {_age(key['age_seconds'])} old{current}")
    if not keys["oldest_first"]:
        lines.append("  none yet: the first is made when ntske_server.py starts")
    lines += [f"  problem: {p}" for p in keys["problems"]]
    if "problem" in certificate:
        lines.append(f"certificate: {certificate['problem']}")
    else:
        names = ", ".join(certificate["names"])
        lines.append(f"certificate for {names}: until {certificate['not_after']} ({certificate['days_left']} days)")
    advertised = status["advertised"]
    server = advertised["server"] or "the address they used"
    lines.append(f"clients are sent to {server}, UDP port {advertised['port']}")
    return lines


def _age(seconds: int) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


def check(config: ServerConfig) -> list[Finding]:
    """Check everything that can be checked before the servers start."""
    findings = [Finding("ok", f"{config.path} is valid")]
    parts = (
        _check_algorithms, _check_certificate, _check_keys, _check_user, _check_ports, _check_clock, _check_advertised
    )  # fmt: skip
    for part in parts:
        try:
            findings += part(config)
        except NTSError as e:
            findings.append(_error(e))
    return findings


def _error(e: NTSError) -> Finding:
    return Finding("error", f"{e} ({e.hint})" if e.hint else str(e))


def findings_json(findings: list[Finding]) -> str:
    """The findings as JSON."""
    return json.dumps([asdict(f) for f in findings], indent=2)


def _check_algorithms(config: ServerConfig) -> Iterator[Finding]:
    yield Finding("ok", f"libaes_siv works ({aes_siv.backend()})")
    aead.check(config.ntske.aeads)


def _check_certificate(config: ServerConfig) -> Iterator[Finding]:
    ke = config.ntske
    if ke.auto_cert and not ke.server_cert.exists() and not ke.server_key.exists():
        yield Finding("warning", "no certificate yet: ntske_server.py will make a throwaway one")
        return
    tls.server_context(ke.server_cert, ke.server_key)
    yield Finding("ok", f"{ke.server_cert} and {ke.server_key} belong together")
    yield from _check_mode(ke.server_key, 0o077)
    certificate = certs.describe(ke.server_cert)
    problem = certificate.problem(certs.now())
    if problem:
        yield Finding("error", f"{ke.server_cert} {problem}")
    elif ke.name and not certificate.covers(ke.name):
        yield Finding("error", f"{ke.server_cert} is not for {ke.name}, the [ntske] name")
    elif certificate.not_after - certs.now() < datetime.timedelta(days=certs.SOON_DAYS):
        yield Finding("warning", f"{ke.server_cert} expires on {certificate.not_after:%Y-%m-%d}")
    else:
        yield Finding("ok", f"it is for {', '.join(certificate.names)}, valid until {certificate.not_after:%Y-%m-%d}")
    if ke.root_ca is not None and ke.root_ca.exists():
        problem = tls.chain_problem(ke.server_cert, ke.root_ca)
        if problem:
            yield Finding("error", f"it does not lead to {ke.root_ca}: {problem}")
        else:
            yield Finding("ok", f"it leads to {ke.root_ca}")


def _check_user(config: ServerConfig) -> Iterator[Finding]:
    """The user that the servers become must be able to read what they read again later."""
    user, ke = config.server.user, config.ntske
    if not user:
        return
    privileges.account(user)
    paths = [p for p in (ke.server_cert, ke.server_key, config.keys.master_keys_dir) if p.exists()]
    paths += [f.path for f in keystore.load(config.keys.master_keys_dir).files]
    if not privileges.is_root():
        yield Finding("warning", f"only root can check whether user {user} can read its files")
        return
    closed = privileges.unreadable_for(user, paths)
    yield from (Finding("error", f"user {user} cannot read {path}") for path in closed)
    if not closed:
        yield Finding("ok", f"user {user} can read the certificate and the master keys")


def _check_mode(path: Path, forbidden: int) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & forbidden:
        yield Finding("warning", f"{path} has mode {mode:04o}: others can use it")


def _check_keys(config: ServerConfig) -> Iterator[Finding]:
    folder = config.keys.master_keys_dir
    if not folder.exists():
        yield Finding("warning", f"{folder} does not exist yet: ntske_server.py will create it")
        return
    snapshot = keystore.load(folder)
    yield from (Finding("warning", p) for p in snapshot.problems)
    for file in (folder, *(f.path for f in snapshot.files)):
        yield from _check_mode(file, 0o077)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("error", f"{folder} is not writable: keys cannot be rotated")
    if len(snapshot.files) > config.keys.max_keys:
        yield Finding("warning", f"{len(snapshot.files)} master keys, more than max_keys = {config.keys.max_keys}")
    if not snapshot.files:
        yield Finding("warning", f"no master key in {folder} yet: ntske_server.py will make one")
        return
    newest = snapshot.files[-1]
    age = (time.time_ns() - newest.mtime_ns) // ntp.NS
    level = "warning" if age > _OLD_KEY else "ok"
    yield Finding(level, f"{len(snapshot.files)} master keys, the current one, {newest.key.id:04x}, {_age(age)} old")


def _check_ports(config: ServerConfig) -> Iterator[Finding]:
    for name, kind, section in (
        ("TCP", socket.SOCK_STREAM, config.ntske),
        ("UDP", socket.SOCK_DGRAM, config.ntpv4),
    ):
        try:
            listen.close_all(listen.listening(kind, section.listen, section.port))
            yield Finding("ok", f"{name} port {section.port} is free")
        except listen.AddressInUse:
            yield Finding("ok", f"{name} port {section.port} is in use, by the server itself if it is running")
        except NTSError as e:
            yield _error(e)


def _check_clock(config: ServerConfig) -> Iterator[Finding]:
    leap, error_us = clock.kernel_status()
    if config.ntpv4.clock == "local":
        yield Finding("warning", f"clock = local: served as stratum {config.ntpv4.local_stratum}, however wrong it is")
    elif leap == Leap.UNSYNCHRONISED:
        yield Finding("error", "the kernel says its clock is not synchronised: no client will use this server")
    else:
        yield Finding("ok", f"the kernel's clock is synchronised, within {error_us / 1000:.1f} ms")


def _check_advertised(config: ServerConfig) -> Iterator[Finding]:
    server = config.ntpv4.server
    if server:
        found = addresses.resolve(addresses.absolute(server), config.ntpv4.port, socket.SOCK_DGRAM, socket.AF_UNSPEC)
        yield Finding("ok", f"clients are sent to {server}, which is {', '.join(sorted({e.host for e in found}))}")
    yield Finding("ok", f"clients are sent to UDP port {config.ntpv4.port}")
