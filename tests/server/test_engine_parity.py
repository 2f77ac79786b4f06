# SPDX-License-Identifier: MIT
"""The native engine against the reference: the same verdict and the same octets for every packet, or a handover.

Both get the same keys, clock and random octets. The engine draws octets for the packets of a batch in order, the
reference packet by packet, so both must draw equally many. `covered` here decides, independently of both, which packets
the engine must not hand over.

`python -m tests.server.test_engine_parity` is a shorter run for one AES backend (AES_SIV_BACKEND); it prints the
backend and a digest of all outcomes.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import sys
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, product
from random import Random

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from fuzz import run as fuzz_run
from fuzz import targets
from nts.codec.aead import Aead, SessionKeys
from nts.codec.keyring import KeyRing, MasterKey
from nts.protocol import ts_server
from nts.protocol.ts_server import MAX_REQUEST, Outcome, SystemVariables, Verdict
from nts.server.engine import _module
from testkit.engine import EngineForTests
from testkit.packets import (
    AUTHENTICATOR,
    COOKIE,
    COVERED_AEADS,
    CURRENT_KEY,
    DEPARTED,
    OLD_KEY,
    PLACEHOLDER,
    RECEIVED,
    RING,
    SYSTEM,
    UNIQUE_IDENTIFIER,
    UNKNOWN_FIELD,
    Counter,
    Request,
    authenticator,
    bounded,
    cookie_of,
    flipped,
    foreign_cookie,
    mutated,
    raw_field,
    requests,
    respond,
    session_keys,
)
from testkit.processes import HAS_ENGINE, NO_ENGINE, ROOT
from tools import engine_corpus

if not HAS_ENGINE:
    pytest.skip(NO_ENGINE, allow_module_level=True)

BATCH = 64
BACKENDS = ("libcrypto", "aesni", "vaes")
MOST_OCTETS = BATCH * (8 + 1) * 16  # that a batch can draw: nonces of eight cookies and of one reply each
NAKS = (Verdict.NAK_COOKIE, Verdict.NAK_AUTH)
CONTENTS = {(15, 66), (16, 98), (17, 130)}  # algorithm and length of a cookie's plaintext that the engine knows
SESSIONS = {a: session_keys(a, f"parity-{int(a)}") for a in COVERED_AEADS}
STRANGER = MasterKey(CURRENT_KEY.id, bytes(range(32, 63)) + b"\0")  # the right identifier, another key
ABSENT = MasterKey(0x4321, bytes(range(32)))

Outcomes = list[Outcome | None]


@lru_cache(maxsize=1)
def engine() -> EngineForTests:
    return EngineForTests()


OCTETS = hashlib.shake_128(b"stream").digest(MOST_OCTETS)


class Stream:
    """Draws the same octets as the engine, in the same order."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, count: int) -> bytes:
        self.drawn += count
        assert self.drawn <= len(OCTETS)
        return OCTETS[self.drawn - count : self.drawn]


# --- the comparison --------------------------------------------------------------------------------------------------


def shape_of(packet: bytes) -> str:
    """One letter for each extension field of a packet: U, C, P or A if the field itself is as expected, else "?".

    Empty when the fields do not fill the packet exactly.
    """
    at, letters, cookie = 48, "", -1
    while at < len(packet):
        kind, length = struct.unpack_from(">HH", packet, at)
        if length < 16 or length % 4 or at + length > len(packet):
            return ""
        body = packet[at + 4 : at + length]
        if kind == COOKIE:
            cookie = length
        known = {
            UNIQUE_IDENTIFIER: ("U", length >= 36),
            COOKIE: ("C", True),
            PLACEHOLDER: ("P", length == cookie),
            AUTHENTICATOR: ("A", length == 40 and body[:4] == b"\0\x10\0\x10"),
        }
        letter, fits = known.get(kind, ("?", False))
        letters += letter if fits else "?"
        at += length
    return letters


def has_foreign_cookie(packet: bytes, ring: KeyRing) -> bool:
    """Whether the packet's first cookie is authentic, but does not hold keys for AES-SIV."""
    at = 48
    while True:
        kind, length = struct.unpack_from(">HH", packet, at)
        if kind == COOKIE:
            break
        at += length
    body = packet[at + 4 : at + length]
    master = ring.get(int.from_bytes(body[:2], "big"))
    if master is None:
        return False
    try:
        contents = AESSIV(master.key).decrypt(body[18:], [b"", body[2:18]])
    except InvalidTag:
        return False
    return (int.from_bytes(contents[:2], "big"), len(contents)) not in CONTENTS


def covered(packet: bytes, ring: KeyRing) -> bool:
    """Whether the engine must judge the packet itself."""
    if not 48 <= len(packet) <= MAX_REQUEST or len(packet) % 4 or len(packet) == 48:
        return True
    version, mode = packet[0] >> 3 & 7, packet[0] & 7
    if version != 4 or mode != 3:
        return True
    return bool(re.fullmatch("(UC|CU)P*A", shape_of(packet))) and not has_foreign_cookie(packet, ring)


def judged(
    packets: Sequence[bytes], ring: KeyRing = RING, system: SystemVariables = SYSTEM, *,
    received: int = RECEIVED, transmit: int = DEPARTED,
) -> Outcomes:  # fmt: skip
    """The engine's outcomes for packets as one batch, after a comparison with the reference."""
    assert len(packets) <= BATCH
    arrivals = [(received + 977 * i) % 2**64 for i in range(len(packets))]
    stream = Stream()
    engine().set_keys(ring)
    engine().set_system(system)
    outcomes, drawn = engine().answer(packets, arrivals, transmit, OCTETS)
    for packet, arrival, outcome in zip(packets, arrivals, outcomes, strict=True):
        if outcome is None:
            assert not covered(packet, ring), f"handed over: {packet.hex()}"
            continue
        expected = ts_server.respond(
            packet, keys=ring, system=system, received=arrival, now=lambda: transmit, random=stream
        )
        assert outcome == expected, packet.hex()
    assert drawn == stream.drawn
    return outcomes


def judged_all(packets: Iterable[bytes], ring: KeyRing = RING) -> Outcomes:
    """The same for any number of packets, in batches of all sizes."""
    rest, outcomes, size = iter(packets), Outcomes(), 0
    while batch := list(islice(rest, size % BATCH + 1)):
        outcomes += judged(batch, ring)
        size += 29
    return outcomes


def tally(outcomes: Outcomes) -> Tally[str]:
    return Tally("HANDED_OVER" if o is None else o.verdict.name for o in outcomes)


# --- packets ---------------------------------------------------------------------------------------------------------


def nts(
    keys: SessionKeys, *, cookie: bytes | None = None, placeholders: int = 0, uid: int = 32, header: bytes = b"",
    key: bytes | None = None, cookie_first: bool = False,
) -> bytes:  # fmt: skip
    """A request that the engine covers. `header` is up to 48 octets, whose version and mode are corrected."""
    head = bytearray(header.ljust(48, b"\x5a"))
    head[0] = head[0] & 0xC0 | 0x23
    cookie = cookie_of(keys) if cookie is None else cookie
    fields = [raw_field(UNIQUE_IDENTIFIER, Counter(uid)(uid)), raw_field(COOKIE, cookie)]
    packet = bytes(head) + b"".join(fields[::-1] if cookie_first else fields)
    packet += placeholders * raw_field(PLACEHOLDER, bytes(len(cookie)))
    return packet + authenticator(key or keys.c2s, Counter(header)(16), b"", packet)


def bad_cookies(keys: SessionKeys) -> dict[str, bytes]:
    """Cookies that must bring a NAK: not ours, or damaged."""
    good, octets = cookie_of(keys), Counter("bad cookies")
    return {
        "unknown-key": cookie_of(keys, ABSENT),
        "wrong-key": cookie_of(keys, STRANGER),
        "random": octets(len(good)),
        "short": good[:12],
        "no-tag": good[:32],
        "least": foreign_cookie(b"")[:32] + bytes(4),
        "long": good + bytes(4),
        "longest": CURRENT_KEY.id.to_bytes(2, "big") + octets(1598),
        "tag": flipped(good, 8 * 18),
        "end": flipped(good, 8 * len(good) - 1),
    }


def foreign_cookies() -> list[bytes]:
    """Authentic cookies whose contents are not what the engine knows: they may be for other algorithms, as AEAD 30."""
    octets = Counter("foreign cookies")
    kinds, sizes = (0, 14, 15, 16, 17, 18, 30, 0x0F0F, 0x010F, 0xFFFF), (2, 6, 34, 62, 66, 70, 98, 130)
    return [
        foreign_cookie(struct.pack(">H", kind) + octets(size - 2))
        for kind, size in product(kinds, sizes)
        if (kind, size) not in CONTENTS
    ]


def naks() -> Iterator[bytes]:
    for keys in SESSIONS.values():
        for cookie in bad_cookies(keys).values():
            yield nts(keys, cookie=cookie)
        for key in (keys.s2c, bytes(len(keys.c2s)), keys.c2s[::-1]):
            yield nts(keys, key=key, placeholders=2)


def foreign() -> Iterator[bytes]:
    for keys in SESSIONS.values():
        for cookie in foreign_cookies():
            yield nts(keys, cookie=cookie)


def wholesome() -> Iterator[bytes]:
    """Plain requests, and NTS requests with all numbers of placeholders and lengths of identifiers."""
    for version, leap in product((3, 4), range(4)):
        yield bytes([leap << 6 | version << 3 | 3]) + Counter(leap)(47)
    for keys in SESSIONS.values():
        for placeholders in range(11):
            for master in (OLD_KEY, CURRENT_KEY):
                yield nts(keys, cookie=cookie_of(keys, master), placeholders=placeholders)
        for uid in range(32, 204, 4):
            yield nts(keys, uid=uid, header=Counter(uid)(48), placeholders=uid % 3, cookie_first=uid % 8 == 0)


def refused() -> Iterator[bytes]:
    """Packets that length, version and mode decide."""
    good = nts(SESSIONS[Aead.AES_SIV_CMAC_256])
    for length in (*range(53), 2044, 2045, 2047, 2048, 2049, 2052):
        yield good.ljust(length, b"\x5a")[:length]
    for odd in (1, 2, 3):  # fields that are not multiples of four, in a packet that is one
        head = good[:48] + raw_field(UNIQUE_IDENTIFIER, bytes(32 + odd)) + raw_field(COOKIE, bytes(104 - odd))
        yield head + authenticator(bytes(32), bytes(16), b"", head)
    for first in range(256):
        yield bytes([first]) + good[1:48]
        yield bytes([first]) + good[1:]


class Splicer:
    """Packets of good and bad fields in any order; authenticators are genuine or not."""

    def __init__(self, seed: object) -> None:
        self.draw = Random(f"{seed}")

    def __call__(self) -> bytes:
        draw = self.draw
        keys = SESSIONS[draw.choice(COVERED_AEADS)]
        cookie = cookie_of(keys, draw.choice((OLD_KEY, CURRENT_KEY, CURRENT_KEY, ABSENT)))
        good_order = ["U", "C", *"P" * draw.randrange(4), "A"]
        order = good_order if draw.random() < 0.7 else draw.choices("UCPA?upcax", k=draw.randrange(1, 8))
        for _ in range(draw.choice((0, 0, 0, 1, 2))):
            order[draw.randrange(len(order))] = draw.choice("UCPA?upcax")
        packet = bytes([0x23]) + draw.randbytes(47)
        for letter in order:
            packet += self.field(letter, keys, cookie, packet)
        return packet

    def field(self, letter: str, keys: SessionKeys, cookie: bytes, packet: bytes) -> bytes:
        draw = self.draw
        match letter:
            case "U":
                return raw_field(UNIQUE_IDENTIFIER, draw.randbytes(4 * draw.choice((8, 8, 9, 50))))
            case "u":  # too short
                return raw_field(UNIQUE_IDENTIFIER, draw.randbytes(4 * draw.randrange(8)))
            case "C":
                return raw_field(COOKIE, cookie)
            case "c":
                return raw_field(COOKIE, draw.randbytes(4 * draw.randrange(45)))
            case "P":
                return raw_field(PLACEHOLDER, draw.randbytes(len(cookie)))
            case "p":
                return raw_field(PLACEHOLDER, bytes(4 * draw.randrange(45)))
            case "A":
                return authenticator(keys.c2s, draw.randbytes(16), b"", packet)
            case "a":  # authentic, but not as the engine expects
                inside = draw.choice((b"", raw_field(PLACEHOLDER, bytes(len(cookie))), raw_field(COOKIE), b"odd"))
                nonce = draw.randbytes(draw.choice((1, 12, 15, 16, 17, 24)))
                return authenticator(keys.c2s, nonce, inside, packet, 4 * draw.randrange(5))
            case "x":  # in its length
                return raw_field(draw.choice((UNIQUE_IDENTIFIER, COOKIE, AUTHENTICATOR)), bytes(36), draw.randrange(64))
            case _:
                return raw_field(UNKNOWN_FIELD, draw.randbytes(4 * draw.randrange(3, 10)))


def harmed(packets: Sequence[bytes], seed: object, count: int) -> Iterator[bytes]:
    """Mutations of packets, most of them in one or a few octets."""
    draw = Random(f"{seed}")
    for packet in (draw.choice(packets) for _ in range(count)):
        octets = bytearray(packet)
        for _ in range(draw.choice((1, 1, 1, 2, 8))):
            at = draw.choice((draw.randrange(len(octets) + 1), draw.randrange(48, max(len(octets), 49))))
            match draw.randrange(5):
                case 0 | 1 if at < len(octets):
                    octets[at] ^= 1 << draw.randrange(8)
                case 2:
                    octets[at : at + 2] = struct.pack(">H", draw.choice((0, 4, 16, 36, 40, 104, 0xFFFF)))
                case 3:
                    octets[at & ~3 : at & ~3] = draw.randbytes(4 * draw.randrange(1, 12))
                case _:
                    del octets[at & ~3 : (at & ~3) + 4 * draw.randrange(1, 12)]
        yield bytes(octets)


def corpus(name: str) -> list[bytes]:
    return list(fuzz_run.corpus(name).values())


# --- tests -----------------------------------------------------------------------------------------------------------


def test_the_header_has_the_verdicts_of_the_reference_in_its_order() -> None:
    text = (ROOT / "engine" / "nts_engine.h").read_text()
    body = re.search(r"enum nts_verdict \{(.*?)\}", text, re.DOTALL)
    assert body is not None
    names = re.findall(r"\bNTS_(\w+)", re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL))
    assert names == [*Verdict.__members__, "VERDICTS", "HANDOVER"]
    lib = _module().lib
    assert [getattr(lib, f"NTS_{v.name}") for v in Verdict] == list(Verdict)
    assert (len(Verdict), len(Verdict) + 1) == (lib.NTS_VERDICTS, lib.NTS_HANDOVER)
    assert (lib.NTS_MAX_REQUEST, lib.NTS_BATCH) == (MAX_REQUEST, BATCH)


def test_good_requests_of_all_sizes_are_answered() -> None:
    packets = list(wholesome())
    assert set(tally(judged_all(packets))) == {"ANSWERED_PLAIN", "ANSWERED_NTS"}
    assert set(tally(judged_all(packets[::-1]))) == {"ANSWERED_PLAIN", "ANSWERED_NTS"}


def test_bad_cookies_and_bad_tags_get_their_naks() -> None:
    assert tally(judged_all(naks())).keys() == {v.name for v in NAKS}


def test_authentic_cookies_with_foreign_contents_are_handed_over() -> None:
    """The reference decides, which knows more algorithms; one that is longer than any cookie of ours gets its NAK."""
    assert set(judged_all(foreign())) == {None}
    keys = SESSIONS[Aead.AES_SIV_CMAC_256]
    trailing = foreign_cookie(struct.pack(">H", keys.aead) + keys.s2c + keys.c2s + bytes(4))
    too_long = foreign_cookie(struct.pack(">H", 30) + bytes(132))
    assert tally(judged([nts(keys, cookie=c) for c in (trailing, too_long)])) == {"HANDED_OVER": 1, "NAK_COOKIE": 1}


def test_requests_under_aead_30_are_handed_over() -> None:
    keys = [session_keys(Aead.AES_128_GCM_SIV, context=c) for c in (30, 15)]
    both = struct.pack(">H", 30) + keys[0].s2c + keys[0].c2s + struct.pack(">I", 15) + keys[1].s2c + keys[1].c2s
    requests_ = [Request(keys=k, cookies=(c,)) for k in keys for c in (cookie_of(k), foreign_cookie(both))]
    assert judged_all(r.encode() for r in requests_) == [None] * 4
    assert [respond(r.encode()).verdict for r in requests_] == [Verdict.ANSWERED_NTS] * 4


def test_length_version_and_mode_are_judged_alike() -> None:
    assert tally(judged_all(refused())).keys() > {"DROP_LENGTH", "DROP_VERSION", "DROP_MODE", "DROP_MAC"}


@pytest.mark.parametrize("aead", COVERED_AEADS)
def test_every_truncation(aead: Aead) -> None:
    packet = nts(SESSIONS[aead], placeholders=3)
    seen = tally(judged_all(packet[:n] for n in range(len(packet) + 1)))
    assert seen["ANSWERED_NTS"] == seen["ANSWERED_PLAIN"] == 1


@pytest.mark.parametrize("aead", COVERED_AEADS)
def test_every_flipped_bit(aead: Aead) -> None:
    packet = nts(SESSIONS[aead], placeholders=1, header=bytes(48))
    seen = tally(judged_all(flipped(packet, bit) for bit in range(8 * len(packet))))
    assert min(seen[v] for v in ("NAK_COOKIE", "NAK_AUTH", "DROP_VERSION", "DROP_MODE", "HANDED_OVER")) > 0
    assert seen["ANSWERED_NTS"] == 0


@pytest.mark.parametrize("target", ["ts_server", "ts_server_sealed", "judge_answer", "judge_answer_sealed"])
def test_the_fuzzers_corpus_and_its_mutations(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = corpus(target)
    packets = list(seeds)
    if target == "ts_server_sealed":  # what the target makes of its input

        def note(packet: bytes) -> Outcome:
            packets.append(packet)
            return Outcome(Verdict.DROP_BUSY)

        monkeypatch.setattr(targets, "respond", note)
        for data in [*seeds, *islice(fuzz_run.mutations(seeds, seed=1), 300)]:
            targets.TARGETS[target](data)
    judged_all([*packets, *islice(fuzz_run.mutations(packets, seed=2), 5000)])


def test_spliced_and_harmed_packets() -> None:
    splice = Splicer("splice")
    spliced = [splice() for _ in range(10_000)]
    seen = tally(judged_all(spliced))
    assert min(seen[v] for v in ("ANSWERED_NTS", "NAK_COOKIE", "HANDED_OVER")) > 100
    judged_all(harmed([*spliced, *wholesome()], "harm", 20_000))


@bounded(300)
@given(st.lists(st.one_of(requests().map(Request.encode), mutated(requests().map(Request.encode)),
                          st.binary(max_size=120), st.binary(min_size=47, max_size=300).map(b"\x23".__add__)),
                min_size=1, max_size=6), st.data())  # fmt: skip
def test_batches_of_any_packets(packets: list[bytes], data: st.DataObject) -> None:
    packets = [*packets, nts(SESSIONS[data.draw(st.sampled_from(COVERED_AEADS))], placeholders=len(packets))]
    judged(data.draw(st.lists(st.sampled_from(packets), min_size=1, max_size=BATCH)))


@bounded(300)
@given(st.data())
def test_mutations_of_covered_requests(data: st.DataObject) -> None:
    cookies = st.sampled_from([*bad_cookies(SESSIONS[Aead.AES_SIV_CMAC_256]).values(), *foreign_cookies()])
    covered_ones = st.builds(
        nts, st.sampled_from(list(SESSIONS.values())), cookie=st.none() | cookies, placeholders=st.integers(0, 10),
        uid=st.integers(8, 50).map(lambda n: 4 * n), header=st.binary(max_size=48), cookie_first=st.booleans(),
    )  # fmt: skip
    judged(data.draw(st.lists(covered_ones | mutated(covered_ones), min_size=1, max_size=8)))


def test_large_batches_of_one_kind_and_of_all_kinds() -> None:
    draw, splice = Random(7), Splicer("batches")
    pool = [*wholesome(), *naks(), *foreign(), *refused(), *(splice() for _ in range(200))]
    for keys in SESSIONS.values():  # eight cookies for each packet of a full batch, all the same
        assert tally(judged([nts(keys, placeholders=7)] * BATCH)) == {"ANSWERED_NTS": BATCH}
    for size in range(1, BATCH + 1):
        judged(draw.choices(pool, k=size))
    judged([])


RINGS = {
    "empty": KeyRing(),
    "one": KeyRing((CURRENT_KEY,)),
    "three": KeyRing((OLD_KEY, ABSENT, CURRENT_KEY)),
    "same-id": KeyRing((OLD_KEY, STRANGER, CURRENT_KEY)),
    "same-id-reversed": KeyRing((CURRENT_KEY, STRANGER, OLD_KEY)),
    "extreme-ids": KeyRing((MasterKey(0xFFFF, bytes(32)), MasterKey(0, bytes([255]) * 32))),
    "128": KeyRing(tuple(MasterKey(257 * i, Counter(i)(32)) for i in range(128))),
}


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_key_rings(ring: KeyRing) -> None:
    masters = dict.fromkeys((*ring.keys, OLD_KEY, CURRENT_KEY, ABSENT))
    packets = [nts(k, cookie=cookie_of(k, m), placeholders=1) for m in masters for k in SESSIONS.values()]
    seen = tally(judged_all(packets, ring))
    live = sum(ring.get(m.id) == m for m in masters)
    assert seen == Tally(ANSWERED_NTS=3 * live, NAK_COOKIE=3 * (len(masters) - live))
    judged_all([*naks(), *foreign(), *refused()], ring)


LARGEST = SystemVariables(
    leap=3, stratum=255, precision=127, root_delay=2**32 - 1, root_dispersion=2**32 - 1, reference_id=b"\xff" * 4,
    reference_time=2**64 - 1,
)  # fmt: skip
SMALLEST = SystemVariables(stratum=0, precision=-128, reference_id=bytes(4))


@bounded(60)
@given(
    st.builds(
        SystemVariables, leap=st.integers(0, 3), stratum=st.integers(0, 255), precision=st.integers(-128, 127),
        root_delay=st.integers(0, 2**32 - 1), root_dispersion=st.integers(0, 2**32 - 1),
        reference_id=st.binary(min_size=4, max_size=4), reference_time=st.integers(0, 2**64 - 1),
    ) | st.sampled_from([LARGEST, SMALLEST, SystemVariables()]),
    st.integers(0, 2**64 - 1) | st.just(2**64 - 1), st.integers(0, 2**64 - 1) | st.just(2**64 - 1),
)  # fmt: skip
def test_system_variables_and_times(system: SystemVariables, received: int, transmit: int) -> None:
    keys = SESSIONS[Aead.AES_SIV_CMAC_384]
    packets = [
        bytes([0xDB]) + bytes([255]) * 47, bytes([0x23]) + bytes(range(47)), nts(keys, header=b"\xff" * 48),
        nts(keys, key=keys.s2c), nts(keys, cookie=bytes(100)),
    ]  # fmt: skip
    outcomes = judged(packets, RING, system, received=received, transmit=transmit)
    assert [o.verdict for o in outcomes if o] == [0, 0, 1, Verdict.NAK_AUTH, Verdict.NAK_COOKIE]


def test_one_engine_keeps_nothing_from_batch_to_batch() -> None:
    """The same batches in another order, with others in between, and on a fresh engine."""
    batches = [list(islice(wholesome(), i, i + 50)) for i in (0, 30)] + [list(islice(naks(), 60))]
    first = [judged(b) for b in batches]
    judged_all(harmed(batches[0], "between", 500), KeyRing())
    engine.cache_clear()
    assert [judged(b) for b in batches[::-1]] == first[::-1]


def test_the_c_fuzzers_corpus_is_what_its_script_makes() -> None:
    assert {p.name: p.read_bytes() for p in engine_corpus.CORPUS.iterdir()} == engine_corpus.corpus()


def short_run() -> str:
    """A digest of the outcomes for some packets of each kind."""
    splice = Splicer("backends")
    packets = [*wholesome(), *naks(), *foreign(), *refused(), *(splice() for _ in range(300))]
    digest = hashlib.sha256()
    for outcome in judged_all([*packets, *harmed(packets, "backends", 700)]):
        digest.update(repr(outcome).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_same(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.server.test_engine_parity"], cwd=ROOT, check=False,
        env={**os.environ, "AES_SIV_BACKEND": backend}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if "AES_SIV_BACKEND" in done.stderr:
        pytest.skip(f"this CPU has no {backend}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [backend, short_run()]


if __name__ == "__main__":
    print(engine().backend, short_run())
