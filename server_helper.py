#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Helper for operators of the servers: rotates master keys, shows and checks the configuration.

examples:
  server_helper.py                        add a master key, make it current, and remove the oldest
  server_helper.py --dry-run              say what that would do, and do nothing
  server_helper.py my-server.ini rotate   the same as the first, with another configuration
  server_helper.py rotate --stage         make a key whose cookies servers accept, before any server makes them
  server_helper.py rotate --activate      make that key current, once every time server has it
  server_helper.py status                 show keys, certificate and advertised server (--json for machines)
  server_helper.py check                  find mistakes before starting the servers; exit code 1 on errors
  server_helper.py make-cert time.lan     make a throwaway certificate for these names, in the files of server.ini

Running servers use the new key from the next request on. They accept cookies of all keys that are still there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nts.base.errors import ExitCode
from nts.cli import options, script
from nts.system import console, places

COMMANDS = ("rotate", "status", "check", "make-cert")


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    commands = "rotate [--stage | --activate] [--dry-run] | status | check | make-cert NAME..."
    parser.usage = f"%(prog)s [-h] [--json] [server.ini] [{commands}]"
    parser.add_argument("words", nargs="*", metavar="...", help="configuration file, command (default: rotate), names")
    parser.add_argument("--json", action="store_true", help="print status and check as JSON")
    how = parser.add_mutually_exclusive_group()
    for name, text in (("stage", "make a key that is not used yet"), ("activate", "use the staged key from now on")):
        how.add_argument(f"--{name}", dest="how", action="store_const", const=name, help=f"rotate: {text}")
    parser.add_argument("--dry-run", action="store_true", help="rotate: say what it would do, and do nothing")
    args = parser.parse_args()
    words = args.words
    if words and words[0] not in COMMANDS and not {".", "/"} & set(words[0]) and not Path(words[0]).exists():
        parser.error(f"{words[0]!r} is neither a command nor a file; the commands are {', '.join(COMMANDS)}")
    args.config = words.pop(0) if words and words[0] not in COMMANDS else None
    args.command = words.pop(0) if words else "rotate"
    if args.command not in COMMANDS:
        parser.error(f"unknown command {args.command!r}; the commands are {', '.join(COMMANDS)}")
    if args.command != "rotate" and (args.how or args.dry_run):
        parser.error("--stage, --activate and --dry-run are for rotate")
    if args.command != "make-cert" and words and args.config is None:
        args.config = words.pop(0)
    if args.command != "make-cert" and words:
        parser.error(f"too many arguments: {' '.join(words)}")
    if args.command == "make-cert" and not words:
        parser.error("make-cert needs the names the certificate is for")
    return args


def main() -> int:
    args = arguments()
    from nts.cli import rotation
    from nts.server import config, preflight, trial_certificate

    settings = config.load(Path(args.config or places.server_ini()))
    if args.command == "rotate":
        rotation.rotate(settings, args.how or "add", dry_run=args.dry_run)
    elif args.command == "make-cert":
        for path in trial_certificate.make(args.words, settings.ntske):
            print(f"made {path}")
        console.warn("use these for trials only: the CA's key lies beside them, unencrypted")
    elif args.command == "status":
        status = preflight.status(settings)
        print(json.dumps(status, indent=2) if args.json else "\n".join(preflight.status_lines(status)))
    else:
        findings = preflight.check(settings)
        print(preflight.findings_json(findings) if args.json else "\n".join(map(str, findings)))
        return ExitCode.FAILURE if any(f.level == "error" for f in findings) else ExitCode.OK
    return ExitCode.OK


if __name__ == "__main__":
    script.run(main)
