# SPDX-License-Identifier: MIT
"""Parts of the native loop of the key exchange server beside the reference: what a ClientHello is, who may stay."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import run as fuzz_run
from nts.base.errors import ConfigError
from nts.codec.aead import Aead
from nts.protocol.ke_server import MAX_REQUEST, Verdict
from nts.server import ke_groups
from nts.server.config import KeConfig, load
from nts.server.ke_connection import LINGER_TIMEOUT, SESSION_TIMEOUT
from nts.server.ke_counters import BOUNDS, GROUPS
from nts.server.ke_engine import Ask, KeEngine, NativeTls
from nts.server.limits import Limits
from nts.system import certs, tls
from testkit.packets import bounded
from testkit.processes import ROOT

try:
    from nts import _engine_ke
except ImportError:
    pytest.skip("the native loop has not been built (make build)", allow_module_level=True)

ffi, lib = _engine_ke.ffi, _engine_ke.lib
SHIPPED = load(ROOT / "server.ini").ntske
HELLOS = {p.name: p.read_bytes() for p in sorted((ROOT / "engine/fuzz/corpus_ke").glob("hello-*"))}
PARTIAL, USUAL, UNUSUAL = range(3)
POST_QUANTUM = "X25519MLKEM768"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cert")
    certs.make(certs.LOCAL_NAMES, cert=folder / "cert.pem", key=folder / "cert.key", ca=folder / "ca.pem")
    return folder / "cert.pem", folder / "cert.key"


@pytest.fixture(scope="module")
def native(files: tuple[Path, Path]) -> NativeTls:
    return NativeTls(*files)


def engine(*groups: str, foreign: Sequence[str] = ()) -> KeEngine:
    """A loop beside a reference with these groups, of which it has not the foreign ones."""
    made = KeEngine(SHIPPED, "label", SESSION_TIMEOUT, LINGER_TIMEOUT, verbose=False)
    made.set_groups({name: name not in foreign for name in groups})
    return made


def judged(made: KeEngine, hello: bytes) -> int:
    return int(lib.nts_ke_test_hello(made._ke, hello, len(hello)))


# --- the header ------------------------------------------------------------------------------------------------------


def names_in(enum: str) -> list[str]:
    body = re.search(rf"enum {enum} \{{(.*?)\}}", (ROOT / "engine" / "nts_ke.h").read_text(), re.DOTALL)
    assert body is not None
    return re.findall(r"\bNTS_KE_(\w+)", re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL))


def test_the_header_has_the_names_of_the_reference_in_their_order() -> None:
    assert names_in("nts_ke_verdict") == [*Verdict.__members__, "VERDICTS"]
    assert [getattr(lib, f"NTS_KE_{v.name}") for v in Verdict] == list(Verdict)
    assert names_in("nts_ke_question_kind") == [f"ASK_{name}" for name in Ask.__members__]
    assert lib.NTS_KE_MAX_REQUEST == MAX_REQUEST
    assert max(len(GROUPS), len(BOUNDS)) <= lib.NTS_KE_MAX_BOUNDS
    assert max(a.key_length for a in Aead) <= 64


# --- ClientHellos ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HELLOS)
def test_what_clients_send_is_usual_and_answered(name: str, native: NativeTls) -> None:
    """ClientHellos of chrony (GnuTLS), OpenSSL's tool, Python's ssl and pyOpenSSL, which adds a post-quantum share."""
    hello = HELLOS[name]
    made = engine("x25519", "secp256r1")
    assert judged(made, hello) == USUAL
    assert {judged(made, hello[:n]) for n in range(len(hello))} == {PARTIAL}
    assert native.answer(hello)[:1] == b"\x16"
    assert judged(made, hello + b"\x14") == UNUSUAL


def unusual(made: KeEngine) -> set[str]:
    return {name for name, hello in HELLOS.items() if judged(made, hello) == UNUSUAL}


def test_a_group_that_only_the_reference_has_counts_if_that_would_take_it() -> None:
    """Clients of OpenSSL support x448 too, but have no share for it."""
    assert unusual(engine(POST_QUANTUM, "x25519", "secp256r1", foreign=[POST_QUANTUM])) == {"hello-pyopenssl"}
    assert unusual(engine("x25519", POST_QUANTUM, "x448", foreign=[POST_QUANTUM, "x448"])) == set()
    assert unusual(engine("x448", "x25519", foreign=["x448"])) == set(HELLOS)
    assert unusual(engine("secp521r1")) == set(HELLOS), "no share for a group of ours"


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n", b"\x15\x03\x01\0\x02\x02\x28", b"\x16\x02", b"\x80", b"\0" * 9]
)
def test_what_is_no_clienthello_is_unusual(octets: bytes) -> None:
    assert judged(engine("x25519"), octets) == UNUSUAL


def with_extension(hello: bytes, kind: int, body: bytes) -> bytes:
    """The ClientHello with one more extension at its end, and all lengths put right."""
    more = kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at]
    grown = bytearray(hello + more)
    for start, size in ((3, 2), (6, 3), (at, 2)):
        value = int.from_bytes(grown[start : start + size], "big") + len(more)
        grown[start : start + size] = value.to_bytes(size, "big")
    return bytes(grown)


@pytest.mark.parametrize("kind", [10, 13, 16, 43, 51, 41, 42, 44, 57, 0x3A3A, 0xFE0D])
def test_an_extension_twice_or_of_another_meaning_is_unusual(kind: int) -> None:
    """Those that are there already, pre_shared_key, early_data, cookie, and some that we do not know."""
    assert judged(engine("x25519"), with_extension(HELLOS["hello-openssl"], kind, b"")) == UNUSUAL
    assert judged(engine("x25519"), with_extension(HELLOS["hello-openssl"], 21, bytes(100))) == USUAL


def hellos(count: int) -> Iterator[bytes]:
    yield from HELLOS.values()
    yield from islice(fuzz_run.mutations(list(HELLOS.values()), seed=1), count)
    for hello in HELLOS.values():  # every octet changed, which mutations rarely leave usual
        for at in range(len(hello)):
            yield hello[:at] + bytes([hello[at] ^ 0x01]) + hello[at + 1 :]
            yield hello[:at] + bytes([hello[at] ^ 0x80]) + hello[at + 1 :]


def test_both_libraries_do_the_same_with_a_usual_clienthello(files: tuple[Path, Path], native: NativeTls) -> None:
    """A ServerHello with the same cipher suite, or the same alert."""
    context, compared = tls.server_context(*files), 0
    theirs_have = ke_groups.offered(lambda hello: tls.first_answer(context, hello))
    ours_have = ke_groups.offered(native.answer)
    made = engine(*theirs_have, foreign=[name for name in theirs_have if name not in ours_have])
    for hello in hellos(3000):
        if judged(made, hello) != USUAL:
            continue
        compared += 1
        ours, theirs = native.answer(hello), tls.first_answer(context, hello)
        assert ours[:3] == theirs[:3], hello.hex()
        if ours[0] == 0x15:
            assert ours == theirs, hello.hex()
    assert compared > 500


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_groups_are_found_by_asking(files: tuple[Path, Path], native: NativeTls) -> None:
    context = tls.server_context(*files)
    reference = ke_groups.offered(lambda hello: tls.first_answer(context, hello))
    assert {"x25519", "secp256r1", "secp384r1"} <= set(ke_groups.offered(native.answer))
    assert reference[0] == POST_QUANTUM, "the favourite first"
    assert reference.index("x25519") < reference.index("secp256r1") < reference.index("secp384r1")
    assert "ffdhe8192" not in reference


@pytest.mark.parametrize("which", [0, 1])
def test_files_that_cannot_be_used_are_refused(files: tuple[Path, Path], tmp_path: Path, which: int) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    with pytest.raises(ConfigError, match=r"bad\.pem"):
        NativeTls(*(bad if i == which else file for i, file in enumerate(files)))


# --- limits ----------------------------------------------------------------------------------------------------------

ADDRESSES = (
    "192.0.2.1", "192.0.2.2", "192.0.3.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:1::1", "::1",
    "0.0.0.0", "::", "::ffff:0.0.0.0",
)  # fmt: skip


def address_of(host: str) -> Any:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made, octets = ffi.new("nts_ke_address *"), socket.inet_pton(family, host)
    ffi.memmove(made.octets, octets, len(octets))
    made.length = len(octets)
    return made


class NativeLimits:
    """The limits of the native loop, with the methods of `Limits`."""

    def __init__(self, config: KeConfig) -> None:
        settings = ffi.new("nts_ke_settings *")
        for name in ("max_sessions", "max_per_prefix", "rate_per_prefix", "prefix4", "prefix6"):
            setattr(settings, name, getattr(config, name))
        self._limits = ffi.gc(lib.nts_ke_test_limits_new(settings), lib.nts_ke_test_limits_free)

    def admits(self, host: str, second: int) -> bool:
        return bool(lib.nts_ke_test_limits_admit(self._limits, address_of(host), second))

    def add(self, host: str, number: int) -> int | None:
        return self._number(lib.nts_ke_test_limits_add(self._limits, address_of(host), number))

    def remove(self, number: int) -> None:
        lib.nts_ke_test_limits_remove(self._limits, number)

    def first_to_go(self) -> int | None:
        return self._number(lib.nts_ke_test_limits_first_to_go(self._limits))

    @staticmethod
    def _number(found: int) -> int | None:
        return None if found < 0 else found


@bounded(200)
@given(
    st.lists(st.tuples(st.sampled_from("aaarst"), st.sampled_from(ADDRESSES), st.integers(0, 99)), max_size=120),
    st.integers(1, 8), st.integers(1, 5), st.integers(0, 3), st.sampled_from([8, 24, 32]),
    st.sampled_from([16, 32, 64, 65, 128]),
)  # fmt: skip
def test_limits_are_those_of_the_reference(
    steps: list[tuple[str, str, int]], most: int, per_prefix: int, rate: int, prefix4: int, prefix6: int
) -> None:
    config = replace(
        SHIPPED, max_sessions=most, max_per_prefix=per_prefix, rate_per_prefix=rate, prefix4=prefix4, prefix6=prefix6
    )
    ours, theirs, held, second = NativeLimits(config), Limits[int](config), dict[int, str](), 0

    def remove(number: int) -> None:
        ours.remove(number)
        theirs.remove(theirs.prefix(held.pop(number)), number)

    for number, (step, host, draw) in enumerate(steps):
        prefix = theirs.prefix(host)
        if step == "a":
            assert ours.admits(host, second) == theirs.admits(prefix, second)
            held[number] = host
            surplus = theirs.add(prefix, number)
            assert ours.add(host, number) == surplus
            if surplus is not None:
                remove(surplus)
        elif step == "r" and held:
            remove(sorted(held)[draw % len(held)])
        elif step == "s":
            second += draw % 2
        assert ours.first_to_go() == theirs.first_to_go()
