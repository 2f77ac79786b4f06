# SPDX-License-Identifier: MIT
"""The numbers of RFC 8915 section 7 and of NTP, each with the section that defines it. Other modules import them."""

from __future__ import annotations

from enum import IntEnum

KE_PORT = 4460  # section 7.1
NTP_PORT = 123
ALPN = b"ntske/1"  # section 7.2
EXPORTER_LABEL = "EXPORTER-network-time-security"  # section 4.3

COOKIES_WANTED = 8  # sections 4.1.6 and 5.7: a server sends and a client stocks this many
MAX_PLACEHOLDERS = 7  # section 5.7
MIN_UNIQUE_ID = 32  # section 5.3, octets
ALIGNMENT_SLACK = 3  # section 5.5: octets by which padding may make a reply longer than its request
MAX_PACKET = 1232  # section 5.7: UDP payload of an unfragmented IPv6 packet of 1280 octets
MAX_COOKIE = MAX_PACKET - 128  # header 48, identifier 36, authenticator 40, the cookie's field header 4


class RecordType(IntEnum):
    """NTS-KE record types (section 4.1)."""

    END_OF_MESSAGE = 0  # 4.1.1
    NEXT_PROTOCOL = 1  # 4.1.2
    ERROR = 2  # 4.1.3
    WARNING = 3  # 4.1.4
    AEAD_ALGORITHM = 4  # 4.1.5
    NEW_COOKIE = 5  # 4.1.6
    SERVER = 6  # 4.1.7
    PORT = 7  # 4.1.8
    COMPLIANT_CONTEXT = 1024  # IANA registry, by chrony: the exporter's context holds AEAD 30 itself instead of 15


RECORD_NAMES: dict[int, str] = {
    RecordType.END_OF_MESSAGE: "End of Message",
    RecordType.NEXT_PROTOCOL: "NTS Next Protocol Negotiation",
    RecordType.ERROR: "Error",
    RecordType.WARNING: "Warning",
    RecordType.AEAD_ALGORITHM: "AEAD Algorithm Negotiation",
    RecordType.NEW_COOKIE: "New Cookie for NTPv4",
    RecordType.SERVER: "NTPv4 Server Negotiation",
    RecordType.PORT: "NTPv4 Port Negotiation",
    RecordType.COMPLIANT_CONTEXT: "Compliant AES-128-GCM-SIV Exporter Context",
}


class Protocol(IntEnum):
    """Next protocols (section 7.7)."""

    NTPV4 = 0


class ErrorCode(IntEnum):
    """NTS-KE error codes (section 4.1.3)."""

    UNRECOGNIZED_CRITICAL_RECORD = 0
    BAD_REQUEST = 1
    INTERNAL_SERVER_ERROR = 2


ERROR_NAMES: dict[int, str] = {
    ErrorCode.UNRECOGNIZED_CRITICAL_RECORD: "Unrecognized Critical Record",
    ErrorCode.BAD_REQUEST: "Bad Request",
    ErrorCode.INTERNAL_SERVER_ERROR: "Internal Server Error",
}


class AeadId(IntEnum):
    """AEAD algorithms (RFC 5297 section 6, RFC 8452 section 6). `codec.aead` lists those that the suite supports."""

    AES_SIV_CMAC_256 = 15
    AES_SIV_CMAC_384 = 16
    AES_SIV_CMAC_512 = 17
    AES_128_GCM_SIV = 30
    AES_256_GCM_SIV = 31


AEAD_NAMES: dict[int, str] = {a: f"AEAD_{a.name}" for a in AeadId}


ALERT_NAMES: dict[int, str] = {  # TLS alerts (RFC 8446 section 6)
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
    42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
    46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
    51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
    86: "inappropriate_fallback", 109: "missing_extension", 110: "unsupported_extension", 112: "unrecognized_name",
    115: "unknown_psk_identity", 116: "certificate_required", 120: "no_application_protocol",
}  # fmt: skip
ALERT_CLOSE_NOTIFY, ALERT_NO_APPLICATION_PROTOCOL = 0, 120


class Direction(IntEnum):
    """The last octet of the exporter context (section 5.1)."""

    C2S = 0
    S2C = 1


class FieldType(IntEnum):
    """NTP extension field types (sections 5.3 to 5.6)."""

    UNIQUE_IDENTIFIER = 0x0104
    COOKIE = 0x0204
    COOKIE_PLACEHOLDER = 0x0304
    AUTHENTICATOR = 0x0404


# The fields that make a packet an NTS packet, which is stricter than having a name here.
NTS_FIELDS = (FieldType.UNIQUE_IDENTIFIER, FieldType.COOKIE, FieldType.COOKIE_PLACEHOLDER, FieldType.AUTHENTICATOR)


class Leap(IntEnum):
    """The leap indicator (RFC 5905 section 7.3)."""

    NONE = 0
    INSERT = 1
    DELETE = 2
    UNSYNCHRONISED = 3


class Mode(IntEnum):
    """Association modes (RFC 5905 section 7.3): the two that the suite supports."""

    CLIENT = 3
    SERVER = 4


class Stratum(IntEnum):
    """Special values of the stratum field (RFC 5905 section 7.3)."""

    KISS = 0
    MAX_SYNCHRONISED = 15
    UNSYNCHRONISED = 16


FIELD_NAMES: dict[int, str] = {
    FieldType.UNIQUE_IDENTIFIER: "Unique Identifier",
    FieldType.COOKIE: "NTS Cookie",
    FieldType.COOKIE_PLACEHOLDER: "NTS Cookie Placeholder",
    FieldType.AUTHENTICATOR: "NTS Authenticator and Encrypted Extension Fields",
}


KISS_RATE = b"RATE"  # RFC 5905 section 7.4
KISS_NTSN = b"NTSN"  # section 7.4: NTS NAK
