#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time client (RFC 8915 section 5): asks the time with one of the cookies in client.ini, and verifies the answer.

examples:
  ntsts_client.py                   one query to the server that ntske_client.py was sent to
  ntsts_client.py localhost 4123    one query there, with the same keys and cookies
  ntsts_client.py -n 8 -i 2         eight queries, two seconds apart
  ntsts_client.py --dump            show both packets, field by field
  ntsts_client.py --json            the result as JSON, one object for each query

exit codes: 0 ok, 2 usage or file, 10 name, 20 no answer, 21 NTS NAK, 22 not authentic, 23 not an answer to this
request, 24 no cookies left, 25 the server is not synchronised or sends us away, 1 anything else
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from nts import cli
from nts.errors import ExitCode, Mismatch, NoAnswer, NotAuthentic

TRANSIENT = (NoAnswer, Mismatch, NotAuthentic)  # failures of one query that say nothing of the next


def arguments() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("host", nargs="?", help="time server (default: the one in client.ini)")
    parser.add_argument("port", nargs="?", type=cli.port, help="UDP port (default: the one in client.ini)")
    parser.add_argument("-f", "--file", metavar="FILE", help="the file of ntske_client.py (default: client.ini)")
    parser.add_argument("-n", "--count", type=cli.count, default=1, metavar="N", help="queries (default: 1)")
    parser.add_argument("-i", "--interval", type=cli.duration, default=1.0, metavar="S", help="pause (default: 1)")
    parser.add_argument("--dump", action="store_true", help="show both packets")
    parser.add_argument("--timeout", type=cli.duration, default=5.0, metavar="S", help="seconds (default: 5)")
    cli.add_family(parser)
    cli.add_output(parser)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    from nts import report, ts_session
    from nts.state import DEFAULT_PATH, ClientState

    store = ClientState(Path(args.file or DEFAULT_PATH))
    association = store.load()
    if not association.verify:
        cli.warn("the keys come from a key exchange without certificate verification: anyone could be answering")
    endpoint = ts_session.locate(association, args.host, args.port, args.family)
    answers, failure = [], None
    for i in range(args.count):
        if i:
            time.sleep(args.interval)
        result = ts_session.ask(store, endpoint, args.timeout)
        if args.dump:
            print("\n".join(report.exchange_lines(result, secrets=args.show_secrets)), flush=True)
        if result.answer is not None:
            answers.append(result.answer)
            values = report.answer_dict(result.answer, result.stock, server_verified=association.verify)
            print(json.dumps(values) if args.json else report.answer_line(result.answer), flush=True)
            if args.verbose:
                cli.say(f"{len(result.answer.judgement.cookies)} fresh cookies, {result.stock} in stock")
        if result.unstored:
            cli.warn(f"the fresh cookies are lost: {result.unstored}")
        failure = result.failure
        if failure and (not isinstance(failure, TRANSIENT) or i + 1 == args.count):
            break  # final, or the last one anyway
        if failure:
            cli.warn(str(failure))
    if failure and not (answers and isinstance(failure, TRANSIENT)):
        raise failure
    if failure:
        cli.warn(str(failure))
    if args.count > 1 and not args.json:
        print(report.summary_line(answers, args.count))
    return ExitCode.OK


if __name__ == "__main__":
    cli.run(main)
