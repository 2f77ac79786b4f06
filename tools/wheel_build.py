# SPDX-License-Identifier: MIT
"""The step of `pip wheel .` that builds C: libaes_siv by CMake, and the native engine, both into the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent.parent


class NativeBuild(build_ext):
    """Builds nts._engine and nts._engine_ke, and nts/libaes_siv.so beside them."""

    def build_extension(self, ext: Extension) -> None:
        engine = Path(self.get_ext_fullpath(ext.name)).resolve()
        work = Path(self.build_temp).resolve() / "libaes_siv"
        engine.parent.mkdir(parents=True, exist_ok=True)
        _run("cmake", "-S", ROOT / "libaes_siv", "-B", work, "-DBUILD_TESTING=OFF")
        _run("cmake", "--build", work, "--target", "aes_siv", "aes_siv_static")
        shutil.copyfile(work / "libaes_siv.so", engine.parent / "libaes_siv.so")
        _run(sys.executable, "-m", "nts._engine_build", ext.name.rpartition(".")[2], engine, work / "libaes_siv.a")


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)
