# SPDX-License-Identifier: MIT
"""Makes the corpora of the engine's C fuzzers: `python -m tools.engine_corpus` writes engine/fuzz/corpus/NAME and
engine/fuzz/corpus_frame/NAME.

The same octets every time. The layouts are told in engine/fuzz/fuzz_answer.c and fuzz_frame.c: before each packet some
octets with what is to be put right in it.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from fuzz.seeds import seeds as python_seeds
from testkit.frames import Frame
from testkit.packets import (
    COVERED_AEADS,
    CURRENT_KEY,
    OLD_KEY,
    PLACEHOLDER,
    REQUEST,
    Request,
    cookie_of,
    raw_field,
    session_keys,
)

CORPUS = Path(__file__).resolve().parent.parent / "engine" / "fuzz" / "corpus"
FIX_HEADER, FIX_COOKIE, FIX_TAIL, FIX_BUILD, FIX_REPEAT = 1, 2, 4, 8, 16
PADDED, FIRST_OF_TWO, SECOND_OF_TWO = 32, 64, 96  # of AEAD 30, in fixes
FOREIGN = 8  # the knob: whatever the cookie field holds is sealed as a cookie's contents


def entry(packet: bytes, fixes: int = 0, knobs: int = 0) -> bytes:
    """One packet of a batch."""
    return struct.pack(">BBH", fixes, knobs, len(packet)) + packet


def corpus() -> dict[str, bytes]:
    """Every input by name."""
    inputs = {f"python-{name}": entry(packet) for name, packet in python_seeds()["ts_server"].items()}
    for knob, aead in enumerate(COVERED_AEADS):
        request = Request(keys=session_keys(aead), cookies=(cookie_of(session_keys(aead), OLD_KEY),))
        packet = request.with_placeholders(2).encode()
        inputs |= {
            f"request-{aead.value}": entry(packet),
            f"fixed-{aead.value}": entry(packet, FIX_HEADER | FIX_COOKIE | FIX_TAIL, knob),
            f"foreign-{aead.value}": entry(packet, FIX_COOKIE | FIX_TAIL | FIX_REPEAT, knob | FOREIGN),
            f"built-{aead.value}": entry(bytes([7]), FIX_BUILD | FIX_REPEAT, knob),
        }
    unknown = replace(REQUEST, cookies=(cookie_of(REQUEST.keys, replace(CURRENT_KEY, id=0x4321)),))
    fixed = entry(REQUEST.encode(), FIX_COOKIE | FIX_TAIL)
    odd = replace(REQUEST, before=raw_field(PLACEHOLDER, bytes(100)))
    return inputs | {
        "batch-mixed": b"".join([fixed, *inputs.values()])[:4000],
        "batch-full": entry(bytes([1]), FIX_BUILD | FIX_REPEAT, 4) * 32,
        "built-30-padded": entry(bytes([7]), FIX_BUILD | FIX_REPEAT | PADDED, 3),
        "built-30-in-doubt": entry(bytes([0]), FIX_BUILD | FIRST_OF_TWO, 3)
        + entry(bytes([3]), FIX_BUILD | SECOND_OF_TWO, 3),
        "batch-kinds": b"".join(
            entry(bytes([1]), FIX_BUILD | FIX_REPEAT | kind, knob)
            for kind, knob in ((0, 0), (0, 1), (0, 2), (0, 3), (PADDED, 3), (FIRST_OF_TWO, 3), (SECOND_OF_TWO, 3))
        )
        * 4,
        "unknown-key": entry(unknown.encode(), FIX_HEADER),
        "placeholder-first": entry(odd.encode(), FIX_COOKIE | FIX_TAIL),
        "empty": b"",
        "empty-packets": entry(b"") * 3,
    }


def frames() -> dict[str, bytes]:
    """Every input of fuzz_frame by name: whether to make checksums right, the length of the reply, a frame."""
    payload = REQUEST.encode()
    ipv4, ipv6 = Frame("192.0.2.2", "192.0.2.1", 123, payload), Frame("2001:db8::2", "2001:db8::1", 123, payload)
    found = {"ipv4": ipv4, "ipv6": ipv6, "padded": replace(ipv4, payload=b"", padding=bytes(18))}
    return {name: b"\1\xff" + frame.encode() for name, frame in found.items()}


def corpora() -> dict[Path, dict[str, bytes]]:
    """The inputs of each folder."""
    return {CORPUS: corpus(), CORPUS.with_name("corpus_frame"): frames()}


def main() -> None:
    for folder, inputs in corpora().items():
        folder.mkdir(parents=True, exist_ok=True)
        for name, octets in inputs.items():
            (folder / name).write_bytes(octets)


if __name__ == "__main__":
    main()
