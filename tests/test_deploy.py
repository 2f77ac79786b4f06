# SPDX-License-Identifier: MIT
"""What `make install` makes: scripts and servers that run from there, systemd's files, and what uninstalling leaves."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.server import config
from nts.system import certs
from nts.system.console import COMMANDS
from testkit.processes import ROOT, Process, Suite, ask_udp
from tools import manuals

SCRIPTS = sorted(p.name for p in ROOT.glob("*.py"))
UNITS = sorted(p.name for p in (ROOT / "deploy/systemd").iterdir())
MAX_EXPOSURE = 20  # tenths: 2.0 on systemd's scale from 0 to 10
PREFIX = "usr/local"
NTP_REQUEST = b"\x23" + bytes(47)
LIBC = ctypes.CDLL(None)
PR_GET_MDWE = 66
DENY_WRITE_EXECUTE = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
assert ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here (Debian: systemd)"
)


def make(action: str, folder: Path, prefix: str = f"/{PREFIX}") -> None:
    """What `make install` and `make uninstall` run, below a folder, without building anything."""
    env = {**os.environ, "DESTDIR": str(folder), "PREFIX": prefix, "PYTHON": sys.executable}
    subprocess.run([ROOT / "tools/install.sh", action], cwd=ROOT, env=env, check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an installation."""
    folder = tmp_path_factory.mktemp("installed")
    make("install", folder)
    yield folder
    shutil.rmtree(folder)


def command(installed: Path, script: str, *arguments: object) -> list[str]:
    """An installed script by the Python that was installed with it: its first line names the final place of that."""
    python = installed / PREFIX / "lib/nts/.venv/bin/python"
    return [str(python), str(installed / PREFIX / "bin" / script), *map(str, arguments)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_installed_script_runs(installed: Path, tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        command(installed, script, "--help"), cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")
    first = (installed / PREFIX / "bin" / script).read_text().partition("\n")[0]
    assert first == f"#!/{PREFIX}/lib/nts/.venv/bin/python"


def test_the_installed_servers_serve(installed: Path, tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    ke = Process(command(installed, "ntske_server.py", suite.ini), tmp_path / "ke.log")
    ts = Process(command(installed, "ntsts_server.py", suite.ini), tmp_path / "ts.log")
    try:
        ke.wait_for("sends clients to")
        ts.wait_for("engine:")
        for server in (ke, ts):  # and they are not those of the checkout
            assert str(installed / PREFIX / "lib/nts") in Path(f"/proc/{server.popen.pid}/maps").read_text()
        ca, ini = suite.ca, suite.client_ini
        for client in (
            command(installed, "ntske_client.py", "-c", ca, "-o", ini, "localhost", suite.ke_port),
            command(installed, "ntsts_client.py", "-f", ini),
        ):
            subprocess.run(client, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    finally:
        assert (ke.stop(), ts.stop()) == (0, 0)


def test_settings_of_openssl_are_installed(installed: Path) -> None:
    """ntske_server.py names one such file, ntske_client.py --explain the other; OpenSSL would not miss them."""
    names = sorted(p.relative_to(ROOT) for p in (ROOT / "nts").rglob("*.cnf"))
    assert len(names) == 2
    for name in names:
        assert (installed / PREFIX / "lib/nts" / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_configuration_is_for_a_real_server(installed: Path) -> None:
    made = config.load(installed / "etc/nts/server.ini")
    assert (made.ntske.port, made.ntpv4.port, made.ntpv4.clock, made.ntske.auto_cert) == (4460, 123, "auto", False)
    assert str(made.keys.master_keys_dir) == "/var/lib/nts/master_keys"


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_is_a_command_too(installed: Path, tmp_path: Path, script: str) -> None:
    name = COMMANDS[script.removesuffix(".py")]
    done = subprocess.run(
        command(installed, name, "--help"), cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.startswith(f"usage: {name} "), done.stderr


def test_each_command_has_a_man_page_and_completion(installed: Path) -> None:
    share = installed / PREFIX / "share"
    made = {str(p.relative_to(share)) for p in share.rglob("*") if p.is_file()}
    paths = (manuals.MAN, *manuals.SHELLS.values())
    assert made == {path.format(name) for path in paths for name in COMMANDS.values()}


def test_a_fleet_on_etcd_is_installed_too(installed: Path, tmp_path: Path) -> None:
    """Where the checkout has its optional packages: this one asks etcd, and finds none."""
    (tmp_path / "fleet.key").write_text("00" * 32)
    cert, key, ca = (tmp_path / name for name in ("etcd-client.pem", "etcd-client.key", "etcd-ca.pem"))
    certs.make(("localhost",), cert=cert, key=key, ca=ca)
    (tmp_path / "fleet.ini").write_text("[etcd]\nendpoints = 127.0.0.1:9\n")
    line = command(installed, "fleet_helper.py", "status", "-c", tmp_path / "fleet.ini")
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "etcd is out of reach" in done.stderr) == (11, True), done.stderr


def test_what_no_argument_names_is_in_the_folders_of_system_and_user(installed: Path) -> None:
    """And not in the folder of the suite, which is the same for all users, who may not write there."""
    code = "from nts.system import places; print(places.server_ini(), places.client_ini())"
    line = [str(installed / PREFIX / "lib/nts/.venv/bin/python"), "-c", code]
    env = {"HOME": "/home/you"}
    done = subprocess.run(line, cwd=installed / PREFIX / "lib/nts", env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["/etc/nts/server.ini", "/home/you/.local/state/nts/client.ini"]
    assert (installed / PREFIX / "lib/nts/nts/server/openssl.cnf").exists()


def test_a_configuration_and_keys_outlive_installing_and_uninstalling(tmp_path: Path) -> None:
    """And whatever else is there. A second installation replaces the first."""
    kept = [tmp_path / name for name in ("etc/nts/server.ini", "opt/x y/bin/other", "var/lib/nts/master_keys/0001.key")]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    make("install", tmp_path, "/opt/x y")
    stray = tmp_path / "opt/x y/lib/nts/nts/of_an_older_version.py"
    stray.touch()
    make("install", tmp_path, "/opt/x y")
    assert not stray.exists()
    make("uninstall", tmp_path, "/opt/x y")
    assert sorted(p for p in tmp_path.rglob("*") if not p.is_dir()) == sorted(kept)
    assert {p.read_text() for p in kept} == {"mine"}


# --- systemd ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def units(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed units, with the paths at which their programs are now."""
    folder = tmp_path_factory.mktemp("units")
    for unit in (installed / PREFIX / "lib/systemd/system").iterdir():
        text = unit.read_text()
        assert str(installed) not in text
        (folder / unit.name).write_text(text.replace(f"/{PREFIX}/", f"{installed}/{PREFIX}/"))
    assert sorted(p.name for p in folder.iterdir()) == UNITS
    return folder


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@needs_systemd
def test_systemd_understands_the_units(units: Path) -> None:
    done = analyze("verify", "--man=no", *sorted(units.iterdir()))
    assert (done.returncode, done.stdout) == (0, "")


@needs_systemd
def test_systemd_understands_what_xdp_needs(units: Path, tmp_path: Path) -> None:
    shutil.copy(units / "ntsts.service", tmp_path)
    folder = tmp_path / "ntsts.service.d"
    folder.mkdir()
    for nonsense in ("", "Nonsense=1\n"):
        (folder / "xdp.conf").write_text((ROOT / "deploy/xdp.conf").read_text() + nonsense)
        done = analyze("verify", "--man=no", tmp_path / "ntsts.service")
        assert (done.stdout == "") == (nonsense == ""), done.stdout


@needs_systemd
@pytest.mark.parametrize("unit", [u for u in UNITS if u.endswith(".service")])
def test_a_service_may_do_little_else(units: Path, unit: str) -> None:
    done = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", units / unit)
    assert done.returncode == 0, done.stdout


@needs_systemd
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users and give files to them")
def test_systemd_makes_the_user_and_the_folder_of_the_keys(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for tool, options in (("sysusers", ()), ("tmpfiles", ("--create",))):
        file = installed / PREFIX / f"lib/{tool}.d/nts.conf"
        subprocess.run([f"systemd-{tool}", *options, f"--root={tmp_path}", file], check=True, timeout=30)
    (user,) = [x for x in (tmp_path / "etc/passwd").read_text().splitlines() if x.startswith("nts:")]
    keys = (tmp_path / "var/lib/nts/master_keys").stat()
    assert (keys.st_uid, oct(keys.st_mode & 0o7777)) == (int(user.split(":")[2]), "0o700")
    assert user.endswith(":/var/lib/nts:/usr/sbin/nologin")


@pytest.mark.skipif(LIBC.prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0, reason="this kernel has no PR_SET_MDWE (Linux 6.3)")
def test_what_the_units_forbid_to_write_code_does_not(tmp_path: Path) -> None:
    """The services with MemoryDenyWriteExecute=yes."""
    suite = Suite(tmp_path)
    rotate, serve = (
        [sys.executable, "-c", DENY_WRITE_EXECUTE, sys.executable, str(ROOT / script), str(suite.ini)]
        for script in ("server_helper.py", "ntsts_server.py")
    )
    subprocess.run(rotate, check=True, capture_output=True, timeout=30)
    server = Process(serve, tmp_path / "log")
    try:
        server.wait_for("engine:")
        assert ask_udp(suite.ntp_port, NTP_REQUEST)
    finally:
        assert server.stop() == 0, server.output()
