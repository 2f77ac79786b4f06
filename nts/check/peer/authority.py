# SPDX-License-Identifier: MIT
"""A throwaway CA that signs anything: good certificates, and those that no client may accept."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nts.base.text import is_ip_address
from nts.system import certs, files

Certificate = tuple[Path, Path]
"""PEM files: the chain and its key"""


class Authority:
    """A CA of its own in a folder, which is made if need be."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, folder / "ca.pem"
        """`ca` is the file that a client is to trust"""
        self.certificate: Certificate = (folder / "server.pem", folder / "server.key")
        """a good one, for localhost and its addresses"""
        certs.make(certs.LOCAL_NAMES, cert=self.certificate[0], key=self.certificate[1], ca=self.ca)
        self._certificate = x509.load_pem_x509_certificate(self.ca.read_bytes())
        key = serialization.load_pem_private_key(self.ca.with_suffix(".key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    def issue(
        self, *, names: tuple[str, ...] = ("localhost",), common_name: str = "nobody",
        days: tuple[float, float] = (-1, 1), self_signed: bool = False, for_servers: bool = True,
    ) -> Certificate:  # fmt: skip
        """A certificate for DNS names and addresses, valid from and until so many days from now, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        today = datetime.datetime.now(datetime.timezone.utc)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if for_servers else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today + datetime.timedelta(days=days[0]))
            .not_valid_after(today + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(n) for n in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        stem = self.folder / os.urandom(8).hex()
        chain, private = stem.with_suffix(".pem"), stem.with_suffix(".key")
        files.write_new(chain, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files.write_new(private, pem, 0o600)
        return chain, private


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name)) if is_ip_address(name) else x509.DNSName(name)
