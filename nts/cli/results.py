# SPDX-License-Identifier: MIT
"""The results of the clients as lines of text and for JSON: key exchanges, times, offsets."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from nts.base.errors import ExitCode, NTSError
from nts.base.text import about, clipped, counted
from nts.cli.dump import aead_name, packet_dict, packet_lines, record_dicts, reference_id, secret
from nts.codec import ntp
from nts.codec.records import Message
from nts.system import addresses, console

MAX_RECORDS, MAX_FIELDS = 64, 64  # to show of a message or packet: more than honest servers send
MAX_LINES, MAX_LINE = 200, 3000  # lines of a packet, characters of a line

if TYPE_CHECKING:  # neither client loads what only the other one needs: for the time client, that would be TLS
    from nts.client.ke_session import Result
    from nts.client.ts_session import Answer, Attempt, Exchange
    from nts.protocol.clock_filter import Filtered


def ke_dict(result: Result, server: str, stored: str, *, secrets: bool) -> dict[str, Any]:
    """A key exchange for JSON. Keys have the names that they have in client.ini."""
    agreement = result.agreement
    keys: dict[str, str] = {}
    for pair, suffix in zip(result.keys, ("", "_context_15"), strict=False):
        keys |= {f"c2s{suffix}": secret(pair.c2s, secrets), f"s2c{suffix}": secret(pair.s2c, secrets)}
    return {
        "address": result.address,
        "tls": {"version": result.tls_version, "cipher": result.tls_cipher, "group": result.tls_group},
        "clock_error": result.clock_error,
        "aead": {"id": int(agreement.aead), "name": aead_name(agreement.aead)},
        "ntp": {"server": server, "port": agreement.port},
        "cookies": {"count": len(agreement.cookies), "lengths": sorted({len(c) for c in agreement.cookies})},
        **records_dict(result.response, secrets=secrets),
        "keys": keys,
        "stored": stored,
    }


def records_dict(message: Message, *, secrets: bool) -> dict[str, Any]:
    """The records of a response for JSON, and how many were left out if there were too many."""
    rows = record_dicts(message, secrets=secrets, limit=MAX_RECORDS)
    left_out = len(message.records) - len(rows)
    return {"records": rows, **({"records_left_out": left_out} if left_out else {})}


def ke_lines(result: Result, server: str, stored: str, *, verbose: bool) -> list[str]:
    """A key exchange for a person."""
    agreement = result.agreement
    lines = [
        f"{counted(len(agreement.cookies), 'cookie')} and keys for {aead_name(agreement.aead)}, "
        f"good for {server} UDP port {agreement.port}",
        f"stored in {stored}",
    ]
    if len(result.keys) > 1:
        lines.insert(1, "the server does not say which exporter context it uses: the time client will find out")
    if verbose:
        session = f"{result.tls_version} {result.tls_cipher} {result.tls_group}"
        lines.insert(0, f"{session} with {result.address}, {result.response_length} octets")
    return lines


def clock_error_text(seconds: float) -> str:
    """What a certificate that was accepted out of its time means."""
    direction = "behind" if seconds > 0 else "ahead"
    return f"the certificate is valid only if this machine's clock is at least {about(seconds)} {direction}: set it"


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
    m, header = answer.measurement, answer.judgement.header
    assert header is not None
    when, where = utc(answer.received_ns + m.offset), addresses.format_address(answer.endpoint.address)
    offset = f"offset {seconds(m.offset, sign=True)} +/- {seconds(m.error)}, delay {seconds(m.delay)}"
    return f"{when}  {offset}, {where} stratum {header.stratum}"


def exchange_dict(exchange: Exchange, *, dump: bool, secrets: bool) -> dict[str, Any]:
    """A query for JSON: its answer or its failure, and with `dump` its packets. All durations are in seconds."""
    if exchange.answer:
        values = _answer_dict(exchange.answer)
    else:
        assert exchange.failure is not None
        values = {"failure": failure_dict(exchange.failure)}
    received = sum(len(j.cookies) for a in exchange.attempts for _, j in a.datagrams)
    values["server_verified"] = exchange.association.verify
    values["cookies"] = {"received": received, "stock": exchange.stock}
    return {**values, "dump": [_attempt_dict(a, secrets) for a in exchange.attempts]} if dump else values


def _answer_dict(answer: Answer) -> dict[str, Any]:
    header, m = answer.judgement.header, answer.measurement
    assert header is not None
    return {
        "server": answer.endpoint.host,
        "port": answer.endpoint.address[1],
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
    }


def _attempt_dict(attempt: Attempt, secrets: bool) -> dict[str, Any]:
    answers = [
        {
            "kind": judgement.kind.name.lower(),
            "reason": judgement.reason,
            "cookies": [secret(c, secrets) for c in judgement.cookies],
            **_packet_dict(datagram, secrets),
        }
        for datagram, judgement in attempt.datagrams
    ]
    where = addresses.format_address(attempt.endpoint.address)
    request = _packet_dict(attempt.request.packet, secrets)
    return {"address": where, "refused": attempt.refused, "request": request, "answers": answers}


def _packet_dict(packet: bytes, secrets: bool) -> dict[str, Any]:
    values = packet_dict(packet, secrets=secrets)
    fields = values.get("fields", [])
    if len(fields) > MAX_FIELDS:
        values |= {"fields": fields[:MAX_FIELDS], "fields_left_out": len(fields) - MAX_FIELDS}
    for field in values.get("fields", []):
        field["value"] = [clipped(text, MAX_LINE) for text in field["value"]]
    return values


_STAGES = {
    ExitCode.RESOLVE: "name", ExitCode.CONNECT: "connect", ExitCode.TLS: "tls", ExitCode.CERTIFICATE: "tls",
    ExitCode.ALPN: "tls", ExitCode.KE_RESPONSE: "key exchange", ExitCode.KE_ERROR_RECORD: "key exchange",
    ExitCode.NO_ANSWER: "time", ExitCode.NTS_NAK: "time", ExitCode.NOT_AUTHENTIC: "time", ExitCode.MISMATCH: "time",
    ExitCode.UNUSABLE_SERVER: "time",
}  # fmt: skip


def failure_dict(e: NTSError) -> dict[str, Any]:
    """An error for JSON: `code` is the exit code, `stage` is how far things went."""
    return {
        "code": int(e.exit_code),
        "stage": _STAGES.get(e.exit_code, "local"),
        "message": str(e),
        "hint": console.worded(e.hint or ""),
    }


def summary_lines(answers: list[Answer], queries: int, filtered: Filtered | None) -> list[str]:
    """What several queries amount to: what the clock filter makes of the last eight answers, and all of them."""
    made = f"{queries} {'query' if queries == 1 else 'queries'}"
    if not answers or filtered is None:
        return [f"{made}, no answers"]
    offset, error = seconds(filtered.offset, sign=True), seconds(filtered.error)
    offsets, delays = [a.measurement.offset for a in answers], [a.measurement.delay for a in answers]
    return [
        f"{made}, {counted(len(answers), 'answer')}; filtered offset {offset} +/- {error}, "
        f"delay {seconds(filtered.delay)}, jitter {seconds(filtered.jitter)}",
        f"loss {1 - len(answers) / queries:.0%}; offset {_spread(offsets, sign=True)}; delay {_spread(delays)}",
    ]


def _spread(values: list[int], *, sign: bool = False) -> str:
    figures = {"min": min(values), "mean": round(sum(values) / len(values)), "max": max(values)}
    return ", ".join(f"{name} {seconds(value, sign=sign)}" for name, value in figures.items())


def exchange_lines(exchange: Exchange, *, secrets: bool) -> list[str]:
    """Every packet of a query, and the judgement on each that came back."""
    lines = []
    for attempt in exchange.attempts:
        lines += ["request:", *packet_lines(attempt.request.packet, secrets=secrets), ""]
        for datagram, judgement in attempt.datagrams:
            lines.append(f"answer: {judgement.kind.name.lower()}{judgement.reason and f' ({judgement.reason})'}")
            packet = packet_lines(datagram, secrets=secrets)
            lines += [clipped(line, MAX_LINE) for line in packet[:MAX_LINES]]
            if len(packet) > MAX_LINES:
                lines.append(f"       ... {counted(len(packet) - MAX_LINES, 'more line')}")
            lines += [f"       decrypted: NTS Cookie {secret(c, secrets)}" for c in judgement.cookies]
            lines.append("")
    return lines
