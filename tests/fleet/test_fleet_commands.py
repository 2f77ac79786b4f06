# SPDX-License-Identifier: MIT
"""The commands of fleet_helper.py as an operator meets them, with a shared folder: what they do, say and refuse."""

from __future__ import annotations

import math
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from testkit.folder_fleets import FolderMember, members
from testkit.key_files import put
from testkit.processes import ROOT, eventually, free_port, one_error, run, write_ini

OUT_OF_REACH = 11


@pytest.fixture
def pair(tmp_path: Path) -> tuple[FolderMember, FolderMember]:
    """Two members that have joined, the first with a key from before."""
    a, b = members(tmp_path, "a", "b")
    put(a.keys, "0a0a.key")
    a.must("init", "--cookie-life", "1s")
    b.must("join")
    return a, b


def test_a_fleet_begins_with_the_keys_of_its_first_member(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    assert a.ids() == b.ids() == ["0a0a"]
    key_file = a.folder / "../fleet.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    secrets = [key_file.read_text().strip(), (a.keys / "0a0a.key").read_text().strip()]
    for path in [p for p in a.shared.rglob("*") if p.is_file()]:
        assert not [s for s in secrets if s in path.read_text()], "no key lies in the store in clear"
    found = a.status()
    assert [(k["id"], k["phase"]) for k in found["keys"]] == [("0a0a", "active")]
    assert [(m["name"], m["behind"], m["agent"]) for m in found["members"]] == [("a", 0, "silent"), ("b", 0, "silent")]
    text = b.must("status")
    assert "led by nobody" in text
    assert re.search(r"^a +silent +1 +0 ", text, re.MULTILINE)


def test_a_rotation_and_what_it_waits_for(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    with a.agent():
        waiting = subprocess.Popen(
            [sys.executable, str(ROOT / "fleet_helper.py"), "-c", str(a.ini), "rotate"],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert eventually(lambda: a.status()["waits_for"] == ["b"])
        (new,) = (k["id"] for k in a.status()["keys"] if k["phase"] == "staged")
        assert b.ids() == ["0a0a"]
        assert eventually(lambda: "no agent is heard of on b" in (a.folder / "agent.log").read_text(), 20)
        assert waiting.stderr is not None
        assert any("waits for b: staged key, version 2" in line for line in waiting.stderr)
        with b.agent():
            out, _ = waiting.communicate(timeout=30)
            assert out == f"key {new} is active on all members; old ones go 1 second after that\n"
            assert a.ids()[-1] == b.ids()[-1] == new
            assert eventually(lambda: a.ids() == b.ids() == [new], 15)


def test_a_rotation_goes_on_where_another_one_stopped(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    waiting = subprocess.Popen([sys.executable, str(ROOT / "fleet_helper.py"), "-c", str(a.ini), "rotate"],
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert waiting.stderr is not None
    assert "is staged" in waiting.stderr.readline()
    waiting.kill()
    waiting.communicate()
    (staged,) = (k["id"] for k in a.status()["keys"] if k["phase"] == "staged")
    with a.agent(), b.agent():
        assert eventually(lambda: a.ids() == b.ids() == [staged], 20)


def test_keys_that_others_change_are_put_right(pair: tuple[FolderMember, FolderMember]) -> None:
    a, _ = pair
    with a.agent() as agent:
        put(a.keys, "0b0b.key")
        agent.wait_for("removed 0b0b.key; who else changes them?")
        assert a.ids() == ["0a0a"]


def test_a_host_with_other_keys_joins_only_by_force(tmp_path: Path) -> None:
    a, b = members(tmp_path, "a", "b")
    a.must("init")
    put(b.keys, "0b0b.key")
    one_error(b.run("join"), 2, "this host has keys that the fleet does not have: 0b0b")
    b.must("join", "--force")
    assert b.ids() == a.ids() != []


def test_what_cannot_be_done_is_one_line(pair: tuple[FolderMember, FolderMember], tmp_path: Path) -> None:
    a, _ = pair
    one_error(a.run("init"), 2, "there is a fleet under /nts/ already")
    one_error(a.run("leave", "b"), 2, "b is another host")
    one_error(a.run("leave", "x", "--force"), 2, "x is no member of this fleet")
    one_error(a.run("revoke", "ffff"), 2, "the fleet has no key ffff")
    one_error(a.run("init", "--restore"), 2, "no older than that of this host")
    one_error(a.run("init", "--grant", "a"), 2, "--grant needs etcd")
    one_error(run("fleet_helper.py", "status", "-c", tmp_path / "none.ini"), 2, "none.ini does not exist")
    ini = a.ini.read_text()
    for option, why in (
        ("name = a b", "must be letters"),
        ("backend = x", "must be etcd or folder"),
        ("prefix = nts", "must be printable ASCII that begins and ends with a slash"),
        ("lease = 1s", "from 2s to 60m"),
        ("lead = maybe", "must be yes, no"),
        ("metrics = here", "must be an IP address and a port"),
        ("wrapping_key =", "must be a path"),
        ("hello = 1", "unknown option hello"),
    ):
        name = option.partition(" ")[0]
        a.ini.write_text(
            re.sub(rf"^{name} = .*\n", "", ini, flags=re.MULTILINE).replace("[fleet]", f"[fleet]\n{option}")
        )
        one_error(a.run("status"), 2, why)
    a.ini.write_text(ini + "\n[more]\n")
    one_error(a.run("status"), 2, r"unknown section \[more\]")
    a.ini.write_text(ini)
    write_ini(a.folder / "server.ini", keys={"master_keys_dir": "master_keys", "rotate_every": "1d"})
    one_error(a.run("agent"), 2, "rotate_every is set, but the fleet rotates")


def test_two_hosts_with_one_name_are_noticed(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    a.must("join")  # it is that member
    b.ini.write_text(b.ini.read_text().replace("name = b", "name = a"))
    one_error(b.run("join"), 2, "a is a member already, and this host does not remember that it joined")
    with a.agent() as agent:
        assert eventually(lambda: a.status()["members"][0]["agent"] == "runs")
        one_error(b.run("join"), 2, "a is a member already, and its agent runs")
        a.must("join", "--force")
        assert eventually(lambda: a.status()["waits_for"] == ["b"] or a.status()["waits_for"] == [])
        assert "another host" not in agent.output(), "it was this one"
        b.must("join", "--force")
        agent.wait_for("another host has joined as a: the keys of this one stay as they are")
        b.ini.write_text(b.ini.read_text().replace("name = a", "name = b"))
        a.must("join", "--force")
        b.must("join", "--force")
        assert eventually(lambda: a.status()["waits_for"] == [])


def test_a_memory_that_cannot_be_used_is_named(pair: tuple[FolderMember, FolderMember]) -> None:
    a, _ = pair
    (a.folder / "fleet.state").write_text("x")
    for command in (("agent",), ("rotate",), ("join",), ("init", "--restore")):
        one_error(a.run(*command), 1, r"what this host remembers \(\[fleet\] memory\) cannot be used")
    a.must("join", "--force")
    a.must("leave")


def test_a_wrong_wrapping_key_opens_nothing(pair: tuple[FolderMember, FolderMember]) -> None:
    a, _ = pair
    key = a.folder / "../fleet.key"
    good = key.read_text()
    key.write_text("00" * 32)
    one_error(a.run("status"), 1, "/nts/shared/plan is sealed with wrapping key '.*', which is not here")
    key.write_text("x")
    one_error(a.run("status"), 2, "does not hold lines of 64 hexadecimal digits")
    key.unlink()
    one_error(a.run("status"), 2, "cannot read")
    key.write_text(good)


def test_who_can_only_write_to_the_store_plants_nothing(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    plan = a.shared / "shared/plan"
    old = plan.read_bytes()
    with a.agent() as agent, b.agent():
        a.must("rotate")
        keys, now = a.ids(), plan.read_bytes()
        plan.write_bytes(old)
        agent.wait_for("the store has version 1 of the plan, this member has carried out ")
        plan.write_bytes(now.replace(b'"max_keys": 4', b'"max_keys": 9'))
        agent.wait_for("/nts/shared/plan is not what a member of this fleet wrote")
        assert set(keys) >= set(a.ids())
        plan.write_bytes(now)
        assert eventually(lambda: b.run("rotate").returncode == 0, 20)


def test_a_store_that_lost_the_plan_gets_it_back_from_a_member(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    backup = (a.shared / "shared/plan").read_bytes()
    with a.agent(), b.agent():
        a.must("rotate")
    (a.shared / "shared/plan").write_bytes(backup)
    assert re.fullmatch(r"version \d+ of the plan is in the store again\n", a.must("init", "--restore"))
    (a.shared / "shared/plan").unlink()
    one_error(a.run("status"), 2, "there is no fleet here yet")
    a.must("init", "--restore")
    with a.agent(), b.agent():
        a.must("rotate")
        assert a.ids()[-1] == b.ids()[-1]


def test_a_wrapping_key_is_changed_while_all_goes_on(pair: tuple[FolderMember, FolderMember], tmp_path: Path) -> None:
    a, b = pair
    key, theirs = tmp_path / "fleet.key", b.folder / "fleet.key"
    shutil.copy(key, theirs)
    b.ini.write_text(b.ini.read_text().replace("../fleet.key", "fleet.key"))
    old = key.read_text()
    with a.agent(), b.agent():
        assert "bring the file to all members" in a.must("rewrap", "--stage")
        assert len(key.read_text().split()) == 2
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert eventually(lambda: len(a.status()["members"][0]["wrapping_keys"]) == 2)
        one_error(a.run("rewrap"), 1, "these have not said that they have wrapping key .*: b")
        a.must("rotate")  # with the key that all have
        shutil.copy(key, theirs)
        assert eventually(lambda: a.run("rewrap").returncode == 0, 20)
        new = key.read_text().split()[1]
        for file in (key, theirs):
            file.write_text(new + "\n")
        assert old.strip() != new
        a.must("rotate")
        assert a.ids()[-1] == b.ids()[-1]


def test_revoked_is_gone_when_the_command_ends_or_it_says_where_not(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    with a.agent():
        done = a.run("revoke", "0a0a")
        one = done.stderr.splitlines()
        assert done.returncode == 1
        assert "clients with cookies of 0a0a are refused from now on" in one[0]
        assert "these still have key 0a0a: b" in one[1]
        assert "0a0a" not in a.ids()
        with b.agent():
            assert eventually(lambda: a.ids() == b.ids() != [])
            assert a.must("revoke", a.ids()[0]).startswith("key ")


def test_rotations_on_their_own(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    with a.agent() as leader, b.agent():
        command = [sys.executable, str(ROOT / "fleet_helper.py"), "-c", str(a.ini), "rotate", "--every", "3s"]
        services = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        active = re.compile(r"leads to version .* (\w+) active$", re.MULTILINE)
        begin = time.monotonic()
        assert eventually(lambda: len(set(active.findall(leader.output()))) >= 3, 90), leader.output()
        assert time.monotonic() - begin > 6
        said = ""
        for service in services:
            service.kill()
            said += service.communicate()[1]
        staged = re.findall(r"key (\w+) is staged", said)
        assert len(staged) == len(set(staged)), "each was staged once"


def test_leaving_makes_a_member_that_lags_no_obstacle(pair: tuple[FolderMember, FolderMember]) -> None:
    a, b = pair
    with a.agent():
        assert "b is no member any more" in b.must("leave")
        a.must("rotate")
        assert b.ids() == ["0a0a"]
        with b.agent() as agent:
            agent.wait_for("b is no member of this fleet: its keys stay as they are")
            assert b.ids() == ["0a0a"]


def test_an_agent_without_its_store_keeps_the_keys(pair: tuple[FolderMember, FolderMember]) -> None:
    a, _ = pair
    away = a.shared.rename(a.shared.with_name("away"))
    shutil.rmtree(a.keys)
    with a.agent() as agent:
        agent.wait_for("is missing; the keys of version 1 stay in use")
        assert a.ids() == ["0a0a"], "from what it remembers"
        one_error(a.run("status"), OUT_OF_REACH, "is missing")
        away.rename(a.shared)
        a.must("status")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_what_root_makes_belongs_to_the_servers_user(tmp_path: Path) -> None:
    (a,) = members(tmp_path, "a")
    write_ini(a.folder / "server.ini", keys={"master_keys_dir": "master_keys"}, server={"user": "nobody"})
    a.ini.write_text(a.ini.read_text().replace("[fleet]", "[fleet]\nmemory = state/plan"))
    a.must("init")
    a.must("rewrap", "--stage")
    (key,) = a.keys.glob("*.key")
    made = (tmp_path / "fleet.key", a.folder / "state", a.folder / "state/plan", a.keys, key)
    assert {path.stat().st_uid for path in made} == {pwd.getpwnam("nobody").pw_uid}


def test_the_metrics_of_an_agent(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    port = free_port()
    a = FolderMember(tmp_path / "a", tmp_path / "shared", metrics=f"127.0.0.1:{port}")
    a.must("init")

    def scrape() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.split(" ") for line in lines)}

    with a.agent() as agent:
        assert eventually(lambda: scrape()["nts_fleet_leads"] == 1)
        sound = scrape()
        assert sound["nts_fleet_held_version"] == sound["nts_fleet_plan_version"] == 1
        assert (sound["nts_fleet_members"], sound["nts_fleet_members_behind"], sound["nts_fleet_keys"]) == (1, 0, 1)
        assert sound["nts_fleet_keys_last_seconds"] == math.inf
        assert (sound["nts_fleet_problem"], sound["nts_fleet_failures_total"]) == (0, 0)
        a.shared.rename(tmp_path / "away")
        assert eventually(lambda: scrape()["nts_fleet_problem"] == 1)
        assert eventually(lambda: scrape()["nts_fleet_contact_age_seconds"] > 3)
        assert scrape()["nts_fleet_failures_total"] >= 1
        second = FolderMember(tmp_path / "b", tmp_path / "away", metrics=f"127.0.0.1:{port}")
        one_error(second.run("agent"), 2, f"metrics on 127.0.0.1 port {port}: Address already in use")
        assert agent.popen.poll() is None


def test_etcd_without_its_packages_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "fleet.key").write_text("00" * 32)
    ini = write_ini(tmp_path / "fleet.ini", fleet={"name": "a"})
    code = (
        "import runpy, sys; sys.modules['grpc'] = None; sys.argv = sys.argv[1:]; "
        f"sys.path.insert(0, {str(ROOT)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(ROOT / "fleet_helper.py"), "status", "-c", str(ini)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "etcd needs the package aetcd and what comes with it" in done.stderr
    assert "Traceback" not in done.stderr
