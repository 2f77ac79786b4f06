# SPDX-License-Identifier: MIT
"""The way of an NTS association, step by step: name, TCP, TLS, certificates, ALPN, records, keys, NTP.

Each step is shown when it is done; the first that fails ends the way, and `nts.client.findings` says what it means. The
server gets one request of each kind that a client may send, and a few more where one stays without an answer. Nothing
is sent over TLS to a server whose certificate is not acceptable.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from nts import ROOT
from nts.base.errors import NO_HINT, ConfigError, NTSError, ResolveError
from nts.base.text import counted, is_ip_address
from nts.client import findings, ke_session
from nts.client.explain_time import TimeWay
from nts.client.finding_texts import Finding, finding
from nts.client.findings import Hello
from nts.client.ke_session import Options, Result
from nts.client.state import Association
from nts.client.steps import End, Log, Mark, Shower, Step
from nts.codec import aead
from nts.protocol import ke_client
from nts.system import addresses, certs, tls, tls_probe
from nts.system.addresses import Endpoint
from nts.system.tls_probe import Look, Reply

SHORT_HELLO = ROOT / "nts/client/x25519.cnf"
_LONG = 1200  # octets of a ClientHello that may need a second segment


@dataclass(frozen=True)
class Report:
    """The whole way."""

    steps: tuple[Step, ...]
    finding: Finding
    association: Association | None
    """what may be stored, with the cookies that are left; None without a key exchange"""


def explain(options: Options, show: Shower) -> Report:
    """Go the way, and call `show` after each step. `options.timeout` holds for each step and each address.

    LibraryError or ConfigError before anything goes over the network.
    """
    aead.check_usable(options.aeads)
    way = _Way(options, show)
    try:
        way.go()
    except End as e:
        return Report(tuple(way.log.steps), e.finding, way.association())
    raise AssertionError("the way has an end")


class _Way:
    """The state between the steps."""

    def __init__(self, options: Options, show: Shower) -> None:
        self.options, self.log = options, Log(show)
        self._keylog = ke_session.KeyLog(options.keylog) if options.keylog else None
        self._name = options.verify_name or options.host
        self._expected = tls_probe.trusted(options.ca) if options.ca else "a CA of this machine's store"
        self._probe = tls_probe.Probe(
            name=self._name, verify=options.verify, ca=options.ca,
            keylog=self._keylog.write if self._keylog else None,
        )  # fmt: skip
        self._certificate: findings.Certificate | None = None
        self._time: TimeWay | None = None
        self._unreached: list[str] = []

    def association(self) -> Association | None:
        """What client.ini may hold."""
        return self._time.association() if self._time else None

    def go(self) -> NoReturn:
        """All steps. Raises End."""
        endpoints = self._resolve()
        with self._connect(endpoints) as sock:
            address = addresses.numeric_host(sock.getpeername())
            agreed = self._exchange(sock, address)
        self._time = TimeWay(self.log, self.options, agreed, self._unreached)
        self._time.go(self._certificate)

    def _resolve(self) -> list[Endpoint]:
        options = self.options
        self.log.start()
        try:
            found = addresses.resolve(options.host, options.port, socket.SOCK_STREAM, options.family)
        except ResolveError as e:
            self.log.fail("name", str(e), findings.from_error("name", e))
        kind = "an address" if is_ip_address(options.host) else ", ".join(e.host for e in found)
        self.log.ok("name", f"{options.host}: {kind}")
        return found

    def _connect(self, endpoints: list[Endpoint]) -> socket.socket:
        """The connection to the first address that accepts; the others are tried all the same."""
        reaches, first = [], None
        for endpoint in endpoints:
            where = addresses.format_address(endpoint.address)
            self.log.start()
            try:
                sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
                try:
                    sock.settimeout(self.options.timeout)
                    sock.connect(endpoint.address)
                except BaseException:
                    sock.close()
                    raise
            except OSError as e:
                reaches.append(findings.reach(e))
                self._unreached.append(f"TCP {where}")
                self.log.step(
                    "tcp", Mark.FAIL, f"{where}: {reaches[-1].value}{(e.strerror and f' ({e.strerror})') or ''}"
                )
                continue
            self.log.ok("tcp", f"{where}: connected")
            if first is None:
                first = sock
            else:
                sock.close()
        if first is None:
            raise End(findings.no_connection(reaches, self.options.port))
        return first

    def _exchange(self, sock: socket.socket, address: str) -> Result:
        options, probe = self.options, self._probe
        self.log.start()
        probe.open(sock, time.monotonic() + options.timeout)
        look = probe.look()
        if self._keylog and self._keylog.problem:
            raise ConfigError(self._keylog.problem, hint=NO_HINT)
        if look.problem:
            self._no_handshake(look, address)
        connection = probe.connection
        version, group = connection.get_protocol_version_name(), connection.get_group_name()
        hello = f"a ClientHello of {look.hello_octets} octets"
        self.log.ok("tls", f"{version}, group {group}, {connection.get_cipher_name()}, {hello}, with {address}")
        for i, certificate in enumerate(look.chain, 1):
            self.log.ok("certificate", f"{i} of {len(look.chain)}, {tls.describe(certificate)}")
        self._judge_certificate(look)
        if not tls.speaks_ntske(connection):
            self.log.fail("alpn", "no protocol was selected", finding("not-ntske", how="does not select"))
        self.log.ok("alpn", "ntske/1")
        return self._request(address)

    def _no_handshake(self, look: Look, address: str) -> NoReturn:
        hello = Hello(look.reply, look.hello_octets, look.first, look.problem, look.is_old, look.refuses_alpn)
        name = "alpn" if hello.refuses_alpn else "tls"
        self.log.step(name, Mark.FAIL, f"a ClientHello of {look.hello_octets} octets to {address}: {look.problem}")
        if look.reply in (Reply.SILENCE, Reply.CLOSED, Reply.RESET) and look.hello_octets > _LONG:
            octets, reply = self._again(address, SHORT_HELLO)
            hello = replace(hello, short_octets=octets, short_reply=reply)
            if reply is Reply.TLS:  # was it the length?
                hello = replace(hello, later_reply=self._again(address, None)[1])
        raise End(findings.no_handshake(hello, str(SHORT_HELLO)))

    def _again(self, address: str, config: Path | None) -> tuple[int, Reply | None]:
        """Another handshake, in a process of its own. The size of its ClientHello, and the answer."""
        options = self.options
        octets, reply = tls_probe.look_again(address, options.port, self._name, config, options.timeout)
        how, seen = "with X25519 alone" if config else "as before", reply.value if reply else "no connection"
        mark = Mark.OK if reply is Reply.TLS else Mark.FAIL
        self.log.step("tls", mark, f"again {how}, a ClientHello of {octets} octets: {seen}")
        return octets, reply

    def _judge_certificate(self, look: Look) -> None:
        options = self.options
        if not options.verify:
            self.log.step("trust", Mark.NOTE, "not verified, as told with -v: anyone could answer")
            return
        if not look.chain:
            malformed = finding("certificate", check="it is malformed", seen="names and dates cannot be read")
            self.log.fail("trust", "a certificate is malformed", malformed)
        leaf = look.chain[0]
        seen = findings.Certificate(
            errors=look.errors,
            check=tls.verify_problem(look.errors[0]) if look.errors else "",
            is_for_us=certs.is_for(leaf, tls.identity(self._name)),
            name=self._name,
            seen=tls.describe(leaf),
            issuer=tls_probe.issuer(look.chain[-1]),
            expected=self._expected,
            clock_error=certs.clock_error(look.verified or look.chain, certs.now()),
            tolerance=options.cert_time_tolerance,
            speaks_ntske=tls.speaks_ntske(self._probe.connection),
        )
        problem = findings.bad_certificate(seen)
        if problem:
            named = problem.id == "wrong-name"
            self.log.fail("trust", f"it is not for {self._name}" if named else seen.check, problem)
        elif look.errors:
            self._certificate = seen
            self._probe.clock_error = seen.least_clock_error
            self.log.step("trust", Mark.NOTE, f"{seen.check}, by our clock: accepted because of --cert-time-tolerance")
        else:
            self.log.ok("trust", f"for {self._name}, from {tls_probe.issuer(look.verified[-1])}")

    def _request(self, address: str) -> Result:
        options, probe = self.options, self._probe
        try:
            message, length = ke_session.ask(probe, options.aeads)
            agreement = ke_client.judge_response(message, options.aeads)
        except NTSError as e:
            self.log.fail("records", str(e), findings.from_error("records", e))
        sizes = ", ".join(map(str, sorted({len(c) for c in agreement.cookies})))
        where = f"{agreement.server or address} UDP port {agreement.port}"
        count = counted(len(agreement.cookies), "cookie")
        self.log.ok("records", f"{length} octets: AEAD {int(agreement.aead)}, {count} of {sizes} octets, {where}")
        result = ke_session.result(probe, address, agreement, message, length)
        pairs = counted(len(result.keys), "pair")
        self.log.ok("keys", f"{pairs} of {agreement.aead.key_length} octets each, from the TLS exporter")
        return result
