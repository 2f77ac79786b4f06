# SPDX-License-Identifier: MIT
"""--cert-time-tolerance: a wrong clock may stand between a client and a certificate, and nothing else may."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from nts.check.peer import Authority
from nts.check.peer.authority import Certificate
from nts.system import certs
from testkit import processes
from testkit.client_runs import KE, Completed, KeCase, check_failure, ke_server

EXPIRED, EARLY = (-0.03, -0.02), (3, 9)  # days; the CA itself is valid since an hour


def fetch(authority: Authority, folder: Path, tolerance: str, ca: Path | None = None, **issue: Any) -> Completed:
    """The client, against a server with a certificate that is issued like that."""

    def certificate(issuer: Authority) -> Certificate:
        return issuer.issue(**issue)

    with ke_server(KeCase(certificate=certificate), authority) as server:
        where = ("-c", ca or authority.ca, "localhost", server.port, "-o", folder / "client.ini")
        return processes.run(KE, *where, "--cert-time-tolerance", tolerance)


def test_our_clock_may_be_ahead(authority: Authority, tmp_path: Path) -> None:
    done = fetch(authority, tmp_path, "30m", days=EXPIRED)
    assert done.returncode == 0, done.stderr
    first, last = done.stderr.splitlines()
    assert "warning: a certificate up to 30 minutes out of date is accepted" in first
    assert last.endswith("the certificate is valid only if this machine's clock is at least 29 minutes ahead: set it")


def test_our_clock_may_be_behind(authority: Authority, tmp_path: Path) -> None:
    """The CA is valid by then."""
    done = fetch(authority, tmp_path, "96h", days=EARLY)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].endswith("at least 3 days behind: set it")


def test_a_certificate_in_its_time_needs_no_other_clock(authority: Authority, tmp_path: Path) -> None:
    done = fetch(authority, tmp_path, "4d")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1), done.stderr


@pytest.mark.parametrize(("days", "tolerance"), [(EXPIRED, "20m"), (EARLY, "60h"), ((-9, -3), "4d")])
def test_a_clock_that_would_have_to_be_more_wrong_is_not_believed(
    authority: Authority, tmp_path: Path, days: tuple[float, float], tolerance: str
) -> None:
    """The last one was never valid at the same time as its CA."""
    check_failure(fetch(authority, tmp_path, tolerance, days=days), 13, "not valid within ")
    assert not (tmp_path / "client.ini").exists()


@pytest.mark.parametrize(
    ("issue", "words"),
    [
        ({"self_signed": True}, "self-signed"),
        ({"names": ("elsewhere.example",)}, "not for localhost"),
        ({"for_servers": False}, "not for servers"),
    ],
)
def test_nothing_else_is_tolerated(authority: Authority, tmp_path: Path, issue: dict[str, Any], words: str) -> None:
    check_failure(fetch(authority, tmp_path, "3650d", days=EXPIRED, **issue), 13, words)


def test_an_unknown_ca_is_not_tolerated(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    check_failure(fetch(authority, tmp_path, "3650d", other.ca, days=EXPIRED), 13, "no trusted CA has issued it")


@pytest.mark.parametrize("text", ["0d", "3651d", "3", "1w", "d", "-1d", "1.5h"])
def test_it_is_bounded(text: str) -> None:
    done = processes.run(KE, f"--cert-time-tolerance={text}", "localhost")
    assert done.returncode == 2
    assert f"{text!r} is not a number with the unit s, m, h or d, up to 3650d" in done.stderr


def test_certificates_may_have_no_time_in_common(authority: Authority) -> None:
    early, late = (certs.describe(authority.issue(days=d)[0]).certificate for d in (EXPIRED, EARLY))
    now = certs.now()
    least, most = certs.clock_error([early, late], now)
    assert least > most
    least, most = certs.clock_error([late], now - datetime.timedelta(days=20))
    assert (round(least / 86400), round(most / 86400)) == (23, 29)
