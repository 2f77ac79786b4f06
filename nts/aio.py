# SPDX-License-Identifier: MIT
"""The API of `nts` for asyncio: the same names, with coroutines for what waits for the network.

Queries run on the event loop, which must be able to watch sockets (`loop.add_reader`): all on Linux and macOS are.
They have the kernel's timestamps, so a busy loop does not spoil them. Key exchanges, which are rare, and look-ups of
names run in the default executor: when a coroutine is cancelled, its thread still takes up to `timeout` seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from nts import api
from nts.api import AEADS, EMPTY, TIMEOUT, Answer, Association, FilePath, Renewal, answer_of
from nts.base.errors import NoCookies, NTSError, NtsNak
from nts.base.registry import KE_PORT
from nts.client import ts_session
from nts.client.ts_session import Attempt, Reception

__all__ = ["Answer", "Association", "Client", "key_exchange", "query"]


async def key_exchange(
    host: str,
    port: int = KE_PORT,
    *,
    ca: FilePath | None = None,
    verify_name: str | None = None,
    aeads: Sequence[int] = AEADS,
    timeout: float = TIMEOUT,
) -> Association:
    """As `nts.key_exchange`."""
    return await asyncio.to_thread(
        api.key_exchange, host, port, ca=ca, verify_name=verify_name, aeads=aeads, timeout=timeout
    )


async def query(association: Association, *, timeout: float = TIMEOUT) -> Answer:
    """As `nts.query`. Several may wait for their answers at the same time. Not for an association that threads use."""
    store, route = association._store, association._route
    await asyncio.to_thread(route.endpoints, store.load())  # looks the name up, and remembers what it found
    steps = ts_session.plan(store, route, timeout)
    while True:
        try:
            attempt, share, grace = next(steps)
        except StopIteration as done:
            return answer_of(done.value)
        await _make(attempt, share, grace)


async def _make(attempt: Attempt, timeout: float, refusal_grace: float) -> None:
    """What `ts_session.query` does."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    with Reception(attempt, timeout, refusal_grace) as reception:
        if reception.left() <= 0:
            return
        loop.add_reader(reception, readable.set)
        try:
            while (left := reception.left()) > 0:
                await asyncio.wait_for(readable.wait(), left)
                readable.clear()
                reception.receive()
        except asyncio.TimeoutError:  # another class than TimeoutError before Python 3.11
            pass
        finally:
            loop.remove_reader(reception)


@dataclass(eq=False)
class Client(Renewal):
    """As `nts.Client`, for one event loop. Tasks may share a client; their queries take turns."""

    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def query(self) -> Answer:
        """As `nts.Client.query`."""
        async with self._turn:
            try:
                answer = await query(self._usable() or await self._renewed(NoCookies(EMPTY)), timeout=self.timeout)
            except NtsNak as e:
                self._refused(e)
                answer = await query(await self._renewed(e), timeout=self.timeout)
            self._answered()
            return answer

    async def _renewed(self, cause: NTSError) -> Association:
        self._begin(cause)
        return await asyncio.to_thread(self._renew)
