# SPDX-License-Identifier: MIT
"""The library as programs meet it: what importing it costs, its guide and examples, and a system that is not Linux."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import nts
from testkit.processes import ROOT, Suite, unmeasured

HEAVY = {"OpenSSL", "cryptography", "service_identity", "ssl", "cffi", "_cffi_backend", "socket", "asyncio", "select"}
LINUX = ("fcntl", "grp", "pwd", "resource", "spwd", "syslog", "termios")
"""what Windows lacks, and Linux shares with other systems or has alone"""
CLIENTS = ("nts.api", "nts.aio", "nts.errors", "nts.client.ke_session", "nts.cli.ke_client", "nts.cli.time_client")


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=unmeasured(), capture_output=True, text=True, timeout=60, check=False)


def example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    code = f"import runpy, sys; sys.argv[0] = {name!r}; runpy.run_path('examples/{name}', run_name='__main__')"
    return python(code, *arguments)


# --- importing --------------------------------------------------------------------------------------------------------


def test_importing_nts_loads_nothing_heavy() -> None:
    done = python("import sys, nts, nts.errors; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert not {m.partition(".")[0] for m in modules} & HEAVY
    assert {m for m in modules if m.startswith("nts.")} == {"nts.errors", "nts.base", "nts.base.errors"}


def test_a_client_that_waits_for_its_first_query_has_loaded_no_tls() -> None:
    done = python("import sys, nts; nts.Client('time.example.net'); print(*sys.modules)")
    assert not {"OpenSSL", "cryptography", "ssl"} & {m.partition(".")[0] for m in done.stdout.split()}


@pytest.mark.parametrize("module", [nts, nts.aio, nts.errors], ids=lambda m: m.__name__)
def test_all_public_names_are_there(module: object) -> None:
    for name in module.__all__:  # type: ignore[attr-defined]
        assert getattr(module, name) is not None


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nts.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_both_ways_take_the_same_arguments() -> None:
    for name in ("key_exchange", "query", "Client"):
        one, other = (inspect.signature(getattr(module, name)) for module in (nts, nts.aio))
        assert one == other


# --- a system that is not Linux ---------------------------------------------------------------------------------------

BLOCK = f"""
import sys
class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {LINUX!r} or name == "nts._engine":
            raise ModuleNotFoundError(f"no {{name}} here", name=name)
sys.meta_path.insert(0, Blocked())
for name in {LINUX!r}:
    sys.modules.pop(name, None)
"""


def test_the_clients_import_nothing_that_only_linux_has() -> None:
    done = python(f"{BLOCK}\nfor name in {CLIENTS!r}: __import__(name)\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not {m for m in done.stdout.split() if m.startswith(("nts.server", "nts.check"))}


def test_the_library_works_without_them(suite: Suite) -> None:
    """And without libaes_siv."""
    code = f"""{BLOCK}
from nts.codec import aes_siv
aes_siv.is_built = lambda: False
sys.platform = "darwin"
import asyncio, nts
arguments = ("localhost", int(sys.argv[1]))
print(nts.Client(*arguments, ca=sys.argv[2]).query().offset)
print(asyncio.run(nts.aio.Client(*arguments, ca=sys.argv[2]).query()).offset)
"""
    done = python(code, suite.ke_port, suite.ca)
    assert done.returncode == 0, done.stderr
    assert [abs(float(x)) < 1 for x in done.stdout.split()] == [True, True]


# --- the guide and the examples ---------------------------------------------------------------------------------------


def test_the_guide_says_what_happens(suite: Suite) -> None:
    names = {"host": "localhost", "port": suite.ke_port, "ca": suite.ca}
    failed, tried = doctest.testfile(str(ROOT / "docs/library.md"), module_relative=False, globs=names)
    assert tried > 10
    assert not failed


def test_the_alarm_is_quiet_while_the_clock_is_right(suite: Suite) -> None:
    where = ("localhost", "--port", suite.ke_port, "--ca", suite.ca)
    done = example("clock_alarm.py", *where)
    assert (done.returncode, done.stdout[:4]) == (0, "ok: "), done.stderr
    alarm = example("clock_alarm.py", *where, "--limit", -1)  # any clock is off by more than that
    assert (alarm.returncode, alarm.stdout[:6]) == (1, "ALARM:"), alarm.stderr
    unknown = example("clock_alarm.py", *where[:3])
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("unknown: the server's certificate")


def test_ten_servers_are_watched_at_once(suite: Suite) -> None:
    servers = [f"localhost:{suite.ke_port}"] * 9 + ["localhost:1"]
    done = example("watch_servers.py", "--ca", suite.ca, "--rounds", 2, "--every", 0.1, *servers)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len([x for x in lines if " stratum 10, offset " in x]) == 18
    assert len([x for x in lines if x.startswith("localhost:1 ConnectError: ")]) == 2


def test_type_checkers_see_the_types(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import nts\n"
        "async def f() -> float:\n    return (await nts.aio.Client('x').query()).offset\n"
        "reveal_type(nts.query(nts.key_exchange('x')).time)\n"
        "nts.Client(1)\nnts.typo\n"
    )
    line = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    found = [x.partition("program.py:")[2] for x in done.stdout.splitlines()]
    assert 'Revealed type is "datetime.datetime"' in found[0]
    assert found[1].startswith("5: error: Argument 1")
    assert found[2].startswith('6: error: Module has no attribute "typo"')
    assert len(found) == 4
