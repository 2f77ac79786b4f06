# SPDX-License-Identifier: MIT
"""The NTS-KE server: listening sockets, certificate and master keys, and workers with a loop in Python (`ke_worker`) or
in C (`ke_native`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial

from prometheus_client.core import Metric

from nts.base.errors import NTSError
from nts.base.text import counted
from nts.codec import aead
from nts.protocol.ke_server import KeServer
from nts.server import ke_native, keystore, listen, trial_certificate
from nts.server.certificate import CertificateWatcher
from nts.server.config import KeysConfig, ServerConfig
from nts.server.counters import Counters
from nts.server.harness import Harness, WorkerContext
from nts.server.ke_connection import Shared
from nts.server.ke_counters import LAYOUT, KeCounters
from nts.server.ke_native import NativeWorker
from nts.server.ke_worker import Worker
from nts.server.limits import Limits
from nts.server.metrics import gauge
from nts.system import certs, console, privileges

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn
_DAY = 86400.0  # seconds
_DEFER = 1  # seconds: the kernel holds back a connection on which nothing arrives so long


def serve(config: ServerConfig, *, verbose: bool, log_addresses: bool) -> None:
    """Run the NTS-KE server until SIGINT or SIGTERM. ConfigError when it cannot start."""
    ke, ntp, keys = config.ntske, config.ntpv4, config.keys
    aead.check(ke.aeads)
    trial_certificate.make_if_missing(ke, config.server.user)
    if keys.label_problem:
        console.warn(keys.label_problem)
    certificate = CertificateWatcher(ke)
    problem = certificate.problem()
    if problem:
        console.warn(f"{ke.server_cert} {problem}: clients will refuse it")
        if ke.auto_cert:
            console.warn("move the certificate and its key away, and the next start makes a new throwaway one")
    groups, engine_line = ke_native.choose(ke.engine, certificate, config.keys.cookie_format)
    listen.raise_descriptor_limit()
    listeners = listen.for_key_exchange(ke.listen, ke.port)
    for listener in listeners:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER)
        listener.listen(BACKLOG)
    first = keystore.ensure_key(keys.master_keys_dir, keys.max_keys, os.urandom)
    if first:
        privileges.give(config.server.user, keys.master_keys_dir, *keys.master_keys_dir.iterdir())
        console.say(f"made the first master key, {first.key.id:04x}, in {keys.master_keys_dir}")
    policy = KeServer(ke.aeads, ntp.server, ntp.port)

    def set_up(worker: WorkerContext) -> Callable[[], None]:
        counters = KeCounters(worker.counters)
        shared = Shared(policy, certificate, keys.key_label, worker, counters, log_addresses=log_addresses)
        return (NativeWorker(listeners, shared, ke, groups) if groups else Worker(listeners, shared, Limits(ke))).run

    harness = Harness(
        config,
        ke.workers,
        LAYOUT,
        verbose=verbose,
        files=(ke.server_cert, ke.server_key),
        writable=[keys.master_keys_dir] if keys.rotate_every else [],
        metrics_at=ke.metrics,
        sources=[partial(_metrics, certificate, "native" if groups else "python")],
    )
    harness.run(
        set_up,
        lambda: _announce(config, certificate.description, listeners, engine_line),
        "sessions",
        reload="reads its certificate again",
        look=lambda: _look(certificate, keys, harness.counters),
        stopping=lambda: listen.close_all(listeners),  # another instance may listen while the workers drain
    )


def _look(certificate: CertificateWatcher, keys: KeysConfig, counters: Counters) -> None:
    """Rotate the master key when its time has come, and print a line for whatever else calls for action."""
    if keys.rotate_every is not None:
        try:
            made = keystore.rotate_if_due(keys.master_keys_dir, keys.max_keys, keys.rotate_every, os.urandom)
        except NTSError as e:
            console.warn_now_and_then("rotation", f"the master key is due for rotation, but {e}")
        else:
            if made:
                console.say(f"new master key {made.key.id:04x}: the last one was {keys.rotate_every} seconds old")
    certificate.follow(console.ignore, console.ignore)  # the first worker says it
    if certificate.days_left() < certs.SOON_DAYS:
        when = f"{certificate.description.not_after:%Y-%m-%d %H:%M} UTC"
        console.warn_now_and_then("certificate", f"the certificate in use expires on {when}", _DAY)
    turned_away = {name: n for name, n in counters.totals().items() if name in ("evicted", "refused")}
    console.warn_of_more("limits", f"clients are turned away: {console.counts(turned_away)}", sum(turned_away.values()))


def _metrics(certificate: CertificateWatcher, engine: str) -> Iterator[Metric]:
    certificate.follow(console.ignore, console.ignore)
    expiry = certificate.description.not_after.timestamp()
    yield gauge(
        "nts_ke_certificate_expiry_timestamp_seconds", "When the certificate in use expires, in Unix time.", expiry
    )
    yield gauge("nts_ke_engine_info", "What serves the usual sessions.", 1, engine=engine)


def _announce(
    config: ServerConfig, certificate: certs.Description, listeners: list[socket.socket], engine_line: str
) -> None:
    ke, ntp = config.ntske, config.ntpv4
    console.say(f"NTS-KE on TCP {listen.describe(listeners)}; {counted(ke.workers, 'worker')}")
    console.say(engine_line)
    console.say(f"certificate for {', '.join(certificate.names)}, valid until {certificate.not_after:%Y-%m-%d}")
    console.say(f"sends clients to {ntp.server or 'the address they used'}, UDP port {ntp.port}")
