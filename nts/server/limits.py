# SPDX-License-Identifier: MIT
"""Who may stay connected to a worker of the NTS-KE server: the connections by prefix of the client's address.

No prefix opens more connections a second than `rate_per_prefix`. If it has more than `max_per_prefix` at a time, its
oldest gives way; if all have more than `max_sessions`, the oldest of the prefix with the most does. So a flood from one
place costs others nothing, and its neighbours behind the same prefix are still served.

An IPv4 address that is mapped into IPv6 counts as IPv4. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from nts.protocol.rate_limit import prefix_of
from nts.server.config import KeConfig
from nts.system.addresses import family_of

Connection = TypeVar("Connection", bound=Hashable)
Prefix = int
"""as `rate_limit.prefix_of` makes it"""
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2


class Limits(Generic[Connection]):
    """The connections that a worker holds."""

    def __init__(self, config: KeConfig) -> None:
        self._config = config
        self._held: dict[Prefix, dict[Connection, None]] = {}  # oldest first
        self._total = 0
        self._arrivals: Counter[Prefix] = Counter()  # within this second
        self._second = 0

    def prefix(self, host: str) -> Prefix:
        """The prefix that a numeric address, perhaps with a zone, belongs to."""
        octets = socket.inet_pton(family_of(host), host.partition("%")[0]).removeprefix(_MAPPED)
        return prefix_of(octets, self._config.prefix4, self._config.prefix6)

    def admits(self, prefix: Prefix, now: float) -> bool:
        """Whether one more connection in this second is within the rate."""
        rate = self._config.rate_per_prefix
        if not rate:
            return True
        if int(now) != self._second:
            self._second = int(now)
            self._arrivals.clear()
        self._arrivals[prefix] += 1
        return self._arrivals[prefix] <= rate

    def add(self, prefix: Prefix, connection: Connection) -> Connection | None:
        """Hold one more connection. Returns another that must be closed if that makes one too many."""
        own = self._held.setdefault(prefix, {})
        own[connection] = None
        self._total += 1
        if len(own) > self._config.max_per_prefix:
            return next(iter(own))
        return self.first_to_go() if self._total > self._config.max_sessions else None

    def remove(self, prefix: Prefix, connection: Connection) -> None:
        """A connection is closed."""
        own = self._held[prefix]
        del own[connection]
        self._total -= 1
        if not own:
            del self._held[prefix]

    def first_to_go(self) -> Connection | None:
        """The oldest connection of the prefix with the most; None when there is no connection."""
        most = max(self._held.values(), key=len, default=None)
        return next(iter(most)) if most else None
