# SPDX-License-Identifier: MIT
"""What a report tells about a server before it judges it. Pure: the probe fills it in, outputs show it.

`dataclasses.asdict` of `Facts` is the member `facts` of the JSON. None is for what is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class KeFacts:
    """The NTS-KE server, and its TLS."""

    host: str
    port: int
    addresses: tuple[str, ...] | None = None
    """all that the name has, in the order in which they would be tried"""
    tls_version: str | None = None
    group: str | None = None
    """of the TLS key exchange, by OpenSSL's name"""
    post_quantum: bool | None = None
    """whether that group withstands a quantum computer"""
    cipher: str | None = None


@dataclass(frozen=True)
class CertificateFacts:
    """The server's certificate, whether it is acceptable or not."""

    subject: str | None = None
    names: tuple[str, ...] | None = None
    """DNS names and IP addresses"""
    issuer: str | None = None
    not_before: str | None = None
    """UTC, as the two below and in the report"""
    not_after: str | None = None
    days_left: float | None = None
    """below 0 once it has expired"""


@dataclass(frozen=True)
class NtsFacts:
    """What a key exchange gives."""

    aeads: tuple[int, ...] | None = None
    """in the server's order of preference if `preference` is "server"; otherwise by number"""
    preference: str | None = None
    """who decides between two algorithms: "server" or "client"; None: there is only one, or it was not seen"""
    cookies: int | None = None
    cookie_length: int | None = None
    """octets, for AEAD 15; None if cookies differ in length"""
    record_order: tuple[int, ...] | None = None
    """the types in the response, with New Cookie (5) once for all that follow one another"""


@dataclass(frozen=True)
class NtpFacts:
    """The time server that the key exchange names."""

    address: str | None = None
    port: int | None = None
    stratum: int | None = None
    refid: str | None = None
    root_distance_s: float | None = None
    """half of the root delay and the root dispersion, as the server tells them"""
    offset_s: float | None = None
    """how far the server's clock is ahead of ours"""
    offset_bound_s: float | None = None
    """the offset is wrong by no more than this, if the server is right about itself"""
    processing_s: float | None = None
    """from the receive to the transmit timestamp"""
    plain: dict[str, bool | None] = field(default_factory=lambda: {"3": None, "4": None})
    """whether requests without NTS are served, by NTP version"""


@dataclass(frozen=True)
class Implementation:
    """Which software it seems to be; no name without evidence."""

    name: str | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """The fact sheet."""

    ke: KeFacts
    certificate: CertificateFacts = CertificateFacts()
    nts: NtsFacts = NtsFacts()
    ntp: NtpFacts = field(default_factory=NtpFacts)
    implementation: Implementation = Implementation()
