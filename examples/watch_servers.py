#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Watches many servers at the same time with asyncio, and prints a line for each query.

usage: watch_servers.py [--ca FILE] [--every 64] [--rounds N] HOST[:PORT]...      without --rounds, until Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

import nts


async def watch(client: nts.aio.Client, every: float, rounds: int | None) -> None:
    """Ask one server again and again. The client makes another key exchange when it has to."""
    while rounds is None or rounds > 0:
        try:
            answer = await client.query()
        except nts.errors.NTSError as e:
            print(f"{client.host}:{client.port} {type(e).__name__}: {e}", flush=True)
        else:
            print(
                f"{client.host}:{client.port} stratum {answer.stratum}, offset {answer.offset:+.6f} s, "
                f"error {answer.error:.6f} s, delay {answer.delay:.6f} s",
                flush=True,
            )
        rounds = None if rounds is None else rounds - 1
        if rounds != 0:
            await asyncio.sleep(every)


async def main() -> None:
    parser = argparse.ArgumentParser(description="watch NTS servers")
    parser.add_argument("servers", nargs="+", metavar="HOST[:PORT]")
    parser.add_argument("--ca", help="file of CA certificates (default: the system's)")
    parser.add_argument("--every", type=float, default=64, help="seconds between queries (default: 64)")
    parser.add_argument("--rounds", type=int, help="queries of each server (default: without end)")
    args = parser.parse_args()
    places = (server.rpartition(":") if ":" in server else (server, "", "4460") for server in args.servers)
    clients = [nts.aio.Client(host, int(port), ca=args.ca) for host, _, port in places]
    await asyncio.gather(*(watch(client, args.every, args.rounds) for client in clients))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
