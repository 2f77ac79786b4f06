# SPDX-License-Identifier: MIT
"""What the fleet asks of the place where its plan lies: octets by name, and transactions. `etcd` and `folder` are such.

Names are `shared/plan`, `shared/leader`, `members`, `clock`, `acks/MEMBER` and `alive/MEMBER`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from nts.base.errors import ExitCode, NTSError

PLAN, LEADER = "shared/plan", "shared/leader"


class Item(NamedTuple):
    """A value and the revision that wrote it: another one, above 0, with each change."""

    value: bytes
    revision: int


class Unreachable(NTSError):
    """The store does not answer."""

    exit_code = ExitCode.CONNECT
    hint = "servers go on with the keys that they have; the fleet goes on when the store is back"


class Refused(NTSError):
    """The store answers, and refuses."""

    hint = "does fleet.ini name this host's own certificate, and has init granted it the role?"


class Store(Protocol):
    """All methods raise Unreachable or Refused."""

    def read(self, prefix: str, since: int = 0) -> dict[str, Item]:
        """What is stored under names that start so, all as of one moment; with `since`, what is newer than that."""

    def write(self, changes: Mapping[str, bytes | None], expected: Mapping[str, int], *, mortal: bool = False) -> bool:
        """Put these values (None: remove) if the names in `expected` have these revisions (0: are absent).

        Otherwise do nothing, and return False. `mortal`: they vanish when this process no longer calls `beat`. After an
        error, either may be the case.
        """

    def beat(self) -> bool:
        """Keep alive what is mortal. False: it has died, or there was nothing; it can be written anew now."""

    def wait(self, seconds: float) -> bool:
        """Wait, and return earlier when plan or leader has changed. Whether they may have, since the last time."""

    def close(self) -> None:
        """Let what is mortal die, and end."""
