#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Alarms when this machine's clock is off: exit code 1 if it is, 0 if it is not, 2 if that cannot be known.

usage: clock_alarm.py HOST [--port 4460] [--ca FILE] [--limit 0.1]      for example from cron
"""

from __future__ import annotations

import argparse
import sys

import nts


def main() -> int:
    parser = argparse.ArgumentParser(description="alarm when this machine's clock is off")
    parser.add_argument("host")
    parser.add_argument("--port", type=int, default=4460)
    parser.add_argument("--ca", help="file of CA certificates (default: the system's)")
    parser.add_argument("--limit", type=float, default=0.1, help="seconds (default: 0.1)")
    args = parser.parse_args()
    try:
        answer = nts.query(nts.key_exchange(args.host, args.port, ca=args.ca))
    except nts.errors.NTSError as e:
        print(f"unknown: {e}", file=sys.stderr)
        return 2
    shown = f"{answer.offset:+.6f} s, give or take {answer.error:.6f} s"
    if abs(answer.offset) - answer.error > args.limit:  # what is left of the offset is certain
        print(f"ALARM: the server's clock is ahead of ours by {shown}")
        return 1
    print(f"ok: {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
