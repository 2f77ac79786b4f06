# SPDX-License-Identifier: MIT
"""The results of the clients as lines of text and for JSON: key exchanges, times, offsets."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from nts.cli.dump import aead_name, packet_lines, record_dicts, reference_id, secret
from nts.codec import ntp

if TYPE_CHECKING:  # neither client loads what only the other one needs: for the time client, that would be TLS
    from nts.client.ke_session import Result
    from nts.client.ts_session import Answer, Exchange


def ke_dict(result: Result, server: str, stored: str, *, secrets: bool) -> dict[str, Any]:
    """A key exchange for JSON."""
    agreement = result.agreement
    return {
        "address": result.address,
        "tls": {"version": result.tls_version, "cipher": result.tls_cipher, "group": result.tls_group},
        "aead": {"id": int(agreement.aead), "name": aead_name(agreement.aead)},
        "ntp": {"server": server, "port": agreement.port},
        "cookies": {"count": len(agreement.cookies), "lengths": sorted({len(c) for c in agreement.cookies})},
        "records": record_dicts(result.response, secrets=secrets),
        "keys": {"c2s": secret(result.keys[0].c2s, secrets), "s2c": secret(result.keys[0].s2c, secrets)},
        "stored": stored,
    }


def ke_lines(result: Result, server: str, stored: str, *, verbose: bool) -> list[str]:
    """A key exchange for a person."""
    agreement, count = result.agreement, len(result.agreement.cookies)
    lines = [
        f"{count} cookie{'s' * (count != 1)} and keys for {aead_name(agreement.aead)}, "
        f"good for {server} UDP port {agreement.port}",
        f"stored in {stored}",
    ]
    if len(result.keys) > 1:
        lines.insert(1, "the server does not say which exporter context it uses: the time client will find out")
    if verbose:
        session = f"{result.tls_version} {result.tls_cipher} {result.tls_group}"
        lines.insert(0, f"{session} with {result.address}, {result.response_length} octets")
    return lines


def utc(unix_ns: int) -> str:
    """A time as ISO 8601 with microseconds, UTC."""
    seconds, ns = divmod(unix_ns, ntp.NS)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1000:06}Z"


def seconds(ns: int, *, sign: bool = False) -> str:
    """A duration in a suitable unit."""
    for unit, size in (("s", ntp.NS), ("ms", 1_000_000), ("us", 1000)):
        if abs(ns) >= size:
            return f"{ns / size:{'+' if sign else ''}.3f} {unit}"
    return f"{ns:{'+' if sign else ''}d} ns"


def answer_line(answer: Answer) -> str:
    """The server's time at the instant when its answer arrived, for a person."""
    m = answer.measurement
    when = utc(answer.received_ns + m.offset)
    return f"{when}  offset {seconds(m.offset, sign=True)} +/- {seconds(m.error)}, delay {seconds(m.delay)}"


def answer_dict(answer: Answer, stock: int, *, server_verified: bool) -> dict[str, Any]:
    """The same for JSON. All durations are in seconds."""
    header, m = answer.judgement.header, answer.measurement
    assert header is not None
    return {
        "server": answer.endpoint.host,
        "time": utc(answer.received_ns + m.offset),
        "offset": m.offset / ntp.NS,
        "error": m.error / ntp.NS,
        "delay": m.delay / ntp.NS,
        "stratum": header.stratum,
        "leap": header.leap,
        "reference_id": reference_id(header),
        "root_delay": ntp.short_to_ns(header.root_delay) / ntp.NS,
        "root_dispersion": ntp.short_to_ns(header.root_dispersion) / ntp.NS,
        "authenticated": True,  # otherwise there is no answer
        "server_verified": server_verified,
        "cookies": {"received": len(answer.judgement.cookies), "stock": stock},
    }


def summary_line(answers: list[Answer], count: int) -> str:
    """A summary of several queries. The sample with the least delay is the best (RFC 5905 section 10)."""
    if not answers:
        return f"{count} queries, no answers"
    best = min((a.measurement for a in answers), key=lambda m: m.delay)
    offset, error = seconds(best.offset, sign=True), seconds(best.error)
    return f"{count} queries, {len(answers)} answers; best offset {offset} +/- {error}"


def exchange_lines(exchange: Exchange, *, secrets: bool) -> list[str]:
    """Every packet of a query, and the judgement on each that came back."""
    lines = []
    for attempt in exchange.attempts:
        lines += ["request:", *packet_lines(attempt.request.packet, secrets=secrets), ""]
        for datagram, judgement in attempt.datagrams:
            lines.append(f"answer: {judgement.kind.name.lower()}{judgement.reason and f' ({judgement.reason})'}")
            lines += packet_lines(datagram, secrets=secrets)
            lines += [f"       decrypted: NTS Cookie {secret(c, secrets)}" for c in judgement.cookies]
            lines.append("")
    return lines
