# SPDX-License-Identifier: MIT
"""nts_check server --targets: many servers at the same time, none faster than its pace, resumable."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nts.base.errors import ConfigError
from nts.check.context import Pace, Turns
from nts.check.many import run as many_run
from nts.check.many import targets
from nts.check.many.results import opened
from nts.check.output.grade import grade
from nts.system.addresses import Endpoint, family_of
from testkit.fronts import Front, fronts, haste
from testkit.processes import ROOT, Process, free_port, one_error, run
from testkit.sample_checks import SCHEMA
from testkit.saved_reports import report, unreachable, write

PACE = 0.2  # seconds
JITTER = 0.1  # seconds, on a busy machine
NOTICED = 0.5  # seconds until this process notices a connection; packets have timestamps of the kernel
FEW = ("--only", "ke-basic,ke-no-aead,ke-no-npn,ntp-basic,ntp-cardinality")

# --- the list --------------------------------------------------------------------------------------------------------


def test_a_list_has_a_server_a_line_and_comments(tmp_path: Path) -> None:
    lines = ["# ours", "Time.example.net", "", "time.example.net:4461 # another", "192.0.2.1", "2001:db8::1",
             "[2001:db8::1]:4461", "[::1]", " time.example.net:4460"]  # fmt: skip
    (tmp_path / "t").write_text("\n".join(lines))
    assert targets.read(tmp_path / "t") == {
        "time.example.net:4460": ("time.example.net", 4460),
        "time.example.net:4461": ("time.example.net", 4461),
        "192.0.2.1:4460": ("192.0.2.1", 4460),
        "[2001:db8::1]:4460": ("2001:db8::1", 4460),
        "[2001:db8::1]:4461": ("2001:db8::1", 4461),
        "[::1]:4460": ("::1", 4460),
    }


@pytest.mark.parametrize(
    "line", ["a b", "host:0", "host:65536", "host:", ":4460", "[::1", "http://x/", "x\x1b[1m", "[]:1"]
)
def test_a_line_that_is_no_server_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "t").write_text(f"good.example.net\n{line}\n")
    with pytest.raises(ConfigError, match="line 2: ") as caught:
        targets.read(tmp_path / "t")
    assert str(caught.value).isprintable()


def test_a_list_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("# nothing\n\n")
    with pytest.raises(ConfigError, match="names no server"):
        targets.read(tmp_path / "t")


# --- the results -----------------------------------------------------------------------------------------------------


def test_results_are_kept_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for name in ("a:1", "b:2"):
        with opened(path) as results:
            results.add(report(name))
    with opened(path) as results:
        assert results.reports == {"a:1": report("a:1"), "b:2": report("b:2")}
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("length", [1, 10, 21, 100, 5000])
def test_what_a_crash_left_of_a_line_is_removed(tmp_path: Path, length: int) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(report("a:1")) + "\n" + json.dumps(report("b:2"))[:length])
    with opened(path) as results:
        assert list(results.reports) == ["a:1"]
        results.add(report("b:2"))
    with opened(path) as results:
        assert list(results.reports) == ["a:1", "b:2"]


@pytest.mark.parametrize("text", ["my diary", "my diary\n", '{"tool": "other"}\n', '{"tool": "nts_check"}\n{'])
def test_a_file_that_holds_something_else_stays_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text)
    with pytest.raises(ConfigError), opened(tmp_path / "r"):
        pass
    assert (tmp_path / "r").read_text() == text


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    with opened(tmp_path / "r"), pytest.raises(ConfigError, match="another run is writing"), opened(tmp_path / "r"):
        pass


def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*No such file"), opened(tmp_path / "none" / "r"):
        pass


# --- threads and turns -----------------------------------------------------------------------------------------------


def test_work_is_done_at_the_same_time_but_not_by_more_threads_than_allowed() -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.05)
        with lock:
            busy -= 1
        return number

    assert sorted(many_run.each(range(12), work, Turns(), 4)) == list(range(12))
    assert most == 4
    assert list(many_run.each([], work, Turns(), 4)) == []


def test_what_goes_wrong_in_a_thread_is_raised_where_results_are_read() -> None:
    with pytest.raises(ZeroDivisionError):
        list(many_run.each([1, 0], lambda n: 1 / n, Turns(), 2))


def test_when_the_reader_stops_nobody_has_another_turn() -> None:
    turns, sent = Turns(), []
    place = Endpoint(family_of("127.0.0.1"), ("127.0.0.1", 1))

    def work(number: int) -> int:
        if number:
            turns.wait(60, [place])
            turns.wait(60, [place])
            sent.append(number)
        return number

    made = many_run.each([0, 1, 2], work, turns, 3)
    assert next(made) == 0
    begin = time.monotonic()
    made.close()
    assert time.monotonic() - begin < 5
    assert not sent


def test_no_more_servers_at_a_time_than_there_are_descriptors_for() -> None:
    script = (
        "import resource; from nts.check.many.run import bearable;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, {})); print(bearable(5), bearable(50), bearable(1));"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for hard, expected in ((1300, "5 10 1 1300"), (200, "1 1 1 200"), (20000, "5 50 1 6400")):
        command = [sys.executable, "-c", script.format(hard)]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.stdout.split() == expected.split(), done.stderr


def test_a_probe_copes_with_descriptors_beyond_those_of_select(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    script = (
        "import resource, sys; from nts.check.many import run; run.bearable(20); held = [open('/dev/null') for _ in"
    )
    script += " range(1100)]; sys.argv[0] = 'nts_check.py'; from nts.cli import script; import nts_check;"
    script += " script.run(nts_check.main)"
    where = ("server", "-4", "-c", folder / "ca.pem", "localhost", found[0].ke_port, "--fast", *FEW)
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, where)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_paces_that_share_their_turns_take_turns_for_each_address() -> None:
    turns = Turns()
    one, other = (Endpoint(family_of(a), (a, 123)) for a in ("127.0.0.1", "127.0.0.2"))
    first, second = Pace(0.1, turns=turns), Pace(0.1, turns=turns)
    begin = time.monotonic()
    first.wait(one)
    second.wait(other)
    assert time.monotonic() - begin < 0.09
    second.wait(one)
    assert time.monotonic() - begin >= 0.1
    first.wait(other, one)
    assert time.monotonic() - begin >= 0.2


def test_what_is_sent_late_delays_the_next() -> None:
    place = Endpoint(family_of("127.0.0.1"), ("127.0.0.1", 123))
    pace = Pace(0.1)
    pace.wait(place)
    time.sleep(0.3)  # until it is sent
    pace.sent(place)
    begin = time.monotonic()
    pace.wait(place)
    assert time.monotonic() - begin >= 0.1


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Front]]]:
    folder = tmp_path_factory.mktemp("fronts")
    with fronts(folder, 4) as found:
        yield folder, found


@pytest.fixture
def servers(running: tuple[Path, list[Front]]) -> tuple[Path, list[Front]]:
    """Four servers that nobody has asked for anything yet, and the folder where their CA is."""
    for server in running[1]:
        server.packets.clear()
        server.connections.clear()
    return running


def check(folder: Path, listed: list[str], *arguments: object, pace: float = PACE) -> subprocess.CompletedProcess[str]:
    """`nts_check.py server --targets` with these servers, in a folder where its files are."""
    (folder / "servers.txt").write_text("\n".join(listed))
    where = ("--targets", folder / "servers.txt", "-4", "-c", folder / "ca.pem", "--pace", pace)
    return run("nts_check.py", "server", *where, *FEW, *arguments, timeout=120)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_in_time(server: Front) -> None:
    """Nothing came before its turn."""
    assert haste(server.packets, PACE) < JITTER
    assert haste(server.connections, PACE) < NOTICED  # what comes too often adds up to more


def test_what_comes_too_often_is_noticed() -> None:
    assert haste([0.0, 0.2, 0.4, 5.0, 5.2], PACE) < 1e-9
    assert haste([i * PACE / 2 for i in range(12)], PACE) > 1
    assert haste([0.0, 1.0, 1.05], PACE) == pytest.approx(0.15)


def test_many_servers_take_about_as_long_as_one_and_none_is_asked_too_fast(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    seconds = []
    for some in (found[:1], found):
        time.sleep(PACE)
        begin = time.monotonic()
        done = check(folder, [f"localhost:{s.ke_port}" for s in some], "--results", folder / f"{len(some)}.jsonl")
        seconds.append(time.monotonic() - begin)
        assert done.returncode == 0, done.stdout + done.stderr
    assert seconds[1] <= 1.5 * seconds[0]
    for server in found:
        assert len(server.packets) > 20
        assert_in_time(server)
    reports = lines_of(folder / "4.jsonl")
    assert {r["target"] for r in reports} == {f"localhost:{s.ke_port}" for s in found}
    for one in reports:
        jsonschema.validate(one, SCHEMA)
        assert one["facts"]["nts"]["aeads"] == [15, 17, 16, 30]
        assert len(one["results"]) == one["summary"]["pass"] == 5
    assert len(done.stderr.splitlines()) == 5  # what it does, and a line for each
    assert done.stdout.splitlines()[0].split() == [
        "server", "grade", "conforms", "pass", "warn", "fail", "open", "failed", "checks",
    ]  # fmt: skip


def test_a_report_of_many_has_what_one_alone_has(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    where = (f"localhost:{found[0].ke_port}", "--fast", "-4", "-c", folder / "ca.pem", "--seed", 1)
    (folder / "one.txt").write_text(where[0])
    run("nts_check.py", "server", "--targets", folder / "one.txt", *where[1:])
    (among,) = lines_of(folder / "one.jsonl")
    alone = json.loads(run("nts_check.py", "server", *where[0].split(":"), *where[1:], "--json").stdout)
    assert among.keys() == alone.keys()
    for one in (among, alone):
        assert one["grade"] == grade(one)
    measured = {"offset_s", "offset_bound_s", "processing_s"}
    for part in ("ke", "certificate", "nts", "ntp", "implementation"):
        assert {k: v for k, v in among["facts"][part].items() if k not in measured} == {
            k: v for k, v in alone["facts"][part].items() if k not in measured
        }
    assert [r["name"] for r in among["results"]] == [r["name"] for r in alone["results"]]


def test_two_names_of_a_server_share_its_pace(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    server = found[0]
    names = [f"{host}:{server.ke_port}" for host in ("localhost", "127.0.0.1")]
    done = check(folder, names, "--results", folder / "twins.jsonl", "--skip", "ntp-cardinality")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_in_time(server)


def test_a_server_that_is_done_is_not_asked_again_and_half_a_line_is_redone(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    names = [f"localhost:{s.ke_port}" for s in found]
    results = write(folder / "resumed.jsonl", report(names[0]), report(names[1]))
    results.write_text(results.read_text() + json.dumps(report(names[2]))[:500])
    done = check(folder, names, "--results", results, pace=0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [bool(s.connections) for s in found] == [False, False, True, True]
    assert sorted(r["target"] for r in lines_of(results)) == sorted(names)
    assert "2 of them done before" in done.stderr


def test_after_ctrl_c_the_same_command_goes_on(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    names = [f"localhost:{s.ke_port}" for s in found[:2]]
    (folder / "stopped.txt").write_text("\n".join([*names, f"127.0.0.1:{free_port()}"]))
    command = ["server", "--targets", folder / "stopped.txt", "-4", "-c", folder / "ca.pem", "--pace", 1, *FEW]
    process = Process([sys.executable, str(ROOT / "nts_check.py"), *map(str, command)], folder / "stopped.log")
    process.wait_for("1/3 127.0.0.1:")
    begin = time.monotonic()
    assert process.stop(signal.SIGINT) == 130
    assert time.monotonic() - begin < 5
    assert "goes on with 2 servers" in process.output()
    assert "Traceback" not in process.output()
    assert [set(r) & {"failure", "results"} for r in lines_of(folder / "stopped.jsonl")] == [{"failure"}]
    done = run("nts_check.py", *command[:-3], 0, *FEW)
    assert done.returncode == 3, done.stdout
    assert len(lines_of(folder / "stopped.jsonl")) == 3


def test_servers_that_cannot_be_reached_have_a_line_each(tmp_path: Path) -> None:
    listed = [f"127.0.0.1:{free_port()}", "nothing.invalid"]
    (tmp_path / "servers.txt").write_text("\n".join(listed))
    arguments = ("server", "--targets", tmp_path / "servers.txt", "--fast")
    done = run("nts_check.py", *arguments)
    assert done.returncode == 3
    reports = {r["target"]: r for r in lines_of(tmp_path / "servers.jsonl")}
    for one in reports.values():
        jsonschema.validate(one, SCHEMA)
    assert reports["nothing.invalid:4460"]["failure"]["code"] == 10
    assert "cannot resolve nothing.invalid" in done.stdout
    assert "Traceback" not in done.stderr
    assert run("nts_check.py", *arguments, "--strict").returncode == 1


# --- what is expected ------------------------------------------------------------------------------------------------


def test_only_regressions_decide_with_a_baseline(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    names = [f"localhost:{s.ke_port}" for s in found[:2]]
    write(folder / "now.jsonl", report(names[0], 1, ke_basic="FAIL MUST"), report(names[1], 1))
    same = write(folder / "same.jsonl", report(names[0], ke_basic="FAIL CRIT"), unreachable(names[1]), report("old:1"))
    fixed = check(folder, names, "--results", folder / "now.jsonl", "--baseline", same)
    assert fixed.returncode == 0, fixed.stdout
    assert "fixed     ke-basic, FAIL CRIT before, is FAIL MUST" in fixed.stdout
    assert "Only in the baseline: old:1" in fixed.stdout
    worse = write(folder / "worse.jsonl", report(names[0], ke_basic="WARN"))
    done = check(folder, names, "--results", folder / "now.jsonl", "--baseline", worse, "--json")
    assert done.returncode == 1, done.stdout
    summary = json.loads(done.stdout)
    assert summary["new"] == [names[1]]
    assert [c["name"] for c in summary["servers"][0]["changes"]["regressed"]] == ["ke-basic"]


def test_one_server_is_compared_with_its_report_among_many(servers: tuple[Path, list[Front]]) -> None:
    folder, found = servers
    where = ("-4", "-c", folder / "ca.pem", "localhost", found[0].ke_port, "--fast", "--only", "ke-basic")
    old = write(folder / "old.jsonl", report("other:1"), report(f"localhost:{found[0].ke_port}", ke_basic="FAIL MUST"))
    (folder / "p.ini").write_text("[policy]\naeads = 15, 30\nstratum = 15\n[localhost]\ncookies = 9\n")
    done = run("nts_check.py", "server", *where, "--baseline", old, "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    jsonschema.validate(values, SCHEMA)
    assert [c["name"] for c in values["changes"]["fixed"]] == ["ke-basic"]
    done = run("nts_check.py", "server", *where, "--policy", folder / "p.ini")
    assert done.returncode == 1, done.stdout
    for line in ("PASS aeads = 15, 30: 15, 17, 16, 30", "PASS stratum = 15: 10", "FAIL cookies = 9: 8"):
        assert f"Policy: {line}\n" in done.stdout
    one_error(run("nts_check.py", "server", "other.invalid", "--baseline", old), 2, "has no report about other.invalid")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["host", "--targets", "t"], "--targets goes without host"),
        (["--targets", "t", "--html", "x"], "--targets goes without host"),
        (["--targets", "none"], "none does not exist"),
        (["--targets", "t", "--results", "t"], "t is the list of servers"),
        (["--targets", "t", "--baseline", "none"], "none does not exist"),
        (["--targets", "t", "--policy", "t"], "line 1: not a"),
        (["--targets", "t", "--parallel", "0"], "not a number"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    (tmp_path / "t").write_text("localhost\n")
    done = run("nts_check.py", "server", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
