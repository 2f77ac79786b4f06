# SPDX-License-Identifier: MIT
"""An association that is in memory alone: `ClientState` without a file, for programs that keep running."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nts.client.state import Association, ClientState


class MemoryState(ClientState):
    """What a key exchange gave, with its stock of cookies. Threads may share it."""

    def __init__(self, association: Association) -> None:
        self.path = Path("memory")  # for messages
        self._association, self._lock = association, threading.RLock()

    def load(self) -> Association:
        """The association as it is now."""
        return self._association

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            yield

    def _write(self, association: Association) -> None:
        self._association = association
