# SPDX-License-Identifier: MIT
"""The key exchange server loads a new certificate without a restart, and never one that clients would refuse."""

from __future__ import annotations

import datetime
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.system import certs
from testkit.ke_sessions import check_agreement, own_server, server_of
from testkit.processes import Suite, eventually, running
from testkit.raw_ke import GOOD_REQUEST, RawKe

pytestmark = pytest.mark.usefixtures("ke_engine")

STAYS = "the certificate loaded before stays in use"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Suite]:
    with own_server(tmp_path, ntske={"workers": 2, "name": "localhost"}) as suite:
        yield suite


def make(folder: Path, *names: str) -> Path:
    certs.make(names, cert=folder / "cert.pem", key=folder / "cert.key", ca=folder / "ca.pem")
    return folder


def install(suite: Suite, made: Path, *files: str) -> None:
    for name in files or ("cert.pem", "cert.key"):
        (made / name).replace(suite.folder / name)


def serial(path: Path) -> int:
    return certs.describe(path).certificate.serial_number


def served(suite: Suite) -> set[int]:
    """The serial numbers of the certificates that several connections get: both workers' with near certainty."""
    found = set()
    for _ in range(12):
        with RawKe(suite.ke_port) as peer:
            certificate = peer.handshake().tls.get_peer_certificate(as_cryptography=True)
            assert certificate is not None
            found.add(certificate.serial_number)
    return found


def test_a_new_certificate_is_served_and_sessions_go_on(own: Suite, tmp_path: Path) -> None:
    old, new = serial(own.folder / "cert.pem"), make(tmp_path / "new", "localhost")
    number = serial(new / "cert.pem")
    assert served(own) == {old}
    with RawKe(own.ke_port) as under_way:
        under_way.handshake()
        install(own, new)
        assert eventually(lambda: served(own) == {number})
        under_way.send(GOOD_REQUEST)
        check_agreement(under_way.receive(), own.ntp_port)
    lines = server_of(own).output()
    assert lines.count("loaded the certificate for localhost") == 1, "said once, not by each worker"


def test_a_certificate_waits_for_its_key(own: Suite, tmp_path: Path) -> None:
    """Two files cannot be replaced at the same instant."""
    old, new = serial(own.folder / "cert.pem"), make(tmp_path / "new", "localhost")
    number = serial(new / "cert.pem")
    install(own, new, "cert.pem")
    server_of(own).wait_for(f"cert.key does not match the certificate in {own.folder / 'cert.pem'}: {STAYS}")
    assert served(own) == {old}
    install(own, new, "cert.key")
    assert eventually(lambda: served(own) == {number})


def test_hang_up_loads_at_once_and_says_so(own: Suite) -> None:
    running(server_of(own)).send_signal(signal.SIGHUP)
    server_of(own).wait_for("reads its certificate again")
    server_of(own).wait_for("loaded the certificate for localhost")
    assert server_of(own).stop() == 0


@pytest.mark.parametrize("fault", ["expired", "other name", "empty", "gone"])
def test_what_clients_would_refuse_is_not_loaded(
    own: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    old = serial(own.folder / "cert.pem")
    if fault == "gone":
        (own.folder / "cert.key").unlink()
    elif fault == "empty":
        (own.folder / "cert.pem").write_text("")
    else:
        if fault == "expired":
            then = certs.now() - datetime.timedelta(days=certs.VALID_DAYS + 30)
            monkeypatch.setattr(certs, "now", lambda: then)
        install(own, make(tmp_path / "new", "localhost" if fault == "expired" else "time.example"))
    server_of(own).wait_for(STAYS)
    line = next(x for x in server_of(own).output().splitlines() if STAYS in x)
    expected = {
        "expired": "expired on",
        "other name": "is not for localhost, the [ntske] name",
        "empty": "holds no usable PEM certificate",
        "gone": "cannot read",
    }[fault]
    assert expected in line
    assert served(own) == {old}
