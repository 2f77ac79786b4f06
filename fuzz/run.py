# SPDX-License-Identifier: MIT
"""`python -m fuzz.run [--seconds N] [TARGET ...]`: fuzz each target in turn, for N seconds each.

With atheris, guided by coverage, where it can be imported; else with a plain mutator of the corpus, and it says so.
An input that breaks a target is saved under build/fuzz/ and shown in hex, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
BUILD = ROOT / "build" / "fuzz"
MAX_LENGTH = 8192
GRACE = 60  # seconds over its time after which a fuzzer is stopped: it hangs


def corpus(target: str) -> dict[str, bytes]:
    """The seeds of a target by name."""
    return {p.name: p.read_bytes() for p in sorted((CORPUS / target).iterdir())}


def mutations(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """Endless mutations of the seeds, the same for the same `seed`."""
    draw = random.Random(seed)
    interesting = [b"\0", b"\xff", b"\x80", b"\0\0", b"\xff\xff", b"\0\4", b"\n", b"[", b"]", b"=", b" ", b"0", b"\x0c"]
    while True:
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 1, 2, 4, 16))):
            at, size = draw.randrange(len(data) + 1), draw.randrange(1, 17)
            match draw.randrange(6):
                case 0 if data:
                    data[at - 1] ^= 1 << draw.randrange(8)
                case 1:
                    data[at : at + 1] = draw.choice(interesting)
                case 2:
                    data[at:at] = draw.choice(interesting)
                case 3:
                    del data[at : at + size]
                case 4:
                    data[at:at] = data[at : at + size]
                case _:
                    other = draw.choice(seeds)
                    data[at:] = other[draw.randrange(len(other) + 1) :]
        yield bytes(data[:MAX_LENGTH])


def save(target: str, data: bytes) -> Path:
    """Keep an input that broke a target."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / f"{target}-crash-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def run_plain(target: str, function: Callable[[bytes], None], seconds: float) -> bool:
    """Seeds, then their mutations until time is up. False when one broke the target."""
    seeds = list(corpus(target).values())
    end, runs = time.monotonic() + seconds, 0
    for data in seeds:
        runs += 1
        if not _holds(target, function, data):
            return False
    for data in mutations(seeds, seed=time.time_ns()):
        if time.monotonic() >= end:
            break
        runs += 1
        if not _holds(target, function, data):
            return False
    print(f"{target}: {runs} runs in {seconds:g} s, nothing found", flush=True)
    return True


def _holds(target: str, function: Callable[[bytes], None], data: bytes) -> bool:
    try:
        function(data)
    except Exception:
        traceback.print_exc()
        report(target, save(target, data))
        return False
    return True


def report(target: str, path: Path) -> None:
    print(f"{target}: BROKEN by {path.relative_to(ROOT)}:\n{path.read_bytes().hex()}", flush=True)


def run_atheris(target: str, seconds: int) -> bool:
    """Atheris in a process of its own, since it ends its process. False when something broke the target."""
    found = BUILD / "corpus" / target
    found.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "fuzz.run", "--inside-atheris", target,
        f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-timeout=10", "-rss_limit_mb=2048",
        "-print_final_stats=1", f"-artifact_prefix={BUILD / target}-", str(found), str(CORPUS / target),
    ]  # fmt: skip
    try:
        result = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + GRACE, check=False
        )
        output, code = (result.stdout + result.stderr).decode(errors="replace"), result.returncode
    except subprocess.TimeoutExpired as e:
        output, code = (e.stderr or b"").decode(errors="replace") + f"\nstopped after {e.timeout} s", -1
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
    if code == 0 and runs:
        print(f"{target}: {runs[1]} runs in {seconds} s, nothing found", flush=True)
        return True
    print("\n".join(line for line in output.splitlines()[-60:] if not line.startswith("INFO:")))
    for name in re.findall(r"Test unit written to (\S+)", output):
        report(target, Path(name))
    print(f"{target}: the fuzzer ended with code {code}", flush=True)
    return False


def inside_atheris(target: str, arguments: list[str]) -> NoReturn:
    """The process that `run_atheris` starts."""
    import atheris

    with atheris.instrument_imports(include=["nts"]):
        from fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()
    sys.exit(0)


def main(argv: list[str]) -> int:
    if argv[:1] == ["--inside-atheris"]:
        inside_atheris(argv[1], argv[2:])
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description="Fuzz each target in turn.")
    parser.add_argument("--seconds", type=int, default=20, metavar="N", help="for each target (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="the plain mutator, even where atheris is installed")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; none: all")
    args = parser.parse_args(argv)
    if unknown := set(args.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    guided = importlib.util.find_spec("atheris") is not None and not args.plain
    reason = "you asked for it" if args.plain else f"atheris is not installed for Python {sys.version.split()[0]}"
    print(
        "fuzzing with atheris, guided by coverage" if guided else f"fuzzing with the plain mutator: {reason}",
        flush=True,
    )
    good = True
    for target in args.targets or TARGETS:
        good &= run_atheris(target, args.seconds) if guided else run_plain(target, TARGETS[target], args.seconds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
