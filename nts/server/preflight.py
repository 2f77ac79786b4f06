# SPDX-License-Identifier: MIT
"""What `server_helper.py` shows: the `status` of keys and certificate, and mistakes that `check` finds."""

from __future__ import annotations

import datetime
import grp
import json
import os
import pwd
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nts.base.errors import LibraryError, NTSError
from nts.base.registry import Leap
from nts.base.text import counted
from nts.codec import aead, aes_siv, ntp
from nts.codec.keyring import CookieFormat
from nts.server import keystore, listen, peer_file, xdp
from nts.server.config import ServerConfig
from nts.server.imported_keys import ImportedKeys
from nts.system import addresses, certs, clock, privileges, tls

_OLD_KEY = 7 * 86400  # seconds; RFC 8915 section 6 suggests a new one every day
_ROOT = 0
_READ = 4


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
    keys = [{"id": f"{f.key.id:04x}", "age_seconds": _age(f)} for f in snapshot.files]
    imported, problems = ImportedKeys(config.keys.import_).read()
    label_problem, exported = config.keys.label_problem, config.keys.exported
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
            "rotate_every": config.keys.rotate_every,
            "oldest_first": keys,
            "current": keys[-1]["id"] if keys else None,
            "staged": [{"id": f"{f.key.id:04x}", "age_seconds": _age(f)} for f in snapshot.staged],
            "cookie_format": config.keys.cookie_format.value,
            "imported": [{"format": k.format.value, "id": f"{k.id:08x}"} for k in imported],
            "exported": str(exported.path) if exported else None,
            "problems": [*snapshot.problems, *problems, *([label_problem] if label_problem else ())],
        },
        "certificate": certificate,
        "advertised": {"server": config.ntpv4.server or None, "port": config.ntpv4.port},
    }


def status_lines(status: dict[str, Any]) -> list[str]:
    """The same for a person."""
    keys, certificate = status["keys"], status["certificate"]
    rotation = f", rotated every {_span(keys['rotate_every'])}" if keys["rotate_every"] else ""
    lines = [f"master keys in {keys['folder']} (at most {keys['max_keys']}{rotation}):"]
    for key in keys["oldest_first"]:
        place = "current" if key["id"] == keys["current"] else "previous"
        lines.append(f"  {key['id']}  {place}, {_dated(key['age_seconds'])}")
    lines += [f"  {key['id']}  staged, {_dated(key['age_seconds'])}" for key in keys["staged"]]
    for cookie_format, count in Counter(k["format"] for k in keys["imported"]).items():
        lines.append(f"  {counted(count, 'imported key')} of {cookie_format}'s")
    if keys["cookie_format"] != CookieFormat.OWN.value:
        where = f", which reads these keys in {keys['exported']}" if keys["exported"] else ""
        lines.append(f"  cookies have the format of {keys['cookie_format']}{where}")
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


def _age(file: keystore.KeyFile) -> int:
    """In seconds; negative for a time in the future."""
    return (time.time_ns() - file.mtime_ns) // ntp.NS


def _dated(age: int) -> str:
    return f"{_span(age)} old" if age >= 0 else f"dated {_span(-age)} in the future"


def _span(seconds: int) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return counted(seconds, "second")


def check(config: ServerConfig) -> list[Finding]:
    """Check everything that can be checked before the servers start."""
    findings = [Finding("ok", f"{config.path} is valid")]
    parts = (
        _check_algorithms, _check_certificate, _check_keys, _check_foreign, _check_user, _check_ports, _check_xdp,
        _check_clock, _check_advertised,
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
    account, folder = privileges.account(user), config.keys.master_keys_dir
    if config.keys.rotate_every and folder.exists() and folder.stat().st_uid != account.pw_uid:
        yield Finding("warning", f"{folder} does not belong to user {user}: can that user write it, to rotate keys?")
    imported = [f.path for f in config.keys.import_]
    paths = [p for p in (ke.server_cert, ke.server_key, folder, *imported) if p.exists()]
    snapshot = keystore.load(folder)
    paths += [f.path for f in (*snapshot.files, *snapshot.staged)]
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
    if config.keys.label_problem:
        yield Finding("error", config.keys.label_problem)
    if not folder.exists():
        yield Finding("warning", f"{folder} does not exist yet: ntske_server.py will create it")
        return
    snapshot = keystore.load(folder)
    yield from (Finding("warning", p) for p in snapshot.problems)
    yield from _check_access(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("error", f"{folder} is not writable: keys cannot be rotated")
    if len(snapshot.files) > config.keys.max_keys:
        yield Finding("warning", f"{len(snapshot.files)} master keys, more than max_keys = {config.keys.max_keys}")
    for file in (*snapshot.files, *snapshot.staged):
        if _age(file) < 0:
            yield Finding("warning", f"{file.path} is {_dated(_age(file))}: was the clock wrong, or is it wrong now?")
    if not snapshot.files:
        yield Finding("warning", f"no master key in {folder} yet: ntske_server.py will make one")
        return
    newest, every = snapshot.files[-1], config.keys.rotate_every
    level = "warning" if _age(newest) > (2 * every if every else _OLD_KEY) else "ok"
    dated = f"{newest.key.id:04x}, is {_dated(_age(newest))}"
    yield Finding(level, f"{counted(len(snapshot.files), 'master key')}; the current one, {dated}")


def _check_foreign(config: ServerConfig) -> Iterator[Finding]:
    """The files of other servers."""
    for file in config.keys.import_:
        keys, problems = ImportedKeys([file]).read()
        yield from (Finding("error", p) for p in problems)
        if keys:
            yield Finding("ok", f"{file.path} has {counted(len(keys), 'key')} of {file.format.value}'s")
    exported = config.keys.exported
    if exported is None:
        return
    if peer_file.holds(exported, keystore.load(config.keys.master_keys_dir).ring):
        yield Finding("ok", f"{exported.path} has the current key")
    else:
        text = "the current key is not current there, or a staged one is missing: server_helper.py rotate writes it"
        yield Finding("error", f"{exported.path}: {text}")


def _check_access(folder: Path) -> Iterator[Finding]:
    """Whoever the folder is for must be able to use what is in it, for so do the servers run. Others must not."""
    status = folder.stat()
    for_group = keystore.is_for_group(status.st_mode)
    wanted = {folder: 0o5, folder / keystore.LOCK: 0o6, **dict.fromkeys(keystore.key_paths(folder), 0o4)}
    for path, rights in wanted.items():
        try:
            file = path.stat()
        except OSError:  # there is no lock yet, or it is a problem reported above
            continue
        mode = stat.S_IMODE(file.st_mode)
        described = f"{path} belongs to {_owner(file)} and has mode {mode:04o}"
        if mode & (0o027 if for_group else 0o077):
            yield Finding("warning", f"{described}: others can use it")
        if status.st_uid != _ROOT and not _allows(file, rights, user=status.st_uid, group=status.st_gid):
            yield Finding("error", f"{described}: a server of {_owner(status)}, as the folder is, cannot use it")
        elif for_group and rights == _READ and not _allows(file, rights, group=status.st_gid):
            yield Finding("error", f"{described}: the group of {folder}, which may read that, cannot read it")


def _allows(file: os.stat_result, rights: int, *, user: int = -1, group: int) -> bool:
    """Whether this user, or a member of this group, has these rights (4 read, 2 write, 1 search)."""
    shift = 6 if file.st_uid == user else 3 if file.st_gid == group else 0
    return file.st_mode >> shift & rights == rights


def _owner(status: os.stat_result) -> str:
    """USER:GROUP."""
    return f"{_name(pwd.getpwuid, status.st_uid)}:{_name(grp.getgrgid, status.st_gid)}"


def _name(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def _check_ports(config: ServerConfig) -> Iterator[Finding]:
    """What would happen at each address, tried out."""
    for script, name, kind, section in (
        ("ntske_server.py", "TCP", socket.SOCK_STREAM, config.ntske),
        ("ntsts_server.py", "UDP", socket.SOCK_DGRAM, config.ntpv4),
    ):
        for address in section.listen or ("",):
            where = f"{name} port {section.port}" + (f" of {address}" if address else "")
            try:
                listen.close_all(listen.listening(kind, (address,) if address else (), section.port))
                root = section.port < _first_free_port()
                yield Finding("ok", f"{where} is free" + (", for root or with CAP_NET_BIND_SERVICE" if root else ""))
            except listen.AddressInUse:
                text = f"{where} is in use: by {script} if that runs, else by a program that keeps it from starting"
                yield Finding("warning", text)
            except NTSError as e:
                yield _error(e)


def _first_free_port() -> int:
    """The lowest port that everyone may listen on."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except FileNotFoundError:  # a sandbox without it
        return 1024


def _check_xdp(config: ServerConfig) -> Iterator[Finding]:
    ntp = config.ntpv4
    if not ntp.xdp:
        return
    try:
        if ntp.engine == "python":
            raise xdp.NoXdp("it needs the native engine")
        xdp.try_out(ntp)
    except (xdp.NoXdp, LibraryError) as e:
        yield Finding("warning", f"AF_XDP: not on {ntp.xdp}: {e}; the sockets would serve")
        return
    queues = xdp.queues_of(ntp.xdp)
    yield Finding("ok", f"AF_XDP can be used on {ntp.xdp}, if no other program does: {counted(queues, 'queue')}")
    if queues < ntp.workers:
        text = "those without one serve only sockets (ethtool -L makes more queues, if the interface can)"
        yield Finding("warning", f"{ntp.xdp} has fewer queues than there are workers, {ntp.workers}: {text}")


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
