# SPDX-License-Identifier: MIT
"""A machine of a test's own: this one, but what it writes in system folders, its network and processes are its own.

Programs that would reach beyond it, or that it lacks, are stand-ins: they do what the real ones would do here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.processes import ROOT

NAME = "time.example.net"
_FOLDERS = ("/etc", "/var/lib", "/usr/local", "/root", "/home")
_CHECKOUT = () if str(ROOT).startswith(_FOLDERS) else (str(ROOT),)

# In new mount, network and process namespaces: system folders become overlays, whose changes vanish with them.
_SET_UP = f"""
mount -t tmpfs tmpfs "$MACHINE/changes"
for folder in {" ".join((*_FOLDERS, *_CHECKOUT))}; do
    mkdir -p "$MACHINE/changes$folder" "$MACHINE/changes/work$folder"
    mount -t overlay overlay "$folder" \\
        -o "lowerdir=$folder,upperdir=$MACHINE/changes$folder,workdir=$MACHINE/changes/work$folder"
done
mount -t tmpfs tmpfs /run
cd "$PWD"  # into the overlay
chmod 755 /root  # the Python of a developer may lie there, and the servers' user must reach it
ip link set lo up
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start  # in place of systemd's AmbientCapabilities
printf '127.0.0.1 localhost {NAME} second.example.net\\n' >/etc/hosts
"""

SYSTEMCTL = r"""
import configparser, os, pathlib, shlex, signal, socket, subprocess, sys, time

def unit(name):
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str
    parser.read(f"/usr/local/lib/systemd/system/{name}")
    return parser

def start(name):
    service = unit(name)["Service"]
    user = service["User"]
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *shlex.split(service["ExecStart"])]
    if service["Type"] == "oneshot":
        subprocess.run(command, check=True)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        address = f"/run/{name}.notify"
        ready.bind(address)
        os.chmod(address, 0o777)
        log = open(f"/var/lib/{name}.log", "ab")
        started = subprocess.Popen(
            command, env={**os.environ, "NOTIFY_SOCKET": address}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
        ready.settimeout(60)
        pathlib.Path(f"/run/{name}.pid").write_text(str(started.pid))
        try:
            assert ready.recv(100) == b"READY=1"
        except TimeoutError:
            sys.exit(pathlib.Path(log.name).read_text())

def stop(name):
    pid_file = pathlib.Path(f"/run/{name}.pid")
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    while os.path.exists(f"/proc/{pid}/exe"):  # a zombie has none
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)
    pathlib.Path(f"/run/{name}.notify").unlink(missing_ok=True)

def start_chronyd():  # Debian's unit has its name, and reads its configuration; that names /run/chrony.service.pid
    subprocess.run(["chronyd", "-x", "-u", "root", "-f", "/etc/chrony/chrony.conf"], check=True)

verb, *names = [a for a in sys.argv[1:] if not a.startswith("-")]
assert verb in ("daemon-reload", "enable", "start", "stop", "restart"), verb
for name in names:
    name = name if "." in name else name + ".service"
    if name.endswith(".timer"):
        assert unit(name)["Timer"]["OnCalendar"]
        continue
    if verb in ("stop", "restart"):
        stop(name)
    if verb != "stop":
        start_chronyd() if name == "chrony.service" else start(name)
"""

CERTBOT = r"""
import os, pathlib, subprocess, sys
from nts.system import certs

name = sys.argv[sys.argv.index("-d") + 1]
live = pathlib.Path("/etc/letsencrypt/live") / name
certs.make((name,), cert=live / "fullchain.pem", key=live / "privkey.pem", ca=pathlib.Path(os.environ["SSL_CERT_FILE"]))
hooks = pathlib.Path("/etc/letsencrypt/renewal-hooks/deploy")
for hook in hooks.iterdir():
    subprocess.run([hook], env={**os.environ, "RENEWED_LINEAGE": str(live)}, check=True)
"""

# To the machine "second.example.net", which is a folder here.
RSYNC = r"""
import pathlib, shutil, sys

flags, source, target = sys.argv[1:-2], pathlib.Path(sys.argv[-2]), sys.argv[-1].removeprefix("second.example.net:")
assert flags == ["-a", "--delete"]
second = pathlib.Path("/var/lib/second")
shutil.rmtree(second, ignore_errors=True)
shutil.copytree(source, second)
assert target == "/var/lib/nts/master_keys/"
"""


class Machine:
    """Run commands on it with `run`; all in one go, since it is gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "changes").mkdir()
        self._programs = folder / "programs"
        self._programs.mkdir()
        self.stand_in("systemctl", SYSTEMCTL)
        self.stand_in("certbot", CERTBOT)
        self.stand_in("rsync", RSYNC)
        for name in ("apt-get", "nft"):
            if name == "apt-get" or shutil.which(name) is None:
                self.stand_in(name, "")

    def stand_in(self, name: str, python: str) -> None:
        """A program of this name that runs Python code."""
        path = self._programs / name
        path.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{python}")
        path.chmod(0o755)

    def run(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Shell commands, each shown before it runs, in the checkout. Skips where there can be no such machine."""
        if os.geteuid() != 0:
            pytest.skip("only root can make a machine of its own")
        path = os.pathsep.join((str(self._programs), "/usr/local/bin", os.environ["PATH"], "/usr/sbin", "/sbin"))
        environment = {
            **os.environ, "PATH": path, "MACHINE": str(self._folder), "SSL_CERT_FILE": "/etc/trusted.pem",
        }  # fmt: skip
        inside = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-euc"]
        probe = subprocess.run(
            [*inside, _SET_UP], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if probe.returncode != 0:
            pytest.skip(f"no machine of its own: {probe.stderr.strip()}")
        return subprocess.run(
            [*inside, f"{_SET_UP}\nset -x\n{commands}"], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )  # fmt: skip
