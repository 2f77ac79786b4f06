# SPDX-License-Identifier: MIT
"""server.ini: defaults, checks, and the file that is shipped."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

from nts.base.errors import ConfigError, ExitCode
from nts.codec.aead import Aead
from nts.codec.keyring import CookieFormat
from nts.protocol.rate_limit import Limit
from nts.server import config
from testkit.processes import ROOT


def load(tmp_path: Path, text: str) -> config.ServerConfig:
    path = tmp_path / "server.ini"
    path.write_text(text)
    return config.load(path)


def test_an_empty_file_gives_the_documented_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, "")
    cpus = min(len(os.sched_getaffinity(0)), config.MAX_WORKERS)
    assert loaded.ntske == config.KeConfig(
        port=4446,
        listen=(),
        server_cert=tmp_path / "certs/server.pem",
        server_key=tmp_path / "certs/server.key",
        root_ca=tmp_path / "certs/ca.pem",
        auto_cert=False,
        workers=cpus,
        name="",
        aeads=(Aead(15), Aead(17), Aead(16)),
        engine="auto",
        metrics=None,
        max_sessions=400,
        max_per_prefix=300,
        rate_per_prefix=0,
        prefix4=32,
        prefix6=64,
    )
    assert loaded.ntpv4 == config.NtpConfig(
        "", 4123, (), cpus, "auto", 10, "auto", None, 0, 16, 32, 64, False, "", (), ()
    )
    assert loaded.server == config.ProcessConfig(user="", sandbox=True)
    assert loaded.keys == config.KeysConfig(
        tmp_path / "master_keys", 3, None, "EXPORTER-network-time-security", (), CookieFormat.OWN, None, ()
    )


@pytest.mark.parametrize(("cpus", "workers"), [({5}, 1), ({0, 2, 9}, 3), (set(range(200)), 64)])
def test_auto_is_a_worker_for_each_cpu_that_the_process_may_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: set[int], workers: int
) -> None:
    """And never more than can be asked for by number."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus)
    loaded = load(tmp_path, "[ntske]\nworkers = auto\n")
    assert (loaded.ntske.workers, loaded.ntpv4.workers) == (workers, workers)


@pytest.mark.parametrize("section", ["ntske", "ntpv4"])
def test_there_is_a_limit_of_addresses(tmp_path: Path, section: str) -> None:
    """As many as the packet engine has room for; the line does not become as long as the list."""
    addresses = [f"192.0.2.{i}" for i in range(config.MAX_LISTEN + 1)]
    loaded = load(tmp_path, f"[{section}]\nlisten = {', '.join(addresses[1:])}\n")
    assert getattr(loaded, section).listen == tuple(addresses[1:])
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[{section}]\nlisten = {', '.join(addresses)}\n")
    why = "must be at most 64 addresses, not 65, or empty for all"
    shown = ", ".join(addresses)[:97] + "..."
    assert str(caught.value) == f"{tmp_path / 'server.ini'}: [{section}] listen = '{shown}': {why}"


def test_the_shipped_file_differs_from_the_defaults_only_for_trials(tmp_path: Path) -> None:
    shipped, default = config.load(ROOT / "server.ini"), load(tmp_path, "")
    assert (shipped.ntske.auto_cert, shipped.ntpv4.clock) == (True, "local")
    assert (shipped.ntske.port, shipped.ntpv4.port) == (default.ntske.port, default.ntpv4.port)
    options = {f"{s}.{config.option_name(o)}" for s, section in config.SECTIONS.items() for o in fields(section)}
    text = (ROOT / "server.ini").read_text()
    named, section = set(), ""
    for line in text.splitlines():
        if found := re.match(r"\[(\w+)\]", line):
            section = found[1]
        elif found := re.match(r"(\w+) =", line):
            named.add(f"{section}.{found[1]}")
    assert named == options, "every option is in the shipped file, with its comment"


@pytest.mark.parametrize("address", ["224.0.1.1", "255.255.255.255", "ff02::101"])
def test_addresses_of_many_machines_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="which is the address of many machines"):
        load(tmp_path, f"[ntpv4]\nlisten = {address}\n")


def test_values_are_read(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "[ntske]\nport = 4460\nlisten = 127.0.0.1, ::1\nserver_cert = /abs/x.pem\nroot_ca =\nworkers = 7\n"
        "aeads = 17 15\n"
        "[ntpv4]\nserver = ntp.example.net\nport = 123\nclock = auto\nlocal_stratum = 3\n"
        "rate_limit = 1000000\nrate_burst = 1\nrate_prefix4 = 24\nrate_prefix6 = 48\nrate_limit_nts = yes\n"
        "[keys]\nmax_keys = 9\nkey_label = EXPORTER-nts/1\n",
    )
    assert (loaded.ntske.port, loaded.ntske.listen, loaded.ntske.workers) == (4460, ("127.0.0.1", "::1"), 7)
    assert (loaded.ntske.server_cert, loaded.ntske.root_ca) == (Path("/abs/x.pem"), None)
    assert loaded.ntske.aeads == (Aead(17), Aead(15))
    assert (loaded.ntpv4.server, loaded.ntpv4.port, loaded.ntpv4.local_stratum) == ("ntp.example.net", 123, 3)
    assert loaded.ntpv4.limit == Limit(rate=1_000_000, burst=1, prefix4=24, prefix6=48, nts=True)
    assert (loaded.keys.max_keys, loaded.keys.key_label) == (9, "EXPORTER-nts/1")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90m", 5400), ("3600s", 3600), ("1d", 86400), ("60s", 60), ("365d", 31536000)],
)
def test_durations_have_a_unit(tmp_path: Path, text: str, seconds: int) -> None:
    assert load(tmp_path, f"[keys]\nrotate_every = {text}\n").keys.rotate_every == seconds


@pytest.mark.parametrize("text", ["0.0.0.0, ::", "0.0.0.0, ::1", "fe80::1%eth0, fe80::1%eth1"])
def test_addresses_that_do_not_overlap_go_together(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, f"[ntske]\nlisten = {text}\n").ntske.listen == tuple(text.split(", "))


def test_an_address_given_twice_is_one(tmp_path: Path) -> None:
    """Two sockets for it would be taken for another server's."""
    loaded = load(tmp_path, "[ntpv4]\nlisten = ::1, 127.0.0.1, 0:0:0:0:0:0:0:1, 127.0.0.1\n")
    assert loaded.ntpv4.listen == ("::1", "127.0.0.1")


@pytest.mark.parametrize(
    ("section", "option", "value", "accepted"),
    [
        ("ntske", "port", "0", "a number from 1 to 65535"),
        ("ntske", "port", "65536", "a number from 1 to 65535"),
        ("ntske", "port", "4446 # no", "a number from 1 to 65535"),
        ("ntske", "port", "\u0663", "a number from 1 to 65535"),
        ("ntske", "listen", "localhost", "IPv4 and IPv6 addresses"),
        ("ntske", "listen", "0.0.0.0, 127.0.0.1", "must not have other addresses beside 0.0.0.0, which is all IPv4"),
        ("ntpv4", "listen", "::1, ::", "must not have other addresses beside ::, which is all IPv6 addresses"),
        ("ntske", "listen", "fe80::1", "must name the interface of fe80::1, as in fe80::1%eth0"),
        ("ntske", "listen", "127.0.0.1%lo", "IPv4 and IPv6 addresses"),
        ("ntske", "server_cert", "", "a path"),
        ("ntske", "auto_cert", "maybe", "yes or no"),
        ("ntske", "workers", "0", "auto or a number from 1 to 64"),
        ("ntske", "workers", "many", "auto or a number from 1 to 64"),
        ("ntske", "aeads", "15, 99", "one or more of 15, 16, 17"),
        ("ntske", "aeads", "15, 15", "each once"),
        ("ntske", "aeads", "", "one or more of 15, 16, 17"),
        ("ntske", "aeads", "16, 17", "must include 15"),
        ("ntpv4", "server", "fe80::1%eth0", "an IP address, a domain name, or empty"),
        ("ntpv4", "server", "a b", "an IP address, a domain name, or empty"),
        ("ntpv4", "clock", "gps", "auto or local"),
        ("ntpv4", "local_stratum", "16", "a number from 1 to 15"),
        ("ntpv4", "rate_limit", "1/s", "a number from 0 to 1000000"),
        ("ntpv4", "rate_burst", "0", "a number from 1 to 10000"),
        ("ntpv4", "rate_prefix4", "33", "a number from 8 to 32"),
        ("ntpv4", "rate_prefix6", "0", "a number from 16 to 128"),
        ("ntpv4", "rate_limit_nts", "1", "yes or no"),
        ("keys", "max_keys", "1", "a number from 2 to 100"),
        *(
            ("keys", "rotate_every", value, "with the unit s, m, h or d, from 1m to 365d, or empty")
            for value in ("24", "h", "59s", "366d", "-1d", "1.5h", "1 d", "1w", "1D", "9" * 5000 + "d", "\u0663m")
        ),
        ("keys", "key_label", "\u00e9", "printable ASCII"),
        *(
            ("keys", "import", value, "chrony:PATH or ntpsec:PATH, separated by commas, or empty")
            for value in ("ntskeys", "chrony:", "own:keys", "chrony:a, b", "ntpd-rs:keys", "chrony:a\0b")
        ),
        ("keys", "import", ", ".join(["chrony:a"] * 9), "must be at most 8 files, not 9"),
        ("keys", "cookie_format", "cfnts", "must be own, chrony or ntpsec"),
        ("keys", "export_command", "chronyc 'rekey", "a command with its arguments"),
    ],
)
def test_a_bad_value_names_file_section_option_and_what_is_accepted(
    tmp_path: Path, section: str, option: str, value: str, accepted: str
) -> None:
    """A27, A31."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[{section}]\n{option} = {value}\n")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'server.ini'}: [{section}] {option} = ")
    assert accepted in message
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[ntp]\n", "unknown section [ntp]; the sections are ntske, ntpv4, keys"),
        ("[DEFAULT]\nport = 1\n", "unknown section [DEFAULT]"),
        ("[keys]\nmaxkeys = 3\n", "unknown option maxkeys in [keys]; the options are master_keys_dir, max_keys"),
        ("[ntske]\nauto_cert = yes\nroot_ca =\n", "auto_cert = yes needs root_ca"),
        ("[keys]\ncookie_format = chrony\n", "its cookies have room for [ntske] aeads = 15, 30 alone"),
        ("[ntske]\naeads = 15, 30\n[keys]\ncookie_format = ntpsec\n", "room for [ntske] aeads = 15, 16, 17 alone"),
        ("[keys]\nexport = nts-keys\n", "export needs cookie_format = chrony or ntpsec"),
        ("[keys]\ncookie_format = ntpsec\nexport_command = true\n", "export_command needs export"),
        ("[keys]\ncookie_format = ntpsec\nexport = k\nrotate_every = 1d\n", "export needs rotate_every to be empty"),
    ],
)
def test_what_is_unknown_or_contradictory_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        load(tmp_path, text)


def test_files_of_other_servers_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "[keys]\nimport = chrony:a/ntskeys, ntpsec:/b/nts-keys,\ncookie_format = ntpsec\nexport = c\n"
    keys = load(tmp_path, text + "export_command = systemctl restart 'a b'\n").keys
    assert keys.import_ == (
        config.ForeignFile(CookieFormat.CHRONY, tmp_path / "a/ntskeys"),
        config.ForeignFile(CookieFormat.NTPSEC, Path("/b/nts-keys")),
    )
    assert keys.exported == config.ForeignFile(CookieFormat.NTPSEC, tmp_path / "c")
    assert keys.export_command == ("systemctl", "restart", "a b")
