# SPDX-License-Identifier: MIT
"""`python -m tools.bench [CASE...]`: arguments in, tables out."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nts.base.errors import NTSError
from tools.bench import machine
from tools.bench.bench import SOCKETS, WINDOW, Bench, Settings
from tools.bench.cases import CASES
from tools.bench.servers import BenchError

_SPOILT = 0.03  # of the CPUs' time: what others may have of it before figures suffer


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def check(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < 1e9:
            raise argparse.ArgumentTypeError("a number above 0 is needed")
        return value

    return check


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Measures the servers on this machine, beside chronyd where there is one.",
        epilog="cases:\n" + "\n".join(f"  {name:12}{case.__doc__}" for name, case in CASES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to measure; all but memory if none is named")
    parser.add_argument("--rounds", type=_positive(int), default=5, help="how often each server has its turn (5)")
    parser.add_argument("--seconds", type=_positive(float), default=1.0, help="for each measurement (1)")
    parser.add_argument("--no-chrony", action="store_true", help="without chronyd, even where there is one")
    parser.add_argument("--soak", type=_positive(int), default=0, metavar="N", help="requests for the case memory")
    return parser


def _chosen(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[str]:
    unknown = [name for name in arguments.cases if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; the cases are {', '.join(CASES)}")
    return [*arguments.cases] or [name for name in CASES if name != "memory" or arguments.soak]


def _introduce(bench: Bench) -> None:
    (server,), (load,) = bench.cpus.server, bench.cpus.load
    settings = bench.settings
    print(
        f"Linux {platform.release()}; server on CPU {server}, load on CPU {load}; {WINDOW} requests in flight from "
        f"{SOCKETS} ports\nmedians of {settings.rounds} rounds of {settings.seconds:g} s, servers in turns"
    )
    if server == load:
        print("there is only one CPU, so servers and load disturb each other")
    if bench.chrony is None:
        print(f"no chrony beside it: {bench.no_chrony}")


def _run(bench: Bench, name: str) -> None:
    """A case; and a word of warning where others have used the CPUs meanwhile."""
    since, before = time.monotonic(), machine.strangers_cpu_seconds()
    CASES[name](bench)
    share = (machine.strangers_cpu_seconds() - before) / (time.monotonic() - since) / (os.cpu_count() or 1)
    if share > _SPOILT:
        print(
            f"  other processes had {share:.0%} of the CPUs' time meanwhile: measure again when it is quiet", flush=True
        )


def main() -> int:
    """Exit code."""
    parser = _parser()
    arguments = parser.parse_args()
    chosen = _chosen(parser, arguments)
    settings = Settings(arguments.rounds, arguments.seconds, not arguments.no_chrony, arguments.soak)
    try:
        with tempfile.TemporaryDirectory(prefix="nts-bench-") as folder, Bench(settings, Path(folder)) as bench:
            _introduce(bench)
            for name in chosen:
                _run(bench, name)
    except (BenchError, NTSError, OSError) as e:
        print(f"bench: error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
