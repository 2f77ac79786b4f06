# SPDX-License-Identifier: MIT
"""One function for each parser: it takes any octets, and raises if and only if its invariant is broken.

Targets whose name ends in `_sealed` encrypt and authenticate their input first, so that the code behind the
authentication is fuzzed too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nts.base.errors import ConfigError, FormatError, KeErrorRecord, KeResponseError
from nts.base.registry import COOKIES_WANTED, MAX_COOKIE, MAX_PLACEHOLDERS, RecordType
from nts.check.decode import capture, cookie_keys, hexinput, show, tls_session
from nts.check.decode.cookie_keys import OurOpener
from nts.check.decode.decoder import Decoded, Decoder, Settings
from nts.check.decode.streams import Stream
from nts.check.decode.tls_keys import parse_keylog
from nts.client import state
from nts.codec import extensions, ntp
from nts.codec.aead import Aead
from nts.codec.ntp import Header
from nts.codec.records import MessageReader, Record
from nts.protocol import ts_client
from nts.protocol.ke_client import MAX_RESPONSE, judge_response
from nts.protocol.ke_server import MAX_REQUEST, KeServer
from nts.protocol.ke_server import Verdict as KeVerdict
from nts.protocol.ts_client import AnswerKind, Query, build_query, judge
from nts.protocol.ts_server import Verdict
from nts.system import inifile
from testkit import captures
from testkit.packets import (
    RING,
    Counter,
    Request,
    cookie_of,
    exporter,
    message_of,
    open_reply,
    respond,
    seal_reply,
    session_keys,
)

_ADDRESS = "192.0.2.1"
_PATH = Path("client.ini")
_NOW = 1_800_000_000 * ntp.NS
_SERVER = KeServer(tuple(Aead), "", 4123)
_KEYS = session_keys()


def fixed_query() -> Query:
    """The query that datagrams are judged by."""
    return build_query(_KEYS, cookie_of(_KEYS), 0, Counter("query"))


def message_reader(data: bytes) -> None:
    """However a message is cut up, the reader gives the same message or FormatError, and holds no more than its limit.

    The first octet is the size of the pieces.
    """
    if not data:
        return
    limit, size, octets = 1024, data[0] + 1, data[1:]
    whole = _read([octets], limit)
    pieces = [octets[i : i + size] for i in range(0, len(octets), size)]
    assert _read(pieces, limit) == whole, "segmentation matters"


def _read(pieces: list[bytes], limit: int) -> tuple[Record, ...] | str:
    """The records of the message in these pieces, without what follows it: that is not waited for."""
    reader = MessageReader(limit)
    for piece in pieces:
        try:
            message = reader.feed(piece)
        except FormatError:
            return "refused"
        if message is not None:
            return message.records
        assert reader.octets < limit + 4, "it holds more than its limit"
    return "incomplete"


def ke_request(data: bytes) -> None:
    """Any request gets one well-formed response: cookies on agreement and only then, Error alone on refusal."""
    try:
        message = MessageReader(MAX_REQUEST).feed(data)
    except FormatError:
        return
    if message is None:
        return
    outcome = _SERVER.answer(message, local_address=_ADDRESS, ring=RING, export=exporter(), random=Counter("cookies"))
    records = message_of(outcome.response).records
    kinds = [r.type for r in records]
    agreed = outcome.verdict == KeVerdict.AGREED
    assert len(outcome.response) <= 2048
    assert kinds.count(RecordType.NEW_COOKIE) == (COOKIES_WANTED if agreed else 0)
    assert (outcome.aead is not None) == agreed
    refused = outcome.verdict in (KeVerdict.BAD_REQUEST, KeVerdict.UNKNOWN_CRITICAL)
    assert (kinds == [RecordType.ERROR, RecordType.END_OF_MESSAGE]) == refused
    if agreed:
        judge_response(message_of(outcome.response), tuple(Aead))  # our own client takes it


def ke_response(data: bytes) -> None:
    """Any response is an agreement on what was offered, with cookies that fit in a packet, or refused by its error."""
    offered = (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_512)
    try:
        message = MessageReader(MAX_RESPONSE).feed(data)
        if message is None:
            return
        agreement = judge_response(message, offered)
    except FormatError:
        return
    except (KeResponseError, KeErrorRecord) as e:
        _check_text(str(e))
        return
    assert agreement.aead in offered
    assert agreement.cookies
    assert all(0 < len(c) <= MAX_COOKIE for c in agreement.cookies)
    assert 0 < agreement.port < 65536
    assert agreement.server is None or (agreement.server.isascii() and agreement.server.isprintable())


def _check_text(text: str) -> None:
    assert text.isprintable(), "a text that could write to the terminal"


def extension_fields(data: bytes) -> None:
    """Fields tile what they were found in, and an authenticator's parts fit in its body; or else FormatError."""
    header = bytes(ntp.HEADER_LENGTH)
    with suppress(FormatError):
        fields, mac = extensions.walk(header + data)
        end = fields[-1].offset + 4 + len(fields[-1].body) if fields else len(header)
        assert end + mac == len(header) + len(data)
        assert mac <= extensions.MAX_MAC
    with suppress(FormatError):
        assert b"".join(_encode(f) for f in extensions.walk_encrypted(data)) == data
    with suppress(FormatError):
        parts = extensions.decode_authenticator(data)
        body = extensions.encode_authenticator(parts.nonce, parts.ciphertext)
        assert len(body) + parts.padding == len(data)
        assert body[:4] == data[:4]


def _encode(field: extensions.Field) -> bytes:
    return field.type.to_bytes(2, "big") + (4 + len(field.body)).to_bytes(2, "big") + field.body


def ts_server(data: bytes) -> None:
    """Never an exception, never a reply longer than the request, and time with NTS only for a request of a real key."""
    outcome = respond(data)
    assert (outcome.reply is None) == outcome.verdict.name.startswith("DROP")
    assert len(outcome.reply or b"") <= len(data)
    if outcome.verdict == Verdict.ANSWERED_NTS:
        open_reply(outcome.reply or b"", _KEYS)  # the key that all the seeds are sealed with


def ts_server_sealed(data: bytes) -> None:
    """An authentic request is answered with at most eight cookies in at most its own length, or its contents dropped.

    Four octets: placeholders, nonce, Additional Padding, where to cut the rest; then fields in clear; then encrypted.
    """
    knobs, rest = data[:4].ljust(4, b"\0"), data[4:]
    cut = knobs[3] % (len(rest) + 1)
    request = Request(
        keys=_KEYS,
        nonce=bytes(1 + knobs[1] % 40),
        spare=4 * (knobs[2] % 20),
        before=rest[:cut],
        inside=rest[cut:],
    ).with_placeholders(knobs[0] % 12)
    packet = request.encode()
    outcome = respond(packet)
    assert len(outcome.reply or b"") <= len(packet)
    if outcome.verdict == Verdict.ANSWERED_NTS:
        assert 1 <= len(open_reply(outcome.reply or b"", _KEYS).cookies) <= 1 + MAX_PLACEHOLDERS


def judge_answer(data: bytes) -> None:
    """Never an exception, and nothing believed that the S2C key has not sealed."""
    query = fixed_query()
    judgement = judge(data, query)
    _check_text(judgement.reason)
    if judgement.kind in (AnswerKind.TIME, AnswerKind.UNUSABLE):
        assert judgement.header == Header.decode(data)
        assert data[48:84] == query.packet[48:84], "an identifier that is not ours"
    else:
        assert not judgement.cookies


def judge_answer_sealed(data: bytes) -> None:
    """An authentic answer with any header and contents is judged without an exception, and any usable time measured.

    48 octets of header, in which mode, version and origin are put right; then the fields to encrypt.
    """
    query = fixed_query()
    head = bytearray(data[:48].ljust(48, b"\0"))
    head[0] = head[0] & 0xC0 | 0x24
    head[24:32] = query.packet[40:48]
    header = Header.decode(bytes(head))
    judgement = judge(seal_reply(header, query.unique_id, _KEYS.s2c, data[48:]), query)
    assert judgement.kind in (AnswerKind.TIME, AnswerKind.UNUSABLE, AnswerKind.NOT_AUTHENTIC)
    _check_text(judgement.reason)
    assert all(0 < len(c) <= MAX_COOKIE for c in judgement.cookies)
    assert len(ts_client.restock((), judgement.cookies)) <= COOKIES_WANTED
    if judgement.kind == AnswerKind.TIME:
        measured = ts_client.measure(header, _NOW, _NOW + 1000)
        if measured is not None:
            assert measured.error > 0
            assert abs(measured.offset) < 2**32 * ntp.NS


def client_ini(data: bytes) -> None:
    """Any text is an association or a ConfigError, which is one line and shows nothing of the file's values.

    An association is the same when written and read again, and so is whatever else stands in the file.
    """
    text = data.decode(errors="ignore").replace("\r\n", "\n").replace("\r", "\n")  # as reading a file does
    try:
        parser = inifile.parse(text, _PATH)
        association = state._decode(parser, _PATH)
    except ConfigError:
        return
    assert len(association.cookies) <= COOKIES_WANTED
    assert len(association.keys.c2s) == len(association.keys.s2c) == association.keys.aead.key_length
    assert 0 < association.port < 65536
    others = {
        name: dict(section) for name, section in parser.items() if name not in ("ntske", "ntpv4", "keys", "cookies")
    }
    again = inifile.parse(state._encode(association, parser), _PATH)
    assert state._decode(again, _PATH) == association
    assert others.items() <= {name: dict(section) for name, section in again.items()}.items()


_KEYS_AT_HAND = Settings(parse_keylog(captures.KEYLOG), (OurOpener(RING),))


def decode_capture(data: bytes) -> None:
    """Any file is decoded up to where it is damaged, or refused; what is shown fits a terminal and has no key."""
    decoder, tally = Decoder(_KEYS_AT_HAND), capture.Tally()
    if not capture.is_capture(data):
        return
    try:
        for packet in capture.read(data[:4], io.BytesIO(data[4:]), tally):
            decoder.add(packet)
    except FormatError as e:
        _check_text(str(e))
    _check_decoded(decoder.finish(), tally.notes())


def decode_tls(data: bytes) -> None:
    """Whatever comes after the hellos, from whichever end, is decrypted or said to be missing.

    The first octet is how much the client sends, in units of 32 octets.
    """
    if not data:
        return
    cut = 1 + 32 * data[0]
    begin = captures.made_session(b"", b"", close=(False, False))
    client, server = begin.sent(True) + data[1:cut], begin.sent(False) + data[cut:]
    session = tls_session.decrypt(Stream(client), Stream(server), _KEYS_AT_HAND.log)
    assert session.suite is not None
    assert len(session.client.data) + len(session.server.data) <= len(data)
    for problem in session.problems:
        _check_text(str(problem))


def decode_message(data: bytes) -> None:
    """Any octets, taken for an NTP packet and for an NTS-KE message, twice, since the second may answer the first."""
    decoder = Decoder(_KEYS_AT_HAND)
    for is_ntp in (True, True, False, False):
        decoder.message(data, ntp=is_ntp)
    _check_decoded(decoder.finish(), [])
    with suppress(FormatError):
        hexinput.guess(data or b"\0")


def decode_keys(data: bytes) -> None:
    """Any text is a key log, a key file of chrony's, one of NTPsec's, hexadecimal, or is refused without showing it."""
    text = data.decode("ascii", errors="replace")
    for parse in (parse_keylog, cookie_keys.chrony_opener, cookie_keys.ntpsec_opener, hexinput.messages):
        why = ""
        try:
            parse(text)
        except FormatError as e:
            why = str(e)
        _check_text(why)
        assert len(why) < 120


def _check_decoded(decoded: Decoded, notes: list[str]) -> None:
    items = list(decoded.items)
    decoded.items = iter(items)
    shown = [*show.lines(decoded, secrets=False), *notes]
    for line in shown:
        _check_text(line)
    decoded.items = iter(items)
    pieces = "".join(show.json_pieces(decoded, "-", secrets=False))
    assert len(json.loads(pieces)["items"]) == len(items)
    text = pieces + "".join(shown)
    assert _KEYS.c2s.hex() not in text
    assert captures.exported(0).hex() not in text


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (
        message_reader,
        ke_request,
        ke_response,
        extension_fields,
        ts_server,
        ts_server_sealed,
        judge_answer,
        judge_answer_sealed,
        client_ini,
        decode_capture,
        decode_tls,
        decode_message,
        decode_keys,
    )
}
