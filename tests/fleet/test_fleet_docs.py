# SPDX-License-Identifier: MIT
"""docs/fleet.md: every command in it, in its order, with a real cluster of three and three hosts."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.fleet import config
from nts.system import certs
from testkit import chrony
from testkit.command_lines import parser_of
from testkit.etcd import EtcdCluster, make_certificate
from testkit.key_files import ids
from testkit.processes import ROOT, eventually, free_port

DOCUMENT = (ROOT / "docs/fleet.md").read_text()
MIXED = DOCUMENT.partition("## A fleet with chronyd\n")[2].partition("\n## ")[0]


def blocks(kind: str, text: str) -> list[str]:
    """What stands in fences of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


COMMANDS = blocks("sh", DOCUMENT.replace(MIXED, ""))
INI = blocks("ini", DOCUMENT)[0]
HOSTS = ("host1", "host2", "host3")
STAND_INS = """
fleet_helper.py() { "$PYTHON" "$ROOT/fleet_helper.py" "$@"; }
systemctl() {
    case $* in
        "enable --now nts-fleet")
            "$PYTHON" "$ROOT/fleet_helper.py" agent -c fleet.ini >agent.log 2>&1 &
            echo $! >agent.pid
            ;;
        "enable --now nts-fleet-rotate.timer") fleet_helper.py rotate ;;
        *) exit 9 ;;
    esac
}
"""


def test_every_option_is_documented() -> None:
    for section, kind in config.SECTIONS.items():
        for option in dataclasses.fields(kind):
            written = rf"^{option.name} = |`(\[{section}\] )?{option.name}`"
            assert re.search(written, DOCUMENT, re.MULTILINE), option.name
    for action in parser_of(ROOT / "fleet_helper.py")._actions:
        for name, command in (action.choices or {}).items() if isinstance(action, argparse._SubParsersAction) else ():
            assert f"`{name}" in DOCUMENT or f"{name} " in DOCUMENT
            for option in (o for a in command._actions for o in a.option_strings if o.startswith("--")):
                assert option in DOCUMENT or option in ("--help", "--config"), option


def typed(here: Path, commands: str) -> str:
    """What a shell prints in this folder, without a fault."""
    commands = re.sub(r"(?<![\w.])fleet_helper\.py (\w+)", r"fleet_helper.py \1 -c fleet.ini", commands)
    script = STAND_INS.replace("fleet_helper.py rotate", "fleet_helper.py rotate -c fleet.ini")
    env = {**os.environ, "PYTHON": sys.executable, "ROOT": str(ROOT)}
    with (here / "typed.log").open("w") as log:  # not a pipe: the agent would keep it open
        line = ["bash", "-e", "-c", script + commands]
        done = subprocess.run(line, cwd=here, env=env, stdout=log, stderr=log, timeout=120, check=False)
    said = (here / "typed.log").read_text()
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return said


def stop_agent(here: Path) -> None:
    """The one that `typed` started."""
    pid = here / "agent.pid"
    if pid.exists():
        os.kill(int(pid.read_text()), 15)


class Site:
    """Three hosts, each a folder with what /etc/nts has there."""

    def __init__(self, folder: Path, etcd: EtcdCluster) -> None:
        self.folder, self.etcd = folder, etcd
        for host in HOSTS:
            here = folder / host
            here.mkdir()
            cert, key = make_certificate(etcd.folder, host)
            for source, name in ((etcd.ca, "etcd-ca.pem"), (cert, "etcd-client.pem"), (key, "etcd-client.key")):
                shutil.copy(source, here / name)
            for source, name in zip(etcd.root, ("root.pem", "root.key"), strict=True):
                shutil.copy(source, here / name)
            ini = INI.replace("[fleet]", f"[fleet]\nname = {host}\nlease = 2s\npoll = 3s")
            ini = re.sub(r"^endpoints = .*$", f"endpoints = {etcd.endpoints}", ini, flags=re.MULTILINE)
            (here / "fleet.ini").write_text(ini.replace("/var/lib/nts/fleet/plan", "plan"))
            (here / "server.ini").write_text("[keys]\nmaster_keys_dir = master_keys\n")

    def type(self, host: str, commands: str) -> str:
        """What a shell there prints, without a fault."""
        return typed(self.folder / host, commands)

    def held(self) -> list[list[int]]:
        return [ids(self.folder / host / "master_keys") for host in HOSTS]

    def stop(self) -> None:
        for host in HOSTS:
            stop_agent(self.folder / host)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    etcd = EtcdCluster(tmp_path / "etcd")
    made = Site(tmp_path, etcd)
    try:
        etcd.start_all()
        yield made
    finally:
        made.stop()
        etcd.stop()


def test_all_commands_work_in_their_order(site: Site) -> None:
    role, first, others, timer, daily, restore, revoke, stage, rewrap = COMMANDS
    assert "host3" in site.type("host1", role)
    site.type("host1", first)
    for host in HOSTS[1:]:
        shutil.copy(site.folder / "host1/fleet.key", site.folder / host)
        site.type(host, others)
    assert "is active on all members" in site.type("host1", timer)
    said = site.type("host2", daily)
    assert re.search(r"^host3 +runs ", said, re.MULTILINE)
    assert "is active on all members" in said
    before = site.held()
    assert before[0] == before[1] == before[2]
    assert len(before[0]) == 3
    assert site.etcd.ctl("del", "/nts/shared/plan").returncode == 0
    assert "is in the store again" in site.type("host3", restore)
    assert f"key {before[0][-1]:04x} is gone" in site.type("host1", revoke)
    assert all(before[0][-1] not in held for held in site.held())
    site.type("host1", stage)
    for host in HOSTS[1:]:
        shutil.copy(site.folder / "host1/fleet.key", site.folder / host)
    assert eventually(lambda: site.type("host2", "fleet_helper.py status --json").count('"runs"') == 3)
    assert eventually(lambda: len(re.findall(r"[0-9a-f]{8}", acknowledged(site))) >= 6, 20)
    assert "all members use it" in site.type("host1", rewrap)


def acknowledged(site: Site) -> str:
    """The wrapping keys that members say they have."""
    said = site.type("host2", "fleet_helper.py status --json")
    return "".join(re.findall(r'"wrapping_keys": \[(.*?)\]', said, re.DOTALL))


@pytest.mark.interop
def test_a_chronyd_joins_with_the_commands_of_its_section() -> None:
    """In a fleet whose plan lies in a folder."""
    chrony.require()
    server_ini, fleet_ini, join = *blocks("ini", MIXED), *blocks("sh", MIXED)
    with chrony.short_folder() as folder, contextlib.ExitStack() as stack:
        ours, peer = folder / "ours", folder / "peer"
        (folder / "shared").mkdir()
        port, options = free_port(socket.SOCK_DGRAM), "backend = folder\nlead = yes\nlease = 2s\npoll = 2s\n"
        options += "wrapping_key = ../fleet.key\n"
        own = fleet_ini.replace("/var/lib/chrony", "dump").replace(":123", f":{port}")
        own = own.replace("chronyc", f"chronyc -h {folder}/c/c.sock")
        for here, text in ((ours, "[fleet]\n"), (peer, own)):
            here.mkdir()
            (here / "fleet.ini").write_text(f"{text}name = {here.name}\n{options}\n[folder]\npath = ../shared\n")
            stack.callback(stop_agent, here)
        (ours / "server.ini").write_text(server_ini)
        typed(ours, "fleet_helper.py init\nsystemctl enable --now nts-fleet\n")
        (peer / "dump").mkdir(mode=0o700)
        certs.make(certs.LOCAL_NAMES, cert=peer / "cert.pem", key=peer / "cert.key", ca=peer / "ca.pem")
        said = re.findall(r"`((?:ntsdumpdir|ntsrotate|allow).*?)`", MIXED)
        lines = [line.replace("/var/lib/chrony", f"{peer}/dump") for line in dict.fromkeys(said)]
        assert {line.split()[0] for line in lines} == {"ntsdumpdir", "ntsrotate", "allow"}
        lines += [f"ntsservercert {peer}/cert.pem", f"ntsserverkey {peer}/cert.key", f"ntsport {free_port()}"]
        stack.enter_context(chrony.running(folder / "c", [*lines, f"port {port}"]))
        assert "peer is a member" in typed(peer, join)
        assert "is active on all members" in typed(ours, "fleet_helper.py rotate")
