# SPDX-License-Identifier: MIT
"""A real server to watch: always the same address, so that the cookies of several machines do not mix."""

from __future__ import annotations

import socket
from dataclasses import replace

from nts.base.errors import KeResponseError
from nts.check.ke.probe import Fetched, KeProbe
from nts.check.lifetime.watch import Fate, Reply
from nts.check.model import CheckEnded
from nts.check.ntp.answer import Kind
from nts.check.ntp.forge import Forge
from nts.check.ntp.probe import NtpProbe
from nts.system import addresses


class WiredServer:
    """Asks with the probes of a check, at their pace."""

    def __init__(self, ke: KeProbe, ntp: NtpProbe, family: socket.AddressFamily) -> None:
        self._ke, self._ntp, self._family = ke, ntp, family
        self._ticket: Fetched | None = None
        self.where = ""
        """the time server's address"""

    def fetch(self) -> tuple[bytes, ...]:
        try:
            found = self._ke.fetch()
        except CheckEnded as e:
            raise KeResponseError(str(e)) from None
        endpoint = found.endpoint(self._family)
        self._ticket = replace(found, server=addresses.numeric_host(endpoint.address))
        self.where = addresses.format_address(endpoint.address)
        return found.cookies

    def ask(self, cookie: bytes) -> Reply:
        assert self._ticket is not None  # cookies come from `fetch` first
        try:
            answer = self._ntp.ask_with(replace(self._ticket, cookies=(cookie,)), Forge.usual)
        except CheckEnded:  # it cannot be sent
            return Reply(Fate.SILENCE)
        if answer.kind is Kind.TIME:
            return Reply(Fate.ACCEPTED, next(iter(answer.cookies), None))
        return Reply(Fate.SILENCE if answer.kind is Kind.SILENCE or answer.is_rate_kiss else Fate.REFUSED)
