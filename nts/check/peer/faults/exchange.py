# SPDX-License-Identifier: MIT
"""Faults of the NTS-KE response (RFC 8915 section 4). Most edit the sound response to the client's request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from nts.base.errors import FormatError
from nts.base.registry import ERROR_NAMES, RecordType
from nts.base.wire import u16
from nts.check.ke.forge import UNKNOWN_AEAD
from nts.check.peer.craft import END, record
from nts.check.peer.faults.register import Expected, KeHandler, Register
from nts.check.peer.ke import KeTalk, fresh_ring
from nts.codec.aead import Aead
from nts.codec.records import HEADER_LENGTH, MessageReader, Record, encode_u16s, u16_list
from nts.system import tls

FAULTS = Register()
LONG, TOO_LONG = 65536, 1 << 26
"""octets: a response that clients should accept, and one that no client should read to its end"""
UNASSIGNED = 0x3FFF
DRIP_SECONDS = 60.0

Edit = Callable[[list[Record]], list[Record]]


def edited(edit: Edit, end: bytes = END, *, each: int = 16384, pause: float = 0.0) -> KeHandler:
    """An answer with the records of the sound one, edited, and `end` in place of End of Message."""

    def answer(talk: KeTalk) -> None:
        talk.send(encoded(edit(parsed(talk.respond(talk.request())))) + end, each=each, pause=pause)

    return answer


def parsed(response: bytes) -> list[Record]:
    """The records of a message except its last. FormatError when it is incomplete."""
    message = MessageReader(LONG).feed(response)
    if message is None:
        raise FormatError("an incomplete message")
    return list(message.records[:-1])


def encoded(records: list[Record]) -> bytes:
    return b"".join(r.encode() for r in records)


def unchanged(records: list[Record]) -> list[Record]:
    return records


def with_more(kind: int, body: bytes = b"", *, critical: bool = True) -> Edit:
    """One more record, after the algorithm and before the cookies."""
    return lambda records: [*records[:2], Record(kind, critical, body), *records[2:]]


def instead(kind: int, *bodies: bytes) -> Edit:
    """Replace the records of a type by others of that type."""

    def edit(records: list[Record]) -> list[Record]:
        first = next((i for i, r in enumerate(records) if r.type == kind), len(records))
        others = [r for r in records if r.type != kind]
        critical = kind != RecordType.NEW_COOKIE
        return [*others[:first], *(Record(kind, critical, b) for b in bodies), *others[first:]]

    return edit


def error(code: int) -> KeHandler:
    """An answer that is nothing but an Error record."""

    def answer(talk: KeTalk) -> None:
        talk.request()
        talk.send(record(RecordType.ERROR, encode_u16s(code)) + END)

    return answer


FAULTS.ke(
    "4.1.3", "an Error record ends the key exchange, whatever its code, and the keys must not be used", Expected.ABORT,
    *((f"error-{code:d}", f"answers with Error {code:d} ({name})", error(code)) for code, name in ERROR_NAMES.items()),
    ("error-unknown", "answers with Error 39321 (unknown)", error(0x9999)),
    ("error-in-good-response", "adds Error 2 to a valid response", edited(with_more(RecordType.ERROR, encode_u16s(2)))),
)  # fmt: skip
FAULTS.ke(
    "4.1.4", "a Warning with an unknown code counts as an error, and no codes are defined", Expected.ABORT,
    ("warning", "adds Warning 0 to a valid response", edited(with_more(RecordType.WARNING, encode_u16s(0)))),
)  # fmt: skip
FAULTS.ke(
    "4", "an unknown record with the Critical bit is an error", Expected.ABORT,
    ("unknown-critical", f"adds a critical record of the unassigned type {UNASSIGNED:#x}",
     edited(with_more(UNASSIGNED))),
)  # fmt: skip
FAULTS.ke(
    "4", "an unknown record without the Critical bit is ignored", Expected.USE,
    ("unknown-noncritical", f"adds a record of the unassigned type {UNASSIGNED:#x} that is not critical",
     edited(with_more(UNASSIGNED, b"x", critical=False))),
)  # fmt: skip

# --- framing ---------------------------------------------------------------------------------------------------------

FAULTS.ke(
    "4.1.1", "a message ends with exactly one End of Message record, which is critical and empty", Expected.ABORT,
    ("missing-eom", "closes without an End of Message record", edited(unchanged, b"")),
    ("noncritical-eom", "sends its End of Message record without the Critical bit",
     edited(unchanged, record(RecordType.END_OF_MESSAGE, critical=False))),
    ("eom-with-body", "sends its End of Message record with a body",
     edited(unchanged, record(RecordType.END_OF_MESSAGE, b"xx"))),
    ("data-after-eom", "sends another record after End of Message",
     edited(unchanged, END + record(UNASSIGNED, critical=False))),
)  # fmt: skip


def data_after_eom_later(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.send(record(UNASSIGNED, critical=False))


FAULTS.ke(
    "4.1.1", "End of Message is the last record, but a client need not read on after it", Expected.EITHER,
    ("data-after-eom-later", "sends another record after End of Message, in a second TLS record", data_after_eom_later),
)  # fmt: skip
FAULTS.ke(
    "4", "End of Message says where a message ends, however it is cut up", Expected.USE,
    ("one-octet-records", "sends each octet in its own TLS record", edited(unchanged, each=1)),
)  # fmt: skip


def slow_drip(talk: KeTalk) -> None:
    response = talk.respond(talk.request())
    pieces = 120
    talk.send(response, each=-(-len(response) // pieces), pause=DRIP_SECONDS / pieces)


def endless(talk: KeTalk) -> None:
    talk.request()
    while talk.session.sent < TOO_LONG:
        talk.send(record(UNASSIGNED, bytes(16380), critical=False))


def filled_up(records: list[Record]) -> list[Record]:
    """An unknown record that makes the response as long as clients should accept."""
    filler = LONG - len(encoded(records) + END) - HEADER_LENGTH
    return with_more(UNASSIGNED, bytes(filler), critical=False)(records)


FAULTS.ke(
    "4", "a client may give up, but must not wait forever or use half a message", Expected.BE_PATIENT,
    ("slow-drip", f"takes {DRIP_SECONDS:g} seconds to send its response", slow_drip),
)  # fmt: skip
FAULTS.ke(
    "4", "a client limits what it reads and keeps", Expected.ABORT,
    ("endless-response", "sends records without end", endless),
)  # fmt: skip
FAULTS.ke(
    "4", f"a client should accept responses of at least {LONG} octets", Expected.USE,
    ("oversize-response", f"sends a valid response of {LONG} octets", edited(filled_up)),
)  # fmt: skip

# --- protocol and algorithm ------------------------------------------------------------------------------------------


def unoffered(kind: RecordType, numbers: Iterable[int]) -> KeHandler:
    """A sound answer but for a record that holds the first of these numbers that the client did not offer."""

    def handler(talk: KeTalk) -> None:
        request = talk.request()
        offered = {i for r in parsed(request) if r.type == kind for i in u16_list(r)}
        other = next(i for i in numbers if i not in offered)
        talk.send(encoded(instead(kind, encode_u16s(other))(parsed(talk.respond(request)))) + END)

    return handler


FAULTS.ke(
    "4.1.2", "a response holds exactly one Next Protocol Negotiation record, with protocols that the client offered",
    Expected.ABORT,
    ("duplicate-record", "sends its Next Protocol Negotiation record twice",
     edited(lambda records: [records[0], *records])),
    ("missing-next-protocol", "sends no Next Protocol Negotiation record", edited(instead(RecordType.NEXT_PROTOCOL))),
    ("no-protocol", "accepts none of the offered protocols, but sends cookies",
     edited(instead(RecordType.NEXT_PROTOCOL, b""))),
    ("unoffered-protocol", "accepts a protocol that was not offered",
     unoffered(RecordType.NEXT_PROTOCOL, range(0x8001, 0x8100))),  # for private use
)  # fmt: skip
FAULTS.ke(
    "4.1.5", "a response holds exactly one AEAD Algorithm Negotiation record, with one algorithm that the client"
    " offered", Expected.ABORT,
    ("no-aead", "accepts none of the offered algorithms, but sends cookies",
     edited(instead(RecordType.AEAD_ALGORITHM, b""))),
    ("two-aeads", "accepts two algorithms", edited(instead(RecordType.AEAD_ALGORITHM, encode_u16s(*list(Aead)[:2])))),
    ("duplicate-aead", "sends its AEAD Algorithm Negotiation record twice",
     edited(lambda records: [*records[:2], *records[1:]])),
    ("unoffered-aead", "chooses an algorithm that was not offered",
     unoffered(RecordType.AEAD_ALGORITHM, (*Aead, 0x7FFF))),
)  # fmt: skip

# --- keys and cookies ------------------------------------------------------------------------------------------------


def wrong_exporter_context(talk: KeTalk) -> None:
    right = tls.exporter(talk.connection)

    def export(context: bytes, length: int) -> bytes:
        return right(context[:2] + u16(UNKNOWN_AEAD) + context[4:], length)

    talk.send(talk.respond(talk.request(), export=export))


def stale_cookie(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request(), ring=fresh_ring()))


FAULTS.ke(
    "5.1", "both sides extract the keys for the agreed algorithm; these keys differ, so every request gets an NTS NAK",
    Expected.GIVE_UP,
    ("wrong-exporter-context", "extracts its keys with another algorithm in the exporter context",
     wrong_exporter_context),
)  # fmt: skip
FAULTS.ke(
    "5.7", "an NTS NAK brings no time; the client keeps its keys and cookies until another key exchange succeeds",
    Expected.GIVE_UP,
    ("stale-cookie", "gives cookies sealed under a master key that the time server no longer has", stale_cookie),
)  # fmt: skip
FAULTS.ke(
    "4.1.6", "without a cookie there can be no request", Expected.ABORT,
    ("no-cookies", "agrees to everything but sends no cookies", edited(instead(RecordType.NEW_COOKIE))),
)  # fmt: skip

# --- where to go -----------------------------------------------------------------------------------------------------

BAD_SERVERS = {
    "zone": b"::1%lo", "brackets": b"[::1]", "nul": b"127.0.0.1\0", "long": b".".join([b"a" * 59] * 5), "empty": b"",
    "space": b"127.0.0.1 x",
}  # fmt: skip
BAD_PORTS = {"port-zero": encode_u16s(0), "port-one-octet": b"\x7b", "port-three-octets": b"\0\x7b\0"}

FAULTS.ke(
    "4.1.7", "the server's name is an IPv4 address, an IPv6 address without a zone, or a domain name in ASCII",
    Expected.ABORT,
    *((f"server-{name}", f"sends its clients to {server[:24]!r}", edited(with_more(RecordType.SERVER, server)))
      for name, server in BAD_SERVERS.items()),
)  # fmt: skip
FAULTS.ke(
    "4.1.7", "a message names at most one server", Expected.ABORT,
    ("duplicate-server", "names a time server twice",
     edited(lambda records: with_more(RecordType.SERVER, b"127.0.0.1")(with_more(RecordType.SERVER, b"::1")(records)))),
)  # fmt: skip
FAULTS.ke(
    "4.1.8", "the port is one 16-bit number, and not 0", Expected.ABORT,
    *((name, f"names its port as {port.hex()}", edited(instead(RecordType.PORT, port)))
      for name, port in BAD_PORTS.items()),
)  # fmt: skip

# --- closing and silence ---------------------------------------------------------------------------------------------


def no_close_notify(talk: KeTalk) -> None:
    talk.send(talk.respond(talk.request()))
    talk.cut()


def silent(talk: KeTalk) -> None:
    talk.request()
    talk.wait(DRIP_SECONDS)


FAULTS.ke(
    "4", "End of Message says where the message ends, so a client may use it", Expected.USE,
    ("no-close-notify", "closes the TCP connection after its response without close_notify", no_close_notify),
)  # fmt: skip
FAULTS.ke(
    "4", "a client must not wait forever", Expected.ABORT,
    ("ke-silence", "takes the request and never answers", silent),
)  # fmt: skip
FAULTS.change(
    "4.1.8", "without an answer there is no time, and the client must not try plain NTP instead", Expected.GIVE_UP,
    ("another-port", "sends its clients to UDP port 9, where nobody answers", lambda b, _: replace(b, ntp_port=9)),
)  # fmt: skip
