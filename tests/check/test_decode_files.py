# SPDX-License-Identifier: MIT
"""nts_check decode: files as people have them, compressed, cut off, of several interfaces; and key files of no use."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.check.decode import hexinput
from testkit import captures
from testkit.captures import frame, made_session, packets, pcap, pcapng, udp
from testkit.command_lines import run_decode
from testkit.foreign_cookies import CHRONY_KEYS, NTPSEC_KEYS
from testkit.packets import CURRENT_KEY, REQUEST, answer
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record

PACKET, REPLY = REQUEST.encode(), answer(REQUEST.encode())
SERVER = ("192.0.2.2", 123)
NTP = [udp(captures.CLIENT, SERVER, PACKET), udp(SERVER, captures.CLIENT, REPLY)]
COOKIES = b"".join(record(5, bytes([i]) * 100, critical=False) for i in range(8))
RESPONSE = NEXT_PROTOCOL_NTPV4 + AEAD_15 + COOKIES + END


@pytest.fixture
def master(tmp_path: Path) -> Path:
    """A folder with the key of the packets' cookies."""
    (tmp_path / "master").mkdir()
    (tmp_path / "master" / f"{CURRENT_KEY.id:04x}.key").write_text(CURRENT_KEY.key.hex() + "\n")
    return tmp_path / "master"


def shown(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """What decode prints."""
    assert run_decode(*arguments) == code
    return capsys.readouterr().out


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_what_gzip_compressed_is_read(
    write: object, tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(write)
    whole = gzip.compress(write(map(frame, NTP)))
    (tmp_path / "nts.pcap.gz").write_bytes(whole)
    assert "2 of 2 decrypted; nothing wrong" in shown(
        capsys, 0, tmp_path / "nts.pcap.gz", "--master-keys", master
    )  # fmt: skip
    (tmp_path / "cut.gz").write_bytes(whole[:-20])
    assert "damaged or cut off" in shown(capsys, 0, tmp_path / "cut.gz")
    (tmp_path / "hex.gz").write_bytes(gzip.compress(PACKET.hex().encode()))
    assert "NTP request, 228 octets" in shown(capsys, 0, tmp_path / "hex.gz")
    for wrong in (b"\x1f\x8b\x08", b"\x1f\x8bxxxxxxxxxxxx", gzip.compress(PACKET.hex().encode())[:-30]):
        (tmp_path / "bad.gz").write_bytes(wrong)
        with pytest.raises(ConfigError):
            run_decode(tmp_path / "bad.gz")


def test_every_interface_of_a_pcapng_is_read_and_unknown_ones_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The interfaces: Ethernet, Linux cooked with nanoseconds, and USB, which is unknown here."""
    data = pcapng([frame(NTP[0])])
    option = struct.pack("<HHBxxxHH", 9, 1, 9, 0, 0)
    data += _block(1, struct.pack("<HHI", captures.SLL, 0, 0) + option) + _block(1, struct.pack("<HHI", 220, 0, 0))
    for number, octets in ((1, frame(NTP[1], captures.SLL)), (2, bytes(80)), (2, bytes(80))):
        high, low = divmod(captures.SECONDS * 10**9 + 5000, 2**32)
        data += _block(6, struct.pack("<IIIII", number, high, low, len(octets), len(octets)) + octets)
    (tmp_path / "two.pcapng").write_bytes(data)
    result = json.loads(shown(capsys, 0, tmp_path / "two.pcapng", "--json"))
    assert [i["frame"] for i in result["items"]] == [1, 2]
    assert result["items"][1]["time"].startswith("2027-01-15T08:00:00.000005")
    assert "2 frames left out: link type 220 is unknown here" in result["notes"]


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


@pytest.mark.parametrize("snap", [20, 40, 60, 100, 150, 250])
def test_nothing_is_wrong_with_what_the_snap_length_cut_off(
    snap: int, tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [frame(p) for p in [*packets(made_session(GOOD_REQUEST, RESPONSE).flights), *NTP]]
    data = pcap([])
    for octets in frames:
        kept = octets[:snap]
        data += struct.pack("<IIII", captures.SECONDS, 0, len(kept), len(octets)) + kept
    (tmp_path / "cut.pcap").write_bytes(data)
    (tmp_path / "log").write_text(captures.KEYLOG)
    out = shown(capsys, 0, tmp_path / "cut.pcap", "--master-keys", master, "--keylog", tmp_path / "log")
    assert "WRONG" not in out
    if snap == 40:
        assert "frames left out: cut off within the headers" in out


def test_nothing_is_wrong_with_what_is_captured_twice(
    tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = [*packets(made_session(GOOD_REQUEST, RESPONSE).flights), *NTP]
    (tmp_path / "log").write_text(captures.KEYLOG)
    keys = ("--master-keys", master, "--keylog", tmp_path / "log")
    for made in (once, [p for p in once for _ in range(2)]):
        (tmp_path / "nts.pcap").write_bytes(pcap(map(frame, made)))
        out = shown(capsys, 0, tmp_path / "nts.pcap", *keys)
    assert out.count("a copy of frame") == 2
    assert "1 of NTS-KE, 4 NTP packets, 4 of 4 decrypted; nothing wrong" in out


def test_a_key_file_that_opens_nothing_is_named(
    tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nts.pcap").write_bytes(pcap(map(frame, NTP)))
    (tmp_path / "log").write_text(captures.KEYLOG)
    (tmp_path / "chrony").write_text(CHRONY_KEYS)
    (tmp_path / "ntpsec").write_text(NTPSEC_KEYS)
    options = ("--keylog", tmp_path / "log", "--chrony-keys", tmp_path / "chrony", "--ntpsec-keys", tmp_path / "ntpsec")
    out = shown(capsys, 0, tmp_path / "nts.pcap", "--master-keys", master, *options)
    useless = [line.split()[1] for line in out.splitlines() if "opens nothing here" in line]
    assert useless == [str(tmp_path / n) for n in ("log", "chrony", "ntpsec")]


def test_hexdumps_of_all_kinds_are_read(tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the real programs write them, if they are here, with characters beside the octets."""
    (tmp_path / "raw").write_bytes(octets := PACKET[:100] + bytes(100) + b"a  b" + bytes(3))
    made = 0
    for command in (["xxd"], ["xxd", "-g1"], ["xxd", "-u", "-c", "8"], ["hexdump", "-C"], ["od", "-An", "-tx1", "-v"]):
        if shutil.which(command[0]):
            text = subprocess.run([*command, tmp_path / "raw"], capture_output=True, text=True, check=True).stdout
            assert hexinput.messages(text) == [octets], command
            assert hexinput.messages(text + text) == [octets] * 2 or command[0] == "od"
            made += 1
    assert made, "none of xxd, hexdump and od is here"
    with pytest.raises(ConfigError, match="hexdump -C"):
        run_decode("--hex", "0000000 0023 0000 0000\n0000006\n")


def test_what_tcpdump_x_prints_is_read(tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ""
    for octets in NTP:
        text += "12:00:00.000000 IP 192.0.2.1.40001 > 192.0.2.2.123: NTPv4, Client, length 228\n"
        rows = [octets[i : i + 16] for i in range(0, len(octets), 16)]
        text += "".join(f"\t0x{i * 16:04x}:  {row.hex(' ', -2)}  ..: ..  x\n" for i, row in enumerate(rows))
    (tmp_path / "text").write_text(text)
    out = shown(capsys, 0, tmp_path / "text", "--master-keys", master)
    assert "192.0.2.1:40001 > 192.0.2.2:123" in out
    assert "2 of 2 decrypted; nothing wrong" in out
