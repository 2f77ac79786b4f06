# SPDX-License-Identifier: MIT
"""Shows what was decoded, for people and as JSON. Keys and cookies appear only if `secrets` is true."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from nts.check.decode.associations import Association
from nts.check.decode.cookie_keys import Opened
from nts.check.decode.decoder import Decoded, Item, KeItem, NtpItem
from nts.check.decode.tls_messages import printable
from nts.check.decode.tls_session import TlsSession
from nts.cli import dump, results
from nts.codec.aead import SessionKeys

_KINDS = {1: "symmetric active", 2: "symmetric passive", 3: "request", 4: "reply", 5: "broadcast"}


def lines(decoded: Decoded, *, secrets: bool) -> Iterator[str]:
    """The result as text."""
    for item in decoded.items:
        yield " ".join(filter(None, (_where(item), _title(item))))
        body = _ke_lines(item, secrets) if isinstance(item, KeItem) else _ntp_lines(item, secrets)
        yield from (f"  {line}" for line in body)
        yield from (f"  {'WRONG' if p.wrong else 'note '} {p}" for p in item.problems)
        yield ""
    for association in decoded.associations:
        yield f"association {association.number}: {_association(association, secrets)}"
    yield from (f"note: {note}" for note in decoded.notes)
    yield summary(decoded)


def summary(decoded: Decoded) -> str:
    """The result in one line, once all items have been taken."""
    return (
        f"{decoded.exchanges} of NTS-KE, {decoded.packets} NTP packets, "
        f"{decoded.opened} of {decoded.sealed} decrypted; {decoded.wrong or 'nothing'} wrong"
    )


def _where(item: Item) -> str:
    if not item.frame or item.source is None:
        return ""
    when = f"  {results.utc(item.time_ns)}" if item.time_ns is not None else ""
    return f"frame {item.frame}{when}  {item.source} > {item.target} "


def _title(item: Item) -> str:
    if isinstance(item, NtpItem):
        header = item.packet.header
        kind = "packet" if header is None else _KINDS.get(header.mode, f"packet of mode {header.mode}")
        nak = " (NTS NAK)" if item.packet.is_nak else ""
        to = f" to frame {item.request.frame}" if item.request and item.request.frame else ""
        return f"NTP {kind}{nak}{to}, {len(item.packet.octets)} octets{_of(item)}"
    assert isinstance(item, KeItem)
    if item.session is None:
        return f"NTS-KE message{_of(item)}"
    suite = f", {item.session.suite.name}" if item.session.suite else ""
    return f"NTS-KE, {item.session.version}{suite}{_of(item)}"


def _of(item: Item) -> str:
    return f", association {item.association.number}" if item.association else ""


def _ke_lines(item: KeItem, secrets: bool) -> Iterator[str]:
    if item.session is not None:
        yield from _tls_lines(item.session)
    for name, parsed in (("request", item.request), ("response", item.response)):
        if parsed is not None:
            yield f"{name}:"
            yield from dump.record_lines(parsed.message, secrets=secrets)
    yield from (f"cookie {line}" for line in _counted(_opened(o, secrets) for o in item.opened))
    if item.association is not None and len(item.association.candidates) == 1:
        yield f"keys: {_keys(item.association.keys, secrets)}"
    elif item.association is not None:
        yield f"keys: those of association {item.association.number}, at the end; the packets decide which"


def _ntp_lines(item: NtpItem, secrets: bool) -> Iterator[str]:
    yield from dump.packet_lines(item.packet.octets, secrets=secrets, plaintext=item.packet.plaintext)
    if item.opened is not None:
        yield f"its cookie: {_opened(item.opened, secrets)}"
    yield from (f"fresh cookie: {line}" for line in _counted(_opened(o, secrets) for o in item.inside))


def _counted(texts: Iterable[str]) -> Iterator[str]:
    """Each text once, with how often it occurs."""
    yield from (f"{count} x {text}" if count > 1 else text for text, count in Counter(texts).items())


def _opened(opened: Opened, secrets: bool) -> str:
    return f"under key {opened.key_id} of {opened.source}: {_keys(opened.keys, secrets)}"


def _keys(keys: SessionKeys, secrets: bool) -> str:
    c2s, s2c = dump.secret(keys.c2s, secrets), dump.secret(keys.s2c, secrets)
    return f"{dump.aead_name(keys.aead)}, c2s {c2s}, s2c {s2c}"


def _association(association: Association, secrets: bool) -> str:
    counts = f"{association.requests} requests, {association.replies} replies, {association.cookies} cookies given"
    return f"{association.origin}; {_keys(association.keys, secrets)}; {counts}"


def _tls_dict(session: TlsSession) -> dict[str, Any]:
    hello, alpn = session.client.hello, session.server.alpn
    return {
        "server_name": hello.server_name if hello else "",
        "protocols_offered": [printable(p) for p in hello.alpn] if hello else [],
        "protocol_selected": ", ".join(map(printable, alpn)) if alpn else "",
        "records": {"client": session.client.records, "server": session.server.records},
    }


def _tls_lines(session: TlsSession) -> Iterator[str]:
    values = _tls_dict(session)
    records = values.pop("records")
    for name, value in values.items():
        text = value if isinstance(value, str) else ", ".join(value)
        if text:
            yield f"{name.replace('_', ' ')}: {text}"
    yield f"records: {records['client']} from the client, {records['server']} from the server"


# --- JSON -------------------------------------------------------------------------------------------------------------


def json_pieces(decoded: Decoded, name: str, *, secrets: bool) -> Iterator[str]:
    """One JSON object with the result, piece by piece."""
    yield f'{{\n  "input": {json.dumps(name)},\n  "items": ['
    before = "\n"
    for item in decoded.items:
        yield before + textwrap.indent(json.dumps(_item_dict(item, secrets), indent=2), " " * 4)
        before = ",\n"
    rest = {
        "associations": [_association_dict(a, secrets) for a in decoded.associations],
        "notes": decoded.notes,
        "summary": summary(decoded),
        "wrong": decoded.wrong,
    }
    yield "\n  ],\n" + json.dumps(rest, indent=2).removeprefix("{\n") + "\n"


def _item_dict(item: KeItem | NtpItem, secrets: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"kind": "ntp" if isinstance(item, NtpItem) else "ke"}
    if item.frame:
        result["frame"] = item.frame
        result["time"] = results.utc(item.time_ns) if item.time_ns is not None else None
        result["source"], result["target"] = str(item.source), str(item.target)
    if item.association is not None:
        result["association"] = item.association.number
    result |= _ntp_dict(item, secrets) if isinstance(item, NtpItem) else _ke_dict(item, secrets)
    result["problems"] = [
        {"severity": p.severity.value, "wrong": p.wrong, "text": p.text, "section": p.section} for p in item.problems
    ]
    return result


def _ke_dict(item: KeItem, secrets: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if item.session is not None:
        suite = item.session.suite.name if item.session.suite else None
        result["tls"] = {"version": item.session.version, "cipher": suite}
        result["tls"] |= _tls_dict(item.session)
    for name, parsed in (("request", item.request), ("response", item.response)):
        if parsed is not None:
            rows = dump.record_dicts(parsed.message, secrets=secrets)
            result[name] = {"records": rows, "trailing": parsed.message.trailing, "complete": not parsed.problem}
    return {**result, "cookies": [_opened_dict(o, secrets) for o in item.opened]}


def _ntp_dict(item: NtpItem, secrets: bool) -> dict[str, Any]:
    packet = dump.packet_dict(item.packet.octets, secrets=secrets, plaintext=item.packet.plaintext)
    result: dict[str, Any] = {**packet, "authentic": item.packet.plaintext is not None}
    if item.request is not None and item.request.frame:
        result["reply_to"] = item.request.frame
    if item.opened is not None:
        result["cookie"] = _opened_dict(item.opened, secrets)
    if item.inside:
        result["fresh_cookies"] = [_opened_dict(o, secrets) for o in item.inside]
    return result


def _opened_dict(opened: Opened, secrets: bool) -> dict[str, Any]:
    return {"source": opened.source, "key_id": opened.key_id, **_keys_dict(opened.keys, secrets)}


def _keys_dict(keys: SessionKeys, secrets: bool) -> dict[str, Any]:
    aead = {"id": keys.aead, "name": dump.aead_name(keys.aead)}
    return {"aead": aead, "c2s": dump.secret(keys.c2s, secrets), "s2c": dump.secret(keys.s2c, secrets)}


def _association_dict(a: Association, secrets: bool) -> dict[str, Any]:
    counts = {"requests": a.requests, "replies": a.replies, "cookies": a.cookies}
    return {"number": a.number, "origin": a.origin, **_keys_dict(a.keys, secrets), **counts}
