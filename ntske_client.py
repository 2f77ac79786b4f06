#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""NTS key exchange client (RFC 8915 section 4): fetches keys and cookies and stores them in client.ini.

examples:
  ntske_client.py -c certs/ca.pem localhost 4446   trust the CA in that file
  ntske_client.py nts.example.net                  a public server: port 4460, the system's CAs
  ntske_client.py localhost 4446 certs/ca.pem      the same as the first
  ntske_client.py --aead 17,15 --json HOST         prefer AEAD 17 to 15; print the result as JSON
  ntske_client.py -v localhost 4446                do not verify the certificate: anyone could answer

exit codes: 0 ok, 2 usage or file, 10 name, 11 connect, 12 TLS, 13 certificate, 14 ALPN, 15 illegal or useless
response, 16 the server sent an Error or Warning record, 1 anything else
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from nts.base.errors import ExitCode
from nts.base.registry import KE_PORT
from nts.cli import options, script
from nts.system import console


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("host", help="name or address of the NTS-KE server")
    parser.add_argument("port", nargs="?", type=options.port, default=KE_PORT, help="TCP port (default: 4460)")
    parser.add_argument("ca_file", nargs="?", metavar="CA_FILE", help="the same as --ca")
    parser.add_argument("-c", "--ca", metavar="FILE", help="CA certificates to trust (default: the system's)")
    parser.add_argument("-v", "--insecure-no-verify", action="store_true", help="do not verify the certificate")
    parser.add_argument("-n", "--verify-name", metavar="NAME", help="name the certificate must be for (default: HOST)")
    options.add_family(parser)
    parser.add_argument("--aead", type=options.aead_list, default="15,16,17", help="AEADs to offer (default: 15,16,17)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to store the result (default: client.ini)")
    parser.add_argument("--timeout", type=options.duration, default=5.0, metavar="S", help="seconds (default: 5)")
    parser.add_argument(
        "--keylog", metavar="FILE", default=os.environ.get("SSLKEYLOGFILE"), help="write the TLS keys to this file"
    )
    options.add_output(parser)
    args = parser.parse_args()
    if args.ca and args.ca_file:
        parser.error("CA_FILE and --ca are the same: give only one")
    return args


def main() -> int:
    args = arguments()
    from nts.cli import dump, results
    from nts.client import ke_session, state
    from nts.codec.records import Message

    if args.insecure_no_verify:
        console.warn("certificate verification is off: anyone could answer")
    ca = args.ca or args.ca_file
    store = state.ClientState(Path(args.output or state.DEFAULT_PATH))
    store.check_writable()
    wanted = ke_session.Options(
        host=args.host, port=args.port, aeads=args.aead, ca=Path(ca).resolve() if ca else None,
        verify=not args.insecure_no_verify, verify_name=args.verify_name, family=args.family, timeout=args.timeout,
        keylog=Path(args.keylog) if args.keylog else None,
    )  # fmt: skip

    def show(message: Message) -> None:
        if not args.json:
            print("\n".join(dump.record_lines(message, secrets=args.show_secrets)), flush=True)

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
    return ExitCode.OK


if __name__ == "__main__":
    script.run(main)
