# SPDX-License-Identifier: MIT
"""The NTS-KE server as a pure function: every rule for a request, and the exact octets of each response."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.codec import cookies
from nts.codec.aead import Aead
from nts.codec.keyring import CookieFormat, KeyRing
from nts.codec.records import MessageReader
from nts.protocol.ke_server import KeServer, Outcome, Verdict
from testkit.packets import CURRENT_KEY, RING, Counter, bounded, exporter, message_of, respond, session_keys, u16s
from testkit.packets import Request as NtsRequest
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record, split_records

ALL_AEADS = (Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_512, Aead.AES_SIV_CMAC_384)
ERROR_0, ERROR_1, ERROR_2 = (record(2, bytes([0, code])) + END for code in range(3))
ADDRESS = "192.0.2.7"


def ask(
    octets: bytes, server: KeServer | None = None, *, ring: KeyRing = RING, address: str = ADDRESS,
    seed: object = "session",
) -> Outcome:  # fmt: skip
    return (server or KeServer(ALL_AEADS)).answer(
        message_of(octets),
        local_address=address,
        ring=ring,
        export=exporter(seed),
        random=Counter("cookies"),
    )


def npn(*protocols: int) -> bytes:
    return record(1, u16s(protocols))


def aead(*algorithms: int, critical: bool = True) -> bytes:
    return record(4, u16s(algorithms), critical=critical)


def granted(octets: bytes) -> list[tuple[int, bool, bytes]]:
    """The records of a response but for its cookies."""
    return [r for r in split_records(octets) if r[0] != 5]


AGREED_15 = [(1, True, b"\0\0"), (4, True, b"\0\x0f"), (0, True, b"")]
PADDING = record(0x3FFF, bytes(1024 - len(GOOD_REQUEST) - 4), critical=False)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(GOOD_REQUEST, id="6-basic"),
        pytest.param(AEAD_15 + NEXT_PROTOCOL_NTPV4 + END, id="7-order"),
        pytest.param(PADDING + GOOD_REQUEST, id="12-1024-octets"),
        pytest.param(record(0x3FFF, b"odd", critical=False) + GOOD_REQUEST, id="13-unknown"),
        pytest.param(record(0x0801, b"x", critical=False) + GOOD_REQUEST, id="13-aliased-0801"),
        pytest.param(record(0x4001, b"", critical=False) + GOOD_REQUEST, id="13-aliased-4001"),
        pytest.param(record(0x7FFF, b"", critical=False) + GOOD_REQUEST, id="13-last-type"),
        pytest.param(record(1024, b"", critical=False) + GOOD_REQUEST, id="compliant-context"),
        pytest.param(record(1024) + GOOD_REQUEST, id="compliant-context-critical"),
        pytest.param(record(0x3FFF, b"", critical=False) * 2 + GOOD_REQUEST, id="unknown-twice"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + aead(15, critical=False) + END, id="aead-not-critical"),
        pytest.param(npn(0x7777, 0) + AEAD_15 + END, id="26-protocols-mixed"),
        pytest.param(npn(0, 0x8001) + AEAD_15 + END, id="26-ntpv5-too"),
        pytest.param(npn(0, 0) + AEAD_15 + END, id="protocol-listed-twice"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + aead(*[0xFFF0] * 399, 15) + END, id="28-aead-15-last-of-400"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + aead(30, 31, 15) + END, id="aead-15-last"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + aead(15, 30, 31) + END, id="aead-15-first"),
        pytest.param(record(6, b"ntp.example") + record(7, b"\0\x7b") + GOOD_REQUEST, id="wishes-not-met"),
        pytest.param(record(6, b"ntp.example", critical=False) + GOOD_REQUEST, id="wish-not-critical"),
        pytest.param(record(6, b"\xff\0 [::1]") + GOOD_REQUEST, id="wish-malformed"),
        pytest.param(record(7, b"\0\0") + GOOD_REQUEST, id="wish-port-zero"),
    ],
)
def test_a_good_request_is_granted_exactly_what_it_asks_for(request_: bytes) -> None:
    """A12, A13, A16, A25, A27, A36: NPN[0], AEAD[15], cookies, End of Message, and no other record."""
    outcome = ask(request_)
    assert (outcome.verdict, outcome.aead) == (Verdict.AGREED, Aead.AES_SIV_CMAC_256)
    assert granted(outcome.response) == AGREED_15


def test_the_1024_octet_request_has_1024_octets() -> None:
    """A10."""
    assert len(PADDING + GOOD_REQUEST) == 1024


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(record(0x3FFF) + GOOD_REQUEST, id="14-first"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0x3FFF, b"x") + END, id="14-last"),
        pytest.param(record(8) + GOOD_REQUEST, id="first-unassigned"),
    ],
)
def test_an_unknown_critical_record_is_answered_with_error_0(request_: bytes) -> None:
    """A13, A20."""
    assert ask(request_) == Outcome(Verdict.UNKNOWN_CRITICAL, ERROR_0)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(END, id="empty"),
        pytest.param(AEAD_15 + END, id="15-no-npn"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + END, id="16-no-aead"),
        pytest.param(NEXT_PROTOCOL_NTPV4 * 2 + AEAD_15 + END, id="17-dup-npn"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + AEAD_15 * 2 + END, id="18-dup-aead"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + AEAD_15 + aead(17) + END, id="18-other-aead"),
        pytest.param(record(1, b"\0\0\0") + AEAD_15 + END, id="19-npn-odd"),
        pytest.param(record(1, b"\0") + AEAD_15 + END, id="19-npn-one-octet"),
        pytest.param(npn() + AEAD_15 + END, id="19-npn-empty"),
        pytest.param(record(1, b"\0\0", critical=False) + AEAD_15 + END, id="19-npn-not-critical"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x0f\0") + END, id="20-aead-odd"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + aead() + END, id="20-aead-empty"),
        pytest.param(npn(0x7777) + aead() + END, id="20-aead-empty-without-ntpv4"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, critical=False), id="21-eom-not-critical"),
        pytest.param(NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(0, b"x"), id="21-eom-body"),
        pytest.param(GOOD_REQUEST + record(0x3FFF, critical=False), id="21-trailing-record"),
        pytest.param(GOOD_REQUEST + END, id="21-eom-twice"),
        pytest.param(GOOD_REQUEST * 2, id="32-two-requests-at-once"),
        pytest.param(GOOD_REQUEST + b"\0", id="21-trailing-octet"),
        pytest.param(record(2, b"\0\0") + GOOD_REQUEST, id="24-error"),
        pytest.param(record(2, b"\0\0", critical=False) + GOOD_REQUEST, id="24-error-not-critical"),
        pytest.param(record(3, b"\0\0") + GOOD_REQUEST, id="24-warning"),
        pytest.param(record(5, bytes(100), critical=False) + GOOD_REQUEST, id="24-cookie"),
        pytest.param(record(6, b"a.example") * 2 + GOOD_REQUEST, id="server-twice"),
        pytest.param(record(7, b"\0\x7b") * 2 + GOOD_REQUEST, id="port-twice"),
        pytest.param(record(7, b"\x7b") + GOOD_REQUEST, id="port-one-octet"),
        pytest.param(record(7, b"\0\0\x7b") + GOOD_REQUEST, id="port-three-octets"),
    ],
)
def test_a_bad_request_is_answered_with_error_1(request_: bytes) -> None:
    """A09, A14, A18, A21, A25, A34, A37."""
    assert ask(request_) == Outcome(Verdict.BAD_REQUEST, ERROR_1)


@pytest.mark.parametrize(
    ("verdict", "response"),
    [
        (Verdict.TRUNCATED, ERROR_1),
        (Verdict.TIMED_OUT, ERROR_1),
        (Verdict.BAD_REQUEST, ERROR_1),
        (Verdict.UNKNOWN_CRITICAL, ERROR_0),
        (Verdict.NO_MASTER_KEY, ERROR_2),
    ],
)
def test_each_failure_has_its_error_response(verdict: Verdict, response: bytes) -> None:
    """A20, A21, A22, check 22: Error and End of Message alone; the exact octets."""
    assert KeServer(ALL_AEADS).fail(verdict) == Outcome(verdict, response)
    assert response == bytes.fromhex("8002 0002 00") + response[5:6] + bytes.fromhex("8000 0000")


def test_without_a_master_key_the_answer_is_error_2() -> None:
    """A22."""
    assert ask(GOOD_REQUEST, ring=KeyRing()) == Outcome(Verdict.NO_MASTER_KEY, ERROR_2)


def test_a_request_for_unknown_protocols_alone_gets_an_empty_list() -> None:
    """A16, check 25: no cookies, and no AEAD record is due."""
    for request in (npn(0x7777) + END, npn(0x7777, 0x8001) + AEAD_15 + END):
        assert ask(request) == Outcome(Verdict.NO_PROTOCOL, npn() + END)


@pytest.mark.parametrize("offered", [(0xFFF0,), (30, 31), (0, 1, 14, 18)])
def test_a_request_for_unknown_algorithms_alone_gets_an_empty_list(offered: tuple[int, ...]) -> None:
    """A26, A29, check 27: no cookies, and never an algorithm that was not offered."""
    outcome = ask(NEXT_PROTOCOL_NTPV4 + aead(*offered) + END)
    assert outcome == Outcome(Verdict.NO_AEAD, NEXT_PROTOCOL_NTPV4 + aead() + END)


@pytest.mark.parametrize(
    ("preference", "offered", "chosen"),
    [
        ((15, 17, 16), (17, 16, 15), 15),
        ((15, 17, 16), (16, 17), 17),
        ((17, 16, 15), (15, 16, 17), 17),
        ((16, 15), (17, 15, 16), 16),
        ((15,), (17, 16, 15), 15),
        ((17, 15), (16, 15), 15),
    ],
)
def test_the_server_chooses_by_its_own_preference(
    preference: tuple[int, ...], offered: tuple[int, ...], chosen: int
) -> None:
    """A25, A26: one algorithm, one that was offered; the session keys and the cookies are for it."""
    outcome = ask(NEXT_PROTOCOL_NTPV4 + aead(*offered) + END, KeServer(tuple(map(Aead, preference))))
    assert outcome.aead == chosen
    assert [body for kind, _, body in split_records(outcome.response) if kind == 4] == [u16s([chosen])]
    for kind, _, body in split_records(outcome.response):
        assert kind != 5 or cookies.open_cookie(RING, body) == (session_keys(Aead(chosen)),)


@pytest.mark.parametrize("algorithm", Aead)
def test_eight_distinct_cookies_that_the_time_server_takes(algorithm: Aead) -> None:
    """A29, A92, checks 8 and 9: not critical, one length, a multiple of four, of the current key, and good for time."""
    outcome = ask(NEXT_PROTOCOL_NTPV4 + aead(algorithm) + END, KeServer(tuple(Aead)))
    found = [(critical, body) for kind, critical, body in split_records(outcome.response) if kind == 5]
    assert len({body for _, body in found}) == len(found) == 8
    for critical, body in found:
        assert not critical
        assert len(body) == len(found[0][1])
        assert len(body) % 4 == 0
        assert body[:2] == CURRENT_KEY.id.to_bytes(2, "big")
        request = NtsRequest(keys=session_keys(algorithm), cookies=(body,))
        assert respond(request.encode()).verdict.name == "ANSWERED_NTS"


def test_the_response_is_short_enough_for_old_clients() -> None:
    """At most 2048 octets for AEAD 15, even with the longest server name: older NTPsec clients read no further."""
    name = ".".join(["a" * 49] * 5)
    outcome = ask(GOOD_REQUEST, KeServer(ALL_AEADS, name, 4123))
    assert (6, True, name.encode()) in split_records(outcome.response)
    assert len(outcome.response) <= 2048


@pytest.mark.parametrize(
    ("server", "port", "expected"),
    [
        ("", 123, []),
        ("", 4123, [(7, True, b"\x10\x1b")]),
        ("ntp.example", 123, [(6, True, b"ntp.example")]),
        ("2001:db8::1", 4123, [(6, True, b"2001:db8::1"), (7, True, b"\x10\x1b")]),
    ],
)
def test_server_and_port_are_sent_only_where_they_differ_from_the_default(
    server: str, port: int, expected: list[tuple[int, bool, bytes]]
) -> None:
    """A31, A34, A36, A37, check 31."""
    outcome = ask(GOOD_REQUEST, KeServer(ALL_AEADS, server, port))
    assert granted(outcome.response) == [*AGREED_15[:2], *expected, *AGREED_15[2:]]


@pytest.mark.parametrize(
    ("wish", "address", "advertised", "confirmed"),
    [
        ("192.0.2.7", "192.0.2.7", "", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1", "", "2001:db8::1"),
        ("192.0.2.8", "192.0.2.7", "", None),
        ("2001:db8::1", "192.0.2.7", "", None),
        ("ntp.example", "192.0.2.7", "", None),
        ("192.0.2.7", "192.0.2.7", "ntp.example", "ntp.example"),
    ],
)
def test_a_wish_for_our_own_address_is_confirmed(
    wish: str, address: str, advertised: str, confirmed: str | None
) -> None:
    """A35, check 31: but a configured time server comes first, and a wish that cannot be met goes without an answer."""
    outcome = ask(record(6, wish.encode()) + GOOD_REQUEST, KeServer(ALL_AEADS, advertised), address=address)
    servers = [body.decode() for kind, _, body in split_records(outcome.response) if kind == 6]
    assert servers == ([confirmed] if confirmed else [])


@pytest.mark.parametrize("wish", ["2001:DB8::1", "2001:db8:0:0::1", "2001:0db8::0001"])
def test_a_wish_for_our_own_address_in_another_spelling_is_confirmed(wish: str) -> None:
    """A35: RFC 4291 allows many spellings of an IPv6 address."""
    outcome = ask(record(6, wish.encode()) + GOOD_REQUEST, address="2001:db8::1")
    assert [body for kind, _, body in split_records(outcome.response) if kind == 6] == [b"2001:db8::1"]


def test_the_keys_are_exported_once_and_only_on_agreement() -> None:
    """A41: no key material without need."""
    exported: list[bytes] = []

    def export(context: bytes, length: int) -> bytes:
        exported.append(context)
        return bytes(length)

    for request in (npn(0x7777) + END, NEXT_PROTOCOL_NTPV4 + aead(30) + END, END, GOOD_REQUEST):
        KeServer(ALL_AEADS).answer(
            message_of(request), local_address=ADDRESS, ring=RING, export=export, random=Counter()
        )
    assert exported == [bytes([0, 0, 0, 15, 0]), bytes([0, 0, 0, 15, 1])]


# --- AEAD 30, and which exporter context the client uses -------------------------------------------------------------

GCM_SIV_REQUEST = NEXT_PROTOCOL_NTPV4 + aead(30)
COMPLIANT_CONTEXT = record(1024, b"", critical=False)
BOTH_CONTEXTS = tuple(session_keys(Aead.AES_128_GCM_SIV, context=c) for c in (30, 15))


@pytest.mark.parametrize(
    ("asked", "contents"), [(COMPLIANT_CONTEXT, BOTH_CONTEXTS[:1]), (b"", BOTH_CONTEXTS)], ids=["asked", "in doubt"]
)
def test_record_1024_settles_the_exporter_context_of_aead_30(asked: bytes, contents: cookies.Contents) -> None:
    """A40, A94: confirmed by the same record, or else the cookies hold the keys of both contexts."""
    outcome = ask(GCM_SIV_REQUEST + asked + END, KeServer((Aead.AES_SIV_CMAC_256, Aead.AES_128_GCM_SIV)))
    answered = split_records(outcome.response)
    assert [r for r in answered if r[0] == 1024] == ([(1024, False, b"")] if asked else [])
    made = [body for kind, _, body in answered if kind == 5]
    assert len(made) == 8
    assert {cookies.open_cookie(RING, body) for body in made} == {contents}


def test_record_1024_is_confirmed_for_aead_30_alone() -> None:
    request = NEXT_PROTOCOL_NTPV4 + aead(30, 15) + COMPLIANT_CONTEXT + END
    outcome = ask(request, KeServer((Aead.AES_SIV_CMAC_256, Aead.AES_128_GCM_SIV)))
    assert outcome.aead == 15
    assert 1024 not in [kind for kind, _, _ in split_records(outcome.response)]


@pytest.mark.parametrize(("asked", "chosen", "length"), [(COMPLIANT_CONTEXT, 30, 68), (b"", 15, 100)])
def test_a_cookie_of_chronys_format_holds_one_pair_of_keys(asked: bytes, chosen: int, length: int) -> None:
    """So AEAD 30 is chosen only for clients that say which exporter context they use."""
    ring = KeyRing(RING.keys, (), (), CookieFormat.CHRONY)
    request = NEXT_PROTOCOL_NTPV4 + aead(30, 15) + asked + END
    outcome = ask(request, KeServer((Aead.AES_128_GCM_SIV, Aead.AES_SIV_CMAC_256)), ring=ring)
    assert outcome.aead == chosen
    made = [body for kind, _, body in split_records(outcome.response) if kind == 5]
    assert [len(c) for c in made] == [length] * 8
    assert {c[:4] for c in made} == {CURRENT_KEY.foreign(CookieFormat.CHRONY).wire_id}
    assert {cookies.open_cookie(RING, c) for c in made} == {(session_keys(Aead(chosen)),)}


@pytest.mark.parametrize("bad", [record(1024, b"\0"), COMPLIANT_CONTEXT * 2], ids=["with a body", "twice"])
def test_a_malformed_record_1024_is_answered_with_error_1(bad: bytes) -> None:
    assert ask(GCM_SIV_REQUEST + bad + END) == Outcome(Verdict.BAD_REQUEST, ERROR_1)


RECORDS = st.lists(
    st.builds(
        lambda kind, body, critical: record(kind, body, critical=critical),
        st.sampled_from([0, 1, 2, 3, 4, 4, 5, 6, 7, 1024, 0x3FFF]),
        st.one_of(st.binary(max_size=9), st.sampled_from([b"\0\0", b"\0\x0f", b"\0\x11\0\x10", ADDRESS.encode()])),
        st.booleans(),
    ),
    max_size=5,
)


@given(st.permutations([NEXT_PROTOCOL_NTPV4, AEAD_15]), RECORDS, st.booleans())
@bounded(300)
def test_any_request_gets_one_well_formed_response_with_nothing_unasked_for(
    good: list[bytes], more: list[bytes], whole: bool
) -> None:
    """A16, A21, A26, A29: cookies if and only if protocol and algorithm are agreed, Error alone otherwise."""
    octets = b"".join([*(good if whole else []), *more]) + END
    try:
        message = MessageReader(16384).feed(octets)
    except FormatError:
        return
    assert message is not None
    outcome = KeServer(ALL_AEADS).answer(message, local_address=ADDRESS, ring=RING, export=exporter(), random=Counter())
    answered = split_records(outcome.response)
    kinds = [kind for kind, _, _ in answered]
    assert answered[-1] == (0, True, b"")
    assert kinds.count(0) == 1
    match outcome.verdict:
        case Verdict.AGREED:
            assert kinds in ([1, 4, *[5] * 8, 0], [1, 4, 6, *[5] * 8, 0])
            assert answered[1][2] in {r[2][i : i + 2] for r in split_records(octets) for i in range(0, len(r[2]), 2)}
        case Verdict.NO_AEAD:
            assert answered[:-1] == [(1, True, b"\0\0"), (4, True, b"")]
        case Verdict.NO_PROTOCOL:
            assert answered[:-1] == [(1, True, b"")]
        case _:
            assert outcome.response in (ERROR_0, ERROR_1)
