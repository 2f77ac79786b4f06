# SPDX-License-Identifier: MIT
"""What to do about a finding: a table by check, then by implementation. Pure.

`any` is what the server must do. The others are what to change in chrony, ntpd-rs and NTPsec, as the sources of their
versions up to 4.8, 1.9.0 and 1.2.5 say. One that is missing is not known to fail there.
"""

from __future__ import annotations

from nts.check.model import Grade

ANY = "any"
IMPLEMENTATIONS = ("chrony", "ntpd-rs", "NTPsec")

_CHRONY, _NTPD_RS, _NTPSEC = (f"No option changes it, up to {v}." for v in ("4.8", "1.9.0", "1.2.5"))
_SILENT = "Send Error 1 and End of Message before closing."
_SILENT_IN = {
    "chrony": f"It closes without a word. {_CHRONY}", "ntpd-rs": f"It closes without a word. {_NTPD_RS}",
    "NTPsec": f"It has no Error records. {_NTPSEC}",
}  # fmt: skip
_ONE_NPN = {"NTPsec": f"It answers anyway, as it does not count records. {_NTPSEC}"}
_ALPN = {
    ANY: "Refuse the handshake with alert 120 (no_application_protocol) unless the client offers ntske/1.",
    "NTPsec": f"It goes on without ALPN. {_NTPSEC}",
}  # fmt: skip

PATH = "Find where packets get lost: compare from another network, and look at firewalls and providers that filter UDP."
"""about packets that vanish on the way, whatever the check"""

NONE = (Grade.PASS, Grade.SKIP)
"""verdicts that need no remedy"""

REMEDIES: dict[str, dict[str, str]] = {
    "tls13-only": {
        ANY: "Set TLS 1.3 as the lowest version.",
        "NTPsec": "Remove `mintls` from the line `nts`, or set it to TLS1.3.",
    },
    "alpn-select": {ANY: "Select ntske/1 wherever it is in the client's list."},
    "alpn-absent": {**_ALPN, "ntpd-rs": f"It goes on without ALPN. {_NTPD_RS}"},
    "alpn-wrong": _ALPN,
    "cert-chain": {
        ANY: "Renew the certificate in time, for the name that clients use, and send the intermediate ones with it.",
        "chrony": "Put the whole chain into `ntsservercert`, and restart chronyd after each renewal.",
        "ntpd-rs": "Put the whole chain into `certificate-chain-path`, and restart the daemon after each renewal.",
        "NTPsec": "Put the whole chain into `nts cert`; it takes a new one within the hour, or on SIGHUP.",
    },
    "ke-basic": {ANY: "Answer with NTPv4, one algorithm, cookies and End of Message, with critical bits as required."},
    "ke-order": {ANY: "Read all records before judging any."},
    "ke-cookie-count": {ANY: "Send eight cookies, each sealed anew, in records that are not critical."},
    "ke-cookie-shape": {ANY: "Make cookies of one length, a multiple of 4, of at most 256 octets."},
    "ke-close-notify": {ANY: "Shut TLS down after the response; do not just close the socket."},
    "ke-segmented": {
        ANY: "Collect octets until End of Message, however TLS cuts them up.",
        "NTPsec": "Upgrade to 1.2.5, which reads on.",
    },
    "ke-1024": {ANY: "Accept requests of 1024 octets at least."},
    "ke-noncrit-unknown": {ANY: "Skip unknown records that are not critical; use all 15 bits of the type."},
    "ke-crit-unknown": {ANY: "Answer Error 0 and End of Message.", "NTPsec": f"It has no Error records. {_NTPSEC}"},
    "ke-no-npn": {ANY: "Answer Error 1 unless there is exactly one Next Protocol record.", **_ONE_NPN},
    "ke-no-aead": {ANY: "Answer Error 1 unless there is exactly one AEAD record.", **_ONE_NPN},
    "ke-dup-npn": {ANY: "Answer Error 1 unless there is exactly one Next Protocol record.", **_ONE_NPN},
    "ke-dup-aead": {ANY: "Answer Error 1 unless there is exactly one AEAD record.", **_ONE_NPN},
    "ke-npn-malformed": {
        ANY: "Answer Error 1 if the record is not critical, empty or of odd length.",
        "ntpd-rs": f"It does not look at the critical bit, and to other errors has Error 0 or no answer. {_NTPD_RS}",
        "NTPsec": f"It does not look at the critical bit, and has no Error records. {_NTPSEC}",
    },
    "ke-aead-malformed": {
        ANY: "Answer Error 1 if the record is empty or of odd length.",
        "ntpd-rs": f"It answers Error 0 before 1.7.0, and closes without a word since. {_NTPD_RS}",
        "NTPsec": f"It has no Error records. {_NTPSEC}",
    },
    "ke-eom-malformed": {
        ANY: "Answer Error 1 if End of Message is not critical, not empty, or not the last record.",
        **_SILENT_IN,
        "ntpd-rs": f"It accepts an End of Message that is not critical, or has a body. {_NTPD_RS}",
    },
    "ke-truncated": {
        ANY: _SILENT, **_SILENT_IN,
        "NTPsec": "Upgrade to 1.2.5, which does not answer them. It has no Error records.",
    },
    "ke-silence": {ANY: _SILENT, **_SILENT_IN},
    "ke-client-forbidden": {
        ANY: "Answer Error 1 to Error, Warning and New Cookie records of clients.",
        "ntpd-rs": "Upgrade to 1.7.0, which refuses them.",
        "NTPsec": f"It skips those that are not critical, and has no Error records. {_NTPSEC}",
    },
    "ke-proto-unknown": {
        ANY: "Answer with an empty Next Protocol list.",
        "ntpd-rs": "Upgrade to 1.7.0, which answers with an empty list.",
        "NTPsec": f"It closes. {_NTPSEC}",
    },
    "ke-proto-mixed": {
        ANY: "Pick NTPv4 out of the list, and skip protocols that are unknown.",
        "NTPsec": f"It takes lists of one protocol only. {_NTPSEC}",
    },
    "ke-aead-unknown": {
        ANY: "Answer with NTPv4 and an empty AEAD list; never with an algorithm that was not offered.",
        "ntpd-rs": "Upgrade to 1.7.0, which answers with an empty list.",
        "NTPsec": f"It takes AEAD 15, or the one of `nts aead`, all the same. {_NTPSEC}",
    },
    "ke-aead-15-last": {
        ANY: "Read the whole list of algorithms, however long it is, and speak AEAD 15.",
        "chrony": f"Keep 15 in `ntsaeads`. It reads the first 128 algorithms only. {_CHRONY}",
    },
    "ke-aead-menu": {
        ANY: "Speak AEAD 15 at least, and choose only what is offered.",
        "chrony": "Keep 15 in `ntsaeads`.",
        "ntpd-rs": "Upgrade to 1.7.0, which answers with an empty list where it knows none.",
        "NTPsec": f"It answers with AEAD 15 whatever is offered. {_NTPSEC}",
    },
    "ke-1024-record": {
        ANY: "Put 30 into the exporter context of AEAD 30, and confirm record 1024.",
        "chrony": "Upgrade to 4.6.1, where clients can ask for the right context; or disable AEAD 30 by `ntsaeads 15`.",
    },
    "ke-server-port": {
        ANY: "Name the time server by an address of the client's family, or by a full domain name that has one.",
        "chrony": "Correct `ntsntpserver`, or leave it out if the time server has the same address.",
        "ntpd-rs": "Correct `ntp-server` and `ntp-port`, or leave them out.",
        "NTPsec": "Correct `nts port` or `extra port`.",
    },
    "ke-second-request": {ANY: "Answer one request on a connection, then close it."},
    "ntp-basic": {
        ANY: "Return the identifier and the origin timestamp, a fresh encrypted cookie, and the time of a clock that is"
        " synchronised.",
        "chrony": "If the clock is not synchronised: add sources, or `local` on purpose.",
        "ntpd-rs": "If the clock is not synchronised: add sources, or set `local-stratum` on purpose.",
        "NTPsec": "If the clock is not synchronised: add sources, or `refclock local` on purpose.",
    },
    "ntp-no-amplify": {ANY: "Let no reply be longer than its request."},
    "ntp-placeholders": {
        ANY: "Send one cookie more than there are placeholders, up to eight.",
        "ntpd-rs": f"It counts the identifier too, and sends seven of eight. {_NTPD_RS}",
    },
    "ntp-placeholder-badlen": {
        ANY: "Ignore placeholders that are not as long as the cookie, or the whole request.",
        "ntpd-rs": f"It takes those that are longer than the cookie. {_NTPD_RS}",
    },
    "ntp-placeholder-ff": {
        ANY: "Do not look at what is in a placeholder.",
        "ntpd-rs": f"It drops requests with placeholders that are not zero. {_NTPD_RS}",
    },
    "ntp-placeholder-encrypted": {
        ANY: "Count encrypted placeholders too.",
        "NTPsec": f"It drops requests with encrypted fields. {_NTPSEC}",
    },
    "ntp-cookie-chain": {ANY: "Accept the cookies of your own replies, and seal each with a new nonce."},
    "ntp-replay-address": {ANY: "Keep no state about clients: a cookie is good from any address, more than once."},
    "nak-badtag": {
        ANY: "Answer with NTSN, the request's identifier, and nothing more.",
        "NTPsec": f"It is silent. {_NTPSEC}",
    },
    "nak-badcookie": {
        ANY: "Answer with NTSN, the request's identifier, and nothing more.",
        "NTPsec": f"It is silent. {_NTPSEC}",
    },
    "ntp-bitflip-sweep": {ANY: "Verify the authenticator over all octets before it, and give time to nobody else."},
    "ntp-key-swap": {ANY: "Verify requests with the C2S key and seal replies with the S2C key; never mix them."},
    "ntp-nonce-shapes": {
        ANY: "Take nonces of any length that the algorithm allows, and Additional Padding.",
        "NTPsec": f"It takes nothing but a nonce and a tag of 16 octets each. {_NTPSEC}",
    },
    "ntp-nonce-short-nopad": {ANY: "Drop requests whose nonce and padding are shorter than section 5.6 wants."},
    "ntp-ef-placement": {
        ANY: "Skip unknown fields before the authenticator, in it and after it.",
        "chrony": f"It drops requests with a field after the authenticator. {_CHRONY}",
        "NTPsec": f"Upgrade to 1.2.5 for those before. It drops requests with others. {_NTPSEC}",
    },
    "ntp-cardinality": {
        ANY: "Drop requests without exactly one identifier, one cookie and one authenticator.",
        "chrony": f"It answers requests with two identifiers. {_CHRONY}",
        "ntpd-rs": f"It does not insist on an identifier. {_NTPD_RS}",
        "NTPsec": f"It does not insist on an identifier. {_NTPSEC}",
    },
    "ntp-uid-lengths": {
        ANY: "Take identifiers of 32 octets and more, and return them whole.",
        "NTPsec": f"It takes 64 octets at most. {_NTPSEC}",
    },
    "ntp-modes-versions": {
        ANY: "Answer mode 3 alone; NTS only in version 4.",
        "ntpd-rs": "Upgrade to 1.6.2, which answers mode 3 alone.",
        "NTPsec": "Put `noquery` into `restrict default` if it answers mode 6.",
    },
    "ntp-malformed-sweep": {ANY: "Check every length before reading on, and drop the packet if one is wrong."},
    "ntp-plain": {
        ANY: "Answer in the client's version. If only long packets vanish, look for a filter.",
        "chrony": "Packets with over 1024 octets of fields are dropped, which no client needs. Use `port` or AEAD 30"
        " (`ntsaeads 30 15`, from 4.4) to get past filters.",
        "ntpd-rs": "Leave out `require-nts` if clients without NTS are to be served.",
        "NTPsec": "Use `nts port` (from 1.2.4) to get past filters of port 123.",
    },
    "ntp-answers": {
        ANY: "Start the time server, open its UDP port, and let it open the cookies of the key exchange.",
        "chrony": "Add `allow`, and see `port`. If the time server is another machine: copy `ntskeys` there, with"
        " `ntsrotate 0`.",
        "ntpd-rs": "Add a section `[[server]]`. It cannot share keys with another machine.",
        "NTPsec": "See `restrict`: `limited` silences clients that ask often. If the time server is another machine:"
        " copy `nts-keys` there.",
    },
    "ntp-aeads": {ANY: "Export and use the keys of each algorithm by itself."},
    "cookie-opaque": {ANY: "Encrypt the keys in cookies by an AEAD with a secret key."},
    "ntp-nonce-fresh": {ANY: "Draw every nonce from the system's random source."},
    "ntp-time": {
        ANY: "Take timestamps from a synchronised clock: one when the request comes, one when the reply leaves.",
    },
}  # fmt: skip


def remedy(name: str, grade: Grade) -> dict[str, str] | None:
    """The remedy for what a check found, by implementation. None: nothing to mend, or it is a client's case."""
    if grade in NONE or name not in REMEDIES:
        return None
    return {ANY: PATH} if grade is Grade.PATH else REMEDIES[name]


def told(remedies: dict[str, str] | None, software: str | None) -> list[tuple[str, str]]:
    """The remedies for a person, each with its label: in general, then for this software (None: for all)."""
    if remedies is None:
        return []
    wanted = [software] if software else IMPLEMENTATIONS
    return [("remedy", remedies[ANY]), *((name, remedies[name]) for name in wanted if name in remedies)]
