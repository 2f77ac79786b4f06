# SPDX-License-Identifier: MIT
"""A query that repairs its association: a new key exchange when there are no cookies left or the server refuses them.

The new key exchange is as the old one was, with the same server, names, CA and algorithms. Several processes may use
the same file: one of them does the key exchange, the others take over what it stores. Whatever fails, nothing is ever
asked for the time without NTS (RFC 8915 section 8.7).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nts.base.errors import NoCookies, NTSError, NtsNak
from nts.client import ts_session
from nts.client.state import Association, ClientState
from nts.client.ts_session import Exchange, Route
from nts.protocol import ke_client

if TYPE_CHECKING:
    from nts.client.ke_session import Options

_IN_FLIGHT = 1.0  # seconds for the answers that other processes wait for, which will bring cookies

Say = Callable[[str], None]


class Refusals:
    """Whether an NTS NAK calls for a key exchange. It may be forged: two polls must be refused (section 5.7)."""

    def __init__(self) -> None:
        self._refused = False

    def note(self, failure: NTSError | None) -> bool:
        """Take note of what a query came to. True: a key exchange is due."""
        due = self._refused and isinstance(failure, NtsNak)
        self._refused = failure is not None and (self._refused or isinstance(failure, NtsNak))
        return due


def ask(
    store: ClientState, route: Route, timeout: float, *, refusals: Refusals, pause: float | None, say: Say
) -> Exchange:
    """Query as `ts_session.ask` does, if necessary after a new key exchange.

    When the server refuses our cookies, ask again after `pause` seconds; None: the caller will, with the same
    `refusals`. `say` gets a line for each step. Raises what `ts_session.ask` and `ke_session.exchange` raise. If it is
    too early for another key exchange (section 4.2), the hint of NoCookies or of the result's `failure` says so.
    """
    try:
        exchange = ts_session.ask(store, route, timeout)
        due = refusals.note(exchange.failure)
        if isinstance(exchange.failure, NtsNak) and not due and pause is not None:
            say(f"{exchange.failure}; asking again in {pause:g} s")
            time.sleep(pause)
            exchange = ts_session.ask(store, route, timeout)
            due = refusals.note(exchange.failure)
    except NoCookies as e:
        renewed = renew(store, store.load(), timeout, e, say)
    else:
        if not due or exchange.failure is None:
            return exchange
        try:
            renewed = renew(store, exchange.association, timeout, exchange.failure, say)
        except NtsNak as e:
            exchange.failure = e
            return exchange
    exchange = ts_session.ask(store, route, timeout)
    refusals.note(exchange.failure)
    exchange.renewed = renewed
    return exchange


def begin(store: ClientState, options: Options) -> None:
    """Do the first key exchange for a file, unless another process does. Raises what `ke_session.exchange` raises."""
    from nts.client import ke_session  # here: most queries need no TLS

    with store.locked_for_key_exchange(options.timeout + ts_session.NAK_GRACE):
        if not store.path.exists():
            store.check_writable(options.ca)
            store.save(ke_session.exchange(options).association(options))


def renew(store: ClientState, before: Association, timeout: float, why: NTSError, say: Say) -> bool:
    """Repeat the key exchange that led to the association `before`.

    Returns False when another process has done so meanwhile, or has brought cookies. Raises `why`, with the time in its
    hint, if it is too early. Until the key exchange has succeeded, the old keys and cookies stay.
    """
    if not before.ke_host:
        raise type(why)(str(why), hint=f"{store.path} does not name the key exchange server: run ntske_client.py")
    from nts.client import ke_session  # here: most queries need no TLS

    with store.locked_for_key_exchange(timeout + ts_session.NAK_GRACE):
        end = time.monotonic() + _IN_FLIGHT
        while isinstance(why, NoCookies) and store.changed_within(timeout) and time.monotonic() < end:
            if store.load().cookies:
                return False
            time.sleep(0.02)
        now = store.load()
        if not now.is_like(before) or (isinstance(why, NoCookies) and now.cookies):
            return False
        wait = store.begin_key_exchange(int(time.time()), ke_client.retry_interval)
        if wait:
            hint = f"another key exchange may begin in {wait} s; ntske_client.py does one now"
            raise type(why)(str(why), hint=hint)
        options = ke_session.Options(
            host=now.ke_host, port=now.ke_port, aeads=now.aeads, ca=Path(now.ca) if now.ca else None,
            verify=now.verify, verify_name=now.verify_name or None, timeout=timeout,
        )  # fmt: skip
        fresh = ke_session.exchange(options).association(options)
        tried = store.load()
        store.save(replace(fresh, attempts=tried.attempts, not_before=tried.not_before))
    say(f"{why}: there was a new key exchange with {before.ke_host}")
    return True
