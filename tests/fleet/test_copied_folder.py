# SPDX-License-Identifier: MIT
"""A fleet by time: the plan is copied to a member as the kubelet does it, read-only and replaced by renaming a link."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.fleet_load import Load
from testkit.folder_fleets import FolderMember, leading
from testkit.kubelet import Kubelet
from testkit.processes import Suite, eventually

SPREAD, LIFE = 5, 4  # seconds
HOST = "127.0.0.1"


def copying(leader: FolderMember, volume: Path) -> Kubelet:
    """Copies the plan to a volume now and then, and in no time."""
    names = ("shared/plan", "members", "clock")
    return Kubelet(volume, lambda: {name: (leader.shared / name).read_bytes() for name in names})


def servers(folder: Path, keys: Path) -> Suite:
    folder.mkdir()
    return Suite(
        folder, options={"keys": {"master_keys_dir": keys}, "ntpv4": {"listen": HOST}, "ntske": {"listen": HOST}}
    )


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[FolderMember]:
    with leading(tmp_path, spread=SPREAD, life=LIFE) as member:
        yield member


def test_rotations_by_time_refuse_nothing(leader: FolderMember, tmp_path: Path) -> None:
    b = FolderMember(tmp_path / "b", tmp_path / "volume", lead="no")
    with copying(leader, b.shared), b.agent():
        assert eventually(lambda: b.ids() == leader.ids() != [])
        one, two = servers(tmp_path / "one", leader.keys), servers(tmp_path / "two", b.keys)
        load = Load(contextlib.nullcontext, one.ca, LIFE)
        load.servers = [(HOST, one.ntp_port), (HOST, two.ntp_port)]
        load.exchanges = [(HOST, one.ke_port)]
        try:
            one.start_ke()
            one.start_ts()
            two.start_ts()
            with load:
                for _ in range(2):
                    begin = time.monotonic()
                    new = leader.must("rotate").split()[1]
                    assert time.monotonic() - begin > SPREAD
                    assert eventually(lambda new=new: b.ids()[-1:] == [new])  # type: ignore[misc]
                time.sleep(1)
                load.check()
        finally:
            one.stop()
            two.stop()
    assert not (b.shared / "alive").exists()


def test_a_copy_that_stops_is_an_alarm_that_says_how_long_the_keys_do(leader: FolderMember, tmp_path: Path) -> None:
    b = FolderMember(tmp_path / "b", tmp_path / "volume", lead="no")
    with copying(leader, b.shared) as copies, b.agent() as agent:
        assert eventually(lambda: b.ids() == leader.ids() != [])
        before = b.ids()
        copies.works = False
        agent.wait_for(
            "nothing renews the copy of the plan, or nobody leads: the fleet's clock stands still; the keys of "
        )
        agent.wait_for("stay in use, but others may seal with newer ones")
        assert b.ids() == before


def test_a_volume_that_goes_is_one_too(leader: FolderMember, tmp_path: Path) -> None:
    b = FolderMember(tmp_path / "b", tmp_path / "volume", lead="no")
    with copying(leader, b.shared) as copies, b.agent() as agent:
        assert eventually(lambda: b.ids() == leader.ids() != [])
        copies.works = False
        b.shared.rename(tmp_path / "away")
        agent.wait_for("is missing; the keys of version 1 stay in use, and last for ")
