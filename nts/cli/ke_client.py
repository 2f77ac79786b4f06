# SPDX-License-Identifier: MIT
"""ntske_client.py: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from nts.base.errors import ExitCode, NTSError
from nts.base.registry import KE_PORT
from nts.base.text import about
from nts.cli import dump, options, results, script
from nts.codec.records import Message
from nts.system import console, files, places

if TYPE_CHECKING:
    from nts.client.ke_session import Options, Shower


def arguments(doc: str | None) -> argparse.Namespace:
    """The command line. Options may stand between HOST, PORT and CA_FILE."""
    parser = options.parser(doc)
    parser.add_argument("host", type=options.text, help="name or address of the NTS-KE server")
    parser.add_argument("port", nargs="?", type=options.port, default=KE_PORT, help="TCP port (default: 4460)")
    parser.add_argument("ca_file", nargs="?", type=options.path, metavar="CA_FILE", help="the same as --ca")
    parser.add_argument(
        "-c", "--ca", type=options.path, metavar="FILE", help="CA certificates to trust (default: the system's)"
    )
    parser.add_argument("-v", "--insecure-no-verify", action="store_true", help="do not verify the certificate")
    parser.add_argument(
        "-n",
        "--verify-name",
        type=options.text,
        metavar="NAME",
        help="name the certificate must be for (default: HOST)",
    )
    options.add_family(parser)
    parser.add_argument("--aead", type=options.aead_list, default="15,16,17", help="AEADs to offer (default: 15,16,17)")
    parser.add_argument(
        "-o", "--output", type=options.path, metavar="FILE", help="where to store the result (default: client.ini)"
    )
    parser.add_argument("--timeout", type=options.duration, default=5.0, metavar="S", help="seconds (default: 5)")
    parser.add_argument(
        "--keylog", type=options.path, metavar="FILE", default=os.environ.get("SSLKEYLOGFILE") or None,
        help="write the TLS keys to this file",
    )  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="explain each step up to the first time, and what fails")
    parser.add_argument(
        "--cert-time-tolerance", type=options.tolerance, default=0, metavar="DURATION",
        help="accept a certificate that has expired or is not valid yet if this machine's clock may be that wrong (3d)",
    )  # fmt: skip
    options.add_output(parser)
    args = parser.parse_intermixed_args()
    if args.ca and args.ca_file:
        parser.error("CA_FILE and --ca are the same: give only one")
    if args.explain and args.show_secrets:
        parser.error("--explain shows no secrets")
    return args


def main(doc: str | None) -> int:
    """Run the script with this docstring; the exit code."""
    args = arguments(doc)
    if args.insecure_no_verify:
        console.warn("certificate verification is off: anyone could answer")
    elif args.cert_time_tolerance:
        console.warn(
            f"a certificate up to {about(args.cert_time_tolerance)} out of date is accepted: "
            "whoever has got hold of an old key could answer"
        )
    if args.explain:
        from nts.cli import explain  # here: nothing else needs what it needs

        return explain.run(args, _wanted(args))
    seen: list[Message] = []

    def show(message: Message) -> None:
        seen.append(message)
        if not args.json:
            lines = dump.record_lines(message, secrets=args.show_secrets, limit=results.MAX_RECORDS)
            print("\n".join(lines), flush=True)

    try:
        _exchange(args, show)
    except NTSError as e:
        if args.json:
            records = [results.records_dict(m, secrets=args.show_secrets) for m in seen]
            print(json.dumps({"failure": results.failure_dict(e), **(records[0] if records else {})}, indent=2))
        raise
    return ExitCode.OK


def _wanted(args: argparse.Namespace) -> Options:
    from nts.client import ke_session  # here: --help needs no TLS

    script.heed_ctrl_c()
    ca = args.ca or args.ca_file
    return ke_session.Options(
        host=args.host, port=args.port, aeads=args.aead, ca=ca.resolve() if ca else None,
        verify=not args.insecure_no_verify, verify_name=args.verify_name, family=args.family, timeout=args.timeout,
        keylog=args.keylog, cert_time_tolerance=args.cert_time_tolerance,
    )  # fmt: skip


def _exchange(args: argparse.Namespace, show: Shower) -> None:
    from nts.client import ke_session, state

    wanted = _wanted(args)
    store = state.ClientState(args.output or places.client_ini())
    if not args.output:
        files.make_folder(store.path.parent, 0o700)
    store.check_writable(wanted.ca)
    result = ke_session.exchange(wanted, show)
    association = result.association(wanted)
    store.save(association)
    if args.json:
        summary = results.ke_dict(result, association.server, str(store.path), secrets=args.show_secrets)
        print(json.dumps(summary, indent=2))
    else:
        print("\n".join(results.ke_lines(result, association.server, str(store.path), verbose=args.verbose)))
        if args.show_secrets:
            print("\n".join(f"c2s {keys.c2s.hex()}\ns2c {keys.s2c.hex()}" for keys in result.keys))
    if result.clock_error:
        console.warn(results.clock_error_text(result.clock_error))
