# SPDX-License-Identifier: MIT
"""`python -m tools.interop`: arguments in, tables out."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from nts.base.errors import NTSError
from testkit.processes import ROOT
from tools.interop import document, network, page, peers, report
from tools.interop.cases import CASES
from tools.interop.network import NetworkError
from tools.interop.run import Cell, Grade, Outcome, play_all

_FOLDER = ROOT / "build/interop"
_DOCUMENT = ROOT / "docs/interop.md"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.interop",
        description="Runs every NTS server that is here with every client, in network namespaces. As root.",
        epilog="cases:\n"
        + "\n".join(f"  {c.letter}  {c.name:14} {c.what}" for c in CASES.values())
        + "\n\ntools/peers.sh unpacks chrony, NTPsec and ntpd-rs of a Debian release. A name may be cut:\n"
        "--server chrony stands for every chrony.\n\n"
        "exit codes: 0 all that is supported succeeded, 1 something failed, 2 usage, 3 it cannot run here",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for role in ("server", "client"):
        text = f"only with this {role}; may be repeated"
        parser.add_argument(f"--{role}", action="append", default=[], metavar="NAME", help=text)
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; may be repeated")
    parser.add_argument(
        "--parallel", type=int, choices=range(1, 33), default=6, metavar="N", help="cells at a time (6)"
    )
    parser.add_argument(
        "--folder", type=Path, default=_FOLDER, help="for packets, keys, logs and results (build/interop)"
    )
    parser.add_argument("--list", action="store_true", help="only say which peers are here")
    parser.add_argument("--report", action="store_true", help="run nothing; make the tables of what the folder has")
    parser.add_argument("--document", action="store_true", help=f"then write {_DOCUMENT.relative_to(ROOT)} too")
    return parser


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[report.Record]:
    """Run the chosen cells."""
    here = peers.here()
    try:
        servers, clients = (list(peers.chosen(here, names)) for names in (args.server, args.client))
    except ValueError as e:
        parser.error(str(e))
    cells = [Cell(s, c, CASES[name]) for s in servers for c in clients for name in args.case or CASES]
    records: list[report.Record] = []

    def each(outcome: Outcome) -> None:
        records.append(report.record(outcome))
        report.keep(records[-1], args.folder)
        print(
            f"{len(records)}/{len(cells)}  {outcome.cell.name}: {outcome.grade.value}{outcome.reason and ': '}"
            f"{outcome.reason} ({outcome.seconds:.0f} s)",
            flush=True,
        )

    play_all(cells, args.folder, args.parallel, each)
    return records


def main() -> int:
    """Exit code."""
    parser = _parser()
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    try:
        if args.list:
            for peer in peers.here():
                print(f"{peer.name:16} {peer.path or 'of this machine'}")
            return 0
        if not args.report and (lack := network.missing()):
            raise NetworkError(lack)
        ran = [] if args.report else _run(parser, args)
    except (NetworkError, NTSError, OSError, subprocess.SubprocessError) as e:
        print(f"interop: error: {e}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    records = report.load(args.folder)
    if not records:
        print(f"interop: error: no results in {args.folder}", file=sys.stderr)
        return 3
    (args.folder / "result.json").write_text(report.as_json(records))
    (args.folder / "index.html").write_text(page.page(records))
    if args.document:
        _DOCUMENT.write_text(document.document(records))
    print()
    for line in report.table(records if args.report else ran, colour=sys.stdout.isatty()):
        print(line)
    print(f"all of it is in {args.folder}: index.html, result.json, and a folder for each cell")
    return int(any(r.grade is Grade.FAILED for r in ran))


if __name__ == "__main__":
    sys.exit(main())
