# SPDX-License-Identifier: MIT
"""A client made of the suite's pieces, and right unless it is given a flaw, which the client cases must find."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from OpenSSL import SSL

from nts.base.errors import FormatError, NTSError
from nts.base.registry import FieldType, Mode
from nts.check.client.recipes import ClientResult, Enough, Place
from nts.client import ke_session
from nts.codec import extensions
from nts.codec.aead import Aead, SessionKeys
from nts.codec.ntp import Header
from nts.codec.records import encode_u16s
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind, Query
from nts.system import addresses
from testkit.raw_ke import GOOD_REQUEST, RawKe, record, split_records

_READING = 3.0  # seconds
_POLL = 0.1  # seconds between the requests of a resident client
Where = tuple[str, int]


@dataclass
class _State:
    """An association: keys, where to go, cookies."""

    keys: SessionKeys
    where: Where
    cookies: list[bytes]


@dataclass
class FlawedClient:
    """One query after a key exchange, or as many as are wanted."""

    name: str = "flawed"
    resident: bool = False
    keeps: bool = True

    any_handshake: bool = False
    """believes every server, whatever its TLS version, ALPN and certificate are"""
    any_response: bool = False
    """picks what it likes from an NTS-KE response"""
    response_limit: int = 1 << 17
    """octets that it reads of a response"""
    any_reply: bool = False
    """takes the time from whatever comes"""
    reads_on: bool = False
    """takes cookies from copies of an answer it has had already"""
    hasty: bool = False
    """believes every NTS NAK at once, and runs key exchanges until it has the time"""
    hoards: bool = False
    """takes cookies from everywhere and keeps all"""
    forgets: bool = False
    """runs a key exchange each time it is started"""
    falls_back: bool = False
    """asks without NTS when it gets no answer"""
    repeats: bool = False
    """always sends the same Unique Identifier"""
    counts: bool = False
    """numbers its requests in the Unique Identifier, which should be random"""
    greedy: bool = False
    """always asks for nine more cookies"""
    stubborn: bool = False
    """ignores NTS NAKs as long as it has cookies"""
    strict_end: bool = False
    """refuses a response after which no close_notify comes"""
    gcm_context: int | None = None
    """offers AEAD 30, and extracts its keys with this number in the context"""

    _states: dict[Path, _State] = field(default_factory=dict)
    _number: int = 0
    _naks: int = 0
    _uid: bytes = field(default_factory=lambda: os.urandom(32))

    def meet(self, place: Place, enough: Enough) -> ClientResult:
        with contextlib.suppress(NTSError, SSL.Error, OSError):
            if self.gcm_context:
                return self._with_aead_30(place, self.gcm_context)
            if self.forgets or place.folder not in self._states:
                self._states[place.folder] = self._exchange(place)
            state = self._states[place.folder]
            accepted = False
            end = time.monotonic() + place.seconds
            for i in itertools.count(1):
                if not state.cookies and not self.forgets:
                    state = self._states[place.folder] = self._exchange(place)
                accepted = self._query(place, state) or (accepted and self.resident)
                if self._naks >= (8 if self.stubborn else 2):
                    self._naks = 0
                    with contextlib.suppress(NTSError):
                        state = self._states[place.folder] = self._exchange(place)
                if self.resident and (enough(accepted) or time.monotonic() > end):
                    break
                if not self.resident and i >= place.count:
                    break
                time.sleep(_POLL if self.resident else 0)
            return ClientResult(accepted)
        return ClientResult(False)

    # --- key exchange ------------------------------------------------------------------------------------------------

    def _exchange(self, place: Place) -> _State:
        if self.any_handshake or self.any_response or self.strict_end or self.response_limit < 1 << 17:
            return self._careless_exchange(place)
        options = ke_session.Options(place.host, place.ke_port, (Aead(15),), ca=place.ca, timeout=20.0)
        result = ke_session.exchange(options)
        where = (result.agreement.server or result.address, result.agreement.port)
        return _State(result.keys[0], where, list(result.agreement.cookies))

    def _careless_exchange(self, place: Place) -> _State:
        with RawKe(place.ke_port, None if self.any_handshake else place.ca) as client:
            client.handshake().send(GOOD_REQUEST)
            found = split_records(client.receive() if self.strict_end else self._read(client))
            if self.strict_end and not client.close_notify:
                raise FormatError("no close_notify")
            if not self.any_response and (0, True, b"") not in found:
                raise FormatError("no whole response")
            cookies = [body for kind, _, body in found if kind == 5]
            return _State(client.export(Aead.AES_SIV_CMAC_256), ("127.0.0.1", place.ntp_port), cookies)

    def _read(self, client: RawKe) -> bytes:
        data, end = b"", time.monotonic() + _READING
        with contextlib.suppress(SSL.Error):
            while len(data) <= self.response_limit and time.monotonic() < end:
                data += client.tls.recv(16384)
        return data[: self.response_limit]

    # --- queries -----------------------------------------------------------------------------------------------------

    def _query(self, place: Place, state: _State) -> bool:
        if not state.cookies:
            return False
        cookie = state.cookies.pop(0)
        placeholders = 9 if self.greedy else ts_client.count_placeholders(len(state.cookies), len(cookie))
        query = ts_client.build_query(state.keys, cookie, placeholders, self._random)
        family = addresses.family_of(state.where[0])
        endpoint = addresses.resolve(*state.where, socket.SOCK_DGRAM, family)[0]
        with socket.socket(endpoint.family, socket.SOCK_DGRAM) as sock:
            sock.connect(endpoint.address)
            sock.send(query.packet)
            accepted = self._await(sock, query, place, state)
            if not accepted and self.falls_back:
                sock.send(Header(mode=Mode.CLIENT, transmit=query.transmit).encode())
        return accepted

    def _await(self, sock: socket.socket, query: Query, place: Place, state: _State) -> bool:
        end, accepted = time.monotonic() + place.wait, False
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                datagram = sock.recv(65535)
            except OSError:
                break
            if self.hoards:
                with contextlib.suppress(FormatError):
                    fields = extensions.walk(datagram)[0]
                    state.cookies[:0] = [f.body for f in fields if f.type == FieldType.COOKIE]
            if self.hasty and datagram[12:16] == b"NTSN":
                for _ in range(4):
                    with contextlib.suppress(NTSError):
                        self._exchange(place)
                return False
            judgement = ts_client.judge(datagram, query)
            self._naks += judgement.kind is AnswerKind.NAK
            fresh = tuple(judgement.cookies)
            state.cookies = [*state.cookies, *fresh] if self.hoards else [*ts_client.restock((*state.cookies,), fresh)]
            if judgement.kind is AnswerKind.TIME and self.reads_on:
                end, accepted = min(end, time.monotonic() + _POLL), True
            elif self.any_reply or judgement.kind is AnswerKind.TIME:
                return True
            if judgement.kind is AnswerKind.UNUSABLE:
                return False
        return accepted

    def _random(self, length: int) -> bytes:
        if length == len(self._uid) and self.counts:
            self._number += 1
            return self._number.to_bytes(length, "big")
        return self._uid if self.repeats and length == len(self._uid) else os.urandom(length)

    def _with_aead_30(self, place: Place, number: int) -> ClientResult:
        """Agree on AEAD 30 where that is possible, and send one request."""
        request = GOOD_REQUEST.replace(record(4, encode_u16s(15)), record(4, encode_u16s(30, 15)))
        with RawKe(place.ke_port, place.ca) as client:
            client.handshake().send(request)
            found = split_records(client.receive())
            (chosen,) = [body for kind, _, body in found if kind == 4]
            keys, gcm_keys = client.export(Aead.AES_SIV_CMAC_256), client.export(Aead.AES_128_GCM_SIV, number)
        cookies = [body for kind, _, body in found if kind == 5]
        if chosen == encode_u16s(15):
            return ClientResult(self._query(place, _State(keys, ("127.0.0.1", place.ntp_port), cookies)))
        packet = ts_client.build_query(gcm_keys, cookies[0], 0, os.urandom).packet
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(packet, ("127.0.0.1", place.ntp_port))
        return ClientResult(False)
