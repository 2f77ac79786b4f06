# SPDX-License-Identifier: MIT
"""NTPsec's ntpd and our servers open each other's cookies. It runs in a network of its own, and sets no clock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.errors import ExitCode
from nts.base.registry import KE_PORT, NTP_PORT
from nts.client import ke_session
from nts.client.ke_session import Result
from nts.codec.aead import Aead
from nts.codec.keyring import CookieFormat
from nts.protocol import ts_client
from nts.protocol.ts_client import AnswerKind
from nts.server import keystore, peer_file
from nts.server.config import ForeignFile
from testkit.processes import HAS_ENGINE, NO_ENGINE, Process, Suite, ask_udp, eventually, run

pytestmark = pytest.mark.interop
ENGINES = ["python", pytest.param("native", marks=pytest.mark.skipif(not HAS_ENGINE, reason=NO_ENGINE))]
HOST = "127.0.0.1"


def suite_of(folder: Path, engine: str, **keys: object) -> Suite:
    ntske = {"port": KE_PORT, "aeads": "15, 17, 16", "listen": HOST}
    ntpv4 = {"port": NTP_PORT, "engine": engine, "listen": HOST}
    return Suite(folder, KE_PORT, NTP_PORT, {"keys": keys, "ntske": ntske, "ntpv4": ntpv4})


@contextlib.contextmanager
def serving(command: list[str], suite: Suite) -> Iterator[None]:
    """An ntpd with the certificate of the suite, and with its keys in the file `nts-keys`."""
    folder = suite.folder
    (folder / "ntp.conf").write_text(
        f"interface ignore all\ninterface listen {HOST}\ndisable ntp\nrefclock local\nnts enable\n"
        f"nts cert {folder}/cert.pem\nnts key {folder}/cert.key\nnts cookie {folder}/nts-keys\n"
    )
    log = folder / "ntpd.log"
    process = Process([*command, "-n", "-4", "-c", str(folder / "ntp.conf"), "-p", f"{folder}/pid"], log)
    try:
        assert eventually(lambda: accepts(suite)), process.output()
        yield
    finally:
        process.stop()


def accepts(suite: Suite) -> bool:
    with contextlib.suppress(Exception):
        agree(suite)
        return True
    return False


def agree(suite: Suite, aead: Aead = Aead.AES_SIV_CMAC_256) -> Result:
    return ke_session.exchange(ke_session.Options(HOST, KE_PORT, (aead,), ca=suite.ca))


def ask(result: Result, cookie: bytes, placeholders: int = 0) -> tuple[bytes, ...]:
    """The fresh cookies of an authentic answer."""
    query = ts_client.build_query(result.keys[0], cookie, placeholders, os.urandom)
    answer = ask_udp(NTP_PORT, query.packet, host=HOST)
    assert answer is not None
    assert len(answer) <= len(query.packet)
    judgement = ts_client.judge(answer, query)
    assert judgement.kind in (AnswerKind.TIME, AnswerKind.UNUSABLE), judgement
    return judgement.cookies


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("aead", [Aead.AES_SIV_CMAC_256, Aead.AES_SIV_CMAC_512])
def test_our_server_replaces_ntpsecs(tmp_path: Path, ntpd: list[str], engine: str, aead: Aead) -> None:
    """And gives cookies of the length that NTPsec's clients insist on."""
    suite = suite_of(tmp_path, engine, **{"import": "ntpsec:nts-keys"})
    keystore.ensure_key(suite.keys, 3, os.urandom)
    with serving(ntpd, suite):
        result = agree(suite, aead)
        (old,) = ask(result, result.agreement.cookies[0])
    try:
        suite.start_ts()
        length = 40 + 2 * aead.key_length
        for cookie in (old, *result.agreement.cookies[1:3]):
            fresh = ask(result, cookie, 2)
            assert [len(c) for c in (cookie, *fresh)] == [length] * 4
            assert [len(c) for c in ask(result, fresh[0])] == [length]
    finally:
        suite.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_ntpsec_opens_what_we_make_in_its_format(tmp_path: Path, ntpd: list[str], engine: str) -> None:
    """Of the current key and of the one before it; and we open what it makes with our keys, also with a staged one."""
    suite = suite_of(tmp_path, engine, cookie_format="ntpsec", export="nts-keys")
    try:
        suite.start_ke()
        suite.start_ts()
        older = agree(suite)
        assert run("server_helper.py", suite.ini, "rotate").returncode == ExitCode.OK
        newer = agree(suite)
        fresh = ask(newer, newer.agreement.cookies[0], 1)
    finally:
        suite.stop()
    with serving(ntpd, suite):
        for result, cookie in ((older, older.agreement.cookies[0]), (newer, fresh[0]), (newer, fresh[1])):
            assert [len(c) for c in ask(result, cookie)] == [104]
        theirs = agree(suite)
    file = ForeignFile(CookieFormat.NTPSEC, tmp_path / "nts-keys")
    assert peer_file.holds(file, keystore.load(suite.keys).ring)  # it has not replaced them by keys of its own
    try:
        suite.start_ts()
        assert [len(c) for c in ask(theirs, theirs.agreement.cookies[0], 7)] == [104] * 8
    finally:
        suite.stop()
