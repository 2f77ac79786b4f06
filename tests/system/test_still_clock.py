# SPDX-License-Identifier: MIT
"""A program that is kept from the clock believes that it sets it, and sets nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest

from nts.system import still_clock

# Without the right to set the clock the kernel refuses each of these, so that nothing happens to it in any case.
_REFUSED = ("setpriv", "--bounding-set=-sys_time", "--inh-caps=-all", "--")
_TOUCH = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
time.clock_settime(time.CLOCK_REALTIME, 1)
frequency = (ctypes.c_long * 64)(2, 0, 1 << 16)  # struct timex: modes ADJ_FREQUENCY
assert libc.adjtimex(frequency) == 0, ctypes.get_errno()
assert libc.clock_adjtime(0, frequency) == 0, ctypes.get_errno()
print("done")
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_REFUSED, *command], cwd=still_clock.FOLDER, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv: install util-linux")
def test_setting_the_clock_seems_to_succeed_and_does_nothing() -> None:
    touch = (sys.executable, "-c", _TOUCH)
    assert "Operation not permitted" in run(*touch).stderr
    before = time.time() - time.monotonic()
    done = run(*still_clock.command(*touch))
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert abs(time.time() - time.monotonic() - before) < 0.2


def test_a_program_that_is_not_there_is_named() -> None:
    done = run(*still_clock.command("not-there"))
    assert (done.returncode, done.stderr) == (127, "still_clock: not-there: No such file or directory\n")
