# SPDX-License-Identifier: MIT
"""The key exchange server with the native loop beside the one in Python: the same responses, alerts and verdicts.

Both have the same certificate, master keys and TLS groups. Every octet string goes to both.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from OpenSSL import SSL

from fuzz import run as fuzz_run
from nts.codec import cookies
from nts.server import keystore
from testkit.ke_sessions import AEAD, COOKIE, padded_request, server_of
from testkit.processes import ROOT, Suite, needs_ke_engine
from testkit.raw_ke import (
    AEAD_15,
    END,
    GOOD_REQUEST,
    NEXT_PROTOCOL_NTPV4,
    RawKe,
    client_context,
    record,
    split_records,
)

pytestmark = needs_ke_engine
CONTEXT = client_context(None)
HELLOS = [p.read_bytes() for p in sorted((ROOT / "engine/fuzz/corpus_ke").glob("hello-*"))]
CLOSINGS = ("close_notify", "FIN")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, Suite]]:
    """The server with the loop in Python, and the one with the native loop; both count alike in the end."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("python", "native"))
    settings = first / "openssl.cnf"
    settings.write_text((ROOT / "nts/server/openssl.cnf").read_text().replace("\n#Groups", "\nGroups"))
    python = Suite(first, options={"ntske": {"engine": "python"}})
    files = {name: first / file for name, file in (("server_cert", "cert.pem"), ("server_key", "cert.key"))}
    native = Suite(
        second,
        ntp_port=python.ntp_port,
        options={"ntske": {"engine": "native", **files}, "keys": {"master_keys_dir": python.keys}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENSSL_CONF", str(settings))
        python.start_ke()
        native.start_ke()
    native.keys = python.keys
    yield python, native
    for suite in (python, native):
        assert server_of(suite).stop() == 0
    counted = [server_of(suite).output().splitlines()[-1] for suite in (python, native)]
    assert counted[0] == counted[1]


def normal(response: bytes, keys: Path) -> list[object]:
    """The records of a response, with the contents' kind in place of each cookie."""
    ring = keystore.load(keys).ring
    found: list[object] = []
    for kind, critical, body in split_records(response):
        if kind == COOKIE:
            contents = cookies.open_cookie(ring, body)
            found.append((kind, critical, len(body), [(k.aead, len(k.c2s)) for k in contents]))
        else:
            found.append((kind, critical, body))
    return found


def ask(suite: Suite, octets: bytes, *, cuts: int = 1, closing: str = "") -> tuple[list[object], bool]:
    """What comes for a request that leaves in so many TLS records, and whether close_notify follows."""
    with RawKe(suite.ke_port, context=CONTEXT) as peer:
        peer.handshake()
        size = -(-len(octets) // cuts) or 1
        with contextlib.suppress(SSL.Error):  # the server may have had enough
            peer.send(*(octets[i : i + size] for i in range(0, len(octets), size)))
            if closing == "close_notify":
                peer.tls.shutdown()
            elif closing == "FIN":
                peer.sock.shutdown(socket.SHUT_WR)
        return normal(peer.receive(), suite.keys), peer.close_notify


def same(both: tuple[Suite, Suite], octets: bytes, **how: object) -> list[object]:
    python, native = (ask(suite, octets, **how) for suite in both)  # type: ignore[arg-type]
    assert python == native, octets.hex()
    return python[0]


def aead(*numbers: int) -> bytes:
    return record(AEAD, b"".join(n.to_bytes(2, "big") for n in numbers))


@pytest.mark.parametrize("request_octets", [
    GOOD_REQUEST, *(NEXT_PROTOCOL_NTPV4 + aead(n) + END for n in (15, 16, 17, 30)),
    NEXT_PROTOCOL_NTPV4 + aead(30) + record(1024, b"", critical=False) + END,
    *(NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(6, host) + END for host in (b"127.0.0.1", b"::1")),
    padded_request(512), padded_request(513), padded_request(16384), padded_request(16385), END, b"",
], ids=lambda octets: f"{len(octets)}-{octets[10:12].hex()}")  # fmt: skip
def test_requests(both: tuple[Suite, Suite], request_octets: bytes) -> None:
    """Asked twice, since the second answer is by the plan that the first has left."""
    closing = "" if request_octets.endswith(END) else "FIN"
    assert same(both, request_octets, closing=closing) == same(both, request_octets, closing=closing)
    same(both, request_octets, cuts=7, closing=closing)


@pytest.mark.parametrize("closing", CLOSINGS)
def test_truncated_requests(both: tuple[Suite, Suite], closing: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: same(both, GOOD_REQUEST[:n], closing=closing), range(len(GOOD_REQUEST) + 1)))
        list(pool.map(lambda n: same(both, padded_request(2000)[:n], closing=closing, cuts=3), range(0, 2001, 157)))


def test_generated_and_mutated_requests(both: tuple[Suite, Suite]) -> None:
    """The fuzzers' corpus and mutations of it; each ends with FIN, as most are incomplete."""
    seeds = [*fuzz_run.corpus("ke_request").values(), GOOD_REQUEST]
    inputs = [*seeds, *islice(fuzz_run.mutations(seeds, seed=1), 400)]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda octets: same(both, octets, closing="FIN"), inputs))
    assert len({str(o) for o in outcomes}) > 5


# --- TLS -------------------------------------------------------------------------------------------------------------


def converse(sock: socket.socket, *flights: bytes) -> bytes:
    """All that comes on a connection after these octets and FIN. The server may reset it when it has had enough."""
    received = b""
    with contextlib.suppress(OSError):
        for flight in flights:
            sock.sendall(flight)
        sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            received += data
    return received


def exchange(suite: Suite, *flights: bytes) -> bytes:
    """All that a server sends to a client that sends these octets, one after another, and then FIN."""
    with socket.create_connection(("127.0.0.1", suite.ke_port), 20) as sock:
        return converse(sock, *flights)


def first(received: bytes) -> tuple[bytes, bytes]:
    """How an answer begins; and the cipher suite and the group of the key share in it, or the alert."""
    if received[:1] != b"\x16":
        return received[:3], received
    at = 5 + 4 + 2 + 32 + 1 + received[43]
    share = received.index(b"\0\x33\0", at) + 4  # the extension key_share, less than 256 octets
    return received[:3], received[at : at + 2] + received[share : share + 2]


def test_mutated_and_truncated_clienthellos(both: tuple[Suite, Suite]) -> None:
    """The same cipher suite and group, or the same alert, whichever loop reads such a ClientHello."""
    hellos = [*HELLOS, *islice(fuzz_run.mutations(HELLOS, seed=2), 300)]
    hellos += [hello[:n] for hello in HELLOS for n in range(0, len(hello), 61)]

    def compare(hello: bytes) -> bytes:
        python, native = (first(exchange(suite, hello)) for suite in both)
        assert python == native, hello.hex()
        return python[1]

    with ThreadPoolExecutor(4) as pool:
        alerts = set(pool.map(compare, hellos))
    assert len(alerts) > 3


def finish(suite: Suite, change: int) -> tuple[str, int]:
    """What a client sees whose second flight has a changed octet: why TLS fails, and how many octets came."""
    tls = SSL.Connection(CONTEXT, None)
    tls.set_connect_state()
    with socket.create_connection(("127.0.0.1", suite.ke_port), 20) as sock:
        while True:
            with contextlib.suppress(SSL.WantReadError):
                tls.do_handshake()
                break
            with contextlib.suppress(SSL.WantReadError):
                sock.sendall(tls.bio_read(1 << 16))
            tls.bio_write(sock.recv(1 << 16))
        flight = bytearray(tls.bio_read(1 << 16))
        flight[change % len(flight)] ^= 1 << change % 8
        received = converse(sock, bytes(flight))
    tls.bio_write(received or b"\0")
    try:
        tls.recv(65536)
    except SSL.ZeroReturnError:
        return "close_notify", len(received)
    except SSL.Error as e:
        return str(e), len(received)
    return "data", len(received)


IN_CLEAR = 6 + 5  # octets of the client's second flight: change_cipher_spec, and the header of the next record
WORDING = {"decode error", "protocol version", "unexpected message", "illegal parameter"}


def test_a_changed_octet_after_the_clienthello(both: tuple[Suite, Suite]) -> None:
    """The same end and the same alert. Only of what is in clear, OpenSSL 3.0 has another opinion than later ones."""

    def compare(change: int) -> str:
        python, native = (finish(suite, change) for suite in both)
        if change < IN_CLEAR and python != native:
            assert all(any(words in how for words in WORDING) for how, _ in (python, native)), (python, native)
            assert python[1] == native[1]
        else:
            assert python == native, change
        return python[0]

    with ThreadPoolExecutor(4) as pool:
        seen = set(pool.map(compare, range(64)))
    assert len(seen) > 2
