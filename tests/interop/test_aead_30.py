# SPDX-License-Identifier: MIT
"""AEAD 30 (AES-128-GCM-SIV) from end to end: our clients and servers, and chronyd where it speaks it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.errors import ExitCode
from nts.base.registry import RecordType
from nts.check.peer import Authority, KeBehaviour, KeTalk, craft, pair
from nts.client.state import ClientState
from nts.codec import cookies
from nts.codec.aead import Aead
from nts.codec.records import encode_u16s
from testkit import chrony, processes
from testkit.chrony import unused
from testkit.processes import Suite, free_port, run

AEAD_30 = Aead.AES_128_GCM_SIV


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite whose server prefers AEAD 30."""
    with processes.running_suite(tmp_path_factory.mktemp("aead30"), ntske={"aeads": "30, 15"}) as suite:
        yield suite


def test_our_client_and_servers_agree_on_it(own: Suite) -> None:
    """A94."""
    fetched = own.fetch("--aead", "30,15")
    assert fetched.returncode == ExitCode.OK, fetched.stderr
    assert "Compliant AES-128-GCM-SIV Exporter Context" in fetched.stdout
    assert "keys for AEAD_AES_128_GCM_SIV" in fetched.stdout
    association = ClientState(own.client_ini).load()
    assert (association.keys.aead, association.other_keys) == (AEAD_30, None)
    assert {len(c) for c in association.cookies} == {68}
    asked = own.ask("-n", "3", "-i", "0.05", "--json")
    assert (asked.returncode, asked.stderr) == (ExitCode.OK, "")
    assert [json.loads(line)["cookies"]["stock"] for line in asked.stdout.splitlines()] == [8, 8, 8]


@pytest.mark.parametrize("context", [30, 15])
def test_our_client_finds_out_the_context_of_a_server_that_does_not_say(
    tmp_path: Path, authority: Authority, context: int
) -> None:
    """As chrony 4.4 to 4.6.0 has it, and as a server that has never heard of record 1024."""

    def agree(talk: KeTalk) -> None:
        master = talk.ring.current
        assert master is not None
        made = [cookies.seal(master, (talk.export(AEAD_30, context),), os.urandom(16)) for _ in range(8)]
        more = craft.record(RecordType.PORT, encode_u16s(talk.behaviour.ntp_port))
        talk.send(craft.response(aeads=encode_u16s(AEAD_30), cookies=made, more=more))

    ini = tmp_path / "client.ini"
    with pair(KeBehaviour(agree), authority=authority) as servers:
        fetched = run("ntske_client.py", "-c", authority.ca, "-o", ini, "--aead", 30, "localhost", servers.ke.port)
        assert fetched.returncode == ExitCode.OK, fetched.stderr
        assert "does not say which exporter context it uses" in fetched.stdout
        asked = run("ntsts_client.py", "-f", ini)
        assert asked.returncode == ExitCode.OK, asked.stderr
        assert f"the server has {context} in its exporter context" in asked.stderr
        again = run("ntsts_client.py", "-f", ini)
        assert (again.returncode, again.stderr) == (ExitCode.OK, "")
        assert len(servers.ntp.requests) == (2 if context == 30 else 3)


def test_the_default_prefers_aead_15(suite: Suite, tmp_path: Path) -> None:
    ini = tmp_path / "client.ini"
    assert suite.fetch("--aead", "30,15", output=ini).returncode == ExitCode.OK
    assert ClientState(ini).load().keys.aead == Aead.AES_SIV_CMAC_256


# --- chronyd, from 4.4 on --------------------------------------------------------------------------------------------


@pytest.fixture
def _chronyd_speaks_it(chronyd_can_run: None) -> None:
    if not chrony.has_gcm_siv():
        pytest.skip(f"chronyd {'.'.join(map(str, chrony.version()))} has no AEAD 30: it came with 4.4")


@pytest.mark.interop
@pytest.mark.usefixtures("_chronyd_speaks_it")
def test_chronyd_agrees_on_it_with_our_servers(own: Suite, folder: Path) -> None:
    """Without record 1024, up to 4.6.0, our cookies hold the keys of both contexts."""
    source = f"server 127.0.0.1 nts ntsport {own.ke_port} iburst minpoll -3 maxpoll -3"
    with chrony.running(unused(folder), [*chrony.nts_client(own.ca), source]) as chronyd:
        auth = chronyd.wait_for_nts("127.0.0.1")
        assert (auth.type, auth.key_length, auth.nak) == (30, 128, 0)
        assert auth.cookie_length == (68 if chrony.has_record_1024() else 104)


@pytest.mark.interop
@pytest.mark.usefixtures("_chronyd_speaks_it")
def test_our_clients_agree_on_it_with_chronyd(folder: Path, authority: Authority) -> None:
    path, ke_port, ntp_port = unused(folder), free_port(), free_port(socket.SOCK_DGRAM)
    with chrony.running(path / "c", chrony.nts_server(authority, ke_port, ntp_port)):
        fetched = run(
            "ntske_client.py", "-c", authority.ca, "-o", path / "ini", "--aead", "30,15", "localhost", ke_port
        )
        assert fetched.returncode == ExitCode.OK, fetched.stderr
        assert "keys for AEAD_AES_128_GCM_SIV" in fetched.stdout
        assert (ClientState(path / "ini").load().other_keys is None) == chrony.has_record_1024()
        asked = run("ntsts_client.py", "-f", path / "ini", "-n", 2, "-i", 0.1)
        assert asked.returncode == ExitCode.OK, asked.stderr
        assert ("15 in its exporter context" in asked.stderr) != chrony.has_record_1024()
