# SPDX-License-Identifier: MIT
"""Volumes as the kubelet makes them of a Secret or ConfigMap: links through ..data, which a rename moves."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path


def write_volume(folder: Path, number: int, content: Mapping[str, bytes]) -> None:
    """These files, by their paths, in place of those of the number before."""
    behind = folder / f"..{number}"
    for name, value in content.items():
        path = behind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
        path.chmod(0o444)
        if not (link := folder / Path(name).parts[0]).is_symlink():
            link.symlink_to(f"..data/{link.name}")
    (folder / "..data_tmp").symlink_to(behind.name)
    (folder / "..data_tmp").rename(folder / "..data")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / f"..{number - 1}")


class Kubelet:
    """Keeps a volume like its source; what cannot be read now is for the next time."""

    def __init__(self, volume: Path, source: Callable[[], Mapping[str, bytes]]) -> None:
        self._volume, self._source = volume, source
        self._stop, self.works = threading.Event(), True
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Kubelet:
        self._volume.mkdir(parents=True)
        write_volume(self._volume, 0, self._source())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.7):
            if self.works:
                with contextlib.suppress(FileNotFoundError):
                    content = self._source()
                    number += 1
                    write_volume(self._volume, number, content)
