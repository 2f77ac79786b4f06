# SPDX-License-Identifier: MIT
"""Files that are made whole or not at all, and that no umask opens to others."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.system import certs, files
from testkit.processes import ROOT, one_error, unmeasured, write_ini


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def full_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full once `count` files have been written."""
    left, fsync = iter([True] * count), os.fsync

    def sync(descriptor: int) -> None:
        if not next(left, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)


@pytest.mark.parametrize("written", range(4))
def test_a_pair_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """The disk may be full at the first file, at the second, or when one of them is put into place."""
    pair = ((tmp_path / "a", b"aa", 0o600), (tmp_path / "b", b"bb", 0o644))
    with monkeypatch.context() as patch:
        full_after(written, patch)
        with pytest.raises(OSError, match="No space left on device") as caught:
            files.write_new(*pair)
    assert caught.value.filename == str(pair[written % 2][0])
    assert names(tmp_path) == set()
    files.write_new(*pair)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"aa", "b": b"bb"}


@pytest.mark.parametrize("taken", ["a", "b"])
def test_nothing_is_overwritten_and_nothing_added(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).symlink_to("nowhere")
    with pytest.raises(FileExistsError) as caught:
        files.write_new((tmp_path / "a", b"", 0o600), (tmp_path / "b", b"", 0o644))
    assert caught.value.filename == str(tmp_path / taken)
    assert names(tmp_path) == {taken}


def test_a_leftover_of_a_crash_does_not_stop_the_next_try(tmp_path: Path) -> None:
    (tmp_path / ".a.new").write_text("half")
    files.write_new((tmp_path / "a", b"whole", 0o600))
    assert names(tmp_path) == {"a"}
    assert (tmp_path / "a").read_bytes() == b"whole"


@pytest.mark.parametrize("written", range(8))
def test_a_certificate_can_be_made_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Wherever the first try ended; a CA that is whole stays and is used."""
    made = {"cert": tmp_path / "c.pem", "key": tmp_path / "c.key", "ca": tmp_path / "ca.pem"}
    with monkeypatch.context() as patch:
        full_after(written, patch)
        with pytest.raises(ConfigError, match=rf"cannot write {tmp_path}/(c|ca)\.(key|pem): No space left on device"):
            certs.make(("localhost",), **made)
    ca = {"ca.pem", "ca.key"} if written >= 4 else set()
    assert names(tmp_path) == {".ca.pem.lock", *ca}
    certs.make(("localhost",), **made)
    assert names(tmp_path) == {".ca.pem.lock", "ca.pem", "ca.key", "c.pem", "c.key"}


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    """A limit on the size of files refuses the octets just as late."""
    ini = write_ini(tmp_path / "server.ini", ntske={})
    done = subprocess.run(
        [sys.executable, str(ROOT / "server_helper.py"), str(ini), "make-cert", "localhost"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True, text=True, timeout=60, check=False, env=unmeasured(),
    )  # fmt: skip
    one_error(done, 2, "cannot write .*/certs/ca.key: File too large")
    assert names(tmp_path / "certs") == {".ca.pem.lock"}


def test_no_umask_opens_certificates_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "a/certs"
        certs.make(("localhost",), cert=folder / "c.pem", key=folder / "c.key", ca=folder / "ca.pem")
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert modes == {
        "a": 0o755, "certs": 0o755, ".ca.pem.lock": 0o600,
        "ca.pem": 0o644, "ca.key": 0o600, "c.pem": 0o644, "c.key": 0o600,
    }  # fmt: skip
