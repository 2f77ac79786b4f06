#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time client (RFC 8915 section 5): requests the time with a cookie from client.ini and verifies the answer.

examples:
  ntsts_client.py                   query the server named by the key exchange
  ntsts_client.py localhost 4123    query this server, with the same keys and cookies
  ntsts_client.py -n 8 -i 2         send eight queries, two seconds apart
  ntsts_client.py --dump            show both packets, field by field
  ntsts_client.py --json            print a JSON object for each query

exit codes: 0 ok, 2 usage or file, 10 name, 20 no answer, 21 NTS NAK, 22 not authentic, 23 not an answer to this
request, 24 no cookies left, 25 the server is not synchronised or refuses to serve us, 1 anything else
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from nts.base.errors import ExitCode, Mismatch, NoAnswer, NotAuthentic
from nts.cli import options, script
from nts.system import console

TRANSIENT = (NoAnswer, Mismatch, NotAuthentic)  # failures of one query after which the next may succeed


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("host", nargs="?", help="time server (default: the one in client.ini)")
    parser.add_argument("port", nargs="?", type=options.port, help="UDP port (default: the one in client.ini)")
    parser.add_argument("-f", "--file", metavar="FILE", help="file written by ntske_client.py (default: client.ini)")
    parser.add_argument("-n", "--count", type=options.count, default=1, metavar="N", help="queries (default: 1)")
    parser.add_argument("-i", "--interval", type=options.duration, default=1.0, metavar="S", help="pause (default: 1)")
    parser.add_argument("--dump", action="store_true", help="show both packets")
    parser.add_argument("--timeout", type=options.duration, default=5.0, metavar="S", help="seconds (default: 5)")
    options.add_family(parser)
    options.add_output(parser)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    from nts.cli import results
    from nts.client import ts_session
    from nts.client.state import DEFAULT_PATH, ClientState
    from nts.codec import aead

    store = ClientState(Path(args.file or DEFAULT_PATH))
    association = store.load()
    if not association.verify:
        console.warn("the keys come from a key exchange without certificate verification: anyone could answer")
    if args.verbose and (note := aead.substitute([association.keys.aead])):
        console.say(note)
    endpoints = ts_session.locate(association, args.host, args.port, args.family)
    answers, failure = [], None
    for i in range(args.count):
        if i:
            time.sleep(args.interval)
        result = ts_session.ask(store, endpoints, args.timeout)
        if args.dump:
            print("\n".join(results.exchange_lines(result, secrets=args.show_secrets)), flush=True)
        if result.answer is not None:
            answers.append(result.answer)
            endpoints.sort(key=result.answer.endpoint.__ne__)  # query this address first next time
            values = results.answer_dict(result.answer, result.stock, server_verified=association.verify)
            print(json.dumps(values) if args.json else results.answer_line(result.answer), flush=True)
            if args.verbose:
                console.say(f"{len(result.answer.judgement.cookies)} fresh cookies, {result.stock} in stock")
        if result.context is not None:
            console.say(f"the server has {result.context} in its exporter context")
        if result.unstored:
            console.warn(f"the fresh cookies are lost: {result.unstored}")
        failure = result.failure
        if failure and (not isinstance(failure, TRANSIENT) or i + 1 == args.count):
            break  # fatal, or the last query
        if failure:
            console.warn(str(failure))
    if failure and not (answers and isinstance(failure, TRANSIENT)):
        raise failure
    if failure:
        console.warn(str(failure))
    if args.count > 1 and not args.json:
        print(results.summary_line(answers, args.count))
    return ExitCode.OK


if __name__ == "__main__":
    script.run(main)
