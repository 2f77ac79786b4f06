# SPDX-License-Identifier: MIT
"""Check an NTS client: our servers misbehave in the cases C01 to C26, and the client is judged by what it does.

examples:
  nts_check.py client --recipe ours               the clients of this suite
  nts_check.py client --recipe chronyd            chronyd, with -x, in a folder of its own
  nts_check.py client --recipe ntpsec             NTPsec's ntpd, which cannot set the clock then; as root
  nts_check.py client --recipe ntpd-rs            ntpd-rs, which cannot set the clock then either
  nts_check.py client --command 'myclient -c {ca} {host} {ke_port}'
                                                  any client; exit code 0 means that it took the time
  nts_check.py client --ke-port 4460              tell you what to start, and wait for it, case by case
  nts_check.py client --list                      what is checked, and why

In a command, {host}, {ke_port} and {ca} stand for the NTS-KE server and the CA to trust, {ntp_port} for the port of the
time server, {state} for a file and {dir} for a folder that belong to the client, {count} for the number of time
requests, and {wait} for the seconds to wait for an answer. --again runs a client that has its {state} already and needs
no key exchange. If you start the client by hand, only what the servers see is judged.

A command is stopped 3 seconds after we have seen enough of it, and after 20 seconds in any case; after up to 75 seconds
where the servers take their time or many requests are wanted (C11, C12, C18, C23). A client that you start by hand has
two minutes to come. The last lines that a client printed are shown where it fails.

exit codes: 0 the client conforms, 1 it does not (a failure of severity MUST or CRIT), 2 usage or file, 3 nobody can say
because a rule of such severity could not be judged (with --strict: 1), 130 interrupted
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nts.base.errors import ConfigError
from nts.check import commands
from nts.cli import options
from nts.system import console

if TYPE_CHECKING:
    from nts.check.client.recipes import Client

RECIPES = ("ours", "chronyd", "ntpsec", "ntpd-rs")
HOST = "127.0.0.1"
"""where our servers listen"""


def add(subparsers: Any) -> None:
    """Add the parser of this subcommand."""
    parser = options.subcommand(subparsers, "client", __doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--command", metavar="CMD", help="a shell command that runs the client")
    which.add_argument("--recipe", choices=RECIPES, help="a client that we know")
    parser.add_argument("--again", metavar="CMD", help="with --command: runs a client that has its {state} already")
    commands.add_ports(parser)
    commands.add_selection(parser)
    commands.add_reports(parser)
    parser.set_defaults(run=run, usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Run the cases; the exit code."""
    from nts.check import runner
    from nts.check.client import CASES
    from nts.check.client.probe import SAYS, ClientProbe
    from nts.check.findings import counted
    from nts.check.model import Grade
    from nts.check.output import catalogue
    from nts.check.output.render import Reporter
    from nts.check.peer import temporary_authority

    cases = commands.selected(CASES, args)
    if args.list:
        catalogue.show(cases)
        return 0
    if args.again and not args.command:
        args.usage_error("--again goes with --command")
    client = _client(args)
    commands.check_ports(HOST, args.ke_port, args.ntp_port)
    intro = f"NTS client {client.name}, {counted(len(cases), 'case')}"
    reporter = Reporter("client", client.name, cases, commands.report_options(args), intro=intro)
    commands.heed_sigterm()
    with temporary_authority() as authority, reporter:
        probe = ClientProbe(client, authority, ke_port=args.ke_port, ntp_port=args.ntp_port)
        for result in runner.run(reporter.checks, probe, reporter.start):
            reporter.add(result)
            if result.grade is Grade.FAIL:
                for line in dict.fromkeys(e.text for e in result.exhibits if e.text.startswith(SAYS)):
                    console.say(f"  {line}")
    return reporter.finish()


def _client(args: argparse.Namespace) -> Client:
    from nts.check.client import chronyd, ntpd_rs, ntpsec, recipes

    if args.recipe == "ours":
        return recipes.ours()
    if args.recipe == "chronyd":
        return chronyd.ChronydClient()
    if args.recipe == "ntpsec":
        return ntpsec.NtpsecClient()
    if args.recipe == "ntpd-rs":
        return ntpd_rs.NtpdRsClient()
    if args.command is not None:
        if not args.command.strip():
            raise ConfigError("--command is empty", hint="nts_check.py client --help has examples")
        try:
            return recipes.CommandClient(_name(args.command), args.command, args.again)
        except recipes.UnknownPlaceholder as e:
            raise ConfigError(str(e), hint="nts_check.py client --help has examples") from None
    return recipes.ManualClient(console.say)


def _name(command: str) -> str:
    """What reports call a command, which is not empty: its program."""
    return Path(command.split(maxsplit=1)[0]).name
