# SPDX-License-Identifier: MIT
"""A member whose server is chronyd or NTPsec's ntpd: its key file, and the proof that it uses what is in there.

That a command has ended well proves nothing: `chronyc rekey` also does if chronyd rotates its keys itself, reads
another file, or cannot read this one. So the server is asked for the time, with a cookie of each key of ours.
"""

from __future__ import annotations

import os
import socket
import time

from nts.base.errors import NTSError
from nts.codec import foreign_keys
from nts.codec.aead import SessionKeys
from nts.codec.keyring import COOKIE_AEAD, CookieFormat, KeyRing, MasterKey
from nts.fleet.local import demand_format
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind, Query
from nts.server import peer_file
from nts.server.config import ForeignFile
from nts.system.addresses import family_of

_START = 5.0  # seconds that a server may take to use its file; later it may still prove that it does
_UNDER_WAY = 1.0
"""seconds from then on. Key exchanges of chronyd take up to two, and seal with the key of their beginning; of the two
that an old key stays longer than its cookies (`steps.MARGIN`), one is for the clock"""
_TRIES, _WAIT = 3, 0.5  # how often it is asked, and seconds for its answers
_PROOF_LASTS = 60.0  # seconds; a server that limits the rate of requests must have some left for others
_ANSWERS = (AnswerKind.TIME, AnswerKind.UNUSABLE)


class Silent(NTSError):
    """The server does not answer: nobody knows which keys it has."""


class Stale(NTSError):
    """The server answers and uses other keys."""


class PeerKeys:
    """The key file of another server. `local.Target`."""

    def __init__(self, file: ForeignFile, command: tuple[str, ...], server: tuple[str, int]) -> None:
        """`command` has the server read its file, if it is not empty. `server` is where it answers."""
        self._file, self._command, self._server = file, command, server
        self._proven: tuple[object, float] = (), 0.0
        """which keys the server uses, and until when that is taken for granted"""

    def apply(self, ring: KeyRing) -> list[str]:
        """As in `Target`; also an NTSError when the server does not prove that it uses these keys."""
        demand_format(ring, self._file.format)
        is_new = peer_file.write(self._file, ring, os.urandom, whole=True)
        if not is_new:
            if self._proven[0] == (ring.keys, ring.staged) and time.monotonic() < self._proven[1]:
                return []
            try:
                self._prove(ring)
            except Stale:  # it was written, and the server has not been told
                pass
            else:
                return []
        if self._command:
            peer_file.tell(self._command, "command")
        self._prove_soon(ring)
        time.sleep(_UNDER_WAY)
        return [f"wrote {self._file.path}"] if is_new else [f"had {self._file.path} read"]

    def keys(self) -> KeyRing:
        """Those of the file that a fleet can have made; chronyd's own have longer identifiers. The current one last."""
        found = peer_file.read(self._file)
        in_order = (*found[-1:], *found[:-1]) if self._file.format is CookieFormat.CHRONY else found[::-1]
        return KeyRing(tuple(MasterKey(k.id, k.key) for k in in_order if k.id <= foreign_keys.MAX_OWN_ID))

    def _prove_soon(self, ring: KeyRing) -> None:
        end = time.monotonic() + _START
        while True:
            try:
                return self._prove(ring)
            except (Silent, Stale):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def _prove(self, ring: KeyRing) -> None:
        """Ask with a cookie of each key. Silent or Stale when not all answers are good."""
        keys = SessionKeys(COOKIE_AEAD, os.urandom(COOKIE_AEAD.key_length), os.urandom(COOKIE_AEAD.key_length))
        waiting = {key.id: self._query(key, keys) for key in ring.openers}
        with socket.socket(family_of(self._server[0]), socket.SOCK_DGRAM) as sock:
            sock.connect(self._server)
            for _ in range(_TRIES):
                self._collect(sock, waiting, ring)
                if not waiting:
                    self._proven = (ring.keys, ring.staged), time.monotonic() + _PROOF_LASTS
                    return
        raise Silent(f"{self._where} does not answer: does it run, and may this host ask it (chrony.conf: allow)?")

    def _query(self, key: MasterKey, keys: SessionKeys) -> Query:
        cookie = foreign_keys.seal(key.foreign(self._file.format), keys, os.urandom(COOKIE_AEAD.nonce_length))
        return ts_client.build_query(keys, cookie, 0, os.urandom)

    def _collect(self, sock: socket.socket, waiting: dict[int, Query], ring: KeyRing) -> None:
        """Send the queries, and remove those that are answered."""
        end = time.monotonic() + _WAIT
        for query in waiting.values():
            try:
                sock.send(query.packet)
            except OSError:  # an ICMP error of the one before
                continue
        while waiting and (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                datagram = sock.recv(2048)
            except OSError:  # none in time, or an ICMP error
                continue
            for key_id, query in list(waiting.items()):
                if self._is_good(datagram, key_id, query, ring):
                    del waiting[key_id]

    def _is_good(self, datagram: bytes, key_id: int, query: Query, ring: KeyRing) -> bool:
        """Whether this answers the query, with a cookie of the current key. Stale when it refuses."""
        judged = ts_client.judge(datagram, query)
        if judged.kind is AnswerKind.NAK:
            raise self._stale(f"refuses cookies of key {key_id:04x}")
        if judged.kind not in _ANSWERS:
            return False
        current = ring.keys[-1].foreign(self._file.format)
        if not judged.cookies or any(foreign_keys.open_cookie(current, c) != query.keys for c in judged.cookies):
            raise self._stale(f"does not seal with key {ring.keys[-1].id:04x}")
        return True

    def _stale(self, what: str) -> Stale:
        path = self._file.path
        return Stale(
            f"{self._where} {what}: it has not read {path} (chrony.conf: ntsrotate 0, ntsdumpdir {path.parent})"
        )

    @property
    def _where(self) -> str:
        return f"the server on {self._server[0]} port {self._server[1]}"
