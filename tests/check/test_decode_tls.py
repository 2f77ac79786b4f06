# SPDX-License-Identifier: MIT
"""nts_check decode: from a capture file to TLS in clear and the NTS keys."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import FormatError
from nts.check.decode import capture, files, streams, tls_keys, tls_messages
from nts.check.decode.decoder import Decoder, KeItem, NtpItem, Settings
from nts.check.decode.tls_keys import parse_keylog
from nts.codec.aead import Aead
from nts.system import certs
from testkit import captures
from testkit.captures import Recording, frame, made_session, packets, pcap, pcapng, record_openssl, tcp, udp
from testkit.packets import Request, bounded
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record

COOKIES = [bytes([i]) * 100 for i in range(8)]
RESPONSE = NEXT_PROTOCOL_NTPV4 + AEAD_15 + b"".join(record(5, c, critical=False) for c in COOKIES) + END
LINKS = [captures.NULL, captures.ETHERNET, captures.RAW, captures.LOOP, captures.SLL, captures.SLL2]
SUITES = [b"TLS_AES_128_GCM_SHA256", b"TLS_AES_256_GCM_SHA384", b"TLS_CHACHA20_POLY1305_SHA256"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls")
    certs.make(certs.LOCAL_NAMES, cert=path / "cert.pem", key=path / "cert.key", ca=path / "ca.pem")
    return path


class Whole(NamedTuple):
    """What was decoded, to be looked at more than once."""

    items: list[KeItem | NtpItem]
    notes: list[str]


def decode(data: bytes, log: str = "", ke_ports: frozenset[int] = frozenset({4460})) -> tuple[Whole, capture.Tally]:
    """All that is in a capture."""
    decoder, tally = Decoder(Settings(parse_keylog(log) if log else {}, ke_ports=ke_ports)), capture.Tally()
    for packet in capture.read(data[:4], io.BytesIO(data[4:]), tally):
        decoder.add(packet)
    decoded = decoder.finish()
    return Whole(list(decoded.items), decoded.notes), tally


def decode_packets(made: Iterable[bytes], log: str = captures.KEYLOG) -> Whole:
    return decode(pcap(map(frame, made)), log)[0]


def ke(decoded: Whole) -> KeItem:
    """The one key exchange in it."""
    (item,) = [i for i in decoded.items if isinstance(i, KeItem)]
    return item


def bodies(item: KeItem) -> tuple[bytes, bytes]:
    """What the client and the server said."""
    assert item.session is not None
    return item.session.client.data, item.session.server.data


def wrong(item: KeItem | NtpItem) -> list[str]:
    return [str(p) for p in item.problems if p.wrong]


def told(item: KeItem | NtpItem) -> str:
    return "\n".join(map(str, item.problems))


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES, ids=bytes.decode)
def test_a_session_of_openssl_is_decrypted_and_its_keys_are_those_that_openssl_exports(
    folder: Path, suite: bytes
) -> None:
    recording = record_openssl(folder, GOOD_REQUEST, RESPONSE, suite=suite)
    item = ke(decode_packets(packets(recording.flights), recording.keylog))
    assert item.session is not None
    assert item.session.suite is not None
    assert item.session.suite.name == suite.decode()
    assert item.session.version == "TLS 1.3"
    assert item.session.client.hello is not None
    assert item.session.client.hello.server_name == "localhost"
    assert item.session.server.alpn == (b"ntske/1",)
    assert bodies(item) == (GOOD_REQUEST, RESPONSE)
    assert item.problems == []
    assert item.association is not None
    keys = item.association.keys
    assert (keys.aead, keys.c2s, keys.s2c) == (15, *recording.keys[Aead.AES_SIV_CMAC_256])


@pytest.mark.parametrize("suite", SUITES, ids=bytes.decode)
@pytest.mark.parametrize("aead", Aead, ids=lambda a: a.name)
def test_the_exporter_is_that_of_openssl_for_every_algorithm(folder: Path, suite: bytes, aead: Aead) -> None:
    recording = record_openssl(folder, GOOD_REQUEST, RESPONSE, suite=suite)
    (secrets,) = parse_keylog(recording.keylog).values()
    algorithm = hashes.SHA384() if b"384" in suite else hashes.SHA256()
    (keys,) = tls_keys.session_keys(algorithm, secrets[tls_keys.EXPORTER_SECRET], aead, confirmed=True)
    assert (keys.c2s, keys.s2c) == recording.keys[aead]
    assert keys in [found for _random, found in tls_keys.all_keys(parse_keylog(recording.keylog))]


def test_aes_gcm_siv_has_two_contexts_to_try() -> None:
    (secrets,) = parse_keylog(captures.KEYLOG).values()
    keys = tls_keys.session_keys(hashes.SHA256(), secrets[tls_keys.EXPORTER_SECRET], Aead.AES_128_GCM_SIV)
    assert [(k.c2s, k.s2c) for k in keys] == [
        (captures.exported(0, context, 16), captures.exported(1, context, 16)) for context in (30, 15)
    ]


@pytest.mark.parametrize("size", [1, 7, 1 << 14])
@pytest.mark.parametrize("update", [False, True], ids=["", "with key updates"])
def test_records_of_any_size_and_key_updates_are_followed(size: int, update: bool) -> None:
    recording = made_session(GOOD_REQUEST, RESPONSE, size=size, update=update)
    item = ke(decode_packets(packets(recording.flights)))
    assert bodies(item) == (GOOD_REQUEST, RESPONSE)
    assert item.session is not None
    assert bool(item.session.client.key_updates) == bool(item.session.server.key_updates) == update
    assert item.problems == []
    assert item.association is not None
    assert (item.association.keys.c2s, item.association.keys.s2c) == (captures.exported(0), captures.exported(1))


@pytest.mark.parametrize(("compliant", "count"), [(True, 1), (False, 2)])
def test_record_1024_says_which_context_a_key_exchange_for_aes_gcm_siv_used(compliant: bool, count: int) -> None:
    extra = record(1024, critical=False) if compliant else b""
    request = NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x1e") + extra + END
    response = NEXT_PROTOCOL_NTPV4 + record(4, b"\0\x1e") + extra + record(5, bytes(64), critical=False) * 8 + END
    item = ke(decode_packets(packets(made_session(request, response).flights)))
    assert item.association is not None
    assert item.association.keys.c2s == captures.exported(0, 30, 16)
    assert len(item.association.candidates) == count


def test_an_algorithm_unknown_here_is_said_to_be() -> None:
    request, response = (m.replace(AEAD_15, record(4, b"\0\x63")) for m in (GOOD_REQUEST, RESPONSE))
    item = ke(decode_packets(packets(made_session(request, response).flights)))
    assert item.association is None
    assert "AEAD algorithm 99 is unknown here" in told(item)


def test_plain_ntp_is_found_at_the_port_that_the_key_exchange_names() -> None:
    response = RESPONSE.replace(AEAD_15, AEAD_15 + record(7, b"\x10\x1b"))
    plain = bytes([0x23]) + bytes(47)
    made = [udp(captures.CLIENT, ("192.0.2.2", port), plain) for port in (4123, 4124)]
    decoded = decode_packets(made + packets(made_session(GOOD_REQUEST, response).flights))
    assert [i.target for i in decoded.items if isinstance(i, NtpItem)] == [("192.0.2.2", 4123)]


def without(*labels: str) -> str:
    """The key log without the secrets of these names."""
    return "".join(line for line in captures.KEYLOG.splitlines(True) if line.split()[0] not in labels)


def test_without_an_exporter_secret_the_messages_are_shown_and_it_is_said_that_there_are_no_keys() -> None:
    session = made_session(GOOD_REQUEST, RESPONSE)
    item = ke(decode_packets(packets(session.flights), without("EXPORTER_SECRET")))
    assert bodies(item) == (GOOD_REQUEST, RESPONSE)
    assert item.association is None
    assert "has no EXPORTER_SECRET" in told(item)
    assert wrong(item) == []


def test_without_the_secrets_of_the_handshake_what_follows_it_is_read_all_the_same() -> None:
    log = without("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET")
    item = ke(decode_packets(packets(made_session(GOOD_REQUEST, RESPONSE, update=True).flights), log))
    assert bodies(item) == (GOOD_REQUEST, RESPONSE)
    assert wrong(item) == []


def test_without_the_secrets_of_what_follows_the_handshake_it_is_said() -> None:
    log = without("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0")
    item = ke(decode_packets(packets(made_session(GOOD_REQUEST, RESPONSE).flights), log))
    assert bodies(item) == (b"", b"")
    assert "no secret for what follows the handshake" in told(item)
    assert wrong(item) == []


@pytest.mark.parametrize(
    ("log", "text"),
    [
        ("", "takes a key log"),
        (captures.KEYLOG.replace(captures.RANDOM.hex(), "00" * 32), "the key log does not have it"),
        ("".join(f"{line}{'00' * 16}\n" for line in captures.KEYLOG.splitlines()), "does not fit the cipher suite"),
    ],
    ids=["none", "another's", "of another length"],
)
def test_a_key_log_that_does_not_fit_leaves_the_structure(log: str, text: str) -> None:
    item = ke(decode_packets(packets(made_session(GOOD_REQUEST, RESPONSE).flights), log))
    assert item.session is not None
    assert item.session.client.hello is not None
    assert item.session.client.records > 3
    assert bodies(item) == (b"", b"")
    assert text in told(item)
    assert wrong(item) == []


def test_a_wrong_secret_is_noticed_and_said() -> None:
    label = "SERVER_TRAFFIC_SECRET_0"
    log = without(label) + f"{label} {captures.RANDOM.hex()} {'ab' * 32}\n"
    item = ke(decode_packets(packets(made_session(GOOD_REQUEST, RESPONSE).flights), log))
    assert bodies(item) == (GOOD_REQUEST, b"")
    assert "the key does not open the record" in told(item)
    assert wrong(item) == []


@pytest.mark.parametrize(
    ("recording", "text"),
    [
        (made_session(GOOD_REQUEST, RESPONSE, close=(False, True)), "the client closes without close_notify"),
        (made_session(GOOD_REQUEST, RESPONSE, close=(True, False)), "the server closes without close_notify"),
        (made_session(GOOD_REQUEST, RESPONSE, alpn=b"h2"), "the server does not select"),
        (made_session(GOOD_REQUEST, RESPONSE, offered=[b"h2"]), "the client does not offer the application protocol"),
    ],
    ids=["client", "server", "selected", "offered"],
)
def test_what_is_wrong_with_the_tls_session_is_said(recording: Recording, text: str) -> None:
    assert text in "\n".join(wrong(ke(decode_packets(packets(recording.flights)))))


def test_tls_1_2_is_wrong() -> None:
    flights = [
        (True, captures.plain_record(22, captures.hello(client=True, version=0x0303))),
        (False, captures.plain_record(22, captures.hello(client=False, version=0x0303))),
    ]
    item = ke(decode_packets(packets(flights)))
    assert item.session is not None
    assert item.session.version == "TLS 1.2"
    assert ["does not offer TLS 1.3" in w or "speaks TLS 1.2" in w for w in wrong(item)] == [True, True]


def test_alerts_are_named() -> None:
    flights = [(True, captures.plain_record(22, captures.hello(client=True))), (False, b"\x15\3\3\0\2\2\x78")]
    assert "the server sent alert 120, no_application_protocol" in told(ke(decode_packets(packets(flights))))


def test_a_key_log_without_a_good_line_is_refused() -> None:
    for text in ("", "CLIENT_RANDOM 00 11", "nonsense", captures.KEYLOG.replace(" ", "\t")):
        with pytest.raises(FormatError):
            parse_keylog(text)


# --- TCP -------------------------------------------------------------------------------------------------------------

SESSION = made_session(GOOD_REQUEST, RESPONSE)


def shuffled(made: Sequence[bytes], seed: int = 1) -> list[bytes]:
    order = list(made)
    random.Random(seed).shuffle(order)
    return order


def overlapping() -> list[bytes]:
    """Segments of 50 octets, each of which begins 20 octets before the end of the one before."""
    made, sequence = packets([])[:2], {True: 7, False: 7 + 2**31}
    ends = {True: (captures.CLIENT, captures.SERVER), False: (captures.SERVER, captures.CLIENT)}
    for end in (True, False):
        octets = SESSION.sent(end)
        made += [tcp(*ends[end], sequence[end] + at, octets[at : at + 50]) for at in range(0, len(octets), 30)]
    return made


@pytest.mark.parametrize(
    "made",
    [
        packets(SESSION.flights, mss=1),
        packets(SESSION.flights, mss=3),
        shuffled(packets(SESSION.flights, mss=40)),
        shuffled(packets(SESSION.flights, mss=40, opening=False), 2),
        packets(SESSION.flights, mss=100) + packets(SESSION.flights, mss=77, opening=False),
        packets(SESSION.flights, start=2**32 - 100, mss=60),
        packets(SESSION.flights, opening=False, closing=False),
        overlapping(),
        shuffled(overlapping(), 3),
        packets(SESSION.flights, captures.CLIENT6, captures.SERVER6),
    ],
    ids=[
        "one octet", "three octets", "out of order", "out of order without SYN", "twice", "sequence wraps",
        "no SYN, no FIN", "overlapping", "overlapping, out of order", "IPv6",
    ],
)  # fmt: skip
def test_tcp_is_put_together_however_it_was_cut_up(made: list[bytes]) -> None:
    item = ke(decode_packets(made))
    assert bodies(item) == (GOOD_REQUEST, RESPONSE)
    assert item.problems == []


def test_what_is_missing_is_said_and_nothing_is_called_wrong_for_it() -> None:
    session = made_session(GOOD_REQUEST, RESPONSE, size=60)
    made = packets(session.flights, mss=100)
    for lost in range(len(made)):
        item = ke(decode_packets(made[:lost] + made[lost + 1 :]))
        assert wrong(item) == [], lost
        whole = bodies(item) == (GOOD_REQUEST, RESPONSE)
        assert whole or "not in the capture" in told(item) or "may be" in told(item), lost
    last = len(made[-3]) - 40  # the server's last segment; the last but one goes missing
    end = len(session.sent(False)) - last
    item = ke(decode_packets([m for m in made if m != made[-4]]))
    assert f"not in the capture: octets {end - 100} to {end - 1} of the TCP stream" in told(item)
    assert item.response is not None
    assert 1 < len(item.response.message.records) < 11
    assert "as far as it is in the capture" in told(item)


@pytest.mark.parametrize("cut", [60, 200])
def test_a_capture_with_cut_off_packets_breaks_nothing(cut: int) -> None:
    item = ke(decode_packets(p[:cut] for p in packets(SESSION.flights)))
    assert wrong(item) == []
    assert "not in the capture" in told(item) or "no ClientHello" in told(item)


def test_nts_ke_is_found_on_any_port_by_its_client_hello_and_other_tls_is_not() -> None:
    odd = ("192.0.2.2", 9999)
    other = made_session(b"GET", b"200", offered=[b"h2"])
    made = packets(SESSION.flights, server=odd, mss=90) + packets(other.flights, server=("192.0.2.3", 443))
    made += packets([(True, b"SSH-2.0-x\r\n"), (False, b"SSH-2.0-y\r\n")], server=("192.0.2.3", 22))
    item = ke(decode_packets(made))
    assert item.target is not None
    assert item.target.port == 9999
    assert bodies(item) == (GOOD_REQUEST, RESPONSE)


def test_a_port_that_is_told_of_is_taken_for_nts_ke_whatever_is_on_it() -> None:
    made = packets([(True, b"nonsense")], server=("192.0.2.2", 22))
    decoded, _ = decode(pcap(map(frame, made)), "", ke_ports=frozenset({22}))
    assert "no ClientHello" in told(ke(decoded))


def test_two_connections_between_the_same_ends_are_two() -> None:
    other = made_session(GOOD_REQUEST, NEXT_PROTOCOL_NTPV4 + record(4) + END)
    decoded = decode_packets(packets(SESSION.flights) + packets(other.flights, start=5_000_000))
    exchanges = [i for i in decoded.items if isinstance(i, KeItem)]
    assert [len(bodies(i)[1]) for i in exchanges] == [len(RESPONSE), 14]


def test_what_is_held_of_tcp_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_TOTAL", 1000)
    decoded = decode_packets(packets(SESSION.flights, mss=100))
    assert "TCP segments left out" in "\n".join(decoded.notes)
    monkeypatch.setattr(streams, "MAX_STREAM", 500)
    half = streams.Half()
    for at in range(0, 100_000, 50):
        half.add(capture.Segment(1, None, capture.Endpoint("a", 1), capture.Endpoint("b", 2), at, bytes(50)))
    assert half.octets <= 1000
    assert "too long" in half.stream().missing


# --- captures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [pcap, pcapng])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("ends", [(captures.CLIENT, captures.SERVER), (captures.CLIENT6, captures.SERVER6)])
def test_every_link_type_is_read(write: object, link: int, ends: tuple[captures.Address, captures.Address]) -> None:
    assert callable(write)
    client, server = ends[0], (ends[1][0], 123)
    data = write([frame(udp(client, server, Request().encode()), link)], link)
    decoded, tally = decode(data)
    (item,) = decoded.items
    assert isinstance(item, NtpItem)
    assert (item.source, item.target, item.packet.octets) == (client, server, Request().encode())
    assert item.time_ns == captures.SECONDS * 1_000_000_000
    assert tally.notes() == []


@pytest.mark.parametrize(
    ("order", "nano"), [("<", False), (">", False), ("<", True), (">", True)], ids=["le", "be", "le ns", "be ns"]
)
def test_every_byte_order_and_resolution_is_read(order: str, nano: bool) -> None:
    ntp = frame(udp(captures.CLIENT, ("192.0.2.2", 123), Request().encode()))
    decoded, _ = decode(pcap([b"", ntp], order=order, nano=nano))
    assert [i.frame for i in decoded.items] == [2]
    assert decoded.items[0].time_ns == captures.SECONDS * 1_000_000_000 + 1_000_000


def test_a_vlan_tag_and_ethernet_padding_are_no_hindrance() -> None:
    plain = frame(udp(captures.CLIENT, ("192.0.2.2", 123), bytes([0x23]) + bytes(47)))
    tagged = plain[:12] + bytes.fromhex("81000007") + plain[12:] + bytes(10)
    (item,) = decode(pcap([tagged]))[0].items
    assert isinstance(item, NtpItem)
    assert len(item.packet.octets) == 48


def test_fragments_and_other_frames_are_left_out_and_told_of() -> None:
    fragment = bytearray(udp(captures.CLIENT, ("192.0.2.2", 123), bytes([0x23]) + bytes(47)))
    fragment[6] = 0x20
    decoded, tally = decode(pcap([frame(bytes(fragment)), b"", bytes(12) + b"\x08\x06" + bytes(28)]))
    assert decoded.items == []
    assert tally.notes() == ["1 IP fragment left out: they are not reassembled"]
    _, tally = decode(pcap([b"", bytes(12) + b"\x08\x06" + bytes(28)]))
    assert tally.notes() == ["none of the 2 frames is an IP packet"]


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_a_capture_that_ends_early_is_read_up_to_there(write: object) -> None:
    assert callable(write)
    whole = write([frame(udp(captures.CLIENT, ("192.0.2.2", 123), Request().encode()))] * 3)
    for end in range(100, len(whole)):
        decoded, tally = decode(whole[:end])
        assert len(decoded.items) + bool(tally.damage) <= 4
        assert all(isinstance(i, NtpItem) for i in decoded.items)


@pytest.mark.parametrize(
    "data",
    [pcap([], 147), pcapng([], 147), pcap([])[:20], pcapng([])[:30], bytes.fromhex("0a0d0d0a" + "ff" * 40)],
    ids=["pcap link type", "pcapng link type", "pcap header", "pcapng header", "length"],
)
def test_a_capture_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


def test_no_block_is_read_that_is_longer_than_any_packet() -> None:
    asked = []

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size)
            return super().read(size)

    data = pcap([])[4:] + bytes(8) + b"\xf0\xff\xff\xff" * 2
    tally = capture.Tally()
    assert list(capture.read(pcap([])[:4], File(data), tally)) == []
    assert tally.damage
    assert all(size is not None and 0 <= size <= files.MAX_BLOCK for size in asked)


# --- hostile input ---------------------------------------------------------------------------------------------------

WHOLE = pcap(map(frame, packets(SESSION.flights)))


@bounded(300)
@given(st.data())
def test_no_damage_to_a_capture_raises_anything_but_format_error(data: st.DataObject) -> None:
    octets = bytearray(data.draw(st.sampled_from([WHOLE, pcapng(map(frame, packets(SESSION.flights)))])))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(4, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(FormatError):
        decoded, _ = decode(bytes(octets), captures.KEYLOG)
        assert all(str(p).isprintable() for i in decoded.items for p in i.problems)


@bounded(200)
@given(st.binary(max_size=400), st.binary(max_size=400))
def test_no_octets_of_a_peer_raise(client: bytes, server: bytes) -> None:
    beginning = SESSION.flights[0][1], SESSION.flights[1][1] + SESSION.flights[2][1]
    for one, other in ((client, server), (beginning[0] + client, beginning[1] + server)):
        flights = [(True, one), (False, other)]
        decoded = decode(pcap(map(frame, packets(flights))), captures.KEYLOG)[0]
        assert all(str(p).isprintable() for i in decoded.items for p in i.problems)


@bounded(200)
@given(st.binary(max_size=300))
def test_no_hello_raises_anything_but_format_error(body: bytes) -> None:
    for kind in tls_messages.Handshake:
        try:
            hello = tls_messages.parse_hello(kind, body)
        except FormatError:
            continue
        assert hello.server_name.isprintable()
    tls_messages.offers_ntske(captures.plain_record(22, captures.message(1, body)))
    tls_messages.offers_ntske(body)


@bounded(200)
@given(st.text(max_size=300) | st.text(alphabet="ABC_ 0123456789abcdef\n", max_size=300))
def test_no_key_log_raises_anything_but_format_error(text: str) -> None:
    try:
        log = parse_keylog(text + captures.KEYLOG + text)
    except FormatError:
        return
    assert list(log)
    assert len(list(tls_keys.all_keys(log))) <= 5 * 2 * len(log)
