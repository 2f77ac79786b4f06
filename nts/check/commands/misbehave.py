# SPDX-License-Identifier: MIT
"""Run an NTS server with one fault, to debug a client by hand.

examples:
  nts_check.py misbehave --list                   all faults, and what a correct client does about them
  nts_check.py misbehave wrong-uid                until Ctrl-C, on any free ports of 127.0.0.1
  nts_check.py misbehave warning --ke-port 4460 --ntp-port 4123
  nts_check.py misbehave nak --count 1            end after one client

It prints which CA to trust and what to start, and then a line for everything that a client does.

exit codes: 0 ended as told or by Ctrl-C, 2 usage, or a port is not available
"""

from __future__ import annotations

import argparse
import textwrap
import time
from typing import TYPE_CHECKING, Any

from nts.base.errors import ConfigError
from nts.base.text import is_ip_address
from nts.check import commands
from nts.cli import options

if TYPE_CHECKING:
    from nts.check.peer import Authority, Pair
    from nts.check.peer.faults import Fault
    from nts.check.peer.ke import KeSession
    from nts.check.peer.ntp import NtpTalk

_TICK = 0.1  # seconds between two looks at what clients did
_AFTER = 1.5  # seconds after the last key exchange, for its time requests


def add(subparsers: Any) -> None:
    """Add the parser of this subcommand."""
    parser = options.subcommand(subparsers, "misbehave", __doc__)
    parser.add_argument("fault", nargs="?", metavar="FAULT", help="the fault to play")
    parser.add_argument("--list", action="store_true", help="explain the faults and play none")
    commands.add_ports(parser)
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1")
    parser.add_argument("--count", type=options.count, metavar="N", help="end after N key exchanges")
    parser.add_argument("--timeout", type=options.duration, metavar="S", help="end after S seconds")
    parser.set_defaults(run=run, usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Play the fault; the exit code."""
    from nts.check.peer import faults, temporary_authority

    if args.list:
        print("\n\n".join(explained(f) for f in faults.FAULTS.values()))
        return 0
    if args.fault is None:
        args.usage_error("the following arguments are required: FAULT (or --list)")
    try:
        fault = faults.find(args.fault)
    except faults.UnknownFault as e:
        raise ConfigError(str(e), hint="nts_check.py misbehave --list") from None
    commands.heed_sigterm()
    try:
        with temporary_authority() as authority, _servers(fault, authority, args) as servers:
            print("\n".join(_instructions(fault, servers, args.listen)), flush=True)
            _watch(servers, args.count, args.timeout)
    except KeyboardInterrupt:
        print(flush=True)
    return 0


def explained(fault: Fault) -> str:
    """A fault in a few lines."""
    from nts.check.output.text import section

    lines = [f"The {'NTS-KE' if fault.side.value == 'KE' else 'time'} server {fault.does}."]
    lines += [f"{section(fault.section)}: {fault.rule}.", f"A correct client: {fault.expected.value}."]
    wrapped = [textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="    ") for line in lines]
    return "\n".join([fault.name, *wrapped])


def _servers(fault: Fault, authority: Authority, args: argparse.Namespace) -> Any:
    """Run both servers with the fault, where the options say; a context manager."""
    from dataclasses import replace

    from nts.check.peer import SOUND_KE, SOUND_NTP, pair
    from nts.system import certs

    if not is_ip_address(args.listen):
        raise ConfigError(f"{args.listen!r} is not an IP address", hint="--listen takes an address of this machine")
    certificate = authority.issue(names=(*certs.LOCAL_NAMES, args.listen), days=(-1, 30))
    ke = replace(SOUND_KE, host=args.listen, port=args.ke_port, certificate=certificate)
    ntp = replace(SOUND_NTP, host=args.listen, port=args.ntp_port)
    return pair(fault.ke(authority, ke), fault.ntp(ntp), authority=authority)


def _instructions(fault: Fault, servers: Pair, listen: str) -> list[str]:
    from nts.check.client import chronyd

    host, ca = "localhost" if listen in ("0.0.0.0", "::", "127.0.0.1") else listen, servers.authority.ca
    return [
        explained(fault),
        "",
        f"NTS-KE on TCP {listen} port {servers.ke.port}, NTP on UDP port {servers.ntp.port}, CA {ca}",
        "",
        "our clients:",
        f"    ntske_client.py -c {ca} -o /tmp/misbehave.ini {host} {servers.ke.port}",
        "    ntsts_client.py -f /tmp/misbehave.ini",
        "chronyd (-x leaves the clock alone): chronyd -x -d -f FILE, with these lines in FILE:",
        *(f"    {line}" for line in chronyd.snippet(host, servers.ke.port, ca)),
        "",
    ]


def _watch(servers: Pair, count: int | None, timeout: float | None) -> None:
    """Print what clients do, until enough have come or time is up."""
    told: set[int] = set()
    requests, started = 0, time.monotonic()
    while timeout is None or time.monotonic() < started + timeout:
        over = [s for s in list(servers.ke.sessions) if s.finished is not None]
        for session in over:
            if id(session) not in told:
                told.add(id(session))
                print(_session_line(session), flush=True)
        fresh = servers.ntp.requests[requests:]
        for talk in fresh:
            print(_request_line(talk), flush=True)
        requests += len(fresh)
        if count and len(over) >= count and time.monotonic() > max(s.finished or 0 for s in over) + _AFTER:
            return
        time.sleep(_TICK)


def _session_line(session: KeSession) -> str:
    """What a client did in a key exchange."""
    if session.tls_version is None:
        what = f"no TLS handshake: {session.problem or 'the client closed'}"
    else:
        name = (session.server_name or b"no server name").decode("ascii", errors="backslashreplace")
        ended = "closed properly" if session.close_notify else session.problem or "closed without close_notify"
        what = (
            f"{session.tls_version}, {name!r}; sent {_records(session.received)}; took {session.sent} octets; {ended}"
        )
    return f"{session.address}: key exchange: {what}"


def _records(octets: bytes) -> str:
    """A request's records by name, with the numbers in them."""
    from nts.base.errors import FormatError
    from nts.codec.records import MessageReader, u16_list
    from nts.protocol.ke_server import MAX_REQUEST

    if not octets:
        return "nothing"
    try:
        message = MessageReader(MAX_REQUEST).feed(octets)
        if message is None:
            return f"{len(octets)} octets, which are not a complete message"
        parts = [f"{r.name} {', '.join(map(str, u16_list(r)))}".strip() for r in message.records]
    except FormatError as e:
        return f"{len(octets)} octets: {e}"
    return " + ".join(parts)


def _request_line(talk: NtpTalk) -> str:
    """What a client sent to the time server."""
    from nts.check.findings import counted
    from nts.system import addresses

    where = f"{addresses.format_address(talk.client)}: request of {len(talk.datagram)} octets"
    if not talk.fields:
        return f"{where} without NTS"
    if not talk.is_nts:
        return f"{where} with extension fields, but not all of NTS"
    cookie = "cookie opens" if talk.contents else "cookie does not open"
    authentic = "authentic" if talk.is_authentic else "not authentic"
    return f"{where}: NTS, {cookie}, {authentic}, {counted(len(talk.placeholders), 'placeholder')}"
