# SPDX-License-Identifier: MIT
"""AEAD 30 (AES-128-GCM-SIV) from end to end: our clients and servers, and chronyd where it speaks it."""

from __future__ import annotations

import json
import os
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
from testkit import processes
from testkit.processes import Suite, run

AEAD_30 = Aead.AES_128_GCM_SIV


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite whose server prefers AEAD 30."""
    with processes.running_suite(tmp_path_factory.mktemp("aead30"), ntske={"aeads": "30, 15"}) as suite:
        yield suite


def test_our_client_and_servers_agree_on_it(own: Suite) -> None:
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
