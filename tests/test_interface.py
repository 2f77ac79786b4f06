# SPDX-License-Identifier: MIT
"""What users and their scripts rely on is as tests/data/interface.json says: the structure, not the prose.

After a change that is meant: a line in CHANGELOG.md, and `python -m tests.test_interface --update`.
"""

from __future__ import annotations

import argparse
import configparser
import dataclasses
import difflib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nts.base.errors import ExitCode
from nts.check.client import CASES
from nts.check.peer.faults import FAULTS
from nts.check.server import CHECKS
from nts.client.finding_texts import FINDINGS
from nts.fleet import config as fleet_config
from nts.server import config
from testkit import captures
from testkit.captures import frame, made_session, packets, pcap, udp
from testkit.command_lines import parser_of
from testkit.packets import CURRENT_KEY, REQUEST, answer
from testkit.processes import ROOT, Suite, run, running_suite, write_ini
from testkit.raw_ke import AEAD_15, END, GOOD_REQUEST, NEXT_PROTOCOL_NTPV4, record

SNAPSHOT = ROOT / "tests/data/interface.json"
REMEDY = """\
the interface has changed (- in tests/data/interface.json, + now). If it was meant to, tell users of it in CHANGELOG.md,
and then: python -m tests.test_interface --update
"""


# --- command lines ----------------------------------------------------------------------------------------------------


def described(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Positional arguments in their order, options by name, and subcommands."""
    result: dict[str, Any] = {"positional": [], "options": {}, "usage": parser.usage, "subcommands": {}}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            result["subcommands"] = {name: described(sub) for name, sub in action.choices.items()}
        elif action.option_strings:
            result["options"][", ".join(action.option_strings)] = argument(action)
        else:
            result["positional"].append({"name": action.metavar or action.dest, **argument(action)})
    groups = ([", ".join(a.option_strings) for a in g._group_actions] for g in parser._mutually_exclusive_groups)
    return present({**result, "exclusive": list(groups)})


def argument(action: argparse.Action) -> dict[str, Any]:
    """What an argument takes, and what it is when it is not given."""
    kind = type(action).__name__
    if action.nargs == 0:
        return {}
    return present(
        {
            "takes": (action.metavar or action.dest.upper()) if action.option_strings else None,
            "nargs": action.nargs,
            "choices": list(action.choices) if action.choices else None,
            "default": action.default,
            "repeatable": kind == "_AppendAction",
        }
    )


def present(values: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing."""
    return {k: v for k, v in values.items() if v not in (None, False, "", (), [], {})}


def command_lines(_suite: Suite) -> dict[str, Any]:
    return {script.name: described(parser_of(script)) for script in ROOT.glob("*.py")}


# --- JSON -------------------------------------------------------------------------------------------------------------

TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def shape(value: Any) -> Any:
    """The names and types in a JSON value; of a list, what all its elements have in common, and what only some have."""
    if isinstance(value, dict):
        return {key: shape(v) for key, v in value.items()}
    if isinstance(value, list):
        return [merged(map(shape, value))] if value else []
    return TYPES[type(value)]


def merged(shapes: Iterable[Any]) -> Any:
    """One shape for all of these: `a | b` is either of two types, `key?` is not in all objects."""
    found = list(shapes)
    if all(isinstance(s, dict) for s in found):
        keys = {key for s in found for key in s}
        return {
            key if all(key in s for s in found) else f"{key}?": merged(s[key] for s in found if key in s)
            for key in keys
        }
    if all(isinstance(s, list) for s in found):
        inside = [element for s in found for element in s]
        return [merged(inside)] if inside else []
    assert all(isinstance(s, str) for s in found), found
    return " | ".join(sorted(set(found)))


def capture(folder: Path) -> list[object]:
    """A key exchange, a query, its answer, and some odd packets; the arguments to decode them with all keys."""
    response = NEXT_PROTOCOL_NTPV4 + AEAD_15 + record(5, REQUEST.cookie, critical=False) * 8 + END
    request, server = REQUEST.encode(), ("192.0.2.2", 123)
    asked = (request, request[:-4], request[:48] + bytes(20), request[:9])
    made = [
        *packets(made_session(GOOD_REQUEST, response).flights),
        *(udp(captures.CLIENT, server, packet) for packet in asked),
        udp(server, captures.CLIENT, answer(request)),
    ]
    (folder / "nts.pcap").write_bytes(pcap(map(frame, made)))
    (folder / "keys.log").write_text(captures.KEYLOG)
    (folder / "master").mkdir()
    (folder / "master" / f"{CURRENT_KEY.id:04x}.key").write_text(CURRENT_KEY.key.hex() + "\n")
    return [folder / "nts.pcap", "--keylog", folder / "keys.log", "--master-keys", folder / "master"]


def small_fleet(folder: Path) -> Path:
    """The fleet.ini of a fleet of one member in a folder."""
    (folder / "fleet" / "shared").mkdir(parents=True)
    write_ini(folder / "fleet" / "server.ini", keys={"master_keys_dir": "keys"})
    fleet = {"backend": "folder", "name": "a", "lead": "yes"}
    ini = write_ini(folder / "fleet" / "fleet.ini", fleet=fleet, folder={"path": "shared"})
    assert run("fleet_helper.py", "-c", ini, "init").returncode == 0
    return ini


def json_products(suite: Suite) -> dict[str, Any]:
    """Everything that can be had with --json, from servers without fault."""
    where = ("-c", suite.ca, "localhost", suite.ke_port)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor() as pool:
        folder = Path(name)
        bare, state = folder / "server.ini", folder / "client.ini"
        shutil.copy(suite.ini, bare)  # without the certificate
        few = ("--only", "ke-basic,ntp-basic", "--fast")
        commands: list[tuple[str, list[object]]] = [
            ("ntske_client.py", [*where, "-o", state]),
            ("ntske_client.py --explain", [*where]),
            ("ntsts_client.py", ["-f", state]),
            ("ntsts_client.py, packets", ["-f", state, "--dump"]),
            ("ntsts_client.py, failed", ["-f", folder / "none.ini"]),
            ("ntske_client.py, failed", ["-c", folder / "none.pem", "localhost", "-o", state]),
            ("server_helper.py status", [suite.ini]),
            ("server_helper.py status, no certificate", [bare]),
            ("server_helper.py check", [suite.ini]),
            ("fleet_helper.py status", ["-c", small_fleet(folder)]),
            ("nts_check.py server", [*where, *few, "--verbose"]),
            ("nts_check.py client", ["--recipe", "ours", "--only", "C15", "--verbose"]),
            ("nts_check.py decode", capture(folder)),
        ]

        def output(command: tuple[str, list[object]]) -> str:
            script, *subcommand = command[0].partition(",")[0].split()
            done = run(script, *subcommand, *command[1], "--json")
            assert done.stdout, f"{command[0]}: {done.stderr}"
            return done.stdout

        assert suite.fetch(output=state).returncode == 0  # the cookies of the time client
        outputs = pool.map(output, commands)
        return {name: shape(json.loads(text)) for (name, _), text in zip(commands, outputs, strict=True)}


# --- names, files and exit codes --------------------------------------------------------------------------------------


def names(_suite: Suite) -> dict[str, Any]:
    """What --only, --skip and misbehave know, and what --explain finds."""
    checks = {command: {c.name: c.id for c in found} for command, found in (("server", CHECKS), ("client", CASES))}
    return {**checks, "misbehave": sorted(FAULTS), "findings": sorted(FINDINGS)}


def exit_codes(_suite: Suite) -> dict[str, int]:
    return {code.name: int(code) for code in ExitCode}


def options_of(sections: Mapping[str, type[Any]]) -> dict[str, dict[str, str]]:
    """Each option with its default."""
    return {
        section: {config.option_name(option): option.metadata["default"] for option in dataclasses.fields(kind)}
        for section, kind in sections.items()
    }


def server_ini(_suite: Suite) -> dict[str, dict[str, str]]:
    return options_of(config.SECTIONS)


def fleet_ini(_suite: Suite) -> dict[str, dict[str, str]]:
    return options_of(fleet_config.SECTIONS)


def client_ini(suite: Suite) -> dict[str, list[str]]:
    """What a key exchange writes."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "client.ini"
        assert suite.fetch(output=state).returncode == 0
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(state)
    return {section: sorted(parser[section]) for section in parser.sections()}


PARTS: dict[str, Callable[[Suite], Any]] = {
    "command lines": command_lines,
    "JSON": json_products,
    "checks and faults": names,
    "exit codes": exit_codes,
    "server.ini": server_ini,
    "fleet.ini": fleet_ini,
    "client.ini": client_ini,
}


def text(values: Any) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def difference(before: Any, now: Any) -> str:
    """Line by line, each with the lines around it; nothing when both are the same."""
    return "\n".join(difflib.unified_diff(text(before).splitlines(), text(now).splitlines(), lineterm="", n=12))


@pytest.mark.parametrize("part", PARTS)
def test_the_interface_is_the_known_one(suite: Suite, part: str) -> None:
    changes = difference(json.loads(SNAPSHOT.read_text())[part], PARTS[part](suite))
    assert not changes, f"{part}: {REMEDY}{changes}"


# --- does it notice? --------------------------------------------------------------------------------------------------


def some_parser(*without: str) -> argparse.ArgumentParser:
    arguments: dict[str, dict[str, Any]] = {
        "host": {},
        "--count": {"type": int, "default": 1, "metavar": "N"},
        "--json": {"action": "store_true"},
    }
    parser = argparse.ArgumentParser(add_help=False)
    for name in arguments.keys() - without:
        parser.add_argument(name, **arguments[name])
    return parser


@pytest.mark.parametrize("name", ["host", "--count", "--json"])
def test_an_argument_that_goes_is_noticed(name: str) -> None:
    changes = difference(described(some_parser()), described(some_parser(name)))
    assert f'-    "{name}": ' in changes or f'-      "name": "{name}"' in changes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1, "b": [1.5]}, {"a": "integer", "b": ["number"]}),
        ([{"a": 1, "b": "x"}, {"a": None}], [{"a": "integer | null", "b?": "string"}]),
        ([{"a": []}, {"a": [True]}], [{"a": ["boolean"]}]),
        ([], []),
    ],
)
def test_shapes(value: Any, expected: Any) -> None:
    assert shape(value) == expected


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python -m tests.test_interface --update")
    with tempfile.TemporaryDirectory() as name, running_suite(Path(name)) as servers:
        SNAPSHOT.write_text(text({part: current(servers) for part, current in PARTS.items()}))
