# SPDX-License-Identifier: MIT
"""The scripts as a user meets them: forms, output, one clear line for every mistake, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nts.base.errors import ExitCode
from nts.system import certs
from testkit.processes import ROOT, Process, Suite, free_port, one_error, run, server_ini, write_ini

SCRIPTS = (
    "ntske_server.py",
    "ntsts_server.py",
    "ntske_client.py",
    "ntsts_client.py",
    "server_helper.py",
    "fleet_helper.py",
    "nts_check.py",
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_has_worked_examples(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert len(re.findall(rf"^  {re.escape(script)}", done.stdout, re.MULTILINE)) >= 2


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_wrong_interpreter_is_one_line_that_names_the_remedy(script: str) -> None:
    arguments = {
        "ntske_client.py": ["localhost"],
        "nts_check.py": ["server", "localhost"],
        "fleet_helper.py": ["status"],
    }.get(script, [])
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / script), *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    one_error(done, 2, "this Python has no ")
    assert f"{ROOT / 'bootstrap'} build" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("argument", ["", "--ca=", "--json="])
def test_what_the_shell_makes_of_an_unset_variable_is_no_default(script: str, argument: str) -> None:
    done = run(script, argument, *(["localhost"] if "client" in script else []))
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.splitlines()[-1] == f"{script}: error: an argument is empty: is a variable of the shell unset?"


@pytest.mark.parametrize(
    ("script", "arguments", "complaint"),
    [
        ("nts_check.py", ["server", ""], "an argument is empty"),
        ("server_helper.py", ["status", "--stage"], "--stage, --activate and --dry-run are for rotate"),
        ("server_helper.py", ["rotate", "--stage", "--activate"], "not allowed with"),
        ("ntske_client.py", [], "required: host"),
        ("ntske_client.py", ["h", "0"], "not a port"),
        ("ntske_client.py", ["h", "1", "a.pem", "-c", "b.pem"], "CA_FILE and --ca are the same"),
        ("ntske_client.py", ["h", "--aead", "15,99"], "must be one or more of 15, 16, 17, 30"),
        ("ntske_client.py", ["h", "--timeout", "nan"], "not a number of seconds"),
        ("ntske_client.py", ["h", "-4", "-6"], "not allowed with"),
        ("ntsts_client.py", ["-n", "0"], "not a number from 1"),
        ("ntsts_client.py", ["-i", "0"], "not a number of seconds"),
        ("server_helper.py", ["make-cert"], "make-cert needs the names"),
        ("server_helper.py", ["status", "a.ini", "b"], "too many arguments: b"),
        ("server_helper.py", ["server.ini", "frobnicate"], "unknown command 'frobnicate'"),
        ("server_helper.py", ["rotat"], "'rotat' is neither a command nor a file"),
        ("ntske_server.py", ["a", "b"], "unrecognized arguments: b"),
    ],
)
def test_wrong_usage_exits_with_2(script: str, arguments: list[str], complaint: str) -> None:
    done = run(script, *arguments)
    assert done.returncode == ExitCode.USAGE
    assert complaint in done.stderr.splitlines()[-1]


def test_fetch_shows_records_and_stores_the_result(suite: Suite, tmp_path: Path) -> None:
    done = suite.fetch(output=tmp_path / "c.ini")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("New Cookie for NTPv4") == 8
    assert "15 AEAD_AES_SIV_CMAC_256" in done.stdout
    assert f"NTPv4 Port Negotiation        {suite.ntp_port}" in done.stdout
    assert done.stdout.endswith(f"stored in {tmp_path / 'c.ini'}\n")
    assert done.stderr == ""


def test_the_ancestors_forms_work_from_any_folder(suite: Suite, tmp_path: Path) -> None:
    """`-v HOST PORT`, `HOST PORT CA_FILE`, and `HOST PORT` of the time client."""
    file = tmp_path / "client.ini"
    done = run("ntske_client.py", "-v", "localhost", suite.ke_port, "-o", file, cwd=Path("/"))
    assert done.returncode == 0
    assert "warning: certificate verification is off" in done.stderr
    assert "verify = no" in file.read_text()
    shutil.copy(suite.ca, tmp_path / "rootCaBundle.pem")
    form = ("localhost", suite.ke_port, "rootCaBundle.pem", "-o", "client.ini")
    assert run("ntske_client.py", *form, cwd=tmp_path).returncode == 0
    assert f"ca = {tmp_path / 'rootCaBundle.pem'}" in file.read_text()
    done = run("ntsts_client.py", "-f", "client.ini", "localhost", suite.ntp_port, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z  offset .* \+/- .*, delay .*, .*:\d+ stratum 10\n", done.stdout
    )


@pytest.mark.parametrize("aead", [15, 16, 17])
def test_json_is_machine_readable_for_every_algorithm(suite: Suite, tmp_path: Path, aead: int) -> None:
    """A96."""
    file = tmp_path / "c.ini"
    done = suite.fetch("--aead", aead, "--json", output=file)
    ke = json.loads(done.stdout)
    assert ke["aead"]["id"] == aead
    assert ke["tls"] == {"version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256", "group": "X25519MLKEM768"}
    assert ke["cookies"] == {"count": 8, "lengths": [{15: 100, 16: 132, 17: 164}[aead]]}
    assert ke["ntp"] == {"server": ke["address"], "port": suite.ntp_port}
    assert [r["type"] for r in ke["records"]] == [1, 4, 7, *[5] * 8, 0]
    done = run("ntsts_client.py", "-f", file, "--json", "-n", 2, "-i", 0.01)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["authenticated"] is True
    assert abs(first["offset"]) <= first["error"] < 1
    assert (first["stratum"], first["leap"]) == (10, 0)
    assert second["cookies"] == {"received": 1, "stock": 8}


def test_verbose_tells_how_the_session_is_protected(suite: Suite, tmp_path: Path) -> None:
    shown = suite.fetch("--verbose", output=tmp_path / "c.ini").stdout
    assert (
        "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768 with 127.0.0.1, " in shown
        or "X25519MLKEM768 with ::1, " in shown
    )


def test_several_queries_end_with_a_summary(suite: Suite, tmp_path: Path) -> None:
    suite.fetch(output=tmp_path / "c.ini")
    done = run("ntsts_client.py", "-f", tmp_path / "c.ini", "-n", 3, "-i", 0.01, "--verbose")
    assert done.stdout.splitlines()[-2].startswith("3 queries, 3 answers; filtered offset ")
    assert done.stderr.count("1 fresh cookie, 8 in stock") == 3


def test_dump_shows_both_packets(suite: Suite, tmp_path: Path) -> None:
    suite.fetch(output=tmp_path / "c.ini")
    shown = run("ntsts_client.py", "-f", tmp_path / "c.ini", "--dump").stdout
    for text in ("request:", "mode 3", "answer: time", "mode 4", "   84  0x0204 NTS Cookie, length 104",
                 "  188  0x0404 NTS Authenticator", "decrypted: NTS Cookie <100 octets>"):  # fmt: skip
        assert text in shown


def test_keylog_is_private_and_in_the_nss_format(suite: Suite, tmp_path: Path) -> None:
    log = tmp_path / "keys.log"
    assert suite.fetch("--keylog", log, output=tmp_path / "c.ini").returncode == 0
    assert "EXPORTER_SECRET " in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    by_env = run("ntske_client.py", "-c", suite.ca, "localhost", suite.ke_port, "-o", tmp_path / "c.ini",
                 env={"SSLKEYLOGFILE": str(tmp_path / "env.log")})  # fmt: skip
    assert by_env.returncode == 0
    assert "EXPORTER_SECRET " in (tmp_path / "env.log").read_text()
    one_error(suite.fetch("--keylog", tmp_path / "none" / "x"), 2, "cannot write the key log")


def test_no_secret_is_printed_unless_asked_for(own_suite: Suite) -> None:
    """Every output of a whole run at the highest verbosity is searched for every key and every cookie."""
    own_suite.stop()
    own_suite.start_ke("--verbose")
    own_suite.start_ts("--verbose")
    outputs, secrets = [], set()

    def note(done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout + done.stderr)
        text = own_suite.client_ini.read_text()
        secrets.update(re.findall(r"^(?:c2s|s2c|\d) = (\w+)$", text, re.MULTILINE))

    note(own_suite.fetch("--verbose"))
    note(own_suite.fetch("--verbose", "--json"))
    note(own_suite.ask("--verbose", "--dump", "-n", 2, "-i", 0.01))
    note(own_suite.ask("--verbose", "--dump", "--json"))
    for command in ([], ["status"], ["status", "--json"], ["check"], ["check", "--json"]):
        note(run("server_helper.py", own_suite.ini, *command))
    secrets.update(p.read_text().strip() for p in own_suite.keys.glob("*.key"))
    own_suite.stop()
    assert own_suite.ke is not None
    assert own_suite.ts is not None
    outputs += [own_suite.ke.log.read_text(), own_suite.ts.log.read_text()]
    everything = "".join(outputs)
    assert len(secrets) > 20
    assert "agreed (AEAD 15, X25519MLKEM768)" in everything, "the servers did say something"
    for secret in secrets:
        assert secret not in everything
        assert secret[36:68] not in everything, "nor a part of one"


def test_show_secrets_shows_them(suite: Suite, tmp_path: Path) -> None:
    done = suite.fetch("--show-secrets", output=tmp_path / "c.ini")
    for name, value in re.findall(r"^(c2s|s2c) = (\w+)$", (tmp_path / "c.ini").read_text(), re.MULTILINE):
        assert f"{name} {value}" in done.stdout
    cookie = re.search(r"^0 = (\w+)$", (tmp_path / "c.ini").read_text(), re.MULTILINE)
    assert cookie is not None
    assert cookie[1] in done.stdout
    assert cookie[1] in run("ntsts_client.py", "-f", tmp_path / "c.ini", "--dump", "--show-secrets").stdout


# --- servers that cannot start ---------------------------------------------------------------------------------------


def test_a_missing_configuration_is_an_error() -> None:
    for script in ("ntske_server.py", "ntsts_server.py", "server_helper.py"):
        one_error(run(script, "/nowhere/server.ini"), 2, "/nowhere/server.ini does not exist")


def test_ports_in_use_are_an_error(suite: Suite) -> None:
    one_error(run("ntske_server.py", suite.ini), 2, f"cannot listen on TCP .*:{suite.ke_port}: Address already in use")
    one_error(run("ntsts_server.py", suite.ini), 2, f"cannot listen on UDP .*:{suite.ntp_port}: Address already in use")


def test_an_address_of_another_machine_is_an_error(tmp_path: Path) -> None:
    ini = server_ini(tmp_path, listen="192.0.2.1")
    one_error(run("ntske_server.py", ini), 2, "192.0.2.1:.*Cannot assign requested address")


def test_a_missing_certificate_is_an_error(tmp_path: Path) -> None:
    ini = server_ini(tmp_path, server_cert="none.pem")
    one_error(run("ntske_server.py", ini), 2, "cannot read .*none.pem: No such file or directory")


def test_a_certificate_that_does_not_match_its_key_is_an_error(tmp_path: Path) -> None:
    ini = server_ini(tmp_path, server_key="other.key")
    certs.make(("x",), cert=tmp_path / "other.pem", key=tmp_path / "other.key", ca=tmp_path / "ca.pem")
    one_error(run("ntske_server.py", ini), 2, "other.key does not match the certificate")


def test_half_a_certificate_is_not_made_whole(tmp_path: Path) -> None:
    ini = server_ini(tmp_path, auto_cert="yes", server_key="gone.key")
    one_error(run("ntske_server.py", ini), 2, "cannot read .*gone.key")


def test_an_expired_certificate_is_said_but_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is wrong at boot must still be able to serve once it is right."""
    monkeypatch.setattr(certs, "VALID_DAYS", 0)
    ini = server_ini(tmp_path)
    process = Process([sys.executable, str(ROOT / "ntske_server.py"), str(ini)], tmp_path / "log")
    process.wait_for("sends clients to")
    process.stop()
    assert re.search(r"warning: .*cert.pem expired on .*: clients will refuse it", process.output())
    assert re.search(r"error: +.*expired on", run("server_helper.py", ini, "check").stdout)


def test_an_unreadable_key_folder_is_an_error(tmp_path: Path) -> None:
    ini = server_ini(tmp_path)
    (tmp_path / "master_keys").write_text("a file, so that this fails for root too")
    one_error(run("ntsts_server.py", ini), 2, "cannot read the master keys in .*master_keys: Not a directory")
    one_error(run("ntske_server.py", ini), 2, "cannot read the master keys in .*master_keys: Not a directory")
    one_error(run("server_helper.py", ini), 2, "cannot read the master keys in .*master_keys: Not a directory")


def test_a_backend_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    done = run("ntsts_server.py", server_ini(tmp_path), env={"AES_SIV_BACKEND": "abacus"})
    one_error(done, 1, "AES_SIV_BACKEND names a backend that this machine does not support")


def test_auto_cert_makes_a_throwaway_certificate_and_says_so(tmp_path: Path) -> None:
    shutil.copy(ROOT / "server.ini", tmp_path)
    port, ntp_port = free_port(), free_port(socket.SOCK_DGRAM)
    text = (tmp_path / "server.ini").read_text().replace("port = 4446", f"port = {port}")
    (tmp_path / "server.ini").write_text(text.replace("port = 4123", f"port = {ntp_port}"))
    process = Process([sys.executable, str(ROOT / "ntske_server.py"), str(tmp_path / "server.ini")], tmp_path / "log")
    process.wait_for("sends clients to")
    assert "warning: made a THROWAWAY certificate for localhost" in process.output()
    assert "made the first master key" in process.output()
    before = {p: p.read_bytes() for p in (tmp_path / "certs").iterdir()}
    done = run("ntske_client.py", "-c", tmp_path / "certs/ca.pem", "localhost", port, "-o", tmp_path / "client.ini")
    assert done.returncode == 0, done.stderr
    process.stop()
    again = Process([sys.executable, str(ROOT / "ntske_server.py"), str(tmp_path / "server.ini")], tmp_path / "log2")
    again.wait_for("sends clients to")
    again.stop()
    assert "THROWAWAY" not in again.output()
    assert before == {p: p.read_bytes() for p in (tmp_path / "certs").iterdir()}


# --- the little things -----------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_client_quietly(suite: Suite, tmp_path: Path) -> None:
    suite.fetch(output=tmp_path / "c.ini")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(10)
        where = ("127.0.0.1", str(silent.getsockname()[1]))
        command = [sys.executable, str(ROOT / "ntsts_client.py"), "-f", str(tmp_path / "c.ini"), *where]
        process = Process(command, tmp_path / "log")
        assert silent.recv(2048)
        assert process.stop(signal.SIGINT) == 130
    assert process.output() == ""


@pytest.mark.parametrize("how", ["| true", ">&-", "> /dev/full", "2>&-", "2> /dev/full", ">&- 2>&- <&-"])
@pytest.mark.parametrize("script", ["ntske_client.py", "ntsts_client.py"])
def test_output_that_cannot_be_written_is_no_traceback(suite: Suite, tmp_path: Path, script: str, how: str) -> None:
    suite.fetch(output=tmp_path / "c.ini")
    form = {
        "ntske_client.py": f"-v localhost {suite.ke_port} -o {tmp_path / 'c.ini'}",
        "ntsts_client.py": f"-f {tmp_path / 'c.ini'} --dump",
    }[script]
    command = f"{sys.executable} {ROOT / script} {form} {how}; echo exit $? > {tmp_path / 'code'}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
    code = int((tmp_path / "code").read_text().split()[1])
    assert code == (1 if "/dev/full" in how and not how.startswith("2") else 0)


@pytest.mark.parametrize("how", ["2>&-", "2> /dev/full"])
def test_errors_do_not_end_up_on_stdout_and_keep_their_exit_code(tmp_path: Path, how: str) -> None:
    command = f"{sys.executable} {ROOT / 'ntske_client.py'} no-such-host.invalid -o {tmp_path / 'c.ini'} {how}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (10, "", "")


@pytest.mark.parametrize("how", ["2>&-", "2> /dev/full", "2> >(true)"])
def test_servers_serve_though_nobody_reads_what_they_say(tmp_path: Path, how: str) -> None:
    """Broken stderr from the start; then a report of a damaged key, and a rotation that must still be noticed."""
    suite = Suite(tmp_path)
    command = "".join(
        f"exec 3>&-; {sys.executable} {ROOT / script} {suite.ini} --verbose {how} & echo $! >> {tmp_path / 'pids'}; "
        for script in ("ntske_server.py", "ntsts_server.py")
    )
    subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=30)
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    try:
        end = time.monotonic() + 20
        while suite.fetch().returncode != 0:
            assert time.monotonic() < end
            time.sleep(0.1)
        (suite.keys / "dead.key").write_text("junk")
        new = run("server_helper.py", suite.ini).stdout.split()[3]
        assert suite.ask().returncode == 0
        assert suite.fetch().returncode == 0
        assert f"0 = {new}" in suite.client_ini.read_text()
        assert suite.ask().returncode == 0
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)


def test_a_result_is_not_stored_into_what_is_no_file(suite: Suite, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, complaint in (
        ("pipe", "is not a regular file"),
        ("loop", "cannot use|not a regular file"),
        ("x" * 300, "cannot use"),
    ):
        one_error(suite.fetch(output=tmp_path / name), 2, complaint)
    one_error(suite.fetch(output=Path("/dev/null")), 2, "/dev/null is not a regular file")
    assert not Path("/dev/null").is_file()


def test_keys_from_an_unverified_exchange_are_never_passed_off_as_good(suite: Suite, tmp_path: Path) -> None:
    run("ntske_client.py", "-v", "localhost", suite.ke_port, "-o", tmp_path / "c.ini")
    done = run("ntsts_client.py", "-f", tmp_path / "c.ini", "--json")
    assert json.loads(done.stdout)["server_verified"] is False
    assert "without certificate verification" in done.stderr
    suite.fetch(output=tmp_path / "c.ini")
    done = run("ntsts_client.py", "-f", tmp_path / "c.ini", "--json")
    assert json.loads(done.stdout)["server_verified"] is True
    assert done.stderr == ""


def test_two_servers_started_at_once_on_a_fresh_folder_both_come_up(tmp_path: Path) -> None:
    for name in "ab":
        options = {"port": free_port(), "auto_cert": "yes", "workers": 1}
        write_ini(tmp_path / f"{name}.ini", ntske=options, keys={"master_keys_dir": "k"})
    command = [sys.executable, str(ROOT / "ntske_server.py")]
    both = [Process([*command, str(tmp_path / f"{name}.ini")], tmp_path / f"{name}.log") for name in "ab"]
    for process in both:
        process.wait_for("sends clients to")
    assert [process.stop() for process in both] == [0, 0]
    assert len(list((tmp_path / "k").glob("*.key"))) == 1


def test_a_closed_pipe_is_no_traceback(suite: Suite, tmp_path: Path) -> None:
    command = f"{sys.executable} {ROOT / 'ntske_client.py'} -v localhost {suite.ke_port} -o {tmp_path / 'c.ini'} | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_name_that_cannot_be_resolved_or_encoded(tmp_path: Path) -> None:
    one_error(run("ntske_client.py", "no-such-host.invalid", "-o", tmp_path / "c.ini"), 10, "cannot resolve")
    for name in ("a..b", "x" * 300, "\u00e4...", "a b", "*.example", "\udcff"):
        one_error(run("ntske_client.py", name, "-o", tmp_path / "c.ini"), 2, "neither an IP address nor a domain name")
        bad = ("localhost", free_port(), "-n", name, "-o", tmp_path / "c.ini")
        one_error(run("ntske_client.py", *bad), 2, "neither an IP address nor a domain name")
    unicode = run("ntske_client.py", "b\u00fccher.invalid", "-o", tmp_path / "c.ini")
    one_error(unicode, 10, "cannot resolve")


def test_local_mistakes_are_found_before_anything_goes_over_the_network(tmp_path: Path) -> None:
    for option, value in (("-c", tmp_path / "none.pem"), ("-c", tmp_path), ("--keylog", tmp_path / "none" / "x")):
        done = run("ntske_client.py", "localhost", free_port(), option, value, "-o", tmp_path / "c.ini")
        one_error(done, 2, "cannot (read|write)")
