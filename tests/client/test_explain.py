# SPDX-License-Identifier: MIT
"""ntske_client.py --explain: every cause is provoked by a real fault, in a network of the test's own."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nts.check.peer import SOUND_KE, SOUND_NTP, Authority, KeBehaviour, NtpBehaviour, NtpTalk, Pair, pair
from nts.check.peer.ke import TLS_1_2, no_alpn, strict_alpn
from nts.client import explain
from nts.client.finding_texts import FINDINGS
from nts.client.ke_session import Options
from nts.codec.aead import Aead
from nts.system import addresses
from nts.system.addresses import Endpoint
from testkit.bad_certificates import MALFORMED, malformed
from testkit.client_runs import KE, check_failure, stored_cookies
from testkit.ke_faults import error, saying
from testkit.middleboxes import MARK, HelloLimit, Interceptor, Middlebox, Stripper
from testkit.namespaces import nft, own_loopback
from testkit.processes import ROOT, V6_PARAM, run


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """A network of the test's own, with a loopback interface."""
    with own_loopback():
        yield


def explained(
    *arguments: object, finding: str, env: dict[str, str] | None = None, code: int | None = None
) -> dict[str, Any]:  # fmt: skip
    """What --explain says as JSON; it must come to that finding."""
    done = run(KE, "--explain", "--json", "--timeout", 1, *arguments, env=env)
    assert "Traceback" not in done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["finding"] == finding, done.stdout
    assert done.returncode == report["exit_code"] == (FINDINGS[finding][0] if code is None else code)
    assert all(step["milliseconds"] >= 0 for step in report["steps"])
    return report


def seen(report: dict[str, Any], name: str) -> list[str]:
    """Verdict and text of the steps of that name."""
    return [f"{s['verdict']}: {s['seen']}" for s in report["steps"] if s["name"] == name]


@contextlib.contextmanager
def servers(ke: KeBehaviour = SOUND_KE, ntp: NtpBehaviour = SOUND_NTP) -> Iterator[tuple[Pair, tuple[object, ...]]]:
    """Both servers, and the client's arguments."""
    with pair(ke, ntp) as both:
        yield both, ("-4", "-c", both.authority.ca, "localhost", both.ke.port)


def drop(rule: str, verdict: str = "drop", hook: str = "input") -> None:
    """A firewall on the way; with the hook `output`, one of our own."""
    chain = f"add table inet f; add chain inet f c {{ type filter hook {hook} priority 0; }};"
    nft(f"{chain} add rule inet f c {rule} {verdict}")


def lead(port: int, box: Middlebox) -> None:
    """Lead connections to a port to a middlebox."""
    chain = "add table ip n; add chain ip n o { type nat hook output priority -100; };"
    nft(f"{chain} add rule ip n o meta mark != {MARK} tcp dport {port} redirect to :{box.port}")


# --- no fault --------------------------------------------------------------------------------------------------------


def test_every_step_of_a_sound_association(tmp_path: Path) -> None:
    """And the outcome is stored only where one says so."""
    before = (ROOT / "client.ini").stat() if (ROOT / "client.ini").exists() else None
    with servers() as (_, where):
        report = explained(*where, finding="ok")
        explained(*where, "-o", tmp_path / "client.ini", finding="ok")
    names = "name tcp tls certificate trust alpn records keys ntp ntp"
    assert [s["name"] for s in report["steps"]] == names.split()
    assert {s["verdict"] for s in report["steps"]} == {"ok"}
    assert "127.0.0.1" in seen(report, "name")[0]
    assert re.search(r"TLSv1.3, group \w+, TLS_\w+, a ClientHello of \d+ octets", seen(report, "tls")[0])
    assert "for localhost, 127.0.0.1, ::1; issued by CN=Throwaway NTS test CA; valid" in seen(report, "certificate")[0]
    short, long = seen(report, "ntp")
    assert re.search(r"NTS request of 228 octets: offset [+-]\d.*, delay", short)
    assert "956 octets" in long
    assert len(stored_cookies(tmp_path / "client.ini")) == 8
    assert before == ((ROOT / "client.ini").stat() if before else None)
    assert not {r.hex() for r in stored_cookies(tmp_path / "client.ini")} & set(json.dumps(report).split('"'))


def test_for_a_person() -> None:
    with servers() as (_, where):
        done = run(KE, "--explain", *where)
    lines = done.stdout.splitlines()
    assert all(re.match(r"OK    \w+ +\d+\.\d ms  \S", line) for line in lines[:10]), done.stdout
    assert lines[10:] == ["", "finding:   ok", "meaning:   the association works"]
    assert (done.returncode, done.stderr) == (0, "")


def test_secrets_are_not_for_explanations() -> None:
    done = run(KE, "--explain", "--show-secrets", "localhost")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--explain shows no secrets" in done.stderr


# --- names and TCP ---------------------------------------------------------------------------------------------------


def test_no_such_name() -> None:
    report = explained("nowhere.invalid", finding="name")
    assert "the name is wrong, or this machine cannot ask the DNS" in report["meaning"]


def test_no_server() -> None:
    report = explained("-4", "localhost", 4460, finding="refused")
    assert seen(report, "tcp") == ["fail: 127.0.0.1:4460: refused (Connection refused)"]


@pytest.mark.parametrize(
    ("verdict", "finding"),
    [("drop", "port-blocked"), ("reject with icmpx admin-prohibited", "prohibited"), ("reject", "refused")],
)
@pytest.mark.parametrize("address", ["127.0.0.1", V6_PARAM])
def test_a_blocked_port(verdict: str, finding: str, address: str) -> None:
    """Over loopback, an ICMP error may come before connect() waits for it; then that for the next SYN counts."""
    drop("tcp dport 4460", verdict)
    explained(address, "--timeout", 4, finding=finding)


def test_no_route() -> None:
    explained("192.0.2.1", finding="no-route")


def test_one_of_two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both servers: the way goes on with the one that works."""

    def both_families(_host: str, port: int, *_: object) -> list[Endpoint]:
        return [Endpoint(socket.AF_INET6, ("::1", port)), Endpoint(socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr(addresses, "resolve", both_families)
    with servers(replace(SOUND_KE, ntp_server="localhost")) as (both, _):
        options = Options("localhost", both.ke.port, (Aead.AES_SIV_CMAC_256,), both.authority.ca, timeout=1)
        report = explain.explain(options, lambda _step: None)
    assert report.finding.id == "some-addresses"
    assert f"not with TCP [::1]:{both.ke.port}, UDP [::1]:{both.ntp.port}" in report.finding.meaning
    assert [s.mark.name for s in report.steps if s.name == "tcp"] == ["FAIL", "OK"]


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_a_firewall_that_drops_a_long_client_hello() -> None:
    """By the length of the packet; a ClientHello with X25519 alone passes."""
    with servers() as (both, where):
        drop(f"tcp dport {both.ke.port} meta length > 1000")
        report = explained(*where, finding="large-hello")
        first, short, again = seen(report, "tls")
        assert re.match(r"fail: a ClientHello of 1[45]\d\d octets to 127.0.0.1: no answer", first)
        assert short.startswith("ok: again with X25519 alone, a ClientHello of 2")
        assert again.startswith("fail: again as before")
        (config,) = re.findall(r"OPENSSL_CONF=(\S+?),", report["advice"])
        report = explained(*where, finding="ok", env={"OPENSSL_CONF": config})
        assert "group x25519," in seen(report, "tls")[0]


def test_a_middlebox_that_resets_a_long_client_hello() -> None:
    with servers() as (both, where), HelloLimit(both.ke.port) as box:
        lead(both.ke.port, box)
        report = explained(*where, finding="large-hello")
        assert "the connection was reset" in seen(report, "tls")[0]
        assert box.connections == 3


def test_a_server_that_is_slow_once() -> None:
    """What a later handshake gets shows that it was not the length."""
    answered: list[float] = []

    def hang_once(sock: socket.socket) -> None:
        answered.append(time.monotonic())
        time.sleep(1.5 if len(answered) == 1 else 0)
        sock.recv(4096)
        sock.sendall(b"\x15\x03\x03\0\x02\x02\x28")

    with servers(replace(SOUND_KE, raw=hang_once)) as (_, where):
        explained(*where, finding="tls-unsteady")


def test_a_firewall_that_drops_tls() -> None:
    with servers() as (both, where):
        drop(f"tcp dport {both.ke.port} meta length > 100")
        report = explained(*where, finding="tls-silent")
        assert len(seen(report, "tls")) == 2


def test_a_server_that_closes() -> None:
    def close(sock: socket.socket) -> None:
        sock.recv(4096)

    with servers(replace(SOUND_KE, raw=close)) as (_, where):
        explained(*where, finding="tls-closed")


@pytest.mark.parametrize(
    ("banner", "first"),
    [(b"", "HTTP/1.1 400 Bad Request"), (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"), (b"\x1b[2J", "?[2J")],
)
def test_another_service(banner: bytes, first: str) -> None:
    """One that answers, one that speaks first, and one that would clear the terminal."""

    def serve(sock: socket.socket) -> None:
        if banner:
            sock.sendall(banner)
        sock.recv(4096)
        if not banner:
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        time.sleep(0.2)

    with servers(replace(SOUND_KE, raw=serve)) as (_, where):
        assert first in explained(*where, finding="not-tls")["meaning"]


def test_an_old_tls() -> None:
    with servers(replace(SOUND_KE, oldest=TLS_1_2, newest=TLS_1_2)) as (_, where):
        explained(*where, finding="old-tls")


def test_a_handshake_that_fails() -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"\x15\x03\x03\0\x02\x02\x28")  # alert 40, handshake_failure
        time.sleep(0.2)

    with servers(replace(SOUND_KE, raw=refuse)) as (_, where):
        assert "handshake failure" in explained(*where, finding="tls-failed")["meaning"]


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "absent"])
def test_not_an_nts_server(refuses: bool) -> None:
    alpn: Callable[[list[bytes]], bytes | None] = (lambda _offered: strict_alpn([])) if refuses else no_alpn
    with servers(replace(SOUND_KE, alpn=alpn)) as (both, where):
        report = explained(*where, finding="not-ntske")
    assert seen(report, "alpn")[0].startswith("fail: ")
    assert both.ke.sessions[0].received == b""


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpn", [True, False])
def test_an_interceptor(tmp_path: Path, alpn: bool) -> None:
    """It reads nothing, whether it takes over ntske/1 or not."""
    with servers() as (both, where), Interceptor(both.ke.port, tmp_path, alpn=alpn) as box:
        lead(both.ke.port, box)
        report = explained(*where, finding="untrusted")
    assert "CN=Throwaway NTS test CA" in report["meaning"]
    assert "a device on the way intercepts TLS, or the server has a CA that is not known here" in report["meaning"]
    assert ("speaks for the former" in report["meaning"]) is not alpn
    assert (box.connections, box.plaintext) == (1, b"")


@pytest.mark.parametrize(
    ("finding", "issue"),
    [
        ("untrusted", {"self_signed": True}),
        ("wrong-name", {"names": ("elsewhere.example",)}),
        ("expired", {"days": (-0.03, -0.02)}),
        ("not-yet-valid", {"days": (3, 9)}),
        ("certificate", {"for_servers": False}),
        ("certificate", {"days": (-9, -3)}),
    ],
)
def test_a_bad_certificate(tmp_path: Path, finding: str, issue: dict[str, Any]) -> None:
    """Its names, issuer and dates are shown, and nothing is sent to its owner. The last is older than its CA."""
    authority = Authority(tmp_path)
    with servers(replace(SOUND_KE, certificate=authority.issue(**issue))) as (both, where):
        report = explained(*where, "-c", authority.ca, finding=finding)
        assert len(seen(report, "certificate")) == 1
        assert [s["name"] for s in report["steps"]][-1] == "trust"
        assert both.ke.sessions[0].received == b""
        note = explained(*where, "-v", finding="ok")
        assert "not verified" in seen(note, "trust")[0]


@pytest.mark.parametrize("part", MALFORMED)
def test_a_malformed_certificate(tmp_path: Path, part: str) -> None:
    """One that OpenSSL reads and the package cryptography does not. The client without --explain refuses it too."""
    authority = Authority(tmp_path)
    with servers(replace(SOUND_KE, certificate=malformed(authority, part))) as (both, where):
        explained(*where, "-c", authority.ca, finding="untrusted" if part == "name" else "certificate")
        check_failure(run(KE, *where, "-c", authority.ca, "-o", tmp_path / "x"), 13, "certificate is not acceptable")
        explained(*where, "-v", finding="ok")
        assert both.ke.sessions[0].received == both.ke.sessions[1].received == b""


def test_a_clock_that_is_not_wrong(tmp_path: Path) -> None:
    """The certificate gets past the tolerance, but the server's time says that it has expired."""
    authority = Authority(tmp_path)
    with servers(replace(SOUND_KE, certificate=authority.issue(days=(-0.03, -0.02)))) as (_, where):
        report = explained(*where, "-c", authority.ca, "--cert-time-tolerance", "1h", finding="expired")
    assert seen(report, "trust")[0].startswith("note: it has expired, by our clock")
    assert len(seen(report, "ntp")) == 1


def test_a_clock_that_is_wrong(tmp_path: Path) -> None:
    """Seen from a server whose clock is four days ahead: ours is behind."""
    authority = Authority(tmp_path)
    ahead = (4 * 86400) << 32

    def later(talk: NtpTalk) -> list[bytes | float]:
        theirs = talk.received + ahead
        return [talk.time(header=talk.header(receive=theirs, transmit=theirs))]

    ke = replace(SOUND_KE, certificate=authority.issue(days=(3, 9)))
    with servers(ke, NtpBehaviour(later)) as (_, where):
        report = explained(*where, "-c", authority.ca, "--cert-time-tolerance", "30d", finding="clock-wrong")
    assert re.search(r"this machine's clock is (4 days, 0:00:0\d|3 days, 23:59:5\d) behind", report["meaning"])


# --- records and NTP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "octets"), [(16, error(2)), (15, error(2)[:-4])])
def test_bad_records(code: int, octets: bytes) -> None:
    """The exit code is the key exchange client's."""
    with servers(saying(octets)) as (_, where):
        explained(*where, finding="records", code=code)


def test_a_time_server_that_is_not_in_the_dns() -> None:
    with servers(replace(SOUND_KE, ntp_server="nowhere.invalid")) as (_, where):
        explained(*where, finding="ntp-name")


def test_no_time_server() -> None:
    with servers(replace(SOUND_KE, ntp_port=4123)) as (_, where):
        explained(*where, finding="ntp-refused")


@pytest.mark.parametrize(
    ("verdict", "finding"), [("drop", "ntp-blocked"), ("reject with icmpx admin-prohibited", "ntp-prohibited")]
)
def test_a_blocked_time_server(verdict: str, finding: str) -> None:
    with servers() as (both, where):
        drop(f"udp dport {both.ntp.port}", verdict)
        explained(*where, finding=finding)


def test_a_firewall_of_our_own() -> None:
    with servers() as (both, where):
        drop(f"udp dport {both.ntp.port}", hook="output")
        assert "Operation not permitted" in explained(*where, finding="ntp-prohibited")["meaning"]


def test_a_firewall_that_passes_only_plain_ntp() -> None:
    with servers() as (both, where):
        drop(f"udp dport {both.ntp.port} udp length > 56")
        report = explained(*where, finding="nts-filtered")
    assert "an NTS request of 228 is not" in report["meaning"]
    assert seen(report, "ntp")[-1].startswith("ok: 127.0.0.1:")


@pytest.mark.parametrize(("limit", "passing", "vanishing"), [(500, 436, 540), (300, 228, 332), (900, 852, 956)])
def test_a_firewall_that_drops_long_ntp(limit: int, passing: int, vanishing: int) -> None:
    with servers() as (both, where):
        drop(f"udp dport {both.ntp.port} udp length > {limit + 8}")
        report = explained(*where, finding="size-limit")
    assert f"up to {passing} octets are answered, those of {vanishing} are not" in report["meaning"]


def test_a_packet_that_gets_lost() -> None:
    with servers() as (both, where):
        drop(f"udp dport {both.ntp.port} limit rate 1/hour burst 1 packets")
        explained(*where, finding="loss")


def test_a_time_server_without_the_keys() -> None:
    """That of another pair, with keys of its own."""
    with pair() as other, servers(replace(SOUND_KE, ntp_port=other.ntp.port)) as (_, where):
        explained(*where, finding="keys-lost")


def test_stripped_answers() -> None:
    with servers() as (both, _), Stripper(("127.0.0.1", both.ntp.port)) as relay:
        ke = replace(SOUND_KE, ntp_port=relay.port)
        with pair(ke, authority=both.authority) as other:
            explained("-4", "-c", other.authority.ca, "localhost", other.ke.port, finding="stripped")


@pytest.mark.parametrize(
    ("finding", "answer"),
    [
        ("kiss", lambda talk: [talk.kiss(b"RATE")]),
        ("stripped", lambda talk: [talk.header()]),
        ("altered", lambda talk: [talk.time(bytes(32))]),
        ("mismatch", lambda talk: [talk.time(uid=b"", header=talk.header(origin=1))]),
        ("unusable", lambda talk: [talk.time(header=talk.header(stratum=16))]),
    ],
)
def test_answers_without_time(finding: str, answer: Callable[[NtpTalk], list[bytes | float]]) -> None:
    with servers(ntp=NtpBehaviour(answer)) as (_, where):
        explained(*where, finding=finding)


def test_every_finding_is_provoked_here() -> None:
    text = Path(__file__).read_text()
    assert [name for name in FINDINGS if f'"{name}"' not in text] == []
