# SPDX-License-Identifier: MIT
"""A throwaway CA that signs anything: valid certificates, and ones that no client may accept."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nts.system import certs, files

Certificate = tuple[Path, Path]
"""PEM files: the chain and its key"""


class Authority:
    """A new CA in a folder, which is created if it is missing."""

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder, 0o755)
        self.folder, self.ca = folder, folder / "ca.pem"
        """`ca` is the file that a client must trust"""
        self.certificate: Certificate = (folder / "server.pem", folder / "server.key")
        """a valid one, for localhost and its addresses"""
        certs.make(certs.LOCAL_NAMES, cert=self.certificate[0], key=self.certificate[1], ca=self.ca)
        self._certificate, self._key = certs.load_ca(self.ca, self.ca.with_suffix(".key"))

    def issue(
        self, *, names: tuple[str, ...] = ("localhost",), common_name: str = "nobody",
        days: tuple[float, float] = (-1, 1), self_signed: bool = False, for_servers: bool = True,
    ) -> Certificate:  # fmt: skip
        """Issue a certificate for DNS names and addresses. `days` are its first and last day, counted from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        today = certs.now()
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
            builder = builder.add_extension(certs.alternative_names(names), critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        stem = self.folder / os.urandom(8).hex()
        chain, private = stem.with_suffix(".pem"), stem.with_suffix(".key")
        certs.write_pair(chain, certificate, private, key)
        return chain, private
