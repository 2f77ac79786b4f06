# SPDX-License-Identifier: MIT
"""The fact sheet of nts_check: what it finds out, with how few packets, and what it leaves unknown."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest

from nts.check.context import Target
from nts.check.facts import Facts, Implementation
from nts.check.output import sheet
from nts.check.peer import SOUND_NTP, Authority, KeBehaviour, NtpBehaviour, pair
from nts.check.peer.ntp import NtpTalk, sound
from nts.check.server import effort, facts
from nts.check.server.probe import ServerProbe
from nts.codec.aead import Aead
from nts.codec.ntp import HEADER_LENGTH
from nts.protocol.ts_server import SystemVariables
from testkit import chrony
from testkit.bad_certificates import MALFORMED, malformed
from testkit.imitations import CHRONY, IMITATIONS, keyed
from testkit.processes import Suite, free_port, run
from testkit.sample_checks import FACTS, SCHEMA

FACTS_SCHEMA = {"$ref": "#/$defs/facts", "$defs": SCHEMA["$defs"]}


def gathered(port: int, authority: Authority | None = None, patience: float = 0.05) -> Facts:
    probe = ServerProbe(Target("localhost", port, authority.ca if authority else None, patience=patience), pace=0)
    return facts.gather(probe, probe.ke.reach())


def told(found: Facts) -> dict[str, str]:
    """The sheet as a person sees it; what JSON has is as the schema says."""
    jsonschema.validate(json.loads(json.dumps(dataclasses.asdict(found))), FACTS_SCHEMA)
    return dict(sheet.lines(found))


# --- our own servers -------------------------------------------------------------------------------------------------


def test_facts_alone_are_told_and_nothing_is_judged(suite: Suite) -> None:
    server = ("server", "--fast", "--facts", "-c", suite.ca, "localhost", suite.ke_port)
    done = run("nts_check.py", *server)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\S+(?: \S+)?)  +", done.stdout, re.MULTILINE) == list(dict(sheet.lines(FACTS)))
    assert "probably this suite" in done.stdout
    assert done.stdout.endswith("Nothing was judged: only the facts were asked for. Exit code 0.\n")
    values = json.loads(run("nts_check.py", *server, "--json").stdout)
    jsonschema.validate(values, SCHEMA)
    assert (values["results"], values["grade"], values["summary"]["conforms"]) == ([], None, None)
    found = values["facts"]
    assert found["ke"]["tls_version"] == "TLSv1.3"
    assert found["certificate"]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert 364 < found["certificate"]["days_left"] <= 365
    assert found["nts"]["aeads"] == [15, 17, 16, 30]
    assert (found["nts"]["preference"], found["nts"]["cookies"], found["nts"]["cookie_length"]) == ("server", 8, 100)
    assert found["nts"]["record_order"] == [1, 4, 7, 5, 0]
    assert (found["ntp"]["port"], found["ntp"]["stratum"], found["ntp"]["plain"]) == (
        suite.ntp_port, 10, {"3": True, "4": True},
    )  # fmt: skip
    assert abs(found["ntp"]["offset_s"]) <= found["ntp"]["offset_bound_s"] + 0.01
    assert 0 <= found["ntp"]["processing_s"] < 1


def test_they_take_a_handful_of_packets(authority: Authority) -> None:
    with pair(authority=authority) as servers:
        found = gathered(servers.ke.port, authority)
        assert len(servers.ke.sessions) <= effort.FACTS[0] + 1
        assert len(servers.ntp.requests) == effort.FACTS[1]
    assert found.implementation.name == "this suite"


# --- what differs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aeads", "preference"), [((15,), None), ((30, 15), "server"), ((15, 30), "server"), ((17, 16), "server")]
)
def test_the_servers_order_of_algorithms_is_seen(
    authority: Authority, aeads: tuple[int, ...], preference: str | None
) -> None:
    with pair(KeBehaviour(aeads=tuple(map(Aead, aeads))), authority=authority) as servers:
        found = gathered(servers.ke.port, authority).nts
    assert (found.aeads, found.preference) == (aeads, preference)


def test_where_the_clients_order_decides_algorithms_are_sorted(authority: Authority) -> None:
    with pair(IMITATIONS["facebook/time"].behaviour, authority=authority) as servers:
        found = gathered(servers.ke.port, authority)
    assert (found.nts.aeads, found.nts.preference) == ((15, 17, 30), "client")
    assert told(found)["AEAD"] == "15, 17, 30, the client's order decides"


def without_plain(talk: NtpTalk) -> Iterable[bytes | float]:
    return sound(talk) if len(talk.datagram) > HEADER_LENGTH else []


def version_4(talk: NtpTalk) -> Iterable[bytes | float]:
    return sound(talk) if talk.datagram[0] >> 3 & 7 == 4 else []


@pytest.mark.parametrize(
    ("behaviour", "plain"),
    [
        (SOUND_NTP, {"3": True, "4": True}),
        (NtpBehaviour(without_plain), {"3": False, "4": False}),
        (NtpBehaviour(version_4), {"3": False, "4": True}),
        (NtpBehaviour(lambda _talk: []), {"3": None, "4": None}),
    ],
    ids=["both", "none", "version 4", "silence"],
)
def test_who_is_served_without_nts(
    authority: Authority, behaviour: NtpBehaviour, plain: dict[str, bool | None]
) -> None:
    with pair(ntp=behaviour, authority=authority) as servers:
        found = gathered(servers.ke.port, authority, 0.1)
    assert found.ntp.plain == plain
    known = found.ntp.stratum is not None
    assert known is (None not in plain.values())
    assert ("unknown" in told(found)["offset"]) is not known


def test_a_clock_that_is_not_synchronised_has_a_stratum_and_no_offset(authority: Authority) -> None:
    system = SystemVariables(leap=3, stratum=16)
    with pair(ntp=NtpBehaviour(system=system), authority=authority) as servers:
        found = gathered(servers.ke.port, authority)
    assert (found.ntp.stratum, found.ntp.offset_s, found.ntp.offset_bound_s) == (16, None, None)
    assert found.ntp.processing_s is not None


def test_a_certificate_that_nobody_accepts_is_described_all_the_same(authority: Authority) -> None:
    expired = authority.issue(days=(-10, -2), names=("other.example.net",), common_name="\x1b[1m")
    with pair(KeBehaviour(certificate=expired), authority=authority) as servers:
        found = gathered(servers.ke.port, authority).certificate
    assert found.names == ("other.example.net",)
    assert found.days_left is not None
    assert -2.1 < found.days_left < -1.9
    assert dict(sheet._certificate(found))["valid"].endswith("expired 2 days ago")


@pytest.mark.parametrize("part", MALFORMED)
def test_a_malformed_certificate_leaves_at_most_its_facts_unknown(authority: Authority, part: str) -> None:
    with pair(KeBehaviour(certificate=malformed(authority, part)), authority=authority) as servers:
        found = gathered(servers.ke.port, authority)
    assert found.nts.cookies == 8
    assert "certificate" in told(found)
    assert found.certificate.names is None or "localhost" not in found.certificate.names or part != "name"


def test_a_server_that_gives_no_cookies_leaves_the_rest_unknown(authority: Authority) -> None:
    with pair(KeBehaviour(lambda talk: talk.close()), authority=authority) as servers:
        found = gathered(servers.ke.port, authority)
    assert found.ke.tls_version == "TLSv1.3"
    assert {found.nts.aeads, found.nts.cookies, found.ntp.address, found.implementation.name} == {None}
    assert {"AEAD", "cookies", "records"} <= {label for label, text in told(found).items() if text == "unknown"}


# --- which software --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMITATIONS)
def test_an_implementation_is_known_by_what_it_does(authority: Authority, name: str) -> None:
    with pair(IMITATIONS[name].behaviour, authority=authority) as servers:
        found = gathered(servers.ke.port, authority)
    assert found.implementation.name == name
    assert len(found.implementation.evidence) >= 3
    assert told(found)["software"] == f"probably {name}: {'; '.join(found.implementation.evidence)}"


@pytest.mark.parametrize(
    "change",
    [
        {"reads": 1 << 16}, {"aeads": (15, 16)}, {"refuse": "error"}, {"order": "cp"}, {"cookie": keyed(b"1234", 120)},
        {"cookie": keyed(b"12345", 100)},
    ],
    ids=["reads all", "another AEAD", "another refusal", "another order", "longer cookies", "another key identifier"],
)  # fmt: skip
def test_what_differs_in_one_thing_has_no_name(authority: Authority, change: dict[str, Any]) -> None:
    with pair(dataclasses.replace(CHRONY, **change).behaviour, authority=authority) as servers:
        found = gathered(servers.ke.port, authority)
    assert found.implementation == Implementation()
    assert told(found)["software"] == "unknown"


@pytest.mark.interop
def test_a_real_chronyd_is_known(authority: Authority) -> None:
    chrony.require()
    ke_port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
    with chrony.short_folder() as folder, chrony.running(folder, chrony.nts_server(authority, ke_port, ntp_port)):
        found = gathered(ke_port, authority, 1.0)
    assert found.implementation.name == "chrony"
    assert (found.ntp.port, found.ntp.stratum, found.ntp.plain) == (ntp_port, 1, {"3": True, "4": True})
    assert found.nts.aeads == ((15, 30) if chrony.has_gcm_siv() else (15,))
