# SPDX-License-Identifier: MIT
"""NTS-KE servers with one fault each, for the key exchange checks of nts_check, and how to run those."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from nts.base.registry import ALPN, ErrorCode, RecordType
from nts.check import runner
from nts.check.context import Target
from nts.check.ke.forge import END, NTPV4, REQUEST, protocols, record
from nts.check.model import Grade, Result, Severity
from nts.check.peer import KeBehaviour, KeTalk
from nts.check.peer.craft import random_cookies, response
from nts.check.peer.ke import TLS_1_2, Stopped, no_alpn
from nts.check.server import CHECKS, ke_errors, ke_message, ke_negotiation, tls
from nts.check.server.ke_errors import CUTS
from nts.check.server.probe import ServerProbe
from nts.codec import records
from nts.codec.aead import Aead

KE_GROUPS = [module.group for module in (tls, ke_message, ke_errors, ke_negotiation)]
KE_CHECKS = [c for c in CHECKS if any(c in group.checks for group in KE_GROUPS)]
NAMES = [c.name for c in KE_CHECKS]
FAIL, WARN, PASS, SKIP = Grade.FAIL, Grade.WARN, Grade.PASS, Grade.SKIP
QUICK = 1.0  # seconds that peers wait for a request
Change = Callable[[bytes], bytes]


def probe(port: int, ca: Path | None = None, *, host: str = "127.0.0.1", **more: float) -> ServerProbe:
    settings = {"timeout": 3.0, "silence": 2.0, "patience": 1.0, **more}
    return ServerProbe(Target(host, port, ca, **settings), pace=0, seed=1)  # type: ignore[arg-type]


def check(asker: ServerProbe, name: str) -> Result[ServerProbe]:
    (result,) = runner.run(runner.select(KE_CHECKS, [name], []), asker)
    return result


def responding(change: Change) -> KeBehaviour:
    """A server whose sound responses are changed."""
    return KeBehaviour(lambda talk: talk.send(change(talk.respond(talk.request()))), timeout=QUICK)


def reading(change: Change) -> KeBehaviour:
    """A server that misreads requests."""
    return KeBehaviour(lambda talk: talk.send(talk.respond(change(talk.request()))), timeout=QUICK)


def saying(octets: bytes) -> KeBehaviour:
    """A server that says this to all."""
    return responding(lambda _response: octets)


def without_types(octets: bytes, *types: int) -> bytes:
    return b"".join(raw for kind, raw in split(octets) if kind not in types)


def split(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Type, without the critical bit, and octets of each whole record."""
    while len(octets) >= 4:
        kind, size = struct.unpack(">HH", octets[:4])
        yield kind & 0x7FFF, octets[: 4 + size]
        octets = octets[4 + size :]


def with_more(octets: bytes, more: bytes) -> bytes:
    """A message with more records in front of its end."""
    return octets[: -len(END)] + more + END


def error(code: int) -> bytes:
    return record(RecordType.ERROR, records.encode_u16s(code)) + END


def just_close(talk: KeTalk) -> None:
    talk.request()


def hang(talk: KeTalk) -> None:
    talk.request()
    talk.wait(20)


def without_close_notify(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.sock.shutdown(socket.SHUT_WR)
    raise Stopped


def leaving_it_open(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.wait(20)


def closing_second(talk: KeTalk) -> None:
    """Closes once the client has."""
    talk.send(talk.respond(talk.request()))
    talk.receive(time.monotonic() + 20)


def idle_without_ntske(talk: KeTalk) -> None:
    """Serves over ntske/1, and forgets all other connections."""
    if talk.connection.get_alpn_proto_negotiated():
        talk.send(talk.respond(talk.request()))
    else:
        talk.wait(20)


def reset_after_response(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.wait(0.1)  # RST overtakes what has not been read
    talk.reset()
    raise Stopped


def one_read(talk: KeTalk) -> None:
    """Takes what is in the first TLS record for the request."""
    talk.send(talk.respond(talk.receive(time.monotonic() + 5)))


def answering_twice(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.send(talk.respond(talk.request()))


def at_most(limit: int) -> Change:
    return lambda octets: octets if len(octets) <= limit else b""


def completing(length: int) -> Change:
    """Takes a request that is cut there for a whole one."""
    return lambda octets: REQUEST if octets == REQUEST[:length] else octets


def nothing_after_the_end(talk: KeTalk) -> None:
    """Says nothing when more comes after the end, in the same TLS record or soon in another."""
    octets = talk.request()
    with contextlib.suppress(TimeoutError):
        if octets == REQUEST:
            octets += talk.receive(time.monotonic() + 0.1)
    if octets != REQUEST and octets.startswith(REQUEST):
        return
    talk.send(talk.respond(octets))


def needing_npn_first(octets: bytes) -> bytes:
    return octets if octets.startswith(NTPV4[:2]) else b""


def aliasing(octets: bytes) -> bytes:
    """Looks at the last 11 bits of a type."""
    return b"".join(raw[:1] + raw[1:] if kind < 0x800 else bytes([raw[0] & 0x87]) + raw[1:]
                    for kind, raw in split(octets))  # fmt: skip


def first_128_aeads(octets: bytes) -> bytes:
    cut = record(RecordType.AEAD_ALGORITHM, dict(split(octets))[RecordType.AEAD_ALGORITHM][4:260])
    return b"".join(cut if kind == RecordType.AEAD_ALGORITHM else raw for kind, raw in split(octets))


def refusing_unknown(octets: bytes) -> bytes:
    """Takes any unknown record for a critical one."""
    return b"".join(bytes([raw[0] | 0x80]) + raw[1:] for _, raw in split(octets))


def only_ntpv4(octets: bytes) -> bytes:
    """Error 1 unless NTPv4 is the one protocol."""
    return octets if octets.startswith(NTPV4) else b""


def own_address(octets: bytes) -> bytes:
    return without_types(octets, RecordType.SERVER, RecordType.PORT)


def located(more: bytes) -> KeBehaviour:
    return responding(lambda octets: with_more(own_address(octets), more))


ACCEPTS_ALL = reading(lambda _request: REQUEST)
CLOSES = KeBehaviour(just_close, timeout=QUICK)
HANGS = KeBehaviour(hang, timeout=QUICK)
ERROR_2 = saying(error(ErrorCode.INTERNAL_SERVER_ERROR))
NO_EOM = responding(lambda octets: octets[: -len(END)])
MISSING = responding(lambda octets: without_types(octets, RecordType.NEXT_PROTOCOL))
EAGER = KeBehaviour(alpn=no_alpn, needs_alpn=False, timeout=QUICK)
IDLE = KeBehaviour(idle_without_ntske, alpn=lambda offered: ALPN if ALPN in offered else None, needs_alpn=False)
ERROR_CHECKS = [
    "ke-crit-unknown", "ke-no-npn", "ke-no-aead", "ke-dup-npn", "ke-dup-aead", "ke-npn-malformed",
    "ke-aead-malformed", "ke-client-forbidden",
]  # fmt: skip
LENIENT_CHECKS = ["ke-eom-malformed", "ke-truncated", "ke-silence"]
AGREEING_CHECKS = [
    "ke-basic", "ke-order", "ke-segmented", "ke-1024", "ke-noncrit-unknown", "ke-proto-mixed", "ke-aead-15-last",
]  # fmt: skip

Fault = tuple[str, str, KeBehaviour, Grade, Severity, str]
MUST, SHOULD, CRIT, INFO = Severity.MUST, Severity.SHOULD, Severity.CRIT, Severity.INFO

FAULTS: list[Fault] = [
    ("tls13-only", "TLS 1.2", KeBehaviour(oldest=TLS_1_2), FAIL, CRIT, "agreed to TLSv1.2"),
    ("alpn-select", "none", EAGER, FAIL, MUST, "no protocol"),
    ("alpn-select", "the first", KeBehaviour(alpn=lambda offered: offered[0]), FAIL, MUST, "selected h2"),
    ("alpn-absent", "served", replace(EAGER, alpn=lambda offered: ALPN), FAIL, MUST, "served anyway"),
    ("alpn-absent", "open", IDLE, WARN, MUST, "left the connection open after 2.0 s"),
    ("alpn-wrong", "open", IDLE, WARN, MUST, "left the connection open after 2.0 s"),
    ("alpn-wrong", "served", EAGER, FAIL, MUST, "served anyway"),
    ("alpn-wrong", "as h2", KeBehaviour(alpn=lambda offered: offered[0]), FAIL, MUST, "served anyway"),
    *((name, "no NPN", MISSING, FAIL, MUST, "no Next Protocol") for name in AGREEING_CHECKS),
    *((name, "no end", NO_EOM, FAIL, MUST, "without an End of Message") for name in AGREEING_CHECKS),
    *((name, "Error 2", ERROR_2, FAIL, MUST, "Error 2") for name in AGREEING_CHECKS),
    ("ke-basic", "un-offered AEAD", responding(lambda _: response(aeads=b"\0\x11")), FAIL, MUST, "not offered"),
    ("ke-basic", "no cookies", responding(lambda _: response(cookies=[])), FAIL, MUST, "no cookies"),
    ("ke-basic", "hangs", HANGS, FAIL, MUST, "left the connection open"),
    ("ke-order", "NPN first", reading(needing_npn_first), FAIL, MUST, "Error 1"),
    ("ke-cookie-count", "seven", saying(response(cookies=random_cookies(7))), WARN, SHOULD, "7 distinct"),
    ("ke-cookie-count", "equal", saying(response(cookies=[bytes(100)] * 8)), FAIL, SHOULD, "only 1 of them"),
    ("ke-cookie-count", "none", saying(response(cookies=[])), FAIL, MUST, "no cookies"),
    ("ke-cookie-shape", "odd", saying(response(cookies=random_cookies(8, 101))), WARN, INFO, "multiple of 4"),
    ("ke-cookie-shape", "none", saying(response(cookies=[])), FAIL, MUST, "no cookies"),
    ("ke-close-notify", "FIN", KeBehaviour(without_close_notify), FAIL, MUST, "without close_notify"),
    ("ke-close-notify", "open", KeBehaviour(leaving_it_open), FAIL, MUST, "left the connection open"),
    ("ke-close-notify", "second", KeBehaviour(closing_second), WARN, MUST, "once we had, and not on its own"),
    ("ke-silence", "second", KeBehaviour(closing_second, timeout=QUICK), WARN, MUST, "close_notify, once we had"),
    ("ke-close-notify", "RST", KeBehaviour(reset_after_response), FAIL, MUST, "reset"),
    ("ke-segmented", "one read", KeBehaviour(one_read), FAIL, MUST, "in single octets"),
    ("ke-1024", "1023 octets", reading(at_most(1023)), FAIL, MUST, "Error 1"),
    ("ke-noncrit-unknown", "refused", reading(refusing_unknown), FAIL, MUST, "type 0x3fff"),
    ("ke-noncrit-unknown", "aliased", reading(aliasing), FAIL, MUST, "type 0x0801"),
    *((name, "accepted", ACCEPTS_ALL, FAIL, MUST, "accepted") for name in ERROR_CHECKS + LENIENT_CHECKS),
    *((name, "closed", CLOSES, WARN, MUST, " is due") for name in [*ERROR_CHECKS, *LENIENT_CHECKS, "ke-proto-unknown"]),
    *((name, "open", HANGS, FAIL, MUST, "left the connection open") for name in ERROR_CHECKS),
    *((name, "Error 2", ERROR_2, FAIL, MUST, "where Error") for name in ERROR_CHECKS + LENIENT_CHECKS),
    *((name, "open", HANGS, WARN, MUST, "how long a server waits, the RFC leaves open") for name in LENIENT_CHECKS),
    *(("ke-truncated", f"{n} octets", reading(completing(n)), FAIL, MUST, f"{n} octets: accepted") for n in CUTS),
    ("ke-eom-malformed", "second record", KeBehaviour(nothing_after_the_end), WARN, MUST, "in another TLS record: no "),
    ("ke-crit-unknown", "Error 1", saying(error(1)), FAIL, MUST, "where Error 0 is due"),
    ("ke-no-npn", "Error 0", saying(error(0)), FAIL, MUST, "where Error 1 is due"),
    ("ke-proto-unknown", "served", ACCEPTS_ALL, FAIL, MUST, "cookies anyway"),
    ("ke-proto-unknown", "Error 1", reading(only_ntpv4), FAIL, MUST, "Error 1"),
    ("ke-proto-unknown", "claimed", saying(protocols(0x7777) + END), FAIL, MUST, "[30583]"),
    ("ke-proto-mixed", "Error 1", reading(only_ntpv4), FAIL, MUST, "Error 1"),
    ("ke-proto-mixed", "both", saying(response(protocols=b"\x77\x77\0\0")), FAIL, MUST, "30583, 0"),
    ("ke-aead-unknown", "served", ACCEPTS_ALL, FAIL, MUST, "cookies anyway"),
    ("ke-aead-unknown", "Error 1", saying(error(1)), FAIL, MUST, "Error 1"),
    ("ke-aead-15-last", "128 read", reading(first_128_aeads), FAIL, MUST, "no algorithm is chosen, although AEAD 15"),
    ("ke-aead-menu", "always 15", ACCEPTS_ALL, FAIL, MUST, "although only 16"),
    ("ke-aead-menu", "no 15", KeBehaviour(aeads=(Aead.AES_SIV_CMAC_512,)), FAIL, MUST, "every server must speak"),
    ("ke-server-port", "zone", located(record(6, b"fe80::1%eth0")), FAIL, MUST, "neither an IP address"),
    ("ke-server-port", "two", located(record(6, b"127.0.0.1") * 2), FAIL, MUST, "2 Server"),
    ("ke-server-port", "port 0", located(record(7, b"\0\0")), FAIL, MUST, "UDP port 0"),
    ("ke-server-port", "port of three octets", located(record(7, bytes(3))), FAIL, MUST, "3 octets"),
    ("ke-server-port", "family", KeBehaviour(ntp_server="::1"), FAIL, SHOULD, "server ::1"),
    ("ke-server-port", "no address", KeBehaviour(ntp_server="nowhere.invalid"), FAIL, SHOULD, "cannot resolve"),
    ("ke-second-request", "two responses", KeBehaviour(answering_twice), FAIL, MUST, "more octets"),
]  # fmt: skip
