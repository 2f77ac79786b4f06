# SPDX-License-Identifier: MIT
"""Which loop serves the key exchange, what the server says of it, and what the native one leaves to the reference."""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

import pytest

from nts.base.errors import ConfigError, LibraryError
from nts.codec.keyring import CookieFormat
from nts.server import ke_groups, ke_native
from nts.server.certificate import CertificateWatcher
from nts.server.config import load
from nts.server.ke_engine import NativeTls, library
from testkit.ke_sessions import check_agreement, own_server, server_of, works
from testkit.metrics import value
from testkit.processes import ROOT, Suite, free_port, needs_ke_engine, server_ini
from testkit.raw_ke import GOOD_REQUEST, RawKe

POST_QUANTUM = "X25519MLKEM768"


def watcher(folder: Path) -> CertificateWatcher:
    return CertificateWatcher(load(server_ini(folder)).ntske)


def ask_over_p256(own: Suite) -> None:
    """As a client does that has no other group: the ssl module of Python can be told so."""
    context = ssl.create_default_context(cafile=own.ca)
    context.set_alpn_protocols(["ntske/1"])
    context.set_ecdh_curve("prime256v1")
    with (
        socket.create_connection(("127.0.0.1", own.ke_port), 20) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        tls.sendall(GOOD_REQUEST)
        check_agreement(tls.recv(65536), own.ntp_port)


# --- the choice ------------------------------------------------------------------------------------------------------


def test_python_is_taken_when_it_is_asked_for(tmp_path: Path) -> None:
    assert ke_native.choose("python", watcher(tmp_path)) == (None, "engine: python (as configured)")


def test_only_the_python_loop_makes_cookies_for_other_servers(tmp_path: Path) -> None:
    certificate = watcher(tmp_path)
    groups, line = ke_native.choose("auto", certificate, CookieFormat.CHRONY)
    assert groups is None
    assert line.startswith("engine: python (the native loop makes no cookies for chrony; ")
    with pytest.raises(LibraryError, match="no cookies for ntpsec"):
        ke_native.choose("native", certificate, CookieFormat.NTPSEC)


def test_without_the_module_auto_says_so_and_native_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nts._engine_ke", None)
    monkeypatch.delattr("nts._engine_ke", raising=False)
    certificate = watcher(tmp_path)
    groups, line = ke_native.choose("auto", certificate)
    assert groups is None
    assert line.startswith("engine: python (the native loop has not been built for this Python")
    with pytest.raises(LibraryError, match="has not been built"):
        ke_native.choose("native", certificate)


@needs_ke_engine
def test_a_loop_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nts.server.ke_engine.fingerprint", lambda name: 1)
    with pytest.raises(LibraryError, match="another version"):
        library()


@needs_ke_engine
@pytest.mark.parametrize("wanted", ["auto", "native"])
def test_the_line_says_which_clients_python_serves(tmp_path: Path, wanted: str) -> None:
    certificate = watcher(tmp_path)
    lacks = POST_QUANTUM not in ke_groups.offered(NativeTls(*certificate.files).answer)
    groups, line = ke_native.choose(wanted, certificate)
    assert groups is not None
    assert groups[POST_QUANTUM] is not lacks
    names = ", ".join(name for name, ours in groups.items() if not ours)
    rest = f"; clients that offer {names} are served in Python" if lacks else ""
    assert line == f"engine: native ({library()}{rest})"


@needs_ke_engine
def test_without_a_group_in_common_the_native_loop_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nts.server.ke_groups.offered",
        lambda answer: ("x448",) if answer.__name__ == NativeTls.answer.__name__ else ("x25519",),
    )
    groups, line = ke_native.choose("auto", watcher(tmp_path))
    assert groups is None
    assert "has none of the TLS groups x25519" in line


@needs_ke_engine
def test_the_native_loop_refuses_a_certificate_that_its_library_cannot_use(tmp_path: Path) -> None:
    certificate = watcher(tmp_path)
    certificate.files[1].write_text("no key")
    with pytest.raises(ConfigError, match="cannot use"):
        ke_native.choose("native", certificate)


# --- the server ------------------------------------------------------------------------------------------------------


@needs_ke_engine
def test_auto_chooses_the_native_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "openssl.cnf"
    settings.write_text((ROOT / "nts/server/openssl.cnf").read_text().replace("\n#Groups", "\nGroups"))
    monkeypatch.setenv("OPENSSL_CONF", str(settings))
    metrics = free_port()
    with own_server(tmp_path, ntske={"engine": "auto", "metrics": f"127.0.0.1:{metrics}"}) as own:
        assert f"engine: native ({library()})\n" in server_of(own).output()
        assert works(own)
        assert value(metrics, "nts_ke_engine_info", engine="native") == 1
        assert value(metrics, "nts_ke_handovers_total") == 0, "served natively"
        assert value(metrics, "nts_ke_tls_groups_total", group="x25519") == 1


@needs_ke_engine
def test_clients_with_a_group_that_the_library_lacks_get_it_all_the_same(tmp_path: Path) -> None:
    """And all others are served by the native loop."""
    metrics = free_port()
    with own_server(tmp_path, ntske={"engine": "native", "metrics": f"127.0.0.1:{metrics}"}) as own:
        lacks = f"clients that offer {POST_QUANTUM}" in server_of(own).output()
        with RawKe(own.ke_port, own.ca) as peer:
            peer.handshake().send(GOOD_REQUEST)
            assert peer.tls.get_group_name() == POST_QUANTUM
            check_agreement(peer.receive(), own.ntp_port)
        assert value(metrics, "nts_ke_handovers_total") == lacks
        ask_over_p256(own)
        assert value(metrics, "nts_ke_handovers_total") == lacks
        assert value(metrics, "nts_ke_sessions_total", verdict="agreed") == 2
        assert value(metrics, "nts_ke_tls_groups_total", group=POST_QUANTUM) == 1
