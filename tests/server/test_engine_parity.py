# SPDX-License-Identifier: MIT
"""The native engine against the reference: the same verdict and the same octets for every packet, or a handover.

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
from itertools import islice, product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import run as fuzz_run
from fuzz import targets
from nts.codec.aead import Aead
from nts.codec.keyring import KeyRing, MasterKey
from nts.protocol.ts_server import MAX_REQUEST, Outcome, SystemVariables, Verdict
from nts.server.engine import _module
from nts.server.ts_daemon import LAYOUT, Cell
from testkit.engine_packets import (
    ABSENT,
    SESSIONS,
    STRANGER,
    Splicer,
    bad_cookies,
    foreign,
    foreign_cookies,
    harmed,
    naks,
    nts,
    refused,
    wholesome,
)
from testkit.engine_parity import BATCH, engine, judged, judged_all, tally
from testkit.packets import (
    COVERED_AEADS,
    CURRENT_KEY,
    OLD_KEY,
    RING,
    Counter,
    Request,
    bounded,
    cookie_in_doubt,
    cookie_of,
    flipped,
    foreign_cookie,
    mutated,
    requests,
    session_keys,
)
from testkit.processes import HAS_ENGINE, NO_ENGINE, ROOT
from tools import engine_corpus

if not HAS_ENGINE:
    pytest.skip(NO_ENGINE, allow_module_level=True)

BACKENDS = ("libcrypto", "aesni", "vaes")
NAKS = (Verdict.NAK_COOKIE, Verdict.NAK_AUTH)


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


def test_the_header_has_the_other_cells_of_the_daemon_in_their_order() -> None:
    text = (ROOT / "engine" / "nts_engine.h").read_text()
    body = re.search(r"enum nts_cell \{(.*?)\}", text, re.DOTALL)
    assert body is not None
    names = re.findall(r"^ *NTS_(\w+)", re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL), re.MULTILINE)
    assert names == [*Cell.__members__, "CELLS"]
    lib = _module().lib
    assert [getattr(lib, f"NTS_{c.name}") for c in Cell] == list(Cell)
    assert list(Cell) == list(range(len(Verdict), lib.NTS_CELLS))
    assert LAYOUT.size == lib.NTS_CELLS


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


def test_requests_whose_exporter_context_is_in_doubt() -> None:
    """A cookie of AEAD 30 may hold two pairs of keys, and the request may be under either, or under neither."""
    first, second, other = (session_keys(Aead.AES_128_GCM_SIV, context=c) for c in (30, 15, 16))
    cookie = cookie_in_doubt(first, second)
    for keys, verdict in ((first, "ANSWERED_NTS"), (second, "ANSWERED_NTS"), (other, "NAK_AUTH")):
        packets = [nts(keys, cookie=cookie, placeholders=n) for n in range(9)]
        assert tally(judged(packets)) == {verdict: len(packets)}
    mixed = [nts(k, cookie=c) for k in (first, second, other) for c in (cookie, cookie_of(first), cookie_of(other))]
    assert tally(judged_all(mixed * 20)) == {"ANSWERED_NTS": 80, "NAK_AUTH": 100}
    known = first.s2c + first.c2s + struct.pack(">I", 14) + second.s2c + second.c2s  # neither 15 nor anything known
    assert judged([nts(first, cookie=foreign_cookie(struct.pack(">H", 30) + known))]) == [None]


def test_authenticators_of_one_algorithm_beside_cookies_of_another() -> None:
    """Nonces of 12 and of 16 octets, with padding and without: the engine hands over what has not the usual one."""
    for keys in SESSIONS.values():
        packets = [
            nts(keys, cookie=cookie_of(others), placeholders=n, spare=spare)
            for others in SESSIONS.values() if others != keys
            for n, spare in product(range(3), (0, 4, 8))
        ]  # fmt: skip
        assert set(tally(judged_all(packets))) == {"HANDED_OVER"} | (set() if keys.aead == 30 else {"NAK_AUTH"})


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
    seeds = list(fuzz_run.corpus(target).values())
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
    "staged": KeyRing((OLD_KEY, CURRENT_KEY), (ABSENT,)),
    "staged-same-id": KeyRing((OLD_KEY, CURRENT_KEY), (STRANGER,)),
    "only-staged": KeyRing((), (CURRENT_KEY,)),
}


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_key_rings(ring: KeyRing) -> None:
    masters = dict.fromkeys((*ring.openers, OLD_KEY, CURRENT_KEY, ABSENT))
    packets = [nts(k, cookie=cookie_of(k, m), placeholders=1) for m in masters for k in SESSIONS.values()]
    seen = tally(judged_all(packets, ring))
    live = sum(ring.get(m.id) == m for m in masters)
    assert seen == Tally(ANSWERED_NTS=4 * live, NAK_COOKIE=4 * (len(masters) - live))
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
    for folder, inputs in engine_corpus.corpora().items():
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == inputs


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
