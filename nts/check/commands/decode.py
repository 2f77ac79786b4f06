# SPDX-License-Identifier: MIT
"""Decode NTS traffic offline, field by field, and say what is wrong with it.

The input is a capture (pcap or pcapng) of NTS-KE, NTP or both, or messages in hexadecimal, separated by blank lines, as
they are or as xxd, hexdump -C and tcpdump -x write them. gzip may have compressed it.
A key log of the client or the server (ntske_client.py --keylog FILE; SSLKEYLOGFILE) decrypts TLS, and with it the
extension fields. A server's master keys decrypt the cookies, and with them the extension fields. Without any key you
see the structure.

examples:
  tcpdump -i any -w nts.pcap 'tcp port 4460 or udp port 123'   a capture to start with
  nts_check.py decode nts.pcap --keylog keys.log               all of it, with the client's key log
  nts_check.py decode nts.pcap --master-keys master_keys       the same from the server's side
  nts_check.py decode nts.pcap --chrony-keys /var/lib/chrony/ntskeys --json
  nts_check.py decode --hex 80010002000080040002000f80000000   one message
  xclip -o | nts_check.py decode - --as ntp                    hexadecimal from stdin

exit codes: 0 decoded, 1 decoded and something is wrong with it, 2 the input cannot be read
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from nts.base.errors import ConfigError, ExitCode, FormatError
from nts.base.registry import KE_PORT, NTP_PORT
from nts.cli import options
from nts.system import console

if TYPE_CHECKING:
    from nts.check.decode.cookie_keys import Opener
    from nts.check.decode.decoder import Decoder, Settings
    from nts.check.decode.tls_keys import KeyLog

T = TypeVar("T")
_MAX_KEY_FILE = 1 << 26  # octets of a file with keys
_HINT = "nts_check.py decode --help shows what it can read"


def add(subparsers: Any) -> None:
    """Add the parser of this subcommand."""
    parser = options.subcommand(subparsers, "decode", __doc__)
    parser.add_argument("file", nargs="?", metavar="FILE", help="a capture, or a file of hexadecimal; - is stdin")
    parser.add_argument("--hex", metavar="HEX", help="a message in hexadecimal, instead of FILE")
    parser.add_argument("--as", dest="kind", choices=("ntp", "ke"), help="what the hexadecimal is (default: a guess)")
    parser.add_argument("--keylog", action="append", default=[], metavar="FILE", help="TLS secrets, NSS format")
    parser.add_argument("--master-keys", action="append", default=[], metavar="DIR", help="a folder of this suite's")
    parser.add_argument("--chrony-keys", action="append", default=[], metavar="FILE", help="ntskeys of a chronyd")
    parser.add_argument("--ntpsec-keys", action="append", default=[], metavar="FILE", help="nts-keys of NTPsec's ntpd")
    parser.add_argument("--ntpd-rs-keys", action="append", default=[], metavar="FILE", help="ntpd-rs's key storage")
    for name, port in (("ke", KE_PORT), ("ntp", NTP_PORT)):
        text = f"another port of {name.upper()} than {port}; may be repeated"
        parser.add_argument(f"--{name}-port", action="append", type=options.port, default=[], metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    parser.add_argument("--show-secrets", action="store_true", help="show keys and cookies, which are secret")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode the input; the exit code. ConfigError when it cannot be read."""
    from nts.check.decode import show
    from nts.check.decode.decoder import Decoder

    if (args.file is None) == (args.hex is None):
        raise ConfigError("give either FILE or --hex", hint=_HINT)
    decoder, notes = Decoder(_settings(args)), []
    if args.hex is not None:
        _feed_hex(decoder, args.hex, args.kind, "--hex")
    else:
        notes = _feed_file(decoder, args.file, args.kind)
    decoded = decoder.finish()
    decoded.notes += notes
    if args.json:
        sys.stdout.writelines(show.json_pieces(decoded, args.file or "--hex", secrets=args.show_secrets))
    else:
        for line in show.lines(decoded, secrets=args.show_secrets):
            print(line)
    return ExitCode.FAILURE if decoded.wrong else ExitCode.OK


def _settings(args: argparse.Namespace) -> Settings:
    from nts.check.decode import cookie_keys, tls_keys
    from nts.check.decode.decoder import Settings
    from nts.check.output.text import printable

    log: KeyLog = {}
    sources: list[tuple[str, frozenset[bytes] | Opener]] = []
    for path in args.keylog:
        found = _parsed(path, lambda octets: tls_keys.parse_keylog(octets.decode("ascii", errors="replace")))
        sources.append((printable(path), frozenset(found)))
        for random, secrets in found.items():
            log.setdefault(random, {}).update(secrets)
    openers: list[tuple[str, Opener]] = [(folder, _ring(Path(folder))) for folder in args.master_keys]
    for kind, opener in cookie_keys.OPENERS.items():
        openers += [(path, _parsed(path, opener)) for path in getattr(args, f"{kind}_keys")]
    return Settings(
        log, tuple(opener for _, opener in openers), frozenset({KE_PORT, *args.ke_port}),
        frozenset({NTP_PORT, *args.ntp_port}), (*sources, *((printable(path), opener) for path, opener in openers)),
    )  # fmt: skip


def _ring(folder: Path) -> Opener:
    from nts.check.decode.cookie_keys import OurOpener
    from nts.server import keystore

    snapshot = keystore.load(folder)
    for problem in snapshot.problems:
        console.warn(problem)
    if not snapshot.files:
        raise ConfigError(f"no master key in {folder}", hint="it must hold files like 1a2b.key")
    return OurOpener(snapshot.ring)


def _parsed(path: str, parse: Callable[[bytes], T]) -> T:
    """Read and parse a file with keys."""
    try:
        with Path(path).open("rb") as f:
            return parse(f.read(_MAX_KEY_FILE))
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}", hint=_HINT) from None
    except FormatError as e:
        raise ConfigError(f"{path}: {e}", hint=_HINT) from None


def _feed_file(decoder: Decoder, name: str, kind: str | None) -> list[str]:
    """Feed a file to the decoder; notes on what is wrong with the file."""
    try:
        if name == "-":
            return _feed(decoder, sys.stdin.buffer, kind, "stdin")
        with Path(name).open("rb") as f:
            return _feed(decoder, f, kind, name)
    except OSError as e:
        raise ConfigError(f"cannot read {name}: {e.strerror}", hint=_HINT) from None


def _feed(decoder: Decoder, f: BinaryIO, kind: str | None, name: str) -> list[str]:
    from nts.check.decode import capture, hexinput

    tally = capture.Tally()
    try:
        head, f = capture.unpacked(f)
        if capture.is_capture(head):
            packets = capture.read(head, f, tally)
        else:
            text = (head + f.read(hexinput.MAX_TEXT)).decode("ascii", errors="replace")
            if not hexinput.is_tcpdump(text):
                _feed_hex(decoder, text, kind, name)
                return []
            packets = capture.from_ip(hexinput.messages(text), tally)
        for packet in packets:
            decoder.add(packet)
    except (FormatError, EOFError, zlib.error) as e:
        raise ConfigError(f"{name}: {e}", hint=_HINT) from None
    return tally.notes()


def _feed_hex(decoder: Decoder, text: str, kind: str | None, name: str) -> None:
    from nts.check.decode import hexinput
    from nts.check.model import Protocol

    try:
        for octets in hexinput.messages(text):
            ntp = kind == "ntp" if kind else hexinput.guess(octets) is Protocol.NTP
            decoder.message(octets, ntp=ntp)
    except FormatError as e:
        raise ConfigError(f"{name} is neither a capture nor hexadecimal: {e}", hint=_HINT) from None
