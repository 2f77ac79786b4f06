# SPDX-License-Identifier: MIT
"""nts_check decode as a user runs it; and on what tcpdump caught of a real chronyd, on both sides."""

from __future__ import annotations

import configparser
import contextlib
import io
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nts.base.errors import ConfigError, ExitCode
from nts.check.decode.tls_keys import parse_keylog
from nts.check.peer import Authority
from testkit import captures, chrony
from testkit.captures import frame, made_session, packets, pcap, udp
from testkit.command_lines import run_decode
from testkit.foreign_cookies import CHRONY_KEYS, NTPSEC_KEYS
from testkit.packets import CURRENT_KEY, REQUEST, answer
from testkit.processes import Process, Suite, eventually, free_port, run, running_suite
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record

PACKET, REPLY = REQUEST.encode(), answer(REQUEST.encode())
RESPONSE = NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(5, REQUEST.cookie, critical=False) * 8 + END


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a capture of everything, and all kinds of keys."""
    ntp = [udp(captures.CLIENT, ("192.0.2.2", 123), PACKET), udp(("192.0.2.2", 123), captures.CLIENT, REPLY)]
    made = packets(made_session(GOOD_REQUEST, RESPONSE).flights) + ntp
    (tmp_path / "nts.pcap").write_bytes(pcap(map(frame, made)))
    (tmp_path / "ntp.hex").write_text(f"{PACKET.hex()}\n\n{REPLY.hex()}\n")
    (tmp_path / "keys.log").write_text(captures.KEYLOG)
    (tmp_path / "master").mkdir()
    (tmp_path / "master" / f"{CURRENT_KEY.id:04x}.key").write_text(CURRENT_KEY.key.hex() + "\n")
    (tmp_path / "chrony").write_text(CHRONY_KEYS)
    (tmp_path / "ntpsec").write_text(NTPSEC_KEYS)
    return tmp_path


def test_a_capture_is_shown_field_by_field(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--keylog", files / "keys.log", "--master-keys", files / "master", "--chrony-keys", files / "chrony")
    code = run_decode(files / "nts.pcap", *args, "--ntpsec-keys", files / "ntpsec")
    out = capsys.readouterr().out
    assert code == ExitCode.FAILURE  # the response gives the same cookie eight times, with other keys
    for text in (
        "192.0.2.1:40001 > 192.0.2.2:4460  NTS-KE, TLS 1.3, TLS_AES_128_GCM_SHA256, association 1",
        "    0  critical      1 NTS Next Protocol Negotiation 0 NTPv4",
        "WRONG MUST: the same cookie more than once (RFC 8915 4.1.6)",
        "WRONG MUST: a cookie holds other keys than those of the TLS session (RFC 8915 4.1.6)",
        "cookie 8 x under key abcd of master keys: AEAD_AES_SIV_CMAC_256, c2s <32 octets>, s2c <32 octets>",
        "NTP request, 228 octets",
        "   48  0x0104 Unique Identifier, length 36",
        "ciphertext of 120 octets, with the tag",
    ):
        assert text in out


def test_secrets_are_shown_only_where_they_are_asked_for(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = [REQUEST.cookie, REQUEST.keys.c2s, REQUEST.keys.s2c, captures.exported(0), captures.exported(1)]
    master = ("--master-keys", files / "master", "--keylog", files / "keys.log")
    for json_or_not in ((), ("--json",)):
        run_decode(files / "nts.pcap", *master, *json_or_not)
        run_decode(files / "ntp.hex", *master, *json_or_not)
        shown = capsys.readouterr()
        assert not [s for s in [*secrets, CURRENT_KEY.key] if s.hex() in shown.out + shown.err]
        run_decode(files / "nts.pcap", "--keylog", files / "keys.log", "--show-secrets", *json_or_not)
        run_decode(files / "ntp.hex", *master, "--show-secrets", *json_or_not)
        shown = capsys.readouterr()
        assert [s for s in secrets if s.hex() in shown.out] == secrets
        assert CURRENT_KEY.key.hex() not in shown.out


def test_json_says_the_same(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_decode(files / "ntp.hex", "--master-keys", files / "master", "--json") == ExitCode.OK
    result = json.loads(capsys.readouterr().out)
    asked, replied = result["items"]
    assert [f["name"] for f in asked["fields"]][:2] == ["Unique Identifier", "NTS Cookie"]
    assert [f["offset"] for f in replied["fields"]] == [48, 84]
    assert (asked["authentic"], asked["decrypted"]) == (True, [])
    assert [f["name"] for f in replied["decrypted"]] == ["NTS Cookie"]
    assert (replied["header"]["mode"], replied["length"]) == (4, len(REPLY))
    assert result["associations"][0]["aead"] == {"id": 15, "name": "AEAD_AES_SIV_CMAC_256"}
    assert (result["wrong"], result["notes"]) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--hex", GOOD_REQUEST.hex()), 0, "NTS-KE message"),
        (("--hex", PACKET.hex()), 0, "NTP request, 228 octets"),
        (("--hex", PACKET[:-4].hex()), 1, "malformed: "),
        (("--hex", (GOOD_REQUEST + b"x").hex()), 1, "1 octet after the End of Message record"),
        (("--hex", GOOD_REQUEST.hex(), "--as", "ntp"), 1, "16 octets, although a header has 48"),
        (("--hex", PACKET.hex(), "--as", "ke"), 1, "no End of Message record"),
    ],
    ids=["ke", "ntp", "ntp wrong", "ke wrong", "as ntp", "as ke"],
)
def test_hexadecimal_is_decoded_and_the_exit_code_tells_whether_something_is_wrong(
    arguments: tuple[str, ...], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_decode(*arguments) == code
    assert text in capsys.readouterr().out


def test_stdin_may_be_a_capture_or_hexadecimal(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nts.pcap", "ntp.hex"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((files / name).read_bytes())))
        assert run_decode("-") == ExitCode.OK
        assert "NTP reply" in capsys.readouterr().out


def test_a_capture_without_nts_is_said_to_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.pcap").write_bytes(pcap([b"", bytes(60)]))
    assert run_decode(tmp_path / "empty.pcap") == ExitCode.OK
    out = capsys.readouterr().out
    assert "found neither NTS-KE nor NTP" in out
    assert "none of the 2 frames is an IP packet" in out


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("ntp.hex", "--hex", "00"), ("missing",), (".",), ("text",), ("--hex", "zz"), ("--hex", "ff"),
        ("bad.pcap",),
        ("ntp.hex", "--keylog", "missing"), ("ntp.hex", "--keylog", "text"), ("ntp.hex", "--master-keys", "empty"),
        ("ntp.hex", "--chrony-keys", "text"), ("ntp.hex", "--ntpsec-keys", "chrony"), ("ntp.hex", "--chrony-keys", "."),
    ],
    ids=" ".join,
)  # fmt: skip
def test_input_that_cannot_be_read_is_a_usage_error(
    files: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    (files / "empty").mkdir()
    (files / "text").write_bytes(b"hello\x1b\xff")
    (files / "bad.pcap").write_bytes(pcap([], 147))
    with pytest.raises(ConfigError) as caught:
        run_decode(*arguments)
    assert caught.value.exit_code == ExitCode.USAGE
    assert str(caught.value).isprintable()


def test_the_script_prints_an_error_in_one_line(files: Path) -> None:
    good = run("nts_check.py", "decode", files / "ntp.hex", "--master-keys", files / "master")
    assert (good.returncode, good.stderr) == (0, "")
    assert "2 of 2 decrypted; nothing wrong" in good.stdout
    bad = run("nts_check.py", "decode", files / "chrony")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert [line.split(":")[0] for line in bad.stderr.splitlines()] == ["nts_check.py", "hint"]


# --- what tcpdump catches of a real chronyd ---------------------------------------------------------------------------


@contextlib.contextmanager
def caught(path: Path, *ports: int) -> Iterator[None]:
    """What passes on the loopback interface to and from these ports during the block, in a file."""
    program = shutil.which("tcpdump", path=chrony._PATH)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no tcpdump here: ./bootstrap test installs it")
    expression = " or ".join(f"port {p}" for p in ports)
    arguments = ["-i", "lo", "-U", "-n", "-s", "0", "-w", str(path), *(["-Z", "root"] if not os.geteuid() else [])]
    process = Process([program, *arguments, expression], path.with_suffix(".log"))
    try:
        if not eventually(lambda: "listening on" in process.output() or process.popen.poll() is not None):
            pytest.fail(f"tcpdump does not begin: {process.output()}")
        if process.popen.poll() is not None:
            pytest.skip(f"tcpdump cannot capture here: {process.output().strip()}")
        yield
        settled: list[int] = []

        def quiet() -> bool:  # written as they come (-U), but the kernel hands them over in batches
            settled.append(path.stat().st_size)
            return len(settled) > 50 and len(set(settled[-50:])) == 1

        assert eventually(quiet)
    finally:
        process.stop()


def decoded(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What the subcommand says, with secrets. Nothing may be wrong with the traffic."""
    capsys.readouterr()
    code = run_decode(*arguments, "--json", "--show-secrets")
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0, [i["problems"] for i in result["items"]]
    return result


def by_kind(result: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """The key exchanges, the NTP requests and the replies."""
    ntp = [i for i in result["items"] if i["kind"] == "ntp"]
    return (
        [i for i in result["items"] if i["kind"] == "ke"],
        [i for i in ntp if i["header"]["mode"] == 3],
        [i for i in ntp if i["header"]["mode"] == 4],
    )


def body(item: dict[str, Any], name: str, where: str = "fields") -> list[str]:
    """The bodies of the fields of a name."""
    return [f["value"][0] for f in item[where] if f["name"] == name]


def check_all_decrypted(result: dict[str, Any]) -> None:
    """Every packet is authentic, every reply goes with its request, every cookie used was given before."""
    exchanges, asked, replied = by_kind(result)
    assert len(asked) >= 3
    assert len(replied) >= 3
    assert all(i["authentic"] and i["association"] == 1 for i in asked + replied)
    given = {r["value"] for e in exchanges for r in e.get("response", {"records": []})["records"] if r["type"] == 5}
    at = {i["frame"]: i for i in asked}
    used = []
    for reply in replied:
        request = at[reply["reply_to"]]
        assert body(reply, "Unique Identifier") == body(request, "Unique Identifier")
        assert reply["header"]["origin"] == request["header"]["transmit"]
        (fresh,) = body(reply, "NTS Cookie", "decrypted")
        assert fresh not in given
        used += body(request, "NTS Cookie")
        assert not exchanges[0].get("response") or used[-1] in given
        given.add(fresh)
    assert len(set(used)) == len(used)


@pytest.fixture
def short() -> Iterator[Path]:
    with chrony.short_folder() as path:
        yield path


@pytest.mark.interop
def test_every_field_of_a_chronyd_talking_to_our_servers_is_decrypted(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chrony.require()
    (short / "s").mkdir()
    pcap_file, keylog = short / "c.pcap", short / "gnutls.log"
    with running_suite(short / "s") as suite:
        monkeypatch.setenv("SSLKEYLOGFILE", str(keylog))  # of GnuTLS
        source = f"server 127.0.0.1 nts ntsport {suite.ke_port} iburst minpoll -3 maxpoll -3"
        conf = [*chrony.nts_client(suite.ca, short / "d"), source]
        with caught(pcap_file, suite.ke_port, suite.ntp_port), chrony.running(short / "c", conf) as chronyd:
            chronyd.wait_for_nts("127.0.0.1")
            chronyd.wait_for_answers("127.0.0.1", 3)
        saved = (short / "d" / "127.0.0.1.nts").read_text().upper().split()
        check_chronyd_as_client(suite, pcap_file, keylog, saved, capsys)


def check_chronyd_as_client(
    suite: Suite, pcap_file: Path, keylog: Path, saved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ports = ("--ntp-port", suite.ntp_port)
    # Through the master keys: the cookies tell the keys, and no key log is needed.
    result = decoded(capsys, pcap_file, "--master-keys", suite.keys, *ports)
    _, asked, replied = by_kind(result)
    check_all_decrypted(result)
    keys = {(i["cookie"]["c2s"], i["cookie"]["s2c"]) for i in asked}
    keys |= {(c["c2s"], c["s2c"]) for i in replied for c in i["fresh_cookies"]}
    assert len(keys) == 1
    # What chronyd kept of it: the keys and its cookies, which were all given in the packets or the key exchange.
    assert next(iter(keys))[0].upper() in saved
    assert next(iter(keys))[1].upper() in saved
    fresh = {c.upper() for i in replied for c in body(i, "NTS Cookie", "decrypted")}
    assert fresh & set(saved)
    if not keylog.exists() or not parse_keylog(keylog.read_text()):
        pytest.skip("the rest: this GnuTLS writes no key log")
    # Through the key log of chronyd itself.
    by_log = decoded(capsys, pcap_file, "--keylog", keylog, *ports)
    check_all_decrypted(by_log)
    (exchange,) = by_kind(by_log)[0]
    assert {(a["c2s"], a["s2c"]) for a in by_log["associations"]} == keys
    asks_1024 = [1024] * chrony.has_record_1024()
    assert [r["type"] for r in exchange["request"]["records"]] == [1, 4, *asks_1024, 0]
    assert [r["type"] for r in exchange["response"]["records"]] == [1, 4, 7, *[5] * 8, 0]
    assert (exchange["tls"]["protocols_offered"], exchange["tls"]["protocol_selected"]) == (["ntske/1"], "ntske/1")
    assert all(count > 2 for count in exchange["tls"]["records"].values())
    assert [i["fields"] for i in by_kind(by_log)[1]] == [i["fields"] for i in asked]


@pytest.mark.interop
def test_every_field_of_our_clients_talking_to_a_chronyd_is_decrypted(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chrony.require()
    (short / "d").mkdir(mode=0o700)
    authority, ke_port, ntp_port = Authority(short), free_port(), free_port(socket.SOCK_DGRAM)
    ini, keylog, pcap_file = short / "client.ini", short / "keys.log", short / "o.pcap"
    conf = [*chrony.nts_server(authority, ke_port, ntp_port), f"ntsdumpdir {short / 'd'}"]
    with caught(pcap_file, ke_port, ntp_port), chrony.running(short / "c", conf):
        options = ("-c", authority.ca, "-o", ini, "--keylog", keylog, "--json", "--show-secrets")
        fetched = run("ntske_client.py", *options, "localhost", ke_port)
        assert fetched.returncode == 0, fetched.stderr
        queried = run("ntsts_client.py", "-f", ini, "--count", 4, "--interval", 0.1, "--dump", "--show-secrets")
        assert queried.returncode == 0, queried.stderr
        shutil.copy(short / "d" / "ntskeys", short / "ntskeys")
    sent = json.loads(fetched.stdout)
    for keys in (("--keylog", keylog), ("--chrony-keys", short / "ntskeys"), ("--keylog", keylog, "--chrony-keys",
                                                                                short / "ntskeys")):  # fmt: skip
        result = decoded(capsys, pcap_file, *keys)
        check_all_decrypted(result)
        (association,) = result["associations"]
        assert (association["c2s"], association["s2c"]) == (sent["keys"]["c2s"], sent["keys"]["s2c"])
        (exchange,), asked, replied = by_kind(result)
        assert len(asked) == len(replied) == 4
        if "--keylog" in keys:
            assert exchange["tls"]["server_name"] == "localhost"
            assert exchange["response"]["records"] == sent["records"]
        if "--chrony-keys" in keys:
            assert {c["source"] for i in replied for c in i["fresh_cookies"]} == {"chrony's keys"}
    # The identifiers and cookies are those that our client says it sent, and what it has left is what it was given.
    dumped = queried.stdout + queried.stderr
    assert all(
        value in dumped for i in asked for name in ("Unique Identifier", "NTS Cookie") for value in body(i, name)
    )
    state = configparser.ConfigParser()
    state.read(ini)
    fresh = [c for i in replied for c in body(i, "NTS Cookie", "decrypted")]
    assert set(fresh) <= set(state["cookies"].values())
