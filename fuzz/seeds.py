# SPDX-License-Identifier: MIT
"""Makes the corpus: `python -m fuzz.seeds` writes fuzz/corpus/TARGET/NAME, the same octets every time.

Inputs that once broke a target stay here under a name that says what they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fuzz.targets import fixed_query
from nts.codec.aead import Aead
from nts.codec.ntp import Header
from nts.protocol.ke_client import build_request
from testkit import captures
from testkit.packets import (
    COOKIE,
    PLACEHOLDER,
    RECEIVED,
    REQUEST,
    UNIQUE_IDENTIFIER,
    UNKNOWN_FIELD,
    Request,
    answer,
    fields_of,
    raw_field,
    seal_reply,
    u16s,
)
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record

CORPUS = Path(__file__).resolve().parent / "corpus"


def seeds() -> dict[str, dict[str, bytes]]:
    """Every input of the corpus, by target and name."""
    return {
        "message_reader": {
            "whole": b"\xff" + GOOD_REQUEST,
            "by-the-octet": b"\0" + GOOD_REQUEST,
            "trailing": b"\3" + GOOD_REQUEST + GOOD_REQUEST,
            "over-the-limit": b"\7" + record(5, bytes(1020)) + END,
            "endless": b"\x10" + record(0x3FFF, b"odd") * 20,
        },
        "ke_request": _ke_requests(),
        "ke_response": _ke_responses(),
        "extension_fields": {
            "request": REQUEST.encode()[48:],
            "authenticator": fields_of(REQUEST.encode())[-1][1],
            "padded-authenticator": fields_of(replace(REQUEST, nonce=bytes(9), spare=8).encode())[-1][1],
            "encrypted": raw_field(7) + raw_field(COOKIE, bytes(100)) + raw_field(PLACEHOLDER, bytes(4)),
            "length-3": raw_field(UNKNOWN_FIELD, bytes(24), 3),
        },
        "ts_server": {name: request.encode() for name, request in _requests().items()}
        | {
            "plain-v4": Header(mode=3, transmit=1).encode(),
            "plain-v3": Header(version=3, mode=3, transmit=1).encode(),
            "identifier-only": Header(mode=3).encode() + raw_field(UNIQUE_IDENTIFIER, bytes(32)),
            "mac": REQUEST.encode() + bytes(20),
        },
        "ts_server_sealed": {
            "usual": bytes([0, 15, 0, 0]),
            "placeholders": bytes([7, 15, 0, 0]),
            "short-nonce": bytes([1, 0, 3, 0]),
            "encrypted-placeholder": bytes([1, 15, 0, 0]) + raw_field(PLACEHOLDER, bytes(100)),
            "encrypted-cookie": bytes([0, 15, 0, 0]) + raw_field(COOKIE, bytes(100)),
            "clear-unknown": bytes([0, 15, 0, 28]) + raw_field(UNKNOWN_FIELD, bytes(24)) + raw_field(7),
        },
        "judge_answer": _answers(),
        "judge_answer_sealed": {
            "time": _GOOD_HEADER.encode() + raw_field(COOKIE, bytes(100)),
            "kiss": Header(mode=4, leap=3, reference_id=b"RATE").encode(),
            "mixed-cookies": _GOOD_HEADER.encode() + b"".join(raw_field(COOKIE, bytes(n)) for n in (0, 4, 256, 1200)),
            "extreme": Header(0, 4, 4, 1, 127, 127, 2**20, 2**19, b"\x1b[2J", 0, 0, 2**64 - 1, 1).encode(),
            "malformed-inside": _GOOD_HEADER.encode() + raw_field(COOKIE, bytes(8), 13),
        },
        "client_ini": {name: text.encode() for name, text in _client_inis().items()},
        **_decode(),
    }


_GOOD_HEADER = Header(mode=4, stratum=2, precision=-20, receive=RECEIVED, transmit=RECEIVED + 99)


def _ke_requests() -> dict[str, bytes]:
    return {
        "good": GOOD_REQUEST,
        "all-algorithms": build_request(tuple(Aead)[:3]),
        "aead-30": build_request((Aead.AES_128_GCM_SIV,)),
        "unknown-record": record(0x3FFF, b"odd", critical=False) + GOOD_REQUEST,
        "unknown-critical": record(0x3FFF) + GOOD_REQUEST,
        "wishes": record(6, b"192.0.2.1", critical=False) + record(7, b"\0\x7b", critical=False) + GOOD_REQUEST,
        "odd-list": record(1, b"\0\0\0") + AEAD_15 + END,
        "no-protocol": record(1, b"\x77\x77") + END,
        "no-algorithm": NEXT_PROTOCOL_NTPV4 + record(4, u16s([0xFFF0])) + END,
        "long-list": NEXT_PROTOCOL_NTPV4 + record(4, u16s([0xFFF0] * 30 + [15])) + END,
        "trailing": GOOD_REQUEST + END,
        "forbidden": record(5, bytes(16)) + GOOD_REQUEST,
    }


def _ke_responses() -> dict[str, bytes]:
    good = NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(5, bytes(100), critical=False) * 2
    return {
        "good": good + END,
        "server-and-port": good + record(6, b"ntp.example") + record(7, b"\x10\x1b") + END,
        "ipv6": good + record(6, b"2001:db8::1", critical=False) + END,
        "error": record(2, b"\0\1") + END,
        "warning": good + record(3, b"\0\0") + END,
        "no-cookies": NEXT_PROTOCOL_NTPV4 + AEAD_15 + END,
        "empty-lists": record(1) + record(4) + END,
        "long-cookie": good + record(5, bytes(1200)) + END,
        "escape": good + record(6, b"\x1b[2J.example") + END,
    }


def _requests() -> dict[str, Request]:
    return {
        "usual": REQUEST,
        "placeholders": REQUEST.with_placeholders(2),
        "encrypted": replace(REQUEST, inside=raw_field(PLACEHOLDER, bytes(100))),
        "unknown-fields": replace(
            REQUEST, before=raw_field(UNKNOWN_FIELD, bytes(24)), after=raw_field(UNKNOWN_FIELD, bytes(24))
        ),
        "short-nonce": replace(REQUEST, nonce=bytes(8), spare=8),
        "bad-cookie": replace(REQUEST, cookies=(bytes(100),)),
        "bad-key": replace(REQUEST, key=bytes(32)),
        "two-cookies": replace(REQUEST, cookies=(REQUEST.cookie,) * 2),
        "no-identifier": replace(REQUEST, unique_ids=()),
        "mode-4": replace(REQUEST, mode=4),
    }


def _answers() -> dict[str, bytes]:
    query = fixed_query()
    header = replace(_GOOD_HEADER, origin=query.transmit)
    kiss = replace(header, leap=3, stratum=0, reference_id=b"NTSN")
    identifier = raw_field(UNIQUE_IDENTIFIER, query.unique_id)
    return {
        "genuine": answer(query.packet),
        "plain": header.encode(),
        "stripped": header.encode() + identifier,
        "nak": kiss.encode() + identifier,
        "escape": replace(kiss, reference_id=b"\x1b[2J").encode() + identifier,
        "unusable": seal_reply(kiss, query.unique_id, query.keys.s2c),
        "wrong-key": seal_reply(header, query.unique_id, query.keys.c2s),
        "clear-cookie": seal_reply(header, query.unique_id, query.keys.s2c, after=raw_field(COOKIE, bytes(100))),
    }


def _client_inis() -> dict[str, str]:
    keys = f"[keys]\naead = 15\nc2s = {'c2' * 32}\ns2c = {'52' * 32}\n"
    place = "[ntpv4]\nserver = 192.0.2.1\nport = 4123\n"
    cookies = "[cookies]\n" + "".join(f"{i} = {'a0' * 16}\n" for i in range(3))
    return {
        "whole": f"[ntske]\nhost = nts.example\nport = 4460\nca =\nverify = yes\n\n{place}\n{keys}\n{cookies}",
        "ancestor": place + keys.replace("aead = 15\n", "") + cookies,
        "comments": f"# mine\n[other]\nkeep = this\n  and this\n; note\n{place}{keys}{cookies}",
        "no-keys": place + cookies,
        "bad-hex": place + keys.replace("c2", "xy") + cookies,
        "bad-port": place.replace("4123", "65536") + keys,
        "number-too-long-for-int": place.replace("4123", "1" * 5000) + keys,
        "no-section": "server = 192.0.2.1\n",
        "twice": place + place,
    }


def _decode() -> dict[str, dict[str, bytes]]:
    """Those of the decoder's targets."""
    answered, ntp = answer(REQUEST.encode()), ("192.0.2.2", 123)
    response = NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(5, REQUEST.cookie, critical=False) + END
    session = captures.made_session(GOOD_REQUEST, response, update=True)
    datagrams = [captures.udp(captures.CLIENT, ntp, REQUEST.encode()), captures.udp(ntp, captures.CLIENT, answered)]
    ethernet = [captures.frame(packet) for packet in captures.packets(session.flights)[:2] + datagrams]
    cooked = [captures.frame(packet, captures.SLL2) for packet in captures.packets(session.flights, mss=400)]
    (_, hello), *_, (_, sent), (_, received) = session.flights
    rest = session.sent(True)[len(hello) :]
    return {
        "decode_capture": {
            "ntp": captures.pcap(ethernet),
            "ntp-ng": captures.pcapng(ethernet),
            "ntske": captures.pcap(cooked, captures.SLL2),
            "ipv6": captures.pcapng(
                captures.packets([(True, hello)], captures.CLIENT6, captures.SERVER6), captures.RAW
            ),
            "cut-off": captures.pcap(ethernet)[:-30],
            "length": captures.pcap([])[:24] + bytes(8) + b"\xf0\xff\xff\xff" * 2,
        },
        "decode_tls": {
            "good": bytes([-(-len(rest) // 32)]) + rest.ljust(-(-len(rest) // 32) * 32, b"\0") + received,
            "server": b"\0" + received,
            "client": b"\xff" + sent,
            "alert": b"\0\x15\3\3\0\2\2\x28",
        },
        "decode_message": {
            "request": REQUEST.encode(),
            "reply": answered,
            "placeholders": REQUEST.with_placeholders(2).encode(),
            "ke-request": GOOD_REQUEST,
            "ke-response": response,
            "ke-error": record(2, b"\0\1") + END,
        },
        "decode_keys": {
            "keylog": captures.KEYLOG.encode(),
            "chrony": b"NKS1\n1.5\n0000002A " + b"0b" * 16 + b" 30\n0000002B " + b"0c" * 32 + b" 15\n",
            "chrony-old": b"NKS0\n15 1.5\n0000002B " + b"0c" * 32 + b"\n",
            "control-character": b"I:\x1f70\nK: " + b"0c" * 32,
            "ntpsec": b"T: 1\nL: 32\nI: 7\nK: " + b"0c" * 32 + b"\n",
            "hex": b"0x0000:  " + GOOD_REQUEST.hex(" ", 2).encode() + b"\n\n8000 0000\n",
            "length": b"00000000  80 00 00 00  |....|\n00000004\x1f\n",
        },
    }


def main() -> None:
    for target, inputs in seeds().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, octets in inputs.items():
            (folder / name).write_bytes(octets)


if __name__ == "__main__":
    main()
