# SPDX-License-Identifier: MIT
"""ntsts_client.py: its arguments, and what it prints of each query and of all of them together."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from nts.base.errors import ExitCode, Mismatch, NoAnswer, NotAuthentic, NTSError
from nts.base.registry import KE_PORT
from nts.base.text import counted
from nts.cli import options, results, script
from nts.client import rekey, ts_session
from nts.client.state import DEFAULT_AEADS, DEFAULT_PATH, ClientState, path_of
from nts.client.ts_session import Answer, Exchange
from nts.codec import aead
from nts.system import console

TRANSIENT = (NoAnswer, Mismatch, NotAuthentic)  # failures of one query after which the next may succeed


def arguments(doc: str | None) -> argparse.Namespace:
    """The command line. Options may stand between HOST and PORT."""
    parser = options.parser(doc)
    parser.add_argument("host", nargs="?", type=options.text, help="time server (default: the one in client.ini)")
    parser.add_argument("port", nargs="?", type=options.port, help="UDP port (default: the one in client.ini)")
    parser.add_argument(
        "-f", "--file", type=options.path, metavar="FILE", help="file written by ntske_client.py (default: client.ini)"
    )
    parser.add_argument(
        "--ke", type=options.text, metavar="HOST",
        help="key exchange server: its file is client.HOST.ini, which is made by a key exchange if it is missing",
    )  # fmt: skip
    parser.add_argument("--ke-port", type=options.port, default=KE_PORT, metavar="PORT", help="(default: 4460)")
    parser.add_argument("-c", "--ca", type=options.path, metavar="FILE", help="for --ke: CA certificates to trust")
    parser.add_argument("--verify-name", type=options.text, metavar="NAME", help="for --ke: name in the certificate")
    parser.add_argument("-n", "--count", type=options.count, default=1, metavar="N", help="queries (default: 1)")
    parser.add_argument("-i", "--interval", type=options.duration, default=1.0, metavar="S", help="pause (default: 1)")
    parser.add_argument(
        "--no-rekey", action="store_true", help="no new key exchange when cookies are used up or refused"
    )
    parser.add_argument("--dump", action="store_true", help="show both packets")
    parser.add_argument("--timeout", type=options.duration, default=5.0, metavar="S", help="seconds (default: 5)")
    options.add_family(parser)
    options.add_output(parser)
    return parser.parse_intermixed_args()


def main(doc: str | None) -> int:
    """Run the script with this docstring; the exit code."""
    args = arguments(doc)
    script.heed_ctrl_c()
    store = ClientState(args.file or (path_of(args.ke) if args.ke else DEFAULT_PATH))
    if args.ke and not store.path.exists():
        _begin(args, store)
    route = ts_session.Route(args.host, args.port, args.family)
    with Series(args) as series:
        while series.add(lambda: _ask(args, store, route)):
            time.sleep(args.interval)
    return series.conclude()


def _begin(args: argparse.Namespace, store: ClientState) -> None:
    from nts.client import ke_session  # here: most queries need no TLS

    wanted = ke_session.Options(
        host=args.ke, port=args.ke_port, aeads=DEFAULT_AEADS, ca=args.ca.resolve() if args.ca else None,
        verify_name=args.verify_name, family=args.family, timeout=args.timeout,
    )  # fmt: skip
    rekey.begin(store, wanted)
    console.say(f"key exchange with {args.ke}; stored in {store.path}")


def _ask(args: argparse.Namespace, store: ClientState, route: ts_session.Route) -> Exchange:
    if args.no_rekey:
        return ts_session.ask(store, route, args.timeout)
    return rekey.ask(store, route, args.timeout, pause=args.interval, say=console.warn)


class Series:
    """A run of queries. A context manager, so that even Ctrl-C ends it with a summary, if it was to be more than one.

    stdout: for each query its packets (--dump) and its result, as lines or as one JSON object. stderr: all else.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        """`args`: count, json, dump, verbose, show_secrets."""
        self._args = args
        self._queries = 0
        self._answers: list[Answer] = []
        self._failure: NTSError | None = None
        self._warned = False

    def __enter__(self) -> Series:
        return self

    def __exit__(self, _kind: object, e: BaseException | None, _trace: object) -> None:
        if self._args.count > 1 and not self._args.json and not isinstance(e, OSError):  # then stdout is broken
            print("\n".join(results.summary_lines(self._answers, self._queries)), flush=True)

    def add(self, ask: Callable[[], Exchange]) -> bool:
        """Make a query and print what came of it. Returns whether there is another one to make."""
        if self._failure:
            console.warn(str(self._failure))
        try:
            exchange = ask()
        except NTSError as e:
            self._failure = e
            self._print({"failure": results.failure_dict(e)})
        else:
            self._failure = exchange.failure
            self._show(exchange)
        self._queries += 1
        fatal = self._failure and not isinstance(self._failure, TRANSIENT)
        return not fatal and self._queries < self._args.count

    def conclude(self) -> ExitCode:
        """The exit code. Of several queries, one answer makes a success; else the last failure is raised."""
        if self._failure and not self._answers:
            raise self._failure
        if self._failure:
            console.warn(str(self._failure))
        return ExitCode.OK

    def _show(self, exchange: Exchange) -> None:
        args, association = self._args, exchange.association
        if not association.verify and not self._warned:
            console.warn("the keys come from a key exchange without certificate verification: anyone could answer")
            self._warned = True
        if args.verbose and not self._queries and (note := aead.substitute([association.keys.aead])):
            console.say(note)
        if args.dump and not args.json:
            print("\n".join(results.exchange_lines(exchange, secrets=args.show_secrets)), flush=True)
        if exchange.answer is not None:
            self._answers.append(exchange.answer)
            if not args.json:
                print(results.answer_line(exchange.answer), flush=True)
            if args.verbose:
                fresh = counted(len(exchange.answer.judgement.cookies), "fresh cookie")
                console.say(f"{fresh}, {exchange.stock} in stock")
        self._print(results.exchange_dict(exchange, dump=args.dump, secrets=args.show_secrets))
        if exchange.context is not None:
            console.say(f"the server has {exchange.context} in its exporter context")
        if exchange.unstored:
            console.warn(f"the fresh cookies are lost: {exchange.unstored}")

    def _print(self, values: dict[str, object]) -> None:
        if self._args.json:
            print(json.dumps(values), flush=True)
