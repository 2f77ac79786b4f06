# SPDX-License-Identifier: MIT
"""Both real clients, one after the other: C10 and C22 of nts_check's cases."""

from __future__ import annotations

from pathlib import Path

from nts.check.peer import Authority, KeBehaviour, KePeer, KeTalk, NtpBehaviour, NtpPeer
from nts.check.peer.craft import random_cookies, response
from nts.codec.aead import Aead, SessionKeys
from nts.codec.records import encode_u16s as u16
from testkit import processes
from testkit.client_runs import (
    KE,
    TS,
    KeCase,
    check_failure,
    check_success,
    genuine,
    ke_server,
    only,
    say,
    some_keys,
    stored_cookies,
    write_association,
)
from testkit.raw_ke import END, record


def test_time_client_resumes_from_the_stored_cookies_when_the_key_exchange_is_gone(
    authority: Authority, tmp_path: Path
) -> None:
    """A37, A39, A40, A79, A80, C22: both sides export the same keys, record 7 alone means the KE server's address."""
    cookies, ini = random_cookies(), tmp_path / "client.ini"

    def grant(talk: KeTalk) -> None:
        def key(direction: int) -> bytes:
            context = bytes([0, 0, 0, 15, direction])
            return talk.connection.export_keying_material(b"EXPORTER-network-time-security", 32, context)

        server.behave(keys=SessionKeys(Aead.AES_SIV_CMAC_256, key(0), key(1)))
        talk.request()
        talk.send(response(cookies=cookies, more=record(7, u16(server.port))))

    with NtpPeer(NtpBehaviour(only(genuine))) as server:
        with KePeer(KeBehaviour(grant, authority.issue())) as key_exchange:
            check_success(processes.run(KE, "-c", authority.ca, "-o", ini, "localhost", key_exchange.port))
        for _ in range(2):
            check_success(processes.run(TS, "-f", ini))
        assert len(key_exchange.sessions) == 1
        assert server.spent() == cookies[:2]
        assert all(r.is_authentic for r in server.requests)
    # The time server has gone too: an error, and no plain NTP instead. Then it is back.
    check_failure(processes.run(TS, "-f", ini, "--timeout", 0.5), 20, "no NTP answer")
    assert stored_cookies(ini)[:5] == cookies[3:]


def test_failed_key_exchange_leaves_the_old_association_usable(authority: Authority, tmp_path: Path) -> None:
    """C10, A76: keep polling with old cookies until a key exchange succeeds."""
    ini = tmp_path / "client.ini"
    keys, error = some_keys(), KeCase(say(record(2, u16(2)) + END))
    with NtpPeer(NtpBehaviour(only(genuine), keys=keys)) as server, ke_server(error, authority) as key_exchange:
        write_association(ini, keys, server.port, random_cookies(8))
        check_failure(processes.run(KE, "-c", authority.ca, "-o", ini, "localhost", key_exchange.port), 16, "Error 2")
        check_success(processes.run(TS, "-f", ini))
    assert len(server.requests) == 1
