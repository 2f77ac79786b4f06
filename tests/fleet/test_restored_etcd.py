# SPDX-License-Identifier: MIT
"""Somebody restores an old backup of a real etcd, or loses what is in it, and forgets to say so: agents keep their keys
and say what is wrong, no command makes it worse, and one command mends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.etcd import EtcdCluster
from testkit.folder_fleets import FolderMember
from testkit.processes import eventually, one_error, write_ini

LIFE = 2  # seconds


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    try:
        cluster.start_all()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def trio(etcd: EtcdCluster, tmp_path: Path) -> list[FolderMember]:
    """Hosts with that etcd, of which the first two are members. Each test has a fleet of its own."""
    found = [FolderMember(tmp_path / name, tmp_path) for name in "abc"]
    access = {"endpoints": etcd.endpoints, "ca": etcd.ca, "cert": etcd.root[0], "key": etcd.root[1]}
    for host in found:
        options = {
            "name": host.name, "prefix": f"/{tmp_path.name}/", "wrapping_key": "../fleet.key",
            "lease": "2s", "poll": "2s",
        }  # fmt: skip
        write_ini(host.ini, fleet=options, etcd=access)
    found[0].must("init", "--cookie-life", f"{LIFE}s")
    found[1].must("join")
    return found


def keys_stay(*hosts: FolderMember) -> None:
    """Longer than old keys would."""
    before = [host.ids() for host in hosts]
    end = time.monotonic() + LIFE + 4
    while time.monotonic() < end:
        assert [host.ids() for host in hosts] == before
        time.sleep(0.2)


def test_an_old_backup_moves_nobody_back(etcd: EtcdCluster, trio: list[FolderMember], tmp_path: Path) -> None:
    a, b, _ = trio
    with a.agent() as one, b.agent() as other:
        etcd.save(tmp_path / "backup")
        a.must("rotate")
        assert eventually(lambda: len(a.ids()) == len(b.ids()) == 1, 20), "the old key is gone"
        etcd.restore(tmp_path / "backup")
        for agent in (one, other):
            agent.wait_for("the store has version 1 of the plan, this member has carried out ")
        why = "the store has version 1 of the plan, this member has carried out "
        for command in (("rotate",), ("revoke", a.ids()[0]), ("rewrap",), ("leave",)):
            one_error(a.run(*command), 1, why)
        assert why in b.run("status").stderr
        keys_stay(a, b)
        assert a.ids() == b.ids()
        a.must("init", "--restore")
        a.must("rotate")
        assert a.ids()[-1] == b.ids()[-1]
    assert "Traceback" not in one.output() + other.output()


def test_a_backup_from_before_a_host_joined_leaves_it_out_nowhere(
    etcd: EtcdCluster, trio: list[FolderMember], tmp_path: Path
) -> None:
    """The keys are the same in it, so are their phases."""
    a, b, c = trio
    with a.agent() as one, b.agent(), c.agent() as new:
        etcd.save(tmp_path / "backup")
        c.must("join")
        assert eventually(lambda: a.status()["waits_for"] == [])
        time.sleep(3)  # a poll: all know that it has joined
        etcd.restore(tmp_path / "backup")
        one.wait_for("the store has a plan of version 1 from before members joined or left")
        one_error(c.run("rotate"), 1, "from before members joined or left")
        keys_stay(a, b, c)
        b.must("init", "--restore")
        a.must("rotate")
        assert a.ids()[-1] == b.ids()[-1] == c.ids()[-1]
    assert "Traceback" not in new.output()


def test_what_is_lost_comes_back_from_a_member(etcd: EtcdCluster, trio: list[FolderMember], tmp_path: Path) -> None:
    a, b, c = trio
    with a.agent() as one, b.agent():
        assert eventually(lambda: a.status()["leader"] is not None)
        assert etcd.ctl("del", f"/{tmp_path.name}/members").returncode == 0
        one_error(c.run("join"), 1, "the list of members in the store is not the one that the plan names")
        a.must("init", "--restore")
        one_error(a.run("init", "--restore"), 2, "no older than that of this host")
        c.must("join")
        assert etcd.ctl("del", "--prefix", f"/{tmp_path.name}/").returncode == 0
        one.wait_for("there is no fleet here yet")
        keys_stay(a, b, c)
        c.must("init", "--restore")
        with c.agent():
            b.must("rotate")
            assert a.ids()[-1] == b.ids()[-1] == c.ids()[-1]
