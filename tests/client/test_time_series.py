# SPDX-License-Identifier: MIT
"""ntsts_client.py beyond one query: several samples, several servers, a table, a monitor, metrics, a drawing."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testkit.client_runs import TS, Completed, check_failure, check_success, genuine, nothing, only
from testkit.processes import ROOT, Process, Suite, eventually, one_error, run
from testkit.time_servers import TimeServer, ahead, time_servers

FAST = ("-i", 0.01)
needs_matplotlib = pytest.mark.skipif(
    not importlib.util.find_spec("matplotlib"), reason="no matplotlib here: requirements-dev.txt has it"
)


def files(servers: Sequence[TimeServer]) -> list[str]:
    return [word for s in servers for word in ("-f", s.ini.name)]


def ask(folder: Path, servers: Sequence[TimeServer], *arguments: object) -> Completed:
    return run(TS, *files(servers), *arguments, cwd=folder)


def objects(done: Completed) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def on_a_terminal(folder: Path, *arguments: object, until: Callable[[], bool] = lambda: False) -> str:
    """What the client prints on a terminal of 80 columns, where somebody types Ctrl-C when `until` is true."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / TS), *map(str, arguments)]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    shown, stopped = b"", False
    with subprocess.Popen(
        command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # these tests may run with SIGINT ignored
    ) as client:  # fmt: skip
        os.close(theirs)
        end = time.monotonic() + 60
        while select.select([ours], [], [], max(0.0, end - time.monotonic()))[0]:
            if not stopped and until():
                stopped = True
                client.send_signal(signal.SIGINT)
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
        client.kill()
    os.close(ours)
    return shown.decode()


def metrics(path: Path) -> dict[tuple[str, ...], float]:
    """The values in a metrics file by name and labels, in the order of these."""
    samples = (s for family in text_string_to_metric_families(path.read_text()) for s in family.samples)
    return {(s.name, *(value for _, value in sorted(s.labels.items()))): s.value for s in samples}


# --- several samples --------------------------------------------------------------------------------------------------


def test_several_samples_end_with_what_the_clock_filter_makes_of_them(tmp_path: Path) -> None:
    with time_servers(tmp_path, ahead(2)) as servers:
        done = ask(tmp_path, servers, "-n", 9, *FAST)
    check_success(done)
    assert re.fullmatch(
        r"9 queries, 9 answers; filtered offset \+(2\.00|1\.99)\d s \+/- .*s, delay .*s, jitter .*s",
        done.stdout.splitlines()[-2],
    )


def test_json_has_the_keys_of_a_single_query_and_the_servers_name(tmp_path: Path) -> None:
    with time_servers(tmp_path, only(genuine), nothing) as servers:
        alone = ask(tmp_path, servers[:1], "--json", "-n", 2, *FAST)
        done = ask(tmp_path, servers, "--json", "--timeout", 0.3)
    first, second = objects(alone)
    assert first.keys() == second.keys()
    assert first["name"] == "a.ini"
    *found, last = objects(done)
    by_name = {x["name"]: x for x in found}
    assert by_name["a.ini"].keys() == first.keys()
    assert by_name["b.ini"]["failure"]["code"] == 20
    assert last == {"comparison": None}


# --- several servers --------------------------------------------------------------------------------------------------


def test_the_falseticker_of_three_is_named(tmp_path: Path) -> None:
    with time_servers(tmp_path, ahead(0), ahead(0), ahead(2)) as servers:
        shown, as_json = ask(tmp_path, servers), ask(tmp_path, servers, "--json", "-n", 2, *FAST)
    check_success(shown)
    *samples, agreement, liar = shown.stdout.splitlines()
    assert sorted(line.partition(": ")[0] for line in samples) == ["a.ini", "b.ini", "c.ini"]
    assert agreement.startswith("2 of 3 servers agree: the true offset is between ")
    assert re.fullmatch(r"falseticker: c\.ini, offset \+(2\.00|1\.99)\d s \+/- .*s", liar)
    *samples_, last = objects(as_json)
    assert len(samples_) == 6
    assert last["comparison"]["falsetickers"] == ["c.ini"]
    assert last["comparison"]["truechimers"] == ["a.ini", "b.ini"]
    assert last["comparison"]["majority"]["low"] <= last["comparison"]["majority"]["high"]


def test_two_servers_that_contradict_each_other_are_no_majority(tmp_path: Path) -> None:
    with time_servers(tmp_path, ahead(0), ahead(2)) as servers:
        shown, as_json = ask(tmp_path, servers), ask(tmp_path, servers, "--json")
    assert shown.stdout.splitlines()[-1] == "cannot tell who is right: no majority of the servers agrees"
    nobody: dict[str, object] = {"majority": None, "truechimers": [], "falsetickers": []}
    assert objects(as_json)[-1] == {"comparison": nobody}


def test_one_server_that_answers_makes_a_success_and_the_others_are_reported(tmp_path: Path) -> None:
    """One that refuses is not asked again (RFC 8915 section 5.7)."""
    with time_servers(tmp_path, only(genuine), nothing, only(lambda t: t.kiss())) as servers:
        done = ask(tmp_path, servers, "-n", 2, "--timeout", 0.3, "--no-rekey", *FAST)
        assert [len(s.peer.requests) for s in servers] == [2, 2, 1]
    assert done.returncode == 0
    assert done.stderr.count("warning: b.ini: no NTP answer from 127.0.0.1") == 2
    assert done.stderr.count("warning: c.ini: 127.0.0.1") == 1
    assert "cannot tell who is right: less than two servers to compare" in done.stdout


def test_no_server_that_answers_is_a_failure(tmp_path: Path) -> None:
    with time_servers(tmp_path, nothing, nothing) as servers:
        check_failure(ask(tmp_path, servers, "--timeout", 0.2), 20, "no NTP answer")


def test_servers_given_by_name_have_a_file_each_and_a_first_key_exchange(suite: Suite, tmp_path: Path) -> None:
    """Where the state lies that no argument names; here, of an installation. A wrong server fails by itself."""
    shutil.copytree(ROOT / "nts", tmp_path / "nts", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / TS, tmp_path)
    names = [word for name in ("localhost", "127.0.0.1", "127.0.0.2") for word in ("--ke", name)]
    command = [sys.executable, str(tmp_path / TS), *names, "--ke-port", str(suite.ke_port), "-c", str(suite.ca)]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 servers agree" in done.stdout
    assert "warning: 127.0.0.2: the server's certificate is not for 127.0.0.2" in done.stderr
    found = sorted(p.name for p in (tmp_path / "state" / "nts").glob("client.*.ini"))
    assert found == ["client.127.0.0.1.ini", "client.localhost.ini"]


# --- a terminal -------------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_table_that_follows(tmp_path: Path) -> None:
    with time_servers(tmp_path, ahead(0), ahead(0), ahead(2)) as servers:
        shown = on_a_terminal(tmp_path, *files(servers), "-n", 3, *FAST)
        assert [len(s.peer.requests) for s in servers] == [3, 3, 3]
    last = shown[shown.rindex("server ") :]
    assert re.search(r"a\.ini +3/3 ", last)
    assert re.search(r"c\.ini +3/3 +\+2\.\d{3} s .* falseticker", last)
    assert "1/3" not in shown.splitlines()[-1]
    assert "2 of 3 servers agree" in last
    assert "stratum" not in shown, "no lines besides the table"


def test_a_terminal_gets_a_line_for_a_single_query(tmp_path: Path) -> None:
    with time_servers(tmp_path, ahead(0)) as servers:
        shown = on_a_terminal(tmp_path, *files(servers))
    assert re.fullmatch(r"\S+Z  offset .* stratum 2\r\n", shown)


def test_ctrl_c_ends_a_table_with_what_there_is(tmp_path: Path) -> None:
    """The cursor is shown again, and the summary comes below."""
    with time_servers(tmp_path, only(genuine)) as (server,):

        def stop() -> bool:
            return len(server.peer.requests) >= 2

        shown = on_a_terminal(tmp_path, "-f", "a.ini", "-n", 1000, "-i", 0.2, until=stop)
    assert "\x1b[?25h" in shown, repr(shown[-300:])
    assert re.search(r"\d+ queries, \d+ answers; filtered offset .*\r\nloss 0%; .*\r\n$", shown)


# --- the monitor, metrics ---------------------------------------------------------------------------------------------


def test_a_monitor_goes_on_until_stopped_and_keeps_metrics(tmp_path: Path) -> None:
    """Also after a refusal, for somebody may run the key exchange again; it says so when a server goes wrong."""
    out, prom = tmp_path / "out", tmp_path / "nts.prom"
    with time_servers(tmp_path, only(genuine), only(genuine), only(genuine)) as servers:
        paths = [word for s in servers for word in ("-f", str(s.ini))]
        command = [sys.executable, str(ROOT / TS), *paths, "--monitor", "-i", "0.1", "--metrics", str(prom)]
        monitor = Process([*command, "--timeout", "1"], out)
        a, b, c = (str(s.ini) for s in servers)
        try:
            monitor.wait_for("3 of 3 servers agree")
            servers[1].peer.behave(answer=ahead(2))
            monitor.wait_for(f"falseticker: {b}, offset +2.")
            servers[0].peer.behave(answer=only(lambda t: t.kiss()))
            assert eventually(lambda: metrics(prom).get(("nts_client_failures_total", "nts_nak", a), 0) >= 2)
        finally:
            assert monitor.stop(signal.SIGINT) == 130
    assert monitor.output().count("3 of 3 servers agree") == 1, "only what has changed"
    found = metrics(prom)
    assert found["nts_client_answers_total", c] > found["nts_client_answers_total", a] >= 1
    assert found["nts_client_last_answer_age_seconds", a] > found["nts_client_last_answer_age_seconds", c] >= 0
    assert 1.9 < found["nts_client_offset_seconds", b] < 2.1
    assert 0 < found["nts_client_error_bound_seconds", c] < 1
    assert found["nts_client_cookies", c] == 8
    assert {"delay", "jitter", "dispersion", "filtered_offset"} <= {
        name.removeprefix("nts_client_").removesuffix("_seconds") for name, *_ in found
    }
    assert [p.name for p in tmp_path.glob("*.prom*")] == ["nts.prom"], "no temporary file is left"


def test_metrics_that_cannot_be_written_are_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    with time_servers(tmp_path, only(genuine)) as servers:
        one_error(ask(tmp_path, servers, "--metrics", tmp_path / "none" / "x.prom"), 2, "cannot write .*x.prom")
        assert servers[0].peer.requests == []


# --- a drawing --------------------------------------------------------------------------------------------------------


@needs_matplotlib
@pytest.mark.parametrize(("name", "head"), [("x.svg", b"<?xml"), ("x.png", b"\x89PNG")])
def test_a_drawing_shows_each_server(tmp_path: Path, name: str, head: bytes) -> None:
    with time_servers(tmp_path, ahead(0), ahead(0)) as servers:
        done = ask(tmp_path, servers, "-n", 3, *FAST, "--plot", name)
    check_success(done)
    assert (tmp_path / name).read_bytes().startswith(head)
    if name == "x.svg":
        drawn = (tmp_path / name).read_text()
        assert all(text in drawn for text in ("a.ini", "b.ini", "offset, with error bound", "delay"))


@needs_matplotlib
def test_without_answers_nothing_is_drawn(tmp_path: Path) -> None:
    with time_servers(tmp_path, nothing) as servers:
        done = ask(tmp_path, servers, "--timeout", 0.2, "--plot", "x.svg")
        check_failure(done, 20, "no NTP answer")
        assert "no answers, so nothing is drawn" in done.stderr
        assert not (tmp_path / "x.svg").exists()
        one_error(ask(tmp_path, servers, "--plot", "none/x.svg"), 2, "cannot write none/x.svg")


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")  # in place of the package
    with time_servers(tmp_path, only(genuine)) as servers:
        environ = {"PYTHONPATH": str(tmp_path)}
        done = run(TS, *files(servers), "--plot", "x.svg", cwd=tmp_path, env=environ)
        one_error(done, 2, "--plot needs the package matplotlib")
        assert "-m pip install matplotlib" in done.stderr
        assert servers[0].peer.requests == []


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("-f a.ini -f b.ini localhost", "HOST and --verify-name are for one server"),
        ("--monitor -n 3", "leave out --count"),
        ("--plot x.pdf", "one of these endings"),
        ("--metrics x.txt", "end in .prom"),
        ("--warn 50ms", "are for --check"),
        ("--ke a --ke b --verify-name c", "HOST and --verify-name are for one server"),
        ("--ke a --ke b -f c.ini", "--file with --ke is for one server"),
        ("--ke a --ke a", "the same client.ini is given twice"),
        ("-f a.ini -f ./a.ini", "the same client.ini is given twice"),
        ("-f a.ini -f a.ini", "the same client.ini is given twice"),
        ("--chrony-sock none.sock", "cannot use none.sock"),
        ("--chrony-sock a.ini", "a.ini is not a socket"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, arguments: str, complaint: str) -> None:
    (tmp_path / "a.ini").touch()
    done = run(TS, *arguments.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
