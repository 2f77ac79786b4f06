# SPDX-License-Identifier: MIT
"""The arguments of `fleet_helper.py`. Needs the standard library alone."""

from __future__ import annotations

import argparse

from nts.cli import options

_BACKENDS = ("etcd", "folder")


def parse(doc: str | None) -> argparse.Namespace:
    """`command`, and what belongs to it."""
    parser = options.parser(doc)
    _add_common(parser, None)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_, allow_abbrev=False)
        _add_common(made, argparse.SUPPRESS)
        return made

    _add_init(add("init", "make a fleet with the keys of this host"))
    join = add("join", "make this host a member and give it the keys")
    join.add_argument("--force", action="store_true", help="remove keys of this host that the fleet does not have")
    leave = add("leave", "make a host no member any more")
    leave.add_argument("member", nargs="?", type=options.text, metavar="MEMBER", help="its name (default: this host)")
    leave.add_argument("--force", action="store_true", help="remove another host, which will never serve again")
    add("agent", "keep the keys of this host as the fleet says, until stopped")
    add("status", "show keys and members").add_argument("--json", action="store_true", help="print it as JSON")
    rotate = add("rotate", "make a new key, and wait until all members seal with it")
    rotate.add_argument("--every", type=options.tolerance, metavar="TIME", help="do so for ever, such as every 24h")
    revoke = add("revoke", "remove a key at once: clients with its cookies are refused")
    revoke.add_argument("key", type=options.text, metavar="KEY", help="its identifier, as status shows it")
    rewrap = add("rewrap", "seal the plan with the newest wrapping key, once every member has it")
    rewrap.add_argument("--stage", action="store_true", help="add a new wrapping key to the file of this host")
    return parser.parse_args()


def _add_common(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Options that may stand before the command and after it."""
    text = "configuration (default: fleet.ini here or in /etc/nts)"
    parser.add_argument("-c", "--config", type=options.path, default=default, metavar="FILE", help=text)
    text = "where the plan is, in place of what the file says"
    parser.add_argument("--backend", choices=_BACKENDS, default=default, help=text)


def _add_init(parser: argparse.ArgumentParser) -> None:
    span = options.tolerance
    parser.add_argument(
        "--cookie-life", type=span, default=172800, metavar="TIME", help="promised to clients (default: 2d)"
    )
    parser.add_argument("--max-keys", type=_keys, default=4, metavar="N", help="the most keys at a time (default: 4)")
    parser.add_argument(
        "--spread", type=span, metavar="TIME", help="no member acknowledges: copies take so long at most"
    )
    parser.add_argument(
        "--restore", action="store_true", help="put the last plan of this host back into an empty store"
    )
    group = parser.add_argument_group("etcd, as its root: make the role instead")
    text = "let the client certificate with this common name use the prefix; may be repeated"
    group.add_argument("--grant", action="append", default=[], type=options.text, metavar="NAME", help=text)
    group.add_argument("--root-cert", type=options.path, metavar="FILE", help="certificate of etcd's user root")
    group.add_argument("--root-key", type=options.path, metavar="FILE", help="its key")
    group.add_argument("--enable-auth", action="store_true", help="let etcd ask for rights from now on, of everybody")


def _keys(text: str) -> int:
    value = options.count(text)
    if not 3 <= value <= 16:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 3 to 16")
    return value
