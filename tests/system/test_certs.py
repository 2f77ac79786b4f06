# SPDX-License-Identifier: MIT
"""Throwaway certificates, and looking at the server's own."""

from __future__ import annotations

import datetime
import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.system import certs, tls


def make(folder: Path, *names: str, cert: str = "c.pem", key: str = "c.key") -> list[Path]:
    return certs.make(names, cert=folder / cert, key=folder / key, ca=folder / "ca.pem")


def test_a_certificate_leads_to_its_ca_and_only_to_it(tmp_path: Path) -> None:
    made = make(tmp_path, "localhost", "127.0.0.1", "::1")
    assert [p.name for p in made] == ["ca.pem", "ca.key", "c.pem", "c.key"]
    assert tls.chain_problem(tmp_path / "c.pem", tmp_path / "ca.pem") is None
    make(tmp_path / "other", "localhost")
    assert "unable to get" in str(tls.chain_problem(tmp_path / "c.pem", tmp_path / "other" / "ca.pem"))
    assert tls.chain_problem(tmp_path / "c.pem", tmp_path / "c.key") == "not PEM certificates"
    ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    found = certs.describe(tmp_path / "c.pem")
    assert found.names == ("localhost", "127.0.0.1", "::1")
    assert found.problem(certs.now()) is None


def test_keys_are_private(tmp_path: Path) -> None:
    make(tmp_path, "localhost")
    assert {stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("ca.key", "c.key")} == {0o600}


def test_a_second_name_is_signed_by_the_same_ca(tmp_path: Path) -> None:
    make(tmp_path, "localhost")
    ca = (tmp_path / "ca.pem").read_bytes()
    assert len(make(tmp_path, "time.example", cert="d.pem", key="d.key")) == 2
    assert (tmp_path / "ca.pem").read_bytes() == ca
    assert tls.chain_problem(tmp_path / "d.pem", tmp_path / "ca.pem") is None


@pytest.mark.parametrize("name", ["c.pem", "c.key"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        make(tmp_path, "localhost")
    assert (tmp_path / name).read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {name, ".ca.pem.lock"}


def test_a_ca_that_cannot_sign_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "localhost")
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ConfigError, match=r"its key .* does not"):
        make(tmp_path, "x", cert="d.pem", key="d.key")
    make(tmp_path / "other", "localhost")
    (tmp_path / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(ConfigError, match="not a CA that can sign"):
        make(tmp_path, "x", cert="d.pem", key="d.key")
    (tmp_path / "ca.key").write_text("garbage")
    with pytest.raises(ConfigError, match="not a CA that can sign"):
        make(tmp_path, "x", cert="d.pem", key="d.key")
    with pytest.raises(ConfigError, match="would overwrite the server's"):
        certs.make(("x",), cert=tmp_path / "x.pem", key=tmp_path / "x.key", ca=tmp_path / "x.pem")


def test_an_expired_ca_does_not_sign_and_no_certificate_outlives_its_ca(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certs, "CA_VALID_DAYS", 1)
    make(tmp_path, "localhost")
    assert certs.describe(tmp_path / "c.pem").not_after == certs.describe(tmp_path / "ca.pem").not_after
    later = certs.now() + datetime.timedelta(days=2)
    monkeypatch.setattr(certs, "now", lambda: later)
    with pytest.raises(ConfigError, match=r"ca.pem has expired"):
        make(tmp_path, "x", cert="d.pem", key="d.key")


def test_unwritable_places_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*file"):
        make(tmp_path / "file", "localhost")


def test_problems_of_a_certificate_are_named(tmp_path: Path) -> None:
    make(tmp_path, "localhost")
    good = certs.describe(tmp_path / "c.pem")
    day = datetime.timedelta(days=1)
    assert good.problem(certs.now()) is None
    assert "expired on" in str(good.problem(good.not_after + day))
    assert "not valid before" in str(good.problem(good.not_before - day))
    assert "no subject alternative name" in str(replace(good, names=()).problem(certs.now()))


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("time.example", True), ("TIME.example", True), ("a.wild.example", True), ("::1", True),
        ("other.example", False), ("wild.example", False), ("a.b.wild.example", False), ("127.0.0.1", False),
    ],
)  # fmt: skip
def test_names_are_compared_as_clients_do(tmp_path: Path, name: str, covered: bool) -> None:
    make(tmp_path, "time.example", "*.wild.example", "::1")
    assert certs.describe(tmp_path / "c.pem").covers(name) is covered


def test_what_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("garbage")
    with pytest.raises(ConfigError, match="holds no usable PEM certificate"):
        certs.describe(tmp_path / "x.pem")
    with pytest.raises(ConfigError, match="cannot read"):
        certs.describe(tmp_path / "none.pem")


def test_server_context_says_what_is_wrong(tmp_path: Path) -> None:
    make(tmp_path, "localhost")
    make(tmp_path / "other", "localhost")
    cert, key = tmp_path / "c.pem", tmp_path / "c.key"
    tls.server_context(cert, key)
    (tmp_path / "garbage").write_text("garbage")
    cases = [
        (tmp_path / "none", key, "cannot read .*none: No such file"),
        (cert, tmp_path / "none", "cannot read .*none: No such file"),
        (cert, tmp_path / "other" / "c.key", "c.key does not match the certificate"),
        (tmp_path / "garbage", key, "garbage holds no usable PEM certificate"),
        (cert, tmp_path / "garbage", "garbage holds no usable PEM private key"),
    ]
    for chain, private, complaint in cases:
        with pytest.raises(ConfigError, match=complaint):
            tls.server_context(chain, private)
