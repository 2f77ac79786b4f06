# SPDX-License-Identifier: MIT
"""The case of the key exchange server: sessions per CPU second, with and without a post-quantum group."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from OpenSSL import SSL

from testkit.processes import ROOT, Suite
from testkit.raw_ke import END, GOOD_REQUEST, RawKe, client_context
from tools.bench import machine
from tools.bench.bench import Bench
from tools.bench.servers import BenchError, Exchange, Server, starting

CLIENTS = 8  # at the same time


def server(bench: Bench, name: str, engine: str, group: str) -> Server:
    """The suite's server with one worker, which accepts this group only, chosen as README has it; empty: as shipped."""
    folder = bench.folder / f"ke-{engine}-{group or 'any'}"
    folder.mkdir()
    settings = folder / "openssl.cnf"
    shipped = (ROOT / "nts/server/openssl.cnf").read_text()
    settings.write_text(shipped.replace("\n#Groups", f"\nGroups = {group}\n#") if group else shipped)

    def start() -> Server:
        suite = Suite(folder, options={"ntske": {"engine": engine}})
        with mock.patch.dict(os.environ, OPENSSL_CONF=str(settings)), starting("ntske_server.py"):
            process = suite.start_ke()
        return Server(name, suite.ntp_port, process, Exchange(suite.ke_port, suite.ca))

    return bench.started(start, bench.cpus.server)


def sessions_per_cpu_second(bench: Bench, server: Server) -> float:
    """Closed loops of whole sessions, each with a handshake of its own."""
    context, end, pids = client_context(server.exchange.ca), time.monotonic() + bench.settings.seconds, server.pids

    def loop(_: int) -> int:
        done = 0
        while not done or time.monotonic() < end:
            with RawKe(server.exchange.port, context=context) as peer:
                peer.handshake().send(GOOD_REQUEST)
                done += peer.receive().endswith(END)
        return done

    before = machine.cpu_seconds(pids)
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            done = sum(pool.map(loop, range(CLIENTS)))
    except (SSL.Error, OSError) as e:
        raise BenchError(f"{server.name}: a key exchange failed: {e!r}") from None
    return done / (machine.cpu_seconds(pids) - before)
