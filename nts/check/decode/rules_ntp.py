# SPDX-License-Identifier: MIT
"""What is wrong with an NTP packet that has NTS fields, alone and as the reply to a request (RFC 8915 section 5)."""

from __future__ import annotations

from collections.abc import Iterator

from nts.base.registry import (
    ALIGNMENT_SLACK,
    FIELD_NAMES,
    MAX_PLACEHOLDERS,
    MIN_UNIQUE_ID,
    NTS_FIELDS,
    FieldType,
    Leap,
    Mode,
    Stratum,
)
from nts.check.decode.ntp_packet import Packet
from nts.check.decode.problems import Problem, crit, info, must, should
from nts.codec import extensions
from nts.codec.aead import Aead, SessionKeys
from nts.codec.extensions import Authenticator, Field
from nts.codec.ntp import VERSION, Header


def packet_problems(packet: Packet, keys: SessionKeys | None) -> list[Problem]:
    """Everything that is wrong with a packet by itself. `keys` decrypted it, or should have."""
    header = packet.header
    if header is None:
        return [must(f"{len(packet.octets)} octets, although a header has 48", "RFC 5905 7.3")]
    found = list(_form(packet, header))
    if packet.has_nts:
        found += _fields(packet, header)
        if packet.is_request:
            found += _request(packet, header, keys)
        if packet.is_reply:
            found += _reply(packet)
        if keys is not None and packet.authenticator and packet.plaintext is None:
            found.append(must("not authentic under the association's key", "5.6"))
    return found


def _form(packet: Packet, header: Header) -> Iterator[Problem]:
    size = len(packet.octets)
    if size % 4:
        yield must(f"{size} octets, which is not a multiple of four", "RFC 5905 7.3")
    if header.version < VERSION:
        if packet.fields:
            yield must(f"extension fields in NTP version {header.version}", "RFC 7822 7.5")
    elif packet.malformed:
        yield must(packet.malformed, "RFC 7822 7.5")
    elif packet.rest:
        tail = packet.octets[size - packet.rest :]
        kind, length = int.from_bytes(tail[:2], "big"), int.from_bytes(tail[2:4], "big")
        if kind in NTS_FIELDS and length == packet.rest:
            yield must(f"its last field has {length} octets: receivers take it for a MAC", "RFC 7822 7.5.1.4")
        else:
            yield info(f"{packet.rest} octets at its end: a MAC, or a remainder", "RFC 7822 7.5.1.4")


def _fields(packet: Packet, header: Header) -> Iterator[Problem]:
    """The rules for both directions."""
    if header.mode not in (Mode.CLIENT, Mode.SERVER):
        yield must(f"NTS fields in a packet of mode {header.mode}", "5.3")
    for kind in (FieldType.UNIQUE_IDENTIFIER, FieldType.AUTHENTICATOR):
        if len(packet.of(kind)) > 1:
            yield must(f"{len(packet.of(kind))} fields {FIELD_NAMES[kind]}", "5.7")
    authenticator = packet.authenticator
    if authenticator is None:
        return
    at, parts, problem = authenticator
    if problem or parts is None:
        yield must(f"its authenticator: {problem}", "5.6")
    elif not _is_zero_padded(at, parts):
        yield must("the padding in its authenticator is not zero", "5.6")
    for f in packet.fields:
        if f.offset > at.offset and f.type in (FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE):
            yield must(f"{FIELD_NAMES[f.type]} after the authenticator, so it is not authenticated", "5.7")
        elif f.offset > at.offset and f.type != FieldType.AUTHENTICATOR:
            yield info(f"a field of type {f.type:#06x} after the authenticator: receivers discard it", "5.7")
    inner, problem = packet.inner
    if problem:
        yield must(f"its encrypted fields: {problem}", "5.6")
    for kind in (FieldType.UNIQUE_IDENTIFIER, FieldType.AUTHENTICATOR):
        if any(f.type == kind for f in inner):
            yield must(f"{FIELD_NAMES[kind]} is encrypted", "5.7")


def _is_zero_padded(at: Field, parts: Authenticator) -> bool:
    """Whether nonce and ciphertext are padded with zeros. Additional Padding may hold anything."""
    body = extensions.encode_authenticator(parts.nonce, parts.ciphertext)
    return at.body.startswith(body)


def _request(packet: Packet, header: Header, keys: SessionKeys | None) -> Iterator[Problem]:
    identifiers, cookies = packet.of(FieldType.UNIQUE_IDENTIFIER), packet.of(FieldType.COOKIE)
    placeholders = packet.of(FieldType.COOKIE_PLACEHOLDER)
    if any(len(f.body) < MIN_UNIQUE_ID for f in identifiers):
        yield must(f"a Unique Identifier of {len(identifiers[0].body)} octets: it needs {MIN_UNIQUE_ID}", "5.3")
    if not (cookies or placeholders or packet.authenticator):
        return  # any request may hold an identifier alone
    if not identifiers:
        yield must("no Unique Identifier", "5.7")
    if not packet.authenticator:
        yield must("no authenticator", "5.7")
    if len(cookies) != 1:
        yield must(f"{len(cookies) or 'no'} cookies, where a request has one", "5.7")
    if packet.inner_of(FieldType.COOKIE):
        yield must("a cookie is encrypted", "5.7")
    yield from _placeholders(placeholders + packet.inner_of(FieldType.COOKIE_PLACEHOLDER), cookies)
    parts = packet.authenticator[1] if packet.authenticator else None
    if parts is not None and not _has_room(parts, keys):
        yield must(f"a nonce of {len(parts.nonce)} octets with {parts.padding} of Additional Padding: too short", "5.6")
    revealing = [name for name in ("stratum", "poll", "precision", "root_delay", "root_dispersion", "reference_time",
                                   "origin", "receive") if getattr(header, name)]  # fmt: skip
    if header.leap or any(header.reference_id) or revealing:
        names = ", ".join([*(["leap"] if header.leap else []), *revealing]) or "reference_id"
        yield info(f"its header reveals something about the client: {names.replace('_', ' ')} not zero", "9.1")


def _placeholders(placeholders: list[Field], cookies: list[Field]) -> Iterator[Problem]:
    wrong = sorted({len(f.body) for f in placeholders if cookies and len(f.body) != len(cookies[0].body)})
    if wrong:
        yield must(
            f"a placeholder of {', '.join(map(str, wrong))} octets, but the cookie has {len(cookies[0].body)}", "5.5"
        )
    if any(any(f.body) for f in placeholders):
        yield should("a placeholder that is not zero", "5.5")
    if len(placeholders) > MAX_PLACEHOLDERS:
        yield should(f"{len(placeholders)} placeholders, where at most {MAX_PLACEHOLDERS} make sense", "5.7")


def _has_room(parts: Authenticator, keys: SessionKeys | None) -> bool:
    """The Additional Padding rule. If the algorithm is unknown, the nonce must fit none to be wrong."""
    if keys is None and len(parts.nonce) in {a.nonce_length for a in Aead}:
        return True
    return parts.nonce_room >= (keys.aead if keys else Aead.AES_SIV_CMAC_256).nonce_length


def _reply(packet: Packet) -> Iterator[Problem]:
    if packet.of(FieldType.COOKIE_PLACEHOLDER) or packet.inner_of(FieldType.COOKIE_PLACEHOLDER):
        yield must("a placeholder in a reply", "5.5")
    if packet.of(FieldType.COOKIE):
        yield crit("a cookie in clear in a reply", "5.7")
    if packet.is_nak:
        if packet.authenticator:
            yield must("an NTS NAK with an authenticator", "5.7")
        if not packet.unique_id:
            yield must("an NTS NAK without a Unique Identifier", "5.7")
        return
    if packet.authenticator and not packet.of(FieldType.UNIQUE_IDENTIFIER):
        yield must("no Unique Identifier", "5.7")
    if packet.plaintext is not None:
        cookies = [f.body for f in packet.inner_of(FieldType.COOKIE)]
        if not cookies:
            yield must("no fresh cookie", "5.7")
        if len(set(cookies)) < len(cookies):
            yield must("the same cookie more than once", "5.7")


def reply_problems(request: Packet, reply: Packet) -> list[Problem]:
    """Everything that is wrong with a reply to this request."""
    asked, header = request.header, reply.header
    assert asked is not None
    assert header is not None
    found = []
    if header.version != asked.version:
        found.append(must(f"version {header.version} in reply to {asked.version}", "RFC 5905 9.2"))
    if header.origin != asked.transmit:
        found.append(must("its origin timestamp is not the request's transmit timestamp", "RFC 5905 8"))
    if request.unique_id is not None and reply.unique_id != request.unique_id:
        what = "no Unique Identifier" if reply.unique_id is None else "a Unique Identifier that is not the request's"
        found.append(must(what, "5.3"))
    if len(reply.octets) > len(request.octets) + ALIGNMENT_SLACK:
        found.append(crit(f"{len(reply.octets)} octets in reply to {len(request.octets)}", "5.5"))
    if request.authenticator:
        found += _protected_reply(request, reply)
    elif reply.authenticator:
        found.append(must("an authenticator, although the request has none", "5.7"))
    return found


def _protected_reply(request: Packet, reply: Packet) -> Iterator[Problem]:
    header = reply.header
    assert header is not None
    if reply.is_nak:
        if request.plaintext is not None:
            yield should("an NTS NAK, although the request is authentic under the keys of its cookie", "5.7")
        else:
            yield info("an NTS NAK: the server could not open the cookie or authenticate the request", "5.7")
    elif header.stratum == Stratum.KISS and not reply.authenticator:
        yield info("a kiss-o'-death without protection", "5.7")
    elif not reply.authenticator:
        yield crit("time without an authenticator, although the request has one", "5.7")
    elif header.leap == Leap.UNSYNCHRONISED:
        yield info("the server's clock is not synchronised", "RFC 5905 7.3")
    if reply.plaintext is None:
        return
    cookies = [f.body for f in reply.inner_of(FieldType.COOKIE)]
    sent = request.of(FieldType.COOKIE)
    valid = [f for f in request.of(FieldType.COOKIE_PLACEHOLDER) + request.inner_of(FieldType.COOKIE_PLACEHOLDER)
             if sent and len(f.body) == len(sent[0].body)]  # fmt: skip
    if len(cookies) > 1 + len(valid):
        yield must(f"{len(cookies)} cookies for a request that asks for {1 + len(valid)}", "5.7")
    elif 0 < len(cookies) < 1 + min(len(valid), MAX_PLACEHOLDERS):
        yield should(f"{len(cookies)} cookies for a request that asks for {1 + len(valid)}", "5.7")
    if sent and sent[0].body in cookies:
        yield must("the reply returns the request's cookie: it is not fresh", "5.7")
    if sent and any(len(c) != len(sent[0].body) for c in cookies):
        yield info("a cookie of another length than the request's: some clients refuse it", "6")
