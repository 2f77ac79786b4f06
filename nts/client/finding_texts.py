# SPDX-License-Identifier: MIT
"""The findings of an explanation: what each means, in a sentence, and what to try.

A meaning claims no more than the wire tells. Where two causes look alike from here, it names both.
"""

from __future__ import annotations

from dataclasses import dataclass

from nts.base.errors import ExitCode

_OTHER_NETWORK = "try from another network: if it works there, this one is in the way"
_OTHER_PORT = "try from another network, and a server that uses another UDP port than 123"
_PORT = "check host and port: the registered one is 4460"
_CLOCK = (
    "check the clock (date -u) and set it; if you cannot, see --cert-time-tolerance; if it is right, tell the operator"
)

# Exit code, meaning, what to try. The caller of `finding` fills in what stands in braces.
FINDINGS: dict[str, tuple[ExitCode, str, str]] = {
    "ok": (
        ExitCode.OK,
        "the association works",
        "",
    ),
    "some-addresses": (
        ExitCode.OK,
        "the association works, but not with {unreached}: clients may lose time there before they try the next address",
        "see the steps above; -4 or -6 restricts the address family",
    ),
    "loss": (
        ExitCode.OK,
        "the association works, but not every request got an answer: packets get lost on the way, or the server "
        "limits how much it answers",
        "try again; if it stays so, try another server",
    ),
    "clock-wrong": (
        ExitCode.OK,
        "the server says that this machine's clock is {wrong}, and by its time its certificate is valid; whoever has "
        "got hold of the key of an old certificate could say so too",
        "set the clock, and do it again without --cert-time-tolerance",
    ),
    "name": (
        ExitCode.RESOLVE,
        "{error}: the name is wrong, or this machine cannot ask the DNS",
        "look up another name to tell which; {hint}",
    ),
    "refused": (
        ExitCode.CONNECT,
        "the machine is there, but no program listens on TCP port {port}: the server does not run or uses another "
        "port, or a firewall answers in its place",
        f"{_PORT}; does the server run?",
    ),
    "port-blocked": (
        ExitCode.CONNECT,
        "nothing answers on TCP port {port}: a firewall, on the way or this machine's own, drops it without a word, or "
        "the other machine is down",
        _OTHER_NETWORK,
    ),
    "prohibited": (
        ExitCode.CONNECT,
        "an error comes back: a firewall, on the way or this machine's own, prohibits TCP port {port}, or no machine "
        "has this address",
        _OTHER_NETWORK,
    ),
    "no-route": (
        ExitCode.CONNECT,
        "this machine has no route to the server: it has no network, or none of this address family",
        "check this machine's network; -4 or -6 restricts the address family",
    ),
    "not-tls": (
        ExitCode.TLS,
        "what answers on this port does not speak TLS{said}: it is another service, or a device on the way",
        _PORT,
    ),
    "old-tls": (
        ExitCode.TLS,
        "the other end has no TLS 1.3, which NTS needs: it is no NTS server, or a device on the way intercepts TLS",
        f"{_PORT}; {_OTHER_NETWORK}",
    ),
    "large-hello": (
        ExitCode.TLS,
        "a ClientHello of {octets} octets, which takes two segments, gets no answer, and one of {short} octets does: "
        "a device on the way (or the server) drops a ClientHello with a post-quantum group",
        "set the environment variable OPENSSL_CONF={config}, for X25519 alone; tell whoever runs the device",
    ),
    "tls-unsteady": (
        ExitCode.TLS,
        "the first handshake got no answer, later ones did: the server is busy, or packets get lost on the way",
        "try again",
    ),
    "tls-silent": (
        ExitCode.TLS,
        "TCP connects, but a ClientHello gets no answer, however short: the server hangs or does not speak TLS, or a "
        "device on the way drops TLS or long packets",
        f"{_PORT}; {_OTHER_NETWORK}",
    ),
    "tls-closed": (
        ExitCode.TLS,
        "TCP connects, but a ClientHello ends the connection, however short: the server does not speak TLS or is too "
        "busy, or a device on the way cuts TLS off",
        f"{_PORT}; {_OTHER_NETWORK}",
    ),
    "tls-failed": (
        ExitCode.TLS,
        "the TLS handshake failed: {problem}",
        f"{_PORT}; the server needs TLS 1.3",
    ),
    "not-ntske": (
        ExitCode.ALPN,
        "the other end speaks TLS, but it {how} the protocol ntske/1: it is another service, or a device on the way "
        "intercepts TLS",
        f"{_PORT}; {_OTHER_NETWORK}",
    ),
    "untrusted": (
        ExitCode.CERTIFICATE,
        "the certificate comes from {issuer}, and not from {expected}: a device on the way intercepts TLS, or the "
        "server has a CA that is not known here{weight}",
        "ask the server's operator for its CA: if it is the one seen, name its file with -c; if not, try another "
        "network",
    ),
    "not-yet-valid": (
        ExitCode.CERTIFICATE,
        "the certificate is not valid yet ({seen}): the server uses it too early, or this machine's clock is {wrong}",
        _CLOCK,
    ),
    "expired": (
        ExitCode.CERTIFICATE,
        "the certificate has expired ({seen}): the operator has not renewed it, or this machine's clock is {wrong}",
        _CLOCK,
    ),
    "wrong-name": (
        ExitCode.CERTIFICATE,
        "the certificate is not for {name} ({seen}): the server has another name, or another server answers",
        "connect to a name in it, or give such a name with -n",
    ),
    "certificate": (
        ExitCode.CERTIFICATE,
        "the certificate is not acceptable: {check} ({seen})",
        "tell the operator",
    ),
    "records": (
        ExitCode.KE_RESPONSE,
        "{error}",
        "{hint}",
    ),
    "ntp-name": (
        ExitCode.RESOLVE,
        "{error}: the key exchange names a time server that is not in the DNS here",
        "{hint}",
    ),
    "ntp-refused": (
        ExitCode.NO_ANSWER,
        "the machine is there, but no program listens on UDP port {port}: the time server does not run, or a firewall"
        " answers in its place",
        "tell the operator: the key exchange sends clients there",
    ),
    "ntp-prohibited": (
        ExitCode.NO_ANSWER,
        "an error comes back ({reason}): a firewall, on the way or this machine's own, prohibits UDP port {port}, or "
        "no machine has this address",
        _OTHER_NETWORK,
    ),
    "ntp-blocked": (
        ExitCode.NO_ANSWER,
        "nothing answers on UDP port {port}, with NTS or without: a firewall on the way drops NTP, or the time server "
        "is down",
        _OTHER_NETWORK,
    ),
    "nts-filtered": (
        ExitCode.NO_ANSWER,
        "a request of 48 octets is answered, an NTS request of {vanishing} is not: a device on the way drops NTP "
        "packets by their size or by what is in them, or the server has no NTS on UDP port {port}",
        _OTHER_PORT,
    ),
    "size-limit": (
        ExitCode.NO_ANSWER,
        "NTS requests of up to {passing} octets are answered, those of {vanishing} are not: a device on the way, or "
        "the server, drops long ones, which clients send to replace lost cookies",
        _OTHER_PORT,
    ),
    "keys-lost": (
        ExitCode.NTS_NAK,
        "the time server cannot open cookies that its key exchange has just made (NTS NAK): it has rotated or lost "
        "its keys, or the two do not have the same ones",
        "try again in some minutes; if it stays so, tell the operator",
    ),
    "stripped": (
        ExitCode.NOT_AUTHENTIC,
        "the answer has no NTS in it: a device on the way strips extension fields or answers itself, or the server "
        "has no NTS on UDP port {port}",
        _OTHER_NETWORK,
    ),
    "altered": (
        ExitCode.NOT_AUTHENTIC,
        "answers come, but none is authentic ({reason}): something on the way alters or forges them, or the server "
        "has other keys",
        _OTHER_NETWORK,
    ),
    "mismatch": (
        ExitCode.MISMATCH,
        "an answer came, but not to our request ({reason}): it is old or forged",
        "try again",
    ),
    "kiss": (
        ExitCode.UNUSABLE_SERVER,
        "the time server sends us away: {reason}",
        "ask it less often, or another one",
    ),
    "unusable": (
        ExitCode.UNUSABLE_SERVER,
        "the time server answers, but {reason}",
        "wait, or use another server",
    ),
}


@dataclass(frozen=True)
class Finding:
    """What a whole explanation comes to."""

    id: str
    exit_code: ExitCode
    meaning: str
    """a sentence"""
    advice: str
    """what to try; may be empty"""


def finding(name: str, /, **values: object) -> Finding:
    """The finding of that name, filled in."""
    code, meaning, advice = FINDINGS[name]
    return Finding(name, code, meaning.format(**values), advice.format(**values).removesuffix("; "))
